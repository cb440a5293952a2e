"""`GET /v1/sessions/{key}/events`: what happens in a session, with what happened before.

Recorded events have a number, `id` in the stream: whoever comes back with the last one it saw (`Last-Event-ID`, or
`after`) misses nothing. Between them the reply of the running turn passes by as it is made; those live events have no
number and are not repeated, because the transcript holds what they said. Bounded: a page at a time is read, and a
caller who does not keep up loses live events only. Events older than what is kept are announced as a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from starlette.responses import Response

from reverie.errors import RequestError
from reverie.gateway.queue_api import iso, session_of, whole_number
from reverie.gateway.replies import render
from reverie.gateway.sse import EventStream, StreamTimes
from reverie.sessions.events import ReasoningDelta, ReplyDelta, ToolFinished, ToolStarted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from reverie.gateway.ports import GatewayApp, Watch
    from reverie.sessions.events import TurnEvent
    from reverie.sessions.store import SessionEvent
    from reverie.types import JsonObject

PAGE = 200
LISTED = 100
LISTED_MAX = 1_000
SEQ_MAX = 2**63 - 1
LOOK_S = 1.0
"""A silent stream looks so often whether the server is stopping: it would hold up the stop for nothing."""


class SessionEvents:
    """The endpoint."""

    def __init__(self, app: GatewayApp, times: StreamTimes | None = None) -> None:
        self._app = app
        self._times = times or StreamTimes()

    async def follow(self, request: Request) -> ASGIApp:
        """The events of a session as a stream, or with `follow=false` a page of the recorded ones.

        Raises:
            RequestError: the key or a parameter is not valid.
        """
        key = session_of(self._app, request).session.value
        after = _after(request)
        match request.query_params.get("follow", "true"):
            case "true" | "1":
                return EventStream(self._frames(key, after), self._times, about={"session": key})
            case "false" | "0":
                limit = whole_number(request, "limit", 1, LISTED_MAX, default=LISTED)
                return await self._page(key, after or 0, limit)
            case _:
                raise RequestError("`follow` must be true or false.", param="follow")

    async def _page(self, key: str, after: int, limit: int) -> Response:
        events = await self._app.events_after(key, after, limit + 1)
        listed = events[:limit]
        page: JsonObject = {
            "object": "list",
            "data": [_object(event) for event in listed],
            "after": listed[-1].seq if listed else after,
            "has_more": len(events) > limit,
            "oldest": await self._app.oldest_event(),
        }
        return Response(render(page), media_type="application/json")

    async def _frames(self, key: str, asked: int | None) -> AsyncGenerator[bytes]:
        with self._app.watch(key) as watch:  # from here on nothing is missed, whatever is read meanwhile
            oldest = await self._app.oldest_event()
            if asked is not None and asked + 1 < oldest:
                yield _frame("gap", {"after": asked, "oldest": oldest})
            after = asked or 0
            while True:
                page = await self._app.events_after(key, after, PAGE)
                for event in page:
                    yield _frame(event.kind, _object(event), event.seq)
                    after = event.seq
                if len(page) == PAGE:
                    continue
                while (event := await self._next(watch)) != "recorded":
                    if event is None:
                        return
                    if (frame := _live(event)) is not None:
                        yield frame

    async def _next(self, watch: Watch) -> TurnEvent | Literal["recorded"] | None:
        """What happens next; None when the server stops."""
        while "draining" not in self._app.readiness.reasons:
            event = await watch.next(LOOK_S)
            if event is not None:
                return event
        return None


def _after(request: Request) -> int | None:
    """The number of the last event that the caller knows; None when it says nothing of it.

    A browser that reconnects sends the header beside the address it began with, so the header wins.
    """
    known = request.headers.get("last-event-id", "").strip()
    if known:
        if not (known.isascii() and known.isdigit() and len(known) <= len(str(SEQ_MAX)) and int(known) <= SEQ_MAX):
            message = f"`Last-Event-ID: {known[:40]}` is not valid: the number of an event."
            raise RequestError(message, param="Last-Event-ID")
        return int(known)
    if "after" not in request.query_params:
        return None
    return whole_number(request, "after", 0, SEQ_MAX, default=0)


def _object(event: SessionEvent) -> JsonObject:
    return {
        "seq": event.seq,
        "kind": event.kind,
        "turn_id": event.turn_id,
        "at": iso(event.at_ms),
        "data": event.data,
    }


def _live(event: TurnEvent) -> bytes | None:
    """A step of the running turn; None for those that are recorded or say nothing to a reader."""
    match event:
        case ReplyDelta(text) if text:
            return _frame("reply.delta", {"text": text})
        case ReasoningDelta(text) if text:
            return _frame("reasoning.delta", {"text": text})
        case ToolStarted(call):
            return _frame("tool.started", {"id": call.id, "name": call.name, "arguments": call.arguments})
        case ToolFinished(call):
            return _frame("tool.finished", {"id": call.id, "name": call.name})
        case _:
            return None


def _frame(kind: str, data: JsonObject, seq: int | None = None) -> bytes:
    number = b"" if seq is None else b"id: %d\n" % seq
    return number + b"event: " + kind.encode() + b"\ndata: " + render(data) + b"\n\n"
