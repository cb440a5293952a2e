"""One listener hears of messages and of outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.learning.feedback.bursts import Bursts
from reverie.learning.feedback.listening import Listening
from reverie.learning.records import trace_of
from tests.integration.learning.feedback_world import NOW, feedback_world

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.storage import Transaction

pytestmark = pytest.mark.anyio


async def test_what_a_follower_tells_of_is_handed_on(tmp_path: Path) -> None:
    """A correction becomes a row, and a burst a repair that is asked for, in one transaction of the follower's."""
    async with feedback_world(tmp_path) as world:
        listening = Listening(world.feedbacks, Bursts(world.config))
        ids, episode, message = world.calls("fff"), await world.episode(), world.say("That's wrong")

        def follow(tx: Transaction) -> None:
            rows = [tx.row("find_trace", id=each) for each in ids]
            listening.note_message(tx, message, episode, NOW)
            listening.note_outcomes(tx, "s1", [trace_of(row) for row in rows if row], NOW)

        await world.database.write(follow)
        assert world.rows("SELECT shape FROM feedback") == ["correction"]
        assert sorted(world.rows("SELECT kind FROM job_requests")) == ["feedback", "repair"]
