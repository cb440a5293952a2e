"""Forgetting what was learned of a conversation, down to the file of a skill."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import apsw
import pytest

from tests.integration.dreaming.forgetting_world import KEPT, MAIN, SECRET, traces, world
from tests.learning_rows import seed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.dreaming.forgetting_world import World

pytestmark = pytest.mark.anyio

OTHER = "agent:main:other"


async def learned(here: World, key: str, mark: str, word: str) -> str:
    """Leave what learning makes of a conversation of two messages; returns the conversation's id."""
    await here.say(f"The {word} valve is stuck.", key=key, answer=f"Turn the {word} valve left.")
    session = (await here.session(key)).id
    state = here.home / "state.db"
    where = {"session_id": session, "session_key": key}
    seed(state, "tasks", id=f"ta_{mark}", reward={"label": "success", "reason": f"the {word} turned"}, **where)
    seed(state, "episodes", id=f"ep_{mark}", task_id=f"ta_{mark}", title=f"The {word} valve", **where)
    seed(state, "episodes", id=f"ep_{mark}2", task_id=f"ta_{mark}", continues_id=f"ep_{mark}",
         carry_over=f"the {word} valve", **where)  # fmt: skip
    seed(state, "episode_spans", session_id=session, first_seq=1, last_seq=2, episode_id=f"ep_{mark}")
    seed(state, "reflection_windows", episode_id=f"ep_{mark}")
    of_task = {"task_id": f"ta_{mark}", "episode_id": f"ep_{mark}", "session_id": session}
    seed(state, "traces", id=f"tr_{mark}", first_seq=1, last_seq=2, user_text=f"{word} stuck", **of_task)
    seed(state, "policies", id=f"po_{mark}", title=f"When a {word} sticks", source_traces=[f"tr_{mark}"])
    seed(state, "trace_policy_links", trace_id=f"tr_{mark}", policy_id=f"po_{mark}", episode_id=f"ep_{mark}",
         task_id=f"ta_{mark}")  # fmt: skip
    seed(state, "world_models", id=f"wm_{mark}", body=f"{word} valves stick", policies=[f"po_{mark}"])
    seed(state, "skills", id=f"sk_{mark}", name=f"valve-{mark}", guide=f"turn the {word}", policies=[f"po_{mark}"],
         file_state="ours")  # fmt: skip
    await here.write(f"skills/valve-{mark}/SKILL.md", f"turn the {word}")
    seed(state, "feedback", id=f"fb_{mark}", seq=1, text=f"the {word} again", **of_task)
    seed(state, "decision_repairs", id=f"dr_{mark}", preference=f"oil the {word}", low=[f"tr_{mark}"])
    seed(state, "learning_trail", ref=f"po_{mark}", detail={"title": word})
    seed(state, "routings", at=1, agent="main", session_id=session, seq=1, source="none", relation="new_task",
         confidence=0.7, classified_by="llm", reason=f"about the {word}", action="start_new_episode",
         state="decided")  # fmt: skip
    seed(state, "model_calls", key=f"call_{mark}", agent="main", task_id=f"ta_{mark}", answer=f"{word} is stuck")
    seed(state, "job_requests", key=f"reward:ta_{mark}:1", kind="reward", task_id=f"ta_{mark}", state="done")
    return session


async def test_what_was_learned_of_a_conversation_is_forgotten_with_it(tmp_path: Path) -> None:
    """Nothing is left of a word, neither in a row nor in a file of a skill; what another conversation taught stays."""
    async with world(tmp_path) as here:
        await learned(here, MAIN, "gone", SECRET)
        await learned(here, OTHER, "kept", KEPT)
        await here.settle()

        planned = await here.plan(session=MAIN)
        done = await here.forget(session=MAIN)

        assert planned.counts == done.counts
        kinds = ("steps", "episodes", "policies", "world_models", "skills", "feedback")
        assert [done.counts[kind] for kind in kinds] == [1, 2, 1, 1, 1, 2]
        assert not (here.workspace / "skills/valve-gone").exists()
        assert (here.workspace / "skills/valve-kept/SKILL.md").exists()
        tables = ("tasks", "episodes", "traces", "policies", "world_models", "skills", "feedback", "decision_repairs")
        left = {table: [row[0] for row in await here.rows(f"SELECT id FROM {table} ORDER BY id")] for table in tables}  # noqa: S608 (our own names)
        assert left == {
            "tasks": ["ta_kept"],
            "episodes": ["ep_kept", "ep_kept2"],
            "traces": ["tr_kept"],
            "policies": ["po_kept"],
            "world_models": ["wm_kept"],
            "skills": ["sk_kept"],
            "feedback": ["fb_kept"],
            "decision_repairs": ["dr_kept"],
        }
        assert (await here.forget(session=MAIN)).counts == {}
    assert traces(tmp_path) == {}


async def test_a_message_that_is_forgotten_takes_what_rests_on_it(tmp_path: Path) -> None:
    """The episode and the score of its task stay, without words; the step, and what was made of it, go."""
    async with world(tmp_path) as here:
        session = await learned(here, MAIN, "gone", SECRET)
        await here.say(f"The {KEPT} is in the cellar.")
        await here.settle()

        (row,) = await here.rows(f"SELECT max(created_at) FROM messages WHERE session_id = '{session}' AND seq <= 2")  # noqa: S608 (an id of ours)
        await here.forget(session=MAIN, until_ms=row[0] + 1)

        assert await here.rows("SELECT id FROM traces") == []
        assert await here.rows("SELECT id FROM skills") == []
        assert await here.rows("SELECT id, title, carry_over FROM episodes ORDER BY id") == [
            ("ep_gone", "", ""),
            ("ep_gone2", "", ""),
        ]
        assert await here.rows("SELECT reward FROM tasks") == [('{"label":"success"}',)]
    assert traces(tmp_path) == {}


async def test_a_skill_that_a_person_rewrote_is_theirs(tmp_path: Path) -> None:
    """It stays with its file, loses what it was made of, and the report says where to look."""
    async with world(tmp_path) as here:
        await learned(here, MAIN, "mine", SECRET)
        await execute(here, "UPDATE skills SET file_state = 'edited', guide = 'my own words'")
        await here.write("skills/valve-mine/SKILL.md", "my own words")

        done = await here.forget(session=MAIN)

        assert done.counts.get("skills", 0) == 0
        assert [remark for remark in done.traces.remarks if "skills/valve-mine/SKILL.md" in remark]
        assert await here.rows("SELECT guide, policies, anchors FROM skills") == [("my own words", "[]", "[]")]
        assert await here.read("skills/valve-mine/SKILL.md") == "my own words"


async def execute(here: World, sql: str) -> None:
    """Change a row as a person's edit does."""

    def work() -> None:
        connection = apsw.Connection(str(here.home / "state.db"))
        connection.set_busy_timeout(5_000)
        connection.execute(sql)
        connection.close()

    await asyncio.to_thread(work)
