"""A policy becomes a skill, once, and again only when it has changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.config import LearningConfig
from reverie.errors import AnswerRefusedError, EmbedderError, JobDeferredError, UpstreamTimeoutError
from reverie.learning.skills.draft import SkillAnswer
from reverie.learning.skills.eligibility import skill_id_of
from reverie.testing.scripted_asks import ScriptedAsks
from tests.integration.learning.skill_world import DRAFT, OP, SkillWorld, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

FILE = """\
---
name: release-notes
description: Use when a release of the roaster firmware is to be announced.
reverie: {id}
version: 1
status: candidate
disabled: false
---

# Release notes

## When to use

Use when a release of the roaster firmware is to be announced.

Sign: A release is due

## What varies

- `version`: of the release

## Before you begin

- The changelog is up to date.

## Steps

1. **Collect** Read the changelog since the last release of the firmware.
2. **Publish** Write the notes and publish the release.

## Prefer

- Name what changed for users.

## Avoid

- Do not list commits.

## Examples

- Notes for 1.4

## Tools

`read_file`, `publish`

## Where it came from

Learned from 2 steps of 1 finished task, by way of the policy “Announce releases” (`po_1`).
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[SkillWorld]:
    """A policy of one task, and a model that drafts a skill."""
    opened = await open_world(tmp_path)
    opened.seed_policy()
    opened.seed_steps("ta_1")
    opened.asks.add(OP, DRAFT)
    yield opened
    await opened.database.aclose()


async def test_a_policy_becomes_a_skill_and_a_file(world: SkillWorld) -> None:
    """The row has η₀ = 0.5·0.16 + 0.5·1 = 0.58, its evidence and its tools; the file is what a person reads."""
    assert await world.build() == {"build": "release-notes"}

    skill = await world.skill()
    assert world.path().read_text() == FILE.format(id=skill_id_of("main", "po_1"))
    assert (skill.status, skill.eta, skill.trials, skill.version) == ("candidate", 0.58, 0, 1)
    assert (skill.tools, skill.anchors, skill.policies) == (
        ("read_file", "publish"), ("tr_ta_1_0", "tr_ta_1_1"), ("po_1",),
    )  # fmt: skip
    assert (skill.built_gain, skill.built_support, skill.file_state, skill.provenance) == (0.16, 1, "ours", "agent")
    assert skill.induced_by == "skill.crystallize@1"
    assert skill.vec is not None
    assert world.trail() == [("learned", "build")]


async def test_the_job_twice_is_the_job_once(world: SkillWorld) -> None:
    """A second run asks nobody and changes nothing."""
    await world.build()
    before = (await world.skill(), world.path().read_bytes())

    assert await world.build() == {"skipped": "same_evidence"}
    assert len(world.asks.asked) == 1
    after = (await world.skill(), world.path().read_bytes())
    assert str(after) == str(before)


async def test_what_the_model_is_shown_is_bounded_and_holds_no_secret(world: SkillWorld) -> None:
    """At most six steps of at most 500 characters, best and nearest first; a step with a key in it is left out."""
    world.seed_steps("ta_2", value=0.5, count=8)
    world.change("UPDATE policies SET procedure = 'use sk-aaaaaaaaaaaaaaaaaaaaaaaa'")
    world.change("UPDATE traces SET user_text = 'key sk-aaaaaaaaaaaaaaaaaaaaaaaa' WHERE id = 'tr_ta_1_0'")
    world.change("UPDATE traces SET agent_text = ?, tool_calls = '[]' WHERE id = 'tr_ta_1_1'", "release notes " * 200)
    world.change("UPDATE traces SET value = -0.4 WHERE id IN ('tr_ta_2_0', 'tr_ta_2_1')")
    await world.build()

    shown = json.loads(world.asks.asked[0].text)
    assert [each["value"] for each in shown["evidence"]] == [0.8, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert [each["value"] for each in shown["counter_examples"]] == [-0.4, -0.4]
    assert max(len(each["step"]) for each in shown["evidence"]) == 500
    assert "sk-aaaaaaaaa" not in world.asks.asked[0].text
    assert shown["policy"]["procedure"] == "use sk-aaa…aaaa"
    assert shown["tools"] == ["publish", "read_file"]


async def test_without_evidence_no_model_is_asked(world: SkillWorld) -> None:
    """A policy whose steps led nowhere fails without a call, and once."""
    world.change("UPDATE traces SET value = 0")

    assert await world.build() == {"failed": "no_evidence"}
    assert await world.build() == {"skipped": "evidence_refused"}
    assert world.asks.asked == []
    assert world.trail() == [("failed", "no_evidence"), ("skipped", "evidence_refused")]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"summary": "I'm sorry, but I cannot help with that."}, "declines"),
        ({"steps": [{"title": "One", "body": "only"}]}, "there are 1 steps"),
        ({"tools": ["read_file", "telepathy", "divination"]}, "only 33% of its tools"),
        ({"display_title": "Tea", "summary": "Brew.", "steps": [{"title": "a"}, {"title": "b"}]}, "shares words"),
    ],
)
async def test_a_draft_that_does_not_hold_is_refused_once(
    world: SkillWorld, wrong: dict[str, object], why: str
) -> None:
    """Nothing is written, the evidence is remembered, and the same evidence is not tried again; new evidence is."""
    asks = ScriptedAsks({OP: [{**DRAFT, **wrong}, DRAFT]})
    world.asks = asks

    assert await world.build() == {"failed": "draft_refused"}
    assert await world.build() == {"skipped": "evidence_refused"}
    ((detail,),) = world.rows("SELECT detail FROM learning_trail WHERE reason = 'draft_refused'")
    assert why in json.loads(detail)["wrong"]
    assert world.rows("SELECT count(*) FROM skills") == [(0,)]
    assert not world.path().exists()

    world.seed_steps("ta_2", value=0.9)
    world.change("UPDATE policies SET support = 2")
    with pytest.raises(JobDeferredError) as put_off:
        await world.build(key="skill:po_1:b")
    assert put_off.value.until_ms == world.clock.now_ms() + 6 * 3_600_000
    world.clock.advance(seconds=6 * 3600)
    assert await world.build(key="skill:po_1:b") == {"build": "release-notes"}


async def test_further_tasks_that_show_nothing_new_ask_nobody(world: SkillWorld) -> None:
    """The six best steps are the same: what a model could make nothing of, it is not asked about again."""
    for number in range(3):
        world.seed_steps(f"ta_good{number}", value=0.9)
    world.asks = ScriptedAsks({OP: [{**DRAFT, "steps": []}]})
    assert await world.build() == {"failed": "draft_refused"}
    for number in range(8):
        world.seed_steps(f"ta_more{number}", value=0.3)
        world.change("UPDATE policies SET support = support + 1")
        world.clock.advance(days=1)
        assert await world.build(key=f"skill:po_1:{number}") == {"skipped": "evidence_refused"}

    assert len(world.asks.asked) == 1


async def test_a_refusal_does_not_bring_a_deleted_skill_back(world: SkillWorld) -> None:
    """A person deleted the skill while its rebuild was drafted: that the draft was no good changes nothing about it."""
    await world.build()
    world.seed_steps("ta_2")
    world.change("UPDATE policies SET support = 2")
    world.clock.advance(days=1)

    class DeletesMeanwhile:
        """A model that answers nothing usable, while a person deletes the skill."""

        available = True

        async def ask(self, question: Any, job: Any) -> Any:
            await world.skills.delete(skill_id_of("main", "po_1"))
            raise AnswerRefusedError(OP, "no steps")

    world.asks = DeletesMeanwhile()  # pyright: ignore[reportAttributeAccessIssue] (an `Asks` all the same)

    assert await world.build(key="skill:po_1:b") == {"failed": "draft_refused"}
    assert await world.build(key="skill:po_1:c") == {"skipped": "deleted_by_a_person"}


async def test_the_second_try_is_told_what_was_wrong(world: SkillWorld) -> None:
    """What is asked carries its check: the reason for an answer that does not hold, nothing for one that does."""
    await world.build()
    check = world.asks.asked[0].check

    assert check is not None
    assert check(SkillAnswer.model_validate({**DRAFT, "steps": []})) == "there are 0 steps: give 2 to 6"
    assert check(SkillAnswer.model_validate({**DRAFT, "summary": " "})) == (
        "`summary` is empty: say when to use the skill"
    )
    assert check(SkillAnswer.model_validate(DRAFT)) is None


async def test_a_skill_is_made_although_it_cannot_be_embedded(world: SkillWorld) -> None:
    """An embedder that fails costs the vector, which the next comparison with the files makes good."""
    world.embedder.error = EmbedderError("away")
    await world.build()
    assert (await world.skill()).vec is None

    world.embedder.error = None
    await world.files.sync("main")
    assert (await world.skill()).vec is not None


async def test_names_are_unique_in_an_agent(world: SkillWorld) -> None:
    """A second policy whose skill is named alike gets a number."""
    await world.build()
    world.seed_policy(id="po_2")
    world.seed_steps("ta_2", policy="po_2")
    world.asks.add(OP, DRAFT)

    assert await world.build("po_2", "skill:po_2:a") == {"build": "release-notes-2"}
    assert world.path("release-notes-2").exists()


@pytest.mark.parametrize("status", ["candidate", "active"])
async def test_a_rebuild_keeps_id_name_status_and_what_was_earned(world: SkillWorld, status: str) -> None:
    """A rebuild brings other words and a version; an active skill stays active, η with trials stays as it is."""
    await world.build()
    before = await world.skill()
    world.change("UPDATE skills SET status = ?, eta = 0.79, trials = 1, passes = 1", status)
    world.seed_steps("ta_2")
    world.change("UPDATE policies SET support = 2, gain = 0.5")
    world.asks.add(OP, {**DRAFT, "name": "other", "display_title": "Announce a release"})
    world.clock.advance(seconds=6 * 3600)

    assert await world.build(key="skill:po_1:b") == {"rebuild": "release-notes"}
    after = await world.skill()
    assert (after.id, after.name, after.title) == (before.id, "release-notes", "Announce a release")
    assert (after.status, after.eta, after.trials, after.passes) == (status, 0.79, 1, 1)
    assert (after.version, after.built_gain, after.built_support) == (2, 0.5, 2)
    assert "version: 2" in world.path().read_text()


async def test_an_unused_skill_is_rated_anew_by_a_rebuild(world: SkillWorld) -> None:
    """Without trials η is the new η₀: 0.5·0.5 + 0.5."""
    await world.build()
    world.seed_steps("ta_2")
    world.change("UPDATE policies SET support = 2, gain = 0.5")
    world.asks.add(OP, DRAFT)
    world.clock.advance(seconds=6 * 3600)
    await world.build(key="skill:po_1:b")

    assert (await world.skill()).eta == 0.75


async def test_a_skill_in_use_stays_as_it_is_when_its_rebuild_fails(world: SkillWorld) -> None:
    """A rebuild that is not verified changes neither row nor file."""
    await world.build()
    world.change("UPDATE skills SET status = 'active'")
    world.seed_steps("ta_2")
    world.change("UPDATE policies SET support = 2")
    world.clock.advance(seconds=6 * 3600)
    world.asks.add(OP, {**DRAFT, "steps": []})
    before = world.path().read_bytes()

    assert await world.build(key="skill:po_1:b") == {"failed": "draft_refused"}
    assert await world.build(key="skill:po_1:c") == {"skipped": "evidence_refused"}
    skill = await world.skill()
    assert (skill.status, skill.version) == ("active", 1)
    assert world.path().read_bytes() == before


async def test_a_build_waits_for_its_cooldown(world: SkillWorld) -> None:
    """A change within six hours of the last build is put off until then, and not lost."""
    await world.build()
    world.seed_steps("ta_2")
    world.change("UPDATE policies SET support = 2")
    world.clock.advance(seconds=3600)

    with pytest.raises(JobDeferredError) as put_off:
        await world.build(key="skill:po_1:b")
    assert put_off.value.until_ms == world.clock.now_ms() + 5 * 3_600_000


async def test_a_thousand_small_gains_cost_no_rebuild(world: SkillWorld) -> None:
    """1000 updates of the gain by 0.001, without new evidence, ask no model."""
    await world.build()
    for number in range(1, 1001):
        world.clock.advance(days=1)
        world.change("UPDATE policies SET gain = 0.16 + ?, updated_at = ?", number / 1000, world.clock.now_ms())
        await world.build(key=f"skill:po_1:{number}")

    assert len(world.asks.asked) == 1
    assert (await world.skill()).version == 1


async def test_a_skill_given_up_counts_as_none(world: SkillWorld) -> None:
    """After it was given up it is made anew of new evidence, as a candidate that has earned nothing yet."""
    await world.build()
    world.change("UPDATE skills SET status = 'archived', eta = 0.05, trials = 5")
    world.clock.advance(days=1)
    assert await world.build() == {"skipped": "same_evidence"}

    world.seed_steps("ta_2")
    world.change("UPDATE policies SET support = 2")
    world.asks.add(OP, DRAFT)
    assert await world.build(key="skill:po_1:b") == {"build": "release-notes"}
    skill = await world.skill()
    assert (skill.status, skill.eta, skill.trials, skill.version) == ("candidate", 0.58, 0, 2)


async def test_no_skill_is_made_without_a_model_or_in_lightweight_mode(world: SkillWorld) -> None:
    """Both are checked when the job runs; in the first case the trail says so."""
    world.asks = ScriptedAsks(available=False)
    assert await world.build() == {"skipped": "no_model"}

    world.config = LearningConfig(mode="lightweight")
    assert await world.build() == {"skipped": "lightweight"}
    assert world.trail() == [("skipped", "no_model")]


async def test_a_skill_archived_during_the_call_stays_archived(world: SkillWorld) -> None:
    """A person's word that came while a rebuild was drafted wins; the draft is thrown away."""
    await world.build()
    world.seed_steps("ta_2")
    world.change("UPDATE policies SET support = 2")
    world.clock.advance(days=1)

    class ArchivesMeanwhile:
        """A model during whose answer a person archives the skill."""

        available = True

        async def ask(self, question: Any, job: Any) -> Any:
            await world.skills.archive(skill_id_of("main", "po_1"))
            return question.answer.model_validate(DRAFT)

    world.asks = ArchivesMeanwhile()  # pyright: ignore[reportAttributeAccessIssue] (an `Asks` all the same)

    assert await world.build(key="skill:po_1:b") == {"skipped": "changed_meanwhile"}
    skill = await world.skill()
    assert (skill.status, skill.version) == ("archived", 1)


async def test_a_call_that_fails_is_tried_again_by_the_engine(world: SkillWorld) -> None:
    """An error of the model's server is let through, and nothing is remembered against the evidence."""
    world.asks = ScriptedAsks({OP: [UpstreamTimeoutError("late"), DRAFT]})
    with pytest.raises(UpstreamTimeoutError):
        await world.build()

    assert await world.build() == {"build": "release-notes"}


async def test_a_skill_is_no_more_trusted_than_its_evidence(world: SkillWorld) -> None:
    """One step that rests on a stranger's words makes the skill a stranger's."""
    world.change("UPDATE traces SET provenance = 'untrusted' WHERE id = 'tr_ta_1_1'")
    await world.build()

    assert (await world.skill()).provenance == "untrusted"
