"""What is cut out of Markdown when something is forgotten: which lines, and how that looks as a diff. Pure.

Everything is found by what it says of itself: the marker of an extract and the stretch it names, the place that a line
of a report cites, the digest of a paragraph. What a person wrote around it is never touched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reverie.context.compaction.extract import HEADINGS, harmless
from reverie.memory.documents import split_lines
from reverie.memory.text import collapse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from reverie.memory.forgetting import Place

DIFF_LINES_MAX = 2_000
"""Lines of one diff; of what is beyond them it says how many there are."""
CONTEXT_LINES = 3
OPENING_WORDS = 8
"""By so many words, or all it has, a passage is recognised where it is quoted."""
OPENING_WORDS_MIN = 3

_EXTRACT = re.compile(r"^<!-- reverie:compaction [0-9a-f]{16} -->\s*$")
_STRETCH = re.compile(r"^## Conversation (?P<key>.+), messages (?P<first>\d+) to (?P<last>\d+)\s*$")
_KINDS = "|".join(map(re.escape, HEADINGS.values()))
_PART = re.compile(rf"^(?:(?:{_KINDS}):\s*$|Identifiers: `|\d+ more lines stand in the transcript)")
_LEARNED = re.compile(r"learned/\w+|skills/[\w.-]+/SKILL\.md")
_ITEM = re.compile(r"^(?P<indent>[ \t]*)[-*+][ \t]")
_DATE = re.compile(r"^\*(?P<month>[A-Z][a-z]+) (?P<day>\d{1,2}), (?P<year>\d{4})(?:, .*)?\*\s*$")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip
_DIARY = ("<!-- openclaw:dreaming:diary:start -->", "<!-- openclaw:dreaming:diary:end -->")


@dataclass(frozen=True, slots=True)
class Stretch:
    """What an extract is of: a conversation, and the numbers of its messages, both ends included."""

    key: str
    first: int
    last: int


class Mentions:
    """Finds where a text cites one of some places or learned things, or begins to quote one of some passages."""

    def __init__(
        self, places: Iterable[Place], passages: Iterable[str] = (), learned: frozenset[str] = frozenset()
    ) -> None:
        self._learned = learned
        self._lines: dict[str, frozenset[int] | None] = {}
        for place in places:
            held = self._lines.get(place.path, frozenset[int]())
            self._lines[place.path] = None if held is None or place.lines is None else held | place.lines
        paths = "|".join(sorted(map(re.escape, self._lines), reverse=True))
        self._cited = re.compile(
            rf"(?<![\w/])(?P<path>{paths})(?![\w/-])(?:[:#]L?(?P<first>\d+)(?:[-:]L?(?P<last>\d+))?)?"
        )
        self._openings: dict[int, set[tuple[str, ...]]] = {}
        for passage in passages:
            words = tuple(passage.split()[:OPENING_WORDS])
            if len(words) >= OPENING_WORDS_MIN:
                self._openings.setdefault(len(words), set()).add(words)

    def within(self, text: str) -> bool:
        """Whether one of them is there."""
        return self.cites(text) or self._quotes(text)

    def cites(self, text: str) -> bool:
        """Whether a place or a learned thing is named. A path without lines names all of it."""
        if self._learned and any(match[0] in self._learned for match in _LEARNED.finditer(text)):
            return True
        return bool(self._lines) and any(self._is_meant(match) for match in self._cited.finditer(text))

    def _is_meant(self, match: re.Match[str]) -> bool:
        lines = self._lines[match["path"]]
        if lines is None or match["first"] is None:
            return True
        first, last = int(match["first"]), int(match["last"] or match["first"])
        return any(first <= line <= last for line in lines)

    def _quotes(self, text: str) -> bool:
        words = text.split() if self._openings else []
        return any(
            tuple(words[start : start + count]) in openings
            for count, openings in self._openings.items()
            for start in range(len(words) - count + 1)
        )


# -- lines to cut ------------------------------------------------------------------------------------------------


def extract_lines(text: str, stretches: Collection[Stretch]) -> set[int]:
    """The lines of the extracts of these stretches in a daily note, with the empty lines in front of them.

    An extract is its marker, its heading, and the paragraphs behind it that have an extract's form.
    """
    lines = split_lines(text)
    found: set[int] = set()
    for number, line in enumerate(lines, 1):
        if _EXTRACT.match(line) and number < len(lines) and _is_of(lines[number], stretches):
            found.update(range(number, _end_of_extract(lines, number) + 1))
    return _with_blanks(lines, found)


def _is_of(heading: str, stretches: Collection[Stretch]) -> bool:
    match = _STRETCH.match(heading)
    if match is None:
        return False
    first, last = int(match["first"]), int(match["last"])
    return any(
        harmless(stretch.key) == match["key"] and stretch.first <= first and last <= stretch.last
        for stretch in stretches
    )


def _end_of_extract(lines: Sequence[str], marker: int) -> int:
    """The last line of an extract whose marker stands on this line; both are counted from 1."""
    end = marker + 1
    at = end
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        if not _PART.match(lines[at]):
            break
        while at < len(lines) and lines[at].strip():
            at += 1
        end = at
    return end


def paragraph_lines(text: str, going: Iterable[tuple[int, int]]) -> set[int]:
    """The lines of some paragraphs, given by their first and last, with the empty lines in front of them."""
    lines = split_lines(text)
    found = {line for first, last in going for line in range(first, last + 1)}
    return _with_blanks(lines, found)


def _with_blanks(lines: Sequence[str], found: set[int]) -> set[int]:
    more: set[int] = set()
    for line in found:
        above = line - 1
        while above >= 1 and above not in found and not lines[above - 1].strip():
            more.add(above)
            above -= 1
    return found | more


def reported_lines(text: str, mentions: Mentions) -> set[int]:
    """The items of a report that cite or quote what is forgotten: each with the lines indented below it."""
    lines = split_lines(text)
    found: set[int] = set()
    for first, last in _items(lines):
        if mentions.within("\n".join(lines[first - 1 : last])):
            found.update(range(first, last + 1))
    return found


def _items(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and last line of every item of a list that is not below another item, and of every other line with text."""
    number = 1
    while number <= len(lines):
        line = lines[number - 1]
        first = number
        number += 1
        if not line.strip():
            continue
        if _ITEM.match(line):
            while number <= len(lines) and lines[number - 1].strip() and lines[number - 1][0] in " \t":
                number += 1
        yield first, number - 1


def diary_lines(text: str, mentions: Mentions, days: frozenset[str]) -> set[int]:
    """The entries of the dream diary that cite or quote what is forgotten, or are of one of these days.

    Of the day: an entry is prose, made of what the night's reports held.
    """
    lines = split_lines(text)
    bounds = [number for number, line in enumerate(lines, 1) if line.strip() in _DIARY]
    if len(bounds) < len(_DIARY):
        return set()
    rules = [n for n in range(bounds[0] + 1, bounds[1]) if lines[n - 1].strip() == "---"]
    found: set[int] = set()
    for first, end in zip(rules, [*rules[1:], bounds[1]], strict=True):
        body = lines[first - 1 : end - 1]
        if mentions.within("\n".join(body)) or not days.isdisjoint(_days(body)):
            found.update(range(first, end))
    return found


def _days(lines: Iterable[str]) -> set[str]:
    """The day that an entry is of, `YYYY-MM-DD`."""
    dates = (match for line in lines if (match := _DATE.match(line)) and match["month"] in _MONTHS)
    return {f"{date['year']}-{_MONTHS.index(date['month']) + 1:02}-{int(date['day']):02}" for date in dates}


def same_words(snippet: str, text: str) -> bool:
    """Whether a passage on one line stands in a text, or the text in it; neither may be empty."""
    one, other = collapse(snippet), collapse(text)
    return bool(one and other) and (one in other or other in one)


# -- cutting -----------------------------------------------------------------------------------------------------


def without_lines(text: str, going: Collection[int]) -> str:
    """The text without some lines, every other byte as it was. Lines end with LF, as everywhere here."""
    lines = text.split("\n")
    ended = [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    return "".join(line for number, line in enumerate(ended, 1) if number not in going)


@dataclass(slots=True)
class _Hunk:
    start: int
    lines: list[str] = field(default_factory=list[str])
    gone: int = 0


def deletion_diff(path: str, text: str, going: Collection[int]) -> str:
    """What cutting some lines does to a file, as a unified diff; empty when nothing is cut.

    At most `DIFF_LINES_MAX` lines of it are shown.
    """
    lines = split_lines(text)
    shown = {near for line in going for near in range(line - CONTEXT_LINES, line + CONTEXT_LINES + 1)}
    hunks: list[_Hunk] = []
    before = 0
    removed_before = 0
    starts: list[int] = []
    for number in sorted(line for line in shown if 1 <= line <= len(lines)):
        if not hunks or number != before + 1:
            hunks.append(_Hunk(number))
            starts.append(removed_before)
        gone = number in going
        hunks[-1].lines.append(f"{'-' if gone else ' '}{lines[number - 1]}")
        hunks[-1].gone += gone
        removed_before += gone
        before = number
    written = [f"--- a/{path}", f"+++ b/{path}"] if hunks else []
    for hunk, earlier in zip(hunks, starts, strict=True):
        kept = len(hunk.lines) - hunk.gone
        new_start = hunk.start - earlier - (0 if kept else 1)
        written.append(f"@@ -{hunk.start},{len(hunk.lines)} +{new_start},{kept} @@")
        written += hunk.lines
    more = len(written) - DIFF_LINES_MAX
    if more > 0:
        written = [*written[:DIFF_LINES_MAX], f"… {more:,} more lines"]
    return "".join(f"{line}\n" for line in written)


def lines_gone(before: str, after: str) -> set[int]:
    """Which lines of a text another one lacks that was made of it by cutting lines out."""
    left = split_lines(after)
    gone: set[int] = set()
    at = 0
    for number, line in enumerate(split_lines(before), 1):
        if at < len(left) and left[at] == line:
            at += 1
        else:
            gone.add(number)
    return gone
