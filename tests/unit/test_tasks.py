"""Tasks that end with their owner, and loops that are tried again."""

from __future__ import annotations

import asyncio

import pytest

from reverie.background import Wake, retried
from reverie.tasks import OwnedTasks

pytestmark = pytest.mark.anyio


async def test_tasks_end_with_their_owner() -> None:
    """Leaving the block cancels what runs and waits for it to clean up."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    async with OwnedTasks() as tasks:
        tasks.start(work(), name="work")
        await asyncio.sleep(0)

    assert ended == ["cleaned up"]
    assert len(tasks) == 0


async def test_an_error_of_the_block_rises_as_it_is() -> None:
    """Callers catch the error they know, not a group around it."""

    async def forever() -> None:
        await asyncio.Event().wait()

    async def block() -> None:
        async with OwnedTasks() as tasks:
            tasks.start(forever(), name="forever")
            raise LookupError("as it is")

    with pytest.raises(LookupError, match="as it is"):
        await block()


async def test_a_task_that_dies_leaves_the_others_alone() -> None:
    """A defect in one background edge does not stop the rest."""
    done = asyncio.Event()

    async def dies() -> None:
        raise ZeroDivisionError

    async def lives() -> None:
        await asyncio.sleep(0.01)
        done.set()

    async with OwnedTasks() as tasks:
        tasks.start(dies(), name="dies")
        tasks.start(lives(), name="lives")
        await done.wait()

    assert done.is_set()


async def test_a_loop_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends when it ends by itself."""
    monkeypatch.setattr("reverie.background.RETRY_S_FIRST", 0.001)
    attempts: list[int] = []

    async def loop() -> None:
        attempts.append(len(attempts))
        if len(attempts) < 4:
            raise OSError("not yet")

    await retried("loop", loop)

    assert attempts == [0, 1, 2, 3]


async def test_a_bell_rung_before_it_is_heard_is_not_lost() -> None:
    """Work that came while the loop was busy is done at once."""
    wake = Wake()
    wake.ring()
    async with asyncio.timeout(1):
        await wake.heard(60)

    async with asyncio.timeout(1):
        await wake.heard(0.001)
