"""The double that does jobs in the test itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.errors import JobDeferredError
from reverie.jobs.request import JobRequest, ask_for
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, InlineJobs

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.jobs.request import Job
    from reverie.types import JsonObject

pytestmark = pytest.mark.anyio


async def test_jobs_are_done_with_what_they_ask_for(tmp_path: Path) -> None:
    """What is due is done with what it asks for; what is deferred is done when the clock says so."""
    clock = FakeClock()
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=clock.now_ms())

    async def first(job: Job) -> JsonObject:
        await database.write(lambda tx: ask_for(tx, JobRequest("second", "second:1", "idle"), clock.now_ms()))
        return {"n": 1}

    async def second(job: Job) -> JsonObject:
        if len(jobs.began) == 2:
            raise JobDeferredError(clock.now_ms() + 60_000, "not yet")
        return {"n": 2}

    jobs = InlineJobs(database, clock, {"first": first, "second": second})
    await database.write(lambda tx: ask_for(tx, JobRequest("first", "first:1", "background"), clock.now_ms()))
    now = await jobs.run_due()
    clock.advance(seconds=60)
    later = await jobs.run_due()
    await database.aclose()
    assert [(job.key, job.state, job.waits_for) for job in (*now, *later)] == [
        ("first:1", "done", ""),
        ("second:1", "waiting", "not yet"),
        ("second:1", "done", ""),
    ]
    assert [job.key for job in jobs.began] == ["first:1", "second:1", "second:1"]
