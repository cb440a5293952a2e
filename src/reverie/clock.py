"""Time as a value that tests can hold still.

Whatever is stored or decided by the time takes a `Clock`; nothing in Reverie asks for the time of day itself.
`SystemClock` is the real one, `reverie.testing.FakeClock` stands still until told.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The time of day and a monotonic counter."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC: the unit of every stored instant."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back, for durations and deadlines."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()


def utc_date(now_ms: int) -> str:
    """The UTC calendar date of an instant, `YYYY-MM-DD`: the name of a daily note."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%d")


def iso_minute(now_ms: int) -> str:
    """An instant as `YYYY-MM-DD HH:MM` UTC, the form in which memories are dated in a prompt."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
