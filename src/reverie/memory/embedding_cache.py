"""Vectors already paid for, in a file of their own, so that rebuilding the index costs no embedding.

Keyed by the embedder's identity and the hash of exactly the text that was embedded: the same text under two embedders
never mixes, and however many places it stands in, it is embedded once. Bounded by entries and by bytes: room is made
before anything is inserted, and the rows that were not *used* for longest give way, whichever embedder's they are. A
hit refreshes its row's mark; the marks are written in batches, so a lookup costs no write.

Invariant: no commit leaves more than `entries_max` rows or `bytes_max` bytes of vectors that it did not find; a row
that is not a finite vector of the right size is a miss and is removed. The counts are kept in memory, so one
`EmbeddingCache` works on a file at a time.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING

from reverie.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.clock import Clock
    from reverie.storage.database import Database, Row, Transaction

Entry = tuple[bytes, int, bytes]
"""Hash of the text, when its vector was last used (milliseconds since 1970 UTC), and the vector as it is stored."""

LOOKUP_HASHES_MAX = 400
TOUCHED_ROWS_MAX = 400
EVICTED_ROWS_MAX = 1_000
"""Rows that give way in one statement; a bound that was lowered is reached in several commits of so many."""

SPACES_MAX = 1_000
"""Embedders of which something is kept; the vectors of further ones are not cached."""

BYTES_PER_NUMBER = 4


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What the cache holds, in bytes of vectors, and how often it helped since the start.

    `hit_rate` is the share of the texts asked for that were there, from 0 to 1; 0 before anything was asked.
    """

    entries: int
    entries_max: int
    bytes: int
    bytes_max: int
    hits: int
    misses: int
    hit_rate: float
    evicted: int


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What became of rows from elsewhere: kept, there already, or unusable; and how many other rows gave way."""

    added: int = 0
    present: int = 0
    refused: int = 0
    evicted: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that is kept. With either of them 0, nothing is."""

    entries_max: int
    bytes_max: int

    def rows(self, dims: int) -> int:
        """How many vectors of this size there may be."""
        return min(self.entries_max, self.bytes_max // (BYTES_PER_NUMBER * dims)) if dims > 0 else 0

    def excess(self, tally: Tally) -> tuple[int, int]:
        """How many entries and how many bytes are too many."""
        return max(0, tally.entries - self.entries_max), max(0, tally.bytes - self.bytes_max)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the file holds: vectors, and their bytes."""

    entries: int = 0
    bytes: int = 0

    def plus(self, rows: int, dims: int) -> Tally:
        """With so many more vectors of a size; negative: fewer."""
        return Tally(self.entries + rows, self.bytes + rows * dims * BYTES_PER_NUMBER)


class EmbeddingCache:
    """The cache for one process. With a bound of 0 it holds nothing and asks nothing of the disk."""

    def __init__(self, database: Database, *, entries_max: int, bytes_max: int, clock: Clock) -> None:
        self._database = database
        self._bounds = Bounds(entries_max, bytes_max)
        self._clock = clock
        self._tally: Tally | None = None
        self._tally_is_sure = False
        self._changing = asyncio.Lock()
        self._touched: set[int] = set()
        self._hits = self._misses = self._evicted = self._forgotten = 0

    async def open(self) -> None:
        """Count what is there, through an index and off the event loop; otherwise the first use does.

        Raises:
            StorageError: the file cannot be read.
        """
        if self._bounds.rows(1):
            await self._counted()

    async def lookup(self, identity: str, hashes: Sequence[bytes], dims: int) -> dict[bytes, NDArray[np.float32]]:
        """The cached vectors among the hashes, each of `dims` numbers.

        Raises:
            StorageError: the file cannot be read.
        """
        found: dict[bytes, NDArray[np.float32]] = {}
        unique = list(dict.fromkeys(hashes))
        for start in range(0, len(unique), LOOKUP_HASHES_MAX) if self._bounds.rows(dims) else ():
            found |= await self._lookup_batch(identity, dims, unique[start : start + LOOKUP_HASHES_MAX])
        self._hits += len(found)
        self._misses += len(unique) - len(found)
        return found

    async def store(self, identity: str, dims: int, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Keep vectors, making room first; of more than fit, the last ones. What is not a usable vector is left out.

        Raises:
            StorageError: the file cannot be written; nothing of this call was kept.
        """
        if self._bounds.rows(dims) and vectors:
            now_ms = self._clock.now_ms()
            entries = await asyncio.to_thread(_entries_of, vectors, dims, now_ms)
            await self._keep(identity, dims, entries, replacing=True)

    async def seed(
        self,
        identity: str,
        dims: int,
        rows: Sequence[tuple[bytes, bytes]],
        used_at_ms: Sequence[int] | None = None,
    ) -> SeedReport:
        """Take over vectors from elsewhere, in one transaction: text hashes with little-endian float32 of length 1.

        `used_at_ms` says of each when it was last used, in milliseconds since 1970 UTC; without it, now. A row that is
        present is left alone; of equal hashes, and of more rows than fit, the last ones count.

        Raises:
            StorageError: the file cannot be written; nothing of this call was kept.
        """
        now_ms = self._clock.now_ms()
        entries = await asyncio.to_thread(_usable_entries, rows, used_at_ms, dims, now_ms)
        report = await self._keep(identity, dims, entries, replacing=False)
        return replace(report, refused=len({key for key, _ in rows}) - len(entries))

    def room(self, dims: int) -> int:
        """How many vectors of this size may be added before any gives way; 0 before `open` or a first use."""
        if self._tally is None or not self._bounds.rows(dims):
            return 0
        bytes_free = self._bounds.bytes_max - self._tally.bytes
        return max(0, min(self._bounds.entries_max - self._tally.entries, bytes_free // (BYTES_PER_NUMBER * dims)))

    async def count_held(self, identity: str, hashes: Sequence[bytes]) -> int:
        """How many of some texts have their vector here, of at most `LOOKUP_HASHES_MAX`; marks nothing as used.

        Raises:
            StorageError: it could not be read.
        """
        wanted = json.dumps([key.hex() for key in hashes[:LOOKUP_HASHES_MAX]])
        return await self._database.read(lambda tx: int(tx.value("count_held", identity=identity, hashes=wanted)))

    async def count_of_texts(self, hashes: Sequence[bytes]) -> int:
        """How many vectors are kept of some texts, of whatever embedder; marks nothing as used.

        Raises:
            StorageError: it could not be read.
        """
        total = 0
        for start in range(0, len(hashes), LOOKUP_HASHES_MAX):
            part = _as_json(list(hashes[start : start + LOOKUP_HASHES_MAX]))
            total += await self._database.read(lambda tx, part=part: int(tx.value("count_of_texts", hashes=part)))
        return total

    async def forget(self, hashes: Sequence[bytes]) -> int:
        """Drop the vectors of some texts, of every embedder; returns how many there were.

        Raises:
            StorageError: the file cannot be written; what was dropped before stays dropped.
        """
        before = self._forgotten
        for start in range(0, len(hashes), LOOKUP_HASHES_MAX):
            part = _as_json(list(hashes[start : start + LOOKUP_HASHES_MAX]))
            async with self._changing:
                await self._change(lambda tx, tally, part=part: self._drop(tx, tally, part))
        return self._forgotten - before

    def _drop(self, tx: Transaction, tally: Tally, hashes: str) -> tuple[Tally, SeedReport]:
        for space in tx.rows("list_spaces"):
            gone = tx.execute("drop_embeddings", space_id=space["id"], hashes=hashes)
            self._forgotten += gone
            tally = tally.plus(-gone, space["dims"])
        return tally, SeedReport()

    async def flush(self) -> None:
        """Write the marks of use that are still in memory.

        Raises:
            StorageError: the file cannot be written.
        """
        touched, self._touched = self._touched, set()
        if touched:
            ids, now_ms = json.dumps(sorted(touched)), self._clock.now_ms()
            await self._database.write(lambda tx: tx.execute("touch_embeddings", ids=ids, used_at=now_ms))

    def statistics(self) -> CacheStatistics:
        """A snapshot; entries and bytes are 0 before `open` or a first use."""
        tally, asked = self._tally or Tally(), self._hits + self._misses
        return CacheStatistics(
            entries=tally.entries,
            entries_max=self._bounds.entries_max,
            bytes=tally.bytes,
            bytes_max=self._bounds.bytes_max,
            hits=self._hits,
            misses=self._misses,
            hit_rate=round(self._hits / asked, 4) if asked else 0.0,
            evicted=self._evicted,
        )

    async def _lookup_batch(self, identity: str, dims: int, hashes: list[bytes]) -> dict[bytes, NDArray[np.float32]]:
        wanted = _as_json(hashes)
        rows = await self._database.read(
            lambda tx: tx.rows("find_embeddings", identity=identity, dims=dims, hashes=wanted)
        )
        if not rows:
            return {}
        good, bad = await asyncio.to_thread(_usable_rows, rows, dims)
        if bad:
            async with self._changing:
                await self._change(lambda tx, tally: (tally.plus(-_delete(tx, bad), dims), SeedReport()))
        self._touched.update(row_id for row_id, _, _ in good)
        if len(self._touched) > TOUCHED_ROWS_MAX:
            await self._flush_quietly()
        return {key: vector for _, key, vector in good}

    async def _keep(self, identity: str, dims: int, entries: list[Entry], *, replacing: bool) -> SeedReport:
        """Insert what fits, in one transaction; what is over a bound that was lowered goes before, in smaller ones."""
        bounds, rows_max = self._bounds, self._bounds.rows(dims)
        if not rows_max or not entries:
            return SeedReport()
        async with self._changing:
            await self.flush()
            while bounds.excess(await self._counted()) != (0, 0):
                await self._change(lambda tx, tally: evict_some(tx, tally, bounds.excess(tally)))
            return await self._change(
                lambda tx, tally: insert(tx, tally, bounds, identity, dims, entries[-rows_max:], replacing=replacing)
            )

    async def _change(self, work: Callable[[Transaction, Tally], tuple[Tally, SeedReport]]) -> SeedReport:
        """Write, and know what the file holds then; after a write whose outcome is unknown it is counted again."""
        known = self._tally if self._tally_is_sure else None
        self._tally_is_sure = False
        self._tally, report = await self._database.write(lambda tx: work(tx, known or count(tx)))
        self._tally_is_sure = True
        self._evicted += report.evicted
        return report

    async def _counted(self) -> Tally:
        if self._tally is None:
            tally = await self._database.read(count)
            if self._tally is None:  # nobody was faster
                self._tally, self._tally_is_sure = tally, True
        return self._tally

    async def _flush_quietly(self) -> None:
        """A mark of use that cannot be written costs nothing but a little order among the rows to evict."""
        try:
            await self.flush()
        except StorageError:
            self._touched.clear()


# -- on the database's own threads -------------------------------------------------------------------------------------


def count(tx: Transaction) -> Tally:
    """What the file holds."""
    spaces = tx.rows("count_by_space")
    return Tally(
        sum(space["entries"] for space in spaces),
        sum(space["entries"] * space["dims"] * BYTES_PER_NUMBER for space in spaces),
    )


def insert(
    tx: Transaction, tally: Tally, bounds: Bounds, identity: str, dims: int, entries: list[Entry], *, replacing: bool
) -> tuple[Tally, SeedReport]:
    """Make room, then insert. With `replacing`, vectors of the same texts give way; without, they stay."""
    space_id = _space_id(tx, identity, dims)
    if space_id is None:
        return tally, SeedReport()
    present: set[bytes] = set()
    for start in range(0, len(entries), LOOKUP_HASHES_MAX):
        hashes = _as_json([key for key, _, _ in entries[start : start + LOOKUP_HASHES_MAX]])
        if replacing:
            tally = tally.plus(-tx.execute("drop_embeddings", space_id=space_id, hashes=hashes), dims)
        else:
            present |= {row[0] for row in tx.tuples("find_present", space_id=space_id, hashes=hashes)}
    new = [entry for entry in entries if entry[0] not in present] if present else entries
    evicted = 0
    while (excess := bounds.excess(tally.plus(len(new), dims))) != (0, 0):
        tally, gone = evict_some(tx, tally, excess)
        evicted += gone.evicted
    tx.execute_many(
        "put_embedding",
        [{"space_id": space_id, "text_hash": key, "used_at": mark, "vector": blob} for key, mark, blob in new],
    )
    return tally.plus(len(new), dims), SeedReport(added=len(new), present=len(present), evicted=evicted)


def evict_some(tx: Transaction, tally: Tally, excess: tuple[int, int]) -> tuple[Tally, SeedReport]:
    """Let the least recently used go until the excess of entries and bytes is gone, or `EVICTED_ROWS_MAX` are."""
    oldest = list(tx.tuples("list_oldest", limit=EVICTED_ROWS_MAX))
    if not oldest:  # somebody else has emptied the file
        return count(tx), SeedReport()
    going = giving_way(oldest, excess)
    _delete(tx, [row_id for row_id, _ in going])
    for _, dims in going:
        tally = tally.plus(-1, dims)
    return tally, SeedReport(evicted=len(going))


def giving_way(oldest: Sequence[tuple[int, int]], excess: tuple[int, int]) -> list[tuple[int, int]]:
    """The first of the rows, each an id and the size of its vector, that together free so many entries and bytes."""
    entries, size = excess
    going: list[tuple[int, int]] = []
    for row in oldest:
        if entries <= 0 and size <= 0:
            break
        going.append(row)
        entries -= 1
        size -= row[1] * BYTES_PER_NUMBER
    return going


def _space_id(tx: Transaction, identity: str, dims: int) -> int | None:
    """The number of an embedder; None when its vectors were of another size, or there are too many embedders."""
    known = tx.row("find_space", identity=identity)
    if known is not None:
        return int(known["id"]) if known["dims"] == dims else None
    tx.execute("drop_empty_spaces")
    if len(tx.rows("count_by_space")) >= SPACES_MAX:
        return None
    return tx.insert("add_space", identity=identity, dims=dims)


def _delete(tx: Transaction, ids: list[int]) -> int:
    return tx.execute("delete_embeddings", ids=json.dumps(ids))


def _as_json(hashes: list[bytes]) -> str:
    return json.dumps([key.hex() for key in hashes])


# -- on a worker thread ------------------------------------------------------------------------------------------------


def _entries_of(vectors: Mapping[bytes, NDArray[np.float32]], dims: int, now_ms: int) -> list[Entry]:
    """Vectors as they are stored, without those that could not be used."""
    from reverie.memory import kernel

    rows = [(key, kernel.to_blob(vector)) for key, vector in vectors.items()]
    return _usable_entries(rows, None, dims, now_ms)


def _usable_entries(
    rows: Sequence[tuple[bytes, bytes]], used_at_ms: Sequence[int] | None, dims: int, now_ms: int
) -> list[Entry]:
    """The rows that hold a vector of this size, of finite numbers that are not all zero; no mark lies in the future."""
    from reverie.memory import kernel

    used = repeat(now_ms) if used_at_ms is None else (min(each, now_ms) for each in used_at_ms)
    unique = {key: (key, mark, blob) for (key, blob), mark in zip(rows, used, strict=False)}
    sized = [entry for entry in unique.values() if len(entry[2]) == BYTES_PER_NUMBER * dims > 0]
    if not sized:
        return []
    usable = kernel.all_usable(kernel.from_blobs([blob for _, _, blob in sized], dims))
    return sized if usable.all() else [entry for entry, fine in zip(sized, usable, strict=True) if fine]


def _usable_rows(rows: list[Row], dims: int) -> tuple[list[tuple[int, bytes, NDArray[np.float32]]], list[int]]:
    """The rows with a good vector, and the ids of those without."""
    from reverie.memory import kernel

    sized = [row for row in rows if len(row["vector"]) == BYTES_PER_NUMBER * dims]
    bad = [row["id"] for row in rows if len(row["vector"]) != BYTES_PER_NUMBER * dims]
    if not sized:
        return [], bad
    matrix = kernel.from_blobs([row["vector"] for row in sized], dims)
    usable = kernel.all_usable(matrix)
    good = [
        (row["id"], row["text_hash"], vector) for row, vector, fine in zip(sized, matrix, usable, strict=True) if fine
    ]
    bad += [row["id"] for row, fine in zip(sized, usable, strict=True) if not fine]
    return good, bad
