"""The runs of dreaming: each firing is a row before anything is done, and of many processes one gets it.

Whoever works on a run holds a lease and renews it. A run whose lease is over is taken up again, under its id, so that
it goes on where it stopped; one that was taken up too often has failed. One run is worked on at a time, whatever the
number of processes. Bounded: the oldest give way.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from reverie.clock import iso_instant
from reverie.dreaming.schedule import MANAGED_BY

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.dreaming.schedule import Firing, Schedule
    from reverie.storage.database import Database, Row, Transaction
    from reverie.types import JsonObject

Cause = Literal["schedule", "late", "trigger", "manual"]
RunState = Literal["running", "done", "failed", "interrupted"]

RUNS_KEPT = 400
LEASE_MS = 120_000
INTERRUPTIONS_MAX = 5
"""A run that never comes to its end, for example because it takes too much memory, is not begun again for ever."""
ERROR_CHARACTERS_MAX = 500
SWITCHED_OFF = "dreaming was switched off before it came to its end"


@dataclass(frozen=True, slots=True)
class DreamRun:
    """One run, as it is stored. `due_at_ms` is the instant it is for, `interruptions` how often it was taken up again.

    `error` says why it failed.
    """

    id: str
    cause: Cause
    due_at_ms: int
    state: RunState
    lease_until_ms: int
    interruptions: int
    started_at_ms: int
    ended_at_ms: int | None
    report: JsonObject
    error: str | None

    def as_json(self) -> JsonObject:
        """For programs; instants as ISO 8601 in UTC."""
        return {
            "id": self.id,
            "cause": self.cause,
            "state": self.state,
            "dueAt": iso_instant(self.due_at_ms),
            "startedAt": iso_instant(self.started_at_ms),
            "endedAt": None if self.ended_at_ms is None else iso_instant(self.ended_at_ms),
            "interruptions": self.interruptions,
            "report": self.report,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that was asked for; `fresh` False: another one runs, and this is it."""

    run: DreamRun
    fresh: bool


class DreamRuns:
    """The table `dream_runs` of state.db, for one holder of leases."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._holder = f"{os.getpid()}-{uuid4().hex[:8]}"

    async def fire(self, schedule: Schedule, firing: Firing) -> DreamRun | None:
        """Take a due instant and begin its run, in one transaction; None if somebody else has, or another run runs.

        Raises:
            StorageError, HomeError: it could not be written; nothing was taken.
        """
        now_ms = self._clock.now_ms()
        cause: Cause = "late" if firing.late else "schedule"

        def work(tx: Transaction) -> DreamRun | None:
            if _live(tx, now_ms) is not None:
                return None
            taken = tx.execute(
                "take_firing", id=schedule.id, seen=schedule.fired_for_ms, fired_for=firing.due_ms
            )  # fmt: skip
            run_id = f"dream:{schedule.managed_by}:{_second(firing.due_ms)}"
            if taken != 1 or tx.row("find_dream_run", id=run_id) is not None:
                return None
            return self._begin(tx, run_id, cause, firing.due_ms, now_ms)

        return await self._database.write(work)

    async def begin(self, cause: Cause, due_ms: int | None = None) -> Begun:
        """Begin a run that somebody asked for, as if at an instant, else now. While another one runs, that is it.

        Raises:
            StorageError, HomeError: it could not be written.
        """
        now_ms = self._clock.now_ms()

        def work(tx: Transaction) -> Begun:
            live = _live(tx, now_ms)
            if live is not None:
                return Begun(live, fresh=False)
            at_ms = now_ms
            while tx.row("find_dream_run", id=_asked_id(at_ms)) is not None:
                at_ms += 1
            due_at_ms = now_ms if due_ms is None else due_ms
            return Begun(self._begin(tx, _asked_id(at_ms), cause, due_at_ms, now_ms), fresh=True)

        return await self._database.write(work)

    async def take_over(self, *, switched_off: bool) -> DreamRun | None:
        """Go on with a run that nobody works on any more; None if there is none, or another run runs.

        One that was interrupted too often has failed, and so has, once dreaming is `switched_off`, one that no person
        asked for.

        Raises:
            StorageError, HomeError: it could not be written.
        """
        now_ms = self._clock.now_ms()
        if await self._database.read(lambda tx: _stopped(tx, now_ms)) is None:
            return None

        def work(tx: Transaction) -> DreamRun | None:
            while _live(tx, now_ms) is None and (run := _stopped(tx, now_ms)) is not None:
                seen = {"id": run.id, "state": run.state, "seen": run.lease_until_ms}
                problem = _hopeless(run, switched_off=switched_off)
                if problem:
                    tx.execute("abandon_dream_run", **seen, now=now_ms, error=problem)
                    continue
                tx.execute("resume_dream_run", **seen, holder=self._holder, lease_until=now_ms + LEASE_MS)
                return _find(tx, run.id)
            return None

        return await self._database.write(work)

    async def renew(self, run_id: str) -> bool:
        """Keep the lease of a run; False when it is somebody else's, or has ended."""
        until_ms = self._clock.now_ms() + LEASE_MS
        changed = await self._database.write(
            lambda tx: tx.execute("renew_dream_run", id=run_id, holder=self._holder, lease_until=until_ms)
        )
        return changed == 1

    async def interrupt(self, run_id: str) -> None:
        """Stop working on a run before its end: anybody may go on with it at once."""
        await self._database.write(lambda tx: tx.execute("interrupt_dream_run", id=run_id, holder=self._holder))

    async def finish(self, run_id: str, report: JsonObject) -> None:
        """A run has come to its end."""
        await self._end(run_id, "done", report, None)

    async def fail(self, run_id: str, error: str) -> None:
        """A run has failed, and why."""
        await self._end(run_id, "failed", {}, error[:ERROR_CHARACTERS_MAX])

    async def live(self) -> DreamRun | None:
        """The run that somebody works on, in whatever process; None when nobody does."""
        now_ms = self._clock.now_ms()
        return await self._database.read(lambda tx: _live(tx, now_ms))

    async def find(self, run_id: str) -> DreamRun | None:
        """A run by its id."""
        return await self._database.read(lambda tx: _find(tx, run_id))

    async def newest(self, limit: int) -> list[DreamRun]:
        """The runs that began last, the newest first; at most `RUNS_KEPT`."""
        rows = await self._database.read(lambda tx: tx.rows("newest_dream_runs", limit=max(0, min(limit, RUNS_KEPT))))
        return [run_of(row) for row in rows]

    async def _end(self, run_id: str, state: RunState, report: JsonObject, error: str | None) -> None:
        values = {"id": run_id, "state": state, "error": error, "report": json.dumps(report, ensure_ascii=False)}
        now_ms = self._clock.now_ms()
        await self._database.write(
            lambda tx: tx.execute("end_dream_run", **values, holder=self._holder, now=now_ms)
        )  # fmt: skip

    # -- on the database's writer thread -------------------------------------------------------------------------

    def _begin(self, tx: Transaction, run_id: str, cause: Cause, due_ms: int, now_ms: int) -> DreamRun:
        tx.execute("insert_dream_run", id=run_id, cause=cause, due_at=due_ms, holder=self._holder,
                   lease_until=now_ms + LEASE_MS, now=now_ms)  # fmt: skip
        tx.execute("prune_dream_runs", kept=RUNS_KEPT)
        return DreamRun(run_id, cause, due_ms, "running", now_ms + LEASE_MS, 0, now_ms, None, {}, None)


def run_of(row: Row) -> DreamRun:
    """A row of the table."""
    return DreamRun(
        row["id"], row["cause"], row["due_at"], row["state"], row["lease_until"], row["interruptions"],
        row["started_at"], row["ended_at"], _report(row["report"]), row["error"],
    )  # fmt: skip


def _report(text: str) -> JsonObject:
    found: Any = json.loads(text)
    return found


def _hopeless(run: DreamRun, *, switched_off: bool) -> str:
    """Why nobody goes on with a run; empty if somebody should."""
    if run.interruptions >= INTERRUPTIONS_MAX:
        return f"it was interrupted {run.interruptions + 1} times, and is not begun again"
    return SWITCHED_OFF if switched_off and run.cause != "manual" else ""


def _find(tx: Transaction, run_id: str) -> DreamRun | None:
    row = tx.row("find_dream_run", id=run_id)
    return None if row is None else run_of(row)


def _live(tx: Transaction, now_ms: int) -> DreamRun | None:
    row = tx.row("live_dream_run", now=now_ms, lease_ms=LEASE_MS)
    return None if row is None else run_of(row)


def _stopped(tx: Transaction, now_ms: int) -> DreamRun | None:
    row = tx.row("stopped_dream_run", now=now_ms, lease_ms=LEASE_MS)
    return None if row is None else run_of(row)


def _second(at_ms: int) -> str:
    """A due instant, which is a whole second."""
    return iso_instant(at_ms).replace(".000Z", "Z")


def _asked_id(at_ms: int) -> str:
    return f"dream:{MANAGED_BY}:{iso_instant(at_ms)}"
