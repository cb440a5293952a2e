"""An OpenClaw memory database as a source: opened so that nothing of it can change, and read in ranges of rows.

Both layouts are read by looking at the tables, never at a version: vectors as JSON text (2026.4) or as blobs of
Float64 (2026.9), in tables of either's names. Everything here blocks; callers run it on a worker thread.

Invariant: no byte of the database, its WAL or its journal changes; no more than one range of rows is held.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, cast

import apsw

from reverie.errors import ImportFileError
from reverie.storage.schema import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from reverie.types import JsonObject

BUSY_TIMEOUT_MS = 5_000
EMBEDDING_BYTES_MAX = 1024 * 1024
"""A vector written in more bytes than this is not read: the largest known, of 4,096 numbers, takes some 100,000."""

ROWS_AT_ONCE = 2_000

_CHUNK_TABLES = ("chunks", "memory_index_chunks")
_CACHE_TABLES = ("embedding_cache", "memory_embedding_cache", "memory_index_embedding_cache")
_META_TABLES = ("meta", "memory_index_meta")
_CHUNK_COLUMNS = frozenset({"hash", "model", "embedding", "updated_at"})
_CACHE_COLUMNS = _CHUNK_COLUMNS | {"provider", "dims"}

VectorKind = Literal["chunks", "cache"]


@dataclass(frozen=True, slots=True)
class VectorTable:
    """A table of vectors: those of the indexed chunks, or those kept for later."""

    name: str
    kind: VectorKind
    rows: int


class VectorRow(NamedTuple):
    """A row as it stands in the source. `embedding` is None when it is larger than `EMBEDDING_BYTES_MAX`."""

    rowid: int
    provider: Any
    model: Any
    hash: Any
    dims: Any
    updated_at: Any
    embedding_bytes: int | None
    embedding: str | bytes | None


@dataclass(frozen=True, slots=True)
class IndexMeta:
    """What an index says of itself; empty where it says nothing."""

    provider: str = ""
    model: str = ""
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None


class SourceDatabase:
    """One open database. Use it as a context.

    Raises, from every method:
        ImportFileError: it is not a database, is damaged, or cannot be read without changing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._queries = load_queries("openclaw")
        self._made_shm = False
        self._connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; a `-shm` that SQLite had to make for reading goes again."""
        self._connection.close()
        if self._made_shm:
            self._beside("-shm").unlink(missing_ok=True)

    def tables(self) -> tuple[VectorTable, ...]:
        """The tables of vectors, those of the chunks first: they are what the notes of today need."""
        names = {row[0] for row in self._run("list_tables")}
        chunks = [VectorTable(name, "chunks", self._count(name)) for name in _CHUNK_TABLES if self._fits(name, names)]
        cache = [VectorTable(name, "cache", self._count(name)) for name in _CACHE_TABLES if self._fits(name, names)]
        return (*chunks, *cache)

    def meta(self) -> IndexMeta:
        """What the index says of itself."""
        names = {row[0] for row in self._run("list_tables")}
        for table in _META_TABLES:
            value = self._value("read_meta", table) if table in names and self._has(table, {"key", "value"}) else None
            if value is not None:
                return _parse_meta(value)
        return IndexMeta()

    def fingerprint(self, table: VectorTable) -> str:
        """What tells this state of the source from another: size and time of its files, and the first row's hash."""
        return json.dumps([*self._states(), str(self._value("first_row", table.name))])

    def is_as(self, fingerprint: str) -> bool:
        """Whether the files are still those of a fingerprint; asks the file system only."""
        return json.loads(fingerprint)[:-1] == self._states()

    def choose_newest(self, table: VectorTable, room: int) -> None:
        """Limit what `rows` gives to the most recently updated rows, as many as there is room for."""
        self._run("choose_newest", table.name, room=room)
        self._run("index_chosen")

    def rows(self, table: VectorTable, after: int, *, chosen: bool, limit: int = ROWS_AT_ONCE) -> Iterator[VectorRow]:
        """Up to `limit` rows after a rowid, in order, one at a time; with `chosen` those of `choose_newest` only."""
        of_kind = "cache" if table.kind == "cache" else "chunk"
        query = f"read_chosen_{of_kind}_rows" if chosen else f"read_{of_kind}_rows"
        cursor = self._run(query, table.name, after=after, limit=limit, bytes_max=EMBEDDING_BYTES_MAX)
        try:
            yield from (VectorRow(*row) for row in cursor)
        except apsw.Error as error:
            raise self._refused(error) from error

    # -- how it is opened ----------------------------------------------------------------------------------------

    def _open(self) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        try:
            connection = apsw.Connection(f"{self.path.as_uri()}?{self._mode()}", flags=flags)
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.pragma("query_only", False)  # a temporary table names the chosen rows; the file is read-only
            connection.pragma("temp_store", "FILE")
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except apsw.Error as error:
            raise self._refused(error) from error
        return connection

    def _mode(self) -> str:
        """Without a WAL or a journal beside it the file may be taken as immutable; with one, its locks count."""
        wal, shm, journal = (self._beside(suffix).exists() for suffix in ("-wal", "-shm", "-journal"))
        if not (wal or shm or journal):
            return "mode=ro&immutable=1"
        if shm:
            return "mode=ro&readonly_shm=1"
        self._made_shm = wal
        return "mode=ro"

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _states(self) -> list[list[int]]:
        """Size and time of the database and its WAL; empty for what is not there."""
        states: list[list[int]] = []
        for path in (self.path, self._beside("-wal")):
            try:
                info = path.stat()
                states.append([info.st_size, info.st_mtime_ns])
            except OSError:
                states.append([])
        return states

    # -- queries -------------------------------------------------------------------------------------------------

    def _run(self, query: str, table: str = "", **parameters: Any) -> apsw.Cursor:
        try:
            return self._connection.execute(self._queries[query].replace("SOURCE", f'"{table}"'), parameters)
        except apsw.Error as error:
            raise self._refused(error) from error

    def _value(self, query: str, table: str) -> Any:
        return next((row[0] for row in self._run(query, table)), None)

    def _count(self, table: str) -> int:
        return int(self._value("count_rows", table))

    def _fits(self, table: str, names: set[Any]) -> bool:
        return table in names and self._has(table, _CACHE_COLUMNS if table in _CACHE_TABLES else _CHUNK_COLUMNS)

    def _has(self, table: str, columns: frozenset[str] | set[str]) -> bool:
        return columns <= {row[0] for row in self._run("list_columns", source=table)}

    def _refused(self, error: apsw.Error) -> ImportFileError:
        match error:
            case apsw.NotADBError() | apsw.CorruptError():
                advice = "it is damaged or not a SQLite database: restore it from a backup, or import the other files"
            case apsw.BusyError():
                advice = "it is being written: stop OpenClaw, then run the import again"
            case apsw.ReadOnlyError() | apsw.CantOpenError():
                advice = "reading it would change it: stop OpenClaw so that it closes the file, or import a copy"
            case _:
                advice = "try a copy of it"
        return ImportFileError(f"{self.path} cannot be read ({error}): {advice}")


def _parse_meta(value: Any) -> IndexMeta:
    try:
        meta: Any = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        return IndexMeta()
    if not isinstance(meta, dict):
        return IndexMeta()
    known = cast("JsonObject", meta)
    return IndexMeta(
        provider=_text(known.get("provider")),
        model=_text(known.get("model")),
        chunk_tokens=_number(known.get("chunkTokens")),
        chunk_overlap=_number(known.get("chunkOverlap")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
