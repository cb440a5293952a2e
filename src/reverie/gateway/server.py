"""What answers where.

Every `/v1` path and `/metrics` is guarded; the probes are not. A path that is not listed is a 404 in OpenAI's form.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from reverie.gateway.auth import Guard, check_exposure
from reverie.gateway.chat_completions import ChatCompletions
from reverie.gateway.embeddings import Embeddings
from reverie.gateway.endpoint import Endpoint
from reverie.gateway.health import Health
from reverie.gateway.loop_lag import LoopLag
from reverie.gateway.metrics import Metrics
from reverie.gateway.middleware import Edge
from reverie.gateway.models import Models
from reverie.gateway.replies import error_body

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from reverie.gateway.ports import GatewayApp

URL_CHARACTERS_SHOWN = 200


def create_gateway(app: GatewayApp, *, token: str | None = None) -> Starlette:
    """The HTTP interface of an application, as an ASGI application.

    `token` is the bearer token of mode `token`; in mode `none` it is not used. Its lifespan measures the event loop
    and neither opens nor closes `app`.

    Raises:
        ConfigError: strangers could use it; see `check_exposure`.
    """
    config = app.config.gateway
    check_exposure(config, token)
    guard = Guard(token if config.auth == "token" else None, app.clock)
    metrics = Metrics(app.clock, app.gauges)
    lag = LoopLag(app.clock, metrics)
    routes = _routes(app, guard, metrics, lag)
    known = frozenset(route.path for route in routes if "{" not in route.path)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lag.run)
            yield
            tasks.cancel_scope.cancel()

    middleware = [Middleware(Edge, metrics=metrics, endpoints=known)]
    gateway = Starlette(routes=routes, middleware=middleware, lifespan=lifespan)
    gateway.router.redirect_slashes = False
    return gateway


def _routes(app: GatewayApp, guard: Guard, metrics: Metrics, lag: LoopLag) -> list[Route]:
    chat, models, health = ChatCompletions(app, metrics), Models(app), Health(app, guard, lag)
    live, ready = Endpoint(health.live, "GET", "HEAD"), Endpoint(health.ready, "GET", "HEAD")
    return [
        Route("/v1/chat/completions", Endpoint(chat.create, "POST", guard=guard)),
        Route("/healthz", live),
        Route("/health", live),
        Route("/readyz", ready),
        Route("/ready", ready),
        Route("/v1/models", Endpoint(models.list_all, "GET", guard=guard)),
        Route("/v1/models/{model_id:path}", Endpoint(models.retrieve, "GET", guard=guard)),
        Route("/v1/embeddings", Endpoint(Embeddings(app).create, "POST", guard=guard)),
        Route("/metrics", Endpoint(metrics.scrape, "GET", "HEAD", guard=guard)),
        Route("/{path:path}", _not_found_endpoint),
    ]


class _NotFound:
    """Every other path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        url = f"{scope['method']} {scope['path']}"[:URL_CHARACTERS_SHOWN]
        body = error_body(f"Invalid URL ({url})", "invalid_request_error", code="unknown_url")
        await Response(body, 404, media_type="application/json")(scope, receive, send)


_not_found_endpoint = _NotFound()
