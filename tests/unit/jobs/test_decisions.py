"""Which jobs may begin, and what becomes of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from reverie.config import LearningJobsConfig
from reverie.jobs.decisions import (
    RUNS_MAX,
    Admission,
    Deferred,
    Done,
    Failed,
    Hopeless,
    PutBack,
    Settlement,
    Standing,
    admissions,
    backoff_ms,
    settled,
)
from reverie.jobs.record import JobRecord

if TYPE_CHECKING:
    from reverie.jobs.decisions import Outcome
    from reverie.jobs.request import Lane

NOW_MS = 1_000_000
CONFIG = LearningJobsConfig()
JOB = JobRecord(
    "k", "kind", "idle", "main", None, None, {}, "running", 1, 1, 5, 0, 0, aged=False, not_before_ms=900,
    due_at_ms=800, waits_for="", requested_at_ms=700, updated_at_ms=900, started_at_ms=900, ended_at_ms=None,
    error=None, result={},
)  # fmt: skip


def standing(
    *, busy: bool = False, quiet_for_s: float = 60.0, idle_in_flight: int = 0, background_due: int = 0
) -> Standing:  # fmt: skip
    in_flight: dict[Lane, int] = {"interactive": 0, "background": 0, "idle": idle_in_flight}
    due: dict[Lane, int] = {"interactive": 0, "background": background_due, "idle": 5}
    return Standing(busy, quiet_for_s, in_flight, due)


def test_every_lane_has_its_turn_when_nobody_waits() -> None:
    """In a quiet moment each lane has all its places, in the order of the lanes."""
    assert admissions(standing(), idle_quiet_s=20) == (
        Admission("interactive", "any", RUNS_MAX, "its turn"),
        Admission("background", "any", RUNS_MAX, "its turn"),
        Admission("idle", "any", RUNS_MAX, "its turn"),
    )


def test_a_turn_holds_up_all_but_what_a_person_asked_for() -> None:
    """While a turn runs, one job of a lane may begin that has waited for too long; interactive work is not held up."""
    assert admissions(standing(busy=True, quiet_for_s=0), idle_quiet_s=20) == (
        Admission("interactive", "any", RUNS_MAX, "its turn"),
        Admission("background", "aged", 1, "a turn runs"),
        Admission("idle", "aged", 1, "a turn runs"),
    )


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (standing(quiet_for_s=5), Admission("idle", "aged", 1, "a turn has just ended")),
        (standing(background_due=RUNS_MAX + 1), Admission("idle", "aged", 1, "background work waits")),
        (standing(background_due=RUNS_MAX), Admission("idle", "any", RUNS_MAX, "its turn")),
    ],
)
def test_idle_work_waits_for_quiet_and_for_the_lanes_before_it(now: Standing, expected: Admission) -> None:
    """Idle work begins when it has been quiet for long enough and no more waits than can begin before it."""
    assert admissions(now, idle_quiet_s=20)[-1] == expected


def test_a_lane_without_room_is_left_out() -> None:
    """Nothing of a lane begins while as many run as may, nor beside turns while one of it runs."""
    lanes = [each.lane for each in admissions(standing(idle_in_flight=RUNS_MAX), 20)]
    beside = [each.lane for each in admissions(standing(busy=True, idle_in_flight=1), 20)]
    assert (lanes, beside) == (["interactive", "background"], ["interactive", "background"])


def test_waits_double_up_to_a_bound() -> None:
    """The wait after a failure doubles, ends at its bound, and jitter takes at most half of it away."""
    config = LearningJobsConfig(retry_wait_s=10, retry_wait_s_max=60)
    assert [backoff_ms(failures, config, 0.0) for failures in (1, 2, 3, 4, 1_000)] == [
        10_000,
        20_000,
        40_000,
        60_000,
        60_000,
    ]
    assert backoff_ms(2, config, 1.0) == 10_000


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Done({"n": 1}), Settlement("done", 1, 0, 900, 800, "", None, {"n": 1})),
        (Deferred(NOW_MS + 60_000, "budget"), Settlement("waiting", 1, 1, NOW_MS + 60_000, NOW_MS + 60_000, "budget",
                                                         None, {})),
        (Deferred(5, "an instant that is past"), Settlement("waiting", 1, 1, NOW_MS + 500, NOW_MS + 500,
                                                            "an instant that is past", None, {})),
        (PutBack("a turn"), Settlement("waiting", 1, 1, NOW_MS + 500, 800, "a turn", None, {})),
        (Hopeless("it is gone"), Settlement("dead", 1, 0, NOW_MS, 800, "", "it is gone", {})),
        (Failed("a bug"), Settlement("waiting", 2, 0, NOW_MS + 20_000, NOW_MS + 20_000, "another try", "a bug", {})),
    ],
)  # fmt: skip
def test_what_becomes_of_a_run(outcome: Outcome, expected: Settlement) -> None:
    """Only a failure costs a try; what gave way keeps the instant since which it has been due."""
    assert settled(JOB, outcome, CONFIG, NOW_MS, jitter=0.0) == expected


def test_the_last_failure_is_the_end() -> None:
    """The failure of the last try puts a job aside, with its cause, cut to a bound."""
    last = settled(replace(JOB, attempts=4), Failed("x" * 600), CONFIG, NOW_MS, jitter=0.0)
    told = f"{'x' * 499}… (try 5 of 5)"
    assert last == Settlement("dead", 5, 0, NOW_MS, 800, "", told, {})


def test_the_number_of_tries_is_the_jobs_own_or_the_configured_one() -> None:
    """A job that does not say how often it may be tried is tried as often as is configured."""
    config, job = LearningJobsConfig(attempts_max=2), replace(JOB, attempts_max=0)
    assert settled(job, Failed("a bug"), config, NOW_MS, jitter=0.0).error == "a bug (try 2 of 2)"
    assert settled(JOB, Failed("a bug"), config, NOW_MS, jitter=0.0).state == "waiting"
