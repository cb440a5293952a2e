"""Running the jobs that were asked for: once each, in the order of the lanes, beside turns and never before them.

One loop, woken by `wake` and every `poll_s`, takes what may begin in hand (`runs.py`) and starts a workflow for each
run (`durable.py`). The workflow, on a thread of the engine's own, has the handler run on the event loop, where the
databases and the model belong, and waits for it (`performing.py`).

The engine is launched when the first job is due: a process that has nothing to do never loads it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

import structlog

from reverie.errors import HomeError, StorageError
from reverie.jobs.performing import FLUSH_S, Performer, perform_on
from reverie.jobs.requests import JobBook
from reverie.jobs.runs import CLOCK_MS, LEASE_MS, JobRuns, workflow_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.config import LearningJobsConfig
    from reverie.jobs.durable import DurableRuns
    from reverie.jobs.executor import Executor
    from reverie.jobs.record import JobRecord, JobsStatus
    from reverie.jobs.request import Handler, Job, JobState, Lane
    from reverie.storage.database import Database

log = structlog.get_logger(__name__)

RENEW_S = LEASE_MS / 3_000
LAUNCH_AGAIN_S = 30.0
REST_S_MIN, REST_S_MAX = 1.0, 60.0
"""How long nothing is handed to an engine whose database does not answer; twice as long each time."""
LOOP_END_S = 10.0
"""A launch that is under way comes to its end, unless the engine's database does not answer."""
PRUNE_S = 3_600.0
PRUNED_MAX = 500
"""Ended jobs that are dropped at a time."""
DAY_MS = 86_400_000


class Quiet(Protocol):
    """Whether somebody waits for an answer now, and since when nobody has."""

    @property
    def busy(self) -> bool:
        """True while a turn runs."""
        ...

    @property
    def quiet_for_s(self) -> float:
        """How long no turn has run; 0 while one does."""
        ...


@dataclass(slots=True)
class _Times:
    """When things that are not done in every pass were done last: by the clock that runs on, in ms by the day's."""

    renewed_s: float = 0.0
    renewed_ms: int = 0
    seen_ms: int = 0
    pruned_s: float | None = None
    launch_after_s: float = 0.0
    rest_s: float = 0.0
    rests_until_s: float = 0.0


class Jobs:
    """The jobs of one home, run by this process. Belongs to one event loop.

    `handlers` has one for each kind. The engine keeps its runs in `engine_file`, unless a URL is configured; `executor`
    names this process, and is released by `stop`. `on_started` is told of each run as it begins. Kinds that are `alike`
    do nothing without what they need, so that what one job of them must wait for (`all_until_ms` of
    `JobDeferredError`) all of them wait for. Between `start` and `stop` jobs run; everything else works at any time.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        config: LearningJobsConfig,
        handlers: Mapping[str, Handler],
        foreground: Quiet,
        *,
        engine_file: Path,
        executor: Executor,
        on_started: Callable[[Job], None] | None = None,
        flush_s: float = FLUSH_S,
        alike: Collection[str] = (),
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._handlers = handlers
        self._foreground = foreground
        self._engine_file = engine_file
        self._executor = executor
        self._flush_s = flush_s
        self._alike = alike
        self._on_started = on_started or _nobody_is_told
        self._book = JobBook(database, clock)
        self._runs: JobRuns | None = None
        self._performer: Performer | None = None
        self._engine: DurableRuns | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._bell = asyncio.Event()
        self._times = _Times()
        self._stopping = False

    async def start(self) -> None:
        """Begin to run jobs. Returns at once; the engine is launched when a job is due.

        Raises:
            StorageError: the home cannot be written.
        """
        runs = JobRuns(self._database, self._clock, await self._executor.name())
        performer = Performer(
            runs, self._clock, self._config, self._handlers, self._on_started, self.wake, flush_s=self._flush_s,
            alike=self._alike,
        )  # fmt: skip
        self._runs, self._performer, self._stopping = runs, performer, False
        self._loop_task = asyncio.create_task(self._loop(runs, performer), name="jobs")

    async def stop(self) -> None:
        """End: nothing more begins, what runs has `flush_s`, then it is broken off and waits for the next start."""
        self._stopping = True
        if self._loop_task is not None:
            self.wake()
            _, still_running = await asyncio.wait([self._loop_task], timeout=LOOP_END_S)
            for task in still_running:
                task.cancel()
            self._loop_task = None
        if self._performer is not None:
            await self._performer.stop()
        if self._runs is not None:
            with contextlib.suppress(StorageError, HomeError):  # the next start gives them back
                await self._runs.give_all_back()
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await asyncio.to_thread(engine.destroy)
        await self._executor.release()

    def wake(self) -> None:
        """Something was asked for, or a turn has ended: look at once."""
        self._bell.set()

    @property
    def launched(self) -> bool:
        """True once the engine was needed."""
        return self._engine is not None

    async def status(self) -> JobsStatus:
        """How busy the lanes are."""
        return await self._book.status()

    async def list(
        self,
        state: JobState | None = None,
        kind: str | None = None,
        lane: Lane | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> tuple[JobRecord, ...]:
        """As `JobBook.list`."""
        return await self._book.list(state, kind, lane, limit, after)

    async def show(self, key: str) -> JobRecord | None:
        """As `JobBook.show`."""
        return await self._book.show(key)

    async def retry(self, key: str) -> JobRecord | None:
        """As `JobBook.retry`; the job begins as soon as it may."""
        job = await self._book.retry(key)
        self.wake()
        return job

    async def cancel(self, key: str) -> JobRecord | None:
        """As `JobBook.cancel`; a run in this process is broken off at once."""
        job = await self._book.cancel(key)
        if job is not None and job.state == "cancelled" and self._performer is not None:
            self._performer.break_off(key)
        return job

    async def release(self, beginning: str) -> int:
        """As `JobBook.release`."""
        return await self._book.release(beginning)

    # -- taking in hand ------------------------------------------------------------------------------------------

    async def _loop(self, runs: JobRuns, performer: Performer) -> None:
        while not self._stopping:
            try:
                await self._pass(runs, performer)
            except (StorageError, HomeError) as error:
                log.warning(
                    "jobs rest for a moment", action="jobs_failed", error=str(error), rest_s=self._times.rest_s
                )  # fmt: skip
            except Exception:  # a named border: a background loop; it logs and looks again
                log.exception("jobs rest for a moment", action="jobs_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._config.poll_s, RENEW_S)):
                    await self._bell.wait()
            self._bell.clear()

    async def _pass(self, runs: JobRuns, performer: Performer) -> None:
        """Look once at what is due and in hand. Our own leases are renewed before one is taken for lapsed."""
        await self._look_after(runs, performer)
        await runs.free_lapsed()
        engine = self._engine or await self._launched(runs, performer)
        if engine is None:
            return
        if self._clock.monotonic_s() < self._times.rests_until_s:
            return
        handed = await runs.dispatch(
            busy=self._foreground.busy,
            quiet_for_s=self._foreground.quiet_for_s,
            idle_quiet_s=self._config.idle_quiet_s,
            starve_s_max=self._config.starve_s_max,
        )
        await self._hand_over(runs, engine, handed)
        await self._prune(runs, engine)

    async def _launched(self, runs: JobRuns, performer: Performer) -> DurableRuns | None:
        """The engine, launched if there is anything to do; None if not, or while it cannot be had."""
        now_s = self._clock.monotonic_s()
        if now_s < self._times.launch_after_s or not await runs.anything_to_do():
            return None
        self._times.launch_after_s = now_s + LAUNCH_AGAIN_S
        left = await runs.take_over()
        module = await asyncio.to_thread(import_module, "reverie.jobs.durable")
        location = self._config.database_url or self._engine_file
        perform = partial(perform_on, asyncio.get_running_loop(), performer)
        name = await self._executor.name()
        self._engine = await asyncio.to_thread(module.DurableRuns.launch, location, name, perform)
        if self._engine is None:
            log.warning("another home in this process has the job engine: jobs wait for it", action="jobs_wait")
            return None
        known = await asyncio.to_thread(self._engine.unfinished, [workflow_id(job) for job in left])
        await runs.give_back((job.key, job.run) for job in left if workflow_id(job) not in known)
        return self._engine

    async def _hand_over(self, runs: JobRuns, engine: DurableRuns, handed: Iterable[JobRecord]) -> None:
        """Have a workflow begin for each. What the engine does not take waits again; it has a rest then.

        Raises:
            StorageError: the engine's database does not answer.
        """
        left = list(handed)
        try:
            while left:
                job = left[0]
                if not await asyncio.to_thread(engine.start, workflow_id(job), job.lane, job.key, job.run):
                    await runs.give_back([(job.key, job.run)])
                left.pop(0)
                self._times.rest_s = 0.0
        except StorageError:
            self._times.rest_s = min(max(REST_S_MIN, 2 * self._times.rest_s), REST_S_MAX)
            self._times.rests_until_s = self._clock.monotonic_s() + self._times.rest_s
            raise
        finally:
            await runs.give_back((job.key, job.run) for job in left)

    async def _look_after(self, runs: JobRuns, performer: Performer) -> None:
        """Renew the leases of what is at work, and break off what is not wanted of us any more.

        A machine that slept has a clock that went on, and one that did not: what either says is due is renewed.
        """
        for key in await runs.lost(performer.at_work):
            performer.break_off(key)
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        times = self._times
        if now_s - times.renewed_s >= RENEW_S or abs(now_ms - times.renewed_ms) >= RENEW_S * 1_000:
            await runs.renew(performer.at_work)
            times.renewed_s, times.renewed_ms = now_s, now_ms
        if now_ms < times.seen_ms - CLOCK_MS or not times.seen_ms:
            await runs.set_right()
        times.seen_ms = now_ms

    async def _prune(self, runs: JobRuns, engine: DurableRuns) -> None:
        """Now and then, drop some of what ended long ago."""
        now_s = self._clock.monotonic_s()
        if self._times.pruned_s is not None and now_s - self._times.pruned_s < PRUNE_S:
            return
        before_ms = self._clock.now_ms() - round(self._config.keep_days * DAY_MS)
        dropped = await runs.prune(before_ms, PRUNED_MAX)
        dropped = max(dropped, await asyncio.to_thread(engine.prune, before_ms, PRUNED_MAX))
        if dropped < PRUNED_MAX:  # else the next pass goes on with it
            self._times.pruned_s = now_s


def _nobody_is_told(_job: Job) -> None:
    """Of a run that begins."""
