"""Forgetting beside learning that is at work: what a run had read by then comes back in no file of the home."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from reverie.dreaming.forgetting import Options, Selection
from reverie.gateway.feedback_body import read_feedback
from reverie.testing import reply
from reverie.testing.learning_answers import LearningAnswers, op_of
from tests.integration.dreaming.forgetting_world import SECRET, traces
from tests.integration.learning.learning_world import AT_ONCE, MAIN, learning_world
from tests.integration.learning.test_chain import one_task

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.llm.client import ModelRequest
    from reverie.testing.scripted_model import ScriptedReply
    from reverie.types import JsonObject
    from tests.integration.learning.learning_world import LearningWorld

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

LATER = Selection(session=MAIN, since_ms=1)
"""All that was said in a conversation, which stays as such."""


UNDONE = """SELECT count(*) FROM job_requests
WHERE state NOT IN ('done', 'dead', 'cancelled') AND waits_for NOT IN ('task_not_scored', 'cooldown')"""
"""Jobs that can be done now."""


class Quoting(LearningAnswers):
    """Every answer quotes what was said."""

    def answer(self, op: str, shown: JsonObject) -> str:
        """The answer, with the word in it."""
        told = super().answer(op, shown)
        return told.replace("as scripted", f"about {SECRET}").replace("It served the task", f"It served {SECRET}")


class Held:
    """The model's answer to one operation, held back until `release`; it repeats what it was shown."""

    def __init__(self, here: LearningWorld, op: str) -> None:
        self._answered = here.answered
        self._op = op
        self._gate = anyio.Event()
        self.asked = asyncio.Event()
        here.answered = self.answered  # type: ignore[method-assign]

    def answered(self, request: ModelRequest) -> ScriptedReply | str:
        """The answer, held back the first time."""
        answer = self._answered(request)
        if request.messages and op_of(request.messages[0].text) == self._op and not self._gate.is_set():
            self.asked.set()
            assert isinstance(answer, str)
            return reply(self._gate, answer)
        return answer

    def release(self) -> None:
        """Let the model answer."""
        self._gate.set()


async def two_tasks(here: LearningWorld) -> None:
    """Two tasks that are alike, of which policies, world models and skills are made."""
    for session in ("one", "two"):
        key = f"agent:main:{session}"
        command = '{"command": "pytest tests/test_parser.py"}'
        await here.used_tool(f"New task: run the checks of {SECRET}, {session}.", "bash", command, "3 passed", key=key)
        await here.say(f"And list which of the checks of {SECRET} are slow.", key=key)
        await here.app.reset_session(key)


async def forget_words(here: LearningWorld) -> None:
    """Forget what was said in every conversation; each stays as such."""
    for (key,) in await here.rows("SELECT DISTINCT key FROM sessions"):
        await here.app.forget("main", Selection(session=key, since_ms=1), Options(), apply=True)


@pytest.mark.parametrize(
    "op", ["reflection.batch", "reward.r_human", "l2.induction", "l3.abstraction", "skill.crystallize"]
)
async def test_nothing_comes_back_of_what_a_run_had_read(tmp_path: Path, op: str) -> None:
    """A call was under way when its evidence was forgotten: its answer is kept nowhere, and nothing is made of it."""
    async with learning_world(tmp_path, Quoting(alpha=0.5, axes=(1.0, 0.5, 0.8))) as here:
        held = Held(here, op)
        await two_tasks(here)
        await asyncio.wait_for(held.asked.wait(), 40)
        await forget_words(here)
        held.release()
        await here.settled()

        for table in ("policies", "world_models", "skills"):
            assert await here.rows(f"SELECT id FROM {table}") == []  # noqa: S608 (our own names)
        assert await here.rows("SELECT key FROM job_requests WHERE state = 'dead'") == []
    assert traces(tmp_path) == {}


async def test_nothing_comes_back_of_feedback_that_is_forgotten(tmp_path: Path) -> None:
    """Neither an experience nor a repair is made of an owner's word that was forgotten while a model worded it."""
    async with learning_world(tmp_path) as here:
        held = Held(here, "feedback.refine")
        await here.say(f"Say something of {SECRET}, please, a long answer of all that stands there.")
        told = {"session": "main", "thumb": "down", "text": f"{SECRET} comes first: use pytest -x instead of make."}
        await here.app.learning.give_feedback(read_feedback(told, "main"))
        await asyncio.wait_for(held.asked.wait(), 40)
        await here.app.forget("main", LATER, Options(), apply=True)
        held.release()
        await here.settled()

        assert await here.rows("SELECT id FROM policies UNION ALL SELECT id FROM decision_repairs") == []
    assert traces(tmp_path) == {}


async def test_nothing_is_made_of_a_policy_that_a_person_deleted_meanwhile(tmp_path: Path) -> None:
    """The run that had read it is put back, and finds it gone."""
    async with learning_world(tmp_path, LearningAnswers(alpha=0.5, axes=(1.0, 0.5, 0.8))) as here:
        held = Held(here, "skill.crystallize")
        await two_tasks(here)
        await asyncio.wait_for(held.asked.wait(), 40)
        await here.until(  # of the second task a policy of its own, or evidence for the first one's: as they come
            "SELECT count(*) FILTER (WHERE kind = 'associate'), count(*) FILTER (WHERE state <> 'done')"
            " FROM job_requests WHERE kind IN ('associate', 'induce')",
            lambda rows: rows == [(2, 0)],
        )
        assert await here.rows("SELECT id FROM policies")
        for (policy,) in await here.rows("SELECT id FROM policies"):
            await here.app.learning.delete("policies", policy)
        held.release()
        await here.settled()

        assert await here.rows("SELECT id FROM skills") == []
        assert not any((here.app.open.workspaces["main"] / "skills").glob("*/SKILL.md"))


async def failures(here: LearningWorld, session: str) -> None:
    """A tool that fails over and over, and an owner who says what to do instead."""
    key = f"agent:main:{session}"
    for number in range(4):
        address = f'{{"url": "https://{SECRET}.example/{number}"}}'
        failed = f"Error: ECONNREFUSED {SECRET}.example refused the connection"
        await here.used_tool(f"Fetch page {number}, please, from that host.", "fetch", address, failed, key=key)
    await here.say(f"No, that is wrong: don't use {SECRET}.example, use the mirror instead.", key=key)
    await here.app.reset_session(key)


async def test_a_word_is_in_no_file_after_nights_of_learning(tmp_path: Path) -> None:
    """All was made of it: steps, a repair, policies, world models, skills. Forgotten and worked on, none is left."""
    rests = {"feedback": {"cooldown_s": 0}, "skills": {"cooldown_hours": 0}, "world_models": {"cooldown_days": 0}}
    answers = Quoting(alpha=0.5, axes=(1.0, 0.5, 0.8))
    async with learning_world(tmp_path, answers, learning={**AT_ONCE, **rests}) as here:
        await failures(here, "failing")
        await two_tasks(here)
        for table in ("feedback", "decision_repairs", "world_models", "skills"):
            await here.until(f"SELECT id FROM {table}")  # noqa: S608 (our own names)
        await here.until(UNDONE, lambda rows: rows == [(0,)])
        assert any(name.endswith("SKILL.md") for name in traces(tmp_path))

        await forget_words(here)
        here.answers = LearningAnswers(alpha=0.5, axes=(1.0, 0.5, 0.8))
        for session in ("three", "four"):
            await one_task(here, session)
        await here.settled()

        assert len(await here.rows("SELECT id FROM skills")) == 2
    assert traces(tmp_path) == {}
