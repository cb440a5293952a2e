"""When a session ends by itself, and which words of a person end it. Pure decisions over values.

A session has three clocks: when it began, which the daily boundary is compared with; when somebody last spoke in it,
which the pause is measured from; when its row last changed, which decides nothing here. Nothing runs at the boundary:
the question is asked when the next message begins its turn. A session in use is left alone at the daily boundary
until a pause of `defer_active_minutes`; the pause itself needs no such respite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.config import ResetConfig, ResetMode, ResetOverride

MINUTE_MS = 60_000
SessionType = Literal["direct", "group", "thread"]
ResetReason = Literal["manual", "daily", "idle"]

SYSTEM_SOURCES = frozenset({"heartbeat", "cron", "exec", "hook"})
"""Nobody speaks in these: their turns neither keep a session fresh nor end it."""


@dataclass(frozen=True, slots=True)
class ResetPolicy:
    """When a session ends by itself. `triggers` are the words that end it at once."""

    mode: ResetMode = "off"
    hour: int = 4
    idle_minutes: int = 0
    defer_active_minutes: int = 60
    triggers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clocks:
    """When a session began, and when somebody last spoke in it, in milliseconds since 1970; None: not known."""

    started_at_ms: int | None
    last_interaction_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Due:
    """The session is to end: why, and since when it might have."""

    reason: Literal["daily", "idle"]
    since_ms: int


def policy_of(config: ResetConfig, key: str, channel: str = "") -> ResetPolicy:
    """The policy of a session: everybody's, with what differs for its type, then with what differs for its channel."""
    policy = ResetPolicy(
        config.mode, config.hour, config.idle_minutes, config.defer_active_minutes, tuple(config.triggers)
    )
    policy = _overridden(policy, config.by_type.get(type_of(key)))
    return _overridden(policy, config.by_channel.get(channel or channel_of(key)))


def _overridden(policy: ResetPolicy, override: ResetOverride | None) -> ResetPolicy:
    if override is None:
        return policy
    return replace(
        policy,
        mode=policy.mode if override.mode is None else override.mode,
        hour=policy.hour if override.hour is None else override.hour,
        idle_minutes=policy.idle_minutes if override.idle_minutes is None else override.idle_minutes,
    )


def type_of(key: str) -> SessionType:
    """With whom a session is, as its key says: `…:thread:…`, `…:group:…` or `…:channel:…`, else one person."""
    parts = key.split(":")[2:]
    if "thread" in parts:
        return "thread"
    return "group" if {"group", "channel"}.intersection(parts) else "direct"


def channel_of(key: str) -> str:
    """The channel that a key of the form `agent:NAME:CHANNEL:…:direct:…` names; empty when it names none."""
    parts = key.split(":")
    first_kind = next((n for n, part in enumerate(parts) if n > 2 and part in {"direct", "group", "channel"}), 0)  # noqa: PLR2004 (after `agent:NAME:`)
    return parts[2] if first_kind else ""


def is_system_source(source: str, key: str) -> bool:
    """True for turns that no person sent, as their source or their session's key says."""
    kinds = {source.partition(":")[0].lower(), key.partition(":")[0].lower(), *key.lower().split(":")[2:3]}
    return not kinds.isdisjoint(SYSTEM_SOURCES)


def reset_due(policy: ResetPolicy, clocks: Clocks, now_ms: int, zone: tzinfo) -> Due | None:
    """Whether a session is to end before the message that came now; of two reasons the earlier instant counts.

    A time in the future is a clock that was set back since: it counts as missing. A missing last interaction is the
    start of the session; without a start there is no daily end, and without both none at all.
    """
    started = _past(clocks.started_at_ms, now_ms)
    spoken = _past(clocks.last_interaction_at_ms, now_ms)
    spoken = started if spoken is None else spoken
    due: list[Due] = []
    if policy.mode in {"daily", "both"} and started is not None:
        boundary = daily_boundary(policy.hour, now_ms, zone)
        quiet_ms = now_ms - (started if spoken is None else spoken)
        if started < boundary and quiet_ms >= policy.defer_active_minutes * MINUTE_MS:
            due.append(Due("daily", boundary))
    if policy.mode in {"idle", "both"} and policy.idle_minutes and spoken is not None:
        expires = spoken + policy.idle_minutes * MINUTE_MS
        if now_ms > expires:
            due.append(Due("idle", expires))
    return min(due, key=lambda each: each.since_ms, default=None)


def _past(instant_ms: int | None, now_ms: int) -> int | None:
    return instant_ms if instant_ms is not None and instant_ms <= now_ms else None


def daily_boundary(hour: int, now_ms: int, zone: tzinfo) -> int:
    """The last `hour` o'clock in a time zone that is not after `now_ms`.

    An hour that a night of daylight saving leaves out is the instant at which it would have come; of one that comes
    twice, the first counts.
    """
    today = datetime.fromtimestamp(now_ms / 1000, zone).replace(hour=hour, minute=0, second=0, microsecond=0, fold=0)
    boundary = _instant(today)
    return boundary if boundary <= now_ms else _instant(today - timedelta(days=1))


def _instant(local: datetime) -> int:
    return round(local.timestamp() * 1000)


def zone_named(name: str) -> tzinfo:
    """The time zone of a name; `local` is this machine's. Reads files: call it on a worker thread or at the start."""
    if name != "local":
        return ZoneInfo(name)
    try:
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file, key="local")
    except (OSError, ValueError):  # a machine without that file: what it counts as local now
        return datetime.now().astimezone().tzinfo or UTC


@dataclass(frozen=True, slots=True)
class Trigger:
    """A message that begins a new session: the word, and what is left of it as the first message there."""

    word: str
    rest: str


def find_trigger(text: str, words: Sequence[str]) -> Trigger | None:
    """The word that begins a message and a new session with it, in any case; None when there is none."""
    parts = text.split(maxsplit=1)
    if not parts or parts[0].lower() not in {word.lower() for word in words}:
        return None
    return Trigger(parts[0].lower(), parts[1].strip() if len(parts) > 1 else "")
