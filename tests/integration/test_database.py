"""The database: one writer that commits in groups, readers beside it, nothing on the event loop."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.errors import (
    DatabaseCorruptError,
    DatabaseTooNewError,
    HomeReadOnlyError,
    StorageClosedError,
    StorageError,
    StorageFullError,
)
from reverie.storage import EMBEDDINGS, INDEX, STATE, Database, Schema, Transaction
from reverie.storage.migrate import check_identity, migrate
from reverie.storage.schema import parse_queries
from reverie.storage.waiting import WAL_RETRY_S, WAL_TRIES, enter_wal
from tests.integration import opening_process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio


def add_session(tx: Transaction, key: str) -> None:
    tx.execute("insert_session", id=f"id-{key}", key=key, agent="main", origin="live", title="", now=1)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncGenerator[Database]:
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=1)
    yield database
    await database.aclose()


async def test_what_was_written_is_read_after_reopening(tmp_path: Path) -> None:
    """A commit is on disk when the write returns."""
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=1)
    await database.write(lambda tx: add_session(tx, "a"))
    await database.aclose()
    reopened = await Database.open(tmp_path / "state.db", STATE, now_ms=2)

    assert await reopened.read(lambda tx: tx.value("find_current_session", key="a")) == "id-a"
    await reopened.aclose()


async def test_writes_that_wait_together_share_a_commit(state: Database) -> None:
    """A hundred writers at once cost a few commits, and each is there."""
    await asyncio.gather(*(state.write(lambda tx, n=n: add_session(tx, f"k{n}")) for n in range(100)))
    statistics = state.statistics()

    assert await state.read(lambda tx: tx.value("count_sessions")) == 100
    assert statistics.writes == 100
    assert statistics.commits < 50


async def test_a_failing_write_undoes_itself_alone(state: Database) -> None:
    """Its neighbours in the same commit are kept, and it gets its own error."""

    def broken(tx: Transaction) -> None:
        add_session(tx, "half")
        raise LookupError("no")

    results = await asyncio.gather(
        state.write(lambda tx: add_session(tx, "before")),
        state.write(broken),
        state.write(lambda tx: add_session(tx, "after")),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [type(None), LookupError, type(None)]
    assert await state.read(lambda tx: tx.value("count_sessions")) == 2


async def test_a_failing_part_of_a_write_is_undone_alone(state: Database) -> None:
    """What a part refuses is undone and told; the rest is written, and a failure of the disk is raised."""

    def twice(tx: Transaction) -> None:
        add_session(tx, "a")
        add_session(tx, "a")

    def full(tx: Transaction) -> None:
        add_session(tx, "c")
        raise apsw.FullError("no room")

    def work(tx: Transaction) -> tuple[int | Exception, Exception | None]:
        add_session(tx, "b")
        return tx.attempt(lambda: 1), tx.attempt(lambda: twice(tx))

    done, failed = await state.write(work)
    assert (done, type(failed)) == (1, apsw.ConstraintError)
    with pytest.raises(StorageFullError):
        await state.write(lambda tx: tx.attempt(lambda: full(tx)))
    found = await state.read(lambda tx: [tx.value("find_current_session", key=key) for key in "abc"])
    assert found == [None, "id-b", None]


async def test_writes_keep_their_order(state: Database) -> None:
    """What was asked first is done first."""
    seen: list[int] = []
    await asyncio.gather(*(state.write(lambda _tx, n=n: seen.append(n)) for n in range(200)))

    assert seen == list(range(200))


async def test_readers_see_one_snapshot_and_cannot_write(state: Database) -> None:
    """A read is consistent, and a statement that writes is refused on it."""
    with pytest.raises(HomeReadOnlyError):
        await state.read(lambda tx: add_session(tx, "x"))

    assert await state.read(lambda tx: tx.rows("list_sessions", limit=10)) == []


async def test_every_statement_can_be_traced(tmp_path: Path) -> None:
    """The exact SQL that reaches SQLite is visible to a test."""
    traced: list[str] = []
    database = await Database.open(tmp_path / "s.db", STATE, now_ms=1, tracer=lambda sql, _: traced.append(sql))
    traced.clear()
    await database.write(lambda tx: add_session(tx, "a"))
    await database.aclose()

    assert [sql.split("(")[0].split()[0] for sql in traced if "PRAGMA" not in sql.upper()] == [
        "BEGIN",
        "SAVEPOINT",
        "INSERT",
        "RELEASE",
        "COMMIT",
    ]


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    """Late callers get an error instead of a hang."""
    database = await Database.open(tmp_path / "s.db", STATE, now_ms=1)
    await database.aclose()
    await database.aclose()

    with pytest.raises(StorageClosedError):
        await database.write(lambda tx: add_session(tx, "a"))
    with pytest.raises(StorageClosedError):
        await database.read(lambda tx: tx.value("count_sessions"))


async def test_the_event_loop_runs_while_a_statement_does(state: Database) -> None:
    """A slow write leaves the loop free (the guard against blocking calls is on as well)."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await state.write(lambda tx: [add_session(tx, f"n{n}") for n in range(2_000)])
    ticking.cancel()

    assert ticks > 10


@pytest.mark.parametrize("schema", [STATE, INDEX, EMBEDDINGS], ids=lambda schema: schema.name)
async def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, schema: Schema) -> None:
    """The error says which file and what to do; not a byte of it changes."""
    path = tmp_path / f"{schema.name}.db"
    path.write_bytes(b"this is no database at all" * 500)
    before = path.read_bytes()

    with pytest.raises(DatabaseCorruptError) as caught:
        await Database.open(path, schema, now_ms=1)

    assert str(path) in str(caught.value)
    assert schema.remedy in str(caught.value)
    assert path.read_bytes() == before


async def test_damage_inside_a_file_is_found_when_it_is_read(tmp_path: Path) -> None:
    """A page overwritten later on is reported with the same remedy."""
    path = tmp_path / "state.db"
    database = await Database.open(path, STATE, now_ms=1)
    await database.write(lambda tx: [add_session(tx, f"k{n}") for n in range(500)])
    await database.aclose()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))

    async def open_and_read() -> None:
        reopened = await Database.open(path, STATE, now_ms=1)
        await reopened.read(lambda tx: tx.rows("list_sessions", limit=500))

    with pytest.raises(DatabaseCorruptError, match="restore it from a backup"):
        await open_and_read()


async def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    """An older program does not touch what a newer one wrote."""
    path = tmp_path / "state.db"
    await (await Database.open(path, STATE, now_ms=1)).aclose()
    newer = len(STATE.migrations()) + 1
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", newer)
    connection.close()
    before = path.read_bytes()

    with pytest.raises(DatabaseTooNewError, match=f"schema {newer}, this one knows {newer - 1}"):
        await Database.open(path, STATE, now_ms=1)

    assert path.read_bytes() == before


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """A file that is a database but not ours is not migrated."""
    path = tmp_path / "state.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()

    with pytest.raises(DatabaseCorruptError, match="not a Reverie state database"):
        await Database.open(path, STATE, now_ms=1)


async def test_one_database_is_not_taken_for_another(tmp_path: Path) -> None:
    """An index file under the state's name is refused."""
    path = tmp_path / "state.db"
    await (await Database.open(path, INDEX, now_ms=1)).aclose()

    with pytest.raises(DatabaseCorruptError, match="not a Reverie state database"):
        await Database.open(path, STATE, now_ms=1)


async def test_a_full_disk_undoes_the_change_and_says_so(tmp_path: Path) -> None:
    """SQLite's own limit on pages stands in for the disk: the error is the same one."""
    path = tmp_path / "state.db"
    database = await Database.open(path, STATE, now_ms=1)
    await database.write(lambda tx: add_session(tx, "kept"))

    def fill(tx: Transaction) -> None:
        tx._connection.pragma("max_page_count", 40)  # pyright: ignore[reportPrivateUsage]
        for n in range(5_000):
            add_session(tx, f"{n}" * 50)

    with pytest.raises(StorageFullError, match="free some space"):
        await database.write(fill)
    await database.write(lambda tx: add_session(tx, "later"))

    assert await database.read(lambda tx: tx.value("count_sessions")) == 2
    await database.aclose()


async def test_a_file_locked_by_another_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign lock ends in an error, not in a wait without end."""
    monkeypatch.setattr("reverie.storage.database.BUSY_TIMEOUT_MS", 20)
    path = tmp_path / "state.db"
    database = await Database.open(path, STATE, now_ms=1)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StorageError, match="locked by another process"):
        await database.write(lambda tx: add_session(tx, "a"))
    other.execute("ROLLBACK")
    await database.write(lambda tx: add_session(tx, "a"))

    other.close()
    await database.aclose()


@pytest.mark.parametrize("schema", [STATE, INDEX, EMBEDDINGS], ids=lambda schema: schema.name)
async def test_every_earlier_schema_becomes_todays(tmp_path: Path, schema: Schema) -> None:
    """From an empty file and from each version on, the result is the same as a fresh one."""
    fresh = tmp_path / "fresh.db"
    await (await Database.open(fresh, schema, now_ms=1)).aclose()

    for version in range(len(schema.migrations()) + 1):
        path = tmp_path / f"from-{version}.db"
        connection = apsw.Connection(str(path))
        migrate(connection, path, schema, now_ms=1, up_to=version)
        connection.close()
        await (await Database.open(path, schema, now_ms=2)).aclose()

        assert _shape(path) == _shape(fresh)


async def test_two_who_open_an_old_file_at_once_both_get_todays(tmp_path: Path) -> None:
    """Each step is taken by one of them."""
    for number in range(5):
        path = tmp_path / f"{number}.db"
        connection = apsw.Connection(str(path))
        connection.pragma("journal_mode", "wal")
        migrate(connection, path, STATE, now_ms=1, up_to=1)
        connection.close()
        opened = await asyncio.gather(*(Database.open(path, STATE, now_ms=2) for _ in range(3)))
        versions = [await database.read(lambda tx: tx.rows("tallies")) for database in opened]
        for database in opened:
            await database.aclose()
        assert len({str(version) for version in versions}) == 1


def test_of_processes_that_open_a_new_file_at_once_all_may(tmp_path: Path) -> None:
    """Whoever makes it, whoever closes it first: nobody is told that it is locked, or that it is not ours."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([opening_process.__name__])
    together = processes.Barrier(6)
    paths = [tmp_path / f"{number}.db" for number in range(25)]
    started = [processes.Process(target=opening_process.run, args=(paths, together)) for _ in range(6)]
    for process in started:
        process.start()
    for process in started:
        process.join(100)
    assert [process.exitcode for process in started] == [0] * 6


def test_a_file_is_looked_at_when_its_maker_is_done(tmp_path: Path) -> None:
    """A file that another process is making is waited for, and seen as a whole."""
    path = tmp_path / "state.db"
    maker = apsw.Connection(str(path))
    maker.execute("CREATE TABLE of_another_program (x)")
    maker.execute("BEGIN EXCLUSIVE; DROP TABLE of_another_program")
    with ThreadPoolExecutor(1) as pool:
        looked = pool.submit(check_identity, path, STATE)
        with pytest.raises(TimeoutError):
            looked.result(0.1)
        maker.execute("COMMIT")
        looked.result(10)
    maker.close()


def test_a_log_is_given_to_a_file_that_is_busy_for_a_moment(tmp_path: Path) -> None:
    """Somebody who cannot wait with a lock in hand begins anew, a bounded number of times."""
    path = tmp_path / "state.db"
    other, connection = apsw.Connection(str(path)), apsw.Connection(str(path))
    other.execute("CREATE TABLE made (x); BEGIN EXCLUSIVE")
    slept: list[float] = []
    with pytest.raises(apsw.BusyError):
        enter_wal(connection, sleep=slept.append)
    assert slept == [WAL_RETRY_S] * (WAL_TRIES - 1)

    enter_wal(connection, sleep=lambda _: other.execute("COMMIT") and None)
    assert connection.pragma("journal_mode") == "wal"
    other.close()
    connection.close()


async def test_a_failing_migration_leaves_the_version_before_it(tmp_path: Path) -> None:
    """A step is applied wholly or not at all."""
    path = tmp_path / "state.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE turns (already)")  # the first step will trip over it
    with pytest.raises(apsw.SQLError):
        migrate(connection, path, STATE, now_ms=1)

    assert connection.pragma("user_version") == 0
    assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")] == ["turns"]
    connection.close()


def test_named_queries_are_parsed_with_their_descriptions() -> None:
    """A query is its name, a description line, and SQL."""
    text = "-- Heading.\n\n-- name: one\n-- What it is.\nSELECT 1;\n\n-- name: two\nSELECT\n  2;\n"

    assert parse_queries(text) == {"one": "SELECT 1;", "two": "SELECT\n  2;"}


@pytest.mark.parametrize("schema", [STATE, INDEX, EMBEDDINGS], ids=lambda schema: schema.name)
async def test_every_named_query_fits_the_schema(tmp_path: Path, schema: Schema) -> None:
    """SQLite can prepare each of them."""
    path = tmp_path / "x.db"
    await (await Database.open(path, schema, now_ms=1)).aclose()
    connection = apsw.Connection(str(path))
    for sql in schema.queries().values():
        connection.execute(f"EXPLAIN {sql}", dict.fromkeys(re.findall(r":(\w+)", sql), 0))
    connection.close()


async def test_an_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    """What a process printed as written is there after it is killed."""
    path = tmp_path / "state.db"
    program = f"""
import asyncio, sys
from pathlib import Path
from reverie.storage import STATE, Database
async def main():
    db = await Database.open(Path({str(path)!r}), STATE, now_ms=1)
    n = 0
    while True:
        row = dict(id=str(n), key=str(n), agent="m", origin="live", title="", now=1)
        await db.write(lambda tx: tx.execute("insert_session", **row))
        print(n, flush=True)
        n += 1
asyncio.run(main())
"""

    def run_and_kill() -> int:
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            last = -1
            for line in process.stdout:
                last = int(line)
                if last >= 30:
                    os.kill(process.pid, signal.SIGKILL)
                    break
            for line in process.stdout:
                last = int(line)
            return last

    last = await asyncio.to_thread(run_and_kill)
    database = await Database.open(path, STATE, now_ms=1)
    count: int = await database.read(lambda tx: tx.value("count_sessions"))
    await database.aclose()

    assert count in {last + 1, last + 2}


def _shape(path: Path) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path))
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    connection.close()
    return rows


async def test_a_refused_statement_names_the_file(state: Database) -> None:
    """A broken rule of the schema is an error of ours, not of the driver."""
    await state.write(lambda tx: add_session(tx, "a"))

    with pytest.raises(StorageError, match="state.db refused a statement .ConstraintError"):
        await state.write(lambda tx: add_session(tx, "a"))


@pytest.mark.parametrize("limit", [None, 0])
async def test_a_purge_leaves_no_trace_of_what_was_deleted(tmp_path: Path, limit: int | None) -> None:
    """Neither in free pages nor in the log, whether the file is written anew or its free pages are overwritten."""
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=1)
    for start in range(0, 2_000, 100):
        names = [f"zanzibarium-{n}-{'x' * 200}" for n in range(start, start + 100)]
        await database.write(lambda tx, names=names: [add_session(tx, name) for name in names])
    await database.write(lambda tx: add_session(tx, "marmalade"))
    await database.write(
        lambda tx: [tx.execute("delete_session", id=f"id-zanzibarium-{n}-{'x' * 200}") for n in range(2_000)]
    )
    before = await asyncio.to_thread(_count, tmp_path, b"zanzibarium")
    certain = await database.purge(rewritten_bytes_max=limit)
    after = await asyncio.to_thread(_count, tmp_path, b"zanzibarium")
    again = await database.purge(rewritten_bytes_max=limit)
    kept = await database.read(lambda tx: tx.value("find_current_session", key="marmalade"))
    await database.aclose()

    assert before > 0
    assert after == 0
    assert certain is again is (limit is None)
    assert kept == "id-marmalade"


async def test_a_purge_waits_for_no_reader_for_ever(state: Database) -> None:
    """A reader on an old snapshot keeps the log: after a while that is said, and nothing is lost."""
    await state.write(lambda tx: add_session(tx, "a"))
    reader = await asyncio.to_thread(apsw.Connection, str(state.path))
    await asyncio.to_thread(lambda: reader.execute("BEGIN; SELECT count(*) FROM sessions").fetchall())
    await state.write(lambda tx: add_session(tx, "b"))
    certain = await state.purge()
    await asyncio.to_thread(lambda: reader.execute("ROLLBACK"))
    await asyncio.to_thread(reader.close)

    assert not certain
    assert await state.purge()
    assert await state.read(lambda tx: tx.value("find_current_session", key="b")) == "id-b"


def _count(folder: Path, word: bytes) -> int:
    return sum(path.read_bytes().count(word) for path in folder.iterdir() if path.is_file())
