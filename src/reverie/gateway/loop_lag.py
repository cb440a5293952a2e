"""How late the event loop is: a measured promise, since whatever blocks the loop keeps every caller waiting.

A coroutine sleeps 20 ms again and again and notes by how much it overslept. The last minute is kept; reading it
changes nothing, so several readers see the same. It is summed up at most once a second: who asks sooner gets the last
summary. Advisory: it never makes the server unready.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.gateway.metrics import Metrics
    from reverie.types import JsonObject

SAMPLE_S = 0.02
SAMPLES_MAX = 3_000
SUMMARY_S = 1.0

DELAY_MS = 1_000.0
"""From this lateness on the loop counts as degraded."""
UTILIZATION, CPU_CORES, CO_EVIDENCE_MS = 0.95, 0.9, 25.0
"""A loop that is always busy counts as degraded only if the process computes as much and the loop is late too."""


@dataclass(slots=True)
class Heartbeat:
    """When the event loop last went round, on the monotonic clock. The loop writes it, any thread may read it."""

    at_s: float


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    lag_s: float
    loop_cpu_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class LoopLagStatistics:
    """The loop's lateness over `interval_ms`.

    `utilization` is the share of the time in which the loop was surely busy: its thread computed, or it was late.
    `cpu_core_ratio` is what all threads of the process computed, as a share of one core.
    """

    interval_ms: float
    delay_p99_ms: float
    delay_max_ms: float
    utilization: float
    cpu_core_ratio: float

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the loop counts as degraded; empty when it does not."""
        delay_ms = max(self.delay_p99_ms, self.delay_max_ms)
        late = delay_ms >= DELAY_MS
        busy = (
            self.utilization >= UTILIZATION
            and self.cpu_core_ratio >= CPU_CORES
            and self.interval_ms >= SUMMARY_S * 1000
            and delay_ms >= CO_EVIDENCE_MS
        )
        found = (("event_loop_delay", late), ("event_loop_utilization", busy))
        return tuple(reason for reason, holds in found if holds)

    def as_json(self) -> JsonObject:
        """The block of the readiness answer."""
        return {
            "degraded": bool(self.reasons),
            "reasons": list(self.reasons),
            "intervalMs": round(self.interval_ms),
            "delayP99Ms": round(self.delay_p99_ms, 1),
            "delayMaxMs": round(self.delay_max_ms, 1),
            "utilization": round(self.utilization, 3),
            "cpuCoreRatio": round(self.cpu_core_ratio, 3),
        }


class LoopLag:
    """Measures while `run` runs, and gives the loop's heartbeat."""

    def __init__(self, clock: Clock, metrics: Metrics, heartbeat: Heartbeat | None = None) -> None:
        self._heartbeat = heartbeat or Heartbeat(0.0)
        self._clock = clock
        self._metrics = metrics
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES_MAX)
        self._summary: LoopLagStatistics | None = None
        self._summed_up_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            before_s = self._clock.monotonic_s()
            await anyio.sleep(SAMPLE_S)
            self.note(self._clock.monotonic_s() - before_s - SAMPLE_S, time.thread_time(), time.process_time())

    def note(self, lag_s: float, loop_cpu_s: float, cpu_s: float) -> None:
        """Add one measurement: the lateness, and what the loop's thread and the process have computed by now."""
        lag_s = max(0.0, lag_s)
        self._heartbeat.at_s = self._clock.monotonic_s()
        self._samples.append(_Sample(self._heartbeat.at_s, lag_s, loop_cpu_s, cpu_s))
        self._metrics.observe_lag(lag_s)

    def statistics(self) -> LoopLagStatistics | None:
        """The last minute, as it was at most a second ago; None before a second was measured."""
        samples = self._samples
        if not samples or samples[-1].at_s - samples[0].at_s < SUMMARY_S:
            return self._summary
        if self._summary is None or samples[-1].at_s - self._summed_up_s >= SUMMARY_S:
            self._summary, self._summed_up_s = _summed_up(list(samples)), samples[-1].at_s
        return self._summary


def _summed_up(samples: list[_Sample]) -> LoopLagStatistics:
    first, last = samples[0], samples[-1]
    interval_s = last.at_s - first.at_s
    lags = sorted(sample.lag_s for sample in samples)
    busy_s = sum(max(after.loop_cpu_s - before.loop_cpu_s, after.lag_s) for before, after in pairwise(samples))
    return LoopLagStatistics(
        interval_ms=interval_s * 1000,
        delay_p99_ms=lags[min(len(lags) - 1, int(len(lags) * 0.99))] * 1000,
        delay_max_ms=lags[-1] * 1000,
        utilization=min(1.0, busy_s / interval_s),
        cpu_core_ratio=(last.cpu_s - first.cpu_s) / interval_s,
    )
