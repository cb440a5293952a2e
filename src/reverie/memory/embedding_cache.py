"""Vectors already paid for, in a file of their own, so that rebuilding the index costs no embedding.

Keyed by the embedder's identity and the text's hash: the same text under two embedders never mixes. Bounded: room is
made before anything is inserted, and the rows that were not *used* for longest give way. A hit refreshes its row's
mark; the marks are written in batches, so a lookup costs no write.

Invariant: never more than `entries_max` rows; a row that is not a finite vector of the right size is a miss and is
removed.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.clock import Clock
    from reverie.storage.database import Database, Row, Transaction

LOOKUP_HASHES_MAX = 400
TOUCHED_ROWS_MAX = 400


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What the cache holds and how often it helped since the start."""

    entries: int
    entries_max: int
    hits: int
    misses: int
    evicted: int


class EmbeddingCache:
    """The cache for one process. With `entries_max` 0 it holds nothing and asks nothing of the disk."""

    def __init__(self, database: Database, *, entries_max: int, clock: Clock) -> None:
        self._database = database
        self._entries_max = entries_max
        self._clock = clock
        self._entries: int | None = None
        self._touched: set[int] = set()
        self._hits = self._misses = self._evicted = 0

    async def lookup(self, identity: str, hashes: Sequence[bytes], dims: int) -> dict[bytes, NDArray[np.float32]]:
        """The cached vectors among the hashes."""
        found: dict[bytes, NDArray[np.float32]] = {}
        if self._entries_max:
            unique = list(dict.fromkeys(hashes))
            for start in range(0, len(unique), LOOKUP_HASHES_MAX):
                found |= await self._lookup_batch(identity, unique[start : start + LOOKUP_HASHES_MAX], dims)
        self._hits += len(found)
        self._misses += len(set(hashes)) - len(found)
        return found

    async def store(self, identity: str, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Keep vectors, making room first; of more than fit, the last ones."""
        items = list(vectors.items())[-self._entries_max :] if self._entries_max else []
        if not items:
            return
        await self.flush()
        blobs = await asyncio.to_thread(_as_blobs, items)
        now_ms = self._clock.now_ms()
        self._entries, evicted = await self._database.write(
            lambda tx: _insert(tx, identity, blobs, held=self._entries, entries_max=self._entries_max, now_ms=now_ms)
        )
        self._evicted += evicted

    async def flush(self) -> None:
        """Write the marks of use that are still in memory."""
        touched, self._touched = self._touched, set()
        if touched:
            ids, now_ms = json.dumps(sorted(touched)), self._clock.now_ms()
            await self._database.write(lambda tx: tx.execute("touch_embeddings", ids=ids, used_at=now_ms))

    def statistics(self) -> CacheStatistics:
        """Counters since the start; `entries` is 0 until the first write."""
        return CacheStatistics(self._entries or 0, self._entries_max, self._hits, self._misses, self._evicted)

    async def _lookup_batch(self, identity: str, hashes: list[bytes], dims: int) -> dict[bytes, NDArray[np.float32]]:
        wanted = json.dumps([key.hex() for key in hashes])
        rows = await self._database.read(lambda tx: tx.rows("find_embeddings", identity=identity, hashes=wanted))
        if not rows:
            return {}
        good, bad = await asyncio.to_thread(_usable_rows, rows, dims)
        if bad:
            ids = json.dumps(bad)
            removed = await self._database.write(lambda tx: tx.execute("delete_embeddings", ids=ids))
            self._entries = None if self._entries is None else self._entries - removed
        self._touched.update(row_id for row_id, _, _ in good)
        if len(self._touched) > TOUCHED_ROWS_MAX:
            await self._flush_quietly()
        return {key: vector for _, key, vector in good}

    async def _flush_quietly(self) -> None:
        """A mark of use that cannot be written costs nothing but a little order among the rows to evict."""
        try:
            await self.flush()
        except StorageError:
            self._touched.clear()


def _insert(
    tx: Transaction,
    identity: str,
    blobs: list[tuple[bytes, bytes]],
    *,
    held: int | None,
    entries_max: int,
    now_ms: int,
) -> tuple[int, int]:
    """Make room, then insert; returns how many rows there are afterwards, and how many gave way.

    `held` is how many rows there were, None when they are not counted yet.
    """
    remaining = int(tx.value("count_embeddings")) if held is None else held
    for start in range(0, len(blobs), LOOKUP_HASHES_MAX):
        replaced = json.dumps([key.hex() for key, _ in blobs[start : start + LOOKUP_HASHES_MAX]])
        remaining -= tx.execute("drop_embeddings", identity=identity, hashes=replaced)
    excess = max(0, remaining + len(blobs) - entries_max)
    evicted = tx.execute("evict_embeddings", rows=excess) if excess else 0
    parameters = [{"identity": identity, "content_hash": key, "vector": blob, "used_at": now_ms} for key, blob in blobs]
    tx.execute_many("put_embedding", parameters)
    return remaining - evicted + len(blobs), evicted


def _as_blobs(items: list[tuple[bytes, NDArray[np.float32]]]) -> list[tuple[bytes, bytes]]:
    from reverie.memory import kernel

    return [(key, kernel.to_blob(vector)) for key, vector in items]


def _usable_rows(rows: list[Row], dims: int) -> tuple[list[tuple[int, bytes, NDArray[np.float32]]], list[int]]:
    """The rows with a good vector, and the ids of those without."""
    from reverie.memory import kernel

    sized = [row for row in rows if len(row["vector"]) == 4 * dims]
    bad = [row["id"] for row in rows if len(row["vector"]) != 4 * dims]
    if not sized:
        return [], bad
    matrix = kernel.from_blobs([row["vector"] for row in sized], dims)
    usable = kernel.all_usable(matrix)
    good = [
        (row["id"], row["content_hash"], vector)
        for row, vector, fine in zip(sized, matrix, usable, strict=True)
        if fine
    ]
    bad += [row["id"] for row, fine in zip(sized, usable, strict=True) if not fine]
    return good, bad
