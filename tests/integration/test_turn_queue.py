"""The queue: durable acceptance, one turn at a time in a session, turns that outlive their callers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from reverie.config import QueueConfig
from reverie.errors import (
    QueueFullError,
    ReverieError,
    TurnCancelledError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from reverie.sessions.events import ReplyDelta, TurnFailed, TurnFinished, TurnStarted
from reverie.sessions.queue import INTERRUPTED, TurnQueue
from reverie.sessions.store import SessionStore
from reverie.sessions.transcript import RecordedMessage
from reverie.sessions.turns import TurnStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import Message, SessionKey, Turn, TurnRequest, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import Path

    from reverie.sessions.events import TurnEvent
    from reverie.sessions.feed import TurnFeed

pytestmark = pytest.mark.anyio


def request(turn_id: str, text: str = "hello", session: str = "agent:main:main") -> TurnRequest:
    return TurnRequest(turn_id, SessionKey("main", session), (Message("user", text),))


@dataclass
class Echo:
    """A `run_turn` that echoes, waits at a gate when told to, and remembers what it ran."""

    turns: TurnStore
    order: list[str] = field(default_factory=list[str])
    gate: asyncio.Event | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    steered: list[str] = field(default_factory=list[str])
    together: int = 0
    together_max: int = 0

    async def __call__(
        self, turn: Turn, emit: Callable[[TurnEvent], None], steered: Callable[[], Awaitable[Sequence[Turn]]]
    ) -> TurnFinished:
        self.together += 1
        self.together_max = max(self.together_max, self.together)
        try:
            return await self._run(turn, emit, steered)
        finally:
            self.together -= 1

    async def _run(
        self, turn: Turn, emit: Callable[[TurnEvent], None], steered: Callable[[], Awaitable[Sequence[Turn]]]
    ) -> TurnFinished:
        begun = await self.turns.begin(turn, history_max=100)
        turn = begun.turn
        self.order.append(turn.id)
        self.started.set()
        emit(TurnStarted(turn.id))
        text = turn.request.messages[-1].text
        emit(ReplyDelta(text[:2]))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        emit(ReplyDelta(text[2:]))
        records = [
            RecordedMessage(message, turn_id=entering.id)
            for entering in await steered()
            for message in entering.request.messages
        ]
        self.steered += [record.message.text for record in records]
        finished = TurnFinished(turn.id, text, (), "stop", Usage(), "echo")
        await self.turns.finish(turn, [*records, RecordedMessage(Message("assistant", text))], finished)
        return finished


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await Database.open(tmp_path / "state.db", STATE, now_ms=1)
    yield opened
    await opened.aclose()


@pytest.fixture
def store(database: Database) -> SessionStore:
    return SessionStore(database, FakeClock())


@pytest.fixture
def turns(database: Database) -> TurnStore:
    return TurnStore(database, FakeClock())


@asynccontextmanager
async def queue_of(turns: TurnStore, run: Echo, **limits: float) -> AsyncGenerator[TurnQueue]:
    queue = TurnQueue(
        turns,
        run,
        FakeClock(),
        QueueConfig(cap=int(limits.get("waiting", 20))),
        turn_s_max=limits.get("turn_s", 30),
        drain_s=limits.get("drain_s", 5),
    )
    async with queue.running():
        yield queue


async def events(feed: TurnFeed) -> list[TurnEvent]:
    return [event async for event in feed.follow()]


async def transcript(store: SessionStore) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in await store.messages_after(0, 100)]


async def test_a_turn_is_answered_and_recorded(turns: TurnStore, store: SessionStore) -> None:
    """Its events end in one terminal event, and the transcript holds both sides."""
    async with queue_of(turns, Echo(turns)) as queue:
        feed = await queue.submit(request("t1"))

        assert await events(feed) == [
            TurnStarted("t1"),
            ReplyDelta("he"),
            ReplyDelta("llo"),
            TurnFinished("t1", "hello", (), "stop", Usage(), "echo"),
        ]
        assert await store.turn_state("t1") == ("answered", None)
        assert await transcript(store) == [("user", "hello"), ("assistant", "hello")]


async def test_a_session_runs_one_turn_at_a_time_in_order_of_arrival(turns: TurnStore, store: SessionStore) -> None:
    """However many come at once, none overtakes another."""
    run = Echo(turns)
    async with queue_of(turns, run) as queue:
        feeds = await asyncio.gather(*(queue.submit(request(f"t{n}", f"m{n}")) for n in range(15)))
        await asyncio.gather(*(feed.result() for feed in feeds))

    assert run.order == [f"t{n}" for n in range(15)]
    assert run.together_max == 1
    assert await transcript(store) == [(role, f"m{n}") for n in range(15) for role in ("user", "assistant")]


async def test_sessions_run_side_by_side(turns: TurnStore, store: SessionStore) -> None:
    """A slow session does not hold up another."""
    run = Echo(turns, gate=asyncio.Event())
    async with queue_of(turns, run) as queue:
        feeds = [await queue.submit(request(f"t{n}", session=f"s{n}")) for n in range(5)]
        while run.together < 5:
            await asyncio.sleep(0)
        assert run.gate is not None
        run.gate.set()
        await asyncio.gather(*(feed.result() for feed in feeds))

    assert run.together_max == 5


async def test_a_turn_is_durable_before_it_runs(turns: TurnStore, store: SessionStore) -> None:
    """When submit returns, a restart would find the turn."""
    run = Echo(turns, gate=asyncio.Event())
    async with queue_of(turns, run) as queue:
        await queue.submit(request("t1"))
        await queue.submit(request("t2"))
        waiting, _ = await turns.unended()
        assert run.gate is not None
        run.gate.set()

    assert [turn.turn_id for turn in waiting] == ["t1", "t2"]


async def test_a_caller_who_leaves_does_not_stop_the_turn(turns: TurnStore, store: SessionStore) -> None:
    """The turn belongs to the session's queue."""
    run = Echo(turns, gate=asyncio.Event())
    async with queue_of(turns, run) as queue:
        feed = await queue.submit(request("t1"))
        follower = asyncio.create_task(events(feed))
        await run.started.wait()
        follower.cancel()
        assert run.gate is not None
        run.gate.set()

        assert (await feed.result()).text == "hello"


async def test_a_caller_who_leaves_while_being_accepted_does_not_stop_the_turn(
    turns: TurnStore, store: SessionStore
) -> None:
    """Acceptance is finished for them."""
    run = Echo(turns)
    async with queue_of(turns, run) as queue:
        submitting = asyncio.create_task(queue.submit(request("t1")))
        await asyncio.sleep(0)
        submitting.cancel()
        await run.started.wait()

    assert await store.turn_state("t1") == ("answered", None)


async def test_followers_join_late_and_see_everything(turns: TurnStore, store: SessionStore) -> None:
    """A feed tells its whole story to each follower."""
    async with queue_of(turns, Echo(turns)) as queue:
        feed = await queue.submit(request("t1"))
        await feed.result()
        first, second = await asyncio.gather(events(feed), events(feed))

    assert first == second
    assert len(first) == 4


async def test_a_full_lane_refuses_before_anything_is_written(turns: TurnStore, store: SessionStore) -> None:
    """The caller is told when to come back."""
    run = Echo(turns, gate=asyncio.Event())
    async with queue_of(turns, run, waiting=2) as queue:
        await queue.submit(request("t0"))
        await run.started.wait()
        for n in (1, 2):
            await queue.submit(request(f"t{n}"))
        with pytest.raises(QueueFullError, match="2 messages wait") as caught:
            await queue.submit(request("t3"))
        assert run.gate is not None
        run.gate.set()

    assert caught.value.retry_after_s == 5
    assert await store.turn_state("t3") is None


async def test_a_failure_is_recorded_with_its_cause_and_the_lane_goes_on(turns: TurnStore, store: SessionStore) -> None:
    """What was said until then is kept in the transcript."""
    run = Echo(turns, error=UpstreamUnreachableError("no connection"))
    async with queue_of(turns, run) as queue:
        failed = await queue.submit(request("t1"))
        assert (await events(failed))[-1] == TurnFailed("t1", run.error, "he")  # pyright: ignore[reportArgumentType]
        with pytest.raises(UpstreamUnreachableError):
            await failed.result()
        run.error = None
        assert (await (await queue.submit(request("t2"))).result()).text == "hello"

    assert await store.turn_state("t1") == ("failed", "no connection")
    assert (await transcript(store))[:2] == [("user", "hello"), ("assistant", "he")]


async def test_a_defect_fails_its_turn_only(turns: TurnStore, store: SessionStore) -> None:
    """An unexpected exception is recorded, not leaked."""
    run = Echo(turns, error=KeyError("secret detail"))
    async with queue_of(turns, run) as queue:
        with pytest.raises(ReverieError, match="internal error: KeyError"):
            await (await queue.submit(request("t1"))).result()

    assert await store.turn_state("t1") == ("failed", "internal error: KeyError")


async def test_a_turn_that_takes_too_long_is_ended(turns: TurnStore, store: SessionStore) -> None:
    """Its session is free again afterwards."""
    run = Echo(turns, gate=asyncio.Event())
    async with queue_of(turns, run, turn_s=0.05) as queue:
        with pytest.raises(UpstreamTimeoutError, match="longer than 0.05 s"):
            await (await queue.submit(request("t1"))).result()

    assert (await store.turn_state("t1") or ("",))[0] == "failed"


async def test_stopping_lets_the_running_turn_finish_and_keeps_the_waiting_ones(
    turns: TurnStore, store: SessionStore
) -> None:
    """A waiting caller is told that its message is kept; it is answered after the restart, once."""
    run = Echo(turns, gate=asyncio.Event())
    async with queue_of(turns, run) as queue:
        running = await queue.submit(request("t1", "one"))
        waiting = await queue.submit(request("t2", "two"))
        await run.started.wait()
        assert run.gate is not None
        asyncio.get_running_loop().call_later(0.02, run.gate.set)

    assert (await running.result()).text == "one"
    with pytest.raises(TurnCancelledError, match="kept"):
        await waiting.result()
    assert await store.turn_state("t2") == ("queued", None)

    again = Echo(turns)
    async with queue_of(turns, again):
        await again.started.wait()
    assert again.order == ["t2"]
    assert await transcript(store) == [("user", "one"), ("assistant", "one"), ("user", "two"), ("assistant", "two")]


async def test_a_turn_cut_off_by_stopping_is_marked_never_rerun(turns: TurnStore, store: SessionStore) -> None:
    """It may have had effects already."""
    run = Echo(turns, gate=asyncio.Event())
    async with queue_of(turns, run, drain_s=0.01) as queue:
        feed = await queue.submit(request("t1"))
        await run.started.wait()

    assert isinstance((await events(feed))[-1], TurnFailed)
    assert await store.turn_state("t1") == ("cancelled", INTERRUPTED)


async def test_a_turn_that_ran_when_the_process_died_is_marked_failed(turns: TurnStore, store: SessionStore) -> None:
    """A restart finishes the books: running turns failed with their cause, waiting ones run in order."""
    for n in range(3):
        await turns.accept(request(f"t{n}", f"m{n}"))
    waiting, _ = await turns.unended()
    await turns.begin(await turns.turn_of(waiting[0]), history_max=10)

    run = Echo(turns)
    async with queue_of(turns, run) as queue:
        while queue.statistics().lanes:
            await asyncio.sleep(0.005)

    assert await store.turn_state("t0") == ("failed", INTERRUPTED)
    assert run.order == ["t1", "t2"]
    assert await transcript(store) == [
        ("user", "m0"),
        ("user", "m1"),
        ("assistant", "m1"),
        ("user", "m2"),
        ("assistant", "m2"),
    ]


async def test_a_storage_failure_at_acceptance_reaches_the_caller(
    turns: TurnStore, store: SessionStore, database: Database
) -> None:
    """Nothing was accepted, and the caller knows."""
    async with queue_of(turns, Echo(turns)) as queue:
        await database.aclose()
        with pytest.raises(ReverieError, match="closed"):
            await queue.submit(request("t1"))


async def test_a_failure_that_cannot_be_recorded_is_still_told(
    turns: TurnStore, store: SessionStore, database: Database
) -> None:
    """Nobody waits for a turn that is over, whatever is wrong with the disk."""

    async def close_and_fail(
        turn: Turn, emit: Callable[[TurnEvent], None], steered: Callable[[], Awaitable[Sequence[Turn]]]
    ) -> TurnFinished:
        assert not await steered()
        emit(TurnStarted(turn.id))
        await database.aclose()
        raise UpstreamUnreachableError("gone")

    queue = TurnQueue(turns, close_and_fail, FakeClock(), QueueConfig(), turn_s_max=30, drain_s=1)
    async with queue.running():
        with pytest.raises(UpstreamUnreachableError):
            await (await queue.submit(request("t1"))).result()


async def test_an_end_that_is_on_record_is_not_written_again(turns: TurnStore, store: SessionStore) -> None:
    """A failure that comes after the answer changes nothing of it."""
    async with queue_of(turns, Echo(turns)) as queue:
        await (await queue.submit(request("t1"))).result()
    turn = Turn("t1", (await store.list_sessions())[0].id, request("t1"), "running", 0)
    await turns.fail(turn, ReverieError("too late"), partial="hel")

    assert await store.turn_state("t1") == ("answered", None)
    assert await transcript(store) == [("user", "hello"), ("assistant", "hello")]
