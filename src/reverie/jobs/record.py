"""A job as its row has it, and how many there are of which."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reverie.clock import iso_instant
from reverie.types import Gauge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.jobs.request import JobState, Lane
    from reverie.storage.database import Row
    from reverie.types import JsonObject


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job and what became of it so far. Instants are milliseconds since 1970.

    `run` counts how often it was handed over, `attempts` the runs that failed (`attempts_max` 0: as many as are
    configured), `put_backs` those that gave way or had to wait, `interrupted` those whose process died. `aged`: its run
    began beside turns. `waits_for` says why it waits, `error` why its last run failed.
    """

    key: str
    kind: str
    lane: Lane
    agent: str
    episode_id: str | None
    task_id: str | None
    payload: JsonObject
    state: JobState
    run: int
    attempts: int
    attempts_max: int
    put_backs: int
    interrupted: int
    aged: bool
    not_before_ms: int
    due_at_ms: int
    waits_for: str
    requested_at_ms: int
    updated_at_ms: int
    started_at_ms: int | None
    ended_at_ms: int | None
    error: str | None
    result: JsonObject

    def as_json(self) -> JsonObject:
        """For programs; instants as ISO 8601 in UTC."""
        return {
            "key": self.key,
            "kind": self.kind,
            "lane": self.lane,
            "state": self.state,
            "agent": self.agent,
            "episodeId": self.episode_id,
            "taskId": self.task_id,
            "attempts": self.attempts,
            "attemptsMax": self.attempts_max or None,
            "putBacks": self.put_backs,
            "interrupted": self.interrupted,
            "waitsFor": self.waits_for,
            "notBefore": iso_instant(self.not_before_ms),
            "requestedAt": iso_instant(self.requested_at_ms),
            "updatedAt": iso_instant(self.updated_at_ms),
            "startedAt": _iso(self.started_at_ms),
            "endedAt": _iso(self.ended_at_ms),
            "error": self.error,
            "payload": self.payload,
            "result": self.result,
        }


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """How busy a lane is. `oldest_wait_ms` is the time for which one job could have been done and was not."""

    waiting: int
    in_flight: int
    dead: int
    done: int
    oldest_wait_ms: int


@dataclass(frozen=True, slots=True)
class JobsStatus:
    """How busy all lanes are, and which jobs were put aside last."""

    lanes: Mapping[Lane, LaneFigures]
    dead: tuple[JobRecord, ...]

    def gauges(self) -> list[Gauge]:
        """For metrics, by lane."""
        return [
            gauge
            for lane, each in self.lanes.items()
            for gauge in (
                Gauge(
                    "waiting_jobs", "Jobs that wait, those that rest on purpose too.", each.waiting, (("lane", lane),)
                ),
                Gauge("running_jobs", "Jobs that run.", each.in_flight, (("lane", lane),)),
                Gauge("dead_jobs", "Jobs that were given up and wait for a person.", each.dead, (("lane", lane),)),
                Gauge(
                    "oldest_job_wait_seconds",
                    "Longest wait of a job that could be done now.",
                    each.oldest_wait_ms / 1000,
                    (("lane", lane),),
                ),
            )
        ]

    def as_json(self) -> JsonObject:
        """For programs."""
        return {
            "lanes": {
                lane: {
                    "waiting": each.waiting,
                    "inFlight": each.in_flight,
                    "dead": each.dead,
                    "done": each.done,
                    "oldestWaitMs": each.oldest_wait_ms,
                }
                for lane, each in self.lanes.items()
            },
            "dead": [each.as_json() for each in self.dead],
        }


def job_of(row: Row) -> JobRecord:
    """A row of `job_requests`."""
    return JobRecord(
        row["key"], row["kind"], row["lane"], row["agent"], row["episode_id"], row["task_id"],
        _object(row["payload"]), row["state"], row["run"], row["attempts"], row["attempts_max"], row["put_backs"],
        row["interrupted"], bool(row["aged"]), row["not_before"], row["due_at"], row["waits_for"], row["requested_at"],
        row["updated_at"], row["started_at"], row["ended_at"], row["error"], _object(row["result"]),
    )  # fmt: skip


def _object(text: str) -> JsonObject:
    found: Any = json.loads(text)
    return found


def _iso(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_instant(at_ms)
