"""Chunks by lines: the golden values by which a vector computed by OpenClaw is one of the same text here."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.memory.chunking import LINES_CHUNK_BYTES_MAX, ChunkLimits, chunk_lines, weight
from reverie.memory.sync import file_passages
from reverie.types import Chunk

LINES = st.lists(
    st.sampled_from(["", "# One", "- a fact", "plain text " * 9, "東京は晴れ", "x" * 900, "y" * 4_000]), max_size=60
)


def spans(text: str, tokens: int = 400, overlap: int = 80) -> list[tuple[int, int]]:
    """First and last line of each chunk."""
    return [(chunk.start_line, chunk.end_line) for chunk in chunk_lines(text, tokens, overlap)]


def test_the_defaults_are_1600_characters_and_320_of_overlap() -> None:
    """Twenty lines of 80 with their ends fill a chunk exactly, and four of them open the next."""
    text = "\n".join(f"{number:04} " + "a" * 74 for number in range(1, 41))

    assert spans(text) == [(1, 20), (17, 36), (33, 40)]
    assert spans(f"{text}a") == [(1, 20), (17, 36), (33, 40)]
    assert ChunkLimits.of("lines") == ChunkLimits(400, 80, "lines")
    assert (ChunkLimits.of("lines").weight_max, ChunkLimits.of("lines").overlap_weight) == (1600, 320)


def test_a_whole_text_is_hashed_as_it_stands() -> None:
    """Front matter, comments, carriage returns and the final line end belong to the text that was embedded."""
    text = "---\na: b\n---\n<!-- note -->\r\n# Tea\n\n- green\n"
    (chunk,) = chunk_lines(text)

    assert chunk == Chunk(1, 8, text)
    assert hashlib.sha256(chunk.text.encode()).digest() == hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize(("tokens", "overlap", "expected"), [
    (8, 0, [(1, 3), (4, 6), (7, 8)]),
    (8, 3, [(1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (6, 8)]),
    (8, 2, [(1, 3), (3, 5), (5, 7), (7, 8)]),
    (8, 99, [(1, 3), (1, 4), (2, 5), (3, 6), (4, 7), (5, 8)]),
])  # fmt: skip
def test_overlap_keeps_whole_lines_and_the_crossing_one(
    tokens: int, overlap: int, expected: list[tuple[int, int]]
) -> None:
    """Lines of 10 with their end, 32 to a chunk: overlap stays below the size and is never less than asked."""
    assert spans("\n".join(["nine char"] * 8), tokens, overlap) == expected


def test_cjk_characters_weigh_four() -> None:
    """A long Chinese line is cut into steps of 400 characters, joined by newlines, with one as overlap."""
    first, second, third = "漢" * 400, "漢" * 400, "漢" * 200

    assert [chunk.text for chunk in chunk_lines(first + second + third)] == [
        first,
        f"{first}\n{second}",
        f"{second}\n{third}",
    ]
    assert spans("漢" * 1_000) == [(1, 1)] * 3
    assert len(chunk_lines("漢" * 399)) == 1


def test_an_over_long_line_is_cut_between_characters() -> None:
    """Slices of 1,600 characters; a character of two UTF-16 units stays whole, and nothing is lost."""
    line = "a" * 1_599 + "😀" + "b" * 900

    assert [chunk.text for chunk in chunk_lines(line, overlap=0)] == ["a" * 1_599 + "😀", "b" * 900]
    assert "".join(chunk.text for chunk in chunk_lines("😀é" * 4_000, overlap=0)) == "😀é" * 4_000


@pytest.mark.parametrize("text", ["", "\n", " \n\t\r\n"])
def test_white_space_is_no_chunk(text: str) -> None:
    """What holds nothing was never embedded."""
    assert chunk_lines(text) == []


def test_a_chunk_over_the_byte_cap_is_divided() -> None:
    """Parts of at most 8,000 bytes that end between characters keep the lines of the whole chunk."""
    text = "\n".join(["😀" * 1_500, "😁" * 1_500])
    first, second, third = chunk_lines(text)

    assert (first.start_line, first.end_line, first.text) == (1, 1, "😀" * 1_500)
    assert (second.start_line, second.end_line) == (third.start_line, third.end_line) == (1, 2)
    assert second.text + third.text == text
    assert len(second.text.encode()) == 7_997  # 1,500 of four bytes, the line end, 499 of four bytes
    assert all(len(chunk.text.encode()) <= LINES_CHUNK_BYTES_MAX for chunk in (first, second, third))


@given(LINES, st.sampled_from(["\n", "\r\n"]))
def test_every_line_stands_in_a_chunk(lines: list[str], end: str) -> None:
    """Whatever the lines are, none with text is left out, and chunks begin in order."""
    text = end.join(lines)
    found = chunk_lines(text)
    covered = {line for chunk in found for line in range(chunk.start_line, chunk.end_line + 1)}

    assert {number for number, line in enumerate(text.split("\n"), 1) if line.strip()} <= covered
    assert [chunk.start_line for chunk in found] == sorted(chunk.start_line for chunk in found)
    assert all(weight(chunk.text) <= 2 * 1_602 for chunk in found)


def test_passages_of_lines_have_no_heading() -> None:
    """What is embedded is the chunk's text alone, under the number of its lines."""
    text = "# Tea\n\ngreen\n"
    (passage,) = file_passages("MEMORY.md", text, 0, ChunkLimits.of("lines"))
    (under_heading,) = file_passages("MEMORY.md", text, 0, ChunkLimits.of("headings"))

    assert (passage.text, passage.heading, passage.start_line, passage.end_line) == (text, "", 1, 4)
    assert (under_heading.heading, under_heading.end_line) == ("Tea", 3)


def test_a_file_of_comments_alone_has_no_passages() -> None:
    """A new workspace's own files, which only explain themselves, are not embedded by either chunker."""
    text = "<!-- Lasting facts,\none per line. -->\n"

    assert [file_passages("MEMORY.md", text, 0, ChunkLimits.of(chunker)) for chunker in ("lines", "headings")] == [
        (),
        (),
    ]
