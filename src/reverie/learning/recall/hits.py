"""Rows that were found as candidates for a ranking, and what was chosen of them as hits for a prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from reverie.learning.recall.ranking import Candidate, Signal
from reverie.learning.recall.text import (
    episode_text,
    guidance_text,
    policy_text,
    skill_path,
    skill_text,
    trace_text,
    world_text,
)
from reverie.learning.records import policy_of, skill_of, trace_of, world_model_of
from reverie.learning.vectors import cosine
from reverie.types import SearchHit, least_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.config import LearnedRecallConfig
    from reverie.learning.recall.channels import Channel, Found
    from reverie.learning.recall.ranking import Ranked
    from reverie.learning.records import Policy, Skill, Trace, WorldModel
    from reverie.storage import Transaction

Signals: TypeAlias = "Mapping[str, dict[Channel, Signal]]"
"""What lookups said of things, by id."""

DAY_MS: Final = 86_400_000
GUIDED_MAX: Final = 32
"""Policies whose guidance is looked at."""
GUIDANCE_PATH: Final = "learned/guidance"


@dataclass(frozen=True, slots=True)
class Shelved:
    """What was found, read: by id."""

    traces: Mapping[str, Trace] = field(default_factory=dict[str, "Trace"])
    policies: Mapping[str, Policy] = field(default_factory=dict[str, "Policy"])
    worlds: Mapping[str, WorldModel] = field(default_factory=dict[str, "WorldModel"])
    skills: Mapping[str, Skill] = field(default_factory=dict[str, "Skill"])

    def of_episode(self, episode_id: str) -> list[Trace]:
        """The traces of an episode that were found, in their order."""
        held = [trace for trace in self.traces.values() if trace.episode_id == episode_id]
        return sorted(held, key=lambda trace: trace.at_ms)


@dataclass(frozen=True, slots=True)
class Asking:
    """What candidates are measured by: the message's vector and identifiers, the time, and how fast worth fades."""

    vector: NDArray[np.float32] | None
    identifiers: Sequence[str]
    now_ms: int
    half_life_days: float


def read_shelved(tx: Transaction, agent: str, found: Iterable[Found], asked: Mapping[str, Any]) -> Shelved:
    """The rows of what was found; what may not be recalled (any more) is left out."""
    refs: dict[str, dict[str, None]] = {}
    for each in found:
        refs.setdefault(each.kind, {})[each.ref] = None

    def rows(query: str, kind: str) -> list[dict[str, Any]]:
        ids = json.dumps(list(refs.get(kind, ())))
        return tx.rows(query, agent=agent, ids=ids, **asked) if kind in refs else []

    return Shelved(
        {row["id"]: trace_of(row) for row in rows("recalled_traces", "trace")},
        {row["id"]: policy_of(row) for row in rows("recalled_policies", "policy")},
        {row["id"]: world_model_of(row) for row in rows("recalled_world_models", "world")},
        {row["id"]: skill_of(row) for row in rows("recalled_skills", "skill")},
    )


def candidates_of(shelved: Shelved, found: Sequence[Found], asking: Asking) -> list[Candidate]:
    """What was found as candidates, with exact similarities in place of those by 8-bit vectors."""
    signals: dict[str, dict[Channel, Signal]] = {}
    for each in found:
        signals.setdefault(each.ref, {}).setdefault(each.channel, Signal(each.score, each.rank))
    return [
        *(_of_trace(each, signals, asking) for each in shelved.traces.values()),
        *(_of_policy(each, signals, asking) for each in shelved.policies.values()),
        *(_of_world(each, signals, asking) for each in shelved.worlds.values()),
        *(_of_skill(each, signals, asking) for each in shelved.skills.values()),
    ]


def hits_of(
    tx: Transaction, agent: str, shelved: Shelved, ranked: Sequence[Ranked], config: LearnedRecallConfig
) -> tuple[SearchHit, ...]:
    """What was chosen, as it is shown, in the same order."""
    episodes = [each.candidate.ref for each in ranked if each.candidate.kind == "episode"]
    titles = {row["id"]: row["title"] for row in tx.rows("recalled_episodes", agent=agent, ids=json.dumps(episodes))}
    return tuple(_hit(each, shelved, titles, config) for each in ranked)


def guidance_hit(tx: Transaction, agent: str, shelved: Shelved, ranked: Sequence[Ranked]) -> SearchHit | None:
    """What the policies behind everything that was chosen say is to be preferred and avoided; None for nothing.

    The policies come in the order of what was chosen, and what each was told last comes first.
    """
    ids = _policies_behind(tx, shelved, ranked)
    rows = tx.rows("guidance_of_policies", agent=agent, ids=json.dumps(ids), limit=GUIDED_MAX) if ids else []
    rows.sort(key=lambda row: ids.index(row["id"]))
    told: list[dict[str, list[str]]] = [json.loads(row["guidance"]) for row in rows]
    prefer = [line for each in told for line in reversed(each.get("preference", ()))]
    avoid = [line for each in told for line in reversed(each.get("anti_pattern", ()))]
    text = guidance_text(prefer, avoid)
    if not text:
        return None
    whose = least_trusted((row["provenance"] for row in rows), default="agent")
    reason = "of the policies behind the others"
    return SearchHit("policies", GUIDANCE_PATH, 1, 1, text, 0.0, reason=reason, provenance=whose)


def _policies_behind(tx: Transaction, shelved: Shelved, ranked: Sequence[Ranked]) -> list[str]:
    """The policies that were chosen, of which chosen skills were made, and which chosen steps follow."""
    ids: dict[str, None] = {}
    steps: list[str] = []
    for each in (ranked.candidate for ranked in ranked):
        match each.kind:
            case "skill":
                ids.update(dict.fromkeys(shelved.skills[each.ref].policies))
            case "policy":
                ids[each.ref] = None
            case "trace":
                steps.append(each.ref)
            case "episode":
                steps += [trace.id for trace in shelved.of_episode(each.ref)]
            case "world":
                pass
    if steps:
        followed = tx.tuples("policies_followed_by", ids=json.dumps(steps), limit=GUIDED_MAX)
        ids.update(dict.fromkeys(row[0] for row in followed))
    return list(ids)[:GUIDED_MAX]


def _hit(ranked: Ranked, shelved: Shelved, titles: Mapping[str, str], config: LearnedRecallConfig) -> SearchHit:
    ref = ranked.candidate.ref
    score, parts, reason = min(1.0, max(0.0, ranked.relevance)), ranked.parts, ranked.reason
    path = f"learned/{ref}"
    match ranked.candidate.kind:
        case "skill":
            skill = shelved.skills[ref]
            text = skill_text(skill, config.skill_mode, config.skill_summary_chars)
            when, whose = _day(skill.updated_at_ms), skill.provenance
            return SearchHit("skills", skill_path(skill), 1, 1, text, score, parts, reason, when, provenance=whose)
        case "trace":
            return _of_steps(path, trace_text(shelved.traces[ref]), [shelved.traces[ref]], ranked)
        case "episode":
            steps = shelved.of_episode(ref)
            return _of_steps(path, episode_text(titles.get(ref, ""), steps), steps, ranked)
        case "policy":
            policy = shelved.policies[ref]
            when, whose = _day(policy.updated_at_ms), policy.provenance
            return SearchHit("policies", path, 1, 1, policy_text(policy), score, parts, reason, when, provenance=whose)
        case "world":
            world = shelved.worlds[ref]
            when, whose = _day(world.updated_at_ms), world.provenance
            return SearchHit("worlds", path, 1, 1, world_text(world), score, parts, reason, when, provenance=whose)


def _of_steps(path: str, text: str, steps: Sequence[Trace], ranked: Ranked) -> SearchHit:
    """One or several traces of one session; its lines are the numbers of the messages they were made of."""
    return SearchHit(
        "traces",
        path,
        min(step.first_seq for step in steps),
        max(step.last_seq for step in steps),
        text,
        min(1.0, max(0.0, ranked.relevance)),
        ranked.parts,
        ranked.reason,
        when=_day(steps[-1].at_ms),
        session_id=steps[0].session_id,
        provenance=least_trusted(step.provenance for step in steps),
    )


# -- candidates ------------------------------------------------------------------------------------------------------


def _of_trace(trace: Trace, found: Signals, asking: Asking) -> Candidate:
    fresh = 0.5 ** (max(0, asking.now_ms - trace.at_ms) / DAY_MS / asking.half_life_days)
    summary, action = cosine(trace.vec_summary, asking.vector), cosine(trace.vec_action, asking.vector)
    return Candidate(
        "trace",
        trace.id,
        _exactly(found[trace.id], summary, action),
        similarity=max(0.0, summary, action),
        worth=max(trace.value, 0.0) * fresh,
        question=trace.user_text,
        answer=_answer(trace),
        vec=trace.vec_action if trace.vec_summary is None else trace.vec_summary,
        holds_identifier=_holds_any(trace, asking.identifiers),
        episode_id=trace.episode_id,
        value=trace.value,
    )


def _of_policy(policy: Policy, found: Signals, asking: Asking) -> Candidate:
    similarity = cosine(policy.vec, asking.vector)
    return Candidate(
        "policy",
        policy.id,
        _exactly(found[policy.id], similarity),
        similarity=max(0.0, similarity),
        worth=min(1.0, max(0.0, policy.salience, policy.confidence, policy.gain)),
        answer=f"{policy.trigger} {policy.procedure}",
        vec=policy.vec,
        updated_at_ms=policy.updated_at_ms,
    )


def _of_world(world: WorldModel, found: Signals, asking: Asking) -> Candidate:
    similarity = cosine(world.vec, asking.vector)
    signals = _exactly(found[world.id], similarity)
    return Candidate("world", world.id, signals, similarity=max(0.0, similarity), answer=world.body, vec=world.vec)


def _of_skill(skill: Skill, found: Signals, asking: Asking) -> Candidate:
    similarity = cosine(skill.vec, asking.vector)
    return Candidate(
        "skill",
        skill.id,
        _exactly(found[skill.id], similarity),
        similarity=max(0.0, similarity),
        worth=skill.eta,
        answer=f"{skill.title} {skill.description}",
        vec=skill.vec,
        updated_at_ms=skill.updated_at_ms,
        covers=frozenset(skill.policies),
    )


def _exactly(signals: dict[Channel, Signal], summary: float, action: float = 0.0) -> dict[Channel, Signal]:
    """The signals with exact similarities: those of the lookup come from 8-bit copies."""
    exact: dict[Channel, float] = {"vec_summary": summary, "vec_action": action}
    return {
        channel: Signal(max(0.0, exact.get(channel, signal.score)), signal.rank) for channel, signal in signals.items()
    }


def _answer(trace: Trace) -> str:
    """What a step did and said, by which two are compared."""
    calls = " ".join(f"{call.name} {call.input} {call.output}" for call in trace.tool_calls)
    return f"{calls} {trace.agent_text}".strip()


def _holds_any(trace: Trace, identifiers: Sequence[str]) -> bool:
    """Whether a step holds an identifier anywhere; nothing is asked of it when none is given."""
    if not identifiers:
        return True
    said = (trace.user_text, trace.agent_text, trace.summary, trace.reflection, _answer(trace))
    text = "\n".join(said).casefold()
    return any(identifier.casefold() in text for identifier in identifiers)


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).date().isoformat()
