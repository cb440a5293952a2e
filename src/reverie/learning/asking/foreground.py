"""Who waits for an answer right now: turns go before everything that learns from them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reverie.errors import JobPutBackError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from reverie.clock import Clock


class Foreground:
    """Counts the turns that run. Belongs to one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns = 0
        self._quiet_since_s = clock.monotonic_s()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._giving_way: set[asyncio.Timeout] = set()

    def began(self) -> None:
        """A turn begins: calls that give way are broken off."""
        self._turns += 1
        self._quiet.clear()
        for call in self._giving_way:
            call.reschedule(asyncio.get_running_loop().time())
        self._giving_way.clear()

    def ended(self) -> None:
        """A turn has ended, however it did."""
        assert self._turns > 0, "a turn ends once, after it has begun"
        self._turns -= 1
        if self._turns == 0:
            self._quiet_since_s = self._clock.monotonic_s()
            self._quiet.set()

    @property
    def busy(self) -> bool:
        """True while a turn runs."""
        return self._turns > 0

    @property
    def quiet_for_s(self) -> float:
        """How long no turn has run; 0 while one does. Before the first turn: since the start."""
        return 0.0 if self.busy else self._clock.monotonic_s() - self._quiet_since_s

    async def quiet(self, within_s: float) -> None:
        """Wait until no turn runs, for so long at most.

        Raises:
            JobPutBackError: one runs all that time.
        """
        try:
            async with asyncio.timeout(within_s):
                while self.busy:
                    await self._quiet.wait()
        except TimeoutError:
            raise JobPutBackError("a turn runs") from None

    @asynccontextmanager
    async def giving_way(self) -> AsyncGenerator[None]:
        """A block that is broken off when a turn begins. While one runs there is nobody to give way: look first.

        Raises:
            JobPutBackError: one did.
        """
        call = asyncio.timeout(None)
        try:
            async with call:
                self._giving_way.add(call)
                try:
                    yield
                finally:
                    self._giving_way.discard(call)
        except TimeoutError:
            if not call.expired():
                raise
            raise JobPutBackError("it gave way to a turn") from None
