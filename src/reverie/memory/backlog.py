"""Chunks that have no vector yet, and the work of giving them one.

Whatever is written is findable by its words at once; its vector follows from here. Equal texts are embedded once: the
cache is asked first, and what the embedder returns is kept there call by call, so that nothing is paid for twice when
a later call fails.

A text that the embedder does not take must not hold up those behind it. A call that is refused for its texts is cut in
halves until the text is alone; then, if the embedder takes a plain word, the text is set aside: its chunk has no vector
until the next rebuild, is found by its words, and is counted with the reason. Calls over which the server itself fails,
again and again while it takes a plain word in between, are cut in the same way.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from reverie.errors import EmbedderError, StorageError, TextRefusedError
from reverie.llm.embeddings import batches
from reverie.memory import store
from reverie.memory.passages import embedded_text, embedding_key
from reverie.memory.scope import VectorRow
from reverie.memory.store import EMBEDDER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.memory.embedding_cache import EmbeddingCache
    from reverie.memory.semantic import SemanticIndex
    from reverie.storage.database import Database, Row, Transaction

log = structlog.get_logger(__name__)

CHUNKS_AT_ONCE = 64
FAILURES_BEFORE_CUTTING = 3


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A chunk, the text to embed for it, and that text's key."""

    chunk_id: int
    text: str
    key: bytes


class EmbeddingBacklog:
    """Embeds what waits in one index, one run at a time. `refusals` are the texts that were set aside."""

    def __init__(self, database: Database, cache: EmbeddingCache, semantic: SemanticIndex) -> None:
        self.refusals = store.Refusals()
        self._database = database
        self._cache = cache
        self._semantic = semantic
        self._turn = asyncio.Lock()
        self._writing: set[asyncio.Task[None]] = set()
        self._failed_over = b""
        self._failures = 0

    async def open(self) -> None:
        """Learn how many texts were set aside before.

        Raises:
            StorageError: the index could not be read.
        """
        self.refusals = await self._database.read(store.refusals)

    async def aclose(self) -> None:
        """Let vectors that are being written arrive: whoever waited for them may have been cancelled."""
        await asyncio.gather(*self._writing, return_exceptions=True)

    @asynccontextmanager
    async def resting(self) -> AsyncGenerator[None]:
        """While the block runs nothing is embedded, and nothing that was enters the cache."""
        async with self._turn:
            yield

    async def run(self, limit: int) -> int:
        """Embed up to `limit` waiting chunks, oldest first; returns how many wait no more, 0 when none did.

        Raises:
            EmbedderPausedError: the embedder failed a moment ago and is not asked again yet.
            EmbedderError: the embedder failed; what was embedded before is kept.
            StorageError: the index could not be written.
        """
        done = 0
        async with self._turn:
            await self._semantic.recover()
            while done < limit and (vectors := await self._semantic.ready()) is not None:
                size = min(CHUNKS_AT_ONCE, limit - done)
                rows = await self._database.read(lambda tx, size=size: tx.rows("list_waiting_chunks", limit=size))
                if not rows:
                    await vectors.catch_up()
                    break
                await self._embed([_waiting(row) for row in rows])
                done += len(rows)
        return done

    async def _embed(self, chunks: list[_Waiting]) -> None:
        """Give chunks the vectors that are in the cache, then ask for the others, each text once."""
        identity = self._semantic.identity
        places: dict[bytes, list[_Waiting]] = {}
        for chunk in chunks:
            places.setdefault(chunk.key, []).append(chunk)
        found = await self._cache.lookup(identity.key, list(places), identity.dims)
        await self._commit(places, found)
        missing = [(key, same[0].text) for key, same in places.items() if key not in found]
        start = 0
        for batch in batches([text for _, text in missing]):
            await self._embed_texts(places, missing[start : start + len(batch)])
            start += len(batch)

    async def _embed_texts(
        self, places: dict[bytes, list[_Waiting]], texts: list[tuple[bytes, str]], *, cutting: bool = False
    ) -> None:
        """One call for texts with their keys; in halves when a text among them seems to be at fault."""
        try:
            vectors = await self._semantic.embed([text for _, text in texts])
        except EmbedderError as error:
            if not (self._is_about_a_text(error, texts[0][0]) or (cutting and error.over_text)):
                raise
            reason = str(error)
        else:
            self._failures = 0
            found = {key: vector for (key, _), vector in zip(texts, vectors, strict=True)}
            await self._remember(found)
            await self._commit(places, found)
            return
        await self._semantic.probe()  # raises when it is not the texts
        if len(texts) == 1:
            await self._set_aside(places[texts[0][0]], reason)
            return
        half = len(texts) // 2
        for part in (texts[:half], texts[half:]):
            await self._embed_texts(places, part, cutting=True)

    def _is_about_a_text(self, error: EmbedderError, first: bytes) -> bool:
        """Whether a text among those of a call is to blame: the embedder says so, or fails over the same ones often."""
        if isinstance(error, TextRefusedError):
            return True
        if not error.over_text:
            return False
        self._failures = self._failures + 1 if first == self._failed_over else 1
        self._failed_over = first
        return self._failures >= FAILURES_BEFORE_CUTTING

    async def _remember(self, vectors: dict[bytes, NDArray[np.float32]]) -> None:
        """Keep vectors in the cache. They are paid for: if that fails, they go into the index all the same."""
        identity = self._semantic.identity
        try:
            await self._cache.store(identity.key, identity.dims, vectors)
        except StorageError as error:
            log.warning("vectors are not kept in the cache", action="cache_failed", reason=str(error))

    async def _set_aside(self, chunks: list[_Waiting], reason: str) -> None:
        """Leave the chunks of a refused text without a vector."""
        log.warning("a text cannot be embedded and is found by its words only", action="text_refused", reason=reason)
        ids = [chunk.chunk_id for chunk in chunks]
        self.refusals = await asyncio.shield(self._database.write(lambda tx: store.set_aside(tx, ids, reason)))

    async def _commit(self, places: dict[bytes, list[_Waiting]], vectors: dict[bytes, NDArray[np.float32]]) -> None:
        """Write the vectors of all places of some texts."""
        pairs = [(chunk.chunk_id, vector) for key, vector in vectors.items() for chunk in places[key]]
        if pairs:
            writing = asyncio.create_task(self._write(self._semantic.identity.key, pairs), name="write-vectors")
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)
            await asyncio.shield(writing)

    async def _write(self, key: str, pairs: list[tuple[int, NDArray[np.float32]]]) -> None:
        """Write the vectors of chunks that still stand, then let the matrix follow."""
        pairs.sort(key=lambda pair: pair[0])
        matrix = await asyncio.to_thread(_stacked, [vector for _, vector in pairs])
        rows = await self._database.write(
            lambda tx: _write_vectors(tx, key, [chunk_id for chunk_id, _ in pairs], matrix)
        )
        kept = [number for number, row in enumerate(rows) if row is not None]
        index = await self._semantic.ready()
        if index is not None:
            await index.add([row for row in rows if row is not None], matrix[kept])


def _waiting(row: Row) -> _Waiting:
    text = embedded_text(row["heading"], row["text"])
    return _Waiting(row["id"], text, embedding_key(text))


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
