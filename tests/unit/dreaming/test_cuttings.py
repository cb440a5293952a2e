"""What is cut out of Markdown: extracts, paragraphs, items of reports, entries of the diary; and the diffs of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.context.compaction.extract import HEADINGS, harmless
from reverie.dreaming.cuttings import (
    DIFF_LINES_MAX,
    Mentions,
    Stretch,
    deletion_diff,
    diary_lines,
    extract_lines,
    lines_gone,
    paragraph_lines,
    reported_lines,
    same_words,
    without_lines,
)
from reverie.memory.forgetting import Place

NOTE = "memory/2026-04-01.md"
TALK = "sessions/0123abcd"
MARK = "<!-- reverie:compaction 0123456789abcdef -->"
EXTRACT = f"""\
# Wednesday

Mine.

{MARK}
## Conversation agent:main:main, messages 3 to 8

{next(iter(HEADINGS.values()))}:
- the valve is closed

Identifiers: `A1`

Mine too.
"""


def cut(text: str, going: set[int]) -> str:
    return without_lines(text, going)


def test_an_extract_goes_with_its_parts() -> None:
    """Its marker, heading, and paragraphs of its form; what a person wrote around it stays."""
    going = extract_lines(EXTRACT, [Stretch("agent:main:main", 3, 8)])

    assert cut(EXTRACT, going) == "# Wednesday\n\nMine.\n\nMine too.\n"


@pytest.mark.parametrize(
    "stretch", [Stretch("agent:main:other", 3, 8), Stretch("agent:main:main", 4, 8), Stretch("agent:main:main", 3, 7)]
)
def test_another_extract_stays(stretch: Stretch) -> None:
    """One of another conversation, or of more than is meant."""
    assert extract_lines(EXTRACT, [stretch]) == set()


def test_a_heading_without_a_marker_stays() -> None:
    """Somebody wrote it."""
    assert extract_lines(EXTRACT.replace(MARK, ""), [Stretch("agent:main:main", 1, 99)]) == set()
    assert extract_lines(MARK, [Stretch("agent:main:main", 1, 99)]) == set()


def test_a_key_is_compared_as_it_is_written_there() -> None:
    """Comments in it are made harmless there, too."""
    key = "agent:main:<!-- x -->"
    text = EXTRACT.replace("agent:main:main", harmless(key))

    assert extract_lines(text, [Stretch(key, 3, 8)])


def test_paragraphs_go_with_the_empty_lines_before_them() -> None:
    """Those behind them stay, so that what is around them keeps its distance."""
    text = "a\n\n\nb\nc\n\nd\n"

    assert cut(text, paragraph_lines(text, [(4, 5)])) == "a\n\nd\n"
    assert cut(text, paragraph_lines(text, [(1, 1)])) == "\n\nb\nc\n\nd\n"


REPORT = f"""\
## Light Sleep
<!-- openclaw:dreaming:light:start -->
- Candidate: The valve is closed at noon.
  - evidence: {NOTE}:3-4
  - status: staged
- Candidate: The kettle is red.
  - evidence: memory/2026-04-02.md:3-3

A line about the valve is closed at noon, and more.
- Theme: `valve` kept surfacing
  - evidence: {TALK}:7-7, {NOTE}:9-9
<!-- openclaw:dreaming:light:end -->
"""


CITED: list[tuple[list[Place], list[str], set[int]]] = [
    ([Place(NOTE)], [], {3, 4, 5, 10, 11}),
    ([Place(NOTE, frozenset({4}))], [], {3, 4, 5}),
    ([Place(NOTE, frozenset({5, 8}))], [], set()),
    ([Place(TALK, frozenset({7}))], [], {10, 11}),
    ([Place(TALK, frozenset({7})), Place(TALK)], [], {10, 11}),
    ([Place(TALK[:-2]), Place(NOTE[:-5])], [], set()),
    ([], ["The kettle is red."], {6, 7}),
    ([], ["the valve is closed at noon, and more. And still more."], {9}),
    ([], ["is red"], set()),
]


@pytest.mark.parametrize(("places", "passages", "gone"), CITED)
def test_items_of_reports_that_cite_or_quote(places: list[Place], passages: list[str], gone: set[int]) -> None:
    """An item goes with what is indented below it, when it names a place or begins to quote a passage."""
    assert reported_lines(REPORT, Mentions(places, passages)) == gone


DIARY = """\
# Mine

<!-- openclaw:dreaming:diary:start -->
---

*March 31, 2026, 3:00 AM*

A quiet night.

---

*April 1, 2026, 3:00 AM*

I dreamt.

<!-- openclaw:dreaming:diary:end -->

*April 1, 2026*
"""


def test_entries_of_a_day_of_the_diary() -> None:
    """The entry of a day goes; what is outside of the diary's marks, and a file without them, stay."""
    nobody = Mentions([])

    assert diary_lines(DIARY, nobody, frozenset({"2026-04-01"})) == set(range(10, 16))
    assert diary_lines(DIARY, Mentions([], ["A quiet night."]), frozenset()) == set(range(4, 10))
    assert diary_lines(DIARY, nobody, frozenset({"2026-04-02"})) == set()
    assert diary_lines(DIARY.replace("diary:end", "diary:over"), nobody, frozenset({"2026-04-01"})) == set()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("a  b", "x a\nb y", True), ("x a b", "a b", True), ("", "a", False), ("a", "b", False), (" ", " ", False)],
)
def test_the_same_words(one: str, other: str, same: bool) -> None:  # noqa: FBT001 (a parameter of a test)
    """One stands in the other, however it is spaced; nothing stands in nothing."""
    assert same_words(one, other) is same


def test_a_diff_of_what_is_cut() -> None:
    """Each run of changes with three lines around it, and the numbers that a reader of diffs expects."""
    text = "".join(f"{n}\n" for n in range(1, 21))

    first = "@@ -1,5 +1,4 @@\n 1\n-2\n 3\n 4\n 5\n"
    second = "@@ -12,7 +11,6 @@\n 12\n 13\n 14\n-15\n 16\n 17\n 18\n"
    assert deletion_diff("a.md", text, {2, 15}) == f"--- a/a.md\n+++ b/a.md\n{first}{second}"
    assert deletion_diff("a.md", "x\n", {1}).endswith("@@ -1,1 +0,0 @@\n-x\n")
    assert deletion_diff("a.md", text, set()) == ""
    long = deletion_diff("a.md", "x\n" * (DIFF_LINES_MAX + 10), range(1, DIFF_LINES_MAX + 11))
    assert long.endswith("… 13 more lines\n")


@given(st.lists(st.text("ab \r\x85\u2028", max_size=3)), st.sets(st.integers(1, 12)), st.booleans())
def test_everything_that_is_not_cut_stays(lines: list[str], going: set[int], ended: bool) -> None:  # noqa: FBT001 (a test's)
    """Byte for byte, whatever a line holds; and what is gone can be told from the two texts."""
    text = "\n".join(lines) + ("\n" if ended and lines else "")
    kept = without_lines(text, going)
    numbered = list(enumerate(text.split("\n"), 1))

    assert kept.replace("\n", "") == "".join(line for number, line in numbered if number not in going)
    assert without_lines(text, set()) == text


def test_lines_gone() -> None:
    """What one text has that another lacks which was made of it by cutting."""
    text = "a\nb\nc\nb\n"

    assert lines_gone(text, without_lines(text, {2, 3})) == {2, 3} or lines_gone(text, "a\nb\n") == {3, 4}
    assert lines_gone(text, text) == set()
