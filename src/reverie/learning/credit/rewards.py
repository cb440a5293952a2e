"""How a task is scored: pure formulas over a judge's axes and over what people said."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from reverie.learning.credit.backprop import clamped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.learning.records import Polarity, Task
    from reverie.storage import Row

AXES = {"goal_achievement": 0.45, "process_quality": 0.30, "user_satisfaction": 0.25}
"""What each axis of the judge counts in the reward of a task."""
JUDGE_MAGNITUDE = 1.0
"""A judge's reward counts as one voice of this magnitude beside those that are heard after it."""
_SIGNS: dict[Polarity, float] = {"positive": 1.0, "negative": -1.0, "neutral": 0.0, "mixed": 0.0}


@dataclass(frozen=True, slots=True)
class Voice:
    """One piece of feedback. `magnitude` is 0 to 1; `implicit` was found in a message, not said with a button."""

    id: str
    polarity: Polarity
    magnitude: float
    implicit: bool = False
    text: str = ""
    at_ms: int = 0

    @property
    def judges(self) -> bool:
        """Whether it says how something was. Words alone say what to do, and carry no weight."""
        return self.polarity != "neutral" and self.magnitude > 0


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward of a task, -1 to 1, and what it was made of. `heard` are the voices it was made with."""

    r_human: float
    source: Literal["llm", "heuristic"]
    axes: dict[str, float] = field(default_factory=dict[str, float])
    label: str = "unknown"
    reason: str = ""
    prompt: str = ""
    heard: tuple[str, ...] = ()


def voice_of(row: Row) -> Voice:
    """A row of `feedback`."""
    return Voice(row["id"], row["polarity"], row["magnitude"], row["channel"] == "implicit", row["text"], row["at"])


def counted(voices: Iterable[Voice], implicit_threshold: float) -> tuple[Voice, ...]:
    """The voices that count: all with a button, and those found in messages from a magnitude on."""
    return tuple(voice for voice in voices if not voice.implicit or voice.magnitude >= implicit_threshold)


def heuristic(voices: Sequence[Voice]) -> float:
    """The mean of the signs of the voices that judge, weighted by their magnitudes; 0 without any."""
    judging = [voice for voice in voices if voice.judges]
    weight = sum(voice.magnitude for voice in judging)
    return sum(_SIGNS[voice.polarity] * voice.magnitude for voice in judging) / weight if weight else 0.0


def judged(axes: dict[str, float]) -> float:
    """The reward of a judge's axes, each -1 to 1."""
    return clamped(sum(weight * clamped(axes[name]) for name, weight in AXES.items()))


def revised(task: Task, voices: Sequence[Voice]) -> float:
    """The reward of a scored task in the light of all voices that count by now.

    A judge's reward, which was made with some of the voices, stands beside each one with a button that came after
    it and judges as well. Without a judge the voices are all there is.
    """
    if task.reward.get("source") == "heuristic":
        return clamped(heuristic(voices))
    heard = frozenset(task.reward.get("heard", ()))
    later = [voice for voice in voices if voice.judges and not voice.implicit and voice.id not in heard]
    weight = JUDGE_MAGNITUDE + sum(voice.magnitude for voice in later)
    said = sum(_SIGNS[voice.polarity] * voice.magnitude for voice in later)
    first = task.reward.get("judged", task.r_human) or 0.0
    return clamped((JUDGE_MAGNITUDE * first + said) / weight)


def number_of(value: Any) -> float | None:
    """A number that a model wrote, also as a text; None for what is none. It may be infinite or not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def finite_or_zero(value: float | None) -> float:
    """A number that can be reckoned with; 0 for one that cannot."""
    return value if value is not None and math.isfinite(value) else 0.0
