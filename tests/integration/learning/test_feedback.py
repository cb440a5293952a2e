"""Feedback is written down at once, once, and about something that exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from reverie.errors import MessageKeyReusedError, RequestError, UnknownFeedbackTargetError
from reverie.gateway.feedback_body import TARGETS
from reverie.learning.feedback.feedback import TEXT_CHARS_MAX, Feedback, Submission, Verdict
from reverie.learning.feedback.targets import Target
from tests.integration.learning.feedback_world import NOW, feedback_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.learning.feedback_world import FeedbackWorld

pytestmark = pytest.mark.anyio
JOBS = "SELECT key, lane, state FROM job_requests ORDER BY key"
ROWS = "SELECT polarity, magnitude, confidence, shape, classified_by FROM feedback"


@dataclass(frozen=True)
class Hidden:
    """What a model found."""

    polarity: Literal["positive", "negative", "neutral", "mixed"]
    magnitude: float
    confidence: float


async def note(world: FeedbackWorld, text: str, hidden: Hidden | None = None, **said: Any) -> Feedback | None:
    episode = await world.episode()
    message = world.say(text, **said)
    return await world.database.write(lambda tx: world.feedbacks.note_message(tx, message, episode, NOW, hidden=hidden))


async def test_a_thumb_on_a_turn(tmp_path: Path) -> None:
    """What a turn belongs to is found; the row and its job are on disk when `submit` returns, and nothing else is."""
    async with feedback_world(tmp_path) as world:
        given = await world.feedbacks.submit(
            Submission(Target("turn", "t1"), "negative", text="Use pytest instead of unittest.")
        )
        assert given == Feedback(
            id=given.id, agent="main", at_ms=NOW, session_id="s1", turn_id="t1", task_id="ta_1", episode_id="ep_1",
            trace_id=None, skill_id=None, channel="explicit", polarity="negative", magnitude=1.0, confidence=1.0,
            shape="preference", text="Use pytest instead of unittest.", prefer="pytest", avoid="unittest", seq=None,
            classified_by="person", provenance="owner", raw=given.raw,
        )  # fmt: skip
        assert world.rows(JOBS) == [(f"feedback:{given.id}", "interactive", "waiting")]
        assert world.rows("SELECT id FROM feedback") == [given.id]
        assert world.rows("SELECT count(*) FROM learning_trail") == [0]


@pytest.mark.parametrize(
    ("kind", "target", "found"),
    [
        ("turn", "t2", ("s1", "t2", "ta_1", "ep_1", None, None)),
        ("session", "s1", ("s1", "t2", "ta_1", "ep_1", None, None)),
        ("session", "agent:main:main", ("s1", "t2", "ta_1", "ep_1", None, None)),
        ("episode", "ep_1", ("s1", None, "ta_1", "ep_1", None, None)),
        ("task", "ta_1", ("s1", None, "ta_1", "ep_1", None, None)),
        ("trace", "tr_1", ("s1", None, "ta_1", "ep_1", "tr_1", None)),
        ("skill", "sk_1", (None, None, None, None, None, "sk_1")),
        ("world_model", "wm_1", (None, None, None, None, None, None)),
    ],
)
async def test_everything_that_can_be_judged(tmp_path: Path, kind: Any, target: str, found: tuple[Any, ...]) -> None:
    """A turn, a session's last answer, an episode, a task, a trace, a skill, a world model: each leads to its place."""
    async with feedback_world(tmp_path) as world:
        world.seed("traces", id="tr_1", task_id="ta_1", episode_id="ep_1")
        world.seed("skills", id="sk_1", name="a")
        world.seed("world_models", id="wm_1")
        given = await world.feedbacks.submit(Submission(Target(kind, target), "positive"))
        place = (given.session_id, given.turn_id, given.task_id, given.episode_id, given.trace_id, given.skill_id)
        assert place == found
        assert given.world_model_id == ("wm_1" if kind == "world_model" else None)


@pytest.mark.parametrize("kind", ["turn", "session", "episode", "task", "trace", "skill", "world_model"])
async def test_an_unknown_id_is_refused_before_anything_is_written(tmp_path: Path, kind: Any) -> None:
    """There is a clear error, and no row and no job; a thing of another agent is as unknown."""
    async with feedback_world(tmp_path) as world:
        with pytest.raises(UnknownFeedbackTargetError, match="'nope' to give feedback on") as raised:
            await world.feedbacks.submit(Submission(Target(kind, "nope"), "positive"))
        assert (raised.value.status, raised.value.code) == (404, "feedback_target_not_found")
        assert raised.value.param is not None
        assert TARGETS[raised.value.param] == kind
        with pytest.raises(UnknownFeedbackTargetError):
            await world.feedbacks.submit(Submission(Target("turn", "t1"), "positive"), agent="other")
        assert world.rows("SELECT (SELECT count(*) FROM feedback) + (SELECT count(*) FROM job_requests)") == [0]


@pytest.mark.parametrize(
    "submission",
    [
        Submission(Target("turn", "t1")),
        Submission(Target("turn", "t1"), text="  "),
        Submission(Target("turn", "t1"), "positive", magnitude=1.1),
        Submission(Target("turn", "t1"), "positive", magnitude=float("nan")),
        Submission(Target("turn", "t1"), "positive", key=""),
        Submission(Target("turn", "t1"), "positive", key="k" * 201),
        Submission(Target("turn", "t1"), verdict=Verdict(5, 4)),
        Submission(Target("turn", "t1"), verdict=Verdict(0, 0)),
        Submission(Target("turn", "t1"), "negative", verdict=Verdict(0, 0)),
        Submission(Target("turn", "t1"), verdict=Verdict(1, 1, float("inf"))),
    ],
)
async def test_nonsense_is_refused(tmp_path: Path, submission: Submission) -> None:
    """Feedback that says nothing, or a number out of range, is an error of the caller."""
    async with feedback_world(tmp_path) as world:
        with pytest.raises(RequestError):
            await world.feedbacks.submit(submission)
        assert world.rows("SELECT count(*) FROM feedback") == [0]


async def test_the_same_key_is_the_same_row(tmp_path: Path) -> None:
    """A submission sent again under its key is the first one; other feedback under that key is refused."""
    async with feedback_world(tmp_path) as world:
        submission = Submission(Target("turn", "t1"), "positive", key="click-1")
        first = await world.feedbacks.submit(submission)
        world.clock.advance(seconds=5)
        assert await world.feedbacks.submit(submission) == first
        with pytest.raises(MessageKeyReusedError):
            await world.feedbacks.submit(Submission(Target("turn", "t1"), "negative", key="click-1"))
        assert len(world.rows(JOBS)) == len(world.rows(ROWS)) == 1


async def test_without_a_key_the_time_tells_them_apart(tmp_path: Path) -> None:
    """The same thumb a second later is another one; in the same millisecond it is the same."""
    async with feedback_world(tmp_path) as world:
        thumb = Submission(Target("turn", "t1"), "positive")
        first, same = await world.feedbacks.submit(thumb), await world.feedbacks.submit(thumb)
        world.clock.advance(seconds=1)
        later = await world.feedbacks.submit(thumb)
        assert first == same
        assert len({first.id, later.id}) == 2


@pytest.mark.parametrize(
    ("submission", "polarity", "magnitude"),
    [
        (Submission(Target("turn", "t1"), text="That's wrong"), "negative", 0.7),
        (Submission(Target("turn", "t1"), text="The table is missing"), "neutral", 0.5),
        (Submission(Target("turn", "t1"), verdict=Verdict(4, 4)), "positive", 1.0),
        (Submission(Target("turn", "t1"), verdict=Verdict(3, 4)), "negative", 1.0),
        (Submission(Target("turn", "t1"), "mixed", magnitude=0.3, text="Perfect"), "mixed", 0.3),
    ],
)
async def test_what_is_not_said_is_read(
    tmp_path: Path, submission: Submission, polarity: str, magnitude: float
) -> None:
    """Without a polarity the verdict tells, else the rules; a judgement that is given counts as it is."""
    async with feedback_world(tmp_path) as world:
        given = await world.feedbacks.submit(submission)
        assert (given.polarity, given.magnitude) == (polarity, magnitude)


async def test_a_long_text_is_cut(tmp_path: Path) -> None:
    """No more of a text is kept than the bound says."""
    async with feedback_world(tmp_path) as world:
        given = await world.feedbacks.submit(Submission(Target("turn", "t1"), "negative", text="x" * 10_000))
        assert len(given.text) == TEXT_CHARS_MAX


async def test_a_correction_in_the_next_message(tmp_path: Path) -> None:
    """A user's message that corrects the reply before it is an implicit row, and a job since it weighs enough."""
    async with feedback_world(tmp_path) as world:
        given = await note(world, "No. Use pytest instead of unittest.")
        assert given is not None
        assert (given.channel, given.seq, given.turn_id, given.task_id) == ("implicit", 3, "t1", "ta_1")
        assert world.rows(ROWS) == [("negative", 0.65, 0.8, "preference", "rule")]
        assert world.rows(JOBS) == [(f"feedback:{given.id}", "interactive", "waiting")]


async def test_a_weak_message_is_a_row_without_a_job(tmp_path: Path) -> None:
    """What reaches the threshold counts in the reward; only what weighs 0.5 is looked at by itself."""
    async with feedback_world(tmp_path) as world:
        assert await note(world, "I don't understand the second step") is not None
        assert world.rows(ROWS) == [("negative", 0.3, 0.7, "confusion", "rule")]
        assert world.rows(JOBS) == []


async def test_what_is_below_the_threshold_is_no_row(tmp_path: Path) -> None:
    """`reward.implicit_threshold` decides from which magnitude on a message counts; the trail says so."""
    async with feedback_world(tmp_path, reward={"implicit_threshold": 0.4}) as world:
        assert await note(world, "I don't understand the second step") is None
        assert await note(world, "What is the capital of France?", seq=5) is None
        assert world.rows("SELECT count(*) FROM feedback") == [0]
        assert world.rows("SELECT stage, outcome, reason FROM learning_trail") == [
            ("feedback", "skipped", "below_threshold")
        ]


@pytest.mark.parametrize("whose", ["agent", "untrusted", "system"])
async def test_only_the_owners_words_are_feedback(tmp_path: Path, whose: str) -> None:
    """A message that holds somebody else's words praises and corrects nothing."""
    async with feedback_world(tmp_path) as world:
        assert await note(world, "That's wrong", Hidden("negative", 0.9, 0.9), whose=whose) is None
        assert world.rows("SELECT count(*) FROM feedback") == [0]


async def test_the_first_message_judges_nothing(tmp_path: Path) -> None:
    """Without a reply before it a message praises nothing."""
    async with feedback_world(tmp_path) as world:
        assert await note(world, "Perfect!", seq=1) is None


async def test_a_message_that_is_read_twice_is_one_row(tmp_path: Path) -> None:
    """The same message again changes nothing."""
    async with feedback_world(tmp_path) as world:
        assert await note(world, "That's wrong") == await note(world, "That's wrong")
        assert len(world.rows(ROWS)) == len(world.rows(JOBS)) == 1


@pytest.mark.parametrize(
    ("text", "hidden", "row"),
    [
        ("What about the second table?", Hidden("negative", 0.6, 0.9), ("negative", 0.6, 0.9, "unknown", "llm")),
        ("That's wrong", Hidden("mixed", 0.4, 0.9), ("mixed", 0.4, 0.9, "correction", "llm")),
        ("I prefer pytest over unittest", Hidden("positive", 0.9, 1.0), ("negative", 0.65, 0.8, "preference", "rule")),
        ("That's wrong", Hidden("neutral", 0.0, 0.5), ("negative", 0.7, 0.75, "correction", "rule")),
        ("That's wrong", Hidden("neutral", 0.0, 0.9), None),
        ("And now?", Hidden("negative", 0.1, 0.9), None),
    ],
)
@pytest.mark.parametrize("later", [False, True])
async def test_a_model_finds_what_rules_do_not(
    tmp_path: Path, text: str, hidden: Hidden, row: tuple[Any, ...] | None, *, later: bool
) -> None:
    """A model's word counts for a message, at once or later; a rule as sure as 0.8 wins, a surer model takes back."""
    async with feedback_world(tmp_path) as world:
        if later:
            await note(world, text)
        await note(world, text, hidden)
        assert world.rows(ROWS) == ([] if row is None else [row])


async def test_a_late_word_that_weighs_asks_for_the_job(tmp_path: Path) -> None:
    """What a model makes significant is looked at, once."""
    async with feedback_world(tmp_path) as world:
        await note(world, "I don't understand")
        assert world.rows(JOBS) == []
        episode, message = await world.episode(), world.say("I don't understand")
        for _ in range(2):
            given = await world.database.write(
                lambda tx: world.feedbacks.note_hidden(tx, message, episode, Hidden("negative", 0.8, 0.9), NOW)
            )
            assert given is not None
            assert world.rows(JOBS) == [(f"feedback:{given.id}", "interactive", "waiting")]


async def test_lightweight_keeps_and_does_nothing(tmp_path: Path) -> None:
    """What a person says with a button is kept; no job is asked for, and messages are not looked at."""
    async with feedback_world(tmp_path, mode="lightweight") as world:
        await world.feedbacks.submit(Submission(Target("turn", "t1"), "negative"))
        assert await note(world, "That's wrong") is None
        assert (len(world.rows(ROWS)), world.rows(JOBS)) == (1, [])
