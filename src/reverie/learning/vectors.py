"""Vectors in rows: float32, little endian, of length 1; a dot product is the similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def pack(vector: NDArray[np.float32]) -> bytes:
    """A vector as it is kept in a row."""
    return vector.astype("<f4").tobytes()


def unpack(blob: bytes | None) -> NDArray[np.float32] | None:
    """A vector out of a row; None for none."""
    if not blob:
        return None
    import numpy as np

    return np.frombuffer(blob, dtype="<f4")


def cosine(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> float:
    """How alike two vectors are, -1 to 1; 0 when one is missing, of another length, or zero."""
    if one is None or other is None or one.shape != other.shape:
        return 0.0
    import numpy as np

    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


def centroid(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """The middle of vectors of one length, of length 1; None when there is none."""
    if not vectors:
        return None
    import numpy as np

    same = [vector for vector in vectors if vector.shape == vectors[0].shape]
    middle = np.mean(np.stack(same), axis=0).astype(np.float32)
    length = float(np.linalg.norm(middle))
    return middle / length if length else middle
