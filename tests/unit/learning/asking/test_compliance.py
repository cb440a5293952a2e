"""Models that do not answer as they are asked."""

from __future__ import annotations

import pytest

from reverie.errors import JobDeferredError
from reverie.learning.asking.compliance import USELESS_MAX, Compliance, operation_of
from reverie.testing import FakeClock


def test_an_operation_rests_after_useless_answers_in_a_row_and_longer_each_time() -> None:
    """Five refused answers are enough; after the rest one more is, and the next rest is twice as long."""
    clock = FakeClock()
    known = Compliance(clock, pause_s=300)
    for _ in range(USELESS_MAX - 1):
        known.refused("reward.r_human", "no number")
        known.admit("reward.r_human")

    known.refused("reward.r_human", "no number")
    with pytest.raises(JobDeferredError, match=r"of no use 5 times in a row \(no number\)") as first:
        known.admit("reward.r_human")
    clock.advance(seconds=300)
    known.admit("reward.r_human")
    known.refused("reward.r_human", "no number")
    with pytest.raises(JobDeferredError) as second:
        known.admit("reward.r_human")

    assert second.value.until_ms - first.value.until_ms == 600_000
    known.admit("turn.classify")


def test_one_useful_answer_begins_anew() -> None:
    """What counts is a row."""
    known = Compliance(FakeClock(), pause_s=300)
    for _ in range(USELESS_MAX - 1):
        known.refused("turn.classify", "prose")
    known.complied("turn.classify")

    known.refused("turn.classify", "prose")

    assert not known.rests("turn.classify")


def test_the_operation_is_the_same_in_every_version_of_its_prompt() -> None:
    """The id without its version."""
    assert operation_of("turn.classify@12") == "turn.classify"
