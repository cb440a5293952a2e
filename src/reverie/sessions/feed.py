"""What happens to a turn, as it happens: a feed for whoever asked for it, a watch for whoever looks at its session."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Literal

from reverie.sessions.events import ReplyDelta, TurnFailed, TurnFinished

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reverie.sessions.events import TurnEvent
    from reverie.sessions.inbox import Place
    from reverie.types import SessionKey

WATCHED_EVENTS_MAX = 1_000


class TurnLog:
    """The events of one turn, from the first to the terminal one."""

    def __init__(self) -> None:
        self.events: list[TurnEvent] = []
        self.more = asyncio.Event()

    @property
    def ended(self) -> bool:
        """True once the terminal event is there."""
        return bool(self.events) and isinstance(self.events[-1], TurnFinished | TurnFailed)

    def add(self, event: TurnEvent) -> None:
        """Add an event. Nothing may follow a terminal one."""
        assert not self.ended, "a turn has one terminal event"
        self.events.append(event)
        self.more.set()
        self.more = asyncio.Event()

    def said(self) -> str:
        """The text of the reply so far."""
        return "".join(event.text for event in self.events if isinstance(event, ReplyDelta))


class TurnFeed:
    """What happens to one turn, for one who asked for it: any number of followers, from the start at any time.

    `place` is where the turn stood when this feed was made; `attached` is true when the message had been accepted
    before under the same key.
    """

    def __init__(
        self, turn_id: str, session: SessionKey, log: TurnLog, place: Place, *, attached: bool = False
    ) -> None:
        self.turn_id = turn_id
        self.session_key = session
        self.session_id = ""
        self.place = place
        self.attached = attached
        self._log = log

    @property
    def ended(self) -> bool:
        """True once the terminal event is there."""
        return self._log.ended

    async def begun(self, within_s: float) -> bool:
        """Wait until the turn runs or has ended, at most `within_s` seconds; False when it still waits then."""
        if not self._log.events:
            try:
                async with asyncio.timeout(within_s):
                    await self._log.more.wait()
            except TimeoutError:
                return bool(self._log.events)
        return True

    async def follow(self) -> AsyncIterator[TurnEvent]:
        """Every event from the first; ends after the terminal one. Leaving early does not touch the turn."""
        index = 0
        while True:
            more = self._log.more
            while index < len(self._log.events):
                event = self._log.events[index]
                yield event
                index += 1
                if isinstance(event, TurnFinished | TurnFailed):
                    return
            if more is self._log.more:
                await more.wait()

    async def result(self) -> TurnFinished:
        """The answer.

        Raises:
            ReverieError: the turn failed; this is its cause.
        """
        async for event in self.follow():
            if isinstance(event, TurnFinished):
                return event
            if isinstance(event, TurnFailed):
                raise event.error
        raise AssertionError("a feed ends with a terminal event")


class SessionWatch:
    """What happens in one session from now on.

    Live events wait in a bounded queue: a watcher that does not keep up loses the oldest. What is recorded is never
    lost: the watch only says that there is more to read.
    """

    def __init__(self) -> None:
        self._live: deque[TurnEvent] = deque(maxlen=WATCHED_EVENTS_MAX)
        self._recorded = True
        self._more = asyncio.Event()

    def tell(self, event: TurnEvent) -> None:
        """Something happened that is not recorded."""
        self._live.append(event)
        self._more.set()

    def ring(self) -> None:
        """Something was recorded."""
        self._recorded = True
        self._more.set()

    async def next(self, within_s: float) -> TurnEvent | Literal["recorded"] | None:
        """The next live event; `recorded` when there is more to read; None after `within_s` seconds of silence."""
        if not self._live and not self._recorded:
            self._more.clear()
            try:
                async with asyncio.timeout(within_s):
                    await self._more.wait()
            except TimeoutError:
                return None
        if self._recorded:  # what is recorded comes first: a turn's start before its words
            self._recorded = False
            return "recorded"
        return self._live.popleft()
