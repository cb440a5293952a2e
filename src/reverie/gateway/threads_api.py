"""`/v1/threads`: which sessions go on in native threads, why their turns ran where they ran, asking for another one.

    GET   /v1/threads                     those used last; `?limit=`, `?after=SESSION_ID`
    GET   /v1/threads/{session}           one session's: what its thread knows, and its last decisions; `?limit=`
    POST  /v1/threads/{session}/rotate    the next turn begins another thread

`{session}` is a session key, percent-encoded; or the rest of one of the default agent, such as `main`; or a session's
id.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from starlette.responses import Response

from reverie.errors import RequestError
from reverie.gateway.body import read_body
from reverie.gateway.replies import render
from reverie.gateway.routing import KEY_CHARACTERS_MAX

if TYPE_CHECKING:
    from starlette.requests import Request

    from reverie.gateway.ports import GatewayApp
    from reverie.types import JsonObject

LISTED, EXPLAINED, LISTED_MAX = 50, 10, 200
BODY_BYTES_MAX = 1024


class ThreadsApi:
    """The endpoints."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app

    async def listed(self, request: Request) -> Response:
        """`GET /v1/threads`.

        Raises:
            RequestError: a parameter makes no sense, or there is no session `after`.
        """
        page = await self._app.threads.page(_limit(request, LISTED), request.query_params.get("after"))
        return _json({"object": "list", "data": [asdict(each) for each in page.threads], "has_more": page.more})

    async def one(self, request: Request) -> Response:
        """`GET /v1/threads/{session}`.

        Raises:
            RequestError: there is no such session, or a parameter makes no sense.
        """
        explained = await self._app.threads.explain(_name(request), _limit(request, EXPLAINED))
        return _json({"object": "reverie.thread", **asdict(explained)})

    async def rotate(self, request: Request) -> Response:
        """`POST /v1/threads/{session}/rotate`; the body is empty.

        Raises:
            RequestError: there is no such session, it has no thread, or the body is not empty.
        """
        read_s = self._app.config.gateway.body_read_s
        raw = await read_body(request.scope, request.receive, bytes_max=BODY_BYTES_MAX, read_s=read_s)
        if raw.strip() not in {b"", b"{}"}:
            raise RequestError("There are no fields here: send an empty body.")
        return _json({"object": "reverie.thread.rotate", **asdict(await self._app.threads.rotate(_name(request)))})


def _name(request: Request) -> str:
    name: str = request.path_params["session"]
    if not 0 < len(name) <= KEY_CHARACTERS_MAX:
        raise RequestError(f"A session key has 1 to {KEY_CHARACTERS_MAX} characters.", param="session")
    return name


def _limit(request: Request, default: int) -> int:
    text = request.query_params.get("limit")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LISTED_MAX)) and 1 <= int(text) <= LISTED_MAX):
        raise RequestError(f"`limit` is a number from 1 to {LISTED_MAX}.", param="limit")
    return int(text)


def _json(value: JsonObject) -> Response:
    return Response(render(value), media_type="application/json")
