"""Whether a policy becomes a skill, and when its skill is made anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reverie.config import SkillsConfig
from reverie.learning.ids import digest_of
from reverie.learning.records import Policy, Skill
from reverie.learning.skills.eligibility import (
    DELETED,
    Eligibility,
    Refusal,
    decide,
    evidence_digest,
    policy_text,
)

CONFIG = SkillsConfig()
HOUR = 3_600_000
NONE = Refusal()
NOW = 100 * HOUR
POLICY = Policy(
    id="po_1", agent="main", title="t", trigger="when", procedure="how", verification="check", boundary="end",
    support=1, gain=0.3, gain_known=True, status="active", type="procedural", polarity="positive", salience=0.0,
    confidence=0.5, signature="", evidence="", source_episodes=(), source_feedback=(), source_traces=(), induced_by="",
    preference=(), anti_pattern=(), skill_eligible=True, vec=None, provenance="agent", created_at_ms=0,
    updated_at_ms=0, edited_at_ms=None,
)  # fmt: skip
SKILL = Skill(
    id="sk_1", agent="main", name="n", title="t", status="active", disabled=False, description="d", guide="g",
    draft={"policy": digest_of(policy_text(POLICY))}, tools=(), eta=0.5, support=1, gain=0.3, exposures=0, uses=0,
    trials=0, passes=0, version=1, policies=("po_1",), worlds=(), anchors=(), evidence="old",
    built_gain=0.3, built_support=1, built_at_ms=NOW - 6 * HOUR, file_digest="f", file_state="ours", induced_by="",
    vec=None, provenance="agent", created_at_ms=0, updated_at_ms=0, edited_at_ms=None, given_up=False,
)  # fmt: skip


def choose(
    policy: Policy = POLICY, skill: Skill | None = None, *, refusal: Refusal = NONE, evidence: str = "new"
) -> Eligibility:
    """The decision now."""
    return decide(policy, skill, evidence, refusal, CONFIG, NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "candidate"}, "policy_not_active"),
        ({"status": "archived"}, "policy_not_active"),
        ({"gain": 0.019}, "low_gain"),
        ({"support": 0}, "low_support"),
        ({"skill_eligible": False}, "not_eligible"),
        ({"type": "failure_avoidance"}, "type_failure_avoidance"),
        ({"type": "repair_instruction"}, "type_repair_instruction"),
        ({"type": "preference"}, "type_preference"),
        ({"polarity": "negative"}, "polarity_negative"),
        ({"polarity": "neutral"}, "polarity_neutral"),
    ],
)
def test_which_policies_make_no_skill(changes: dict[str, Any], reason: str) -> None:
    """Inactive ones, weak ones, and those in which nothing was seen to succeed; a skill that exists changes nothing."""
    policy = replace(POLICY, **changes)

    assert choose(policy) == Eligibility("no", reason)
    assert choose(policy, SKILL) == Eligibility("no", reason)


@pytest.mark.parametrize(
    "changes", [{}, {"gain": 0.02}, {"polarity": "mixed"}, {"type": "success_pattern"}, {"type": "repair_validated"}]
)
def test_which_policies_make_one(changes: dict[str, Any]) -> None:
    """A policy at the thresholds is enough."""
    assert choose(replace(POLICY, **changes)) == Eligibility("build", "no_skill_yet")


@pytest.mark.parametrize(
    ("policy", "skill", "expected"),
    [
        ({}, {}, Eligibility("no", "no_material_change")),
        ({"gain": 0.349}, {}, Eligibility("no", "no_material_change")),
        ({"gain": 0.35}, {}, Eligibility("rebuild", "gain_changed")),
        ({"gain": 0.25}, {}, Eligibility("rebuild", "gain_changed")),
        ({"support": 2}, {}, Eligibility("rebuild", "support_grew")),
        ({"procedure": "otherwise"}, {}, Eligibility("rebuild", "policy_changed")),
        ({"anti_pattern": ("haste",)}, {}, Eligibility("rebuild", "policy_changed")),
        ({"updated_at_ms": NOW}, {}, Eligibility("no", "no_material_change")),
        ({"support": 2}, {"evidence": "new"}, Eligibility("no", "same_evidence")),
        ({"support": 2}, {"built_at_ms": NOW - HOUR}, Eligibility("wait", "cooldown", NOW + 5 * HOUR)),
        ({"support": 2}, {"edited_at_ms": 1}, Eligibility("no", "edited_by_a_person")),
        ({"support": 2}, {"file_state": "edited"}, Eligibility("no", "edited_by_a_person")),
        ({"support": 2}, {"given_up": True, "status": "archived"}, Eligibility("no", "archived_by_a_person")),
        ({"support": 2}, {"file_state": "deleted", "status": "archived"}, Eligibility("no", "deleted_by_a_person")),
        ({"support": 2}, {"disabled": True}, Eligibility("no", "disabled")),
        ({}, {"status": "archived"}, Eligibility("build", "skill_archived")),
        ({}, {"status": "archived", "evidence": "new"}, Eligibility("no", "same_evidence")),
    ],
)
def test_when_a_skill_is_made_anew(policy: dict[str, Any], skill: dict[str, Any], expected: Eligibility) -> None:
    """Only when its policy has changed by so much, never of the same evidence, never against a person's word."""
    assert choose(replace(POLICY, **policy), replace(SKILL, **skill)) == expected


def test_refused_evidence_is_not_tried_again() -> None:
    """Nothing is made of what nothing could be made of; a deletion by a person holds against any evidence."""
    assert choose(refusal=Refusal("new", NOW)) == Eligibility("no", "evidence_refused")
    assert choose(refusal=Refusal("other", NOW - 6 * HOUR)) == Eligibility("build", "no_skill_yet")
    assert choose(refusal=Refusal(DELETED, 1)) == Eligibility("no", "deleted_by_a_person")


@pytest.mark.parametrize("skill", [None, SKILL])
def test_a_try_that_came_to_nothing_has_the_cooldown_of_a_build(skill: Skill | None) -> None:
    """Whatever new evidence there is, the next try waits for six hours; what is not to be done does not wait."""
    policy, tried = replace(POLICY, support=2), Refusal("other", NOW - HOUR)

    assert choose(policy, skill, refusal=tried) == Eligibility("wait", "cooldown", NOW + 5 * HOUR)
    assert choose(replace(policy, gain=0.0), skill, refusal=tried) == Eligibility("no", "low_gain")
    assert choose(policy, replace(SKILL, disabled=True), refusal=tried) == Eligibility("no", "disabled")


def test_evidence_is_words_and_steps_not_figures() -> None:
    """It is what a model is shown: neither a gain nor a number of tasks, and not the order of the steps."""
    digest = evidence_digest(POLICY, ("a", "b"))

    assert evidence_digest(replace(POLICY, gain=0.9, support=9, updated_at_ms=7), ("b", "a")) == digest
    others = [(replace(POLICY, trigger="x"), ("a", "b")), (POLICY, ("a",))]
    assert digest not in {evidence_digest(policy, traces) for policy, traces in others}
