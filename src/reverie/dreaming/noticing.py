"""What a pass makes of a note or a message: which passages it notices, and what that changes in what is known.

Pure. A pass is no recall: what it notices is staged, shown and reinforced, and is never promoted by that alone. It
notices only what its owner or the agent wrote, and nothing that is never a memory (`contamination`).

A passage is known again by what it says, wherever its lines went since. So an edit above it moves it and counts
nothing; a passage that was counted for its day is not counted again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from reverie.dreaming.candidates import TRUSTED
from reverie.dreaming.contamination import unfit
from reverie.dreaming.entry import SNIPPET_CHARACTERS_MAX, RecallEntry, entry_key
from reverie.dreaming.note_chunks import note_chunks, without_secrets
from reverie.dreaming.recording import claim_hash, with_signal
from reverie.memory.text import clean, collapse
from reverie.types import SearchHit, least_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.dreaming.recording import Signal
    from reverie.types import Provenance, Role

NOTES_QUERY: Final = "__dreaming_daily__:{}"
MESSAGES_QUERY: Final = "__dreaming_sessions__:{}"
"""The queries of the passes, for a day."""
NOTE_SCORE: Final = 0.62
MESSAGE_SCORE: Final = 0.58
MESSAGE_CHARACTERS_MIN = 12
NOTE_PASSAGES_MAX = 1_000
"""Passages of one file that one pass looks at, however few of them are new."""

Tags = Callable[[str, str], tuple[str, ...]]
"""The concepts of a passage, given its path and what it says. Pure."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """A passage that a pass noticed, its concepts, and how it reads with its heading."""

    hit: SearchHit
    tags: tuple[str, ...]
    shown: str = ""

    @property
    def text(self) -> str:
        """What it says, as entries keep it."""
        return clean(collapse(self.hit.text))[:SNIPPET_CHARACTERS_MAX].rstrip()


@dataclass(frozen=True, slots=True)
class NoteLook:
    """The passages of a note that are looked at; the rest begins on `rest_line`, 0 if there is none."""

    noticed: tuple[Noticed, ...]
    rest_line: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody said, as a pass reads it. `source` is whom its turn came from."""

    position: int
    session_id: str
    seq: int
    role: Role
    text: str
    created_at_ms: int
    provenance: Provenance
    key: str
    source: str


@dataclass(frozen=True, slots=True)
class NoteChange:
    """What a pass over a note changes: entries to put in their keys' places, keys that are no more.

    `counted` passages got a signal. `next_line` is where the first one stands that the share did not reach; 0: none.
    """

    put: tuple[RecallEntry, ...]
    gone: tuple[str, ...]
    counted: int
    next_line: int = 0


@dataclass(frozen=True, slots=True)
class Shares:
    """How many passages one pass counts, in all and of one file."""

    total: int
    per_file: int


def shares(files: int, limit: int) -> Shares:
    """The shares of a pass over so many files, for a phase that stages so many passages."""
    total = max(20, 4 * limit)
    return Shares(total, max(6, -(-total // max(1, files))))


def look_at_note(path: str, text: str, origins: Sequence[Provenance], *, tags: Tags, from_line: int = 1) -> NoteLook:
    """The passages of a note from a line on. `origins` are whose words each of its lines is."""
    found: list[Noticed] = []
    for chunk in note_chunks(text, from_line):
        if len(found) == NOTE_PASSAGES_MAX:
            return NoteLook(tuple(found), chunk.start_line)
        whose = least_trusted(origins[chunk.start_line - 1 : chunk.end_line])
        if whose in TRUSTED and unfit(chunk.text) is None:
            hit = SearchHit("memory", path, chunk.start_line, chunk.end_line, chunk.text, NOTE_SCORE, provenance=whose)
            found.append(Noticed(hit, tags(path, chunk.shown), chunk.shown))
    return NoteLook(tuple(found))


def look_at_message(message: Message, *, tags: Tags) -> Noticed | None:
    """A message as a passage; None if it is too short, not to be trusted, or can never be a memory."""
    said = collapse(message.text)
    text = without_secrets(said)
    if len(text) < MESSAGE_CHARACTERS_MIN or message.provenance not in TRUSTED or unfit(said) is not None:
        return None
    path = f"sessions/{message.session_id}"
    hit = SearchHit(
        "sessions", path, message.seq, message.seq, text, MESSAGE_SCORE, provenance=message.provenance,
        session_id=message.session_id,
    )  # fmt: skip
    return Noticed(hit, tags(path, text))


def noticed_message(known: RecallEntry | None, noticed: Noticed, signal: Signal) -> RecallEntry | None:
    """What is known of a message after a pass; None if nothing changes. What a recall quoted of it stays."""
    hit = noticed.hit if known is None or not known.snippet else replace(noticed.hit, text=known.snippet)
    return with_signal(known, hit, signal, lambda _path, _text: noticed.tags, once_a_day=True)


def noticed_note(known: Sequence[RecallEntry], noticed: Sequence[Noticed], signal: Signal, share: int) -> NoteChange:
    """What a pass over a note changes in what is known of that note; `share` passages get a signal at most."""
    pairs = _pairs(known, noticed)
    moving = {entry.key for each, entry in pairs if entry is not None and _is_renamed(entry, each)}
    named = {entry.key: entry for entry in known if entry.key not in moving}
    put: list[RecallEntry] = []
    counted = next_line = 0
    for each, entry in pairs:
        placed = _placed(entry, each, named) if entry is None or entry.key in moving else _on_its_lines(entry, each)
        named[placed.key] = placed
        changed = _counted(entry, placed, each, signal)
        if changed is not None and counted >= share:
            next_line = next_line or each.hit.start_line
        elif changed is not None:
            counted += 1
            put.append(changed)
            continue
        if entry is not None and placed != entry:
            put.append(placed)
    gone = moving - {entry.key for entry in put}
    return NoteChange(tuple(put), tuple(sorted(gone)), counted, next_line)


def _pairs(known: Iterable[RecallEntry], noticed: Iterable[Noticed]) -> list[tuple[Noticed, RecallEntry | None]]:
    """Each passage with the entry that says the same, the nearest one if there are several; each entry once."""
    by_text: dict[str, list[RecallEntry]] = {}
    for entry in known:
        by_text.setdefault(entry.snippet, []).append(entry)
    pairs: list[tuple[Noticed, RecallEntry | None]] = []
    for each in noticed:
        same = by_text.get(each.text) or by_text.get(each.shown) or []
        nearest = min(same, key=lambda entry, line=each.hit.start_line: abs(entry.start_line - line), default=None)
        if nearest is not None:
            same.remove(nearest)
        pairs.append((each, nearest))
    return pairs


def _counted(entry: RecallEntry | None, placed: RecallEntry, each: Noticed, signal: Signal) -> RecallEntry | None:
    """The entry with a signal for this passage; None if it has one for the day."""
    known = None if entry is None else placed
    changed = with_signal(known, each.hit, signal, lambda _path, _text: each.tags, once_a_day=True)
    return None if changed is None else replace(changed, key=placed.key, claim_hash=placed.claim_hash)


def _is_renamed(entry: RecallEntry, each: Noticed) -> bool:
    """Whether an entry is named by lines on which its passage stands no more. What was promoted keeps its name."""
    lines = (entry.start_line, entry.end_line)
    is_named_by_lines = entry.key == entry_key(entry.path, *lines)
    return is_named_by_lines and lines != (each.hit.start_line, each.hit.end_line) and entry.promoted_at_ms is None


def _on_its_lines(entry: RecallEntry, each: Noticed) -> RecallEntry:
    if entry.promoted_at_ms is not None:
        return entry
    return replace(entry, start_line=each.hit.start_line, end_line=each.hit.end_line)


def _placed(entry: RecallEntry | None, each: Noticed, named: dict[str, RecallEntry]) -> RecallEntry:
    """An entry named by where its passage stands, or by what it says as well if that name is taken.

    A name is free again when its entry was only ever noticed: other words stand there now.
    """
    place = (each.hit.path, each.hit.start_line, each.hit.end_line)
    bearer, claim = named.get(entry_key(*place)), ""
    if bearer is not None and (bearer.recall_count or bearer.grounded_count or bearer.promoted_at_ms is not None):
        claim = claim_hash(each.text)
    key = entry_key(*place, claim)
    if entry is None:
        return RecallEntry(key, *place, "", claim_hash=claim)
    return replace(entry, key=key, start_line=place[1], end_line=place[2], claim_hash=claim)
