"""What a pass makes of a note and of a message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reverie.dreaming.entry import RecallEntry, query_hash
from reverie.dreaming.noticing import (
    Message,
    NoteChange,
    Noticed,
    look_at_message,
    look_at_note,
    noticed_message,
    noticed_note,
    shares,
)
from reverie.dreaming.recording import Signal, claim_hash
from reverie.types import Provenance, SearchHit

NOTE = "memory/2026-04-05.md"
DAY = Signal("daily", "__dreaming_daily__:2026-04-05", 1_000, "2026-04-05")
LATER = replace(DAY, at_ms=2_000)


def tags(path: str, text: str) -> tuple[str, ...]:
    return ("kiln",)


def noticed(line: int, text: str, end: int | None = None) -> Noticed:
    return Noticed(SearchHit("memory", NOTE, line, end or line, text, 0.62), ("kiln",), f"Kiln: {text}")


def counted(line: int, text: str, **more: object) -> RecallEntry:
    """An entry as a pass makes it."""
    entry = RecallEntry(
        f"memory:{NOTE}:{line}:{line}", NOTE, line, line, text, daily_count=1, total_score=0.62, max_score=0.62,
        first_recalled_at_ms=1_000, last_recalled_at_ms=1_000, queries=(query_hash(DAY.query),), days=("2026-04-05",),
        tags=("kiln",),
    )  # fmt: skip
    return replace(entry, **more)  # pyright: ignore[reportArgumentType]


def test_a_new_note_is_counted_passage_by_passage() -> None:
    """Each is an entry under its lines, with a signal of our own and no recall."""
    change = noticed_note([], [noticed(3, "The kiln is serviced in May."), noticed(5, "Petra has the keys.")], DAY, 20)

    first, second = counted(3, "The kiln is serviced in May."), counted(5, "Petra has the keys.")
    assert change == NoteChange((first, second), (), 2)
    assert (first.recall_count, first.user_queries) == (0, ())


def test_a_passage_that_was_counted_changes_nothing() -> None:
    """Neither count nor score nor time, however often the note is read."""
    known = [counted(3, "The kiln is serviced in May.")]

    assert noticed_note(known, [noticed(3, "The kiln is serviced in May.")], LATER, 20) == NoteChange((), (), 0)


def test_an_edit_above_a_passage_moves_it() -> None:
    """It is the same evidence under the name of its new lines; only what was added counts."""
    known = [counted(3, "The kiln is serviced in May."), counted(4, "Petra has the keys.")]
    now = [noticed(3, "A line above."), noticed(4, "The kiln is serviced in May."), noticed(5, "Petra has the keys.")]
    change = noticed_note(known, now, LATER, 20)

    new = counted(3, "A line above.", first_recalled_at_ms=2_000, last_recalled_at_ms=2_000)
    moved = (counted(4, "The kiln is serviced in May."), counted(5, "Petra has the keys."))
    assert change == NoteChange((new, *moved), (), 1)


def test_a_name_that_nothing_bears_any_more_goes() -> None:
    """Where an entry moved from and nothing else stands now."""
    change = noticed_note([counted(3, "The kiln is serviced.")], [noticed(9, "The kiln is serviced.")], LATER, 20)

    assert change == NoteChange((counted(9, "The kiln is serviced."),), (f"memory:{NOTE}:3:3",), 0)


def test_other_words_take_the_place_of_what_was_only_noticed() -> None:
    """A line that was rewritten is a new passage; what only a pass had seen there is no evidence any more."""
    change = noticed_note([counted(3, "Petra has the keys.")], [noticed(3, "Juan has the keys now.")], LATER, 20)

    assert [(entry.key, entry.snippet, entry.daily_count) for entry in change.put] == [
        (f"memory:{NOTE}:3:3", "Juan has the keys now.", 1)
    ]


@pytest.mark.parametrize("kept", [{"recall_count": 1}, {"grounded_count": 1}, {"promoted_at_ms": 5}])
def test_what_was_recalled_keeps_its_name(kept: dict[str, int]) -> None:
    """Other words on its lines get a name of their own, by what they say."""
    known = counted(3, "Petra has the keys.", **kept)
    change = noticed_note([known], [noticed(3, "Juan has the keys now.")], LATER, 20)

    claim = claim_hash("Juan has the keys now.")
    assert [(entry.key, entry.claim_hash) for entry in change.put] == [(f"memory:{NOTE}:3:3:{claim}", claim)]
    assert change.gone == ()


def test_what_is_lasting_memory_keeps_its_name_wherever_it_moves() -> None:
    """MEMORY.md names it by that."""
    known = counted(3, "Petra has the keys.", promoted_at_ms=5)

    assert noticed_note([known], [noticed(4, "Petra has the keys.")], LATER, 20) == NoteChange((), (), 0)


def test_a_passage_of_openclaw_is_known_by_how_it_reads() -> None:
    """Its passes kept a passage with its heading: it is not counted a second time."""
    known = counted(3, "Kiln: The kiln is serviced in May.")

    assert noticed_note([known], [noticed(3, "The kiln is serviced in May.")], LATER, 20) == NoteChange((), (), 0)


def test_the_same_words_twice_are_two_passages() -> None:
    """Each entry is taken by the nearest one."""
    known = [counted(3, "Watered the garden."), counted(9, "Watered the garden.")]
    now = [noticed(4, "Watered the garden."), noticed(10, "Watered the garden.")]

    assert [entry.start_line for entry in noticed_note(known, now, LATER, 20).put] == [4, 10]


def test_a_share_ends_and_says_where_to_go_on() -> None:
    """What is known already does not use it up."""
    known = [counted(1, "The first line.")]
    now = [noticed(line, text) for line, text in ((1, "The first line."), (2, "The second."), (3, "The third line."))]
    change = noticed_note(known, now, LATER, 1)

    assert ([entry.start_line for entry in change.put], change.counted, change.next_line) == ([2], 1, 3)


def test_a_recalled_passage_is_counted_as_one() -> None:
    """A pass adds its signal to what a recall of the same lines left."""
    known = counted(3, "The kiln is serviced.", daily_count=0, recall_count=2, queries=("q",), user_queries=("q",))
    (entry,) = noticed_note([known], [noticed(3, "The kiln is serviced.")], DAY, 20).put

    assert (entry.recall_count, entry.daily_count, entry.user_queries) == (2, 1, ("q",))
    assert entry.queries == ("q", query_hash(DAY.query))


def test_a_note_is_looked_at_as_far_as_it_is_to_be_trusted() -> None:
    """Of a passage the least trusted line decides; strangers, the system and junk are passed over."""
    text = (
        "My own words here.\n\nWords of the agent.\n\nWords of a stranger.\n\n"
        "- mine again\n- not mine at all\n\n/help me please\n"
    )
    origins: list[Provenance] = ["owner"] * 10
    origins[2], origins[4], origins[7] = "agent", "untrusted", "system"
    look = look_at_note(NOTE, text, origins, tags=tags)

    assert [(each.hit.start_line, each.hit.provenance, each.hit.score) for each in look.noticed] == [
        (1, "owner", 0.62),
        (3, "agent", 0.62),
    ]


def test_of_a_huge_note_a_part_is_looked_at() -> None:
    """A thousand passages, and the line where the rest begins."""
    text = "".join(f"Line number {number} of it.\n\n" for number in range(1_200))
    origins: list[Provenance] = ["owner"]
    look = look_at_note(NOTE, text, origins * 2_400, tags=tags)

    assert (len(look.noticed), look.rest_line) == (1_000, 2_001)


@pytest.mark.parametrize(
    ("files", "limit", "expected"), [(1, 100, (400, 400)), (7, 100, (400, 58)), (400, 1, (20, 6)), (0, 0, (20, 20))]
)
def test_shares_of_a_pass(files: int, limit: int, expected: tuple[int, int]) -> None:
    """Four times what is staged, at least 20; of one file an equal part, at least 6."""
    share = shares(files, limit)
    assert (share.total, share.per_file) == expected


SAID = Message(7, "s1", 3, "user", "The spare key is with\n Mrs. Novak.", 1_000, "owner", "agent:main:main", "")


def test_a_message_is_a_passage_on_its_number() -> None:
    """On one line, its secrets hidden, as a line of its conversation."""
    found = look_at_message(replace(SAID, text=f"{SAID.text} password=hunter2hunter2"), tags=tags)

    assert found is not None
    assert (found.hit.path, found.hit.start_line, found.hit.end_line, found.hit.source) == (
        "sessions/s1",
        3,
        3,
        "sessions",
    )
    assert found.hit.text == "The spare key is with Mrs. Novak. password=***"
    assert found.hit.score == 0.58


@pytest.mark.parametrize(
    "message",
    [
        replace(SAID, text="Too short."),
        replace(SAID, text="What time is the roaster serviced?"),
        replace(SAID, provenance="untrusted"),
        replace(SAID, provenance="system"),
        replace(SAID, text="HEARTBEAT_OK and nothing else to say"),
    ],
)
def test_what_is_no_memory_is_passed_over(message: Message) -> None:
    """Short messages, bare questions, strangers, the system, wrappers."""
    assert look_at_message(message, tags=tags) is None


def test_a_long_message_is_its_beginning() -> None:
    """At most 280 characters."""
    found = look_at_message(replace(SAID, text="word " * 400), tags=tags)

    assert found is not None
    assert len(found.hit.text) <= 280


def test_what_a_recall_quoted_of_a_message_stays() -> None:
    """A pass adds a signal, and does not cut what is known."""
    found = look_at_message(SAID, tags=tags)
    assert found is not None
    signal = Signal("daily", "__dreaming_sessions__:2026-04-05", 2_000, "2026-04-05")
    known = RecallEntry("memory:sessions/s1:3:3", "sessions/s1", 3, 3, "A longer quotation of it.", recall_count=1)
    entry = noticed_message(known, found, signal)

    assert entry is not None
    assert (entry.snippet, entry.recall_count, entry.daily_count) == ("A longer quotation of it.", 1, 1)
    assert noticed_message(entry, found, replace(signal, at_ms=9_000)) is None
