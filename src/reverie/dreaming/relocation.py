"""Where a passage stands now: found again by its words in the file or the message it was recalled from.

Between a recall and a promotion its owner may have moved, edited or deleted it. What is promoted is what stands there
now; a passage that is gone, or changed beyond half, is not promoted. Pure: the lines are given.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from reverie.dreaming.contamination import unfit
from reverie.memory.documents import without_comments
from reverie.memory.text import collapse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LINES_MAX = 100_000
"""Lines of a file that are searched; those beyond are not."""

WINDOW_LINES_MIN = 8
WINDOW_LINES_MORE = 3
"""A window has up to so many lines, or so many more than the passage had."""

OCCURRENCES_MAX = 200
PART_MIN = 0.5
"""How much of a passage must still stand there if not all of it does."""

CUT_CHARACTERS_MIN = 240
"""A passage of fewer characters was not cut by whoever recorded it."""

OPENING_WORDS = 6
"""By so many of its words the beginning of a passage is found in what is shown."""

SENTENCE_BACK_MAX = 200
_EQUAL, _WITHIN, _PART = 3, 2, 1

_FENCE = re.compile(r"<!--\s*(?:openclaw|reverie):dreaming:[\w-]+:(?P<edge>start|end)\s*-->", re.IGNORECASE)
_HEADING = re.compile(r" {0,3}(?P<marks>#{1,6})(?:\s+(?P<title>.*?))?(?:\s#+)?\s*")
_BULLET = re.compile(r"\s*[-*+•]\s+")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_ENDED = re.compile(r"[.!?:;,。！？：；，…]$")
_SENTENCE_START = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_DAY_NAMES = "mon|tues|wednes|thurs|fri|satur|sun"
_GENERIC_HEADING = re.compile(
    rf"(?:(?:{_DAY_NAMES})day|(?:early\s|late\s)?(?:morning|noon|afternoon|evening|night)|today|daily|notes?|log|journal"
    r"|entry|entries|memory|misc|miscellaneous|\d{4}-\d{2}-\d{2}|\d{1,2}[:.]\d{2}(?:\s?[ap]m)?|[\s,:;.()/|–—-])+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a passage stands now: lines, 1-based and inclusive, what they say on one line, and how that was known.

    `at` is where in `text` the passage's own words begin. `exact`: it says what the passage said, no more and no less.
    """

    start_line: int
    end_line: int
    text: str
    at: int = 0
    exact: bool = True


def relocate(lines: Sequence[str], snippet: str, start_line: int, end_line: int) -> Place | None:
    """Find a passage in the lines of its file, near where it stood; None if it is not there any more.

    White space and comments do not count. Of several places the best match wins: equal, then one that holds the
    passage, then one that is part of it; of equal ones the nearest, then the one of the same size.
    """
    shown = without_comments("\n".join(lines[:LINES_MAX])).split("\n")
    texts = [collapse(line) for line in shown]
    wanted = collapse(without_comments(snippet))
    start, end = start_line - 1, max(start_line, end_line)
    recorded = " ".join(filter(None, texts[start:end])) if start >= 0 else ""
    if recorded and recorded == wanted:
        return _place(shown, texts, start, min(end, len(texts)) - 1, wanted)
    if not wanted:
        return _place(shown, texts, start, min(end, len(texts)) - 1, wanted) if recorded else None
    span = max(1, end - start)
    found = _best(texts, wanted, start, span)
    made = None if found.quality > _PART else _best_joined(shown, wanted, start, span)
    if made is None:
        return _place(shown, texts, found.first, found.last, wanted) if found.quality else None
    first, last, title = made
    said = shown_text(shown[first : last + 1])
    return Place(first + 1, last + 1, f"{title}: {said}" if title else said, exact=False)


def relocate_message(text: str, snippet: str, number: int) -> Place | None:
    """Find a passage in the message it came from; None if the message does not hold it."""
    said, wanted = collapse(text), collapse(snippet)
    at = said.find(wanted)
    if at < 0 or not said:
        return None
    return Place(number, number, said, at, exact=said == wanted)


def excerpt(place: Place, chars_max: int) -> str:
    """What to show of a place in so many characters: all of it, else what follows the sentence's start in it."""
    if len(place.text) <= chars_max or not place.at:
        return place.text
    begins = max(0, place.at - SENTENCE_BACK_MAX)
    starts = [match.end() for match in _SENTENCE_START.finditer(place.text, begins, place.at + 1)]
    return place.text[starts[-1] if starts else place.at :].lstrip()


def is_fenced(lines: Sequence[str], start_line: int, end_line: int) -> bool:
    """Whether any of these lines belongs to a block that a phase of dreaming wrote into a note, its edges included."""
    inside = False
    for number, line in enumerate(lines, 1):
        edge = _FENCE.search(line)
        if number > end_line:
            return False
        if number >= start_line and (inside or edge is not None):
            return True
        if edge is not None:
            inside = edge["edge"].lower() == "start"
    return False


def shown_text(lines: Iterable[str]) -> str:
    """Lines of Markdown as one line to read: a heading leads what follows it, items of a list are told apart.

    Headings that say only when or what kind of note it is (`2026-04-01`, `Morning`, `Notes`) are left out.
    """
    said = title = ""
    after_item = False
    for line in lines:
        heading = _HEADING.fullmatch(line)
        text = collapse((heading["title"] or "") if heading is not None else _BULLET.sub("", line, count=1))
        if not text or (heading is not None and _GENERIC_HEADING.fullmatch(text)):
            continue
        text = f"{title}{' ' if _ENDED.search(title) else ': '}{text}" if title else text
        if heading is not None:
            title = text
            continue
        is_item = _ITEM.match(line) is not None
        joint = "; " if is_item and after_item and not _ENDED.search(said) else " "
        said, title, after_item = f"{said}{joint}{text}" if said else text, "", after_item or is_item
    return f"{said} {title}".strip()


# -- searching -------------------------------------------------------------------------------------------------------


def _place(shown: Sequence[str], texts: Sequence[str], first: int, last: int, wanted: str) -> Place | None:
    """The place from line `first` to `last`, 0-based, without blank lines at its ends."""
    while first < last and not texts[first]:
        first += 1
    while last > first and not texts[last]:
        last -= 1
    plain = " ".join(filter(None, texts[first : last + 1]))
    exact = not wanted or plain == wanted
    text = shown_text(shown[first : last + 1]) or plain
    opening = " ".join(shown_text([wanted]).split(" ")[:OPENING_WORDS])
    return Place(first + 1, last + 1, text, 0 if exact else max(0, text.find(opening)), exact)


class _Window(NamedTuple):
    """Lines, 0-based and inclusive, and how well they match."""

    quality: int
    first: int
    last: int


def _best(texts: Sequence[str], wanted: str, start: int, span: int) -> _Window:
    """The best window of lines that are not blank at its ends; of quality 0 if there is none.

    One that holds more than the passage is no larger than it must be, unless it is where the passage stood.
    """
    most = min(len(texts), max(span + WINDOW_LINES_MORE, WINDOW_LINES_MIN))
    best, best_rank = _Window(0, 0, 0), (1, 0, 0)
    for first in _starts(texts, wanted, most):
        said, held = "", False
        for last in range(first, min(len(texts), first + most)):
            if not texts[last]:
                continue
            said = f"{said} {texts[last]}" if said else texts[last]
            quality = _quality(said, wanted)
            if quality == _WITHIN and (first, last) != (start, start + span - 1):
                if held or wanted in said[len(texts[first]) + 1 :]:
                    continue
                held = True
            rank = (-quality, abs(first - start), abs(last - first + 1 - span))
            if quality and rank < best_rank:
                best, best_rank = _Window(quality, first, last), rank
    return best


def _quality(said: str, wanted: str) -> int:
    if said == wanted:
        return _EQUAL
    if wanted in said:
        return _WITHIN
    if said in wanted and len(said) >= PART_MIN * len(wanted) and unfit(said) is None:
        return _PART
    return 0


def _starts(texts: Sequence[str], wanted: str, most: int) -> list[int]:
    """The lines at which a window may begin that holds the passage, or is part of it."""
    found = {number for number, text in enumerate(texts) if text and text in wanted}
    for first, last in _occurrences(texts, wanted):
        found.update(number for number in range(max(0, last - most + 1), first + 1) if texts[number])
    return sorted(found)


def _occurrences(texts: Sequence[str], wanted: str) -> Iterator[tuple[int, int]]:
    """The lines on which the passage begins and ends, wherever the lines that are not blank hold it in a row."""
    numbers = [number for number, text in enumerate(texts) if text]
    offsets = [0]
    for number in numbers:
        offsets.append(offsets[-1] + len(texts[number]) + 1)
    joined = " ".join(texts[number] for number in numbers)
    at = joined.find(wanted)
    for _ in range(OCCURRENCES_MAX):
        if at < 0:
            return
        ends = at + len(wanted) - 1
        yield numbers[bisect_right(offsets, at) - 1], numbers[bisect_right(offsets, ends) - 1]
        at = joined.find(wanted, at + 1)


def _best_joined(shown: Sequence[str], wanted: str, start: int, span: int) -> tuple[int, int, str] | None:
    """The lines of which a pass made the passage, items of a list or lines of a paragraph, and the title before them.

    Passes over notes put the heading before them and join items by semicolons, and cut the end of what is too long.
    """
    headings = _headings(shown)
    best: tuple[tuple[int, int], tuple[int, int, str]] | None = None
    for first in range(len(shown)):
        if not shown[first].strip() or _HEADING.fullmatch(shown[first]):
            continue
        titles = [title for title in ("", *headings[first]) if not title or wanted.startswith(f"{title}: ")]
        bodies = [(title, wanted.removeprefix(f"{title}: ") if title else wanted) for title in titles]
        opening = collapse(_ITEM.sub("", shown[first], count=1))
        if not opening or not any(body.startswith(opening) or opening.startswith(body) for _, body in bodies):
            continue
        for last, joined in _joined(shown, first, WINDOW_LINES_MIN):
            title = next((title for title, body in bodies if _is_made_of(body, joined)), None)
            if title is not None:
                rank = (abs(first - start), abs(last - first + 1 - span))
                if best is None or rank < best[0]:
                    best = rank, (first, last, title)
                break
    return None if best is None else best[1]


def _is_made_of(body: str, joined: str) -> bool:
    return body == joined or (len(body) >= CUT_CHARACTERS_MIN and joined.startswith(body.rstrip(".… ")))


def _joined(shown: Sequence[str], first: int, most: int) -> Iterator[tuple[int, str]]:
    """What a pass makes of the lines from `first` on, for each last line: joined by semicolons, and by spaces."""
    pieces: list[str] = []
    for number in range(first, min(len(shown), first + most)):
        piece = collapse(_ITEM.sub("", shown[number], count=1))
        if _HEADING.fullmatch(shown[number]):
            return
        if piece:
            pieces.append(piece)
            yield number, "; ".join(pieces)
            yield number, " ".join(pieces)


def _headings(shown: Sequence[str]) -> list[tuple[str, ...]]:
    """For every line the titles that a pass may have put before it: that of its heading, and the whole path."""
    found: list[tuple[str, ...]] = []
    path: list[tuple[int, str]] = []
    for line in shown:
        match = _HEADING.fullmatch(line)
        if match is not None:
            level = len(match["marks"])
            path = [*(step for step in path if step[0] < level), (level, collapse(match["title"] or ""))]
        titles = [title for _, title in path if title and not _GENERIC_HEADING.fullmatch(title)]
        found.append((titles[-1], " > ".join(titles)) if titles else ())
    return found
