"""Storms are noticed."""

from __future__ import annotations

from structlog.testing import capture_logs

from reverie.learning.asking.storm_alarm import MINUTE_MS, Storm, StormAlarm, StormStatus, threshold
from reverie.testing import FakeClock


def test_what_is_usual_is_the_median_of_busy_minutes() -> None:
    """Minutes without anything say nothing about what is usual, and the floor holds while little is known."""
    assert threshold([0, 0, 4, 0, 10, 6, 0], factor=5, floor=20) == (6.0, 30.0)
    assert threshold([], factor=5, floor=20) == (0.0, 20.0)


def test_a_storm_is_warned_of_once_and_is_over_when_it_ends() -> None:
    """One warning for each storm; the flag falls when two minutes are quiet, and the next storm warns again."""
    clock = FakeClock()
    alarm = StormAlarm(clock, factor=5, floor=3)
    for _ in range(5):
        alarm.job_started()
        alarm.call_made()
        clock.advance(ms=MINUTE_MS)
    with capture_logs() as logs:
        for _ in range(9):
            alarm.call_made()
        minute = clock.now_ms() // MINUTE_MS
        assert alarm.status() == StormStatus(0, 9, (Storm("calls", minute, 9, 1.0, 5.0),))
        clock.advance(ms=MINUTE_MS)
        assert alarm.status().storms == (Storm("calls", minute, 9, 1.0, 5.0),)
        clock.advance(ms=MINUTE_MS)
        assert alarm.status() == StormStatus(0, 0, ())
        for _ in range(9):
            alarm.call_made()
    assert [(line["event"], line["what"], line["count"]) for line in logs] == [
        ("learning does far more than usual", "calls", 6),
        ("learning does far more than usual", "calls", 6),
    ]


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    """Time of day that goes back is counted into the minute that was."""
    clock = FakeClock()
    alarm = StormAlarm(clock, factor=2, floor=100)
    alarm.job_started()
    clock.set(clock.now_ms() - 10 * MINUTE_MS)
    alarm.job_started()
    clock.set(clock.now_ms() + 10 * MINUTE_MS)
    assert alarm.status() == StormStatus(2, 0, ())
