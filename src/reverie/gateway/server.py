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

from reverie.gateway.auth import Guard, OwnHostGuard, check_exposure
from reverie.gateway.chat_completions import ChatCompletions
from reverie.gateway.compaction_api import CompactionApi
from reverie.gateway.embeddings import Embeddings
from reverie.gateway.endpoint import Endpoint
from reverie.gateway.health import Health
from reverie.gateway.learning_api import LearningApi
from reverie.gateway.loop_lag import LoopLag
from reverie.gateway.mcp_mount import McpMount
from reverie.gateway.memory_api import MemoryApi
from reverie.gateway.metrics import Metrics
from reverie.gateway.middleware import Edge
from reverie.gateway.models import Models
from reverie.gateway.queue_api import QueueApi
from reverie.gateway.replies import error_body
from reverie.gateway.session_events import SessionEvents
from reverie.gateway.sessions_api import SessionsApi
from reverie.gateway.threads_api import ThreadsApi

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from reverie.gateway.loop_lag import Heartbeat
    from reverie.gateway.mcp_mount import OpenMcp
    from reverie.gateway.ports import GatewayApp

URL_CHARACTERS_SHOWN = 200


def create_gateway(
    app: GatewayApp,
    *,
    token: str | None = None,
    opens_mcp: OpenMcp | None = None,
    heartbeat: Heartbeat | None = None,
) -> Starlette:
    """The HTTP interface of an application, as an ASGI application.

    `token` is the bearer token of mode `token`; in mode `none` it is not used. `opens_mcp` makes what answers at
    `/mcp`, with the first request for it. Its lifespan measures the event loop, which keeps `heartbeat` going, and
    neither opens nor closes `app`.

    Raises:
        ConfigError: strangers could use it; see `check_exposure`.
    """
    config = app.config.gateway
    check_exposure(config, token)
    guard = Guard(token if config.auth == "token" else None, app.clock)
    metrics = Metrics(app.clock, app.gauges)
    lag = LoopLag(app.clock, metrics, heartbeat)
    mcp = McpMount(app, opens_mcp)
    own_host = OwnHostGuard(guard, config.host)
    memory = _memory_routes(app, mcp, own_host)
    queue = _queue_routes(app, guard, own_host)
    sessions = [*_compaction_routes(app, own_host), *_session_routes(app, own_host), *_thread_routes(app, own_host)]
    learning = _learning_routes(app, own_host)
    routes = [*memory, *queue, *sessions, *learning, *_routes(app, guard, metrics, lag)]
    known = frozenset(route.path for route in routes if "{" not in route.path)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lag.run)
            mcp.belongs_to(tasks)
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
        Route("/v1/status", Endpoint(health.status, "GET", guard=guard)),
        Route("/metrics", Endpoint(metrics.scrape, "GET", "HEAD", guard=guard)),
        Route("/{path:path}", _not_found_endpoint),
    ]


def _memory_routes(app: GatewayApp, mcp: McpMount, guard: OwnHostGuard) -> list[Route]:
    memory = MemoryApi(app)
    return [
        Route("/v1/memory/search", Endpoint(memory.search, "POST", guard=guard)),
        Route("/v1/memory/get", Endpoint(memory.get, "GET", "POST", guard=guard)),
        Route("/v1/memory/append", Endpoint(memory.append, "POST", guard=guard)),
        Route("/v1/memory/status", Endpoint(memory.status, "GET", guard=guard)),
        Route("/v1/memory/sync", Endpoint(memory.sync, "POST", guard=guard)),
        Route("/v1/memory/rebuild", Endpoint(memory.rebuild, "POST", guard=guard)),
        Route("/v1/memory/forget", Endpoint(memory.forget, "POST", guard=guard)),
        Route("/v1/memory/dream", Endpoint(memory.dream, "POST", guard=guard)),
        Route("/v1/memory/dreams", Endpoint(memory.dreams, "GET", guard=guard)),
        Route("/mcp", Endpoint(mcp.answer, "POST", guard=guard)),
    ]


def _compaction_routes(app: GatewayApp, guard: OwnHostGuard) -> list[Route]:
    compactions = CompactionApi(app)
    session = "/v1/sessions/{key:path}"
    return [
        Route(f"{session}/compact", Endpoint(compactions.compact, "POST", guard=guard)),
        Route(f"{session}/compactions", Endpoint(compactions.listed, "GET", guard=guard)),
        Route(f"{session}/compactions/{{id}}", Endpoint(compactions.one, "GET", guard=guard)),
    ]


def _session_routes(app: GatewayApp, guard: OwnHostGuard) -> list[Route]:
    """Behind the other paths below `/v1/sessions/`: a key may hold slashes, so the last one takes what is left."""
    sessions = SessionsApi(app)
    return [
        Route("/v1/sessions/{key:path}/messages", Endpoint(sessions.messages, "GET", guard=guard)),
        Route("/v1/sessions/{key:path}/reset", Endpoint(sessions.reset, "POST", guard=guard)),
        Route("/v1/sessions/{key:path}/export", Endpoint(sessions.export, "GET", guard=guard)),
        Route("/v1/sessions", Endpoint(sessions.listed, "GET", guard=guard)),
        Route("/v1/sessions/{key:path}", Endpoint(sessions.one, "GET", guard=guard)),
    ]


def _thread_routes(app: GatewayApp, guard: OwnHostGuard) -> list[Route]:
    threads = ThreadsApi(app)
    return [
        Route("/v1/threads", Endpoint(threads.listed, "GET", guard=guard)),
        Route("/v1/threads/{session:path}/rotate", Endpoint(threads.rotate, "POST", guard=guard)),
        Route("/v1/threads/{session:path}", Endpoint(threads.one, "GET", guard=guard)),
    ]


def _learning_routes(app: GatewayApp, guard: OwnHostGuard) -> list[Route]:
    """What is done to one thing stands before the thing itself: the key of a job may hold slashes."""
    learning = LearningApi(app)
    act = Endpoint(learning.act, "POST", guard=guard)
    return [
        Route("/v1/feedback", Endpoint(learning.feedback, "POST", guard=guard)),
        Route("/v1/learning/status", Endpoint(learning.status, "GET", guard=guard)),
        Route("/v1/learning/{kind}", Endpoint(learning.listed, "GET", guard=guard)),
        Route("/v1/learning/{kind}/{id:path}/explain", Endpoint(learning.explain, "GET", guard=guard)),
        Route("/v1/learning/{kind}/{id:path}/archive", act),
        Route("/v1/learning/{kind}/{id:path}/unarchive", act),
        Route("/v1/learning/{kind}/{id:path}/enable", act),
        Route("/v1/learning/{kind}/{id:path}/disable", act),
        Route("/v1/learning/{kind}/{id:path}/retry", act),
        Route("/v1/learning/{kind}/{id:path}/cancel", act),
        Route("/v1/learning/{kind}/{id:path}", Endpoint(learning.one, "GET", "PATCH", "DELETE", guard=guard)),
    ]


def _queue_routes(app: GatewayApp, guard: Guard, own: OwnHostGuard) -> list[Route]:
    """Ahead of any other path below `/v1/sessions/`: a key may hold slashes."""
    queue, events = QueueApi(app), SessionEvents(app)
    return [
        Route("/v1/queue/{turn_id:path}", Endpoint(queue.item, "GET", "DELETE", guard=guard)),
        Route("/v1/sessions/{key:path}/queue", Endpoint(queue.session, "GET", "PUT", "DELETE", guard=own)),
        Route("/v1/sessions/{key:path}/events", Endpoint(events.follow, "GET", guard=own)),
    ]


class _NotFound:
    """Every other path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        url = f"{scope['method']} {scope['path']}"[:URL_CHARACTERS_SHOWN]
        body = error_body(f"Invalid URL ({url})", "invalid_request_error", code="unknown_url")
        await Response(body, 404, media_type="application/json")(scope, receive, send)


_not_found_endpoint = _NotFound()
