"""Liveness and readiness.

`/healthz` and `/health` say that the process answers, and touch nothing. `/readyz` and `/ready` say whether it can
take work, and why not in machine-coded reasons; those are for callers on this machine or with the token. Advisory
conditions, such as a model's server that fails, are shown beside them and never make the server unready.

Nothing is looked up during a probe: the application keeps its reasons in memory, so an answer is always fresh and
costs nothing, and a busy disk cannot fail it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.responses import Response

from reverie.gateway.replies import render
from reverie.readiness import Condition

if TYPE_CHECKING:
    from starlette.requests import Request

    from reverie.gateway.auth import Guard
    from reverie.gateway.loop_lag import LoopLag, LoopLagStatistics
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
        conditions: list[Condition] = []
        try:
            failing = sorted(OPENCLAW_REASONS.get(reason, reason) for reason in self._app.readiness.reasons)
            conditions += self._app.readiness.conditions()
            uptime_ms = round((self._app.clock.monotonic_s() - self._started_s) * 1000)
        except Exception as error:  # noqa: BLE001 (border: a probe must be answered)
            log.error("readiness check failed", action="readiness_failed", error=type(error).__name__, cause=str(error))  # noqa: TRY400 (the cause is the message)
            failing, uptime_ms = ["internal"], 0
        detail: JsonObject = {"ready": not failing}
        if self._guard.may_see_details(request.scope):
            lag = self._lag.statistics()
            conditions.append(loop_condition(lag))
            detail |= {"failing": failing, "uptimeMs": uptime_ms, "conditions": [_as_json(each) for each in conditions]}
            if lag is not None:
                detail["eventLoop"] = lag.as_json()
        return Response(render(detail), 503 if failing else 200, _HEADERS, media_type="application/json")

    async def status(self, request: Request) -> Response:  # noqa: ARG002 (an endpoint's signature)
        """`GET /v1/status`: what runs and waits now, how the model's server does, how late the loop is."""
        lag = self._lag.statistics()
        readiness = self._app.readiness
        body: JsonObject = {
            "ready": not readiness.reasons,
            "uptimeMs": round((self._app.clock.monotonic_s() - self._started_s) * 1000),
            "conditions": [_as_json(each) for each in (*readiness.conditions(), loop_condition(lag))],
            **(await self._app.status()).as_json(),
            "eventLoop": lag.as_json() if lag is not None else None,
        }
        return Response(render(body), headers=_HEADERS, media_type="application/json")


def loop_condition(lag: LoopLagStatistics | None) -> Condition:
    """Whether the event loop is on time; advisory."""
    if lag is None:
        return Condition("EventLoopHealthy", "Unknown", "advisory", "not_measured", "nothing was measured yet")
    if not lag.reasons:
        return Condition("EventLoopHealthy", "True", "advisory", "on_time", "")
    message = f"at worst {lag.delay_max_ms:.0f} ms late within the last {lag.interval_ms / 1000:.0f} s"
    return Condition("EventLoopHealthy", "False", "advisory", lag.reasons[0], message)


def _as_json(condition: Condition) -> JsonObject:
    return {
        "type": condition.type,
        "status": condition.status,
        "requirement": condition.requirement,
        "reason": OPENCLAW_REASONS.get(condition.reason, condition.reason),
        "message": condition.message,
    }
