"""One turn at a time in each session, and a turn that outlives the connection that asked for it.

`submit` makes the turn durable, gives it its place in its session's lane and returns a `TurnFeed`. A lane runs its
turns by the rules of `inbox.py`; lanes run side by side. Whoever follows a feed may leave: the turn goes on and is
recorded. How a turn is run is not known here: the queue is given `run_turn`.

The rows in `state.db` decide, this module keeps the order. A lane holds what it needs to choose the next turn; the
request of a turn that waits is read back when it runs.

Bounds: `cap` messages wait in a session and `waiting_max` in all, then the drop policy decides or the message is
refused before anything is written; `turn_s_max` ends a turn that takes too long.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import anyio
import structlog

from reverie.errors import (
    MessageKeyReusedError,
    QueueFullError,
    ReverieError,
    SessionBusyError,
    TurnCancelledError,
    TurnDroppedError,
    TurnEndedError,
    TurnExpiredError,
    UpstreamTimeoutError,
)
from reverie.sessions.events import TurnFailed, TurnFinished, TurnStarted
from reverie.sessions.feed import SessionWatch, TurnFeed, TurnLog
from reverie.sessions.inbox import (
    Place,
    QueueSettings,
    Waiting,
    admit,
    collected,
    combined,
    fits_together,
    next_round,
    order,
    quiet_in_ms,
    steerable,
)
from reverie.sessions.turns import DROPPED, EXPIRED, request_digest
from reverie.tasks import OwnedTasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence

    from reverie.clock import Clock
    from reverie.config import QueueConfig
    from reverie.sessions.events import TurnEvent
    from reverie.sessions.inbox import InboxEntry
    from reverie.sessions.turns import Accepted, Recovered, TurnStore
    from reverie.types import JsonObject, SessionKey, Turn, TurnRequest

log = structlog.get_logger(__name__)

KEPT = "Reverie is stopping; your message is kept and will be answered after the restart"
INTERRUPTED = "interrupted: Reverie stopped while this turn ran; send the message again"
SUPERSEDED = "interrupted by a newer message"
RETRY_AFTER_S = 5
LANE_RETRY_S = 1.0
WATCHES_MAX = 1_000
SETTINGS_KEPT_MAX = 4_096


class RunTurn(Protocol):
    """How a turn is run: emits progress, records the answer, and returns the terminal event.

    `steered` gives the messages that are to enter the turn now; it is asked at each boundary between model calls, and
    what it gave is part of the turn. A `ReverieError` that is raised becomes the turn's failure.
    """

    async def __call__(
        self, turn: Turn, emit: Callable[[TurnEvent], None], steered: Callable[[], Awaitable[Sequence[Turn]]]
    ) -> TurnFinished:
        """Run one turn."""
        ...


@dataclass(slots=True, eq=False)
class _Entry:
    """A turn in its lane, until it has ended. `request` is kept only while it costs no waiting turn its memory."""

    turn_id: str
    session: SessionKey
    source: str
    message_key: str | None
    digest: bytes
    place: Waiting
    arrived_ms: int
    deadline_ms: int | None
    is_quiet: bool
    log: TurnLog
    accepted: asyncio.Future[Accepted]
    request: TurnRequest | None = None
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Running:
    """The turn that runs in a lane, and the entries that end with it."""

    turn: Turn
    entries: list[_Entry]
    scope: anyio.CancelScope
    reason: str = ""


@dataclass(slots=True, eq=False)
class _Lane:
    """The turns of one session key: those that wait, and the one that runs.

    The session's own `settings` are known once the `first` of its turns is accepted.
    """

    session: SessionKey
    settings: QueueSettings
    first: asyncio.Future[Accepted]
    door: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: dict[str, _Entry] = field(default_factory=dict[str, _Entry])
    running: _Running | None = None
    round: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def places(self) -> list[Waiting]:
        """The waiting turns as the rules see them."""
        return [entry.place for entry in self.waiting.values()]

    def behind(self) -> list[Waiting]:
        """Those that really wait: not the one that is about to run in an idle lane."""
        places = self.places()
        return places if self.running is not None or not places else order(places)[1:]

    def stir(self) -> None:
        """Something changed that the lane may be sleeping over."""
        self.changed.set()


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """How busy the sessions are. `oldest_wait_ms` is the longest anybody waits now."""

    lanes: int
    running: int
    waiting: int
    answered: int
    failed: int
    oldest_wait_ms: int


class Bystander(Protocol):
    """Somebody who works beside the turns and gives way to them."""

    def turn_begins(self) -> None:
        """A turn is about to run."""
        ...

    def turn_heard(self) -> None:
        """What a turn brings is on record."""
        ...

    def turn_ended(self) -> None:
        """A turn has ended, however it did; what came of it is on record."""
        ...


class Nobody:
    """No bystander."""

    def turn_begins(self) -> None:
        """Nothing."""

    def turn_heard(self) -> None:
        """Nothing."""

    def turn_ended(self) -> None:
        """Nothing."""


class TurnQueue:
    """Runs turns. Use inside `async with queue.running():`; leaving it drains.

    `unanswered` is told of each turn that had begun and that `run_turn` did not bring to its end, once its end is on
    disk: nearly always a failure. `bystander` hears of every turn.
    """

    def __init__(
        self,
        turns: TurnStore,
        run_turn: RunTurn,
        clock: Clock,
        config: QueueConfig,
        *,
        turn_s_max: float,
        drain_s: float,
        unanswered: Callable[[Turn, TurnFinished | TurnFailed], None] = lambda _turn, _end: None,
        bystander: Bystander | None = None,
    ) -> None:
        self._bystander = bystander or Nobody()
        self._turns = turns
        self._run_turn = run_turn
        self._clock = clock
        self._config = config
        self._turn_s_max = turn_s_max
        self._drain_s = drain_s
        self._unanswered = unanswered
        self._lanes: dict[str, _Lane] = {}
        self._entries: dict[str, _Entry] = {}
        self._by_key: dict[tuple[str, str], _Entry] = {}
        self._watches: dict[str, list[SessionWatch]] = {}
        self._own_settings: OrderedDict[str, JsonObject] = OrderedDict()
        self._tasks: OwnedTasks | None = None
        self._draining = False
        self._lane_ended = asyncio.Event()
        self._arrivals = self._waiting = self._running = self._answered = self._failed = 0

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

    # -- accept --------------------------------------------------------------------------------------------------

    async def submit(self, request: TurnRequest, *, refuse_busy: bool = False) -> TurnFeed:
        """Accept a turn; when this returns, it is durable and will be answered.

        A message that was accepted before under the same key is that turn.

        Raises:
            QueueFullError: too many messages wait, or Reverie is stopping; nothing was accepted.
            SessionBusyError: its session is busy and `refuse_busy` is set; nothing was accepted.
            MessageKeyReusedError: its key stands for another message; nothing was accepted.
            StorageError: it could not be made durable; nothing was accepted.
        """
        while True:
            known = self._known(request)
            if known is not None:
                return await self._join(known)
            lane = self._lanes.get(request.session.value)
            try:
                if lane is None:
                    entry = self._come_in(self._open_tasks(), request, self._admit(None))
                    break
                async with lane.door:  # one by one, in the order in which they came
                    if not lane.first.done():
                        await asyncio.wait([lane.first])  # what its cap is stands with the session
                    if self._lanes.get(request.session.value) is not lane or self._known(request) is not None:
                        continue
                    dropped = self._admit(lane, refuse_busy=refuse_busy)
                    entry = self._come_in(self._open_tasks(), request, dropped)
                    break
            except (QueueFullError, SessionBusyError):
                recorded = await self._turns.find_key(request)  # a message that is here already needs no room
                if recorded is None:
                    raise
                return await self._attached(recorded)
        accepted = await asyncio.shield(entry.accepted)
        return await self._attached(accepted) if accepted.attached else self._feed(entry)

    def _open_tasks(self) -> OwnedTasks:
        if self._draining or self._tasks is None:
            raise QueueFullError("Reverie is stopping; try again when it is back.", retry_after_s=RETRY_AFTER_S)
        return self._tasks

    def _come_in(self, tasks: OwnedTasks, request: TurnRequest, dropped: tuple[str, ...]) -> _Entry:
        """Take a place and be made durable, in a task of its own: a caller who leaves does not undo it."""
        entry, lane = self._enter(request)
        tasks.start(self._accept(entry, lane, request, dropped), name="accept")
        return entry

    async def _join(self, known: _Entry) -> TurnFeed:
        """The feed of a turn that was accepted under the same key and has not ended, or is being accepted."""
        accepted = await asyncio.shield(known.accepted)
        return await self._attached(accepted) if accepted.attached else self._feed(known, attached=True)

    def _known(self, request: TurnRequest) -> _Entry | None:
        """The turn that has not ended yet and was accepted under the same key."""
        key = request.arrival.message_key
        entry = self._by_key.get((request.arrival.source, key)) if key is not None else None
        if entry is not None and entry.digest != request_digest(request):
            message = f"The key {key!r} was used for another message (turn {entry.turn_id}). Use a new key for each."
            raise MessageKeyReusedError(message)
        return entry

    async def _attached(self, accepted: Accepted) -> TurnFeed:
        feed = await self.attach(accepted.turn.id)
        assert feed is not None, "it was just found"
        feed.session_id, feed.attached = accepted.turn.session_id, True
        return feed

    def _admit(self, lane: _Lane | None, *, refuse_busy: bool = False) -> tuple[str, ...]:
        """The turns that give way to one more message in a lane.

        Raises:
            SessionBusyError: its caller does not want to wait.
            QueueFullError: there is no room, and none gives way.
        """
        if lane is not None and refuse_busy:
            raise SessionBusyError(
                f"The session {lane.session.value} is busy; try again when its turn has ended.",
                retry_after_s=RETRY_AFTER_S,
            )
        if self._waiting >= self._config.waiting_max:
            message = f"{self._waiting} messages wait in all sessions (queue.waiting_max); try later."
            raise QueueFullError(message, retry_after_s=RETRY_AFTER_S)
        if lane is None:
            return ()
        admission = admit(lane.behind(), lane.settings)
        if not admission.accepted:
            message = f"The session's queue is full: {admission.reason} (queue.cap); try later."
            raise QueueFullError(message, retry_after_s=RETRY_AFTER_S)
        return admission.dropped

    def _enter(self, request: TurnRequest) -> tuple[_Entry, _Lane]:
        """Take a place in the session's lane; a lane runs as long as it has turns."""
        lane = self._lanes.get(request.session.value)
        arrival = request.arrival
        self._arrivals += 1
        if lane is None:
            waiting = Waiting(request.turn_id, arrival.source, arrival.delivery, 0, self._arrivals)
        else:
            turn_round = next_round(lane.places(), arrival.source, lane.round)
            waiting = Waiting(request.turn_id, arrival.source, arrival.delivery, turn_round, self._arrivals)
        entry = _Entry(
            turn_id=request.turn_id,
            session=request.session,
            source=arrival.source,
            message_key=arrival.message_key,
            digest=request_digest(request) if arrival.message_key is not None else b"",
            place=waiting,
            arrived_ms=self._clock.now_ms(),
            deadline_ms=arrival.deadline_at_ms,
            is_quiet=arrival.waits or lane is None,
            log=TurnLog(),
            accepted=asyncio.get_running_loop().create_future(),
            request=request if lane is None else None,
        )
        return entry, self._add(entry)

    def _add(self, entry: _Entry) -> _Lane:
        assert self._tasks is not None
        lane = self._lanes.get(entry.session.value)
        if lane is None:
            settings = QueueSettings.of(self._config)
            lane = self._lanes[entry.session.value] = _Lane(entry.session, settings, entry.accepted)
            self._tasks.start(self._run_lane(lane), name="lane")
        self._entries[entry.turn_id] = entry
        if entry.message_key is not None:
            self._by_key[entry.source, entry.message_key] = entry
        self._enter_queue(lane, entry)
        return lane

    def _enter_queue(self, lane: _Lane, entry: _Entry) -> None:
        lane.waiting[entry.turn_id] = entry
        self._waiting += 1
        if entry.deadline_ms is not None:
            in_s = max(0, entry.deadline_ms - self._clock.now_ms()) / 1000
            entry.timer = asyncio.get_running_loop().call_later(in_s, self._deadline, lane, entry)

    async def _accept(self, entry: _Entry, lane: _Lane, request: TurnRequest, dropped: tuple[str, ...]) -> None:
        try:
            accepted = await self._turns.accept(
                request,
                waits=entry.request is None,
                drop=dropped,
                keep_lines=lane.settings.drop == "summarize",
            )
        except Exception as error:  # noqa: BLE001 (handed to the caller of submit, and to the lane, which skips it)
            self._forget(entry, lane)
            entry.accepted.set_exception(error)
            entry.accepted.exception()  # whoever awaits it has it; a caller who left is no defect
            return
        if accepted.attached:
            self._forget(entry, lane)
        else:
            lane.settings = QueueSettings.of(self._config, session=accepted.settings)
        entry.accepted.set_result(accepted)
        for turn_id in accepted.dropped:
            self._end_waiting(lane, turn_id, TurnDroppedError(DROPPED))
        if request.arrival.delivery == "interrupt" and not accepted.attached:
            self._interrupt(lane, entry)
        self._recorded(lane.session.value)
        lane.stir()

    def _interrupt(self, lane: _Lane, entry: _Entry) -> None:
        """The running turn ends and the new message is next; what its source sent before stays before it."""
        for other in lane.waiting.values():
            if other.source == entry.source:
                other.place = replace(other.place, round=lane.round - 1)
        if lane.running is not None:
            lane.running.reason = SUPERSEDED
            lane.running.scope.cancel()

    # -- look and cancel -----------------------------------------------------------------------------------------

    def busy(self, session: SessionKey) -> bool:
        """True while a turn of this session runs, waits, or is prepared in any way."""
        return session.value in self._lanes

    async def settings(self, session: SessionKey, channel: str = "") -> QueueSettings:
        """How this session treats messages that find it busy: its own settings, its channel's, or everybody's."""
        own = self._own_settings.get(session.value)
        if own is None:
            own = await self._turns.session_settings(session.value)
            self._remember_settings(session.value, own)
        return QueueSettings.of(self._config, channel, own)

    def _remember_settings(self, key: str, own: JsonObject) -> None:
        """Keep what was read, so that not every message reads it; only this process changes it."""
        self._own_settings[key] = own
        self._own_settings.move_to_end(key)
        while len(self._own_settings) > SETTINGS_KEPT_MAX:
            self._own_settings.popitem(last=False)

    async def change_settings(self, session: SessionKey, changes: JsonObject | None) -> None:
        """Give a session settings of its own, which count for what waits already; None: everybody's."""
        own = {} if changes is None else {**await self._turns.session_settings(session.value), **changes}
        await self._turns.change_session_settings(session, own)
        self._remember_settings(session.value, own)
        lane = self._lanes.get(session.value)
        if lane is not None:
            lane.settings = QueueSettings.of(self._config, session=own)
            lane.stir()

    async def attach(self, turn_id: str) -> TurnFeed | None:
        """The events of a turn; of one that has ended, its terminal event. None for an unknown id."""
        entry = self._entries.get(turn_id)
        if entry is not None:
            return self._feed(entry)
        ended = await self._turns.end_of(turn_id)
        found = await self._turns.entry(turn_id)
        if found is None:
            return None
        ended_log = TurnLog()  # one without an end that is not here either is settled by the next start
        ended_log.add(ended or TurnFailed(turn_id, TurnCancelledError(KEPT)))
        feed = TurnFeed(turn_id, found.session(), ended_log, Place(0, 0))
        feed.session_id = found.session_id
        return feed

    def place_of(self, turn_id: str) -> Place:
        """Where a turn stands now; position 0 when it does not wait."""
        entry = self._entries.get(turn_id)
        lane = self._lanes.get(entry.session.value) if entry is not None else None
        return _place(lane, turn_id) if lane is not None and turn_id in lane.waiting else Place(0, 0)

    async def queue_of(self, key: str, limit: int) -> list[InboxEntry]:
        """The turns of a session that run or wait, in the order in which they will run."""
        entries = await self._turns.unended_of(key, limit)
        lane = self._lanes.get(key)
        ranks = {place.turn_id: rank for rank, place in enumerate(order(lane.places()))} if lane is not None else {}
        return sorted(entries, key=lambda entry: ranks.get(entry.turn_id, -1))

    async def cancel(self, turn_id: str, reason: str) -> InboxEntry | None:
        """Stop a turn that has not ended. Returns it as it stands then; None for an unknown id.

        A message that runs within the turn of another is left alone: to stop it would take the other's answer too.
        """
        error = TurnCancelledError(reason)
        entry = self._entries.get(turn_id)
        lane = self._lanes.get(entry.session.value) if entry is not None else None
        if entry is not None and lane is not None:
            await asyncio.wait([entry.accepted])
            if await self._turns.cancel_waiting(turn_id, error):
                self._end_waiting(lane, turn_id, error)
            elif lane.running is not None and lane.running.turn.id == turn_id:
                lane.running.reason = reason
                lane.running.scope.cancel()
                await self._ended(entry)
        return await self._turns.entry(turn_id)

    @staticmethod
    async def _ended(entry: _Entry) -> None:
        while not entry.log.ended:
            await entry.log.more.wait()

    @contextmanager
    def watch(self, key: str) -> Generator[SessionWatch]:
        """What happens in a session from now on, as it happens.

        Raises:
            QueueFullError: too many watch already.
        """
        if sum(len(watches) for watches in self._watches.values()) >= WATCHES_MAX:
            raise QueueFullError(
                f"{WATCHES_MAX} callers watch sessions already; try later.", retry_after_s=RETRY_AFTER_S
            )
        watch = SessionWatch()
        self._watches.setdefault(key, []).append(watch)
        try:
            yield watch
        finally:
            self._watches[key].remove(watch)
            if not self._watches[key]:
                del self._watches[key]

    def ring(self, key: str) -> None:
        """Something that did not happen here was recorded for a session: who watches it looks."""
        self._recorded(key)

    def statistics(self) -> QueueStatistics:
        """How busy the sessions are now."""
        now = self._clock.now_ms()
        arrivals = [entry.arrived_ms for lane in self._lanes.values() for entry in islice(lane.waiting.values(), 1)]
        oldest = max(0, now - min(arrivals, default=now))
        return QueueStatistics(len(self._lanes), self._running, self._waiting, self._answered, self._failed, oldest)

    # -- lanes ---------------------------------------------------------------------------------------------------

    async def _run_lane(self, lane: _Lane) -> None:
        try:
            while lane.waiting and not self._draining:
                try:
                    await self._run_next(lane)
                except Exception:  # a named border: a turn in its lane; those behind it must not wait for ever
                    log.exception("a turn could not be taken up; trying again", action="lane_failed")
                    await asyncio.sleep(LANE_RETRY_S)
        finally:
            del self._lanes[lane.session.value]
            self._lane_ended.set()
            for entry in tuple(lane.waiting.values()):  # accepted and durable: they run at the next start
                self._end_waiting(lane, entry.turn_id, TurnCancelledError(KEPT))

    async def _run_next(self, lane: _Lane) -> None:
        """Run the next turn; or return because something changed meanwhile, so that the lane looks again."""
        lane.changed.clear()
        group = [lane.waiting[place.turn_id] for place in collected(lane.places())]
        if not await self._are_accepted(group) or lane.changed.is_set():
            return
        pause_ms = self._pause_ms(lane, group)
        if pause_ms:
            with anyio.move_on_after(pause_ms / 1000):
                await lane.changed.wait()
            return
        await self._take_up(lane, group)

    @staticmethod
    async def _are_accepted(group: list[_Entry]) -> bool:
        """Wait until each is durable; False when one is not to run after all, so that the lane looks again."""
        for entry in group:
            if not entry.accepted.done():
                await asyncio.wait([entry.accepted])
            if entry.accepted.exception() is not None or entry.accepted.result().attached:
                return False
        return True

    def _pause_ms(self, lane: _Lane, group: list[_Entry]) -> int:
        """How long until the queue counts as quiet; 0 when nobody has to wait for that."""
        if any(entry.is_quiet for entry in group) or not lane.settings.debounce_ms:
            return 0
        arrivals = [entry.arrived_ms for entry in lane.waiting.values() if not entry.is_quiet]
        return quiet_in_ms(self._clock.now_ms(), max(arrivals), min(arrivals), lane.settings.debounce_ms)

    async def _take_up(self, lane: _Lane, group: list[_Entry]) -> None:
        """Run the next turn with those collected with it."""
        turn = await self._turn_of(group)
        if turn is None:
            for entry in group:
                await self._drop_ended(lane, entry)
            return
        if lane.changed.is_set():  # one ended meanwhile, or another comes first: look again
            return
        together = {turn.id, *(carried.id for carried in turn.carries)}
        entries = [entry for entry in group if entry.turn_id in together]
        lane.round = max(lane.round, group[0].place.round)
        for entry in entries:
            self._leave_queue(lane, entry)
        running = lane.running = _Running(turn, entries, anyio.CancelScope())
        try:
            await self._run_one(lane, running)
        finally:
            lane.running = None
            for entry in running.entries:
                if not entry.log.ended:  # cut off while its end was being recorded: the record knows it
                    entry.log.add(TurnFailed(entry.turn_id, TurnCancelledError(INTERRUPTED)))
                self._close(entry)

    async def _turn_of(self, group: list[_Entry]) -> Turn | None:
        """The turn to run: the last of the group, which carries the others as far as one model call can serve them."""
        head = group[0]
        if len(group) == 1 and head.request is not None:
            return replace(head.accepted.result().turn, request=head.request)
        turns = await self._turns.load([entry.turn_id for entry in group])
        if not turns:
            return None
        together = [turns[0]]
        for turn in turns[1:]:
            if not fits_together(turn.request, together[0].request):
                break
            together.append(turn)
        return combined(together)

    async def _drop_ended(self, lane: _Lane, entry: _Entry) -> None:
        """A turn that ended behind the lane's back, on record, ends here too.

        One that does not wait and has no end entered a turn whose end could not be recorded.
        """
        ended = await self._turns.end_of(entry.turn_id)
        if entry.turn_id in lane.waiting:
            self._leave_queue(lane, entry)
            if not entry.log.ended:
                entry.log.add(ended or TurnFailed(entry.turn_id, TurnEndedError(INTERRUPTED)))
            self._close(entry)

    async def _run_one(self, lane: _Lane, running: _Running) -> None:
        """Run a turn to its one terminal event, which is recorded before it is told."""
        turn, key = running.turn, lane.session.value
        carrier = next(entry for entry in running.entries if entry.turn_id == turn.id)

        def emit(event: TurnEvent) -> None:
            if isinstance(event, TurnStarted):
                for entry in running.entries:
                    entry.log.add(replace(event, turn_id=entry.turn_id))
                self._recorded(key)
                self._bystander.turn_heard()
                return
            carrier.log.add(event)
            for watch in self._watches.get(key, ()):
                watch.tell(event)

        async def steered() -> Sequence[Turn]:
            return await self._steer(lane, running)

        self._running += 1
        self._bystander.turn_begins()
        try:
            outcome = await self._attempt(running, emit, steered)
        except asyncio.CancelledError:
            await self._fail(lane, running, carrier, TurnCancelledError(INTERRUPTED))
            raise
        else:
            if isinstance(outcome, TurnFinished):
                await self._tell(lane, running, outcome)
            else:
                await self._fail(lane, running, carrier, outcome)
        finally:
            self._running -= 1
            self._bystander.turn_ended()
            self._recorded(key)

    async def _attempt(
        self, running: _Running, emit: Callable[[TurnEvent], None], steered: Callable[[], Awaitable[Sequence[Turn]]]
    ) -> TurnFinished | ReverieError:
        """Run the turn within its time; what went wrong otherwise."""
        try:
            with running.scope, anyio.fail_after(self._turn_s_max):
                return await self._run_turn(running.turn, emit, steered)
        except TimeoutError:
            return UpstreamTimeoutError(f"the turn took longer than {self._turn_s_max:g} s (gateway.turn_s_max)")
        except ReverieError as error:
            return error
        except Exception as error:
            log.exception("turn failed on a defect", action="turn_defect", turn=running.turn.id)
            return ReverieError(f"internal error: {type(error).__name__}")
        return TurnCancelledError(running.reason)

    async def _steer(self, lane: _Lane, running: _Running) -> Sequence[Turn]:
        """The messages that enter the running turn at this boundary: those that may and that it can serve."""
        wanted = [place.turn_id for place in steerable(lane.places()) if lane.waiting[place.turn_id].accepted.done()]
        if not wanted:
            return ()
        unfit: set[str] = set()
        ids: list[str] = []
        for turn in await self._turns.load(wanted):
            source = turn.request.arrival.source
            if source not in unfit and fits_together(turn.request, running.turn.request):
                ids.append(turn.id)
            else:
                unfit.add(source)  # it needs a turn of its own, and what its source sent later stays behind it
        delivered = await self._turns.deliver(running.turn, ids) if ids else []
        for turn in delivered:
            entry = self._entries[turn.id]
            self._leave_queue(lane, entry)
            running.entries.append(entry)
            entry.log.add(TurnStarted(turn.id))
        self._recorded(lane.session.value)
        return delivered

    async def _fail(self, lane: _Lane, running: _Running, carrier: _Entry, error: ReverieError) -> None:
        """Record the failure; what is told is what is on record, should the turn have ended in the last moment."""
        said = carrier.log.said()
        ended: TurnFinished | TurnFailed = TurnFailed(running.turn.id, error, said)
        with anyio.CancelScope(shield=True):
            try:
                ended = await self._turns.fail(running.turn, error, partial=said)
            except Exception:  # whoever waits is told all the same
                log.exception("a failed turn could not be recorded", action="turn_unrecorded", turn=running.turn.id)
        ended = ended if isinstance(ended, TurnFinished) else replace(ended, text=said)
        self._unanswered(running.turn, ended)
        await self._tell(lane, running, ended)

    async def _tell(self, lane: _Lane, running: _Running, ended: TurnFinished | TurnFailed) -> None:
        """Tell each how it ended; one that was to run with the others and did not waits on, or ended by itself."""
        apart = await self._apart(running) if len(running.entries) > 1 else {}
        for entry in tuple(running.entries):
            end: TurnFinished | TurnFailed | None = apart.get(entry.turn_id, ended)
            if end is None:
                running.entries.remove(entry)
                self._enter_queue(lane, entry)
                continue
            if isinstance(end, TurnFinished):
                self._answered += 1
            else:
                self._failed += 1
                end = end if entry.turn_id == running.turn.id else replace(end, text="")
            entry.log.add(replace(end, turn_id=entry.turn_id))

    async def _apart(self, running: _Running) -> dict[str, TurnFinished | TurnFailed | None]:
        others = [entry.turn_id for entry in running.entries if entry.turn_id != running.turn.id]
        with anyio.CancelScope(shield=True):
            try:
                return await self._turns.apart(running.turn, others)
            except Exception:  # whoever waits is told all the same
                log.exception("the end of a turn could not be read", action="turn_unread", turn=running.turn.id)
        return {}

    # -- entries -------------------------------------------------------------------------------------------------

    def _feed(self, entry: _Entry, *, attached: bool = False) -> TurnFeed:
        lane = self._lanes.get(entry.session.value)
        is_behind = lane is not None and entry.turn_id in lane.waiting and entry.request is None
        place = _place(lane, entry.turn_id) if lane is not None and is_behind else Place(0, 0)
        feed = TurnFeed(entry.turn_id, entry.session, entry.log, place, attached=attached)
        if entry.accepted.done():
            feed.session_id = entry.accepted.result().turn.session_id
        return feed

    def _deadline(self, lane: _Lane, entry: _Entry) -> None:
        """The deadline of a waiting turn has passed."""
        if self._tasks is not None and entry.turn_id in lane.waiting and not self._draining:
            self._tasks.start(self._expire(lane, entry), name="expire")

    async def _expire(self, lane: _Lane, entry: _Entry) -> None:
        error = TurnExpiredError(EXPIRED)
        if await self._turns.cancel_waiting(entry.turn_id, error):
            self._end_waiting(lane, entry.turn_id, error)

    def _end_waiting(self, lane: _Lane, turn_id: str, error: ReverieError) -> None:
        """A waiting turn ends for those who follow it."""
        entry = lane.waiting.get(turn_id)
        if entry is None:
            return
        self._leave_queue(lane, entry)
        if not entry.log.ended:
            entry.log.add(TurnFailed(turn_id, error))
        self._close(entry)
        self._recorded(lane.session.value)
        lane.stir()

    def _leave_queue(self, lane: _Lane, entry: _Entry) -> None:
        if lane.waiting.pop(entry.turn_id, None) is not None:
            self._waiting -= 1
        if entry.timer is not None:
            entry.timer.cancel()

    def _close(self, entry: _Entry) -> None:
        """The turn has ended: from here on its record speaks for it."""
        self._entries.pop(entry.turn_id, None)
        if entry.message_key is not None and self._by_key.get((entry.source, entry.message_key)) is entry:
            del self._by_key[entry.source, entry.message_key]

    def _forget(self, entry: _Entry, lane: _Lane) -> None:
        """The turn was not accepted, or had been before."""
        self._leave_queue(lane, entry)
        self._close(entry)

    def _recorded(self, key: str) -> None:
        for watch in self._watches.get(key, ()):
            watch.ring()

    # -- start and stop ------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """After a restart: turns that had started are marked failed, turns that waited are run, in order."""
        count = 0
        async for recovered in self._unended():  # first these: what they were told stands before what comes next
            count += 1
            if recovered.state == "running" and not recovered.carried:  # what it carried ends with it
                turn = await self._turns.turn_of(recovered)
                self._unanswered(turn, await self._turns.fail(turn, TurnEndedError(INTERRUPTED)))
        async for recovered in self._unended():
            if recovered.state != "running":
                self._take_back(recovered)
        if count:
            log.info("turns recovered", action="turns_recovered", count=count)

    async def _unended(self) -> AsyncIterator[Recovered]:
        """The turns that have no end, page by page."""
        page, cursor = await self._turns.unended()
        while page:
            for recovered in page:
                yield recovered
            page, cursor = await self._turns.unended(cursor)

    def _take_back(self, recovered: Recovered) -> None:
        """A turn that waited before the restart waits again."""
        self._arrivals += 1
        lane = self._lanes.get(recovered.session.value)
        places = lane.places() if lane is not None else []
        turn_round = next_round(places, recovered.source, lane.round if lane is not None else 0)
        accepted: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        accepted.set_result(recovered.accepted())
        entry = _Entry(
            turn_id=recovered.turn_id,
            session=recovered.session,
            source=recovered.source,
            message_key=recovered.message_key,
            digest=recovered.digest,
            place=Waiting(recovered.turn_id, recovered.source, recovered.delivery, turn_round, self._arrivals),
            arrived_ms=recovered.accepted_at_ms,
            deadline_ms=recovered.deadline_at_ms,
            is_quiet=True,
            log=TurnLog(),
            accepted=accepted,
        )
        lane = self._add(entry)
        lane.settings = QueueSettings.of(self._config, session=accepted.result().settings)

    async def _drain(self) -> None:
        """Refuse new turns and give the running ones `drain_s` seconds."""
        self._draining = True
        for lane in self._lanes.values():
            lane.stir()
        with anyio.move_on_after(self._drain_s):
            while self._lanes:
                self._lane_ended.clear()
                await self._lane_ended.wait()


def _place(lane: _Lane, turn_id: str) -> Place:
    entry = lane.waiting.get(turn_id)
    if entry is None or entry.request is not None:  # it runs, or found its session idle and is about to
        return Place(0, len(lane.behind()))
    behind = [place.turn_id for place in order(lane.places()) if lane.waiting[place.turn_id].request is None]
    return Place(behind.index(turn_id) + 1, len(behind))
