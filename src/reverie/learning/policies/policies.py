"""Policies in the database: new ones, ones that were found again, and what a person says of them.

A person's words win: a policy that was edited keeps its text, and one that was archived stays so until a person takes
it back. `updated_at` is the age of text and status; a gain that moves does not touch it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reverie.learning import trail
from reverie.learning.ids import content_id, digest_of
from reverie.learning.policies.matching import Place
from reverie.learning.records import policy_of
from reverie.learning.vectors import pack, unpack
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.learning.records import Policy, PolicyStatus
    from reverie.storage import Database, Row, Transaction
    from reverie.types import Provenance

EDITABLE = ("title", "trigger", "procedure", "verification", "boundary")
"""What a person may change of a policy."""
PAGE = 500
"""Policies that are held at once while all of an agent are gone through."""
SOURCES_MAX = 200
"""Episodes and steps that a policy is remembered to come from; the newest are kept."""


@dataclass(frozen=True, slots=True)
class PolicyDraft:
    """A policy as it was induced, with what it was induced from. `evidence` is the digest of its steps."""

    agent: str
    title: str
    trigger: str
    procedure: str
    verification: str
    boundary: str
    confidence: float
    signature: str
    evidence: str
    episodes: tuple[str, ...]
    traces: tuple[str, ...]
    induced_by: str
    vec: NDArray[np.float32] | None
    provenance: Provenance

    @property
    def id(self) -> str:
        """Of what it was induced from: the same evidence gives the same policy."""
        return content_id("po", self.agent, self.signature, self.evidence)


def find_policy(tx: Transaction, policy_id: str) -> Policy | None:
    """A policy by its id; None for none."""
    row = tx.row("find_policy", id=policy_id)
    return None if row is None else policy_of(row)


def find_policy_of_evidence(tx: Transaction, agent: str, signature: str, evidence: str) -> Policy | None:
    """The policy that was made of just this evidence; None for none."""
    row = tx.row("policy_of_evidence", agent=agent, signature=signature, evidence=evidence)
    return None if row is None else policy_of(row)


def insert_policy(tx: Transaction, draft: PolicyDraft, now_ms: int) -> Policy:
    """Keep a new policy as a candidate; one that is there already is given as it is."""
    tx.execute(
        "insert_policy",
        id=draft.id,
        agent=draft.agent,
        title=draft.title,
        trigger=draft.trigger,
        procedure=draft.procedure,
        verification=draft.verification,
        boundary=draft.boundary,
        confidence=draft.confidence,
        signature=draft.signature,
        evidence=draft.evidence,
        source_episodes=json.dumps(draft.episodes),
        source_traces=json.dumps(draft.traces),
        induced_by=draft.induced_by,
        vec=None if draft.vec is None else pack(draft.vec),
        provenance=draft.provenance,
        now=now_ms,
    )
    found = find_policy(tx, draft.id)
    assert found is not None
    return found


def merge_policy(tx: Transaction, policy: Policy, draft: PolicyDraft, now_ms: int) -> Policy:
    """A policy that was induced once more: it comes from both, and says what it did not say yet.

    What it says already stays as it is. One that a person edited, or that was given up, gets no words at all.
    """
    keeps_text = policy.edited_at_ms is not None or policy.status == "archived"
    verification = policy.verification if keeps_text else policy.verification or draft.verification
    boundary = policy.boundary if keeps_text else policy.boundary or draft.boundary
    changed = (verification, boundary) != (policy.verification, policy.boundary)
    merged = replace(
        policy,
        verification=verification,
        boundary=boundary,
        source_episodes=_newest((*policy.source_episodes, *draft.episodes)),
        source_traces=_newest((*policy.source_traces, *draft.traces)),
        provenance=least_trusted((policy.provenance, draft.provenance)) if changed else policy.provenance,
        updated_at_ms=now_ms if changed else policy.updated_at_ms,
    )
    tx.execute(
        "merge_policy",
        id=policy.id,
        verification=merged.verification,
        boundary=merged.boundary,
        vec=None if draft.vec is None else pack(draft.vec),
        source_episodes=json.dumps(merged.source_episodes),
        source_traces=json.dumps(merged.source_traces),
        provenance=merged.provenance,
        updated_at=merged.updated_at_ms,
    )
    return merged


def follow(tx: Transaction, trace_ids: Iterable[str], policy_id: str) -> int:
    """Have steps follow a policy, for which they wait no longer; returns how many had not followed it before.

    Of a policy that was given up, or of another agent, steps become no followers; they no longer wait all the same.
    """
    new = 0
    for trace_id in trace_ids:
        new += tx.execute("link_trace", trace_id=trace_id, policy_id=policy_id)
        tx.execute("stamp_candidate", trace_id=trace_id, policy_id=policy_id)
    return new


async def each_page(database: Database, agent: str, see: Callable[[Sequence[Place]], None]) -> None:
    """Show all policies of an agent that steps may follow, 500 at a time, on a worker thread.

    Those are candidates and active ones that say how something is done: induced, or an experience of what went well.
    What a person said of an answer (a preference, an instruction, something to avoid) is recalled, but followed by no
    step: it has no gain of its own.
    """
    after = ""
    while True:
        rows = await database.read(
            lambda tx, after=after: tx.rows("policy_places", agent=agent, after=after, limit=PAGE)
        )
        await asyncio.to_thread(_show, rows, see)
        if len(rows) < PAGE:
            return
        after = rows[-1]["id"]


def words_digest(policy: Policy) -> str:
    """A digest of what a policy says: other words make another policy of it for a world model."""
    return digest_of(policy.title, policy.trigger, policy.procedure, policy.verification, policy.boundary)


def text_digest(policy: Policy) -> str:
    """A digest of what a policy says and of what repairs taught it: of all that goes into its skill."""
    return digest_of(words_digest(policy), policy.preference, policy.anti_pattern)


def edit_policy(tx: Transaction, policy_id: str, changes: Mapping[str, str], now_ms: int) -> Policy | None:
    """A person's words for a policy, by the names in `EDITABLE`; None when there is no such policy.

    From now on nothing but a person changes its text.

    Raises:
        ValueError: a name that is not in `EDITABLE`, or an empty title.
    """
    unknown = sorted(set(changes) - set(EDITABLE))
    if unknown:
        raise ValueError(f"a policy has no {unknown[0]}: it has {', '.join(EDITABLE)}")
    policy = find_policy(tx, policy_id)
    if policy is None:
        return None
    edited = replace(policy, **{name: text.strip() for name, text in changes.items()})
    if not edited.title:
        raise ValueError("a policy needs a title")
    words = {name: getattr(edited, name) for name in EDITABLE}
    tx.execute("edit_policy", id=policy_id, now=now_ms, **words)
    trail.note(
        tx,
        now_ms,
        agent=policy.agent,
        stage="edit",
        ref=policy_id,
        outcome="changed",
        reason="edited",
        detail={"fields": sorted(changes)},
    )
    return replace(edited, edited_at_ms=now_ms, updated_at_ms=now_ms)


def set_policy_status(tx: Transaction, policy_id: str, status: PolicyStatus, now_ms: int) -> Policy | None:
    """A person gives a policy up, or takes it back; None when there is no such policy.

    One that is taken back is measured anew: its next gain is taken as it is, whatever it was before.
    """
    policy = find_policy(tx, policy_id)
    if policy is None or policy.status == status:
        return policy
    tx.execute("set_policy_status", id=policy_id, status=status, now=now_ms)
    if policy.status == "archived":
        tx.execute("forget_policy_gain", id=policy_id)
    trail.note(
        tx,
        now_ms,
        agent=policy.agent,
        stage="edit",
        ref=policy_id,
        outcome="changed",
        reason="status_set",
        detail={"from": policy.status, "to": status},
    )
    return find_policy(tx, policy_id)


def _show(rows: Sequence[Row], see: Callable[[Sequence[Place]], None]) -> None:
    vectors = [(row, unpack(row["vec"])) for row in rows]
    see([Place(row["id"], row["signature"], vec) for row, vec in vectors if vec is not None])


def _newest(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))[-SOURCES_MAX:]
