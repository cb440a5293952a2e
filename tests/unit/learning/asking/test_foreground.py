"""Turns go first."""

from __future__ import annotations

import asyncio

import pytest

from reverie.errors import JobPutBackError
from reverie.learning.asking.foreground import Foreground
from reverie.testing import FakeClock

pytestmark = pytest.mark.anyio


async def test_it_is_quiet_when_the_last_turn_has_ended() -> None:
    """Turns may overlap; quiet begins with the end of the last one; whoever waits goes on then, or gives up before."""
    clock = FakeClock()
    foreground = Foreground(clock)
    clock.advance(seconds=3)
    assert (foreground.busy, foreground.quiet_for_s) == (False, 3.0)
    foreground.began()
    foreground.began()
    with pytest.raises(JobPutBackError, match="a turn runs"):
        await foreground.quiet(0.01)
    waits = asyncio.create_task(foreground.quiet(10))
    foreground.ended()
    await asyncio.sleep(0.01)
    assert (foreground.busy, foreground.quiet_for_s, waits.done()) == (True, 0.0, False)
    foreground.ended()
    clock.advance(seconds=2)
    await waits
    assert (foreground.busy, foreground.quiet_for_s) == (False, 2.0)


async def test_what_gives_way_is_broken_off_once() -> None:
    """A turn breaks off the blocks that give way; one that begins afterwards is not, until the next turn."""
    foreground = Foreground(FakeClock())

    async def block() -> None:
        async with foreground.giving_way():
            foreground.began()
            await asyncio.sleep(5)

    with pytest.raises(JobPutBackError, match="gave way to a turn"):
        await block()
    async with foreground.giving_way():
        await asyncio.sleep(0.01)
    foreground.ended()


async def test_errors_of_a_block_that_gives_way_are_its_own() -> None:
    """A block's own timeout is not taken for giving way, and neither is its cancellation."""
    foreground = Foreground(FakeClock())
    with pytest.raises(TimeoutError):
        async with foreground.giving_way(), asyncio.timeout(0.01):
            await asyncio.sleep(5)

    async def block() -> None:
        async with foreground.giving_way():
            await asyncio.sleep(5)

    task = asyncio.create_task(block())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
