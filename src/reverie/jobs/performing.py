"""Doing one run of a job: its handler is called on the event loop, and what became of it is written into its row.

Called for a workflow, from a thread of the job engine that waits for it. Nothing rises from here: a run that raised is
a failed attempt, with its cause in the row.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from concurrent.futures import CancelledError, wait
from typing import TYPE_CHECKING, Any

import structlog

from reverie.errors import (
    HomeError,
    JobDeferredError,
    JobHopelessError,
    JobPutBackError,
    ReverieError,
    StorageError,
)
from reverie.jobs.decisions import Deferred, Done, Failed, Hopeless, PutBack, settled
from reverie.jobs.request import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from reverie.clock import Clock
    from reverie.config import LearningJobsConfig
    from reverie.jobs.decisions import Outcome
    from reverie.jobs.record import JobRecord
    from reverie.jobs.request import Handler
    from reverie.jobs.runs import JobRuns
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

FLUSH_S = 15.0
"""Runs may go on for so long when the process stops."""
BREAK_OFF_S = 4.0
"""Then they are broken off, and may take so long to tidy up."""
LOOP_CHECK_S = 1.0
"""How often a thread that waits for the event loop makes sure that there still is one."""
STOPPED = "the process stopped"
BROKEN_OFF = "it was broken off"


class Performer:
    """Does the runs of this process. Belongs to one event loop.

    `on_started` is told of each run as it begins, `on_ended` when one has ended. What stops a job of a kind that is
    `alike` stops all of that kind.
    """

    def __init__(
        self,
        runs: JobRuns,
        clock: Clock,
        config: LearningJobsConfig,
        handlers: Mapping[str, Handler],
        on_started: Callable[[Job], None],
        on_ended: Callable[[], None],
        *,
        flush_s: float = FLUSH_S,
        alike: Collection[str] = (),
    ) -> None:
        self._runs = runs
        self._alike = alike
        self._clock = clock
        self._config = config
        self._handlers = handlers
        self._on_started = on_started
        self._on_ended = on_ended
        self._flush_s = flush_s
        self._performing: set[asyncio.Task[Any]] = set()
        self._at_work: dict[tuple[str, int], asyncio.Future[JsonObject]] = {}
        self._stopping = False

    async def perform(self, key: str, run: int) -> None:
        """Do one run; returns when what became of it is written down. Once `stop` was called it is given back."""
        me = asyncio.current_task()
        assert me is not None, "a coroutine runs in a task"
        self._performing.add(me)
        try:
            if self._stopping:
                await self._runs.give_back([(key, run)])
            elif (job := await self._runs.begin(key, run)) is not None:
                await self._settle(job, await self._outcome(job))
        except (StorageError, HomeError) as error:  # its lease lapses, and it is done again
            log.warning("what became of a job is not written down", action="job_unsettled", job=key, error=str(error))
        finally:
            self._performing.discard(me)
            self._on_ended()

    @property
    def at_work(self) -> tuple[str, ...]:
        """The keys of the jobs whose handlers are at work."""
        return tuple(dict.fromkeys(key for key, _ in self._at_work))

    def break_off(self, key: str) -> None:
        """Cancel the handler of a job, if it is at work."""
        for (held, _), handler in self._at_work.items():
            if held == key:
                handler.cancel()

    async def stop(self) -> None:
        """Begin nothing more; what runs has `flush_s`, then it is broken off and put back."""
        self._stopping = True
        if self._performing:
            await asyncio.wait(self._performing, timeout=self._flush_s)
        for key in self.at_work:
            self.break_off(key)
        if self._performing:
            await asyncio.wait(self._performing, timeout=BREAK_OFF_S)
        for task in tuple(self._performing):
            log.warning("a job does not let itself be broken off", action="job_hangs")
            task.cancel()

    async def _settle(self, job: JobRecord, outcome: Outcome) -> None:
        jitter = random.random()  # noqa: S311 (spreads retries, guards nothing)
        settlement = settled(job, outcome, self._config, self._clock.now_ms(), jitter)
        if await self._runs.end(job, settlement) and settlement.state == "dead":
            log.warning("a job was put aside", action="job_dead", job=job.key, error=settlement.error)
        if isinstance(outcome, Deferred) and outcome.all_until_ms is not None and job.kind in self._alike:
            await self._runs.defer_others(job, outcome.all_until_ms, settlement.waits_for)

    async def _outcome(self, record: JobRecord) -> Outcome:
        """Have the handler do a job, and say how that ended."""
        try:
            return Done(await self._handled(record))
        except JobDeferredError as error:
            outcome: Outcome = Deferred(error.until_ms, error.reason, error.all_until_ms)
        except JobPutBackError as error:
            outcome = PutBack(str(error))
        except JobHopelessError as error:
            outcome = Hopeless(str(error))
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            outcome = PutBack(STOPPED) if self._stopping else Failed(BROKEN_OFF)
        except Exception as error:  # a named border: a job's run; its row keeps the cause, and it is tried again
            cause = f"{type(error).__name__}: {error}"
            traced = None if isinstance(error, ReverieError) else error
            log.warning("a job failed", action="job_failed", job=record.key, cause=cause, exc_info=traced)
            outcome = Failed(cause)
        return outcome

    async def _handled(self, record: JobRecord) -> JsonObject:
        handler = self._handlers.get(record.kind)
        if handler is None:
            raise JobHopelessError(f"nothing does jobs of the kind {record.kind!r}")
        job = job_for(record)
        self._on_started(job)
        work = self._at_work[record.key, record.run] = asyncio.ensure_future(handler(job))
        try:
            return await work
        finally:
            del self._at_work[record.key, record.run]


def job_for(record: JobRecord) -> Job:
    """A job as its handler gets it."""
    return Job(
        record.key, record.kind, record.lane, record.payload, record.agent, record.episode_id, record.task_id,
        record.attempts + 1, record.aged,
    )  # fmt: skip


def perform_on(loop: asyncio.AbstractEventLoop, performer: Performer, key: str, run: int) -> None:
    """On another thread: have a run done on the event loop, and wait for it."""
    running = performer.perform(key, run)
    try:
        future = asyncio.run_coroutine_threadsafe(running, loop)
    except RuntimeError:  # the loop is closed: the process ends, and the next one finds the run
        running.close()
        return
    while not wait([future], timeout=LOOP_CHECK_S).done:
        if loop.is_closed():
            return
    with contextlib.suppress(CancelledError):
        future.result()


def _is_being_cancelled() -> bool:
    """True when the run itself is broken off, and not only its handler."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
