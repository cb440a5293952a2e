"""Decisions of a model about messages: in time, late, failing, and made again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import (
    AnswerRefusedError,
    JobDeferredError,
    JobHopelessError,
    UpstreamClosedError,
    UpstreamTimeoutError,
)
from reverie.jobs.request import Job
from reverie.learning.episodes.classification import RelationJob
from reverie.learning.episodes.decision import HiddenFeedback
from tests.integration.learning.episode_world import (
    ASK,
    FOLLOW_UP,
    NEW_TASK,
    UNSURE_NEW_TASK,
    WEAK,
    Asks,
    World,
    learning,
    opened,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.learning.asking.asks import Question

pytestmark = pytest.mark.anyio

CLASSIFY, ARBITRATE = "turn.classify", "turn.arbitrate"
OTHER = "Water all plants on Sunday"
"""Shares no word with what was said before: a weak new task."""
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


async def weak_second(world: World, text: str = WEAK) -> int:
    """A first exchange, and a second one that rules cannot tell about; the number of its message."""
    world.exchange(ASK, "The coffee report is compiled.")
    seq = world.exchange(text)
    await world.follow()
    return seq


async def test_a_message_stands_provisionally_until_the_model_says_where_it_belongs(tmp_path: Path) -> None:
    """What rules cannot tell is put by the default, and nothing is learned from it before the answer."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [FOLLOW_UP]})) as world:
        seq = await weak_second(world)
        assert world.routing(seq) == (
            "open_episode", "follow_up", "default", "no_signal", "append_to_open_episode", "", "provisional",
        )  # fmt: skip
        assert world.takes.seqs == {"s1": [1, 2]}
        assert world.hears.heard == []

        await world.run()
        assert world.routing(seq)[1:] == (
            "follow_up", "llm", "classified", "append_to_open_episode", "", "decided",
        )  # fmt: skip
        assert world.takes.seqs == {"s1": [1, 2, 3, 4]}
        assert len(world.hears.heard) == 1
        assert json.loads(world.asks.asked[0].text) == {
            "previous_user": ASK,
            "previous_reply": "The coffee report is compiled.",
            "minutes_between": 0,
            "message": WEAK,
        }


async def test_a_new_task_moves_what_was_said_since(tmp_path: Path) -> None:
    """A new task the model is sure of takes all that was said since along, follow-ups included."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [NEW_TASK]})) as world:
        seq = await weak_second(world)
        world.exchange("It needs a title")
        await world.follow()
        assert world.episodes_of() == [(1, 6, "first", None, 1, 6)]

        await world.run()
        assert world.episodes_of() == [(1, 2, "first", "topic", 1, 2), (3, 6, "topic", None, 2, 4)]
        assert world.routing(seq)[4] == "close_open_and_start_new_task"
        assert world.routing(5)[4] == "append_to_open_episode"
        assert len(world.jobs("reward")) == 1
        assert world.takes.seqs == {"s1": [1, 2, 3, 4, 5, 6]}
        first, second = [each for (each,) in world.rows("SELECT id FROM episodes ORDER BY opened_at, rowid")]
        assert set(world.takes.owners.values()) == {first, second}


async def test_a_weak_rule_is_gone_by_and_then_corrected(tmp_path: Path) -> None:
    """A weak new task begins an episode provisionally; a follow-up after all joins the two, and no reward was asked."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [FOLLOW_UP]})) as world:
        seq = await weak_second(world, OTHER)
        assert world.routing(seq)[3:] == ("r7", "close_open_and_start_new_task", "", "provisional")
        assert world.rows("SELECT state, provisional FROM episodes ORDER BY rowid") == [("closed", 1), ("open", 0)]

        await world.run()
        assert world.episodes_of() == [(1, 4, "first", None, 1, 4)]
        assert world.rows("SELECT count(*) FROM tasks") == [(1,)]
        assert world.jobs("reward") == []
        assert world.takes.ended == []


@pytest.mark.parametrize(
    ("verdict", "expected"), [("same", ("follow_up", "llm", "arbitrated")), ("new", ("new_task", "llm", "classified"))]
)
async def test_an_unsure_new_task_has_a_second_opinion(tmp_path: Path, verdict: str, expected: tuple[str, ...]) -> None:
    """A new task below 0.8 is arbitrated: who disagrees makes it a follow-up, who agrees confirms it."""
    asks = Asks({CLASSIFY: [UNSURE_NEW_TASK], ARBITRATE: [{"verdict": verdict, "confidence": 0.7}]})
    async with opened(tmp_path, asks=asks) as world:
        seq = await weak_second(world)
        await world.run()

        assert world.routing(seq)[1:4] == expected


async def test_a_second_opinion_that_fails_is_a_follow_up(tmp_path: Path) -> None:
    """When the arbiter fails the message is a follow-up, at 0.5."""
    asks = Asks({CLASSIFY: [UNSURE_NEW_TASK], ARBITRATE: [UpstreamClosedError("gone")]})
    async with opened(tmp_path, asks=asks) as world:
        seq = await weak_second(world)
        await world.run()

        assert world.routing(seq)[1:4] == ("follow_up", "llm", "arbitration_failed")


async def test_the_second_opinion_has_what_is_left_of_the_time(tmp_path: Path) -> None:
    """Both calls together have `classify_timeout_ms`; none gets more than is left."""

    class Slow(Asks):
        async def ask_now(self, question: Question[Any], job: Job, timeout_ms: int) -> Any:
            answer = await super().ask_now(question, job, timeout_ms)
            world.clock.advance(ms=3_200)
            return answer

    asks = Slow({CLASSIFY: [UNSURE_NEW_TASK], ARBITRATE: [{"verdict": "same"}]})
    async with opened(tmp_path, asks=asks) as world:
        await weak_second(world)
        await world.run()

        assert asks.timeouts_ms == [5_000, 1_800]


@pytest.mark.parametrize("error", [TimeoutError(), UpstreamTimeoutError("late")])
async def test_a_late_answer_is_a_new_task(tmp_path: Path, error: Exception) -> None:
    """What is not said in time is a new task, provisionally: nothing is learned, and it is to be decided again."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [error]})) as world:
        seq = await weak_second(world)
        await world.run()

        assert world.routing(seq) == (
            "open_episode", "new_task", "timeout", "classify_timeout", "close_open_and_start_new_task", "",
            "provisional",
        )  # fmt: skip
        assert world.value("SELECT confidence FROM routings WHERE seq = ?", seq) == 0
        assert world.episodes_of() == [
            (1, 2, "first", "classify_timeout", 1, 2),
            (3, 4, "classify_timeout", None, 2, 2),
        ]
        assert world.value("SELECT provisional FROM episodes WHERE state = 'closed'") == 1
        assert world.jobs("redecide") == [f"redecide:s1:{seq}:1"]
        assert (world.jobs("reward"), world.takes.ended, world.takes.seqs) == ([], [], {"s1": [1, 2]})


async def test_an_answer_after_the_deadline_changes_nothing(tmp_path: Path) -> None:
    """The call is given up at the deadline; the same job run once more finds its decision made."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [TimeoutError(), FOLLOW_UP]})) as world:
        seq = await weak_second(world)
        await world.run()
        late = world.dump()
        handler = RelationJob(world.database, world.clock, world.episodes, world.asks)
        result = await handler.handle(Job("again", "classify", "interactive", {"session_id": "s1", "seq": seq}))

        assert result == {"skipped": "decided"}
        assert world.dump() == late


async def test_deciding_again_joins_two_episodes(tmp_path: Path) -> None:
    """A follow-up after all joins the episodes before anything was learned; the correction is a row of its own."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [TimeoutError(), FOLLOW_UP]})) as world:
        seq = await weak_second(world)
        await world.run()
        world.clock.advance(seconds=60)
        assert await world.run() == [{"decided": "follow_up"}]

        assert world.episodes_of() == [(1, 4, "first", None, 1, 4)]
        assert world.rows(
            "SELECT relation, classified_by, action, state, corrects IS NOT NULL FROM routings WHERE seq = ?"
            " ORDER BY id",
            seq,
        ) == [
            ("new_task", "timeout", "close_open_and_start_new_task", "superseded", 0),
            ("follow_up", "llm", "append_to_open_episode", "decided", 1),
        ]
        assert (world.jobs("reward"), world.takes.seqs) == ([], {"s1": [1, 2, 3, 4]})


async def test_deciding_again_confirms_a_boundary(tmp_path: Path) -> None:
    """When it was a new task the boundary holds, and the first task is scored."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [TimeoutError(), NEW_TASK]})) as world:
        seq = await weak_second(world)
        await world.run()
        world.clock.advance(seconds=60)
        await world.run()

        assert world.routing(seq)[1:] == (
            "new_task", "llm", "classified", "close_open_and_start_new_task", "", "decided",
        )  # fmt: skip
        assert (len(world.jobs("reward")), len(world.takes.ended)) == (1, 1)


async def test_a_boundary_stands_when_the_attempts_run_out(tmp_path: Path) -> None:
    """A message is looked at again a bounded number of times, ever later; then learning goes on."""
    async with opened(tmp_path, asks=Asks({})) as world:
        world.asks.late = True
        seq = await weak_second(world)
        await world.run()
        for wait_s in (60, 240, 960):
            assert world.jobs("reward") == []
            world.clock.advance(seconds=wait_s - 1)
            assert await world.run() == []
            world.clock.advance(seconds=1)
            await world.run()

        assert world.jobs("redecide") == [f"redecide:s1:{seq}:{n}" for n in (1, 2, 3)]
        assert world.routing(seq)[1:] == (
            "new_task", "timeout", "classify_timeout", "close_open_and_start_new_task", "", "decided",
        )  # fmt: skip
        assert world.rows("SELECT provisional FROM episodes") == [(0,), (0,)]
        assert len(world.jobs("reward")) == 1


async def test_without_attempts_a_late_boundary_stands_at_once(tmp_path: Path) -> None:
    """With `redecide_attempts_max` 0 a late decision is final."""
    async with opened(tmp_path, learning(redecide_attempts_max=0), Asks({CLASSIFY: [TimeoutError()]})) as world:
        seq = await weak_second(world)
        await world.run()

        assert (world.routing(seq)[6], world.jobs("redecide"), len(world.jobs("reward"))) == ("decided", [], 1)


async def test_a_deferred_decision_is_waited_for_an_hour_and_no_longer(tmp_path: Path) -> None:
    """Where the budget or the server says later, a message is waited for up to an hour; then learning goes on."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [TimeoutError()]})) as world:
        began_ms = world.clock.now_ms()
        seq = await weak_second(world)
        await world.run()
        world.clock.advance(seconds=60)
        world.asks.add(CLASSIFY, JobDeferredError(began_ms + HOUR_MS, "learning.budget.calls_hour"))
        world.asks.add(CLASSIFY, JobDeferredError(began_ms + DAY_MS, "learning.budget.kinds.redecide"))
        with pytest.raises(JobDeferredError):
            await world.run()
        assert (world.routing(seq)[6], world.jobs("reward")) == ("provisional", [])
        world.clock.advance(ms=HOUR_MS - 60_000)
        assert await world.run("redecide") == [{"decided": "boundary_stands"}]

        assert world.routing(seq)[1:] == (
            "new_task", "timeout", "classify_timeout", "close_open_and_start_new_task", "", "decided",
        )  # fmt: skip
        assert world.takes.seqs == {"s1": [1, 2, 3, 4]}
        assert len(world.jobs("reward")) == 1
        assert world.rows("SELECT outcome, reason FROM learning_trail WHERE stage = 'redecide' ORDER BY id DESC") == [
            ("skipped", "deferred_too_long"), ("deferred", "decided_again_later"),
        ]  # fmt: skip


async def test_a_server_that_is_always_late_causes_no_reward(tmp_path: Path) -> None:
    """Fifty messages in a row, all decided late: fifty provisional boundaries, and nothing is learned."""
    async with opened(tmp_path, asks=Asks({})) as world:
        world.asks.late = True
        for _ in range(51):
            world.exchange(WEAK)
            await world.follow()
            await world.run()
            world.clock.advance(seconds=5)

        assert world.jobs("reward") == []
        assert len(world.episodes_of()) == 51
        assert world.takes.seqs == {"s1": [1, 2]}


@pytest.mark.parametrize(
    "error",
    [
        UpstreamClosedError("gone"),
        AnswerRefusedError("turn.classify@1", "no"),
        JobDeferredError(1, "calls_day"),
        JobHopelessError("no model"),
    ],
)
async def test_without_an_answer_the_rules_stand(tmp_path: Path, error: Exception) -> None:
    """A model that fails, or may not be asked, leaves what was put by rules."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [error]})) as world:
        seq = await weak_second(world)
        await world.run()

        assert world.routing(seq)[1:] == (
            "follow_up", "default", "no_signal", "append_to_open_episode", "", "decided",
        )  # fmt: skip
        assert world.takes.seqs == {"s1": [1, 2, 3, 4]}


async def test_without_a_model_the_rules_decide_at_once(tmp_path: Path) -> None:
    """Where there is no model nothing is provisional, and no job is asked for."""
    async with opened(tmp_path) as world:
        seq = await weak_second(world)

        assert world.routing(seq)[6] == "decided"
        assert world.jobs("classify") == []


async def test_intent_and_hidden_feedback_come_with_the_same_answer(tmp_path: Path) -> None:
    """One call refines the intent and tells what the message says of the last reply."""
    answer = {
        "relation": "revision", "relation_confidence": 0.9, "intent": "task", "intent_confidence": 7,
        "feedback": "negative", "feedback_magnitude": 0.6, "feedback_confidence": 0.7,
    }  # fmt: skip
    async with opened(tmp_path, asks=Asks({CLASSIFY: [answer]})) as world:
        seq = await weak_second(world)
        await world.run()

        assert len(world.asks.asked) == 1
        assert json.loads(world.value("SELECT intent FROM routings WHERE seq = ?", seq)) == {
            "kind": "task", "confidence": 1.0, "reason": "classified", "by": "llm",
        }  # fmt: skip
        assert world.hears.heard[0][2] == HiddenFeedback("negative", 0.6, 0.7)


async def test_a_message_that_nobody_decides_on_stays_where_it_is(tmp_path: Path) -> None:
    """When its job is dead a message stands after an hour, so that learning goes on."""
    async with opened(tmp_path, asks=Asks({})) as world:
        await weak_second(world)
        world.clock.advance(ms=DAY_MS)
        await world.idle()
        assert world.takes.seqs == {"s1": [1, 2]}
        world.change("UPDATE job_requests SET state = 'dead'")
        await world.idle()

        assert world.takes.seqs == {"s1": [1, 2, 3, 4]}
        assert len(world.jobs("reward")) == 1


async def test_a_split_moves_with_its_message(tmp_path: Path) -> None:
    """An exchange that a limit split is split within its own task when its message turns out to be a new one."""
    async with opened(tmp_path, learning(max_turns_per_episode=5), Asks({CLASSIFY: [NEW_TASK]})) as world:
        world.exchange(ASK, "The coffee report is compiled.")
        world.exchange(WEAK, tools=4)
        await world.follow()
        assert {row[4] for row in world.episodes_of()} == {1}
        await world.run()

        assert world.episodes_of() == [
            (1, 2, "first", "topic", 1, 2),
            (3, 7, "topic", "turn_limit", 2, 5),
            (8, 12, "turn_limit", None, 2, 5),
        ]


async def test_the_trail_tells_of_the_limits_that_hold(tmp_path: Path) -> None:
    """However often messages are put again, each episode that a limit ended has one note of it, and no other any."""
    limits = (
        "SELECT episodes.id, closed_for FROM episode_spans JOIN episodes ON episodes.id = episode_id"
        " WHERE closed_for = 'turn_limit' ORDER BY first_seq"
    )
    notes = "SELECT episode_id, reason FROM learning_trail WHERE stage = 'limit' ORDER BY id"
    answers = Asks({CLASSIFY: [FOLLOW_UP, NEW_TASK, NEW_TASK]})
    async with opened(tmp_path, learning(max_turns_per_episode=5), answers) as world:
        world.exchange(ASK, tools=3)
        for tools in (4, 3, 5):
            world.exchange(WEAK, tools=tools)
            await world.follow()
        assert len(world.rows(limits)) == 8
        assert world.rows(notes) == world.rows(limits)
        await world.run("classify")

        assert len(world.rows(limits)) == 6
        assert world.rows(notes) == world.rows(limits)


async def test_an_episode_that_became_idle_meanwhile_stays_closed(tmp_path: Path) -> None:
    """A decision that comes after the pause moves what was said; what was closed is closed, and now it is finished."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [NEW_TASK]})) as world:
        await weak_second(world)
        world.clock.advance(seconds=1_900)
        await world.idle()
        assert world.jobs("reward") == []
        await world.run()

        assert world.episodes_of() == [(1, 2, "first", "topic", 1, 2), (3, 4, "topic", "idle", 2, 2)]
        assert world.rows("SELECT ended_for FROM tasks ORDER BY rowid") == [("topic",), ("idle",)]
        assert len(world.jobs("reward")) == 2


async def test_a_decision_that_comes_after_very_much_was_said_changes_nothing(tmp_path: Path) -> None:
    """More than two hundred messages are not moved any more; the trail says so."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [NEW_TASK]})) as world:
        world.exchange(ASK)
        seq = world.exchange(WEAK, tools=220)
        await world.follow()
        before = world.episodes_of()
        await world.run()

        assert world.episodes_of() == before
        assert world.routing(seq)[4:] == ("append_to_open_episode", "", "decided")
        assert world.rows("SELECT reason FROM learning_trail WHERE stage = 'classify'") == [
            ("too_much_was_said_since",)
        ]
        assert world.takes.seqs["s1"] == list(range(1, 445))


async def test_an_undecided_message_of_a_closed_episode_leaves_it_closed(tmp_path: Path) -> None:
    """A message that went on with a closed episode provisionally, and is a new task, leaves it as closed as it was."""
    async with opened(tmp_path, asks=Asks({CLASSIFY: [NEW_TASK]})) as world:
        world.exchange(ASK, "The coffee report is compiled.")
        await world.follow()
        world.clock.advance(seconds=1_801)
        await world.idle()
        seq = world.exchange("The coffee report deserves another table, then")
        await world.follow()
        assert world.routing(seq)[0::4] == ("closed_episode", "reopen_previous_episode")
        await world.run()

        assert world.episodes_of() == [(1, 2, "first", "idle", 1, 2), (3, 4, "topic", None, 2, 2)]
        assert world.rows("SELECT state, endings FROM tasks ORDER BY rowid") == [("ended", 2), ("open", 0)]


async def test_a_message_that_is_moved_takes_its_trust_along(tmp_path: Path) -> None:
    """A task is as trusted as those who asked for what is left of it, in all its episodes."""
    async with opened(tmp_path, learning(max_turns_per_episode=5), Asks({CLASSIFY: [NEW_TASK] * 3})) as world:
        trust = "SELECT provenance FROM tasks ORDER BY rowid"
        world.exchange(ASK)
        await world.follow()
        world.say(WEAK, whose="untrusted")
        world.say("Here it is.", "assistant")
        await world.follow()
        assert world.rows(trust) == [("untrusted",)]
        await world.run("classify")
        assert world.rows(trust) == [("owner",), ("untrusted",)]

        world.exchange("It needs a title")
        world.exchange("And the prices?")
        await world.follow()
        world.say("The coffee report deserves prices in a second table", whose="system")
        world.say("The coffee report deserves prices in a third table")
        await world.follow()
        await world.run("classify")
        assert world.rows(trust) == [("owner",), ("untrusted",), ("owner",)]
