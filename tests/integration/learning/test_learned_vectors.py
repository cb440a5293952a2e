"""The vectors of what was learned follow their rows, find everything, and stay within their bounds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import apsw
import numpy as np
import pytest

from reverie.learning.recall.learned_vectors import SLICE_ROWS, Eligible, InView, LearnedVectors
from reverie.storage import STATE, Database
from tests.learning_rows import T0, seed, unit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.anyio

DIMS = 32
TRACE = """
INSERT INTO traces (id, task_id, episode_id, agent, session_id, first_seq, last_seq, turn_seq, step, at, window, digest,
  provenance, value, vec_summary, vec_action) VALUES (?, 't', 'e', ?, 's1', ?, ?, 1, 0, ?, 1, 'd', 'agent', 0.5, ?, ?)
"""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    """An empty database."""
    opened = await Database.open(tmp_path / "state.db", STATE, now_ms=T0)
    yield opened
    await opened.aclose()


def fill(path: Path, vectors: NDArray[np.float32], *, agent: str = "main", first: int = 0) -> None:
    """Traces `tr_0`, `tr_1`, …, one for each vector."""
    connection = apsw.Connection(str(path))
    connection.pragma("foreign_keys", 0)
    with connection:
        for number, vector in enumerate(vectors, first):
            blob = vector.astype("<f4").tobytes()
            connection.execute(TRACE, (f"tr_{number}", agent, number, number, T0 + number, blob, blob))
    connection.close()


def add_trace(database: Database, **columns: Any) -> None:
    """One trace that was of some worth."""
    seed(database.path, "traces", **{"task_id": "t", "episode_id": "e", "value": 0.5, **columns})


def change(path: Path, sql: str, *values: Any) -> None:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    connection.pragma("foreign_keys", 1)
    connection.execute(sql, values)
    connection.close()


def random_units(count: int, dims: int = DIMS) -> NDArray[np.float32]:
    vectors = np.random.default_rng(7).standard_normal((count, dims)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def nearest(vectors: LearnedVectors, query: NDArray[np.float32], count: int = 3, **asked: Any) -> list[str]:
    found = await vectors.nearest("main", query, {"trace": count}, **asked)
    return [ref for ref, _ in found[0].best] if found else []


@pytest.mark.timeout(120)
async def test_any_of_five_thousand_traces_of_equal_priority_is_found(database: Database) -> None:
    """200 random targets of 5,000, by a vector a little beside theirs: 200 are the nearest."""
    stored = random_units(5_000)
    await asyncio.to_thread(fill, database.path, stored)
    vectors, chance = LearnedVectors(database, Eligible()), np.random.default_rng(11)
    targets = chance.choice(5_000, 200, replace=False)
    found = 0
    for target in targets:
        asked = unit(*(stored[target] + 0.05 * chance.standard_normal(DIMS)))
        found += await nearest(vectors, asked, 1) == [f"tr_{target}"]
    await vectors.aclose()

    assert found == 200


async def test_a_trace_is_found_from_the_moment_its_vector_is_there(database: Database) -> None:
    """It is written without one, and gets it later."""
    vectors = LearnedVectors(database, Eligible())
    add_trace(database, id="tr_1", session_id="s1")
    assert await nearest(vectors, unit(1, 0)) == []
    change(database.path, "UPDATE traces SET vec_summary = ?", unit(1, 0).tobytes())

    assert await nearest(vectors, unit(1, 0)) == ["tr_1"]


async def test_a_changed_vector_stands_where_it_is_now(database: Database) -> None:
    """And not where it was."""
    vectors = LearnedVectors(database, Eligible())
    for name, vector in (("a", unit(1, 0, 0)), ("b", unit(0, 1, 0))):
        seed(
            database.path,
            "traces",
            value=0.5,
            id=name,
            task_id="t",
            episode_id="e",
            session_id=name,
            vec_summary=vector,
        )
    assert await nearest(vectors, unit(1, 0, 0), 1) == ["a"]
    change(database.path, "UPDATE traces SET vec_summary = ? WHERE id = 'a'", unit(0, 0, 1).tobytes())

    found = await vectors.nearest("main", unit(0, 0, 1), {"trace": 5})
    assert [(ref, round(score, 3)) for ref, score in found[0].best] == [("a", 1.0), ("b", 0.0)]


async def test_what_is_deleted_is_gone(database: Database) -> None:
    """Also when its task went and took it along."""
    vectors = LearnedVectors(database, Eligible())
    seed(database.path, "tasks", id="t")
    seed(database.path, "episodes", id="e", task_id="t")
    add_trace(database, id="tr_1", vec_summary=unit(1, 0))
    assert await nearest(vectors, unit(1, 0)) == ["tr_1"]
    change(database.path, "DELETE FROM tasks")

    assert await nearest(vectors, unit(1, 0)) == []
    assert vectors.statistics().vectors == 0


async def test_two_vectors_of_a_trace_are_two_lookups(database: Database) -> None:
    """What was said, and what was done."""
    vectors = LearnedVectors(database, Eligible())
    seed(
        database.path,
        "traces",
        value=0.5,
        id="tr_1",
        task_id="t",
        episode_id="e",
        vec_summary=unit(1, 0),
        vec_action=unit(0, 1),
    )
    found = await vectors.nearest("main", unit(0, 1), {"trace": 1})

    assert [(near.action, [(ref, round(score, 3)) for ref, score in near.best]) for near in found] == [
        (False, [("tr_1", 0.0)]),
        (True, [("tr_1", 1.0)]),
    ]


async def test_vectors_of_another_size_are_not_held(database: Database) -> None:
    """An embedder was changed: what it has not embedded yet is found by words."""
    vectors = LearnedVectors(database, Eligible())
    seed(
        database.path,
        "traces",
        value=0.5,
        id="a",
        task_id="t",
        episode_id="e",
        session_id="s1",
        vec_summary=unit(1, 0, 0),
    )
    seed(
        database.path, "traces", value=0.5, id="b", task_id="t", episode_id="e", session_id="s2", vec_summary=unit(1, 0)
    )

    assert await nearest(vectors, unit(1, 0)) == ["b"]
    assert await nearest(vectors, unit(1, 0, 0)) == ["a"]


async def test_what_stands_in_view_is_left_out_before_anything_is_counted(database: Database) -> None:
    """Hundreds of nearer steps of the own session take no place away."""
    vectors = LearnedVectors(database, Eligible())
    await asyncio.to_thread(fill, database.path, np.tile(unit(1, 0), (300, 1)))
    seed(
        database.path,
        "traces",
        value=0.5,
        id="other",
        task_id="t",
        episode_id="e",
        session_id="s2",
        vec_summary=unit(1, 1),
    )

    assert await nearest(vectors, unit(1, 0), 1, hidden=InView("s1", 0)) == ["other"]
    assert (await nearest(vectors, unit(1, 0), 2, hidden=InView("s1", 1)))[0] == "tr_0"


async def test_loading_goes_in_slices_and_does_not_hold_the_loop(tmp_path: Path) -> None:
    """No read returns more than a slice of rows; the loop ticks on meanwhile."""
    slices = 0

    def trace(sql: str, _bindings: object) -> None:
        nonlocal slices
        slices += "FROM learned_changes AS c\nLEFT JOIN traces" in sql

    database = await Database.open(tmp_path / "state.db", STATE, now_ms=T0, tracer=trace)
    await asyncio.to_thread(fill, database.path, random_units(5 * SLICE_ROWS))
    vectors = LearnedVectors(database, Eligible())
    await vectors.load("main", DIMS)
    held = vectors.statistics()
    await vectors.aclose()
    await database.aclose()

    assert slices == 6
    assert (held.vectors, held.agents) == (2 * 5 * SLICE_ROWS, 1)


async def test_a_question_does_not_wait_for_all_to_be_loaded(database: Database) -> None:
    """It takes what is there; a later one finds the rest."""
    stored = random_units(4 * SLICE_ROWS)
    await asyncio.to_thread(fill, database.path, stored)
    vectors = LearnedVectors(database, Eligible())
    await nearest(vectors, stored[-1], 1, wait_s=0.0)

    assert await nearest(vectors, stored[-1], 1) == [f"tr_{4 * SLICE_ROWS - 1}"]
    await vectors.aclose()


async def test_of_too_many_things_the_newest_are_held(database: Database) -> None:
    """When they are loaded, and when they come one by one."""
    stored = random_units(1_000)
    await asyncio.to_thread(fill, database.path, stored[:600])
    vectors = LearnedVectors(database, Eligible(), things_max=100)
    assert await nearest(vectors, stored[499], 1) != ["tr_499"]
    assert await nearest(vectors, stored[500], 1) == ["tr_500"]
    await asyncio.to_thread(fill, database.path, stored[600:], first=600)
    assert await nearest(vectors, stored[999], 1) == ["tr_999"]

    assert await nearest(vectors, stored[500], 1) != ["tr_500"]
    assert vectors.statistics().vectors <= 2 * 112


async def test_agents_asked_about_longest_ago_give_way(database: Database) -> None:
    """And are read again when they are asked for."""
    await asyncio.to_thread(fill, database.path, random_units(100))
    for agent in ("b", "c"):
        add_trace(database, id=f"tr_{agent}", session_id=agent, agent=agent,
             vec_summary=unit(*range(DIMS)))  # fmt: skip
    vectors = LearnedVectors(database, Eligible(), vectors_max=150)
    for agent in ("b", "main"):
        await vectors.nearest(agent, unit(*range(DIMS)), {"trace": 1})

    assert (vectors.statistics().agents, vectors.statistics().vectors) == (1, 200)
    found = await vectors.nearest("b", unit(*range(DIMS)), {"trace": 1})
    assert found[0].best[0][0] == "tr_b"
