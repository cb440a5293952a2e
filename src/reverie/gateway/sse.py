"""Streams of server-sent events: the frames of a turn, and of whatever else happens, as they come.

The role chunk of a turn goes out with the headers, so that a caller knows at once that its turn was accepted. Then each
event of the turn is written as it comes; nothing is coalesced. A turn that fails after that ends its stream with an
error object and `[DONE]`; no reply is made up. While nothing comes, a comment keeps the connection open.

Bounds: a caller who hangs up, or does not take a frame for `StreamTimes.stall_s`, is left. Its turn goes on unless it
asked otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import anyio
import structlog

from reverie.errors import ReverieError
from reverie.gateway.replies import DONE, INTERNAL_ERROR, PING, QUEUED, QUEUED_COMMENT, Frames, error_answer
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
from reverie.types import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from reverie.gateway.metrics import TurnTimer
    from reverie.gateway.ports import Feed
    from reverie.gateway.replies import Envelope

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


class EventStream:
    """An ASGI application that writes frames as they come; one that ends with `[DONE]` is the last.

    `left` is called when the caller has gone before the end. `about` names the stream in the log.
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        times: StreamTimes,
        *,
        about: Mapping[str, str],
        left: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._frames = frames
        self._times = times
        self._about = about
        self._on_leaving = left
        self._sending = self._complete = self._left = False
        self._wrote_at_s = anyio.current_time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        """Write the stream; return when it is complete or nobody takes it any more."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, receive, send, tasks.cancel_scope)
            await self._pump(send)
            tasks.cancel_scope.cancel()
        if self._left:
            log.debug("caller left a stream", action="stream_left", **self._about)
            if self._on_leaving is not None:
                await self._on_leaving()

    async def _pump(self, send: Send) -> None:
        async with aclosing(self._frames) as frames:
            try:
                await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
                async for frame in frames:
                    await self._write(send, frame, last=frame.endswith(DONE))
                if not self._complete:
                    await self._write(send, b"", last=True)
            except OSError:
                self._left = True  # the server says so in this way when the connection is gone
            except Exception as error:  # noqa: BLE001 (border: a begun answer can only end in an error frame)
                log.error("stream failed", action="stream_failed", error=type(error).__name__, **self._about)  # noqa: TRY400 (a trace may quote the conversation)
                told = error_answer(error).body if isinstance(error, ReverieError) else INTERNAL_ERROR
                await self._write(send, Frames.error(told) + DONE, last=True)

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
        self._left = True
        scope.cancel()


class TurnStream(EventStream):
    """The answer to one streaming request.

    With `wait_s` the turn has so long to begin; then the stream ends with the next-turn answer. `left` is called when
    the caller has gone before the end.
    """

    def __init__(
        self,
        feed: Feed,
        envelope: Envelope,
        *,
        include_usage: bool,
        timer: TurnTimer,
        times: StreamTimes,
        wait_s: float | None = None,
        left: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        async def leave() -> None:
            timer.left()
            if left is not None:
                await left()

        frames = _answer_frames(feed, envelope, include_usage=include_usage, timer=timer, wait_s=wait_s)
        super().__init__(frames, times, about={"turn_id": feed.turn_id}, left=leave)


async def queued_frames(envelope: Envelope) -> AsyncGenerator[bytes]:
    """The next-turn answer as a stream, to the byte as OpenClaw's: role, the text with its end, the mark."""
    frames = Frames(envelope)
    yield frames.bare_role() + frames.last_content(QUEUED) + DONE


async def said_frames(envelope: Envelope, text: str, *, include_usage: bool = False) -> AsyncGenerator[bytes]:
    """An answer that no model gave, as a stream."""
    frames = Frames(envelope)
    counted = frames.usage(Usage()) if include_usage else b""
    yield frames.role() + frames.content(text) + frames.finish("stop") + counted + DONE


async def _answer_frames(
    feed: Feed, envelope: Envelope, *, include_usage: bool, timer: TurnTimer, wait_s: float | None
) -> AsyncGenerator[bytes]:
    frames = Frames(envelope)
    yield frames.role()
    if wait_s is not None and not await feed.begun(wait_s):
        timer.queued()
        yield QUEUED_COMMENT + frames.last_content(QUEUED) + DONE
        return
    async with aclosing(reply_frames(feed, envelope, frames, include_usage=include_usage, timer=timer)) as reply:
        async for frame in reply:
            yield frame


async def reply_frames(
    feed: Feed,
    envelope: Envelope,
    frames: Frames,
    *,
    include_usage: bool = False,
    timer: TurnTimer | None = None,
    closing: Callable[[], Awaitable[bytes]] | None = None,
) -> AsyncGenerator[bytes]:
    """The frames of a turn from its first delta to `[DONE]`; `closing` gives what stands right before that.

    Raises:
        ReverieError: the turn's events ended without a terminal one.
    """
    said_something = False
    events = feed.follow()
    try:
        async for event in events:
            if timer is not None:
                timer.saw(event)
            match event:
                case ReplyDelta(text) | ReasoningDelta(text) if text:
                    is_reply = isinstance(event, ReplyDelta)
                    said_something = said_something or is_reply
                    yield frames.content(text) if is_reply else frames.reasoning(text)
                case TurnFinished() | TurnFailed():
                    told = _ending(event, envelope, frames, said_something=said_something, include_usage=include_usage)
                    yield told + (await closing() if closing is not None else b"") + DONE
                    return
                case TurnStarted(reset=reason) if reason:
                    yield f": x-reverie-session-reset: {reason}\n\n".encode()
                case ReplyDelta() | ReasoningDelta() | TurnStarted() | ContextAssembled():
                    pass
                case ToolStarted() | ToolFinished():
                    pass
                case _:
                    assert_never(event)
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()
    raise ReverieError("the turn's events ended without a terminal one")


def _ending(
    finished: TurnFinished | TurnFailed,
    envelope: Envelope,
    frames: Frames,
    *,
    said_something: bool,
    include_usage: bool,
) -> bytes:
    """Everything after the last delta but the end mark: tool calls, the reason, token counts; or the error."""
    if isinstance(finished, TurnFailed):
        return Frames.error(error_answer(finished.error).body)
    told: list[bytes] = []
    if not said_something and (text := envelope.text_of(finished)):
        told.append(frames.content(text))
    told.extend(frames.tool_calls(finished.tool_calls))
    told.append(frames.finish(finished.finish_reason))
    if include_usage:
        told.append(frames.usage(finished.usage))
    return b"".join(told)
