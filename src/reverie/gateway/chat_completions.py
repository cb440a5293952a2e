"""`POST /v1/chat/completions`: one request, from its body to its answer.

read        the body, within bounds
understand  which model, which session, which tools, what is said; whatever is wrong ends here, and what is no message
submit      the turn is durable from here on, and no longer ours
answer      the turn's events as they come, its result as one object, or that it is queued
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import structlog
from starlette.responses import Response

from reverie.errors import ReverieError
from reverie.gateway.arrival import arrival_of, decide, inbox_headers, read_arrival
from reverie.gateway.body import ClientGoneError, decode_object, read_body, run_sized
from reverie.gateway.directives import Stripped, settings_sentence, strip_directives
from reverie.gateway.dreaming_trigger import HEADER, answer_of, carries_trigger, without_triggers
from reverie.gateway.endpoint import echo
from reverie.gateway.hanging_up import unless_left
from reverie.gateway.images import ImageLimits
from reverie.gateway.replies import NEXT_TURN, QUEUED, Envelope
from reverie.gateway.routing import RoutingRules, dialect_of, header_value, route, routing_headers
from reverie.gateway.sse import EventStream, StreamTimes, TurnStream, queued_frames, said_frames
from reverie.gateway.wire import read_conversation, read_head, read_tools
from reverie.sessions.events import TurnFailed, TurnFinished, TurnStarted
from reverie.types import TurnRequest

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Scope

    from reverie.gateway.arrival import Asked, Choice
    from reverie.gateway.metrics import Metrics, TurnTimer
    from reverie.gateway.ports import Feed, GatewayApp
    from reverie.gateway.routing import Route
    from reverie.gateway.wire import Head
    from reverie.sessions.inbox import QueueSettings
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

HUNG_UP = "the caller hung up, and had asked for the turn to end then (x-reverie-on-disconnect)"


@dataclass(frozen=True, slots=True)
class _Located:
    """What a request says but for its conversation: how to answer, where it goes, how it came in."""

    body: JsonObject
    head: Head
    where: Route
    asked: Asked


@dataclass(frozen=True, slots=True)
class _Read:
    """What a request says: a turn, and what of it was meant for the queue. None: it is a trigger of dreaming."""

    turn: TurnRequest
    said: Stripped


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
            ClientGoneError: the caller hung up.
        """
        scope, timer = request.scope, self._metrics.turn_arrives()
        config = self._config
        raw = await read_body(scope, request.receive, bytes_max=config.body_bytes_max, read_s=config.body_read_s)
        request_id = str(uuid4())
        located = await run_sized(len(raw), self._locate, raw, scope, request_id)
        head, where = located.head, located.where
        echo(scope, "x-reverie-session-key", header_value(where.session.value))
        read = await run_sized(len(raw), self._read, located, request_id)
        if read is None:
            return await self._trigger_answer(scope, f"chatcmpl_{request_id}", head)
        turn, said = read.turn, read.said
        if said.directive is not None:
            await self._app.change_queue_settings(where.session, said.directive.changes)
        settings = await self._app.queue_settings(where.session, where.channel)
        if said.directive is not None and not said.says_more:
            return self._settings_answer(turn.turn_id, head, settings)
        feed = await self._submit(turn, located, settings)
        timer.accepted()
        _echo_place(scope, feed)
        envelope = await self._envelope(feed, head)
        choice = decide(located.asked, settings, busy=await _still_waits(feed))
        if choice.wait_ms == 0:
            timer.queued()
            return self._next_turn_answer(scope, envelope, head)
        return await self._answer(request, feed, envelope, located, choice, timer)

    # -- understand ----------------------------------------------------------------------------------------------

    def _locate(self, raw: bytes, scope: Scope, request_id: str) -> _Located:
        """How the answer is to be made, for which session, and how the message came in."""
        headers = routing_headers(scope["headers"])
        body = decode_object(raw)
        head = read_head(body)
        rules = RoutingRules.of(self._app.agents(), self._app.config.sessions)
        where = route(headers, model=head.model, user=head.user, rules=rules, request_id=request_id)
        asked = read_arrival(inbox_headers(scope["headers"]), channel=where.channel, user=head.user)
        return _Located(body, head, where, asked)

    def _read(self, located: _Located, request_id: str) -> _Read | None:
        """The whole request as the session's queue takes it; None for a trigger, which is never a message."""
        body, head, where = located.body, located.head, located.where
        tools = read_tools(body)
        conversation = read_conversation(body, self._images)
        if carries_trigger(conversation.messages[-1]):
            return None
        messages = without_triggers(conversation.messages)
        said = Stripped(messages, None, says_more=True)
        if self._app.config.queue.directives:
            said = strip_directives(messages)
        sampling = head.sampling
        if head.user and self._app.config.sessions.user_field == "metadata":
            sampling = {**sampling, "user": head.user}
        turn = TurnRequest(
            turn_id=f"chatcmpl_{request_id}",
            session=where.session,
            messages=said.messages,
            instructions=conversation.instructions,
            stream=head.stream,
            model_override=where.model_override,
            client_tools=tools.functions,
            tool_choice=tools.choice,
            sampling=sampling,
        )
        return _Read(turn, said)

    # -- submit --------------------------------------------------------------------------------------------------

    async def _submit(self, turn: TurnRequest, located: _Located, settings: QueueSettings) -> Feed:
        """Make the turn durable, with what is to become of it if its session is busy by then."""
        if_busy = decide(located.asked, settings, busy=True)
        arrival = arrival_of(
            located.asked,
            if_busy,
            client_model=located.head.model,
            waits=if_busy.wait_ms != 0 or not self._app.busy(turn.session),
            now_ms=self._app.clock.now_ms(),
            ttl_s=self._app.config.queue.ttl_s,
        )
        return await self._app.submit(replace(turn, arrival=arrival), refuse_busy=if_busy.refuse)

    # -- answer --------------------------------------------------------------------------------------------------

    async def _envelope(self, feed: Feed, head: Head) -> Envelope:
        """What every piece of the answer repeats; a message sent again is answered as it was the first time."""
        entry = await self._app.inbox_entry(feed.turn_id) if feed.attached else None
        if entry is None:
            return self._envelope_now(feed.turn_id, head)
        model = entry.client_model or head.model
        return Envelope(feed.turn_id, entry.accepted_at_ms // 1000, model, dialect_of(model))

    def _envelope_now(self, turn_id: str, head: Head) -> Envelope:
        return Envelope(turn_id, self._app.clock.now_ms() // 1000, head.model, dialect_of(head.model))

    async def _answer(
        self, request: Request, feed: Feed, envelope: Envelope, located: _Located, choice: Choice, timer: TurnTimer
    ) -> ASGIApp:
        """The reply, or the next-turn answer if the turn does not begin in time."""
        head, wait_s = located.head, None if choice.wait_ms is None else choice.wait_ms / 1000

        async def cancel() -> None:
            await self._cancel(feed.turn_id)

        if head.stream:
            left = cancel if located.asked.cancels else None
            return TurnStream(
                feed, envelope, include_usage=head.include_usage, timer=timer, times=self._times, wait_s=wait_s,
                left=left,
            )  # fmt: skip

        async def result() -> TurnFinished | None:
            if wait_s is not None and not await feed.begun(wait_s):
                return None
            return await _result(feed, timer, request.scope)

        try:
            finished = await (unless_left(request.receive, result) if located.asked.cancels else result())
        except ClientGoneError:
            timer.left()
            await cancel()
            raise
        if finished is None:
            timer.queued()
            return self._next_turn_answer(request.scope, envelope, head)
        return Response(envelope.completion(finished), media_type="application/json")

    async def _cancel(self, turn_id: str) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await self._app.cancel(turn_id, HUNG_UP)
            except ReverieError as error:
                log.warning("a turn whose caller hung up could not be cancelled", action="cancel_failed",
                            turn_id=turn_id, error=type(error).__name__)  # fmt: skip

    def _next_turn_answer(self, scope: Scope, envelope: Envelope, head: Head) -> ASGIApp:
        """The message is kept and will be answered later."""
        echo(scope, "x-openclaw-queued", NEXT_TURN)
        echo(scope, "x-reverie-queued", NEXT_TURN)
        if head.stream:
            return EventStream(queued_frames(envelope), self._times, about={"turn_id": envelope.id})
        return Response(envelope.said(QUEUED), media_type="application/json")

    async def _trigger_answer(self, scope: Scope, answer_id: str, head: Head) -> ASGIApp:
        """A trigger begins a sweep, or not, and is answered at once."""
        answer = answer_of(await self._app.dreaming.trigger())
        echo(scope, HEADER, answer.word)
        return self._said(self._envelope_now(answer_id, head), head, answer.text)

    def _settings_answer(self, answer_id: str, head: Head, settings: QueueSettings) -> ASGIApp:
        """A message that only sets the queue is answered at once; it is no turn."""
        return self._said(self._envelope_now(answer_id, head), head, settings_sentence(settings))

    def _said(self, envelope: Envelope, head: Head, text: str) -> ASGIApp:
        """A sentence of ours, in the form that was asked for."""
        if head.stream:
            frames = said_frames(envelope, text, include_usage=head.include_usage)
            return EventStream(frames, self._times, about={"answer_id": envelope.id})
        return Response(envelope.said(text), media_type="application/json")


def _echo_place(scope: Scope, feed: Feed) -> None:
    """Which turn it is, and where it stood when it was accepted."""
    echo(scope, "x-reverie-session-id", feed.session_id)
    echo(scope, "x-reverie-turn-id", feed.turn_id)
    echo(scope, "x-reverie-queue-id", feed.turn_id)
    echo(scope, "x-reverie-queue-position", str(feed.place.position))
    echo(scope, "x-reverie-queue-depth", str(feed.place.depth))
    if feed.attached:
        echo(scope, "x-reverie-attached", "true")
        echo(scope, "x-reverie-session-key", header_value(feed.session_key.value))


async def _still_waits(feed: Feed) -> bool:
    """Whether a turn has not begun yet. One that was accepted earlier may have begun since."""
    if feed.attached:
        return not await feed.begun(0)
    return feed.place.position > 0


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
            case TurnStarted(reset=reason, session_id=session_id) if reason:
                echo(scope, "x-reverie-session-reset", reason)
                echo(scope, "x-reverie-session-id", session_id)
            case _:
                pass
    raise ReverieError("the turn's events ended without a terminal one")
