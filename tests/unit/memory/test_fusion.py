"""Fusion: the parts of a score and how they weigh against each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.memory.fusion import (
    TUNING,
    Fused,
    Signals,
    Tuning,
    UnitFacts,
    Weights,
    confidence,
    flatness,
    fuse,
    held_words,
    max_normalised,
    own_scores,
    place_of,
    speaker_factor,
    subject_of,
    term_weight,
    unit_of,
    weigh,
    z_scores,
)

A, B, C = unit_of(1, 1), unit_of(1, 2), unit_of(2, 1)
NOTE = UnitFacts("", 10)
QUESTION = UnitFacts("ann", 10, asks=True)


def signals_of(
    words: dict[int, dict[str, float]],
    facts: dict[int, UnitFacts],
    semantic: dict[int, float] | None = None,
    tuning: Tuning = TUNING,
) -> Signals:
    """Signals of which meaning weighs a tenth, about nobody."""
    return Signals(words, semantic or {}, facts, Weights(0.1, 0.0, ""), None, tuning)


@given(st.integers(1, 2**30), st.integers(1, 2**31))
def test_a_unit_knows_its_place(document_id: int, number: int) -> None:
    """Document and number go into one integer and come out again; the next unit is the next integer."""
    assert place_of(unit_of(document_id, number)) == (document_id, number)
    assert unit_of(document_id, number) + 1 == unit_of(document_id, number + 1)


def test_word_scores_are_divided_by_the_best() -> None:
    """The best match of words counts 1; when nothing matches there is nothing."""
    assert max_normalised({A: 4.0, B: 1.0}) == {A: 1.0, B: 0.25}
    assert max_normalised({}) == {}
    assert max_normalised({A: 0.0}) == {}


def test_flatness_tells_a_winner_from_a_crowd() -> None:
    """One match is no crowd, eleven equal ones are, and missing ranks count nothing."""
    assert flatness({A: 1.0}) == 0
    assert flatness(dict.fromkeys(range(11), 0.5)) == 1
    assert flatness({A: 1.0, B: 0.5}) == pytest.approx(0.05)


def test_meaning_weighs_more_the_flatter_the_words_are() -> None:
    """A clear winner leaves meaning little, a crowd more, and without any word it decides alone."""
    assert weigh({A: 1.0}) == Weights(0.05, 0.0, "one clear match of words (flatness 0.00)")
    crowd = weigh(dict.fromkeys(range(11), 1.0))
    assert crowd.semantic == pytest.approx(0.3)
    assert crowd.reason == "many equal matches of words (flatness 1.00)"
    assert weigh({}).semantic == 1


def test_similarities_become_z_scores() -> None:
    """What does not stand out is left out; what does is measured in spreads, up to a bound."""
    assert z_scores({A: 0.5, B: 0.1, C: 0.9}, mean=0.3, spread=0.1, count=10**9) == pytest.approx({A: 2.0, C: 6.0})


def test_a_lone_unit_still_stands_out() -> None:
    """With one unit the mean is its own similarity: it is drawn towards nothing, so that the unit can be found."""
    assert z_scores({A: 0.5}, mean=0.5, spread=0.0, count=1)[A] == 6.0


def test_a_unit_scores_by_the_words_it_holds() -> None:
    """Which words it holds counts most, the rare ones more; bm25 has a share, and the best of both is 1."""
    held = {A: ["drum", "squeak"], B: ["drum"], C: list[str]()}
    weight, bm25 = {"drum": 1.0, "squeak": 3.0}, {A: 2.0, B: 4.0}
    scores = held_words(held, weight, bm25, 0.3)
    assert scores == {
        A: {"drum": pytest.approx(0.2125), "squeak": pytest.approx(0.6375)},
        B: {"drum": pytest.approx(0.475)},
    }
    assert held_words(held, weight, {A: 4.0}, 0.3)[A] == pytest.approx({"drum": 0.25, "squeak": 0.75})
    assert held_words({}, weight, bm25, 0.3) == {}


def test_a_word_counts_a_share_nearby() -> None:
    """What stands one or two units away counts the less the farther; nothing passes between documents."""
    place = [unit_of(1, number) for number in range(1, 6)]
    facts = dict.fromkeys([*place, C], NOTE)
    fused = {f.unit: f for f in fuse(signals_of({place[2]: {"drum": 1.0}}, facts), 10)}
    assert [fused[unit].score for unit in place] == [0.3, 0.5, 1.0, 0.6, 0.4]
    assert C not in fused
    assert fused[place[3]] == Fused(place[3], 0.6, 0.0, 0.0, 0.6, nearby=("drum",))


def test_a_word_counts_once() -> None:
    """A word that a unit holds itself, or that several neighbours repeat, is not counted again."""
    a, b, c = (unit_of(1, number) for number in (1, 2, 3))
    facts = {a: NOTE, b: NOTE, c: NOTE}
    everywhere = signals_of({a: {"drum": 1.0}, b: {"drum": 1.0}, c: {"drum": 1.0}}, facts)
    assert [f.score for f in fuse(everywhere, 10)] == [1.0, 1.0, 1.0]
    around = signals_of({a: {"drum": 1.0}, c: {"drum": 1.0}}, facts)
    assert {f.unit: f.score for f in fuse(around, 10)}[b] == 0.6
    other = signals_of({a: {"drum": 0.5}, b: {"squeak": 0.5}}, facts)
    assert fuse(other, 1) == [Fused(b, 0.8, 0.5, 0.0, 0.3, nearby=("drum",))]


def test_meaning_is_inherited_too() -> None:
    """A unit takes a share of the meaning of the one before it and of the one after."""
    a, b, c = (unit_of(1, number) for number in (1, 2, 3))
    fused = fuse(signals_of({}, {a: NOTE, b: NOTE, c: NOTE}, {a: 2.0, c: 1.0}), 10)
    assert {f.unit: f.score for f in fused} == pytest.approx({a: 0.2, b: 0.16, c: 0.1})


def test_a_long_unit_inherits_less() -> None:
    """A unit of eight hundred characters takes half of what a short one takes."""
    found = signals_of({A: {"drum": 1.0}}, {A: NOTE, B: UnitFacts("", 800)})
    assert {f.unit: f.score for f in fuse(found, 10)}[B] == pytest.approx(0.3)


def test_a_question_passes_its_words_to_the_answer() -> None:
    """A short message that asks counts less itself, and what follows it has all of its words."""
    fused = fuse(signals_of({A: {"drum": 1.0}}, {A: QUESTION, B: NOTE}), 10)
    assert fused == [
        Fused(B, 1.0, 0.0, 0.0, 1.0, nearby=("drum",)),
        Fused(A, 0.8, 1.0, 0.0, 0.0, question_factor=0.8),
    ]


def test_what_has_faded_counts_less() -> None:
    """A unit's score is multiplied with what its age has left of it."""
    words = {A: {"drum": 1.0}, C: {"drum": 1.0}}
    assert fuse(signals_of(words, {A: NOTE._replace(fresh=0.5), C: NOTE}), 10) == [
        Fused(C, 1.0, 1.0, 0.0, 0.0),
        Fused(A, 0.5, 1.0, 0.0, 0.0, fresh=0.5),
    ]


def test_signals_add_up() -> None:
    """Own score is words plus weighted meaning; who scores nothing is no hit; the limit holds."""
    own = own_scores({A: 1.0}, {A: 2.0, C: 3.0}, Weights(0.5, 0.0, ""))
    assert own == {A: 2.0, C: 1.5}
    facts = {A: NOTE, C: NOTE, unit_of(9, 9): NOTE}
    found = signals_of({A: {"drum": 1.0}}, facts, {A: 2.0, C: 3.0})
    assert [(f.unit, f.score) for f in fuse(found, 10)] == [(A, pytest.approx(1.2)), (C, pytest.approx(0.3))]
    assert len(fuse(found, 1)) == 1


def test_every_observation_can_be_switched_off() -> None:
    """Without neighbours a unit has only what it earned."""
    alone = replace(TUNING, previous_shares=(), next_shares=(), meaning_shares=(0.0, 0.0))
    assert fuse(signals_of({A: {"drum": 1.0}}, {A: NOTE, B: NOTE}, {A: 1.0}, alone), 10) == [
        Fused(A, pytest.approx(1.1), 1.0, 1.0, 0.0)  # pyright: ignore[reportArgumentType]
    ]
    assert (TUNING.reach, TUNING.steps, alone.reach) == (2, ((-1, 0.6), (-2, 0.4), (1, 0.5), (2, 0.3)), 1)


@pytest.mark.parametrize(
    ("question", "words", "subject"),
    [
        ("What did Caroline paint?", {"caroline", "paint"}, "caroline"),
        ("Did Caroline meet Jean Paul?", {"caroline", "meet", "jean", "paul"}, None),
        ("Where is Jean?", {"jean"}, "user"),
        ("What is my cat called?", {"cat", "called"}, "user"),
        ("What did you recommend?", {"recommend"}, None),
        ("your suggestion for dinner", {"suggestion", "dinner"}, None),
        ("do you think I should go?", {"think", "go"}, "user"),
    ],
)
def test_a_question_is_about_someone(question: str, words: set[str], subject: str | None) -> None:
    """One named speaker, else the user, unless it asks what the assistant said or names several."""
    speakers = {"caroline": frozenset({"caroline"}), "jean paul": frozenset({"jean", "paul"})}
    assert subject_of(question, words, speakers) == subject


@pytest.mark.parametrize(
    ("speaker", "subject", "factor"),
    [
        ("caroline", "caroline", 1.0),
        ("melanie", "caroline", 0.75),
        ("user", "caroline", 1.0),
        ("assistant", "user", 0.75),
        ("melanie", "user", 1.0),
        ("", "caroline", 1.0),
        ("melanie", None, 1.0),
    ],
)
def test_other_speakers_count_less(speaker: str, subject: str | None, factor: float) -> None:
    """A person's name lowers other people, the user lowers the assistant, notes are nobody's."""
    assert speaker_factor(speaker, subject) == factor


def test_rare_words_tell_more() -> None:
    """A word that nothing holds tells the most."""
    weights = [term_weight(rows, 1_000) for rows in (0, 1, 10, 500, 1_000)]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] > 0


def test_confidence_comes_from_words_or_from_meaning() -> None:
    """All words found, or a perfect similarity, is certainty; neither is none; half of either is a third."""
    assert confidence(3.0, 3.0, 0.0) == 1
    assert confidence(0.0, 3.0, 1.0) == 1
    assert confidence(0.0, 3.0, -0.5) == 0
    assert confidence(0.0, 0.0, 0.5) == pytest.approx(0.354, abs=1e-3)
    assert confidence(1.0, 2.0, 0.0) == pytest.approx(0.354, abs=1e-3)
    assert confidence(1.0, 2.0, 0.5) == pytest.approx(0.582, abs=1e-3)
