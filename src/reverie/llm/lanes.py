"""How many model calls run at once in the whole process, and who goes first.

There are `calls_max` places. Background work (summaries of long sessions, for example) holds at most
`background_calls_max` of them, and never the last one: somebody who waits for an answer finds a place that
background work cannot have taken. Only where there is a single place do the two share it.

Who waits is served foreground first, then in order of arrival. One exception keeps background work from waiting for
ever: after `FOREGROUND_IN_A_ROW_MAX` foreground calls have been let past a background call that could have run, it
is its turn.

A caller who leaves gives up its place in the line. The line is bounded: the call after `WAITING_MAX` is refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reverie.clock import SystemClock
from reverie.errors import ModelBusyError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from reverie.clock import Clock
    from reverie.llm.client import Lane

FOREGROUND_IN_A_ROW_MAX = 16
WAITING_MAX = 4_096
"""Calls that may wait in both lanes together."""


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """How busy one lane is. `oldest_wait_s` is that of the call that waits longest now, `wait_s_max` of any so far."""

    running: int
    waiting: int
    oldest_wait_s: float
    wait_s_max: float


@dataclass(frozen=True, slots=True)
class ModelLanesStatistics:
    """How busy the model is."""

    calls_max: int
    foreground: LaneStatistics
    background: LaneStatistics


@dataclass(frozen=True, slots=True)
class LanesState:
    """What the choice of the next call rests on. `passed`: foreground calls let past a waiting background call."""

    foreground_running: int
    background_running: int
    foreground_waiting: int
    background_waiting: int
    passed: int


def background_places(calls_max: int, background_calls_max: int) -> int:
    """How many places background work may hold: never the last one, unless there is only one."""
    return max(1, min(background_calls_max, calls_max - 1))


def next_lane(state: LanesState, calls_max: int, background_max: int) -> Lane | None:
    """The lane whose first waiting call may run now; None while none may."""
    if state.foreground_running + state.background_running >= calls_max:
        return None
    background = bool(state.background_waiting) and state.background_running < background_max
    if state.foreground_waiting and not (background and state.passed >= FOREGROUND_IN_A_ROW_MAX):
        return "foreground"
    return "background" if background else None


@dataclass(slots=True)
class _Waiting:
    """A call in line; `let_in` is done when it has a place."""

    let_in: asyncio.Future[None]
    since_s: float


@dataclass(slots=True)
class _Line:
    """One lane."""

    running: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque[_Waiting])
    wait_s_max: float = 0.0


class ModelLanes:
    """The places for model calls. One object serves the whole process; it belongs to one event loop."""

    def __init__(
        self,
        calls_max: int,
        background_calls_max: int | None = None,
        *,
        waiting_max: int = WAITING_MAX,
        clock: Clock | None = None,
    ) -> None:
        self._calls_max = calls_max
        self._background_max = background_places(calls_max, background_calls_max or calls_max)
        self._waiting_max = waiting_max
        self._clock = clock or SystemClock()
        self._lines: dict[Lane, _Line] = {"foreground": _Line(), "background": _Line()}
        self._passed = 0

    @asynccontextmanager
    async def hold(self, lane: Lane) -> AsyncGenerator[None]:
        """A place for one model call, held until the block is left. Waits for one if need be.

        Raises:
            ModelBusyError: too many calls wait already.
        """
        await self._enter(lane)
        try:
            yield
        finally:
            self._leave(lane)

    def statistics(self) -> ModelLanesStatistics:
        """How busy the lanes are now."""
        now_s = self._clock.monotonic_s()
        foreground, background = (_statistics(line, now_s) for line in self._lines.values())
        return ModelLanesStatistics(self._calls_max, foreground, background)

    async def _enter(self, lane: Lane) -> None:
        line = self._lines[lane]
        if next_lane(self._state(arriving=lane), self._calls_max, self._background_max) == lane and not line.waiting:
            line.running += 1
            return
        waiting = sum(len(each.waiting) for each in self._lines.values())
        if waiting >= self._waiting_max:
            message = f"{waiting} model calls wait already: try later, or raise upstream.calls_max"
            raise ModelBusyError(message)
        mine = _Waiting(asyncio.get_running_loop().create_future(), self._clock.monotonic_s())
        line.waiting.append(mine)
        try:
            await mine.let_in
        except asyncio.CancelledError:
            if mine in line.waiting:
                line.waiting.remove(mine)
            elif not mine.let_in.cancelled():  # let in and cancelled in the same moment: the place is given back
                self._leave(lane)
            raise
        finally:
            line.wait_s_max = max(line.wait_s_max, self._clock.monotonic_s() - mine.since_s)

    def _leave(self, lane: Lane) -> None:
        self._lines[lane].running -= 1
        while (chosen := next_lane(self._state(), self._calls_max, self._background_max)) is not None:
            self._let_in(chosen)

    def _let_in(self, lane: Lane) -> None:
        line = self._lines[lane]
        first = line.waiting.popleft()
        if first.let_in.done():  # cancelled, and not gone yet
            return
        background = self._lines["background"]
        overtaken = lane == "foreground" and background.waiting and background.running < self._background_max
        self._passed = self._passed + 1 if overtaken else 0
        line.running += 1
        first.let_in.set_result(None)

    def _state(self, arriving: Lane | None = None) -> LanesState:
        foreground, background = self._lines.values()
        return LanesState(
            foreground.running,
            background.running,
            len(foreground.waiting) + (arriving == "foreground"),
            len(background.waiting) + (arriving == "background"),
            self._passed,
        )


def _statistics(line: _Line, now_s: float) -> LaneStatistics:
    oldest_s = now_s - line.waiting[0].since_s if line.waiting else 0.0
    return LaneStatistics(line.running, len(line.waiting), oldest_s, max(line.wait_s_max, oldest_s))
