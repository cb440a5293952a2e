"""A queue on a real database, under a test's control: when turns end, what time it is, and when the process is killed.

The event loop's time is the fake clock's, so that a deadline, a debounce or a time limit passes when the test says so.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from reverie.config import QueueConfig
from reverie.errors import UpstreamUnreachableError
from reverie.sessions.events import ReplyDelta, TurnFailed, TurnFinished, TurnStarted
from reverie.sessions.queue import TurnQueue
from reverie.sessions.store import SessionStore
from reverie.sessions.transcript import RecordedMessage
from reverie.sessions.turns import TurnStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import Arrival, Message, SessionKey, Turn, TurnRequest, Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from pathlib import Path

    from reverie.sessions.events import TurnEvent
    from reverie.sessions.feed import TurnFeed
    from reverie.sessions.inbox import InboxEntry
    from reverie.storage import Row
    from reverie.types import Delivery, JsonObject

T = TypeVar("T")

TURN_S_MAX = 50.0
QUIET_ROUNDS = 3
WAIT_S_MAX = 30.0
ROWS_MAX = 100_000
SPOKEN = "Something."
ENDS = frozenset({"answered", "failed", "dropped", "expired", "cancelled"})
MOVES = {
    None: {"accepted", "queued"},
    "accepted": {"running", *ENDS} - {"answered"},
    "queued": {"running", *ENDS} - {"answered"},
    "running": {"answered", "failed", "cancelled"},
}
"""Where a turn may go from each state."""

Command = Literal["finish", "fail", "boundary"]


class LoopOnFakeTime(asyncio.SelectorEventLoop):
    """An event loop whose timers go by a fake clock."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        super().__init__()

    def time(self) -> float:
        return self._clock.monotonic_s()


@dataclass
class Puppet:
    """A `run_turn` that does what it is told.

    `began` has what each turn held that ever began, in order. `before` is done once, before the next turn begins.
    """

    turns: TurnStore
    began: list[list[str]]
    before: Callable[[Turn], Awaitable[object]] | None = None
    commands: dict[str, asyncio.Queue[Command]] = field(default_factory=dict[str, "asyncio.Queue[Command]"])

    async def __call__(
        self, turn: Turn, emit: Callable[[TurnEvent], None], steered: Callable[[], Awaitable[Sequence[Turn]]]
    ) -> TurnFinished:
        if self.before is not None:
            before, self.before = self.before, None
            await before(turn)
        begun = await self.turns.begin(turn, history_max=100)
        turn = begun.turn
        held = [*(carried.id for carried in turn.carries), turn.id]
        self.began.append(held)
        commands: asyncio.Queue[Command] = asyncio.Queue()
        self.commands[turn.request.session.value] = commands
        try:
            emit(TurnStarted(turn.id))
            emit(ReplyDelta(SPOKEN))
            return await self._obey(turn, held, commands, steered)
        finally:
            del self.commands[turn.request.session.value]

    async def _obey(
        self,
        turn: Turn,
        held: list[str],
        commands: asyncio.Queue[Command],
        steered: Callable[[], Awaitable[Sequence[Turn]]],
    ) -> TurnFinished:
        records: list[RecordedMessage] = []
        while True:
            match await commands.get():
                case "boundary":
                    for entering in await steered():
                        held.append(entering.id)
                        records += [RecordedMessage(m, turn_id=entering.id) for m in entering.request.messages]
                case "fail":
                    raise UpstreamUnreachableError("no connection")
                case "finish":
                    finished = TurnFinished(turn.id, answer_to(turn.id), (), "stop", Usage(), "puppet")
                    records.append(RecordedMessage(Message("assistant", finished.text)))
                    await self.turns.finish(turn, records, finished)
                    return finished


def answer_to(turn_id: str) -> str:
    """What a turn answers."""
    return f"the answer of {turn_id}"


@dataclass
class Followed:
    """A feed that somebody follows to its end."""

    feed: TurnFeed
    events: list[TurnEvent]
    task: asyncio.Task[None]


class World:
    """A database, a queue on it, and everyone who follows a turn. Every call returns when nothing moves any more."""

    def __init__(
        self,
        folder: Path,
        config: QueueConfig | None = None,
        *,
        store: Callable[[Database, FakeClock], TurnStore] = TurnStore,
    ) -> None:
        self.clock = FakeClock()
        self.loop = LoopOnFakeTime(self.clock)
        self.config = config or QueueConfig()
        self.began: list[list[str]] = []
        self.followed: list[Followed] = []
        self._file = folder / "state.db"
        self._store = store
        self.run(self._open())

    def run(self, work: Coroutine[None, None, T]) -> T:
        """Run something, and then whatever it set going."""

        async def settled() -> T:
            result = await work
            await self._settle()
            return result

        return self.loop.run_until_complete(settled())

    # -- what may happen -----------------------------------------------------------------------------------------

    async def submit(self, request: TurnRequest, *, refuse_busy: bool = False) -> TurnFeed:
        """Send a message and follow its turn."""
        feed = await self.queue.submit(request, refuse_busy=refuse_busy)
        events: list[TurnEvent] = []
        self.followed.append(Followed(feed, events, asyncio.create_task(_follow(feed, events))))
        return feed

    async def command(self, session: str, command: Command) -> None:
        """Tell the session's running turn what to do; nothing when none runs."""
        if session in self.puppet.commands:
            self.puppet.commands[session].put_nowait(command)

    async def advance(self, ms: int) -> None:
        """Let time pass."""
        self.clock.advance(ms=ms)
        await asyncio.sleep(0)

    async def restart(self, *, killed: bool) -> None:
        """Stop, or be killed, and start again."""
        await self._close(killed=killed)
        await self._open()

    # -- what can be seen ----------------------------------------------------------------------------------------

    async def entry(self, turn_id: str) -> InboxEntry | None:
        """A turn as the inbox has it."""
        return await self.turns.entry(turn_id)

    async def states(self, key: str) -> dict[str, list[str]]:
        """The states that each turn of a session went through."""
        rows: list[Row] = await self.database.read(
            lambda tx: tx.rows("session_events_after", key=key, after=0, limit=ROWS_MAX)
        )
        seen: dict[str, list[str]] = {}
        for row in rows:
            if row["turn_id"] is not None and row["kind"].startswith("turn."):
                seen.setdefault(row["turn_id"], []).append(row["kind"].removeprefix("turn."))
        return seen

    async def said(self) -> list[str]:
        """What users said in all sessions, in the order of the log."""
        messages = await SessionStore(self.database, self.clock).messages_after(0, ROWS_MAX)
        return [message.text for message in messages if message.role == "user"]

    # -- start and stop ------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self.database = await Database.open(self._file, STATE, now_ms=self.clock.now_ms())
        self.turns = self._store(self.database, self.clock)
        self.puppet = Puppet(self.turns, self.began)
        self.queue = TurnQueue(self.turns, self.puppet, self.clock, self.config, turn_s_max=TURN_S_MAX, drain_s=0)
        self._stop = asyncio.Event()
        started = asyncio.Event()
        self._running = asyncio.create_task(self._serve(started))
        await started.wait()

    async def _serve(self, started: asyncio.Event) -> None:
        async with self.queue.running():
            started.set()
            await self._stop.wait()

    async def _close(self, *, killed: bool) -> None:
        if killed:  # nothing reaches the disk from here on
            await self.database.aclose()
        self._stop.set()
        await self._running
        await self.database.aclose()

    def close(self) -> None:
        """End everything."""
        self.loop.run_until_complete(self._end())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    async def _end(self) -> None:
        await self._close(killed=False)
        for followed in self.followed:
            followed.task.cancel()
        await asyncio.gather(*(followed.task for followed in self.followed), return_exceptions=True)

    async def _settle(self) -> None:
        """Wait until the database is asked nothing any more, some times in a row."""
        quiet = 0
        while quiet < QUIET_ROUNDS:
            before = self._asked()
            for _ in range(5):
                await asyncio.sleep(0)
            await self._meet_readers()
            await self.database.write(_nothing)
            for _ in range(5):
                await asyncio.sleep(0)
            quiet = quiet + 1 if self._asked() == before + 3 else 0

    async def _meet_readers(self) -> None:
        """Wait until both threads that read have come: each has ended what it was at before."""
        meeting = threading.Barrier(2)

        def come(_: object) -> None:
            meeting.wait(WAIT_S_MAX)

        await asyncio.gather(self.database.read(come), self.database.read(come))

    def _asked(self) -> int:
        statistics = self.database.statistics()
        return statistics.reads + statistics.writes


def _nothing(_: object) -> None:
    return None


async def _follow(feed: TurnFeed, events: list[TurnEvent]) -> None:
    events.extend([event async for event in feed.follow()])


def message(
    turn_id: str,
    session: str,
    text: str,
    *,
    source: str = "",
    key: str | None = None,
    delivery: Delivery = "followup",
    deadline_at_ms: int | None = None,
    waits: bool = True,
    instructions: str = "",
) -> TurnRequest:
    """A message as it comes in at the door."""
    arrival = Arrival(source, key, delivery, deadline_at_ms, waits=waits)
    return TurnRequest(
        turn_id, SessionKey("main", session), (Message("user", text),), instructions=instructions, arrival=arrival
    )


def settings_of(cap: int, drop: str, debounce_ms: int) -> JsonObject:
    """A session's own settings."""
    return {"cap": cap, "drop": drop, "debounce_ms": debounce_ms}


def ends_in(events: Sequence[TurnEvent]) -> TurnFinished | TurnFailed:
    """The one terminal event, which stands last."""
    ends = [event for event in events if isinstance(event, TurnFinished | TurnFailed)]
    assert len(ends) == 1, events
    assert events[-1] is ends[0]
    assert sum(isinstance(event, TurnStarted) for event in events) <= 1, events
    return ends[0]
