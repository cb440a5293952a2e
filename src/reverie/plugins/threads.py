"""A plugin's own threads: whatever it does there, Reverie's event loop goes on.

`async def` hooks run on a loop of the plugin's own, side by side; plain functions in up to `FUNCTION_THREADS_MAX`
threads. Neither can be stopped from outside: a hook that is given up at its deadline is cancelled if it is a
coroutine, and otherwise left to end by itself. So the threads are daemons (none keeps the process from ending), their
number is fixed, and a plugin with `CALLS_MAX` calls that do not end gets no further ones.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reverie.errors import PluginBusyError, PluginError
from reverie.plugins.contract import ErrorWords

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FUNCTION_THREADS_MAX = 4
CALLS_MAX = 64
"""Calls of one plugin that may be under way or given up and not ended."""
CANCEL_S_MAX = 0.5


@dataclass(frozen=True, slots=True)
class Returned:
    """A hook ended well."""

    value: object


@dataclass(frozen=True, slots=True)
class Raised:
    """A hook raised."""

    error: ErrorWords


Outcome = Returned | Raised


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[..., Any]
    arguments: tuple[object, ...]
    outcome: Future[Outcome]


class PluginThreads:
    """The threads of one plugin. Made and started off the event loop; `call` is then used on one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(target=self._run_loop, name=f"plugin-{name}", daemon=True)
        self._work: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._function_threads: list[threading.Thread] = []
        self._pending: set[Future[Outcome]] = set()
        self._loop_thread.start()

    def call(self, function: Callable[..., Any], *arguments: object) -> Future[Outcome]:
        """Call a hook; what it raises is an outcome, too. Cancelling the future cancels a coroutine.

        Raises:
            PluginBusyError: too many calls have not ended; nothing was called.
        """
        self._pending = {future for future in self._pending if not future.done()}
        if len(self._pending) >= CALLS_MAX:
            raise PluginBusyError(f"{len(self._pending)} earlier calls have not ended")
        if inspect.iscoroutinefunction(function):
            future = asyncio.run_coroutine_threadsafe(_awaited(function, arguments), self._loop)
        else:
            future = Future[Outcome]()
            self._work.put(_Call(function, arguments, future))
            if len(self._function_threads) < min(FUNCTION_THREADS_MAX, len(self._pending) + 1):
                name = f"plugin-{self._name}-{len(self._function_threads) + 1}"
                thread = threading.Thread(target=self._run_functions, name=name, daemon=True)
                self._function_threads.append(thread)
                thread.start()
        self._pending.add(future)
        return future

    def close(self, within_s: float) -> bool:
        """End the threads, off the event loop; False when a hook still holds one. It then ends with the process."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        for _ in self._function_threads:
            self._work.put(None)
        threads = [self._loop_thread, *self._function_threads]
        for thread in threads:
            thread.join(within_s / len(threads))
        return not any(thread.is_alive() for thread in threads)

    def _run_loop(self) -> None:
        try:
            self._loop.run_forever()
            if left := asyncio.all_tasks(self._loop):
                for task in left:
                    task.cancel()
                self._loop.run_until_complete(asyncio.wait(left, timeout=CANCEL_S_MAX))
        finally:
            self._loop.close()

    def _run_functions(self) -> None:
        while (call := self._work.get()) is not None:
            if call.outcome.set_running_or_notify_cancel():
                call.outcome.set_result(_called(call.function, call.arguments))


async def _awaited(function: Callable[..., Awaitable[object]], arguments: tuple[object, ...]) -> Outcome:
    try:
        return Returned(await function(*arguments))
    except BaseException as error:  # noqa: BLE001 (a named border: a plugin's code; even its exit ends nothing of ours)
        return Raised(ErrorWords.of(error))


def _called(function: Callable[..., object], arguments: tuple[object, ...]) -> Outcome:
    try:
        value = function(*arguments)
    except BaseException as error:  # noqa: BLE001 (as above)
        return Raised(ErrorWords.of(error))
    if inspect.iscoroutine(value):
        value.close()
        return Raised(ErrorWords.of(PluginError("a hook that returns a coroutine must be written `async def`")))
    return Returned(value)
