"""Texts as vectors: the contract of an embedder.

Two implementations exist: the bundled one works offline, the other asks an OpenAI-compatible server. Tests use
`reverie.testing.FakeEmbedder`. All give vectors of length 1, so that a dot product is the similarity; a text without
anything in it gives the zero vector, which is similar to nothing.

Nothing here imports NumPy when it is loaded: that happens off the event loop, with the first text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from reverie.errors import EmbedderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


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
            EmbedderError: they could not be computed; none is returned then.
        """
        ...

    async def aclose(self) -> None:
        """Release threads and connections."""
        ...


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows scaled to length 1; a row of zeros stays one.

    Raises:
        EmbedderError: a number is infinite or not a number.
    """
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise EmbedderError("the embedder gave a vector that is not finite")
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32, copy=False)
