"""The stored schedules: kept as the settings want them, whatever happens to them."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import apsw
import pytest

from reverie.config import DreamingConfig
from reverie.dreaming.schedule import MANAGED_BY, NAME, Schedule, Wanted
from reverie.dreaming.schedules import Reconciled, Reconciler, StoredSchedules
from reverie.errors import HomeReadOnlyError, StorageError
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.errors import ReverieError

pytestmark = pytest.mark.anyio

CORE = DreamingConfig(time_zone="Europe/Berlin")
OFF = DreamingConfig(mode="off")
WANTED = Wanted("0 3 * * *", "Europe/Berlin")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    """An empty state.db."""
    opened = await Database.open(tmp_path / "state.db", STATE, now_ms=1)
    yield opened
    await opened.aclose()


def by_hand(database: Database, sql: str, *values: str) -> None:
    """What somebody does to the database with another program."""
    with closing(apsw.Connection(str(database.path))) as connection:
        connection.execute(sql, values)


class Table:
    """The table of schedules, and how often it was written to."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FakeClock()
        self.schedules = StoredSchedules(database, self.clock)
        self.reconciler = Reconciler(self.schedules)

    async def put(self, schedule_id: str, *, managed_by: str = MANAGED_BY, cron: str = "0 3 * * *") -> None:
        """A row that somebody made, without looking whether there is one."""
        sql = (
            "INSERT INTO schedules (id, managed_by, name, cron, time_zone, created_at, fired_for) "
            "VALUES (?, ?, ?, ?, 'Europe/Berlin', 5, 5)"
        )
        values = (schedule_id, managed_by, NAME, cron)
        await asyncio.to_thread(by_hand, self.database, sql, *values)

    async def rows(self) -> list[Schedule]:
        """Everything that is stored, by id."""
        return sorted(await self.schedules.listed(), key=lambda each: each.id)

    def writes(self) -> int:
        """Transactions since the database was opened."""
        return self.database.statistics().writes


async def test_a_second_comparison_writes_nothing(database: Database) -> None:
    """It is added, then left alone; then changed with the settings, then left alone."""
    table = Table(database)
    assert await table.reconciler.reconcile(CORE) == Reconciled("added")
    (added,) = await table.rows()
    now_ms = table.clock.now_ms()
    assert added == Schedule(
        added.id, MANAGED_BY, NAME, "0 3 * * *", "Europe/Berlin", enabled=True, created_at_ms=now_ms,
        fired_for_ms=now_ms,
    )  # fmt: skip

    before = table.writes()
    assert [await table.reconciler.reconcile(CORE) for _ in range(3)] == [Reconciled("noop")] * 3
    assert (table.writes(), await table.rows()) == (before, [added])

    table.clock.advance(days=3)
    deep = CORE.model_copy(update={"mode": "deep"})
    outcomes = [await table.reconciler.reconcile(deep) for _ in range(2)]
    assert outcomes == [Reconciled("updated", drifted=("cron",)), Reconciled("noop")]
    later = table.clock.now_ms()
    assert await table.rows() == [replace(added, cron="0 */12 * * *", fired_for_ms=later)]


async def test_a_new_name_changes_nothing_of_what_is_owed(database: Database) -> None:
    """Only a change of when it is due makes it count from now on."""
    table = Table(database)
    await table.put("a")
    await asyncio.to_thread(by_hand, database, "UPDATE schedules SET name = 'x'")

    assert await table.reconciler.reconcile(CORE) == Reconciled("updated", drifted=("name",))
    assert [(row.name, row.fired_for_ms) for row in await table.rows()] == [(NAME, 5)]


async def test_duplicates_go_and_strangers_stay(database: Database) -> None:
    """The oldest of ours stays, patched; rows of others are never touched, even with our name and our hours."""
    table = Table(database)
    for schedule_id in ("b", "a", "c"):
        await table.put(schedule_id, cron="0 9 * * *")
    await table.put("s1", managed_by="")
    await table.put("s2", managed_by="somebody.else")

    outcomes = [await table.reconciler.reconcile(CORE) for _ in range(2)]
    assert outcomes == [Reconciled("updated", 2, ("cron",)), Reconciled("noop")]
    assert [(row.id, row.cron) for row in await table.rows()] == [
        ("a", "0 3 * * *"), ("s1", "0 3 * * *"), ("s2", "0 3 * * *")
    ]  # fmt: skip

    await table.put("d")
    assert await table.reconciler.reconcile(CORE) == Reconciled("removed", 1)
    assert [await table.reconciler.reconcile(OFF) for _ in range(2)] == [
        Reconciled("disabled", 1),
        Reconciled("disabled"),
    ]
    assert [row.id for row in await table.rows()] == ["s1", "s2"]


async def test_a_schedule_that_was_deleted_comes_back(database: Database) -> None:
    """With the next comparison; what was due before is not owed by it."""
    table = Table(database)
    await table.reconciler.reconcile(CORE)
    (first,) = await table.rows()
    await table.schedules.remove(first.id)
    table.clock.advance(days=2)

    assert await table.reconciler.reconcile(CORE) == Reconciled("added")
    assert [row.fired_for_ms for row in await table.rows()] == [table.clock.now_ms()]


async def test_comparisons_at_the_same_moment_add_one(database: Database) -> None:
    """However many processes start at once."""
    table = Table(database)
    outcomes = await asyncio.gather(*(Reconciler(table.schedules).reconcile(CORE) for _ in range(8)))

    assert sorted(each.outcome for each in outcomes) == ["added", *["noop"] * 7]
    assert len(await table.rows()) == 1


# -- schedules that fail ---------------------------------------------------------------------------------------------


@dataclass
class Failing:
    """Schedules in memory, whose methods fail or answer as the test says."""

    rows: list[Schedule] = field(default_factory=list[Schedule])
    broken: dict[str, ReverieError] = field(default_factory=dict[str, "ReverieError"])
    removal: object = True
    gone: bool = False
    asked: list[str] = field(default_factory=list[str])

    def _asked(self, name: str) -> None:
        self.asked.append(name)
        if name in self.broken:
            raise self.broken[name]

    async def listed(self) -> list[Schedule]:
        self._asked("listed")
        return self.rows

    async def add(self, wanted: Wanted) -> bool:
        self._asked("add")
        return True

    async def update(self, schedule_id: str, wanted: Wanted) -> bool:
        self._asked("update")
        return not self.gone

    async def remove(self, schedule_id: str) -> bool:
        self._asked("remove")
        return self.removal  # pyright: ignore[reportReturnType] (an answer that no scheduler should give)


OURS = Schedule("1", MANAGED_BY, NAME, "0 3 * * *", "Europe/Berlin", enabled=True, created_at_ms=1, fired_for_ms=1)
BROKEN = StorageError("the disk is gone")


@pytest.mark.parametrize(
    ("broken", "rows"),
    [("listed", [OURS]), ("add", []), ("update", [replace(OURS, cron="0 9 * * *")])],
)
async def test_schedules_that_cannot_be_read_or_written(broken: str, rows: list[Schedule]) -> None:
    """Nothing is raised, the reason is told, and the next comparison does it."""
    scheduler = Failing(rows, {broken: BROKEN})
    reconciler = Reconciler(scheduler)
    failed = await reconciler.reconcile(CORE)
    assert (failed.outcome, failed.problem, failed.read_only) == ("unavailable", "the disk is gone", False)

    scheduler.broken[broken] = HomeReadOnlyError("read-only")
    assert (await reconciler.reconcile(CORE)).read_only

    scheduler.broken.clear()
    assert (await reconciler.reconcile(CORE)).outcome != "unavailable"


@pytest.mark.parametrize(
    ("removal", "counted"), [(True, 2), (False, 0), (None, 0), ("yes", 0), (1, 0)]
)  # fmt: skip
async def test_only_what_surely_went_is_counted(removal: object, counted: int) -> None:
    """A removal whose result is anything but true counts for nothing."""
    scheduler = Failing([OURS, replace(OURS, id="2")], removal=removal)
    assert await Reconciler(scheduler).reconcile(OFF) == Reconciled("disabled", counted)


async def test_a_removal_that_fails_stops_nothing() -> None:
    """It is tried for each, the survivor is patched all the same."""
    rows = [replace(OURS, name=""), replace(OURS, id="2"), replace(OURS, id="3")]
    scheduler = Failing(rows, {"remove": BROKEN})
    assert await Reconciler(scheduler).reconcile(CORE) == Reconciled("updated", drifted=("name",))
    assert scheduler.asked == ["listed", "remove", "remove", "update"]


async def test_a_schedule_that_goes_away_meanwhile() -> None:
    """It is not told as changed."""
    scheduler = Failing([replace(OURS, name="")], gone=True)
    failed = await Reconciler(scheduler).reconcile(CORE)
    assert (failed.outcome, failed.problem) == ("unavailable", "the schedule went away while it was changed")
