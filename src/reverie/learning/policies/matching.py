"""Which policy a step follows: how near it comes, and the nearest of many without holding them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.learning.policies.buckets import Bucket, parse_signature

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

COMPONENT_BONUS = 0.05
MISMATCH_FACTOR = 0.5
MISMATCH_CAP = 0.4
NEAREST_MAX = 16
"""Policies nearest to a step by their vectors alone that are looked at closely."""


@dataclass(frozen=True, slots=True)
class Place:
    """A policy as steps are compared with it."""

    id: str
    signature: str
    vec: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Near:
    """A policy near to a step: `cosine` of the vectors, and the score with what their buckets have in common."""

    policy_id: str
    cosine: float
    score: float


def score(cosine: float, step: Bucket, policy: Bucket | None) -> float:
    """How near a step comes to a policy, at most 1.

    Each of primary tag, secondary tag and tool that both have adds 0.05. When primary tag and error code both differ,
    it is at most 0.4, below any threshold. A policy of no bucket (None) is compared by its vector alone.
    """
    if policy is None:
        return min(1.0, cosine)
    both = ((step.primary, policy.primary), (step.secondary, policy.secondary), (step.tool, policy.tool))
    bonus = COMPONENT_BONUS * sum(bool(one) and one == other for one, other in both)
    if step.primary != policy.primary and step.error != policy.error:
        return min(MISMATCH_FACTOR * cosine + bonus, MISMATCH_CAP)
    return min(1.0, cosine + bonus)


class Nearest:
    """The policies nearest to each of some vectors, page by page of policies. Not for the event loop.

    Built with the vectors and their buckets. `see` looks at a page; `best` gives for each vector the policy of the
    highest score among the 16 nearest, None where no policy has a vector of its length.
    """

    def __init__(self, vectors: Sequence[NDArray[np.float32]], buckets: Sequence[Bucket]) -> None:
        self._vectors = vectors
        self._buckets = buckets
        self._found: list[list[Near]] = [[] for _ in vectors]

    def see(self, page: Sequence[Place]) -> None:
        """Compare with these policies."""
        import numpy as np

        for size in {place.vec.shape for place in page}:
            same = [place for place in page if place.vec.shape == size]
            rows = [row for row, vector in enumerate(self._vectors) if vector.shape == size]
            if not rows:
                continue
            likeness = np.stack([self._vectors[row] for row in rows]) @ np.stack([place.vec for place in same]).T
            policies = [parse_signature(place.signature) if place.signature else None for place in same]
            for line, row in zip(likeness, rows, strict=True):
                self._keep(row, line, same, policies)

    def best(self) -> tuple[Near | None, ...]:
        """For each vector the policy that fits best; of equals the one whose id comes first."""
        return tuple(
            max(found, key=lambda near: (near.score, _backwards(near.policy_id)), default=None) for found in self._found
        )

    def _keep(
        self, row: int, line: NDArray[np.float32], page: Sequence[Place], policies: Sequence[Bucket | None]
    ) -> None:
        import numpy as np

        nearest: list[int] = np.argsort(-line, kind="stable")[:NEAREST_MAX].tolist()
        new = [
            Near(page[at].id, float(line[at]), score(float(line[at]), self._buckets[row], policies[at]))
            for at in nearest
        ]
        merged = sorted([*self._found[row], *new], key=lambda near: (-near.cosine, near.policy_id))
        self._found[row] = merged[:NEAREST_MAX]


def _backwards(text: str) -> tuple[int, ...]:
    return tuple(-ord(character) for character in text)
