"""Where imported vectors go: the embedding cache, through the one door that takes many at once.

This is the only module that knows how vectors are put there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.config import MemoryConfig
    from reverie.storage.database import Database, Transaction


class Seeded(Protocol):
    """What became of the rows of one call."""

    @property
    def added(self) -> int:
        """Kept."""
        ...

    @property
    def present(self) -> int:
        """There already, and left alone."""
        ...


class VectorStore(Protocol):
    """The part of the embedding cache that an import needs."""

    async def seed(
        self, identity: str, dims: int, rows: Sequence[tuple[bytes, bytes]], used_at_ms: Sequence[int] | None = None
    ) -> Seeded:
        """Keep vectors by text hash, each little-endian float32 of length 1; one transaction.

        Raises:
            StorageError: nothing of this call was kept.
        """
        ...

    def room(self, dims: int) -> int:
        """How many vectors of this size may be added before any gives way."""
        ...


@dataclass(frozen=True, slots=True)
class SeedCounts:
    """What became of the rows of one call."""

    added: int
    present: int


async def open_store(database: Database, config: MemoryConfig, clock: Clock) -> VectorStore:  # noqa: ARG001 (for the cache)
    """The embedding cache in embeddings.db, within the bounds of the settings.

    Raises:
        StorageError: it cannot be read.
    """
    return await _DirectStore.open(database, entries_max=config.cache_entries_max)


class _DirectStore:
    """A `VectorStore` straight on embeddings.db; stands in until the cache's own `seed` is there."""

    def __init__(self, database: Database, *, entries_max: int, held: int) -> None:
        self._database = database
        self._entries_max = entries_max
        self._held = held

    @classmethod
    async def open(cls, database: Database, *, entries_max: int) -> _DirectStore:
        """A store that knows how much is held."""
        held = await database.read(lambda tx: sum(row["entries"] for row in tx.rows("count_by_space")))
        return cls(database, entries_max=entries_max, held=held)

    def room(self, dims: int) -> int:  # noqa: ARG002 (the bound here is in rows)
        """How many vectors may be added before any gives way."""
        return max(0, self._entries_max - self._held)

    async def seed(
        self, identity: str, dims: int, rows: Sequence[tuple[bytes, bytes]], used_at_ms: Sequence[int] | None = None
    ) -> SeedCounts:
        """Keep vectors; those that are there stay as they are."""
        used = json.dumps(list(used_at_ms or [0] * len(rows)))
        hashes, vectors = b"".join(key for key, _ in rows), b"".join(vector for _, vector in rows)

        def work(tx: Transaction) -> int:
            space = tx.value("find_space", identity=identity) or tx.insert("add_space", identity=identity, dims=dims)
            return tx.execute(
                "seed_embeddings", space_id=space, hashes=hashes, vectors=vectors, size=4 * dims, used_at=used
            )

        added = await self._database.write(work)
        self._held += added
        return SeedCounts(added, len(rows) - added)
