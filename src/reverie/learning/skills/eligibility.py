"""Whether a policy becomes a skill, or its skill is made anew: a pure decision, with its reason.

Invariant: a skill is made of the same evidence once, whatever became of it. A gain that creeps, a policy that is
touched, a job that runs twice: none of them costs a call of a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.learning.ids import content_id, digest_of

if TYPE_CHECKING:
    from reverie.config import SkillsConfig
    from reverie.learning.records import Policy, PolicyType, Skill

SKILL_JOB = "skill"
NO_SUCCESS_TYPES: frozenset[PolicyType] = frozenset({"failure_avoidance", "repair_instruction", "preference"})
"""Policies that say what not to do, or what somebody likes: no way of doing something was seen to succeed."""

DELETED = "deleted"
"""In place of a digest of refused evidence: a person deleted the skill, so that no evidence makes it again."""

HOUR_MS = 3_600_000
ROUNDING = 9
"""Digits to which gains are compared: a difference of exactly the least that counts is one, in binary fractions too."""


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What is to be done, and why. `wait`: the same is to be asked again at `until_ms`."""

    choice: Literal["build", "rebuild", "wait", "no"]
    reason: str
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """The digest of the evidence for a policy of which nothing could be made last, and when; '' and 0 for none."""

    evidence: str = ""
    at_ms: int = 0


def skill_id_of(agent: str, policy_id: str) -> str:
    """The id of the one skill that a policy has, whether or not it was made already."""
    return content_id("sk", agent, policy_id)


def refusal_mark(policy_id: str) -> str:
    """Under which name it is remembered that nothing could be made of a policy."""
    return f"skill_refused:{policy_id}"


def policy_text(policy: Policy) -> tuple[str, ...]:
    """What a policy says, without its figures: other words are other evidence."""
    said = (policy.title, policy.trigger, policy.procedure, policy.verification, policy.boundary)
    return (*said, *policy.preference, "", *policy.anti_pattern)


def evidence_digest(policy: Policy, trace_ids: tuple[str, ...]) -> str:
    """A digest of what a skill would be made of, which is what a model is shown: the policy's words, and its steps."""
    return digest_of(policy_text(policy), sorted(trace_ids))


def refused_policy(policy: Policy, config: SkillsConfig) -> str:
    """Why no skill is made of a policy, whatever the evidence; '' when one may be."""
    if policy.status != "active":
        return "policy_not_active"
    if policy.gain < config.min_gain:
        return "low_gain"
    if policy.support < config.min_support:
        return "low_support"
    if not policy.skill_eligible:
        return "not_eligible"
    if policy.type in NO_SUCCESS_TYPES:
        return f"type_{policy.type}"
    return "" if policy.polarity in {"positive", "mixed"} else f"polarity_{policy.polarity}"


def decide(
    policy: Policy, skill: Skill | None, evidence: str, refusal: Refusal, config: SkillsConfig, now_ms: int
) -> Eligibility:
    """What is to be done about a policy whose evidence has the digest `evidence`.

    An archived skill counts as none, except that a person's word (an edit, a deletion, an archiving) holds against
    everything. A try that came to nothing has the cooldown of a build.
    """
    if reason := refused_policy(policy, config):
        return Eligibility("no", reason)
    if refusal.evidence == DELETED or (skill is not None and skill.file_state == "deleted"):
        return Eligibility("no", "deleted_by_a_person")
    if refusal.evidence == evidence:
        return Eligibility("no", "evidence_refused")
    wanted = Eligibility("build", "no_skill_yet") if skill is None else _about(policy, skill, evidence, config)
    tried_ms = max(refusal.at_ms, 0 if skill is None else skill.built_at_ms or 0)
    until_ms = tried_ms + round(config.cooldown_hours * HOUR_MS)
    waits = wanted.choice != "no" and tried_ms and now_ms < until_ms
    return Eligibility("wait", "cooldown", until_ms) if waits else wanted


def _about(policy: Policy, skill: Skill, evidence: str, config: SkillsConfig) -> Eligibility:
    """What is to be done about a skill that was made before, now or later."""
    if word := _word_of_a_person(skill):
        return Eligibility("no", word)
    if skill.evidence == evidence:
        return Eligibility("no", "same_evidence")
    archived = skill.status == "archived"
    reason = "skill_archived" if archived else _material_change(policy, skill, config)
    if not reason:
        return Eligibility("no", "no_material_change")
    return Eligibility("build" if archived else "rebuild", reason)


def _word_of_a_person(skill: Skill) -> str:
    """What a person said that holds against a rebuild; '' for nothing."""
    if skill.edited_at_ms is not None or skill.file_state == "edited":
        return "edited_by_a_person"
    if skill.given_up:
        return "archived_by_a_person"
    return "disabled" if skill.disabled else ""


def _material_change(policy: Policy, skill: Skill, config: SkillsConfig) -> str:
    """What has changed since the skill was built that is worth a call; '' for nothing."""
    if round(abs(policy.gain - skill.built_gain), ROUNDING) >= config.rebuild_gain:
        return "gain_changed"
    if policy.support > skill.built_support:
        return "support_grew"
    return "policy_changed" if skill.draft.get("policy") != digest_of(policy_text(policy)) else ""
