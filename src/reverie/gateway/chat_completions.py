"""`POST /v1/chat/completions`: one request, from its body to its answer.

read        the body, within bounds
understand  which model, which session, which tools, what is said; whatever is wrong ends here
submit      the turn is durable from here on, and no longer ours
answer      the turn's events as they come, or its result as one object
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.responses import Response

from reverie.errors import ReverieError
from reverie.gateway.body import decode_object, read_body, run_sized
from reverie.gateway.endpoint import echo
from reverie.gateway.images import ImageLimits
from reverie.gateway.replies import Envelope
from reverie.gateway.routing import RoutingRules, dialect_of, header_value, route, routing_headers
from reverie.gateway.sse import StreamTimes, TurnStream
from reverie.gateway.wire import read_conversation, read_head, read_tools
from reverie.sessions.events import TurnFailed, TurnFinished
from reverie.types import TurnRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Scope

    from reverie.gateway.metrics import Metrics, TurnTimer
    from reverie.gateway.ports import Feed, GatewayApp
    from reverie.gateway.routing import Route
    from reverie.gateway.wire import Head
    from reverie.types import JsonObject


class ChatCompletions:
    """The endpoint."""

    def __init__(self, app: GatewayApp, metrics: Metrics, times: StreamTimes | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._times = times or StreamTimes()
        self._config = app.config.gateway
        self._images = ImageLimits.of(app.config.gateway)

    async def create(self, request: Request) -> ASGIApp:
        """Answer one request.

        Raises:
            RequestError: the request cannot be served; nothing was accepted.
            ReverieError: the turn was accepted and failed.
        """
        scope, timer = request.scope, self._metrics.turn_arrives()
        config = self._config
        raw = await read_body(scope, request.receive, bytes_max=config.body_bytes_max, read_s=config.body_read_s)
        request_id = str(uuid4())
        headers = routing_headers(scope["headers"])
        body, head, where = await run_sized(len(raw), self._locate, raw, headers, request_id)
        echo(scope, "x-reverie-session-key", header_value(where.session.value))
        turn = await run_sized(len(raw), self._turn_request, body, head, where, request_id)
        feed = await self._app.submit(turn)
        timer.accepted()
        echo(scope, "x-reverie-session-id", feed.session_id)
        echo(scope, "x-reverie-turn-id", feed.turn_id)
        envelope = Envelope(feed.turn_id, self._app.clock.now_ms() // 1000, head.model, dialect_of(head.model))
        if head.stream:
            return TurnStream(feed, envelope, include_usage=head.include_usage, timer=timer, times=self._times)
        finished = await _result(feed, timer, scope)
        return Response(envelope.completion(finished), media_type="application/json")

    def _locate(self, raw: bytes, headers: Mapping[str, str], request_id: str) -> tuple[JsonObject, Head, Route]:
        """How the answer is to be made, and for which session."""
        body = decode_object(raw)
        head = read_head(body)
        rules = RoutingRules.of(self._app.agents(), self._app.config.sessions)
        where = route(headers, model=head.model, user=head.user, rules=rules, request_id=request_id)
        return body, head, where

    def _turn_request(self, body: JsonObject, head: Head, where: Route, request_id: str) -> TurnRequest:
        """The whole request as the session's queue takes it."""
        tools = read_tools(body)
        conversation = read_conversation(body, self._images)
        sampling = head.sampling
        if head.user and self._app.config.sessions.user_field == "metadata":
            sampling = {**sampling, "user": head.user}
        return TurnRequest(
            turn_id=f"chatcmpl_{request_id}",
            session=where.session,
            messages=conversation.messages,
            instructions=conversation.instructions,
            stream=head.stream,
            model_override=where.model_override,
            client_tools=tools.functions,
            tool_choice=tools.choice,
            sampling=sampling,
        )


async def _result(feed: Feed, timer: TurnTimer, scope: Scope) -> TurnFinished:
    """The end of a turn. A failed one tells client libraries not to send the same message again by themselves."""
    async for event in feed.follow():
        timer.saw(event)
        match event:
            case TurnFinished():
                return event
            case TurnFailed():
                echo(scope, "x-should-retry", "false")
                raise event.error
            case _:
                pass
    raise ReverieError("the turn's events ended without a terminal one")
