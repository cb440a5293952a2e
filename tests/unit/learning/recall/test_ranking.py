"""Ranking what was learned: scores to the digit, who is left out, and who is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.learning.recall.ranking import (
    Candidate,
    Ranked,
    Rules,
    Signal,
    above_floors,
    above_threshold,
    by_relevance,
    diverse,
    rank,
    relevance,
    rolled_up,
    without_covered,
    without_own_traces,
    without_repeated,
)
from tests.learning_rows import unit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reverie.learning.recall.channels import Channel

RULES = Rules({"skills": 3, "traces": 5, "worlds": 2})


def near(similarity: float, at: int = 0) -> dict[Channel, Signal]:
    return {"vec_summary": Signal(similarity, at)}


def trace(ref: str, similarity: float = 0.8, **more: Any) -> Candidate:
    facts: dict[str, Any] = {
        "question": f"question {ref}",
        "answer": f"answer {ref}",
        "episode_id": f"ep_{ref}",
        **more,
    }
    return Candidate("trace", ref, facts.pop("signals", near(similarity)), similarity=similarity, **facts)


def refs(ranked: Iterable[Ranked]) -> list[str]:
    return [each.candidate.ref for each in ranked]


def scored(candidate: Candidate, score: float) -> Ranked:
    return Ranked(candidate, score)


# -- relevance -------------------------------------------------------------------------------------------------------


def test_relevance_is_the_best_score_a_boost_and_reciprocal_ranks() -> None:
    """To the digit: 0.8 + 0.3 * 0.5 + 0.4 * (1/61 + 1/64)."""
    signals: dict[Channel, Signal] = {"vec_summary": Signal(0.8, 0), "words": Signal(0.25, 3)}
    found = relevance(trace("a", signals=signals, worth=0.5), RULES)

    assert found.relevance == pytest.approx(0.8 + 0.15 + 0.4 * (1 / 61 + 1 / 64))
    assert found.parts == {"semantic": 0.8, "tier_boost": 0.15, "rrf_boost": 0.0128, "relevance": 0.9628}


@pytest.mark.parametrize(
    ("kind", "worth", "boost"),
    [("skill", 0.8, 0.12), ("trace", 1.0, 0.3), ("episode", 0.5, 0.15), ("trace", -0.5, 0.0), ("policy", 0.5, 0.1),
     ("world", 1.0, 0.0)],
)  # fmt: skip
def test_what_proved_itself_is_boosted(kind: Any, worth: float, boost: float) -> None:
    """A skill by its rate of success, a step by its value, a policy by its best figure, a world model not."""
    found = relevance(Candidate(kind, "a", near(0.5), similarity=0.5, worth=worth), RULES)

    assert found.parts["tier_boost"] == boost


def test_a_policy_is_not_boosted_for_a_personal_fact() -> None:
    """What worked says nothing of who somebody is."""
    found = relevance(Candidate("policy", "a", near(0.5), worth=1.0), Rules({"traces": 5}, personal=True))

    assert found.parts["tier_boost"] == 0.0


def test_the_same_error_counts_by_itself_or_adds_to_a_similarity() -> None:
    """0.9 for a step that only the error finds; 0.08 more, at most 1, for one that is similar too."""
    alone: dict[Channel, Signal] = {"structural": Signal(0.9, 0)}
    both: dict[Channel, Signal] = {"vec_summary": Signal(0.5, 0), "structural": Signal(0.9, 0)}
    sure: dict[Channel, Signal] = {"vec_summary": Signal(0.97, 0), "structural": Signal(0.9, 0)}

    assert relevance(trace("a", 0.1, signals=alone), RULES).parts["semantic"] == 0.9
    assert relevance(trace("a", 0.5, signals=both), RULES).parts["semantic"] == 0.58
    assert relevance(trace("a", 0.97, signals=sure), RULES).parts["semantic"] == 1.0


# -- floors ----------------------------------------------------------------------------------------------------------


def test_a_similarity_counts_from_the_floor_on_and_from_a_share_of_the_best() -> None:
    """0.25 at least, and 0.45 of the best step."""
    kept = above_floors([trace("a", 0.9), trace("b", 0.41), trace("c", 0.4), trace("d", 0.2)], RULES)

    assert [each.ref for each in kept] == ["a", "b"]


def test_what_words_found_too_stays_without_its_weak_similarity() -> None:
    """The signal goes, the step does not."""
    signals: dict[Channel, Signal] = {"vec_summary": Signal(0.1, 5), "words": Signal(1.0, 0)}
    kept = above_floors([trace("a", 0.9), trace("b", 0.1, signals=signals)], RULES)

    assert [(each.ref, list(each.signals)) for each in kept] == [("a", ["vec_summary"]), ("b", ["words"])]


def test_a_personal_fact_asks_for_more() -> None:
    """0.55 of the best by what was said, 0.65 by what was done."""
    actions: dict[Channel, Signal] = {"vec_action": Signal(0.6, 0)}
    best: dict[Channel, Signal] = {"vec_summary": Signal(1.0, 0), "vec_action": Signal(1.0, 0)}
    kept = above_floors(
        [trace("a", signals=best), trace("b", 0.56), trace("c", 0.54), trace("d", signals=actions)],
        Rules({"traces": 5}, personal=True),
    )

    assert [each.ref for each in kept] == ["a", "b"]


def test_a_world_model_is_asked_for_less() -> None:
    """0.15; a skill as much as a step, but not a share of the best."""
    worlds = [Candidate("world", f"w{each}", near(each)) for each in (0.15, 0.14)]
    skills = [Candidate("skill", f"s{each}", near(each)) for each in (0.25, 0.24)]
    kept = above_floors([trace("a", 0.9), *worlds, *skills], RULES)

    assert [each.ref for each in kept] == ["a", "w0.15", "s0.25"]


# -- episodes --------------------------------------------------------------------------------------------------------


def test_two_steps_of_an_episode_that_led_somewhere_are_an_episode() -> None:
    """It is as near as its nearest step, and worth what they are worth on average."""
    steps = [trace("a", 0.8, episode_id="ep", worth=0.4, value=0.4), trace("b", 0.5, episode_id="ep")]
    episode = rolled_up(steps)[0]

    assert (episode.kind, episode.ref, episode.similarity, episode.worth, episode.value) == (
        "episode", "ep", 0.8, 0.2, 0.2,
    )  # fmt: skip


@pytest.mark.parametrize(
    "steps",
    [
        [trace("a", 0.9, episode_id="ep")],
        [trace("a", 0.44, episode_id="ep"), trace("b", 0.44, episode_id="ep")],
        [trace("a", 0.9, episode_id="ep", value=-0.5), trace("b", 0.9, episode_id="ep", value=0.4)],
        [trace("a", 0.9, episode_id="ep"), trace("b", 0.9, episode_id="ep2")],
    ],
)
def test_one_step_or_far_ones_or_bad_ones_are_no_episode(steps: list[Candidate]) -> None:
    """Two are needed, one of them near at 0.45, together not below zero."""
    assert rolled_up(steps) == []


def test_an_episode_and_its_steps_are_never_both_shown() -> None:
    """The more relevant stays; the episode where they are equal."""
    episode = Candidate("episode", "ep", near(0.8), similarity=0.8, episode_id="ep")
    one, two = trace("a", 0.8, episode_id="ep"), trace("b", 0.7, episode_id="ep")

    as_good = by_relevance([scored(one, 0.8), scored(two, 0.7), scored(episode, 0.8)])
    better = by_relevance([scored(one, 0.9), scored(two, 0.7), scored(episode, 0.8)])

    assert refs(without_own_traces(as_good)) == ["ep"]
    assert refs(without_own_traces(better)) == ["a", "b"]


# -- who is left out -------------------------------------------------------------------------------------------------


def test_the_same_answer_to_the_same_question_is_told_once() -> None:
    """The more relevant one; another answer to it stays, and so does the same answer to another question."""
    said = [
        trace("a", question="how do I reset the router", answer="hold the button for ten seconds"),
        trace("b", question="How do I reset the router?", answer="Hold the button for ten seconds."),
        trace("c", question="how do I reset the router", answer="open 192.168.0.1 and choose factory settings"),
        trace("d", question="how do I restart the printer", answer="hold the button for ten seconds"),
    ]
    kept = without_repeated([scored(each, 1 - place / 10) for place, each in enumerate(said)])

    assert refs(kept) == ["a", "c", "d"]


def test_what_is_far_less_relevant_than_the_best_goes() -> None:
    """Below a fifth."""
    kept = above_threshold([scored(trace("a"), 1.0), scored(trace("b"), 0.2), scored(trace("c", 0.1), 0.19)], RULES)

    assert refs(kept) == ["a", "b"]


@pytest.mark.parametrize(
    ("signals", "stays"),
    [
        ({"vec_summary": Signal(0.25, 0), "words": Signal(0.1, 9)}, True),
        ({"words": Signal(0.5, 1), "pattern": Signal(0.5, 1)}, False),
        ({"words": Signal(0.75, 0), "pattern": Signal(0.1, 9)}, True),
        ({"structural": Signal(0.9, 0)}, False),
        ({"structural": Signal(0.9, 0), "words": Signal(0.1, 9)}, True),
    ],
)
def test_several_lookups_that_agree_carry_it_over_the_threshold(signals: dict[Channel, Signal], *, stays: bool) -> None:
    """Two at least, one of them sure: two weak finds by words do not."""
    kept = above_threshold([scored(trace("a"), 10.0), scored(trace("b", 0.1, signals=signals), 0.3)], RULES)

    assert ("b" in refs(kept)) is stays


def test_an_identifier_that_was_asked_for_leaves_other_steps_out() -> None:
    """Skills and world models are not asked for it."""
    found = [
        trace("right", 0.5, holds_identifier=True),
        trace("impostor", 0.95, holds_identifier=False),
        Candidate("skill", "s", near(0.5), similarity=0.5),
    ]

    assert set(refs(rank(found, Rules(RULES.limits, identifiers=True)))) == {"right", "s"}


def test_a_policy_covered_by_a_newer_skill_goes() -> None:
    """An older skill covers nothing that was learned since."""
    skill = scored(Candidate("skill", "s", near(0.5), covers=frozenset({"p1", "p2"}), updated_at_ms=5), 1.0)
    old = scored(Candidate("policy", "p1", near(0.5), updated_at_ms=5), 0.9)
    new = scored(Candidate("policy", "p2", near(0.5), updated_at_ms=6), 0.8)

    assert refs(without_covered([skill, old, new])) == ["s", "p2"]


# -- choosing --------------------------------------------------------------------------------------------------------


def test_the_best_of_each_tier_is_chosen_first_where_it_is_nearly_as_good() -> None:
    """At 0.7 of the best of all; none is forced in."""
    first = [scored(trace(f"t{each}"), 1.0 - each / 100) for each in range(3)]
    skill, world = Candidate("skill", "s", near(0.7)), Candidate("world", "w", near(0.3))
    chosen = diverse([*first, scored(skill, 0.7), scored(world, 0.69)], Rules({"skills": 1, "traces": 1, "worlds": 1}))

    assert refs(chosen) == ["t0", "s", "w"]
    assert ["best of its tier" in each.reason for each in chosen] == [True, True, False]


def test_what_repeats_a_chosen_one_gives_way_to_what_is_new() -> None:
    """By vectors: the second best says the same as the best, so the third is chosen."""
    same, new = unit(1, 0), unit(0, 1)
    found = [scored(trace("a", vec=same), 1.0), scored(trace("b", vec=same), 0.95), scored(trace("c", vec=new), 0.7)]
    chosen = diverse(found, Rules({"traces": 2}))

    assert refs(chosen) == ["a", "c"]
    assert chosen[1].parts == {"redundancy": 0.0, "final": 0.49}


def test_without_relevance_the_first_is_still_the_most_relevant() -> None:
    """Lambda 0 looks at repetition alone, but there is nothing to repeat yet."""
    found = [scored(trace("a", vec=unit(1, 0)), 0.5), scored(trace("b", vec=unit(0, 1)), 0.9)]

    assert refs(diverse(found, Rules({"traces": 1}, mmr_lambda=0.0))) == ["b"]


def test_vectors_of_different_sizes_are_compared_by_words() -> None:
    """An embedder was changed: nothing fails, and repetition is still seen."""
    found = [
        scored(trace("a", vec=unit(1, 0), answer="hold the button"), 1.0),
        scored(trace("b", vec=unit(1, 0, 0), answer="hold the button"), 0.9),
        scored(trace("c", vec=None, answer="call the shop"), 0.8),
    ]

    assert refs(diverse(found, Rules({"traces": 2}))) == ["a", "c"]


def test_skills_come_first_then_the_rest_by_relevance() -> None:
    """Whatever their scores."""
    found = [trace("t", 0.9), Candidate("skill", "s", near(0.5), similarity=0.5), trace("u", 0.95)]

    assert refs(rank(found, RULES)) == ["s", "u", "t"]


@given(
    st.lists(st.tuples(st.sampled_from(("trace", "skill", "world", "policy")), st.floats(0, 1)), max_size=30),
    st.floats(0, 1),
)
def test_never_more_of_a_tier_than_allowed_and_nothing_twice(found: list[tuple[Any, float]], share: float) -> None:
    """Whatever is found, and however repetition is weighed."""
    candidates = [
        Candidate(kind, f"{kind}{at}", near(score, at), similarity=score) for at, (kind, score) in enumerate(found)
    ]
    chosen = rank(candidates, Rules({"skills": 2, "traces": 3, "worlds": 1}, mmr_lambda=share))
    tiers = [each.candidate.tier for each in chosen]

    assert tiers.count("skills") <= 2
    assert tiers.count("traces") <= 3
    assert tiers.count("worlds") <= 1
    assert len(set(refs(chosen))) == len(chosen)
