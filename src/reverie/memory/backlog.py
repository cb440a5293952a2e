"""Chunks that have no vector yet, and the work of giving them one.

Whatever is written is findable by its words at once; its vector follows from here. Equal texts are embedded once: the
cache is asked first, and what the embedder returns is kept there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from reverie.memory.passages import embedded_text
from reverie.memory.scope import VectorRow
from reverie.memory.store import EMBEDDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.memory.embedding_cache import EmbeddingCache
    from reverie.memory.semantic import SemanticIndex
    from reverie.storage.database import Database, Row, Transaction

CHUNKS_AT_ONCE = 64


class EmbeddingBacklog:
    """Embeds what waits in one index, one run at a time."""

    def __init__(self, database: Database, cache: EmbeddingCache, semantic: SemanticIndex) -> None:
        self._database = database
        self._cache = cache
        self._semantic = semantic
        self._turn = asyncio.Lock()

    async def run(self, limit: int) -> int:
        """Embed up to `limit` waiting chunks, oldest first; returns how many got a vector, 0 when none wait.

        Raises:
            EmbedderError: the embedder failed; what was embedded before is kept.
        """
        done = 0
        async with self._turn:
            while done < limit and (vectors := await self._semantic.ready()) is not None:
                size = min(CHUNKS_AT_ONCE, limit - done)
                rows = await self._database.read(lambda tx, size=size: tx.rows("list_waiting_chunks", limit=size))
                if not rows:
                    await vectors.catch_up()
                    break
                await self._embed(rows)
                done += len(rows)
        return done

    async def _embed(self, rows: list[Row]) -> None:
        identity = self._semantic.identity
        found = await self._cache.lookup(identity.key, [row["content_hash"] for row in rows], identity.dims)
        missing = list({row["content_hash"]: row for row in rows if row["content_hash"] not in found}.values())
        if missing:
            vectors = await self._semantic.embed([embedded_text(row["heading"], row["text"]) for row in missing])
            new = {row["content_hash"]: vector for row, vector in zip(missing, vectors, strict=True)}
            await self._cache.store(identity.key, new)
            found |= new
        await asyncio.shield(self._commit(identity.key, rows, [found[row["content_hash"]] for row in rows]))

    async def _commit(self, key: str, rows: list[Row], vectors: list[NDArray[np.float32]]) -> None:
        """Write the vectors of chunks that still stand, then let the matrix follow."""
        matrix = await asyncio.to_thread(_stacked, vectors)
        places = await self._database.write(lambda tx: _write_vectors(tx, key, [row["id"] for row in rows], matrix))
        kept = [number for number, place in enumerate(places) if place is not None]
        index = await self._semantic.ready()
        if index is not None:
            await index.add([place for place in places if place is not None], matrix[kept])


def _stacked(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    import numpy as np

    return np.stack(vectors).astype("<f4", copy=False)


def _write_vectors(
    tx: Transaction, identity: str, chunk_ids: list[int], matrix: NDArray[np.float32]
) -> list[VectorRow | None]:
    """Returns the row of each chunk, None for one that was deleted, or given its vector, meanwhile."""
    tx.execute("set_meta", key=EMBEDDER, value=identity)
    return [_write_vector(tx, chunk_id, vector.tobytes()) for chunk_id, vector in zip(chunk_ids, matrix, strict=True)]


def _write_vector(tx: Transaction, chunk_id: int, vector: bytes) -> VectorRow | None:
    place: Any = next(tx.tuples("find_vector_facts", id=chunk_id), None)
    if place is None:
        return None
    tx.execute("add_vector", id=chunk_id, vector=vector)
    tx.execute("mark_embedded", id=chunk_id)
    return VectorRow(chunk_id, *place)
