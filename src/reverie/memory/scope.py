"""What a search may see, and what a scan of the vectors gives back.

Values only: importing this module imports no numerics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.types import MemorySource

SOURCE_NUMBERS: dict[MemorySource, int] = {"memory": 0, "sessions": 1}
OUT_OF_SCOPE = -2.0


@dataclass(frozen=True, slots=True)
class Scope:
    """What a search may see: filters that hold before anything is scored.

    `document_ids` None allows all; `hidden` is a document of which lines from a number on are left out.
    """

    agent_id: int
    sources: frozenset[MemorySource]
    document_ids: frozenset[int] | None = None
    hidden: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class VectorRow:
    """A vector with the facts it is filtered by."""

    chunk_id: int
    agent_id: int
    source: MemorySource
    document_id: int
    start_line: int


@dataclass(frozen=True, slots=True)
class VectorScan:
    """The outcome of one scan: the best chunks with exact scores, and an estimate for any other chunk asked for.

    `count`, `mean` and `spread` (standard deviation) describe the similarities of everything in scope.
    """

    best: tuple[tuple[int, float], ...]
    count: int
    mean: float
    spread: float
    ids: NDArray[np.int64]
    scores: NDArray[np.float32]

    def estimate(self, chunk_ids: Sequence[int]) -> dict[int, float]:
        """Similarities, accurate to about 0.002; chunks without a vector or out of scope are left out."""
        if not len(self.ids) or not chunk_ids:
            return {}
        positions = self.ids.searchsorted(chunk_ids).clip(max=len(self.ids) - 1)
        held, scores = self.ids[positions].tolist(), self.scores[positions].tolist()
        return {
            chunk_id: score
            for chunk_id, at, score in zip(chunk_ids, held, scores, strict=True)
            if chunk_id == at and score > OUT_OF_SCOPE
        }
