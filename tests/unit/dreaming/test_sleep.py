"""Light and REM sleep: what is staged, which themes come back, what may be lasting."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from reverie.dreaming.candidates import DAY_MS
from reverie.dreaming.entry import RecallEntry, entry_key
from reverie.dreaming.light import Staging, freshest, stage
from reverie.dreaming.rem import Recollection, Reflection, Theme, confidence_of, reflect, strength_of
from reverie.dreaming.similarity import jaccard, joined, without_near_duplicates, words_of
from reverie.dreaming.window import Window

NOW = 1_775_440_800_000  # 2026-04-06 02:00 UTC
WINDOW = Window.of(NOW, 2, UTC)
KILN = "The kiln is serviced in May by Petra and Juan, on a Monday."
BACKUP = "备份每天凌晨三点写入冰川存储并保留三百六十五天然后删除旧的"
BACKUP_JA = "バックアップは毎晩三時にグレイシャーへ移される予定です"


def entry(line: int, text: str = "", *, day: int = 6, at: int = NOW, **more: object) -> RecallEntry:
    """A passage of the note of a day of April, recalled at an instant."""
    path = f"memory/2026-04-{day:02}.md"
    found = RecallEntry(
        entry_key(path, line, line), path, line, line, text or f"Passage number {line} says something of its own.",
        recall_count=1, total_score=0.8, max_score=0.8, first_recalled_at_ms=at, last_recalled_at_ms=at,
        days=(f"2026-04-{day:02}",),
    )  # fmt: skip
    return replace(found, **more)  # pyright: ignore[reportArgumentType]


def lines(found: tuple[RecallEntry, ...] | list[RecallEntry]) -> list[int]:
    return [each.start_line for each in found]


# -- alike -----------------------------------------------------------------------------------------------------------


def test_words_are_those_of_the_analyser() -> None:
    """Without case; of scripts without spaces characters and pairs."""
    assert words_of("The KILN, the kiln!") == {"the", "kiln"}
    assert words_of("路由器") == {"路", "由", "器", "路由", "由器"}
    assert jaccard(frozenset("abc"), frozenset("bcd")) == 0.5
    assert jaccard(frozenset(), frozenset()) == 0.0


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (KILN, "the kiln is serviced in May, by Petra and Juan on a monday", True),
        (BACKUP, f"{BACKUP}。", True),
        (BACKUP_JA, f"{BACKUP_JA}!", True),
        ("备份每天凌晨三点写入冰川存储", "路由器每周重新启动一次", False),
        ("The kiln is serviced in May.", "The kiln is serviced in June by somebody else entirely.", False),
        ("!!!", "???", False),
        ("!!!", "!!!", True),
    ],
)  # fmt: skip
def test_near_duplicates_of_any_script(one: str, other: str, alike: bool) -> None:  # noqa: FBT001 (a case of the table)
    """Nearly the same words are the same passage, Chinese and Japanese ones too."""
    found = without_near_duplicates([entry(1, one), entry(2, other)], 0.9, within_path=True)

    assert (len(found) == 1) is alike


def test_passages_of_different_notes_are_compared_only_if_asked() -> None:
    """Light sleep compares within a note, REM sleep all."""
    pair = [entry(1, "The kiln is serviced.", day=5), entry(1, "The kiln is serviced.", day=6)]

    assert len(without_near_duplicates(pair, 0.9, within_path=True)) == 2
    assert len(without_near_duplicates(pair, 0.9, within_path=False)) == 1


def test_evidence_of_duplicates_is_joined_and_not_added() -> None:
    """The higher counts and scores, all days, queries and concepts."""
    one = entry(1, recall_count=3, daily_count=0, total_score=2.4, queries=("a",), user_queries=("a",), tags=("kiln",))
    other = entry(
        9, day=5, at=NOW - 5, recall_count=1, daily_count=2, grounded_count=1, total_score=3.0, max_score=0.9,
        queries=("b", "a"), user_queries=("b",), tags=("may",),
    )  # fmt: skip

    assert joined(one, other) == replace(
        one, daily_count=2, grounded_count=1, total_score=3.0, max_score=0.9, first_recalled_at_ms=NOW - 5,
        queries=("a", "b"), user_queries=("a", "b"), days=("2026-04-05", "2026-04-06"), tags=("kiln", "may"),
    )  # fmt: skip


# -- light -----------------------------------------------------------------------------------------------------------


def test_the_look_back_counts_instants_and_days() -> None:
    """Recalled within it, or on one of its days, in the zone whose days count."""
    old = NOW - 3 * DAY_MS
    assert Window(NOW - 2 * DAY_MS, "2026-04-04") == WINDOW
    assert WINDOW.holds(entry(1, day=3, at=NOW - 2 * DAY_MS))
    assert WINDOW.holds(entry(1, day=4, at=old))
    assert not WINDOW.holds(entry(1, day=3, at=old))
    assert Window.of(NOW, 2, ZoneInfo("America/Los_Angeles")).since_day == "2026-04-03"


def test_the_freshest_are_held_page_by_page() -> None:
    """Recalled last first, of these those recalled most often; never more than the limit."""
    first = [entry(1, at=NOW - 5), entry(2, at=NOW - 1), entry(3, at=NOW - 3, recall_count=1)]
    second = [entry(4, at=NOW - 3, recall_count=9), entry(5, at=NOW - 9)]
    held = freshest([], first, WINDOW, 3)

    assert lines(freshest(held, second, WINDOW, 3)) == [2, 4, 3]
    assert freshest([], first, WINDOW, 0) == []


def test_what_can_be_no_memory_is_not_staged() -> None:
    """Strangers' text, what dreaming wrote, lasting memory itself, junk, and what is too old."""
    page = [
        entry(1, provenance="untrusted"),
        entry(2, provenance="system"),
        entry(3, path="memory/dreaming/light/2026-04-06.md"),
        entry(4, path="memory/.dreams/session-corpus/2026-04-06.txt", provenance="untrusted"),
        entry(5, path="MEMORY.md"),
        entry(6, path="DREAMS.md"),
        entry(7, "HEARTBEAT_OK"),
        entry(8, day=3, at=NOW - 3 * DAY_MS),
        entry(9),
    ]

    assert lines(freshest([], page, WINDOW, 100)) == [9]


def test_what_rem_sleep_considered_is_not_staged_again() -> None:
    """Until somebody recalls it anew."""
    considered = entry(1, at=NOW - 10, rem_hits=1, rem_at_ms=NOW - 5)
    anew = entry(2, at=NOW - 2, rem_hits=1, rem_at_ms=NOW - 5)

    assert lines(freshest([], [considered, anew], WINDOW, 100)) == [2]


def test_staging_reinforces_what_was_recalled_anew() -> None:
    """A phase that runs again finds the same passages, and counts none of them twice."""
    fresh, known = entry(1, at=NOW - 1), entry(2, at=NOW - 9, light_hits=1, light_at_ms=NOW - 5)

    assert stage([fresh, known], 0.9) == Staging((fresh, known), (fresh.key,))
    assert stage([], 0.9) == Staging()


# -- REM -------------------------------------------------------------------------------------------------------------


def recollection(*pages: list[RecallEntry], days: int = 7) -> Recollection:
    taken = Recollection(Window.of(NOW, days, UTC))
    for page in pages:
        taken.take(page)
    return taken


def test_golden_confidences() -> None:
    """Two recalls of .85 on two days with four concepts; and three days of passes with six, which are no truth."""
    recalled = entry(1, recall_count=2, total_score=1.7, days=("2026-04-05", "2026-04-06"), tags=tuple("abcd"))
    noticed = entry(
        2, recall_count=0, daily_count=3, total_score=1.86, days=("2026-04-04", "2026-04-05", "2026-04-06"),
        tags=tuple("abcdef"),
    )  # fmt: skip

    assert round(confidence_of(recalled), 4) == 0.7236
    assert round(confidence_of(noticed), 2) == 0.30
    assert [each.entry for each in reflect(recollection([recalled, noticed]), strength_min=0.75, limit=10).truths] == [
        recalled
    ]


def test_a_theme_is_a_concept_of_many_passages() -> None:
    """Full strength when half of them share it; by strength, then count, then name; with three places at most."""
    page = [entry(line, at=NOW - line, tags=("kiln", "may") if line <= 3 else ("kiln",)) for line in range(1, 5)]
    page += [entry(line, at=NOW - line, tags=("router",)) for line in range(5, 9)]
    found = reflect(recollection(page[:3], page[3:]), strength_min=0.75, limit=10)

    place = "memory/2026-04-06.md:{0}-{0}".format
    assert found.themes == (
        Theme("kiln", 4, 1.0, tuple(map(place, (1, 2, 3)))),
        Theme("router", 4, 1.0, tuple(map(place, (5, 6, 7)))),
        Theme("may", 3, 0.75, tuple(map(place, (1, 2, 3)))),
    )
    assert (strength_of(3, 8), strength_of(9, 10), strength_of(0, 0)) == (0.75, 1.0, 0.0)
    assert [theme.tag for theme in reflect(recollection(page), strength_min=0.75, limit=1).themes] == ["kiln"]


def strong(line: int, text: str = "", **more: object) -> RecallEntry:
    well = {"recall_count": 4, "total_score": 3.6, "tags": tuple("abcd")}
    return entry(line, text, **{**well, **more})  # pyright: ignore[reportArgumentType]


def test_truths_are_few_distinct_and_sure() -> None:
    """The likeliest first, at most three and at least one; nothing that is lasting memory already."""
    page = [
        strong(1, "The kiln is serviced in May by Petra."),
        strong(2, "The kiln is serviced in May by Petra!", day=5),
        strong(3, promoted_at_ms=5),
        entry(4, recall_count=1, total_score=0.1),
        *(strong(line, recall_count=9, total_score=8.1) for line in range(5, 8)),
    ]
    found = reflect(recollection(page), strength_min=0.75, limit=10)

    assert lines([each.entry for each in found.truths]) == [2, 5, 6]
    assert lines([each.entry for each in reflect(recollection(page[:4]), strength_min=0.75, limit=10).truths]) == [2]
    assert len(reflect(recollection(page), strength_min=0.75, limit=0).truths) == 1


def test_a_truth_is_reinforced_once_for_each_recall() -> None:
    """What nothing recalled since REM sleep considered it is named again, and not counted again."""
    fresh, known = strong(1), strong(2, at=NOW - 9, rem_hits=2, rem_at_ms=NOW - 5)
    found = reflect(recollection([fresh, known]), strength_min=0.75, limit=10)

    assert lines([each.entry for each in found.truths]) == [1, 2]
    assert found.reinforced == (fresh.key,)


def test_nothing_recalled_is_nothing_found() -> None:
    """No themes, no truths, no reinforcement."""
    assert reflect(recollection([]), strength_min=0.75, limit=10) == Reflection()


def test_concepts_are_counted_within_a_bound() -> None:
    """Of very many different ones the rarest are passed over; a theme stays one."""
    page = [entry(line, tags=("kiln", *(f"rare{line}x{number}" for number in range(7)))) for line in range(1, 3_101)]
    taken = recollection(*(page[start : start + 1_000] for start in range(0, len(page), 1_000)))

    assert len(taken.counts) <= 20_000
    assert [theme.tag for theme in reflect(taken, strength_min=0.75, limit=10).themes] == ["kiln"]
