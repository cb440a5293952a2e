"""Texts as vectors: the contract of an embedder.

Two implementations exist: the bundled one works offline, the other asks an OpenAI-compatible server. Tests use
`reverie.testing.FakeEmbedder`. All give vectors of length 1, so that a dot product is the similarity; a text without
anything in it gives the zero vector, which is similar to nothing.

Nothing here imports NumPy when it is loaded: that happens off the event loop, with the first text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from reverie.errors import TextRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray


BATCH_TEXTS_MAX = 128
BATCH_TOKENS_MAX = 8_000
"""Of one call for passages. A token is taken to be one byte: no text of any language has more of them than that."""


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """Which vector space a vector belongs to. Vectors of different identities are never compared.

    `dims` is 0 as long as a server's model has not told its size.
    """

    provider: str
    model: str
    version: str
    dims: int
    normalised: bool = True

    @property
    def key(self) -> str:
        """The identity as one string, the key of cached vectors."""
        form = "unit" if self.normalised else "raw"
        return f"{self.provider}/{self.model}/{self.version}/{self.dims}/{form}"


class Embedder(Protocol):
    """Something that turns texts into vectors. Any number of calls may run at once."""

    @property
    def identity(self) -> EmbedderIdentity:
        """The vector space. Complete after `warm()` or the first vector."""
        ...

    async def warm(self) -> None:
        """Load what must be loaded, or learn what only the server knows, so that the first query need not wait.

        Raises:
            EmbedderError: it cannot be loaded or reached.
        """
        ...

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question: `(dims,)`, length 1. Goes before passages that wait.

        Raises:
            EmbedderError: it could not be computed.
        """
        ...

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts to be found: `(len(texts), dims)`, each of length 1, in the same order.

        Raises:
            TextRefusedError: one of them cannot be embedded, while others can.
            EmbedderError: they could not be computed. In both cases none is returned.
        """
        ...

    async def aclose(self) -> None:
        """Release threads and connections."""
        ...


def batches(texts: Sequence[str], texts_max: int = BATCH_TEXTS_MAX) -> Iterator[list[str]]:
    """The texts in order, each call bounded by count and by estimated tokens; a text beyond the bound goes alone."""
    batch: list[str] = []
    tokens = 0
    for text in texts:
        size = len(text.encode("utf-8", "replace"))
        if batch and (len(batch) >= texts_max or tokens + size > BATCH_TOKENS_MAX):
            yield batch
            batch, tokens = [], 0
        batch.append(text)
        tokens += size
    if batch:
        yield batch


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows scaled to length 1; a row of zeros stays one.

    Raises:
        TextRefusedError: a number is infinite or not a number.
    """
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise TextRefusedError("the embedder gave a vector that is not finite")
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32, copy=False)
