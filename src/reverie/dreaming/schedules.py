"""The stored schedules, and what keeps them as the settings want them.

`Reconciler` compares and writes; it survives schedules that cannot be read or written, and says so. A second run
without a change writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import structlog

from reverie.dreaming.schedule import MANAGED_BY, Schedule, reconcile, wanted_for
from reverie.errors import HomeReadOnlyError, ReverieError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.config import DreamingConfig
    from reverie.dreaming.schedule import Field, Outcome, Plan, Wanted
    from reverie.storage.database import Database, Row
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

SCHEDULES_MAX = 1_000
"""Schedules looked at; managed ones come first."""


class Scheduler(Protocol):
    """Where schedules are kept. Every method raises a `ReverieError` when it cannot do what is asked."""

    async def listed(self) -> Sequence[Schedule]:
        """All schedules, those that are not enabled as well, managed or not."""
        ...

    async def add(self, wanted: Wanted) -> bool:
        """Make one; False when there is one of that manager already."""
        ...

    async def update(self, schedule_id: str, wanted: Wanted) -> bool:
        """Make one as it is wanted; False when it is gone."""
        ...

    async def remove(self, schedule_id: str) -> bool:
        """Delete one; False when there was none."""
        ...


class StoredSchedules:
    """The table `schedules` of state.db."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def listed(self) -> list[Schedule]:
        """At most `SCHEDULES_MAX` of them, the managed ones first."""
        rows = await self._database.read(lambda tx: tx.rows("schedules", limit=SCHEDULES_MAX))
        return [schedule_of(row) for row in rows]

    async def managed(self) -> Schedule | None:
        """The one that dreaming manages; None if there is none."""
        row = await self._database.read(lambda tx: tx.row("managed_schedule", managed_by=MANAGED_BY))
        return None if row is None else schedule_of(row)

    async def add(self, wanted: Wanted) -> bool:
        """Make one, from now on; of two processes that do it at once, one does."""
        values = {**_values(wanted), "id": uuid4().hex, "managed_by": wanted.managed_by, "now": self._clock.now_ms()}
        return await self._database.write(lambda tx: tx.execute("add_schedule", **values)) == 1

    async def update(self, schedule_id: str, wanted: Wanted) -> bool:
        """Make one as it is wanted. If that changes when it is due, only what is due from now on counts."""
        values = {**_values(wanted), "id": schedule_id, "now": self._clock.now_ms()}
        return await self._database.write(lambda tx: tx.execute("update_schedule", **values)) == 1

    async def remove(self, schedule_id: str) -> bool:
        """Delete one."""
        return await self._database.write(lambda tx: tx.execute("remove_schedule", id=schedule_id)) == 1

    async def set_back(self, schedule: Schedule, now_ms: int) -> Schedule:
        """The clock was put back behind the instant that was taken last: what is due from now on counts again."""
        await self._database.write(
            lambda tx: tx.execute("take_firing", id=schedule.id, seen=schedule.fired_for_ms, fired_for=now_ms)
        )
        return replace(schedule, fired_for_ms=now_ms)


def schedule_of(row: Row) -> Schedule:
    """A row of the table."""
    return Schedule(
        row["id"], row["managed_by"], row["name"], row["cron"], row["time_zone"], bool(row["enabled"]),
        row["created_at"], row["fired_for"],
    )  # fmt: skip


def _values(wanted: Wanted) -> dict[str, Any]:
    return {"title": wanted.name, "cron": wanted.cron, "time_zone": wanted.time_zone}


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a comparison came to: how many schedules were removed, which fields had drifted, what went wrong.

    `read_only`: what went wrong is that the home cannot be written.
    """

    outcome: Outcome
    removed: int = 0
    drifted: tuple[Field, ...] = ()
    problem: str = ""
    read_only: bool = False

    def as_json(self) -> JsonObject:
        """For programs."""
        return {
            "outcome": self.outcome, "removed": self.removed, "drifted": list(self.drifted),
            "problem": self.problem or None,
        }  # fmt: skip


class Reconciler:
    """Makes the schedules what the settings want. What others made is never touched."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def reconcile(self, config: DreamingConfig) -> Reconciled:
        """Compare and write what differs.

        A schedule that cannot be removed is warned of and left to the next comparison. When they cannot be read, added
        to or changed the outcome is `unavailable`, with the reason.
        """
        wanted = wanted_for(config)
        removed = 0
        try:
            plan = reconcile(wanted, await self._scheduler.listed())
            removed = await self._remove(plan)
            done = await self._write(plan, wanted, removed)
            if done is not None:
                return _told(Reconciled(done, removed, plan.drifted))
            problem, read_only = "the schedule went away while it was changed", False
        except ReverieError as error:
            problem, read_only = str(error), isinstance(error, HomeReadOnlyError)
        log.warning("the schedule of dreaming cannot be kept", action="dreaming_unavailable", cause=problem)
        return Reconciled("unavailable", removed, problem=problem, read_only=read_only)

    async def _remove(self, plan: Plan) -> int:
        """Remove one by one; how many surely went."""
        removed = 0
        for schedule_id in plan.remove:
            try:
                removed += await self._scheduler.remove(schedule_id) is True
            except ReverieError as error:
                log.warning("a schedule was not removed", action="schedule_not_removed", id=schedule_id,
                            cause=str(error))  # fmt: skip
        return removed

    async def _write(self, plan: Plan, wanted: Wanted | None, removed: int) -> Outcome | None:
        """Add or change; None when what is to be changed is gone. One that another process has added is no addition."""
        if plan.add is not None:
            return "added" if await self._scheduler.add(plan.add) else "noop"
        if plan.update is not None and wanted is not None:
            return "updated" if await self._scheduler.update(plan.update, wanted) else None
        return "noop" if plan.outcome == "removed" and not removed else plan.outcome


def _told(done: Reconciled) -> Reconciled:
    if done.outcome not in {"noop", "disabled"} or done.removed:
        log.info("the schedule of dreaming was compared with the settings", action="dreaming_reconciled",
                 outcome=done.outcome, removed=done.removed, drifted=list(done.drifted))  # fmt: skip
    return done
