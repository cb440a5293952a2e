"""Feedback on messages, and a person's putting them aside, go along when messages are put again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import JobDeferredError
from reverie.jobs.request import Job
from reverie.learning.credit.reward import task_voices
from reverie.learning.feedback.experience import Experiences
from reverie.learning.feedback.feedback import Feedbacks, Submission
from reverie.learning.feedback.job import FeedbackJob
from reverie.learning.feedback.targets import Target
from reverie.learning.surfaces.edits import archive
from reverie.testing import FakeEmbedder
from tests.integration.learning.episode_world import ASK, FOLLOW_UP, NEW_TASK, WEAK, Asks, World, opened

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.learning.feedback.targets import TargetKind

pytestmark = pytest.mark.anyio

JOINED, SPLIT = [TimeoutError(), FOLLOW_UP], [NEW_TASK]
"""What a model says of the second message: nothing in time, and then that it goes on; or that it is a new task."""


def answers(said: list[Any]) -> Asks:
    """A model that says so."""
    return Asks({"turn.classify": said})


async def two_turns(world: World, said: list[Any]) -> None:
    """Turn `t1`, and turn `t2` of which rules cannot tell where it belongs; a model that will be late was asked."""
    for number, text in enumerate((ASK, WEAK), 1):
        world.say(text, turn=f"t{number}")
        world.say("It is done.", "assistant", turn=f"t{number}")
        world.change(
            "INSERT INTO turns (id, session_id, position, state, request, accepted_at)"
            " VALUES (?, 's1', ?, 'answered', '{}', 0)",
            f"t{number}",
            number,
        )
        await world.follow()
    if isinstance(said[0], TimeoutError):
        await world.run("classify")


async def submit(world: World, kind: TargetKind, name: str) -> None:
    """A thumb down."""
    feedbacks = Feedbacks(world.database, world.clock, world.config)
    await feedbacks.submit(Submission(Target(kind, name), "negative", text="The prices are missing"))


async def decide(world: World) -> None:
    """Have the model say where the second turn belongs; nothing is provisional any more."""
    world.clock.advance(seconds=60)
    await world.run("classify", "redecide")
    assert world.rows("SELECT count(*) FROM routings WHERE state = 'provisional'") == [(0,)]


async def voices(world: World) -> list[int]:
    """How many voices each task has, in the order in which they began; all feedback is about tasks that exist."""
    tasks = [task for (task,) in world.rows("SELECT id FROM tasks ORDER BY rowid")]
    found = await world.database.read(lambda tx: [len(task_voices(tx, each, world.config)) for each in tasks])
    assert sum(found) == world.value("SELECT count(*) FROM feedback")
    assert world.rows(
        "SELECT 1 FROM feedback WHERE NOT EXISTS"
        " (SELECT 1 FROM episodes WHERE id = feedback.episode_id AND task_id = feedback.task_id)"
    ) == []  # fmt: skip
    return found


@pytest.mark.parametrize(("kind", "name"), [("turn", "t2"), ("session", "s1")])
@pytest.mark.parametrize(("said", "expected"), [(JOINED, [1]), (SPLIT, [0, 1])])
async def test_a_thumb_goes_with_the_answer(
    tmp_path: Path, kind: TargetKind, name: str, said: list[Any], expected: list[int]
) -> None:
    """A thumb counts for the task of its answer: where two episodes are joined, and where one is split."""
    async with opened(tmp_path, asks=answers(said)) as world:
        await two_turns(world, said)
        await submit(world, kind, name)
        await decide(world)

        assert await voices(world) == expected
        assert world.rows("SELECT outcome, reason FROM learning_trail WHERE stage = 'feedback'") == [
            ("changed", "went_with_its_messages")
        ]


@pytest.mark.parametrize(("said", "expected"), [(JOINED, [1]), (SPLIT, [1, 0])])
async def test_a_thumb_on_what_does_not_move_stays(tmp_path: Path, said: list[Any], expected: list[int]) -> None:
    """A thumb on an earlier answer stays where it is."""
    async with opened(tmp_path, asks=answers(said)) as world:
        await two_turns(world, said)
        await submit(world, "turn", "t1")
        await decide(world)

        assert await voices(world) == expected
        assert world.rows("SELECT reason FROM learning_trail WHERE stage = 'feedback'") == []


@pytest.mark.parametrize("kind", ["episode", "task"])
@pytest.mark.parametrize(("said", "expected"), [(JOINED, [1]), (SPLIT, [1, 0])])
async def test_a_thumb_on_an_episode_goes_with_its_beginning(
    tmp_path: Path, kind: TargetKind, said: list[Any], expected: list[int]
) -> None:
    """Where an episode is part of another one after all so is the thumb; where one is split the thumb stays."""
    async with opened(tmp_path, asks=answers(said)) as world:
        await two_turns(world, said)
        await submit(world, kind, world.value(f"SELECT id FROM {kind}s ORDER BY rowid DESC LIMIT 1"))  # noqa: S608 (our names)
        await decide(world)

        assert await voices(world) == expected


@pytest.mark.parametrize(("said", "expected"), [(JOINED, [True]), (SPLIT, [True, True])])
async def test_what_was_put_aside_stays_aside(tmp_path: Path, said: list[Any], expected: list[bool]) -> None:
    """The messages of a task that a person put aside are never scored, whichever task they are of after all."""
    async with opened(tmp_path, asks=answers(said)) as world:
        await two_turns(world, said)
        newest = world.value("SELECT id FROM episodes ORDER BY rowid DESC LIMIT 1")
        await world.database.write(lambda tx: archive(tx, "episodes", newest, world.clock.now_ms(), aside=True))
        await decide(world)
        world.end_session()
        await world.follow()

        assert [aside for (aside,) in world.rows("SELECT archived_at IS NOT NULL FROM tasks")] == expected
        assert world.rows("SELECT DISTINCT state FROM tasks") == [("skipped",)]


async def test_what_was_not_put_aside_is_not_put_aside(tmp_path: Path) -> None:
    """The first of two tasks is put aside, and the second one stands: it is scored."""
    said: list[Any] = [TimeoutError(), NEW_TASK]
    async with opened(tmp_path, asks=answers(said)) as world:
        await two_turns(world, said)
        first = world.value("SELECT id FROM episodes ORDER BY rowid LIMIT 1")
        await world.database.write(lambda tx: archive(tx, "episodes", first, world.clock.now_ms(), aside=True))
        await decide(world)

        assert world.rows("SELECT state, archived_at IS NOT NULL FROM tasks ORDER BY rowid") == [
            ("skipped", 1), ("open", 0),
        ]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [("turn", "t2"), ("episode", "")])
async def test_nothing_follows_from_feedback_before_its_place_is_decided(
    tmp_path: Path, kind: TargetKind, name: str
) -> None:
    """The job of a thumb waits, ever longer, until it is decided where the answer belongs."""
    async with opened(tmp_path, asks=answers(JOINED)) as world:
        await two_turns(world, JOINED)
        await submit(world, kind, name or world.value("SELECT id FROM episodes ORDER BY rowid DESC LIMIT 1"))
        ((key, payload),) = world.rows("SELECT key, payload FROM job_requests WHERE kind = 'feedback'")
        job = Job(key, "feedback", "interactive", json.loads(payload))
        for passed_s, wait_ms in ((0, 2_000), (2, 2_000), (10, 12_000)):
            world.clock.advance(seconds=passed_s)
            with pytest.raises(JobDeferredError, match="not_decided_yet") as raised:
                await feedback_job(world).handle(job)
            assert raised.value.until_ms == world.clock.now_ms() + wait_ms
        await decide(world)

        assert (await feedback_job(world).handle(job))["done"] == "task_open"
        assert await voices(world) == [1]


async def test_feedback_on_what_is_decided_does_not_wait(tmp_path: Path) -> None:
    """A thumb on an answer before the undecided message is done at once."""
    async with opened(tmp_path, asks=answers(JOINED)) as world:
        await two_turns(world, JOINED)
        await submit(world, "turn", "t1")
        ((key, payload),) = world.rows("SELECT key, payload FROM job_requests WHERE kind = 'feedback'")

        assert (await feedback_job(world).handle(Job(key, "feedback", "interactive", json.loads(payload))))["done"]


def feedback_job(world: World) -> FeedbackJob:
    """What does the job; nothing is scored yet, so that nothing is valued anew."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing is scored")

    asks = Asks({}, available=False)
    experiences = Experiences(world.database, world.clock, world.config.feedback, asks, FakeEmbedder())
    return FeedbackJob(
        world.database, world.clock, world.config, experiences, revalue=never, skill_thumb=never, world_thumb=never
    )
