"""The memory tools as a server of the Model Context Protocol, asked by the official client in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
import pytest
from mcp import Client

from reverie.errors import RequestError, ReverieError
from reverie.gateway.server import create_gateway
from reverie.mcp_server.protocol import build_server
from reverie.mcp_server.remote import RemoteTools, as_error
from reverie.memory.tool_contracts import APPEND_TOOL, GET_TOOL, SEARCH_TOOL, Asker
from tests.unit.gateway.scripted_app import ScriptedApp, ScriptedTools

if TYPE_CHECKING:
    from reverie.types import JsonObject

pytestmark = pytest.mark.anyio

OFFERED = (SEARCH_TOOL, GET_TOOL, APPEND_TOOL)


@dataclass
class ToolsOfTest:
    """Tools that give one answer, or raise one error."""

    given: JsonObject = field(default_factory=lambda: {"results": ["猫"]})
    defect: Exception | None = None
    calls: list[tuple[str, JsonObject, Asker]] = field(default_factory=list["tuple[str, JsonObject, Asker]"])

    def definitions(self) -> tuple[JsonObject, ...]:
        """All of them."""
        return OFFERED

    async def answer(self, name: str, arguments: JsonObject, asker: Asker) -> JsonObject:
        """What the test says."""
        self.calls.append((name, arguments, asker))
        if self.defect is not None:
            raise self.defect
        return self.given


def client_of(tools: ToolsOfTest) -> Client:
    """The official client, connected to a server of these tools."""
    return Client(build_server(tools, lambda _request: Asker("main")))


async def test_the_tools_are_listed_with_our_own_schemas() -> None:
    """The same that a model in a turn is given, and a hint which of them writes."""
    async with client_of(ToolsOfTest()) as client:
        listed = (await client.list_tools()).tools

    assert [(tool.name, tool.description, tool.input_schema) for tool in listed] == [
        (tool["function"]["name"], tool["function"]["description"], tool["function"]["parameters"]) for tool in OFFERED
    ]
    hints = [tool.annotations.read_only_hint for tool in listed if tool.annotations is not None]
    assert hints == [True, True, False]


async def test_an_answer_comes_as_text_and_as_structure() -> None:
    """Both say the same; the call reaches the tool as it was made."""
    tools = ToolsOfTest()
    async with client_of(tools) as client:
        result = await client.call_tool("memory_search", {"query": "cat", "maxResults": "3"})

    assert (result.is_error, result.structured_content) == (False, {"results": ["猫"]})
    assert [json.loads(getattr(content, "text", "")) for content in result.content] == [{"results": ["猫"]}]
    assert tools.calls == [("memory_search", {"query": "cat", "maxResults": "3"}, Asker("main"))]


async def test_an_error_is_a_result() -> None:
    """What a tool refuses, and a defect of ours, of which only the kind is told; the next call is answered."""
    tools = ToolsOfTest(given={"error": "no", "action": "stop"})
    async with client_of(tools) as client:
        refused = await client.call_tool("memory_get", {})
        tools.defect = KeyError("a secret")
        broken = await client.call_tool("memory_get", {})
        tools.defect = None
        after = await client.call_tool("memory_get", {})

    assert (refused.is_error, refused.structured_content) == (True, {"error": "no", "action": "stop"})
    assert (broken.is_error, broken.structured_content["error"]) == (True, "internal error (KeyError)")
    assert "secret" not in json.dumps(broken.structured_content)
    assert after.structured_content == refused.structured_content


PROGRAM = """
import sys
import reverie.cli.server, reverie.cli.commands.serve, reverie.cli.commands.mcp
import reverie.mcp_server.http, reverie.mcp_server.stdio, reverie.mcp_server.home
print(sorted(name for name in sys.modules if name.split(".")[0] in {"mcp", "mcp_types", "opentelemetry", "jsonschema"}))
"""


def test_nothing_of_the_protocol_is_imported_before_its_first_use() -> None:
    """Loading all that a server and `reverie mcp` are made of leaves its package out."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


# -- the tools of a running server -----------------------------------------------------------------------------------


async def test_a_running_server_is_asked_over_http() -> None:
    """Known arguments reach its tool, its answer comes back as it is; its refusal in the tool's own shape."""
    scripted = ScriptedTools()
    transport = httpx2.ASGITransport(create_gateway(ScriptedApp(tools=scripted)))
    remote = RemoteTools("http://127.0.0.1:8377", None, OFFERED, transport)
    found = await remote.answer("memory_search", {"query": "cat", "whatever": 1}, Asker("main"))
    scripted.refusal = RequestError("path required: no", param="path")
    refused = await remote.answer("memory_get", {"path": "/etc"}, Asker("main"))
    unknown = await remote.answer("memory_fly", {}, Asker("main"))

    assert found == scripted.given
    assert scripted.calls[0][1] == {"query": "cat", "agent": "main"}
    assert (refused["error"], refused["disabled"]) == ("path required", True)
    assert "no memory tool" in unknown["error"]


async def test_a_server_that_is_gone_is_a_failure_object() -> None:
    """Each tool answers in its contract's shape."""
    remote = RemoteTools("http://127.0.0.1:1", None, OFFERED)
    searched = await remote.answer("memory_search", {"query": "x"}, Asker("main"))
    read = await remote.answer("memory_get", {"path": "MEMORY.md"}, Asker("main"))
    written = await remote.answer("memory_append", {"text": "x"}, Asker("main"))

    assert (searched["disabled"], searched["unavailable"], searched["results"]) == (True, True, [])
    assert (read["disabled"], read["text"]) == (True, "")
    assert (written["disabled"], written["appended"]) == (True, False)


def test_refusals_of_a_server() -> None:
    """A missing token says where to put it; the caller's mistakes stay theirs; the rest is the server's trouble."""
    token = as_error(401, {"message": "Unauthorized"})
    mistake = as_error(400, {"message": "bad", "param": "from", "code": None})
    trouble = as_error(507, {"message": "full"})

    assert "gateway.token_file" in str(token)
    assert isinstance(mistake, RequestError)
    assert mistake.param == "from"
    assert (type(trouble), str(trouble)) == (ReverieError, "full")
