"""Background tasks that have an owner and an end.

`OwnedTasks` is a set of asyncio tasks tied to a block: leaving it cancels those that still run and waits for them.
Unlike a task group it lets an error of the block itself rise unwrapped, and a task that dies on a defect is logged
and does not take the others with it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import structlog

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

log = structlog.get_logger(__name__)


class OwnedTasks:
    """Tasks that end with their owner. Use as `async with OwnedTasks() as tasks:`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run a coroutine until it ends or the owner does."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task died", action="task_died", task=task.get_name(), exc_info=error)
