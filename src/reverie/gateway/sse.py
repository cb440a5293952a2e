"""A turn as a stream of server-sent events.

The role chunk goes out with the headers, so that a caller knows at once that its turn was accepted. Then each event
of the turn is written as it comes; nothing is coalesced. A turn that fails after that ends its stream with an error
object and `[DONE]`; no reply is made up. While nothing comes, a comment keeps the connection open.

Bounds: a caller who hangs up, or does not take a frame for `StreamTimes.stall_s`, is left. Its turn goes on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import anyio
import structlog

from reverie.errors import ReverieError
from reverie.gateway.replies import DONE, INTERNAL_ERROR, PING, Frames, error_answer
from reverie.sessions.events import (
    ContextAssembled,
    ReasoningDelta,
    ReplyDelta,
    ToolFinished,
    ToolStarted,
    TurnFailed,
    TurnFinished,
    TurnStarted,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from reverie.gateway.metrics import TurnTimer
    from reverie.gateway.ports import Feed
    from reverie.gateway.replies import Envelope
    from reverie.sessions.events import TurnEvent

log = structlog.get_logger(__name__)

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),  # reverse proxies pass events on at once
)


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """After how much silence a comment is sent, and how long a caller may take to accept a frame."""

    ping_s: float = 15.0
    stall_s: float = 60.0


class TurnStream:
    """The answer to one streaming request: an ASGI application that writes the turn's events."""

    def __init__(
        self, feed: Feed, envelope: Envelope, *, include_usage: bool, timer: TurnTimer, times: StreamTimes
    ) -> None:
        self._feed = feed
        self._envelope = envelope
        self._frames = Frames(envelope)
        self._include_usage = include_usage
        self._timer = timer
        self._times = times
        self._said_something = False
        self._sending = self._complete = False
        self._wrote_at_s = anyio.current_time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        """Write the stream; return when it is complete or nobody takes it any more."""
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, receive, send, tasks.cancel_scope)
            await self._pump(send)
            tasks.cancel_scope.cancel()

    async def _pump(self, send: Send) -> None:
        await self._write(send, self._frames.role())
        events = self._feed.follow()
        try:
            await self._write_events(events, send)
        except OSError:
            self._timer.left()  # the server says so in this way when the connection is gone
        except Exception as error:  # noqa: BLE001 (border: a begun answer can only end in an error frame)
            log.error("stream failed", action="stream_failed", turn_id=self._feed.turn_id, error=type(error).__name__)  # noqa: TRY400 (a trace may quote the conversation)
            await self._write(send, Frames.error(INTERNAL_ERROR) + DONE, last=True)
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()

    async def _write_events(self, events: AsyncIterator[TurnEvent], send: Send) -> None:
        async for event in events:
            self._timer.saw(event)
            match event:
                case ReplyDelta(text):
                    if text:
                        self._said_something = True
                        await self._write(send, self._frames.content(text))
                case ReasoningDelta(text):
                    if text:
                        await self._write(send, self._frames.reasoning(text))
                case TurnFinished():
                    await self._write(send, self._ending(event), last=True)
                    return
                case TurnFailed():
                    await self._write(send, Frames.error(error_answer(event.error).body) + DONE, last=True)
                    return
                case TurnStarted() | ContextAssembled() | ToolStarted() | ToolFinished():
                    pass
                case _:
                    assert_never(event)
        raise ReverieError("the turn's events ended without a terminal one")

    def _ending(self, finished: TurnFinished) -> bytes:
        """Everything after the last delta: tool calls, the reason, token counts, the end mark."""
        frames: list[bytes] = []
        if not self._said_something and (text := self._envelope.text_of(finished)):
            frames.append(self._frames.content(text))
        frames.extend(self._frames.tool_calls(finished.tool_calls))
        frames.append(self._frames.finish(finished.finish_reason))
        if self._include_usage:
            frames.append(self._frames.usage(finished.usage))
        frames.append(DONE)
        return b"".join(frames)

    async def _write(self, send: Send, frame: bytes, *, last: bool = False) -> None:
        self._sending, self._wrote_at_s = True, anyio.current_time()
        self._complete = last
        await send({"type": "http.response.body", "body": frame, "more_body": not last})
        self._sending = False

    async def _watch(self, receive: Receive, send: Send, scope: anyio.CancelScope) -> None:
        """Keep a silent stream open; end it when the caller hangs up or stalls."""
        while True:
            with anyio.move_on_after(self._times.ping_s) as silence:
                message = await receive()
                if self._complete:
                    return
                if message["type"] == "http.disconnect":
                    break
            idle_s = anyio.current_time() - self._wrote_at_s
            if self._sending and idle_s >= self._times.stall_s:
                break
            if silence.cancelled_caught and not self._sending and idle_s >= self._times.ping_s:
                await self._write(send, PING)
        log.debug("caller left a stream", action="stream_left", turn_id=self._feed.turn_id)
        self._timer.left()
        scope.cancel()
