"""One turn at a time in each session, and a turn that outlives the connection that asked for it.

`submit` makes the turn durable, puts it at the end of its session's lane and returns a `TurnFeed`. A lane runs its
turns in order of arrival; lanes run side by side. Whoever follows a feed may leave: the turn goes on and is
recorded. How a turn is run is not known here: the queue is given `run_turn`.

Bounds: `waiting_turns_max` turns wait in a lane, the next is refused with `QueueFullError` before anything is
written; `turn_s_max` ends a turn that takes too long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import anyio
import structlog

from reverie.errors import QueueFullError, ReverieError, TurnCancelledError, UpstreamTimeoutError
from reverie.sessions.events import ReplyDelta, TurnFailed, TurnFinished
from reverie.tasks import OwnedTasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from reverie.sessions.events import TurnEvent
    from reverie.sessions.store import SessionStore
    from reverie.types import SessionKey, Turn, TurnRequest

log = structlog.get_logger(__name__)

KEPT = "Reverie is stopping; your message is kept and will be answered after the restart"
INTERRUPTED = "interrupted: Reverie stopped while this turn ran; send the message again"


class RunTurn(Protocol):
    """How a turn is run: emits progress, records the answer, and returns the terminal event.

    A `ReverieError` that it raises becomes the turn's failure.
    """

    async def __call__(self, turn: Turn, emit: Callable[[TurnEvent], None]) -> TurnFinished:
        """Run one turn."""
        ...


class TurnFeed:
    """What happens to one turn, for any number of followers, from the start at any time."""

    def __init__(self, request: TurnRequest) -> None:
        self.turn_id = request.turn_id
        self.session_key: SessionKey = request.session
        self.session_id = ""
        self._events: list[TurnEvent] = []
        self._more = asyncio.Event()

    def emit(self, event: TurnEvent) -> None:
        """Add an event. Nothing may follow a terminal one."""
        assert not self.ended, "a turn has one terminal event"
        self._events.append(event)
        self._more.set()

    @property
    def ended(self) -> bool:
        """True once the terminal event is there."""
        return bool(self._events) and isinstance(self._events[-1], TurnFinished | TurnFailed)

    async def follow(self) -> AsyncIterator[TurnEvent]:
        """Every event from the first; ends after the terminal one. Leaving early does not touch the turn."""
        index = 0
        while True:
            while index < len(self._events):
                event = self._events[index]
                yield event
                index += 1
                if isinstance(event, TurnFinished | TurnFailed):
                    return
            self._more.clear()
            await self._more.wait()

    async def result(self) -> TurnFinished:
        """The answer.

        Raises:
            ReverieError: the turn failed; this is its cause.
        """
        async for event in self.follow():
            if isinstance(event, TurnFinished):
                return event
            if isinstance(event, TurnFailed):
                raise event.error
        raise AssertionError("a feed ends with a terminal event")

    def said(self) -> str:
        """The text of the reply so far."""
        return "".join(event.text for event in self._events if isinstance(event, ReplyDelta))


@dataclass(slots=True)
class _Waiting:
    request: TurnRequest
    feed: TurnFeed
    accepted: asyncio.Future[Turn]


@dataclass(slots=True)
class _Lane:
    """The turns of one session key: those that wait, and the one that runs."""

    waiting: deque[_Waiting] = field(default_factory=deque[_Waiting])


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """How busy the sessions are."""

    lanes: int
    running: int
    waiting: int
    answered: int
    failed: int


class TurnQueue:
    """Runs turns. Use inside `async with queue.running():`; leaving it drains."""

    def __init__(
        self,
        store: SessionStore,
        run_turn: RunTurn,
        *,
        waiting_turns_max: int,
        turn_s_max: float,
        drain_s: float,
    ) -> None:
        self._store = store
        self._run_turn = run_turn
        self._waiting_turns_max = waiting_turns_max
        self._turn_s_max = turn_s_max
        self._drain_s = drain_s
        self._lanes: dict[str, _Lane] = {}
        self._tasks: OwnedTasks | None = None
        self._draining = False
        self._lane_ended = asyncio.Event()
        self._running = self._answered = self._failed = 0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[TurnQueue]:
        """Accept and run turns until the block is left; then let running turns finish for `drain_s` seconds.

        Turns that still wait stay accepted and run at the next start; one that is cut off is recorded as failed.
        """
        async with OwnedTasks() as tasks:
            self._tasks = tasks
            await self._recover()
            try:
                yield self
            finally:
                await self._drain()

    async def submit(self, request: TurnRequest) -> TurnFeed:
        """Accept a turn; when this returns, it is durable and will be answered.

        Raises:
            QueueFullError: too many turns wait in this session, or Reverie is stopping; nothing was accepted.
            StorageError: it could not be made durable; nothing was accepted.
        """
        if self._draining or self._tasks is None:
            raise QueueFullError("Reverie is stopping; try again when it is back.", retry_after_s=5)
        lane = self._lanes.get(request.session.value)
        if lane is not None and len(lane.waiting) >= self._waiting_turns_max:
            message = f"{len(lane.waiting)} turns wait in this session already (sessions.waiting_turns_max); try later."
            raise QueueFullError(message, retry_after_s=5)
        waiting = self._enqueue(request)
        self._tasks.start(self._accept(waiting), name="accept")  # its own task: a caller who leaves does not undo it
        turn = await asyncio.shield(waiting.accepted)
        waiting.feed.session_id = turn.session_id
        return waiting.feed

    def statistics(self) -> QueueStatistics:
        """How busy the sessions are now."""
        waiting = sum(len(lane.waiting) for lane in self._lanes.values())
        return QueueStatistics(len(self._lanes), self._running, waiting, self._answered, self._failed)

    # -- lanes ---------------------------------------------------------------------------------------------------

    def _enqueue(self, request: TurnRequest) -> _Waiting:
        """Take a place in the session's lane; a lane runs as long as it has turns."""
        assert self._tasks is not None
        accepted: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(request, TurnFeed(request), accepted)
        lane = self._lanes.get(request.session.value)
        if lane is None:
            lane = self._lanes[request.session.value] = _Lane()
            self._tasks.start(self._run_lane(request.session.value, lane), name="lane")
        lane.waiting.append(waiting)
        return waiting

    async def _accept(self, waiting: _Waiting) -> None:
        try:
            turn = await self._store.accept(waiting.request)
        except Exception as error:  # noqa: BLE001 (handed to the caller of submit, and to the lane, which skips it)
            waiting.accepted.set_exception(error)
        else:
            waiting.accepted.set_result(turn)

    async def _run_lane(self, key: str, lane: _Lane) -> None:
        while lane.waiting and not self._draining:
            head = lane.waiting[0]
            try:
                turn = await asyncio.shield(head.accepted)
            except Exception:  # noqa: BLE001 (the caller of submit has this error; the lane goes on)
                lane.waiting.popleft()
                continue
            lane.waiting.popleft()
            head.feed.session_id = turn.session_id
            await self._run_one(turn, head.feed)
        del self._lanes[key]
        self._lane_ended.set()
        for left in lane.waiting:  # accepted and durable: they run at the next start
            left.feed.emit(TurnFailed(left.request.turn_id, TurnCancelledError(KEPT)))

    async def _run_one(self, turn: Turn, feed: TurnFeed) -> None:
        """Run a turn to its one terminal event, which is recorded before it is told."""
        self._running += 1
        try:
            with anyio.fail_after(self._turn_s_max):
                finished = await self._run_turn(turn, feed.emit)
        except TimeoutError:
            message = f"the turn took longer than {self._turn_s_max:g} s (gateway.turn_s_max)"
            await self._fail(turn, feed, UpstreamTimeoutError(message))
        except ReverieError as error:
            await self._fail(turn, feed, error)
        except asyncio.CancelledError:
            await self._fail(turn, feed, TurnCancelledError(INTERRUPTED))
            raise
        except Exception as error:
            await self._fail(turn, feed, ReverieError(f"internal error: {type(error).__name__}"))
            log.exception("turn failed on a defect", action="turn_defect", turn=turn.id)
        else:
            self._answered += 1
            feed.emit(finished)
        finally:
            self._running -= 1

    async def _fail(self, turn: Turn, feed: TurnFeed, error: ReverieError) -> None:
        self._failed += 1
        said = feed.said()
        state = "cancelled" if isinstance(error, TurnCancelledError) else "failed"
        with anyio.CancelScope(shield=True):
            try:
                await self._store.fail(turn, str(error), partial=said, state=state)
            except Exception:  # whoever waits is told all the same
                log.exception("a failed turn could not be recorded", action="turn_unrecorded", turn=turn.id)
        feed.emit(TurnFailed(turn.id, error, said))

    # -- start and stop ------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """After a restart: turns that had started are marked failed, turns that waited are run, in order."""
        cursor = (-1, -1)
        while True:
            turns, cursor = await self._store.unfinished(cursor)
            if not turns:
                return
            for turn in turns:
                if turn.state == "running":
                    await self._store.fail(turn, INTERRUPTED)
                else:
                    self._enqueue(turn.request).accepted.set_result(turn)
            log.info("turns recovered", action="turns_recovered", count=len(turns))

    async def _drain(self) -> None:
        """Refuse new turns and give the running ones `drain_s` seconds."""
        self._draining = True
        with anyio.move_on_after(self._drain_s):
            while self._lanes:
                self._lane_ended.clear()
                await self._lane_ended.wait()
