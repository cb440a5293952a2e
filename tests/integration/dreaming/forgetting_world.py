"""A home in which words have left their traces everywhere: in conversations, notes, the index, reports and records."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import apsw

from reverie.app import App, open_app
from reverie.config import Home, load_config
from reverie.dreaming.forgetting import Forgetting, Options, Selection
from reverie.sessions.events import TurnFinished
from reverie.testing import FakeClock, FakeEmbedder, ScriptedModel, reply
from reverie.types import Message, SessionKey, ToolCall, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.llm.client import ModelRequest
    from reverie.sessions.directory import SessionRecord
    from reverie.testing.scripted_model import ScriptedReply

SECRET = "zanzibarium"
"""A word that stands nowhere but where it is to be forgotten."""
KEPT = "marmalade"
"""A word that stands beside it and stays."""
MAIN = "agent:main:main"
DAY = "2026-01-01"
NOTE = f"memory/{DAY}.md"


@dataclass
class World:
    """A running app, and what it stands on."""

    app: App
    model: ScriptedModel
    clock: FakeClock
    home: Path
    said: int = 0
    calls: list[ToolCall] = field(default_factory=list[ToolCall])

    @property
    def workspace(self) -> Path:
        """The agent's own."""
        return self.app.open.workspaces["main"]

    async def say(self, text: str, key: str = MAIN, *, name: str | None = None, answer: str = "Noted.") -> None:
        """One turn, with an answer of the model."""
        self.said += 1
        self.model.add(reply(answer))
        await self.turn(Message("user", text, name=name), key=key)

    async def turn(self, *messages: Message, key: str = MAIN) -> None:
        """One turn of these messages; the model's script has its answer."""
        self.said += 1
        request = TurnRequest(f"t{self.said}", SessionKey(key.split(":")[1], key), messages)
        feed = await self.app.submit(request)
        end = [event async for event in feed.follow()][-1]
        assert isinstance(end, TurnFinished), end
        self.clock.advance(seconds=60)

    async def session(self, name: str = MAIN) -> SessionRecord:
        """A session."""
        return await self.app.directory.find(name)

    async def write(self, path: str, text: str, agent: str = "main") -> None:
        """Put a file into a workspace, and let it be found."""
        target = self.app.open.workspaces[agent] / path
        await asyncio.to_thread(_write, target, text)
        await self.app.open.memory.sync_workspace(agent, [path])

    async def read(self, path: str) -> str:
        """A file of the workspace; empty when there is none."""
        target = self.workspace / path
        return await asyncio.to_thread(lambda: target.read_text(encoding="utf-8") if target.exists() else "")

    async def settle(self) -> None:
        """Everything is indexed, embedded and learned from."""
        await self.app.open.memory.settle()
        await self.app.open.evidence.settle()

    async def found(self, words: str, agent: str = "main") -> list[str]:
        """What a search finds, by citation; leaves no trace."""
        from reverie.memory.index import SearchQuery

        return [hit.citation for hit in (await self.app.open.memory.search(SearchQuery(words, agent))).hits]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of state.db."""
        return await asyncio.to_thread(_rows, self.home / "state.db", sql)

    async def compacted(self, key: str = MAIN) -> None:
        """Have a session compacted, and let it go on with the summary."""
        await self.app.request_compaction(key)
        with anyio.fail_after(20):
            while not any(each.state == "ready" for each in await self.app.compactions_of(key)):
                await asyncio.sleep(0.01)

    async def plan(self, options: Options | None = None, agent: str = "main", **selection: Any) -> Forgetting:
        """A dry run."""
        return await self.app.forget(agent, Selection(**selection), options or Options(), apply=False)

    async def forget(self, options: Options | None = None, agent: str = "main", **selection: Any) -> Forgetting:
        """The same, done."""
        return await self.app.forget(agent, Selection(**selection), options or Options(), apply=True)


@asynccontextmanager
async def world(
    home: Path, *, agents: tuple[str, ...] = ("main",), clock: FakeClock | None = None, **sections: Any
) -> AsyncGenerator[World]:
    """A home that runs."""
    clock = clock or FakeClock()
    sections = {
        "memory": {"watch": False, "recall_hits": 0, "reconcile_s": 0},
        "dreaming": {"mode": "off", "time_zone": "UTC"},
        "agents": {agent: {} for agent in agents},
        **sections,
    }
    config = await asyncio.to_thread(load_config, Home(home), sections)
    model = ScriptedModel(otherwise=_summary)
    async with open_app(Home(home), config, model=model, embedder=FakeEmbedder(), clock=clock) as app:
        yield World(app, model, clock, home)


def _summary(asked: ModelRequest) -> ScriptedReply:
    """What the model makes of a conversation: it repeats what was said."""
    return reply("\n".join(message.text for message in asked.messages if message.role == "user")[:2_000])


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    database = apsw.Connection(str(path))
    try:
        return list(database.execute(sql))
    finally:
        database.close()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def traces(home: Path, word: str = SECRET) -> dict[str, int]:
    """In which files of a home a word stands, in whatever case, and how often."""
    found: dict[str, int] = {}
    for path in sorted(home.rglob("*")):
        if path.is_file() and (count := path.read_bytes().lower().count(word.encode())):
            found[path.relative_to(home).as_posix()] = count
    return found


def promoted_entry(key: str, text: str, source: str) -> str:
    """An entry of MEMORY.md as dreaming writes it."""
    return f"<!-- openclaw-memory-promotion:{key} -->\n- {text} [score=0.812 recalls=4 avg=0.870 source={source}]\n"


def search_call(query: str) -> ScriptedReply:
    """The model searches memory."""
    return reply(calls=[ToolCall("c1", "memory_search", json.dumps({"query": query}))])
