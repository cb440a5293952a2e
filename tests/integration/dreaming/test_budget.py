"""What dreaming may spend on a model."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from reverie.config import DreamingConfig
from reverie.dreaming.budget import Spend
from reverie.dreaming.settings import FixedSettings
from tests.integration.dreaming.nights import DAY_MS, NIGHT, Home, open_home

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Home]:
    """An empty home."""
    async with open_home(tmp_path) as opened:
        yield opened


def spend(home: Home, calls: int = 2, tokens: int = 1_000, zone: str = "") -> Spend:
    config = DreamingConfig(model_calls_day_max=calls, model_tokens_day_max=tokens)
    return Spend(home.database, FixedSettings(config, ZoneInfo(zone) if zone else UTC))


@pytest.mark.anyio
async def test_calls_and_tokens_of_a_day_are_bounded(home: Home) -> None:
    """Whoever is refused is told by which setting and until when; the next day begins anew."""
    budget = spend(home)

    assert await budget.take("diary", 300, NIGHT) is None
    assert await budget.take("consolidation", 800, NIGHT) == (
        "300 tokens were spent on 2026-04-06, and 800 more are above 1,000 (dreaming.model_tokens_day_max): none "
        "before 2026-04-07"
    )
    assert await budget.take("consolidation", 300, NIGHT) is None
    assert await budget.take("diary", 1, NIGHT) == (
        "2 of 2 calls of the model were made on 2026-04-06 (dreaming.model_calls_day_max): none before 2026-04-07"
    )
    assert await budget.take("diary", 300, NIGHT + DAY_MS) is None


@pytest.mark.anyio
async def test_what_a_call_took_is_put_right(home: Home) -> None:
    """On the day it was granted, for its kind; settling what nobody was granted changes nothing."""
    budget = spend(home, tokens=10_000)
    await budget.take("diary", 1_300, NIGHT)
    await budget.take("diary", 1_300, NIGHT + DAY_MS)
    await budget.settle("diary", 500)
    await budget.settle("diary", 2_000)
    await budget.settle("diary", 9_000)
    await budget.settle("consolidation", 9_000)

    assert home.sql("SELECT * FROM dream_spend ORDER BY day") == [
        ("2026-04-06", "diary", 1, 500),
        ("2026-04-07", "diary", 1, 2_000),
    ]


@pytest.mark.anyio
async def test_calls_at_the_same_moment_share_one_budget(home: Home) -> None:
    """Two of eight are granted, also where each asks by itself; a restart knows of them."""
    answers = await asyncio.gather(*(spend(home).take("diary", 100, NIGHT) for _ in range(8)))

    assert [answer is None for answer in answers].count(True) == 2
    assert await spend(home).take("diary", 1, NIGHT) is not None


@pytest.mark.anyio
async def test_a_day_is_the_users(home: Home) -> None:
    """Three in the morning in UTC is the evening before in Los Angeles."""
    await spend(home, zone="America/Los_Angeles").take("diary", 100, NIGHT)

    assert home.sql("SELECT day FROM dream_spend") == [("2026-04-05",)]


@pytest.mark.anyio
async def test_days_long_past_give_way(home: Home) -> None:
    """After 400 days."""
    budget = spend(home)
    for day in (0, 1, 401):
        await budget.take("diary", 1, NIGHT + day * DAY_MS)

    assert home.sql("SELECT count(*) FROM dream_spend") == [(2,)]


@pytest.mark.anyio
async def test_nothing_may_be_spent_where_the_budget_is_nothing(home: Home) -> None:
    """Neither calls nor tokens."""
    assert await spend(home, calls=0).take("diary", 1, NIGHT) is not None
    assert await spend(home, tokens=0).take("diary", 1, NIGHT) is not None
