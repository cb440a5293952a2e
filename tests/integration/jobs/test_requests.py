"""What a person sees of jobs, and may do about them, without the job engine."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from reverie.jobs.decisions import LANES
from reverie.jobs.record import LaneFigures
from reverie.jobs.request import JobRequest, ask_for
from reverie.jobs.requests import JobBook
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from tests.learning_rows import T0, seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """The state of a home."""
    opened = await Database.open(tmp_path / "state.db", STATE, now_ms=T0)
    yield opened
    await opened.aclose()


async def test_jobs_are_listed_in_pages(database: Database) -> None:
    """The newest come first, a page goes on after the last key of the one before, and filters narrow it down."""
    book = JobBook(database, FakeClock(T0))
    for number in range(5):
        seed(database.path, "job_requests", key=f"k{number}", kind="reward" if number % 2 else "window",
             requested_at=T0 + number // 2, lane="idle" if number == 4 else "background")  # fmt: skip
    first = await book.list(limit=3)
    second = await book.list(limit=3, after=first[-1].key)
    assert [job.key for job in (*first, *second)] == ["k4", "k3", "k2", "k1", "k0"]
    assert [job.key for job in await book.list(kind="reward")] == ["k3", "k1"]
    assert [job.key for job in await book.list(lane="idle", state="waiting")] == ["k4"]
    assert await book.list(state="dead") == ()


async def test_the_lanes_tell_how_busy_they_are(database: Database) -> None:
    """Each lane has its counts, and for how long one job could have been done and was not."""
    clock = FakeClock(T0 + 60_000)
    book = JobBook(database, clock)
    seed(database.path, "job_requests", key="a", kind="reward", due_at=T0)
    seed(database.path, "job_requests", key="b", kind="reward", due_at=T0 + 90_000, not_before=T0 + 90_000)
    seed(database.path, "job_requests", key="c", kind="reward", state="running", lane="idle")
    seed(database.path, "job_requests", key="d", kind="reward", state="dead", lane="idle", ended_at=T0, error="why")
    status = await book.status()
    assert status.lanes == {
        "interactive": LaneFigures(0, 0, 0, 0, 0),
        "background": LaneFigures(2, 0, 0, 0, 60_000),
        "idle": LaneFigures(0, 1, 1, 0, 0),
    }
    assert [(job.key, job.error) for job in status.dead] == [("d", "why")]
    assert list(status.as_json()["lanes"]) == list(LANES)


async def test_only_what_has_failed_is_tried_again_and_only_what_has_not_ended_is_cancelled(database: Database) -> None:
    """A retry and a cancellation give the job as it is then; those that do not apply change nothing."""
    book = JobBook(database, FakeClock(T0))
    for state in ("waiting", "done", "dead"):
        ended = None if state == "waiting" else T0
        seed(database.path, "job_requests", key=state, kind="reward", state=state, ended_at=ended, attempts=2)
    retried = [await book.retry(key) for key in ("waiting", "done", "dead", "none")]
    assert [job and (job.state, job.attempts) for job in retried] == [
        ("waiting", 2), ("done", 2), ("waiting", 0), None
    ]  # fmt: skip
    cancelled = [await book.cancel(key) for key in ("waiting", "done", "none")]
    assert [job and (job.state, job.ended_at_ms) for job in cancelled] == [("cancelled", T0), ("done", T0), None]


async def test_what_waits_for_a_reason_that_may_be_gone_is_looked_at_now(database: Database) -> None:
    """Jobs are released by the beginning of their reason; others, and those that may begin anyway, are left alone."""
    clock = FakeClock(T0)
    for key, reason, not_before in (
        ("a", "learning.budget.calls_day: this would make 1 of 0", T0 + 90_000),
        ("b", "cooldown", T0 + 90_000),
        ("c", "learning.budget.calls_hour: this would make 2 of 1", T0),
    ):
        seed(database.path, "job_requests", key=key, kind="reward", waits_for=reason, not_before=not_before)

    assert await JobBook(database, clock).release("learning.budget.") == 1
    found = await JobBook(database, clock).list()
    assert {job.key: job.not_before_ms for job in found} == {"a": T0, "b": T0 + 90_000, "c": T0}


async def test_a_job_that_was_asked_for_is_shown_as_it_was_asked_for(database: Database) -> None:
    """A job keeps what it was asked for with, and begins at its instant."""
    request = JobRequest("reward", "reward:ta_1:1", "background", {"task": "ta_1"}, T0 + 30_000, "main", "ep_1", "ta_1")
    assert await database.write(lambda tx: ask_for(tx, request, T0))
    shown = await JobBook(database, FakeClock(T0)).show("reward:ta_1:1")
    assert shown is not None
    assert shown.as_json() == {
        "key": "reward:ta_1:1",
        "kind": "reward",
        "lane": "background",
        "state": "waiting",
        "agent": "main",
        "episodeId": "ep_1",
        "taskId": "ta_1",
        "attempts": 0,
        "attemptsMax": None,
        "putBacks": 0,
        "interrupted": 0,
        "waitsFor": "",
        "notBefore": "2023-11-14T22:13:50.000Z",
        "requestedAt": "2023-11-14T22:13:20.000Z",
        "updatedAt": "2023-11-14T22:13:20.000Z",
        "startedAt": None,
        "endedAt": None,
        "error": None,
        "payload": {"task": "ta_1"},
        "result": {},
    }


def test_looking_at_jobs_loads_no_engine() -> None:
    """Neither the table of jobs nor the engine's own module loads DBOS before the first job is due."""
    code = "import sys, reverie.jobs.requests, reverie.jobs.engine; print({'dbos', 'sqlalchemy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
