"""What bounds learning on a running app: the size of episodes, late decisions, calls at one time, and turns first."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.testing.learning_answers import LearningAnswers, op_of
from reverie.testing.scripted_model import ScriptedModel, reply
from tests.integration.learning.learning_world import AT_ONCE, LearningWorld, learning_world

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.llm.client import ModelEvent, ModelRequest
    from reverie.testing.scripted_model import ScriptedReply

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

NEW = "New task: compile a report about coffee for {}."
WEAK = "The coffee report deserves a table of prices"
ENDED = "SELECT count(*) FROM tasks WHERE state = 'scored'"


class WatchedModel(ScriptedModel):
    """Answers what learning asks, and turns. What is in `held` waits for its event; other questions for `delay_s`.

    `background_max` are the most questions at one time that need a place; `begun` the operations so far.
    """

    def __init__(self) -> None:
        super().__init__(otherwise=self._answered)
        self.here: LearningWorld | None = None
        self.held: dict[str, anyio.Event] = {}
        self.delay_s = 0.0
        self.begun: list[str] = []
        self.background = self.background_max = 0

    async def respond(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """As `ScriptedModel.respond`, counted."""
        op = op_of(request.messages[0].text) or "turn"
        self.begun.append(op)
        placed = not op.startswith("turn")
        self.background += placed
        self.background_max = max(self.background_max, self.background)
        try:
            await asyncio.sleep(self.delay_s if placed else 0)
            async for event in super().respond(request):
                yield event
        finally:
            self.background -= placed

    def _answered(self, request: ModelRequest) -> ScriptedReply | str:
        assert self.here is not None, "nothing is asked before there is a home"
        answer = self.here.answered(request)
        hold = self.held.get(op_of(request.messages[0].text) or "turn")
        return reply(hold, answer) if hold is not None and isinstance(answer, str) else answer


@asynccontextmanager
async def watched_world(path: Path, **learning: Any) -> AsyncGenerator[tuple[LearningWorld, WatchedModel]]:
    """A running app and its model."""
    model = WatchedModel()
    async with learning_world(path, LearningAnswers(), model=model, learning=learning) as here:
        model.here = here
        yield here, model


async def test_forty_follow_ups_are_one_task_of_bounded_episodes(tmp_path: Path) -> None:
    """No episode has more than 30 entries, each continues the one before it, and the task is scored once."""
    async with watched_world(tmp_path) as (here, model):
        await here.say(NEW.format("monday"))
        for number in range(40):
            await here.say(f"And what about the price of number {number}?")
        await here.app.reset_session("agent:main:main")
        await here.until(ENDED, lambda rows: rows == [(1,)])
        await here.settled()
        episodes = await here.rows(
            "SELECT id, continues_id, task_id, entries, opened_for FROM episodes ORDER BY opened_at"
        )
        tasks = await here.rows("SELECT endings, state FROM tasks")

    assert [entries for _, _, _, entries, _ in episodes] == [30, 30, 22]
    assert [before for _, before, _, _, _ in episodes] == [None, episodes[0][0], episodes[1][0]]
    assert [why for _, _, _, _, why in episodes] == ["first", "turn_limit", "turn_limit"]
    assert len({task for _, _, task, _, _ in episodes}) == 1
    assert tasks == [(1, "scored")]
    assert model.begun.count("reward.r_human") == 1


async def test_late_decision_delays_no_turn_and_is_made_good_before_anything_is_learned(tmp_path: Path) -> None:
    """A message that is not decided on in time counts as a new task until it is; then both are one again."""
    async with watched_world(tmp_path, session={"classify_timeout_ms": 1_000}) as (here, model):
        model.held["turn.classify"] = anyio.Event()
        await here.say(NEW.format("monday"))
        await here.say(WEAK)  # answered, though nobody has said what it is about
        late = "SELECT relation, classified_by, state FROM routings WHERE seq = 3"
        await here.until(late, lambda rows: rows == [("new_task", "timeout", "provisional")])
        await here.until("SELECT key FROM job_requests WHERE kind = 'redecide'")
        apart = await here.rows("SELECT count(DISTINCT task_id), count(*) FROM episodes")
        learned = await here.rows(
            "SELECT (SELECT count(*) FROM traces WHERE last_seq >= 3),"
            " (SELECT count(*) FROM tasks WHERE state <> 'open'),"
            " (SELECT count(*) FROM job_requests WHERE kind IN ('window', 'reward'))"
        )
        model.held.pop("turn.classify").set()
        await here.change("UPDATE job_requests SET not_before = 0 WHERE kind = 'redecide'")
        await here.until("SELECT count(*) FROM job_requests WHERE kind = 'redecide' AND state = 'done'",
                         lambda rows: rows == [(1,)])  # fmt: skip
        await here.app.reset_session("agent:main:main")
        await here.until(ENDED, lambda rows: rows == [(1,)])
        await here.settled()
        joined = await here.rows("SELECT entries, opened_for, closed_for, provisional FROM episodes")
        decisions = await here.rows("SELECT relation, classified_by, state FROM routings WHERE seq = 3 ORDER BY id")
        assert await here.rows("SELECT count(*) FROM tasks") == [(1,)]

    assert apart == [(2, 2)]
    assert learned == [(0, 0, 0)]
    assert joined == [(4, "first", "session_end", 0)]
    assert decisions == [("new_task", "timeout", "superseded"), ("follow_up", "llm", "decided")]
    assert model.begun.count("reward.r_human") == 1


async def test_six_sessions_that_end_at_once_make_two_calls_at_a_time(tmp_path: Path) -> None:
    """However much is to be learned at once, no more than two calls are in flight."""
    async with watched_world(tmp_path) as (here, model):
        model.delay_s = 0.05
        keys = [f"agent:main:s{number}" for number in range(6)]
        for number, key in enumerate(keys):
            await here.say(NEW.format(f"day {number}"), key=key)
        await asyncio.gather(*(here.app.reset_session(key) for key in keys))
        await here.until(ENDED, lambda rows: rows == [(6,)])
        await here.settled()

    assert model.background_max == 2
    assert model.begun.count("reward.r_human") == 6


async def test_turn_breaks_off_an_idle_call_which_costs_no_attempt(tmp_path: Path) -> None:
    """The call is left at once, its job waits without having failed, and comes to its end when nobody waits."""
    async with watched_world(tmp_path) as (here, model):
        model.held["l2.induction"] = anyio.Event()
        for key in ("agent:main:one", "agent:main:two"):
            await here.used_tool(NEW.format(key), "bash", '{"command": "pytest"}', "3 passed", key=key)
            await here.app.reset_session(key)
        while "l2.induction" not in model.begun:
            await asyncio.sleep(0.01)
        left = model.cancelled
        await here.say("And what is the time?", key="agent:main:three")
        broken_off = model.cancelled - left
        put_back = await here.until("SELECT attempts FROM job_requests WHERE kind = 'induce' AND put_backs > 0")
        model.held.pop("l2.induction").set()
        await here.until("SELECT id FROM policies")
        await here.app.reset_session("agent:main:three")
        await here.settled()
        ended = await here.rows("SELECT DISTINCT state, attempts FROM job_requests WHERE kind = 'induce'")

    assert broken_off >= 1
    assert {attempts for (attempts,) in put_back} == {0}
    assert ended == [("done", 0)]


ALL = (
    "tasks",
    "episodes",
    "routings",
    "traces",
    "policies",
    "feedback",
    "job_requests",
    "model_calls",
    "learning_trail",
)


async def counts(here: LearningWorld, *tables: str) -> dict[str, int]:
    """How many rows there are."""
    return {table: (await here.rows(f"SELECT count(*) FROM {table}"))[0][0] for table in tables}  # noqa: S608 (our names)


async def one_task(here: LearningWorld, session: str) -> None:
    """A task with a tool, a message that no rule decides on, thanks; then its session ends."""
    key = f"agent:main:{session}"
    await here.used_tool(NEW.format(session), "bash", '{"command": "pytest"}', "3 passed", key=key)
    await here.say(WEAK, key=key)
    await here.say("And that is perfect, thanks.", key=key)
    await here.app.reset_session(key)


async def test_lightweight_keeps_steps_without_a_call_and_full_learns_from_then_on(tmp_path: Path) -> None:
    """Each exchange is a step with its vector, and nothing is judged; what was said then is not judged later either."""
    lightweight = {**AT_ONCE, "mode": "lightweight"}
    async with learning_world(tmp_path, learning=lightweight) as here:
        await one_task(here, "one")
        await here.until("SELECT count(*) FROM tasks WHERE state = 'ended'", lambda rows: rows == [(1,)])
        await here.settled()
        assert here.asked == []
        kept = await counts(here, "traces", "policies", "feedback", "model_calls")
        assert kept == {"traces": 3, "policies": 0, "feedback": 0, "model_calls": 0}
        assert await here.rows("SELECT DISTINCT vec_summary IS NULL FROM traces") == [(0,)]
        assert await here.rows("SELECT DISTINCT kind FROM job_requests") == [("window",)]
    async with learning_world(tmp_path) as here:
        here.turns = 100  # the numbers before are taken
        await one_task(here, "two")
        await here.until(ENDED, lambda rows: rows == [(1,)])
        await here.settled()
        states = await here.rows("SELECT session_key, state FROM tasks ORDER BY started_at")
        assert states == [("agent:main:one", "ended"), ("agent:main:two", "scored")]
        assert await here.rows("SELECT DISTINCT task_id IS NULL FROM model_calls WHERE op LIKE 'reward%'") == [(0,)]
        assert [op for op, _ in here.asked].count("reward.r_human") == 1


async def test_off_keeps_nothing_and_full_learns_from_then_on(tmp_path: Path) -> None:
    """Nothing is written and nobody is asked; when it is switched on, what was said before stays unread."""
    async with learning_world(tmp_path, learning={**AT_ONCE, "mode": "off"}) as here:
        await one_task(here, "one")
        await asyncio.sleep(0.5)
        assert here.asked == []
        assert await counts(here, *ALL) == dict.fromkeys(ALL, 0)
    async with learning_world(tmp_path) as here:
        here.turns = 100  # the numbers before are taken
        await one_task(here, "two")
        await here.until(ENDED, lambda rows: rows == [(1,)])
        await here.settled()
        assert await here.rows("SELECT session_key, state FROM tasks") == [("agent:main:two", "scored")]
