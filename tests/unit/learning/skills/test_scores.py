"""The arithmetic of success rates, by hand."""

from __future__ import annotations

import pytest

from reverie.config import SkillsConfig
from reverie.learning.skills.crystallisation import first_eta
from reverie.learning.skills.scores import (
    SkillScore,
    StatusChoice,
    TrialOutcome,
    outcome_of,
    status_after,
    with_drift,
    with_thumb,
    with_trial,
)

CONFIG = SkillsConfig()


@pytest.mark.parametrize(
    ("gain", "support", "min_support", "eta"),
    [(0.16, 1, 1, 0.58), (0.3, 1, 3, 0.31666666666666665), (0.02, 9, 1, 0.51), (-0.5, 0, 1, 0.1), (2.0, 1, 1, 1.0)],
)
def test_first_eta_is_half_gain_half_support(gain: float, support: int, min_support: int, eta: float) -> None:
    """The first success rate is 0.5·gain + 0.5·min(1, support/min_support), between 0.1 and 1."""
    assert first_eta(gain, support, min_support) == pytest.approx(eta, abs=1e-12)


@pytest.mark.parametrize(
    ("r", "outcome"),
    [(0.5, "pass"), (1.0, "pass"), (0.49, "unknown"), (0.0, "unknown"), (-0.49, "unknown"), (-0.5, "fail"),
     (-1.0, "fail"), (None, "unknown")],
)  # fmt: skip
def test_a_score_of_half_decides(r: float | None, outcome: TrialOutcome) -> None:
    """A task passes at 0.5, fails at -0.5, and says nothing in between."""
    assert outcome_of(r) == outcome


def test_a_prior_of_058_is_given_up_at_the_fifth_failure() -> None:
    """0.58 becomes 0.29, 0.193, 0.145, 0.116 and 0.097: the fifth is below the floor of 0.1, the fourth is not."""
    score = SkillScore(0.58, 0, 0)
    etas: list[float] = []
    statuses: list[str] = []
    for _ in range(5):
        score = with_trial(score, "fail")
        etas.append(round(score.eta, 3))
        statuses.append(status_after("active", score, CONFIG).status)

    assert etas == [0.29, 0.193, 0.145, 0.116, 0.097]
    assert statuses == ["active", "active", "active", "active", "archived"]


def test_eta_is_the_mean_with_a_prior_of_one_trial() -> None:
    """After 3 passes and 1 failure on a prior of 0.58 it is (0.58 + 3) / 5; what is unknown counts for nothing."""
    score = SkillScore(0.58, 0, 0)
    for outcome in ("pass", "unknown", "fail", "pass", "unknown", "pass"):
        score = with_trial(score, outcome)

    assert score == SkillScore(0.716, 4, 3)


@pytest.mark.parametrize(
    ("before", "now", "score"),
    [
        ("pass", "fail", SkillScore(0.29, 1, 0)),
        ("fail", "pass", SkillScore(0.79, 1, 1)),
        ("unknown", "pass", SkillScore(0.79, 1, 1)),
        ("fail", "unknown", SkillScore(0.58, 0, 0)),
        ("pass", "unknown", SkillScore(0.58, 0, 0)),
    ],
)
def test_a_task_scored_anew_takes_back_what_it_said(before: TrialOutcome, now: TrialOutcome, score: SkillScore) -> None:
    """A changed outcome leaves the score that it would have given in the first place."""
    earlier = with_trial(SkillScore(0.58, 0, 0), before)

    assert with_trial(earlier, now, before) == score


def test_drift_takes_three_tenths_of_how_such_tasks_went() -> None:
    """0.7 of the old rate and 0.3 of the mean reward, made 0 to 1: 0.7·0.6 + 0.3·0.75 for rewards of 0.2 and 0.8."""
    assert with_drift(SkillScore(0.6, 2, 1), [0.2, 0.8], 0.1) == SkillScore(0.645, 2, 1)
    assert with_drift(SkillScore(0.6, 2, 1), [], 0.1) == SkillScore(0.6, 2, 1)
    assert with_drift(SkillScore(0.12, 2, 0), [-1.0], 0.1) == SkillScore(0.1, 2, 0)
    assert with_drift(SkillScore(0.05, 2, 0), [-1.0], 0.1) == SkillScore(0.05, 2, 0)


def test_thumbs_move_by_a_tenth_within_bounds() -> None:
    """A thumb moves η by `eta_delta`, never beyond 0 or 1."""
    score = SkillScore(0.95, 1, 1)

    assert with_thumb(score, up=True, delta=0.1) == SkillScore(1.0, 1, 1)
    assert with_thumb(score, up=False, delta=0.1) == SkillScore(0.85, 1, 1)


@pytest.mark.parametrize(
    ("status", "score", "choice"),
    [
        ("candidate", SkillScore(0.5, 0, 0), StatusChoice("candidate", "")),
        ("candidate", SkillScore(0.79, 1, 1), StatusChoice("active", "proved_in_trials")),
        ("candidate", SkillScore(0.1, 1, 0), StatusChoice("active", "proved_in_trials")),
        ("candidate", SkillScore(0.09, 1, 0), StatusChoice("archived", "low_eta")),
        ("candidate", SkillScore(0.09, 0, 0), StatusChoice("archived", "low_eta")),
        ("active", SkillScore(0.1, 5, 0), StatusChoice("active", "")),
        ("active", SkillScore(0.09, 5, 0), StatusChoice("archived", "low_eta")),
        ("archived", SkillScore(0.9, 5, 5), StatusChoice("archived", "")),
    ],
)
def test_what_becomes_of_a_skill(status: str, score: SkillScore, choice: StatusChoice) -> None:
    """A candidate is decided on after its trials; an active skill falls below the floor; an archived one stays."""
    assert status_after(status, score, CONFIG) == choice  # pyright: ignore[reportArgumentType] (a literal)


def test_more_trials_may_be_asked_for() -> None:
    """With `candidate_trials` 3 a candidate waits for the third."""
    config = SkillsConfig(candidate_trials=3)

    assert status_after("candidate", SkillScore(0.8, 2, 2), config) == StatusChoice("candidate", "")
    assert status_after("candidate", SkillScore(0.8, 3, 2), config) == StatusChoice("active", "proved_in_trials")
