"""The 8-bit matrix itself: parallel columns ordered by chunk id, and the scan over them.

Invariant: a scan works on the rows of the moment it began. Appending writes beyond them; whatever would disturb them
makes a new table. Importing this module imports numpy, so callers do it on a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.memory import kernel
from reverie.memory.scope import OUT_OF_SCOPE, SOURCE_NUMBERS, Scope, VectorRow, VectorScan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

GATHER_ROWS = 16_384
SCANNED_ROWS = 131_072
"""Rows scored at once: a running scan holds one block's scores beside its result, however many rows there are."""

BEST_STAND_OUT = 2.5
"""The best rows of many stand out by more than this many standard deviations; where they do not, all are sorted."""

CAPACITY_MIN = 1_024
ID_FACTOR, ID_MODULUS, CHECKSUM_MODULUS = 48_271, 2_147_483_647, 2**53


class VectorTable:
    """Parallel columns with room to grow, ordered by chunk id.

    Appending writes beyond the rows that a running scan sees; everything that would disturb one makes a new table.
    """

    def __init__(self, dims: int, capacity: int = CAPACITY_MIN) -> None:
        self.rows = 0
        self.dead = 0
        self.matrix = np.empty((capacity, dims), np.int8)
        self.scales = np.empty(capacity, np.float32)
        self.ids = np.empty(capacity, np.int64)
        self.agents = np.empty(capacity, np.int32)
        self.sources = np.empty(capacity, np.int8)
        self.documents = np.empty(capacity, np.int32)
        self.lines = np.empty(capacity, np.int32)
        self.alive = np.zeros(capacity, np.bool_)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return (self.matrix, self.scales, self.ids, self.agents, self.sources, self.documents, self.lines, self.alive)

    @property
    def last_id(self) -> int:
        """The highest chunk id held; 0 when there is none."""
        return int(self.ids[self.rows - 1]) if self.rows else 0

    def checksum(self) -> tuple[int, int]:
        """How many living rows there are, and what their ids add up to, as in the index's tally."""
        alive = self.ids[: self.rows][self.alive[: self.rows]]
        return len(alive), int((alive * ID_FACTOR % ID_MODULUS).sum()) % CHECKSUM_MODULUS

    def view(self) -> _View:
        """The rows of this moment, for a scan."""
        return _View(*(column[: self.rows] for column in self._columns()))

    def with_rows(self, rows: Sequence[VectorRow], vectors: NDArray[np.float32]) -> VectorTable:
        """This table or a larger one, holding the rows too; a chunk that stands here already is replaced."""
        if any(row.chunk_id <= self.last_id for row in rows) or any(
            a.chunk_id >= b.chunk_id for a, b in pairwise(rows)
        ):
            return self._merged(rows, vectors)
        table = self if self.rows + len(rows) <= len(self.ids) else self._grown(self.rows + len(rows))
        table._append(rows, vectors)  # noqa: SLF001 (its own class)
        return table

    def without(self, chunk_ids: Sequence[int]) -> VectorTable:
        """This table with the chunks marked dead, or a compacted one when a quarter is dead."""
        positions = self._positions(chunk_ids)
        self.dead += int(self.alive[positions].sum())
        self.alive[positions] = False
        if self.dead * 4 <= self.rows or self.rows < CAPACITY_MIN:
            return self
        return self._selected(self.alive[: self.rows].nonzero()[0])

    def set_lines(self, chunk_lines: Sequence[tuple[int, int]]) -> None:
        """Write new first lines."""
        lines = dict(chunk_lines)
        for position in self._positions(list(lines)):
            self.lines[position] = lines[int(self.ids[position])]

    def _positions(self, chunk_ids: Sequence[int]) -> NDArray[np.intp]:
        if not self.rows:
            return np.zeros(0, np.intp)
        wanted = np.unique(np.asarray(chunk_ids, np.int64))
        positions = np.minimum(np.searchsorted(self.ids[: self.rows], wanted), self.rows - 1)
        return positions[self.ids[positions] == wanted]

    def _append(self, rows: Sequence[VectorRow], vectors: NDArray[np.float32]) -> None:
        start, end = self.rows, self.rows + len(rows)
        self.matrix[start:end], self.scales[start:end] = kernel.quantise(vectors)
        self.ids[start:end] = [row.chunk_id for row in rows]
        self.agents[start:end] = [row.agent_id for row in rows]
        self.sources[start:end] = [SOURCE_NUMBERS[row.source] for row in rows]
        self.documents[start:end] = [row.document_id for row in rows]
        self.lines[start:end] = [row.start_line for row in rows]
        self.alive[start:end] = True
        self.rows = end

    def _merged(self, rows: Sequence[VectorRow], vectors: NDArray[np.float32]) -> VectorTable:
        """A new table with the rows sorted in; of one chunk the row given last stays."""
        latest = {row.chunk_id: i for i, row in enumerate(rows)}
        kept = np.flatnonzero(self.alive[: self.rows] & ~np.isin(self.ids[: self.rows], list(latest)))
        table = self._selected(kept, len(kept) + len(latest))
        chosen = list(latest.values())
        table._append([rows[i] for i in chosen], vectors[chosen])  # noqa: SLF001 (its own class)
        return table._selected(np.argsort(table.ids[: table.rows], kind="stable"))  # noqa: SLF001 (as above)

    def _grown(self, needed: int) -> VectorTable:
        return self._selected(np.arange(self.rows), max(needed, 2 * len(self.ids)), compact=False)

    def _selected(self, positions: NDArray[np.intp], capacity: int = 0, *, compact: bool = True) -> VectorTable:
        table = VectorTable(self.matrix.shape[1], max(CAPACITY_MIN, capacity, len(positions)))
        for source, target in zip(self._columns(), table._columns(), strict=True):
            target[: len(positions)] = source[positions] if compact else source[: self.rows]
        table.rows = len(positions)
        table.dead = 0 if compact else self.dead
        return table


@dataclass(frozen=True, slots=True)
class _View:
    """The columns of a table as they stood when a scan began."""

    matrix: NDArray[np.int8]
    scales: NDArray[np.float32]
    ids: NDArray[np.int64]
    agents: NDArray[np.int32]
    sources: NDArray[np.int8]
    documents: NDArray[np.int32]
    lines: NDArray[np.int32]
    alive: NDArray[np.bool_]

    def allowed(self, scope: Scope) -> NDArray[np.bool_]:
        """Which rows a scope lets through."""
        mask = self.alive & (self.agents == scope.agent_id)
        if len(scope.sources) < len(SOURCE_NUMBERS):
            mask &= np.isin(self.sources, [SOURCE_NUMBERS[source] for source in scope.sources])
        if scope.document_ids is not None:
            mask &= np.isin(self.documents, list(scope.document_ids))
        if scope.hidden is not None:
            document_id, from_line = scope.hidden
            mask &= ~((self.documents == document_id) & (self.lines >= from_line))
        return mask

    def scan(self, query: NDArray[np.float32], scope: Scope, count: int) -> VectorScan:
        """Score the allowed rows; the others keep `OUT_OF_SCOPE`."""
        allowed = self.allowed(scope)
        rows = np.flatnonzero(allowed)
        everything = len(rows) == len(self.ids)
        scores = np.full(len(self.ids), OUT_OF_SCOPE, np.float32)
        quantised, scale = kernel.quantise(query[None, :])
        for block in self._blocks(rows):
            scores[block] = kernel.inner_products(quantised[0], float(scale[0]), self.matrix[block], self.scales[block])
        if not everything:
            scores[~allowed] = OUT_OF_SCOPE
        seen = scores if everything else scores[rows]
        mean, spread = (float(seen.mean()), float(seen.std())) if len(seen) else (0.0, 0.0)
        best = kernel.best_rows(scores, min(count, len(rows)), floor=mean + BEST_STAND_OUT * spread)
        pairs = zip(self.ids[best].tolist(), scores[best].tolist(), strict=True)
        return VectorScan(tuple(pairs), len(rows), mean, spread, self.ids, scores)

    def _blocks(self, rows: NDArray[np.intp]) -> Iterator[slice | NDArray[np.intp]]:
        """All rows in place when most are wanted; otherwise the wanted ones, copied a block at a time."""
        if not len(rows):
            return
        if len(rows) * 2 >= len(self.ids):
            for start in range(0, len(self.ids), SCANNED_ROWS):
                yield slice(start, start + SCANNED_ROWS)
            return
        for start in range(0, len(rows), GATHER_ROWS):
            yield rows[start : start + GATHER_ROWS]
