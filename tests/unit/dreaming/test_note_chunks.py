"""A daily note as a pass looks at it."""

from __future__ import annotations

import pytest

from reverie.dreaming.note_chunks import NoteChunk, managed_lines, note_chunks, shortened, topic_of
from reverie.memory.documents import split_lines

NOTE = """\
# 2026-04-05

## Backups
- Move backups to S3 Glacier.
- Keep retention at 365 days.

## Morning
Petra looked at the roaster
and greased the front bearing.
"""


def pieces(text: str, from_line: int = 1) -> list[tuple[int, int, str]]:
    return [(each.start_line, each.end_line, each.text) for each in note_chunks(text, from_line)]


def test_a_note_is_pieces_with_their_lines() -> None:
    """A list and a paragraph; what stands there is kept as it stands, and reads with its heading on its own."""
    assert list(note_chunks(NOTE)) == [
        NoteChunk(
            4, 5, "- Move backups to S3 Glacier. - Keep retention at 365 days.",
            "Backups: Move backups to S3 Glacier.; Keep retention at 365 days.", "2026-04-05 > Backups",
        ),
        NoteChunk(
            8, 9, "Petra looked at the roaster and greased the front bearing.",
            "Petra looked at the roaster and greased the front bearing.", "2026-04-05 > Morning",
        ),
    ]  # fmt: skip


def test_what_stands_in_the_file_can_be_found_in_it() -> None:
    """A piece is its lines joined by spaces: whoever looks for it in the live file finds it."""
    lines = split_lines(NOTE)

    for each in note_chunks(NOTE):
        assert each.text == " ".join(" ".join(lines[each.start_line - 1 : each.end_line]).split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- one item here\n- two items here\n- three of them\n- four of them\n- and the fifth\n", [(1, 4), (5, 5)]),
        ("- an item of a list\nA paragraph behind it.\n", [(1, 1), (2, 2)]),
        ("- an item that goes\n  on in a second line\n- the next item\n", [(1, 3)]),
        ("A paragraph of text.\n\nAnother paragraph.\n", [(1, 1), (3, 3)]),
        ("A paragraph of text.\n<!-- a comment -->\nAnother paragraph.\n", [(1, 1), (3, 3)]),
        ("A paragraph of text.\n---\nAnother one.\n***\nA third one.\n", [(3, 3), (5, 5)]),
        ("Some words here.\n```sh\nls -la somewhere\n```\nOther words here.\n", [(1, 1), (5, 5)]),
        ("---\ntitle: front matter\n---\nThe text itself.\n", [(4, 4)]),
        ("short\n\n- tiny\n\nlong enough\n", [(5, 5)]),
        ("1. first of them\n2) second of them\n* third of them\n+ fourth of them\n", [(1, 4)]),
        ("\r\nWindows wrote this.\r\nAnd this.\r\n", [(2, 3)]),
        ("", []),
    ],
)
def test_where_pieces_begin_and_end(text: str, expected: list[tuple[int, int]]) -> None:
    """Lists, paragraphs, at most four lines; headings, comments, rules and code end a piece, and code is none."""
    assert [(start, end) for start, end, _ in pieces(text)] == expected


def test_pieces_have_at_most_280_characters() -> None:
    """A line that would make it longer begins the next one; of a longer line the beginning stands for it."""
    line = f"{'word ' * 30}end."
    (one, two) = pieces(f"{line}\n{line}\n")
    (long,) = pieces("word " * 100)
    (unspaced,) = pieces("语" * 400)

    assert [one[:2], two[:2]] == [(1, 1), (2, 2)]
    assert (len(long[2]), long[2][-4:], len(unspaced[2])) == (279, "word", 280)


def test_secrets_are_hidden_before_a_piece_is_cut() -> None:
    """What looks like a key never stands in evidence, not even its first half."""
    key = "sk-" + "a1B2" * 10
    text = f"{'x ' * 125}the key is {key} and more"

    assert [key[:12] in each.text or key[:12] in each.shown for each in note_chunks(text)] == [False]


def test_a_pass_goes_on_at_a_line() -> None:
    """Pieces that begin above it are left out."""
    assert pieces(NOTE, 5) == pieces(NOTE)[1:]


def test_items_can_stand_apart() -> None:
    """Each with its own lines, where every word of an owner is looked at by itself."""
    text = "- first of them\n- second of them\n  which goes on\nA paragraph.\n"

    assert [(each.start_line, each.end_line) for each in note_chunks(text, items_apart=True)] == [
        (1, 1),
        (2, 3),
        (4, 4),
    ]


@pytest.mark.parametrize(
    ("heading", "topic"),
    [
        ("2026-04-05 > Backups", "Backups"),
        ("Kiln > Monday evening", "Kiln"),
        ("Sunday, April 5, 2026 > 09:30", ""),
        ("Tagebuch > Montag, 6. April > Vormittags", ""),
        ("Projekt Ofen > 14 Uhr", "Projekt Ofen"),
        ("2026年4月5日 > 午前", ""),
        ("4월 5일 > 회의", "회의"),
        ("Light Sleep", ""),
        ("", ""),
    ],
)
def test_headings_that_say_when_are_no_topic(heading: str, topic: str) -> None:
    """The nearest one above that says more stands for what a piece is about."""
    assert topic_of(heading) == topic


MANAGED = """\
A line of my own.

## Light Sleep
<!-- openclaw:dreaming:light:start -->
- Candidate: The kiln is serviced in May.
  - status: staged
<!-- openclaw:dreaming:light:end -->

## REM Sleep
<!-- openclaw:dreaming:rem:start -->
### Reflections
- Theme: `kiln` kept surfacing across 3 memories.
### Possible Lasting Truths
- The kiln is serviced in May.
<!-- openclaw:dreaming:rem:end -->

And another line of mine.
"""


def test_blocks_of_sleep_are_passed_over() -> None:
    """What dreaming wrote into a note is not read back, however its block is numbered."""
    assert pieces(MANAGED) == [(1, 1, "A line of my own."), (17, 17, "And another line of mine.")]


def test_a_broken_block_ends_at_the_next_section() -> None:
    """Or at the next block: what a person wrote behind it is read."""
    light = "<!-- openclaw:dreaming:light:start -->"
    broken = f"{light}\n- Candidate: a staged one\n\n## Kiln\nServiced in May by Petra.\n"
    end = "<!-- openclaw:dreaming:light:end -->"
    twice = f"{light}\n- Candidate: a staged one\n{light}\n- Candidate: another\n{end}\nMine again.\n"
    rem = "<!-- openclaw:dreaming:rem:start -->\n### Reflections\n- Theme: something\n## Kiln\nServiced in May.\n"

    assert pieces(broken) == [(5, 5, "Serviced in May by Petra.")]
    assert pieces(twice) == [(6, 6, "Mine again.")]
    assert pieces(rem) == [(5, 5, "Serviced in May.")]
    assert managed_lines(["nothing", f"{light} one line <!-- openclaw:dreaming:light:end -->", "mine"]) == {2}
    assert managed_lines([light, "and no end"]) == {1, 2}


def test_a_text_is_cut_at_a_word() -> None:
    """Where it has words; a text that fits stays."""
    assert shortened("one two three", 9) == "one two"
    assert shortened("one two", 9) == "one two"
    assert shortened("a verylongwordindeed", 10) == "a verylong"
