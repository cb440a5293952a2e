"""Jobs done one after the other in the test itself, without the job engine: the same rows, the same outcomes.

    jobs = InlineJobs(database, clock, {"reward": reward.handle})
    ended = await jobs.run_due()
    [job.key for job in ended]

With a fake clock a job that was deferred, or failed, is due again when the clock says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reverie.config import LearningJobsConfig
from reverie.jobs.performing import Performer
from reverie.jobs.requests import JobBook
from reverie.jobs.runs import JobRuns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reverie.clock import Clock
    from reverie.jobs.record import JobRecord
    from reverie.jobs.request import Handler, Job
    from reverie.storage.database import Database

QUIET_S = 1e9
"""Nobody waits in such a test."""


class InlineJobs:
    """Does jobs of a state.db. `began` are the jobs whose handlers were called, in order.

    `together`: jobs that may begin at the same time run side by side, as they do in the engine.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        handlers: Mapping[str, Handler],
        config: LearningJobsConfig | None = None,
        *,
        together: bool = False,
    ) -> None:
        self.began: list[Job] = []
        self._book = JobBook(database, clock)
        self._config = config or LearningJobsConfig()
        self._runs = JobRuns(database, clock, "inline-1")
        self._together = together
        self._performer = Performer(
            self._runs, clock, self._config, handlers, self.began.append, lambda: None
        )  # fmt: skip

    async def run_due(self, runs_max: int = 1_000) -> tuple[JobRecord, ...]:
        """Do what is due now and what that asks for, until nothing is; gives each job as it was after its run.

        Raises:
            AssertionError: more than `runs_max` runs did not bring it to an end.
        """
        ended: list[JobRecord] = []
        while handed := await self._runs.dispatch(
            busy=False,
            quiet_for_s=QUIET_S,
            idle_quiet_s=self._config.idle_quiet_s,
            starve_s_max=self._config.starve_s_max,
        ):
            ended.extend(await self._performed(handed))
            assert len(ended) <= runs_max, f"{runs_max} runs did not bring the jobs to an end"
        return tuple(ended)

    async def recover(self) -> tuple[JobRecord, ...]:
        """Do the runs that were in hand when the process before this one died; gives each job as it was after that."""
        return await self._performed(await self._runs.take_over())

    async def _performed(self, handed: Sequence[JobRecord]) -> tuple[JobRecord, ...]:
        if self._together:
            await asyncio.gather(*(self._performer.perform(job.key, job.run) for job in handed))
        else:
            for job in handed:
                await self._performer.perform(job.key, job.run)
        return tuple([await self._shown(job.key) for job in handed])

    async def _shown(self, key: str) -> JobRecord:
        after = await self._book.show(key)
        assert after is not None, "a job that was just done is there"
        return after
