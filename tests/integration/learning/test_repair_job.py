"""A repair is made once, of the last steps of a session, and policies of the same episodes learn of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import AnswerRefusedError, JobDeferredError
from reverie.jobs.request import Job
from reverie.learning.feedback.bursts import context_hash
from reverie.learning.feedback.feedback import Submission
from reverie.learning.feedback.repair import RepairJob
from reverie.learning.feedback.targets import Target
from reverie.learning.ids import content_id
from reverie.testing.scripted_asks import ScriptedAsks
from tests.integration.learning.feedback_world import NOW, feedback_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.learning.feedback_world import FeedbackWorld

pytestmark = pytest.mark.anyio
HASH = context_hash("shell", "pytest")
KEY = f"repair:{HASH}:tr_s1_2"
ID = content_id("dr", KEY)
ANSWER = {"preference": "Run `uv run pytest`", "anti_pattern": "Do not call pytest alone", "severity": "warn",
          "confidence": 0.7}  # fmt: skip
TRAIL = "SELECT outcome, reason FROM learning_trail WHERE stage = 'repair'"


def job(feedback_id: str | None = None, session_id: str = "s1", key: str = KEY) -> Job:
    payload = {"session_id": session_id, "tool": "shell", "context": "pytest", "feedback_id": feedback_id}
    return Job(key=key, kind="repair", lane="background", payload=payload, agent="main", task_id="ta_1")


def repairs(world: FeedbackWorld, asks: ScriptedAsks) -> RepairJob:
    return RepairJob(world.database, world.clock, world.config, asks)


def seed_steps(world: FeedbackWorld, *, good: float = 0.8, whose: str = "agent", at: int = NOW) -> None:
    """A step that went well, and three that failed."""
    world.seed("traces", id="tr_good", task_id="ta_1", episode_id="ep_1", value=good, provenance=whose, at=at - 10,
               tool_calls=[{"name": "shell", "input": '{"command": "uv run pytest"}'}],
               reflection="Running it through uv worked.")  # fmt: skip
    for number in range(3):
        world.seed("traces", id=f"tr_s1_{number}", task_id="ta_1", episode_id="ep_1", failed=1, provenance=whose,
                   at=at + number, tool_calls=[{"name": "shell", "input": '{"command": "pytest"}', "output": "no",
                                                "error_code": "EXIT_1"}])  # fmt: skip


async def test_a_repair_is_made_and_attached(tmp_path: Path) -> None:
    """One call words it; the row has its evidence, and a policy of the same episode learns what to prefer and avoid."""
    async with feedback_world(tmp_path) as world:
        seed_steps(world)
        world.seed(
            "policies", id="po_1", source_episodes=["ep_1"], guidance={"preference": ["Old"], "anti_pattern": []}
        )
        world.seed("policies", id="po_2", source_episodes=["ep_2"])
        asks = ScriptedAsks({"decision.repair": [ANSWER]})
        assert await repairs(world, asks).handle(job()) == {"repair": ID, "policies": ["po_1"]}
        assert world.rows(
            "SELECT id, agent, at, session_id, task_id, context_hash, tool, context, preference, anti_pattern,"
            " severity, confidence, high, low, policies, induced_by, validated, provenance FROM decision_repairs"
        ) == [
            (ID, "main", NOW, "s1", "ta_1", HASH, "shell", "pytest", "Run `uv run pytest`", "Do not call pytest alone",
             "warn", 0.7, '["tr_good"]', '["tr_s1_2", "tr_s1_1", "tr_s1_0"]', '["po_1"]', "decision.repair@1", 0,
             "agent")
        ]  # fmt: skip
        guidance = {"preference": ["Old", "Run `uv run pytest`"], "anti_pattern": ["Do not call pytest alone"]}
        assert [json.loads(each) for each in world.rows("SELECT guidance FROM policies WHERE id = 'po_1'")] == [
            guidance
        ]
        assert world.rows(TRAIL) == [("learned", "values_differ")]
        shown = json.loads(asks.asked[0].text)
        assert (shown["tool"], len(shown["high"]), len(shown["low"])) == ("shell", 1, 3)


async def test_a_repair_that_runs_twice_is_one(tmp_path: Path) -> None:
    """The second run finds the row, asks nothing and changes nothing."""
    async with feedback_world(tmp_path) as world:
        seed_steps(world)
        world.seed("policies", id="po_1", source_episodes=["ep_1"])
        asks = ScriptedAsks({"decision.repair": [ANSWER]})
        await repairs(world, asks).handle(job())
        before = world.rows("SELECT * FROM policies")
        world.clock.advance(seconds=5)
        assert await repairs(world, asks).handle(job()) == {"repair": ID, "known": True}
        assert (len(asks.asked), world.rows("SELECT * FROM policies")) == (1, before)
        assert world.rows("SELECT count(*) FROM decision_repairs") == [1]


async def test_advice_that_is_known_is_not_repeated(tmp_path: Path) -> None:
    """A policy that says so already is left as it is."""
    async with feedback_world(tmp_path) as world:
        seed_steps(world)
        known = {"preference": ["run uv run pytest"], "anti_pattern": ["do not call pytest alone!"]}
        world.seed("policies", id="po_1", source_episodes=["ep_1"], guidance=known)
        await repairs(world, ScriptedAsks({"decision.repair": [ANSWER]})).handle(job())
        assert [json.loads(each) for each in world.rows("SELECT guidance FROM policies")] == [known]


async def test_what_a_person_wrote_stays(tmp_path: Path) -> None:
    """Neither an edited policy nor, from untrusted steps, a trusted one learns of a repair."""
    async with feedback_world(tmp_path) as world:
        seed_steps(world, whose="untrusted")
        world.seed("policies", id="po_edited", source_episodes=["ep_1"], edited_at=5, provenance="untrusted")
        world.seed("policies", id="po_trusted", source_episodes=["ep_1"])
        world.seed("policies", id="po_other", source_episodes=["ep_1"], provenance="untrusted")
        asks = ScriptedAsks({"decision.repair": [ANSWER]})
        assert await repairs(world, asks).handle(job()) == {"repair": ID, "policies": ["po_other"]}
        assert world.rows("SELECT provenance FROM decision_repairs") == ["untrusted"]


async def test_nothing_is_attached_when_it_is_switched_off(tmp_path: Path) -> None:
    """`feedback.attach_to_policies` keeps repairs to themselves."""
    async with feedback_world(tmp_path, feedback={"attach_to_policies": False}) as world:
        seed_steps(world)
        world.seed("policies", id="po_1", source_episodes=["ep_1"])
        asks = ScriptedAsks({"decision.repair": [ANSWER]})
        assert await repairs(world, asks).handle(job()) == {"repair": ID, "policies": []}


@pytest.mark.parametrize(
    ("asks", "reason"),
    [
        (ScriptedAsks(available=False), "values_differ"),
        (ScriptedAsks({"decision.repair": [AnswerRefusedError("decision.repair@1", "no JSON")]}), "answer_refused"),
        (ScriptedAsks({"decision.repair": [{"preference": " ", "anti_pattern": ""}]}), "answer_refused"),
    ],
)
async def test_without_a_usable_answer_there_is_a_template(tmp_path: Path, asks: ScriptedAsks, reason: str) -> None:
    """No model, or one that answers nothing usable: the words of the steps are the advice."""
    async with feedback_world(tmp_path) as world:
        seed_steps(world)
        await repairs(world, asks).handle(job())
        assert world.rows("SELECT preference, anti_pattern, induced_by FROM decision_repairs") == [
            ("Running it through uv worked.", '`shell` `{"command": "pytest"}`: no', "template")
        ]
        assert world.rows(TRAIL) == [("learned", reason)]


async def test_a_session_without_steps_is_skipped(tmp_path: Path) -> None:
    """A session that is unknown, or has no steps, leaves a note and nothing else."""
    async with feedback_world(tmp_path) as world:
        assert await repairs(world, ScriptedAsks()).handle(job(session_id="s9")) == {"skipped": "no_steps"}
        assert world.rows(TRAIL) == [("skipped", "no_steps")]


async def test_values_that_say_nothing_wait_for_the_score(tmp_path: Path) -> None:
    """As long as the task is not scored a repair without reason waits; after the score it is skipped, or made."""
    async with feedback_world(tmp_path) as world:
        seed_steps(world, good=0.2)
        with pytest.raises(JobDeferredError) as raised:
            await repairs(world, ScriptedAsks()).handle(job())
        assert (raised.value.until_ms, raised.value.reason) == (NOW + 600_000, "task_not_scored")
        world.clock.advance(days=2)
        assert await repairs(world, ScriptedAsks()).handle(job()) == {"skipped": "values_too_close"}


async def test_an_owners_word_is_reason_enough(tmp_path: Path) -> None:
    """After a correction the values need not differ; the model is shown what was said."""
    async with feedback_world(tmp_path) as world:
        seed_steps(world, good=0.0)
        given = await world.feedbacks.submit(
            Submission(Target("turn", "t1"), "negative", text="Use uv run pytest instead of pytest")
        )
        asks = ScriptedAsks({"decision.repair": [ANSWER]})
        made: Any = await repairs(world, asks).handle(job(given.id, key=f"repair:{HASH}:{given.id}"))
        assert world.rows("SELECT id FROM decision_repairs") == [made["repair"]]
        assert json.loads(asks.asked[0].text)["owner_said"] == {
            "text": "Use uv run pytest instead of pytest", "prefer": "uv run pytest", "avoid": "pytest"
        }  # fmt: skip
        assert world.rows(TRAIL) == [("learned", "owner_said")]


async def test_lightweight_makes_no_repair(tmp_path: Path) -> None:
    """A job that was asked for before learning was switched to lightweight does nothing."""
    async with feedback_world(tmp_path, mode="lightweight") as world:
        seed_steps(world)
        assert await repairs(world, ScriptedAsks()).handle(job()) == {"skipped": "lightweight"}
