"""Steps that follow no policy yet: where they wait, and when enough of one kind wait to make a policy of them.

A bucket is ready when it shows the same in enough different tasks, or in one that went well enough, and something new
has come to it since a policy was last asked for. Steps that neither tag, tool nor error tells apart are of one kind
only when they mean nearly the same, and one of them alone is never enough. First it is looked whether a policy is there
already: then its steps follow that, and no model is asked.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.jobs.request import JobRequest, ask_for
from reverie.learning import trail
from reverie.learning.ids import content_id, digest_of
from reverie.learning.policies.buckets import Bucket, parse_signature
from reverie.learning.policies.matching import Nearest, score
from reverie.learning.policies.policies import each_page, find_policy, find_policy_of_evidence, follow
from reverie.learning.vectors import centroid, cosine, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.config import PoliciesConfig
    from reverie.jobs.request import Job
    from reverie.learning.policies.matching import Near
    from reverie.learning.records import Policy
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject

DAY_MS = 86_400_000
CANDIDATES_MAX = 20_000
"""Steps of one agent that wait; those that have waited longest give way."""
DROPPED_AT_ONCE = 1_000
BUCKETS_MAX = 24
"""Ready buckets that one run looks at, the best first; it asks for fewer policies, and the rest wait for the next."""
MEMBERS_MAX = 50
"""Steps of a bucket that are looked at: the most valuable one of each task, then further ones."""
EVIDENCE_MAX = 8
"""Tasks whose best step is shown to the model."""
KNOWN_DOUBLINGS_MAX = 5
"""A bucket whose policies were known already needs twice as many tasks each time, at most 64."""
UNTOLD_TASKS = 2
"""Of steps that nothing tells apart but what they mean, so many tasks at least have to show the same."""


@dataclass(frozen=True, slots=True)
class Member:
    """A step that waits in a bucket."""

    id: str
    task_id: str
    value: float
    vec: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ready:
    """A bucket of which a policy can be made, its best steps first."""

    agent: str
    signature: str
    members: tuple[Member, ...]

    @property
    def evidence(self) -> tuple[Member, ...]:
        """The best step of each task."""
        return best_of_each(self.members)

    @property
    def digest(self) -> str:
        """A digest of the evidence: a policy is asked for with it once."""
        return evidence_digest(self.agent, self.signature, [member.id for member in self.evidence])


def evidence_digest(agent: str, signature: str, trace_ids: Sequence[str]) -> str:
    """What names the evidence of a policy, whatever its order."""
    return digest_of(agent, signature, sorted(trace_ids))


def best_of_each(members: Sequence[Member]) -> tuple[Member, ...]:
    """The first step of each task, of steps that stand best first; at most 8. Segments of a task are no witnesses."""
    first: dict[str, Member] = {}
    for member in members:
        first.setdefault(member.task_id, member)
    return tuple(first.values())[:EVIDENCE_MAX]


def candidate_id(signature: str, trace_id: str) -> str:
    """The same step in the same bucket is one row."""
    return content_id("cand", signature, trace_id)


def prune(tx: Transaction, agent: str, now_ms: int) -> int:
    """Drop the steps that have waited long enough and those beyond 20,000: at most 1,000 of each at a time."""
    dropped = tx.execute("drop_expired_candidates", now=now_ms, limit=DROPPED_AT_ONCE)
    beyond: int = tx.value("count_waiting_candidates", agent=agent) - CANDIDATES_MAX
    if beyond > 0:
        dropped += tx.execute("drop_oldest_candidates", agent=agent, limit=min(beyond, DROPPED_AT_ONCE))
    return dropped


async def ask_for_policies(database: Database, agent: str, config: PoliciesConfig, job: Job, now_ms: int) -> Asked:
    """Ask for policies of the best buckets that are ready, at most `inductions_max`; others find theirs without."""
    ready = await database.read(lambda tx: _ready(tx, agent, config, now_ms))
    if not ready:
        return Asked()
    nearest = await asyncio.to_thread(_of_middles, ready)
    await each_page(database, agent, nearest.see)
    best = await asyncio.to_thread(nearest.best)
    return await database.write(lambda tx: _decide(tx, ready, best, config, job, now_ms))


@dataclass(frozen=True, slots=True)
class Asked:
    """How many policies were asked for, which ones took steps in without that, and how many buckets wait on."""

    policies: int = 0
    followed: tuple[str, ...] = ()
    left: int = 0


def _ready(tx: Transaction, agent: str, config: PoliciesConfig, now_ms: int) -> tuple[Ready, ...]:
    rows = tx.rows(
        "ready_buckets",
        agent=agent,
        now=now_ms,
        value_min=config.min_trace_value,
        tasks_min=config.min_episodes,
        single_value=config.single_task_value,
        doublings_max=KNOWN_DOUBLINGS_MAX,
        limit=BUCKETS_MAX,
    )
    found = (Ready(agent, row["signature"], _members(tx, agent, row["signature"], config, now_ms)) for row in rows)
    return tuple(each for each in found if each.members)


def note_known(tx: Transaction, agent: str, signature: str, evidence: str, now_ms: int) -> None:
    """A policy that a model made of a bucket said what another one says: the bucket is not asked about so soon again.

    Noted once for the same evidence.
    """
    name = f"known_bucket:{agent}:{signature}"
    kept = tx.value("learning_mark", name=name)
    known: JsonObject = json.loads(kept) if kept else {"times": 0, "evidence": ""}
    if known["evidence"] != evidence:
        mark = {"times": known["times"] + 1, "evidence": evidence}
        tx.execute("set_learning_mark", name=name, value=json.dumps(mark), now=now_ms)


def _members(tx: Transaction, agent: str, signature: str, config: PoliciesConfig, now_ms: int) -> tuple[Member, ...]:
    rows = tx.rows(
        "bucket_members",
        agent=agent,
        signature=signature,
        now=now_ms,
        value_min=config.min_trace_value,
        limit=MEMBERS_MAX,
    )
    vectors = [(row, unpack(row["vec_summary"])) for row in rows]
    members = (Member(row["id"], row["task_id"], row["value"], vec) for row, vec in vectors if vec is not None)
    return of_one_kind(tuple(members), parse_signature(signature), config)


def of_one_kind(members: tuple[Member, ...], bucket: Bucket, config: PoliciesConfig) -> tuple[Member, ...]:
    """The steps of a bucket that show the same, best first; none when nothing but chance has brought them together."""
    if bucket != Bucket():
        return members
    wanted = max(UNTOLD_TASKS, config.min_episodes)
    for seed in members:
        near = tuple(member for member in members if cosine(seed.vec, member.vec) >= config.min_similarity)
        if len({member.task_id for member in near}) >= wanted:
            return near
    return ()


def _of_middles(ready: Sequence[Ready]) -> Nearest:
    middles = [centroid([member.vec for member in each.evidence]) for each in ready]
    assert all(middle is not None for middle in middles), "a bucket is ready by steps that have vectors"
    return Nearest([middle for middle in middles if middle is not None],
                   [parse_signature(each.signature) for each in ready])  # fmt: skip


def _decide(
    tx: Transaction,
    ready: Sequence[Ready],
    best: Sequence[Near | None],
    config: PoliciesConfig,
    job: Job,
    now_ms: int,
) -> Asked:
    asked = 0
    followed: list[str] = []
    for number, (each, near) in enumerate(zip(ready, best, strict=True)):
        known = _known(tx, each, near, config)
        left: Ready | None = each
        if known is not None:
            follow(tx, known.steps, known.policy_id)
            followed.append(known.policy_id)
            _note(tx, each, job, now_ms, "known_already", known.policy_id)
            left = _left(tx, each, known, config)
        if left is None:
            continue
        if asked < config.inductions_max:
            asked += _ask(tx, left, job, now_ms)
        else:
            _note(tx, left, job, now_ms, "inductions_max", each.signature)
            return Asked(asked, tuple(followed), len(ready) - number)
    return Asked(asked, tuple(followed))


@dataclass(frozen=True, slots=True)
class Known:
    """A policy that is there already, and the steps that follow it."""

    policy_id: str
    steps: tuple[str, ...]


def _known(tx: Transaction, ready: Ready, near: Near | None, config: PoliciesConfig) -> Known | None:
    """The policy that is there already: made of the same evidence, or near to its middle and to some of the steps.

    Steps whose middle is near to a policy may each be far from it: those do not follow it.
    """
    same = find_policy_of_evidence(tx, ready.agent, ready.signature, ready.digest)
    if same is not None:
        return Known(same.id, tuple(member.id for member in ready.members))
    policy = find_policy(tx, near.policy_id) if near is not None and near.score >= config.min_similarity else None
    if policy is None:
        return None
    follows = followers(policy, ready.signature, [(each.id, each.vec) for each in ready.members], config.min_similarity)
    return Known(policy.id, follows) if follows else None


def _left(tx: Transaction, ready: Ready, known: Known, config: PoliciesConfig) -> Ready | None:
    """What a policy can still be made of when some steps follow one that is there; None: the others wait for more."""
    others = tuple(member for member in ready.members if member.id not in known.steps)
    enough = len({member.task_id for member in others}) >= config.min_episodes or any(
        member.value >= config.single_task_value for member in others
    )
    left = of_one_kind(others, parse_signature(ready.signature), config) if enough else ()
    if left:
        return Ready(ready.agent, ready.signature, left)
    tx.execute("mark_bucket_asked", agent=ready.agent, signature=ready.signature, evidence=ready.digest)
    return None


def followers(
    policy: Policy, signature: str, steps: Sequence[tuple[str, NDArray[np.float32] | None]], least: float
) -> tuple[str, ...]:
    """Which steps of a bucket come near enough to a policy to follow it, each by itself."""
    bucket = parse_signature(signature)
    theirs = parse_signature(policy.signature) if policy.signature else None
    return tuple(name for name, vec in steps if score(cosine(vec, policy.vec), bucket, theirs) >= least)


def _ask(tx: Transaction, ready: Ready, job: Job, now_ms: int) -> int:
    request = JobRequest(
        kind="induce",
        key=f"induce:{ready.agent}:{ready.digest}",
        lane="idle",
        payload={"signature": ready.signature, "traces": [member.id for member in ready.evidence]},
        agent=ready.agent,
        task_id=job.task_id,
    )
    new = ask_for(tx, request, now_ms)
    tx.execute("mark_bucket_asked", agent=ready.agent, signature=ready.signature, evidence=ready.digest)
    if not new:
        _note(tx, ready, job, now_ms, "asked_before", ready.digest)
    return int(new)


def _note(tx: Transaction, ready: Ready, job: Job, now_ms: int, reason: str, ref: str) -> None:
    trail.note(
        tx,
        now_ms,
        agent=ready.agent,
        stage=job.kind,
        ref=ref,
        task_id=job.task_id,
        outcome="deferred" if reason == "inductions_max" else "skipped",
        reason=reason,
        detail={"signature": ready.signature, "steps": len(ready.members)},
    )
