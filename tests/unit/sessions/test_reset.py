"""When a session ends by itself, and which words end it."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from reverie.config import ResetConfig, ResetOverride
from reverie.sessions.reset import (
    MINUTE_MS,
    Clocks,
    Due,
    ResetPolicy,
    Trigger,
    channel_of,
    daily_boundary,
    find_trigger,
    is_system_source,
    policy_of,
    reset_due,
    type_of,
)

BERLIN = ZoneInfo("Europe/Berlin")
HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOW = ms("2026-01-02T10:00")
BOUNDARY = ms("2026-01-02T04:00")
DAILY = ResetPolicy("daily")
IDLE = ResetPolicy("idle", idle_minutes=120)
BOTH = ResetPolicy("both", idle_minutes=120)


@pytest.mark.parametrize(
    ("policy", "started", "spoken", "due"),
    [
        (ResetPolicy(), BOUNDARY - HOUR_MS, BOUNDARY - HOUR_MS, None),
        (DAILY, BOUNDARY - 1, BOUNDARY - 1, Due("daily", BOUNDARY)),
        (DAILY, BOUNDARY, BOUNDARY, None),
        (DAILY, BOUNDARY - 1, NOW - 59 * MINUTE_MS, None),
        (DAILY, BOUNDARY - 1, NOW - 60 * MINUTE_MS, Due("daily", BOUNDARY)),
        (IDLE, NOW - 9 * HOUR_MS, NOW - 120 * MINUTE_MS, None),
        (IDLE, NOW - 9 * HOUR_MS, NOW - 120 * MINUTE_MS - 1, Due("idle", NOW - 1)),
        (ResetPolicy("idle"), NOW - 9 * HOUR_MS, NOW - 9 * HOUR_MS, None),
        (BOTH, BOUNDARY - HOUR_MS, BOUNDARY - HOUR_MS, Due("daily", BOUNDARY)),
        (BOTH, BOUNDARY - 9 * HOUR_MS, BOUNDARY - 9 * HOUR_MS, Due("idle", BOUNDARY - 7 * HOUR_MS)),
        (DAILY, NOW + 1, NOW + 1, None),
        (IDLE, BOUNDARY, NOW + HOUR_MS, Due("idle", BOUNDARY + 2 * HOUR_MS)),
        (IDLE, BOUNDARY, None, Due("idle", BOUNDARY + 2 * HOUR_MS)),
        (BOTH, None, None, None),
        (DAILY, None, BOUNDARY - HOUR_MS, None),
    ],
)
def test_a_session_ends_when_its_clocks_say_so(
    policy: ResetPolicy, started: int | None, spoken: int | None, due: Due | None
) -> None:
    """Daily, idle, both with the earlier instant, in use, times in the future, times that are missing."""
    assert reset_due(policy, Clocks(started, spoken), NOW, UTC) == due


@pytest.mark.parametrize(
    ("hour", "now", "boundary"),
    [
        (4, "2026-01-02T04:00", "2026-01-02T03:00"),  # 05:00 in Berlin
        (4, "2026-01-02T02:59", "2026-01-01T03:00"),  # 03:59 in Berlin
        (2, "2026-03-29T01:30", "2026-03-29T01:00"),  # the night that has no 02:00: the instant it would have been
        (2, "2026-03-29T00:59", "2026-03-28T01:00"),
        (4, "2026-03-29T02:00", "2026-03-29T02:00"),  # already summer time
        (2, "2026-10-25T00:30", "2026-10-25T00:00"),  # the night that has 02:00 twice: the first
        (2, "2026-10-25T01:30", "2026-10-25T00:00"),
        (3, "2026-10-25T01:59", "2026-10-24T01:00"),
        (0, "2026-06-30T21:59", "2026-06-29T22:00"),
    ],
)
def test_the_boundary_is_an_hour_of_a_time_zone(hour: int, now: str, boundary: str) -> None:
    """Also in the nights in which the clocks change."""
    assert daily_boundary(hour, ms(now), BERLIN) == ms(boundary)


def test_the_boundary_is_never_later_than_now_nor_a_day_and_an_hour_before() -> None:
    """Through both nights of a year, every quarter of an hour, for every hour."""
    for day in ("2026-03-28", "2026-10-24"):
        for quarter in range(3 * 96):
            now = ms(f"{day}T00:00") + quarter * 15 * MINUTE_MS
            for hour in range(24):
                assert 0 <= now - daily_boundary(hour, now, BERLIN) <= 25 * HOUR_MS


@pytest.mark.parametrize(
    ("source", "key", "system"),
    [
        ("heartbeat", "agent:main:main", True),
        ("cron:nightly", "agent:main:main", True),
        ("", "cron:nightly", True),
        ("", "hook:1", True),
        ("exec", "agent:main:main", True),
        ("ann", "agent:main:main", False),
        ("", "agent:cron:main", False),
    ],
)
def test_programs_are_told_from_people(source: str, key: str, system: bool) -> None:  # noqa: FBT001 (a table)
    """A heartbeat, a job and a command are nobody speaking."""
    assert is_system_source(source, key) is system


def test_a_channel_wins_over_a_type_and_a_type_over_everybody() -> None:
    """What an override leaves unset stays as it is."""
    config = ResetConfig(
        mode="daily",
        hour=5,
        by_type={"group": ResetOverride(mode="idle", idle_minutes=30), "direct": ResetOverride(hour=6)},
        by_channel={"telegram": ResetOverride(mode="off")},
    )
    found = {
        key: policy_of(config, key)
        for key in ("agent:main:main", "agent:main:telegram:group:1", "agent:main:slack:group:1")
    }

    assert {key: (policy.mode, policy.hour, policy.idle_minutes) for key, policy in found.items()} == {
        "agent:main:main": ("daily", 6, 0),
        "agent:main:telegram:group:1": ("off", 5, 30),
        "agent:main:slack:group:1": ("idle", 5, 30),
    }


@pytest.mark.parametrize(
    ("key", "kind", "channel"),
    [
        ("agent:main:main", "direct", ""),
        ("agent:main:direct:ann", "direct", ""),
        ("agent:main:telegram:direct:ann", "direct", "telegram"),
        ("agent:main:telegram:acct:direct:ann", "direct", "telegram"),
        ("agent:main:discord:channel:9", "group", "discord"),
        ("agent:main:discord:channel:9:thread:4", "thread", "discord"),
        ("whatever", "direct", ""),
    ],
)
def test_a_key_says_with_whom_and_where(key: str, kind: str, channel: str) -> None:
    """The type and the channel of a session."""
    assert (type_of(key), channel_of(key)) == (kind, channel)


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("/new", Trigger("/new", "")),
        (" /RESET \n", Trigger("/reset", "")),
        ("/new Who am I?\nSay it.", Trigger("/new", "Who am I?\nSay it.")),
        ("/newer things", None),
        ("about /new", None),
        ("", None),
    ],
)
def test_a_word_begins_a_new_session(text: str, trigger: Trigger | None) -> None:
    """As the whole message or as its first word, whose rest is the first message of the new session."""
    assert find_trigger(text, ("/new", "/reset")) == trigger
