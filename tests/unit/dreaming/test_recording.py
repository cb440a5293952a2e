"""What a search adds to what is known of a passage."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from reverie.dreaming.entry import RecallEntry, entry_key, query_hash
from reverie.dreaming.recording import (
    Signal,
    claim_hash,
    counts_for_nothing,
    day_of,
    eligible,
    is_short_term,
    keys_of,
    newer_of,
    no_tags,
    with_signal,
)
from reverie.types import SearchHit

NOTE = "memory/2026-04-01.md"
HIT = SearchHit("memory", NOTE, 3, 4, "The kiln  is\nserviced in May.", 0.75)
ASKED = Signal("recall", "Kiln?", 1_000, "2026-04-02")


def recalled(entry: RecallEntry | None, signal: Signal = ASKED, hit: SearchHit = HIT) -> RecallEntry:
    changed = with_signal(entry, hit, signal, no_tags)
    assert changed is not None
    return changed


@pytest.mark.parametrize(
    "path",
    [
        "memory/2026-04-01.md",
        "2026-04-01.md",
        "./memory/2026-04-01.md",
        "memory\\2026-04-01.md",
        "team/memory/2026-04-01.md",
        "memory/.dreams/session-corpus/2026-04-01.txt",
        "memory/.dreams/session-corpus/2026-04-01.md",
        "memory/2026/04/2026-04-01.md",
        "memory/my notes/2026-04-01.md",
        "memory/ημερολόγιο/2026-04-01.md",
        "memory/2026-04-01-kiln-day.md",
        "2026-04-01-kiln.md",
        "sessions/01a1fca1882a-bccd8d57",
    ],
)
def test_daily_notes_and_conversations_count(path: str) -> None:
    """Also in folders, with a name behind the day, and however the path is spelt."""
    assert is_short_term(path)


@pytest.mark.parametrize(
    "path",
    [
        "MEMORY.md",
        "memory/MEMORY.md",
        "notes/2026-04-01.md",
        "memory/network.md",
        "memory/2026-04-01.txt",
        "memory/2026-04-01.md.bak",
        "memory/dreaming/2026-04-01.md",
        "memory/dreaming/light/2026-04-01.md",
        "team/memory/dreaming/2026-04-01.md",
        "memory/.dreams/2026-04-01.md",
        "sessions/2026/04",
        "memory/sessions/2026",
        "",
    ],
)
def test_nothing_else_counts(path: str) -> None:
    """Not lasting memory, not notes on a subject, and above all not what dreaming wrote."""
    assert not is_short_term(path)


def test_only_short_term_memory_is_eligible_and_each_passage_once() -> None:
    """A note and a conversation are told apart; a passage that was found in pieces counts with its best score."""
    said = replace(HIT, source="sessions", path="sessions/01a1-b2")
    better = replace(HIT, path=f"./{NOTE}", score=0.9)
    misplaced = [replace(HIT, source="sessions"), replace(said, source="memory")]

    assert eligible([*misplaced, HIT, replace(HIT, path="MEMORY.md"), better, replace(HIT, score=0.1), said]) == [
        better,
        said,
    ]


def test_a_first_recall() -> None:
    """Count, scores, times, query, day and the text on one line."""
    assert recalled(None) == RecallEntry(
        key=f"memory:{NOTE}:3:4",
        path=NOTE,
        start_line=3,
        end_line=4,
        snippet="The kiln is serviced in May.",
        recall_count=1,
        total_score=0.75,
        max_score=0.75,
        first_recalled_at_ms=1_000,
        last_recalled_at_ms=1_000,
        queries=(query_hash("kiln?"),),
        user_queries=(query_hash("kiln?"),),
        days=("2026-04-02",),
    )


def test_kinds_of_evidence_are_kept_apart() -> None:
    """What our own passes count is no recall, and their queries are nobody's."""
    entry = recalled(None, Signal("daily", "__dreaming_daily__:2026-04-01", 1, "2026-04-01"))
    entry = recalled(entry, Signal("grounded", "__dreaming_grounded_backfill__", 2, "2026-04-02"))
    entry = recalled(entry)

    assert (entry.recall_count, entry.daily_count, entry.grounded_count, entry.signals) == (1, 1, 1, 3)
    assert (len(entry.queries), entry.user_queries) == (3, (query_hash("Kiln?"),))


def test_a_recall_merges() -> None:
    """Scores add up within 0 and 1 each, the same query counts once, days stay in order, the newest text stands."""
    entry = recalled(None)
    entry = recalled(entry, Signal("recall", " KILN? ", 3_000, "2026-04-01"), replace(HIT, score=1.5, text="New."))
    entry = recalled(entry, Signal("recall", "May?", 2_000, "2026-04-02"), replace(HIT, score=-1, text=" "))

    assert (entry.recall_count, entry.total_score, entry.max_score) == (3, 1.75, 1.0)
    assert (entry.queries, entry.days) == ((query_hash("kiln?"), query_hash("may?")), ("2026-04-01", "2026-04-02"))
    assert (entry.snippet, entry.first_recalled_at_ms, entry.last_recalled_at_ms) == ("New.", 1_000, 3_000)


def test_the_newest_queries_and_days_are_kept() -> None:
    """32 queries and 16 days; a snippet has at most 800 characters."""
    entry: RecallEntry | None = None
    for number in range(40):
        asked = Signal("recall", f"q{number}", number, f"2026-{1 + number // 28:02}-{1 + number % 28:02}")
        entry = recalled(entry, asked, replace(HIT, text="x" * 2_000))

    assert entry is not None
    assert (len(entry.queries), entry.queries[-1], entry.queries[0]) == (32, query_hash("q39"), query_hash("q8"))
    assert (len(entry.days), entry.days[-1], len(entry.snippet)) == (16, "2026-02-12", 800)


def test_a_pass_of_ours_counts_once_a_day() -> None:
    """The same query on the same day changes nothing at all; another day or query does."""
    passed = Signal("daily", "__dreaming_daily__:2026-04-01", 1, "2026-04-01")
    entry = recalled(None, passed)

    assert with_signal(entry, HIT, replace(passed, at_ms=9_999), no_tags, once_a_day=True) is None
    assert with_signal(entry, HIT, replace(passed, day="2026-04-02"), no_tags, once_a_day=True) is not None


def test_concepts_follow_the_text() -> None:
    """They are sought for a new text; where none are found, those from before stay."""
    first = with_signal(None, HIT, ASKED, lambda _path, text: tuple(text.lower().split())[:2])
    assert first is not None
    again = with_signal(first, replace(HIT, text="Other."), ASKED, no_tags)

    assert first.tags == ("the", "kiln")
    assert again is not None
    assert (again.snippet, again.tags) == ("Other.", first.tags)


def test_what_is_no_search_counts_for_nothing() -> None:
    """No words, or somebody who asks in the words of our own passes; an empty passage is not kept."""
    assert counts_for_nothing(replace(ASKED, query=" \n"))
    assert counts_for_nothing(replace(ASKED, query=" __dreaming_daily__:2026-04-01"))
    assert not counts_for_nothing(Signal("daily", "__dreaming_daily__:2026-04-01", 1, "2026-04-01"))
    assert with_signal(None, replace(HIT, text=" \n"), ASKED, no_tags) is None


def test_a_claim_is_named_by_its_whole_text() -> None:
    """The key by what is said differs when only the end of a long text does."""
    long, longer = (replace(HIT, text="x" * 2_000 + end) for end in ("", "!"))

    assert keys_of(long)[0] == entry_key(NOTE, 3, 4, claim_hash("x" * 2_000))
    assert keys_of(long)[0] != keys_of(longer)[0]
    assert keys_of(long)[1] == keys_of(longer)[1] == f"memory:{NOTE}:3:4"


def test_a_day_is_the_users() -> None:
    """23:30 UTC, and 06:30 UTC of the next day, are both the first of April in Los Angeles."""
    zone = ZoneInfo("America/Los_Angeles")
    assert [day_of(at, zone) for at in (1_775_086_200_000, 1_775_111_400_000)] == ["2026-04-01", "2026-04-01"]


def test_of_two_states_the_newer_stands() -> None:
    """Promoted once is promoted, and reinforcements are not lost."""
    old = replace(recalled(None), promoted_at_ms=5, light_hits=2, light_at_ms=7)
    new = recalled(recalled(None), replace(ASKED, at_ms=2_000))

    for merged in (newer_of(old, new), newer_of(new, old)):
        assert merged == replace(new, promoted_at_ms=5, light_hits=2, light_at_ms=7)
    assert newer_of(None, old) == old


@pytest.mark.parametrize("text", ["[cron:26fb656d nightly] check the mail", "When is the service due?", "HEARTBEAT_OK"])
def test_what_is_never_a_memory_is_not_recorded(text: str) -> None:
    """Neither as a new passage nor as what a known one says now."""
    hit = replace(HIT, text=text)

    assert with_signal(None, hit, ASKED, no_tags) is None
    assert with_signal(recalled(None), hit, ASKED, no_tags) is None
