"""When a plugin that fails is left alone, as a pure decision.

One failure is an accident. After `FAILURES_MAX` in a row the plugin is paused; then one call tries it, and each failure
doubles the pause, up to ten minutes. A success ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILURES_MAX = 3
PAUSE_S_FIRST = 10.0
PAUSE_S_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a plugin has been doing: failures in a row, and until when (monotonic seconds) it is left alone."""

    failures_in_a_row: int = 0
    paused_until_s: float = 0.0

    def paused_s(self, now_s: float) -> float:
        """How long it is still left alone; 0 when it may be called."""
        return max(0.0, self.paused_until_s - now_s)


def after_failure(standing: Standing, now_s: float) -> Standing:
    """One more failure. A call that began before a pause and fails in it does not make it longer."""
    if standing.paused_s(now_s):
        return standing
    failures = standing.failures_in_a_row + 1
    return Standing(failures, now_s + pause_s(failures) if failures >= FAILURES_MAX else 0.0)


def pause_s(failures: int) -> float:
    """How long a plugin is left alone after so many failures in a row."""
    if failures < FAILURES_MAX:
        return 0.0
    return min(PAUSE_S_FIRST * 2.0 ** min(failures - FAILURES_MAX, 30), PAUSE_S_MAX)
