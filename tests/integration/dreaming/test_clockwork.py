"""What makes dreaming happen, on a real database: when it fires, who gets the firing, and what outlives a kill."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.app import open_app
from reverie.config import Config, DreamingConfig, Home, MemoryConfig
from reverie.dreaming.clockwork import GIVE_WAY_MS, POLL_S, RENEW_S, TRIGGER_S, Clockwork, Triggered
from reverie.dreaming.live_settings import LiveSettings
from reverie.dreaming.runs import INTERRUPTIONS_MAX, LEASE_MS, RUNS_KEPT, SWITCHED_OFF, DreamRun, DreamRuns
from reverie.dreaming.schedule import MANAGED_BY
from reverie.dreaming.status import Blocked
from reverie.errors import DreamingBlockedError, StorageError
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.app import App
    from reverie.dreaming.status import DreamingStatus
    from reverie.types import JsonObject

pytestmark = pytest.mark.anyio

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
NIGHTLY = DreamingConfig(time_zone="Europe/Berlin")


def ms(text: str) -> int:
    """An instant, by its ISO 8601."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


EVENING = ms("2026-06-09T20:00+02:00")
THREE = ms("2026-06-10T03:00+02:00")
THREE_ID = f"dream:{MANAGED_BY}:2026-06-10T01:00:00Z"


@dataclass
class Sweep:
    """A sweep that notes its calls; it fails with `error`, or goes on until `until` is set."""

    error: Exception | None = None
    until: asyncio.Event | None = None
    calls: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, run_id: str, now_ms: int) -> JsonObject:
        self.calls.append((run_id, now_ms))
        self.begun.set()
        if self.until is not None:
            await self.until.wait()
        if self.error is not None:
            raise self.error
        return {"promoted": len(self.calls)}


@dataclass
class World:
    """A home whose clock a test moves."""

    home: Home
    database: Database
    clock: FakeClock
    workspace: Path
    rings: list[int] = field(default_factory=list[int])
    turns_run: bool = False

    async def clockwork(self, sweep: Sweep, config: DreamingConfig = NIGHTLY, renew_s: float = RENEW_S) -> Clockwork:
        """Another process on this home, as it starts."""
        settings = await LiveSettings.of(self.home, config)
        made = Clockwork(
            self.database, self.clock, settings, [self.workspace], sweep,
            wake=lambda: self.rings.append(1), busy=lambda: self.turns_run, renew_s=renew_s,
        )  # fmt: skip
        await made.work()
        return made

    async def runs(self) -> list[DreamRun]:
        """All runs, the newest first."""
        return await DreamRuns(self.database, self.clock).newest(RUNS_KEPT)

    async def outcomes(self) -> list[tuple[str, str, str]]:
        """Id, cause and state of every run, the newest first."""
        return [(run.id, run.cause, run.state) for run in await self.runs()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    """A home in the evening, with a workspace and an empty database."""
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=1)
    workspace = tmp_path / "workspace"
    await asyncio.to_thread(workspace.mkdir)
    yield World(Home(tmp_path), database, FakeClock(EVENING), workspace)
    await database.aclose()


def by_hand(database: Database, sql: str, *values: str) -> Any:
    """What another program does to the database; the first value of its answer."""
    with closing(apsw.Connection(str(database.path))) as connection:
        return next(iter(connection.execute(sql, values)), (None,))[0]


async def rest(clockwork: Clockwork) -> float:
    """Let it work until there is nothing to do; how long it would sleep then."""
    while not (pause_s := await clockwork.work()):
        pass
    return pause_s


# -- when it fires ---------------------------------------------------------------------------------------------------


async def test_it_fires_when_it_is_due(world: World) -> None:
    """Not before, once, and under an id made of the instant; it sleeps in short pieces until then."""
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    assert await rest(clockwork) == POLL_S
    world.clock.set(THREE - 10_000)
    assert (await rest(clockwork), sweep.calls) == (10.0, [])

    world.clock.set(THREE + 5)
    assert (await rest(clockwork), sweep.calls) == (POLL_S, [(THREE_ID, THREE + 5)])
    world.clock.set(THREE + DAY_MS - 1)
    await rest(clockwork)
    assert await world.runs() == [
        DreamRun(
            THREE_ID, "schedule", THREE, "done", THREE + 5 + LEASE_MS, 0, THREE + 5, THREE + 5, {"promoted": 1}, None
        )
    ]


@pytest.mark.parametrize("nights", [1, 30])
async def test_what_was_missed_happens_once_late(world: World, nights: int) -> None:
    """However long the machine slept; the next night is on time again."""
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    world.clock.advance(days=nights)
    await rest(clockwork)
    await rest(clockwork)
    assert [(cause, state) for _, cause, state in await world.outcomes()] == [("late", "done")]

    world.clock.set(THREE + nights * DAY_MS)
    await rest(clockwork)
    assert [cause for _, cause, _ in await world.outcomes()] == ["schedule", "late"]


async def test_what_was_missed_while_no_process_ran(world: World) -> None:
    """The next start makes up for it."""
    await world.clockwork(Sweep())
    world.clock.set(THREE + 5 * HOUR_MS)
    sweep = Sweep()
    await world.clockwork(sweep)
    assert await world.outcomes() == [(THREE_ID, "late", "done")]


async def test_a_new_home_owes_nothing(world: World) -> None:
    """What was due before its schedule was made does not come."""
    world.clock.set(THREE + HOUR_MS)
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    await rest(clockwork)
    assert sweep.calls == []


async def test_a_clock_that_was_put_back(world: World) -> None:
    """A firing of next year does not keep the next year silent; one instant still fires once."""
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    world.clock.advance(days=365)
    await rest(clockwork)
    world.clock.set(EVENING)
    await rest(clockwork)
    world.clock.set(THREE)
    await rest(clockwork)
    assert [cause for _, cause, _ in await world.outcomes()] == ["late", "schedule"]

    world.clock.set(THREE - 1_000)
    await rest(clockwork)
    world.clock.set(THREE)
    await rest(clockwork)
    assert len(sweep.calls) == 2


async def test_turns_go_first_for_a_while(world: World) -> None:
    """A firing waits for a moment without turns, is on time all the same, and does not wait for ever."""
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    world.turns_run = True
    world.clock.set(THREE)
    assert (await rest(clockwork), sweep.calls) == (1.0, [])
    world.clock.set(THREE + GIVE_WAY_MS - 1)
    assert (await rest(clockwork), sweep.calls) == (1.0, [])
    world.turns_run = False
    await rest(clockwork)
    assert await world.outcomes() == [(THREE_ID, "schedule", "done")]

    world.turns_run = True
    world.clock.set(THREE + DAY_MS)
    await rest(clockwork)
    world.clock.set(THREE + DAY_MS + GIVE_WAY_MS)
    await rest(clockwork)
    assert len(sweep.calls) == 2


async def test_a_sweep_that_fails_is_told_and_the_next_one_comes(world: World) -> None:
    """Its reason stands in its run and in the status; a defect is named as one."""
    sweep = Sweep(error=StorageError("the disk is gone"))
    clockwork = await world.clockwork(sweep)
    world.clock.set(THREE)
    await rest(clockwork)
    status = await clockwork.status()
    assert status.last is not None
    assert (status.last.state, status.last.error, status.failed_in_a_row) == ("failed", "the disk is gone", 1)
    assert status.next_due_ms == THREE + DAY_MS

    sweep.error = ValueError("no " * 1_000)
    world.clock.set(THREE + DAY_MS)
    await rest(clockwork)
    status = await clockwork.status()
    assert status.last is not None
    assert (status.failed_in_a_row, status.last.error) == (2, ("ValueError: " + "no " * 1_000)[:500])

    sweep.error = None
    world.clock.set(THREE + 2 * DAY_MS)
    await rest(clockwork)
    assert (await clockwork.status()).failed_in_a_row == 0


async def test_old_runs_give_way(world: World) -> None:
    """Four hundred are kept, those that began last; what a run did step by step goes with it."""
    runs = DreamRuns(world.database, world.clock)
    steps = "SELECT count(*) FROM dream_steps"
    begun: list[str] = []
    for number in range(RUNS_KEPT + 5):
        world.clock.advance(ms=1)
        begun.append((await runs.begin("manual")).run.id)
        if number < 2:
            sql = "INSERT INTO dream_steps (run_id, agent, step, done_at) VALUES (?, 'main', 'light', 1)"
            await asyncio.to_thread(by_hand, world.database, sql, begun[-1])
            assert await asyncio.to_thread(by_hand, world.database, steps) == number + 1
        await runs.finish(begun[-1], {})
    assert [run.id for run in await world.runs()] == begun[: -RUNS_KEPT - 1 : -1]
    assert await asyncio.to_thread(by_hand, world.database, steps) == 0


# -- of many processes, one ------------------------------------------------------------------------------------------


async def test_of_many_processes_one_fires(world: World) -> None:
    """All of them look at the same moment."""
    sweeps = [Sweep() for _ in range(6)]
    clockworks = [await world.clockwork(sweep) for sweep in sweeps]
    for night in range(3):
        world.clock.set(THREE + night * DAY_MS)
        await asyncio.gather(*(rest(each) for each in clockworks))
    assert sum(len(sweep.calls) for sweep in sweeps) == 3
    assert [state for _, _, state in await world.outcomes()] == ["done"] * 3


async def test_one_sweep_runs_at_a_time(world: World) -> None:
    """Another process waits with what is due until the first has ended; then it comes, late."""
    slow, other = Sweep(until=asyncio.Event()), Sweep()
    first, second = await world.clockwork(slow), await world.clockwork(other)
    assert (await first.ask()).fresh
    running = asyncio.create_task(first.work())
    await slow.begun.wait()
    world.clock.set(EVENING + LEASE_MS - 1)
    asked = await second.ask()
    assert (asked.fresh, asked.run.id) == (False, slow.calls[0][0])

    world.clock.set(THREE)
    await DreamRuns(world.database, world.clock).renew(asked.run.id)
    assert slow.until is not None
    slow.until.set()
    await running
    world.clock.set(THREE + 2 * MINUTE_MS)
    await rest(second)
    assert [(cause, state) for _, cause, state in await world.outcomes()] == [("late", "done"), ("manual", "done")]


# -- kills and stops -------------------------------------------------------------------------------------------------


async def test_a_run_that_was_stopped_goes_on_at_once(world: World) -> None:
    """Under its id and with its cause, when a process is stopped in the middle of a sweep."""
    stopped = Sweep(until=asyncio.Event())
    clockwork = await world.clockwork(stopped)
    world.clock.set(THREE)
    task = asyncio.create_task(clockwork.work())
    await stopped.begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert await world.outcomes() == [(THREE_ID, "schedule", "interrupted")]

    sweep = Sweep()
    await world.clockwork(sweep)
    (run,) = await world.runs()
    assert (run.id, run.cause, run.state, run.interruptions) == (THREE_ID, "schedule", "done", 1)
    assert sweep.calls == [(THREE_ID, THREE)]


async def test_a_run_whose_process_was_killed_is_taken_up_when_its_lease_is_over(world: World) -> None:
    """Not before: its process might still work on it."""
    runs = DreamRuns(world.database, world.clock)
    dead = (await runs.begin("trigger")).run
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    world.clock.advance(ms=LEASE_MS - 1)
    await rest(clockwork)
    assert sweep.calls == []

    world.clock.advance(ms=1)
    await rest(clockwork)
    (run,) = await world.runs()
    assert (run.id, run.cause, run.state, run.interruptions) == (dead.id, "trigger", "done", 1)
    assert not await runs.renew(dead.id)


async def test_a_lease_of_a_clock_that_was_ahead_is_none(world: World) -> None:
    """A run that was begun next year, by the clock, does not keep everything waiting until then."""
    world.clock.advance(days=365)
    await DreamRuns(world.database, world.clock).begin("manual")
    world.clock.set(EVENING)
    sweep = Sweep()
    await world.clockwork(sweep)
    assert [(cause, state) for _, cause, state in await world.outcomes()] == [("manual", "done")]


async def test_a_sweep_whose_lease_went_to_another_stops(world: World) -> None:
    """What the other one made of the run is not touched."""
    slow, other = Sweep(until=asyncio.Event()), Sweep()
    first = await world.clockwork(slow, renew_s=0.01)
    await first.ask()
    task = asyncio.create_task(first.work())
    await slow.begun.wait()
    world.clock.advance(ms=LEASE_MS)  # it was suspended
    await world.clockwork(other)
    await task
    assert slow.calls == other.calls
    (run,) = await world.runs()
    assert (run.state, run.interruptions, run.report) == ("done", 1, {"promoted": 1})


async def test_a_run_that_never_ends_is_given_up(world: World) -> None:
    """After a bounded number of tries, with the reason."""
    runs = DreamRuns(world.database, world.clock)
    await runs.begin("trigger")
    for _ in range(INTERRUPTIONS_MAX):
        world.clock.advance(ms=LEASE_MS)
        assert await runs.take_over(switched_off=False) is not None
    world.clock.advance(ms=LEASE_MS)
    sweep = Sweep()
    await world.clockwork(sweep)
    (run,) = await world.runs()
    assert (run.state, run.interruptions, sweep.calls) == ("failed", INTERRUPTIONS_MAX, [])
    assert run.error == f"it was interrupted {INTERRUPTIONS_MAX + 1} times, and is not begun again"


# -- asked for -------------------------------------------------------------------------------------------------------


async def test_a_trigger_begins_a_sweep_once_a_minute(world: World) -> None:
    """It is on record before it is answered; further ones within a minute, or while it runs, are the same."""
    slow = Sweep(until=asyncio.Event())
    clockwork = await world.clockwork(slow)
    assert await clockwork.trigger() == Triggered("begun")
    assert (len(world.rings), [(cause, state) for _, cause, state in await world.outcomes()]) == (
        1, [("trigger", "running")],
    )  # fmt: skip
    assert await clockwork.trigger() == Triggered("running")

    running = asyncio.create_task(clockwork.work())
    await slow.begun.wait()
    assert await clockwork.trigger() == Triggered("running")
    assert slow.until is not None
    slow.until.set()
    await running
    assert await clockwork.trigger() == Triggered("recent")
    world.clock.advance(seconds=TRIGGER_S)
    assert await clockwork.trigger() == Triggered("begun")
    assert len(world.rings) == 2


@pytest.mark.parametrize(
    ("settings", "reason"), [({"mode": "off"}, "mode-off"), ({"mode": "core", "limit": 0}, "limit-zero")]
)
async def test_switched_off_no_trigger_begins_anything(world: World, settings: dict[str, Any], reason: Any) -> None:
    """And each reason is told apart; nothing is due, and only what a person asks for is done."""
    sweep = Sweep()
    clockwork = await world.clockwork(sweep, DreamingConfig.model_validate(settings))
    assert await clockwork.trigger() == Triggered(Blocked(reason))
    world.clock.advance(days=3)
    assert (await rest(clockwork), sweep.calls) == (POLL_S, [])
    status = await clockwork.status()
    assert (status.blocked, status.next_due_ms, status.missed) == (Blocked(reason), None, 0)

    assert (await clockwork.dream()).run.state == "done"


async def test_what_was_begun_before_it_was_switched_off_is_not_gone_on_with(world: World) -> None:
    """Unless a person asked for it."""
    runs = DreamRuns(world.database, world.clock)
    for cause in ("trigger", "manual"):
        begun = await runs.begin(cause)
        await runs.interrupt(begun.run.id)
        world.clock.advance(ms=1)
    sweep = Sweep()
    await rest(await world.clockwork(sweep, DreamingConfig(mode="off")))
    manual, trigger = await world.runs()
    assert (manual.cause, manual.state, trigger.state, trigger.error) == ("manual", "done", "failed", SWITCHED_OFF)


async def test_without_a_workspace_nothing_begins_and_nothing_is_lost(world: World) -> None:
    """The reason is told; when the folder is there again, what was due comes, late."""
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    await asyncio.to_thread(world.workspace.rmdir)
    world.clock.set(THREE)
    assert (await rest(clockwork), sweep.calls) == (POLL_S, [])
    assert await clockwork.trigger() == Triggered(Blocked("no-workspace"))
    with pytest.raises(DreamingBlockedError, match="no agent has a workspace folder"):
        await clockwork.ask()
    assert (await clockwork.status()).blocked == Blocked("no-workspace")

    await asyncio.to_thread(world.workspace.mkdir)
    world.clock.advance(ms=HOUR_MS)
    await rest(clockwork)
    assert await world.outcomes() == [(THREE_ID, "late", "done")]


async def test_a_database_that_is_gone(world: World) -> None:
    """Nothing is raised; the reason is told, to a trigger too."""
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    await world.database.aclose()
    world.clock.set(THREE)
    assert await clockwork.work() == POLL_S
    triggered = await clockwork.trigger()
    assert isinstance(triggered.outcome, Blocked)
    assert (triggered.outcome.reason, sweep.calls) == ("unavailable", [])


async def test_a_sweep_here_and_now(world: World) -> None:
    """As if at another instant, as often as one likes; each is a run of its own, and on record."""
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    done = [(await clockwork.dream(THREE - 7 * DAY_MS)).run for _ in range(2)]
    assert [(run.cause, run.due_at_ms, run.state, run.report) for run in done] == [
        ("manual", THREE - 7 * DAY_MS, "done", {"promoted": 1}),
        ("manual", THREE - 7 * DAY_MS, "done", {"promoted": 2}),
    ]
    assert sweep.calls == [(done[0].id, THREE - 7 * DAY_MS), (done[1].id, THREE - 7 * DAY_MS)]
    assert done[0].id == f"dream:{MANAGED_BY}:2026-06-09T18:00:00.000Z"
    assert done[1].id == f"dream:{MANAGED_BY}:2026-06-09T18:00:00.001Z"


async def test_a_sweep_that_a_person_stops_has_failed(world: World) -> None:
    """Nobody goes on with it."""
    slow = Sweep(until=asyncio.Event())
    clockwork = await world.clockwork(slow)
    task = asyncio.create_task(clockwork.dream())
    await slow.begun.wait()
    task.cancel()
    await asyncio.wait({task})
    (run,) = await world.runs()
    assert (run.state, run.error) == ("failed", "whoever had asked for it stopped it")


# -- settings that change --------------------------------------------------------------------------------------------


async def test_a_changed_file_is_read_again(world: World) -> None:
    """At most once a minute; the schedule follows, and switched off it goes."""
    clockwork = await world.clockwork(Sweep(), DreamingConfig())
    await write(world.home, '[dreaming]\nmode = "rem"\ntime_zone = "Europe/Berlin"\n')
    await rest(clockwork)
    assert (await clockwork.status()).mode == "core"

    world.clock.advance(seconds=60)
    await rest(clockwork)
    status = await clockwork.status()
    assert (status.mode, status.cron, status.time_zone) == ("rem", "0 */6 * * *", "Europe/Berlin")
    assert status.reconciled is not None
    assert (status.reconciled.outcome, status.reconciled.drifted) == ("updated", ("cron", "time_zone"))
    assert status.next_due_ms == ms("2026-06-10T00:00+02:00")

    await write(world.home, '[dreaming]\nmode = "off"\n')
    world.clock.advance(seconds=60)
    await rest(clockwork)
    status = await clockwork.status()
    assert status.reconciled is not None
    assert (status.mode, status.reconciled.outcome, status.reconciled.removed) == ("off", "disabled", 1)

    await asyncio.to_thread(world.home.config_file.unlink)
    world.clock.advance(seconds=60)
    await rest(clockwork)
    assert (await clockwork.status()).mode == "core"


NEGATIVE = (
    "dreaming.limit = -1 is not valid: Input should be greater than or equal to 0 (allowed: 0 ≤ dreaming.limit ≤ 1000)"
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[dreaming]\nlimit = -1\n", NEGATIVE),
        (
            '[dreaming]\ntime_zone = "Mars/Olympus"\n',
            "dreaming.time_zone = 'Mars/Olympus' is not valid: `local`, or a name such as Europe/Berlin",
        ),
        (
            '[upstream]\napi_key = "sk-secret"\n',
            "upstream.api_key is not valid: there is no such setting; `reverie config` lists them all",
        ),
    ],
    ids=["negative limit", "unknown zone", "secret in the wrong place"],
)
async def test_a_change_that_is_not_valid_changes_nothing(world: World, text: str, problem: str) -> None:
    """What is wrong is told, but no value of another section; it goes away when the file is put right."""
    sweep = Sweep()
    clockwork = await world.clockwork(sweep)
    await write(world.home, text)
    world.clock.set(THREE)
    world.clock.advance(seconds=60)
    await rest(clockwork)
    status = await clockwork.status()
    assert (status.config_problem, status.mode, len(sweep.calls)) == (problem, "core", 1)

    await write(world.home, "[dreaming]\nlimit = 1\n")
    world.clock.advance(seconds=60)
    await rest(clockwork)
    assert (await clockwork.status()).config_problem == ""


async def write(home: Home, text: str) -> None:
    """Put a new config.toml into the home."""
    new = home.path / "new.toml"
    await asyncio.to_thread(new.write_text, text, encoding="utf-8")
    await asyncio.to_thread(shutil.move, new, home.config_file)


# -- in a running application ----------------------------------------------------------------------------------------


async def test_a_running_application_dreams(tmp_path: Path) -> None:
    """In the background, when it is triggered and when its clock says so; its status and figures tell."""
    home, clock, sweep = Home(tmp_path), FakeClock(EVENING), Sweep()
    config = Config(memory=MemoryConfig(embedder="none", watch=False), dreaming=NIGHTLY)
    async with open_app(home, config, clock=clock, sweep=sweep) as app:
        assert await app.dreaming.trigger() == Triggered("begun")
        await sweep.begun.wait()
        await run_ended(app)
        sweep.begun.clear()
        clock.set(THREE)
        app.background.dreams.ring()
        await sweep.begun.wait()
        status = await run_ended(app)
        gauges = {gauge.name: gauge.value for gauge in await app.gauges()}
    assert status.last is not None
    assert (status.last.id, status.last.report, status.next_due_ms) == (THREE_ID, {"promoted": 2}, THREE + DAY_MS)
    assert (gauges["dreaming_running"], gauges["dreaming_next_due_seconds"]) == (0, (THREE + DAY_MS) / 1000)


async def run_ended(app: App) -> DreamingStatus:
    """The status, once nothing runs."""
    while (status := (await app.status()).dreaming) is None or status.running is not None:
        await asyncio.sleep(0.01)
    return status
