"""The job engine on a real state.db and a real DBOS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from reverie.errors import JobDeferredError, JobHopelessError, JobPutBackError
from reverie.jobs.request import JobRequest
from tests.integration.jobs.jobs_world import jobs_world

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.jobs.request import Job
    from reverie.types import JsonObject

pytestmark = pytest.mark.anyio


async def test_a_job_of_each_lane_is_done_once(tmp_path: Path) -> None:
    """A job is done once in whatever lane, and asking for it again changes nothing."""
    done: list[str] = []

    async def note(job: Job) -> JsonObject:
        done.append(job.key)
        return {"payload": job.payload}

    async with jobs_world(tmp_path, {"note": note}) as world:
        requests = [JobRequest("note", f"note:{lane}", lane, {"n": 1}) for lane in ("interactive", "background", "idle")]
        assert await world.ask(*requests) == [True, True, True]
        ended = [await world.ended(each.key) for each in requests]
        assert [(job.state, job.run, job.attempts, job.result) for job in ended] == [
            ("done", 1, 0, {"payload": {"n": 1}})
        ] * 3
        assert await world.ask(*requests) == [False, False, False]
        await anyio.sleep(0.2)
    assert sorted(done) == ["note:background", "note:idle", "note:interactive"]
