"""The queue: durable acceptance, one turn at a time in a session, turns that outlive their callers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from reverie.config import QueueConfig
from reverie.errors import (
    MessageKeyReusedError,
    QueueFullError,
    ReverieError,
    SessionBusyError,
    TurnCancelledError,
    TurnDroppedError,
    TurnExpiredError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from reverie.sessions.events import ReplyDelta, TurnFailed, TurnFinished, TurnStarted
from reverie.sessions.inbox import Place, QueueSettings
from reverie.sessions.queue import INTERRUPTED, QueueStatistics, TurnQueue
from reverie.sessions.store import SessionStore
from reverie.sessions.transcript import RecordedMessage
from reverie.sessions.turns import TurnStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import Arrival, Message, SessionKey, Turn, TurnRequest, Usage

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
    after_steering: asyncio.Event | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    read: dict[str, str] = field(default_factory=dict[str, str])
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
        self.read[turn.id] = begun.history[-1].message.text
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
        if self.after_steering is not None:
            await self.after_steering.wait()
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


# -- busy sessions -----------------------------------------------------------------------------------------------------


def arriving(turn_id: str, text: str = "hello", **arrival: Any) -> TurnRequest:
    return replace(request(turn_id, text), arrival=replace(Arrival(waits=False), **arrival))


@asynccontextmanager
async def busy_queue(
    turns: TurnStore, clock: FakeClock | None = None, **config: Any
) -> AsyncGenerator[tuple[TurnQueue, Echo, TurnFeed]]:
    """A queue whose session is busy with turn `t0` until the gate opens, at the latest when the block is left."""
    run = Echo(turns, gate=asyncio.Event())
    assert run.gate is not None
    settings = QueueConfig.model_validate({"debounce_ms": 0, **config})
    queue = TurnQueue(turns, run, clock or FakeClock(), settings, turn_s_max=30, drain_s=5)
    async with queue.running():
        first = await queue.submit(request("t0", "first"))
        await run.started.wait()
        yield queue, run, first
        run.gate.set()
        while queue.statistics().lanes:
            await asyncio.sleep(0)


async def test_the_same_message_sent_again_is_the_same_turn(turns: TurnStore, store: SessionStore) -> None:
    """While it waits, while it runs and after its end; it runs once."""
    async with busy_queue(turns) as (queue, run, _):
        first = await queue.submit(arriving("t1", message_key="k"))
        again = await queue.submit(arriving("t2", message_key="k"))
        assert (again.turn_id, again.attached, first.attached) == ("t1", True, False)
        assert run.gate is not None
        run.gate.set()
        answer = await first.result()
        assert await again.result() == answer
        late = await queue.submit(arriving("t3", message_key="k"))

        assert await events(late) == [answer]
        assert (late.turn_id, late.attached, late.session_id) == ("t1", True, first.session_id)
    assert run.order == ["t0", "t1"]
    assert await store.turn_state("t2") is None


async def test_the_same_key_of_another_source_is_another_message(turns: TurnStore) -> None:
    """Two programs that number their messages do not meet."""
    async with busy_queue(turns) as (queue, run, _):
        await queue.submit(arriving("t1", source="a", message_key="1"))
        await queue.submit(arriving("t2", source="b", message_key="1"))
    assert run.order == ["t0", "t1", "t2"]


async def test_a_key_used_for_another_message_is_refused(turns: TurnStore, store: SessionStore) -> None:
    """Whether its turn is still there or long over."""
    async with busy_queue(turns) as (queue, run, _):
        first = await queue.submit(arriving("t1", "one", message_key="k"))
        with pytest.raises(MessageKeyReusedError, match="t1"):
            await queue.submit(arriving("t2", "two", message_key="k"))
        assert run.gate is not None
        run.gate.set()
        await first.result()
        with pytest.raises(MessageKeyReusedError, match="t1"):
            await queue.submit(arriving("t3", "three", message_key="k"))
    assert await store.turn_state("t3") is None


async def test_a_turn_knows_its_place(turns: TurnStore) -> None:
    """The first found its session idle; the others are told how many are before them, and the longest wait is known."""
    clock = FakeClock()
    async with busy_queue(turns, clock) as (queue, _, first):
        second = await queue.submit(arriving("t1"))
        third = await queue.submit(arriving("t2"))

        assert [feed.place for feed in (first, second, third)] == [Place(0, 0), Place(1, 1), Place(2, 2)]
        assert queue.place_of("t2") == Place(2, 2)
        assert queue.place_of("t0") == Place(0, 0)
        assert [entry.turn_id for entry in await queue.queue_of("agent:main:main", 10)] == ["t0", "t1", "t2"]
        assert [entry.state for entry in await queue.queue_of("agent:main:main", 10)] == ["running", "queued", "queued"]
        clock.advance(ms=70)
        assert queue.statistics() == QueueStatistics(1, 1, 2, 0, 0, oldest_wait_ms=70)


async def test_a_busy_session_can_be_refused(turns: TurnStore, store: SessionStore) -> None:
    """Nothing is accepted; an idle one takes the message."""
    async with busy_queue(turns) as (queue, run, _):
        with pytest.raises(SessionBusyError):
            await queue.submit(request("t1"), refuse_busy=True)
        assert run.gate is not None
        run.gate.set()
        await (await queue.submit(request("t2", session="other"), refuse_busy=True)).result()
    assert await store.turn_state("t1") is None


async def test_steered_messages_enter_the_running_turn(turns: TurnStore, store: SessionStore) -> None:
    """In order, at the boundary, with one answer for all; the transcript has them where the model read them."""
    async with busy_queue(turns) as (queue, run, _):
        steered = [await queue.submit(arriving(f"t{n}", f"m{n}", delivery="steer")) for n in (1, 2)]
        later = await queue.submit(arriving("t3", "m3"))
        assert run.gate is not None
        run.gate.set()
        answers = [await feed.result() for feed in steered]
        assert (await later.result()).text == "m3"

    assert run.order == ["t0", "t3"]
    assert run.steered == ["m1", "m2"]
    assert [(answer.turn_id, answer.text) for answer in answers] == [("t1", "first"), ("t2", "first")]
    assert (await transcript(store))[:4] == [("user", "first"), ("user", "m1"), ("user", "m2"), ("assistant", "first")]
    entry = await turns.entry("t1")
    assert entry is not None
    assert (entry.state, entry.carrier_id) == ("answered", "t0")
    assert await turns.end_of("t1") == answers[0]


async def test_a_message_within_anothers_turn_cannot_be_stopped_alone(turns: TurnStore) -> None:
    """Whoever asked for the turn keeps its answer."""
    async with busy_queue(turns) as (queue, run, first):
        run.after_steering = asyncio.Event()
        steered = await queue.submit(arriving("t1", "m1", delivery="steer"))
        assert run.gate is not None
        run.gate.set()
        while not run.steered:
            await asyncio.sleep(0)
        left_alone = await queue.cancel("t1", "stop")
        run.after_steering.set()

        assert left_alone is not None
        assert (left_alone.state, left_alone.carrier_id) == ("running", "t0")
        assert (await first.result()).text == (await steered.result()).text == "first"


async def test_a_message_with_settings_of_its_own_is_not_steered(turns: TurnStore) -> None:
    """It becomes the next turn, and what its source sent after it stays behind it."""
    async with busy_queue(turns) as (queue, run, _):
        own = replace(arriving("t1", "m1", delivery="steer"), instructions="be brief")
        await queue.submit(own)
        await queue.submit(arriving("t2", "m2", delivery="steer"))
        await queue.submit(arriving("t3", "m3", delivery="steer", source="other"))
    assert run.steered == ["m3"]
    assert run.order == ["t0", "t1", "t2"]


async def test_a_steered_message_ends_as_its_turn_ends(turns: TurnStore, store: SessionStore) -> None:
    """When the turn fails after it, it has failed with the same cause, and its words are kept."""
    failing = Echo(turns)

    async def fails_after_the_boundary(
        turn: Turn, emit: Callable[[TurnEvent], None], steered: Callable[[], Awaitable[Sequence[Turn]]]
    ) -> TurnFinished:
        await turns.begin(turn, history_max=10)
        emit(TurnStarted(turn.id))
        failing.started.set()
        while not await steered():
            await asyncio.sleep(0.001)
        raise UpstreamUnreachableError("gone")

    queue = TurnQueue(turns, fails_after_the_boundary, FakeClock(), QueueConfig(), turn_s_max=30, drain_s=1)
    async with queue.running():
        feed = await queue.submit(request("t0", "first"))
        await failing.started.wait()
        steered = await queue.submit(arriving("t1", "m1", delivery="steer"))
        for each in (feed, steered):
            with pytest.raises(UpstreamUnreachableError):
                await each.result()

    assert await store.turn_state("t1") == ("failed", "gone")
    assert await transcript(store) == [("user", "first"), ("user", "m1")]


async def test_collected_messages_run_as_one_turn(turns: TurnStore, store: SessionStore) -> None:
    """With one answer for all, each with its own entry in the transcript."""
    async with busy_queue(turns) as (queue, run, _):
        feeds = [await queue.submit(arriving(f"t{n}", f"m{n}", delivery="collect")) for n in (1, 2, 3)]
        assert run.gate is not None
        run.gate.set()
        answers = [await feed.result() for feed in feeds]

    assert run.order == ["t0", "t3"]
    assert [answer.text for answer in answers] == ["m3"] * 3
    assert await transcript(store) == [
        ("user", "first"), ("assistant", "first"), ("user", "m1"), ("user", "m2"), ("user", "m3"), ("assistant", "m3"),
    ]  # fmt: skip
    entry = await turns.entry("t1")
    assert entry is not None
    assert (entry.state, entry.carrier_id) == ("answered", "t3")


async def test_an_interruption_ends_the_running_turn_and_is_next(turns: TurnStore, store: SessionStore) -> None:
    """Before what others sent earlier, after what its own source did; the turn it ended is on record."""
    async with busy_queue(turns) as (queue, run, first):
        await queue.submit(arriving("t1", source="other"))
        await queue.submit(arriving("t2", source="me"))
        newest = await queue.submit(arriving("t3", source="me", delivery="interrupt"))
        with pytest.raises(TurnCancelledError, match="newer message"):
            await first.result()
        assert run.gate is not None
        run.gate.set()
        assert (await newest.result()).text == "hello"

    assert run.order == ["t0", "t2", "t3", "t1"]
    assert await store.turn_state("t0") == ("cancelled", "interrupted by a newer message")


async def test_the_oldest_gives_way_and_the_next_turn_is_told(turns: TurnStore) -> None:
    """The dropped caller hears of it at once; the model reads one line of each."""
    async with busy_queue(turns, cap=2, drop="summarize") as (queue, run, _):
        feeds = [await queue.submit(arriving(f"t{n}", f"words of {n}")) for n in (1, 2, 3, 4)]
        for feed in feeds[:2]:
            with pytest.raises(TurnDroppedError):
                await feed.result()
    assert run.order == ["t0", "t3", "t4"]
    assert run.read["t3"] == (
        "[Queue overflow] Dropped 2 messages due to cap.\nSummary:\n- words of 1\n- words of 2\n\nwords of 3"
    )
    assert run.read["t4"] == "words of 4"
    entry = await turns.entry("t1")
    assert entry is not None
    assert entry.state == "dropped"
    assert entry.carrier_id == "t3"


async def test_a_waiting_turn_can_be_cancelled(turns: TurnStore, store: SessionStore) -> None:
    """It never runs and leaves no words in the transcript; cancelling it twice changes nothing."""
    async with busy_queue(turns) as (queue, run, _):
        feed = await queue.submit(arriving("t1", "m1"))
        cancelled = await queue.cancel("t1", "not needed any more")
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        with pytest.raises(TurnCancelledError, match="not needed"):
            await feed.result()
        again = await queue.cancel("t1", "again")
        assert again == cancelled
        assert await queue.cancel("unknown", "x") is None
    assert run.order == ["t0"]
    assert await transcript(store) == [("user", "first"), ("assistant", "first")]


async def test_the_running_turn_can_be_cancelled(turns: TurnStore, store: SessionStore) -> None:
    """What was said by then is kept, the lane goes on, and there is one terminal event."""
    async with busy_queue(turns) as (queue, run, first):
        waiting = await queue.submit(arriving("t1", "m1"))
        assert run.gate is not None
        gate, run.gate = run.gate, None
        cancelled = await queue.cancel("t0", "stop")
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        assert [event for event in await events(first) if isinstance(event, TurnFailed | TurnFinished)] == [
            (await events(first))[-1]
        ]
        assert (await waiting.result()).text == "m1"
        run.gate = gate
    assert (await transcript(store))[:2] == [("user", "first"), ("assistant", "fi")]


async def test_a_message_expires_at_its_deadline(turns: TurnStore, store: SessionStore) -> None:
    """Its caller is told, and it never runs."""
    async with busy_queue(turns) as (queue, run, _):
        feed = await queue.submit(arriving("t1", deadline_at_ms=FakeClock().now_ms() + 20))
        with pytest.raises(TurnExpiredError):
            await feed.result()
    assert run.order == ["t0"]
    assert (await store.turn_state("t1") or ("",))[0] == "expired"


async def test_a_deadline_that_passes_while_reverie_is_off_counts(turns: TurnStore, database: Database) -> None:
    """After the restart the message expires instead of running."""
    await turns.accept(arriving("t1", deadline_at_ms=FakeClock().now_ms() + 20))
    clock = FakeClock()
    clock.advance(seconds=1)
    later = TurnStore(database, clock)
    run = Echo(later)
    queue = TurnQueue(later, run, clock, QueueConfig(), turn_s_max=30, drain_s=1)
    async with queue.running():
        while queue.statistics().lanes:
            await asyncio.sleep(0)
    entry = await later.entry("t1")
    assert entry is not None
    assert (entry.state, run.order) == ("expired", [])


async def test_messages_wait_until_their_senders_are_quiet(turns: TurnStore) -> None:
    """Those that come in quick succession are collected into one turn."""
    clock = FakeClock()
    async with busy_queue(turns, clock, debounce_ms=50) as (queue, run, first):
        one = await queue.submit(arriving("t1", "m1", delivery="collect"))
        assert run.gate is not None
        run.gate.set()
        await first.result()
        await queue.submit(arriving("t2", "m2", delivery="collect"))
        assert not one.ended
        clock.advance(ms=100)
        await one.result()
    assert run.order == ["t0", "t2"]


async def test_a_session_can_have_settings_of_its_own(turns: TurnStore) -> None:
    """They count for what waits already, outlive a restart, and can be taken back."""
    key = SessionKey("main", "agent:main:main")
    async with busy_queue(turns) as (queue, _, _):
        await queue.change_settings(key, {"mode": "steer", "cap": 1})
        assert await queue.settings(key) == QueueSettings("steer", cap=1, debounce_ms=0)
        await queue.submit(arriving("t1"))
        with pytest.raises(QueueFullError, match="the cap is 1"):
            await queue.submit(arriving("t2"))
    async with queue_of(turns, Echo(turns)) as again:
        assert (await again.settings(key)).mode == "steer"
        await again.change_settings(key, None)
        assert (await again.settings(key)).mode == "wait"


async def test_all_sessions_together_have_a_bound(turns: TurnStore) -> None:
    """Beyond it nothing is accepted."""
    async with busy_queue(turns, waiting_max=1) as (queue, _, _):
        await queue.submit(arriving("t1"))
        with pytest.raises(QueueFullError, match="waiting_max"):
            await queue.submit(request("t2", session="another"))


async def test_each_step_of_a_turn_is_an_event_that_can_be_read_again(turns: TurnStore, store: SessionStore) -> None:
    """In the order in which it happened, with its cause; a watch is told when there is more."""
    async with busy_queue(turns) as (queue, run, _):
        with queue.watch("agent:main:main") as watch:
            assert await watch.next(1) == "recorded"
            await queue.submit(arriving("t1", source="a"))
            assert await watch.next(1) == "recorded"
            await queue.cancel("t1", "stop")
            assert run.gate is not None
            run.gate.set()
            live: list[object] = []
            while (event := await watch.next(0.05)) is not None:
                live.append(event)
        assert [event for event in live if event != "recorded"] == [ReplyDelta("rst")]

    recorded = await store.events_after("agent:main:main", 0, 100)
    assert [(event.kind, event.turn_id) for event in recorded] == [
        ("turn.accepted", "t0"),
        ("turn.running", "t0"),
        ("turn.queued", "t1"),
        ("turn.cancelled", "t1"),
        ("turn.answered", "t0"),
    ]
    assert recorded[2].data == {"source": "a", "mode": "followup", "position": 2}
    assert recorded[3].data["error"]["message"] == "stop"
    assert await store.events_after("agent:main:main", recorded[3].seq, 100) == recorded[4:]


async def test_sources_share_a_session(turns: TurnStore) -> None:
    """One that has sent much does not hold up another that sends little."""
    async with busy_queue(turns) as (queue, run, _):
        for n in range(1, 5):
            await queue.submit(arriving(f"a{n}", source="a"))
        await queue.submit(arriving("b1", source="b"))
    assert run.order == ["t0", "a1", "b1", "a2", "a3", "a4"]
