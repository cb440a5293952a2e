"""Measuring policies anew after their steps changed: gain, support, status, and what follows from them.

Everything is read from the links and the values as they are. What a gain was computed of is kept as a digest with it,
so that measuring twice is measuring once: a job that runs again moves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reverie.jobs.request import JobRequest, ask_for
from reverie.learning import trail
from reverie.learning.ids import digest_of
from reverie.learning.policies.gain import SET_MAX, next_status, raw_gain, smoothed
from reverie.learning.policies.policies import find_policy, text_digest

if TYPE_CHECKING:
    from reverie.config import LearningConfig, SkillsConfig
    from reverie.jobs.request import Job
    from reverie.learning.records import Policy
    from reverie.storage import Transaction

NO_SKILL_TYPES = frozenset({"failure_avoidance", "repair_instruction", "preference"})
SKILL_POLARITIES = frozenset({"positive", "mixed"})
LEAST_GAIN_STEP = 0.001
"""A change of gain below this is never a material one, whatever is configured."""
LOOKED_AT_MAX = 2_000
"""The newest steps of an agent, among which those are looked for that do not follow a policy."""
SUPPORT_STEPS_MAX = 2_000
"""Steps among which the tasks are counted that show a policy: what thousands follow is no better shown by more."""


@dataclass(frozen=True, slots=True)
class Built:
    """Of what the skill of a policy was built: gain and support then, and when (ms)."""

    gain: float
    support: int
    at_ms: int


def measure(tx: Transaction, policy_id: str, config: LearningConfig, job: Job, now_ms: int, *, skills: bool) -> bool:
    """Measure one policy: True when its gain, support or status moved. Asks for its skill where `skills` are made.

    A policy that was given up, or is gone, is left alone.
    """
    policy = find_policy(tx, policy_id)
    if policy is None or policy.status == "archived":
        return False
    measured = _with_gain(tx, policy, config)
    return _decided(tx, measured, config, job, now_ms, skills=skills) != policy


def decide(tx: Transaction, policy_id: str, config: LearningConfig, job: Job, now_ms: int, *, skills: bool) -> bool:
    """Decide on one policy by its gain as it is known, without measuring it: True when its status moved."""
    policy = find_policy(tx, policy_id)
    return policy is not None and _decided(tx, policy, config, job, now_ms, skills=skills) != policy


def ask_for_skill(tx: Transaction, policy: Policy, config: SkillsConfig, job: Job, now_ms: int) -> bool:
    """Ask for the skill of a policy in force, where there is none or something material has changed since it was built.

    True when it was asked for. The same text, support and (in steps of `rebuild_gain`) gain are asked for once, ever.
    What waits already, such as for a skill that was built a short while ago, looks at the policy as it is by then.
    """
    if not may_be_skill(policy, config) or not is_material(policy, _built(tx, policy), config):
        return False
    if tx.value("skill_job_waits", first=f"skill:{policy.id}:", end=f"skill:{policy.id};"):
        return False
    material = digest_of(text_digest(policy), policy.support, gain_step(policy.gain, config.rebuild_gain))
    request = JobRequest(
        kind="skill",
        key=f"skill:{policy.id}:{material}",
        lane="idle",
        payload={"policy_id": policy.id},
        agent=policy.agent,
        task_id=job.task_id,
    )
    return ask_for(tx, request, now_ms)


def may_be_skill(policy: Policy, config: SkillsConfig) -> bool:
    """Whether a skill may be made of a policy: it is in force, proven, and says how something is done well."""
    return (
        policy.status == "active"
        and policy.skill_eligible
        and policy.type not in NO_SKILL_TYPES
        and policy.polarity in SKILL_POLARITIES
        and policy.gain >= config.min_gain
        and policy.support >= config.min_support
    )


def is_material(policy: Policy, built: Built | None, config: SkillsConfig) -> bool:
    """Whether a policy differs so much from what its skill was built of that it is worth building it again."""
    if built is None:
        return True
    step = max(config.rebuild_gain, LEAST_GAIN_STEP)
    return (
        policy.support > built.support
        or _at_least(abs(policy.gain - built.gain), step)
        or policy.updated_at_ms > built.at_ms
    )


def gain_step(gain: float, rebuild_gain: float) -> int:
    """Which step of `rebuild_gain` a gain is on."""
    return math.floor(gain / max(rebuild_gain, LEAST_GAIN_STEP))


def _decided(tx: Transaction, policy: Policy, config: LearningConfig, job: Job, now_ms: int, *, skills: bool) -> Policy:
    decided = _with_status(tx, policy, config, job, now_ms)
    if skills:
        ask_for_skill(tx, decided, config.skills, job, now_ms)
    return decided


def _with_gain(tx: Transaction, policy: Policy, config: LearningConfig) -> Policy:
    following = tx.rows("steps_following", policy_id=policy.id, limit=SET_MAX)
    support: int = tx.value("support_of_policy", policy_id=policy.id, limit=SUPPORT_STEPS_MAX)
    digest = digest_of([(row["id"], row["value"]) for row in following], support)
    if digest == tx.value("policy_gain_of", id=policy.id):
        return policy
    others = [value for (value,) in tx.tuples(
        "values_of_others", agent=policy.agent, policy_id=policy.id, looked_at=LOOKED_AT_MAX, limit=SET_MAX
    )]  # fmt: skip
    raw = raw_gain([row["value"] for row in following], others, config.policies.tau_softmax)
    gain = smoothed(raw, policy.gain if policy.gain_known else None, config.policies.gain_ema)
    tx.execute("set_policy_gain", id=policy.id, gain=gain, gain_of=digest, support=support)
    return replace(policy, gain=gain, gain_known=True, support=support)


def _with_status(tx: Transaction, policy: Policy, config: LearningConfig, job: Job, now_ms: int) -> Policy:
    change = next_status(policy.status, policy.gain, policy.support, config.policies)
    if change.status == policy.status:
        return policy
    tx.execute("set_policy_status", id=policy.id, status=change.status, now=now_ms)
    trail.note(
        tx,
        now_ms,
        agent=policy.agent,
        stage=job.kind,
        ref=policy.id,
        task_id=job.task_id,
        outcome="changed",
        reason=change.reason,
        detail={"from": policy.status, "to": change.status, "gain": policy.gain, "support": policy.support},
    )
    return replace(policy, status=change.status, updated_at_ms=now_ms)


def _built(tx: Transaction, policy: Policy) -> Built | None:
    row = tx.row("built_skill_of_policy", agent=policy.agent, policy_id=policy.id)
    if row is None or row["built_at"] is None:
        return None
    return Built(row["built_gain"], row["built_support"], row["built_at"])


def _at_least(number: float, least: float) -> bool:
    """Of sums of decimal fractions, which are a hair off."""
    return number >= least or math.isclose(number, least, abs_tol=1e-9)
