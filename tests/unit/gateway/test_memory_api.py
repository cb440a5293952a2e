"""`/v1/memory/…` and the door of `/mcp`: what is asked, who may ask, and the bytes of the answers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from starlette.responses import PlainTextResponse

from reverie.dreaming.forgetting import Options, Selection
from reverie.dreaming.runs import Begun
from reverie.errors import DreamingBlockedError, HomeReadOnlyError, MemoryPathError, RequestError, StorageFullError
from reverie.gateway.server import create_gateway
from reverie.memory.tool_contracts import Asker
from tests.unit.gateway.scripted_app import RUN, ScriptedApp, ScriptedDreaming, ScriptedTools, client_of, config

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from reverie.gateway.ports import MemoryToolset

pytestmark = pytest.mark.anyio

HOST = "127.0.0.1:8377"
NOTHING: dict[str, Any] = {}


async def send(app: ScriptedApp, method: str, url: str, **options: Any) -> Any:
    """One request to a gateway, under an own name of this machine."""
    token = options.pop("token", None)
    async with client_of(app, token=token, host=options.pop("host", HOST)) as client:
        return await client.request(method, url, **options)


def error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An OpenAI error object of a request's form."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


async def test_an_answer_of_a_tool_is_the_body() -> None:
    """Byte for byte, and the tool is asked what the caller asked."""
    app = ScriptedApp()
    asked = {"query": "keys", "maxResults": 3, "minScore": "0.2", "corpus": "all", "sessionKey": "agent:main:x"}
    response = await send(app, "POST", "/v1/memory/search", json=asked)

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.content == '{"results":[{"path":"memory/grüße.md","score":0.5}]}'.encode()
    assert app.tools.calls == [("search", asked, Asker("main", "api", session_key="agent:main:x"))]


@pytest.mark.parametrize(
    ("method", "url", "body", "call"),
    [
        ("GET", "/v1/memory/get?path=MEMORY.md&from=2", None, ("get", {"path": "MEMORY.md", "from": "2"}, "api")),
        (
            "POST",
            "/v1/memory/get",
            {"path": "MEMORY.md", "lines": 2},
            ("get", {"path": "MEMORY.md", "lines": 2}, "api"),
        ),
        ("POST", "/v1/memory/append", {"text": "x"}, ("append", {"text": "x"}, "api")),
        ("GET", "/v1/memory/status", None, ("status", NOTHING, None)),
        ("POST", "/v1/memory/sync", None, ("sync", NOTHING, None)),
        ("POST", "/v1/memory/sync", NOTHING, ("sync", NOTHING, None)),
    ],
)
async def test_every_path_asks_its_tool(method: str, url: str, body: Any, call: tuple[str, Any, str | None]) -> None:
    """What stands in the body or in the query goes to the tool, for the default agent."""
    app = ScriptedApp()
    response = await send(app, method, url, json=body) if body is not None else await send(app, method, url)
    name, arguments, kind = call

    assert response.status_code == 200
    assert app.tools.calls == [(name, arguments, Asker("main", "api") if kind else "main")]


async def test_a_rebuild_is_asked_for() -> None:
    """It is accepted at once, and a second one joins the first."""
    app = ScriptedApp()
    first = await send(app, "POST", "/v1/memory/rebuild")
    second = await send(app, "POST", "/v1/memory/rebuild", json=NOTHING)
    wrong = await send(app, "POST", "/v1/memory/rebuild", json={"force": True})

    assert (first.status_code, first.content) == (202, b'{"rebuilding":true,"started":true}')
    assert (second.status_code, second.content) == (202, b'{"rebuilding":true,"started":false}')
    assert wrong.json() == error("There is no field `force` here. Fields: none.", "force")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"query": "x", "agent": "cook"}, {}),
        ({"query": "x"}, {"x-reverie-agent": "cook"}),
        ({"query": "x", "agent": "cook"}, {"x-openclaw-agent-id": "main"}),
    ],
)
async def test_whose_memory(body: Any, headers: dict[str, str]) -> None:
    """The agent of the body wins over that of the headers."""
    app = ScriptedApp(config=config(agents={"cook": {}}))
    await send(app, "POST", "/v1/memory/search", json=body, headers=headers)

    assert app.tools.calls[0][2] == Asker("cook", "api")


@pytest.mark.parametrize(
    ("method", "url", "body", "status", "expected"),
    [
        ("POST", "/v1/memory/search", {"query": "x", "agent": "nobody"}, 404,
         error("The agent 'nobody' does not exist. Agents: main.", "agent", "model_not_found")),
        ("POST", "/v1/memory/search", {"query": "x", "agent": 1}, 400, error("`agent` must be a string.", "agent")),
        ("POST", "/v1/memory/search", {"query": "x", "sessionKey": 1}, 400,
         error("`sessionKey` must be a string of at most 512 characters.", "sessionKey")),
        ("POST", "/v1/memory/append", {"text": "x", "date": "1"}, 400,
         error("There is no field `date` here. Fields: `agent`, `path`, `text`.", "date")),
        ("GET", "/v1/memory/status?home=x", None, 400,
         error("There is no field `home` here. Fields: `agent`.", "home")),
        ("POST", "/v1/memory/search", None, 400, error("The request body is empty; send a JSON object.")),
    ],
)  # fmt: skip
async def test_a_wrong_request_is_refused(method: str, url: str, body: Any, status: int, expected: Any) -> None:
    """In OpenAI's form, with the field that is wrong; no tool is asked."""
    app = ScriptedApp()
    response = await send(app, method, url, json=body) if body is not None else await send(app, method, url)

    assert (response.status_code, response.json()) == (status, expected)
    assert app.tools.calls == []


@pytest.mark.parametrize(
    ("refusal", "status", "expected"),
    [
        (RequestError("maxResults must be a positive whole number", param="maxResults"), 400,
         error("maxResults must be a positive whole number", "maxResults")),
        (MemoryPathError("path required: no"), 400, error("path required: no", "path")),
        (RequestError("off", code="append_disabled", status=403), 403, error("off", None, "append_disabled")),
        (StorageFullError("/secret is full"), 507, {"error": {
            "message": "The server's disk is full: the turn could not be recorded.", "type": "api_error",
            "param": None, "code": "storage_full"}}),
        (HomeReadOnlyError("/secret"), 500, {"error": {
            "message": "The server's storage failed; its log says why.", "type": "api_error", "param": None,
            "code": "storage_failed"}}),
    ],
)  # fmt: skip
async def test_what_a_tool_refuses(refusal: Exception, status: int, expected: Any) -> None:
    """What the caller did wrong is said in its words; the server's own troubles are for its log."""
    app = ScriptedApp(tools=ScriptedTools(refusal=refusal))
    response = await send(app, "POST", "/v1/memory/append", json={"text": "x"})

    assert (response.status_code, response.json()) == (status, expected)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "/v1/memory/search"), ("GET", "/v1/memory/get"), ("POST", "/v1/memory/append"),
        ("GET", "/v1/memory/status"), ("POST", "/v1/memory/sync"), ("POST", "/mcp"),
    ],
)  # fmt: skip
async def test_every_path_is_guarded(method: str, url: str) -> None:
    """The token, and without one the page and the host that the request names."""
    locked = ScriptedApp(config=config(gateway={"auth": "token"}))
    refused = await send(locked, method, url, token="s3cret", host="example.org")
    page = await send(ScriptedApp(), method, url, headers={"Origin": "https://evil.example"})
    rebound = await send(ScriptedApp(), method, url, host="evil.example:8377")
    wrong_method = await send(ScriptedApp(), "DELETE", url)

    assert refused.status_code == 401
    assert (page.status_code, page.json()["error"]["code"]) == (403, "foreign_origin")
    assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "foreign_host")
    assert wrong_method.status_code == 405


@pytest.mark.parametrize("host", ["localhost:8377", "127.0.0.1", "[::1]:8377", "box.localhost", "LOCALHOST"])
async def test_names_of_this_machine(host: str) -> None:
    """Are all its own, with and without a port."""
    async with client_of(ScriptedApp(), host=HOST) as client:
        response = await client.get("/v1/memory/status", headers={"Host": host})
    assert response.status_code == 200


async def test_with_a_token_any_name_will_do() -> None:
    """A page cannot know the token, so a proxy may name the server as it likes."""
    app = ScriptedApp(config=config(gateway={"auth": "token"}))
    headers = {"Authorization": "Bearer s3cret"}
    response = await send(app, "GET", "/v1/memory/status", token="s3cret", host="memory.example.org", headers=headers)
    assert response.status_code == 200


async def test_the_body_is_bounded() -> None:
    """At 2 MiB."""
    response = await send(ScriptedApp(), "POST", "/v1/memory/search", content=b" " * (2 * 1024 * 1024 + 1))
    assert response.status_code == 413


async def test_mcp_is_opened_with_the_first_request() -> None:
    """Once, however many ask; it is told for whom it is, and ends with the gateway."""
    opened: list[str] = []

    @asynccontextmanager
    async def opens(tools: MemoryToolset, asker_of: Callable[[Request], Asker]) -> AsyncGenerator[ASGIApp]:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            from starlette.requests import Request

            asker = asker_of(Request(scope))
            answered = f"{asker.agent} {asker.kind} {asker.session_key}"
            await PlainTextResponse(answered)(scope, receive, send)

        assert tools is app.tools
        opened.append("opened")
        yield answer
        opened.append("closed")

    app = ScriptedApp(config=config(agents={"cook": {}}))
    gateway = create_gateway(app, opens_mcp=opens)
    async with gateway.router.lifespan_context(gateway):
        assert opened == []
        transport = httpx2.ASGITransport(gateway)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            first = await client.post("/mcp")
            second = await client.post("/mcp", headers={"x-reverie-agent": "cook"})
            nobody = await client.post("/mcp", headers={"x-reverie-agent": "nobody"})
            named = await client.post("/mcp", headers={"x-reverie-session-key": "agent%3Amain%3Amain"})
            too_long = await client.post("/mcp", headers={"x-reverie-session-key": "k" * 5000})
        assert opened == ["opened"]

    assert (first.text, second.text, nobody.status_code) == ("main tool None", "cook tool None", 404)
    assert (named.text, too_long.text) == ("main tool agent:main:main", "main tool None")


async def test_a_gateway_without_mcp_says_so() -> None:
    """A library's gateway need not have it."""
    response = await send(ScriptedApp(), "POST", "/mcp")
    assert (response.status_code, response.json()) == (
        404, error("This server was started without MCP.", None, "mcp_disabled")
    )  # fmt: skip


# -- dreaming --------------------------------------------------------------------------------------------------------

RUN_JSON = (
    b'{"id":"dream:x:2026-01-01T00:00:00.000Z","cause":"manual","state":"running","dueAt":"2026-01-01T00:00:00.000Z",'
    b'"startedAt":"2026-01-01T00:00:00.000Z","endedAt":null,"interruptions":0,"report":{},"error":null}'
)


async def test_a_sweep_is_asked_for() -> None:
    """It is accepted at once, as if at an instant; while one runs, that is it."""
    app = ScriptedApp()
    first = await send(app, "POST", "/v1/memory/dream")
    app.dreaming.begun = Begun(RUN, fresh=False)
    second = await send(app, "POST", "/v1/memory/dream", json={"now": "2026-04-03T05:00:00+02:00"})

    assert (first.status_code, first.content) == (202, b'{"started":true,"run":' + RUN_JSON + b"}")
    assert (second.status_code, second.content) == (202, b'{"started":false,"run":' + RUN_JSON + b"}")
    assert app.dreaming.asked == [None, 1_775_185_200_000]


@pytest.mark.parametrize("now", ["soon", 5, "", "1969-12-31T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_a_sweep_at_no_instant_is_refused(now: Any) -> None:
    """By the name of the field."""
    app = ScriptedApp()
    response = await send(app, "POST", "/v1/memory/dream", json={"now": now})
    assert (response.status_code, app.dreaming.asked) == (400, [])
    assert response.json() == error("`now` must be an instant as ISO 8601, such as 2026-04-03T03:00:00Z.", "now")


async def test_a_sweep_that_cannot_begin() -> None:
    """Why is told, with a code."""
    app = ScriptedApp(dreaming=ScriptedDreaming(refusal=DreamingBlockedError("Nothing can be dreamt: why.")))
    response = await send(app, "POST", "/v1/memory/dream")
    assert (response.status_code, response.json()["error"]) == (
        409,
        {
            "message": "Nothing can be dreamt: why.",
            "type": "conflict_error",
            "param": None,
            "code": "dreaming_blocked",
        },
    )


async def test_the_sweeps_of_late() -> None:
    """As a list, of a length that is asked for."""
    app = ScriptedApp()
    one = await send(app, "GET", "/v1/memory/dreams?limit=1")
    many = await send(app, "GET", "/v1/memory/dreams")
    wrong = [await send(app, "GET", f"/v1/memory/dreams?limit={limit}") for limit in ("0", "101", "x", "-1")]

    assert one.content == b'{"object":"list","data":[' + RUN_JSON + b"]}"
    assert many.content == b'{"object":"list","data":[' + RUN_JSON + b"," + RUN_JSON + b"]}"
    assert [(each.status_code, each.json()["error"]["param"]) for each in wrong] == [(400, "limit")] * 4


async def test_what_is_to_be_forgotten() -> None:
    """A look by default, and done only when that is said; times are instants, and the answer says how much of what."""
    app = ScriptedApp()
    asked = {"session": "agent:main:x", "since": "2026-04-01T00:00:00Z"}
    look = await send(app, "POST", "/v1/memory/forget", json=asked)
    done = await send(app, "POST", "/v1/memory/forget", json={"participant": "Jonas", "apply": True, "archives": True})

    assert (look.status_code, done.status_code) == (200, 200)
    assert look.content == (
        b'{"applied":false,"agent":"main","selection":{"session":"agent:main:x","since_ms":1775001600000},'
        b'"counts":{"messages":2},"changes":[],"archives":[],"remarks":[]}'
    )
    assert app.forgotten == [
        ("main", Selection("agent:main:x", since_ms=1_775_001_600_000), Options(), False),
        ("main", Selection(participant="Jonas"), Options(delete_archives=True), True),
    ]


@pytest.mark.parametrize(
    ("body", "param"), [({"since": "soon"}, "since"), ({"apply": "yes"}, "apply"), ({"everything": True}, "everything")]
)
async def test_what_cannot_be_meant_is_not_forgotten(body: dict[str, Any], param: str) -> None:
    """An error that names the field; nothing was touched."""
    app = ScriptedApp()
    response = await send(app, "POST", "/v1/memory/forget", json={"session": "x", **body})

    assert (response.status_code, response.json()["error"]["param"], app.forgotten) == (400, param, [])
