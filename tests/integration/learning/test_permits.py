"""Places for calls of a model: in order inside a process, by leases between processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from reverie.errors import JobPutBackError
from reverie.learning.asking.permits import LEASE_MS, RENEW_S, Permits
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """The state of a home."""
    opened = await Database.open(tmp_path / "state.db", STATE, now_ms=0)
    yield opened
    await opened.aclose()


def permits(database: Database, clock: FakeClock, limit: int, name: str, renew_s: float = RENEW_S) -> Permits:
    """The places as a process of this name sees them."""

    async def process() -> str:
        await asyncio.sleep(0)
        return name

    return Permits(database, clock, limit, process, renew_s=renew_s)


async def test_who_came_first_goes_first(database: Database) -> None:
    """Callers of one process get their places in the order in which they came, and one that leaves is passed over."""
    places, order = permits(database, FakeClock(), 1, "one"), list[int]()

    async def caller(number: int) -> None:
        async with places.hold():
            order.append(number)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(caller(number)) for number in range(6)]
    await asyncio.sleep(0.005)
    tasks[3].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each).__name__ for each in outcomes] == ["NoneType"] * 3 + ["CancelledError"] + ["NoneType"] * 2
    assert (order, places.held, places.waiting) == ([0, 1, 2, 4, 5], 0, 0)


async def test_processes_share_the_places(database: Database) -> None:
    """A place that another process has is waited for, and had as soon as it is given back."""
    clock = FakeClock()
    one, two = permits(database, clock, 1, "one"), permits(database, clock, 1, "two")
    async with one.hold():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15), two.hold():
                raise AssertionError("there is one place")
    with anyio.fail_after(1):
        async with two.hold():
            assert (one.held, two.held) == (0, 1)


async def test_the_place_of_a_dead_process_lapses(database: Database) -> None:
    """What a process held that died is free when its lease is over, and at once when it comes back itself."""
    clock = FakeClock()
    dead, other, again = (permits(database, clock, 1, name) for name in ("dead", "other", "dead"))
    holding = dead.hold()
    await holding.__aenter__()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15), other.hold():
            raise AssertionError("its lease lasts")
    with anyio.fail_after(1):
        async with again.hold():
            assert again.held == 1
    clock.advance(ms=LEASE_MS + 1)
    with anyio.fail_after(1):
        async with other.hold():
            assert other.held == 1
    await holding.__aexit__(None, None, None)


async def test_a_call_whose_place_was_lost_is_broken_off(database: Database) -> None:
    """A process that stood still for longer than its lease does not call beside the one that has its place now."""
    clock = FakeClock()
    slow, other = (permits(database, clock, 1, name, renew_s=0.05) for name in ("slow", "other"))

    async def late() -> None:
        async with slow.hold():
            clock.advance(ms=LEASE_MS + 1)
            async with other.hold():
                await asyncio.sleep(1)

    with pytest.raises(JobPutBackError, match="given to another process"):
        await late()
