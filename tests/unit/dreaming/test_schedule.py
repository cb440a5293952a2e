"""When dreaming is due, in nights of daylight saving too, and what the stored schedules should be."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.config import DreamingConfig
from reverie.dreaming.schedule import (
    LATE_MS,
    MANAGED_BY,
    NAME,
    Firing,
    Plan,
    Schedule,
    Wanted,
    firing_due,
    last_due,
    missed,
    next_due,
    reconcile,
    switched_off,
    wanted_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reverie.dreaming.schedule import Field

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
DAILY = ("30 2 * * *", "0 3 * * *", "30 1 * * *", "0 2 * * *", "0 0 * * *", "15 0 * * *", "30 23 * * *", "45 1 * * *")
ZONES = (BERLIN, NEW_YORK, LORD_HOWE, "Asia/Tokyo", "UTC", "Africa/Cairo", "America/Nuuk", "Antarctica/Troll")
"""Cairo changes at midnight, Nuuk before it, Troll by two hours, Lord Howe by half an hour, Tokyo and UTC not."""


def ms(text: str) -> int:
    """An instant, by its ISO 8601."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def firings(cron: str, zone: str, start: str, count: int) -> list[str]:
    """The first instants after one, as the zone's clocks show them."""
    found: list[str] = []
    at_ms: int | None = ms(start)
    while len(found) < count:
        at_ms = next_due(cron, ZoneInfo(zone), at_ms)
        assert at_ms is not None
        found.append(datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)).isoformat())
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "start", "expected"),
    [
        # Clocks go forward: 02:00 becomes 03:00.
        (
            "30 2 * * *", BERLIN, "2026-03-27T12:00+01:00",
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            "0 3 * * *", BERLIN, "2026-03-28T12:00+01:00",
            ["2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00"],
        ),
        (
            "30 2 * * *", NEW_YORK, "2026-03-07T12:00-05:00",
            ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"],
        ),
        (
            "15 2 * * *", LORD_HOWE, "2026-10-03T12:00+10:30",
            ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
        ),
        # Clocks go back: 01:30 or 02:30 comes twice.
        (
            "30 2 * * *", BERLIN, "2026-10-24T12:00+02:00",
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        (
            "30 1 * * *", NEW_YORK, "2026-10-31T12:00-04:00",
            ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
        ),
        (
            "45 1 * * *", LORD_HOWE, "2026-04-04T12:00+11:00",
            ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
        ),
        # Every six hours, over both changes: by the clock on the wall.
        (
            "0 */6 * * *", BERLIN, "2026-03-28T23:00+01:00",
            ["2026-03-29T00:00:00+01:00", "2026-03-29T06:00:00+02:00", "2026-03-29T12:00:00+02:00"],
        ),
        (
            "0 */6 * * *", BERLIN, "2026-10-24T23:00+02:00",
            ["2026-10-25T00:00:00+02:00", "2026-10-25T06:00:00+01:00", "2026-10-25T12:00:00+01:00"],
        ),
        (  # midnight is left out
            "0 */6 * * *", "Africa/Cairo", "2026-04-23T20:00+02:00",
            ["2026-04-24T01:00:00+03:00", "2026-04-24T06:00:00+03:00"],
        ),
        (  # the hour before midnight comes twice
            "30 23 * * *", "Africa/Cairo", "2026-10-29T12:00+03:00",
            ["2026-10-29T23:30:00+03:00", "2026-10-30T23:30:00+02:00"],
        ),
        # Every hour means each hour that passes.
        (
            "0 * * * *", BERLIN, "2026-10-25T01:30+02:00",
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
        ),
        (
            "0 * * * *", BERLIN, "2026-03-29T00:30+01:00",
            ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"],
        ),
        # The gap reaches to the next day: the minute before it. A day that is left out altogether has no firing.
        (
            "30 23 * * *", "America/Nuuk", "2026-03-27T23:45-02:00",
            ["2026-03-28T22:59:00-02:00", "2026-03-29T23:30:00-01:00"],
        ),
        (
            "0 3 * * *", "Pacific/Apia", "2011-12-28T12:00-10:00",
            ["2011-12-29T03:00:00-10:00", "2011-12-31T03:00:00+14:00"],
        ),
        ("0 3 * * *", "Asia/Tokyo", "2026-03-28T12:00+09:00", ["2026-03-29T03:00:00+09:00"]),
        ("0 4 29 2 *", "UTC", "2026-01-01T00:00Z", ["2028-02-29T04:00:00+00:00", "2032-02-29T04:00:00+00:00"]),
    ],
)  # fmt: skip
def test_nights_of_daylight_saving(cron: str, zone: str, start: str, expected: list[str]) -> None:
    """What is left out is due at the end of the gap, and of what comes twice the first counts."""
    assert firings(cron, zone, start, len(expected)) == expected


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", DAILY)
def test_a_daily_firing_comes_once_on_every_date(cron: str, zone: str) -> None:
    """Over two years, each date has exactly one."""
    days = [datetime.fromisoformat(each).date() for each in firings(cron, zone, "2026-01-01T12:00Z", 730)]
    assert {later - earlier for earlier, later in pairwise(days)} == {timedelta(days=1)}


@given(
    cron=st.sampled_from((*DAILY, "0 */6 * * *", "0 */12 * * *", "0 * * * *", "*/20 * * * *", "0 2,14 * * 1-5")),
    zone=st.sampled_from(ZONES),
    at_ms=st.integers(ms("2026-01-01T00:00Z"), ms("2028-01-01T00:00Z")),
)
def test_the_last_and_the_next_meet(cron: str, zone: str, at_ms: int) -> None:
    """Between the last firing and the next there is none, wherever one stands."""
    there = ZoneInfo(zone)
    last, following = last_due(cron, there, at_ms), next_due(cron, there, at_ms)
    assert last is not None
    assert following is not None
    assert last <= at_ms < following
    assert (next_due(cron, there, last), last_due(cron, there, following - 1)) == (following, last)
    assert (next_due(cron, there, last - 1), last_due(cron, there, following)) == (last, following)


def test_an_expression_that_comes_in_years() -> None:
    """A Sunday on the 29th of February: in both directions."""
    found, there = ms("2032-02-29T00:00Z"), ZoneInfo("UTC")
    assert next_due("0 0 29 2 */7", there, ms("2026-01-01T00:00Z")) == found
    assert last_due("0 0 29 2 */7", there, ms("2040-01-01T00:00Z")) == found


# -- what is owed ----------------------------------------------------------------------------------------------------

NIGHT = Schedule("1", MANAGED_BY, NAME, "0 3 * * *", BERLIN, enabled=True, created_at_ms=1, fired_for_ms=0)
THREE = ms("2026-06-10T03:00+02:00")
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("fired_for_ms", "now_ms", "expected"),
    [
        (THREE - DAY_MS, THREE - 1, None),
        (THREE - DAY_MS, THREE, Firing(THREE, late=False)),
        (THREE - DAY_MS, THREE + LATE_MS, Firing(THREE, late=False)),
        (THREE - DAY_MS, THREE + LATE_MS + 1, Firing(THREE, late=True)),
        (THREE, THREE + 1, None),
        (THREE - 30 * DAY_MS, THREE + 5 * 3_600_000, Firing(THREE, late=True)),  # thirty were missed
        (THREE + 1, THREE + 5 * 3_600_000, None),  # the schedule was made after it
    ],
)
def test_the_firing_that_is_owed(fired_for_ms: int, now_ms: int, expected: Firing | None) -> None:
    """The last one alone, however many were missed, and none from before the schedule."""
    assert firing_due(replace(NIGHT, fired_for_ms=fired_for_ms), ZoneInfo(BERLIN), now_ms) == expected
    disabled = replace(NIGHT, fired_for_ms=fired_for_ms, enabled=False)
    assert firing_due(disabled, ZoneInfo(BERLIN), now_ms) is None


def test_missed_firings_are_counted_up_to_a_bound() -> None:
    """None right after one, two after two days, three after a year."""
    fired = replace(NIGHT, fired_for_ms=THREE)
    counts = [missed(fired, ZoneInfo(BERLIN), THREE + days * DAY_MS, 3) for days in (0, 1, 2, 365)]
    assert counts == [0, 1, 2, 3]


# -- what should be stored -------------------------------------------------------------------------------------------

WANTED = Wanted("0 3 * * *", BERLIN)


def others() -> Iterator[Schedule]:
    """Schedules that look like ours and are not: by name, by cron, by nothing."""
    for number, manager in enumerate(("", "somebody", f"{MANAGED_BY}.copy")):
        yield replace(NIGHT, id=f"other-{number}", managed_by=manager)


def test_a_schedule_is_added() -> None:
    """When none is ours; what looks like it is somebody else's."""
    assert reconcile(WANTED, others()) == Plan("added", add=WANTED)


@pytest.mark.parametrize(
    ("stored", "drifted"),
    [
        (replace(NIGHT, name="Traum"), ("name",)),
        (replace(NIGHT, cron="0 4 * * *"), ("cron",)),
        (replace(NIGHT, time_zone="UTC"), ("time_zone",)),
        (replace(NIGHT, enabled=False), ("enabled",)),
        (
            replace(NIGHT, name="", cron="@x", time_zone="local", enabled=False),
            ("name", "cron", "time_zone", "enabled"),
        ),
    ],
)
def test_what_drifted_is_patched(stored: Schedule, drifted: tuple[Field, ...]) -> None:
    """And named, field by field."""
    assert reconcile(WANTED, [*others(), stored]) == Plan("updated", update="1", drifted=drifted)


def test_a_schedule_as_it_should_be_is_left_alone() -> None:
    """Whenever it was made and fired last."""
    stored = replace(NIGHT, created_at_ms=7, fired_for_ms=8)
    assert reconcile(WANTED, [stored, *others()]) == Plan("noop")


def test_of_duplicates_the_oldest_stays() -> None:
    """By when they were made, then by id; the oldest is patched if need be."""
    newer = replace(NIGHT, id="0", created_at_ms=5)
    twin = replace(NIGHT, id="2")
    assert reconcile(WANTED, [newer, twin, NIGHT, *others()]) == Plan("removed", remove=("2", "0"))
    drifted = replace(NIGHT, cron="0 5 * * *")
    expected = Plan("updated", update="1", drifted=("cron",), remove=("2", "0"))
    assert reconcile(WANTED, [newer, twin, drifted, *others()]) == expected


def test_switched_off_everything_managed_goes() -> None:
    """And nothing else."""
    twin = replace(NIGHT, id="2")
    assert reconcile(None, [*others(), twin, NIGHT]) == Plan("disabled", remove=("1", "2"))
    assert reconcile(None, others()) == Plan("disabled")


@pytest.mark.parametrize(
    ("settings", "off", "wanted"),
    [
        ({"mode": "core"}, None, Wanted("0 3 * * *", "local")),
        ({"mode": "deep", "time_zone": BERLIN}, None, Wanted("0 */12 * * *", BERLIN)),
        ({"mode": "rem", "cron": "@weekly"}, None, Wanted("0 0 * * 0", "local")),
        ({"mode": "off"}, "mode-off", None),
        ({"mode": "off", "limit": 0}, "mode-off", None),
        ({"mode": "core", "limit": 0}, "limit-zero", None),
    ],
)
def test_what_the_settings_ask_for(settings: dict[str, object], off: str | None, wanted: Wanted | None) -> None:
    """A schedule, or which setting switches it off."""
    config = DreamingConfig.model_validate(settings)
    assert (switched_off(config), wanted_for(config)) == (off, wanted)
