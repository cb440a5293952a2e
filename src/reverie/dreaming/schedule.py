"""When dreaming is due, and what the stored schedules should be. Pure decisions over values.

A cron expression means wall-clock time in a time zone. In a night of daylight saving it fires once: of an hour that
comes twice the first counts, and an hour that is left out is due at the end of the gap. An expression for every hour
is the exception: it means each hour that passes.

The managed schedule is known by `managed_by` alone. Whatever else stands in the table is somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from cronsim import CronSim

from reverie.dreaming.settings import cron_for, rules_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

    from reverie.config import DreamingConfig

MANAGED_BY = "reverie.dreaming.promotion"
"""Names the schedule that dreaming manages."""
NAME = "Memory Dreaming Promotion"

LATE_MS = 60_000
"""A firing this long after its instant was missed by whoever should have been watching."""
HOURS = 24
BACK_MAX = timedelta(hours=3)
"""Clocks have never been put back by more."""
MINUTE = timedelta(minutes=1)

BlockedBy = Literal["mode-off", "limit-zero", "no-workspace", "unavailable", "read-only"]
"""Why nothing is dreamt, a word for each reason."""


# -- when it is due --------------------------------------------------------------------------------------------------


def next_due(cron: str, zone: tzinfo, after_ms: int) -> int | None:
    """The first instant after one at which an expression is due, in milliseconds; None if it never is again."""
    after = datetime.fromtimestamp(after_ms / 1000, zone)
    if _every_hour(cron):
        due = map(_ms, CronSim(cron, after))
    else:
        due = _instants(CronSim(cron, after.replace(tzinfo=None, fold=0)), zone)
    return next((each for each in due if each > after_ms), None)


def last_due(cron: str, zone: tzinfo, at_ms: int) -> int | None:
    """The last instant up to one, that one included, at which an expression was due; None if it never was."""
    beyond = datetime.fromtimestamp(at_ms / 1000 + 1, zone)
    if _every_hour(cron):
        due = map(_ms, CronSim(cron, beyond, reverse=True))
    else:
        due = _instants(CronSim(cron, beyond.replace(tzinfo=None, fold=0) + BACK_MAX, reverse=True), zone)
    return next((each for each in due if each <= at_ms), None)


def _every_hour(cron: str) -> bool:
    return len(CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC)).hours) == HOURS


def _instants(walls: Iterable[datetime], zone: tzinfo) -> Iterable[int]:
    """The instants at which a clock on the wall shows these times, each once."""
    return (_ms(found) for wall in walls if (found := _shown(wall, zone)) is not None)


def _shown(wall: datetime, zone: tzinfo) -> datetime | None:
    """When a clock on the wall shows a time for the first time.

    For a time that it leaves out: when it goes on; where that is another day already, the minute before it leaves out
    anything; None for a day that is left out altogether.
    """
    if _exists(wall, zone):
        return wall.replace(tzinfo=zone)
    later = earlier = wall
    while not _exists(later, zone):
        later += MINUTE
    if later.date() == wall.date():
        return later.replace(tzinfo=zone)
    while not _exists(earlier, zone):
        earlier -= MINUTE
    return earlier.replace(tzinfo=zone) if earlier.date() == wall.date() else None


def _exists(wall: datetime, zone: tzinfo) -> bool:
    there = wall.replace(tzinfo=zone)
    return there.astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0) == wall


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Firing:
    """An instant whose time has come. `late`: whoever should have been watching was not there."""

    due_ms: int
    late: bool


def firing_due(schedule: Schedule, zone: tzinfo, now_ms: int) -> Firing | None:
    """The firing that a schedule still owes: the last one alone, however many were missed. None: it owes none."""
    if not schedule.enabled:
        return None
    due_ms = last_due(schedule.cron, zone, now_ms)
    if due_ms is None or due_ms <= schedule.fired_for_ms:
        return None
    return Firing(due_ms, late=now_ms - due_ms > LATE_MS)


def missed(schedule: Schedule, zone: tzinfo, now_ms: int, most: int) -> int:
    """How many firings a schedule owes at a moment, counted up to a bound."""
    count, after = 0, schedule.fired_for_ms
    while count < most and (due_ms := next_due(schedule.cron, zone, after)) is not None and due_ms <= now_ms:
        count, after = count + 1, due_ms
    return count


# -- what should be stored -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """The schedule that the settings ask for."""

    cron: str
    time_zone: str
    name: str = NAME
    managed_by: str = MANAGED_BY


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is stored. `fired_for_ms` is the due instant that was taken last, or when it was made."""

    id: str
    managed_by: str
    name: str
    cron: str
    time_zone: str
    enabled: bool
    created_at_ms: int
    fired_for_ms: int


Field = Literal["name", "cron", "time_zone", "enabled"]
Outcome = Literal["added", "updated", "noop", "removed", "disabled", "unavailable"]
"""What a comparison comes to.

`removed`: duplicates went, and the one that stays is as it should be. `disabled`: dreaming is switched off, and nothing
managed is left. `noop`: nothing is written. `unavailable`: the schedules could not be read or written.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written, and what that comes to.

    `drifted` are the fields of `update` that are not as wanted. Nothing to write: `noop`, or `disabled`.
    """

    outcome: Outcome
    add: Wanted | None = None
    update: str | None = None
    drifted: tuple[Field, ...] = ()
    remove: tuple[str, ...] = ()


def switched_off(config: DreamingConfig) -> Literal["mode-off", "limit-zero"] | None:
    """Why the settings ask for no dreaming; None if they ask for it."""
    if config.mode == "off":
        return "mode-off"
    return "limit-zero" if rules_for(config).limit == 0 else None


def wanted_for(config: DreamingConfig) -> Wanted | None:
    """The schedule that the settings ask for; None if dreaming is switched off."""
    return None if switched_off(config) else Wanted(cron_for(config), config.time_zone)


def reconcile(wanted: Wanted | None, existing: Iterable[Schedule]) -> Plan:
    """What makes the stored schedules those that are wanted. Of several managed ones the oldest stays."""
    managed = sorted(
        (each for each in existing if each.managed_by == MANAGED_BY), key=lambda each: (each.created_at_ms, each.id)
    )
    if wanted is None:
        return Plan("disabled", remove=tuple(each.id for each in managed))
    if not managed:
        return Plan("added", add=wanted)
    kept, remove = managed[0], tuple(each.id for each in managed[1:])
    drifted = drift(wanted, kept)
    if drifted:
        return Plan("updated", update=kept.id, drifted=drifted, remove=remove)
    return Plan("removed" if remove else "noop", remove=remove)


def drift(wanted: Wanted, kept: Schedule) -> tuple[Field, ...]:
    """The fields of a schedule that are not as wanted."""
    found: list[Field] = []
    if kept.name != wanted.name:
        found.append("name")
    if kept.cron != wanted.cron:
        found.append("cron")
    if kept.time_zone != wanted.time_zone:
        found.append("time_zone")
    if not kept.enabled:
        found.append("enabled")
    return tuple(found)
