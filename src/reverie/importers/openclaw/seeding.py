"""Where imported vectors go: the embedding cache, through the one door that takes many at once.

This is the only module that knows how vectors are put there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from reverie.memory.embedding_cache import EmbeddingCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.config import MemoryConfig
    from reverie.storage.database import Database


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


async def open_store(database: Database, config: MemoryConfig, clock: Clock) -> VectorStore:
    """The embedding cache in embeddings.db, within the bounds of the settings.

    Raises:
        StorageError: it cannot be read.
    """
    cache = EmbeddingCache(
        database, entries_max=config.cache_entries_max, bytes_max=config.cache_bytes_max, clock=clock
    )
    await cache.open()
    return cache
