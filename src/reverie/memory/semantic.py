"""Search by meaning: the embedder, the vectors of this index, and whether the two belong together.

Invariant: vectors of two embedders never meet. When the running embedder is not the one the index was built with,
search by meaning pauses and says why; only a rebuild embeds anew, because that may cost money.
An embedder that failed is not waited for: see `memory/breaker.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from reverie.errors import EmbedderError, StorageError, TextRefusedError
from reverie.memory.breaker import Breaker
from reverie.memory.query_vectors import QueryVectors
from reverie.memory.store import EMBEDDER, read_tally
from reverie.memory.vectors import VectorIndex

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.clock import Clock
    from reverie.llm.embeddings import Embedder, EmbedderIdentity
    from reverie.memory.scope import Scope, VectorScan
    from reverie.storage.database import Database

PROBE = "ping"


class SemanticIndex:
    """The vectors of one index and the embedder that made them.

    `paused_reason` and `failure` are empty while all is well; `vectors` is None until the embedder's vector space is
    known, which for a server may take its first answer. While `warming` is True a text would wait for the embedder.
    `unfit` says why vectors of this index must not be used or added to, whatever the embedder.
    """

    def __init__(self, database: Database, embedder: Embedder, clock: Clock, *, unfit: str = "") -> None:
        self._unfit = unfit
        self.vectors: VectorIndex | None = None
        self.paused_reason = ""
        self.failure = ""
        self.warming = False
        self.breaker = Breaker(clock)
        self._database = database
        self._embedder = embedder
        self._queries = QueryVectors(embedder.embed_query)
        self._turn = asyncio.Lock()
        self._loading: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None

    @property
    def identity(self) -> EmbedderIdentity:
        """The vector space of the running embedder."""
        return self._embedder.identity

    async def open(self) -> None:
        """Start loading stored vectors if the vector space is known already; otherwise it happens with first use."""
        if self.identity.dims:
            await self.ready()

    async def warm_up(self) -> None:
        """Load the embedder, so that the first question need not wait for it.

        Raises:
            EmbedderError: it cannot be loaded or reached.
        """
        self.warming = True
        try:
            await self._warm()
        finally:
            self.warming = False

    async def ready(self) -> VectorIndex | None:
        """The vectors, loaded or loading; None while paused.

        Raises:
            EmbedderError: the embedder cannot say what it is.
        """
        if self.vectors is None:
            async with self._turn:
                if self.vectors is None:
                    await self._attach()
        return None if self.paused_reason else self.vectors

    async def loaded(self) -> None:
        """Wait until the stored vectors are in memory; returns at once when there is nothing to load."""
        if self._loading is not None:
            await asyncio.shield(self._loading)

    async def scan(self, text: str, scope: Scope, count: int) -> VectorScan | None:
        """The nearest chunks to a text; None while paused, or for a text that means nothing to the embedder.

        Raises:
            EmbedderPausedError: the embedder failed a moment ago. When its pause is over, a probe starts beside this.
            EmbedderError: the text could not be embedded.
        """
        self._check()
        vectors = await self.ready()
        if vectors is None:
            return None
        query = await self._query_vector(text)
        return await vectors.scan(query, scope, count) if query.any() else None

    async def query_vector(self, text: str) -> NDArray[np.float32] | None:
        """The vector of a question, of length 1, shared with the search for the same text; None if it means nothing.

        Raises:
            EmbedderPausedError: the embedder failed a moment ago. When its pause is over, a probe starts beside this.
            EmbedderError: the text could not be embedded.
        """
        self._check()
        query = await self._query_vector(text)
        return query if query.any() else None

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of passages.

        Raises:
            TextRefusedError: one of them cannot be embedded.
            EmbedderPausedError: the embedder failed a moment ago.
            EmbedderError: they could not be computed.
        """
        self.breaker.check()
        with self._watched():
            return await self._embedder.embed_passages(texts)

    async def probe(self) -> None:
        """Ask the embedder for the vector of one plain word, whatever failed before.

        Raises:
            EmbedderError: it does not even do that.
        """
        try:
            with self._watched():
                await self._embedder.embed_query(PROBE)
        except TextRefusedError as error:
            refused = EmbedderError(str(error))
            self._failed(refused)
            raise refused from error

    async def recover(self) -> None:
        """If the embedder failed and its pause is over, find out whether it works again."""
        if self.breaker.probe_due:
            await asyncio.shield(self._start_probe())

    async def aclose(self) -> None:
        """Stop loading, probing and scanning. The embedder belongs to whoever opened it."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._queries.aclose()
        await self._release()

    def _check(self) -> None:
        if self.breaker.probe_due:
            self._start_probe()
        self.breaker.check()

    async def _query_vector(self, text: str) -> NDArray[np.float32]:
        with self._watched():
            return await self._queries.vector(text)

    @contextmanager
    def _watched(self) -> Generator[None]:
        """Note whether the embedder failed. A text that it refuses says nothing of the next."""
        try:
            yield
        except TextRefusedError:
            raise
        except EmbedderError as error:
            self._failed(error)
            raise
        self.failure = ""
        self.breaker.worked()

    def _failed(self, error: EmbedderError) -> None:
        self.failure = str(error)
        self.breaker.failed(error)
        self._queries.forget()

    async def _warm(self) -> None:
        """Load the embedder. That it succeeds proves nothing, because there may have been nothing to do."""
        try:
            await self._embedder.warm()
        except EmbedderError as error:
            self._failed(error)
            raise

    def _start_probe(self) -> asyncio.Task[None]:
        """The probe that is under way, or a new one."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe_quietly(), name="probe-embedder")
        return self._probing

    async def _probe_quietly(self) -> None:
        with suppress(EmbedderError):  # it is noted
            await self.probe()

    async def _attach(self) -> None:
        """Compare the running embedder with the one the index was built with, and start loading."""
        if not self.identity.dims:
            self.breaker.check()
            await self._warm()
        key = self.identity.key
        built_with, count = await self._database.read(
            lambda tx: (tx.value("get_meta", key=EMBEDDER), read_tally(tx).vectors)
        )
        self.paused_reason = self._unfit
        if count and built_with != key:
            self.paused_reason = (
                f"paused: the index holds vectors of {built_with}, the running embedder is {key}; "
                "`reverie index --rebuild` embeds everything again, beside this index"
            )
        self.vectors = VectorIndex(self._database, self.identity.dims)
        if not self.paused_reason:
            self._loading = asyncio.create_task(self._load(self.vectors), name="load-vectors")

    async def _load(self, vectors: VectorIndex) -> None:
        try:
            await vectors.load()
        except StorageError as error:
            self.failure = f"the stored vectors could not be loaded: {error}"

    async def _release(self) -> None:
        loading, vectors = self._loading, self.vectors
        self._loading = self.vectors = None
        if loading is not None:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        if vectors is not None:
            await vectors.aclose()
