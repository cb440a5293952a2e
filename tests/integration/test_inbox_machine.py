"""The inbox against a model of its rules: whatever happens in whatever order, each message has exactly one end."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reverie.errors import MessageKeyReusedError, QueueFullError, ReverieError, SessionBusyError
from reverie.sessions.events import TurnFinished
from tests.integration.inbox_world import ENDS, MOVES, TURN_S_MAX, World, answer_to, ends_in, message, settings_of

if TYPE_CHECKING:
    from reverie.types import Delivery, TurnRequest

SESSIONS = ("agent:main:one", "agent:main:two")
SOURCES = ("ann", "bob")
DEFAULT_CAP = 20
DEFAULT_DEBOUNCE_MS = 500
TICK_MS = 1_000
STEPS = 30


# -- the model -------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Sent:
    """A message that was accepted, and what the rules say of it."""

    request: TurnRequest
    number: int
    round: int
    arrived_ms: int
    quiet: bool
    state: str
    carrier: str = ""

    @property
    def id(self) -> str:
        return self.request.turn_id

    @property
    def source(self) -> str:
        return self.request.arrival.source

    @property
    def delivery(self) -> Delivery:
        return self.request.arrival.delivery

    @property
    def text(self) -> str:
        return self.request.messages[0].text


@dataclass
class Room:
    """A session: who runs, who waits."""

    running: list[Sent] = field(default_factory=list[Sent])
    since_ms: int = 0
    waiting: list[Sent] = field(default_factory=list[Sent])
    round: int = 0
    cap: int = DEFAULT_CAP
    drop: str = "new"
    debounce_ms: int = DEFAULT_DEBOUNCE_MS

    def ordered(self) -> list[Sent]:
        """Those who wait, as they will run."""
        return sorted(self.waiting, key=lambda sent: (sent.round, sent.number))

    def behind(self) -> list[Sent]:
        """Those who count for the cap: not the one that an idle session takes up next."""
        return self.ordered() if self.running else self.ordered()[1:]

    def give_way(self) -> list[Sent]:
        """Who gives way to one more."""
        left = sorted(self.behind(), key=lambda sent: sent.number)
        gone: list[Sent] = []
        while len(left) >= self.cap:
            count = {name: sum(sent.source == name for sent in left) for name in SOURCES}
            gone.append(next(sent for sent in left if count[sent.source] == max(count.values())))
            left.remove(gone[-1])
        return gone

    def end(self, sent: Sent, state: str) -> None:
        """One that waits ends."""
        self.waiting.remove(sent)
        sent.state = state

    def end_running(self, state: str) -> None:
        """What runs ends, all of it."""
        for sent in self.running:
            sent.state = state
        self.running = []

    def go_on(self, now_ms: int) -> None:
        """Whoever's time is over ends, and the next may begin."""
        for sent in [one for one in self.waiting if _deadline(one) < now_ms]:
            self.end(sent, "expired")
        if self.running:
            return
        if not self.waiting:
            self.round = 0
            return
        group = self._group()
        if not any(sent.quiet for sent in group) and self._is_noisy(now_ms):
            return
        self.round = max(self.round, group[0].round)
        for sent in group:
            self.waiting.remove(sent)
            sent.state, sent.carrier = "running", group[-1].id
        self.running, self.since_ms = group, now_ms

    def _group(self) -> list[Sent]:
        head = self.ordered()[0]
        group: list[Sent] = []
        for sent in sorted(self.waiting, key=lambda one: one.number):
            if sent.source != head.source:
                continue
            if sent.delivery != "collect" or sent.request.instructions != head.request.instructions:
                break
            group.append(sent)
        return group or [head]

    def _is_noisy(self, now_ms: int) -> bool:
        arrivals = [sent.arrived_ms for sent in self.waiting if not sent.quiet]
        return now_ms < min(max(arrivals) + self.debounce_ms, min(arrivals) + 10 * self.debounce_ms)

    def steer(self) -> None:
        """Those who may enter the running turn do."""
        blocked: set[str] = set()
        for sent in sorted(self.waiting, key=lambda one: one.number):
            fits = sent.request.instructions == self.running[0].request.instructions
            if sent.delivery == "steer" and fits and sent.source not in blocked:
                self.waiting.remove(sent)
                sent.state, sent.carrier = "running", self.running[0].carrier
                self.running.append(sent)
            else:
                blocked.add(sent.source)


def _deadline(sent: Sent) -> float:
    at = sent.request.arrival.deadline_at_ms
    return float("inf") if at is None else at


# -- the machine -----------------------------------------------------------------------------------------------------


class Inbox(RuleBasedStateMachine):
    """Drives the queue and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="inbox-")
        self.world = World(Path(self.folder.name))
        self.rooms = {session: Room() for session in SESSIONS}
        self.sent: dict[str, Sent] = {}
        self.numbers = 0

    @property
    def now_ms(self) -> int:
        return self.world.clock.now_ms()

    def room_of(self, sent: Sent) -> Room:
        return self.rooms[sent.request.session.value]

    def go_on(self) -> None:
        for room in self.rooms.values():
            room.go_on(self.now_ms)

    # -- rules ---------------------------------------------------------------------------------------------------

    @initialize(own=st.booleans())
    def begin(self, *, own: bool) -> None:
        """Half of the runs start with a narrow session."""
        if own:
            self.change(SESSIONS[0], (2, "old", 400))

    @rule(
        session=st.sampled_from(SESSIONS),
        source=st.sampled_from(SOURCES),
        delivery=st.sampled_from(("followup", "followup", "steer", "collect", "collect", "interrupt")),
        keyed=st.booleans(),
        deadline_ms=st.sampled_from((None, None, None, -500, 1_500, 2_500)),
        waits=st.booleans(),
        instructions=st.sampled_from(("", "", "", "Speak plainly.")),
        refuse_busy=st.sampled_from((False, False, False, False, True)),
    )
    def submit(
        self,
        *,
        session: str,
        source: str,
        delivery: Delivery,
        keyed: bool,
        deadline_ms: int | None,
        waits: bool,
        instructions: str,
        refuse_busy: bool,
    ) -> None:
        """A new message arrives."""
        self.numbers += 1
        turn_id = f"t{self.numbers}"
        request = message(
            turn_id,
            session,
            f"{session} {source} {self.numbers}",
            source=source,
            key=f"k{self.numbers}" if keyed else None,
            delivery=delivery,
            deadline_at_ms=None if deadline_ms is None else self.now_ms + deadline_ms,
            waits=waits,
            instructions=instructions,
        )
        room = self.rooms[session]
        busy = bool(room.running or room.waiting)
        expected = self._refusal(room, busy=busy, refuse_busy=refuse_busy)
        if expected is not None:
            with pytest.raises(expected):
                self.world.run(self.world.submit(request, refuse_busy=refuse_busy))
            assert self.world.run(self.world.entry(turn_id)) is None
            return
        gone = room.give_way() if busy else []
        rounds = [one.round + 1 for one in room.waiting if one.source == source]
        sent = Sent(request, self.numbers, max(rounds, default=room.round), self.now_ms, waits or not busy, "accepted")
        sent.state = "queued" if busy else "accepted"
        for one in gone:
            room.end(one, "dropped")
        room.waiting.append(sent)
        self.sent[turn_id] = sent
        if delivery == "interrupt" and busy:
            for one in room.waiting:
                if one.source == source:
                    one.round = room.round - 1
            room.end_running("cancelled")
        self.go_on()
        feed = self.world.run(self.world.submit(request, refuse_busy=refuse_busy))
        assert (feed.turn_id, feed.attached) == (turn_id, False)

    @staticmethod
    def _refusal(room: Room, *, busy: bool, refuse_busy: bool) -> type[ReverieError] | None:
        if busy and refuse_busy:
            return SessionBusyError
        full = busy and len(room.behind()) >= room.cap
        return QueueFullError if full and room.drop == "new" else None

    @precondition(lambda self: any(sent.request.arrival.message_key for sent in self.sent.values()))
    @rule(data=st.data(), refuse_busy=st.booleans())
    def retry(self, *, data: st.DataObject, refuse_busy: bool) -> None:
        """The same message comes again, under its key."""
        first = data.draw(st.sampled_from([s for s in self.sent.values() if s.request.arrival.message_key]))
        self.numbers += 1
        again = message(
            f"t{self.numbers}",
            first.request.session.value,
            first.text,
            source=first.source,
            key=first.request.arrival.message_key,
        )
        feed = self.world.run(self.world.submit(again, refuse_busy=refuse_busy))
        assert (feed.turn_id, feed.attached) == (first.id, True)

    @precondition(lambda self: any(sent.request.arrival.message_key for sent in self.sent.values()))
    @rule(data=st.data())
    def reuse(self, data: st.DataObject) -> None:
        """Another message comes under a key that is taken."""
        first = data.draw(st.sampled_from([s for s in self.sent.values() if s.request.arrival.message_key]))
        self.numbers += 1
        other = message(
            f"t{self.numbers}", SESSIONS[0], "other words", source=first.source, key=first.request.arrival.message_key
        )
        with pytest.raises(MessageKeyReusedError, match=first.id):
            self.world.run(self.world.submit(other))
        assert self.world.run(self.world.entry(other.turn_id)) is None

    @rule(session=st.sampled_from(SESSIONS), failing=st.sampled_from((False, False, True)))
    def end_turn(self, *, session: str, failing: bool) -> None:
        """What runs is answered, or fails."""
        self.world.run(self.world.command(session, "fail" if failing else "finish"))
        self.rooms[session].end_running("failed" if failing else "answered")
        self.go_on()

    @rule(session=st.sampled_from(SESSIONS))
    def boundary(self, session: str) -> None:
        """The running turn is between two calls of its model."""
        self.world.run(self.world.command(session, "boundary"))
        if self.rooms[session].running:
            self.rooms[session].steer()

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Somebody stops a turn, in whatever state it is."""
        sent = data.draw(st.sampled_from(list(self.sent.values())))
        room = self.room_of(sent)
        found = self.world.run(self.world.queue.cancel(sent.id, "no longer wanted"))
        if sent in room.running:
            room.end_running("cancelled")
        elif sent in room.waiting:
            room.end(sent, "cancelled")
        self.go_on()
        assert found is not None
        assert found.state == sent.state

    @rule(ticks=st.sampled_from((1, 1, 1, 2, 60)))
    def tick(self, ticks: int) -> None:
        """Time passes: for a deadline, for a debounce, for a turn that takes too long."""
        self.world.run(self.world.advance(ticks * TICK_MS))
        for room in self.rooms.values():
            if room.running and self.now_ms - room.since_ms >= TURN_S_MAX * 1_000:
                room.end_running("failed")
        self.go_on()

    @rule(
        session=st.sampled_from(SESSIONS),
        own=st.one_of(
            st.none(),
            st.tuples(
                st.sampled_from((1, 2, 3)), st.sampled_from(("new", "old", "summarize")), st.sampled_from((0, 400))
            ),
        ),
    )
    def change(self, session: str, own: tuple[int, str, int] | None) -> None:
        """A session gets settings of its own, or everybody's again."""
        changes = None if own is None else settings_of(*own)
        self.world.run(self.world.queue.change_settings(message("", session, "").session, changes))
        room = self.rooms[session]
        room.cap, room.drop, room.debounce_ms = own or (DEFAULT_CAP, "new", DEFAULT_DEBOUNCE_MS)
        self.go_on()

    @rule(killed=st.booleans())
    def restart(self, *, killed: bool) -> None:
        """The process is killed or stopped, and starts again."""
        for room in self.rooms.values():
            room.end_running("failed" if killed else "cancelled")
            room.round = 0
            seen: dict[str, int] = {}
            for sent in sorted(room.waiting, key=lambda one: one.number):
                sent.round = seen[sent.source] = seen.get(sent.source, -1) + 1
                sent.quiet = True
        self.go_on()
        self.world.run(self.world.restart(killed=killed))

    # -- invariants ----------------------------------------------------------------------------------------------

    @invariant()
    def as_the_model_says(self) -> None:
        """Every state and every order is the model's."""
        for session, room in self.rooms.items():
            entries = self.world.run(self.world.queue.queue_of(session, 1_000))
            assert {entry.turn_id for entry in entries if entry.state == "running"} == {s.id for s in room.running}
            assert [e.turn_id for e in entries if e.state != "running"] == [s.id for s in room.ordered()]
            places = [self.world.queue.place_of(sent.id).position for sent in room.ordered()]
            assert places == list(range(1, len(places) + 1))
        statistics = self.world.queue.statistics()
        assert statistics.waiting == sum(len(room.waiting) for room in self.rooms.values())
        assert statistics.running == sum(bool(room.running) for room in self.rooms.values())
        assert statistics.lanes == sum(bool(room.running or room.waiting) for room in self.rooms.values())

    def teardown(self) -> None:
        """Let everything end, and count."""
        try:
            for _ in range(len(self.sent)):
                for session in SESSIONS:
                    self.end_turn(session=session, failing=False)
                self.world.run(self.world.advance(TICK_MS))
                self.go_on()
            self.as_the_model_says()
            self._count()
        finally:
            self.world.close()
            self.folder.cleanup()

    def _count(self) -> None:
        states: dict[str, list[str]] = {}
        for session in SESSIONS:
            states |= self.world.run(self.world.states(session))
        assert states.keys() == self.sent.keys()
        for turn_id, path in states.items():
            assert path[-1] == self.sent[turn_id].state
            assert path[-1] in ENDS
            for before, after in zip([None, *path[:-1]], path, strict=True):
                assert after in MOVES[before], (turn_id, path)
        ran = [turn_id for held in self.world.began for turn_id in held]
        assert len(ran) == len(set(ran)), "a turn began twice"
        assert {turn_id for turn_id, path in states.items() if "running" in path} == set(ran)
        self._check_transcript(ran)
        self._check_feeds()
        assert vars(self.world.queue)["_entries"] == {}, "nothing stays in memory"
        assert vars(self.world.queue)["_by_key"] == {}

    def _check_transcript(self, ran: list[str]) -> None:
        said = self.world.run(self.world.said())
        assert sorted(said) == sorted(self.sent[turn_id].text for turn_id in ran)
        for session in SESSIONS:
            for source in SOURCES:
                numbers = [int(text.split()[-1]) for text in said if text.startswith(f"{session} {source} ")]
                assert numbers == sorted(numbers), "messages of a source changed their order"

    def _check_feeds(self) -> None:
        for followed in self.world.followed:
            sent = self.sent[followed.feed.turn_id]
            assert followed.task.done(), f"the feed of {sent.id} never ended"
            end = ends_in(followed.events)
            assert end.turn_id == sent.id
            if isinstance(end, TurnFinished):
                assert (sent.state, end.text) == ("answered", answer_to(sent.carrier))
            again = self.world.run(self.world.queue.attach(sent.id))
            assert again is not None
            recorded = ends_in(self.world.run(_all(again)))
            assert isinstance(recorded, TurnFinished) == (sent.state == "answered")


async def _all(feed: Any) -> list[Any]:
    return [event async for event in feed.follow()]


TestInbox = Inbox.TestCase
TestInbox.settings = settings(
    max_examples=25,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
