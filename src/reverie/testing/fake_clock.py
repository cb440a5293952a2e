"""A clock that stands still until told."""

from __future__ import annotations

DEFAULT_NOW_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC


class FakeClock:
    """A `Clock` whose both times move together, and only through `advance` and `set`."""

    def __init__(self, now_ms: int = DEFAULT_NOW_MS) -> None:
        self._now_ms = now_ms
        self._monotonic_s = 0.0

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Seconds since this clock was made."""
        return self._monotonic_s

    def advance(self, *, ms: int = 0, seconds: float = 0.0, days: float = 0.0) -> None:
        """Let time pass."""
        passed_ms = ms + round(seconds * 1000) + round(days * 86_400_000)
        if passed_ms < 0:
            raise ValueError("a monotonic clock does not go back: use set() to change the time of day")
        self._now_ms += passed_ms
        self._monotonic_s += passed_ms / 1000

    def set(self, now_ms: int) -> None:
        """Change the time of day, forwards or back, as a person does; the monotonic time stays."""
        self._now_ms = now_ms
