"""What people see of jobs and may do about them. Works beside a running server, and without the job engine.

Bounded: a page of jobs has at most `PAGE_MAX`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.jobs.decisions import LANES
from reverie.jobs.record import JobsStatus, LaneFigures, job_of

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.jobs.record import JobRecord
    from reverie.jobs.request import JobState, Lane
    from reverie.storage.database import Database, Transaction

RELEASED_MAX = 10_000
PAGE_MAX = 200
DEAD_SHOWN = 5


class JobBook:
    """The table `job_requests`, as a person reads it and writes in it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def list(
        self,
        state: JobState | None = None,
        kind: str | None = None,
        lane: Lane | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> tuple[JobRecord, ...]:
        """Jobs, those asked for last first, at most `PAGE_MAX`; `after` is the key of the last one of the page before.

        A key that is not there (any more) begins at the newest.
        """

        def work(tx: Transaction) -> tuple[JobRecord, ...]:
            last = None if after is None else tx.row("find_job", key=after)
            rows = tx.rows(
                "list_jobs",
                state=state or "",
                kind=kind or "",
                lane=lane or "",
                after_at=None if last is None else last["requested_at"],
                after_key=None if last is None else last["key"],
                limit=max(1, min(limit, PAGE_MAX)),
            )
            return tuple(map(job_of, rows))

        return await self._database.read(work)

    async def show(self, key: str) -> JobRecord | None:
        """A job by its key."""
        return await self._database.read(lambda tx: found(tx, key))

    async def retry(self, key: str) -> JobRecord | None:
        """Have a job that was put aside or cancelled done after all; its attempts count from the beginning.

        Gives the job as it is then, changed or not; None if there is none.
        """
        return await self._changed("retry_job", key)

    async def cancel(self, key: str) -> JobRecord | None:
        """Have a job not done. One that runs is broken off within a few seconds; what it has written stays.

        Gives the job as it is then, changed or not; None if there is none.
        """
        return await self._changed("cancel_job", key)

    async def release(self, beginning: str) -> int:
        """Have jobs looked at now whose reason to wait begins so; how many these are, at most `RELEASED_MAX`."""
        now_ms = self._clock.now_ms()
        return await self._database.write(
            lambda tx: tx.execute("release_jobs", beginning=beginning, now=now_ms, limit=RELEASED_MAX)
        )

    async def status(self) -> JobsStatus:
        """How busy the lanes are."""
        now_ms = self._clock.now_ms()

        def work(tx: Transaction) -> JobsStatus:
            totals = {row["name"]: row["total"] for row in tx.rows("job_tallies")}
            dead = tuple(map(job_of, tx.rows("newest_dead_jobs", limit=DEAD_SHOWN)))
            return JobsStatus({lane: _figures(tx, lane, totals, now_ms) for lane in LANES}, dead)

        return await self._database.read(work)

    async def _changed(self, query: str, key: str) -> JobRecord | None:
        now_ms = self._clock.now_ms()

        def work(tx: Transaction) -> JobRecord | None:
            tx.execute(query, key=key, now=now_ms)
            return found(tx, key)

        return await self._database.write(work)


def found(tx: Transaction, key: str) -> JobRecord | None:
    """A job by its key."""
    row = tx.row("find_job", key=key)
    return None if row is None else job_of(row)


def _figures(tx: Transaction, lane: Lane, totals: dict[str, int], now_ms: int) -> LaneFigures:
    def total(*states: JobState) -> int:
        return sum(totals.get(f"jobs.{lane}.{state}", 0) for state in states)

    oldest = tx.value("oldest_due_job", lane=lane, now=now_ms)
    wait_ms = 0 if oldest is None else max(0, now_ms - oldest)
    return LaneFigures(total("waiting"), total("dispatched", "running"), total("dead"), total("done"), wait_ms)
