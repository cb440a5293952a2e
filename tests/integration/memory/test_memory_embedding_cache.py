"""The embedding cache: hits, misses, bounds, and rows that cannot be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from reverie.memory.embedding_cache import EmbeddingCache
from reverie.storage import EMBEDDINGS, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.anyio


def key(number: int) -> bytes:
    """A text's hash."""
    return number.to_bytes(16, "big")


def vectors(*numbers: int) -> dict[bytes, NDArray[np.float32]]:
    """Distinct vectors of four dimensions."""
    return {key(n): np.array([n + 1, 0, 0.5, 1], np.float32) for n in numbers}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    """The cache's file."""
    opened = await Database.open(tmp_path / "embeddings.db", EMBEDDINGS, now_ms=0)
    yield opened
    await opened.aclose()


async def test_what_was_stored_is_found(database: Database) -> None:
    """A vector comes back bit for bit, for its embedder only."""
    cache = EmbeddingCache(database, entries_max=10, clock=FakeClock())
    await cache.store("one", vectors(1, 2))
    found = await cache.lookup("one", [key(1), key(2), key(3), key(1)], 4)
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in vectors(1, 2).items()}
    assert await cache.lookup("two", [key(1)], 4) == {}
    assert (cache.statistics().hits, cache.statistics().misses) == (2, 2)


async def test_the_bound_holds_after_every_write(database: Database) -> None:
    """Room is made before inserting; storing a text again takes no second place."""
    clock = FakeClock()
    cache = EmbeddingCache(database, entries_max=5, clock=clock)
    for number in range(12):
        clock.advance(ms=1)
        await cache.store("one", vectors(number, number))
        assert await database.read(lambda tx: tx.value("count_embeddings")) == min(5, number + 1)
    await cache.store("one", vectors(11))
    assert (cache.statistics().entries, cache.statistics().evicted) == (5, 7)
    await cache.store("one", vectors(*range(20, 40)))
    assert set(await cache.lookup("one", [key(n) for n in range(40)], 4)) == {key(n) for n in range(35, 40)}


async def test_the_least_recently_used_gives_way(database: Database) -> None:
    """A hit protects its row, also when the mark was still in memory."""
    clock = FakeClock()
    cache = EmbeddingCache(database, entries_max=3, clock=clock)
    for number in (1, 2, 3):
        clock.advance(ms=1)
        await cache.store("one", vectors(number))
    clock.advance(ms=1)
    await cache.lookup("one", [key(1)], 4)
    clock.advance(ms=1)
    await cache.store("one", vectors(4))
    assert set(await cache.lookup("one", [key(n) for n in (1, 2, 3, 4)], 4)) == {key(1), key(3), key(4)}


async def test_a_bad_row_is_a_miss_and_is_removed(database: Database) -> None:
    """Wrong sizes, numbers that are none and zero vectors are never given back."""
    cache = EmbeddingCache(database, entries_max=10, clock=FakeClock())
    await cache.store("one", vectors(1) | {key(2): np.zeros(3, np.float32), key(3): np.full(4, np.nan, np.float32)})
    assert set(await cache.lookup("one", [key(1), key(2), key(3)], 4)) == {key(1)}
    assert await database.read(lambda tx: tx.value("count_embeddings")) == 1
    assert cache.statistics().entries == 1


async def test_many_hashes_are_looked_up_in_batches(database: Database) -> None:
    """A thousand texts at once are found, and their marks of use are written in between."""
    cache = EmbeddingCache(database, entries_max=2_000, clock=FakeClock())
    await cache.store("one", vectors(*range(1_000)))
    assert len(await cache.lookup("one", [key(n) for n in range(1_100)], 4)) == 1_000


async def test_a_cache_of_size_zero_is_off(database: Database) -> None:
    """It keeps nothing and finds nothing."""
    cache = EmbeddingCache(database, entries_max=0, clock=FakeClock())
    await cache.store("one", vectors(1))
    assert await cache.lookup("one", [key(1)], 4) == {}
    assert database.statistics().reads == database.statistics().writes == 0


async def test_the_count_survives_a_restart(database: Database) -> None:
    """A cache opened on an existing file knows how full it is."""
    await EmbeddingCache(database, entries_max=4, clock=FakeClock()).store("one", vectors(1, 2, 3, 4))
    again = EmbeddingCache(database, entries_max=4, clock=FakeClock())
    await again.store("one", vectors(5))
    assert again.statistics().entries == 4
