"""Gain: exact numbers, computed by hand, and what becomes of a policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from reverie.config import PoliciesConfig
from reverie.learning.policies.gain import (
    StatusChange,
    baseline,
    blended,
    effective,
    next_status,
    raw_gain,
    smoothed,
)

if TYPE_CHECKING:
    from reverie.learning.records import PolicyStatus

CONFIG = PoliciesConfig()


def test_one_or_two_steps_count_by_their_mean() -> None:
    """Below three steps nothing is weighed."""
    assert effective([0.8], 0.5) == pytest.approx(0.8)
    assert effective([0.8, 0.2], 0.5) == pytest.approx(0.5)
    assert effective([], 0.5) == 0.0


def test_of_three_steps_the_best_weigh_most() -> None:
    """From three steps on each weighs e to the power of its value by tau."""
    weights = [math.exp(1.8), math.exp(0.8), math.exp(0.2)]
    expected = (0.9 * weights[0] + 0.4 * weights[1] + 0.1 * weights[2]) / sum(weights)

    assert effective([0.9, 0.4, 0.1], 0.5) == pytest.approx(expected, abs=1e-12)
    assert effective([0.9, 0.4, 0.1], 0.5) == pytest.approx(0.679932, abs=1e-6)
    assert effective([0.3, 0.3, 0.3], 0.5) == pytest.approx(0.3)


def test_extreme_values_do_not_overflow() -> None:
    """A tau near zero takes the best alone."""
    assert effective([1.0, -1.0, 0.0], 0.01) == pytest.approx(1.0)


def test_baseline_is_clamped() -> None:
    """The mean of all steps, within 0.2 for a poor pool and 0.5 for a rich one."""
    assert baseline([0.3, 0.5]) == pytest.approx(0.4)
    assert baseline([-0.5, 0.1]) == 0.2
    assert baseline([0.9, 0.9]) == 0.5
    assert baseline([]) == 0.2


def test_others_are_drawn_to_the_baseline_by_five_steps() -> None:
    """(mean · n + baseline · 5) / (n + 5)."""
    assert blended([0.1, 0.3], 0.2) == pytest.approx((0.4 + 1.0) / 7)
    assert blended([], 0.35) == pytest.approx(0.35)


def test_gain_of_two_against_two() -> None:
    """0.7 with, 0.2 without, pooled mean 0.45: 0.7 minus (0.4 + 0.45·5)/7."""
    assert raw_gain([0.8, 0.6], [0.1, 0.3], 0.5) == pytest.approx(0.7 - 2.65 / 7, abs=1e-12)


def test_gain_of_one_alone() -> None:
    """Without others the baseline stands for them: 0.9 minus 0.5."""
    assert raw_gain([0.9], [], 0.5) == pytest.approx(0.4)
    assert raw_gain([0.05], [], 0.5) == pytest.approx(-0.15)
    assert raw_gain([], [0.4], 0.5) == 0.0


def test_first_gain_is_raw_and_later_ones_are_smoothed() -> None:
    """0.4 of the new one and 0.6 of the old one."""
    assert smoothed(0.5, None, 0.4) == 0.5
    assert smoothed(0.5, 0.1, 0.4) == pytest.approx(0.26)


@pytest.mark.parametrize(
    ("status", "gain", "support", "expected"),
    [
        ("candidate", 0.02, 1, StatusChange("active", "proven")),
        ("candidate", 0.019, 1, StatusChange("candidate", "too_little_gain")),
        ("candidate", 0.9, 0, StatusChange("archived", "no_support")),
        ("candidate", -0.051, 3, StatusChange("archived", "low_gain")),
        ("candidate", -0.05, 3, StatusChange("candidate", "too_little_gain")),
        ("active", -0.05, 1, StatusChange("active", "active")),
        ("active", -0.051, 1, StatusChange("archived", "low_gain")),
        ("active", 0.9, 0, StatusChange("archived", "no_support")),
        ("archived", 0.9, 9, StatusChange("archived", "archived")),
    ],
)
def test_status_follows_gain_and_support(
    status: PolicyStatus, gain: float, support: int, expected: StatusChange
) -> None:
    """A candidate is active from 0.02 and one task on; below -0.05 or without a task it is given up, for good."""
    assert next_status(status, gain, support, CONFIG) == expected


def test_more_support_can_be_asked_for() -> None:
    """With `activate_support` of 2 one task is too little, whatever the gain."""
    strict = PoliciesConfig(activate_support=2)

    assert next_status("candidate", 0.5, 1, strict) == StatusChange("candidate", "too_little_support")
    assert next_status("candidate", 0.5, 2, strict) == StatusChange("active", "proven")
