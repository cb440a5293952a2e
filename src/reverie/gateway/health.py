"""Liveness and readiness.

`/healthz` and `/health` say that the process answers, and touch nothing. `/readyz` and `/ready` say whether it can
take work, and why not in machine-coded reasons; those are for callers on this machine or with the token.

Nothing is looked up during a probe: the application keeps its reasons in memory, so an answer is always fresh and
costs nothing, and a busy disk cannot fail it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.responses import Response

from reverie.gateway.replies import render

if TYPE_CHECKING:
    from starlette.requests import Request

    from reverie.gateway.auth import Guard
    from reverie.gateway.loop_lag import LoopLag
    from reverie.gateway.ports import GatewayApp
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

OPENCLAW_REASONS = {"starting": "startup-sidecars", "draining": "gateway-draining"}
"""Reasons that OpenClaw's probes know under names of their own."""

_LIVE = b'{"ok":true,"status":"live"}'
_HEADERS = {"Cache-Control": "no-store"}


class Health:
    """The four probes."""

    def __init__(self, app: GatewayApp, guard: Guard, lag: LoopLag) -> None:
        self._app = app
        self._guard = guard
        self._lag = lag
        self._started_s = app.clock.monotonic_s()

    async def live(self, request: Request) -> Response:  # noqa: ARG002 (an endpoint's signature)
        """The process answers."""
        return Response(_LIVE, headers=_HEADERS, media_type="application/json")

    async def ready(self, request: Request) -> Response:
        """200 when the application can take work, else 503."""
        try:
            failing = sorted(OPENCLAW_REASONS.get(reason, reason) for reason in self._app.readiness.reasons)
            uptime_ms = round((self._app.clock.monotonic_s() - self._started_s) * 1000)
        except Exception as error:  # noqa: BLE001 (border: a probe must be answered)
            log.error("readiness check failed", action="readiness_failed", error=type(error).__name__, cause=str(error))  # noqa: TRY400 (the cause is the message)
            failing, uptime_ms = ["internal"], 0
        detail: JsonObject = {"ready": not failing}
        if self._guard.may_see_details(request.scope):
            detail |= {"failing": failing, "uptimeMs": uptime_ms}
            if (lag := self._lag.statistics()) is not None:
                detail["eventLoop"] = lag.as_json()
        return Response(render(detail), 503 if failing else 200, _HEADERS, media_type="application/json")
