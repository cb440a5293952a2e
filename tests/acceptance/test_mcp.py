"""The memory tools as programs reach them: with the official MCP client, over HTTP and over stdin, and with plain HTTP.

The client speaks to the real process, which is killed and started again.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.acceptance.servers import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from tests.acceptance.servers import Server, WithUpstream

TOOLS = ["memory_search", "memory_get", "memory_append"]
OTTO = "The walrus of the zoo is called Otto."


@pytest.fixture
def quick(server: Server) -> Server:
    """A server that searches by words, not started yet."""
    server.environment |= {"REVERIE_MEMORY__EMBEDDER": "none"}
    return server


def stdio_of(server: Server, *arguments: str) -> StdioServerParameters:
    """How the client starts `reverie mcp` on the home of a server."""
    _, *command = server.command("mcp", "--home", str(server.home), *arguments)
    return StdioServerParameters(command=sys.executable, args=command, env=server.variables())


async def call(client: Client, name: str, **arguments: Any) -> Any:
    """What a tool answers."""
    return (await client.call_tool(name, arguments)).structured_content


async def use_all(client: Client) -> None:
    """Every tool, in the way a program uses them."""
    assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
    added = await call(client, "memory_append", text=OTTO)
    again = await call(client, "memory_append", text=OTTO)
    found = await call(client, "memory_search", query="walrus", maxResults="3")
    read = await call(client, "memory_get", path=added["path"], **{"from": added["startLine"], "lines": 1})
    refused = await client.call_tool("memory_get", {"path": "../../config.toml"})
    wrong = await client.call_tool("memory_search", {"query": ""})

    assert (added["appended"], added["indexed"], again["appended"]) == (True, True, False)
    assert (again["startLine"], again["endLine"]) == (added["startLine"], added["endLine"])
    assert [result["path"] for result in found["results"]] == [added["path"]]
    assert OTTO in found["results"][0]["snippet"]
    assert read["text"] == OTTO
    assert (refused.is_error, refused.structured_content["error"]) == (True, "path required")
    assert wrong.is_error


def within(server: Any, work: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    """Do something with a client that is connected to a server."""

    async def connected() -> None:
        async with Client(server, **options) as client:
            await work(client)

    asyncio.run(asyncio.wait_for(connected(), 40))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_over_http(quick: Server, mode: str) -> None:
    """The official client lists and calls every tool, in the protocol's new form and in the old one."""
    quick.start()
    within(f"{quick.url}/mcp", use_all, mode=mode)


def test_over_stdin_without_a_server(quick: Server) -> None:
    """`reverie mcp` makes the home, serves it alone, and lets go of it at its end."""
    within(stdio_of(quick), use_all)
    answer = quick.run("search", "walrus", "--json")

    assert OTTO in answer.stdout
    assert quick.start().get("/healthz").status == 200


def test_over_stdin_beside_a_server(quick: Server) -> None:
    """The server does the work, so both see the same at once; when it is killed, the calls go on without it."""
    quick.start()

    async def work(client: Client) -> None:
        await use_all(client)
        shown = quick.post("/v1/memory/search", {"query": "walrus"}).json
        await asyncio.to_thread(quick.kill)
        alone = await call(client, "memory_search", query="walrus")
        second = await call(client, "memory_append", text="The zebra is called Emma.")

        assert shown["results"] == alone["results"]
        assert second["indexed"] is True

    within(stdio_of(quick), work)
    quick.start()
    assert len(quick.post("/v1/memory/search", {"query": "zebra Emma"}).json["results"]) == 1


def test_a_restart_in_the_middle(quick: Server) -> None:
    """A client over HTTP goes on where it was once the server is back: nothing is kept between requests."""
    quick.start()
    address = quick.url.removeprefix("http://").rpartition(":")[2]
    quick.arguments += ["--port", address]

    async def work(client: Client) -> None:
        await call(client, "memory_append", text=OTTO)
        await asyncio.to_thread(quick.kill)
        await asyncio.to_thread(quick.start)
        found = await call(client, "memory_search", query="walrus")
        assert [OTTO in result["snippet"] for result in found["results"]] == [True]

    within(f"{quick.url}/mcp", work)


def test_a_server_with_a_token(quick: Server) -> None:
    """Without it nobody enters; with it the client works, and `reverie mcp` takes it from the same place."""
    quick.environment |= {"REVERIE_GATEWAY__AUTH": "token", "REVERIE_TOKEN": "s3cret"}
    quick.start()

    @asynccontextmanager
    async def with_token() -> AsyncGenerator[Any]:
        async with (
            httpx2.AsyncClient(headers={"Authorization": "Bearer s3cret"}) as http,
            streamable_http_client(f"{quick.url}/mcp", http_client=http) as streams,
        ):
            yield streams

    assert quick.post("/mcp", {}).status == 401
    assert quick.post("/v1/memory/search", {"query": "x"}).status == 401
    within(with_token(), use_all)
    within(stdio_of(quick), lambda client: found_by(client, "walrus"))


async def found_by(client: Client, query: str) -> None:
    """Otto is found."""
    answer = await call(client, "memory_search", query=query)
    assert [OTTO in result["snippet"] for result in answer["results"]] == [True]


def test_pages_of_other_sites_and_other_names_are_kept_out(quick: Server) -> None:
    """Without a token, neither a foreign page nor a name that was made to point here reaches the memory."""
    quick.start()
    page = quick.post("/mcp", {}, {"Origin": "https://evil.example"})
    rebound = quick.get("/v1/memory/get?path=MEMORY.md", {"Host": "evil.example"})

    assert (page.status, page.error["code"]) == (403, "foreign_origin")
    assert (rebound.status, rebound.error["code"]) == (403, "foreign_host")


def test_the_protocol_costs_nothing_until_it_is_used(quick: Server) -> None:
    """A server that was never asked has not loaded it; the probes are answered while the first use does."""
    quick.start()
    quick.post("/v1/memory/search", {"query": "x"})
    before_kib = quick.memory_kib()
    within(f"{quick.url}/mcp", lambda client: call(client, "memory_search", query="x"))
    after_kib = quick.memory_kib()
    started = time.perf_counter()
    assert quick.get("/healthz").status == 200

    assert time.perf_counter() - started < 1
    assert after_kib - before_kib > 8 * 1024  # what it costs is paid by whoever uses it


def test_garbage_over_stdin_ends_nothing(quick: Server) -> None:
    """A line that is no message is answered or left out; the next one is served. Only messages stand on stdout."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    lines = [
        "{not json",
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}),
        json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json.dumps({"jsonrpc": "2.0", "id": 2, "method": "no/such/method"}),
        json.dumps({"jsonrpc": "2.0", "id": 3, "method": "tools/list"}),
    ]
    with quick.begin("mcp") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.flush()
        answers: dict[Any, Any] = {}
        while 3 not in answers:
            answer = json.loads(process.stdout.readline())
            answers[answer.get("id")] = answer
        process.stdin.close()
        code = process.wait(20)

    assert [tool["name"] for tool in answers[3]["result"]["tools"]] == TOOLS
    assert "error" in answers[2]
    assert code == 0


def test_wrong_use_is_said_on_stderr(quick: Server) -> None:
    """An agent that there is not: one line, exit code 2, nothing on stdout."""
    done = quick.run("mcp", "--agent", "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--agent" in done.stderr


# -- plain HTTP --------------------------------------------------------------------------------------------------------


def test_memory_over_http(quick: Server) -> None:
    """Search, get, append, status and sync, and that a search is on record."""
    quick.environment["REVERIE_MEMORY__WATCH"] = "false"
    quick.start()
    added = quick.post("/v1/memory/append", {"text": OTTO}).json
    (found,) = quick.post("/v1/memory/search", {"query": "walrus"}).json["results"]
    direct = quick.post("/v1/memory/search", {"query": "walrus", "sessionKey": "agent:main:slack:channel:1"}).json
    by_get = quick.get(f"/v1/memory/get?path={added['path']}&from=3&lines=1").json
    (quick.workspace / "memory/zoo.md").write_text("The zebra is called Emma.\n", encoding="utf-8")
    report = quick.post("/v1/memory/sync", b"").json
    status = quick.get("/v1/memory/status").json
    bad = quick.post("/v1/memory/search", {"query": "x", "maxResults": 0})

    assert added["appended"]
    assert found["citation"] == f"{added['path']}#L1-L3"
    assert "citation" not in direct["results"][0]
    assert by_get["text"] == OTTO
    assert (report["added"], status["chunks"]) == (1, 2)
    assert (bad.status, bad.error["param"]) == (400, "maxResults")
    assert quick.recall_kinds() == ["api", "api"]


def test_a_model_adds_a_note(connected: WithUpstream) -> None:
    """A memory_append of the model is on disk and found when its turn ends."""
    from reverie.testing.fake_upstream import Plan
    from reverie.types import ToolCall

    note = ToolCall("call_1", "memory_append", json.dumps({"text": OTTO}))
    connected.upstream.plan = Plan(text="Noted.", tool_calls=(note,))
    connected.server.chat("The walrus is called Otto, remember that.")
    result = json.loads(connected.asked[1].body["messages"][-1]["content"])
    found = connected.server.post("/v1/memory/search", {"query": "walrus", "corpus": "memory"}).json["results"]

    assert result["appended"] is True
    assert (connected.server.workspace / result["path"]).read_text(encoding="utf-8").endswith(f"{OTTO}\n")
    assert [OTTO in each["snippet"] for each in found] == [True]
    until(lambda: connected.server.turn_states() == ["answered"], "the turn is on record")
