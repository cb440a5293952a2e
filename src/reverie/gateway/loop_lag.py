"""How late the event loop is: a measured promise, since whatever blocks the loop keeps every caller waiting.

A coroutine sleeps a tenth of a second again and again and notes by how much it overslept. The last minute is kept;
reading it changes nothing, so several readers see the same. Advisory: it never makes the server unready.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.gateway.metrics import Metrics
    from reverie.types import JsonObject

SAMPLE_S = 0.1
SAMPLES_MAX = 600
DEGRADED_MS = 1_000


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    lag_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class LoopLagStatistics:
    """The loop's lateness over `interval_ms`; `cpu_core_ratio` is the process's share of one core."""

    interval_ms: float
    delay_p99_ms: float
    delay_max_ms: float
    cpu_core_ratio: float

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the loop counts as degraded; empty when it does not."""
        late = max(self.delay_p99_ms, self.delay_max_ms) >= DEGRADED_MS
        return ("event_loop_delay",) if late else ()

    def as_json(self) -> JsonObject:
        """The block of the readiness answer."""
        return {
            "degraded": bool(self.reasons),
            "reasons": list(self.reasons),
            "intervalMs": round(self.interval_ms),
            "delayP99Ms": round(self.delay_p99_ms, 1),
            "delayMaxMs": round(self.delay_max_ms, 1),
            "cpuCoreRatio": round(self.cpu_core_ratio, 3),
        }


class LoopLag:
    """Measures while `run` runs."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES_MAX)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            before_s = self._clock.monotonic_s()
            await anyio.sleep(SAMPLE_S)
            self.note(self._clock.monotonic_s() - before_s - SAMPLE_S)

    def note(self, lag_s: float) -> None:
        """Add one measurement."""
        lag_s = max(0.0, lag_s)
        self._samples.append(_Sample(self._clock.monotonic_s(), lag_s, time.process_time()))
        self._metrics.observe_lag(lag_s)

    def statistics(self) -> LoopLagStatistics | None:
        """The last minute; None before there are two measurements."""
        samples = self._samples
        if len(samples) < 2:  # noqa: PLR2004 (an interval has two ends)
            return None
        interval_s = samples[-1].at_s - samples[0].at_s
        lags = sorted(sample.lag_s for sample in samples)
        cpu_s = samples[-1].cpu_s - samples[0].cpu_s
        return LoopLagStatistics(
            interval_ms=interval_s * 1000,
            delay_p99_ms=lags[min(len(lags) - 1, int(len(lags) * 0.99))] * 1000,
            delay_max_ms=lags[-1] * 1000,
            cpu_core_ratio=cpu_s / interval_s if interval_s > 0 else 0.0,
        )
