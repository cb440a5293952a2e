"""What of a stretch of conversation must not be lost, picked out by rules, without a model.

It is written into memory before the stretch is summarised, and is the summary when no model can write one. Lines
are taken whole or cut, each with who said it and its number. Tool results are left out: they are not the
conversation's own words, and may hold what a stranger wrote. So is text that only quotes memory.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from reverie.clock import iso_minute
from reverie.context.compaction.identifiers import identifiers, identifiers_in
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reverie.context.compaction.cut import SpanMessage
    from reverie.types import Provenance

EXTRACT_BYTES_MAX = 16 * 1024
LINE_CHARS_MAX = 240
LINES_PER_MESSAGE_MAX = 40
LINES_PER_KIND_MAX = 60
TEXT_CHARS_MAX = 1_000_000
"""Text that is looked at, the newest first. A turn may wait for this: about 0.2 s where it is all used."""

Kind = Literal["decision", "todo", "rule", "ask", "fact", "said"]
KINDS: tuple[Kind, ...] = ("decision", "rule", "todo", "ask", "fact", "said")
"""In the order in which they get room."""

HEADINGS: dict[Kind, str] = {
    "decision": "Decided",
    "rule": "Rules and constraints",
    "todo": "To do",
    "ask": "Asked",
    "fact": "Facts, dates, names of things",
    "said": "Otherwise said",
}

_WORDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "decision",
        re.compile(
            r"\b(?:decided?|decision|agreed?|settled|chose|chosen|(?:we|i)(?:'ll| will| shall)|let's"
            r"|go(?:ing)? with|instead of|final(?:ly|ised|ized)?|approved|confirmed)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "todo",
        re.compile(
            r"\b(?:to-?do|need(?:s)? to|have to|still open|not yet|next step|remind|follow[- ]up|deadline|due"
            r"|remaining|pending)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "rule",
        re.compile(
            r"\b(?:always|never|must(?:n't| not)?|do not|don't|only ever|at most|at least|prefer(?:s|red)?|avoid"
            r"|require[sd]?|no more than|make sure|from now on)\b",
            re.IGNORECASE,
        ),
    ),
)
_FACT = re.compile(
    r"""\b\d{4}-\d{2}-\d{2}\b | \b\d{1,2}[:.]\d{2}\b | \b\d+(?:[.,]\d+)?\s?(?:%|€|\$|£|[a-zA-Z]{1,3}\b)
      | \b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b
      | \b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b
      | \b(?:my|our|his|her|their)\ \w+(?:\ \w+)?\ (?:is|are|was|will\ be)\b | \bI(?:'m|\ am|\ live|\ work|\ have)\b
    """,
    re.VERBOSE,
)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_COMMENT = re.compile(r"<(?=!--)|--(?=>)")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was said: what kind it is, by whom, when, and the number of its message."""

    kind: Kind
    seq: int
    role: str
    text: str
    said_at_ms: int

    def shown(self) -> str:
        """The line as a list item."""
        return f"- {self.role}, {iso_minute(self.said_at_ms)}, #{self.seq}: {self.text}"


@dataclass(frozen=True, slots=True)
class Extract:
    """What was picked out of messages `first_seq` to `last_seq`. `left_out` lines found no room.

    `provenance` is that of the least trusted message that was looked at: a line stands beside others.
    """

    first_seq: int
    last_seq: int
    lines: tuple[Line, ...]
    identifiers: tuple[str, ...]
    left_out: int = 0
    provenance: Provenance = "untrusted"

    def of(self, kind: Kind) -> list[Line]:
        """The lines of a kind, in the order in which they were said."""
        return [line for line in self.lines if line.kind == kind]


@dataclass(slots=True)
class _Room:
    bytes_left: int
    kept: list[Line] = field(default_factory=list[Line])
    left_out: int = 0

    def take(self, lines: list[Line]) -> None:
        """The newest lines that fit."""
        for number, line in enumerate(reversed(lines)):
            size = len(line.shown().encode("utf-8", "replace")) + 1
            if size > self.bytes_left or number >= LINES_PER_KIND_MAX:
                self.left_out += 1
            else:
                self.bytes_left -= size
                self.kept.append(line)


def extract(messages: Sequence[SpanMessage], *, bytes_max: int = EXTRACT_BYTES_MAX) -> Extract:
    """What is worth keeping of a stretch, within `bytes_max`. `messages` are in order and not empty."""
    spoken = _spoken(messages)
    by_kind: dict[Kind, dict[str, Line]] = {kind: {} for kind in KINDS}
    for message in spoken:
        for line in _lines(message):
            by_kind[line.kind].setdefault(line.text, line)
    named = identifiers(message.text for message in spoken)
    room = _Room(bytes_max - sum(len(word.encode()) + 4 for word in named))
    for kind in KINDS:
        room.take(list(by_kind[kind].values()))
    kept = tuple(sorted(room.kept, key=lambda line: line.seq))
    whose = least_trusted((message.provenance for message in spoken), default="agent")
    return Extract(messages[0].seq, messages[-1].seq, kept, named, room.left_out, whose)


def _spoken(messages: Sequence[SpanMessage]) -> list[SpanMessage]:
    """What the person and the model said, without quotes from memory: the newest `TEXT_CHARS_MAX` of it."""
    spoken: list[SpanMessage] = []
    left = TEXT_CHARS_MAX
    for message in reversed(messages):
        if message.role in {"user", "assistant"} and message.remember and message.text.strip():
            left -= len(message.text)
            if left < 0:
                break
            spoken.append(message)
    return spoken[::-1]


def latest_ask(messages: Sequence[SpanMessage]) -> str:
    """The last thing the person said; empty when they said nothing."""
    return next((m.text for m in reversed(messages) if m.role == "user" and m.text.strip()), "")


def memory_note(picked: Extract, *, session_key: str) -> tuple[str, str]:
    """The extract as a note for a daily memory file, and the marker by which the same note is known again.

    The marker is derived from the content: writing the note twice is noticed, whatever happened in between.
    """
    stretch = f"messages {picked.first_seq} to {picked.last_seq}"
    body = [f"## Conversation {harmless(session_key)}, {stretch}"]
    for kind in KINDS:
        if lines := picked.of(kind):
            body += ["", f"{HEADINGS[kind]}:", *(line.shown() for line in lines)]
    if picked.identifiers:
        body += ["", "Identifiers: " + ", ".join(f"`{harmless(word)}`" for word in picked.identifiers)]
    if picked.left_out:
        body += ["", f"{picked.left_out} more lines stand in the transcript only."]
    text = "\n".join(body)
    digest = hashlib.sha256(f"{session_key}\0{text}".encode("utf-8", "replace")).hexdigest()[:16]
    marker = f"<!-- reverie:compaction {digest} -->"
    return f"{marker}\n{text}", marker


def harmless(text: str) -> str:
    """One line of text that cannot open or close an HTML comment."""
    return _COMMENT.sub(lambda match: f"{match[0]} ", " ".join(text.split()))


def _lines(message: SpanMessage) -> Iterator[Line]:
    """The sentences of a message that say something, and the beginning of one of which none does."""
    found = False
    for sentence in _SENTENCE.split(message.text)[:LINES_PER_MESSAGE_MAX]:
        kind = _kind(sentence, message.role)
        if kind is not None:
            found = True
            yield _line(kind, sentence, message)
    if not found and message.role == "user":
        yield _line("said", message.text, message)


def _kind(sentence: str, role: str) -> Kind | None:
    if role == "user" and sentence.rstrip().endswith(("?", "？")):
        return "ask"
    for kind, words in _WORDS:
        if words.search(sentence):
            return kind
    return "fact" if _FACT.search(sentence) or identifiers_in(sentence) else None


def _line(kind: Kind, text: str, message: SpanMessage) -> Line:
    shown = harmless(text[: LINE_CHARS_MAX * 4])
    if len(shown) > LINE_CHARS_MAX:
        shown = f"{shown[: LINE_CHARS_MAX - 1]}…"
    return Line(kind, message.seq, message.role, shown, message.said_at_ms)
