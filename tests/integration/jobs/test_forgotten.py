"""Runs of jobs beside forgetting: which of them may write, and which begin anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.errors import JobPutBackError
from reverie.jobs.forgotten import forgotten_meanwhile, note_forgetting, unless_forgotten
from reverie.jobs.request import Job, JobRequest, ask_for
from reverie.jobs.runs import JobRuns
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

JOB = Job("induce:main:1", "induce", "idle", {}, "main")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    """An empty state.db with one job in it."""
    opened = await Database.open(tmp_path / "state.db", STATE, now_ms=0)
    await opened.write(lambda tx: ask_for(tx, JobRequest(JOB.kind, JOB.key, JOB.lane, agent=JOB.agent), 0))
    yield opened
    await opened.aclose()


async def begin(database: Database) -> None:
    """Begin a run of the job."""
    runs = JobRuns(database, FakeClock(), "p1")
    (handed,) = await runs.dispatch(busy=False, quiet_for_s=99.0, idle_quiet_s=0.0, starve_s_max=99.0)
    assert await runs.begin(handed.key, handed.run) is not None


async def forget(database: Database, agent: str = "main") -> None:
    """Count something of an agent as forgotten."""
    await database.write(lambda tx: note_forgetting(tx, agent, 1))


async def stale(database: Database) -> bool:
    """Whether the job's run may not write any more."""
    return await database.read(lambda tx: forgotten_meanwhile(tx, JOB))


async def test_a_run_that_began_before_is_too_old_and_the_next_one_is_not(database: Database) -> None:
    """What another agent had forgotten does not matter; each forgetting counts."""
    await forget(database)
    await begin(database)
    assert not await stale(database)
    await forget(database, "helper")
    assert not await stale(database)
    await forget(database)
    assert await stale(database)
    await _wait_again(database)
    await begin(database)
    assert not await stale(database)


async def test_a_run_whose_job_is_gone_is_too_old(database: Database) -> None:
    """Forgetting a conversation deletes the jobs of its tasks; where nothing was ever forgotten, nothing is too old."""
    assert not await database.read(lambda tx: forgotten_meanwhile(tx, Job("none", "induce", "idle", {}, "main")))
    await forget(database)
    assert await database.read(lambda tx: forgotten_meanwhile(tx, Job("none", "induce", "idle", {}, "main")))


async def test_nothing_is_written_by_a_run_that_is_too_old(database: Database) -> None:
    """It is put back."""
    await begin(database)
    write = unless_forgotten(JOB, lambda tx: tx.execute("set_learning_mark", name="made", value="1", now=0))
    assert await database.write(write) == 1
    await forget(database)
    with pytest.raises(JobPutBackError, match="forgotten meanwhile"):
        await database.write(write)


async def _wait_again(database: Database) -> None:
    """Have the job wait, as a run that was put back does."""
    await database.write(
        lambda tx: tx.execute(
            "end_run",
            key=JOB.key,
            run=1,
            holder="p1",
            state="waiting",
            attempts=0,
            put_backs=1,
            not_before=0,
            due_at=0,
            waits_for="",
            error=None,
            result="{}",
            ended_at=None,
            now=0,
        )
    )
