"""One turn in a native thread, from its start to its end, however it ends.

start     the message is sent; it counts as accepted when it is an item of the thread, because only then it is on
          disk: a turn that was begun and whose process is killed before that has never been
follow    each event is handed to `hear`, in order; meanwhile messages may enter
stop      a caller who cancels waits until the turn has really stopped; an app-server that does not stop a turn is
          ended, because the next turn of the thread would run into it
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import structlog

from reverie.agent.codex.protocol import TurnEnded
from reverie.errors import CodexDiedError, CodexError, CodexRefusedError, ReverieError
from reverie.tasks import OwnedTasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reverie.agent.codex.app_server import AppServer, Subscription, TurnOptions
    from reverie.agent.codex.protocol import Event
    from reverie.agent.codex.steering import Steering
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

STOP_S = 10.0
"""How long an interrupted turn may take to end."""


class NativeTurn:
    """A turn of one thread. `hear` is awaited with each event of it; what it raises stops the turn."""

    def __init__(
        self,
        server: AppServer,
        thread_id: str,
        hear: Callable[[Event], Awaitable[None]],
        steering: Steering,
    ) -> None:
        self._server = server
        self._thread_id = thread_id
        self._hear = hear
        self._steering = steering
        self._ended = False

    async def run(self, content: list[JsonObject], client_id: str, options: TurnOptions) -> TurnEnded:
        """Run it; how it ended. What messages were meant to enter it and did not is given back by then.

        Raises:
            CodexRefusedError: it was not begun.
            CodexDiedError: the app-server ended first.
            CodexError: it could not be followed.
        """
        with self._server.subscribed(self._thread_id) as events:
            try:
                return await self._run(events, content, client_id, options)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._steering.end(known=self._ended)

    async def _run(
        self, events: Subscription, content: list[JsonObject], client_id: str, options: TurnOptions
    ) -> TurnEnded:
        starting = asyncio.ensure_future(self._server.start_turn(self._thread_id, content, client_id, options))
        try:
            return await self._follow(events, await asyncio.shield(starting))
        except CodexRefusedError:
            self._ended = True
            raise
        except CodexDiedError:
            raise
        except BaseException:  # cancelled, or what was heard could not be dealt with: it must not go on unheard
            with anyio.CancelScope(shield=True):
                await self._stop(events, starting)
            raise

    async def _follow(self, events: Subscription, turn_id: str) -> TurnEnded:
        async def send(content: list[JsonObject], client_id: str) -> None:
            await self._server.steer(self._thread_id, turn_id, content, client_id)

        async with OwnedTasks() as tasks:
            tasks.start(self._steering.run(send), name="codex-steering")
            while True:
                event = await events.next()
                if isinstance(event, TurnEnded) and event.turn_id == turn_id:
                    self._ended = True
                    return event
                await self._hear(event)

    async def _stop(self, events: Subscription, starting: asyncio.Future[str]) -> None:
        """Stop what was begun, and wait until it has ended."""
        try:
            async with asyncio.timeout(STOP_S):
                await self._interrupted(events, await starting)
        except CodexRefusedError:  # it had ended already, or never began
            self._ended = True
        except CodexDiedError as error:
            log.info("a turn was stopped by the end of its app-server", action="codex_stopped", cause=str(error))
        except (CodexError, TimeoutError) as error:
            await self._server.kill(f"a turn did not stop: {error or f'within {STOP_S:g} s'}")

    async def _interrupted(self, events: Subscription, turn_id: str) -> None:
        await self._server.interrupt(self._thread_id, turn_id)
        while True:
            event = await events.next()
            if isinstance(event, TurnEnded) and event.turn_id == turn_id:
                self._ended = True
                return
            with suppress(ReverieError):  # the turn is over in any case; its cause is raised already
                await self._hear(event)
