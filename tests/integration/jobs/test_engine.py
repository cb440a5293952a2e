"""The job engine on a real state.db and a real DBOS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from reverie.clock import SystemClock
from reverie.errors import JobDeferredError, JobHopelessError, JobPutBackError
from reverie.jobs.executor import Executor
from reverie.jobs.request import JobRequest
from reverie.jobs.requests import JobBook
from reverie.testing import FakeClock
from tests.integration.jobs.jobs_world import QUICK, jobs_world
from tests.learning_rows import T0, seed

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.jobs.request import Job
    from reverie.types import JsonObject

pytestmark = pytest.mark.anyio


async def test_a_job_of_each_lane_is_done_once(tmp_path: Path) -> None:
    """A job is done once in whatever lane, and asking for it again changes nothing."""
    done: list[str] = []

    async def note(job: Job) -> JsonObject:
        done.append(job.key)
        return {"payload": job.payload}

    async with jobs_world(tmp_path, {"note": note}) as world:
        assert not world.jobs.launched
        requests = [
            JobRequest("note", f"note:{lane}", lane, {"n": 1}) for lane in ("interactive", "background", "idle")
        ]
        assert await world.ask(*requests) == [True, True, True]
        ended = [await world.ended(each.key) for each in requests]
        assert [(job.state, job.run, job.attempts, job.result) for job in ended] == [
            ("done", 1, 0, {"payload": {"n": 1}})
        ] * 3
        assert await world.ask(*requests) == [False, False, False]
        await anyio.sleep(0.2)
    assert sorted(done) == ["note:background", "note:idle", "note:interactive"]


async def test_a_job_that_goes_on_failing_is_put_aside_and_tried_again_when_asked(tmp_path: Path) -> None:
    """After the last try a job is dead with its reason; a retry begins from the first try, and its past is over."""
    tries: list[int] = []
    mended = False

    async def shaky(job: Job) -> JsonObject:
        tries.append(job.attempt)
        if not mended:
            raise ValueError("the wheel came off")
        return {"mended": True}

    async with jobs_world(tmp_path, {"shaky": shaky}) as world:
        await world.ask(JobRequest("shaky", "shaky:1", "interactive", attempts_max=3))
        dead = await world.ended("shaky:1")
        assert (dead.state, dead.attempts, dead.run, dead.error) == (
            "dead",
            3,
            3,
            "ValueError: the wheel came off (try 3 of 3)",
        )
        assert [job.key for job in (await world.jobs.status()).dead] == ["shaky:1"]
        mended = True
        again = await world.jobs.retry("shaky:1")
        assert again is not None
        assert (again.state, again.attempts, again.error) == ("waiting", 0, None)
        done = await world.ended("shaky:1")
        assert (done.state, done.run, done.result) == ("done", 4, {"mended": True})
    assert tries == [1, 2, 3, 1]


async def test_waiting_is_no_failure(tmp_path: Path) -> None:
    """A run that must wait, or gives way, loses no try, and what it waits for is told."""
    seen: list[int] = []

    async def patient(job: Job) -> JsonObject:
        seen.append(job.attempt)
        if len(seen) == 1:
            raise JobPutBackError("it gave way to a turn")
        if len(seen) == 2:
            raise JobDeferredError(world.clock.now_ms() + 1_000, "the budget of this hour is used up")
        return {}

    async with jobs_world(tmp_path, {"patient": patient}) as world:
        await world.ask(JobRequest("patient", "patient:1", "interactive", attempts_max=1))
        waits = await world.until("patient:1", lambda job: job.put_backs == 2)
        assert (waits.state, waits.waits_for) == ("waiting", "the budget of this hour is used up")
        done = await world.ended("patient:1")
        assert (done.state, done.attempts, done.put_backs, done.run) == ("done", 0, 2, 3)
        assert done.started_at_ms is not None
        assert done.started_at_ms >= waits.not_before_ms
    assert seen == [1, 1, 1]


async def test_what_stops_one_stops_all_that_are_alike(tmp_path: Path) -> None:
    """A hundred jobs that wait for the same thing are not tried one by one: a few find out, the others wait unseen."""
    tries: list[str] = []

    async def later(job: Job) -> JsonObject:
        tries.append(job.key)
        until_ms = SystemClock().now_ms() + 3_600_000
        raise JobDeferredError(until_ms, "the budget of this hour", all_until_ms=until_ms)

    requests = [JobRequest(kind, f"{kind}:{n}", "background") for kind in ("ask", "add") for n in range(100)]
    async with jobs_world(tmp_path, {"ask": later, "add": later}, alike=("ask",)) as world:
        await world.ask(*requests)
        await world.until("add:99", lambda job: job.waits_for == "the budget of this hour")
        waiting = [await world.until(f"ask:{n}", lambda job: job.state == "waiting") for n in range(100)]
    assert sum(key.startswith("ask") for key in tries) <= 8
    assert sum(key.startswith("add") for key in tries) == 100
    assert {job.waits_for for job in waiting} == {"the budget of this hour"}
    assert min(job.not_before_ms for job in waiting) > SystemClock().now_ms() + 3_500_000


async def test_a_machine_that_slept_goes_on_with_what_it_did(tmp_path: Path) -> None:
    """The day's clock jumps by hours while a job runs: nobody takes it for dead, it ends as the run that it was."""
    began, goes_on = anyio.Event(), anyio.Event()

    async def slow(_: Job) -> JsonObject:
        began.set()
        await goes_on.wait()
        return {}

    clock = FakeClock()
    async with jobs_world(tmp_path, {"slow": slow}, clock=clock) as world:
        await world.ask(JobRequest("slow", "slow:1", "background"))
        await began.wait()
        clock.set(clock.now_ms() + 8 * 3_600_000)
        for _ in range(6):
            world.jobs.wake()
            await anyio.sleep(0.05)
        goes_on.set()
        ended = await world.ended("slow:1")
    assert (ended.state, ended.run, ended.attempts, ended.interrupted) == ("done", 1, 0, 0)


async def test_what_a_clock_that_was_ahead_wrote_is_set_right(tmp_path: Path) -> None:
    """A job deferred by an hour while the clock was a month ahead waits for an hour, not for a month."""

    async def later(_: Job) -> JsonObject:
        raise JobDeferredError(clock.now_ms() + 3_600_000, "an hour")

    clock = FakeClock()
    right_ms = clock.now_ms()
    async with jobs_world(tmp_path, {"later": later}, clock=clock) as world:
        clock.set(right_ms + 30 * 86_400_000)
        await world.ask(JobRequest("later", "later:1", "background"))
        await world.until("later:1", lambda job: job.waits_for == "an hour")
        clock.set(right_ms)
        world.jobs.wake()
        job = await world.until("later:1", lambda job: job.not_before_ms <= right_ms + 3_600_000)
    assert job.not_before_ms == right_ms + 3_600_000


async def test_what_cannot_be_done_is_put_aside_at_once(tmp_path: Path) -> None:
    """A hopeless job, and one of a kind that nobody does, are dead after one run."""

    async def hopeless(job: Job) -> JsonObject:
        raise JobHopelessError(f"{job.payload['what']} is gone")

    async with jobs_world(tmp_path, {"hopeless": hopeless}) as world:
        await world.ask(
            JobRequest("hopeless", "hopeless:1", "interactive", {"what": "the task"}),
            JobRequest("unheard", "unheard:1", "interactive"),
        )
        dead = [await world.ended(key) for key in ("hopeless:1", "unheard:1")]
    assert [(job.state, job.run, job.error) for job in dead] == [
        ("dead", 1, "the task is gone"),
        ("dead", 1, "nothing does jobs of the kind 'unheard'"),
    ]


async def test_a_job_is_cancelled_while_it_runs(tmp_path: Path) -> None:
    """A job that somebody cancels is broken off at once, and stays cancelled."""
    left = anyio.Event()

    async def endless(job: Job) -> JsonObject:
        try:
            await anyio.sleep_forever()
        finally:
            left.set()
        return {}

    async with jobs_world(tmp_path, {"endless": endless}) as world:
        await world.ask(JobRequest("endless", "endless:1", "interactive"))
        await world.until("endless:1", lambda job: job.state == "running")
        cancelled = await world.jobs.cancel("endless:1")
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        with anyio.fail_after(1):
            await left.wait()
        await anyio.sleep(0.1)
        job = await world.jobs.show("endless:1")
        assert job is not None
        assert (job.state, job.attempts, job.error) == ("cancelled", 0, None)


async def test_turns_go_first_and_nobody_starves(tmp_path: Path) -> None:
    """While a turn runs only interactive work begins at once; what has waited too long runs beside it."""
    began: list[tuple[str, bool]] = []

    async def note(job: Job) -> JsonObject:
        began.append((job.key, job.aged))
        return {}

    config = QUICK.model_copy(update={"starve_s_max": 1.0})
    async with jobs_world(tmp_path, {"note": note}, config) as world:
        world.foreground.began()
        await world.ask(*(JobRequest("note", f"note:{lane}", lane) for lane in ("idle", "background", "interactive")))
        await world.ended("note:interactive")
        assert began == [("note:interactive", False)]
        await world.ended("note:background")
        await world.ended("note:idle")
        world.foreground.ended()
    assert sorted(began) == [("note:background", True), ("note:idle", True), ("note:interactive", False)]


async def test_a_stop_puts_back_what_runs(tmp_path: Path) -> None:
    """What does not end in time when the process stops waits for the next start, and is done there, with its tries."""
    stays = True

    async def long(job: Job) -> JsonObject:
        if stays:
            await anyio.sleep_forever()
        return {"attempt": job.attempt}

    async with jobs_world(tmp_path, {"long": long}, flush_s=0.1) as world:
        await world.ask(JobRequest("long", "long:1", "interactive"))
        await world.until("long:1", lambda job: job.state == "running")
        await world.jobs.stop()
        stopped = await world.jobs.show("long:1")
        assert stopped is not None
        assert (stopped.state, stopped.waits_for, stopped.attempts) == ("waiting", "the process stopped", 0)
    stays = False
    async with jobs_world(tmp_path, {"long": long}) as world:
        done = await world.ended("long:1")
    assert (done.state, done.run, done.result) == ("done", 2, {"attempt": 1})


async def test_what_ended_long_ago_is_dropped(tmp_path: Path) -> None:
    """Jobs that ended before `keep_days` go when the engine is at work; others stay, and what was put aside longer."""

    async def note(job: Job) -> JsonObject:
        return {}

    async with jobs_world(tmp_path, {"note": note}) as world:
        now_ms = world.clock.now_ms()
        for key, ended_at in (("old", T0), ("new", now_ms)):
            seed(tmp_path / "state.db", "job_requests", key=key, kind="note", state="done", ended_at=ended_at)
        month_ago_ms = now_ms - 30 * 86_400_000
        seed(tmp_path / "state.db", "job_requests", key="dead", kind="note", state="dead", ended_at=month_ago_ms)
        await world.ask(JobRequest("note", "note:1", "interactive"))
        await world.ended("note:1")
        with anyio.fail_after(5):
            while await world.jobs.show("old") is not None:
                await anyio.sleep(0.01)
        assert [job.key for job in await world.jobs.list(state="done")] == ["note:1", "new"]
        assert [job.key for job in await world.jobs.list(state="dead")] == ["dead"]


async def test_what_a_dead_process_left_is_done(tmp_path: Path) -> None:
    """Rows in the hands of a process that died, of which the engine knows nothing, are done at the next start."""
    mine = Executor(tmp_path)
    name = await mine.name()
    await mine.release()
    done: list[str] = []

    async def note(job: Job) -> JsonObject:
        done.append(job.key)
        return {}

    left = {"kind": "note", "lane": "interactive", "run": 1, "requested_at": T0}
    async with jobs_world(tmp_path, {"note": note}) as world:
        await world.jobs.stop()
        state_db, soon_ms = tmp_path / "state.db", world.clock.now_ms() + 3_600_000
        seed(state_db, "job_requests", key="handed", state="dispatched", holder=name, lease_until=soon_ms, **left)
        seed(state_db, "job_requests", key="begun", state="running", holder=name, lease_until=soon_ms, **left)
        seed(state_db, "job_requests", key="lapsed", state="running", holder="another", lease_until=T0, **left)
        seed(state_db, "job_requests", key="alive", state="running", holder="another", lease_until=soon_ms, **left)
        seed(state_db, "job_requests", key="killer", state="running", holder="another", lease_until=T0, interrupted=4,
             **left)  # fmt: skip
    async with jobs_world(tmp_path, {"note": note}) as world:
        ended = [await world.ended(key) for key in ("handed", "begun", "lapsed", "killer")]
        alive = await world.jobs.show("alive")
    assert [(job.key, job.state, job.run, job.interrupted, job.attempts, job.error) for job in ended] == [
        ("handed", "done", 2, 0, 0, None),
        ("begun", "done", 2, 1, 0, None),
        ("lapsed", "done", 2, 1, 0, None),
        ("killer", "dead", 1, 5, 0, "its process died 5 times while it ran"),
    ]
    assert alive is not None
    assert alive.state == "running"
    assert sorted(done) == ["begun", "handed", "lapsed"]


async def test_a_second_home_waits_for_the_engine(tmp_path: Path) -> None:
    """Two homes in one process: the second one's jobs wait while the first one has the engine."""
    for each in ("first", "second"):
        (tmp_path / each).mkdir()

    async def note(job: Job) -> JsonObject:
        return {}

    async with (
        jobs_world(tmp_path / "second", {"note": note}) as second,
        jobs_world(tmp_path / "first", {"note": note}) as first,
    ):
        await first.ask(JobRequest("note", "note:1", "interactive"))
        await first.ended("note:1")
        await second.ask(JobRequest("note", "note:1", "interactive"))
        await anyio.sleep(0.3)
        waits = await second.jobs.show("note:1")
        assert waits is not None
        assert (waits.state, second.jobs.launched) == ("waiting", False)


async def test_a_restored_state_is_worked_on_again(tmp_path: Path) -> None:
    """A job of a state.db that is older than the engine's database is done, though the engine had done that run."""
    done: list[str] = []

    async def note(job: Job) -> JsonObject:
        done.append(job.key)
        return {}

    async with jobs_world(tmp_path, {"note": note}) as world:
        await world.ask(JobRequest("note", "note:1", "interactive"))
        first = await world.ended("note:1")
        before = {"kind": "note", "lane": "interactive", "requested_at": first.requested_at_ms}
        later_ms = first.requested_at_ms + 60_000
        await world.database.write(lambda tx: tx.execute("prune_jobs", before=later_ms, dead_before=0, limit=9))
        seed(tmp_path / "state.db", "job_requests", key="note:1", **before)
        world.jobs.wake()
        again = await world.ended("note:1")
    assert (first.run, again.run, done) == (1, 2, ["note:1", "note:1"])


async def test_a_cancellation_from_another_process_reaches_the_run(tmp_path: Path) -> None:
    """What is cancelled in the table alone, as a command does it, is broken off at the next look."""
    left = anyio.Event()

    async def endless(job: Job) -> JsonObject:
        try:
            await anyio.sleep_forever()
        finally:
            left.set()
        return {}

    async with jobs_world(tmp_path, {"endless": endless}) as world:
        await world.ask(JobRequest("endless", "endless:1", "interactive"))
        await world.until("endless:1", lambda job: job.state == "running")
        await JobBook(world.database, world.clock).cancel("endless:1")
        with anyio.fail_after(2):
            await left.wait()
