"""Jobs done one after the other in the test itself, without the job engine: the same rows, the same outcomes.

    jobs = InlineJobs(database, clock, {"reward": reward.handle})
    ended = await jobs.run_due()
    [job.key for job in ended]

With a fake clock a job that was deferred, or failed, is due again when the clock says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.config import LearningJobsConfig
from reverie.jobs.performing import Performer
from reverie.jobs.requests import JobBook
from reverie.jobs.runs import JobRuns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.clock import Clock
    from reverie.jobs.record import JobRecord
    from reverie.jobs.request import Handler, Job
    from reverie.storage.database import Database

QUIET_S = 1e9
"""Nobody waits in such a test."""


class InlineJobs:
    """Does jobs of a state.db. `began` are the jobs whose handlers were called, in order."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        handlers: Mapping[str, Handler],
        config: LearningJobsConfig | None = None,
    ) -> None:
        self.began: list[Job] = []
        self._book = JobBook(database, clock)
        self._config = config or LearningJobsConfig()
        self._runs = JobRuns(database, clock, "inline-1")
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
            for job in handed:
                await self._performer.perform(job.key, job.run)
                after = await self._book.show(job.key)
                assert after is not None, "a job that was just done is there"
                ended.append(after)
            assert len(ended) <= runs_max, f"{runs_max} runs did not bring the jobs to an end"
        return tuple(ended)
