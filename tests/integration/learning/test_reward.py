"""Scoring a task and handing its reward on.

Where the record of the original system differs: the time for feedback is the job's `not_before`, kept in the database,
so that there is no timer to be stopped or drained; a task without any step has nobody's words to be judged by and is
skipped, so that there is no reward without backpropagation.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import AnswerRefusedError, JobDeferredError, UpstreamError
from reverie.learning.credit.summary import WHO
from reverie.testing import ScriptedAsks
from tests.integration.learning.traces_world import Home, open_home, scores, verdict
from tests.learning_rows import T0
from tests.unit.learning.said import agent, result, user

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from reverie.storage import Database, Transaction

DAY_MS = 86_400_000
CLEANING = [
    user(1, "Please clean the roaster before the evening."),
    agent(2, "I look for the brush first.", "c1 ls /roaster"),
    result(3, "c1", "brush"),
    agent(4, "The roaster is clean, I used the brush."),
]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Home]:
    """A home whose task has ended: one exchange of two steps, with α 0.5 and 1."""
    async with open_home(tmp_path) as opened:
        await opened.take(CLEANING)
        await opened.close_window()
        opened.asks.add("reflection.batch", scores(0.5, 1.0))
        await opened.reflect()
        opened.sql("UPDATE job_requests SET state = 'done'")
        await opened.end_task()
        yield opened


def values(home: Home) -> list[tuple[float, float, float, float | None]]:
    return [(each.value, each.alpha, each.priority, each.r_human) for each in home.traces()]


def reward_of(home: Home) -> dict[str, Any]:
    return json.loads(home.sql("SELECT reward FROM tasks")[0][0])


def keys(home: Home) -> set[str]:
    return {key for (key,) in home.sql("SELECT key FROM job_requests")}


@pytest.mark.anyio
async def test_a_task_is_judged_by_one_call_and_all_its_steps_share(home: Home) -> None:
    """R = 0.45·0.9 + 0.3·0.5 + 0.25·1 = 0.805; V = 0.5·0.805 + 0.5·0.9·0.805; half of it after 30 days."""
    home.clock.set(T0 + 3_000 + 30 * DAY_MS)
    home.asks.add("reward.r_human", verdict(0.9, 0.5, 1.0))
    made = await home.reward()
    assert made == {"r_human": pytest.approx(0.805), "source": "llm", "traces": 2, "note": ""}
    assert values(home) == [
        (pytest.approx(0.76475), 0.5, pytest.approx(0.76475 / 2), pytest.approx(0.805)),
        (pytest.approx(0.805), 1.0, pytest.approx(0.805 / 2, abs=1e-6), pytest.approx(0.805)),
    ]
    task = await home.task()
    assert (task.state, task.r_human) == ("scored", pytest.approx(0.805))
    assert reward_of(home) == {
        "source": "llm",
        "judged": pytest.approx(0.805),
        "axes": {"goal_achievement": 0.9, "process_quality": 0.5, "user_satisfaction": 1.0},
        "label": "success",
        "reason": "it worked",
        "prompt": "reward.r_human@1",
        "heard": [],
        "trigger": "implicit_fallback",
        "scored_at": home.clock.now_ms(),
    }
    assert home.sql("SELECT kind, lane, task_id, payload FROM job_requests WHERE kind <> 'window' ORDER BY kind") == [
        (kind, lane, "ta_1", json.dumps({"task_id": "ta_1", "trace_set": task.trace_set}))
        for kind, lane in (("associate", "idle"), ("trials", "background"))
    ]
    assert {f"associate:ta_1:{task.trace_set}", f"trials:ta_1:{task.trace_set}"} < keys(home)
    assert home.sql("SELECT outcome, reason FROM learning_trail WHERE stage = 'reward'") == [("learned", "scored")]


@pytest.mark.anyio
async def test_a_task_is_scored_once(home: Home) -> None:
    """The job run twice leaves the same rows and makes no second call, also when a step was deleted in between."""
    home.asks.add("reward.r_human", verdict())
    await home.reward()
    before = home.everything()
    assert await home.reward() == {"skipped": "scored"}
    assert home.everything() == before
    home.sql("DELETE FROM traces WHERE first_seq = 4")
    assert await home.reward() == {"skipped": "scored"}
    assert [question.prompt.id for question in home.asks.asked].count("reward.r_human@1") == 1


@pytest.mark.anyio
async def test_a_task_that_ends_again_is_judged_again_only_with_other_steps(home: Home) -> None:
    """With the same ones it keeps its reward; with more all of them share in a new one."""
    home.asks.add("reward.r_human", verdict(0.8, 0.8, 0.8), verdict(-1, -1, -1))
    await home.reward()
    home.sql("UPDATE tasks SET state = 'open'")
    assert await home.reward() == {"skipped": "went_on"}
    await home.end_task()
    assert await home.reward(1) == {"skipped": "ended_again"}
    assert await home.reward(2) == {"skipped": "same_steps"}
    assert ((await home.task()).state, len(home.asks.asked)) == ("scored", 2)

    home.sql("UPDATE tasks SET state = 'open'")
    await home.take([user(5, "It is not clean at all, look again."), agent(6, "You are right, it is not.")])
    await home.end_task()
    assert (await home.reward(3))["r_human"] == -1.0
    assert [value for value, *_ in values(home)] == [-0.95, -1.0, -1.0]
    assert [priority for _, _, priority, _ in values(home)] == [0.0, 0.0, 0.0]


@pytest.mark.anyio
async def test_credit_flows_over_all_episodes_of_a_task(home: Home) -> None:
    """A limit cut it in two: one call, and values as if it had not."""
    home.sql("UPDATE episodes SET state = 'closed', closed_for = 'turn_limit'")
    home.seed(
        "episodes", id="ep_2", task_id="ta_1", continues_id="ep_1", state="open", carry_over="The roaster is clean"
    )
    await home.take(
        [user(5, "And now the grinder, please."), agent(6, "The grinder is clean as well.")], episode_id="ep_2"
    )
    await home.close_window("ep_2")
    home.asks.add("reflection.batch", scores(0.0))
    await home.reflect(1, "ep_2")
    home.sql("UPDATE job_requests SET state = 'done'")
    home.asks.add("reward.r_human", verdict(1, 1, 1))
    await home.reward()
    assert [value for value, *_ in values(home)] == [pytest.approx(0.95), 1.0, 1.0]
    shown = json.loads(home.asks.asked[-1].text)
    assert shown == {
        "answer_in": "English",
        "task": f"{WHO}\nBefore: The roaster is clean\n1. User: Please clean the roaster before the evening.\n"
        "   Tools: ls\n   Agent: The roaster is clean, I used the brush.\n2. User: And now the grinder, please.\n"
        "   Agent: (shown apart)",
        "last_request": "And now the grinder, please.",
        "last_reply": "The grinder is clean as well.",
        "feedback": [],
    }


@pytest.mark.anyio
async def test_a_reward_waits_for_reflections_that_are_under_way(home: Home) -> None:
    """Some seconds at a time, five minutes at most; one that comes later hands the reward on anew, by no call."""
    home.sql("UPDATE tasks SET state = 'open', endings = 0")
    await home.take([user(5, "And now the grinder, please."), agent(6, "The grinder is clean as well.")])
    await home.close_window()
    await home.end_task()
    home.seed("job_requests", key="reward:ta_1:1", kind="reward", put_backs=0)
    with pytest.raises(JobDeferredError) as deferred:
        await home.reward()
    assert (deferred.value.until_ms, deferred.value.reason) == (
        home.clock.now_ms() + 5_000, "its steps are still reflected on",
    )  # fmt: skip
    home.sql("UPDATE job_requests SET put_backs = 60 WHERE kind = 'reward'")
    home.asks.add("reward.r_human", verdict(1, 1, 1))
    await home.reward()
    assert [value for value, *_ in values(home)] == [pytest.approx(0.95), 1.0, 1.0]

    home.sql("UPDATE traces SET alpha = 0 WHERE first_seq = 4")
    asked = len(home.asks.asked)
    home.asks.add("reflection.batch", scores(0.4))
    await home.reflect(2)
    assert [value for value, *_ in values(home)] == [pytest.approx(0.905), pytest.approx(0.9), 1.0]
    assert len(home.asks.asked) == asked + 1


@pytest.mark.parametrize("state", ["dead", "cancelled", "done"])
@pytest.mark.anyio
async def test_a_reflection_that_will_not_come_is_not_waited_for(home: Home, state: str) -> None:
    """Its job ended without it."""
    home.sql("UPDATE reflection_windows SET state = 'closed'")
    home.sql("UPDATE job_requests SET state = ?", state)
    home.asks.add("reward.r_human", verdict())
    assert (await home.reward())["source"] == "llm"


@pytest.mark.anyio
async def test_a_reward_waits_for_the_decision_where_a_task_ends(home: Home) -> None:
    """Nothing is learned of an episode that may still turn out to go on."""
    home.sql("UPDATE episodes SET provisional = 1")
    with pytest.raises(JobDeferredError, match="the task may not end here"):
        await home.reward()


@pytest.mark.anyio
async def test_a_task_of_no_weight_is_skipped_for_good(home: Home) -> None:
    """With a code for why; nobody is asked, then or later."""
    home.sql("UPDATE traces SET user_text = 'hi', agent_text = '', tool_calls = '[]'")
    home.sql("UPDATE traces SET agent_text = 'Hello!' WHERE first_seq = 4")
    assert await home.reward() == {"skipped": "too_short"}
    task = await home.task()
    assert (task.state, task.r_human, reward_of(home)) == (
        "skipped", None, {"skipped": "too_short", "at": home.clock.now_ms()},
    )  # fmt: skip
    assert await home.reward() == {"skipped": "skipped_for_good"}
    assert home.sql("SELECT outcome, reason FROM learning_trail WHERE stage = 'reward'") == [("skipped", "too_short")]
    assert not any(key.startswith("associate") for key in keys(home))


@pytest.mark.anyio
async def test_a_task_without_steps_is_skipped(home: Home) -> None:
    """There is nothing to judge."""
    home.sql("DELETE FROM traces")
    assert await home.reward() == {"skipped": "too_few_exchanges"}


@pytest.mark.parametrize(
    ("answer", "note"),
    [(verdict("good"), "refused"), (AnswerRefusedError("reward.r_human@1", "no JSON"), "refused")],
)
@pytest.mark.anyio
async def test_when_the_judge_cannot_be_understood_people_decide(home: Home, answer: Any, note: str) -> None:
    """By the signs of their feedback, of which faint words in messages do not count."""
    home.seed("feedback", id="fb_1", task_id="ta_1", polarity="positive", magnitude=1.0)
    home.seed("feedback", id="fb_2", task_id="ta_1", polarity="negative", magnitude=0.5, channel="implicit")
    home.seed("feedback", id="fb_3", task_id="ta_1", polarity="negative", magnitude=0.19, channel="implicit")
    home.asks.add("reward.r_human", answer)
    made = await home.reward()
    assert (made["r_human"], made["source"], made["note"]) == (pytest.approx(1 / 3), "heuristic", note)
    assert reward_of(home)["heard"] == ["fb_1", "fb_2"]
    assert reward_of(home)["trigger"] == "explicit_feedback"


@pytest.mark.anyio
async def test_without_a_judge_and_without_feedback_a_task_is_worth_nothing(home: Home) -> None:
    """Scored all the same, with no call."""
    home.asks = ScriptedAsks(available=False)
    assert await home.reward() == {"r_human": 0.0, "source": "heuristic", "traces": 2, "note": "no_model"}
    home.sql("UPDATE tasks SET state = 'ended', r_human = NULL, trace_set = NULL")
    home.set(llm_scoring=False)
    assert (await home.reward())["note"] == "switched_off"


@pytest.mark.anyio
async def test_axes_are_bounded(home: Home) -> None:
    """-1 to 1 each; what cannot be reckoned with counts 0; a label of no known kind is unknown."""
    home.asks.add("reward.r_human", verdict(9, "-3", float("nan"), label="great", reason=None))
    assert (await home.reward())["r_human"] == pytest.approx(0.45 - 0.3)
    assert (reward_of(home)["label"], reward_of(home)["reason"]) == ("unknown", "")


@pytest.mark.anyio
async def test_the_judge_hears_what_people_said(home: Home) -> None:
    """The newest ten, each shortened; it does not count twice."""
    for number in range(12):
        home.seed("feedback", id=f"fb_{number:02}", task_id="ta_1", at=T0 + number, polarity="negative", text="x" * 400)
    home.asks.add("reward.r_human", verdict(0.8, 0.8, 0.8))
    assert (await home.reward())["r_human"] == pytest.approx(0.8)
    heard = json.loads(home.asks.asked[-1].text)["feedback"]
    assert len(heard) == 10
    assert heard[0] == {"channel": "button", "polarity": "negative", "magnitude": 1.0, "text": "x" * 299 + "…"}


@pytest.mark.anyio
async def test_a_button_pressed_while_the_judge_thinks_counts(home: Home) -> None:
    """(0.8 - 1) / 2: read again in the transaction that writes the reward."""

    class Slow(ScriptedAsks):
        async def ask(self, question: Any, job: Any) -> Any:
            """People are faster."""
            home.seed("feedback", id="fb_1", task_id="ta_1", polarity="negative")
            return await super().ask(question, job)

    home.asks = Slow({"reward.r_human": [verdict(0.8, 0.8, 0.8)]})
    assert (await home.reward())["r_human"] == pytest.approx(-0.1)


@pytest.mark.anyio
async def test_a_reward_that_is_interrupted_leaves_nothing(home: Home) -> None:
    """A failed call, a task that went on meanwhile: not a row of it is written."""
    before = home.everything()
    home.asks.add("reward.r_human", UpstreamError("down"), verdict())
    with pytest.raises(UpstreamError):
        await home.reward()
    assert home.everything() == before

    class GoesOn(ScriptedAsks):
        async def ask(self, question: Any, job: Any) -> Any:
            """The user says more."""
            home.sql("UPDATE tasks SET state = 'open'")
            return await super().ask(question, job)

    home.asks = GoesOn({"reward.r_human": [verdict()]})
    assert await home.reward() == {"skipped": "went_on"}
    assert values(home) == [(0.0, 0.5, 0.5, None), (0.0, 1.0, 0.5, None)]
    assert not any(key.startswith(("associate", "trials")) for key in keys(home))


class Dying:
    """A database on which a process dies before it writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, work: Callable[[Transaction], Any]) -> Any:
        """As always."""
        return await self._database.read(work)

    async def write(self, work: Callable[[Transaction], Any]) -> Any:
        """Never."""
        raise KeyboardInterrupt


@pytest.mark.anyio
async def test_after_a_crash_the_same_answer_is_used(home: Home) -> None:
    """The process died between the call and the commit: the next run writes what the first one was told."""
    before = home.everything()
    home.asks.add("reward.r_human", verdict())
    alive = home.database
    home.database = Dying(alive)  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyboardInterrupt):
        await home.reward()
    home.database = alive
    assert home.everything() == before
    assert (await home.reward())["source"] == "llm"
    assert len([question for question in home.asks.asked if question.prompt.id.startswith("reward")]) == 1


@pytest.mark.anyio
async def test_other_modes_score_nothing(home: Home) -> None:
    """Nor does a task that is not there."""
    home.set(mode="lightweight")
    assert await home.reward() == {"skipped": "lightweight"}
    home.set(mode="full")
    home.sql("DELETE FROM tasks")
    assert await home.reward() == {"skipped": "no_task"}
