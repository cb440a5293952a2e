"""`/v1/memory/…`: the memory tools over HTTP, for programs that are no chat client.

    POST       /v1/memory/search   what memory_search answers; its failure object too, with status 200
    GET, POST  /v1/memory/get      what memory_get answers
    POST       /v1/memory/append   what memory_append answers
    GET        /v1/memory/status   the state of the index
    POST       /v1/memory/sync     compare the index with the files now
    POST       /v1/memory/rebuild  build the index anew beside the live one, in the background
    POST       /v1/memory/dream    run a sweep of dreaming now, in the background
    GET        /v1/memory/dreams   the sweeps of late
    POST       /v1/memory/forget   what is to be forgotten; with `apply` it is

The agent is `agent` in the body or the query, else the one of the headers, else the default. What a caller did wrong is
an OpenAI error object that names the field.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.responses import Response

from reverie.clock import parse_instant
from reverie.dreaming.forgetting import Options, Selection
from reverie.errors import MemoryPathError, RequestError
from reverie.gateway.body import decode_object, read_body
from reverie.gateway.replies import listing, render
from reverie.gateway.routing import KEY_CHARACTERS_MAX, known_agent, named_agent, routing_headers
from reverie.memory.tool_contracts import Asker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from starlette.requests import Request

    from reverie.gateway.ports import GatewayApp
    from reverie.types import JsonObject

    Tool = Callable[[JsonObject, Asker], Awaitable[JsonObject]]

BODY_BYTES_MAX = 2 * 1024 * 1024
SEARCH_FIELDS = frozenset({"query", "agent", "maxResults", "minScore", "corpus", "sessionKey"})
GET_FIELDS = frozenset({"path", "agent", "from", "lines"})
APPEND_FIELDS = frozenset({"text", "path", "agent"})
SYNC_FIELDS = frozenset({"agent"})
FORGET_FIELDS = frozenset(
    {"agent", "session", "source", "participant", "since", "until", "apply", "deleteFile", "archives"}
)
FORGET_CHARACTERS_MAX = 1_000
DREAM_FIELDS = frozenset({"now"})
DREAMS_FIELDS = frozenset({"limit"})
DREAMS_SHOWN, DREAMS_SHOWN_MAX = 20, 100


class MemoryApi:
    """The endpoints."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app

    async def search(self, request: Request) -> Response:
        """`POST /v1/memory/search`.

        Raises:
            RequestError: it is not well formed.
        """
        return await self._run(await self._body(request, SEARCH_FIELDS), request, self._app.tools.search)

    async def get(self, request: Request) -> Response:
        """`GET` or `POST /v1/memory/get`.

        Raises:
            RequestError: it is not well formed, or the path is none of this memory.
            StorageError: a transcript could not be read.
        """
        if request.method == "POST":
            asked = await self._body(request, GET_FIELDS)
        else:
            asked = _known_fields(dict(request.query_params), GET_FIELDS)
        return await self._run(asked, request, self._app.tools.get)

    async def append(self, request: Request) -> Response:
        """`POST /v1/memory/append`.

        Raises:
            RequestError: it is not well formed, or a note may not go there.
            StorageError, HomeError: it could not be written.
        """
        return await self._run(await self._body(request, APPEND_FIELDS), request, self._app.tools.append)

    async def status(self, request: Request) -> Response:
        """`GET /v1/memory/status`.

        Raises:
            RequestError: there is no such agent.
        """
        asked = _known_fields(dict(request.query_params), SYNC_FIELDS)
        return _json(self._app.tools.status(self._asker(asked, request).agent))

    async def sync(self, request: Request) -> Response:
        """`POST /v1/memory/sync`; an empty body is that of the default agent.

        Raises:
            RequestError: it is not well formed.
            StorageError: the index could not be written.
        """
        asked = await self._body(request, SYNC_FIELDS, may_be_empty=True)
        return _json(await self._app.tools.sync(self._asker(asked, request).agent))

    async def rebuild(self, request: Request) -> Response:
        """`POST /v1/memory/rebuild`: 202 at once; the status tells how far it is. The body is empty.

        Raises:
            RequestError: it is not well formed.
        """
        await self._body(request, (), may_be_empty=True)
        started = self._app.ask_for_rebuild()
        return _json({"rebuilding": True, "started": started}, HTTPStatus.ACCEPTED)

    async def dream(self, request: Request) -> Response:
        """`POST /v1/memory/dream`: 202 at once, with the run that was begun, or the one under way.

        Raises:
            RequestError: it is not well formed, or no agent has a workspace.
            StorageError, HomeError: it could not be put on record.
        """
        asked = await self._body(request, DREAM_FIELDS, may_be_empty=True)
        begun = await self._app.dreaming.ask(_instant(asked, "now"))
        return _json({"started": begun.fresh, "run": begun.run.as_json()}, HTTPStatus.ACCEPTED)

    async def dreams(self, request: Request) -> Response:
        """`GET /v1/memory/dreams`.

        Raises:
            RequestError: the limit is none.
            StorageError: they cannot be read.
        """
        limit = _limit(_known_fields(dict(request.query_params), DREAMS_FIELDS))
        runs = await self._app.dreaming.newest_runs(limit)
        return _json(listing([run.as_json() for run in runs]))

    async def forget(self, request: Request) -> Response:
        """`POST /v1/memory/forget`: what would be forgotten, or with `apply` what was.

        Raises:
            RequestError: it is not well formed, a session of it is busy, or the index is being rebuilt.
            StorageError, HomeError: something could not be written; the same request goes on.
        """
        asked = await self._body(request, FORGET_FIELDS)
        agent = self._asker(asked, request).agent
        selection = Selection(
            _text(asked, "session"),
            _text(asked, "source"),
            _text(asked, "participant"),
            _instant(asked, "since"),
            _instant(asked, "until"),
        )
        options = Options(_switch(asked, "deleteFile"), _switch(asked, "archives"))
        done = await self._app.forget(agent, selection, options, apply=_switch(asked, "apply"))
        return Response(await to_thread.run_sync(render, done.as_json()), media_type="application/json")

    async def _run(self, asked: JsonObject, request: Request, tool: Tool) -> Response:
        try:
            return _json(await tool(asked, self._asker(asked, request)))
        except MemoryPathError as error:
            raise RequestError(str(error), param="path") from None

    async def _body(self, request: Request, fields: Collection[str], *, may_be_empty: bool = False) -> JsonObject:
        read_s = self._app.config.gateway.body_read_s
        raw = await read_body(request.scope, request.receive, bytes_max=BODY_BYTES_MAX, read_s=read_s)
        return {} if may_be_empty and not raw.strip() else _known_fields(decode_object(raw), fields)

    def _asker(self, asked: JsonObject, request: Request) -> Asker:
        """For whom: the agent, and the session whose kind decides about citations.

        Raises:
            RequestError: there is no such agent, or a field is no text.
        """
        headers = routing_headers(request.scope["headers"])
        agents = self._app.agents()
        agent = asked.get("agent")
        if agent is not None and not isinstance(agent, str):
            raise RequestError("`agent` must be a string.", param="agent")
        key = asked.get("sessionKey")
        if key is not None and (not isinstance(key, str) or len(key) > KEY_CHARACTERS_MAX):
            message = f"`sessionKey` must be a string of at most {KEY_CHARACTERS_MAX} characters."
            raise RequestError(message, param="sessionKey")
        chosen = known_agent(agent, agents, "agent") if agent else agent_of(headers, agents)
        return Asker(chosen, "api", session_key=key)


def agent_of(headers: Mapping[str, str], agents: tuple[str, ...]) -> str:
    """The agent that the headers name, else the default one.

    Raises:
        UnknownModelError: there is no such agent.
    """
    return named_agent(headers, agents) or agents[0]


def _known_fields(asked: JsonObject, fields: Collection[str]) -> JsonObject:
    """What was asked, every field of it known: a misspelt one must not be silently ignored."""
    for name in asked:
        if name not in fields:
            shown = ", ".join(f"`{field}`" for field in sorted(fields)) or "none"
            raise RequestError(f"There is no field `{name[:100]}` here. Fields: {shown}.", param=name[:100])
    return asked


def _instant(asked: JsonObject, name: str) -> int | None:
    """An instant that is named; None when it is not given."""
    given = asked.get(name)
    if given is None:
        return None
    message = f"`{name}` must be an instant as ISO 8601, such as 2026-04-03T03:00:00Z."
    if not isinstance(given, str):
        raise RequestError(message, param=name)
    try:
        return parse_instant(given)
    except ValueError:
        raise RequestError(message, param=name) from None


def _text(asked: JsonObject, name: str) -> str:
    given = asked.get(name, "")
    if not isinstance(given, str) or len(given) > FORGET_CHARACTERS_MAX:
        raise RequestError(f"`{name}` must be a string of at most {FORGET_CHARACTERS_MAX} characters.", param=name)
    return given.strip()


def _switch(asked: JsonObject, name: str) -> bool:
    given = asked.get(name, False)
    if not isinstance(given, bool):
        raise RequestError(f"`{name}` must be true or false.", param=name)
    return given


def _limit(asked: JsonObject) -> int:
    given = asked.get("limit", str(DREAMS_SHOWN))
    if given.isascii() and given.isdigit() and len(given) <= len(str(DREAMS_SHOWN_MAX)):
        limit = int(given)
        if 1 <= limit <= DREAMS_SHOWN_MAX:
            return limit
    raise RequestError(f"`limit` must be a number from 1 to {DREAMS_SHOWN_MAX}.", param="limit")


def _json(value: JsonObject, status: int = HTTPStatus.OK) -> Response:
    return Response(render(value), status, media_type="application/json")
