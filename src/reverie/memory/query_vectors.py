"""The vectors of the newest questions: what two ask for, at the same time or one after the other, is computed once.

A turn asks for the vector of its message twice: for what memory holds, and for what was learned.

Invariant: nobody waits for a computation that nobody else wants any more: the last one to give up cancels it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import numpy as np
    from numpy.typing import NDArray

KEPT_MAX = 8
"""Questions whose vectors are held; the oldest gives way."""


@dataclass(slots=True)
class _Asked:
    task: asyncio.Task[NDArray[np.float32]]
    waiting: int = 0


class QueryVectors:
    """Vectors of questions, by their text. `embed` computes one."""

    def __init__(self, embed: Callable[[str], Coroutine[None, None, NDArray[np.float32]]]) -> None:
        self._embed = embed
        self._kept: dict[str, _Asked] = {}

    async def vector(self, text: str) -> NDArray[np.float32]:
        """The vector of a question. A failure is told to all who wait for it, and never kept.

        Raises:
            EmbedderError: it could not be computed.
        """
        asked = self._kept.get(text) or self._ask(text)
        asked.waiting += 1
        try:
            return await asyncio.shield(asked.task)
        finally:
            asked.waiting -= 1
            if not asked.waiting and not asked.task.done():
                self._forget(text, asked)
                asked.task.cancel()

    def forget(self) -> None:
        """What was computed is asked for again; computations under way go on."""
        self._kept = {text: asked for text, asked in self._kept.items() if not asked.task.done()}

    async def aclose(self) -> None:
        """Stop what is under way."""
        tasks = [asked.task for asked in self._kept.values()]
        self._kept = {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, text: str) -> _Asked:
        """Begin to compute a vector. Only what is done gives way to it: who waits for the others gets them."""
        done = [known for known, asked in self._kept.items() if asked.task.done()]
        for known in done[: max(0, len(self._kept) - KEPT_MAX + 1)]:
            del self._kept[known]
        asked = self._kept[text] = _Asked(asyncio.create_task(self._embed(text), name="embed a question"))
        asked.task.add_done_callback(lambda task: self._forget_failure(text, asked, task))
        return asked

    def _forget_failure(self, text: str, asked: _Asked, task: asyncio.Task[NDArray[np.float32]]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._forget(text, asked)

    def _forget(self, text: str, asked: _Asked) -> None:
        if self._kept.get(text) is asked:
            del self._kept[text]
