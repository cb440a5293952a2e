"""Cut documents into small units that keep their exact lines.

Small units retrieve better than large ones: a line of a list is one fact, and twenty facts in one unit dilute each
other. What stands around a hit can always be read through its line numbers.

Invariants: lines are 1-based and inclusive; every line that is not blank stands in at least one chunk; no chunk is
blank; no code point is ever split; a chunk never crosses a heading once it holds text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from reverie.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reverie.memory.documents import MarkdownDocument

CHARS_PER_TOKEN = 4
CJK_WEIGHT = 4
MESSAGE_PART_CHARS = 1_600
MESSAGE_PART_OVERLAP_CHARS = 160
_PART_ENDS = ("\n\n", "\n", ". ", "。", " ")
_CJK = re.compile("[\u2e80-\u9fff\ua000-\ua4ff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f]")


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """How large a chunk may grow, and how much of it the next one repeats; in estimated tokens.

    A paragraph's end closes a chunk that is at least half full.
    """

    tokens: int = 100
    overlap_tokens: int = 0

    @property
    def weight_max(self) -> int:
        """The size limit in weighted characters."""
        return max(32, self.tokens * CHARS_PER_TOKEN)

    @property
    def overlap_weight(self) -> int:
        """The overlap in weighted characters, always smaller than a chunk."""
        return max(0, min(self.overlap_tokens, self.tokens - 1)) * CHARS_PER_TOKEN


@dataclass(frozen=True, slots=True)
class _Segment:
    """A line, or a piece of one that is too long."""

    line: int
    text: str
    weight: int


def weight(text: str) -> int:
    """The size of a text: a character counts 1, a Chinese, Japanese or Korean one 4."""
    if text.isascii():
        return len(text)
    return len(text) + (CJK_WEIGHT - 1) * len(_CJK.findall(text))


def chunk_document(document: MarkdownDocument, limits: ChunkLimits) -> list[Chunk]:
    """The chunks of a Markdown document, in reading order."""
    chunks: list[Chunk] = []
    buffer: list[_Segment] = []
    for segment in _segments(document, limits):
        if buffer and _closes(document, buffer, segment, limits):
            starts_section = _has_text(document, buffer) and segment.line in document.heading_lines
            _flush(document, buffer, chunks)
            buffer = [] if starts_section else _tail(buffer, limits)
        buffer.append(segment)
    _flush(document, buffer, chunks)
    return chunks


def split_message(text: str) -> list[str]:
    """A message as parts of about `MESSAGE_PART_CHARS`, cut at the best boundary near the end of each.

    Neighbouring parts share `MESSAGE_PART_OVERLAP_CHARS`. Blank parts are dropped.
    """
    parts: list[str] = []
    start = 0
    while len(text) - start > MESSAGE_PART_CHARS:
        end = _part_end(text, start)
        parts.append(text[start:end])
        start = max(start + 1, end - MESSAGE_PART_OVERLAP_CHARS)
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _part_end(text: str, start: int) -> int:
    end = start + MESSAGE_PART_CHARS
    for boundary in _PART_ENDS:
        found = text.rfind(boundary, start + MESSAGE_PART_CHARS // 2, end)
        if found > 0:
            return found + len(boundary)
    return end


def _segments(document: MarkdownDocument, limits: ChunkLimits) -> Iterator[_Segment]:
    for number, line in enumerate(document.lines[document.body_start :], document.body_start + 1):
        if weight(line) <= limits.weight_max:
            yield _Segment(number, line, weight(line) + 1)
            continue
        step = limits.weight_max if line.isascii() else max(1, limits.weight_max // CJK_WEIGHT)
        for start in range(0, len(line), step):
            piece = line[start : start + step]
            yield _Segment(number, piece, weight(piece) + 1)


def _closes(document: MarkdownDocument, buffer: list[_Segment], segment: _Segment, limits: ChunkLimits) -> bool:
    """Whether the chunk ends before this segment: a new section, no room, or a paragraph's end when half full."""
    held = sum(s.weight for s in buffer)
    if held + segment.weight > limits.weight_max + 1:
        return True
    if segment.line in document.heading_lines:
        return _has_text(document, buffer)
    return not buffer[-1].text.strip() and held * 2 >= limits.weight_max


def _has_text(document: MarkdownDocument, buffer: list[_Segment]) -> bool:
    return any(s.text.strip() and s.line not in document.heading_lines for s in buffer)


def _tail(buffer: list[_Segment], limits: ChunkLimits) -> list[_Segment]:
    """Whole segments from the end that together reach the overlap; the one that crosses it is included."""
    kept: list[_Segment] = []
    held = 0
    for segment in reversed(buffer):
        if held >= limits.overlap_weight:
            break
        kept.insert(0, segment)
        held += segment.weight
    return kept if len(kept) < len(buffer) else kept[1:]


def _flush(document: MarkdownDocument, buffer: list[_Segment], chunks: list[Chunk]) -> None:
    """Close a chunk; blank lines at its ends are left out of its line range."""
    while buffer and not buffer[-1].text.strip():
        buffer.pop()
    first = next((i for i, s in enumerate(buffer) if s.text.strip()), len(buffer))
    kept = buffer[first:]
    if kept:
        text = _joined(kept)
        heading = document.headings[kept[-1].line - 1]
        chunks.append(Chunk(kept[0].line, kept[-1].line, text, heading))


def _joined(segments: list[_Segment]) -> str:
    """Lines joined by newlines; pieces of one line joined as they stood."""
    text = segments[0].text
    for before, segment in pairwise(segments):
        text += segment.text if before.line == segment.line else f"\n{segment.text}"
    return text
