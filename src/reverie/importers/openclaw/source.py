"""An OpenClaw memory database as a source: opened so that nothing of it can change, and read in ranges of rows.

Both layouts are read by looking at the tables, never at a version: vectors as JSON text (2026.4) or as blobs of
Float64 (2026.9), in tables of either's names. Everything here blocks; callers run it on a worker thread.

Invariant: no byte of the database, its WAL or its journal changes; no more than one range of rows is held.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import apsw

from reverie.importers.foreign_database import ForeignDatabase
from reverie.storage.schema import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reverie.types import JsonObject

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


class SourceDatabase(ForeignDatabase):
    """One open database. Use it as a context.

    Raises, from every method:
        ImportFileError: it is not a database, is damaged, or cannot be read without changing it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, load_queries("openclaw"), "OpenClaw")

    def tables(self) -> tuple[VectorTable, ...]:
        """The tables of vectors, those of the chunks first: they are what the notes of today need."""
        names = {row[0] for row in self.run("list_tables")}
        chunks = [VectorTable(name, "chunks", self._count(name)) for name in _CHUNK_TABLES if self._fits(name, names)]
        cache = [VectorTable(name, "cache", self._count(name)) for name in _CACHE_TABLES if self._fits(name, names)]
        return (*chunks, *cache)

    def meta(self) -> IndexMeta:
        """What the index says of itself."""
        names = {row[0] for row in self.run("list_tables")}
        for table in _META_TABLES:
            value = self.value("read_meta", table) if table in names and self._has(table, {"key", "value"}) else None
            if value is not None:
                return _parse_meta(value)
        return IndexMeta()

    def fingerprint(self, table: VectorTable) -> str:
        """What tells this state of the source from another: size and time of its files, and the first row's hash."""
        return json.dumps([*self.states(), str(self.value("first_row", table.name))])

    def is_as(self, fingerprint: str) -> bool:
        """Whether the files are still those of a fingerprint; asks the file system only."""
        return json.loads(fingerprint)[:-1] == self.states()

    def choose_newest(self, table: VectorTable, room: int) -> None:
        """Limit what `rows` gives to the most recently updated rows, as many as there is room for."""
        self.run("choose_newest", table.name, room=room)
        self.run("index_chosen")

    def rows(self, table: VectorTable, after: int, *, chosen: bool, limit: int = ROWS_AT_ONCE) -> Iterator[VectorRow]:
        """Up to `limit` rows after a rowid, in order, one at a time; with `chosen` those of `choose_newest` only."""
        of_kind = "cache" if table.kind == "cache" else "chunk"
        query = f"read_chosen_{of_kind}_rows" if chosen else f"read_{of_kind}_rows"
        cursor = self.run(query, table.name, after=after, limit=limit, bytes_max=EMBEDDING_BYTES_MAX)
        try:
            yield from (VectorRow(*row) for row in cursor)
        except apsw.Error as error:
            raise self.refused(error) from error

    # -- queries -------------------------------------------------------------------------------------------------

    def _count(self, table: str) -> int:
        return int(self.value("count_rows", table))

    def _fits(self, table: str, names: set[Any]) -> bool:
        return table in names and self._has(table, _CACHE_COLUMNS if table in _CACHE_TABLES else _CHUNK_COLUMNS)

    def _has(self, table: str, columns: frozenset[str] | set[str]) -> bool:
        return columns <= {row[0] for row in self.run("list_columns", source=table)}


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
