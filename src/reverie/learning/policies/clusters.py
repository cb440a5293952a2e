"""Clusters (L3): the policies of a domain that belong together, and asking for a world model when such a group changed.

A cluster has a digest of its members and of what they say: a world model of the same is not asked for again. A domain
that changed rests for a while; what is asked for meanwhile waits until then, and only what is true by then is done.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reverie.jobs.request import JobRequest, ask_for
from reverie.learning import trail
from reverie.learning.ids import digest_of
from reverie.learning.policies.domains import domain_of
from reverie.learning.policies.policies import words_digest
from reverie.learning.policies.pool import DAY_MS
from reverie.learning.records import policy_of
from reverie.learning.vectors import centroid, cosine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.config import LearningConfig, WorldModelsConfig
    from reverie.jobs.request import Job
    from reverie.learning.records import Policy
    from reverie.storage import Database, Transaction

POLICIES_MAX = 500
"""Policies in force of one agent that world models are made of, those of the highest gain."""
ASKED_MAX = 8
"""How often the same cluster is asked for, as long as its job is remembered."""
SETTLED_MAX = 32
"""Digests of clusters that a domain remembers as dealt with."""
COHESION_SHARE = 0.5
"""Part of what a cluster promises that rests on how alike its policies are."""
LOOSE_FLOOR = 0.6
"""Part of its confidence that a world model keeps of policies that have nothing in common."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Policies of one domain, best first. `cohesion` is their mean similarity to the middle, 0 to 1.

    `loose`: they are simply all of the domain, because too few are alike.
    """

    agent: str
    domain: str
    policies: tuple[Policy, ...]
    middle: NDArray[np.float32]
    cohesion: float
    loose: bool

    @property
    def digest(self) -> str:
        """Of which policies it has and of what these say, whatever they are worth."""
        members = sorted((policy.id, words_digest(policy)) for policy in self.policies)
        return digest_of(self.agent, self.domain, members)

    @property
    def weight(self) -> float:
        """What a world model of it promises: the mean gain, less where the policies are not alike."""
        mean_gain = sum(policy.gain for policy in self.policies) / len(self.policies)
        return mean_gain * (1 - COHESION_SHARE + COHESION_SHARE * self.cohesion)

    @property
    def trust(self) -> float:
        """What the confidence of a world model of it is multiplied with: 1, or less for a loose one."""
        return LOOSE_FLOOR + (1 - LOOSE_FLOOR) * self.cohesion if self.loose else 1.0


@dataclass(frozen=True, slots=True)
class DomainState:
    """When a domain changed last (ms, 0 for never), and the digests of clusters that need no call any more."""

    changed_at_ms: int = 0
    settled: tuple[str, ...] = ()

    def rests_until_ms(self, cooldown_days: float) -> int:
        """Until when nothing of it is made anew; 0 when it never changed."""
        return self.changed_at_ms + round(cooldown_days * DAY_MS) if self.changed_at_ms else 0


def clusters_of(policies: Sequence[Policy], config: WorldModelsConfig) -> tuple[Cluster, ...]:
    """The clusters of policies of one agent, the most promising first. Not for the event loop.

    Of each domain: those policies at least `cluster_min_similarity` from their middle; too few of these, all of it. A
    policy without a vector is in no cluster.
    """
    domains: dict[str, list[Policy]] = defaultdict(list)
    for policy in policies:
        if policy.vec is not None:
            domains[domain_of(policy)].append(policy)
    found = [_cluster(domain, members, config) for domain, members in domains.items()]
    made = [cluster for cluster in found if cluster is not None]
    return tuple(sorted(made, key=lambda cluster: (-cluster.weight, cluster.domain)))


async def clusters_now(database: Database, agent: str, config: WorldModelsConfig) -> tuple[Cluster, ...]:
    """The clusters of an agent as its policies are now: of its 500 policies in force with the highest gain."""
    policies = await database.read(
        lambda tx: [policy_of(row) for row in tx.rows(
            "policies_for_worlds", agent=agent, gain_min=config.min_policy_gain,
            support_min=config.min_policy_support, limit=POLICIES_MAX)]
    )  # fmt: skip
    return await asyncio.to_thread(clusters_of, policies, config)


async def ask_for_worlds(
    database: Database, agent: str, config: LearningConfig, job: Job, now_ms: int, *, available: bool
) -> int:
    """Ask for a world model of each cluster that has changed; returns how many were asked for."""
    if not (config.world_models.use_llm and available):
        return 0
    clusters = await clusters_now(database, agent, config.world_models)
    if not clusters:
        return 0
    digests = await asyncio.to_thread(lambda: [cluster.digest for cluster in clusters])
    return await database.write(
        lambda tx: sum(
            _ask(tx, cluster, digest, config.world_models, job, now_ms)
            for cluster, digest in zip(clusters, digests, strict=True)
        )
    )


def domain_state(tx: Transaction, agent: str, domain: str) -> DomainState:
    """What is remembered of a domain."""
    kept = tx.value("domain_mark", mark=_mark(agent, domain))
    if kept is None:
        return DomainState()
    value: dict[str, Any] = json.loads(kept)
    return DomainState(value["changed_at"], tuple(value["settled"]))


def settle_cluster(tx: Transaction, cluster: Cluster, now_ms: int, *, changed: bool) -> None:
    """Remember that a cluster was dealt with. `changed`: a world model came of it, and its domain rests from now on."""
    state = domain_state(tx, cluster.agent, cluster.domain)
    settled = tuple(dict.fromkeys((*state.settled, cluster.digest)))[-SETTLED_MAX:]
    value = {"changed_at": now_ms if changed else state.changed_at_ms, "settled": settled}
    tx.execute("set_domain_mark", mark=_mark(cluster.agent, cluster.domain), value=json.dumps(value), now=now_ms)


def _ask(tx: Transaction, cluster: Cluster, digest: str, config: WorldModelsConfig, job: Job, now_ms: int) -> int:
    state = domain_state(tx, cluster.agent, cluster.domain)
    if digest in state.settled:
        return 0
    until_ms = state.rests_until_ms(config.cooldown_days)
    key = _key(tx, f"abstract:{cluster.agent}:{digest}")
    if key is None:
        return 0
    request = JobRequest(
        kind="abstract",
        key=key,
        lane="idle",
        payload={"domain": cluster.domain, "cluster": digest},
        not_before_ms=max(now_ms, until_ms),
        agent=cluster.agent,
        task_id=job.task_id,
    )
    if not ask_for(tx, request, now_ms):
        return 0
    if until_ms > now_ms:
        trail.note(
            tx,
            now_ms,
            agent=cluster.agent,
            stage="abstract",
            ref=digest,
            task_id=job.task_id,
            outcome="deferred",
            reason="cooldown",
            detail={"domain": cluster.domain, "until": until_ms},
        )
    return 1


def _key(tx: Transaction, key: str) -> str | None:
    """The key to ask under. A job that ended without settling its cluster is asked for again, under another one.

    It ended so because the cluster was another one when it ran, or there was no model. None after `ASKED_MAX` of them.
    """
    keys = [key, *(f"{key}:{times}" for times in range(2, ASKED_MAX + 1))]
    return next((each for each in keys if not _ended(tx, each)), None)


def _ended(tx: Transaction, key: str) -> bool:
    row = tx.row("find_job", key=key)
    return row is not None and row["state"] == "done"


def _cluster(domain: str, members: Sequence[Policy], config: WorldModelsConfig) -> Cluster | None:
    """The cluster of a domain; None when it has too few policies."""
    middle = centroid([policy.vec for policy in members if policy.vec is not None])
    if middle is None or len(members) < config.min_policies:
        return None
    near = [policy for policy in members if cosine(policy.vec, middle) >= config.cluster_min_similarity]
    loose = len(near) < config.min_policies
    held = list(members) if loose else near
    own = centroid([policy.vec for policy in held if policy.vec is not None])
    if own is None:
        return None
    cohesion = sum(max(0.0, cosine(policy.vec, own)) for policy in held) / len(held)
    held.sort(key=lambda policy: (-policy.gain, policy.id))
    return Cluster(held[0].agent, domain, tuple(held), own, min(1.0, cohesion), loose)


def _mark(agent: str, domain: str) -> str:
    return f"abstract:{agent}:{domain}"
