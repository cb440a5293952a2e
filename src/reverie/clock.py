"""Time as a value that tests can hold still.

Whatever is stored or decided by the time takes a `Clock`; nothing in Reverie asks for the time of day itself.
`SystemClock` is the real one, `reverie.testing.FakeClock` stands still until told.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

INSTANT_MS_END = 253_370_764_800_000
"""The year 9999, a day of which might be another year elsewhere."""


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


def iso_instant(at_ms: int) -> str:
    """An instant as ISO 8601 in UTC with milliseconds, `2026-04-03T03:00:00.000Z`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> int:
    """The instant that ISO 8601 names, in milliseconds since 1970. No zone means UTC.

    Raises:
        ValueError: it names none, or one before 1970 or after 9998.
    """
    instant = datetime.fromisoformat(text)
    at_ms = round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1_000)
    if not 0 <= at_ms < INSTANT_MS_END:
        raise ValueError(f"{text} is before 1970 or after 9998")
    return at_ms
