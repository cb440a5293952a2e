"""Forgetting what was learned of a conversation, down to the file of a skill."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import apsw
import pytest

from reverie.dreaming.forgotten_learning import Learned
from reverie.dreaming.traces import Portion
from reverie.learning.skills.document import text_digest
from reverie.sessions.forgetting import Doomed, MeantSession, Wanted
from reverie.testing import reply
from reverie.types import Message, ToolCall
from tests.integration.dreaming.forgetting_world import KEPT, MAIN, SECRET, traces, world
from tests.learning_rows import seed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from tests.integration.dreaming.forgetting_world import World

pytestmark = pytest.mark.anyio

OTHER = "agent:main:other"
TEXT = "---\nname: valve\ndescription: When a valve sticks.\nreverie: {id}\n---\nTurn the {word}.\n"
MINE = "---\nname: valve\ndescription: When a valve sticks.\nreverie: sk_mine\n---\nmy own words\n"


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
         file_state="ours", file_digest=text_digest(f"turn the {word}"))  # fmt: skip
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


async def test_words_are_taken_from_what_stays_beside_them(tmp_path: Path) -> None:
    """Of a task that goes on, and of what its other steps led to: titles, reflections, advice, jobs about it."""
    async with world(tmp_path) as here:
        session = await learned(here, MAIN, "gone", SECRET)
        await here.say(f"The {KEPT} is in the cellar.")
        state, task = here.home / "state.db", {"task_id": "ta_gone", "session_id": session}
        seed(state, "episodes", id="ep_third", continues_id="ep_gone2", title=f"The {SECRET} valve",
             carry_over=f"Began with the {SECRET}", **task)  # fmt: skip
        seed(state, "traces", id="tr_later", episode_id="ep_third", first_seq=3, last_seq=4, user_text=KEPT,
             summary=f"after the {SECRET}", reflection=f"The {SECRET} came first.", **task)  # fmt: skip
        seed(state, "policies", id="po_task", title=f"As with the {SECRET}", source_episodes=["ep_third"])
        seed(state, "policies", id="po_told", title=KEPT, guidance={"preference": [SECRET], "anti_pattern": []})
        seed(state, "policies", id="po_apart", title=f"Pour the {KEPT}")
        seed(state, "decision_repairs", id="dr_task", preference=f"Ask the {SECRET}", task_id="ta_gone",
             policies=["po_told"])  # fmt: skip
        seed(state, "feedback", id="fb_step", text=f"not the {SECRET}", trace_id="tr_gone")
        seed(state, "job_requests", key="repair:0:fb_x", kind="repair", agent="main", task_id="ta_gone",
             payload={"tool": "fetch", "context": f"{SECRET}.example"})  # fmt: skip
        seed(state, "job_requests", key="skill:po_gone:1", kind="skill", agent="main", state="done",
             payload={"policy_id": "po_gone"}, result={"build": f"{SECRET}-valve"})  # fmt: skip
        seed(state, "job_requests", key="skill:po_apart:1", kind="skill", agent="main", state="dead",
             payload={"policy_id": "po_apart"}, error=f"the server said {SECRET}")  # fmt: skip
        seed(state, "learning_trail", ref="", detail={"path": "skills/valve-gone/SKILL.md", "reason": SECRET})
        seed(state, "learning_marks", name="skill_file:main:valve-gone", value=f'"{SECRET}"', at=1)
        (row,) = await here.rows(f"SELECT max(created_at) FROM messages WHERE session_id = '{session}' AND seq <= 2")  # noqa: S608 (an id of ours)

        await here.forget(session=MAIN, until_ms=row[0] + 1)

        assert await here.rows("SELECT id, title FROM policies") == [("po_apart", f"Pour the {KEPT}")]
        assert await here.rows("SELECT id, user_text, summary, reflection FROM traces") == [("tr_later", KEPT, "", "")]
        assert await here.rows("SELECT DISTINCT title, carry_over FROM episodes") == [("", "")]
        assert await here.rows("SELECT key, error FROM job_requests WHERE kind <> 'reward'") == [
            ("skill:po_apart:1", "(forgotten)")
        ]
    assert traces(tmp_path) == {}


@dataclass
class Busy:
    """The files of skills, beside which learning goes on: when one is deleted, more was made of the same evidence."""

    here: World
    deleted: list[str] = field(default_factory=list[str])

    @asynccontextmanager
    async def at_rest(self, agent: str) -> AsyncGenerator[Callable[[str], Awaitable[None]]]:
        """As `SkillFiles.at_rest`."""
        assert agent == "main"
        yield self.delete

    async def delete(self, name: str) -> None:
        """Note it; the first time a run comes to its end."""
        self.deleted.append(name)
        if len(self.deleted) == 1:
            state = self.here.home / "state.db"
            seed(state, "policies", id="po_late", title=f"As a {SECRET}", source_episodes=["ep_gone"])
            seed(state, "skills", id="sk_late", name="late", guide=SECRET, policies=["po_late"], file_state="ours")


async def test_what_is_made_of_it_while_it_goes_goes_too(tmp_path: Path) -> None:
    """A run that ends in the middle leaves nothing, and its skill's file is deleted."""
    async with world(tmp_path) as here:
        row = await here.session(await learned(here, MAIN, "gone", SECRET))
        session = MeantSession(row.id, row.key, "main", "live", 0, 0, ended=True, entries=2)
        portion = Portion("main", Wanted(), 1, dooms=(Doomed(session, whole=True, seqs=(1, 2), said=1),))
        busy = Busy(here)

        await Learned(here.app.open.state, busy).remove(portion)

        assert busy.deleted == ["valve-gone", "late"]
        assert await here.rows("SELECT id FROM policies UNION ALL SELECT id FROM skills") == []


async def test_what_was_learned_is_taken_out_where_it_was_quoted(tmp_path: Path) -> None:
    """The guide of a skill that was read in another conversation goes with the skill; another skill's stays."""
    async with world(tmp_path) as here:
        await learned(here, MAIN, "gone", SECRET)
        await learned(here, OTHER, "kept", KEPT)
        for number, mark in enumerate(("gone", "kept")):
            read = ToolCall(f"c{number}", "memory_get", f'{{"path": "skills/valve-{mark}/SKILL.md"}}')
            here.model.add(reply(calls=[read]), reply("I have read it."))
            await here.turn(Message("user", "How does the skill go?"), key=OTHER)
        await here.settle()

        planned = await here.plan(session=MAIN)
        done = await here.forget(session=MAIN)

        assert (planned.counts["quotes"], done.counts["quotes"]) == (1, 1)
        told = await here.rows("SELECT text FROM messages WHERE role = 'tool' ORDER BY id")
        assert (told[0], KEPT in told[1][0]) == (("(forgotten)",), True)
    assert traces(tmp_path) == {}


async def test_a_skill_that_a_person_rewrote_is_theirs(tmp_path: Path) -> None:
    """It stays with its file, loses what it was made of, and the report says where to look."""
    async with world(tmp_path) as here:
        await learned(here, MAIN, "mine", SECRET)
        await here.write("skills/valve-mine/SKILL.md", MINE)
        await here.settle()

        planned = await here.plan(session=MAIN)
        done = await here.forget(session=MAIN)

        assert (planned.counts, planned.traces.remarks) == (done.counts, done.traces.remarks)
        assert done.counts.get("skills", 0) == 0
        assert [remark for remark in done.traces.remarks if "skills/valve-mine/SKILL.md" in remark]
        assert await here.rows("SELECT guide, policies, anchors FROM skills") == [("my own words", "[]", "[]")]
        assert await here.read("skills/valve-mine/SKILL.md") == MINE
    assert traces(tmp_path) == {}


async def test_a_skill_that_was_edited_by_a_command_is_the_persons_too(tmp_path: Path) -> None:
    """Words that were given with `reverie skills edit` are not in a file of its own making."""
    async with world(tmp_path) as here:
        await learned(here, MAIN, "mine", SECRET)
        await here.app.learning.edit("skills", "sk_mine", {"guide": "my own words", "description": "When it sticks."})

        done = await here.forget(session=MAIN)

        assert [remark for remark in done.traces.remarks if "skills/valve-mine/SKILL.md" in remark]
        assert await here.rows("SELECT id, guide FROM skills") == [("sk_mine", "my own words")]


async def test_a_skill_whose_folder_a_person_renamed_is_found(tmp_path: Path) -> None:
    """Renamed alone, it goes under its new name; renamed and rewritten, it stays."""
    async with world(tmp_path) as here:
        await learned(here, MAIN, "gone", SECRET)
        await learned(here, OTHER, "mine", SECRET)
        ours = TEXT.format(id="sk_gone", word=SECRET)
        await execute(here, f"UPDATE skills SET file_digest = '{text_digest(ours)}' WHERE id = 'sk_gone'")  # noqa: S608 (our own words)
        for mark, text in (("gone", ours), ("mine", MINE)):
            await asyncio.to_thread(shutil.rmtree, here.workspace / f"skills/valve-{mark}")
            await here.write(f"skills/renamed-{mark}/SKILL.md", text)

        gone = await here.forget(session=MAIN)
        stays = await here.forget(session=OTHER)

        assert (gone.counts["skills"], stays.counts.get("skills", 0)) == (1, 0)
        assert [remark for remark in stays.traces.remarks if "skills/renamed-mine/SKILL.md" in remark]
        assert await here.rows("SELECT id, name FROM skills") == [("sk_mine", "renamed-mine")]
        assert not (here.workspace / "skills/renamed-gone").exists()
    assert traces(tmp_path) == {}


async def test_a_file_of_a_forgotten_skill_is_not_taken_for_a_persons(tmp_path: Path) -> None:
    """One that comes back from elsewhere is left alone and named; without our line in its head it is a person's."""
    async with world(tmp_path) as here:
        await learned(here, MAIN, "gone", SECRET)
        await here.forget(session=MAIN)
        await here.write("skills/valve-gone/SKILL.md", TEXT.format(id="sk_gone", word=KEPT))

        assert (await here.app.open.skill_files.sync("main")).broken == 1
        assert await here.rows("SELECT id FROM skills") == []
        assert await here.rows("SELECT reason, ref FROM learning_trail") == [("broken_file", "sk_gone")]
        await here.write("skills/valve-gone/SKILL.md", TEXT.format(id="", word=KEPT))
        assert (await here.app.open.skill_files.sync("main")).added == 1


async def execute(here: World, sql: str) -> None:
    """Change a row as a person's edit does."""

    def work() -> None:
        connection = apsw.Connection(str(here.home / "state.db"))
        connection.set_busy_timeout(5_000)
        connection.execute(sql)
        connection.close()

    await asyncio.to_thread(work)
