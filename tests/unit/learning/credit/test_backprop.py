"""What each step was worth: exact values, reckoned by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.learning.credit.backprop import backprop, neutral_alpha, priority

UNIT = st.floats(0, 1)
SIGNED = st.floats(-1, 1)


def test_the_last_step_has_the_reward_and_each_one_before_its_share() -> None:
    """Four steps, R 0.8, γ 0.9: 0.8; 1·0.8; 0.5·0.8 + 0.5·0.9·0.8; 0.9·0.76."""
    assert backprop(0.8, [0.0, 0.5, 1.0, 0.2], 0.9) == pytest.approx((0.684, 0.76, 0.8, 0.8), abs=1e-12)


def test_a_step_that_did_nothing_hands_on_what_came_after_it() -> None:
    """α 0 is γ times the next value; α 1 is the reward; no step is no value."""
    assert backprop(-1.0, [0.0, 0.0, 0.0], 0.9) == pytest.approx((-0.81, -0.9, -1.0))
    assert backprop(0.3, [1.0, 1.0], 0.9) == (0.3, 0.3)
    assert backprop(0.3, [], 0.9) == ()


@given(SIGNED, st.lists(UNIT, max_size=50), UNIT)
def test_values_stay_within_their_bounds(r: float, alphas: list[float], gamma: float) -> None:
    """-1 to 1, never of the other sign than the reward, one for each step."""
    values = backprop(r, alphas, gamma)
    assert len(values) == len(alphas)
    assert all(-1 <= value <= 1 and value * r >= 0 for value in values)


def test_a_priority_halves_with_each_half_life() -> None:
    """0.8 today, 0.4 after 30 days, 0.2 after 60; 0 for a step that did harm; tomorrow's step is not worth more."""
    assert [priority(0.8, days, 30) for days in (0, 30, 60, -1)] == [0.8, 0.4, 0.2, 0.8]
    assert priority(-0.5, 0, 30) == 0.0


def test_a_step_that_nobody_weighed_is_neutral() -> None:
    """A half when something is known of it, else nothing."""
    assert (neutral_alpha(reflected=True), neutral_alpha(reflected=False)) == (0.5, 0.0)
