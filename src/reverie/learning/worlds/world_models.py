"""World models in the database: new ones, ones that grew, and what a person says of them.

A person's words win: a world model that was edited keeps its text, and one that was archived stays so until a person
takes it back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reverie.learning import trail
from reverie.learning.ids import content_id
from reverie.learning.records import world_model_of
from reverie.learning.vectors import cosine, pack
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    import numpy as np
    from numpy.typing import NDArray

    from reverie.learning.records import WorldModel
    from reverie.storage import Transaction
    from reverie.types import JsonObject, Provenance

EDITABLE = ("title", "body")
"""What a person may change of a world model."""
PARTS = ("environment", "inference", "constraints")
"""What a world model says, in three lists of entries: `label`, `description`, `evidence`."""
OVERLAP_LEAST = 0.6
"""Policies that two world models share, of those of the smaller one, which make them one."""
ENTRIES_MAX = 24
"""Entries of each of the three lists after world models were joined."""
EVIDENCE_MAX = 24
"""Policies and episodes that an entry is remembered to rest on, the newest."""
TAGS_MAX = 6
CONFIRMED = 0.05
"""What a world model gains in confidence when it is found again."""
WORLDS_MAX = 500
"""World models of one agent that a new one is compared with, those that changed last."""
SOURCES_MAX = 200
"""Policies and episodes that a world model is remembered to come from."""


@dataclass(frozen=True, slots=True)
class WorldDraft:
    """A world model as it was abstracted, with what it was made of. `members` is the digest of the cluster."""

    agent: str
    title: str
    body: str
    structure: JsonObject
    domain: str
    tags: tuple[str, ...]
    confidence: float
    members: str
    policies: tuple[str, ...]
    episodes: tuple[str, ...]
    supersedes: tuple[str, ...]
    induced_by: str
    vec: NDArray[np.float32] | None
    provenance: Provenance

    @property
    def id(self) -> str:
        """Of what it was made of: the same cluster gives the same world model."""
        return content_id("wm", self.agent, self.members)


@dataclass(frozen=True, slots=True)
class Target:
    """The world model that a new one becomes part of, and why: `supersedes`, `overlap` or `similar`."""

    world: WorldModel
    reason: str


def worlds_of(tx: Transaction, agent: str) -> tuple[WorldModel, ...]:
    """The 500 world models of an agent that changed last, those that were given up among them."""
    return tuple(world_model_of(row) for row in tx.rows("worlds_of_agent", agent=agent, limit=WORLDS_MAX))


def find_world_model(tx: Transaction, world_id: str) -> WorldModel | None:
    """A world model by its id; None for none."""
    row = tx.row("find_world_model", id=world_id)
    return None if row is None else world_model_of(row)


def overlap(one: Iterable[str], other: Iterable[str]) -> float:
    """How many policies two world models share, of those of the smaller one; 0 if one has none."""
    these, those = set(one), set(other)
    smaller = min(len(these), len(those))
    return len(these & those) / smaller if smaller else 0.0


def merge_target(draft: WorldDraft, worlds: Sequence[WorldModel], similarity_min: float) -> Target | None:
    """The world model that a new one becomes part of; None when it is one of its own.

    First one that it says it supersedes, however unlike; then the one that shares most policies, at least 0.6 of the
    smaller; then the most similar one of its domain.
    """
    alive = [world for world in worlds if world.status == "active" and world.agent == draft.agent]
    named = next((world for each in draft.supersedes for world in alive if world.id == each), None)
    if named is not None:
        return Target(named, "supersedes")
    shared = max(alive, key=lambda world: (overlap(draft.policies, world.policies), world.id), default=None)
    if shared is not None and overlap(draft.policies, shared.policies) >= OVERLAP_LEAST:
        return Target(shared, "overlap")
    alike = [world for world in alive if world.domain == draft.domain and world.vec is not None]
    nearest = max(alike, key=lambda world: (cosine(draft.vec, world.vec), world.id), default=None)
    if nearest is not None and draft.vec is not None and cosine(draft.vec, nearest.vec) >= similarity_min:
        return Target(nearest, "similar")
    return None


def given_up(policies: Iterable[str], worlds: Iterable[WorldModel]) -> WorldModel | None:
    """The archived world model that these policies would make again; None for none, or where one in force has them."""
    held = tuple(policies)
    same = [world for world in worlds if overlap(held, world.policies) >= OVERLAP_LEAST]
    if any(world.status == "active" for world in same):
        return None
    return next(iter(same), None)


def joined(world: WorldModel, draft: WorldDraft) -> WorldModel:
    """A world model after it was found again: newer words, entries of both, more confidence.

    One that a person edited keeps its title, text, entries and tags.
    """
    grown = replace(
        world,
        confidence=min(1.0, world.confidence + CONFIRMED),
        members=draft.members,
        policies=_union(draft.policies, world.policies, SOURCES_MAX),
        source_episodes=_union(draft.episodes, world.source_episodes, SOURCES_MAX),
    )
    if world.edited_at_ms is not None:
        return grown
    return replace(
        grown,
        title=draft.title,
        body=draft.body,
        structure=joined_structure(draft.structure, world.structure),
        domain_tags=_union(draft.tags, world.domain_tags, TAGS_MAX),
        induced_by=draft.induced_by,
        vec=draft.vec if draft.vec is not None else world.vec,
        provenance=least_trusted((draft.provenance, world.provenance)),
    )


def joined_structure(newer: Mapping[str, Any], older: Mapping[str, Any]) -> JsonObject:
    """The entries of both, at most 24 of each kind; of two with one label the newer, with the evidence of both."""
    return {part: _joined_entries([*newer.get(part, ()), *older.get(part, ())]) for part in PARTS}


def keep_world(tx: Transaction, draft: WorldDraft, target: Target | None, now_ms: int) -> str:
    """Keep a new world model, or what it adds to another one; returns the id of the one that holds it.

    The others that it supersedes go into it and are archived, but for those that a person edited.
    """
    if target is None:
        _insert(tx, draft, now_ms)
        return draft.id
    superseded = [find_world_model(tx, each) for each in draft.supersedes if each != target.world.id]
    for other in superseded:
        if other is None or other.agent != draft.agent or other.edited_at_ms is not None:
            continue
        tx.execute("set_world_status", id=other.id, status="archived", now=now_ms)
        draft = _with(draft, other)
    _write(tx, joined(target.world, draft), now_ms)
    return target.world.id


def edit_world_model(tx: Transaction, world_id: str, changes: Mapping[str, str], now_ms: int) -> WorldModel | None:
    """A person's words for a world model, by the names in `EDITABLE`; None when there is no such world model.

    From now on nothing but a person changes its text.

    Raises:
        ValueError: a name that is not in `EDITABLE`, or an empty title.
    """
    unknown = sorted(set(changes) - set(EDITABLE))
    if unknown:
        raise ValueError(f"a world model has no {unknown[0]}: it has {', '.join(EDITABLE)}")
    world = find_world_model(tx, world_id)
    if world is None:
        return None
    title = changes.get("title", world.title).strip()
    if not title:
        raise ValueError("a world model needs a title")
    tx.execute("edit_world_model", id=world_id, title=title, body=changes.get("body", world.body).strip(), now=now_ms)
    _say(tx, world, now_ms, "edited", {"fields": sorted(changes)})
    return find_world_model(tx, world_id)


def set_world_status(
    tx: Transaction, world_id: str, status: Literal["active", "archived"], now_ms: int
) -> WorldModel | None:
    """A person gives a world model up, or takes it back; None when there is no such world model."""
    world = find_world_model(tx, world_id)
    if world is None or world.status == status:
        return world
    tx.execute("set_world_status", id=world_id, status=status, now=now_ms)
    _say(tx, world, now_ms, "status_set", {"from": world.status, "to": status})
    return find_world_model(tx, world_id)


def move_confidence(tx: Transaction, world_id: str, *, up: bool, delta: float, now_ms: int) -> WorldModel | None:
    """Move a world model's confidence by what somebody said, within 0 and 1; None when there is no such one."""
    world = find_world_model(tx, world_id)
    if world is None:
        return None
    confidence = min(1.0, max(0.0, world.confidence + (delta if up else -delta)))
    tx.execute("set_world_confidence", id=world_id, confidence=confidence, now=now_ms)
    reason = "confirmed" if up else "objected"
    _say(tx, world, now_ms, reason, {"from": world.confidence, "to": confidence})
    return replace(world, confidence=confidence, updated_at_ms=now_ms)


def _insert(tx: Transaction, draft: WorldDraft, now_ms: int) -> None:
    tx.execute(
        "insert_world_model",
        id=draft.id,
        agent=draft.agent,
        title=draft.title,
        body=draft.body,
        structure=json.dumps(draft.structure, ensure_ascii=False),
        domain=draft.domain,
        domain_tags=json.dumps(draft.tags, ensure_ascii=False),
        confidence=draft.confidence,
        members=draft.members,
        policies=json.dumps(draft.policies),
        source_episodes=json.dumps(draft.episodes),
        induced_by=draft.induced_by,
        vec=None if draft.vec is None else pack(draft.vec),
        provenance=draft.provenance,
        now=now_ms,
    )


def _write(tx: Transaction, world: WorldModel, now_ms: int) -> None:
    tx.execute(
        "replace_world_model",
        id=world.id,
        title=world.title,
        body=world.body,
        structure=json.dumps(world.structure, ensure_ascii=False),
        domain_tags=json.dumps(world.domain_tags, ensure_ascii=False),
        confidence=world.confidence,
        members=world.members,
        policies=json.dumps(world.policies),
        source_episodes=json.dumps(world.source_episodes),
        induced_by=world.induced_by,
        vec=None if world.vec is None else pack(world.vec),
        provenance=world.provenance,
        now=now_ms,
    )


def _with(draft: WorldDraft, other: WorldModel) -> WorldDraft:
    """A new world model with what another one said that it takes the place of."""
    return replace(
        draft,
        structure=joined_structure(draft.structure, other.structure),
        policies=_union(draft.policies, other.policies, SOURCES_MAX),
        episodes=_union(draft.episodes, other.source_episodes, SOURCES_MAX),
        provenance=least_trusted((draft.provenance, other.provenance)),
    )


def _joined_entries(entries: Iterable[JsonObject]) -> list[JsonObject]:
    held: dict[str, JsonObject] = {}
    for entry in entries:
        label = " ".join(str(entry["label"]).casefold().split())
        older = held.get(label)
        if older is None:
            held[label] = entry
        else:
            evidence = [*dict.fromkeys((*older["evidence"], *entry["evidence"]))][:EVIDENCE_MAX]
            held[label] = {**older, "evidence": evidence}
    return list(held.values())[:ENTRIES_MAX]


def _union(newer: Iterable[str], older: Iterable[str], most: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*newer, *older)))[:most]


def _say(tx: Transaction, world: WorldModel, now_ms: int, reason: str, detail: JsonObject) -> None:
    trail.note(
        tx,
        now_ms,
        agent=world.agent,
        stage="edit" if reason in {"edited", "status_set"} else "feedback",
        ref=world.id,
        outcome="changed",
        reason=reason,
        detail=detail,
    )
