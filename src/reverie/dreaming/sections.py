"""The sections of MEMORY.md that dreaming writes: read, added to, and taken out again; all else is its owner's.

    ## Promoted From Short-Term Memory (2026-04-03)

    <!-- openclaw-memory-promotion:memory:memory/2026-04-01.md:3:3 -->
    - The roaster is serviced in March. [score=0.812 recalls=4 avg=0.870 source=memory/2026-04-01.md:3-3]

Pure functions over the whole text of the file, whose line ends and damaged bytes they keep (decode it with
`surrogateescape`). An *entry* is one or more markers and the line of a list below them. A section is *whole* while it
holds nothing but entries; as soon as a person wrote into it, it is theirs too and never gives way. What looks like a
section within a block of code or a comment is text.

Invariant: no function changes, moves or drops a line that is not an entry or the heading of a whole section, or a
blank line that stood before one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Literal

from reverie.context.fence import quoted
from reverie.memory.documents import without_comments
from reverie.memory.scripts import RUN, fold
from reverie.memory.text import clean, collapse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

SectionKind = Literal["promoted", "consolidated"]

HEADER = "# Long-Term Memory"
TITLES: dict[SectionKind, str] = {
    "promoted": "Promoted From Short-Term Memory",
    "consolidated": "Consolidated Memory",
}
_KINDS: dict[str, SectionKind] = {title: kind for kind, title in TITLES.items()}
BUDGET_MARGIN = 21
"""Characters of the budget that stay free, as in OpenClaw."""

SENTENCE_SHARE = 0.55
WORD_SHARE = 0.65
"""How much of a passage must be left where it is cut at a sentence's or a word's end."""

CLAIM_WORDS_MIN = 2
_ROUNDING = 1e-9
_CUT = "..."

_HEADING = re.compile(rf"## (?P<title>{'|'.join(TITLES.values())}) \((?P<day>\d{{4}}-\d{{2}}-\d{{2}})\)\s*")
_ANY_HEADING = re.compile(r"#{1,6}(?:\s|$)")
_MARKER = re.compile(r"<!--\s*openclaw-memory-promotion:(?P<key>[^\n]+?)\s*-->", re.IGNORECASE)
_LINEAGE = re.compile(r"<!--\s*openclaw-memory-lineage:(?P<key>[^\n]+?)\s*-->\s*", re.IGNORECASE)
_ENTRY = re.compile(
    r"- (?P<text>.*) \[score=[\d.]+(?: \w+=[^\s\]]+)* source=(?P<path>[^\n]+?):(?P<start>\d+)-(?P<end>\d+)\]"
    r"(?P<rest>(?:\s*<!--[^\n]*?-->)*)\s*"
)
_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})")

_UNSAFE = r"[>\x00-\x1f\x7f-\x9f\u2028\u2029]|^ | $"
_ESCAPES = re.compile(_UNSAFE)
_ESCAPED = re.compile(f"%|{_UNSAFE}")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_COMMENT = re.compile(r"<(?=!--)|--(?=!?>)")
_ANNOTATION = re.compile(r"\[(?=\s*score\s*=)", re.IGNORECASE)
_FURNITURE = re.compile(r"(?:[-*+•]\s+|#{1,6}(?:\s+|$)|>\s*|(?:-{3,}|\*{3,}|_{3,})(?:\s+|$))+")
_CODE = re.compile(r"`{3,}|~{3,}")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s)|[。！？]")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class GeneratedEntry:
    """An entry that stands in MEMORY.md.

    `text` is what it says, without its annotation. `source_path`, `start_line` and `end_line` are where that was
    taken from. `section_day` (`YYYY-MM-DD`) is empty outside a section. `first_line` to `last_line`, 1-based, are its
    lines in MEMORY.md, markers included. `also` are further keys it stands for, `lineage` what it is a version of.
    """

    key: str
    text: str
    source_path: str
    start_line: int
    end_line: int
    section_day: str
    first_line: int
    last_line: int
    also: tuple[str, ...] = ()
    lineage: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys it stands for."""
        return (self.key, *self.also)


@dataclass(frozen=True, slots=True)
class GeneratedSection:
    """A section: its lines, 1-based, from the heading to its last entry.

    `whole`: nobody else wrote into it. `apart`: at most behind it, after a blank line.
    """

    kind: SectionKind
    day: str
    first_line: int
    last_line: int
    entries: tuple[GeneratedEntry, ...]
    whole: bool
    apart: bool


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to be written. `average` is the mean score of the searches that surfaced it."""

    key: str
    text: str
    score: float
    recalls: int
    average: float
    source_path: str
    start_line: int
    end_line: int
    also: tuple[str, ...] = ()
    lineage: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of MEMORY.md: its new text, and which entries it holds then.

    `waiting` had no room, for the reason `why`. `gave_way` are the entries that were taken out to make room, and
    `compacted` the sections that went with all of theirs. Nothing changes while `added` is empty.
    """

    text: str
    added: tuple[NewEntry, ...] = ()
    waiting: tuple[NewEntry, ...] = ()
    gave_way: tuple[GeneratedEntry, ...] = ()
    compacted: tuple[GeneratedSection, ...] = ()
    why: str = ""


# -- reading ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A section that is being read."""

    kind: SectionKind
    day: str
    first_line: int
    last_line: int
    entries: list[GeneratedEntry] = field(default_factory=list[GeneratedEntry])
    whole: bool = True
    apart: bool = True


def generated_sections(text: str) -> tuple[GeneratedSection, ...]:
    """The sections that dreaming wrote, in the order of the file."""
    return _read(text)[0]


def generated_entries(text: str) -> tuple[GeneratedEntry, ...]:
    """All entries that dreaming wrote, in the order of the file, also those beside which somebody else has written."""
    return _read(text)[1]


def markers(text: str) -> frozenset[str]:
    """The keys of all promotions that the file names, wherever it does."""
    return frozenset(match["key"] for match in _MARKER.finditer(text))


def marker_key(key: str) -> str:
    """A key as its marker spells it: what would end the comment or the line is escaped."""
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", key) if _ESCAPES.search(key) else key


def marker(key: str) -> str:
    """The comment by which a promotion is known again."""
    return f"<!-- openclaw-memory-promotion:{marker_key(key)} -->"


def _read(text: str) -> tuple[tuple[GeneratedSection, ...], tuple[GeneratedEntry, ...]]:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    is_text = _in_code_or_comment(lines)
    sections: list[_Open] = []
    entries: list[GeneratedEntry] = []
    current: _Open | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not is_text[number - 1] and _ANY_HEADING.match(line):
            current = _opened(line, number)
            if current is not None:
                sections.append(current)
        elif not is_text[number - 1] and (entry := _entry_at(lines, is_text, number - 1, current)) is not None:
            entries.append(entry)
            number = entry.last_line
            if current is not None:
                current.apart = current.apart and current.whole
                current.entries.append(entry)
                current.last_line = entry.last_line
        elif current is not None and line.strip():
            current.whole = False
            current.apart = current.apart and bool(current.entries) and number > current.last_line + 1
    return tuple(map(_closed, sections)), tuple(entries)


def _closed(section: _Open) -> GeneratedSection:
    some = bool(section.entries)
    return GeneratedSection(
        section.kind, section.day, section.first_line, section.last_line, tuple(section.entries),
        section.whole and some, section.apart and some,
    )  # fmt: skip


def _opened(line: str, number: int) -> _Open | None:
    """The section that a heading opens; None if it is somebody's own."""
    match = _HEADING.fullmatch(line)
    if match is None or not _is_day(match["day"]):
        return None
    return _Open(_KINDS[match["title"]], match["day"], number, number)


def _is_day(day: str) -> bool:
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return True


def _entry_at(
    lines: Sequence[str], is_text: Sequence[bool], start: int, section: _Open | None
) -> GeneratedEntry | None:
    """The entry whose first marker is on this line (0-based); None if there is none, or it lacks its parts."""
    keys: list[str] = []
    at = start
    while at < len(lines) and (match := _MARKER.fullmatch(lines[at].rstrip())) is not None:
        keys.append(match["key"])
        at += 1
    lineage = _LINEAGE.fullmatch(lines[at]) if keys and at < len(lines) else None
    at += lineage is not None
    if not keys or at >= len(lines) or is_text[at] or (match := _ENTRY.fullmatch(lines[at])) is None:
        return None
    return GeneratedEntry(
        keys[0], match["text"], match["path"], int(match["start"]), int(match["end"]),
        section.day if section is not None else "", start + 1, at + 1,
        tuple(keys[1:]), lineage["key"] if lineage is not None else "",
    )  # fmt: skip


def _in_code_or_comment(lines: Sequence[str]) -> list[bool]:
    """For every line whether it stands in a block of code, or in a comment that another line began.

    What is never closed is text: a person's slip must not hide what stands below it.
    """
    found = [False] * len(lines)
    closed_by = _closing_fences(lines)
    number = 0
    while number < len(lines):
        end = closed_by.get(number) or _comment_end(lines, number)
        if end is not None:
            first = number if number in closed_by else number + 1
            found[first : end + 1] = [True] * (end + 1 - first)
        number = number + 1 if end is None else end + 1
    return found


def _closing_fences(lines: Sequence[str]) -> dict[int, int]:
    """The line that closes a block of code, for each line that may open one; found from the end, in one pass."""
    closing: dict[int, int] = {}
    below: dict[str, list[tuple[int, int]]] = {"`": [], "~": []}
    for number in range(len(lines) - 1, -1, -1):
        match = _FENCE.match(lines[number])
        if match is None:
            continue
        mark, length = match["fence"][0], len(match["fence"])
        later = below[mark]
        nearest = next((line for long, line in reversed(later) if long >= length), None)
        if nearest is not None:
            closing[number] = nearest
        if not lines[number].strip().strip(mark):
            while later and later[-1][0] <= length:
                later.pop()
            later.append((length, number))
    return closing


def _comment_end(lines: Sequence[str], number: int) -> int | None:
    """The line that closes the comment which this line leaves open; None if it leaves none, or another begins first."""
    line = lines[number]
    if "-->" in line[line.rfind("<!--") :] or "<!--" not in line:
        return None
    for later in range(number + 1, len(lines)):
        close = lines[later].find("-->")
        if close >= 0 or "<!--" in lines[later]:
            return later if close >= 0 and "<!--" not in lines[later][:close] else None
    return None


# -- taking out ------------------------------------------------------------------------------------------------------


def without_entries(text: str, keys: Collection[str]) -> str:
    """The text without the entries that stand for one of these keys, and without sections that held nothing else."""
    wanted = frozenset(map(marker_key, keys)) | frozenset(keys)
    sections, entries = _read(text)
    going = [entry for entry in entries if wanted.intersection(entry.keys)]
    return _without(text, sections, going) if going else text


def _without(text: str, sections: Iterable[GeneratedSection], going: Iterable[GeneratedEntry]) -> str:
    lines = text.split("\n")
    for start, end in reversed(_ranges(lines, sections, going)):
        del lines[start:end]
    return "\n".join(lines)


def _ranges(
    lines: Sequence[str], sections: Iterable[GeneratedSection], going: Iterable[GeneratedEntry]
) -> list[tuple[int, int]]:
    """The lines that go with these entries, 0-based and without their ends, in order: also those of whole sections."""
    left = {entry.first_line: entry.last_line for entry in going}
    ranges: list[tuple[int, int]] = []
    for section in sections:
        if section.apart and all(entry.first_line in left for entry in section.entries):
            start = section.first_line - 1
            ranges.append((start - (start > 0 and not lines[start - 1].strip()), section.last_line))
            for entry in section.entries:
                del left[entry.first_line]
    return sorted([*ranges, *((first - 1, last) for first, last in left.items())])


# -- adding ----------------------------------------------------------------------------------------------------------


def with_entries(text: str, day: str, entries: Sequence[NewEntry], kind: SectionKind = "promoted") -> str:
    """The text with these entries in a section of the day, at its end.

    They join the last section if that is of this day and kind, whole, and nothing stands behind it.
    """
    if not entries:
        return text
    written = [line for entry in entries for line in entry_lines(entry)]
    sections = generated_sections(text)
    last = sections[-1] if sections else None
    if last is not None and last.whole and (last.kind, last.day) == (kind, day):
        offset = _offset(text, last.last_line)
        if not text[offset:].strip():
            return _inserted(text, offset, written)
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    held = text.removeprefix(mark)
    head = [HEADER, ""] if not held.strip() else []
    begun = _inserted(held, 0, head)
    return mark + _inserted(begun, len(begun), ["", f"## {TITLES[kind]} ({day})", "", *written])


def with_restored(text: str, day: str, kind: SectionKind, lines: Sequence[str]) -> str:
    """The text with the lines of entries that were taken out of a section of that day, again in such a section.

    Where there is none any more it stands before the first younger one, else at the end.
    """
    sections = [section for section in generated_sections(text) if section.apart]
    same = next((section for section in sections if (section.kind, section.day) == (kind, day)), None)
    if same is not None:
        return _inserted(text, _offset(text, same.last_line), lines)
    section = ["", f"## {TITLES[kind]} ({day})", "", *lines]
    younger = next((section for section in sections if section.day > day), None)
    if younger is None:
        return _inserted(text, len(text), section)
    above = younger.first_line - 1
    if above and not text.split("\n")[above - 1].strip():
        return _inserted(text, _offset(text, above - 1), section)
    return _inserted(text, _offset(text, above), [*section, ""])


def _inserted(text: str, offset: int, lines: Sequence[str]) -> str:
    """The text with further lines from a line's beginning on, with the line ends that it has."""
    end = "\r\n" if _has_crlf(text) else "\n"
    head = text[:offset]
    if head and not head.endswith("\n"):
        head += end
    return head + "".join(line + end for line in lines) + text[offset:]


def _offset(text: str, lines: int) -> int:
    """Where in the text so many of its lines end."""
    offset = 0
    for _ in range(lines):
        offset = text.find("\n", offset) + 1 or len(text)
    return offset


def entry_lines(entry: NewEntry) -> tuple[str, ...]:
    """An entry as its lines: markers, lineage, and what it says with its annotation."""
    lineage = (f"<!-- openclaw-memory-lineage:{marker_key(entry.lineage)} -->",) if entry.lineage else ()
    source = f"{_on_one_line(entry.source_path)}:{entry.start_line}-{entry.end_line}"
    annotation = f"[score={_fixed(entry.score)} recalls={entry.recalls} avg={_fixed(entry.average)} source={source}]"
    return (*map(marker, (entry.key, *entry.also)), *lineage, f"- {entry.text} {annotation}")


def harmless(text: str, chars_max: int) -> str:
    """A passage as it may stand in an entry: on one line, within its bounds, and unable to be anything but text.

    It opens no comment, no fence, no block of code and no heading, and is no annotation.
    """
    text = _COMMENT.sub(lambda match: f"{match[0]} ", _CONTROL.sub("", _on_one_line(text)))
    text = _ANNOTATION.sub("[ ", quoted(text))
    text = _FURNITURE.sub("", text, count=1) if _FURNITURE.match(text) else text
    text = _CODE.sub("`", text, count=1) if _CODE.match(text) else text
    return shortened(text, chars_max)


def shortened(text: str, chars_max: int) -> str:
    """A text within its bounds: cut at the end of a sentence, else of a word, if enough of it is left."""
    if len(text) <= chars_max:
        return text
    room = max(1, chars_max - len(_CUT))
    head = text[:room]
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, room + 1) if match.end() <= room]
    if ends and ends[-1] >= SENTENCE_SHARE * chars_max:
        return head[: ends[-1]].rstrip() + _CUT
    space = head.rfind(" ")
    return (head[:space] if space >= WORD_SHARE * chars_max else head).rstrip() + _CUT


def _on_one_line(text: str) -> str:
    return clean(collapse(text.encode("utf-8", "replace").decode("utf-8")))


def _fixed(value: float) -> str:
    """Three decimals as JavaScript rounds them: of two that are equally near, the larger."""
    return str(Decimal(value).quantize(Decimal("0.001"), ROUND_HALF_UP))


def _has_crlf(text: str) -> bool:
    """Whether the lines of a text end as on Windows: those of most."""
    crlf = text.count("\r\n")
    return crlf > 0 and 2 * crlf >= text.count("\n")


# -- within a budget -------------------------------------------------------------------------------------------------


def plan(
    text: str,
    day: str,
    entries: Sequence[NewEntry],
    *,
    chars_max: int,
    loss_fraction_max: float,
    edited: Collection[str] = (),
    kind: SectionKind = "promoted",
) -> Plan:
    """Add entries, best first, as many as fit into `chars_max` characters (0: any number).

    To make room, the oldest sections give way, and of one that may not go as a whole its last entries; together at
    most `loss_fraction_max` of all entries. Sections of `day` stay, and those with an entry of `edited`, which
    somebody has changed.
    """
    if not entries:
        return Plan(text)
    whole = with_entries(text, day, entries, kind)
    room = chars_max - BUDGET_MARGIN
    if not chars_max or len(whole) <= room:
        return Plan(whole, tuple(entries))
    sections, held = _read(text)
    allowed = int(loss_fraction_max * len(held) + _ROUNDING)
    steps = list(_giving_way(_old(sections, day, edited), allowed))
    lines = text.split("\n")
    freed = [0]
    for step in steps:
        gone = sum(len(line) + 1 for start, end in _ranges(lines, sections, step) for line in lines[start:end])
        freed.append(freed[-1] + gone)

    def fitting(count: int) -> Plan | None:
        """The plan with the first `count` entries, with as little giving way as will do; None if they do not fit."""
        needed = len(with_entries(text, day, entries[:count], kind)) - room
        for taken in range(bisect_left(freed, needed), len(freed)):
            going = [entry for step in steps[:taken] for entry in step]
            after = with_entries(_without(text, sections, going), day, entries[:count], kind)
            if len(after) <= room:
                lost = {entry.first_line for entry in going}
                gone = (
                    each for each in sections if all(entry.first_line in lost for entry in each.entries) and each.whole
                )
                return Plan(after, tuple(entries[:count]), tuple(entries[count:]), tuple(going), tuple(gone))
        return None

    best: Plan | None = None
    low, high = 0, len(entries)
    while low < high:
        middle = (low + high + 1) // 2
        found = fitting(middle)
        best, low, high = (found, middle, high) if found is not None else (best, low, middle - 1)
    why = _why_it_waits(len(text), room, len(held), allowed)
    return (
        Plan(text, waiting=tuple(entries), why=why) if best is None else replace(best, why=why if best.waiting else "")
    )


def _old(sections: Iterable[GeneratedSection], day: str, edited: Collection[str]) -> Iterator[GeneratedSection]:
    """The sections that may give way, oldest first."""
    for section in sorted(sections, key=lambda each: each.day):
        changed = any(not set(entry.keys).isdisjoint(edited) for entry in section.entries)
        if section.whole and section.day < day and not changed:
            yield section


def _giving_way(sections: Iterable[GeneratedSection], allowed: int) -> Iterator[tuple[GeneratedEntry, ...]]:
    """What gives way, step by step: sections as long as they may go as a whole, then the last entries of the next."""
    left = allowed
    for section in sections:
        if len(section.entries) > left:
            yield from ((entry,) for entry in reversed(section.entries[len(section.entries) - left :]))
            return
        yield section.entries
        left -= len(section.entries)


def _why_it_waits(chars: int, room: int, held: int, allowed: int) -> str:
    taken = f"MEMORY.md has {chars:,} characters of {room + BUDGET_MARGIN:,} (dreaming.memory_chars_max)"
    if not held:
        return f"{taken}, all of them yours: shorten it, or raise the bound"
    most = f"at most {allowed} of its {held} promoted entries may give way at once (dreaming.loss_fraction_max)"
    return f"{taken}, and {most}: shorten it, or raise the bound"


# -- comparing -------------------------------------------------------------------------------------------------------


def claim(text: str) -> str:
    """What a text says, for comparing: its words in order, without case, accents, signs and annotations."""
    found: list[str] = []
    folded, _ = fold(clean(text.encode("utf-8", "replace").decode("utf-8")))
    for word in _WORD.findall(folded.casefold()):
        found.extend(RUN.sub(lambda run: f" {' '.join(run[0])} ", word).split())
    return " ".join(found)


def claims(text: str) -> str:
    """What MEMORY.md says, for `says`: its own text and that of its entries."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    for entry in generated_entries(text):
        lines[entry.last_line - 1] = entry.text
    said = without_comments("\n".join(lines))
    return f" {claim(said)} "


def says(known: str, text: str) -> bool:
    """Whether these `claims` hold a text already, word for word."""
    wanted = claim(text)
    return wanted.count(" ") + 1 >= CLAIM_WORDS_MIN and f" {wanted} " in known
