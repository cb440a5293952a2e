"""A storm is noticed: far more jobs, or calls of a model, in a minute than in the minutes before it.

Budgets and permits bound what a storm can do; the alarm says that there is one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reverie.clock import Clock
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

MINUTES_KEPT = 180
MINUTE_MS = 60_000
What = Literal["jobs", "calls"]


@dataclass(frozen=True, slots=True)
class Storm:
    """What is far more than usual: so many in one minute, where `usual` is the median of the busy minutes before."""

    what: What
    minute: int
    count: int
    usual: float
    threshold: float


@dataclass(frozen=True, slots=True)
class StormStatus:
    """How many there were in this minute, and the storms that blow now."""

    jobs_minute: int
    calls_minute: int
    storms: tuple[Storm, ...]

    def as_json(self) -> JsonObject:
        """For programs."""
        return {
            "jobsThisMinute": self.jobs_minute,
            "callsThisMinute": self.calls_minute,
            "alarm": [
                {"what": each.what, "count": each.count, "usual": each.usual, "threshold": each.threshold}
                for each in self.storms
            ],
        }


def threshold(before: Iterable[int], factor: float, floor: int) -> tuple[float, float]:
    """What is usual, and from above which count on a minute is a storm: minutes without anything say nothing."""
    busy = [each for each in before if each > 0]
    usual = float(median(busy)) if busy else 0.0
    return usual, max(factor * usual, float(floor))


class _Minutes:
    """Counts by the minute, of the last `MINUTES_KEPT`."""

    def __init__(self, what: What) -> None:
        self.what: What = what
        self._counts: deque[tuple[int, int]] = deque(maxlen=MINUTES_KEPT + 1)

    def add(self, minute: int) -> None:
        if self._counts and self._counts[-1][0] >= minute:  # a clock that was set back counts on
            last, count = self._counts.pop()
            self._counts.append((last, count + 1))
        else:
            self._counts.append((minute, 1))

    def count(self, minute: int) -> int:
        return next((count for at, count in reversed(self._counts) if at == minute), 0)

    def storm(self, minute: int, factor: float, floor: int) -> Storm | None:
        """The storm of this minute, or of the one before it while this one is young; None if there is none."""
        for at in (minute, minute - 1):
            before = (count for when, count in self._counts if at - MINUTES_KEPT <= when < at)
            usual, most = threshold(before, factor, floor)
            count = self.count(at)
            if count > most:
                return Storm(self.what, at, count, usual, most)
        return None


class StormAlarm:
    """Counts the jobs that begin and the calls that are made in this process, and warns once for each storm."""

    def __init__(self, clock: Clock, factor: float, floor: int) -> None:
        self._clock = clock
        self._factor = factor
        self._floor = floor
        self._jobs = _Minutes("jobs")
        self._calls = _Minutes("calls")
        self._blowing: set[What] = set()

    def job_started(self) -> None:
        """A job begins."""
        self._add(self._jobs)

    def call_made(self) -> None:
        """A model is called."""
        self._add(self._calls)

    def status(self) -> StormStatus:
        """Whether there is a storm now. It is over when neither this minute nor the one before it is one."""
        minute = self._minute()
        storms = tuple(storm for each in (self._jobs, self._calls) if (storm := self._looked(each, minute)))
        return StormStatus(self._jobs.count(minute), self._calls.count(minute), storms)

    def _add(self, minutes: _Minutes) -> None:
        minute = self._minute()
        minutes.add(minute)
        self._looked(minutes, minute)

    def _looked(self, minutes: _Minutes, minute: int) -> Storm | None:
        storm = minutes.storm(minute, self._factor, self._floor)
        if storm is None:
            self._blowing.discard(minutes.what)
        elif minutes.what not in self._blowing:
            self._blowing.add(minutes.what)
            log.warning(
                "learning does far more than usual", action="learning_storm", what=storm.what, count=storm.count,
                usual=storm.usual, threshold=storm.threshold,
            )  # fmt: skip
        return storm

    def _minute(self) -> int:
        return self._clock.now_ms() // MINUTE_MS
