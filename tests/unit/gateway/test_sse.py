"""A stream while nothing comes, and after its caller has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.gateway.metrics import Metrics
from reverie.gateway.replies import Envelope
from reverie.gateway.sse import StreamTimes, TurnStream
from reverie.sessions.events import ReplyDelta
from reverie.testing import FakeClock
from reverie.types import SessionKey
from tests.unit.gateway.scripted_app import STARTED, TURN_ID, ScriptedFeed, finished, no_gauges

if TYPE_CHECKING:
    from starlette.types import Message

pytestmark = pytest.mark.anyio


def stream_of(feed: ScriptedFeed, *, ping_s: float = 15.0, stall_s: float = 60.0) -> TurnStream:
    """The stream of a feed."""
    return TurnStream(
        feed,
        Envelope(TURN_ID, 0, "reverie", "reverie"),
        include_usage=False,
        timer=Metrics(FakeClock(), no_gauges).turn_arrives(),
        times=StreamTimes(ping_s, stall_s),
    )


def feed_of(*steps: Any) -> ScriptedFeed:
    """A feed that replays these steps."""
    return ScriptedFeed(TURN_ID, "session-1", SessionKey("main", "k"), steps)


async def stays() -> Message:
    """A caller who listens to the end."""
    await anyio.sleep_forever()
    raise AssertionError


async def test_a_silent_stream_is_kept_open() -> None:
    """While the turn says nothing, comments go out, and the reply follows as usual."""
    answer = anyio.Event()
    bodies: list[bytes] = []

    async def send(message: Message) -> None:
        bodies.append(message.get("body", b""))
        if bodies.count(b": ping\n\n") == 2:
            answer.set()

    feed = feed_of(STARTED, answer, ReplyDelta("late"), finished("late"))
    with anyio.fail_after(10):
        await stream_of(feed, ping_s=0.01)({}, stays, send)
    assert [body for body in bodies if body.startswith(b":")] == [b": ping\n\n", b": ping\n\n"]
    assert b'"content":"late"' in bodies[-2]
    assert bodies[-1].endswith(b"data: [DONE]\n\n")


async def test_a_caller_who_hangs_up_is_left() -> None:
    """Nothing more is written, and the turn is no longer followed."""
    never = anyio.Event()
    feed = feed_of(STARTED, ReplyDelta("a"), never, finished("a"))
    said_a = anyio.Event()
    bodies: list[bytes] = []

    async def send(message: Message) -> None:
        bodies.append(message.get("body", b""))
        if b'"content":"a"' in bodies[-1]:
            said_a.set()

    async def hangs_up() -> Message:
        await said_a.wait()
        return {"type": "http.disconnect"}

    with anyio.fail_after(10):
        await stream_of(feed)({}, hangs_up, send)
    assert (len(bodies), feed.left.is_set()) == (3, True)


async def test_a_caller_who_takes_nothing_is_left() -> None:
    """A connection that does not accept a frame does not hold the stream for ever."""
    feed = feed_of(STARTED, ReplyDelta("a"), finished("a"))

    async def send(message: Message) -> None:
        if b'"content":"a"' in message.get("body", b""):
            await anyio.sleep_forever()

    with anyio.fail_after(10):
        await stream_of(feed, ping_s=0.01, stall_s=0.02)({}, stays, send)
    assert feed.left.is_set()


async def test_a_server_that_reports_a_lost_connection() -> None:
    """A server that raises on writing to a closed connection ends the stream quietly."""
    feed = feed_of(STARTED, ReplyDelta("a"), finished("a"))

    async def send(message: Message) -> None:
        if b'"content":"a"' in message.get("body", b""):
            raise OSError

    await stream_of(feed)({}, stays, send)
    assert feed.left.is_set()
