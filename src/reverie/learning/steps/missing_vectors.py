"""Vectors that are not there yet: of what was imported from another embedder, of traces whose words a person changed.

A few at a time, oldest first, by one call of the embedder. What it refuses stays without, and is found by its words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.errors import TextRefusedError
from reverie.learning.vectors import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.llm.embeddings import Embedder
    from reverie.storage import Database, Row, Transaction

AT_ONCE = 32
TEXT_CHARS_MAX = 2_000
TABLES = ("traces", "policies", "world_models")
"""Skills get theirs when their files are compared."""


class MissingVectors:
    """Makes what is missing, table by table from its beginning to its end, then anew."""

    def __init__(self, state: Database, embedder: Embedder) -> None:
        self._state = state
        self._embedder = embedder
        self._after: dict[str, tuple[int, str]] = dict.fromkeys(TABLES, (-1, ""))

    async def make_some(self) -> bool:
        """Make up to `AT_ONCE` vectors; False at the end of the last table: rest then, and begin anew.

        Raises:
            EmbedderError: they could not be made now; the same are tried again.
            StorageError: they could not be kept.
        """
        for table in TABLES:
            at, id_ = self._after[table]
            rows = await self._state.read(
                lambda tx, table=table, at=at, id_=id_: tx.rows(
                    f"{table}_without_vector", at=at, id=id_, chars=TEXT_CHARS_MAX, limit=AT_ONCE
                )
            )
            if rows:
                await self._make(table, rows)
                self._after[table] = (rows[-1]["at"], rows[-1]["id"])
                return True
        self._after = dict.fromkeys(TABLES, (-1, ""))
        return False

    async def _make(self, table: str, rows: Sequence[Row]) -> None:
        vectors = await self._vectors([row["text"] for row in rows])

        def keep(tx: Transaction) -> None:
            for row, vector in zip(rows, vectors, strict=True):
                if vector is not None:
                    tx.execute(f"give_vector_to_{table}", id=row["id"], vec=pack(vector), text=row["text"],
                               chars=TEXT_CHARS_MAX)  # fmt: skip

        await self._state.write(keep)

    async def _vectors(self, texts: Sequence[str]) -> list[NDArray[np.float32] | None]:
        """One for each text; None for one that the embedder refuses, found by trying each alone."""
        try:
            return list(await self._embedder.embed_passages(texts))
        except TextRefusedError:
            if len(texts) == 1:
                return [None]
        return [vector for text in texts for vector in await self._vectors([text])]
