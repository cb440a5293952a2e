"""What is decided about jobs, as pure functions: which may begin now, and what becomes of a run.

    lane          may begin
    interactive   at once
    background    while no turn runs
    idle          when no turn has run for `idle_quiet_s`, and nothing of the lanes before it waits

Work that has waited for `starve_s_max` may begin whatever else happens, one job of a lane at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.config import LearningJobsConfig
    from reverie.jobs.record import JobRecord
    from reverie.jobs.request import JobState, Lane
    from reverie.types import JsonObject

LANES: tuple[Lane, ...] = ("interactive", "background", "idle")
"""In the order in which they are served."""

RUNS_MAX = 4
"""Runs of one lane in flight, over all processes."""
AGED_RUNS_MAX = 1
"""Runs of one lane beside turns, of work that has waited for too long."""
PUT_BACK_S = 0.5
"""A job that gave way waits so long before it is looked at again."""
INTERRUPTIONS_MAX = 5
"""Processes that may die over one job before it is believed to be why."""
DOUBLINGS_MAX = 30
REASON_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Standing:
    """What the choice of the next jobs rests on. `due` counts jobs that may begin, up to `RUNS_MAX` and one more."""

    busy: bool
    quiet_for_s: float
    in_flight: Mapping[Lane, int]
    due: Mapping[Lane, int]


@dataclass(frozen=True, slots=True)
class Admission:
    """How many more jobs of a lane may begin: of any, or of those alone that have waited for too long."""

    lane: Lane
    which: Literal["any", "aged"]
    room: int
    reason: str


def admissions(standing: Standing, idle_quiet_s: float) -> tuple[Admission, ...]:
    """What may begin now, in the order of the lanes; a lane without room is left out."""
    chosen = (_admission(lane, standing, idle_quiet_s) for lane in LANES)
    return tuple(each for each in chosen if each.room > 0)


def _admission(lane: Lane, standing: Standing, idle_quiet_s: float) -> Admission:
    in_flight = standing.in_flight[lane]
    held_up = _held_up(lane, standing, idle_quiet_s)
    if held_up:
        return Admission(lane, "aged", AGED_RUNS_MAX - in_flight, held_up)
    return Admission(lane, "any", RUNS_MAX - in_flight, "its turn")


def _held_up(lane: Lane, standing: Standing, idle_quiet_s: float) -> str:
    """Why nothing of a lane begins; empty if something may."""
    if lane == "interactive":
        return ""
    if standing.busy:
        return "a turn runs"
    if lane == "background":
        return ""
    if standing.quiet_for_s < idle_quiet_s:
        return "a turn has just ended"
    for before in ("interactive", "background"):
        if standing.due[before] > RUNS_MAX - standing.in_flight[before]:
            return f"{before} work waits"
    return ""


@dataclass(frozen=True, slots=True)
class Done:
    """A run came to its end."""

    result: JsonObject


@dataclass(frozen=True, slots=True)
class Deferred:
    """A run cannot go on before an instant; nor can any other job of its kind before `all_until_ms`."""

    until_ms: int
    reason: str
    all_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """A run gave way."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hopeless:
    """A run would fail however often it was tried."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A run failed."""

    reason: str


Outcome: TypeAlias = Done | Deferred | PutBack | Hopeless | Failed


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a job's row says after a run; `error` is kept until a later run succeeds."""

    state: JobState
    attempts: int
    put_backs: int
    not_before_ms: int
    due_at_ms: int
    waits_for: str
    error: str | None
    result: JsonObject


def backoff_ms(failures: int, config: LearningJobsConfig, jitter: float) -> int:
    """How long to wait after so many failures: `retry_wait_s`, doubled each time, cut to between half and whole of it.

    `jitter` is 0 to 1: jobs that failed together do not come back together.
    """
    whole_s = config.retry_wait_s * 2.0 ** min(failures - 1, DOUBLINGS_MAX)
    return round(min(whole_s, config.retry_wait_s_max) * (1.0 - 0.5 * jitter) * 1_000)


def settled(job: JobRecord, outcome: Outcome, config: LearningJobsConfig, now_ms: int, jitter: float) -> Settlement:
    """What becomes of a job after a run."""
    attempts, put_backs = job.attempts, job.put_backs
    match outcome:
        case Done(result):
            return Settlement("done", attempts, put_backs, job.not_before_ms, job.due_at_ms, "", None, result)
        case Deferred(until_ms, reason, _):
            until_ms = max(until_ms, now_ms + round(PUT_BACK_S * 1_000))
            return Settlement("waiting", attempts, put_backs + 1, until_ms, until_ms, _cut(reason), job.error, {})
        case PutBack(reason):
            again_ms = now_ms + round(PUT_BACK_S * 1_000)
            return Settlement("waiting", attempts, put_backs + 1, again_ms, job.due_at_ms, _cut(reason), job.error, {})
        case Hopeless(reason):
            return Settlement("dead", attempts, put_backs, now_ms, job.due_at_ms, "", _cut(reason), {})
        case Failed(reason):
            return _after_failure(job, _cut(reason), config, now_ms, jitter)


def _after_failure(
    job: JobRecord, reason: str, config: LearningJobsConfig, now_ms: int, jitter: float
) -> Settlement:  # fmt: skip
    attempts, attempts_max = job.attempts + 1, job.attempts_max or config.attempts_max
    if attempts >= attempts_max:
        told = f"{reason} (try {attempts} of {attempts_max})"
        return Settlement("dead", attempts, job.put_backs, now_ms, job.due_at_ms, "", told, {})
    again_ms = now_ms + backoff_ms(attempts, config, jitter)
    return Settlement("waiting", attempts, job.put_backs, again_ms, again_ms, "another try", reason, {})


def _cut(reason: str) -> str:
    return reason if len(reason) <= REASON_CHARS_MAX else reason[: REASON_CHARS_MAX - 1] + "…"
