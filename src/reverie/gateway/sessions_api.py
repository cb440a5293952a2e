"""`/v1/sessions`: which conversations there are, what was said in them, ending one, taking one along.

    GET   /v1/sessions                   those used last; `?limit=`, `?after=SESSION_ID`
    GET   /v1/sessions/{key}             one of them
    GET   /v1/sessions/{key}/messages    its newest entries, oldest first; `?limit=`, `?before=NUMBER`
    POST  /v1/sessions/{key}/reset       end it; a successor goes on under its key
    GET   /v1/sessions/{key}/export      the whole of it, `?format=jsonl` or `markdown`

`{key}` is a session key, percent-encoded; or the rest of one of the default agent, such as `main`; or a session's id.
"""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.responses import Response, StreamingResponse

from reverie.errors import RequestError
from reverie.gateway.body import read_body
from reverie.gateway.replies import render
from reverie.gateway.routing import KEY_CHARACTERS_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from reverie.gateway.ports import GatewayApp
    from reverie.sessions.tree import EntryPage
    from reverie.types import JsonObject

LISTED = 50
LISTED_MAX = 200
FORMATS = {"jsonl": "application/jsonl", "markdown": "text/markdown; charset=utf-8"}
NUMBER_MAX = 2**62
BODY_BYTES_MAX = 1024


class SessionsApi:
    """The endpoints."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app

    async def listed(self, request: Request) -> Response:
        """`GET /v1/sessions`.

        Raises:
            RequestError: a parameter makes no sense, or there is no session `after`.
        """
        limit = _number(request, "limit", LISTED, LISTED_MAX)
        page = await self._app.directory.page(limit, request.query_params.get("after"))
        return _json({"object": "list", "data": [asdict(each) for each in page.sessions], "has_more": page.more})

    async def one(self, request: Request) -> Response:
        """`GET /v1/sessions/{key}`.

        Raises:
            RequestError: there is no such session.
        """
        return _json({"object": "reverie.session", **asdict(await self._app.directory.find(_name(request)))})

    async def messages(self, request: Request) -> Response:
        """`GET /v1/sessions/{key}/messages`: at most 200 entries and about 1 MiB.

        Raises:
            RequestError: there is no such session, or a parameter makes no sense.
        """
        limit, before = _number(request, "limit", LISTED, LISTED_MAX), _number(request, "before", 0, NUMBER_MAX)
        session = await self._app.directory.find(_name(request))
        page = await self._app.directory.entries(session.id, before or None, limit)
        return Response(await to_thread.run_sync(_rendered, session.id, page), media_type="application/json")

    async def reset(self, request: Request) -> Response:
        """`POST /v1/sessions/{key}/reset`; the body is empty.

        Raises:
            RequestError: there is no such session, or the body is not empty.
        """
        read_s = self._app.config.gateway.body_read_s
        raw = await read_body(request.scope, request.receive, bytes_max=BODY_BYTES_MAX, read_s=read_s)
        if raw.strip() not in {b"", b"{}"}:
            raise RequestError("There are no fields here: send an empty body.")
        return _json({"object": "reverie.session.reset", **(await self._app.reset_session(_name(request))).as_json()})

    async def export(self, request: Request) -> StreamingResponse:
        """`GET /v1/sessions/{key}/export`, as it is read.

        Raises:
            RequestError: there is no such session or format.
        """
        form = request.query_params.get("format", "jsonl")
        if form != "jsonl" and form != "markdown":  # noqa: PLR1714 (narrows the type)
            raise RequestError("`format` is `jsonl` or `markdown`.", param="format")
        session = await self._app.directory.find(_name(request))
        pieces: AsyncIterator[bytes] = self._app.directory.pieces(session.id, form)
        return StreamingResponse(pieces, media_type=FORMATS[form])


def _name(request: Request) -> str:
    name: str = request.path_params["key"]
    if len(name) > KEY_CHARACTERS_MAX:
        raise RequestError(f"A session key has at most {KEY_CHARACTERS_MAX} characters.", param="key")
    return name


def _rendered(session_id: str, page: EntryPage) -> bytes:
    """A page of entries; it may be a megabyte, so this is work for a thread."""
    entries = [{"object": "reverie.entry", **asdict(entry)} for entry in page.entries]
    return render({"object": "list", "session_id": session_id, "data": entries, "has_more": page.more})


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise RequestError(f"`{name}` is a number from 1 to {most}.", param=name)
    return int(text)


def _json(value: JsonObject, status: int = HTTPStatus.OK) -> Response:
    return Response(render(value), status, media_type="application/json")
