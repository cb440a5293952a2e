"""An OpenClaw database into a real embeddings.db: once, resumable, without touching the source."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apsw
import numpy as np
import pytest

from reverie.config import MemoryConfig
from reverie.errors import ImportFileError
from reverie.importers.openclaw.seeding import open_store
from reverie.importers.openclaw.source import SourceDatabase
from reverie.importers.openclaw.vector_import import FULL, import_vectors
from reverie.storage import EMBEDDINGS, Database
from reverie.testing import FakeClock
from tests.openclaw import hash_of, kept_of, text_of, write_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from reverie.importers.openclaw.vector_import import TableReport

pytestmark = pytest.mark.anyio

IDENTITY = "openai/small/1/4/unit"
ONE_MORE = "INSERT INTO embedding_cache VALUES ('openai', 'small', 'k', ?, '[1, 2, 3, 4]', 4, 9)"


@dataclass
class Target:
    """An embeddings.db, and what goes into it."""

    database: Database
    entries_max: int = 1_000

    async def take(self, source: Path, **options: Any) -> list[TableReport]:
        """Import a source."""
        clock = FakeClock()
        store = await open_store(self.database, MemoryConfig(cache_entries_max=self.entries_max), clock)
        return await import_vectors(source, store, self.database, clock, **options)

    def held(self) -> dict[str, list[float]]:
        """Every vector by the first half of its text's SHA-256."""
        with closing(apsw.Connection(str(self.database.path))) as reading:
            rows = list(reading.execute("SELECT text_hash, vector FROM embeddings ORDER BY used_at"))
        return {key.hex(): np.frombuffer(vector, "<f4").tolist() for key, vector in rows}


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    """An empty embeddings.db."""
    database = await Database.open(tmp_path / "embeddings.db", EMBEDDINGS, now_ms=0)
    yield Target(database)
    await database.aclose()


def expected(numbers: Sequence[int]) -> dict[str, list[float]]:
    """What is held of these rows."""
    return {hash_of(text_of(number))[:32]: kept_of(number) for number in numbers}


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("blobs", [False, True], ids=["json", "float64"])
async def test_both_layouts_once(tmp_path: Path, target: Target, *, blobs: bool) -> None:
    """Cache and chunks come over whole, as float32 of length 1; again adds nothing; the source stays byte for byte."""
    folder = tmp_path / "source"
    folder.mkdir()
    source = write_source(folder / "main.sqlite", range(2_100), range(2_000, 2_050), blobs=blobs)
    target.entries_max = 10_000
    before = bytes_of(folder)
    chunks, cache = await target.take(source)
    held = target.held()
    again = await target.take(source)

    assert (chunks.rows, chunks.tally.added, chunks.tally.present) == (50, 50, 0)
    assert (cache.rows, cache.tally.added, cache.tally.present) == (2_100, 2_050, 50)
    assert cache.tally.spaces == {IDENTITY: 2_100}
    assert held == expected(range(2_100))
    assert all(table.was_finished and table.tally.added == 0 for table in again)
    assert target.held() == held
    assert bytes_of(folder) == before


async def test_the_wal_belongs_to_the_source(tmp_path: Path, target: Target) -> None:
    """While OpenClaw has its database open in WAL, what stands only there is read, and nothing is written or folded."""
    source = write_source(tmp_path / "source.sqlite", range(10))
    with closing(apsw.Connection(str(source))) as live:
        live.pragma("journal_mode", "wal")
        live.execute(ONE_MORE, (hash_of(text_of(10)),))
        parts = [source, tmp_path / "source.sqlite-wal"]
        before = [part.read_bytes() for part in parts]
        _, cache = await target.take(source)

        assert cache.tally.added == 11
        assert [part.read_bytes() for part in parts] == before


async def test_a_wal_that_was_left_behind(tmp_path: Path, target: Target) -> None:
    """A database that was copied with its WAL is read with it, and no other file is left beside it."""
    source = write_source(tmp_path / "source.sqlite", range(10))
    copied = tmp_path / "copied"
    copied.mkdir()
    with closing(apsw.Connection(str(source))) as live:
        live.pragma("journal_mode", "wal")
        live.execute(ONE_MORE, (hash_of(text_of(10)),))
        for name in ("source.sqlite", "source.sqlite-wal"):
            (copied / name).write_bytes((tmp_path / name).read_bytes())
    before = bytes_of(copied)
    _, cache = await target.take(copied / "source.sqlite")

    assert cache.tally.added == 11
    assert bytes_of(copied) == before


async def test_the_newest_find_room(tmp_path: Path, target: Target) -> None:
    """Where there is less room than rows, the most recently updated are taken; with more room the others follow."""
    source = write_source(tmp_path / "source.sqlite", range(40))
    target.entries_max = 15
    _, cache = await target.take(source)
    some = target.held()
    target.entries_max = 30
    await target.take(source)
    more = target.held()
    target.entries_max = 40
    (_, last), (_, done) = await target.take(source), await target.take(source)

    assert (cache.tally.added, cache.tally.skipped) == (15, {FULL: 25})
    assert some == expected(range(25, 40))
    assert more == expected(range(10, 40))
    assert (last.tally.added, last.tally.present, last.tally.skipped) == (10, 30, {})
    assert done.was_finished
    assert target.held() == expected(range(40))


async def test_no_room_at_all(tmp_path: Path, target: Target) -> None:
    """With a cache that holds nothing every row is left out, with the reason."""
    target.entries_max = 0
    _, cache = await target.take(write_source(tmp_path / "source.sqlite", range(5)))

    assert (cache.tally.skipped, target.held()) == ({FULL: 5}, {})


async def test_an_import_that_was_cancelled_goes_on(tmp_path: Path, target: Target) -> None:
    """What was committed is not read again, and at the end every row is there once."""
    source = write_source(tmp_path / "source.sqlite", range(9_000))
    target.entries_max = 10_000
    seen: list[int] = []

    def stop_after_two(rows: int) -> None:
        seen.append(rows)
        if sum(seen) >= 4_000:
            task.cancel()

    task = asyncio.create_task(target.take(source, progress=stop_after_two))
    with pytest.raises(asyncio.CancelledError):
        await task
    _, cache = await target.take(source)

    assert 4_000 <= cache.resumed_after < 9_000
    assert (cache.tally.read, cache.tally.added + cache.tally.present) == (9_000, 9_000)
    assert len(target.held()) == 9_000


async def test_the_same_rows_are_chosen_when_it_goes_on(tmp_path: Path, target: Target) -> None:
    """An import that was cut off and had less room than rows takes the rest of the same choice."""
    source = write_source(tmp_path / "source.sqlite", range(9_000))
    target.entries_max = 6_000

    def stop(rows: int) -> None:
        if rows:
            task.cancel()

    task = asyncio.create_task(target.take(source, progress=stop))
    with pytest.raises(asyncio.CancelledError):
        await task
    _, cache = await target.take(source)

    assert (cache.tally.read, cache.tally.skipped) == (6_000, {FULL: 3_000})
    assert target.held().keys() == expected(range(3_000, 9_000)).keys()


async def test_a_changed_source_is_read_anew(tmp_path: Path, target: Target) -> None:
    """Another size or time is another source; what is there already is counted as such."""
    source = write_source(tmp_path / "source.sqlite", range(5))
    await target.take(source)
    _, cache = await target.take(write_source(source, range(8)))

    assert (cache.resumed_after, cache.tally.added, cache.tally.present) == (0, 3, 5)


async def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path, target: Target) -> None:
    """Rows that may be half old and half new are not taken; the message says what to do."""
    source = write_source(tmp_path / "source.sqlite", range(9_000))
    target.entries_max = 10_000

    def change(rows: int) -> None:
        if rows:
            os.utime(source, (1, 1))

    with pytest.raises(ImportFileError, match="changed while it was read: stop OpenClaw, then run the import again"):
        await target.take(source, progress=change)


async def test_bad_rows_are_counted(tmp_path: Path, target: Target) -> None:
    """Each reason has its number and some examples, and the good rows come over."""
    bad = ["[1, 2, 3]", "[0, 0, 0, 0]", "nothing", "[]", "[" + "1," * 600_000 + "1]", *["[0, 0, 0, 0]"] * 30]
    _, cache = await target.take(write_source(tmp_path / "source.sqlite", range(10), bad=bad))

    assert cache.tally.skipped == {
        "all zero": 31,
        "another size than its row says": 1,
        "larger than 1,048,576 bytes": 1,
        "no vector": 1,
        "not a list of numbers": 1,
    }
    assert (cache.tally.read, cache.tally.added, len(cache.tally.examples)) == (45, 10, 20)
    assert cache.tally.examples[0] == {
        "table": "embedding_cache",
        "rowid": 11,
        "reason": "another size than its row says",
    }


@pytest.mark.parametrize("data", [b"", b"SQLite format 3\x00 and then nothing of the kind", b"text" * 2_000])
async def test_what_is_no_database(tmp_path: Path, target: Target, data: bytes) -> None:
    """A file that is damaged or something else is refused, or has nothing in it; it is not written to."""
    path = tmp_path / "source.sqlite"
    path.write_bytes(data)
    if data:
        with pytest.raises(ImportFileError, match="source.sqlite cannot be read"):
            await target.take(path)
    else:
        assert await target.take(path) == []

    assert path.read_bytes() == data


async def test_a_database_of_something_else(tmp_path: Path, target: Target) -> None:
    """Tables of the same names with other columns are left alone."""
    with closing(apsw.Connection(str(tmp_path / "other.db"))) as made:
        made.execute(
            "CREATE TABLE chunks (id, body); CREATE TABLE embedding_cache (hash, model); CREATE TABLE meta (x)"
        )

    assert await target.take(tmp_path / "other.db") == []


def test_a_write_in_the_middle_is_not_taken_for_whole(tmp_path: Path) -> None:
    """A rollback journal that was left by a crash would have to be played back, so the source is refused."""
    source = write_source(tmp_path / "source.sqlite", range(2_000))
    crashed = tmp_path / "crashed.sqlite"
    with closing(apsw.Connection(str(source))) as live:
        live.pragma("cache_size", 1)
        live.execute("BEGIN; UPDATE embedding_cache SET embedding = '[9]'")
        for suffix in ("", "-journal"):
            crashed.with_name(crashed.name + suffix).write_bytes(source.with_name(source.name + suffix).read_bytes())

    with pytest.raises(ImportFileError, match="stop OpenClaw so that it closes the file, or import a copy"):
        SourceDatabase(crashed).tables()
