"""Cut documents into small units that keep their exact lines: at headings, or by lines alone.

Small units retrieve better than large ones: a line of a list is one fact, and twenty facts in one unit dilute each
other. What stands around a hit can always be read through its line numbers.

Invariants: lines are 1-based and inclusive; every line that is not blank stands in at least one chunk; no chunk is
blank; no code point is ever split. A chunk never crosses a heading once it holds text (`chunk_document`), or is what
OpenClaw would have embedded, byte for byte (`chunk_lines`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from reverie.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reverie.memory.documents import MarkdownDocument

CHARS_PER_TOKEN = 4
CJK_WEIGHT = 4
LINES_TOKENS = 400
LINES_OVERLAP_TOKENS = 80
LINES_CHUNK_BYTES_MAX = 8_000
"""A chunk of lines with more UTF-8 bytes than this is divided: so much an embedding model takes in any language."""

MESSAGE_PART_CHARS = 1_600
MESSAGE_PART_OVERLAP_CHARS = 160
_PART_ENDS = ("\n\n", "\n", ". ", "。", " ")
_CJK = re.compile("[\u2e80-\u9fff\ua000-\ua4ff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f]")


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """How large a chunk may grow, and how much of it the next one repeats; in estimated tokens.

    `chunker` is where chunks end: `headings` is `chunk_document`, where a paragraph's end closes a chunk that is at
    least half full; `lines` is `chunk_lines`.
    """

    tokens: int = 100
    overlap_tokens: int = 0
    chunker: Literal["headings", "lines"] = "headings"

    @classmethod
    def of(cls, chunker: Literal["headings", "lines"]) -> ChunkLimits:
        """The limits that belong to a chunker."""
        return cls() if chunker == "headings" else cls(LINES_TOKENS, LINES_OVERLAP_TOKENS, "lines")

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


def chunk_document(
    document: MarkdownDocument, limits: ChunkLimits, breaks: frozenset[int] = frozenset()
) -> list[Chunk]:
    """The chunks of a Markdown document, in reading order. None goes on over the beginning of a line of `breaks`."""
    chunks: list[Chunk] = []
    buffer: list[_Segment] = []
    for segment in _segments(document, limits):
        breaks_off = segment.line in breaks and _has_text(document, buffer)
        if buffer and (breaks_off or _closes(document, buffer, segment, limits)):
            starts_section = _has_text(document, buffer) and segment.line in document.heading_lines
            _flush(document, buffer, chunks)
            buffer = [] if starts_section or breaks_off else _tail(buffer, limits)
        buffer.append(segment)
    _flush(document, buffer, chunks)
    return chunks


def chunk_lines(text: str, tokens: int = LINES_TOKENS, overlap: int = LINES_OVERLAP_TOKENS) -> list[Chunk]:
    """The chunks of a text as OpenClaw 2026.4 cuts it, so that a vector computed there is one of the same text here.

    Headings, front matter and comments are text like any other; a final line end is a line of its own; pieces of one
    long line are joined by newlines too. Chunks of white space are dropped. A chunk larger than
    `LINES_CHUNK_BYTES_MAX` is divided, each part with the lines of the whole.
    """
    limits = ChunkLimits(max(1, tokens), overlap, "lines")
    chunks: list[Chunk] = []
    buffer: list[_Segment] = []
    held = 0
    for segment in _line_segments(text, limits):
        if buffer and held + segment.weight > limits.weight_max:
            chunks += _lines_chunk(buffer)
            buffer = _line_tail(buffer, limits.overlap_weight)
            held = sum(kept.weight for kept in buffer)
        buffer.append(segment)
        held += segment.weight
    return [*chunks, *_lines_chunk(buffer)]


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


def _line_segments(text: str, limits: ChunkLimits) -> Iterator[_Segment]:
    """Every line, in slices of the limit when it is longer; a slice that weighs too much in steps of `tokens`."""
    for number, line in enumerate(text.split("\n"), 1):
        for start in range(0, len(line), limits.weight_max) or (0,):
            coarse = line[start : start + limits.weight_max]
            step = len(coarse) if weight(coarse) <= limits.weight_max else limits.tokens
            for begin in range(0, len(coarse), step) if coarse else (0,):
                piece = coarse[begin : begin + step]
                yield _Segment(number, piece, weight(piece) + 1)


def _line_tail(buffer: list[_Segment], overlap_weight: int) -> list[_Segment]:
    """Whole segments from the end until they reach the overlap, the one that crosses it included; it may be all."""
    held = 0
    for number in range(len(buffer) - 1, -1, -1):
        if held >= overlap_weight:
            return buffer[number + 1 :]
        held += buffer[number].weight
    return list(buffer) if overlap_weight else []


def _lines_chunk(buffer: list[_Segment]) -> Iterator[Chunk]:
    text = "\n".join(segment.text for segment in buffer)
    if text.strip():
        for part in _within_bytes(text, LINES_CHUNK_BYTES_MAX):
            yield Chunk(buffer[0].line, buffer[-1].line, part)


def _within_bytes(text: str, bytes_max: int) -> Iterator[str]:
    """The text in parts of at most so many UTF-8 bytes; no character is divided."""
    data = text.encode("utf-8", "surrogatepass")
    while len(data) > bytes_max:
        end = bytes_max
        while data[end] & 0xC0 == 0x80:  # noqa: PLR2004 (a byte that goes on with a character)
            end -= 1
        yield data[:end].decode("utf-8", "surrogatepass")
        data = data[end:]
    yield data.decode("utf-8", "surrogatepass")


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
