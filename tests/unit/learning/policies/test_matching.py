"""Matching: how near a step comes to a policy."""

from __future__ import annotations

import pytest

from reverie.learning.policies.buckets import Bucket
from reverie.learning.policies.matching import Nearest, Place, score
from tests.learning_rows import unit

STEP = Bucket("docker", "pip", "shell", "EXIT_1")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Bucket("docker", "pip", "shell", "EXIT_1"), 0.75),
        (Bucket("docker", "pip", "edit", "EXIT_1"), 0.70),
        (Bucket("docker", "", "", ""), 0.65),
        (Bucket("python", "pip", "shell", "EXIT_1"), 0.70),
        (Bucket("python", "git", "edit", "EXIT_1"), 0.60),
        (Bucket("python", "git", "edit", "ENOENT"), 0.30),
        (Bucket("python", "pip", "shell", "ENOENT"), 0.40),
        (None, 0.60),
    ],
)
def test_shared_components_add_and_a_mismatch_caps(policy: Bucket | None, expected: float) -> None:
    """0.05 for each tag and tool in common; with another primary tag and another error half of it, at most 0.4."""
    assert score(0.6, STEP, policy) == pytest.approx(expected)


def test_mismatch_is_capped_whatever_the_vectors_say() -> None:
    """Vectors that are the same do not make up for another tag and another error."""
    assert score(1.0, STEP, Bucket("python", "pip", "shell", "ENOENT")) == 0.4


def test_score_is_at_most_one() -> None:
    """The bonus does not lift it above 1."""
    assert score(0.98, STEP, STEP) == 1.0


def test_what_both_lack_is_nothing_in_common() -> None:
    """Two that have no tags and no tool share nothing by that."""
    assert score(0.5, Bucket(), Bucket()) == 0.5


def test_best_of_several_pages_is_found() -> None:
    """The policy of the highest score is found on whichever page it stands, for each vector on its own."""
    nearest = Nearest([unit(1, 0, 0), unit(0, 1, 0)], [STEP, Bucket()])
    nearest.see([Place("po_a", "_|_|_|_", unit(1, 0.2, 0)), Place("po_b", "", unit(0, 1, 1))])
    nearest.see([Place("po_c", "docker|pip|shell|EXIT_1", unit(1, 1, 0)), Place("po_d", "", unit(0, 1, 0.1))])

    first, second = nearest.best()

    assert first is not None
    assert second is not None
    assert (first.policy_id, first.cosine, first.score) == (
        "po_c", pytest.approx(0.5**0.5), pytest.approx(0.5**0.5 + 0.15))  # fmt: skip
    assert (second.policy_id, second.score) == ("po_d", pytest.approx(1 / 1.01**0.5))


def test_vectors_of_another_length_are_not_compared() -> None:
    """A policy embedded by another model is passed over."""
    nearest = Nearest([unit(1, 0)], [Bucket()])
    nearest.see([Place("po_a", "", unit(1, 0, 0))])

    assert nearest.best() == (None,)


def test_only_the_sixteen_nearest_are_looked_at_closely() -> None:
    """A policy that is seventeenth by its vector is not chosen for what its bucket has in common."""
    nearest = Nearest([unit(1, 0)], [STEP])
    nearest.see([Place(f"po_{n:02}", "", unit(1, 0.5)) for n in range(16)])
    nearest.see([Place("po_zz", STEP.signature, unit(1, 0.51))])

    best = nearest.best()[0]

    assert best is not None
    assert best.policy_id == "po_00"
