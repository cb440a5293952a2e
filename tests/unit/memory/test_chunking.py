"""Chunks: exact lines, small units, nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.memory.chunking import (
    MESSAGE_PART_CHARS,
    MESSAGE_PART_OVERLAP_CHARS,
    ChunkLimits,
    chunk_document,
    split_message,
    weight,
)
from reverie.memory.documents import parse_markdown, split_lines
from reverie.types import Chunk

LINES = st.lists(
    st.sampled_from(["", "# One", "## Two", "- a fact", "plain text " * 9, "東京は晴れ", "x" * 900, "```", "---"]),
    max_size=40,
)


def chunks(text: str, limits: ChunkLimits | None = None) -> list[Chunk]:
    """The chunks of a Markdown text."""
    return chunk_document(parse_markdown(text), limits or ChunkLimits())


def test_a_small_file_is_one_chunk_per_section() -> None:
    """A heading opens a new chunk, and the chunk knows the path of its headings."""
    assert chunks("# Pets\n\nLuna is a cat.\n\n## Food\n\nTuna.\n") == [
        Chunk(1, 3, "# Pets\n\nLuna is a cat.", "Pets"),
        Chunk(5, 7, "## Food\n\nTuna.", "Pets > Food"),
    ]


def test_a_heading_without_text_joins_the_next_section() -> None:
    """A title alone is no memory: it opens the chunk of what follows."""
    assert chunks("# Day\n## Morning\ncoffee") == [Chunk(1, 3, "# Day\n## Morning\ncoffee", "Day > Morning")]


def test_blank_lines_are_left_out_of_the_line_range() -> None:
    """A chunk starts and ends with text."""
    assert chunks("\n\n  \nhello\n\n\n") == [Chunk(4, 4, "hello", "")]


@pytest.mark.parametrize("text", ["", "\n", "   \n\t\n", "---\na: b\n---\n"])
def test_a_file_without_text_has_no_chunks(text: str) -> None:
    """Whitespace and front matter alone are no memory."""
    assert chunks(text) == []


def test_a_paragraph_end_closes_a_half_full_chunk() -> None:
    """Units stay small: after half the size the next blank line ends the chunk."""
    first, second = "a" * 250, "b" * 20
    assert chunks(f"{first}\n\n{second}") == [Chunk(1, 1, first, ""), Chunk(3, 3, second, "")]


def test_overlap_repeats_whole_lines() -> None:
    """With overlap the next chunk repeats lines from the end of the one before, the crossing one included."""
    text = "\n".join(f"line {i:02} {'x' * 40}" for i in range(12))
    found = chunks(text, ChunkLimits(tokens=50, overlap_tokens=10))
    assert [(c.start_line, c.end_line) for c in found] == [(1, 4), (4, 7), (7, 10), (10, 12)]


def test_cjk_characters_weigh_four() -> None:
    """A hundred Chinese characters fill a chunk of a hundred tokens."""
    assert weight("中文ab") == 10
    found = chunks("漢" * 250)
    assert [len(c.text) for c in found] == [100, 100, 50]
    assert {(c.start_line, c.end_line) for c in found} == {(1, 1)}


def test_an_over_long_line_is_cut_between_code_points() -> None:
    """A line that is too long becomes several chunks of the same line; nothing is lost and no character is split."""
    line = "😀é" * 1_000
    assert "".join(c.text for c in chunks(line)) == line


def test_the_size_limit_has_a_floor() -> None:
    """However small the limit is set, a chunk may hold 32 characters, and the overlap stays below the size."""
    assert ChunkLimits(tokens=1, overlap_tokens=9) == ChunkLimits(1, 9)
    assert (ChunkLimits(1, 9).weight_max, ChunkLimits(1, 9).overlap_weight) == (32, 0)


@given(LINES, st.sampled_from(["\n", "\r\n"]))
def test_every_line_with_text_stands_in_a_chunk(lines: list[str], end: str) -> None:
    """Line ranges are exact: outside of them there are only blank lines and front matter."""
    text = end.join(lines)
    document = parse_markdown(text)
    found = chunk_document(document, ChunkLimits())
    covered = {line for c in found for line in range(c.start_line, c.end_line + 1)}
    written = {n for n, line in enumerate(split_lines(text), 1) if line.strip() and n > document.body_start}
    assert written <= covered
    assert all(c.text.strip() and weight(c.text) <= ChunkLimits().weight_max + 1 for c in found)
    for c in found:
        if c.start_line < c.end_line:
            assert c.text in "\n".join(document.lines[c.start_line - 1 : c.end_line])


def test_a_short_message_is_one_part() -> None:
    """What fits is not cut, and a blank message has no parts."""
    assert split_message("hello\nworld") == ["hello\nworld"]
    assert split_message(" \n ") == []


def test_a_long_message_is_cut_at_paragraphs_and_overlaps() -> None:
    """Parts end at the best boundary of their second half, and share some text."""
    text = "\n\n".join(f"paragraph {i} {'word ' * 60}" for i in range(20))
    parts = split_message(text)
    assert all(len(part) <= MESSAGE_PART_CHARS for part in parts)
    assert all(part.endswith("\n\n") for part in parts[:-1])
    assert all(a[-MESSAGE_PART_OVERLAP_CHARS:] == b[:MESSAGE_PART_OVERLAP_CHARS] for a, b in zip(parts, parts[1:]))  # noqa: B905, RUF007 (pairs)


@given(st.text(alphabet="ab .。\n", max_size=6_000))
def test_message_parts_hold_the_whole_message(text: str) -> None:
    """No character of a message that is not blank is left out."""
    parts = split_message(text)
    assert sum(map(len, parts)) >= len(text.strip())
