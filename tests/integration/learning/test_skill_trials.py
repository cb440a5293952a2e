"""Skills earn their success rate: what was shown, what was used, how it went."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.config import LearningConfig
from reverie.learning.skills.skills import note_exposures, note_use
from tests.integration.learning.skill_world import SkillWorld, open_world
from tests.learning_rows import T0

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

READ = {"name": "read_file", "input": "{}", "output": "done"}
PUBLISH = {"name": "publish", "input": "{}", "output": "done"}
FETCH = {"name": "memory_get", "input": '{"path": "skills/notes/SKILL.md"}', "output": "…"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[SkillWorld]:
    """A conversation of ten turns, each of its own task, and one candidate with η₀ = 0.58."""
    opened = await open_world(tmp_path)
    opened.seed("sessions", id="s1", key="agent:main:main", agent="main", origin="live", started_at=T0,
                last_interaction_at=T0, updated_at=T0)  # fmt: skip
    seed_skill(opened)
    yield opened
    await opened.database.aclose()


def seed_skill(world: SkillWorld, **columns: Any) -> None:
    """A skill that was made of a policy."""
    given = {"id": "sk_1", "name": "notes", "status": "candidate", "eta": 0.58, "tools": ["read_file", "publish"],
             "policies": ["po_1"], "description": "d", "guide": "g", **columns}  # fmt: skip
    world.seed("skills", **given)


def seed_task(world: SkillWorld, number: int, r: float | None, *calls: dict[str, Any]) -> str:
    """Task number n is turn `t<n>`: a question at 100·n, then its tool calls."""
    task, start = f"ta_{number}", number * 100
    world.seed("tasks", id=task, state="scored", r_human=r)
    world.seed("episodes", id=f"ep_{number}", task_id=task)
    world.seed("episode_spans", first_seq=start, last_seq=start + 99, episode_id=f"ep_{number}")
    for seq in range(start, start + len(calls) + 1):
        world.seed("messages", session_id="s1", seq=seq, turn_id=f"t{number}", role="user", text="…", fingerprint=b"",
                   created_at=T0)  # fmt: skip
    for seq, call in enumerate(calls, start + 1):
        world.seed("traces", id=f"tr_{seq}", task_id=task, episode_id=f"ep_{number}", first_seq=seq, last_seq=seq,
                   tool_calls=[call])  # fmt: skip
    return task


async def show(world: SkillWorld, number: int, *skill_ids: str) -> int:
    """Note that skills were shown in a turn."""
    now = world.clock.now_ms()
    return await world.database.write(
        lambda tx: note_exposures(tx, "main", skill_ids or ("sk_1",), f"t{number}", "s1", now)
    )


def events(world: SkillWorld) -> list[tuple[Any, ...]]:
    """What happened to skills."""
    return world.rows("SELECT skill_id, kind, turn_id, task_id, outcome FROM skill_events ORDER BY id")


async def test_what_was_shown_and_followed_passes(world: SkillWorld) -> None:
    """Its tools in their order, with others between them: a use, a passed trial, (0.58 + 1) / 2, active."""
    task = seed_task(world, 1, 0.9, READ, {"name": "think", "input": "{}"}, PUBLISH)
    await show(world, 1)

    assert await world.try_task(task) == {"shown": 1, "used": 1, "outcome": "pass"}
    skill = await world.skill("notes")
    assert (skill.eta, skill.trials, skill.passes) == (0.79, 1, 1)
    assert (skill.exposures, skill.uses, skill.status) == (1, 1, "active")
    assert events(world) == [
        ("sk_1", "exposure", "t1", "ta_1", "pass"),
        ("sk_1", "use", "t1", None, ""),
        ("sk_1", "trial", None, "ta_1", "pass"),
        ("sk_1", "status", None, None, ""),
    ]
    assert world.trail() == [("learned", "trial_pass"), ("changed", "proved_in_trials")]
    assert "status: active" in world.path("notes").read_text()


async def test_what_was_fetched_is_used(world: SkillWorld) -> None:
    """A skill whose file the agent read was used, whatever tools came after."""
    task = seed_task(world, 1, -0.7, FETCH)
    await show(world, 1)
    await world.try_task(task)

    skill = await world.skill("notes")
    assert (skill.eta, skill.trials, skill.passes, skill.exposures, skill.uses) == (0.29, 1, 0, 1, 1)
    assert json.loads(world.rows("SELECT detail FROM skill_events WHERE kind = 'use'")[0][0]) == {"how": "fetched"}


async def test_a_fetch_counts_as_shown(world: SkillWorld) -> None:
    """An agent that found the file by itself has seen the skill: uses are never more than exposures."""
    task = seed_task(world, 1, 0.8, FETCH)
    await world.try_task(task)

    skill = await world.skill("notes")
    assert (skill.exposures, skill.uses, skill.trials, skill.passes) == (1, 1, 1, 1)
    assert events(world)[0] == ("sk_1", "exposure", "t1", "ta_1", "pass")


async def test_what_was_only_shown_earns_nothing(world: SkillWorld) -> None:
    """No use, no trial; the exposure is resolved as unknown."""
    task = seed_task(world, 1, 0.9, READ)
    await show(world, 1)
    await world.try_task(task)

    skill = await world.skill("notes")
    assert (skill.eta, skill.trials, skill.exposures, skill.uses, skill.status) == (0.58, 0, 1, 0, "candidate")
    assert events(world) == [("sk_1", "exposure", "t1", "ta_1", "unknown")]


@pytest.mark.parametrize(
    "calls",
    [
        (PUBLISH, READ),
        (READ,),
        ({"name": "shell", "input": '{"command": "read_file x && publish y"}'},),
    ],
)
async def test_other_tools_follow_nothing(world: SkillWorld, calls: tuple[dict[str, Any], ...]) -> None:
    """The wrong order, one of two, and a single command that names both are no use."""
    task = seed_task(world, 1, 0.9, *calls)
    await show(world, 1)

    assert (await world.try_task(task))["used"] == 0


async def test_calls_before_it_was_shown_do_not_count(world: SkillWorld) -> None:
    """What the agent had done before cannot have followed the skill."""
    task = seed_task(world, 1, 0.9, READ, PUBLISH)
    world.change("UPDATE messages SET turn_id = 't2' WHERE seq > 101")
    await show(world, 2)

    assert (await world.try_task(task))["used"] == 0


@pytest.mark.parametrize(("r", "eta", "trials"), [(0.49, 0.58, 0), (-0.49, 0.58, 0), (0.5, 0.79, 1), (-0.5, 0.29, 1)])
async def test_a_task_in_between_decides_nothing(world: SkillWorld, r: float, eta: float, trials: int) -> None:
    """Between -0.5 and 0.5 a use is known and no trial counted."""
    task = seed_task(world, 1, r, READ, PUBLISH)
    await show(world, 1)
    await world.try_task(task)

    skill = await world.skill("notes")
    assert (skill.eta, skill.trials, skill.uses) == (eta, trials, 1)


async def test_the_job_twice_counts_once(world: SkillWorld) -> None:
    """The same task changes neither counts nor η a second time, and adds no event."""
    task = seed_task(world, 1, 0.9, READ, PUBLISH)
    await show(world, 1)
    await world.try_task(task)
    before = (str(await world.skill("notes")), events(world), world.trail())
    await world.try_task(task)

    assert (str(await world.skill("notes")), events(world), world.trail()) == before


async def test_a_task_scored_anew_changes_its_trial(world: SkillWorld) -> None:
    """A pass that becomes a failure leaves one trial, failed: 0.58 / 2."""
    task = seed_task(world, 1, 0.9, READ, PUBLISH)
    await show(world, 1)
    await world.try_task(task)
    world.change("UPDATE tasks SET r_human = -0.8")
    await world.try_task(task)

    skill = await world.skill("notes")
    assert (skill.eta, skill.trials, skill.passes, skill.exposures, skill.uses) == (0.29, 1, 0, 1, 1)
    assert [each[4] for each in events(world) if each[1] == "trial"] == ["fail"]


async def test_the_fifth_failure_gives_it_up(world: SkillWorld) -> None:
    """A prior of 0.58 survives four failed tasks and is archived by the fifth, also in its file."""
    statuses: list[str] = []
    for number in range(1, 6):
        task = seed_task(world, number, -0.9, READ, PUBLISH)
        await show(world, number)
        await world.try_task(task)
        statuses.append((await world.skill("notes")).status)

    skill = await world.skill("notes")
    assert statuses == ["active", "active", "active", "active", "archived"]
    assert (round(skill.eta, 4), skill.trials, skill.exposures, skill.uses) == (0.0967, 5, 5, 5)
    assert "status: archived" in world.path("notes").read_text()


async def test_a_candidate_may_need_more_trials(tmp_path: Path) -> None:
    """With `candidate_trials` 2 the first pass decides nothing."""
    world = await open_world(tmp_path, candidate_trials=2)
    seed_skill(world)
    statuses: list[str] = []
    for number in (1, 2):
        task = seed_task(world, number, 0.9, READ, PUBLISH)
        await show(world, number)
        await world.try_task(task)
        statuses.append((await world.skill("notes")).status)

    assert statuses == ["candidate", "active"]
    await world.database.aclose()


async def test_a_skill_that_was_not_there_drifts_once(world: SkillWorld) -> None:
    """A task of its policy that did without it: 0.7·0.58 + 0.3·(1 + 0.6)/2, once for each task."""
    world.change("UPDATE skills SET trials = 1, passes = 1, status = 'active'")
    task = seed_task(world, 1, 0.6, READ)
    world.seed_policy()
    world.seed("trace_policy_links", trace_id="tr_101", policy_id="po_1", episode_id="ep_1", task_id=task)
    await world.try_task(task)
    await world.try_task(task)

    skill = await world.skill("notes")
    assert (skill.eta, skill.trials, skill.exposures) == (0.646, 1, 0)
    assert [each[1] for each in events(world)] == ["drift"]


async def test_drifts_give_no_skill_up(world: SkillWorld) -> None:
    """However such tasks go without it, a skill drifts to the floor and no further, and stays in use."""
    world.change("UPDATE skills SET trials = 1, passes = 1, status = 'active', eta = 0.11")
    task = seed_task(world, 1, -1.0, READ)
    world.seed_policy()
    world.seed("trace_policy_links", trace_id="tr_101", policy_id="po_1", episode_id="ep_1", task_id=task)
    await world.try_task(task)

    skill = await world.skill("notes")
    assert (skill.eta, skill.status) == (0.1, "active")


async def test_a_skill_that_was_never_tried_does_not_drift(world: SkillWorld) -> None:
    """What a candidate would be worth is not known from doing without it."""
    task = seed_task(world, 1, -1.0, READ)
    world.seed_policy()
    world.seed("trace_policy_links", trace_id="tr_101", policy_id="po_1", episode_id="ep_1", task_id=task)
    await world.try_task(task)

    assert (await world.skill("notes")).eta == 0.58


async def test_a_shown_skill_does_not_drift(world: SkillWorld) -> None:
    """Whoever was there is judged by trials alone."""
    world.change("UPDATE skills SET trials = 1, passes = 1, status = 'active'")
    task = seed_task(world, 1, -0.9, READ)
    world.seed_policy()
    world.seed("trace_policy_links", trace_id="tr_101", policy_id="po_1", episode_id="ep_1", task_id=task)
    await show(world, 1)
    await world.try_task(task)

    assert (await world.skill("notes")).eta == 0.58


async def test_both_counts_are_by_turn(world: SkillWorld) -> None:
    """Shown twice in a turn is one exposure, fetched twice one use; unknown skills and other agents' count nowhere."""
    seed_skill(world, id="sk_2", name="other", agent="second")
    asked = ["sk_1", "sk_1", "sk_0", "sk_2"]
    assert [await show(world, 1), await show(world, 1), await show(world, 2, *asked)] == [1, 0, 1]
    now = world.clock.now_ms()

    def fetch(turn: str) -> Any:
        return world.database.write(lambda tx: note_use(tx, "main", "sk_1", turn, "s1", now))

    assert [await fetch("t1"), await fetch("t1"), await fetch("t3")] == [True, False, True]
    skill = await world.skill("notes")
    assert (skill.exposures, skill.uses) == (3, 2)
    assert world.rows("SELECT exposures, uses FROM skills WHERE id = 'sk_2'") == [(0, 0)]
    assert world.rows("SELECT last_used_at FROM skills WHERE id = 'sk_1'") == [(now,)]


async def test_nothing_is_said_of_a_task_without_a_score(world: SkillWorld) -> None:
    """An exposure waits for the score; in lightweight mode for ever."""
    task = seed_task(world, 1, None, READ, PUBLISH)
    await show(world, 1)
    assert await world.try_task(task) == {"skipped": "not_scored"}
    assert await world.try_task("ta_none") == {"skipped": "not_scored"}
    world.config = LearningConfig(mode="lightweight")
    assert await world.try_task(task) == {"skipped": "lightweight"}

    assert events(world) == [("sk_1", "exposure", "t1", None, "pending")]
