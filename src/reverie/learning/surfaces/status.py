"""How learning does now: what it spent against what it may, what waits and why, what runs, and whether it storms."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reverie.learning.asking.storm_alarm import MINUTE_MS, MINUTES_KEPT, threshold
from reverie.learning.surfaces.items import shown_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.config import LearningConfig
    from reverie.storage import Transaction
    from reverie.types import JsonObject

LANES = ("interactive", "background", "idle")
COUNTED_MAX = 100_000
"""Of each kind, more than this are not counted."""
SHOWN_MAX = 50
LOOKED_AT = 1_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Pace:
    """The most of a minute of late against what is usual. `alarm` is why it is a storm; '' when it is none."""

    per_minute: int
    usual: float
    alarm: str


def pace_of(what: str, by_minute: Mapping[int, int], now_minute: int, *, factor: float, floor: int) -> Pace:
    """Whether this minute or the last one had far more than usual, as the alarm of a running server tells it."""
    of_late = max(by_minute.get(now_minute, 0), by_minute.get(now_minute - 1, 0))
    before = (count for minute, count in by_minute.items() if minute < now_minute - 1)
    usual, most = threshold(before, factor, floor)
    return Pace(of_late, usual, f"{of_late} {what} a minute, usually {usual:g}" if of_late > most else "")


def read_status(tx: Transaction, config: LearningConfig, now_ms: int) -> JsonObject:
    """All figures, from one snapshot."""
    counts = tx.row("learned_figures", most=COUNTED_MAX) or {}
    return {
        "object": "reverie.learning.status",
        "mode": config.mode,
        "spend": {span: _spend(tx, config, span, now_ms) for span in ("hour", "day")},
        "lanes": _lanes(tx, now_ms),
        "in_flight": shown_all(tx.rows("jobs_under_way", limit=SHOWN_MAX)),
        "calls": {"in_flight": tx.value("permits_held", now=now_ms), "limit": config.background_llm_concurrency},
        "paused": _paused(tx, now_ms),
        "providers": shown_all(tx.rows("pauses_now", now=now_ms, limit=SHOWN_MAX)),
        "answers": _answers(tx, now_ms),
        "storm": _storms(tx, config, now_ms),
        "counts": dict(counts),
    }


def _spend(tx: Transaction, config: LearningConfig, span: str, now_ms: int) -> JsonObject:
    """What was spent in this hour or day, all in all and by kind, beside the limits; a limit None is none."""
    name = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H" if span == "hour" else "%Y-%m-%d")
    rows = tx.rows("spent_in", span=span, name=name, limit=SHOWN_MAX)
    budget = config.budget
    limits: JsonObject = (
        {"calls": budget.calls_hour, "tokens": budget.tokens_hour, "money": None}
        if span == "hour"
        else {"calls": budget.calls_day, "tokens": budget.tokens_day, "money": budget.money_day or None}
    )
    spent = next((row for row in rows if row["kind"] == ""), {"calls": 0, "tokens": 0, "money": 0.0})
    return {
        "name": name,
        "calls": spent["calls"],
        "tokens": spent["tokens"],
        "money": spent["money"],
        "limits": limits,
        "kinds": [
            {**row, "calls_limit": budget.kinds.get(row["kind"]) if span == "day" else None}
            for row in rows
            if row["kind"]
        ],
    }


def _lanes(tx: Transaction, now_ms: int) -> JsonObject:
    """How many jobs each lane has in each state, and how long one could have been done and was not."""
    figures = {row["name"]: row["total"] for row in tx.rows("job_figures")}
    lanes: JsonObject = {}
    for lane in LANES:
        start = f"jobs.{lane}."
        states = {name.removeprefix(start): total for name, total in figures.items() if name.startswith(start)}
        oldest = tx.value("oldest_due_job", lane=lane, now=now_ms)
        lanes[lane] = {
            "waiting": states.get("waiting", 0),
            "running": states.get("dispatched", 0) + states.get("running", 0),
            "dead": states.get("dead", 0),
            "oldest_s": 0.0 if oldest is None else max(0, now_ms - oldest) / 1000,
            "next_at_ms": tx.value("next_of_lane", lane=lane) if oldest is None else None,
        }
    return lanes


def _paused(tx: Transaction, now_ms: int) -> list[JsonObject]:
    """Why jobs wait, how many, and until when, in each lane."""
    return [
        {"lane": lane, **each}
        for lane in LANES
        for each in shown_all(tx.rows("why_jobs_wait", lane=lane, now=now_ms, looked_at=LOOKED_AT, limit=SHOWN_MAX))
    ]


def _answers(tx: Transaction, now_ms: int) -> JsonObject:
    """How many answers came today, how many of them were of no use, and what was wrong with the last of those."""
    since = now_ms // DAY_MS * DAY_MS
    [row] = tx.rows("unusable_answers", since=since, looked_at=COUNTED_MAX)
    last = {"op": row["op"], "wrong": row["error"], "at_ms": row["at"]} if row["unusable"] else None
    return {"today": row["answers"], "unusable": row["unusable"], "last": last}


def _storms(tx: Transaction, config: LearningConfig, now_ms: int) -> JsonObject:
    now_minute = now_ms // MINUTE_MS
    since = (now_minute - MINUTES_KEPT) * MINUTE_MS
    rule = {"factor": config.jobs.storm_factor, "floor": config.jobs.storm_floor}
    found: JsonObject = {"alarm": ""}
    for what, query in (("jobs", "jobs_by_minute"), ("calls", "calls_by_minute")):
        by_minute = {row["minute"]: row["total"] for row in tx.rows(query, since=since)}
        pace = pace_of(what, by_minute, now_minute, factor=rule["factor"], floor=int(rule["floor"]))
        found[what] = {"per_minute": pace.per_minute, "usual": pace.usual}
        found["alarm"] = found["alarm"] or pace.alarm
    return found
