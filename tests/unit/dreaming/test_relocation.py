"""Where a passage stands now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.dreaming.relocation import Place, excerpt, is_fenced, relocate, relocate_message, shown_text
from reverie.memory.chunking import ChunkLimits, chunk_document, chunk_lines
from reverie.memory.documents import parse_markdown, split_lines
from reverie.memory.text import collapse

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKUPS = "Moved backups to S3 Glacier."
KEEP = "Keep cold storage retention at 365 days."


def lines_of(place: Place | None) -> tuple[int, int] | None:
    return None if place is None else (place.start_line, place.end_line)


def test_where_it_stood() -> None:
    """A passage that nobody moved, white space aside, is where it was."""
    assert relocate(["a", BACKUPS, f"  {KEEP}\t"], f"{BACKUPS} {KEEP}", 2, 3) == Place(2, 3, f"{BACKUPS} {KEEP}")


def test_one_line_of_a_wider_range() -> None:
    """The range that was recorded shrinks to what the passage is."""
    note = [
        *(f"line {number}" for number in range(1, 10)),
        "Gateway binds loopback and port 18789",
        "Keep it",
        "Document it",
    ]

    assert lines_of(relocate(note, "Gateway binds loopback and port 18789", 10, 12)) == (10, 10)


def test_a_passage_that_moved() -> None:
    """It is found at its new lines, with what stands there."""
    assert relocate(["intro", "summary", BACKUPS, KEEP], BACKUPS, 1, 1) == Place(3, 3, BACKUPS)


def test_the_nearest_of_several() -> None:
    """Of equal passages that which is nearest to where it stood."""
    note = ["h", f"{BACKUPS}", KEEP, "x", "x", "x", "x", "x", BACKUPS, KEEP]

    assert lines_of(relocate(note, f"{BACKUPS} {KEEP}", 8, 9)) == (9, 10)
    assert lines_of(relocate(note, f"{BACKUPS} {KEEP}", 1, 2)) == (2, 3)


def test_blank_lines_belong_to_nothing() -> None:
    """A range begins and ends with words, however many blank lines stand between."""
    assert lines_of(relocate(["", "", BACKUPS, "", KEEP, ""], f"{BACKUPS} {KEEP}", 1, 2)) == (3, 5)


def test_a_passage_that_was_cut_or_grew() -> None:
    """What holds the passage now is taken whole; what is most of it, as far as it goes."""
    longer = f"{BACKUPS} Since May."
    whole = relocate(["a", longer], BACKUPS, 2, 2)
    part = relocate(["a", BACKUPS, "Changed."], f"{BACKUPS} Old.", 2, 3)

    moved = relocate(["- a", "- b", "- c", f"- {longer}", "- d"], BACKUPS, 2, 2)
    cut = relocate(["a", longer, KEEP], BACKUPS, 2, 3)

    assert whole == Place(2, 2, longer, exact=False)
    assert lines_of(moved) == (4, 4)
    assert lines_of(cut) == (2, 3)
    assert part == Place(2, 2, BACKUPS, exact=False)


@pytest.mark.parametrize(
    "note",
    [
        [],
        ["Moved backups to a cupboard."],
        ["# Kiln", "The service is due in May."],
        ["# Kiln"],
        ["-", "The"],
    ],
)
def test_a_passage_that_is_gone(note: Sequence[str]) -> None:
    """Deleted, or changed beyond half: it is nowhere."""
    assert relocate(note, f"# Kiln The service is due in March. {BACKUPS}", 1, 2) is None


def test_without_words_the_range_decides() -> None:
    """An entry that never had a snippet stands for what its lines say, if they say something."""
    assert relocate(["a", BACKUPS], "", 2, 2) == Place(2, 2, BACKUPS)
    assert relocate(["a", " "], "", 2, 2) is None
    assert relocate(["a"], "", 5, 6) is None


@pytest.mark.parametrize(
    ("snippet", "lines", "text"),
    [
        ("Kitchen: roaster; kettle", (4, 5), "Kitchen: roaster; kettle"),
        ("roaster; kettle; mill", (4, 6), "roaster; kettle; mill"),
        ("Kitchen: mill", (6, 6), "Kitchen: mill"),
        (
            "Kitchen > Cellar: The boiler is from 1987 and loud.",
            (10, 11),
            "Kitchen > Cellar: The boiler is from 1987 and loud.",
        ),
        ("Cellar: The boiler is from 1987 and loud.", (10, 11), "Cellar: The boiler is from 1987 and loud."),
    ],
)
def test_what_a_pass_made_of_lines(snippet: str, lines: tuple[int, int], text: str) -> None:
    """A heading before it and semicolons between the items of a list do not hide where it stands."""
    note = [
        "# 2026-04-01", "", "## Kitchen", "- roaster", "- kettle", "1. mill", "", "### Cellar", "",
        "The boiler is from 1987", "and loud.",
    ]  # fmt: skip

    found = relocate(note, snippet, 1, 2)
    assert found is not None
    assert (lines_of(found), found.text.replace("1. mill", "mill")) == (lines, text)


def test_what_a_pass_cut() -> None:
    """The cut end of a long passage is no hindrance."""
    items = [f"the long item number {number} of the list with more words" for number in range(9)]
    note = ["## List", *(f"- {item}" for item in items)]

    found = relocate(note, f"List: {'; '.join(items)}"[:280], 2, 5)
    assert lines_of(found) == (2, 7)
    assert relocate(note, "List: the long item", 9, 9) is None


def test_comments_count_for_nothing() -> None:
    """Neither in the file nor in the passage, and their lines keep their numbers."""
    note = ["<!-- openclaw-memory-promotion:x -->", "<!--", "x", "-->", f"{BACKUPS} <!-- todo -->"]

    assert relocate(note, BACKUPS, 1, 1) == Place(5, 5, BACKUPS)
    assert relocate(note, f"{BACKUPS} <!-- todo -->", 1, 1) == Place(5, 5, BACKUPS)


def test_a_part_of_a_long_line() -> None:
    """Where the line is too long to show, what is shown begins with the sentence that the passage begins in."""
    line = "First. " + "Something else was said here. " * 30 + "So then: the service is due in March. More."
    found = relocate([line], "the service is due in March.", 1, 1)

    assert found is not None
    assert excerpt(found, 10_000) == collapse(line)
    assert excerpt(found, 100) == "So then: the service is due in March. More."


def test_a_message() -> None:
    """A passage of a conversation is a part of its message, or nothing."""
    assert relocate_message("I live\nin Lisbon now. ", "I live in Lisbon now.", 4) == Place(
        4, 4, "I live in Lisbon now."
    )
    assert relocate_message("Well. I live in Lisbon.", "I live in Lisbon.", 4) == Place(
        4, 4, "Well. I live in Lisbon.", 6, exact=False
    )
    assert relocate_message("I live in Porto.", "I live in Lisbon.", 4) is None
    assert relocate_message(" ", "", 4) is None


def test_lines_to_read() -> None:
    """Headings lead what they stand over, items are told apart, furniture and generic headings are gone."""
    assert shown_text(
        ["# 2026-04-01", "## Morning", "- a", "- b.", "* c", "  and d", "", "## Tea & more", "", "at five"]
    ) == ("a; b. c and d Tea & more: at five")
    assert shown_text(["# House", "## Cellar"]) == "House: Cellar"
    assert shown_text(["3. Mai ist der Termin"]) == "3. Mai ist der Termin"


@pytest.mark.parametrize(
    ("first", "last", "fenced"),
    [(1, 1, False), (6, 6, True), (3, 5, True), (5, 5, True), (8, 9, False), (7, 9, True), (12, 12, True)],
)
def test_blocks_of_dreaming(first: int, last: int, fenced: bool) -> None:  # noqa: FBT001 (a row of the table)
    """A range inside of a managed block, across its edge, or in one that is never closed is fenced."""
    note = [
        "# Note", "Real.", "Real.", "## Light Sleep", "<!-- openclaw:dreaming:light:start -->", "- Candidate: x",
        "<!-- openclaw:dreaming:light:end -->", "## After", "Real.", "<!-- OPENCLAW:DREAMING:rem:START -->", "x", "y",
    ]  # fmt: skip

    assert is_fenced(note, first, last) is fenced


WORDS = st.sampled_from(["kiln", "tea", "due", "Anna", "drum", "März", "备份", "12"])
PARAGRAPHS = st.lists(st.lists(WORDS, min_size=3, max_size=30).map(" ".join), min_size=1, max_size=6)


@settings(deadline=None)
@given(PARAGRAPHS, st.sampled_from(["", "- ", "## ", "> "]), st.booleans())
def test_our_own_passages_are_found(paragraphs: list[str], mark: str, by_lines: bool) -> None:  # noqa: FBT001 (drawn)
    """Whatever our chunkers cut from a file is found in it, on the lines that the index says, or an equal place."""
    text = "# 2026-04-01\n\n" + "\n\n".join(f"{mark}{paragraph}" for paragraph in paragraphs) + "\n"
    chunks = chunk_lines(text) if by_lines else chunk_document(parse_markdown(text), ChunkLimits())
    for chunk in chunks:
        snippet = collapse(chunk.text)[:800].rstrip()
        found = relocate(split_lines(text), snippet, chunk.start_line, chunk.end_line)

        assert found is not None
        if collapse("\n".join(split_lines(text)[chunk.start_line - 1 : chunk.end_line])) == snippet:
            assert (found.start_line, found.exact) == (max(1, chunk.start_line), True)
