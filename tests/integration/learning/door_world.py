"""A door to a flaky model, on a real state.db."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import apsw
from pydantic import BaseModel, Field

from reverie.config import LearningBudgetConfig, LearningConfig
from reverie.jobs.request import Job
from reverie.learning.asking.asks import Question
from reverie.learning.asking.foreground import Foreground
from reverie.learning.asking.model_door import ModelDoor
from reverie.learning.asking.permits import Permits
from reverie.learning.asking.provider import Provider
from reverie.learning.asking.storm_alarm import StormAlarm
from reverie.llm.client import Model
from reverie.llm.prompt_files import Prompt
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.jobs.request import Lane

M = TypeVar("M", bound=Model)

PROMPT = Prompt("test.score@1", "Score it as JSON.")
GENEROUS = LearningBudgetConfig(calls_hour=1_000, calls_day=1_000, price_in=1.0, price_out=2.0)


class Score(BaseModel):
    """What is asked for in these tests."""

    score: float = Field(ge=-1, le=1)


def question(text: str = '{"what": "a"}', **values: Any) -> Question[Score]:
    """A question about a text."""
    return Question(PROMPT, text, Score, **values)


def job(key: str = "reward:1", *, lane: Lane = "background", aged: bool = False, kind: str = "reward") -> Job:
    """A job that asks."""
    return Job(key, kind, lane, {}, "main", "ep_1", "ta_1", aged=aged)


@dataclass(frozen=True, slots=True)
class DoorWorld(Generic[M]):
    """What a test works with."""

    door: ModelDoor
    model: M
    clock: FakeClock
    database: Database
    foreground: Foreground
    permits: Permits
    provider: Provider

    async def sums(self) -> dict[str, tuple[float, ...]]:
        """Calls, tokens and money: over all calls, and in the ledger's spans."""
        return await asyncio.to_thread(_sums, self.database.path)


def _sums(state_db: Path) -> dict[str, tuple[float, ...]]:
    calls = "SELECT sum(calls), sum(tokens_in + tokens_out + tokens_reserved), sum(money) FROM model_calls"
    spans = "SELECT sum(calls), sum(tokens), sum(money) FROM learning_spend WHERE span = ? AND kind = ?"
    connection = apsw.Connection(str(state_db))
    try:
        found = {"calls": connection.execute(calls).fetchone()}
        for span, kind in (("hour", ""), ("day", ""), ("day", "reward"), ("episode", "")):
            found[f"{span} {kind}".strip()] = connection.execute(spans, (span, kind)).fetchone()
        return {name: tuple(round(each or 0, 9) for each in row or ()) for name, row in found.items()}
    finally:
        connection.close()


@asynccontextmanager
async def door_world(
    folder: Path,
    model: M,
    *,
    budget: LearningBudgetConfig = GENEROUS,
    limit: int = 2,
    timeout_s: float = 5.0,
    provider_type: type[Provider] = Provider,
) -> AsyncGenerator[DoorWorld[M]]:
    """A door that is open for the length of the block."""
    clock = FakeClock()
    config = LearningConfig(model_timeout_s=timeout_s, budget=budget, background_llm_concurrency=limit)
    database = await Database.open(folder / "state.db", STATE, now_ms=clock.now_ms())
    foreground = Foreground(clock)
    permits = Permits(database, clock, limit, _process)
    provider = provider_type(database, clock, "http://127.0.0.1:1/v1 flaky", pause_s=300, probe_s=5)
    door = ModelDoor(
        model,
        database,
        clock,
        config,
        provider=provider,
        permits=permits,
        foreground=foreground,
        alarm=StormAlarm(clock, 5, 1_000),
    )
    try:
        yield DoorWorld(door, model, clock, database, foreground, permits, provider)
    finally:
        await database.aclose()


async def _process() -> str:
    return "test-1"
