"""The journal of calls and the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.config import LearningBudgetConfig
from reverie.learning.asking.budget import BudgetStatus, Spend, status
from reverie.learning.asking.journal import Call, CallJournal, Ending, prune
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from tests.integration.learning.door_world import job, question

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """The state of a home."""
    opened = await Database.open(tmp_path / "state.db", STATE, now_ms=0)
    yield opened
    await opened.aclose()


async def test_what_was_spent_is_shown_and_since_when_no_more_is(database: Database) -> None:
    """The status has hour, day and kinds; when nothing more is allowed it says until when, and by which bound."""
    config = LearningBudgetConfig(calls_hour=5, calls_day=2, price_in=1.0, price_out=10.0)
    clock = FakeClock()
    journal = CallJournal(database, clock, config)
    for number, kind in enumerate(("reward", "induce")):
        call = Call(question(f'{{"n": {number}}}'), job(f"{kind}:1", kind=kind), "m")
        reservation = await journal.reserve(call, 100, 1_000)
        await journal.settle(reservation, Ending("answered", 90, 10, "{}"))
        assert await journal.answer(call) == "{}"
    each, both = Spend(1, 100, 0.00019), Spend(2, 200, 0.00038)
    found = await database.read(lambda tx: status(tx, config, clock.now_ms()))
    rounded = {kind: Spend(spend.calls, spend.tokens, round(spend.money, 9)) for kind, spend in found.kinds_day.items()}
    assert rounded == {"induce": each, "reward": each}
    assert found == BudgetStatus(
        found.hour, found.day, found.kinds_day, config, (clock.now_ms() // DAY_MS + 1) * DAY_MS,
        "learning.budget.calls_day: this would make 3 of 2",
    )  # fmt: skip
    assert [Spend(s.calls, s.tokens, round(s.money, 9)) for s in (found.hour, found.day)] == [both, both]


async def test_calls_and_the_ledger_are_pruned(database: Database) -> None:
    """What is older than the instant given goes, and what is newer stays."""
    clock = FakeClock()
    journal = CallJournal(database, clock, LearningBudgetConfig())
    calls = [Call(question(f'{{"n": {n}}}'), job(), "m") for n in range(2)]
    for call in calls:
        await journal.settle(await journal.reserve(call, 1, 1), Ending("answered", 1, 1, "{}"))
        clock.advance(days=20)
    await prune(database, clock.now_ms() - 30 * DAY_MS, clock.now_ms())
    assert [await journal.answer(call) for call in calls] == [None, "{}"]
    config = LearningBudgetConfig()
    old = await database.read(lambda tx: status(tx, config, clock.now_ms() - 40 * DAY_MS))
    new = await database.read(lambda tx: status(tx, config, clock.now_ms() - 20 * DAY_MS))
    assert (old.day.calls, new.day.calls) == (0, 1)


async def test_the_ledger_of_today_is_never_pruned(database: Database) -> None:
    """However short answers are kept, a bound of a day holds for the day."""
    clock = FakeClock()
    journal = CallJournal(database, clock, LearningBudgetConfig())
    call = Call(question(), job(), "m")
    await journal.settle(await journal.reserve(call, 1, 1), Ending("answered", 1, 1, "{}"))
    clock.advance(seconds=10)
    await prune(database, clock.now_ms(), clock.now_ms())
    assert await journal.answer(call) is None
    assert (await database.read(lambda tx: status(tx, LearningBudgetConfig(), clock.now_ms()))).day.calls == 1
