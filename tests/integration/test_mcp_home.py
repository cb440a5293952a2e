"""How `reverie mcp` gets at a home: through its server, alone, or beside whoever has it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from reverie.app import open_memory
from reverie.config import Config, Home
from reverie.errors import HomeInUseError
from reverie.mcp_server.home import HomeTools
from reverie.memory.tool_contracts import APPEND_TOOL, GET_TOOL, SEARCH_TOOL, Asker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.types import JsonObject

pytestmark = pytest.mark.anyio

OFFERED = (SEARCH_TOOL, GET_TOOL, APPEND_TOOL)
MAIN = Asker("main")
CONFIG = Config.model_validate({"memory": {"embedder": "none"}})


@dataclass
class ServerOfTest:
    """What a running server offers."""

    asked: list[str] = field(default_factory=list[str])

    def definitions(self) -> tuple[JsonObject, ...]:
        """All tools."""
        return OFFERED

    async def answer(self, name: str, arguments: JsonObject, asker: Asker) -> JsonObject:
        """That it was here."""
        self.asked.append(name)
        return {"by": "the server"}


@asynccontextmanager
async def tools_at(path: Path, *, server: ServerOfTest | None = None, idle_s: float = 0.2) -> AsyncGenerator[HomeTools]:
    """The tools of a home; a server runs on it, or none does."""

    async def find() -> ServerOfTest | None:
        await asyncio.sleep(0)
        return server

    tools = HomeTools(Home(path), CONFIG, OFFERED, find, idle_s=idle_s)
    try:
        yield tools
    finally:
        await tools.aclose()


async def is_free(path: Path) -> bool:
    """Whether a server could be started on the home."""
    try:
        async with open_memory(Home(path), CONFIG):
            return True
    except HomeInUseError:
        return False


async def search(tools: HomeTools, query: str = "walrus") -> Any:
    """A search by a program."""
    return await tools.answer("memory_search", {"query": query}, MAIN)


async def test_a_home_is_let_go_when_nobody_asks(tmp_path: Path) -> None:
    """It is kept for a moment after a call, so that the next one costs no start, and opened again when it is wanted."""
    async with tools_at(tmp_path) as tools:
        added = await tools.answer("memory_append", {"text": "The walrus is called Otto."}, MAIN)
        kept = await is_free(tmp_path)
        async with asyncio.timeout(10):
            while not await is_free(tmp_path):
                await asyncio.sleep(0.05)
        found = await search(tools)

    assert (added["indexed"], kept) == (True, False)
    assert [result["path"] for result in found["results"]] == [added["path"]]
    assert await is_free(tmp_path)


async def test_calls_while_it_is_being_let_go(tmp_path: Path) -> None:
    """Asked again and again just as it closes, every call is answered, in a home that is whole."""
    async with tools_at(tmp_path, idle_s=0.02) as tools:
        await tools.answer("memory_append", {"text": "The walrus is called Otto."}, MAIN)
        answers: list[Any] = []
        for pause_s in (0.0, 0.02, 0.021, 0.025, 0.03, 0.05):
            await asyncio.sleep(pause_s)
            answers += await asyncio.gather(search(tools), search(tools))

    assert [len(answer["results"]) for answer in answers] == [1] * 12


async def test_a_running_server_is_asked_first(tmp_path: Path) -> None:
    """Nothing is opened here then."""
    server = ServerOfTest()
    async with tools_at(tmp_path / "home", server=server) as tools:
        assert tools.definitions() == OFFERED
        assert await search(tools) == {"by": "the server"}
    assert server.asked == ["memory_search"]
    assert not (tmp_path / "home").exists()


async def test_beside_another_process(tmp_path: Path) -> None:
    """It reads what is there now, with each call, and appends; it says that the other one indexes."""
    async with open_memory(Home(tmp_path), CONFIG) as other, tools_at(tmp_path) as tools:
        nothing = await search(tools)
        added = await tools.answer("memory_append", {"text": "The walrus is called Otto."}, MAIN)
        await other.memory.sync_workspace("main")
        found = await search(tools)

    assert nothing["results"] == []
    assert (added["appended"], added["indexed"]) == (True, False)
    assert [result["path"] for result in found["results"]] == [added["path"]]


async def test_a_home_that_cannot_be_used_is_an_answer(tmp_path: Path) -> None:
    """A file in its place: each tool says so in its own shape, and the next call tries again."""
    home = tmp_path / "home"
    home.write_text("a file")
    async with tools_at(home) as tools:
        failed = await search(tools)
        home.unlink()
        after = await search(tools)

    assert (failed["disabled"], failed["unavailable"]) == (True, True)
    assert "home" in failed["error"]
    assert "error" not in after


async def test_a_call_that_is_given_up_leaves_nothing_open(tmp_path: Path) -> None:
    """A program that goes away while the home is being opened does not keep it."""
    async with tools_at(tmp_path) as tools:
        given_up = asyncio.create_task(search(tools))
        await asyncio.sleep(0.01)
        given_up.cancel()
        await asyncio.wait([given_up])
        assert "error" not in await search(tools)
    assert await is_free(tmp_path)
