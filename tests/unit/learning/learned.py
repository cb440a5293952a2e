"""Policies and world models as values, with defaults for what a test does not care about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reverie.learning.records import Policy, WorldModel
from tests.learning_rows import T0, unit

_POLICY = Policy(
    id="po_1", agent="main", title="a policy", trigger="", procedure="", verification="", boundary="", support=1,
    gain=0.1, gain_known=True, status="active", type="procedural", polarity="positive", salience=0.0, confidence=0.5,
    signature="", evidence="", source_episodes=(), source_feedback=(), source_traces=(), induced_by="", preference=(),
    anti_pattern=(), skill_eligible=True, vec=unit(1, 0), provenance="agent", created_at_ms=T0, updated_at_ms=T0,
    edited_at_ms=None,
)  # fmt: skip
_WORLD = WorldModel(
    id="wm_1", agent="main", title="a world", body="", structure={}, domain="_|_", domain_tags=(), confidence=0.5,
    members="", policies=(), source_episodes=(), induced_by="", vec=None, status="active", version=1,
    provenance="agent", created_at_ms=T0, updated_at_ms=T0, edited_at_ms=None,
)  # fmt: skip


def policy(policy_id: str = "po_1", **fields: Any) -> Policy:
    """A policy."""
    return replace(_POLICY, id=policy_id, **fields)


def world(world_id: str = "wm_1", **fields: Any) -> WorldModel:
    """A world model."""
    return replace(_WORLD, id=world_id, **fields)
