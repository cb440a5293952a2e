"""The embedding cache: hits, misses, bounds, seeding, rows that cannot be trusted, and death at any moment."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from os import kill
from typing import TYPE_CHECKING, Any, cast

import apsw
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie.config import MemoryConfig
from reverie.errors import StorageError
from reverie.memory.embedding_cache import CacheStatistics, EmbeddingCache, SeedReport, giving_way
from reverie.storage import EMBEDDINGS, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
DIMS = 4
ROW_BYTES = 4 * DIMS


def key(number: int) -> bytes:
    """A text's hash."""
    return number.to_bytes(16, "big")


def vectors(*numbers: int, dims: int = DIMS) -> dict[bytes, NDArray[np.float32]]:
    """Distinct vectors."""
    return {key(n): np.array([n + 1, 0, 0.5, *[1] * (dims - 3)], np.float32) for n in numbers}


def rows(*numbers: int, dims: int = DIMS) -> list[tuple[bytes, bytes]]:
    """The same, as an importer brings them."""
    return [(text_hash, vector.tobytes()) for text_hash, vector in vectors(*numbers, dims=dims).items()]


def cache_on(
    database: Database, entries_max: int, *, bytes_max: int = MIB, clock: FakeClock | None = None
) -> EmbeddingCache:
    """A cache with these bounds."""
    return EmbeddingCache(database, entries_max=entries_max, bytes_max=bytes_max, clock=clock or FakeClock())


def sql(database: Database, statement: str, *bindings: bytes) -> list[tuple[Any, ...]]:
    """What a statement says of the file, past the cache."""
    file = apsw.Connection(str(database.path))
    found = file.execute(statement, bindings).fetchall()
    file.close()
    return found


def held(database: Database) -> dict[str, list[int]]:
    """The numbers of the texts that are kept, by embedder."""
    found: dict[str, list[int]] = {name: [] for (name,) in sql(database, "SELECT identity FROM vector_spaces")}
    joined = "SELECT identity, text_hash FROM embeddings e JOIN vector_spaces s ON s.id = space_id ORDER BY text_hash"
    for name, text_hash in sql(database, joined):
        found[name].append(int.from_bytes(text_hash, "big"))
    return found


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    """The cache's file."""
    opened = await Database.open(tmp_path / "embeddings.db", EMBEDDINGS, now_ms=0)
    yield opened
    await opened.aclose()


# -- hits and misses -------------------------------------------------------------------------------------------------


async def test_what_was_stored_is_found(database: Database) -> None:
    """A vector comes back bit for bit, for its embedder only, and the statistics say how often that helped (C1)."""
    cache = cache_on(database, 10, bytes_max=1_000)
    await cache.store("one", DIMS, vectors(1, 2))
    found = await cache.lookup("one", [key(1), key(2), key(3), key(1)], DIMS)
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in vectors(1, 2).items()}
    assert await cache.lookup("two", [key(1)], DIMS) == {}
    assert cache.statistics() == CacheStatistics(
        entries=2, entries_max=10, bytes=2 * ROW_BYTES, bytes_max=1_000, hits=2, misses=2, hit_rate=0.5, evicted=0
    )


async def test_the_last_vector_of_a_text_counts(database: Database) -> None:
    """Storing a text again replaces its vector and takes no second place (C1)."""
    cache = cache_on(database, 10)
    await cache.store("one", DIMS, vectors(1))
    await cache.store("one", DIMS, {key(1): np.ones(DIMS, np.float32)})
    assert (await cache.lookup("one", [key(1)], DIMS))[key(1)].tolist() == [1, 1, 1, 1]
    assert (cache.statistics().entries, cache.statistics().bytes) == (1, ROW_BYTES)


async def test_vectors_are_kept_as_float32(database: Database, tmp_path: Path) -> None:
    """A number takes four bytes on disk, and a page of a new file has room for several vectors."""
    await cache_on(database, 10).store("one", DIMS, vectors(1))
    with apsw.Connection(str(tmp_path / "embeddings.db")) as file:
        assert file.execute("SELECT typeof(vector), length(vector) FROM embeddings").fetchall() == [("blob", ROW_BYTES)]
        assert file.pragma("page_size") == 32_768


@pytest.mark.parametrize("dims", [DIMS + 1, 1, 0, -1])
async def test_vectors_of_another_size_are_misses(database: Database, dims: int) -> None:
    """Asked for another number of dimensions, or for none, nothing is found and nothing is lost (C2)."""
    cache = cache_on(database, 10)
    await cache.store("one", DIMS, vectors(1))
    assert await cache.lookup("one", [key(1)], dims) == {}
    await cache.store("one", dims, {key(2): np.ones(max(0, dims), np.float32)})
    assert held(database) == {"one": [1]}


async def test_a_bad_row_is_a_miss_and_is_removed(database: Database) -> None:
    """Wrong sizes, numbers that are none and empty vectors that got into the file are never given back (C2, C7)."""
    cache = cache_on(database, 10)
    await cache.store("one", DIMS, vectors(1, 2, 3, 4, 5))
    for number, blob in ((2, b"\0" * 12), (3, np.full(DIMS, np.nan, "<f4").tobytes()), (4, b""), (5, b"\0" * 16)):
        sql(database, "UPDATE embeddings SET vector = ? WHERE text_hash = ?", blob, key(number))
    assert set(await cache.lookup("one", [key(n) for n in range(1, 6)], DIMS)) == {key(1)}
    assert held(database) == {"one": [1]}
    assert (cache.statistics().entries, cache.statistics().bytes) == (1, ROW_BYTES)


async def test_what_is_no_vector_is_not_kept(database: Database) -> None:
    """Vectors of zeros, of another size or of no numbers are left out before anything is written (C7)."""
    cache = cache_on(database, 10)
    bad = {
        key(2): np.zeros(DIMS, np.float32),
        key(3): np.full(DIMS, np.inf, np.float32),
        key(4): np.ones(3, np.float32),
    }
    await cache.store("one", DIMS, vectors(1) | bad)
    await cache.store("one", DIMS, bad)
    assert held(database) == {"one": [1]}


async def test_many_hashes_are_looked_up_in_batches(tmp_path: Path) -> None:
    """A thousand texts, each asked for twice, are looked up 400 at a time; their marks are written meanwhile (C7)."""
    asked: list[int] = []

    def trace(sql: str, bindings: object) -> None:
        if "SELECT id, text_hash, vector" in sql:
            asked.append(len(json.loads(cast("dict[str, str]", bindings)["hashes"])))

    database = await Database.open(tmp_path / "embeddings.db", EMBEDDINGS, now_ms=0, tracer=trace)
    cache = cache_on(database, 2_000)
    await cache.store("one", DIMS, vectors(*range(1_000)))
    assert len(await cache.lookup("one", [key(n) for n in range(1_100)] * 2, DIMS)) == 1_000
    assert asked == [400, 400, 300]
    await database.aclose()


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_the_cache_is_bounded_by_default() -> None:
    """Without a setting it keeps 50,000 vectors or half a GiB, whichever is reached first (C6)."""
    assert (MemoryConfig().cache_entries_max, MemoryConfig().cache_bytes_max) == (50_000, 512 * MIB)


async def test_the_bound_of_entries_holds_after_every_write(database: Database) -> None:
    """Room is made before inserting; of more vectors than fit, the last ones stay (C2, C6)."""
    clock = FakeClock()
    cache = cache_on(database, 5, clock=clock)
    for number in range(12):
        clock.advance(ms=1)
        await cache.store("one", DIMS, vectors(number))
        assert held(database) == {"one": list(range(max(0, number - 4), number + 1))}
    await cache.store("one", DIMS, vectors(11))
    assert (cache.statistics().entries, cache.statistics().evicted) == (5, 7)
    await cache.store("one", DIMS, vectors(*range(20, 40)))
    assert held(database) == {"one": [35, 36, 37, 38, 39]}


async def test_the_bound_of_bytes_holds_over_all_embedders(database: Database) -> None:
    """One large vector takes the place of the oldest small ones, whoever's they are."""
    clock = FakeClock()
    cache = cache_on(database, 100, bytes_max=6 * ROW_BYTES, clock=clock)
    for number in range(6):
        clock.advance(ms=1)
        await cache.store("one" if number % 2 else "two", DIMS, vectors(number))
    await cache.store("large", 10, vectors(100, dims=10))
    assert held(database) == {"one": [3, 5], "two": [4], "large": [100]}
    assert (cache.statistics().bytes, cache.statistics().evicted) == (3 * ROW_BYTES + 40, 3)


async def test_room_is_made_before_anything_is_inserted(tmp_path: Path) -> None:
    """Within the transaction, the oldest are deleted first, so that the file never grows beyond its bound (C2)."""
    statements: list[str] = []
    database = await Database.open(
        tmp_path / "embeddings.db", EMBEDDINGS, now_ms=0, tracer=lambda sql, _: statements.append(sql.split()[0])
    )
    cache = cache_on(database, 2)
    await cache.store("one", DIMS, vectors(1, 2))
    statements.clear()
    await cache.store("one", DIMS, vectors(3, 4))
    changes = [word for word in statements if word in {"BEGIN", "DELETE", "INSERT", "COMMIT"}]
    assert changes == ["BEGIN", "DELETE", "DELETE", "INSERT", "INSERT", "COMMIT"]
    await database.aclose()


async def test_the_least_recently_used_gives_way(database: Database) -> None:
    """A hit protects its row, also when the mark was still in memory (C6)."""
    clock = FakeClock()
    cache = cache_on(database, 3, clock=clock)
    for number in (1, 2, 3):
        clock.advance(ms=1)
        await cache.store("one", DIMS, vectors(number))
    clock.advance(ms=1)
    await cache.lookup("one", [key(1)], DIMS)
    clock.advance(ms=1)
    await cache.store("one", DIMS, vectors(4))
    assert held(database) == {"one": [1, 3, 4]}


async def test_a_bound_that_was_lowered(database: Database) -> None:
    """The next write brings the file below it, in commits of bounded size."""
    await cache_on(database, 5_000).store("one", DIMS, vectors(*range(3_500)))
    commits = database.statistics().commits
    smaller = cache_on(database, 10)
    await smaller.store("one", DIMS, vectors(9_000))
    assert len(held(database)["one"]) == 10
    assert smaller.statistics().evicted == 3_491
    assert database.statistics().commits - commits == 5


@pytest.mark.parametrize("bounds", [(0, MIB), (10, 0), (10, ROW_BYTES - 1)])
async def test_a_cache_that_holds_nothing_is_off(database: Database, bounds: tuple[int, int]) -> None:
    """With a bound of 0, or of less than one vector, it keeps nothing, finds nothing and asks nothing of the disk."""
    cache = cache_on(database, bounds[0], bytes_max=bounds[1])
    await cache.store("one", DIMS, vectors(1))
    assert await cache.seed("one", DIMS, rows(1)) == SeedReport()
    assert await cache.lookup("one", [key(1)], DIMS) == {}
    assert cache.room(DIMS) == database.statistics().reads == database.statistics().writes == 0


async def test_the_count_survives_a_restart(database: Database) -> None:
    """A cache opened on an existing file knows how full it is, from an index and without the table."""
    await cache_on(database, 4).store("one", DIMS, vectors(1, 2, 3, 4))
    again = cache_on(database, 4)
    assert again.room(DIMS) == 0
    await again.open()
    assert (again.statistics().entries, again.statistics().bytes) == (4, 4 * ROW_BYTES)
    await again.store("one", DIMS, vectors(5))
    assert again.statistics().entries == 4
    plan = [row[3] for row in sql(database, "EXPLAIN QUERY PLAN " + EMBEDDINGS.queries()["count_by_space"])]
    assert "SEARCH e USING COVERING INDEX sqlite_autoindex_embeddings_1 (space_id=?)" in plan


async def test_eviction_goes_through_the_index(database: Database) -> None:
    """To find the oldest, the rows are read in the order of their marks and not sorted (C2)."""
    query = EMBEDDINGS.queries()["list_oldest"].replace(":limit", "10")
    plan = [row[3] for row in sql(database, "EXPLAIN QUERY PLAN " + query)]
    assert plan[0] == "SCAN e USING INDEX embeddings_by_use"
    assert not any("TEMP B-TREE" in line for line in plan)


def test_as_few_as_possible_give_way() -> None:
    """The oldest go until both excesses are gone, and not one more."""
    oldest = [(1, 4), (2, 4), (3, 100), (4, 4)]
    assert giving_way(oldest, (0, 0)) == []
    assert giving_way(oldest, (2, 0)) == oldest[:2]
    assert giving_way(oldest, (1, 33)) == oldest[:3]
    assert giving_way(oldest, (9, 9)) == oldest


async def test_a_write_that_failed_leaves_the_count_right(database: Database) -> None:
    """After an error in the middle nothing is kept, and the next write counts anew."""
    cache = cache_on(database, 3)
    await cache.store("one", DIMS, vectors(1, 2))
    sql(database, "CREATE TRIGGER refuse BEFORE INSERT ON embeddings BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StorageError):
        await cache.store("one", DIMS, vectors(3, 4))
    sql(database, "DROP TRIGGER refuse")
    assert held(database) == {"one": [1, 2]}
    await cache.store("one", DIMS, vectors(5, 6))
    assert (cache.statistics().entries, len(held(database)["one"])) == (3, 3)


async def test_a_file_that_somebody_else_emptied(database: Database) -> None:
    """What the cache believed to be there is counted again, and what is new is kept."""
    cache = cache_on(database, 2)
    await cache.store("one", DIMS, vectors(1, 2))
    sql(database, "DELETE FROM embeddings")
    await cache.store("one", DIMS, vectors(3, 4))
    assert held(database) == {"one": [3, 4]}
    assert (cache.statistics().entries, cache.statistics().evicted) == (2, 0)


async def test_embedders_that_left_nothing_are_forgotten(database: Database) -> None:
    """The list of embedders does not grow with every change of model."""
    cache = cache_on(database, 1)
    for name in ("one", "two", "three"):
        await cache.store(name, DIMS, vectors(1))
    assert held(database) == {"two": [], "three": [1]}


# -- seeding ---------------------------------------------------------------------------------------------------------


async def test_vectors_from_elsewhere(database: Database) -> None:
    """What is present stays as it is, what cannot be used is refused, and all of it is one commit."""
    cache = cache_on(database, 10)
    await cache.store("one", DIMS, {key(1): np.ones(DIMS, np.float32)})
    commits = database.statistics().commits
    given_rows = [*rows(1, 2, 3), (key(4), b"short"), (key(5), b"\0" * ROW_BYTES), (key(2), rows(2)[0][1])]
    assert await cache.seed("one", DIMS, given_rows) == SeedReport(added=2, present=1, refused=2, evicted=0)
    assert database.statistics().commits - commits == 1
    found = await cache.lookup("one", [key(1), key(2), key(3)], DIMS)
    assert [found[key(n)].tolist() for n in (1, 2, 3)] == [[1, 1, 1, 1], [3, 0, 0.5, 1], [4, 0, 0.5, 1]]
    assert await cache.seed("one", DIMS, []) == SeedReport()


async def test_seeding_keeps_the_bounds_and_tells_the_room(database: Database) -> None:
    """What does not fit makes the least recently used give way; marks of use come along, none from the future."""
    clock = FakeClock()
    cache = cache_on(database, 4, clock=clock)
    await cache.open()
    assert (cache.room(DIMS), cache.room(0), cache.room(MIB)) == (4, 0, 0)
    now_ms = clock.now_ms()
    assert (await cache.seed("one", DIMS, rows(1, 2, 3), [now_ms + 10**9, now_ms - 5, now_ms - 9])).added == 3
    assert cache.room(DIMS) == 1
    assert await cache.seed("two", DIMS, rows(4, 5)) == SeedReport(added=2, evicted=1)
    assert await cache.seed("two", DIMS, rows(4, 5, 6)) == SeedReport(added=1, present=2, evicted=1)
    assert held(database) == {"one": [1], "two": [4, 5, 6]}
    assert await cache.seed("three", DIMS, rows(*range(10, 30))) == SeedReport(added=4, evicted=4)
    assert cache.room(DIMS) == 0


async def test_seeding_is_quick(database: Database) -> None:
    """Two thousand vectors of 1536 numbers take a small part of a second, so 435,000 take well under a few minutes."""
    cache = cache_on(database, 10_000, bytes_max=100 * MIB)
    blob = np.ones(1536, "<f4").tobytes()
    batch = [(key(number), blob) for number in range(2_000)]
    started = time.monotonic()
    assert (await cache.seed("openai", 1536, batch)).added == 2_000
    assert time.monotonic() - started < 2


# -- any sequence ----------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from(["store", "seed", "lookup", "restart"]),
        st.sampled_from([("small", 3), ("middle", 5), ("large", 9)]),
        st.lists(st.integers(0, 30), max_size=12),
    ),
    max_size=12,
)


@given(steps=steps, entries_max=st.integers(1, 12), vector_bytes=st.integers(0, 300))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_bounds_hold_after_any_sequence(
    database: Database, steps: list[tuple[str, tuple[str, int], list[int]]], entries_max: int, vector_bytes: int
) -> None:
    """Whatever is stored, seeded, asked for and restarted, nothing is beyond a bound and the counts are the file's."""
    clock = FakeClock()
    sql(database, "DELETE FROM embeddings")
    cache = cache_on(database, entries_max, bytes_max=vector_bytes, clock=clock)
    for action, (identity, dims), numbers in steps:
        clock.advance(ms=1)
        match action:
            case "store":
                await cache.store(identity, dims, vectors(*numbers, dims=dims))
            case "seed":
                await cache.seed(identity, dims, rows(*numbers, dims=dims))
            case "lookup":
                await cache.lookup(identity, [key(n) for n in numbers], dims)
            case _:
                cache = cache_on(database, entries_max, bytes_max=vector_bytes, clock=clock)
                await cache.open()
        entries, size = sql(database, "SELECT count(*), coalesce(sum(length(vector)), 0) FROM embeddings")[0]
        assert entries <= entries_max
        assert size <= vector_bytes
        figures = cache.statistics()
        assert (figures.entries, figures.bytes) == (entries, size) or (figures.entries, figures.bytes) == (0, 0)


# -- kill -9 ---------------------------------------------------------------------------------------------------------

KILLS = 50
SEED = 20_261_121
VICTIM = """
import asyncio, os, pathlib, random, sys, time
import numpy as np
from reverie.memory import kernel
from reverie.memory.embedding_cache import EmbeddingCache
from reverie.clock import SystemClock
from reverie.storage import EMBEDDINGS, Database

async def work(path, seed):
    chance = random.Random(seed)
    database = await Database.open(pathlib.Path(path), EMBEDDINGS, now_ms=0)
    cache = EmbeddingCache(database, entries_max=300, bytes_max=200 * 4 * 64, clock=SystemClock())
    os.write(1, b"working\\n")
    ends = time.monotonic() + 30  # a test that fails leaves nobody behind
    while time.monotonic() < ends:
        dims = chance.choice([16, 64])
        keys = [chance.randrange(2000).to_bytes(16, "big") for _ in range(chance.randrange(1, 80))]
        action = chance.randrange(3)
        if action == 0:
            await cache.store(f"space-{dims}", dims, {key: np.ones(dims, np.float32) for key in keys})
        elif action == 1:
            await cache.seed(f"space-{dims}", dims, [(key, np.ones(dims, "<f4").tobytes()) for key in keys])
        else:
            await cache.lookup(f"space-{dims}", keys, dims)

EMBEDDINGS.queries()
for line in sys.stdin:
    child = os.fork()
    if not child:
        asyncio.run(work(sys.argv[1], int(line)))
        os._exit(0)
    os.write(1, b"%d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""
"""Forks a process that works on the file until it is killed, for each seed it reads. It has loaded its modules once."""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Fifty times killed while it stores, evicts and seeds, the file is sound and within its bounds each time."""
    chance = random.Random(SEED)
    path = tmp_path / "embeddings.db"
    largest = 0
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdin is not None
        assert victim.stdout is not None
        for number in range(KILLS):
            victim.stdin.write(f"{SEED + number}\n")
            victim.stdin.flush()
            said = {victim.stdout.readline().strip(), victim.stdout.readline().strip()}
            time.sleep(chance.uniform(0, 0.12))
            kill(int(next(word for word in said if word != "working")), signal.SIGKILL)
            assert victim.stdout.readline() == "dead\n"
            file = apsw.Connection(str(path))
            assert file.pragma("integrity_check") == "ok"
            entries, size = file.execute("SELECT count(*), coalesce(sum(length(vector)), 0) FROM embeddings").get
            file.close()
            assert entries <= 300
            assert size <= 200 * 4 * 64
            largest = max(largest, size)
        victim.stdin.close()
    assert largest > 180 * 4 * 64
