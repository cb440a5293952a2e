"""Bursts are found among the traces in the database, and each asks for one repair in a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.learning.feedback.bursts import Bursts, context_hash
from reverie.learning.records import trace_of
from tests.integration.learning.feedback_world import feedback_world, restarted

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.storage import Transaction
    from tests.integration.learning.feedback_world import FeedbackWorld

pytestmark = pytest.mark.anyio
HASH = context_hash("shell", "pytest")
KEYS = "SELECT key FROM job_requests ORDER BY requested_at, key"


async def noted(world: FeedbackWorld, *trace_ids: str, session_id: str = "s1") -> tuple[str, ...]:
    """Tell of new traces as a follower does, in a transaction, with nothing remembered from before."""
    bursts = Bursts(world.config)

    def tell(tx: Transaction) -> tuple[str, ...]:
        rows = [tx.row("find_trace", id=each) for each in trace_ids]
        return bursts.note_outcomes(tx, session_id, [trace_of(row) for row in rows if row], world.clock.now_ms())

    return await world.database.write(tell)


async def test_the_third_failure_asks_for_a_repair(tmp_path: Path) -> None:
    """Two failures ask for nothing; the third asks for a repair of that tool and purpose."""
    async with feedback_world(tmp_path) as world:
        assert await noted(world, *world.calls("ff")) == ()
        assert await noted(world, *world.calls("f", first=2)) == (f"repair:{HASH}:tr_s1_2",)
        assert world.rows("SELECT kind, lane, agent, task_id, payload FROM job_requests") == [
            (
                "repair",
                "background",
                "main",
                "ta_1",
                '{"context": "pytest", "feedback_id": null, "session_id": "s1", "tool": "shell"}',
            )
        ]


async def test_a_restart_remembers_the_failures(tmp_path: Path) -> None:
    """Two failures before a restart and one after it are three: nothing is kept beside the traces."""
    async with feedback_world(tmp_path) as world:
        await noted(world, *world.calls("ff"))
    async with restarted(tmp_path) as world:
        assert await noted(world, *world.calls("f", first=2)) == (f"repair:{HASH}:tr_s1_2",)


async def test_a_success_clears(tmp_path: Path) -> None:
    """After a success the count begins anew."""
    async with feedback_world(tmp_path) as world:
        await noted(world, *world.calls("ffs"))
        assert await noted(world, *world.calls("ff", first=3)) == ()


async def test_sessions_do_not_add_up(tmp_path: Path) -> None:
    """Failures of another session are not counted."""
    async with feedback_world(tmp_path) as world:
        await noted(world, *world.calls("ff"))
        assert await noted(world, *world.calls("f", session_id="s2"), session_id="s2") == ()


async def test_a_hash_rests_for_a_minute(tmp_path: Path) -> None:
    """Failures that go on ask for no second repair before 60 s have passed, and the trail says so."""
    async with feedback_world(tmp_path) as world:
        await noted(world, *world.calls("fff"))
        world.clock.advance(ms=59_999)
        assert await noted(world, *world.calls("f", first=3)) == ()
        assert world.rows("SELECT outcome, reason FROM learning_trail") == [("skipped", "cooldown")]
        world.clock.advance(ms=1)
        assert await noted(world, *world.calls("f", first=4)) == (f"repair:{HASH}:tr_s1_4",)
        assert len(world.rows(KEYS)) == 2


async def test_the_same_traces_again_ask_for_nothing_new(tmp_path: Path) -> None:
    """Told of the same traces twice, there is one repair."""
    async with feedback_world(tmp_path) as world:
        ids = world.calls("fff")
        await noted(world, *ids)
        world.clock.advance(seconds=120)
        assert await noted(world, *ids) == ()
        assert world.rows(KEYS) == [f"repair:{HASH}:tr_s1_2"]


async def test_lightweight_looks_for_no_bursts(tmp_path: Path) -> None:
    """Where nothing is learned nothing is asked for."""
    async with feedback_world(tmp_path, mode="lightweight") as world:
        assert await noted(world, *world.calls("fff")) == ()
        assert world.rows(KEYS) == []
