"""What arrives in the wrong moment: between a decision and its commit, while a turn is taken up, at the end."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie.config import QueueConfig
from reverie.errors import ReverieError, StorageError, TurnCancelledError
from reverie.sessions.events import TurnFailed, TurnFinished
from reverie.sessions.turns import TurnStore
from tests.integration.inbox_world import ENDS, MOVES, World, ends_in, message, settings_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from reverie.sessions.feed import TurnFeed
    from reverie.types import Delivery, Turn

T = TypeVar("T")
KEY = "agent:main:one"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A queue on an empty database."""
    made = World(tmp_path, QueueConfig(debounce_ms=0))
    yield made
    made.close()


def send(world: World, turn_id: str, delivery: Delivery = "followup", *, key: str | None = None) -> TurnFeed:
    """A message whose words are its id, and everything it sets going."""
    return world.run(world.submit(message(turn_id, KEY, turn_id, key=key, delivery=delivery)))


def finish(world: World) -> None:
    """The running turn is answered."""
    world.run(world.command(KEY, "finish"))


def end_of(world: World, turn_id: str) -> TurnFinished | TurnFailed:
    """What the followers of a turn were told in the end."""
    (followed,) = [one for one in world.followed if one.feed.turn_id == turn_id]
    assert followed.task.done(), f"the feed of {turn_id} never ended"
    return ends_in(followed.events)


def state_of(world: World, turn_id: str) -> str:
    """Where a turn stands on record."""
    entry = world.run(world.entry(turn_id))
    assert entry is not None
    return entry.state


async def together(*work: Coroutine[None, None, T]) -> list[T | BaseException]:
    """Several things at once."""
    return await asyncio.gather(*work, return_exceptions=True)


# -- retries ----------------------------------------------------------------------------------------------------------


def test_two_retries_at_once_of_a_turn_that_has_ended(world: World) -> None:
    """Both get the answer of the first, also when the session is idle and neither could know."""
    send(world, "t1", key="k")
    finish(world)
    again = [message(f"r{number}", KEY, "t1", key="k") for number in range(3)]
    feeds = world.run(together(*(world.submit(one) for one in again)))

    assert [(feed.turn_id, feed.attached) for feed in feeds if not isinstance(feed, BaseException)] == [
        ("t1", True)
    ] * 3
    assert [ends_in(one.events).turn_id for one in world.followed] == ["t1"] * 4


def test_a_message_sent_twice_at_once_to_a_full_session(world: World) -> None:
    """It takes one place, and one message gives way to it, on record as for who follows."""
    world.run(world.queue.change_settings(message("", KEY, "").session, settings_of(2, "old", 0)))
    for turn_id in ("t1", "t2", "t3"):
        send(world, turn_id)
    twice = [message(turn_id, KEY, "the same", key="k") for turn_id in ("a", "b")]
    feeds = world.run(together(*(world.submit(one) for one in twice)))

    assert {feed.turn_id for feed in feeds if not isinstance(feed, BaseException)} <= {"a", "b"}
    assert [state_of(world, turn_id) for turn_id in ("t1", "t2", "t3")] == ["running", "dropped", "queued"]
    assert isinstance(end_of(world, "t2"), TurnFailed)
    finish(world)
    finish(world)
    assert end_of(world, "t3").turn_id == "t3"


def test_a_burst_that_opens_a_session_of_its_own_settings(world: World) -> None:
    """The cap of a session counts from its first moment, also before anything of it was read."""
    world.run(world.queue.change_settings(message("", KEY, "").session, settings_of(1, "new", 0)))
    sent = [message(f"t{number}", KEY, f"t{number}") for number in range(4)]
    feeds = world.run(together(*(world.submit(one) for one in sent)))

    assert [isinstance(feed, BaseException) for feed in feeds] == [False, False, True, True]


# -- what was to enter a running turn ----------------------------------------------------------------------------------


def test_what_did_not_enter_a_turn_is_answered_by_itself(world: World) -> None:
    """It waits again in its place, and is read once."""
    carriers: list[Turn] = []

    async def keep(turn: Turn) -> None:
        carriers.append(turn)

    world.puppet.before = keep
    for turn_id in ("t1", "t2", "t3"):
        send(world, turn_id)
    delivered = world.run(world.turns.deliver(carriers[0], ["t2"]))
    assert state_of(world, "t2") == "running"
    for _ in range(2):
        world.run(world.turns.give_back(carriers[0], delivered))
        assert state_of(world, "t2") == "queued"
    for _ in range(3):
        finish(world)
    world.run(world.turns.give_back(carriers[0], delivered))

    assert [state_of(world, f"t{number}") for number in (1, 2, 3)] == ["answered"] * 3
    assert world.run(world.said()) == ["t1", "t2", "t3"]


# -- the moment before a turn begins ----------------------------------------------------------------------------------


def collect_two(world: World) -> None:
    """A turn runs, and two messages wait that are to be answered by one."""
    send(world, "t1")
    send(world, "t2", "collect")
    send(world, "t3", "collect")


def test_the_carrier_is_cancelled_before_it_begins(world: World) -> None:
    """What was collected with it is not lost: it runs without it."""
    collect_two(world)
    world.puppet.before = lambda turn: world.queue.cancel(turn.id, "no longer wanted")
    finish(world)
    finish(world)

    assert [state_of(world, turn_id) for turn_id in ("t1", "t2", "t3")] == ["answered", "answered", "cancelled"]
    assert isinstance(end_of(world, "t3"), TurnFailed)
    assert isinstance(end_of(world, "t2"), TurnFinished)
    assert world.run(world.said()) == ["t1", "t2"]


def test_one_that_was_collected_is_cancelled_before_the_turn_begins(world: World) -> None:
    """It ends as it is on record, not with the answer of the others."""
    collect_two(world)
    world.puppet.before = lambda _: world.queue.cancel("t2", "no longer wanted")
    finish(world)
    finish(world)

    assert [state_of(world, turn_id) for turn_id in ("t1", "t2", "t3")] == ["answered", "cancelled", "answered"]
    assert isinstance(end_of(world, "t2"), TurnFailed)
    assert isinstance(end_of(world, "t3"), TurnFinished)
    assert world.run(world.said()) == ["t1", "t3"]


def test_a_turn_is_interrupted_before_it_begins(world: World) -> None:
    """All that was collected ends with it, and stands in the transcript in its order."""
    collect_two(world)

    async def interrupt(_: Turn) -> None:
        await world.submit(message("t4", KEY, "t4", delivery="interrupt"))
        await asyncio.sleep(0)

    world.puppet.before = interrupt
    finish(world)
    finish(world)

    assert [state_of(world, f"t{number}") for number in (1, 2, 3, 4)] == [
        "answered",
        "cancelled",
        "cancelled",
        "answered",
    ]
    assert world.run(world.said()) == ["t1", "t2", "t3", "t4"]
    assert [type(end_of(world, turn_id)) for turn_id in ("t2", "t3")] == [TurnFailed, TurnFailed]


# -- a database that fails --------------------------------------------------------------------------------------------


class FailsOnce(TurnStore):
    """A store that cannot read waiting turns, once."""

    failed = False

    async def load(self, turn_ids: Sequence[str]) -> list[Turn]:
        if not self.failed:
            self.failed = True
            raise StorageError("the disk refused")
        return await super().load(turn_ids)


def test_a_lane_survives_a_failure_of_the_database(tmp_path: Path) -> None:
    """The turn that could not be taken up is taken up a moment later; nobody waits for ever."""
    world = World(tmp_path, QueueConfig(debounce_ms=0), store=FailsOnce)
    try:
        send(world, "t1")
        send(world, "t2")
        finish(world)
        assert state_of(world, "t2") == "queued"
        world.run(world.advance(1_000))
        finish(world)

        assert isinstance(end_of(world, "t2"), TurnFinished)
    finally:
        world.close()


# -- the end ----------------------------------------------------------------------------------------------------------


def test_whoever_waits_when_the_drain_is_over_is_told(world: World) -> None:
    """Their feeds end, their messages are kept, and a retry after the restart attaches to them."""
    for turn_id in ("t1", "t2", "t3"):
        send(world, turn_id, key=turn_id)
    world.run(world.restart(killed=False))

    told = [end_of(world, turn_id) for turn_id in ("t1", "t2", "t3")]
    assert [type(end.error) for end in told if isinstance(end, TurnFailed)] == [TurnCancelledError] * 3
    again = world.run(world.submit(message("r2", KEY, "t2", key="t2")))
    assert (again.turn_id, again.attached) == ("t2", True)
    finish(world)
    finish(world)
    assert [state_of(world, turn_id) for turn_id in ("t1", "t2", "t3")] == ["cancelled", "answered", "answered"]


def test_the_record_of_what_happened_is_bounded(world: World, tmp_path: Path) -> None:
    """Of the events of all sessions the newest hundred thousand are kept, give or take a thousand."""
    many = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 102500) "
        "INSERT INTO session_events (session_key, at, kind) SELECT 'k', i, 'session.ended' FROM n"
    )
    with closing(apsw.Connection(str(tmp_path / "state.db"))) as connection:
        connection.execute(many)
        oldest, newest = next(iter(connection.execute("SELECT min(id), max(id) FROM session_events")))

    assert (oldest, newest) == (2_001, 102_500)


# -- anything, all at once --------------------------------------------------------------------------------------------

steps = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from(("followup", "steer", "collect", "interrupt")), st.integers(0, 3)),
    st.tuples(st.just("retry"), st.just(""), st.integers(0, 20)),
    st.tuples(st.just("cancel"), st.just(""), st.integers(0, 20)),
    st.tuples(st.just("command"), st.sampled_from(("finish", "fail", "boundary")), st.just(0)),
    st.tuples(st.just("pause"), st.just(""), st.integers(0, 8)),
    st.tuples(st.just("write"), st.just(""), st.integers(1, 2)),
)


class Crowd:
    """Many who do something at once, and what of it was acknowledged."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: list[str] = []
        self.acknowledged: set[str] = set()
        self.tasks: list[asyncio.Task[None]] = []

    async def act(self, what: str, how: str, number: int) -> None:
        """Begin something without waiting for it; or wait a little."""
        match what:
            case "submit":
                turn_id = f"t{len(self.sent)}"
                self.sent.append(turn_id)
                delivery: Delivery = "followup" if how not in {"steer", "collect", "interrupt"} else how  # pyright: ignore[reportAssignmentType]
                self._start(self._submit(turn_id, turn_id, delivery))
            case "retry" if self.sent:
                turn_id = self.sent[number % len(self.sent)]
                self._start(self._submit(f"r{len(self.tasks)}", turn_id, "followup"))
            case "cancel" if self.sent:
                self._start(self._cancel(self.sent[number % len(self.sent)]))
            case "command":
                await self.world.command(KEY, how)  # pyright: ignore[reportArgumentType]
            case "write":
                for _ in range(number):
                    await self.world.database.write(lambda _: None)
            case _:
                for _ in range(number):
                    await asyncio.sleep(0)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def _submit(self, turn_id: str, text: str, delivery: Delivery) -> None:
        request = message(turn_id, KEY, text, source="s", key=text, delivery=delivery)
        try:
            feed = await self.world.submit(request)
        except ReverieError:
            return
        self.acknowledged.add(feed.turn_id)

    async def _cancel(self, turn_id: str) -> None:
        await self.world.queue.cancel(turn_id, "no longer wanted")

    async def done(self) -> None:
        """Everything that was begun is over, and so is every turn."""
        for _ in range(4 * len(self.sent) + 4):
            await asyncio.sleep(0)
            await self.world.database.write(lambda _: None)
            await self.world.command(KEY, "finish")
        await asyncio.wait_for(asyncio.gather(*self.tasks), 30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=3, max_size=40), st.sampled_from((1, 3, 20)))
def test_anything_all_at_once(plan: list[tuple[str, str, int]], cap: int) -> None:
    """Without a moment's rest in between: one end for each, as it is on record, and nothing stays in memory."""
    with tempfile.TemporaryDirectory(prefix="inbox-") as folder:
        world = World(Path(folder), QueueConfig(debounce_ms=0, cap=cap, drop="old"))
        try:
            check_crowd(world, plan)
        finally:
            world.close()


def check_crowd(world: World, plan: list[tuple[str, str, int]]) -> None:
    """Carry out the plan, let everything end, and count."""
    crowd = Crowd(world)

    async def play() -> None:
        for step in plan:
            await crowd.act(*step)
        await crowd.done()

    world.run(play())
    while world.queue.statistics().lanes:
        finish(world)
    states = world.run(world.states(KEY))
    assert crowd.acknowledged == states.keys()
    ran = [turn_id for held in world.began for turn_id in held]
    assert len(ran) == len(set(ran)), "a turn began twice"
    for turn_id, path in states.items():
        for before, after in zip([None, *path[:-1]], path, strict=True):
            assert after in MOVES[before], (turn_id, path)
        assert path[-1] in ENDS
    for followed in world.followed:
        assert followed.task.done(), f"the feed of {followed.feed.turn_id} never ended"
        end = ends_in(followed.events)
        assert isinstance(end, TurnFinished) == (states[end.turn_id][-1] == "answered"), (end, states[end.turn_id])
    said = world.run(world.said())
    assert len(said) == len(set(said))
    assert [int(text[1:]) for text in said] == sorted(int(text[1:]) for text in said), "the order of arrival changed"
    assert vars(world.queue)["_entries"] == {}
    assert vars(world.queue)["_by_key"] == {}
