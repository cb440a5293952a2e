"""Clusters: which policies belong together."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.config import WorldModelsConfig
from reverie.learning.policies.clusters import DomainState, clusters_of
from reverie.learning.vectors import centroid
from tests.learning_rows import unit
from tests.unit.learning.learned import policy

CONFIG = WorldModelsConfig()


def test_domains_are_kept_apart() -> None:
    """Policies of different domains are in different clusters, the most promising first."""
    clusters = clusters_of(
        [
            policy("po_1", signature="docker|_|shell|_", gain=0.1),
            policy("po_2", signature="python|_|shell|_", gain=0.4),
            policy("po_3", signature="docker|_|shell|_", gain=0.2),
        ],
        CONFIG,
    )

    assert [(each.domain, [one.id for one in each.policies]) for each in clusters] == [
        ("python|shell", ["po_2"]),
        ("container|shell", ["po_3", "po_1"]),
    ]


def test_outliers_are_left_out() -> None:
    """A policy far from the middle is in no cluster; those that are near make a strict one of full trust."""
    policies = [policy(f"po_{n}", vec=unit(1, 0.1 * n, 0)) for n in range(4)]
    clusters = clusters_of([*policies, policy("po_far", vec=unit(-1, 0, 1))], CONFIG)

    assert [one.id for one in clusters[0].policies] == ["po_0", "po_1", "po_2", "po_3"]
    assert clusters[0].loose is False
    assert clusters[0].trust == 1.0


def test_too_few_that_are_alike_are_taken_loosely() -> None:
    """With fewer alike than are needed the whole domain is one cluster, of trust 0.6 + 0.4 times its cohesion."""
    config = WorldModelsConfig(min_policies=2, cluster_min_similarity=0.9)
    cluster = clusters_of([policy("po_1", vec=unit(1, 0)), policy("po_2", vec=unit(0, 1))], config)[0]

    assert (len(cluster.policies), cluster.loose) == (2, True)
    assert cluster.cohesion == pytest.approx(np.sqrt(0.5))
    assert cluster.trust == pytest.approx(0.6 + 0.4 * np.sqrt(0.5))


def test_cohesion_is_the_mean_similarity_to_the_middle() -> None:
    """And what a cluster promises is its mean gain times half, plus half of the cohesion."""
    vectors = [unit(1, 0), unit(1, 1)]
    cluster = clusters_of([policy("po_1", vec=vectors[0], gain=0.2), policy("po_2", vec=vectors[1], gain=0.4)], CONFIG)[
        0
    ]
    middle = centroid(vectors)
    assert middle is not None
    cohesion = float(np.mean([vector @ middle for vector in vectors]))

    assert cluster.cohesion == pytest.approx(cohesion)
    assert cluster.weight == pytest.approx(0.3 * (0.5 + 0.5 * cohesion))


def test_policies_without_vectors_and_too_few_make_no_cluster() -> None:
    """A cluster needs a middle, and `min_policies`."""
    assert clusters_of([policy(vec=None)], CONFIG) == ()
    assert clusters_of([policy()], WorldModelsConfig(min_policies=2)) == ()
    assert clusters_of([], CONFIG) == ()


def test_digest_is_of_members_and_of_what_they_say() -> None:
    """Another gain or support is the same cluster; another text, or another member, is another."""
    first = clusters_of([policy("po_1"), policy("po_2")], CONFIG)[0].digest

    assert clusters_of([policy("po_2", gain=0.9, support=7), policy("po_1")], CONFIG)[0].digest == first
    assert clusters_of([policy("po_1", procedure="otherwise"), policy("po_2")], CONFIG)[0].digest != first
    assert clusters_of([policy("po_1")], CONFIG)[0].digest != first


def test_domain_rests_after_a_change() -> None:
    """For the days that are configured; one that never changed does not rest."""
    assert DomainState().rests_until_ms(1.0) == 0
    assert DomainState(changed_at_ms=1_000).rests_until_ms(1.0) == 86_401_000
    assert DomainState(changed_at_ms=1_000).rests_until_ms(0.0) == 1_000
