"""How a skill has done, as a number, and what follows from it: pure arithmetic.

η is the mean of a Beta distribution whose prior is worth one trial: η = (η₀·1 + passes) / (1 + trials). A trial is a
task in which the skill was used and that clearly went well or badly; being shown is none. With η₀ = 0.58 failures give
0.290, 0.193, 0.145, 0.116, 0.097: at a floor of 0.1 a skill survives four of them and is given up at the fifth.

η is carried on from its last value, which is the same: η·(1 + trials) is what counts as passed so far. So a thumb, or a
drift, moves it for good, and what comes after weighs as much as it would have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reverie.config import SkillsConfig
    from reverie.learning.records import Skill, SkillStatus

TrialOutcome = Literal["pass", "fail", "unknown"]

PASS_REWARD = 0.5
FAIL_REWARD = -0.5
DRIFT_KEPT = 0.7
DRIFT_TAKEN = 0.3
ETA_DIGITS = 12
"""η is rounded to so many digits, so that a floor that is met exactly is not missed by a binary fraction."""


@dataclass(frozen=True, slots=True)
class SkillScore:
    """η, 0 to 1, and the trials behind it. `trials` counts those that passed or failed."""

    eta: float
    trials: int
    passes: int


@dataclass(frozen=True, slots=True)
class StatusChoice:
    """The status that a skill is to have, and why."""

    status: SkillStatus
    reason: str


def score_of(skill: Skill) -> SkillScore:
    """How a skill has done so far."""
    return SkillScore(skill.eta, skill.trials, skill.passes)


def outcome_of(r_human: float | None) -> TrialOutcome:
    """What a task's score says of a skill that was used in it."""
    if r_human is None or FAIL_REWARD < r_human < PASS_REWARD:
        return "unknown"
    return "pass" if r_human >= PASS_REWARD else "fail"


def with_trial(score: SkillScore, outcome: TrialOutcome, before: TrialOutcome | None = None) -> SkillScore:
    """The score after a trial. `before` is what the same task said earlier, which is taken back."""
    passed = (outcome == "pass") - (before == "pass")
    counted = (outcome != "unknown") - (before not in {None, "unknown"})
    trials = max(0, score.trials + counted)
    eta = (score.eta * (1 + score.trials) + passed) / (1 + trials)
    return SkillScore(_bounded(eta), trials, max(0, score.passes + passed))


def with_drift(score: SkillScore, rewards: list[float], floor: float) -> SkillScore:
    """The score after tasks of its kind that did without it: three tenths of how they went, from -1…1 made 0…1.

    A drift ends at `floor`: no skill is given up for what happened where it was not.
    """
    if not rewards:
        return score
    signal = (1 + sum(rewards) / len(rewards)) / 2
    moved = DRIFT_KEPT * score.eta + DRIFT_TAKEN * signal
    return replace(score, eta=_bounded(max(moved, min(floor, score.eta))))


def with_thumb(score: SkillScore, *, up: bool, delta: float) -> SkillScore:
    """The score after a person's thumb."""
    return replace(score, eta=_bounded(score.eta + (delta if up else -delta)))


def status_after(status: SkillStatus, score: SkillScore, config: SkillsConfig) -> StatusChoice:
    """What becomes of a skill with a score.

    A candidate is decided on after `candidate_trials`; an active one is given up below `archive_eta`. What was given up
    is not taken up again by a score.
    """
    low = score.eta < config.archive_eta
    match status:
        case "active" if low:
            return StatusChoice("archived", "low_eta")
        case "candidate" if score.trials >= config.candidate_trials:
            return StatusChoice("archived", "low_eta") if low else StatusChoice("active", "proved_in_trials")
        case "candidate" if low:
            return StatusChoice("archived", "low_eta")
        case _:
            return StatusChoice(status, "")


def _bounded(eta: float) -> float:
    return round(min(1.0, max(0.0, eta)), ETA_DIGITS)
