"""One turn in a native thread: followed, steered, stopped, and cut off."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.agent.codex import app_server, native_turn, steering
from reverie.agent.codex.app_server import AppServer, ThreadOptions, TurnOptions
from reverie.agent.codex.native_turn import NativeTurn
from reverie.agent.codex.protocol import ItemDone, TextPiece, TurnEnded, UserItem, text_input
from reverie.agent.codex.steering import Steering
from reverie.clock import SystemClock
from reverie.errors import CodexDiedError, CodexRefusedError, StorageError
from reverie.testing import FakeClock
from reverie.testing.fake_app_server import (
    FakeAppServer,
    Refuse,
    Result,
    Silence,
    ended_params,
    item_params,
    user_item,
)
from reverie.types import ImagePart, Message, SessionKey, Turn, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from reverie.agent.codex.protocol import Event

pytestmark = pytest.mark.anyio

THREAD = "thread-1"
KEY = SessionKey("main", "agent:main:main")


def said(name: str, text: str, *images: str) -> Turn:
    """A message that waits in the queue."""
    message = Message("user", text, images=tuple(ImagePart(url) for url in images))
    return Turn(name, "session", TurnRequest(name, KEY, (message,)), "queued", 0)


@dataclass
class Line:
    """The session's queue: what waits, and what was given back."""

    waiting: list[Turn] = field(default_factory=list[Turn])
    returned: list[str] = field(default_factory=list[str])
    slow: asyncio.Event | None = None

    async def take(self) -> Sequence[Turn]:
        taken, self.waiting = self.waiting, []
        if taken and self.slow is not None:
            await self.slow.wait()
        return taken

    async def give_back(self, turns: Sequence[Turn]) -> None:
        self.returned += [turn.id for turn in turns]


@dataclass
class World:
    """A turn that runs, with everything around it."""

    fake: FakeAppServer
    server: AppServer
    line: Line
    heard: list[Event] = field(default_factory=list[Any])
    fails: bool = False
    quiet_ms: int = 0

    async def hear(self, event: Event) -> None:
        self.heard.append(event)
        if isinstance(event, ItemDone) and isinstance(event.item, UserItem):
            self.steering.consumed(event.item.client_id)
        if self.fails:
            raise StorageError("the disk is full")

    def start(self) -> asyncio.Future[TurnEnded]:
        """Begin a turn."""
        clock = SystemClock()
        self.steering = Steering(self.line.take, self.line.give_back, clock, name="t", quiet_ms=self.quiet_ms)
        turn = NativeTurn(self.server, THREAD, self.hear, self.steering)
        return asyncio.ensure_future(turn.run(text_input("Hi"), "t", TurnOptions()))

    async def running(self) -> asyncio.Future[TurnEnded]:
        """A turn that was begun."""
        before = len(self.fake.called("turn/start"))
        run = self.start()
        await until(lambda: len(self.fake.called("turn/start")) > before)
        await settled()
        return run

    def end(self, status: str = "completed") -> None:
        """The turn ends."""
        self.fake.child.say("turn/completed", ended_params(THREAD, "turn-1", status))

    def consume(self, client_id: str) -> None:
        """A message is an item of the thread."""
        self.fake.child.say("item/completed", item_params(THREAD, "turn-1", user_item(client_id)))


async def until(condition: Any) -> None:
    """Wait until something is true."""
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.002)


async def settled() -> None:
    """Let everybody who can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is asked often, and nobody waits long."""
    monkeypatch.setattr(steering, "LOOK_S", 0.002)


@pytest.fixture
async def world() -> AsyncGenerator[World]:
    """An app-server on a double, with a thread."""
    fake = FakeAppServer()
    server = AppServer(fake, FakeClock())
    await server.start_thread(ThreadOptions("/ws", "never", "read-only"))
    yield World(fake, server, Line())
    await server.aclose()


# -- following -----------------------------------------------------------------------------------------------------


async def test_a_turn_is_heard_from_its_first_event_to_its_end(world: World) -> None:
    """Each event in order; the end is what the turn gives, and that of another turn is none."""
    run = await world.running()
    world.fake.child.say(
        "item/agentMessage/delta", {"threadId": THREAD, "turnId": "turn-1", "itemId": "i", "delta": "a"}
    )
    world.fake.child.say("turn/completed", ended_params(THREAD, "turn-0"))
    world.end()
    assert await run == TurnEnded(THREAD, "turn-1", "completed", None)
    assert world.heard == [TextPiece(THREAD, "turn-1", "i", "a"), TurnEnded(THREAD, "turn-0", "completed", None)]


async def test_events_before_the_answer_are_not_missed(world: World) -> None:
    """The app-server may tell of a turn before it has answered the request for it."""

    def early(_params: Any) -> Result:
        world.fake.child.say("item/agentMessage/delta",
                             {"threadId": THREAD, "turnId": "turn-1", "itemId": "i", "delta": "early"})  # fmt: skip
        return Result({"turn": {"id": "turn-1"}})

    world.fake.then("turn/start", early)
    run = await world.running()
    world.end()
    await run
    assert world.heard == [TextPiece(THREAD, "turn-1", "i", "early")]


async def test_a_turn_that_is_refused(world: World) -> None:
    """The refusal is raised, and nothing was begun that would have to be stopped."""
    world.fake.then("turn/start", Refuse("remote image URLs are not supported"))
    with pytest.raises(CodexRefusedError, match="remote image URLs"):
        await world.start()
    assert world.fake.called("turn/interrupt") == []


async def test_a_child_that_dies_within_a_turn(world: World) -> None:
    """The turn fails at once with its cause; it does not wait for a deadline."""
    run = await world.running()
    world.fake.child.die(9)
    with anyio.fail_after(2), pytest.raises(CodexDiedError, match="ended with code 9"):
        await run


# -- stopping ------------------------------------------------------------------------------------------------------


async def test_a_cancelled_turn_is_interrupted_and_waited_for(world: World) -> None:
    """Whoever cancels is let go only when the turn has really ended: the thread is idle then."""
    run = await world.running()
    run.cancel()
    await until(lambda: world.fake.called("turn/interrupt"))
    await settled()
    assert not run.done()
    world.end("interrupted")
    with pytest.raises(asyncio.CancelledError):
        await run
    assert world.fake.called("turn/interrupt") == [{"threadId": THREAD, "turnId": "turn-1"}]
    assert world.fake.child.alive


async def test_a_turn_that_is_cancelled_while_it_begins(world: World) -> None:
    """It is interrupted once its id is known, so that it does not run on unheard."""
    world.fake.then("turn/start", Silence())
    run = world.start()
    await until(lambda: world.fake.called("turn/start"))
    run.cancel()
    await settled()
    world.fake.child.write_out(b'{"id": 3, "result": {"turn": {"id": "turn-9"}}}\n')
    await until(lambda: world.fake.called("turn/interrupt"))
    world.fake.child.say("turn/completed", ended_params(THREAD, "turn-9", "interrupted"))
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_a_turn_that_has_ended_needs_no_interrupt(world: World) -> None:
    """That the app-server refuses to interrupt it is as good."""
    world.fake.then("turn/interrupt", Refuse("no active turn to interrupt"))
    run = await world.running()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert world.fake.child.alive


async def test_a_turn_that_does_not_stop_ends_its_child(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next turn of the thread would run into it."""
    monkeypatch.setattr(native_turn, "STOP_S", 0.05)
    run = await world.running()
    run.cancel()
    with anyio.fail_after(2), pytest.raises(asyncio.CancelledError):
        await run
    assert not world.fake.child.alive


async def test_a_defect_of_the_listener_stops_the_turn(world: World) -> None:
    """What is raised while an event is heard is raised, after the turn was interrupted."""
    world.fails = True
    run = await world.running()
    world.consume("t")
    await until(lambda: world.fake.called("turn/interrupt"))
    world.end("interrupted")
    with pytest.raises(StorageError, match="the disk is full"):
        await run


# -- steering ------------------------------------------------------------------------------------------------------


async def test_messages_enter_the_turn_in_one_call_and_in_order(world: World) -> None:
    """What arrives within the quiet window goes together, in the order of arrival, under a name of ours."""
    world.quiet_ms = 40
    run = await world.running()
    world.line.waiting = [said("a", "one")]
    await anyio.sleep(0.01)
    world.line.waiting = [said("b", "two", "data:image/png;base64,AA")]
    await until(lambda: world.fake.called("turn/steer"))
    world.consume("t:steer:1")
    world.end()
    await run
    assert world.fake.called("turn/steer") == [
        {
            "threadId": THREAD,
            "expectedTurnId": "turn-1",
            "input": [
                {"type": "text", "text": "one"},
                {"type": "text", "text": "two"},
                {"type": "image", "url": "data:image/png;base64,AA"},
            ],
            "clientUserMessageId": "t:steer:1",
        }
    ]
    assert world.line.returned == []


async def test_each_new_message_restarts_the_quiet_window(world: World) -> None:
    """As long as somebody writes on, nothing is sent; then all of it goes at once."""
    world.quiet_ms = 60
    run = await world.running()
    for number in range(4):
        world.line.waiting = [said(f"m{number}", f"{number}")]
        await anyio.sleep(0.03)
        assert world.fake.called("turn/steer") == []
    await until(lambda: world.fake.called("turn/steer"))
    world.consume("t:steer:1")
    world.end()
    await run
    assert [each["text"] for each in world.fake.called("turn/steer")[0]["input"]] == ["0", "1", "2", "3"]


async def test_without_a_quiet_window_a_message_goes_at_once(world: World) -> None:
    """0 ms: each message is a call of its own."""
    run = await world.running()
    for name in ("a", "b"):
        world.line.waiting = [said(name, name)]
        await until(lambda name=name: any(call["input"][0]["text"] == name for call in world.fake.called("turn/steer")))
    world.consume("t:steer:1")
    world.consume("t:steer:2")
    world.end()
    await run
    assert world.line.returned == []


async def test_accepted_is_not_consumed(world: World) -> None:
    """A message that was accepted and is no item of the thread when the turn ends goes back to the queue."""
    run = await world.running()
    world.line.waiting = [said("a", "one")]
    await until(lambda: world.fake.called("turn/steer"))
    await settled()
    world.end()
    await run
    assert world.line.returned == ["a"]


async def test_a_rejected_message_goes_back_with_those_behind_it(world: World) -> None:
    """The turn is over, or is one that takes none: nobody tries again in it."""
    world.fake.then("turn/steer", Refuse("no active turn to steer"))
    run = await world.running()
    world.line.waiting = [said("a", "one")]
    await until(lambda: world.fake.called("turn/steer"))
    world.line.waiting = [said("b", "two")]
    await anyio.sleep(0.02)
    world.end()
    await run
    assert (world.line.returned, [turn.id for turn in world.line.waiting]) == (["a"], ["b"])
    assert len(world.fake.called("turn/steer")) == 1


async def test_what_was_still_held_back_goes_back(world: World) -> None:
    """A message in the quiet window when the turn ends was not sent at all."""
    world.quiet_ms = 60_000
    run = await world.running()
    world.line.waiting = [said("a", "one")]
    await anyio.sleep(0.02)
    world.end()
    await run
    assert (world.line.returned, world.fake.called("turn/steer")) == (["a"], [])


async def test_a_message_whose_fate_is_unknown_is_not_sent_again(world: World) -> None:
    """The child died after it had accepted it: it may have been read. What was never sent goes back."""
    run = await world.running()
    world.line.waiting = [said("a", "one")]
    await until(lambda: world.fake.called("turn/steer"))
    world.line.slow = asyncio.Event()
    world.line.waiting = [said("b", "two")]
    await until(lambda: not world.line.waiting)
    world.fake.child.die(9)
    await until(lambda: world.server.statistics().process.deaths)
    await settled()
    world.line.slow.set()
    with pytest.raises(CodexDiedError):
        await run
    assert world.line.returned == ["b"]


async def test_a_message_that_is_being_taken_when_the_turn_ends_is_not_lost(world: World) -> None:
    """The queue has given it away already: it is waited for, and goes back."""
    world.line.slow = asyncio.Event()
    run = await world.running()
    world.line.waiting = [said("a", "one")]
    await until(lambda: not world.line.waiting)
    world.end()
    await settled()
    assert not run.done()
    world.line.slow.set()
    await run
    assert world.line.returned == ["a"]


async def test_an_unanswered_message_is_told_by_the_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer to `turn/steer` says nothing; the item does, or the end of the turn."""
    monkeypatch.setattr(app_server, "REQUEST_S", 0.02)
    world.fake.then("turn/steer", Silence(), Silence())
    run = await world.running()
    world.line.waiting = [said("a", "one")]
    await until(lambda: len(world.fake.called("turn/steer")) == 1)
    world.line.waiting = [said("b", "two")]
    await until(lambda: len(world.fake.called("turn/steer")) == 2)
    world.consume("t:steer:1")
    world.end()
    await run
    assert world.line.returned == ["b"]
