"""Feedback becomes a policy, or part of one that says the same, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import AnswerRefusedError, EmbedderError
from reverie.jobs.request import Job
from reverie.learning.feedback.experience import Experiences
from reverie.learning.feedback.feedback import Submission, Verdict, feedback_of
from reverie.learning.feedback.targets import Target
from reverie.learning.ids import content_id, digest_of
from reverie.learning.vectors import pack
from reverie.testing import FakeEmbedder
from reverie.testing.scripted_asks import ScriptedAsks
from tests.integration.learning.feedback_world import NOW, feedback_world

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.learning.feedback.feedback import Feedback
    from tests.integration.learning.feedback_world import FeedbackWorld

pytestmark = pytest.mark.anyio
ANSWER = {"title": "Write tests with pytest", "trigger": "tests are asked for", "procedure": "Use pytest.",
          "caveats": "Not for doctests.", "verification": "`pytest` collects them.", "confidence": 0.9}  # fmt: skip
WORDS = "Use pytest instead of unittest."


async def learn(
    world: FeedbackWorld, given: Feedback, asks: ScriptedAsks, embedder: FakeEmbedder | None = None
) -> dict[str, Any]:
    """Run the stage on feedback as it stands in the database."""
    row = await world.database.read(lambda tx: tx.row("find_feedback", id=given.id))
    assert row is not None
    stage = Experiences(world.database, world.clock, world.config.feedback, asks, embedder or FakeEmbedder())
    job = Job(f"feedback:{given.id}", "feedback", "interactive", {"feedback_id": given.id}, agent="main")
    return await stage.learn(feedback_of(row), job)


async def test_an_experience_is_a_policy(tmp_path: Path) -> None:
    """The owner's words, refined by one call, become a row with everything it comes of."""
    async with feedback_world(tmp_path) as world:
        world.seed("traces", id="tr_ask", task_id="ta_1", episode_id="ep_1", user_text="Write the tests",
                   agent_text="I used unittest.", provenance="agent")  # fmt: skip
        world.seed("traces", id="tr_page", task_id="ta_1", episode_id="ep_1", user_text="a page says: obey",
                   agent_text="hm", provenance="untrusted")  # fmt: skip
        given = await world.feedbacks.submit(Submission(Target("turn", "t1"), "negative", text=WORDS))
        asks = ScriptedAsks({"feedback.refine": [ANSWER]})
        policy_id = content_id("po", "feedback", given.id)
        assert await learn(world, given, asks) == {"policy": policy_id, "how": "made"}
        row = await world.database.read(lambda tx: tx.row("find_policy", id=policy_id))
        assert row is not None
        assert row.pop("vec") is not None
        assert row == {
            "id": policy_id, "agent": "main", "title": "Write tests with pytest", "trigger_text": "tests are asked for",
            "procedure": "Use pytest.", "verification": "`pytest` collects them.", "boundary": "Not for doctests.",
            "support": 1, "gain": 1.0, "gain_known": 1, "gain_of": "", "status": "active", "type": "preference",
            "polarity": "neutral", "salience": 1.0, "confidence": 0.9, "signature": "",
            "evidence": digest_of("feedback", given.id), "source_episodes": '["ep_1"]',
            "source_feedback": f'["{given.id}"]', "source_traces": "[]", "induced_by": "feedback.refine@1",
            "guidance": '{"preference": ["pytest"], "anti_pattern": ["unittest"]}', "verifier": "{}",
            "skill_eligible": 0, "provenance": "agent", "created_at": NOW, "updated_at": NOW, "edited_at": None,
            "archived_at": None, "history": "",
        }  # fmt: skip
        shown = json.loads(asks.asked[0].text)
        assert shown["turns"] == [{"user": "Write the tests", "agent": "I used unittest."}]
        assert world.rows("SELECT stage, outcome, reason, ref FROM learning_trail") == [
            ("experience", "learned", "preference", policy_id)
        ]


async def test_the_stage_runs_twice(tmp_path: Path) -> None:
    """The second run asks nothing and changes nothing."""
    async with feedback_world(tmp_path) as world:
        given = await world.feedbacks.submit(Submission(Target("turn", "t1"), "negative", text=WORDS))
        asks = ScriptedAsks({"feedback.refine": [ANSWER]})
        await learn(world, given, asks)
        before = world.rows("SELECT * FROM policies")
        world.clock.advance(seconds=5)
        assert await learn(world, given, asks) == {"skipped": "known"}
        assert (len(asks.asked), world.rows("SELECT * FROM policies")) == (1, before)


async def test_a_run_that_was_overtaken_changes_nothing(tmp_path: Path) -> None:
    """Two runs that both began before either ended make one row."""
    async with feedback_world(tmp_path) as world:
        given = await world.feedbacks.submit(Submission(Target("turn", "t1"), "negative", text=WORDS))
        stage = Experiences(
            world.database, world.clock, world.config.feedback, ScriptedAsks(available=False), FakeEmbedder()
        )
        job = Job(f"feedback:{given.id}", "feedback", "interactive", {}, agent="main")
        assert (await stage.learn(given, job))["how"] == "made"
        assert await stage.learn(given, job) == {"skipped": "known"}
        assert world.rows("SELECT source_feedback FROM policies") == [f'["{given.id}"]']


async def test_the_same_again_is_joined(tmp_path: Path) -> None:
    """A second piece of feedback that says the same makes the row weigh more, and no second row."""
    async with feedback_world(tmp_path) as world:
        asks = ScriptedAsks(available=False)
        first = await world.feedbacks.submit(Submission(Target("turn", "t1"), "negative", 0.6, text=WORDS))
        await learn(world, first, asks)
        world.clock.advance(seconds=1)
        second = await world.feedbacks.submit(Submission(Target("turn", "t2"), "negative", 0.6, text=WORDS))
        assert (await learn(world, second, asks))["how"] == "merged"
        assert world.rows("SELECT salience, support, source_feedback FROM policies") == [
            (pytest.approx(0.84), 1, json.dumps([first.id, second.id]))
        ]


@pytest.mark.parametrize("known", [{"status": "candidate"}, {"status": "active", "edited_at": NOW - 5}])
async def test_what_the_owner_wants_is_not_lost_in_what_does_not_say_it(tmp_path: Path, known: dict[str, Any]) -> None:
    """Beside a candidate whose gain is not shown, or a policy that a person edited, it is an active row of its own."""
    async with feedback_world(tmp_path) as world:
        embedder = FakeEmbedder()
        vec = embedder.vector(f"pytest > unittest\n\n{WORDS}")
        world.seed("policies", id="po_1", type="procedural", vec=vec, **known)
        given = await world.feedbacks.submit(Submission(Target("turn", "t1"), "negative", text=WORDS))
        made = await learn(world, given, ScriptedAsks(available=False), embedder)
        assert made == {"policy": content_id("po", "feedback", given.id), "how": "made"}
        assert world.rows("SELECT status, guidance FROM policies ORDER BY id = 'po_1'") == [
            ("active", '{"preference": ["pytest"], "anti_pattern": ["unittest"]}'),
            (known["status"], '{"preference": [], "anti_pattern": []}'),
        ]


async def said(world: FeedbackWorld, text: str, *, turn: str = "t1") -> tuple[Feedback, dict[str, Any]]:
    """The owner says so; what became of it."""
    world.clock.advance(seconds=1)
    given = await world.feedbacks.submit(Submission(Target("turn", turn), "negative", text=text))
    return given, await learn(world, given, ScriptedAsks(available=False))


async def test_the_owner_changes_his_mind(tmp_path: Path) -> None:
    """The newest word is what the policy says, wherever it says anything, and is found by; the trail tells how."""
    async with feedback_world(tmp_path) as world:
        await said(world, "Use tabs instead of spaces in the label files, please.")
        words = "Use spaces instead of tabs in the label files, please."
        _, became = await said(world, words, turn="t2")
        assert became["how"] == "merged"
        title = "spaces > tabs in the label files"
        assert world.rows("SELECT title, procedure, guidance FROM policies") == [
            (title, words, '{"preference": ["spaces"], "anti_pattern": ["tabs in the label files"]}')
        ]
        assert world.rows("SELECT vec FROM policies") == [pack(FakeEmbedder().vector(f"{title}\n\n{words}"))]
        assert world.rows("SELECT title FROM learned_words WHERE learned_words MATCH 'spaces'") == [title]
        assert world.rows("SELECT json_extract(detail, '$.how') FROM learning_trail ORDER BY id") == [
            "made",
            "reworded",
        ]


async def test_five_orders_on_one_matter_are_the_last_one(tmp_path: Path) -> None:
    """Whatever day it was before, the report goes out on Fridays, and no other day is told beside it."""
    async with feedback_world(tmp_path) as world:
        for day in ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays"):
            await said(world, f"From now on, send the report on {day} at nine.")
        last = "From now on, send the report on Fridays at nine."
        assert world.rows("SELECT title, procedure, guidance FROM policies") == [
            (last, last, '{"preference": [], "anti_pattern": []}')
        ]


async def test_an_older_word_that_is_learned_later_changes_none(tmp_path: Path) -> None:
    """Jobs end in any order: the newest word is the one that was said last."""
    async with feedback_world(tmp_path) as world:
        first = await world.feedbacks.submit(
            Submission(Target("turn", "t1"), "negative", text="Use tabs instead of spaces in the label files, please.")
        )
        words = "Use spaces instead of tabs in the label files, please."
        await said(world, words)
        assert (await learn(world, first, ScriptedAsks(available=False)))["how"] == "merged"
        assert world.rows("SELECT procedure, guidance FROM policies") == [
            (words, '{"preference": ["spaces"], "anti_pattern": ["tabs in the label files"]}')
        ]


async def test_blame_joins_a_success_that_stays_eligible(tmp_path: Path) -> None:
    """A policy of checks that passed learns what to avoid, and may still become a skill."""
    async with feedback_world(tmp_path) as world:
        embedder = FakeEmbedder()
        words = "The report must list every table of the appendix"
        world.seed("policies", id="po_1", type="success_pattern", polarity="positive", skill_eligible=1,
                   vec=embedder.vector(words), verifier={"passed": 4, "total": 4, "reward": None})  # fmt: skip
        given = await world.feedbacks.submit(Submission(Target("skill", seed_skill(world)), "negative", text=words))
        assert await learn(world, given, ScriptedAsks(available=False), embedder) == {"policy": "po_1", "how": "merged"}
        assert world.rows("SELECT type, polarity, skill_eligible, guidance, verifier FROM policies") == [
            ("success_pattern", "mixed", 1, json.dumps({"preference": [], "anti_pattern": [words]}),
             '{"passed": 4, "total": 4, "reward": null}')
        ]  # fmt: skip


@pytest.mark.parametrize(("passed", "kind", "eligible"), [(4, "success_pattern", 1), (3, "verifier_feedback", 0)])
async def test_a_verifier_teaches_without_words(tmp_path: Path, passed: int, kind: str, eligible: int) -> None:
    """All checks passed is a success made of what was done; three of four is a failure."""
    async with feedback_world(tmp_path) as world:
        world.seed("traces", id="tr_1", task_id="ta_1", episode_id="ep_1", user_text="Write the tests",
                   agent_text="Done.", summary="wrote the tests with pytest")  # fmt: skip
        given = await world.feedbacks.submit(Submission(Target("task", "ta_1"), verdict=Verdict(passed, 4)))
        await learn(world, given, ScriptedAsks(available=False))
        assert world.rows("SELECT type, procedure, skill_eligible, status, verifier FROM policies") == [
            (kind, "wrote the tests with pytest", eligible, "active",
             json.dumps({"passed": passed, "reward": None, "total": 4}))
        ]  # fmt: skip


async def test_checks_that_pass_after_blame_validate_the_repair(tmp_path: Path) -> None:
    """A task that was found fault with and then passes its checks teaches a repair that works."""
    async with feedback_world(tmp_path) as world:
        world.seed("traces", id="tr_1", task_id="ta_1", episode_id="ep_1", agent_text="Done.")
        await world.feedbacks.submit(Submission(Target("task", "ta_1"), "negative"))
        world.clock.advance(seconds=1)
        given = await world.feedbacks.submit(Submission(Target("task", "ta_1"), verdict=Verdict(4, 4, 1.0)))
        await learn(world, given, ScriptedAsks(available=False))
        assert world.rows("SELECT type FROM policies") == ["repair_validated"]


@pytest.mark.parametrize(
    ("submission", "reason"),
    [
        (Submission(Target("turn", "t1"), "negative"), "not_actionable"),
        (Submission(Target("turn", "t1"), "negative", 0.4, text=WORDS), "insignificant"),
        (Submission(Target("task", "ta_1"), verdict=Verdict(1, 1)), "nothing_to_say"),
    ],
)
async def test_what_teaches_nothing_is_noted(tmp_path: Path, submission: Submission, reason: str) -> None:
    """A bare thumb, weak feedback, and a verdict on a task without words make no row; the trail says why."""
    async with feedback_world(tmp_path) as world:
        given = await world.feedbacks.submit(submission)
        assert await learn(world, given, ScriptedAsks()) == {"skipped": reason}
        assert world.rows("SELECT outcome, reason, ref FROM learning_trail") == [("skipped", reason, given.id)]
        assert world.rows("SELECT count(*) FROM policies") == [0]


async def test_an_answer_that_cannot_be_used_leaves_the_owners_words(tmp_path: Path) -> None:
    """When the model answers nothing usable, or no vector can be had, the experience is made all the same."""
    async with feedback_world(tmp_path) as world:
        given = await world.feedbacks.submit(Submission(Target("turn", "t1"), "negative", text=WORDS))
        asks = ScriptedAsks({"feedback.refine": [AnswerRefusedError("feedback.refine@1", "no JSON")]})
        await learn(world, given, asks, FakeEmbedder(error=EmbedderError("the server is away")))
        assert world.rows("SELECT title, procedure, induced_by, vec FROM policies") == [
            ("pytest > unittest", WORDS, "heuristic", None)
        ]
        assert world.rows("SELECT outcome, reason FROM learning_trail") == [("learned", "answer_refused")]


def seed_skill(world: FeedbackWorld) -> str:
    """A skill to give feedback on."""
    world.seed("skills", id="sk_1", name="a")
    return "sk_1"
