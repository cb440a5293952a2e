"""The door to DBOS."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import apsw
import pytest

from reverie.errors import StorageError
from reverie.jobs.durable import DurableRuns

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

DAY_MS = 86_400_000


class Runs:
    """What was done, on whatever thread."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []

    def perform(self, key: str, run: int) -> None:
        self.done.append((key, run))


@contextmanager
def launched(location: Path, executor: str, runs: Runs) -> Generator[DurableRuns]:
    """The engine, for the length of the block."""
    engine = DurableRuns.launch(location, executor, runs.perform)
    assert engine is not None
    try:
        yield engine
    finally:
        engine.destroy()


def wait_until_ended(engine: DurableRuns, workflow_id: str) -> None:
    """Wait until the engine has written down that a run has ended."""
    until = time.monotonic() + 10
    while engine.unfinished([workflow_id]):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_same_id_is_the_same_run(tmp_path: Path) -> None:
    """An id that was started twice is one run; one that has ended is not started again, and is known as ended."""
    runs = Runs()
    with launched(tmp_path / "jobs.db", "home-1", runs) as engine:
        assert engine.start("0001-a-1", "interactive", "a", 1)
        wait_until_ended(engine, "0001-a-1")
        assert not engine.start("0001-a-1", "interactive", "a", 1)
        assert engine.start("0001-a-2", "interactive", "a", 2)
        wait_until_ended(engine, "0001-a-2")
    assert runs.done == [("a", 1), ("a", 2)]
    connection = apsw.Connection(str(tmp_path / "jobs.db"))
    assert connection.pragma("journal_mode") == "wal"
    connection.close()


def test_homes_on_one_database_keep_apart(tmp_path: Path) -> None:
    """What one home has in a shared database is neither taken nor dropped by another one."""
    first, second, file = Runs(), Runs(), tmp_path / "jobs.db"
    with launched(file, "one-1", first) as engine:
        assert engine.start("0001-done-1", "interactive", "done", 1)
        wait_until_ended(engine, "0001-done-1")
        assert engine.start("0001-a-1", "background", "a", 1)
    with launched(file, "two-1", second) as engine:
        assert engine.start("0001-b-1", "background", "b", 1)
        wait_until_ended(engine, "0001-b-1")
        assert engine.prune(int(time.time() * 1_000) + DAY_MS, 100) == 1
    with launched(file, "one-1", first) as engine:
        wait_until_ended(engine, "0001-a-1")
        assert not engine.start("0001-done-1", "interactive", "done", 1)
        assert engine.prune(int(time.time() * 1_000) - DAY_MS, 100) == 0
    assert (first.done, second.done) == ([("done", 1), ("a", 1)], [("b", 1)])


def test_a_database_that_cannot_be_used_is_given_back(tmp_path: Path) -> None:
    """A launch that fails names the cause, leaves nothing behind, and the next one may succeed."""
    (tmp_path / "jobs.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StorageError, match=r"the job engine cannot use its database \(NotADBError\)"):
        DurableRuns.launch(tmp_path / "jobs.db", "home-1", Runs().perform)
    with launched(tmp_path / "other.db", "home-1", Runs()) as engine:
        assert engine.unfinished(["0001-a-1"]) == set()
