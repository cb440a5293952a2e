"""One path of the HTTP interface: its method, then who may call it, then its handler, and how its errors go out.

A handler returns an answer or raises; this is the border where every `ReverieError` becomes an OpenAI error object.
What is no `ReverieError` passes on to `middleware.Edge`, which turns it into an internal error and logs it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from reverie.errors import RequestError, ReverieError
from reverie.gateway.body import BodyTimeoutError, BodyTooLargeError, ClientGoneError
from reverie.gateway.images import ImageContentError
from reverie.gateway.replies import error_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from reverie.gateway.auth import Guard, OwnHostGuard

log = structlog.get_logger(__name__)

Handler = Callable[[Request], Awaitable["ASGIApp"]]

ECHO = "reverie.echo"
"""Key in the ASGI scope of the headers that every answer to this request carries, errors included."""

LINGER_BYTES_MAX = 128 * 1024 * 1024
LINGER_S_MAX = 10.0


def echo(scope: Scope, name: str, value: str) -> None:
    """From now on, whatever is answered to this request carries this header, in place of one of the same name."""
    headers: list[tuple[bytes, bytes]] = scope.setdefault(ECHO, [])
    encoded = name.encode("latin-1")
    headers[:] = [held for held in headers if held[0] != encoded]
    headers.append((encoded, value.encode("latin-1")))


class Endpoint:
    """An ASGI application for one path."""

    def __init__(self, handler: Handler, *methods: str, guard: Guard | OwnHostGuard | None = None) -> None:
        self._handler = handler
        self._methods = methods
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a caller who has gone is not answered."""
        try:
            answer = await self._answer(scope, receive)
        except ClientGoneError:
            return
        if scope["method"] == "HEAD" and isinstance(answer, Response):
            answer.body = b""
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> ASGIApp:
        if scope["method"] not in self._methods:
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": ", ".join(self._methods)})
        refusal = self._guard.refusal(scope) if self._guard is not None else None
        if refusal is not None:
            return refusal
        try:
            return await self._handler(Request(scope, receive))
        except ClientGoneError:
            raise
        except ReverieError as error:
            return _refused(scope, error)


def _refused(scope: Scope, error: ReverieError) -> ASGIApp:
    answer = error_answer(error)
    if isinstance(error, ImageContentError):
        log.info("images refused", action="images_refused", reason=error.reason)
    elif not isinstance(error, RequestError):
        log.warning("request failed", action="request_failed", path=scope["path"], status=answer.status,
                    error=type(error).__name__, cause=str(error))  # fmt: skip
    headers = dict(answer.headers)
    if isinstance(error, BodyTooLargeError | BodyTimeoutError):
        headers["Connection"] = "close"
    response = Response(answer.body, answer.status, headers, media_type="application/json")
    return _Lingering(response) if isinstance(error, BodyTooLargeError) else response


class _Lingering:
    """An answer given before the request was read: the rest is then read and thrown away, within bounds.

    Closing at once would make the system reset the connection, and a caller that still sends would see that instead
    of the answer.
    """

    def __init__(self, response: Response) -> None:
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        response = self._response
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        left_bytes = LINGER_BYTES_MAX
        with anyio.move_on_after(LINGER_S_MAX):
            while left_bytes > 0:
                message = await receive()
                left_bytes -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
        await send({"type": "http.response.body", "body": b"", "more_body": False})
