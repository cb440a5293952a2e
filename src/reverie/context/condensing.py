"""A workspace file in fewer words, by rule: its headings, and of each section as much as there is room for.

    every heading        stays, as long as headings alone leave room for text
    a short section      stays whole
    a long section       its beginning and its end: what was written first, and what was written last

Pure and without a model, so that the same file at the same bound is the same text in every turn and after a restart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.llm.tokens import raw_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADING = re.compile(r"#{1,6}\s")
_CODE_FENCE = re.compile(r"\s*(?:```|~~~)")
END_SHARE = 3
"""Of what a long section keeps, the end is this part: one of three."""
SECTIONS_MAX = 2_000
"""A file with more headings is taken as one section."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, empty before the first one, and the lines below it."""

    heading: str
    lines: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """What the lines take, by the uncalibrated estimate."""
        return raw_tokens("\n".join(self.lines))


def condensed(text: str, tokens_max: int) -> str:
    """The text within a number of tokens, by the uncalibrated estimate. One that fits is as it is."""
    if raw_tokens(text) <= tokens_max:
        return text
    sections = _sections(text)
    headings = "\n".join(section.heading for section in sections)
    if len(sections) > SECTIONS_MAX or raw_tokens(headings) > tokens_max // 2:
        return _both_ends(text.splitlines(), tokens_max)
    left = tokens_max - raw_tokens(headings) - len(sections)
    shares = _shares([section.tokens for section in sections], left)
    return "\n".join(
        part
        for section, share in zip(sections, shares, strict=True)
        for part in (section.heading, _both_ends(section.lines, share))
        if part.strip()
    )


def _sections(text: str) -> list[Section]:
    """A text at its headings; a line in a block of code is none."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    in_code = False
    for line in text.splitlines():
        in_code ^= bool(_CODE_FENCE.match(line))
        if not in_code and _HEADING.match(line):
            sections.append((line, []))
        else:
            sections[-1][1].append(line)
    return [Section(heading, tuple(lines)) for heading, lines in sections]


def _shares(sizes: Sequence[int], room: int) -> list[int]:
    """How much each may take: the small ones all they need, the others what is left in equal parts."""
    shares = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda number: sizes[number])
    for done, number in enumerate(order):
        shares[number] = min(sizes[number], max(0, room) // (len(order) - done))
        room -= shares[number]
    return shares


def _both_ends(lines: Sequence[str], tokens: int) -> str:
    """The beginning and the end of some lines, with a line that says how many stood between; whole if they fit."""
    whole = "\n".join(lines)
    if raw_tokens(whole) <= tokens:
        return whole
    room = tokens - raw_tokens(_left_out(len(lines)))
    if room <= 0:
        return ""
    head = _whole_lines(lines, room - room // END_SHARE)
    tail = _whole_lines(lines[len(head) :][::-1], room // END_SHARE)[::-1]
    left_out = len(lines) - len(head) - len(tail)
    if not head and not tail:  # one line is longer than all the room
        return f"{_cut(lines[0], room)}\n{_left_out(len(lines))}"
    return "\n".join([*head, _left_out(left_out), *tail])


def _whole_lines(lines: Sequence[str], tokens: int) -> list[str]:
    kept: list[str] = []
    for line in lines:
        tokens -= raw_tokens(line) + 1
        if tokens < 0:
            break
        kept.append(line)
    return kept


def _cut(line: str, tokens: int) -> str:
    return line[: len(line) * tokens // max(1, raw_tokens(line))].rstrip()


def _left_out(lines: int) -> str:
    return f"[… {lines:,} lines …]" if lines != 1 else "[… a line …]"
