"""What each step of a task was worth, by the reward at its end. Arithmetic: no model, no clock, no database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NEUTRAL_ALPHA = 0.5
"""Of a step of which is known what it did, but not how much that was worth."""
VALUE_MAX = 1.0


def backprop(r: float, alphas: Sequence[float], gamma: float) -> tuple[float, ...]:
    """The value of each step, in the order in which one led to the other; -1 to 1.

    The last one has the reward itself; each one before it has its own share of the reward, `alpha`, and for the rest
    what it passed on: V_t = α_t·R + (1 - α_t)·γ·V_{t+1}.
    """
    values: list[float] = []
    for alpha in reversed(alphas):
        value = alpha * r + (1 - alpha) * gamma * values[-1] if values else r
        values.append(clamped(value))
    return tuple(reversed(values))


def priority(value: float, age_days: float, half_life_days: float) -> float:
    """How much a step counts when it is looked for: its value, halved with each half-life; 0 for one that did harm."""
    return max(value, 0.0) * 0.5 ** (max(age_days, 0.0) / half_life_days)


def neutral_alpha(*, reflected: bool) -> float:
    """The α of a step that no model has weighed: a half when something is known of it, else none."""
    return NEUTRAL_ALPHA if reflected else 0.0


def clamped(value: float) -> float:
    """A value within -1 to 1."""
    return max(-VALUE_MAX, min(VALUE_MAX, value))
