"""An embedder that costs nothing: texts that share words have similar vectors."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

import numpy as np

from reverie.llm.embeddings import EmbedderIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anyio
    from numpy.typing import NDArray

    from reverie.errors import EmbedderError

_WORD = re.compile(r"[a-z0-9]+|[^\W_a-z0-9]")


class FakeEmbedder:
    """A deterministic `Embedder`: a hashed bag of words, length 1; each character beyond ASCII is a word.

    `error`, when set, is raised by every call from then on. `hold`, when set, is awaited by every call first.
    `queries` and `passages` count the texts embedded so far.
    """

    def __init__(self, dims: int = 64, *, error: EmbedderError | None = None, hold: anyio.Event | None = None) -> None:
        self.identity = EmbedderIdentity(provider="fake", model="bag-of-words", version="1", dims=dims)
        self.error = error
        self.hold = hold
        self.queries = 0
        self.passages = 0
        self.closed = False

    async def warm(self) -> None:
        """Nothing to load."""
        await self._ready()

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question."""
        await self._ready()
        self.queries += 1
        return self.vector(text)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts to be found."""
        await self._ready()
        self.passages += len(texts)
        vectors = np.zeros((len(texts), self.identity.dims), np.float32)
        for number, text in enumerate(texts):
            vectors[number] = self.vector(text)
        return vectors

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def vector(self, text: str) -> NDArray[np.float32]:
        """The vector of a text, without counting it."""
        vector = np.zeros(self.identity.dims, np.float32)
        for word in _WORD.findall(text.lower()):
            vector[zlib.crc32(word.encode("utf-8", "replace")) % self.identity.dims] += 1
        length = float(np.linalg.norm(vector))
        return vector / np.float32(length) if length else vector

    async def _ready(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
