"""Messages that enter a turn while it runs, from the session's queue into the native thread.

    taken      the queue gave it to this turn: it has no turn of its own any more
    waiting    held back until nobody has written for a while (`quiet_ms`), so that what belongs together goes together
    sent       handed over, in the order of arrival, as one message under a name of ours
    accepted   the app-server has it: that is not yet read by the model
    consumed   an item of the thread bears its name

What is not consumed when the turn ends goes back to the queue and is answered by a turn of its own. One whose fate is
not known, because the app-server died, is not sent again: it ends with its turn, whose caller is told.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog

from reverie.agent.codex.protocol import text_input
from reverie.errors import CodexError, CodexRefusedError
from reverie.sessions.inbox import quiet_in_ms
from reverie.sessions.replay import input_start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from reverie.clock import Clock
    from reverie.types import JsonObject, Turn

log = structlog.get_logger(__name__)

LOOK_S = 0.1
"""How often the queue is asked for messages: it costs nothing while there are none."""
BATCH_MAX = 50
"""Messages that go together at most; a batch of so many waits for no quiet."""


class Steering:
    """The messages for one running turn."""

    def __init__(
        self,
        take: Callable[[], Awaitable[Sequence[Turn]]],
        give_back: Callable[[Sequence[Turn]], Awaitable[None]],
        clock: Clock,
        *,
        name: str,
        quiet_ms: int,
    ) -> None:
        self._take = take
        self._give_back = give_back
        self._clock = clock
        self._name = name
        self._quiet_ms = quiet_ms
        self._waiting: list[Turn] = []
        self._first_ms = self._last_ms = 0
        self._sent: OrderedDict[str, tuple[Turn, ...]] = OrderedDict()
        self._count = 0
        self._taking: asyncio.Future[Sequence[Turn]] | None = None
        self._refused = False

    async def run(self, send: Callable[[list[JsonObject], str], Awaitable[None]]) -> None:
        """Hand messages over until this is cancelled, or the turn takes none."""
        while not self._refused:
            await self._collect()
            if self._waiting and self._is_quiet():
                await self._hand_over(send)
            await asyncio.sleep(LOOK_S)

    def consumed(self, client_id: str | None) -> tuple[Turn, ...]:
        """The turns whose messages are in the thread now that an item bears this name; none if it is not ours."""
        return self._sent.pop(client_id, ()) if client_id is not None else ()

    async def end(self, *, known: bool) -> None:
        """The turn is over: what was not consumed goes back. Not `known`: what was sent may have been read or not."""
        if self._taking is not None:
            self._waiting += await self._taking
            self._taking = None
        unread = [turn for turns in self._sent.values() for turn in turns] if known else []
        lost = 0 if known else sum(len(turns) for turns in self._sent.values())
        back = [*unread, *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        if lost:
            log.warning("messages were handed to Codex, and it is not known whether it read them",
                        action="codex_steer_unconfirmed", turn=self._name, messages=lost)  # fmt: skip
        if back:
            log.info("messages were not read within the turn and wait again", action="codex_steer_returned",
                     turn=self._name, messages=len(back))  # fmt: skip
            await self._give_back(back)

    async def _collect(self) -> None:
        # What it gives is ours, also when we are cancelled meanwhile.
        self._taking = asyncio.ensure_future(self._take())
        taken = await asyncio.shield(self._taking)
        self._taking = None
        for turn in taken:
            self._last_ms = self._clock.now_ms()
            if not self._waiting:
                self._first_ms = self._last_ms
            self._waiting.append(turn)

    def _is_quiet(self) -> bool:
        if len(self._waiting) >= BATCH_MAX or not self._quiet_ms:
            return True
        return not quiet_in_ms(self._clock.now_ms(), self._last_ms, self._first_ms, self._quiet_ms)

    async def _hand_over(self, send: Callable[[list[JsonObject], str], Awaitable[None]]) -> None:
        batch, self._waiting = tuple(self._waiting[:BATCH_MAX]), self._waiting[BATCH_MAX:]
        self._count += 1
        client_id = f"{self._name}:steer:{self._count}"
        self._sent[client_id] = batch
        try:
            await send([each for turn in batch for each in _content(turn)], client_id)
        except CodexRefusedError as error:  # the turn has ended, or takes none: nothing was handed over
            log.info("Codex takes no more messages in this turn", action="codex_steer_refused", turn=self._name,
                     cause=str(error))  # fmt: skip
            self._refused = True
            self._waiting = [*self._sent.pop(client_id), *self._waiting]
        except CodexError as error:  # it may have it: the items of the thread will tell, or the end of the connection
            log.warning("Codex did not confirm a message", action="codex_steer_unanswered", turn=self._name,
                        cause=str(error))  # fmt: skip


def _content(turn: Turn) -> list[JsonObject]:
    """What a turn says that is new, as input of a native turn."""
    messages = turn.request.messages
    new = messages[input_start(messages) :]
    images = tuple(image.url for message in new for image in message.images)
    return text_input("\n\n".join(message.text for message in new), images)
