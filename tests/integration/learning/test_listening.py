"""One listener hears of messages and of outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reverie.learning.feedback.bursts import Bursts
from reverie.learning.feedback.feedback import Feedbacks
from reverie.learning.feedback.listening import Listening
from reverie.learning.records import trace_of
from tests.integration.learning.episode_world import ASK, FOLLOW_UP, Asks, opened
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


@pytest.mark.parametrize(
    ("found", "kept", "trail"),
    [
        ({"feedback": "none", "feedback_confidence": 0.9}, [], ["no_feedback"]),
        ({"feedback": "none", "feedback_confidence": 0.6}, [("negative", 0.8, 0.75, "rule")], []),
        ({"feedback": "none"}, [("negative", 0.8, 0.75, "rule")], []),
        (
            {"feedback": "mixed", "feedback_magnitude": 0.4, "feedback_confidence": 0.9},
            [("mixed", 0.4, 0.9, "llm")],
            [],
        ),
    ],
)
async def test_a_model_that_finds_no_feedback_is_heard(
    tmp_path: Path, found: dict[str, Any], kept: list[tuple[Any, ...]], trail: list[str]
) -> None:
    """Where the model that places a message is surer than a rule that it says nothing of the reply, nothing follows."""
    async with opened(tmp_path, asks=Asks({"turn.classify": [FOLLOW_UP | found]})) as world:
        world.restart(Listening(Feedbacks(world.database, world.clock, world.config), Bursts(world.config)))
        world.exchange(ASK, "The coffee report is compiled.")
        world.exchange("It doesn't work on Sundays. Put that coffee fact below a table of prices.")
        await world.follow()
        assert (world.jobs("feedback"), world.rows("SELECT id FROM feedback")) == ([], [])
        await world.run("classify")

        assert world.rows("SELECT polarity, magnitude, confidence, classified_by FROM feedback") == kept
        assert len(world.jobs("feedback")) == (1 if kept and kept[0][3] == "rule" else 0)
        assert world.rows("SELECT reason FROM learning_trail WHERE stage = 'feedback'") == [(each,) for each in trail]
