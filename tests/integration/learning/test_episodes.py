"""Episodes on a real database: every guard at every site, splitting within an exchange, sessions that end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.errors import StorageFullError
from reverie.learning.episodes.entries import entry_of
from reverie.learning.steps.capture import Capture
from tests.integration.learning.episode_world import ASK, NEW_TASK, WEAK, Asks, Takes, learning, opened

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

FOLLOWS = "It needs a title"
HOUR_MS = 3_600_000


async def test_a_follow_up_is_appended_at_29_entries_and_not_at_30(tmp_path: Path) -> None:
    """At 29 entries a follow-up is appended, at 30 it begins an episode that continues the task, by the limit."""
    async with opened(tmp_path) as world:
        world.exchange(ASK, tools=13)
        world.say("Half of it.", "assistant")
        appended = world.say(FOLLOWS)
        full = world.say(FOLLOWS)
        await world.follow()

        assert world.routing(appended)[4:] == ("append_to_open_episode", "", "decided")
        assert world.routing(full) == (
            "open_episode", "follow_up", "rule", "r3_en", "close_open_and_start_new_episode", "turn_limit", "decided",
        )  # fmt: skip
        assert world.episodes_of() == [(1, 30, "first", "turn_limit", 1, 30), (31, 31, "turn_limit", None, 1, 1)]
        assert world.rows(
            "SELECT stage, reason, json_extract(detail, '$.source'), json_extract(detail, '$.turns')"
            " FROM learning_trail WHERE stage = 'limit'"
        ) == [("limit", "turn_limit", "open_episode", 30)]


async def test_a_new_task_at_a_full_episode_is_a_new_task(tmp_path: Path) -> None:
    """A full episode is no reason to go on with its task when the message begins another one."""
    async with opened(tmp_path, learning(max_turns_per_episode=5)) as world:
        world.exchange(ASK, tools=1)
        world.say("And more.", "assistant")
        seq = world.say("New task: water the plants")
        await world.follow()

        assert world.routing(seq)[4:6] == ("close_open_and_start_new_task", "")
        assert world.episodes_of() == [(1, 5, "first", "topic", 1, 5), (6, 6, "topic", None, 2, 1)]


async def test_a_full_episode_is_not_appended_to_after_a_restart(tmp_path: Path) -> None:
    """An episode that was open when the process began takes nothing beyond its limit either."""
    async with opened(tmp_path, learning(max_turns_per_episode=5)) as world:
        world.exchange(ASK, tools=1)
        await world.follow()
        world.restart()
        kept = world.say(FOLLOWS)
        await world.follow()
        world.restart()
        forced = world.say(FOLLOWS)
        await world.follow()

        assert world.routing(kept)[0::4] == ("recovered_open_topic", "append_to_open_episode")
        assert world.routing(forced)[0] == "recovered_open_topic"
        assert world.routing(forced)[4:6] == ("close_open_and_start_new_episode", "turn_limit")


async def test_a_closed_episode_is_gone_on_with_unless_it_is_full(tmp_path: Path) -> None:
    """A follow-up opens a closed episode again; a full one is continued by another, and the row says so."""
    async with opened(tmp_path, learning(max_turns_per_episode=5)) as world:
        world.exchange(ASK, tools=1)
        await world.follow()
        world.clock.advance(ms=HOUR_MS)
        await world.idle()
        assert world.episodes_of() == [(1, 4, "first", "idle", 1, 4)]
        reopened = world.say(FOLLOWS)
        await world.follow()
        world.clock.advance(ms=HOUR_MS)
        await world.idle()
        forced = world.say(FOLLOWS)
        await world.follow()

        assert world.routing(reopened)[0::4] == ("closed_episode", "reopen_previous_episode")
        assert world.routing(forced) == (
            "closed_episode", "follow_up", "rule", "r3_en", "start_new_episode", "turn_limit", "decided",
        )  # fmt: skip
        assert world.episodes_of() == [(1, 5, "first", "idle", 1, 5), (6, 6, "turn_limit", None, 1, 1)]
        task_id = world.value("SELECT id FROM tasks")
        assert world.jobs("reward") == [f"reward:{task_id}:{n}" for n in (1, 2)]
        assert world.rows("SELECT state, endings FROM tasks") == [("open", 2)]


async def test_a_task_that_goes_on_keeps_its_score(tmp_path: Path) -> None:
    """What a task was scored stands until it is scored anew."""
    async with opened(tmp_path) as world:
        world.exchange(ASK)
        await world.follow()
        world.clock.advance(ms=HOUR_MS)
        await world.idle()
        world.change("UPDATE tasks SET state = 'scored', r_human = 0.5")
        world.say(FOLLOWS)
        await world.follow()

        assert world.rows("SELECT state, r_human, endings, ended_at FROM tasks") == [("open", 0.5, 1, None)]


@pytest.mark.parametrize("late", [False, True])
async def test_a_task_of_no_worth_is_not_gone_on_with(tmp_path: Path, *, late: bool) -> None:
    """A task that was skipped stays skipped, also when a reply comes late; what follows it up is a task of its own."""
    async with opened(tmp_path) as world:
        world.say("Hi")
        world.say("Hello.", "assistant")
        await world.follow()
        world.clock.advance(ms=HOUR_MS)
        await world.idle()
        world.change("UPDATE tasks SET state = 'skipped', reward = '{\"skipped\": \"too_short\"}'")
        if late:
            world.say("Still there.", "assistant")
            await world.follow()
        seq = world.exchange(FOLLOWS)
        world.end_session()
        await world.follow()

        site, action = ("open_episode", "close_open_and_start_new_task") if late else (
            "closed_episode", "start_new_task_episode")  # fmt: skip
        assert world.routing(seq)[0::4] == (site, action)
        assert world.value("SELECT reason FROM routings WHERE seq = ?", seq) == "task_of_no_worth"
        assert [row[2:5] for row in world.episodes_of()] == [
            ("first", "topic" if late else "idle", 1), ("topic", "session_end", 2),
        ]  # fmt: skip
        assert world.rows("SELECT state, endings FROM tasks ORDER BY started_at") == [("skipped", 1), ("ended", 1)]
        assert len(world.jobs("reward")) == 2


async def test_a_task_that_a_person_put_aside_is_gone_on_with(tmp_path: Path) -> None:
    """It is the person's to take back: what follows it up is part of it, and is put aside with it."""
    async with opened(tmp_path) as world:
        world.exchange(ASK)
        await world.follow()
        world.clock.advance(ms=HOUR_MS)
        await world.idle()
        aside = '{"skipped": true, "reason": "archived_by_person"}'
        world.change("UPDATE tasks SET state = 'skipped', archived_at = 1, reward = ?", aside)
        seq = world.exchange(FOLLOWS)
        await world.follow()
        assert world.routing(seq)[4] == "reopen_previous_episode"
        world.end_session()
        await world.follow()

        assert world.rows("SELECT state, endings, reward FROM tasks") == [("skipped", 2, aside)]


async def test_a_revision_opens_a_closed_episode_beyond_the_merge_window(tmp_path: Path) -> None:
    """A follow-up after the merge window is a task of its own, a revision is not."""
    async with opened(tmp_path, learning(merge_max_gap_ms=60_000, idle_minutes=1)) as world:
        world.exchange(ASK)
        await world.follow()
        for text, action in (("Wrong, redo it", "reopen_previous_episode"), (FOLLOWS, "start_new_task_episode")):
            world.clock.advance(ms=600_000)
            await world.idle()
            seq = world.say(text)
            await world.follow()
            assert world.routing(seq)[4] == action


@pytest.mark.parametrize(
    ("merge_ms", "action"),
    [
        (0, "reopen_previous_episode"),
        (24 * HOUR_MS, "reopen_previous_episode"),
        (2 * HOUR_MS, "start_new_task_episode"),
        (60_000, "start_new_task_episode"),
    ],
)
async def test_messages_are_merged_over_the_pause_that_is_set(tmp_path: Path, merge_ms: int, action: str) -> None:
    """Three hours later a follow-up goes on where the merge window is longer, or none; a correction always does."""
    async with opened(tmp_path, learning(merge_max_gap_ms=merge_ms)) as world:
        world.exchange(ASK)
        await world.follow()
        for text, done in ((FOLLOWS, action), ("No, that's wrong", "reopen_previous_episode")):
            world.clock.advance(ms=3 * HOUR_MS)
            await world.idle()
            seq = world.exchange(text)
            await world.follow()
            assert world.routing(seq)[4] == done


async def test_each_message_is_a_task_where_that_is_wanted(tmp_path: Path) -> None:
    """With `episode_per_turn` each message is a task of its own, but for a revision."""
    async with opened(tmp_path, learning(follow_up_mode="episode_per_turn")) as world:
        world.exchange(ASK)
        follow = world.exchange(FOLLOWS)
        revision = world.exchange("No, that's wrong")
        await world.follow()

        assert world.routing(follow)[4] == "close_open_and_start_new_task"
        assert world.routing(revision)[4] == "append_to_open_episode"
        assert [row[4] for row in world.episodes_of()] == [1, 2]


async def test_one_exchange_with_300_tool_calls_is_split(tmp_path: Path) -> None:
    """An exchange with 300 rounds of a tool is cut into episodes of one task, never between a call and its result."""
    async with opened(tmp_path) as world:
        world.exchange(ASK, tools=300)
        await world.follow()

        episodes = world.episodes_of()
        assert max(row[5] for row in episodes) <= 30
        assert {row[2] for row in episodes} == {"first", "turn_limit"}
        assert {row[4] for row in episodes} == {1}
        assert sum(row[5] for row in episodes) == 602
        roles = {row[0]: world.value("SELECT role FROM messages WHERE seq = ?", row[0]) for row in episodes}
        assert set(roles.values()) == {"user", "assistant"}
        chain = world.rows("SELECT continues_id, id FROM episodes ORDER BY opened_at, rowid")
        assert [before for before, _ in chain] == [None, *[each for _, each in chain[:-1]]]
        assert world.value("SELECT carry_over FROM episodes ORDER BY rowid DESC LIMIT 1").startswith(
            f"Began with: {ASK}"
        )
        assert sorted(world.takes.seqs["s1"]) == list(range(1, 603))
        assert len(world.takes.ended) == len(episodes) - 1
        assert world.jobs("reward") == []


@pytest.mark.parametrize(
    ("limit", "settings"),
    [("step_limit", {"max_steps_per_episode": 5}), ("token_limit", {"max_tokens_per_episode": 1000})],
)
async def test_steps_and_tokens_are_limited_within_an_exchange(
    tmp_path: Path, limit: str, settings: dict[str, int]
) -> None:
    """The limits by steps and by tokens cut an exchange, too, and say that they did."""
    async with opened(tmp_path, learning(max_turns_per_episode=200, **settings)) as world:
        world.say(ASK)
        for number in range(20):
            world.say("Looking. " * 40, "assistant", calls=[f"c{number}"])
            world.say("Found. " * 20, "tool", call=f"c{number}")
        await world.follow()

        assert {row[2] for row in world.episodes_of()} == {"first", limit}
        held = world.rows("SELECT steps, tokens FROM episodes")
        assert max(steps for steps, _ in held) <= (5 if limit == "step_limit" else 60)
        assert max(tokens for _, tokens in held) <= (1_100 if limit == "token_limit" else 32_000)


async def test_a_group_larger_than_an_episode_stays_whole(tmp_path: Path) -> None:
    """One message with more calls than an episode has room for is an episode of its own, with all its results."""
    async with opened(tmp_path, learning(max_turns_per_episode=5)) as world:
        world.say(ASK)
        world.say("", "assistant", calls=[f"c{number}" for number in range(8)])
        for number in range(8):
            world.say("result", "tool", call=f"c{number}")
        world.say("Done.", "assistant")
        await world.follow()

        assert world.episodes_of() == [
            (1, 1, "first", "turn_limit", 1, 1),
            (2, 10, "turn_limit", "turn_limit", 1, 9),
            (11, 11, "turn_limit", None, 1, 1),
        ]


async def test_an_episode_counted_again_holds_what_it_held(tmp_path: Path) -> None:
    """What is counted from the transcript is what was counted as it was said."""
    async with opened(tmp_path) as world:
        world.exchange(ASK, tools=4)
        world.exchange(FOLLOWS, tools=2)
        await world.follow()

        ((episode_id, *live),) = world.rows("SELECT id, entries, exchanges, steps, tokens FROM episodes")
        rows = await world.database.read(lambda tx: tx.rows("messages_of_episode", episode_id=episode_id, limit=100))
        entries = [entry_of(row) for row in rows]
        assert live == [
            len(entries),
            sum(entry.message.role == "user" for entry in entries),
            sum(entry.load.steps for entry in entries),
            sum(entry.tokens for entry in entries),
        ]


async def test_a_session_that_ends_ends_its_task(tmp_path: Path) -> None:
    """With a session its episode and its task end, once, and the score is asked for after the feedback window."""
    async with opened(tmp_path) as world:
        world.exchange(ASK)
        world.end_session()
        await world.follow()
        await world.follow()

        task_id = world.value("SELECT id FROM tasks")
        assert world.episodes_of() == [(1, 2, "first", "session_end", 1, 2)]
        assert world.rows("SELECT state, ended_for, endings FROM tasks") == [("ended", "session_end", 1)]
        assert world.rows("SELECT key, lane, not_before FROM job_requests") == [
            (f"reward:{task_id}:1", "background", world.clock.now_ms() + 30_000)
        ]
        assert len(world.takes.ended) == 1


async def test_nothing_of_the_past_is_learned_on_the_first_start(tmp_path: Path) -> None:
    """On the first start reading begins at the newest message; imports are passed over at any time."""
    async with opened(tmp_path) as world:
        world.change("DELETE FROM learning_cursors")
        for _ in range(20):
            world.exchange(ASK)
        await world.recover()
        await world.follow()
        assert world.episodes_of() == []

        world.exchange(ASK, session="s2")
        world.change("UPDATE sessions SET origin = 'import' WHERE id = 's2'")
        world.exchange(FOLLOWS)
        await world.follow()
        assert world.episodes_of("s2") == []
        assert world.episodes_of() == [(41, 42, "first", None, 1, 2)]


async def test_words_that_quote_memory_or_were_forgotten_are_not_read(tmp_path: Path) -> None:
    """A message that is not to be remembered counts, and says nothing."""
    async with opened(tmp_path) as world:
        world.say("My secret plan", remember=False)
        world.say("Fine.", "assistant")
        await world.follow()

        assert world.rows("SELECT entries, title FROM episodes") == [(2, "")]


async def test_ten_restarts_add_nothing(tmp_path: Path) -> None:
    """What ended while no process ran is finished by the next one, and never again."""
    async with opened(tmp_path) as world:
        world.exchange(ASK)
        world.exchange(ASK, session="s2")
        await world.follow()
        world.clock.advance(ms=5 * HOUR_MS)
        world.restart()
        await world.recover()
        assert world.episodes_of() == [(1, 2, "first", "missed_session_end", 1, 2)]
        once = world.dump()
        for _ in range(10):
            world.restart()
            await world.recover()
            await world.follow()
            await world.idle()

        assert world.dump() == once
        assert len(world.jobs("reward")) == 2


async def test_the_first_message_after_a_long_stop_closes_what_was_open(tmp_path: Path) -> None:
    """A message that was said before its process recovered closes the old episode as timed out, and is a new task."""
    async with opened(tmp_path) as world:
        world.exchange(ASK)
        await world.follow()
        world.clock.advance(ms=5 * HOUR_MS)
        seq = world.say(FOLLOWS)
        world.restart()
        await world.recover()
        await world.follow()

        assert world.routing(seq)[0::4] == ("recovered_open_topic", "close_open_and_start_new_task")
        assert [row[3] for row in world.episodes_of()] == ["hard_timeout_before_new_turn", None]


async def test_a_late_reply_opens_its_episode_again(tmp_path: Path) -> None:
    """A reply that comes after its episode was closed belongs to it."""
    async with opened(tmp_path) as world:
        world.say(ASK)
        await world.follow()
        world.clock.advance(ms=HOUR_MS)
        await world.idle()
        world.say("At last.", "assistant")
        await world.follow()

        assert world.episodes_of() == [(1, 2, "first", None, 1, 2)]


@pytest.mark.parametrize("site", ["open_episode", "recovered_open_topic", "closed_episode"])
async def test_a_reply_at_a_full_episode_tells_where_it_came(tmp_path: Path, site: str) -> None:
    """The trail names the site at which a reply found its episode full: followed, found open, or closed."""
    async with opened(tmp_path, learning(max_turns_per_episode=5)) as world:
        for _ in range(2):
            world.exchange(ASK)
        world.say(FOLLOWS)
        await world.follow()
        if site == "recovered_open_topic":
            world.restart()
        if site == "closed_episode":
            world.clock.advance(ms=HOUR_MS)
            await world.idle()
        world.say("At last.", "assistant")
        await world.follow()

        assert world.rows("SELECT detail ->> 'source' FROM learning_trail WHERE stage = 'limit'") == [(site,)]
        assert [row[:3] for row in world.episodes_of()] == [(1, 5, "first"), (6, 6, "turn_limit")]


async def test_a_turn_on_its_way_keeps_its_episode_open(tmp_path: Path) -> None:
    """An episode is not idle while a turn of its session runs, or while words of it were not read."""
    async with opened(tmp_path) as world:
        world.exchange(ASK)
        world.exchange(ASK, session="s2")
        await world.follow()
        world.change(
            "INSERT INTO turns (id, session_id, position, state, request, accepted_at)"
            " VALUES ('t1', 's1', 1, 'running', '{}', 0)"
        )
        world.clock.advance(ms=HOUR_MS)
        world.say(FOLLOWS, session="s2")
        await world.idle()

        assert [row[3] for session in ("s1", "s2") for row in world.episodes_of(session)] == [None, None]


async def test_history_that_is_brought_along_asks_no_model(tmp_path: Path) -> None:
    """Of the messages that one request brings only the newest is asked about."""
    async with opened(tmp_path, asks=Asks({})) as world:
        for text in (ASK, WEAK, WEAK):
            world.say(text, turn="t1")
            world.say("The coffee report is written.", "assistant")
        await world.follow()

        assert world.jobs("classify") == ["classify:s1:5"]


async def test_lightweight_asks_for_nothing(tmp_path: Path) -> None:
    """In the lightweight mode messages are put by rules, steps are taken, and no job is asked for."""
    config = learning().model_copy(update={"mode": "lightweight"})
    async with opened(tmp_path, config, Asks({})) as world:
        world.exchange(ASK)
        world.exchange(WEAK)
        world.end_session()
        await world.follow()

        assert world.rows("SELECT key FROM job_requests") == []
        assert world.takes.seqs == {"s1": [1, 2, 3, 4]}
        assert world.hears.heard == []
        assert world.rows("SELECT reason FROM learning_trail") == [("lightweight",)]


async def test_feedback_is_looked_for_in_the_reply_before(tmp_path: Path) -> None:
    """A message is heard with the episode that holds the reply it may speak of, once."""
    async with opened(tmp_path) as world:
        world.exchange(ASK)
        world.exchange("New task: water the plants")
        await world.follow()
        await world.follow()

        first = world.value("SELECT id FROM episodes ORDER BY rowid LIMIT 1")
        assert world.hears.heard == [("New task: water the plants", first, None)]


async def test_a_page_that_fails_is_read_again(tmp_path: Path) -> None:
    """A page and its position are one transaction: when the disk is full in the middle nothing has happened."""

    class Failing(Takes):
        def take(self, *_: Any, **__: Any) -> Any:
            raise apsw.FullError("in the middle of it")

    async with opened(tmp_path) as world:
        world.exchange(ASK)
        before = world.dump()
        takes, world.takes = world.takes, Failing()
        world.restart()
        with pytest.raises(StorageFullError):
            await world.follow()
        assert world.dump() == before

        world.takes = takes
        world.restart()
        await world.follow()
        assert world.episodes_of() == [(1, 2, "first", None, 1, 2)]
        assert world.takes.seqs == {"s1": [1, 2]}


async def test_what_was_said_while_learning_was_off_is_passed_over(tmp_path: Path) -> None:
    """Learning that is switched on again begins with what is said from then on."""
    async with opened(tmp_path) as world:
        world.config = world.config.model_copy(update={"mode": "off"})
        world.restart()
        await world.recover()
        world.exchange(ASK)
        assert await world.follower.follow() is False
        assert await world.follower.close_idle() is False
        world.config = world.config.model_copy(update={"mode": "full"})
        world.restart()
        await world.recover()
        world.exchange(ASK)
        await world.follow()

        assert world.episodes_of() == [(3, 4, "first", None, 1, 2)]


async def test_what_programs_say_is_put_by_rules_alone(tmp_path: Path) -> None:
    """A message that a program sent asks no model about itself."""
    async with opened(tmp_path, asks=Asks({})) as world:
        world.exchange(ASK)
        seq = world.exchange(WEAK)
        world.change("UPDATE messages SET provenance = 'system' WHERE seq = ?", seq)
        await world.follow()

        assert (world.jobs("classify"), world.routing(seq)[6]) == ([], "decided")


async def test_many_sessions_that_end_at_once_are_ended_piece_by_piece(tmp_path: Path) -> None:
    """Forty sessions end: each once, in bounded transactions."""
    async with opened(tmp_path) as world:
        for number in range(40):
            world.exchange(ASK, session=f"s{number}")
        await world.follow()
        for number in range(40):
            world.end_session(f"s{number}")
        await world.follow()

        assert world.rows("SELECT state, ended_for, count(*) FROM tasks GROUP BY 1, 2") == [
            ("ended", "session_end", 40)
        ]
        assert len(world.jobs("reward")) == 40


async def test_many_episodes_whose_end_is_decided_at_once_are_all_finished(tmp_path: Path) -> None:
    """Eighty ends that waited for one decision are settled by the next look, in bounded transactions."""
    async with opened(tmp_path, asks=Asks({"turn.classify": [NEW_TASK]})) as world:
        world.exchange(ASK)
        await world.follow()
        world.exchange(WEAK)
        for number in range(80):
            world.exchange(f"New task: water plant {number}")
        world.end_session()
        await world.follow()
        assert world.rows("SELECT provisional, count(*) FROM episodes GROUP BY 1") == [(1, 81)]
        await world.run("classify")

        assert world.rows("SELECT provisional, count(*) FROM episodes GROUP BY 1") == [(0, 82)]
        assert world.rows("SELECT state, count(*) FROM tasks GROUP BY 1") == [("ended", 82)]
        assert (len(world.jobs("reward")), len(world.takes.ended)) == (82, 82)


@pytest.mark.parametrize("chars", [8_000, 3_900])
async def test_a_question_that_fills_an_episode_keeps_its_reply(tmp_path: Path, chars: int) -> None:
    """A message as large as an episode is one of its own; its reply, in the next one, is one step with it."""
    async with opened(tmp_path, learning(max_tokens_per_episode=1000)) as world:
        world.takes = Capture(world.config)  # pyright: ignore[reportAttributeAccessIssue] (the real one)
        world.restart()
        log = ("Read this log: " + "E: no module foo in bar. " * 400)[:chars]
        world.exchange(log, "The package foo is not installed; install it with pip. " * 3)
        world.end_session()
        await world.follow()

        assert [row[:4] for row in world.episodes_of()] == [
            (1, 1, "first", "token_limit"), (2, 2, "token_limit", "session_end"),
        ]  # fmt: skip
        ((first_seq, user_text, agent_text),) = world.rows("SELECT first_seq, user_text, agent_text FROM traces")
        assert (first_seq, user_text[:14], agent_text[:11]) == (1, "Read this log:", "The package")


async def test_a_question_before_another_one_is_kept_where_nobody_replied(tmp_path: Path) -> None:
    """A message that fills its episode, and is followed by another one, is a step of its own."""
    async with opened(tmp_path, learning(max_tokens_per_episode=1000)) as world:
        world.takes = Capture(world.config)  # pyright: ignore[reportAttributeAccessIssue] (the real one)
        world.restart()
        world.say("Read this log: " + "E: no module foo in bar. " * 400)
        world.exchange(FOLLOWS)
        world.end_session()
        await world.follow()

        steps = world.rows("SELECT first_seq, agent_text FROM traces ORDER BY at")
        assert steps == [(1, ""), (2, "It is done.")]
