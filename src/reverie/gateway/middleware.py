"""What holds for every answer: security headers, the headers a handler wants echoed, counting, and the last resort.

An exception that no endpoint expected becomes an internal error. The log gets where it happened and of what kind,
not what it said: an exception's text may quote the conversation.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import structlog
from starlette.responses import Response

from reverie.gateway.endpoint import ECHO
from reverie.gateway.replies import INTERNAL_ERROR

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reverie.gateway.metrics import Metrics

log = structlog.get_logger(__name__)

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), microphone=(self), geolocation=()"),
)
CLIENT_GONE = 499
LABELS = (
    ("/v1/models/", "/v1/models/{id}"),
    ("/v1/queue/", "/v1/queue/{id}"),
    ("/v1/sessions/", "/v1/sessions/{key}"),
)
"""How paths with a part of the caller's own are counted."""
FRAMES_MAX = 20


class Edge:
    """ASGI middleware around the whole gateway. `endpoints` are the paths counted under their own name."""

    def __init__(self, app: ASGIApp, metrics: Metrics, endpoints: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and see to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        echoed: list[tuple[bytes, bytes]] = []
        scope[ECHO] = echoed

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS, *echoed]
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            _log_defect(scope, error)
            if status:  # a begun answer must not look complete: the server cuts the connection
                raise
            await Response(INTERNAL_ERROR, 500, media_type="application/json")(scope, receive, send_on)
        finally:
            self._metrics.count_request(self._label(scope["path"]), status or CLIENT_GONE)

    def _label(self, path: str) -> str:
        if path in self._endpoints:
            return path
        return next((label for start, label in LABELS if path.startswith(start)), "other")


def _log_defect(scope: Scope, error: Exception) -> None:
    kinds: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(kinds) < FRAMES_MAX:
        kinds.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    log.error(
        "request failed on a defect",
        action="request_defect",
        method=scope["method"],
        path=scope["path"],
        error=" <- ".join(kinds),
        at=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    )
