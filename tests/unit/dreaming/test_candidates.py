"""How passages are weighed, and which gate refuses which."""

from __future__ import annotations

from dataclasses import astuple, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.dreaming.candidates import (
    BOOSTS,
    DAY_MS,
    PRESETS,
    Boosts,
    Counting,
    Options,
    Rules,
    Weights,
    components_of,
    consolidation_of,
    explain,
    phase_boost,
    rank,
    rules_of,
)
from reverie.dreaming.entry import RecallEntry, entry_key, query_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.types import Provenance

NOW_MS = 1_776_000_000_000
FIRST = date(2026, 4, 1)


def days(*offsets: int) -> tuple[str, ...]:
    return tuple((FIRST + timedelta(offset)).isoformat() for offset in offsets)


def entry(
    recalls: int = 3,
    average: float = 0.9,
    queries: int = 3,
    on: Sequence[int] = (0, 1, 3),
    tags: int = 6,
    age_days: float = 0,
    *,
    line: int = 3,
    daily: int = 0,
) -> RecallEntry:
    """A passage recalled so often, by so many questions, on such days."""
    path = "memory/2026-04-01.md"
    hashes = tuple(query_hash(f"question {number}") for number in range(queries))
    return RecallEntry(
        entry_key(path, line, line), path, line, line, "The roaster is serviced in March.",
        recall_count=recalls, daily_count=daily, total_score=average * (recalls + daily), max_score=average,
        last_recalled_at_ms=NOW_MS - round(age_days * DAY_MS), queries=hashes, user_queries=hashes if recalls else (),
        days=days(*on), tags=tuple(f"tag{number}" for number in range(tags)),
    )  # fmt: skip


INGESTED = replace(
    entry(0, 0.62, 3, (0, 1, 2), 5, daily=3),
    light_hits=3, light_at_ms=NOW_MS, rem_hits=3, rem_at_ms=NOW_MS,
)  # fmt: skip
"""Read by our own passes on three days and never asked for: the case of junk that promotes itself by repetition."""
ANY = Rules(score_min=0, recalls_min=0, queries_min=0)


def score(one: RecallEntry, rules: Rules = ANY) -> float:
    return explain(one, rules, NOW_MS).candidate.score


def refusing(one: RecallEntry, rules: Rules | None = None) -> str | None:
    """The gate that refuses an entry, or None."""
    rejected = rank([one], rules or Rules(), NOW_MS).rejected
    return rejected[0].gate if rejected else None


@pytest.mark.parametrize(
    ("one", "parts", "total"),
    [
        (entry(1, 0.96, 1, [0], 5), (0.289065, 0.96, 0.2, 1, 0.2, 0.833333), 0.607376),
        (entry(2, 0.90, 2, [0], 6), (0.458157, 0.90, 0.4, 1, 0.2, 1), 0.669958),
        (entry(3, 0.90, 3, [0], 6), (0.578130, 0.90, 0.6, 1, 0.2, 1), 0.728751),
        (entry(3, 0.90, 3, [0, 1, 3], 6), (0.578130, 0.90, 0.6, 1, 0.568291, 1), 0.765580),
        (entry(5, 0.85, 4, [0, 2, 4], 6, 1), (0.747222, 0.85, 0.8, 0.951695, 0.632576, 1), 0.820345),
        (entry(0, 0.62, 3, [0, 1, 2], 5, daily=3), (0.578130, 0.62, 0.6, 1, 0.504005, 0.833333), 0.665152),
    ],
)
def test_golden_scores(one: RecallEntry, parts: tuple[float, ...], total: float) -> None:
    """Each component and the score are those of the reference, to a millionth."""
    assert components_of(one, ANY, NOW_MS) == pytest.approx(parts, abs=1e-6)
    assert score(one) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize(("counting", "total"), [("strict", 0.757765), ("upstream", 0.772014)])
def test_golden_boosts_of_both_generations(counting: Counting, total: float) -> None:
    """Three fresh hits of light and of REM sleep lift a passage as OpenClaw's do, by either generation's figures."""
    assert score(INGESTED, replace(ANY, counting=counting)) == pytest.approx(total, abs=1e-6)
    assert phase_boost(INGESTED, Boosts(1, 0), NOW_MS) == pytest.approx(0.712414, abs=1e-6)
    assert BOOSTS == {"strict": (0.05, 0.08), "upstream": (0.06, 0.09)}


@pytest.mark.parametrize(
    ("on", "expected"),
    [((), 0), ((0,), 0.2), ((0, 3), 0.429729), ((0, 1), 0.301158), ((0, 7), 0.686872), ((0, 2, 4, 6, 8), 1)],
)
def test_golden_consolidation(on: Sequence[int], expected: float) -> None:
    """Recalls count for more the more days they are spread over, and the wider."""
    assert consolidation_of(days(*on)) == pytest.approx(expected, abs=1e-6)


def test_what_is_no_day_does_not_count_as_one() -> None:
    """A day that cannot be read gives no consolidation, and no error."""
    assert consolidation_of(["soon", "2026-04-01", "2026-02-31"]) == 0.2


@pytest.mark.parametrize(("half_life", "expected"), [(14, 0.5), (7, 0.25), (0, 1), (-1, 1)])
def test_recency_halves(half_life: float, expected: float) -> None:
    """After 14 days recency is a half, with a half-life of seven a quarter; without one it does not fade."""
    rules = replace(ANY, half_life_days=half_life)

    assert components_of(entry(age_days=14), rules, NOW_MS).recency == pytest.approx(expected)


def test_one_strong_recall_is_not_enough() -> None:
    """By the defaults a passage that was found once is no candidate, however well it fitted."""
    assert rank([entry(1, 0.96, 1, [0], 5)], Rules(), NOW_MS).candidates == ()


def test_recalls_of_one_day_stay_below_the_threshold() -> None:
    """Three good recalls on one day fail by their score, and pass when spread over days."""
    assert refusing(entry(on=[0])) == "score"
    assert refusing(entry(on=[0, 1, 3])) is None


def test_upstream_counting_promotes_by_repetition() -> None:
    """As OpenClaw counts, three passes of its own clear the defaults on the third day, and not before."""
    upstream = Rules(counting="upstream")
    second = replace(INGESTED, daily_count=2, total_score=1.24, days=days(0, 1), queries=INGESTED.queries[:2])

    assert refusing(second, upstream) == "recalls"
    found = rank([INGESTED], upstream, NOW_MS).candidates[0]
    assert (found.entry.recall_count, found.entry.daily_count) == (0, 3)
    assert found.score >= 0.75


def test_repetition_alone_is_refused() -> None:
    """The same passage fails by our counting because nobody asked for it, and the explanation names the gate."""
    assert refusing(INGESTED) == "recalls"
    failed = [check for check in explain(INGESTED, Rules(), NOW_MS).checks if not check.passed]
    assert [(check.gate, check.has, check.needs) for check in failed] == [
        ("recalls", 0, 3), ("queries", 0, 2), ("ingested", 0, 1),
    ]  # fmt: skip


def test_what_nobody_asked_for_is_refused_whatever_is_asked_of_it() -> None:
    """With every minimum at 0 a passage that only our own passes saw is still no candidate."""
    assert refusing(INGESTED, ANY) == "ingested"
    assert refusing(replace(INGESTED, grounded_count=1), ANY) is None


def test_days_do_not_stand_in_for_questions() -> None:
    """One question on three days, or questions of our own passes, are not two questions."""
    one = entry(queries=1, average=1)
    internal = replace(entry(average=1), user_queries=entry().user_queries[:1])

    assert refusing(one) == "queries"
    assert refusing(internal) == "queries"
    assert refusing(one, Rules(counting="upstream", score_min=0)) is None


def test_days_and_signals_have_gates_of_their_own() -> None:
    """Distinct days and signals of all kinds can be asked for, each by its name."""
    assert refusing(entry(on=[0, 1]), replace(ANY, days_min=3)) == "days"
    assert refusing(entry(), replace(ANY, signals_min=4)) == "signals"
    assert refusing(entry(0, daily=0)) == "signals"


@pytest.mark.parametrize("provenance", ["untrusted", "system", "unknown", ""])
@pytest.mark.parametrize("counting", get_args(Counting))
def test_what_cannot_be_trusted_is_never_promoted(provenance: Provenance, counting: Counting) -> None:
    """Text of strangers, of the system and of an origin nobody knows is refused, however often it was recalled."""
    often = replace(entry(99, 1, 32, range(16), 8), provenance=provenance)

    assert refusing(often, Rules(counting=counting)) == "provenance"
    assert refusing(replace(often, provenance="agent"), Rules(counting=counting)) is None


def test_a_day_of_transcripts_is_a_source_only_as_openclaw_counts() -> None:
    """What was said in them may be anybody's words, so strictly it is refused."""
    corpus = replace(entry(), path="memory/.dreams/session-corpus/2026-04-01.txt", provenance="untrusted")

    assert refusing(corpus) == "provenance"
    assert refusing(corpus, Rules(counting="upstream")) is None


def test_reinforcement_lifts_one_of_two_equals_and_fades() -> None:
    """Light and REM sleep put a passage before its equal, and fresh reinforcement before that of two months ago."""
    plain, old, fresh = entry(line=1), entry(line=2), entry(line=3)
    old = replace(old, light_hits=1, light_at_ms=NOW_MS - 60 * DAY_MS, rem_hits=1, rem_at_ms=NOW_MS - 60 * DAY_MS)
    fresh = replace(fresh, light_hits=1, light_at_ms=NOW_MS, rem_hits=1, rem_at_ms=NOW_MS)

    assert [found.entry for found in rank([plain, old, fresh], ANY, NOW_MS).candidates] == [fresh, old, plain]
    assert phase_boost(replace(fresh, light_at_ms=None, rem_at_ms=None), BOOSTS["strict"], NOW_MS) == 0


def test_old_recalls_can_be_refused() -> None:
    """A passage that was last recalled before the allowed age is no candidate; its age is told in days."""
    rejected = rank([entry(average=1, age_days=31)], Rules(score_min=0, age_days_max=30), NOW_MS).rejected

    assert [(one.gate, one.has, one.needs) for one in rejected] == [("age", 31, 30)]
    assert explain(entry(age_days=900), ANY, NOW_MS).passed


def test_what_was_promoted_is_not_promoted_again() -> None:
    """It is refused, unless it is asked to be shown as well."""
    promoted = replace(entry(), promoted_at_ms=NOW_MS)

    assert refusing(promoted) == "promoted"
    assert refusing(promoted, Rules(include_promoted=True)) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("memory/2026-04-01.md", True), ("2026-04-01.md", True), ("memory/.dreams/session-corpus/2026-04-01.txt", True),
        ("memory/2026-04-01-beans.md", True), ("memory/a b/ö/2026-04-01.md", True),
        ("notes/2026-04-01.md", False), ("MEMORY.md", False), ("memory/network.md", False), ("", False),
        ("memory/dreaming/2026-04-01.md", False), ("x/memory/dreaming/deep/2026-04-01.md", False),
    ],
)  # fmt: skip
def test_only_daily_notes_are_candidates(path: str, *, expected: bool) -> None:
    """Curated files, other notes and what dreaming wrote itself are no source."""
    assert (refusing(replace(entry(), path=path)) is None) == expected


@pytest.mark.parametrize("lines", [(0, 1), (3, 2)])
def test_a_place_that_cannot_be_is_no_source(lines: tuple[int, int]) -> None:
    """Lines count from 1, and a passage does not end before it begins."""
    assert refusing(replace(entry(), start_line=lines[0], end_line=lines[1])) == "source"


def test_senseless_options_are_the_defaults() -> None:
    """Negative counts and scores outside 0 to 1 ask for the defaults; 0 asks for nothing, and counts are whole."""
    nan = float("nan")

    assert rules_of(Options(-1, -1, -1, -1, -1, -1, -1)) == Rules()
    assert rules_of(Options(nan, nan, nan, nan, nan, nan, nan)) == Rules()
    assert rules_of(Options(1.01, half_life_days=0), PRESETS["deep"].rules) == PRESETS["deep"].rules
    assert rules_of(Options(0, 0, 2.9, 1, 30, 7, 0)) == Rules(0, 0, 2, 1, 1, 30, 7, 0)


def test_presets_are_those_of_the_reference() -> None:
    """Each mode has its hours and its thresholds; `off` shows what `core` would do."""
    shown = {
        name: (one.cron, one.rules.limit, one.rules.score_min, one.rules.recalls_min, one.rules.queries_min)
        for name, one in PRESETS.items()
    }

    assert shown == {
        "off": ("0 3 * * *", 10, 0.75, 3, 2),
        "core": ("0 3 * * *", 10, 0.75, 3, 2),
        "deep": ("0 */12 * * *", 10, 0.80, 3, 3),
        "rem": ("0 */6 * * *", 10, 0.85, 4, 3),
    }
    assert astuple(Rules())[:3] == (0.75, 3, 2)


def test_weights_of_ones_own_are_brought_to_one() -> None:
    """Negative weights count nothing, the others by their share; without any the defaults do."""
    assert Weights(1, 3, -5, 0, 0, 0).normalised() == (0.25, 0.75, 0, 0, 0, 0)
    assert Weights(0, 0, -1, 0, 0, 0).normalised() == Weights()
    assert Weights().normalised() == pytest.approx(Weights())
    assert score(entry(), replace(ANY, weights=Weights(0, 1, 0, 0, 0, 0))) == pytest.approx(0.9)


def test_the_threshold_is_held_against_the_whole_sum() -> None:
    """A boosted passage may sum to more than 1, which is what the gate sees; what is told is 1."""
    best = replace(entry(20, 1, 8, range(0, 16, 2), 8), light_hits=9, light_at_ms=NOW_MS, rem_hits=9, rem_at_ms=NOW_MS)
    found = explain(best, replace(ANY, score_min=1), NOW_MS)

    assert found.passed
    assert found.candidate.score == 1
    assert found.checks[-1].has == pytest.approx(1.13)


def test_upstream_counting_consolidates_what_is_grounded() -> None:
    """There, three pieces of grounded evidence stand for recalls on several days."""
    grounded = replace(entry(on=[0]), grounded_count=3)

    assert components_of(grounded, Rules(counting="upstream"), NOW_MS).consolidation == 1
    assert components_of(grounded, Rules(), NOW_MS).consolidation == 0.2


def test_candidates_are_sorted_and_cut() -> None:
    """Best first, then more recalls, then the path; what is good enough and beyond the limit waits."""
    good, better = entry(), entry(average=1, line=9)
    other = replace(good, key="other", path="memory/2026-03-01.md")
    ranking = rank([good, better, other, INGESTED], Rules(limit=2), NOW_MS)

    assert [found.entry for found in ranking.candidates] == [better, other]
    assert ranking.counts() == {"recalls": 1, "limit": 1}
    assert rank([good], Rules(limit=0), NOW_MS).candidates == ()


entries = st.builds(
    entry,
    recalls=st.integers(0, 9_999), average=st.floats(0, 1), queries=st.integers(0, 32),
    on=st.lists(st.integers(0, 90), max_size=16), tags=st.integers(0, 8), age_days=st.floats(-1, 4_000),
    line=st.integers(1, 5), daily=st.integers(0, 50),
)  # fmt: skip


@given(entries, st.integers(0, 9_999), st.integers(0, 9_999), st.sampled_from(get_args(Counting)))
def test_scores_and_parts_are_between_0_and_1(one: RecallEntry, light: int, rem: int, counting: Counting) -> None:
    """Whatever is known of a passage."""
    one = replace(one, light_hits=light, light_at_ms=NOW_MS, rem_hits=rem, rem_at_ms=NOW_MS)
    found = explain(one, Rules(counting=counting), NOW_MS).candidate

    assert all(0 <= value <= 1 for value in (found.score, found.boost, *found.components))


@given(entries, st.integers(1, 100))
def test_more_recalls_never_lower_a_score(one: RecallEntry, more: int) -> None:
    """As good ones as those before them."""
    again = one.signals + more
    average = one.total_score / one.signals if one.signals else 0.5
    recalled = replace(one, recall_count=one.recall_count + more, total_score=average * again)

    assert score(recalled) >= score(one) - 1e-9


@given(st.lists(entries, max_size=8, unique_by=lambda one: one.start_line))
def test_the_order_is_total(some: list[RecallEntry]) -> None:
    """The same passages in another order are ranked alike, and `explain` says of each what `rank` decided."""
    ranking = rank(some, Rules(0.5, 1, 1), NOW_MS)

    assert rank(some[::-1], Rules(0.5, 1, 1), NOW_MS).candidates == ranking.candidates
    assert {found.entry.key for found in ranking.candidates} == {
        one.key for one in some if explain(one, Rules(0.5, 1, 1), NOW_MS).passed
    }


def test_what_is_never_a_memory_is_refused_by_its_content() -> None:
    """A recall store brought along may hold what is not recorded here; only as OpenClaw counts some of it passes."""
    asked = replace(entry(), snippet="When is the service due?")
    echo = replace(
        entry(line=4), snippet="The service. <!-- openclaw-memory-promotion:memory:memory/2026-04-01.md:3:3 -->"
    )

    assert [(each.gate, each.has, each.needs) for each in rank([asked, echo], Rules(), NOW_MS).rejected] == [
        ("content", 0, 1), ("content", 0, 1),
    ]  # fmt: skip
    assert [check.gate for check in explain(asked, Rules(), NOW_MS).checks if not check.passed] == ["content"]
    upstream = rank([asked, echo], Rules(counting="upstream"), NOW_MS)
    assert [each.entry.snippet for each in upstream.candidates] == [asked.snippet]
