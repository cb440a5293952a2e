"""Fusion: the parts of a score and how they weigh against each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.memory.fusion import (
    Fused,
    UnitFacts,
    Weights,
    confidence,
    flatness,
    fuse,
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
    assert crowd.semantic == pytest.approx(0.35)
    assert crowd.reason == "many equal matches of words (flatness 1.00)"
    assert weigh({}).semantic == 1


def test_similarities_become_z_scores() -> None:
    """What does not stand out is left out; what does is measured in spreads, up to a bound."""
    assert z_scores({A: 0.5, B: 0.1, C: 0.9}, mean=0.3, spread=0.1, count=10**9) == pytest.approx({A: 2.0, C: 6.0})


def test_a_lone_unit_still_stands_out() -> None:
    """With one unit the mean is its own similarity: it is drawn towards nothing, so that the unit can be found."""
    assert z_scores({A: 0.5}, mean=0.5, spread=0.0, count=1)[A] == 6.0


def test_neighbours_pass_on_a_share() -> None:
    """Half comes from the unit before, a third from the one after, none across documents."""
    own = {A: 1.0, C: 1.0}
    fused = fuse(own, {}, own, {A: NOTE, B: NOTE, C: NOTE}, None, 10)
    assert fused == [
        Fused(A, 1.0, 1.0, 0.0, 0.0, 1.0),
        Fused(C, 1.0, 1.0, 0.0, 0.0, 1.0),
        Fused(B, 0.5, 0.0, 0.0, 0.5, 1.0),
    ]
    assert fuse({B: 1.0}, {}, {B: 1.0}, {A: NOTE}, None, 10)[0].score == pytest.approx(0.3)


def test_a_long_unit_inherits_less() -> None:
    """A unit of eight hundred characters takes half of what a short one takes."""
    assert fuse({A: 1.0}, {}, {A: 1.0}, {B: UnitFacts("", 800)}, None, 10)[0].score == pytest.approx(0.25)


def test_signals_add_up() -> None:
    """Own score is words plus weighted meaning; who scores nothing is no hit; the limit holds."""
    weights = Weights(0.5, 0.0, "")
    own = own_scores({A: 1.0}, {A: 2.0, C: 3.0}, weights)
    assert own == {A: 2.0, C: 1.5}
    facts = {A: NOTE, C: NOTE, unit_of(9, 9): NOTE}
    assert [f.unit for f in fuse({A: 1.0}, {A: 2.0, C: 3.0}, own, facts, None, 10)] == [A, C]
    assert len(fuse({A: 1.0}, {A: 2.0, C: 3.0}, own, facts, None, 1)) == 1


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
        ("melanie", "caroline", 0.7),
        ("user", "caroline", 1.0),
        ("assistant", "user", 0.7),
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
    """All words found, or a perfect similarity, is certainty; neither is none."""
    assert confidence(3.0, 3.0, 0.0) == 1
    assert confidence(0.0, 3.0, 1.0) == 1
    assert confidence(0.0, 3.0, -0.5) == 0
    assert confidence(0.0, 0.0, 0.4) == pytest.approx(0.4)
    assert confidence(1.0, 2.0, 0.5) == pytest.approx(0.75)
