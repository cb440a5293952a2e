"""Bindings of native threads in real SQLite: who may change one, what a kill leaves, and where a thread goes on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.config import ResetConfig
from reverie.context.epochs import epoch_parts
from reverie.context.fingerprints import EnginePolicy, tools_fingerprint
from reverie.context.thread_guards import Guards
from reverie.context.threads import Capabilities, Decision, Expected, bound, decide, expected_of, rebound
from reverie.errors import UnknownSessionError
from reverie.sessions.bindings import STALE_MS, BindingStore, Held, compacted, finished_on, forget_threads
from reverie.sessions.compactions import Compactions, Planned
from reverie.sessions.directory import SessionDirectory
from reverie.sessions.events import TurnFinished
from reverie.sessions.rollover import ResetRules
from reverie.sessions.transcript import RecordedMessage
from reverie.sessions.turns import TurnStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import (
    Message,
    SessionKey,
    ThreadBinding,
    ThreadEngine,
    ThreadProjection,
    ThreadSettings,
    ThreadTokens,
    TurnRequest,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.sessions.bindings import KeepOverReset
    from reverie.sessions.compactions import StandingSummary

pytestmark = pytest.mark.anyio
KEY = SessionKey("main", "agent:main:main")
POLICY = EnginePolicy("reverie")
TOOLS = tools_fingerprint([{"name": "memory_search", "inputSchema": {}}])
PREFIX = {"instructions": "i", "USER.md": "u"}
SETTINGS = ThreadSettings(model="gpt-5")
ENGINE = ThreadEngine("reverie", POLICY.fingerprint(), ThreadProjection("e"))
THREAD = ThreadBinding("thr_1", "", engine=ENGINE, covered_through=2, created_at_ms=1, updated_at_ms=1)


class Home:
    """A database with sessions in it, and stores as two processes would have them."""

    def __init__(self, database: Database, keep: KeepOverReset, **reset: Any) -> None:
        self.database = database
        self.clock = FakeClock()
        self.turns = TurnStore(database, self.clock, ResetRules(ResetConfig(**reset), UTC, keep))
        self.directory = SessionDirectory(database, self.clock, keep_threads=keep)
        self.compactions = Compactions(database, self.clock)
        self.store = BindingStore(database, self.clock, holder="here")
        self.other = BindingStore(database, self.clock, holder="elsewhere")

    async def session(self, key: SessionKey = KEY) -> str:
        """The id of a session in which two messages were said."""
        return (await self.say(f"turn-{key.value}", "hello", key=key))[0]

    async def say(self, turn_id: str, text: str, key: SessionKey = KEY) -> tuple[str, int]:
        """A whole turn; the session's id and the number at which its input began."""
        turn = (await self.turns.accept(TurnRequest(turn_id, key, (Message("user", text),)))).turn
        begun = await self.turns.begin(turn, history_max=100)
        end = TurnFinished(turn_id, "yes", (), "stop", Usage(), "m")
        await self.turns.finish(begun.turn, [RecordedMessage(Message("assistant", "yes"))], end)
        return begun.turn.session_id, begun.input_seq

    async def bound(self, session_id: str, binding: ThreadBinding = THREAD) -> Held:
        """A thread that is active, with its lease still held."""
        held = await self.store.acquire(session_id)
        held = await self.store.bind(held, binding)
        assert held is not None
        held = await self.store.accepted(held, binding)
        assert held is not None
        return held

    async def row(self, session_id: str) -> dict[str, Any]:
        row = await self.database.read(lambda tx: tx.row("find_binding", session_id=session_id))
        assert row is not None
        return row

    async def at_work(self, session_id: str) -> ThreadBinding | None:
        found = await self.store.find(session_id)
        return None if found is None else found.binding


@asynccontextmanager
async def opened(folder: Path, keep: KeepOverReset = "automatic", **reset: Any) -> AsyncGenerator[Home]:
    database = await Database.open(folder / "state.db", STATE, now_ms=FakeClock().now_ms())
    try:
        yield Home(database, keep, **reset)
    finally:
        await database.aclose()


class TestOneTurnsWay:
    async def test_from_nothing_to_a_thread_that_knows_the_conversation(self, tmp_path: Path) -> None:
        """Pending until its first turn is accepted; then active, and further with the end of each turn."""
        async with opened(tmp_path) as home:
            session = await home.session()
            held = await home.store.acquire(session)
            assert (held.binding, held.thread_id, held.elsewhere, held.fence) == (None, None, False, 1)
            pending = await home.store.bind(held, THREAD)
            assert pending is not None
            assert (await home.at_work(session)) == replace(THREAD, session_id=session, state="pending", fence=1)
            active = await home.store.accepted(pending, replace(THREAD, covered_through=3))
            assert active is not None
            tokens = ThreadTokens(86_000, "last", 258_400, "gpt-5")
            assert await home.database.write(lambda tx: finished_on(tx, active, 4, tokens, 9))
            await home.store.release(active)

            stored = replace(THREAD, session_id=session, covered_through=4, tokens=tokens, updated_at_ms=9, fence=1)
            assert await home.at_work(session) == stored
            again = await home.store.acquire(session)
            assert (again.binding, again.fence, again.thread_id) == (replace(stored, fence=2), 2, "thr_1")

    async def test_tokens_that_are_not_told_stay_as_they_were(self, tmp_path: Path) -> None:
        """The end of a turn without them, and a word of them in the middle of one."""
        async with opened(tmp_path) as home:
            held = await home.bound(await home.session())
            assert await home.store.note_tokens(held, ThreadTokens(5))
            assert await home.database.write(lambda tx: finished_on(tx, held, 4, None, 9))

            binding = await home.at_work(held.session_id)
            assert binding is not None
            assert (binding.tokens, binding.covered_through) == (ThreadTokens(5), 4)

    async def test_a_turn_that_binds_nothing_leaves_nothing(self, tmp_path: Path) -> None:
        """Where no thread came to be, there is no row."""
        async with opened(tmp_path) as home:
            session = await home.session()
            await home.store.release(await home.store.acquire(session))

            assert await home.store.find(session) is None

    async def test_a_thread_is_replaced_in_one_commit(self, tmp_path: Path) -> None:
        """There is never none in between, and a person's wish for another one is fulfilled."""
        async with opened(tmp_path) as home:
            held = await home.bound(await home.session())
            assert await home.store.ask_for_rotation(held.session_id)
            found = await home.store.acquire(held.session_id)
            assert found.binding is not None
            assert found.binding.rotate
            after = await home.store.bind(found, replace(THREAD, thread_id="thr_2"))

            assert after is not None
            row = await home.row(held.session_id)
            assert (row["thread_id"], row["state"], row["rotate"]) == ("thr_2", "pending", 0)

    async def test_a_wish_for_another_thread_outlives_a_turn_that_runs(self, tmp_path: Path) -> None:
        """What its holder writes of the thread does not take it back."""
        async with opened(tmp_path) as home:
            held = await home.bound(await home.session())
            await home.store.ask_for_rotation(held.session_id)
            await home.store.accepted(held, THREAD)
            await home.database.write(lambda tx: finished_on(tx, held, 4, None, 9))

            assert (await home.row(held.session_id))["rotate"] == 1


class TestWhoMayChangeIt:
    async def test_another_process_is_at_work(self, tmp_path: Path) -> None:
        """The thread is seen, and nothing of it can be changed."""
        async with opened(tmp_path) as home:
            held = await home.bound(await home.session())
            seen = await home.other.acquire(held.session_id)

            assert (seen.elsewhere, seen.binding and seen.binding.thread_id) == (True, "thr_1")
            assert await home.other.bind(seen, replace(THREAD, thread_id="thr_2")) is None
            assert await home.other.accepted(seen, THREAD) is None
            assert await home.other.renew(seen) is None
            assert not await home.other.note_tokens(seen, ThreadTokens(1))
            assert not await home.database.write(lambda tx: finished_on(tx, seen, 9, None, 9))
            await home.other.release(seen)
            assert (await home.row(held.session_id))["holder"] == "here"

    async def test_of_two_that_come_at_once_one_gets_it(self, tmp_path: Path) -> None:
        """Also where there is no row yet."""
        async with opened(tmp_path) as home:
            session = await home.session()
            found = await asyncio.gather(*(store.acquire(session) for store in (home.store, home.other) * 4))

            assert {each.holder for each in found if not each.elsewhere} == {next(f.holder for f in found)}

    async def test_a_lease_is_renewed_and_runs_out(self, tmp_path: Path) -> None:
        """A holder that says in time that it is there keeps it; one that was silent is overtaken."""
        async with opened(tmp_path) as home:
            held = await home.bound(await home.session())
            assert held.valid_at(home.clock.now_ms())
            renewed = held
            for _ in range(10):
                home.clock.advance(ms=21_700)
                renewed = await home.store.renew(renewed)
                assert renewed is not None
                assert (await home.other.acquire(held.session_id)).elsewhere
            home.clock.advance(ms=STALE_MS - 1)
            assert (await home.other.acquire(held.session_id)).elsewhere
            assert not renewed.valid_at(home.clock.now_ms())
            home.clock.advance(ms=1)
            taken = await home.other.acquire(held.session_id)

            assert (taken.elsewhere, taken.fence, taken.holder) == (False, held.fence + 1, "elsewhere")

    async def test_a_stale_finisher_changes_nothing(self, tmp_path: Path) -> None:
        """Trap f: overtaken, it changes nothing of what its successor bound, whichever of its steps comes late."""
        async with opened(tmp_path) as home:
            stale = await home.bound(await home.session())
            home.clock.advance(ms=STALE_MS)
            taken = await home.other.acquire(stale.session_id)
            second = await home.other.bind(taken, replace(THREAD, thread_id="thr_2"))
            assert second is not None
            await home.other.accepted(second, replace(THREAD, thread_id="thr_2"))
            before = await home.row(stale.session_id)

            assert not await home.store.clear(stale.session_id, "thr_1", "invalid-image")
            assert await home.store.bind(stale, replace(THREAD, thread_id="thr_3")) is None
            assert await home.store.accepted(stale, THREAD) is None
            assert await home.store.renew(stale) is None
            assert not await home.store.note_tokens(stale, ThreadTokens(1))
            assert not await home.database.write(lambda tx: finished_on(tx, stale, 99, None, 9))
            await home.store.release(stale)
            assert await home.row(stale.session_id) == before

    async def test_a_holder_overtaken_on_the_same_thread_changes_nothing_either(self, tmp_path: Path) -> None:
        """The fence tells them apart where the thread does not."""
        async with opened(tmp_path) as home:
            stale = await home.bound(await home.session())
            home.clock.advance(ms=STALE_MS)
            taken = await home.other.acquire(stale.session_id)
            await home.database.write(lambda tx: finished_on(tx, taken, 8, None, 9))
            await home.database.write(lambda tx: finished_on(tx, stale, 3, None, 9))

            binding = await home.at_work(stale.session_id)
            assert binding is not None
            assert binding.covered_through == 8

    async def test_of_two_finishers_the_one_that_holds_it_counts(self, tmp_path: Path) -> None:
        """Whatever the order in which their commits come."""
        async with opened(tmp_path) as home:
            stale = await home.bound(await home.session())
            fresh = await home.store.acquire(stale.session_id)  # the same process: its turn before hung and is gone
            results = await asyncio.gather(
                home.database.write(lambda tx: finished_on(tx, stale, 3, None, 9)),
                home.database.write(lambda tx: finished_on(tx, fresh, 6, None, 9)),
                home.database.write(lambda tx: finished_on(tx, stale, 4, None, 9)),
            )

            binding = await home.at_work(stale.session_id)
            assert binding is not None
            assert (results, binding.covered_through) == ([False, True, False], 6)

    async def test_a_clock_that_jumps(self, tmp_path: Path) -> None:
        """Set back by far, the lease of a holder that died does not bind for hours; a little later it still does."""
        async with opened(tmp_path) as home:
            held = await home.bound(await home.session())
            home.clock.set(home.clock.now_ms() - 30_000)
            assert (await home.other.acquire(held.session_id)).elsewhere
            home.clock.set(home.clock.now_ms() - 3_600_000)
            assert not held.valid_at(home.clock.now_ms())

            assert not (await home.other.acquire(held.session_id)).elsewhere

    async def test_a_supervised_thread_is_never_unbound(self, tmp_path: Path) -> None:
        """Not by an error, not by a person, not by a summary."""
        async with opened(tmp_path) as home:
            held = await home.bound(await home.session(), replace(THREAD, scope="supervision", engine=None))

            assert not await home.store.clear(held.session_id, "thr_1", "x")
            assert not await home.store.ask_for_rotation(held.session_id)
            await home.database.write(lambda tx: compacted(tx, held.session_id, 9))
            assert (await home.row(held.session_id))["thread_id"] == "thr_1"


class TestRecords:
    async def test_a_record_that_is_not_understood_is_replaced(self, tmp_path: Path) -> None:
        """Its reason is told, the session begins another thread, and that takes its place."""
        async with opened(tmp_path) as home:
            held = await home.bound(await home.session())
            await home.store.release(held)
            await asyncio.to_thread(
                lambda: apsw.Connection(str(home.database.path)).execute(
                    "UPDATE thread_bindings SET record = '{\"schemaVersion\":9}'"
                )
            )
            found = await home.store.acquire(held.session_id)

            assert (found.binding, found.ignored) == (None, "schema version 9 is not known, only 1")
            assert await home.store.bind(found, replace(THREAD, thread_id="thr_2")) is not None

    async def test_there_are_never_more_than_so_many(self, tmp_path: Path) -> None:
        """Cleared ones give way first, then those used longest ago; never one that somebody holds."""
        async with opened(tmp_path) as home:
            store = BindingStore(home.database, home.clock, holder="here", rows_max=3)
            home.store = store
            sessions = [await home.session(SessionKey("main", f"agent:main:{n}")) for n in range(5)]
            for number, session in enumerate(sessions[:3]):
                home.clock.advance(ms=1_000)
                held = await home.bound(session)
                if number:
                    await store.release(held)
            await store.clear(sessions[2], "thr_1", "x")
            await home.bound(sessions[3])
            kept = [session for session in sessions if await store.find(session) is not None]
            assert kept == [sessions[0], sessions[1], sessions[3]]
            home.clock.advance(ms=1_000)
            await home.bound(sessions[4])

            kept = [session for session in sessions if await store.find(session) is not None]
            assert kept == [sessions[0], sessions[3], sessions[4]]

    async def test_a_page_of_them(self, tmp_path: Path) -> None:
        """Those used last first, and those after one."""
        async with opened(tmp_path) as home:
            sessions = [await home.session(SessionKey("main", f"agent:main:{n}")) for n in range(3)]
            for session in sessions:
                home.clock.advance(ms=1_000)
                await home.store.release(await home.bound(session))
            page = await home.store.page(2)
            rest = await home.store.page(2, after=page.sessions[-1].session_id)

            assert [each.session_id for each in page.sessions] == [sessions[2], sessions[1]]
            assert (page.more, rest.more) == (True, False)
            assert [(each.session_key, each.held) for each in rest.sessions] == [("agent:main:0", False)]
            with pytest.raises(UnknownSessionError, match="reverie threads list"):
                await home.store.page(2, after="nobody")

    async def test_a_session_that_is_deleted_takes_its_binding_along(self, tmp_path: Path) -> None:
        """Retention does not stumble over it."""
        async with opened(tmp_path) as home:
            session = await home.session()
            await home.bound(session)
            await home.database.write(lambda tx: tx.execute("delete_newest_entries", session_id=session, limit=10))
            await home.database.write(lambda tx: tx.execute("delete_turns", ids='["turn-agent:main:main"]'))
            await home.database.write(lambda tx: tx.execute("delete_session", id=session))

            assert await home.database.read(lambda tx: tx.value("count_bindings")) == 0


def expected(
    input_seq: int, *, last_seq: int, summary: StandingSummary | None = None, continuity: str = ""
) -> Expected:
    prefix = PREFIX | ({"continuity": continuity} if continuity else {})
    return expected_of(
        input_seq=input_seq,
        last_seq=last_seq,
        policy=POLICY,
        parts=epoch_parts(prefix, summary),
        tools=TOOLS,
    )


class Thread:
    """A session's native thread as a runtime uses it, one step at a time."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.started = 0

    async def decided(self, session_id: str, now: Expected) -> tuple[Held, Decision]:
        held = await self.home.store.acquire(session_id)
        return held, decide(held.binding, now, Guards(), Capabilities(in_use_elsewhere=held.elsewhere))

    async def turn(self, session_id: str, now: Expected, *, until: str = "end") -> Decision:
        """A turn that was killed after a step, or went to its end."""
        held, decision = await self.decided(session_id, now)
        if until == "decided":
            return decision
        if decision.action == "start":
            self.started += 1
            binding = bound(f"thr_{self.started}", session_id, now, decision, SETTINGS, self.home.clock.now_ms())
            if until == "started":
                return decision
            held = await self.home.store.bind(held, binding)
            assert held is not None
        if until == "bound":
            return decision
        assert held.binding is not None
        after = rebound(held.binding, now, decision, SETTINGS, now.input_seq, self.home.clock.now_ms())
        held = await self.home.store.accepted(held, after)
        assert held is not None
        if until == "accepted":
            return decision
        done = held
        await self.home.database.write(lambda tx: finished_on(tx, done, now.input_seq + 1, None, 9))
        if until == "finished":
            return decision
        await self.home.store.release(done)
        return decision


@pytest.mark.parametrize(
    ("killed", "first", "then"),
    [
        ("decided", ("start", "full"), ("start", "full", "missing-thread-binding")),
        ("started", ("start", "full"), ("start", "full", "missing-thread-binding")),
        ("bound", ("start", "full"), ("start", "full", "never-accepted")),
        ("accepted", ("start", "full"), ("resume", "delta", "appended-context")),
        ("finished", ("start", "full"), ("resume", "none", "matching-thread-bootstrap-binding")),
    ],
)
async def test_killed_between_two_steps(
    tmp_path: Path, killed: str, first: tuple[str, str], then: tuple[str, str, str]
) -> None:
    """Whatever a kill leaves behind: the next turn's thread knows the whole conversation, and nothing is told twice."""
    async with opened(tmp_path) as home:
        session = await home.session()
        decision = await Thread(home).turn(session, expected(3, last_seq=2), until=killed)
        assert (decision.action, decision.project) == first
        home.store = BindingStore(home.database, home.clock, holder="after the restart")
        assert await home.store.release_all() == 1
        after = await Thread(home).turn(session, expected(5, last_seq=4))

        assert (after.action, after.project, after.reason) == then
        assert after.since == (3 if killed == "accepted" else 0)


async def test_killed_while_a_thread_was_being_replaced(tmp_path: Path) -> None:
    """Before the commit it is still the old one that is to be replaced; after it, the new one was never accepted."""
    async with opened(tmp_path) as home:
        thread = Thread(home)
        session = await home.session()
        await thread.turn(session, expected(3, last_seq=2))
        await home.store.ask_for_rotation(session)
        assert (await thread.turn(session, expected(5, last_seq=4), until="started")).reason == "manual"
        assert (await home.row(session))["thread_id"] == "thr_1"
        assert (await thread.turn(session, expected(5, last_seq=4), until="bound")).reason == "manual"
        assert (await home.row(session))["thread_id"] == "thr_3"

        after = await thread.turn(session, expected(5, last_seq=4))
        assert (after.action, after.project, after.reasons) == ("start", "full", ("never-accepted",))


class TestContinuity:
    async def test_a_restart(self, tmp_path: Path) -> None:
        """The next turn is bare, at once: leases of a process that is gone are not waited for."""
        async with opened(tmp_path) as home:
            session = await home.session()
            await Thread(home).turn(session, expected(3, last_seq=2), until="finished")
        async with opened(tmp_path) as home:
            await home.store.release_all()
            after = await Thread(home).turn(session, expected(5, last_seq=4))

            assert (after.action, after.project) == ("resume", "none")

    @pytest.mark.parametrize(
        ("keep", "manual", "goes_on"),
        [
            ("automatic", False, True),
            ("automatic", True, False),
            ("always", True, True),
            ("never", False, False),
        ],
    )
    async def test_a_session_that_follows(
        self,
        tmp_path: Path,
        keep: KeepOverReset,
        manual: bool,  # noqa: FBT001 (parametrized)
        goes_on: bool,  # noqa: FBT001 (parametrized)
    ) -> None:
        """A day that begins is gone through in the same thread, bare; who asks for a new conversation gets one."""
        async with opened(tmp_path, keep, mode="daily") as home:
            thread = Thread(home)
            session = await home.session()
            await thread.turn(session, expected(3, last_seq=2))
            if manual:
                new = (await home.directory.reset("main")).session_id
            else:
                home.clock.advance(days=1)
                new, _ = await home.say("turn-2", "good morning")
            input_seq = 2 if manual else 4
            decision = await thread.turn(new, expected(input_seq, last_seq=0, continuity="x"), until="decided")

            assert new != session
            assert await home.store.find(session) is None
            assert (decision.action, decision.project) == (("resume", "none") if goes_on else ("start", "full"))

    async def test_a_thread_that_no_engine_bootstrapped_does_not_follow(self, tmp_path: Path) -> None:
        """Nor one that was never accepted: nobody knows what it was told."""
        async with opened(tmp_path, "always") as home:
            for number, binding in enumerate((replace(THREAD, engine=None), THREAD)):
                session = await home.session(SessionKey("main", f"agent:main:{number}"))
                held = await home.store.bind(await home.store.acquire(session), binding)
                assert held is not None
                if not number:
                    await home.store.accepted(held, binding)
                new = (await home.directory.reset(f"agent:main:{number}")).session_id

                assert await home.store.find(new) is None
                assert await home.store.find(session) is None

    async def test_a_turn_that_runs_on_while_its_session_ends(self, tmp_path: Path) -> None:
        """Its end is not written into the successor's binding, nor into that of the session that has none any more."""
        async with opened(tmp_path, "always") as home:
            held = await home.bound(await home.session())
            new = (await home.directory.reset("main")).session_id
            before = await home.row(new)

            assert not await home.database.write(lambda tx: finished_on(tx, held, 9, None, 9))
            await home.store.release(held)
            assert await home.row(new) == before
            assert (before["thread_id"], before["holder"]) == ("thr_1", None)

    @pytest.mark.parametrize("bootstrapped", [True, False])
    async def test_a_summary_that_is_adopted(self, tmp_path: Path, bootstrapped: bool) -> None:  # noqa: FBT001 (parametrized)
        """Trap e: a bootstrapped thread has read what it stands for, and goes on bare; any other one gives way."""
        async with opened(tmp_path) as home:
            thread = Thread(home)
            session = await home.session()
            if bootstrapped:
                await thread.turn(session, expected(3, last_seq=2))
            else:
                await home.store.release(await home.bound(session, replace(THREAD, engine=None)))
            planned = Planned(session, "manual", None, 1, 2, None)
            summary = await home.compactions.adopt_now(planned, "sum", audit={}, flushed_to="m", tokens_after=None)
            assert summary is not None
            held, decision = await thread.decided(session, expected(6, last_seq=4, summary=summary))

            assert (held.binding is not None) is bootstrapped
            assert (decision.action, decision.project) == (("resume", "none") if bootstrapped else ("start", "full"))
            assert (await home.row(session))["cleared_for"] == (None if bootstrapped else "compacted")

    async def test_model_folder_approval_sandbox_tier_and_account(self, tmp_path: Path) -> None:
        """None of them makes the thread another one; the binding tells what was sent last."""
        async with opened(tmp_path) as home:
            thread = Thread(home)
            session = await home.session()
            await thread.turn(session, expected(3, last_seq=2))
            now = replace(expected(5, last_seq=4), auth_profile="private", model="gpt-6")
            held, decision = await thread.decided(session, now)
            assert held.binding is not None
            changed = ThreadSettings("gpt-6", "other", "/srv", "on-request", "workspace-write", "flex")
            after = rebound(held.binding, now, decision, changed, 5, 9)
            await home.store.accepted(held, after)

            stored = await home.at_work(session)
            assert stored is not None
            assert (decision.action, decision.project) == ("resume", "none")
            assert (stored.settings, stored.auth_profile, stored.thread_id) == (changed, "private", "thr_1")

    async def test_what_was_forgotten_is_not_gone_on_with(self, tmp_path: Path) -> None:
        """No thread of the agent that may have been told of it; other agents keep theirs."""
        async with opened(tmp_path) as home:
            mine = await home.bound(await home.session())
            theirs = await home.bound(await home.session(SessionKey("work", "agent:work:main")))

            assert await home.database.write(lambda tx: forget_threads(tx, "main", 9)) == 1
            assert (await home.row(mine.session_id))["cleared_for"] == "forgotten"
            assert (await home.row(theirs.session_id))["thread_id"] == "thr_1"
