"""The places for background calls of a model: at most so many at the same time, over all processes of a home.

Inside a process callers are served in the order in which they came; a caller that is cancelled leaves the line. Between
processes a place is a row with a lease: it is renewed while the call lasts, and lapses when its process dies. A process
that comes back frees what it held before it died.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import structlog

from reverie.errors import JobPutBackError, StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from reverie.clock import Clock
    from reverie.storage.database import Database, Transaction

log = structlog.get_logger(__name__)

LEASE_MS = 30_000
RENEW_S = 10.0
LOOK_AGAIN_S = 0.1
"""How often a place is looked for that other processes have."""


class Permits:
    """At most `limit` places. One object serves the whole process; it belongs to one event loop.

    `process` gives this process's name, which is nobody else's and the same after a restart; leases are renewed every
    `renew_s`.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        limit: int,
        process: Callable[[], Awaitable[str]],
        *,
        renew_s: float = RENEW_S,
    ) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit
        self._process = process
        self._renew_s = renew_s
        self._line = asyncio.Semaphore(limit)
        self._looking = asyncio.Lock()
        self._numbers = count(1)
        self._name = ""
        self._giving_back: set[asyncio.Task[None]] = set()
        self.held = 0
        self.waiting = 0

    @asynccontextmanager
    async def hold(self) -> AsyncGenerator[None]:
        """A place for one call, held until the block is left. Waits for one if need be.

        Raises:
            JobPutBackError: the place was lost, because this process stood still for too long.
            StorageError: the places cannot be read or written.
        """
        self.waiting += 1
        try:
            await self._line.acquire()
        finally:
            self.waiting -= 1
        try:
            async with self._leased():
                yield
        finally:
            self._line.release()

    @asynccontextmanager
    async def _leased(self) -> AsyncGenerator[None]:
        slot, holder = await self._take()
        self.held += 1
        lease = asyncio.timeout(None)
        try:
            async with lease:
                renewing = asyncio.create_task(self._renew(slot, holder, lease))
                try:
                    yield
                finally:
                    renewing.cancel()
        except TimeoutError:
            if not lease.expired():
                raise
            raise JobPutBackError("its place was given to another process") from None
        finally:
            self.held -= 1
            giving = asyncio.create_task(self._give_back(slot, holder))
            self._giving_back.add(giving)
            giving.add_done_callback(self._giving_back.discard)
            await asyncio.shield(giving)

    async def _take(self) -> tuple[int, str]:
        """A place, by its number and our name for it; one caller of this process looks at a time."""
        async with self._looking:
            if not self._name:
                self._name = await self._process()
                await self._database.write(lambda tx: tx.execute("free_permits_of", holder=self._name))
            holder = f"{self._name}/{next(self._numbers)}"
            while True:
                taking = asyncio.ensure_future(self._database.write(lambda tx: self._free_slot(tx, holder)))
                try:
                    slot = await asyncio.shield(taking)
                except asyncio.CancelledError:
                    taken = await taking
                    if taken is not None:
                        await self._give_back(taken, holder)
                    raise
                if slot is not None:
                    return slot, holder
                await asyncio.sleep(LOOK_AGAIN_S)

    def _free_slot(self, tx: Transaction, holder: str) -> int | None:
        """On the writer thread: take the first free place."""
        now_ms = self._clock.now_ms()
        taken = {row["slot"] for row in tx.rows("taken_permits", now=now_ms)}
        free = next((slot for slot in range(1, self._limit + 1) if slot not in taken), None)
        if free is not None and len(taken) < self._limit:
            tx.execute("take_permit", slot=free, holder=holder, until=now_ms + LEASE_MS)
            return free
        return None

    async def _renew(self, slot: int, holder: str, lease: asyncio.Timeout) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            until_ms = self._clock.now_ms() + LEASE_MS
            try:
                kept = await self._database.write(
                    lambda tx, until=until_ms: tx.execute("renew_permit", slot=slot, holder=holder, until=until)
                )
            except StorageError as error:  # the lease lasts for two more tries
                log.warning("a place is not renewed", action="permit_not_renewed", error=str(error))
                continue
            if not kept:
                lease.reschedule(asyncio.get_running_loop().time())
                return

    async def _give_back(self, slot: int, holder: str) -> None:
        await self._database.write(lambda tx: tx.execute("give_permit_back", slot=slot, holder=holder))
