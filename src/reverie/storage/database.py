"""One SQLite file: a writer thread that commits in groups, a pool of reader threads, nothing on the event loop.

A caller hands over a function of a `Transaction`; it runs on one of the database's own threads and its result comes
back as an awaitable. Writes that arrive while another commits share the next commit (group commit): each runs in
its own savepoint, so one that fails is undone alone, and no caller hears of success before the commit is on disk.

Durability: `state.db` is opened with `synchronous=FULL` (an acknowledged write survives a power cut); the derived
files use NORMAL (it survives a crash of the process). WAL everywhere: readers never wait for the writer.

What is deleted is overwritten where it stood in a page that stays in use. Pages that fell free keep it until they are
used again, and so does the write-ahead log: `purge` leaves no trace there either.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from reverie.errors import (
    DatabaseCorruptError,
    HomeReadOnlyError,
    StorageClosedError,
    StorageError,
    StorageFullError,
)
from reverie.storage.migrate import check_identity, migrate
from reverie.storage.schema import load_queries
from reverie.storage.waiting import BUSY_TIMEOUT_MS, enter_wal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from reverie.storage.schema import Schema

T = TypeVar("T")
Row = dict[str, Any]

GROUP_WRITES_MAX = 64
GROUP_SECONDS_MAX = 0.010
WAITING_WRITES_MAX = 4_096
WAL_BYTES_MAX = 64 * 1024 * 1024
PURGED_BYTES = 1024 * 1024
"""Free pages overwritten in one transaction of a purge."""
PURGE_BREATH_S = 0.005
"""Between two pieces of a purge, so that writes get at the database."""
REWRITTEN_BYTES_MAX = 64 * 1024 * 1024
"""A file that is not larger is written anew in well under a second."""
LOG_TRIES = 40
LOG_RETRY_S = 0.05
LOG_BUSY_MS = 10
"""So long other writes wait for one try."""
OVERWRITE_IN_PAGES = 2
"""SQLite's `secure_delete` where it costs no further page."""
_NOBODYS_FAULT = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.InterruptError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ReadOnlyError,
    MemoryError,
)
"""Failures of the file, the disk or the machine: whatever is done next meets them, too."""


@dataclass(frozen=True, slots=True)
class DatabaseStatistics:
    """What a database has done since it was opened."""

    name: str
    writes: int
    commits: int
    reads: int
    waiting_writes: int


class Transaction:
    """The named queries of one database, on one open transaction.

    Only ever used on the thread that owns the connection, inside `Database.read` or `Database.write`.
    """

    def __init__(self, connection: apsw.Connection, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries

    def _run(self, name: str, parameters: Mapping[str, Any]) -> apsw.Cursor:
        return self._connection.execute(self._queries[name], parameters)

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        """All rows of a query that bounds its own result (a LIMIT, or a key)."""
        return [_as_dict(cursor, row) for cursor, row in _with_cursor(self._run(name, parameters))]

    def iterate(self, name: str, /, **parameters: Any) -> Iterator[Row]:
        """The rows one by one, for results that are not to be held in memory."""
        for cursor, row in _with_cursor(self._run(name, parameters)):
            yield _as_dict(cursor, row)

    def tuples(self, name: str, /, **parameters: Any) -> Iterator[tuple[Any, ...]]:
        """The rows as plain tuples, for tight loops over many."""
        return iter(self._run(name, parameters))

    def packed(self, name: str, /, **parameters: Any) -> list[Any]:
        """The rows of a query that packs them into one JSON array.

        Every row that SQLite hands over takes Python's lock anew; hundreds of them one by one take as many waits while
        other threads compute. A bounded result that is read while turns are waited for comes in one piece instead.
        """
        return json.loads(self.value(name, **parameters) or "[]")

    def row(self, name: str, /, **parameters: Any) -> Row | None:
        """The first row, or None."""
        for cursor, row in _with_cursor(self._run(name, parameters)):
            return _as_dict(cursor, row)
        return None

    def value(self, name: str, /, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        for row in self._run(name, parameters):
            return row[0]
        return None

    def execute(self, name: str, /, **parameters: Any) -> int:
        """Run a statement; returns how many rows it changed."""
        self._run(name, parameters)
        return self._connection.changes()

    def execute_many(self, name: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once per parameter set."""
        self._connection.executemany(self._queries[name], parameters)

    def insert(self, name: str, /, **parameters: Any) -> int:
        """Run an INSERT; returns the new row's id."""
        self._run(name, parameters)
        return self._connection.last_insert_rowid()

    def attempt(self, work: Callable[[], T]) -> T | Exception:
        """Do a part of the transaction. One that fails is undone alone, and its error is the answer.

        What the file, the disk or the machine refuses is no part's fault: that is raised, and ends the transaction.
        """
        self._connection.execute("SAVEPOINT part")
        try:
            result = work()
        except _NOBODYS_FAULT:
            raise
        except Exception as error:  # the caller gets it
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO part")
            result = error
        self._connection.execute("RELEASE part")
        return result

    @property
    def changes_in_all(self) -> int:
        """How many rows this connection has changed since it was opened, also those behind a virtual table."""
        return self._connection.total_changes()


def _with_cursor(cursor: apsw.Cursor) -> Iterator[tuple[apsw.Cursor, tuple[Any, ...]]]:
    for row in cursor:
        yield cursor, row


def _as_dict(cursor: apsw.Cursor, row: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.get_description(), row, strict=True)}


@contextmanager
def translated_errors(path: Path, schema: Schema) -> Generator[None]:
    """Turn SQLite's errors into ours: each names the file and what to do."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        message = f"{path} is damaged ({error}). Nothing was changed. {schema.remedy}"
        raise DatabaseCorruptError(message) from error
    except apsw.FullError as error:
        message = f"no space left for {path} ({error}): free some space and try again. The change was undone."
        raise StorageFullError(message) from error
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError) as error:
        message = f"{path} cannot be written ({error}): check the permissions of its directory."
        raise HomeReadOnlyError(message) from error
    except apsw.BusyError as error:
        message = f"{path} is locked by another process ({error}): stop it, or try again."
        raise StorageError(message) from error
    except apsw.IOError as error:
        message = f"the disk refused {path} ({error}): check free space and the disk's health."
        raise StorageError(message) from error
    except apsw.Error as error:
        raise StorageError(f"{path} refused a statement ({type(error).__name__}: {error}).") from error


@dataclass(slots=True)
class _Write:
    """A write that waits. One that is `apart` gets the writer's connection outside of any transaction."""

    work: Callable[[Any], Any]
    future: Future[Any]
    apart: bool = False


class Database:
    """A SQLite file opened for one process. Build it with `await Database.open(...)`, end it with `aclose()`."""

    def __init__(
        self, path: Path, schema: Schema, *, readers: int, tracer: Callable[[str, object], None] | None
    ) -> None:
        self.path = path
        self.schema = schema
        self._queries: Mapping[str, str] = {}
        self._tracer = tracer
        self._waiting: queue.Queue[_Write | None] = queue.Queue()
        self._slots = asyncio.Semaphore(WAITING_WRITES_MAX)
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._connections_lock = threading.Lock()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix=f"{schema.name}-read")
        self._writer = threading.Thread(target=self._write_loop, name=f"{schema.name}-write", daemon=True)
        self._closed = False
        self._writes = self._commits = self._reads = 0

    @classmethod
    async def open(
        cls,
        path: Path,
        schema: Schema,
        *,
        now_ms: int,
        readers: int = 2,
        tracer: Callable[[str, object], None] | None = None,
    ) -> Database:
        """Open or create the file and bring its schema up to date.

        Raises:
            DatabaseCorruptError: it is damaged, or not a database, or not ours.
            DatabaseTooNewError: a newer Reverie wrote it.
            HomeReadOnlyError: it cannot be written.
        """
        database = cls(path, schema, readers=readers, tracer=tracer)
        await asyncio.to_thread(database._prepare, now_ms)
        database._writer.start()
        return database

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a reader thread, on one consistent snapshot."""
        if self._closed:
            raise StorageClosedError(f"{self.path} is closed")
        self._reads += 1
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_now, work)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on the writer thread; returns once its effects are committed.

        An exception in `work` undoes its own effects only. `work` must be short: later writes wait for it.
        """
        return await self._written(_Write(work, Future()))

    async def purge(self, *, rewritten_bytes_max: int | None = REWRITTEN_BYTES_MAX) -> bool:
        """Leave no trace of what was deleted: True when that is certain.

        A file of at most so many bytes (None: of any size) is written anew in one step, for which other writes wait.
        Of a larger one the free pages are overwritten, a bounded piece at a time: a piece of a row that was moved
        within the file before it was deleted may then stay behind in a page. The write-ahead log is emptied either
        way; while a reader on an old snapshot needs it, that is tried for about two seconds.

        Raises:
            StorageFullError: there is no room for the new file; what is deleted is deleted all the same.
            StorageError: it could not be written.
        """
        rewritten = await self._apart(lambda connection: _rewrite(connection, rewritten_bytes_max))
        while not rewritten and await self._apart(_overwrite_some):  # noqa: ASYNC110 (each round does a piece of it)
            await asyncio.sleep(PURGE_BREATH_S)
        await self._apart(_drop_filler)
        for _ in range(LOG_TRIES):
            if await self._apart(_empty_log):
                return rewritten
            await asyncio.sleep(LOG_RETRY_S)
        return False

    async def _apart(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` on the writer thread, outside of any transaction."""
        return await self._written(_Write(work, Future(), apart=True))

    async def _written(self, write: _Write) -> Any:
        async with self._slots:
            if self._closed:
                raise StorageClosedError(f"{self.path} is closed")
            self._waiting.put(write)
            return await asyncio.wrap_future(write.future)

    async def aclose(self) -> None:
        """Finish the writes that wait, fold the WAL back into the file, close every connection."""
        if self._closed:
            return
        self._closed = True
        self._waiting.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()

    def statistics(self) -> DatabaseStatistics:
        """Counters since the file was opened."""
        return DatabaseStatistics(self.schema.name, self._writes, self._commits, self._reads, self._waiting.qsize())

    # -- on the database's own threads ---------------------------------------------------------------------------

    def _prepare(self, now_ms: int) -> None:
        self._queries = self.schema.queries()
        with translated_errors(self.path, self.schema):
            if self.path.exists():
                check_identity(self.path, self.schema)
            connection = self._connect()
            try:
                migrate(connection, self.path, self.schema, now_ms=now_ms)
            finally:
                connection.close()

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("page_size", self.schema.page_bytes)
        enter_wal(connection)
        connection.pragma("synchronous", "FULL" if self.schema.durable else "NORMAL")
        connection.pragma("foreign_keys", True)
        connection.pragma("journal_size_limit", WAL_BYTES_MAX)
        connection.pragma("temp_store", "MEMORY")
        connection.pragma("secure_delete", OVERWRITE_IN_PAGES)
        if self._tracer is not None:
            connection.exec_trace = self._trace
        return connection

    def _trace(self, _cursor: object, sql: str, bindings: object) -> bool:
        assert self._tracer is not None
        self._tracer(sql, bindings)
        return True

    def _reader_connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.pragma("query_only", True)
            self._local.connection = connection
            with self._connections_lock:
                self._connections.append(connection)
        return connection

    def _read_now(self, work: Callable[[Transaction], T]) -> T:
        with translated_errors(self.path, self.schema):
            connection = self._reader_connection()
            connection.execute("BEGIN")
            try:
                return work(Transaction(connection, self._queries))
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _write_loop(self) -> None:
        connection: apsw.Connection | None = None
        while (first := self._waiting.get()) is not None:
            group = [first, *self._gather()]
            live = [write for write in group if write.future.set_running_or_notify_cancel()]
            try:
                with translated_errors(self.path, self.schema):
                    connection = connection or self._connect()
                    outcomes = self._commit_group(connection, [write for write in live if not write.apart])
                outcomes += [self._run_apart(connection, write) for write in live if write.apart]
            except Exception as error:  # noqa: BLE001 (a named border: the writer thread; each caller gets the cause)
                outcomes = [(write, None, error) for write in live]
            for write, result, error in outcomes:
                if error is None:
                    write.future.set_result(result)
                else:
                    write.future.set_exception(error)
        if connection is not None:
            connection.close()

    def _gather(self) -> Iterator[_Write]:
        """The writes that wait already, bounded in number and time so that no caller's commit is put off for long."""
        deadline = time.monotonic() + GROUP_SECONDS_MAX
        for _ in range(GROUP_WRITES_MAX - 1):
            try:
                write = self._waiting.get_nowait()
            except queue.Empty:
                return
            if write is None:
                self._waiting.put(None)
                return
            yield write
            if time.monotonic() > deadline:
                return

    def _run_apart(self, connection: apsw.Connection, write: _Write) -> tuple[_Write, Any, BaseException | None]:
        try:
            with translated_errors(self.path, self.schema):
                return write, write.work(connection), None
        except Exception as error:  # noqa: BLE001 (as in the loop: the caller gets the cause)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return write, None, error

    def _commit_group(
        self, connection: apsw.Connection, group: list[_Write]
    ) -> list[tuple[_Write, Any, BaseException | None]]:
        outcomes: list[tuple[_Write, Any, BaseException | None]] = []
        if not group:
            return outcomes
        connection.execute("BEGIN IMMEDIATE")
        try:
            for write in group:
                connection.execute("SAVEPOINT one")
                try:
                    with translated_errors(self.path, self.schema):
                        result = write.work(Transaction(connection, self._queries))
                    outcomes.append((write, result, None))
                except Exception as error:  # each caller gets its own error
                    outcomes.append((write, None, error))
                    if not connection.in_transaction:  # a full disk may have rolled everything back already
                        raise
                    connection.execute("ROLLBACK TO one")
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._writes += len(group)
        self._commits += 1
        return outcomes


def _rewrite(connection: apsw.Connection, bytes_max: int | None) -> bool:
    """Write the whole file anew, if it is not larger than that."""
    size = int(connection.pragma("page_count")) * int(connection.pragma("page_size"))
    if bytes_max is not None and size > bytes_max:
        return False
    connection.pragma("temp_store", "MEMORY" if size <= REWRITTEN_BYTES_MAX else "FILE")
    try:
        connection.execute(load_queries("purge")["rewrite"])
    finally:
        connection.pragma("temp_store", "MEMORY")
    return True


def _overwrite_some(connection: apsw.Connection) -> bool:
    """Fill some of the free pages with zeros; False when none is left.

    A table of zeros grows into the free pages. It goes at the end of the purge; one that a crash left is used on.
    """
    queries = load_queries("purge")
    connection.execute(queries["make_filler"])
    free, size = int(connection.pragma("freelist_count")), int(connection.pragma("page_size"))
    pages = min(free, max(1, PURGED_BYTES // size))
    if pages:
        connection.execute(queries["fill"], {"bytes": _filling_bytes(pages, size)})
    return pages > 0


def _filling_bytes(pages: int, page_bytes: int) -> int:
    """A blob that covers so many pages to their last byte.

    SQLite keeps the beginning of a long value in its row, as much as leaves the other pages full; four bytes of each
    name the next. The few bytes more make up for the head of the row.
    """
    kept_in_row = (page_bytes - 12) * 32 // 255 - 23
    return kept_in_row + 64 + pages * (page_bytes - 4)


def _drop_filler(connection: apsw.Connection) -> None:
    connection.execute(load_queries("purge")["drop_filler"])


def _empty_log(connection: apsw.Connection) -> bool:
    """Move what the write-ahead log holds into the file and cut it to nothing; False while a reader needs it."""
    connection.set_busy_timeout(LOG_BUSY_MS)
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.BusyError:
        return False
    finally:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return True
