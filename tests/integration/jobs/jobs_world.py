"""A home with jobs: a real state.db, the real engine, handlers of the test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from reverie.clock import SystemClock
from reverie.config import LearningJobsConfig
from reverie.jobs.engine import Jobs
from reverie.jobs.executor import Executor
from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.asking.foreground import Foreground
from reverie.storage import STATE, Database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.jobs.record import JobRecord
    from reverie.jobs.request import Handler

QUICK = LearningJobsConfig(poll_s=0.05, retry_wait_s=0.02, retry_wait_s_max=0.05, idle_quiet_s=0)


@dataclass(frozen=True, slots=True)
class JobsWorld:
    """What a test works with."""

    database: Database
    clock: Clock
    jobs: Jobs
    foreground: Foreground

    async def ask(self, *requests: JobRequest) -> list[bool]:
        """Ask for jobs in one transaction, and wake the loop."""
        now_ms = self.clock.now_ms()
        asked = await self.database.write(lambda tx: [ask_for(tx, each, now_ms) for each in requests])
        self.jobs.wake()
        return asked

    async def until(self, key: str, is_so: Callable[[JobRecord], bool]) -> JobRecord:
        """Wait until something is so of a job."""
        with anyio.fail_after(20):
            while True:
                job = await self.jobs.show(key)
                if job is not None and is_so(job):
                    return job
                await anyio.sleep(0.01)

    async def ended(self, key: str) -> JobRecord:
        """Wait until a job has ended."""
        return await self.until(key, lambda job: job.ended_at_ms is not None)


@asynccontextmanager
async def jobs_world(
    folder: Path,
    handlers: Mapping[str, Handler],
    config: LearningJobsConfig = QUICK,
    flush_s: float = 15.0,
    *,
    clock: Clock | None = None,
    alike: Collection[str] = (),
) -> AsyncGenerator[JobsWorld]:
    """A home whose jobs run for the length of the block."""
    clock = clock or SystemClock()
    database = await Database.open(folder / "state.db", STATE, now_ms=clock.now_ms())
    foreground = Foreground(clock)
    jobs = Jobs(
        database,
        clock,
        config,
        handlers,
        foreground,
        engine_file=folder / "jobs.db",
        executor=Executor(folder),
        flush_s=flush_s,
        alike=alike,
    )
    await jobs.start()
    try:
        yield JobsWorld(database, clock, jobs, foreground)
    finally:
        await jobs.stop()
        await database.aclose()
