"""Vectors of what came without any, on a real state.db."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.errors import TextRefusedError
from reverie.learning.steps.missing_vectors import MissingVectors
from reverie.storage import STATE, Database
from reverie.testing import FakeEmbedder
from tests.learning_rows import seed, unit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

pytestmark = pytest.mark.anyio


class Fussy(FakeEmbedder):
    """Refuses a text that says `bad`."""

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors, unless one is bad."""
        if any("bad" in text for text in texts):
            raise TextRefusedError("bad")
        return await super().embed_passages(texts)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty one."""
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=0)
    yield database
    await database.aclose()


def lacking(state: Database, table: str, column: str = "vec") -> list[Any]:
    """The ids of rows without a vector."""
    with closing(apsw.Connection(str(state.path))) as connection:
        return [row[0] for row in connection.execute(f"SELECT id FROM {table} WHERE {column} IS NULL ORDER BY id")]  # noqa: S608 (our own words)


async def test_all_that_is_missing_is_made(state: Database) -> None:
    """Over several rounds, table by table; what is there stays; without words there is nothing to make it of."""
    for number in range(70):
        seed(state.path, "traces", id=f"tr_{number:02}", task_id="ta", episode_id="ep", summary=f"step {number}")
    seed(state.path, "traces", id="tr_mute", task_id="ta", episode_id="ep")
    kept = unit(1, 0)
    seed(state.path, "traces", id="tr_whole", task_id="ta", episode_id="ep", summary="x", vec_summary=kept)
    seed(state.path, "policies", id="po_1")
    seed(state.path, "world_models", id="wm_1")
    missing = MissingVectors(state, FakeEmbedder())

    rounds = 0
    while await missing.make_some():
        rounds += 1

    assert rounds == 5
    assert (lacking(state, "traces", "vec_summary"), lacking(state, "policies"), lacking(state, "world_models")) == (
        ["tr_mute"], [], [],
    )  # fmt: skip
    with closing(apsw.Connection(str(state.path))) as connection:
        assert connection.execute("SELECT vec_summary FROM traces WHERE id = 'tr_whole'").get == kept.tobytes()


async def test_a_text_that_is_refused(state: Database) -> None:
    """It stays without, holds no other back, and is not tried for ever."""
    for id_, summary in (("tr_1", "good"), ("tr_2", "bad"), ("tr_3", "fine")):
        seed(state.path, "traces", id=id_, task_id="ta", episode_id="ep", summary=summary)
    missing = MissingVectors(state, Fussy())

    assert [await missing.make_some(), await missing.make_some()] == [True, False]
    assert lacking(state, "traces", "vec_summary") == ["tr_2"]
