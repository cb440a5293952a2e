"""A daily note as a pass looks at it: line-exact pieces of at most four lines, each with what its headings say.

A piece has two texts. `text` is what stands in the file, so that it can be found there again; `shown` is how it reads
on its own, with its heading before it and the items of a list in a row. Only the first is ever kept as evidence.
Secrets are hidden in both.

What dreaming itself wrote into a note (OpenClaw's blocks of light and REM sleep) is passed over, also where such a
block has lost its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.memory.documents import parse_markdown, split_lines
from reverie.memory.redaction import redacted
from reverie.memory.text import collapse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINES_MAX = 4
CHARACTERS_MIN = 8
CHARACTERS_MAX = 280
CHARACTERS_READ_MAX = 4_000
"""So much of a piece is looked at, before its secrets are hidden and it is cut."""
WORD_END_SHARE = 0.6
"""A text that is too long is cut at a space, unless that would cost more than the rest of this share."""

_START = re.compile(r"<!--\s*openclaw:dreaming:([a-z-]+):start\s*-->")
_END = re.compile(r"<!--\s*openclaw:dreaming:([a-z-]+):end\s*-->")
_HEADING = re.compile(r"#{1,6}(?:\s|$)")
_OWN_HEADINGS = frozenset({"### Reflections", "### Possible Lasting Truths"})
_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])\s+(?:\[[ xX]\]\s+)?")
_CODE = re.compile(r"(?P<fence>`{3,}|~{3,})")
_RULE = re.compile(r"([-*_])(?:\s*\1){2,}")

_TITLE_WORD = re.compile(r"[^\W_]+")
_FIGURES = re.compile(
    r"\d{1,4}(?:st|nd|rd|th|am|pm|h|uhr)?|\d{1,2}h\d{2}|(?:\d+[年月日号])+|(?:\d+[년월일])+|t\d{2}|\d{2}z"
)
_WHEN = """
    daily day date diary entries entry journal log logs note notes time today tomorrow yesterday week weekly
    morning noon midday afternoon evening night midnight early late am pm a m p the of on at and
    monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun
    january february march april may june july august september october november december
    jan feb mar apr jun jul aug sep sept oct nov dec
    light rem deep sleep
    tag tages tagebuch notiz notizen protokoll datum uhr uhrzeit heute morgen morgens vormittag vormittags mittag
    mittags nachmittag nachmittags abend abends nacht nachts der die das und am um früh
    montag dienstag mittwoch donnerstag freitag samstag sonntag mo di mi do fr sa so
    januar februar märz mai juni juli oktober dezember
    jour journée matin midi après soir soirée nuit aujourd hui lundi mardi mercredi jeudi vendredi samedi dimanche
    janvier février mars avril juin juillet août septembre octobre novembre décembre le la du
    día dia diario nota notas mañana mediodía tarde noche hoy lunes martes miércoles jueves viernes sábado domingo
    enero febrero marzo abril mayo junio julio agosto septiembre noviembre diciembre de el
    今日 朝 昼 夕方 夜 午前 午後 日記 早上 上午 中午 下午 晚上 日记 오늘 아침 오전 점심 오후 저녁 밤 일기
"""
_OF_EVERY_DAY = frozenset(_WHEN.split())
"""Words of headings that say when, and not what."""


@dataclass(frozen=True, slots=True)
class NoteChunk:
    """A piece of a note: its lines (from 1, both included), what stands there on one line, and how it reads alone.

    `heading` is the path of headings above it.
    """

    start_line: int
    end_line: int
    text: str
    shown: str
    heading: str = ""


def note_chunks(text: str, from_line: int = 1, *, items_apart: bool = False) -> Iterator[NoteChunk]:
    """The pieces of a note that begin on `from_line` or below it, in order.

    Items of a list that follow one another are one piece, and so are the lines of a paragraph, up to four lines and
    280 characters. A heading, an empty line, a comment, a rule and code end a piece; code is none. What is shorter
    than eight characters is left out, and of what is longer than 280 the beginning stands for it. `items_apart`: each
    item of a list is a piece of its own.
    """
    document = parse_markdown(text)
    passed_over = managed_lines(split_lines(text)) | document.heading_lines | set(range(1, document.body_start + 1))
    run: list[tuple[int, str]] = []
    is_list = in_code = False
    for number, line in enumerate(document.lines, 1):
        words = line.strip()
        fence = _CODE.match(words)
        if number in passed_over or fence or in_code or not words or _HEADING.match(words) or _RULE.fullmatch(words):
            yield from _piece(run, document.headings, from_line)
            run, in_code = [], in_code != bool(fence)
            continue
        is_item = _ITEM.match(words) is not None
        goes_on = (is_item and is_list and not items_apart) or (not is_item and (not is_list or line[0].isspace()))
        if run and not (goes_on and _is_one_piece([*run, (number, line)], document.headings)):
            yield from _piece(run, document.headings, from_line)
            run = []
        is_list = is_item if not run else is_list
        run.append((number, line))
    yield from _piece(run, document.headings, from_line)


def managed_lines(lines: Sequence[str]) -> set[int]:
    """The numbers of the lines that belong to a block of a phase of sleep.

    A block without an end goes as far as the next section, or the next block.
    """
    found: set[int] = set()
    number = 0
    while number < len(lines):
        start = _START.search(lines[number])
        last = number if start is None else _last_of_block(lines, number, start)
        if start is not None:
            found.update(range(number + 1, last + 2))
        number = last + 1
    return found


def without_secrets(text: str) -> str:
    """The beginning of a text on one line as it may be kept: at most 280 characters, its secrets hidden."""
    return shortened(redacted(text[:CHARACTERS_READ_MAX]))


def shortened(text: str, most: int = CHARACTERS_MAX) -> str:
    """The beginning of a text on one line, which ends with a word where the text has words."""
    if len(text) <= most:
        return text
    space = text.rfind(" ", 0, most + 1)
    return text[: space if space >= most * WORD_END_SHARE else most].rstrip()


def topic_of(heading: str) -> str:
    """The nearest heading above that says more than when something was; empty if none does."""
    titles = heading.split(" > ") if heading else []
    return next((title for title in reversed(titles) if not is_of_every_day(title)), "")


def is_of_every_day(title: str) -> bool:
    """True for a heading that says a day or a time, such as `2026-04-01`, `Monday evening` or `09:30`."""
    words = _TITLE_WORD.findall(title.casefold())
    return all(word in _OF_EVERY_DAY or _FIGURES.fullmatch(word) for word in words)


def _last_of_block(lines: Sequence[str], first: int, start: re.Match[str]) -> int:
    """The index of a block's last line."""
    for index in range(first, len(lines)):
        line = lines[index][start.end() :] if index == first else lines[index]
        end = _END.search(line)
        if end is not None and end[1] == start[1]:
            return index
        is_section = _HEADING.match(line) and line.strip() not in _OWN_HEADINGS
        if index > first and (is_section or _START.search(line)):
            return index - 1
    return len(lines) - 1


def _is_one_piece(run: Sequence[tuple[int, str]], headings: Sequence[str]) -> bool:
    return len(run) <= LINES_MAX and len(_shown(run, headings)) <= CHARACTERS_MAX


def _piece(run: Sequence[tuple[int, str]], headings: Sequence[str], from_line: int) -> Iterator[NoteChunk]:
    if not run or run[0][0] < from_line:
        return
    if len(_joined(run)) >= CHARACTERS_MIN:
        text = collapse(" ".join(line for _, line in run))
        shown = without_secrets(_shown(run, headings))
        yield NoteChunk(run[0][0], run[-1][0], without_secrets(text), shown, headings[run[0][0] - 1])


def _shown(run: Sequence[tuple[int, str]], headings: Sequence[str]) -> str:
    topic = topic_of(headings[run[0][0] - 1])
    return f"{topic}: {_joined(run)}" if topic else _joined(run)


def _joined(run: Sequence[tuple[int, str]]) -> str:
    """The lines of a piece on one line: items of a list without their signs, set apart by semicolons."""
    joined = ""
    for _, line in run:
        item = _ITEM.match(line.strip())
        words = collapse(line.strip()[item.end() :] if item else line)
        joined += (("; " if item else " ") if joined else "") + words
    return joined
