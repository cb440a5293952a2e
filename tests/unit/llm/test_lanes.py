"""Who may call the model now: foreground first, background bounded and never forgotten."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.errors import ModelBusyError
from reverie.llm.lanes import (
    FOREGROUND_IN_A_ROW_MAX,
    LanesState,
    LaneStatistics,
    ModelLanes,
    background_places,
    next_lane,
)
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from reverie.llm.client import Lane

pytestmark = pytest.mark.anyio


class Caller:
    """Something that calls the model until it is told to stop."""

    def __init__(self, lanes: ModelLanes, lane: Lane, order: list[Caller]) -> None:
        self.lane: Lane = lane
        self.stop = asyncio.Event()
        self._order = order
        self._lanes = lanes
        self.task = asyncio.create_task(self._call())

    async def _call(self) -> None:
        async with self._lanes.hold(self.lane):
            self._order.append(self)
            await self.stop.wait()

    async def end(self) -> None:
        self.stop.set()
        await self.task
        await settle()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await settle()


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.fixture
async def order() -> AsyncGenerator[list[Caller]]:
    """The callers in the order in which they got a place."""
    order: list[Caller] = []
    yield order
    for caller in order:
        caller.stop.set()
    await asyncio.gather(*(caller.task for caller in order), return_exceptions=True)


async def test_foreground_goes_first_then_order_of_arrival(order: list[Caller]) -> None:
    """Of those who wait, callers with somebody behind them go first; equals go as they came."""
    lanes = ModelLanes(1, 1)
    first, background, second, third = (
        Caller(lanes, lane, order) for lane in ("foreground", "background", "foreground", "foreground")
    )
    for caller in (first, second, third, background):
        await settle()
        await caller.end()

    assert order == [first, second, third, background]


async def test_background_leaves_a_place(order: list[Caller]) -> None:
    """However many places background work may have, one is always left for somebody who waits."""
    lanes = ModelLanes(3, 8)
    callers = [Caller(lanes, "background", order) for _ in range(3)]
    await settle()
    foreground = Caller(lanes, "foreground", order)
    await settle()

    assert order == [*callers[:2], foreground]
    await callers[0].end()
    assert order[-1] is callers[2]
    assert [background_places(*each) for each in ((1, 2), (2, 2), (64, 2), (64, 8))] == [1, 1, 2, 8]


async def test_a_caller_who_leaves_gives_up_its_place_in_the_line(order: list[Caller]) -> None:
    """The next one moves up, and nothing is lost."""
    lanes = ModelLanes(1)
    first, second, third = (Caller(lanes, "foreground", order) for _ in range(3))
    await settle()
    await second.leave()
    await first.end()

    assert order == [first, third]
    assert lanes.statistics().foreground.waiting == 0


async def test_a_caller_cancelled_as_it_is_let_in_gives_the_place_back(order: list[Caller]) -> None:
    """A place that nobody takes goes to the next."""
    lanes = ModelLanes(1)
    async with lanes.hold("foreground"):
        first, second = (Caller(lanes, "foreground", order) for _ in range(2))
        await settle()
    await first.leave()  # it was let in a moment ago, and has not run yet

    assert order == [second]
    assert lanes.statistics().foreground.running == 1


async def test_background_is_not_passed_for_ever(order: list[Caller]) -> None:
    """After so many foreground calls in a row that were let past it, a background call has its turn."""
    lanes = ModelLanes(1)
    running = Caller(lanes, "foreground", order)
    await settle()
    background = Caller(lanes, "background", order)
    crowd = [Caller(lanes, "foreground", order) for _ in range(FOREGROUND_IN_A_ROW_MAX + 5)]
    await settle()
    for caller in (running, *crowd[:FOREGROUND_IN_A_ROW_MAX]):
        await caller.end()

    assert order[-1] is background
    await background.end()
    assert order[-1] is crowd[FOREGROUND_IN_A_ROW_MAX]


async def test_the_line_is_bounded(order: list[Caller]) -> None:
    """A call too many is refused at once, with what to do."""
    lanes = ModelLanes(1, waiting_max=2)
    callers = [Caller(lanes, "foreground", order) for _ in range(3)]
    await settle()
    with pytest.raises(ModelBusyError, match=r"^2 model calls wait already: try later, or raise upstream.calls_max$"):
        async with lanes.hold("background"):
            pass
    for caller in callers:
        await caller.end()

    assert order == callers


async def test_statistics(order: list[Caller]) -> None:
    """Who runs, who waits, and for how long."""
    clock = FakeClock()
    lanes = ModelLanes(1, clock=clock)
    running = Caller(lanes, "foreground", order)
    await settle()
    waiting = Caller(lanes, "background", order)
    await settle()
    clock.advance(seconds=3)

    assert lanes.statistics().foreground == LaneStatistics(1, 0, 0.0, 0.0)
    assert lanes.statistics().background == LaneStatistics(0, 1, 3.0, 3.0)
    await running.end()
    clock.advance(seconds=5)
    assert lanes.statistics().background == LaneStatistics(1, 0, 0.0, 3.0)
    await waiting.end()
    assert lanes.statistics().calls_max == 1


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (LanesState(2, 1, 1, 1, 0), None),
        (LanesState(1, 1, 1, 1, 0), "foreground"),
        (LanesState(1, 0, 1, 1, FOREGROUND_IN_A_ROW_MAX), "background"),
        (LanesState(0, 2, 0, 1, 0), None),
        (LanesState(0, 1, 0, 1, 0), "background"),
        (LanesState(0, 0, 0, 0, 0), None),
    ],
)
def test_the_next_call(state: LanesState, expected: Lane | None) -> None:
    """The choice of the lane, case by case, with three places of which background may hold two."""
    assert next_lane(state, 3, 2) == expected


STEPS = st.lists(st.tuples(st.sampled_from(["foreground", "background", "end", "leave"]), st.integers(0, 50)))


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, calls_max=st.integers(1, 4), background_max=st.integers(1, 3))
def test_whatever_happens(steps: list[tuple[str, int]], calls_max: int, background_max: int) -> None:
    """The bounds hold, no place stays empty while somebody may have it, and each lane keeps its order."""
    asyncio.run(check(steps, calls_max, background_max))


async def check(steps: list[tuple[str, int]], calls_max: int, background_max: int) -> None:
    lanes = ModelLanes(calls_max, background_max)
    allowed = background_places(calls_max, background_max)
    order: list[Caller] = []
    waiting: list[Caller] = []
    running: list[Caller] = []
    for action, number in steps:
        if action in {"foreground", "background"}:
            lane: Lane = "foreground" if action == "foreground" else "background"
            waiting.append(Caller(lanes, lane, order))
            await settle()
        elif action == "end" and running:
            await running.pop(number % len(running)).end()
        elif action == "leave" and waiting:
            await waiting.pop(number % len(waiting)).leave()
        let_in = [caller for caller in waiting if caller in order]
        for lane in ("foreground", "background"):
            in_line = [caller for caller in waiting if caller.lane == lane]
            assert [caller for caller in let_in if caller.lane == lane] == in_line[: len(in_line) - sum(
                caller not in order for caller in in_line
            )]  # fmt: skip
        running += let_in
        waiting = [caller for caller in waiting if caller not in order]
        held = [caller.lane for caller in running]
        assert len(held) <= calls_max
        assert held.count("background") <= allowed
        if len(held) < calls_max:
            assert [caller.lane for caller in waiting if caller.lane == "foreground"] == []
            assert held.count("background") == allowed or not waiting
    for caller in (*running, *waiting):
        caller.task.cancel()
    await asyncio.gather(*(caller.task for caller in (*running, *waiting)), return_exceptions=True)
    figures = lanes.statistics()
    assert [(line.running, line.waiting) for line in (figures.foreground, figures.background)] == [(0, 0)] * 2
