"""The arithmetic of vector search: 8-bit copies of unit vectors, and their inner product with a query.

The only module that knows which library multiplies. `simsimd` is several times faster than numpy and releases the
interpreter; where it is missing, numpy gives the same ranking. Importing this module imports numpy, so callers do it
on a worker thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

try:
    import simsimd
except ImportError:  # a platform without a wheel
    simsimd = None

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

LEVELS = 127


def from_blobs(blobs: Iterable[bytes], dims: int) -> NDArray[np.float32]:
    """Stored vectors as rows of a matrix."""
    joined = b"".join(blobs)
    return np.frombuffer(joined, dtype="<f4").reshape(-1, dims).astype(np.float32, copy=False)


def to_blob(vector: NDArray[np.float32]) -> bytes:
    """A vector as it is stored: little-endian float32."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def quantise(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows as 8-bit integers, each with the scale that gives the original back; a zero row has scale 0."""
    scales = np.abs(vectors).max(axis=1) / np.float32(LEVELS)
    safe = np.where(scales > 0, scales, np.float32(1))
    return np.rint(vectors / safe[:, None]).astype(np.int8), scales.astype(np.float32)


def inner_products(
    query: NDArray[np.int8], query_scale: float, matrix: NDArray[np.int8], scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The query's inner product with every row, accurate to about 0.002 for unit vectors."""
    if simsimd is None:
        raw = _inner_with_numpy(query, matrix)
    else:
        raw = np.asarray(simsimd.cdist(query[None, :], matrix, "inner", out_dtype="float32"))[0]
    return (raw * (scales * np.float32(query_scale))).astype(np.float32, copy=False)


def _inner_with_numpy(query: NDArray[np.int8], matrix: NDArray[np.int8]) -> NDArray[np.float32]:
    """In blocks, so that the widened copy stays small."""
    wide = query.astype(np.float32)
    blocks = [matrix[start : start + 4096].astype(np.float32) @ wide for start in range(0, len(matrix), 4096)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def best_rows(scores: NDArray[np.float32], count: int, floor: float = -np.inf) -> NDArray[np.intp]:
    """The positions of the highest scores, best first; equal scores in position order.

    `floor` is a guess of what the best exceed: where enough do, only those are sorted. The outcome is the same.
    """
    if count <= 0:
        return np.zeros(0, np.intp)
    above = np.flatnonzero(scores > floor) if floor > -np.inf else np.zeros(0, np.intp)
    if len(above) < count:
        above = np.arange(len(scores))
    if len(above) > count:
        least = np.partition(scores[above], -count)[-count]
        chosen = above[scores[above] >= least]
    else:
        chosen = above
    return chosen[np.argsort(-scores[chosen], kind="stable")][:count]


def all_usable(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows hold only finite numbers and are not all zero."""
    return np.logical_and(np.isfinite(vectors).all(axis=1), vectors.any(axis=1))
