"""A database looked at through a connection that cannot write, on a worker thread, beside whoever writes it.

No statement here holds a snapshot for longer than itself unless the caller asks for one; a cancelled look stops the
statement that runs.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import apsw

from reverie.storage import Transaction
from reverie.storage.database import translated_errors
from reverie.storage.schema import load_queries
from reverie.storage.waiting import BUSY_TIMEOUT_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from reverie.storage import Schema

T = TypeVar("T")
INTERRUPT_AGAIN_S = 0.02


class LookedAt:
    """A database file as the doctor sees it: read-only, by the doctor's named queries."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.schema = schema
        self._connection: apsw.Connection | None = None
        self._given_up = False

    async def read(self, work: Callable[[Transaction], T], *, queries: str = "doctor") -> T:
        """Run `work` on a worker thread, with the named queries of one file.

        Raises:
            StorageError: the file is missing, damaged or cannot be read.
        """
        self._given_up = False
        reading = asyncio.ensure_future(asyncio.to_thread(self._run, work, queries))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            self._given_up = True
            while not reading.done():
                self._interrupt()
                await asyncio.wait([reading], timeout=INTERRUPT_AGAIN_S)
            reading.exception()
            raise

    async def snapshot(self, work: Callable[[Transaction], T]) -> T:
        """As `read`, on one consistent state of the file. For short work: the write-ahead log grows meanwhile."""

        def within(tx: Transaction) -> T:
            assert self._connection is not None
            self._connection.execute("BEGIN")
            try:
                return work(tx)
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

        return await self.read(within)

    def _interrupt(self) -> None:
        """End the statement that runs; between two statements there is none, and `_is_wanted` stops the next one."""
        with suppress(apsw.Error):  # it was closed meanwhile
            if (connection := self._connection) is not None:
                connection.interrupt()

    def _is_wanted(self, _cursor: object, _sql: str, _bindings: object) -> bool:
        """Asked before each statement: nothing more is begun for a look that was given up."""
        if self._given_up:
            raise apsw.InterruptError("the look was given up")
        return True

    def pragma(self, name: str) -> int:
        """A number of the file's header; only inside the `work` of a `read`."""
        assert self._connection is not None
        value = self._connection.pragma(name)
        return value if isinstance(value, int) else 0

    def _run(self, work: Callable[[Transaction], T], queries: str) -> T:
        with translated_errors(self.path, self.schema), opened(self.path, writing=False) as connection:
            self._connection = connection
            connection.exec_trace = self._is_wanted
            try:
                return work(Transaction(connection, load_queries(queries)))
            finally:
                self._connection = None


@contextmanager
def opened(path: Path, *, writing: bool) -> Generator[apsw.Connection]:
    """A connection to an existing file; only for worker threads. Raises SQLite's own errors."""
    flags = apsw.SQLITE_OPEN_URI | (apsw.SQLITE_OPEN_READWRITE if writing else apsw.SQLITE_OPEN_READONLY)
    connection = apsw.Connection(f"file:{quote(str(path))}?mode={'rw' if writing else 'ro'}", flags=flags)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("foreign_keys", True)
        connection.pragma("temp_store", "MEMORY")
        if not writing:
            connection.pragma("query_only", True)
        yield connection
    finally:
        connection.close()
