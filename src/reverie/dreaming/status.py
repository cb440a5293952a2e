"""How dreaming does, as one value: for `reverie status`, `reverie memory status`, `/v1/status` and `/metrics`.

It is read from state.db and the settings, so that it is known without a server, too. What only a running server knows
(why it cannot begin, a change of config.toml that it refused) is put in by it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from reverie.clock import iso_instant
from reverie.dreaming.runs import run_of
from reverie.dreaming.schedule import MANAGED_BY, firing_due, missed, next_due, switched_off
from reverie.dreaming.schedules import schedule_of
from reverie.dreaming.settings import cron_for
from reverie.sessions.reset import zone_named
from reverie.types import Gauge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

    from reverie.config import DreamingConfig
    from reverie.dreaming.runs import DreamRun
    from reverie.dreaming.schedule import BlockedBy, Schedule
    from reverie.dreaming.schedules import Reconciled
    from reverie.storage.database import Database, Transaction
    from reverie.types import JsonObject

RUNS_LOOKED_AT = 20
ENDED = frozenset({"done", "failed"})
MISSED_MAX = 3
"""So many firings in a row that did not come are one too many: the doctor says so."""

BLOCKED = {
    "mode-off": "dreaming.mode is off",
    "limit-zero": "dreaming.limit is 0",
    "no-workspace": "no agent has a workspace folder",
    "unavailable": "its schedule cannot be read or written",
    "read-only": "the home cannot be written",
}
"""What each reason means."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why nothing is dreamt: a word for machines, and what is known beyond it."""

    reason: BlockedBy
    details: str = ""

    def __str__(self) -> str:
        return f"{BLOCKED[self.reason]}: {self.details}" if self.details else BLOCKED[self.reason]


@dataclass(frozen=True, slots=True)
class DreamingStatus:
    """When dreaming is due, and what became of it.

    `next_due_ms` is None when it is not due again, and in the past while a firing is owed; `missed` is how many are
    owed now, up to `MISSED_MAX`. `last`
    is the run that ended last, `running` the one under way or to be gone on with. `config_problem` is what is wrong
    with a change of config.toml that was not taken over.
    """

    mode: str
    cron: str
    time_zone: str
    zone: tzinfo
    next_due_ms: int | None
    missed: int
    last: DreamRun | None
    running: DreamRun | None
    failed_in_a_row: int
    blocked: Blocked | None
    config_problem: str = ""
    reconciled: Reconciled | None = None

    def as_json(self) -> JsonObject:
        """For programs. `nextDue` is the instant in the schedule's own time zone, `nextDueAt` in UTC."""
        due_ms = self.next_due_ms
        return {
            "mode": self.mode,
            "cron": self.cron,
            "timeZone": self.time_zone,
            "nextDue": None if due_ms is None else datetime.fromtimestamp(due_ms / 1000, self.zone).isoformat(),
            "nextDueAt": None if due_ms is None else iso_instant(due_ms),
            "missed": self.missed,
            "blocked": None if self.blocked is None else {"reason": self.blocked.reason, "message": str(self.blocked)},
            "running": None if self.running is None else self.running.as_json(),
            "last": None if self.last is None else self.last.as_json(),
            "failedInARow": self.failed_in_a_row,
            "configProblem": self.config_problem or None,
            "schedule": None if self.reconciled is None else self.reconciled.as_json(),
        }

    def gauges(self) -> Iterator[Gauge]:
        """For `/metrics`."""
        running = float(self.running is not None and self.running.state == "running")
        yield Gauge("dreaming_running", "1 while a run of dreaming is under way.", running)
        yield Gauge("dreaming_failed_in_a_row", "Runs of dreaming that failed in a row.", self.failed_in_a_row)
        yield Gauge("dreaming_missed", "Firings of dreaming that are owed now, up to 3.", self.missed)
        for reason in BLOCKED:
            held = float(self.blocked is not None and self.blocked.reason == reason)
            yield Gauge("dreaming_blocked", "1 for what keeps dreaming from it.", held, (("reason", reason),))
        if self.next_due_ms is not None:
            yield Gauge("dreaming_next_due_seconds", "When dreaming is due next, Unix time.", self.next_due_ms / 1000)
        if self.last is not None and self.last.ended_at_ms is not None:
            ended_s = self.last.ended_at_ms / 1000
            yield Gauge("dreaming_last_ended_seconds", "When a run of dreaming ended last, Unix time.", ended_s)


async def dreaming_status(
    database: Database,
    config: DreamingConfig,
    now_ms: int,
    *,
    blocked: Blocked | None = None,
    config_problem: str = "",
    reconciled: Reconciled | None = None,
) -> DreamingStatus:
    """How dreaming does in a home. `blocked` is what its server knows to be in the way.

    Raises:
        StorageError: the database cannot be read.
    """
    zone = await asyncio.to_thread(zone_named, config.time_zone)
    schedule, runs = await database.read(read_dreaming)
    found = status_of(config, zone, schedule, runs, now_ms)
    return replace(
        found, blocked=found.blocked or blocked, config_problem=config_problem, reconciled=reconciled
    )  # fmt: skip


def read_dreaming(tx: Transaction) -> tuple[Schedule | None, Sequence[DreamRun]]:
    """The managed schedule, and the runs of late, the newest first."""
    row = tx.row("managed_schedule", managed_by=MANAGED_BY)
    runs = [run_of(found) for found in tx.rows("newest_dream_runs", limit=RUNS_LOOKED_AT)]
    return None if row is None else schedule_of(row), runs


def status_of(
    config: DreamingConfig, zone: tzinfo, schedule: Schedule | None, runs: Sequence[DreamRun], now_ms: int
) -> DreamingStatus:
    """How dreaming does, as its schedule and its runs tell. Pure."""
    off = switched_off(config)
    ended = [run for run in runs if run.state in ENDED]
    return DreamingStatus(
        mode=config.mode,
        cron=cron_for(config),
        time_zone=config.time_zone,
        zone=zone,
        next_due_ms=None if off else _next(schedule, config, zone, now_ms),
        missed=0 if off or schedule is None else missed(schedule, zone, now_ms, MISSED_MAX),
        last=ended[0] if ended else None,
        running=next((run for run in runs if run.state not in ENDED), None),
        failed_in_a_row=next((n for n, run in enumerate(ended) if run.state == "done"), len(ended)),
        blocked=Blocked(off) if off else None,
    )


def _next(schedule: Schedule | None, config: DreamingConfig, zone: tzinfo, now_ms: int) -> int | None:
    """When it is due next: in the past, for a firing that is owed."""
    owed = None if schedule is None else firing_due(schedule, zone, now_ms)
    return owed.due_ms if owed is not None else next_due(cron_for(config), zone, now_ms)
