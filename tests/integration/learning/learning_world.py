"""A running app that learns, on real SQLite and a real job engine, with a model that answers what learning asks."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import apsw

from reverie.app import open_app
from reverie.config import Home, load_config
from reverie.sessions.events import TurnFinished
from reverie.testing import FakeEmbedder, reply
from reverie.testing.learning_answers import LearningAnswers, op_of, shown_in
from reverie.testing.scripted_model import ScriptedModel
from reverie.types import Message, SessionKey, ToolCall, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from reverie.app import App
    from reverie.llm.client import Model, ModelRequest
    from reverie.testing.scripted_model import ScriptedReply

MAIN = "agent:main:main"
WAIT_S_MAX = 40.0
AT_ONCE: dict[str, Any] = {
    "mode": "full",
    "reward": {"feedback_window_s": 1},
    "jobs": {"idle_quiet_s": 0, "poll_s": 0.05, "retry_wait_s": 0.05},
}
"""Nothing is waited for that need not be."""


@dataclass
class LearningWorld:
    """A running app, its home, and what its model was asked on behalf of learning, in order."""

    app: App
    home: Path
    answers: LearningAnswers
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    replies: list[ScriptedReply | str] = field(default_factory=list["ScriptedReply | str"])
    prompts: list[ModelRequest] = field(default_factory=list["ModelRequest"])
    turns: int = 0

    def answered(self, request: ModelRequest) -> ScriptedReply | str:
        """What the model says."""
        op = op_of(request.messages[0].text) if request.messages else None
        if op is None:
            self.prompts.append(request)
            return self.replies.pop(0) if self.replies else "It is done, and the checks pass."
        shown = shown_in(request.messages[1].text)
        self.asked.append((op, shown))
        return self.answers.answer(op, shown)

    async def say(self, *messages: str | Message, key: str = MAIN, tools: Sequence[dict[str, Any]] = ()) -> str:
        """One turn; its text."""
        self.turns += 1
        told = tuple(each if isinstance(each, Message) else Message("user", each) for each in messages)
        request = TurnRequest(f"turn{self.turns}", SessionKey("main", key), told, client_tools=tuple(tools))
        feed = await self.app.submit(request)
        end = [event async for event in feed.follow()][-1]
        assert isinstance(end, TurnFinished), end
        return end.text

    async def used_tool(self, ask: str, name: str, arguments: str, result: str, *, key: str = MAIN) -> None:
        """A turn in which the model calls a tool of the client's, and the turn with its result."""
        call = ToolCall(f"call{self.turns}", name, arguments)
        tool = {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        self.replies.append(reply("I look at it.", calls=[call]))
        await self.say(ask, key=key, tools=[tool])
        history = (Message("user", ask), Message("assistant", "I look at it.", tool_calls=(call,)))
        await self.say(*history, Message("tool", result, tool_call_id=call.id, name=name), key=key, tools=[tool])

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query gives."""

        def work() -> list[tuple[Any, ...]]:
            connection = apsw.Connection(str(self.home / "state.db"))
            try:
                return list(connection.execute(sql))
            finally:
                connection.close()

        return await asyncio.to_thread(work)

    async def change(self, sql: str) -> None:
        """Change rows."""

        def work() -> None:
            connection = apsw.Connection(str(self.home / "state.db"))
            try:
                connection.set_busy_timeout(5_000)
                connection.execute(sql)
            finally:
                connection.close()

        await asyncio.to_thread(work)

    async def until(self, sql: str, check: Callable[[list[tuple[Any, ...]]], bool] = bool) -> list[tuple[Any, ...]]:
        """Ask until the answer is what is waited for."""
        found: list[tuple[Any, ...]] = []
        with anyio.move_on_after(WAIT_S_MAX):
            while not check(found := await self.rows(sql)):
                await asyncio.sleep(0.05)
            return found
        jobs = await self.rows("SELECT key, state, waits_for, error FROM job_requests")
        raise AssertionError(f"{sql}: {found}; jobs: {json.dumps(jobs, indent=1)}")

    async def settled(self) -> None:
        """Wait until everything that was said is followed, and nothing is left to be done now."""
        await self.until(
            "SELECT (SELECT coalesce(max(id), 0) FROM messages) = position FROM learning_cursors WHERE session_id = ''",
            lambda rows: rows == [(1,)],
        )
        await self.until(
            "SELECT count(*) FROM job_requests WHERE state NOT IN ('done', 'dead', 'cancelled')",
            lambda rows: rows == [(0,)],
        )


@asynccontextmanager
async def learning_world(
    home: Path, answers: LearningAnswers | None = None, *, model: Model | None = None, **sections: Any
) -> AsyncGenerator[LearningWorld]:
    """A home that runs and learns."""
    sections = {
        "memory": {"watch": False, "reconcile_s": 0},
        "dreaming": {"mode": "off"},
        **sections,
        "learning": {**AT_ONCE, **sections.get("learning", {})},
    }
    config = await asyncio.to_thread(load_config, Home(home), sections)
    told: list[LearningWorld] = []

    def answered(request: ModelRequest) -> ScriptedReply | str:
        return told[0].answered(request)

    scripted = ScriptedModel(otherwise=answered)
    await asyncio.to_thread(op_of, "")  # reads the prompts, which the guard forbids on the loop
    async with open_app(Home(home), config, model=model or scripted, embedder=FakeEmbedder()) as app:
        here = LearningWorld(app, home, answers or LearningAnswers())
        told.append(here)
        yield here
