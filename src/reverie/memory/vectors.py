"""Nearest vectors: an 8-bit matrix in memory for speed, the exact vectors in index.db for truth.

A search computes the inner product of the query with every row that its scope allows, takes the best and scores those
again with the exact vectors. There is nothing to build, so the matrix is ready as soon as its rows are read, and a new
row is found at once.

Invariants: the database is the truth and the matrix follows it, so a restart gives the same results; memory grows
with the rows present and nothing else; no computation, no lock and no import of numerics happens on the event loop.
"""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import structlog

from reverie.memory.scope import Scope, VectorRow, VectorScan
from reverie.memory.store import read_tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.memory.vector_table import VectorTable
    from reverie.storage.database import Database

log = structlog.get_logger(__name__)

T = TypeVar("T")

SCAN_THREADS = 2
LOAD_ROWS = 500
RESCORED_MAX = 100
VERIFY_TRIES = 5
VERIFY_PAUSE_S = 0.1
REMOVED_KEPT_MAX = 65_536
"""Chunks remembered as deleted, for vectors that were read or computed just before and arrive after."""


@dataclass(frozen=True, slots=True)
class VectorStatistics:
    """What the matrix holds."""

    state: Literal["loading", "ready"]
    rows: int
    matrix_bytes: int
    verified: bool
    """The matrix was found to hold exactly the vectors of the index when it was last compared."""


class VectorIndex:
    """The vectors of one index database, of one embedder with `dims` dimensions."""

    def __init__(self, database: Database, dims: int) -> None:
        self.dims = dims
        self._database = database
        self._threads = ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="vector-scan")
        self._lock = threading.Lock()
        self._table: VectorTable | None = None
        self._cursor = 0
        self._loaded = False
        self._arrived_while_loading = False
        self._removed: dict[int, None] = {}
        self._verified_revision = 0
        self._verified = False

    @property
    def loaded(self) -> bool:
        """True when every stored vector is in the matrix."""
        return self._loaded

    async def load(self) -> None:
        """Read all stored vectors into the matrix, a slice at a time; searches go on meanwhile with what is there."""
        while not self._loaded:
            await self._database.read(lambda tx: self._load_slice(tx.tuples("list_vectors", **self._next_slice())))
        if not await self.verify():
            log.warning("the vectors in memory are not those of the index", action="vectors_differ", **self._facts())

    async def catch_up(self) -> None:
        """Take over what another process has added or removed. Costs one small query when nothing has changed."""
        if not self._loaded or (await self._database.read(read_tally)).vectors_revision == self._verified_revision:
            return
        while await self._database.read(
            lambda tx: self._append_slice(tx.tuples("list_vectors", after=self._last_id(), limit=LOAD_ROWS))
        ):
            pass
        if not await self.verify():
            log.warning("the vectors in memory are read anew", action="vectors_reloaded", **self._facts())
            await self._on_thread(self._forget)
            await self.load()

    async def verify(self) -> bool:
        """Whether the matrix holds exactly the vectors of the index, by their number and the sum of their ids.

        A change that was just committed may still be on its way here, so the comparison is repeated a few times.
        """
        for _ in range(VERIFY_TRIES):
            tally = await self._database.read(read_tally)
            self._verified = await self._on_thread(self._checksum) == (tally.vectors, tally.vectors_checksum)
            self._verified_revision = tally.vectors_revision
            if self._verified:
                return True
            await asyncio.sleep(VERIFY_PAUSE_S)
        return False

    async def add(self, rows: Sequence[VectorRow], vectors: NDArray[np.float32]) -> None:
        """Follow vectors that were just committed."""
        if rows:
            await self._on_thread(lambda: self._add(rows, vectors))

    async def remove(self, chunk_ids: Sequence[int]) -> None:
        """Follow chunks that were just deleted."""
        if chunk_ids:
            await self._on_thread(lambda: self._remove(chunk_ids))

    async def move(self, chunk_lines: Sequence[tuple[int, int]]) -> None:
        """Follow chunks that now stand on other lines: pairs of chunk id and first line."""
        if chunk_lines:
            await self._on_thread(lambda: self._move(chunk_lines))

    async def scan(self, query: NDArray[np.float32], scope: Scope, count: int) -> VectorScan:
        """The `count` nearest chunks within the scope, best first; the first `RESCORED_MAX` with exact scores."""
        rough = await self._on_thread(lambda: self._scan(query, scope, count))
        ids = json.dumps([chunk_id for chunk_id, _ in rough.best[:RESCORED_MAX]])
        exact = await self._database.read(
            lambda tx: self._exact_scores(list(tx.tuples("find_vectors", ids=ids)), query)
        )
        best = [(chunk_id, exact.get(chunk_id, score)) for chunk_id, score in rough.best]
        best.sort(key=lambda pair: (-pair[1], pair[0]))
        return replace(rough, best=tuple(best))

    def statistics(self) -> VectorStatistics:
        """A snapshot, without waiting for anything."""
        table = self._table
        state: Literal["loading", "ready"] = "ready" if self._loaded else "loading"
        rows, size = (table.rows - table.dead, table.matrix.nbytes) if table else (0, 0)
        return VectorStatistics(state, rows, size, verified=self._verified)

    async def aclose(self) -> None:
        """Let running scans end and give the threads back."""
        await asyncio.to_thread(self._threads.shutdown)

    def _facts(self) -> dict[str, Any]:
        statistics = self.statistics()
        return {"database": str(self._database.path), "rows": statistics.rows}

    # -- on worker threads ---------------------------------------------------------------------------------------

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _forget(self) -> None:
        with self._lock:
            self._table = None
            self._cursor = 0
            self._loaded = False

    def _checksum(self) -> tuple[int, int]:
        with self._lock:
            return self._held_table().checksum()

    def _next_slice(self) -> dict[str, int]:
        with self._lock:
            self._arrived_while_loading = False
            return {"after": self._cursor, "limit": LOAD_ROWS}

    def _last_id(self) -> int:
        with self._lock:
            return self._held_table().last_id

    def _append_slice(self, found: Iterable[tuple[Any, ...]]) -> int:
        rows, vectors = self._parsed(found)
        if rows:
            with self._lock:
                self._insert(rows, vectors)
        return len(rows)

    def _parsed(self, found: Iterable[tuple[Any, ...]]) -> tuple[list[VectorRow], NDArray[np.float32]]:
        """Stored rows as they are indexed; one of another size is left out."""
        from reverie.memory import kernel

        read = [row for row in found if len(row[1]) == 4 * self.dims]
        rows = [VectorRow(row[0], row[2], row[3], row[4], row[5]) for row in read]
        return rows, kernel.from_blobs([row[1] for row in read], self.dims)

    def _load_slice(self, found: Iterable[tuple[Any, ...]]) -> None:
        """Take over one slice; an empty one ends the loading unless vectors arrived while it was read."""
        rows, vectors = self._parsed(found)
        with self._lock:
            keep = [i for i, row in enumerate(rows) if row.chunk_id not in self._removed]
            if keep:
                self._insert([rows[i] for i in keep], vectors[keep])
            if rows:
                self._cursor = rows[-1].chunk_id
            elif not self._arrived_while_loading:
                self._loaded = True

    def _add(self, rows: Sequence[VectorRow], vectors: NDArray[np.float32]) -> None:
        with self._lock:
            read_already = [self._loaded or row.chunk_id <= self._cursor for row in rows]
            self._arrived_while_loading |= not all(read_already)
            now = [i for i, row in enumerate(rows) if read_already[i] and row.chunk_id not in self._removed]
            if now:
                self._insert([rows[i] for i in now], vectors[now])

    def _insert(self, rows: Sequence[VectorRow], vectors: NDArray[np.float32]) -> None:
        self._table = self._held_table().with_rows(rows, vectors)

    def _held_table(self) -> VectorTable:
        """The table, made when it is first needed; under the lock."""
        from reverie.memory.vector_table import VectorTable

        if self._table is None:
            self._table = VectorTable(self.dims)
        return self._table

    def _remove(self, chunk_ids: Sequence[int]) -> None:
        with self._lock:
            self._removed |= dict.fromkeys(chunk_ids)
            for chunk_id in list(self._removed)[: max(0, len(self._removed) - REMOVED_KEPT_MAX)]:
                del self._removed[chunk_id]
            if self._table is not None:
                self._table = self._table.without(chunk_ids)

    def _move(self, chunk_lines: Sequence[tuple[int, int]]) -> None:
        with self._lock:
            if self._table is not None:
                self._table.set_lines(chunk_lines)

    def _scan(self, query: NDArray[np.float32], scope: Scope, count: int) -> VectorScan:
        with self._lock:
            view = self._held_table().view()
        return view.scan(query, scope, count)

    def _exact_scores(self, found: Iterable[tuple[Any, ...]], query: NDArray[np.float32]) -> dict[int, float]:
        from reverie.memory import kernel

        rows = [row for row in found if len(row[1]) == 4 * self.dims]
        products = kernel.from_blobs([row[1] for row in rows], self.dims) @ query
        return {row[0]: float(score) for row, score in zip(rows, products, strict=True)}
