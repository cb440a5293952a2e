"""How dreaming does, as its schedule and its runs tell, and what people, programs and the doctor read of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from reverie.cli.commands.status import dreaming_rows
from reverie.config import DreamingConfig
from reverie.doctor.dream_runs import dreaming_findings
from reverie.dreaming.runs import DreamRun
from reverie.dreaming.schedule import MANAGED_BY, NAME, Schedule
from reverie.dreaming.schedules import Reconciled
from reverie.dreaming.status import Blocked, DreamingStatus, status_of

if TYPE_CHECKING:
    from reverie.types import JsonObject

BERLIN = ZoneInfo("Europe/Berlin")
CONFIG = DreamingConfig(time_zone="Europe/Berlin")
DAY_MS = 86_400_000


def ms(text: str) -> int:
    """An instant, by its ISO 8601."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


THREE = ms("2026-06-10T03:00+02:00")
NIGHT = Schedule("1", MANAGED_BY, NAME, "0 3 * * *", "Europe/Berlin", enabled=True, created_at_ms=1, fired_for_ms=THREE)
DONE = DreamRun("a", "schedule", THREE, "done", THREE, 0, THREE, THREE + 1_500, {"promoted": 2}, None)
FAILED = replace(DONE, id="b", state="failed", report={}, error="the disk is gone")
RUNNING = replace(DONE, id="c", state="running", cause="manual", ended_at_ms=None, report={})


def status(
    *runs: DreamRun, schedule: Schedule | None = NIGHT, now_ms: int = THREE + 1, **settings: object
) -> DreamingStatus:
    """How it does after these runs, the newest first."""
    return status_of(CONFIG.model_copy(update=settings), BERLIN, schedule, runs, now_ms)


def test_when_it_is_due() -> None:
    """The next night; in the past while one is owed; the same before a first start has made the schedule."""
    asleep = THREE + 5 * DAY_MS + 1
    found = [status(), status(now_ms=asleep), status(schedule=None), status(mode="off"), status(limit=0, now_ms=asleep)]
    assert [(each.next_due_ms, each.missed) for each in found] == [
        (THREE + DAY_MS, 0), (THREE + 5 * DAY_MS, 3), (THREE + DAY_MS, 0), (None, 0), (None, 0)
    ]  # fmt: skip


def test_how_the_runs_went() -> None:
    """The one that ended last, the one under way, and how many have failed since one succeeded."""
    found = status(RUNNING, FAILED, FAILED, DONE, FAILED)
    assert (found.running, found.last, found.failed_in_a_row) == (RUNNING, FAILED, 2)
    assert [status(*runs).failed_in_a_row for runs in ((), (DONE, FAILED), (FAILED,))] == [0, 0, 1]


def test_the_status_for_programs() -> None:
    """Every field, with instants in UTC and the next one in the schedule's own time zone as well."""
    found = replace(
        status(RUNNING, DONE),
        blocked=Blocked("unavailable", "the disk is gone"),
        config_problem="dreaming.limit = -1 is not valid",
        reconciled=Reconciled("updated", 1, ("cron",)),
    )
    run: JsonObject = {
        "id": "a", "cause": "schedule", "state": "done", "dueAt": "2026-06-10T01:00:00.000Z",
        "startedAt": "2026-06-10T01:00:00.000Z", "endedAt": "2026-06-10T01:00:01.500Z", "interruptions": 0,
        "report": {"promoted": 2}, "error": None,
    }  # fmt: skip
    assert found.as_json() == {
        "mode": "core",
        "cron": "0 3 * * *",
        "timeZone": "Europe/Berlin",
        "nextDue": "2026-06-11T03:00:00+02:00",
        "nextDueAt": "2026-06-11T01:00:00.000Z",
        "missed": 0,
        "blocked": {
            "reason": "unavailable", "message": "its schedule cannot be read or written: the disk is gone"
        },
        "running": {**run, "id": "c", "cause": "manual", "state": "running", "endedAt": None, "report": {}},
        "last": run,
        "failedInARow": 0,
        "configProblem": "dreaming.limit = -1 is not valid",
        "schedule": {"outcome": "updated", "removed": 1, "drifted": ["cron"], "problem": None},
    }  # fmt: skip


def test_the_figures() -> None:
    """One reason of five holds; instants only where there are any."""
    figures = [(gauge.name, dict(gauge.labels), gauge.value) for gauge in status(mode="off").gauges()]
    assert figures == [
        ("dreaming_running", {}, 0),
        ("dreaming_failed_in_a_row", {}, 0),
        ("dreaming_missed", {}, 0),
        ("dreaming_blocked", {"reason": "mode-off"}, 1),
        ("dreaming_blocked", {"reason": "limit-zero"}, 0),
        ("dreaming_blocked", {"reason": "no-workspace"}, 0),
        ("dreaming_blocked", {"reason": "unavailable"}, 0),
        ("dreaming_blocked", {"reason": "read-only"}, 0),
    ]
    more = {gauge.name: gauge.value for gauge in status(RUNNING, FAILED).gauges()}
    assert more["dreaming_running"] == 1
    assert more["dreaming_next_due_seconds"] == (THREE + DAY_MS) / 1000
    assert more["dreaming_last_ended_seconds"] == (THREE + 1_500) / 1000


@pytest.mark.parametrize(
    ("found", "served", "rows"),
    [
        (status(DONE), True, [
            "core, 0 3 * * * (Europe/Berlin), next 2026-06-11T03:00:00+02:00",
            "last 2026-06-10T01:00:01.500Z (schedule): promoted 2",
        ]),
        (status(now_ms=THREE + DAY_MS), False, [
            "core, 0 3 * * * (Europe/Berlin), missed 2026-06-11T03:00:00+02:00",
            "it waits for a server: `reverie serve`",
        ]),
        (status(mode="off"), True, ["dreaming.mode is off"]),
        (status(limit=0), False, ["dreaming.limit is 0"]),
        (replace(status(FAILED, FAILED), blocked=Blocked("no-workspace"), config_problem="x"), True, [
            "core, 0 3 * * * (Europe/Berlin), next 2026-06-11T03:00:00+02:00",
            "it cannot begin: no agent has a workspace folder",
            "config.toml was not read again: x",
            "FAILED 2026-06-10T01:00:01.500Z (2 times in a row): the disk is gone",
        ]),
        (status(RUNNING, FAILED), True, [
            "core, 0 3 * * * (Europe/Berlin), next 2026-06-11T03:00:00+02:00",
            "running since 2026-06-10T01:00:00.000Z (manual)",
            "FAILED 2026-06-10T01:00:01.500Z: the disk is gone",
        ]),
    ],
)  # fmt: skip
def test_the_status_for_people(found: DreamingStatus, rows: list[str], *, served: bool) -> None:
    """When it is due, what is in its way, and how the last run went; failures cannot be overlooked."""
    assert [words for _, words in dreaming_rows(found.as_json(), served=served)] == rows


@pytest.mark.parametrize(
    ("found", "served", "told"),
    [
        (status(), True, []),
        (status(DONE), True, [("ok", "dreaming.runs")]),
        (status(DONE, mode="off"), True, []),
        (status(FAILED, FAILED, DONE), True, [("warning", "dreaming.failed")]),
        (status(DONE, now_ms=THREE + 2 * DAY_MS), True, [("ok", "dreaming.runs")]),
        (status(DONE, now_ms=THREE + 3 * DAY_MS), True, [("warning", "dreaming.missed")]),
        (
            status(FAILED, now_ms=THREE + 3 * DAY_MS),
            False,
            [("warning", "dreaming.failed"), ("note", "dreaming.missed")],
        ),
    ],
)
def test_what_the_doctor_says(found: DreamingStatus, told: list[tuple[str, str]], *, served: bool) -> None:
    """A failed run, and three firings that did not come; without a server the latter asks for nothing."""
    assert [(each.severity, each.check) for each in dreaming_findings(found, served=served)] == told


def test_the_doctor_gives_the_cause() -> None:
    """The error of the run that failed last, and how many failed."""
    (finding,) = dreaming_findings(status(FAILED, FAILED), served=True)
    assert (finding.what, finding.cause) == ("the last sweep failed, 2 in a row", "the disk is gone")
    (finding,) = dreaming_findings(status(FAILED), served=True)
    assert finding.what == "the last sweep failed"
