"""`/v1/queue` and the queue of a session: what became of a message, and what waits.

GET     /v1/queue/{id}              a message, and its whole answer once there is one
        ?wait_ms=                   not before it has ended, at most so long
        Accept: text/event-stream   its states and its reply as they come
DELETE  /v1/queue/{id}              stop it
GET     /v1/sessions/{key}/queue    what runs and waits in a session, and the settings that hold there
PUT     /v1/sessions/{key}/queue    settings of the session's own
DELETE  /v1/sessions/{key}/queue    everybody's settings again
"""

from __future__ import annotations

from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
from starlette.responses import Response

from reverie.clock import iso_instant
from reverie.errors import RequestError
from reverie.gateway.body import decode_object, read_body
from reverie.gateway.hanging_up import unless_left
from reverie.gateway.queue_settings import checked_settings, settings_object
from reverie.gateway.replies import DONE, Envelope, Frames, render
from reverie.gateway.routing import RoutingRules, dialect_of, route, routing_headers
from reverie.gateway.sse import EventStream, StreamTimes, reply_frames
from reverie.sessions.events import TurnFinished

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from reverie.gateway.ports import GatewayApp
    from reverie.gateway.routing import Route
    from reverie.sessions.inbox import InboxEntry, Place
    from reverie.types import JsonObject

WAIT_MS_MAX = 600_000
LISTED = 100
LISTED_MAX = 1_000
BODY_BYTES_MAX = 64 * 1024
BEGUN_S = 60.0
ENDED = frozenset({"answered", "failed", "dropped", "expired", "cancelled"})
CANCELLED = "cancelled over the API (DELETE /v1/queue)"


class QueueApi:
    """The endpoints."""

    def __init__(self, app: GatewayApp, times: StreamTimes | None = None) -> None:
        self._app = app
        self._times = times or StreamTimes()

    async def item(self, request: Request) -> ASGIApp:
        """`/v1/queue/{id}`.

        Raises:
            RequestError: there is no such message, it has ended (DELETE), or a parameter is not valid.
            ClientGoneError: the caller hung up while it waited.
        """
        entry = await self._entry(request.path_params["turn_id"])
        if request.method == "DELETE":
            return await self._cancel(entry)
        if "text/event-stream" in request.headers.get("accept", "").lower():
            return EventStream(self._frames(entry), self._times, about={"turn_id": entry.turn_id})
        wait_ms = max(whole_number(request, name, 0, WAIT_MS_MAX, default=0) for name in ("wait_ms", "wait"))
        if wait_ms and entry.state not in ENDED:
            await unless_left(request.receive, lambda: self._until_ended(entry.turn_id, wait_ms / 1000))
            entry = await self._entry(entry.turn_id)
        return _json(await self._object(entry))

    async def session(self, request: Request) -> Response:
        """`/v1/sessions/{key}/queue`.

        Raises:
            RequestError: the key or a setting is not valid.
        """
        where = session_of(self._app, request)
        if request.method == "GET":
            limit = whole_number(request, "limit", 1, LISTED_MAX, default=LISTED)
            queue = await self._app.queue_of(where.session.value, limit)
            listed = [_item(entry, self._app.place_of(entry.turn_id), None) for entry in queue]
            return _json({"object": "list", "data": listed, "settings": await self._settings(where)})
        changes = None
        if request.method == "PUT":
            read_s = self._app.config.gateway.body_read_s
            raw = await read_body(request.scope, request.receive, bytes_max=BODY_BYTES_MAX, read_s=read_s)
            changes = checked_settings(decode_object(raw))
        await self._app.change_queue_settings(where.session, changes)
        return _json(await self._settings(where))

    async def _settings(self, where: Route) -> JsonObject:
        return settings_object(where.session.value, await self._app.queue_settings(where.session, where.channel))

    async def _entry(self, turn_id: str) -> InboxEntry:
        entry = await self._app.inbox_entry(turn_id)
        if entry is None:
            message = f"There is no message '{turn_id[:100]}' in the queue; its id is in `x-reverie-queue-id`."
            raise RequestError(message, param="id", code="queue_item_not_found", status=404)
        return entry

    async def _cancel(self, entry: InboxEntry) -> Response:
        if entry.state in ENDED:
            raise _already(entry)
        stopped = await self._app.cancel(entry.turn_id, CANCELLED) or entry
        if stopped.state in ENDED and stopped.state != "cancelled":
            raise _already(stopped)
        if stopped.carrier_id is not None and stopped.state == "running":
            message = f"The message runs within the turn '{stopped.carrier_id}': cancel that one to stop both."
            raise RequestError(message, param="id", code="queue_item_carried", status=HTTPStatus.CONFLICT)
        return _json(await self._object(stopped))

    async def _until_ended(self, turn_id: str, within_s: float) -> None:
        feed = await self._app.attach(turn_id)
        if feed is None:
            return
        with anyio.move_on_after(within_s):
            async for _ in feed.follow():
                pass

    async def _object(self, entry: InboxEntry) -> JsonObject:
        """A message with everything that is known of it now."""
        if entry.state in ENDED:
            return _item(entry, None, await self._completion(entry))
        return _item(entry, self._app.place_of(entry.turn_id), None)

    async def _completion(self, entry: InboxEntry) -> JsonObject | None:
        """The whole answer; None when there is none."""
        feed = await self._app.attach(entry.turn_id) if entry.state == "answered" else None
        if feed is None:
            return None
        async for event in feed.follow():
            if isinstance(event, TurnFinished):
                return _envelope(entry).completion_object(event)
        return None

    async def _frames(self, entry: InboxEntry) -> AsyncGenerator[bytes]:
        """The states of a message as they change, its reply as chunks, its end, the mark."""
        ended = entry.state in ENDED
        shown = await self._state(entry)
        yield shown
        feed = await self._app.attach(entry.turn_id)
        if feed is None:
            yield DONE
            return
        if not ended:
            while not await feed.begun(BEGUN_S):
                pass
            begun = await self._state(await self._entry(entry.turn_id))
            if begun != shown:
                yield begun
                shown = begun

        async def closing() -> bytes:
            last = await self._state(await self._entry(entry.turn_id))
            return b"" if last == shown else last

        envelope = _envelope(entry)
        frames = Frames(envelope)
        yield frames.role()
        async with aclosing(reply_frames(feed, envelope, frames, closing=closing)) as reply:
            async for frame in reply:
                yield frame

    async def _state(self, entry: InboxEntry) -> bytes:
        return b"event: state\ndata: " + render(await self._object(entry)) + b"\n\n"


# -- values ----------------------------------------------------------------------------------------------------------


def iso(at_ms: int | None) -> str | None:
    """An instant as ISO 8601 in UTC, to the millisecond; None stays None."""
    return None if at_ms is None else iso_instant(at_ms)


def session_of(app: GatewayApp, request: Request) -> Route:
    """The session that a path names, as a request would that names it in a header.

    Raises:
        RequestError: the key is no session key.
    """
    headers = routing_headers(request.scope["headers"])
    headers = {name: value for name, value in headers.items() if name.endswith("-message-channel")}
    headers["x-reverie-session-key"] = request.path_params["key"]
    rules = RoutingRules.of(app.agents(), app.config.sessions)
    return route(headers, model="reverie", user=None, rules=rules, request_id="")


def whole_number(request: Request, name: str, low: int, high: int, *, default: int) -> int:
    """A parameter of the query.

    Raises:
        RequestError: it is not a whole number within these bounds.
    """
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) <= len(str(high)) and low <= int(given) <= high):
        raise RequestError(f"`{name}`: {given[:40]} is not valid: a whole number from {low} to {high}.", param=name)
    return int(given)


def _item(entry: InboxEntry, place: Place | None, completion: JsonObject | None) -> JsonObject:
    return {
        "object": "reverie.queue_item",
        "id": entry.turn_id,
        "state": entry.state,
        "session_key": entry.session_key,
        "session_id": entry.session_id,
        "source": entry.source,
        "message_key": entry.message_key,
        "mode": entry.delivery,
        "position": None if place is None else place.position,
        "depth": None if place is None else place.depth,
        "accepted_at": iso(entry.accepted_at_ms),
        "started_at": iso(entry.started_at_ms),
        "finished_at": iso(entry.finished_at_ms),
        "deadline": iso(entry.deadline_at_ms),
        "carrier": entry.carrier_id,
        "error": entry.error,
        "completion": completion,
    }


def _envelope(entry: InboxEntry) -> Envelope:
    model = entry.client_model or "reverie"
    return Envelope(entry.turn_id, entry.accepted_at_ms // 1000, model, dialect_of(model))


def _already(entry: InboxEntry) -> RequestError:
    message = f"The message '{entry.turn_id}' has ended already: {entry.state}."
    return RequestError(message, param="id", code="queue_item_ended", status=HTTPStatus.CONFLICT)


def _json(value: JsonObject) -> Response:
    return Response(render(value), media_type="application/json")
