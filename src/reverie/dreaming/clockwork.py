"""What makes dreaming happen: the schedule kept as the settings want it, and a sweep run when it is due or asked for.

    review     once a minute: settings read again if their file changed, schedules compared with them
    next run   one that was asked for; else one that stopped halfway; else the one that is due
    perform    the sweep, while the lease of its run is renewed; its end, or why it failed, is on record

Nobody waits for a sweep. What is asked for is a row in state.db before its asker is told, and so outlives a kill. A
firing that is missed, because the machine slept or no server ran, happens once, late. One that is due while turns run
waits for a pause, a bounded time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

from reverie.dreaming.runs import Begun, DreamRun, DreamRuns
from reverie.dreaming.schedule import Firing, firing_due, next_due, switched_off
from reverie.dreaming.schedules import Reconciler, StoredSchedules
from reverie.dreaming.status import Blocked, dreaming_status
from reverie.errors import DreamingBlockedError, HomeError, HomeReadOnlyError, ReverieError, StorageError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.dreaming.live_settings import LiveSettings
    from reverie.dreaming.schedules import Reconciled, Scheduler
    from reverie.dreaming.status import DreamingStatus
    from reverie.storage.database import Database
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

Sweep = Callable[[str, int], Awaitable["JsonObject"]]
"""Dreams once: given the id of its run and the instant it is for, it returns what it did. It may be stopped anywhere,
and goes on where it stopped when it is called with the same id again."""

POLL_S = 30.0
"""The longest sleep: a machine that was suspended notices what it missed so soon after."""
REVIEW_S = 60.0
GIVE_WAY_S = 1.0
GIVE_WAY_MS = 300_000
"""A firing waits so long for a moment in which no turn runs."""
RENEW_S = 30.0
STOPPED = "whoever had asked for it stopped it"
TRIGGER_S = 60.0
"""Triggers within this time of one another are one."""


@dataclass(frozen=True, slots=True)
class Triggered:
    """What became of a trigger: a run was begun, one runs already, one was triggered a moment ago; or why none was."""

    outcome: Literal["begun", "running", "recent"] | Blocked


class Clockwork:
    """Begins sweeps, one at a time, and knows why it does not.

    `wake` is called when there is work before the time that `work` gave; `busy` says whether turns run.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: LiveSettings,
        workspaces: Collection[Path],
        sweep: Sweep,
        *,
        wake: Callable[[], None] = lambda: None,
        busy: Callable[[], bool] = lambda: False,
        scheduler: Scheduler | None = None,
        renew_s: float = RENEW_S,
    ) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._workspaces = tuple(workspaces)
        self._sweep = sweep
        self._wake = wake
        self._busy = busy
        self._renew_s = renew_s
        self._schedules = StoredSchedules(database, clock)
        self._reconciler = Reconciler(scheduler or self._schedules)
        self._runs = DreamRuns(database, clock)
        self._asked: DreamRun | None = None
        self._gave_way_ms: int | None = None
        self._reviewed_s: float | None = None
        self._triggered_s: float | None = None
        self._reconciled: Reconciled | None = None
        self._trouble: Blocked | None = None

    # -- in the background -----------------------------------------------------------------------------------------

    async def work(self) -> float:
        """Do what is due; the seconds after which there may be more. Raises nothing but defects."""
        try:
            await self._review()
            run = await self._next_run()
        except (StorageError, HomeError) as error:
            self._note_trouble(error)
            return POLL_S
        if run is not None:
            await self._perform(run)
            return 0.0
        return self._pause_s()

    async def _review(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._reviewed_s is not None and now_s - self._reviewed_s < REVIEW_S:
            return
        self._reviewed_s = now_s
        await self._settings.refresh()
        done = self._reconciled = await self._reconciler.reconcile(self._settings.current)
        self._trouble = None
        if done.outcome == "unavailable":
            self._trouble = Blocked("read-only" if done.read_only else "unavailable", done.problem)

    async def _next_run(self) -> DreamRun | None:
        if self._asked is not None:
            asked, self._asked = self._asked, None
            return asked
        if await self._without_workspace() is not None:
            return None
        off = switched_off(self._settings.current) is not None
        stopped = await self._runs.take_over(switched_off=off)
        if stopped is not None or off:
            return stopped
        return await self._fire()

    async def _fire(self) -> DreamRun | None:
        schedule, now_ms = await self._schedules.managed(), self._clock.now_ms()
        if schedule is None:
            return None
        if schedule.fired_for_ms > now_ms:
            schedule = await self._schedules.set_back(schedule, now_ms)
        due = firing_due(schedule, self._settings.zone, now_ms)
        if due is None:
            return None
        if self._busy() and now_ms - due.due_ms < GIVE_WAY_MS:
            if not due.late:
                self._gave_way_ms = due.due_ms
            return None
        waited = due.due_ms == self._gave_way_ms
        return await self._runs.fire(schedule, Firing(due.due_ms, late=due.late and not waited))

    def _pause_s(self) -> float:
        """Until the next firing, at most `POLL_S`."""
        now_ms = self._clock.now_ms()
        if self._gave_way_ms is not None and now_ms - self._gave_way_ms < GIVE_WAY_MS and self._busy():
            return GIVE_WAY_S
        if switched_off(self._settings.current):
            return POLL_S
        due_ms = next_due(self._settings.cron, self._settings.zone, now_ms)
        return POLL_S if due_ms is None else min(POLL_S, max(0.0, (due_ms - now_ms) / 1000))

    def _note_trouble(self, error: ReverieError) -> None:
        trouble = _blocked_by(error)
        if trouble != self._trouble:
            log.warning("dreaming cannot begin", action="dreaming_unavailable", reason=trouble.reason, cause=str(error))
        self._trouble = trouble

    # -- a run -----------------------------------------------------------------------------------------------------

    async def _perform(self, run: DreamRun, *, goes_on: bool = True) -> None:
        """Sweep to the end, and put on record how it ended. When it is cancelled, it goes on later, or has failed."""
        at_ms = run.due_at_ms if run.cause == "manual" else self._clock.now_ms()
        log.info("dreaming", action="dream_started", run=run.id, cause=run.cause, interruptions=run.interruptions)
        sweep = asyncio.ensure_future(self._sweep(run.id, at_ms))
        try:
            held = await self._held(run.id, sweep)
        except asyncio.CancelledError:
            await _stopped(sweep)
            with suppress(StorageError, HomeError):  # then its lease ends by itself
                await (self._runs.interrupt(run.id) if goes_on else self._runs.fail(run.id, STOPPED))
            raise
        if not held:
            log.warning("another process went on with a run of this one", action="dream_lost", run=run.id)
            return
        try:
            await self._conclude(run, sweep)
        except (StorageError, HomeError) as error:
            self._note_trouble(error)

    async def _held(self, run_id: str, sweep: asyncio.Future[JsonObject]) -> bool:
        """Wait for a sweep, and renew the lease meanwhile; False, and the sweep stopped, when somebody else has it."""
        while not (await asyncio.wait({sweep}, timeout=self._renew_s))[0]:
            try:
                held = await self._runs.renew(run_id)
            except (StorageError, HomeError) as error:  # the lease may last until it works again
                self._note_trouble(error)
                continue
            if not held:
                await _stopped(sweep)
                return False
        return True

    async def _conclude(self, run: DreamRun, sweep: asyncio.Future[JsonObject]) -> None:
        try:
            report = sweep.result()
        except asyncio.CancelledError:
            await self._runs.fail(run.id, "it was cancelled from within")
        except ReverieError as error:
            log.error("dreaming failed", action="dream_failed", run=run.id, cause=str(error))  # noqa: TRY400 (the cause is the message)
            await self._runs.fail(run.id, str(error))
        except Exception as error:  # a named border: a run has its end on record, and the next one is due all the same
            log.exception("dreaming failed on a defect", action="dream_failed", run=run.id)
            await self._runs.fail(run.id, f"{type(error).__name__}: {error}")
        else:
            log.info("dreamt", action="dream_ended", run=run.id, cause=run.cause, report=report)
            await self._runs.finish(run.id, report)

    # -- asked for -------------------------------------------------------------------------------------------------

    async def trigger(self) -> Triggered:
        """Somebody's clock says that it is time. When this returns, a run is on record, or why there is none."""
        blocked = self._switched_off() or await self._without_workspace()
        if blocked is not None:
            return Triggered(blocked)
        now_s = self._clock.monotonic_s()
        recent = self._triggered_s is not None and now_s - self._triggered_s < TRIGGER_S
        try:
            if recent:
                return Triggered("running" if await self._runs.live() else "recent")
            begun = await self._runs.begin("trigger")
        except (StorageError, HomeError) as error:
            self._note_trouble(error)
            return Triggered(_blocked_by(error))
        if begun.fresh:
            self._triggered_s = now_s
            self._hand_over(begun.run)
        return Triggered("begun" if begun.fresh else "running")

    async def ask(self, at_ms: int | None = None) -> Begun:
        """Have a sweep run in the background, as if at an instant, whatever the mode; or the run under way.

        Raises:
            DreamingBlockedError: no agent has a workspace.
            StorageError, HomeError: it could not be put on record.
        """
        begun = await self._begin_manual(at_ms)
        if begun.fresh:
            self._hand_over(begun.run)
        return begun

    async def dream(self, at_ms: int | None = None) -> Begun:
        """Run a sweep here and now, as if at an instant, whatever the mode; or, not `fresh`, the run under way.

        Raises what `ask` raises. A sweep that fails is told by the run; when this is cancelled, it has failed.
        """
        begun = await self._begin_manual(at_ms)
        if not begun.fresh:
            return begun
        await self._perform(begun.run, goes_on=False)
        return Begun(await self._runs.find(begun.run.id) or begun.run, fresh=True)

    async def newest_runs(self, limit: int) -> list[DreamRun]:
        """The runs that began last, the newest first. Raises `StorageError` when they cannot be read."""
        return await self._runs.newest(limit)

    async def status(self) -> DreamingStatus:
        """How dreaming does. Raises `StorageError` when the database cannot be read."""
        return await dreaming_status(
            self._database,
            self._settings.current,
            self._clock.now_ms(),
            blocked=await self._blocked(),
            config_problem=self._settings.problem,
            reconciled=self._reconciled,
        )

    async def _begin_manual(self, at_ms: int | None) -> Begun:
        blocked = await self._without_workspace()
        if blocked is not None:
            raise DreamingBlockedError(f"Nothing can be dreamt: {blocked}.")
        return await self._runs.begin("manual", at_ms)

    def _hand_over(self, run: DreamRun) -> None:
        self._asked = run
        self._wake()

    # -- what is in the way ----------------------------------------------------------------------------------------

    async def _blocked(self) -> Blocked | None:
        return self._switched_off() or await self._without_workspace() or self._trouble

    def _switched_off(self) -> Blocked | None:
        off = switched_off(self._settings.current)
        return None if off is None else Blocked(off)

    async def _without_workspace(self) -> Blocked | None:
        there = await asyncio.to_thread(lambda: any(path.is_dir() for path in self._workspaces))
        return None if there else Blocked("no-workspace")


async def _stopped(sweep: asyncio.Future[JsonObject]) -> None:
    """Stop a sweep, and wait until it has."""
    sweep.cancel()
    await asyncio.wait({sweep})


def _blocked_by(error: ReverieError) -> Blocked:
    return Blocked("read-only" if isinstance(error, HomeReadOnlyError) else "unavailable", str(error))
