"""What explicit feedback does to values at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from reverie.learning.credit.trace_feedback import Revaluation, revalue_task, revalue_trace
from tests.integration.learning.traces_world import Home, open_home, verdict
from tests.unit.learning.said import agent, user

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Home]:
    """A home with a task of two steps that has ended and is not scored yet."""
    async with open_home(tmp_path) as opened:
        said = [
            user(1, "Please clean the roaster before the evening."),
            agent(2, "The roaster is clean, I used the brush."),
        ]
        await opened.take([*said, user(3, "And the grinder?"), agent(4, "Clean, too.")])
        opened.sql("UPDATE traces SET alpha = 0.5, usable = 1")
        await opened.end_task()
        yield opened


async def on_task(home: Home) -> bool:
    now_ms = home.clock.now_ms()
    return await home.database.write(lambda tx: revalue_task(tx, "ta_1", home.config, now_ms))


async def on_trace(home: Home, trace_id: str) -> float | None:
    return await home.database.write(lambda tx: revalue_trace(tx, trace_id))


async def scored(home: Home) -> None:
    home.asks.add("reward.r_human", verdict(0.8, 0.8, 0.8))
    await home.reward()


@pytest.mark.anyio
async def test_feedback_on_a_scored_task_is_arithmetic(home: Home) -> None:
    """(0.8 - 1) / 2 = -0.1, handed on to all steps; said again nothing changes; no model is asked."""
    await scored(home)
    asked = len(home.asks.asked)
    home.seed("feedback", id="fb_1", task_id="ta_1", polarity="negative", magnitude=1.0)
    assert await on_task(home) is True
    task = await home.task()
    assert (task.r_human, task.state) == (pytest.approx(-0.1), "scored")
    assert [(each.value, each.priority) for each in home.traces()] == [
        (pytest.approx(-0.095), 0.0),
        (pytest.approx(-0.1), 0.0),
    ]
    assert await on_task(home) is True
    assert (await home.task()).r_human == pytest.approx(-0.1)
    assert len(home.asks.asked) == asked
    assert home.sql("SELECT outcome, reason, detail FROM learning_trail WHERE stage = 'feedback' LIMIT 1") == [
        ("changed", "propagated", json.dumps({"r_human": task.r_human, "before": 0.8, "traces": 2}))
    ]


@pytest.mark.anyio
async def test_what_is_not_scored_needs_nothing(home: Home) -> None:
    """Its reward is made with all that was said by then; a skipped task stays so; without learning nothing happens."""
    home.seed("feedback", id="fb_1", task_id="ta_1", polarity="negative")
    before = home.everything()
    assert await on_task(home) is False
    assert home.everything() == before
    for state in ("open", "skipped"):
        home.sql("UPDATE tasks SET state = ?", state)
        assert await on_task(home) is False
    home.set(mode="lightweight")
    home.sql("UPDATE tasks SET state = 'scored', r_human = 1")
    assert await on_task(home) is False
    home.sql("DELETE FROM tasks")
    assert await on_task(home) is False


@pytest.mark.anyio
async def test_what_strangers_say_does_not_count(home: Home) -> None:
    """Neither for a task nor for a step."""
    await scored(home)
    trace = home.traces()[0]
    home.seed("feedback", id="fb_1", task_id="ta_1", trace_id=trace.id, polarity="negative", provenance="untrusted")
    assert await on_task(home) is True
    assert await on_trace(home, trace.id) is None
    assert (await home.task()).r_human == pytest.approx(0.8)


@pytest.mark.anyio
async def test_feedback_on_a_step_counts_for_that_step(home: Home) -> None:
    """Its task and the other steps keep what they had, and the same when it is done again."""
    await scored(home)
    first, _ = home.traces()
    home.seed("feedback", id="fb_1", task_id="ta_1", trace_id=first.id, polarity="negative", magnitude=1.0)
    revaluation, now_ms = Revaluation(home.config), home.clock.now_ms()
    for _ in range(2):
        await home.database.write(lambda tx: revaluation(tx, task_id="ta_1", trace_id=first.id, now_ms=now_ms))
        assert [each.value for each in home.traces()] == [-1.0, pytest.approx(0.8)]
        assert (await home.task()).r_human == pytest.approx(0.8)
    await home.database.write(lambda tx: revaluation(tx, task_id=None, trace_id=None, now_ms=now_ms))


@pytest.mark.anyio
async def test_words_about_a_step_leave_its_value(home: Home) -> None:
    """What says what to do, and not how it was, takes nothing from a good step or from its task."""
    await scored(home)
    before = [(each.value, each.priority) for each in home.traces()]
    first, _ = home.traces()
    home.seed("feedback", id="fb_1", task_id="ta_1", trace_id=first.id, polarity="neutral", magnitude=0.65)
    home.seed("feedback", id="fb_2", task_id="ta_1", polarity="neutral", magnitude=0.65)
    revaluation, now_ms = Revaluation(home.config), home.clock.now_ms()
    await home.database.write(lambda tx: revaluation(tx, task_id="ta_1", trace_id=first.id, now_ms=now_ms))
    assert [(each.value, each.priority) for each in home.traces()] == before
    assert (await home.task()).r_human == pytest.approx(0.8)
    assert await on_trace(home, first.id) is None


@pytest.mark.anyio
async def test_people_say_what_one_step_was_worth(home: Home) -> None:
    """The mean of the signs by their magnitudes, (1 - 0.5) / 1.5; its priority never falls for that."""
    first, second = home.traces()
    home.seed("feedback", id="fb_1", task_id="ta_1", trace_id=first.id, polarity="positive", magnitude=1.0)
    home.seed("feedback", id="fb_2", task_id="ta_1", trace_id=first.id, polarity="negative", magnitude=0.5)
    home.seed("feedback", id="fb_3", task_id="ta_1", trace_id=first.id, polarity="negative", channel="implicit")
    home.seed("feedback", id="fb_4", task_id="ta_1", trace_id=second.id, polarity="negative", magnitude=1.0)
    assert await on_trace(home, first.id) == pytest.approx(1 / 3)
    assert await on_trace(home, second.id) == -1.0
    assert await on_trace(home, "tr_none") is None
    assert [(each.value, each.priority) for each in home.traces()] == [(pytest.approx(1 / 3), 0.5), (-1.0, 1.0)]


@pytest.mark.anyio
async def test_what_people_said_of_a_step_outlives_a_new_reward(home: Home) -> None:
    """The others have what the reward brings them."""
    first, _ = home.traces()
    home.seed("feedback", id="fb_1", task_id="ta_1", trace_id=first.id, polarity="negative", magnitude=1.0)
    await scored(home)
    assert [(each.value, each.priority) for each in home.traces()] == [
        (-1.0, 1.0),
        (pytest.approx(0.8), pytest.approx(0.8, abs=1e-3)),
    ]


@pytest.mark.anyio
async def test_policies_and_skills_follow_a_score_that_moved(home: Home) -> None:
    """A thumb on a scored task, or on a step of it, has both looked at anew, once; before a score there is nothing."""
    revalue = Revaluation(home.config)

    async def thumb(trace_id: str | None = None) -> list[str]:
        now_ms = home.clock.now_ms()
        await home.database.write(lambda tx: revalue(tx, task_id="ta_1", trace_id=trace_id, now_ms=now_ms))
        found = home.sql("SELECT kind FROM job_requests WHERE kind IN ('associate', 'trials') ORDER BY rowid")
        return [kind for (kind,) in found]

    assert await thumb() == []
    await scored(home)
    both = ["associate", "trials"]
    home.seed("feedback", id="fb_1", task_id="ta_1", polarity="negative", magnitude=1.0)
    assert await thumb() == both * 2
    assert await thumb() == both * 2
    trace_id = home.traces()[0].id
    home.seed("feedback", id="fb_2", task_id="ta_1", trace_id=trace_id, polarity="positive", magnitude=1.0)
    assert await thumb(trace_id) == both * 3
