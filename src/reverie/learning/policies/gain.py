"""What following a policy is worth, and what becomes of the policy: arithmetic, exact and without side effects.

The steps that follow a policy are compared with steps that do not. Values and gains are between -1 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.config import PoliciesConfig
    from reverie.learning.records import PolicyStatus

SET_MAX = 50
"""Newest steps that follow a policy, and newest that do not, which are looked at."""
SOFTMAX_FROM = 3
"""So many steps make it worth while to weigh the better ones more."""
PSEUDO_COUNT = 5
"""Imagined steps of the baseline's value, so that few steps without the policy say little."""
BASELINE_MIN = 0.2
BASELINE_MAX = 0.5


@dataclass(frozen=True, slots=True)
class StatusChange:
    """What a policy is from now on, and why: a code."""

    status: PolicyStatus
    reason: str


def raw_gain(following: Sequence[float], others: Sequence[float], tau: float) -> float:
    """How much better the steps that follow a policy did than others. Without any that follow, it is worth nothing."""
    if not following:
        return 0.0
    return effective(following, tau) - blended(others, baseline([*following, *others]))


def effective(values: Sequence[float], tau: float) -> float:
    """The value of steps that follow a policy: the mean of one or two; of more, the best weigh most, by `tau`."""
    if len(values) < SOFTMAX_FROM:
        return _mean(values)
    highest = max(values)
    weights = [math.exp((value - highest) / tau) for value in values]
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / math.fsum(weights)


def baseline(pool: Sequence[float]) -> float:
    """What a step is usually worth here, within 0.2 and 0.5."""
    return min(BASELINE_MAX, max(BASELINE_MIN, _mean(pool)))


def blended(others: Sequence[float], base: float) -> float:
    """The value of steps without the policy, drawn to the baseline as long as there are few of them."""
    return (math.fsum(others) + base * PSEUDO_COUNT) / (len(others) + PSEUDO_COUNT)


def smoothed(raw: float, old: float | None, weight: float) -> float:
    """A new gain beside the old one, which is None before the first."""
    return raw if old is None else weight * raw + (1 - weight) * old


def next_status(status: PolicyStatus, gain: float, support: int, config: PoliciesConfig) -> StatusChange:
    """What a policy is with this gain and support. One that was given up stays so, until a person says otherwise."""
    if status == "archived":
        return StatusChange(status, "archived")
    if support <= 0 or gain < config.archive_gain:
        return StatusChange("archived", "no_support" if support <= 0 else "low_gain")
    if status == "active":
        return StatusChange(status, "active")
    if support < config.activate_support:
        return StatusChange("candidate", "too_little_support")
    if gain < config.activate_gain:
        return StatusChange("candidate", "too_little_gain")
    return StatusChange("active", "proven")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
