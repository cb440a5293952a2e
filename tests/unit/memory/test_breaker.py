"""When an embedder that failed is asked again."""

from __future__ import annotations

import pytest

from reverie.errors import EmbedderError, EmbedderPausedError
from reverie.memory.breaker import Breaker, pause_s
from reverie.testing import FakeClock

DOWN = EmbedderError("down")
UNPAID = EmbedderError("no quota", lasting=True)


def test_the_pause_grows() -> None:
    """One second, two, four, up to a minute; at least what the server asked for, and no longer than an hour."""
    assert [pause_s(failures, DOWN) for failures in (1, 2, 3, 6, 7, 100)] == [1, 2, 4, 32, 60, 60]
    assert [pause_s(1, EmbedderError("slow", retry_after_s=asked)) for asked in (0.2, 90, 10**6)] == [1, 90, 3_600]


def test_what_only_a_person_can_end_is_asked_rarely() -> None:
    """Without quota or with a wrong key, ten minutes pass before the next try, then more, up to an hour."""
    assert [pause_s(failures, UNPAID) for failures in (1, 2, 3, 50)] == [600, 1_200, 2_400, 3_600]


def test_a_failure_opens_and_a_success_closes() -> None:
    """While open nobody asks; when the pause is over a probe is due, and only its success ends it."""
    clock = FakeClock()
    breaker = Breaker(clock)
    breaker.check()
    breaker.failed(DOWN)
    with pytest.raises(EmbedderPausedError, match=r"^down \(asked again in 1 s\)$"):
        breaker.check()
    assert (breaker.closed, breaker.probe_due, breaker.pause_s) == (False, False, 1.0)
    clock.advance(seconds=1)
    assert breaker.probe_due
    with pytest.raises(EmbedderPausedError, match="asked again now, beside this"):
        breaker.check()
    breaker.failed(DOWN)
    assert breaker.pause_s == 2.0
    breaker.worked()
    breaker.check()
    assert (breaker.closed, breaker.reason, breaker.pause_s) == (True, "", 0.0)


def test_calls_that_fail_together_are_one_failure() -> None:
    """Those that were under way when it opened do not make the pause longer, but may say that it lasts."""
    clock = FakeClock()
    breaker = Breaker(clock)
    for _ in range(5):
        breaker.failed(DOWN)
    assert breaker.pause_s == 1.0
    breaker.failed(UNPAID)
    assert breaker.pause_s == 600
    breaker.failed(DOWN)
    assert breaker.pause_s == 600
    with pytest.raises(EmbedderPausedError) as raised:
        breaker.check()
    assert raised.value.lasting
