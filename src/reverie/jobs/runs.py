"""Handing jobs over and writing down what became of them: every step a compare-and-set on the run's number.

    waiting ──dispatch──▶ dispatched ──begin──▶ running ──end──▶ done, dead, or waiting again
                              └── its process died: waiting again, or before that same process once more

Whoever does a run renews its lease. One run of a job is under way at a time, whatever the number of processes:
a run that was overtaken finds that its number is not the row's any more, and ends without a word.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reverie.jobs.decisions import INTERRUPTIONS_MAX, LANES, RUNS_MAX, Standing, admissions
from reverie.jobs.record import job_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reverie.clock import Clock
    from reverie.jobs.decisions import Admission, Settlement
    from reverie.jobs.record import JobRecord
    from reverie.jobs.request import Lane
    from reverie.storage.database import Database, Transaction

LEASE_MS = 60_000
"""Of a run that is under way; it is renewed."""
DEFERRED_MAX = 1_000
"""Jobs of a kind that are deferred in one transaction."""
CLOCK_MS = 60_000
"""What was written further in the future was written by a clock that was ahead."""
HANDED_MS = 300_000
"""Within this time a run that was handed over begins, or it is handed over anew."""
IN_HAND_MAX = 1_000
RESULT_CHARS_MAX = 20_000
DEAD_KEPT = 10
DIED = "its process died {times} times while it ran"


def workflow_id(job: JobRecord) -> str:
    """The id of a job's newest run: sortable by when it was asked for, and the same for the same run."""
    return f"{job.requested_at_ms:013d}-{job.key}-{job.run}"


class JobRuns:
    """The table `job_requests`, as the process called `holder` works on it."""

    def __init__(self, database: Database, clock: Clock, holder: str) -> None:
        self._database = database
        self._clock = clock
        self._holder = holder

    async def anything_to_do(self) -> bool:
        """True when a job may begin by its time, or this process has left one behind."""
        now_ms = self._clock.now_ms()

        def work(tx: Transaction) -> bool:
            first = tx.value("next_waiting_job")
            return (first is not None and first <= now_ms) or bool(
                tx.rows("in_flight_with", holder=self._holder, limit=1)
            )

        return await self._database.read(work)

    async def take_over(self) -> tuple[JobRecord, ...]:
        """What a process of this name left behind when it died, handed to this one; what ended too many is buried."""
        now_ms = self._clock.now_ms()

        def work(tx: Transaction) -> tuple[JobRecord, ...]:
            tx.execute("hand_over_again", holder=self._holder, lease_until=now_ms + HANDED_MS, now=now_ms)
            left = [job_of(row) for row in tx.rows("in_flight_with", holder=self._holder, limit=IN_HAND_MAX)]
            return tuple(job for job in left if not _buried(tx, job, now_ms))

        return await self._database.write(work)

    async def give_back(self, runs: Iterable[tuple[str, int]]) -> None:
        """Jobs that were handed over, and whose runs (by key and number) never began, wait again."""
        given = list(runs)
        now_ms = self._clock.now_ms()

        def work(tx: Transaction) -> None:
            for key, run in given:
                tx.execute("give_back", key=key, run=run, now=now_ms)

        if given:
            await self._database.write(work)

    async def give_all_back(self) -> None:
        """Everything that this process was handed and has not begun waits again."""
        mine = await self._database.read(
            lambda tx: tx.rows("in_flight_with", holder=self._holder, limit=IN_HAND_MAX)
        )  # fmt: skip
        await self.give_back((row["key"], row["run"]) for row in mine if row["state"] == "dispatched")

    async def free_lapsed(self) -> None:
        """Jobs in the hands of a process that is not heard of any more wait again."""
        now_ms = self._clock.now_ms()
        if not await self._database.read(lambda tx: tx.rows("lapsed_jobs", now=now_ms, limit=1)):
            return

        def work(tx: Transaction) -> None:
            for row in tx.rows("lapsed_jobs", now=now_ms, limit=IN_HAND_MAX):
                tx.execute("free_lapsed_job", key=row["key"], run=row["run"], now=now_ms)
                freed = tx.row("find_job", key=row["key"])
                if freed is not None:
                    _buried(tx, job_of(freed), now_ms)

        await self._database.write(work)

    async def dispatch(
        self, *, busy: bool, quiet_for_s: float, idle_quiet_s: float, starve_s_max: float
    ) -> tuple[JobRecord, ...]:
        """Take in hand what may begin now, in the order of the lanes; of several processes one gets each job."""
        now_ms = self._clock.now_ms()
        if not await self._database.read(lambda tx: _any_due(tx, now_ms)):
            return ()

        def work(tx: Transaction) -> tuple[JobRecord, ...]:
            in_flight: dict[Lane, int] = {lane: int(tx.value("count_in_flight", lane=lane)) for lane in LANES}
            due: dict[Lane, int] = {
                lane: int(tx.value("count_due", lane=lane, now=now_ms, limit=RUNS_MAX + 1)) for lane in LANES
            }
            handed: list[JobRecord] = []
            for admission in admissions(Standing(busy, quiet_for_s, in_flight, due), idle_quiet_s):
                handed.extend(self._take(tx, admission, now_ms, now_ms - round(starve_s_max * 1_000)))
            return tuple(handed)

        return await self._database.write(work)

    async def begin(self, key: str, run: int) -> JobRecord | None:
        """Begin a run; None when it has begun already, or is not wanted any more."""
        now_ms = self._clock.now_ms()

        def work(tx: Transaction) -> JobRecord | None:
            begun = tx.execute(
                "begin_run", key=key, run=run, holder=self._holder, lease_until=now_ms + LEASE_MS, now=now_ms
            )  # fmt: skip
            row = tx.row("find_job", key=key) if begun else None
            return None if row is None else job_of(row)

        return await self._database.write(work)

    async def end(self, job: JobRecord, settlement: Settlement) -> bool:
        """Write down what became of a run; False when it was cancelled or overtaken meanwhile."""
        now_ms = self._clock.now_ms()
        over = settlement.state in {"done", "dead"}
        changed = await self._database.write(
            lambda tx: tx.execute(
                "end_run",
                key=job.key,
                run=job.run,
                holder=self._holder,
                state=settlement.state,
                attempts=settlement.attempts,
                put_backs=settlement.put_backs,
                not_before=settlement.not_before_ms,
                due_at=settlement.due_at_ms,
                waits_for=settlement.waits_for,
                error=settlement.error,
                result=_result(settlement),
                ended_at=now_ms if over else None,
                now=now_ms,
            )
        )
        return changed == 1

    async def defer_others(self, job: JobRecord, until_ms: int, reason: str) -> int:
        """What stopped a job stops all of its kind: those that wait are not tried one by one to find that out."""
        now_ms = self._clock.now_ms()
        return await self._database.write(
            lambda tx: tx.execute(
                "defer_kind", lane=job.lane, kind=job.kind, until=until_ms, reason=reason, now=now_ms,
                limit=DEFERRED_MAX,
            )
        )  # fmt: skip

    async def set_right(self) -> int:
        """Jobs that wait by a clock that was ahead wait as long as they were to, from now on; how many those were."""
        now_ms = self._clock.now_ms()
        return await self._database.write(
            lambda tx: tx.execute("set_jobs_right", now=now_ms, ahead=now_ms + CLOCK_MS, limit=DEFERRED_MAX)
        )

    async def lost(self, keys: Iterable[str]) -> set[str]:
        """Which of the jobs in hand are this process's no more: somebody cancelled them, or they were overtaken."""
        held = list(keys)

        def work(tx: Transaction) -> set[str]:
            rows = ((key, tx.row("find_job", key=key)) for key in held)
            return {key for key, row in rows if row is None or not self._has(row["state"], row["holder"])}

        return await self._database.read(work) if held else set()

    async def renew(self, keys: Iterable[str]) -> None:
        """Keep the leases of the jobs whose runs are under way."""
        held = list(keys)
        until_ms = self._clock.now_ms() + LEASE_MS

        def work(tx: Transaction) -> None:
            for key in held:
                tx.execute("renew_lease", key=key, holder=self._holder, lease_until=until_ms)

        if held:
            await self._database.write(work)

    async def prune(self, before_ms: int, limit: int) -> int:
        """Drop jobs that ended before an instant, at most so many; gives how many those were.

        Those that were put aside are kept ten times as long.

        What was dropped could be asked for again. That it is not is the domain's doing: a job is asked for in the
        transaction of a change that happens once (a window closes, a task ends, evidence with a new digest is there),
        and nothing looks for work by what has no job.
        """
        dead_ms = self._clock.now_ms() - DEAD_KEPT * (self._clock.now_ms() - before_ms)
        return await self._database.write(
            lambda tx: tx.execute("prune_jobs", before=before_ms, dead_before=dead_ms, limit=limit)
        )

    def _has(self, state: str, holder: str) -> bool:
        return state in {"dispatched", "running"} and holder == self._holder

    def _take(self, tx: Transaction, admission: Admission, now_ms: int, aged_ms: int) -> Iterable[JobRecord]:
        """On the writer thread: the jobs of one lane that may begin."""
        lane, room = admission.lane, admission.room
        rows = (
            tx.rows("aged_jobs", lane=lane, due_before=aged_ms, now=now_ms, limit=room)
            if admission.which == "aged"
            else tx.rows("due_jobs", lane=lane, now=now_ms, limit=room)
        )
        for row in rows:
            seen = {"key": row["key"], "run": row["run"]}
            lease = {"holder": self._holder, "lease_until": now_ms + HANDED_MS}
            tx.execute("dispatch_job", **seen, **lease, aged=admission.which == "aged", now=now_ms)
            taken = tx.row("find_job", key=row["key"])
            assert taken is not None, "a row that was just changed is there"
            yield job_of(taken)


def _any_due(tx: Transaction, now_ms: int) -> bool:
    first = tx.value("next_waiting_job")
    return first is not None and first <= now_ms


def _buried(tx: Transaction, job: JobRecord, now_ms: int) -> bool:
    """Put a job aside that ended too many processes; True if that was done."""
    if job.interrupted < INTERRUPTIONS_MAX:
        return False
    told = DIED.format(times=job.interrupted)
    return tx.execute("bury_job", key=job.key, run=job.run, error=told, now=now_ms) > 0


def _result(settlement: Settlement) -> str:
    text = json.dumps(settlement.result, ensure_ascii=False)
    return text if len(text) <= RESULT_CHARS_MAX else json.dumps({"dropped_chars": len(text)})
