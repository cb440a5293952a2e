"""One engine on threads of its own: each call within a deadline, whatever the engine does.

It stands on the threads that plugins have (`plugins/threads.py`). Calls beyond `CALLS_AT_ONCE` wait in line; their
deadline runs meanwhile, and one that never got its turn says nothing of the engine (`Busy`).
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reverie.errors import PluginBusyError
from reverie.plugins.threads import FUNCTION_THREADS_MAX, PluginThreads, Raised

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.plugins.contract import ErrorWords

CALLS_AT_ONCE = 32
GAVE_UP = "CancelledError"


class LateError(Exception):
    """The engine had its turn and did not answer in time."""


class BusyError(Exception):
    """The engine is asked too much at once: it never had its turn."""


class RaisedError(Exception):
    """The engine raised; `gave_up` where it only said that it was cancelled."""

    def __init__(self, words: ErrorWords) -> None:
        super().__init__(words.told(private=True))  # it sees conversations, and its errors may quote them
        self.words = words
        self.gave_up = words.kind == GAVE_UP


@dataclass(frozen=True, slots=True)
class _Places:
    """How many calls run at once: functions hold a thread each, coroutines share one."""

    functions: asyncio.Semaphore
    coroutines: asyncio.Semaphore


class Isolated:
    """The threads of one engine. Make it with `open`; it is used on one event loop."""

    def __init__(self, threads: PluginThreads) -> None:
        self._threads = threads
        self._places = _Places(asyncio.Semaphore(FUNCTION_THREADS_MAX), asyncio.Semaphore(CALLS_AT_ONCE))

    @classmethod
    async def open(cls, name: str) -> Isolated:
        """Start the threads."""
        return cls(await asyncio.to_thread(PluginThreads, f"engine-{name}"))

    async def call(self, operation: Callable[..., Any], *arguments: object, within_ms: int) -> object:
        """What an operation returned. Cancelling this cancels a coroutine; a function ends by itself.

        Raises:
            LateError, BusyError, RaisedError: it did not return in time, could not be called, or raised.
        """
        is_coroutine = inspect.iscoroutinefunction(operation)
        place = self._places.coroutines if is_coroutine else self._places.functions
        called = False
        try:
            async with asyncio.timeout(within_ms / 1000), place:
                future = self._threads.call(operation, *arguments)
                called = True
                outcome = await asyncio.wrap_future(future)
        except TimeoutError:
            raise (LateError if called else BusyError)(f"took longer than {within_ms} ms") from None
        except PluginBusyError as error:
            raise BusyError(str(error)) from None
        if isinstance(outcome, Raised):
            raise RaisedError(outcome.error)
        return outcome.value

    async def close(self) -> bool:
        """End the threads; False when a call still holds one, which then ends with the process."""
        return await asyncio.to_thread(self._threads.close, 1.0)
