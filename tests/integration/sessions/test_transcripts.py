"""Sessions in real SQLite: resets, export and import, retention, and what opening a long one costs."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import asynccontextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie.config import ResetConfig, RetentionConfig
from reverie.errors import ImportFileError, StorageError, UnknownSessionError, UpstreamUnreachableError
from reverie.sessions.directory import SessionDirectory
from reverie.sessions.events import TurnFinished
from reverie.sessions.export import export_jsonl, export_markdown
from reverie.sessions.restore import restore
from reverie.sessions.retention import Retention, archive_name
from reverie.sessions.rollover import ResetRules
from reverie.sessions.transcript import RecordedMessage
from reverie.sessions.turns import TurnStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import Arrival, ImagePart, Message, SessionKey, ToolCall, Turn, TurnRequest, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.sessions.turns import BegunTurn

pytestmark = pytest.mark.anyio
KEY = SessionKey("main", "agent:main:main")


class Home:
    """A database with what works on it."""

    def __init__(self, database: Database, clock: FakeClock, rules: ResetConfig) -> None:
        self.database = database
        self.clock = clock
        self.turns = TurnStore(database, clock, ResetRules(rules, UTC))
        self.directory = SessionDirectory(database, clock)

    async def accept(self, turn_id: str, *messages: str | Message, source: str = "", waits: bool = False) -> Turn:
        told = tuple(Message("user", each) if isinstance(each, str) else each for each in messages)
        request = TurnRequest(turn_id, KEY, told, arrival=Arrival(source=source))
        return (await self.turns.accept(request, waits=waits)).turn

    async def say(self, turn_id: str, *messages: str | Message, source: str = "") -> BegunTurn:
        """A whole turn, answered with `re: …`."""
        begun = await self.turns.begin(await self.accept(turn_id, *messages, source=source), history_max=100)
        answer = f"re: {begun.turn.request.messages[-1].text}"
        await self.answer(begun, RecordedMessage(Message("assistant", answer)))
        return begun

    async def answer(self, begun: BegunTurn, *records: RecordedMessage) -> None:
        text = records[-1].message.text
        end = TurnFinished(begun.turn.id, text, (), "stop", Usage(3, 2, 5), "some-model")
        await self.turns.finish(begun.turn, records, end)

    async def exported(self, session_id: str) -> bytes:
        pieces: list[bytes] = []
        await export_jsonl(self.database, session_id, pieces.append)
        return b"".join(pieces)

    async def table(self, sql: str) -> list[tuple[Any, ...]]:
        return await asyncio.to_thread(lambda: list(apsw.Connection(str(self.database.path)).execute(sql)))


@asynccontextmanager
async def opened(folder: Path, **rules: Any) -> AsyncGenerator[Home]:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    clock = FakeClock()
    database = await Database.open(folder / "state.db", STATE, now_ms=clock.now_ms())
    try:
        yield Home(database, clock, ResetConfig(**rules))
    finally:
        await database.aclose()


class TestReset:
    async def test_the_first_message_of_a_new_day_is_answered_in_a_successor(self, tmp_path: Path) -> None:
        """It is not swallowed; the old session has ended with its reason, and its words are told as data."""
        async with opened(tmp_path, mode="daily") as home:
            before = await home.say("t1", "I am Ann.")
            home.clock.advance(days=1)
            after = await home.say("t2", "Who am I?")

            assert after.rolled is not None
            assert (after.rolled.ended_id, after.rolled.reason) == (before.session.id, "daily")
            assert [entry.message.text for entry in after.history] == ["Who am I?"]
            assert "User: I am Ann.\nAssistant: re: I am Ann." in after.continuity
            ended, current = await home.directory.find(before.session.id), await home.directory.find("main")
            assert (ended.end_reason, current.id, current.parent) == ("daily", after.session.id, ended.id)
            page = await home.directory.entries(current.id)
            assert [(entry.kind, entry.parent) for entry in page.entries] == [
                ("continuity", f"{ended.id}/2"),
                ("message", f"{current.id}/1"),
                ("message", f"{current.id}/2"),
            ]
            events = await home.table("SELECT kind FROM session_events WHERE kind LIKE 'session.%'")
            assert events == [("session.ended",)]

    async def test_waiting_messages_move_in_their_order(self, tmp_path: Path) -> None:
        """What was accepted before the end of a session is answered after it, in the successor."""
        async with opened(tmp_path) as home:
            await home.say("t1", "one")
            waiting = [await home.accept(f"w{n}", f"waits {n}", waits=True) for n in range(3)]
            rolled = await home.directory.reset("main")
            begun = [await home.turns.begin(turn, history_max=100) for turn in waiting]

            assert {each.session.id for each in begun} == {rolled.session_id}
            texts = [entry.text for entry in (await home.directory.entries(rolled.session_id)).entries]
            assert texts == ["", "waits 0", "waits 1", "waits 2"]

    async def test_a_running_turn_ends_where_it_began(self, tmp_path: Path) -> None:
        """A session that is ended while a turn runs keeps that turn's answer."""
        async with opened(tmp_path) as home:
            begun = await home.turns.begin(await home.accept("t1", "one"), history_max=100)
            rolled = await home.directory.reset("main")
            await home.answer(begun, RecordedMessage(Message("assistant", "two")))

            assert [each.text for each in (await home.directory.entries(rolled.ended_id)).entries] == ["one", "two"]

    async def test_a_word_begins_a_new_session_with_the_rest(self, tmp_path: Path) -> None:
        """`/new` is not recorded with the message that follows it; in a session without a word it only falls away."""
        async with opened(tmp_path) as home:
            first = await home.say("t1", "/new hello")
            second = await home.say("t2", "/new What now?")
            third = await home.say("t3", "/reset")
            await home.directory.reset("main")
            fourth = await home.say("t4", "/new again")

            assert first.rolled is None
            assert [entry.message.text for entry in first.history] == ["hello"]
            assert second.rolled is not None
            assert (second.rolled.reason, second.history[-1].message.text) == ("manual", "What now?")
            assert third.rolled is not None
            assert third.history[-1].message.text == "/reset"
            assert (fourth.rolled, fourth.history[-1].message.text) == (None, "again")

    async def test_resent_history_is_not_recorded_again(self, tmp_path: Path) -> None:
        """A client that knows of no reset sends everything along; what the sessions before hold is known."""
        async with opened(tmp_path, mode="daily") as home:
            await home.say("t1", "I am Ann.")
            home.clock.advance(days=1)
            resent = (Message("user", "I am Ann."), Message("assistant", "re: I am Ann."), Message("user", "Who am I?"))
            after = await home.say("t2", *resent)

            assert [entry.message.text for entry in after.history] == ["Who am I?"]

    async def test_programs_neither_end_a_session_nor_keep_it_fresh(self, tmp_path: Path) -> None:
        """A heartbeat after a pause changes nothing, and the person after it begins anew."""
        async with opened(tmp_path, mode="idle", idle_minutes=60) as home:
            await home.say("t1", "one")
            home.clock.advance(seconds=3000)
            heartbeat = await home.say("t2", "tick", source="heartbeat")
            home.clock.advance(seconds=1000)
            after = await home.say("t3", "two", source="ann")

            assert heartbeat.rolled is None
            assert after.rolled is not None
            assert after.rolled.reason == "idle"

    async def test_a_failed_turn_leaves_its_cause(self, tmp_path: Path) -> None:
        """The mark stands in the transcript, and is neither sent to a model nor known to a client nor indexed."""
        async with opened(tmp_path) as home:
            turn = await home.accept("t1", "one")
            await home.turns.begin(turn, history_max=100)
            await home.turns.fail(turn, UpstreamUnreachableError("no connection"), partial="so")
            begun = await home.turns.begin(await home.accept("t2", "two"), history_max=100)

            assert [entry.message.text for entry in begun.history] == ["one", "so", "two"]
            marks = [e.data for e in (await home.directory.entries(turn.session_id)).entries if e.kind != "message"]
            assert marks == [{"state": "failed", "cause": "no connection"}]


class TestExport:
    async def test_there_and_back_again(self, tmp_path: Path) -> None:
        """A session with everything in it is exported, imported into an empty home, and exported the same."""
        async with opened(tmp_path / "a") as home, opened(tmp_path / "b") as other:
            session_id = await fill(home)
            first = await home.exported(session_id)
            file = tmp_path / "main.jsonl"
            await asyncio.to_thread(file.write_bytes, first)
            done = await restore(other.database, file, now_ms=other.clock.now_ms())
            again = await restore(other.database, file, now_ms=other.clock.now_ms())

            assert await other.exported(session_id) == first
            assert (done.added, again.added, done.ended) == (done.entries, 0, False)
            assert await other.table("SELECT count(*) FROM session_events") == [(0,)]
            assert (await other.directory.find("main")).bytes == (await home.directory.find("main")).bytes
            begun = await other.say("later", "Do you remember?")
            assert begun.session.id == session_id

    async def test_an_export_ends_before_a_turn_that_runs(self, tmp_path: Path) -> None:
        """What is not settled is left out, so the file can be taken in."""
        async with opened(tmp_path / "a") as home:
            await home.say("t1", "one")
            begun = await home.turns.begin(await home.accept("t2", "two"), history_max=100)
            before = await home.exported(begun.session.id)

            assert [json.loads(line)["type"] for line in before.splitlines()] == [
                "session", "turn", "entry", "entry", "end",
            ]  # fmt: skip

    async def test_an_interrupted_import_goes_on(self, tmp_path: Path) -> None:
        """Half a session leads nowhere and is in no list; imported again it becomes whole."""
        async with opened(tmp_path / "a") as home, opened(tmp_path / "b") as other:
            for number in range(150):
                await home.say(f"t{number}", f"message {number}")
            session_id = (await home.directory.find("main")).id
            first = await home.exported(session_id)
            file = tmp_path / "main.jsonl"
            await asyncio.to_thread(file.write_bytes, first)

            def stop(_: int) -> None:
                raise KeyError("killed")

            with pytest.raises(KeyError):
                await restore(other.database, file, now_ms=1, progress=stop)
            assert (await other.directory.page()).sessions == ()
            with pytest.raises(UnknownSessionError):
                await other.directory.find("main")
            done = await restore(other.database, file, now_ms=2)

            assert 0 < done.added < done.entries == 300
            assert await other.exported(session_id) == first

    @pytest.mark.parametrize(
        ("kept", "said"),
        [
            (slice(1, None), "line 1: the first line must be the header"),
            (slice(0, -1), "line 6: the file ends before its last line"),
            (slice(0, 0), "line 1: the file ends"),
            ({3: b"{nonsense\n"}, "line 4: not a line of a session exported"),
            ({1: b""}, "line 2: its turn must stand before it"),
            ({2: b""}, "line 3: its id must be"),
            ({4: b"re"}, "line 6: the checksum"),
            ({0: b'{"name": "x", "turns": []}\n'}, "line 1: not a line of a session exported"),
        ],
    )
    async def test_a_damaged_or_foreign_file_changes_nothing(
        self, tmp_path: Path, kept: slice | dict[int, bytes], said: str
    ) -> None:
        """The error has the line's number, and nothing was imported."""
        async with opened(tmp_path / "a") as home, opened(tmp_path / "b") as other:
            begun = await home.say("t1", Message("assistant", "earlier"), "one")
            lines = (await home.exported(begun.session.id)).splitlines(keepends=True)
            if isinstance(kept, slice):
                lines = lines[kept]
            else:
                for number, line in kept.items():
                    lines[number] = lines[number].replace(b'"re: ', b'"RE: ') if line == b"re" else line
            file = tmp_path / "main.jsonl"
            await asyncio.to_thread(file.write_bytes, b"".join(lines))

            with pytest.raises(ImportFileError, match=said):
                await restore(other.database, file, now_ms=1)
            assert await other.table("SELECT count(*) FROM sessions") == [(0,)]

    async def test_a_key_that_is_taken(self, tmp_path: Path) -> None:
        """The import comes in as a session that has ended; the one that was there goes on."""
        async with opened(tmp_path / "a") as home, opened(tmp_path / "b") as other:
            begun = await home.say("t1", "one")
            here = await other.say("t9", "mine")
            file = tmp_path / "main.jsonl"
            await asyncio.to_thread(file.write_bytes, await home.exported(begun.session.id))
            done = await restore(other.database, file, now_ms=other.clock.now_ms())

            assert done.ended
            assert (await other.directory.find("main")).id == here.session.id
            assert (await other.directory.find(begun.session.id)).end_reason == "import"

    async def test_markdown_is_readable(self, tmp_path: Path) -> None:
        """A heading for each turn; calls of tools and their results stand in fences that they cannot close."""
        async with opened(tmp_path) as home:
            session_id = await fill(home)
            pieces: list[bytes] = []
            await export_markdown(home.database, session_id, pieces.append)
            text = b"".join(pieces).decode()

        assert text.count("\n## Turn ") == 3
        assert '**Assistant** calls `memory_search`:\n\n```json\n{"query": "kiln"}\n```\n' in text
        assert "````text\n```\nfound\n```\n````" in text
        assert "_The turn ended without an answer (failed): no connection_" in text

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        said=st.lists(
            st.tuples(st.text(max_size=40), st.text(max_size=40), st.booleans(), st.booleans()),
            min_size=1,
            max_size=8,
        )
    )
    def test_any_text_survives(self, tmp_path_factory: pytest.TempPathFactory, said: list[Any]) -> None:
        """Whatever is said, exporting, importing and exporting again gives the same bytes."""
        folder = tmp_path_factory.mktemp("round")

        async def trip() -> None:
            async with opened(folder / "a") as home, opened(folder / "b") as other:
                for number, (asked, told, fails, visible) in enumerate(said):
                    turn = await home.accept(f"t{number}", asked)
                    begun = await home.turns.begin(turn, history_max=100)
                    if fails:
                        await home.turns.fail(begun.turn, UpstreamUnreachableError(told), partial=told)
                    else:
                        record = RecordedMessage(Message("assistant", told), visible=visible, seen_text=asked)
                        await home.answer(begun, record)
                    home.clock.advance(ms=7)
                session_id = (await home.directory.page()).sessions[0].id
                first = await home.exported(session_id)
                file = folder / "x.jsonl.gz"
                await asyncio.to_thread(file.write_bytes, gzip.compress(first))
                await restore(other.database, file, now_ms=1)
                assert await other.exported(session_id) == first

        asyncio.run(trip())


class TestRetention:
    async def test_old_sessions_are_archived_then_deleted(self, tmp_path: Path) -> None:
        """Only those that ended long ago go; the archive brings them back as they were."""
        async with opened(tmp_path / "a") as home, opened(tmp_path / "b") as other:
            session_id = await fill(home)
            await home.directory.reset("main")
            first = await home.exported(session_id)
            home.clock.advance(days=31)
            current = await home.say("now", "still here")
            forgotten: list[tuple[str, str]] = []

            async def forget(agent: str, session: str) -> None:
                forgotten.append((agent, session))

            retention = Retention(
                home.database, tmp_path / "archive", RetentionConfig(keep_days=30), home.clock, forget
            )
            swept, again = await retention.sweep(), await retention.sweep()

            assert (swept.archived, swept.deleted, again.deleted) == (1, 1, 0)
            assert forgotten == [("main", session_id)]
            assert [each.id for each in (await home.directory.page()).sessions] == [current.session.id]
            left = await home.table(f"SELECT count(*) FROM messages WHERE session_id = '{session_id}'")  # noqa: S608 (an id of ours)
            assert left == [(0,)]
            tallies = dict(await home.table("SELECT name, total FROM tally"))
            assert tallies["sessions"] == 1
            assert tallies["messages"] == (await home.table("SELECT count(*) FROM messages"))[0][0]
            file = tmp_path / "archive" / archive_name(KEY.value, session_id)
            assert gzip.decompress(await asyncio.to_thread(file.read_bytes)) == first
            await restore(other.database, file, now_ms=1)
            assert await other.exported(session_id) == first

    async def test_an_interrupted_deletion_does_not_shorten_the_archive(self, tmp_path: Path) -> None:
        """The next sweep keeps the whole file and deletes what is left."""
        async with opened(tmp_path / "a") as home:
            session_id = await fill(home)
            await home.directory.reset("main")
            first = await home.exported(session_id)
            home.clock.advance(days=31)

            async def killed(agent: str, session: str) -> None:
                await home.database.write(lambda tx: tx.execute("delete_newest_entries", session_id=session, limit=2))
                raise KeyError(agent)

            async def forget(agent: str, session: str) -> None:
                """Nothing was indexed."""

            place, keep = tmp_path / "archive", RetentionConfig(keep_days=30)
            with pytest.raises(KeyError):
                await Retention(home.database, place, keep, home.clock, killed).sweep()
            swept = await Retention(home.database, place, keep, home.clock, forget).sweep()

            file = place / archive_name(KEY.value, session_id)
            assert swept.deleted == 1
            assert gzip.decompress(await asyncio.to_thread(file.read_bytes)) == first

    async def test_what_cannot_be_archived_is_kept(self, tmp_path: Path) -> None:
        """A place that cannot be written deletes nothing."""
        async with opened(tmp_path / "a") as home:
            begun = await home.say("t1", "one")
            await home.directory.reset("main")
            home.clock.advance(days=31)
            await asyncio.to_thread((tmp_path / "archive").write_text, "in the way")

            async def forget(agent: str, session: str) -> None:
                raise AssertionError("nothing is forgotten")

            retention = Retention(
                home.database, tmp_path / "archive", RetentionConfig(keep_days=30), home.clock, forget
            )
            with pytest.raises(StorageError, match="was not archived"):
                await retention.sweep()
            assert len((await home.directory.entries(begun.session.id)).entries) == 2


async def fill(home: Home) -> str:
    """A session with images, calls of tools, an answer the client saw in another form, and a turn that failed."""
    image = ImagePart("data:image/png;base64,AAAA", "low")
    call = ToolCall("c1", "memory_search", '{"query": "kiln"}')
    begun = await home.turns.begin(
        await home.accept("t1", Message("user", "grüße", (image,)), source="ann"), history_max=9
    )
    await home.answer(
        begun,
        RecordedMessage(Message("assistant", "", tool_calls=(call,)), visible=False),
        RecordedMessage(Message("tool", "```\nfound\n```", tool_call_id="c1"), visible=False, remember=False),
        RecordedMessage(Message("assistant", "In May."), remember=False, seen_text="Let me look. In May."),
    )
    turn = await home.accept("t2", "and then?")
    await home.turns.begin(turn, history_max=9)
    await home.turns.fail(turn, UpstreamUnreachableError("no connection"))
    home.clock.advance(seconds=5)
    await home.say("t3", "\u2028 again \x00?".replace("\x00", ""))
    return begun.session.id


async def test_opening_a_long_session_reads_no_more_than_a_short_one(tmp_path: Path) -> None:
    """A turn, a page and a list take as many steps of SQLite after 100,000 turns as after 1,000."""
    steps = {turns: await asyncio.to_thread(_steps, tmp_path / f"{turns}.db", turns) for turns in (1_000, 100_000)}

    short, long = steps[1_000], steps[100_000]
    assert {name: long[name] <= short[name] * 1.2 + 100 for name in short} == dict.fromkeys(short, True)


def _steps(path: Path, turns: int) -> dict[str, int]:
    """How many steps of SQLite's machine each query of opening a session takes."""
    connection = apsw.Connection(str(path))
    for migration in STATE.migrations():
        connection.execute(migration.sql)
    _seed(connection, turns)
    queries = STATE.queries()
    last = 2 * turns
    asked: dict[str, dict[str, Any]] = {
        "find_current_session": {"key": "k"},
        "newest_messages": {"session_id": "s", "from_seq": 1, "limit": 100},
        "newest_fingerprints": {"session_id": "s", "limit": 100},
        "next_seq": {"session_id": "s"},
        "entry_sizes_before": {"session_id": "s", "before": 2**62, "limit": 200},
        "entry_sizes_after": {"session_id": "s", "after": last - 200, "last": last, "limit": 200},
        "read_entries": {"session_id": "s", "first": last - 199, "last": last},
        "find_continuity": {"session_id": "s"},
        "last_exchange": {"session_id": "s", "entries": 200, "messages": 6, "characters": 400},
        "session_page": {"at": 2**62, "after": "", "limit": 50},
        "first_unended_entry": {"session_id": "s"},
        "count_entries": {"id": "s"},
        "touch_session": {"id": "s", "now": 1},
        "move_waiting_turns": {"old": "s", "new": "s"},
    }
    return {name: _vm_steps(connection, queries[name], parameters) for name, parameters in asked.items()}


def _seed(connection: apsw.Connection, turns: int) -> None:
    connection.execute("BEGIN")
    connection.execute(STATE.queries()["insert_session"], {
        "id": "s", "key": "k", "agent": "main", "origin": "live", "title": "", "now": 1})  # fmt: skip
    connection.execute("PRAGMA defer_foreign_keys = 1")
    connection.execute(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?) "
        "INSERT INTO turns (id, session_id, position, state, request, accepted_at) "
        "SELECT 't' || value, 's', value, 'answered', '{}', value FROM n",
        (turns,),
    )
    connection.execute(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?) "
        "INSERT INTO messages (session_id, seq, turn_id, role, text, fingerprint, created_at) "
        "SELECT 's', value, 't' || ((value + 1) / 2), 'user', 'message ' || value, x'00', value "
        "FROM n",
        (2 * turns,),
    )
    connection.execute("COMMIT")


def _vm_steps(connection: apsw.Connection, sql: str, parameters: dict[str, Any]) -> int:
    steps = 0

    def traced(event: dict[str, Any]) -> None:
        nonlocal steps
        steps += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    watched: Any = connection
    watched.trace_v2(apsw.SQLITE_TRACE_PROFILE, traced)
    list(connection.execute(sql, parameters))
    watched.trace_v2(0)
    return steps
