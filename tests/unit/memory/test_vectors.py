"""The matrix of vectors: the same answer as exact arithmetic, and in step with what is stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from reverie.memory import kernel
from reverie.memory.scope import Scope, VectorRow
from reverie.memory.vector_table import CAPACITY_MIN, VectorTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

EVERYTHING = Scope(1, frozenset({"memory", "sessions"}))


def unit_vectors(count: int, dims: int = 64, seed: int = 1) -> NDArray[np.float32]:
    """Random directions."""
    vectors = np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(ids: Iterable[int]) -> list[VectorRow]:
    """Rows of agent 1, alternating between the sources, ten to a document."""
    return [VectorRow(i, 1, "memory" if i % 2 else "sessions", i // 10, i % 10) for i in ids]


def test_quantised_products_are_close() -> None:
    """Eight bits lose at most a few thousandths, and a zero vector stays one."""
    vectors = np.vstack([unit_vectors(500, 512), np.zeros((1, 512), np.float32)])
    query = unit_vectors(1, 512, seed=2)[0]
    matrix, scales = kernel.quantise(vectors)
    asked, scale = kernel.quantise(query[None, :])
    estimated = kernel.inner_products(asked[0], float(scale[0]), matrix, scales)
    assert np.abs(estimated - vectors @ query).max() < 0.004
    assert estimated[-1] == 0


def test_both_kernels_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the fast library is missing, numpy gives the same products."""
    matrix, scales = kernel.quantise(unit_vectors(9_000))
    asked, scale = kernel.quantise(unit_vectors(1, seed=2))
    fast = kernel.inner_products(asked[0], float(scale[0]), matrix, scales)
    monkeypatch.setattr(kernel, "simsimd", None)
    assert np.allclose(fast, kernel.inner_products(asked[0], float(scale[0]), matrix, scales), atol=1e-6)
    assert len(kernel.inner_products(asked[0], 1.0, matrix[:0], scales[:0])) == 0


def test_blobs_keep_vectors_exactly() -> None:
    """What is stored comes back bit for bit."""
    vectors = unit_vectors(5)
    assert np.array_equal(kernel.from_blobs([kernel.to_blob(vector) for vector in vectors], 64), vectors)
    assert kernel.from_blobs([], 64).shape == (0, 64)


def test_best_rows_are_ordered() -> None:
    """The highest scores come first, equal ones in order, and none are asked for is none."""
    scores = np.array([0.1, 0.9, 0.5, 0.9, 0.2], np.float32)
    assert kernel.best_rows(scores, 3).tolist() == [1, 3, 2]
    assert kernel.best_rows(scores, 99).tolist() == [1, 3, 2, 4, 0]
    assert kernel.best_rows(scores, 0).tolist() == []


def test_a_scan_finds_the_nearest() -> None:
    """The best rows of the matrix are those of exact arithmetic, with mean and spread of all."""
    vectors = unit_vectors(3_000)
    table = VectorTable(64).with_rows(rows(range(1, 3_001)), vectors)
    query = unit_vectors(1, seed=3)[0]
    scan = table.view().scan(query, EVERYTHING, 50)
    exact = vectors @ query
    assert {i for i, _ in scan.best[:20]} <= set((np.argsort(-exact)[:30] + 1).tolist())
    assert (scan.count, scan.mean, scan.spread) == (
        3_000,
        pytest.approx(exact.mean(), abs=1e-3),
        pytest.approx(exact.std(), abs=1e-3),
    )
    assert scan.estimate([7, 99_999]) == pytest.approx({7: exact[6]}, abs=0.005)


def test_filters_apply_before_scoring() -> None:
    """Agent, source, documents and hidden lines decide what is scored at all."""
    table = VectorTable(64).with_rows([*rows(range(1, 100)), VectorRow(100, 2, "memory", 10, 1)], unit_vectors(100))
    query = unit_vectors(1, seed=3)[0]

    def found(scope: Scope) -> set[int]:
        return {i for i, _ in table.view().scan(query, scope, 500).best}

    assert found(EVERYTHING) == set(range(1, 100))
    assert found(Scope(2, frozenset({"memory"}))) == {100}
    assert found(Scope(1, frozenset({"memory"}))) == set(range(1, 100, 2))
    assert found(Scope(1, EVERYTHING.sources, frozenset({3}))) == set(range(30, 40))
    assert found(Scope(1, EVERYTHING.sources, frozenset({3}), (3, 4))) == set(range(30, 34))
    assert found(Scope(1, EVERYTHING.sources, frozenset())) == set()
    scan = table.view().scan(query, Scope(2, frozenset({"memory"})), 5)
    assert scan.estimate([1]) == {}
    assert scan.count == 1


def test_an_empty_table_answers() -> None:
    """Without vectors there is nothing near."""
    scan = VectorTable(64).view().scan(unit_vectors(1)[0], EVERYTHING, 5)
    assert (scan.best, scan.count, scan.mean, scan.estimate([1])) == ((), 0, 0.0, {})


def test_the_table_grows_with_its_rows() -> None:
    """Room doubles as rows arrive, and a running scan keeps the rows of its beginning."""
    table = VectorTable(8)
    before = table.view()
    for start in range(0, 3 * CAPACITY_MIN, 500):
        table = table.with_rows(rows(range(start + 1, start + 501)), unit_vectors(500, 8, seed=start))
    assert (table.rows, len(table.ids)) == (3_500, 4 * CAPACITY_MIN)
    assert len(before.ids) == 0


def test_rows_stay_ordered_and_unique() -> None:
    """Rows that arrive late are sorted in, and a chunk given again is replaced."""
    first, second = unit_vectors(3), unit_vectors(3, seed=9)
    table = VectorTable(64).with_rows(rows([5, 7, 9]), first).with_rows(rows([6, 7, 1]), second)
    assert table.ids[: table.rows].tolist() == [1, 5, 6, 7, 9]
    scan = table.view().scan(second[1], EVERYTHING, 1)
    assert scan.best[0] == (7, pytest.approx(1.0, abs=0.01))


def test_deleted_rows_are_not_found_and_make_room() -> None:
    """A dead row is skipped; when a quarter is dead the table is compacted."""
    table = VectorTable(64).with_rows(rows(range(1, 2_001)), unit_vectors(2_000)).without([3, 3, 99_999])
    assert (table.rows, table.dead) == (2_000, 1)
    assert 3 not in {i for i, _ in table.view().scan(unit_vectors(1)[0], EVERYTHING, 2_000).best}
    smaller = table.without(list(range(1, 600)))
    assert (smaller.rows, smaller.dead) == (1_401, 0)


def test_moved_chunks_have_their_new_lines() -> None:
    """A filter by line sees where a chunk stands now."""
    table = VectorTable(64).with_rows(rows([30, 31]), unit_vectors(2))
    table.set_lines([(31, 50), (99_999, 1)])
    scan = table.view().scan(unit_vectors(1)[0], Scope(1, EVERYTHING.sources, hidden=(3, 40)), 9)
    assert json.dumps([i for i, _ in scan.best]) == "[30]"
