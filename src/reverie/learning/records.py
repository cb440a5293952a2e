"""Rows of learning as values: parsed once, here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reverie.learning.vectors import unpack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from reverie.storage import Row
    from reverie.types import JsonObject, Provenance

PolicyStatus = Literal["candidate", "active", "archived"]
PolicyType = Literal[
    "success_pattern",
    "repair_validated",
    "failure_avoidance",
    "repair_instruction",
    "preference",
    "verifier_feedback",
    "procedural",
]
Polarity = Literal["positive", "negative", "neutral", "mixed"]
SkillStatus = Literal["candidate", "active", "archived"]


@dataclass(frozen=True, slots=True)
class Task:
    """One thing somebody wanted. `r_human` is -1 to 1, None as long as it is not scored."""

    id: str
    agent: str
    session_id: str
    session_key: str
    state: Literal["open", "ended", "scored", "skipped"]
    started_at_ms: int
    ended_at_ms: int | None
    endings: int
    r_human: float | None
    reward: JsonObject
    trace_set: str | None
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Episode:
    """A bounded stretch of a conversation on one task. `entries` are its turns as the limit counts them."""

    id: str
    task_id: str
    continues_id: str | None
    agent: str
    session_id: str
    session_key: str
    state: Literal["open", "closed"]
    opened_at_ms: int
    last_at_ms: int
    closed_at_ms: int | None
    opened_for: str
    closed_for: str | None
    provisional: bool
    entries: int
    exchanges: int
    steps: int
    tokens: int
    carry_over: str
    intent: JsonObject
    title: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call within a trace. `error_code` is '' when it went well; `text_before` is what was said before it."""

    name: str
    input: str
    output: str = ""
    error_code: str = ""
    call_id: str = ""
    text_before: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """One step: a tool call or a final reply. `alpha` is 0 to 1, `value` and `r_human` -1 to 1, `priority` >= 0."""

    id: str
    task_id: str
    episode_id: str
    agent: str
    session_id: str
    first_seq: int
    last_seq: int
    turn_seq: int
    step: int
    at_ms: int
    window: int
    user_text: str
    agent_text: str
    thinking: str
    summary: str
    tool_calls: tuple[ToolUse, ...]
    reflection: str
    usable: bool | None
    alpha: float
    value: float
    r_human: float | None
    priority: float
    tags: tuple[str, ...]
    signatures: tuple[str, ...]
    failed: bool
    vec_summary: NDArray[np.float32] | None
    vec_action: NDArray[np.float32] | None
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Policy:
    """When, how, how to check, where it ends. `support` counts different tasks; `gain` is a difference of values."""

    id: str
    agent: str
    title: str
    trigger: str
    procedure: str
    verification: str
    boundary: str
    support: int
    gain: float
    gain_known: bool
    status: PolicyStatus
    type: PolicyType
    polarity: Polarity
    salience: float
    confidence: float
    signature: str
    evidence: str
    source_episodes: tuple[str, ...]
    source_feedback: tuple[str, ...]
    source_traces: tuple[str, ...]
    induced_by: str
    preference: tuple[str, ...]
    anti_pattern: tuple[str, ...]
    skill_eligible: bool
    vec: NDArray[np.float32] | None
    provenance: Provenance
    created_at_ms: int
    updated_at_ms: int
    edited_at_ms: int | None


@dataclass(frozen=True, slots=True)
class WorldModel:
    """What holds in a domain. `structure` has `environment`, `inference` and `constraints`."""

    id: str
    agent: str
    title: str
    body: str
    structure: JsonObject
    domain: str
    domain_tags: tuple[str, ...]
    confidence: float
    members: str
    policies: tuple[str, ...]
    source_episodes: tuple[str, ...]
    induced_by: str
    vec: NDArray[np.float32] | None
    status: Literal["active", "archived"]
    version: int
    provenance: Provenance
    created_at_ms: int
    updated_at_ms: int
    edited_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Skill:
    """A guide to do something, and how it has done. `eta` is the estimated rate of success, 0 to 1."""

    id: str
    agent: str
    name: str
    title: str
    status: SkillStatus
    disabled: bool
    description: str
    guide: str
    draft: JsonObject
    tools: tuple[str, ...]
    eta: float
    support: int
    gain: float
    exposures: int
    uses: int
    trials: int
    passes: int
    version: int
    policies: tuple[str, ...]
    worlds: tuple[str, ...]
    anchors: tuple[str, ...]
    evidence: str
    built_gain: float
    built_support: int
    built_at_ms: int | None
    file_digest: str
    file_state: Literal["none", "ours", "edited", "deleted"]
    induced_by: str
    vec: NDArray[np.float32] | None
    provenance: Provenance
    created_at_ms: int
    updated_at_ms: int
    edited_at_ms: int | None
    given_up: bool


def task_of(row: Row) -> Task:
    """A row of `tasks`."""
    return Task(
        id=row["id"],
        agent=row["agent"],
        session_id=row["session_id"],
        session_key=row["session_key"],
        state=row["state"],
        started_at_ms=row["started_at"],
        ended_at_ms=row["ended_at"],
        endings=row["endings"],
        r_human=row["r_human"],
        reward=json.loads(row["reward"]),
        trace_set=row["trace_set"],
        provenance=row["provenance"],
    )


def episode_of(row: Row) -> Episode:
    """A row of `episodes`."""
    return Episode(
        id=row["id"],
        task_id=row["task_id"],
        continues_id=row["continues_id"],
        agent=row["agent"],
        session_id=row["session_id"],
        session_key=row["session_key"],
        state=row["state"],
        opened_at_ms=row["opened_at"],
        last_at_ms=row["last_at"],
        closed_at_ms=row["closed_at"],
        opened_for=row["opened_for"],
        closed_for=row["closed_for"],
        provisional=bool(row["provisional"]),
        entries=row["entries"],
        exchanges=row["exchanges"],
        steps=row["steps"],
        tokens=row["tokens"],
        carry_over=row["carry_over"],
        intent=json.loads(row["intent"]),
        title=row["title"],
    )


def trace_of(row: Row) -> Trace:
    """A row of `traces`."""
    return Trace(
        id=row["id"],
        task_id=row["task_id"],
        episode_id=row["episode_id"],
        agent=row["agent"],
        session_id=row["session_id"],
        first_seq=row["first_seq"],
        last_seq=row["last_seq"],
        turn_seq=row["turn_seq"],
        step=row["step"],
        at_ms=row["at"],
        window=row["window"],
        user_text=row["user_text"],
        agent_text=row["agent_text"],
        thinking=row["thinking"],
        summary=row["summary"],
        tool_calls=tuple(ToolUse(**call) for call in json.loads(row["tool_calls"])),
        reflection=row["reflection"],
        usable=None if row["usable"] is None else bool(row["usable"]),
        alpha=row["alpha"],
        value=row["value"],
        r_human=row["r_human"],
        priority=row["priority"],
        tags=_strings(row["tags"]),
        signatures=_strings(row["signatures"]),
        failed=bool(row["failed"]),
        vec_summary=unpack(row["vec_summary"]),
        vec_action=unpack(row["vec_action"]),
        provenance=row["provenance"],
    )


def policy_of(row: Row) -> Policy:
    """A row of `policies`."""
    guidance: dict[str, Any] = json.loads(row["guidance"])
    return Policy(
        id=row["id"],
        agent=row["agent"],
        title=row["title"],
        trigger=row["trigger_text"],
        procedure=row["procedure"],
        verification=row["verification"],
        boundary=row["boundary"],
        support=row["support"],
        gain=row["gain"],
        gain_known=bool(row["gain_known"]),
        status=row["status"],
        type=row["type"],
        polarity=row["polarity"],
        salience=row["salience"],
        confidence=row["confidence"],
        signature=row["signature"],
        evidence=row["evidence"],
        source_episodes=_strings(row["source_episodes"]),
        source_feedback=_strings(row["source_feedback"]),
        source_traces=_strings(row["source_traces"]),
        induced_by=row["induced_by"],
        preference=tuple(guidance.get("preference", ())),
        anti_pattern=tuple(guidance.get("anti_pattern", ())),
        skill_eligible=bool(row["skill_eligible"]),
        vec=unpack(row["vec"]),
        provenance=row["provenance"],
        created_at_ms=row["created_at"],
        updated_at_ms=row["updated_at"],
        edited_at_ms=row["edited_at"],
    )


def world_model_of(row: Row) -> WorldModel:
    """A row of `world_models`."""
    return WorldModel(
        id=row["id"],
        agent=row["agent"],
        title=row["title"],
        body=row["body"],
        structure=json.loads(row["structure"]),
        domain=row["domain"],
        domain_tags=_strings(row["domain_tags"]),
        confidence=row["confidence"],
        members=row["members"],
        policies=_strings(row["policies"]),
        source_episodes=_strings(row["source_episodes"]),
        induced_by=row["induced_by"],
        vec=unpack(row["vec"]),
        status=row["status"],
        version=row["version"],
        provenance=row["provenance"],
        created_at_ms=row["created_at"],
        updated_at_ms=row["updated_at"],
        edited_at_ms=row["edited_at"],
    )


def skill_of(row: Row) -> Skill:
    """A row of `skills`."""
    return Skill(
        id=row["id"],
        agent=row["agent"],
        name=row["name"],
        title=row["title"],
        status=row["status"],
        disabled=bool(row["disabled"]),
        description=row["description"],
        guide=row["guide"],
        draft=json.loads(row["draft"]),
        tools=_strings(row["tools"]),
        eta=row["eta"],
        support=row["support"],
        gain=row["gain"],
        exposures=row["exposures"],
        uses=row["uses"],
        trials=row["trials"],
        passes=row["passes"],
        version=row["version"],
        policies=_strings(row["policies"]),
        worlds=_strings(row["worlds"]),
        anchors=_strings(row["anchors"]),
        evidence=row["evidence"],
        built_gain=row["built_gain"],
        built_support=row["built_support"],
        built_at_ms=row["built_at"],
        file_digest=row["file_digest"],
        file_state=row["file_state"],
        induced_by=row["induced_by"],
        vec=unpack(row["vec"]),
        provenance=row["provenance"],
        created_at_ms=row["created_at"],
        updated_at_ms=row["updated_at"],
        edited_at_ms=row["edited_at"],
        given_up=bool(row["given_up"]),
    )


def _strings(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
