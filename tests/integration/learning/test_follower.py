"""What the follower reads and passes over: restored messages, numbers that were put before, a session that fails."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from reverie.learning.steps.capture import Capture
from reverie.sessions.restore import restore
from reverie.sessions.retention import archive, discard
from reverie.types import Message
from tests.integration.learning.episode_world import ASK, FOLLOW_UP, NEW_TASK, WEAK, Asks, Takes, learning, opened
from tests.integration.learning.learning_world import learning_world

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.integration.learning.episode_world import World

pytestmark = pytest.mark.anyio

FOLLOWS = "It needs a title"
SECRET = "My diagnosis is hypertension, keep it between us"
MINUTE_MS = 60_000
NEXT = "New task: water the plants"


async def archived(world: World, folder: Path) -> Path:
    """The file of a session, which is gone from its home."""
    world.change("UPDATE messages SET fingerprint = randomblob(16) WHERE session_id = 's1'")
    file = await archive(world.database, folder, "agent:main:s1", "s1")
    await discard(world.database, "s1")
    return file


async def test_a_session_that_comes_back_from_the_archive_is_not_learned_from_again(tmp_path: Path) -> None:
    """What was learned of a restored session stays as it is, and what others say is followed as before."""
    async with opened(tmp_path, asks=Asks({})) as world:
        world.exchange(ASK)
        world.exchange(NEXT)
        world.end_session()
        await world.follow()
        learned = world.dump()
        file = await archived(world, tmp_path / "archive")
        await restore(world.database, file, now_ms=world.clock.now_ms(), mine=True)
        await world.follow()
        assert world.dump() == learned

        world.exchange(ASK, session="s2")
        await world.follow()
        assert world.episodes_of("s2") == [(1, 2, "first", None, 1, 2)]


async def test_of_a_session_that_was_restored_only_what_is_said_from_then_on_is_learned_from(tmp_path: Path) -> None:
    """In a home that never saw it a restored session is the past, also while its import is under way."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with opened(tmp_path / "a") as world, opened(tmp_path / "b", asks=Asks({})) as other:
        world.exchange(ASK)
        world.exchange(FOLLOWS)
        file = await archived(world, tmp_path / "archive")
        await restore(other.database, file, now_ms=other.clock.now_ms(), mine=True)
        await other.follow()
        assert (other.episodes_of(), other.takes.seqs) == ([], {})

        other.exchange(FOLLOWS)
        await other.follow()
        assert other.episodes_of() == [(5, 6, "first", None, 1, 2)]
        assert other.takes.seqs == {"s1": [5, 6]}


async def test_a_number_that_was_put_is_not_put_again(tmp_path: Path) -> None:
    """A session that came back shorter than it was is passed over up to where it had been, and goes on from there."""
    async with opened(tmp_path) as world:
        world.exchange(ASK)
        world.exchange(NEXT)
        world.exchange(ASK, session="s2")
        await world.follow()
        before = world.episodes_of()
        world.change("DELETE FROM messages WHERE session_id = 's1' AND seq > 2")
        world.exchange("New task: wash the car")
        world.exchange("New task: paint the fence")
        world.exchange(FOLLOWS, session="s2")
        await world.follow()

        assert world.episodes_of("s2") == [(1, 4, "first", None, 1, 4)]
        assert world.episodes_of() == [(1, 2, "first", "topic", 1, 2), (3, 4, "topic", "topic", 2, 2),
                                       (5, 6, "topic", None, 3, 2)]  # fmt: skip
        assert before == [(1, 2, "first", "topic", 1, 2), (3, 4, "topic", None, 2, 2)]


async def test_a_session_that_cannot_be_put_is_put_aside_alone(tmp_path: Path) -> None:
    """Messages nobody can read cost their session its page, with the reason; the others, and what follows, go on."""
    async with opened(tmp_path) as world:
        world.exchange(ASK)
        await world.follow()
        broken = world.exchange(FOLLOWS)
        world.change("UPDATE messages SET extra = '[]' WHERE seq = ?", broken)
        world.exchange(ASK, session="s2")
        await world.follow()
        world.exchange(NEXT)
        await world.follow()

        assert world.episodes_of("s2") == [(1, 2, "first", None, 1, 2)]
        assert world.episodes_of() == [(1, 2, "first", "topic", 1, 2), (5, 6, "topic", None, 2, 2)]
        told = "SELECT agent, ref, outcome, reason, detail FROM learning_trail WHERE stage = 'follow'"
        why = '{"error": "AttributeError", "seq": 3, "messages": 2}'
        assert world.rows(told) == [("main", "s1", "failed", "put_aside", why)]


async def test_a_session_that_cannot_be_learned_from_keeps_nobody_waiting(tmp_path: Path) -> None:
    """What fails while steps are kept is undone for its session alone, which is looked at again when it goes on."""

    class Picky(Takes):
        broken = True

        def take(self, tx: Any, episode: Any, *args: Any, **kwargs: Any) -> Any:
            if self.broken and episode.session_id == "s1":
                raise ValueError("not this one")
            return super().take(tx, episode, *args, **kwargs)

    async with opened(tmp_path) as world:
        world.takes = picky = Picky()
        world.restart()
        for session in ("s1", "s2"):
            world.exchange(ASK, session=session)
        await world.follow()
        assert picky.seqs == {"s2": [1, 2]}
        assert world.rows("SELECT ref, reason FROM learning_trail WHERE stage = 'follow'") == [("s1", "put_aside")]

        picky.broken = False
        world.exchange(FOLLOWS)
        await world.follow()
        assert picky.seqs == {"s1": [1, 2, 3, 4], "s2": [1, 2]}


@asynccontextmanager
async def switched_off(world: World) -> AsyncGenerator[None]:
    """A time in which nothing is learned."""
    on = world.config
    for mode in ("off", on.mode):
        world.config = on.model_copy(update={"mode": mode})
        world.restart()
        await world.recover()
        if mode == "off":
            yield
            await world.follow()


@pytest.mark.parametrize("idle", [False, True])
async def test_what_was_said_while_learning_was_off_is_in_no_episode(tmp_path: Path, *, idle: bool) -> None:
    """An episode that goes on afterwards, open or opened again, holds nothing of it; nothing of it becomes a step."""
    async with opened(tmp_path) as world:
        world.takes = Capture(world.config)  # pyright: ignore[reportAttributeAccessIssue] (the real one)
        world.restart()
        world.exchange(ASK)
        await world.follow()
        if idle:
            world.clock.advance(ms=31 * MINUTE_MS)
            await world.idle()
        async with switched_off(world):
            world.exchange(SECRET, f"I will not tell: {SECRET}")
        world.exchange(FOLLOWS)
        await world.follow()

        assert world.episodes_of() == [(1, 2, "first", None, 1, 4), (5, 6, "first", None, 1, 4)]
        steps = world.rows("SELECT first_seq, user_text, agent_text FROM traces ORDER BY at")
        assert steps == [(1, ASK, "It is done."), (5, FOLLOWS, "It is done.")]
        words = world.rows("SELECT title || text FROM learned_words UNION ALL SELECT carry_over FROM episodes")
        assert not any("diagnosis" in said for (said,) in words)
        assert world.hears.heard == []


async def test_a_reply_to_what_was_not_read_is_not_read(tmp_path: Path) -> None:
    """What answers a message that was said while learning was off belongs to no episode, and its message to no step."""
    async with opened(tmp_path) as world:
        world.takes = Capture(world.config)  # pyright: ignore[reportAttributeAccessIssue] (the real one)
        world.restart()
        world.exchange(ASK)
        await world.follow()
        async with switched_off(world):
            world.say(SECRET)
            world.say("", "assistant", calls=["c1"])
        world.say(f"about {SECRET}", "tool", call="c1")
        world.say(f"I will not tell: {SECRET}", "assistant")
        await world.follow()
        world.say(FOLLOWS)
        world.say("Here it is.", "assistant")
        await world.follow()

        assert world.episodes_of() == [(1, 2, "first", None, 1, 4), (7, 8, "first", None, 1, 4)]
        assert world.rows("SELECT user_text FROM traces ORDER BY at") == [(ASK,), (FOLLOWS,)]


async def test_a_late_reply_is_to_nothing_that_was_not_read(tmp_path: Path) -> None:
    """The question of a reply that begins an episode is looked for among what was read."""
    async with opened(tmp_path, learning(max_tokens_per_episode=1000)) as world:
        world.takes = Capture(world.config)  # pyright: ignore[reportAttributeAccessIssue] (the real one)
        world.restart()
        world.exchange(ASK)
        await world.follow()
        async with switched_off(world):
            world.say(SECRET)
        world.say(FOLLOWS)
        await world.follow()
        world.say("A title. " * 450, "assistant")
        world.end_session()
        await world.follow()

        assert [row[2] for row in world.episodes_of()] == ["first", "first", "token_limit"]
        assert world.rows("SELECT user_text FROM traces ORDER BY at") == [(ASK,), (FOLLOWS,)]


async def test_a_message_put_again_stays_beside_what_was_not_read(tmp_path: Path) -> None:
    """A later decision about a message puts again what was read, and nothing else."""
    async with opened(tmp_path, asks=Asks({"turn.classify": [FOLLOW_UP, NEW_TASK]})) as world:
        world.exchange(ASK)
        await world.follow()
        first = world.exchange(WEAK)
        await world.follow()
        async with switched_off(world):
            world.exchange(SECRET)
        world.exchange(FOLLOWS)
        await world.follow()
        world.change("UPDATE routings SET relation = 'new_task' WHERE seq = ?", first)
        await world.database.write(lambda tx: world.episodes.placing.put_again(tx, "s1", first, world.clock.now_ms()))

        assert world.episodes_of() == [
            (1, 2, "first", "topic", 1, 2), (3, 4, "topic", None, 2, 4), (7, 8, "topic", None, 2, 4),
        ]  # fmt: skip


async def test_history_that_a_request_brings_is_not_learned_from(tmp_path: Path) -> None:
    """However long it is: it was said elsewhere. Only the question that it came with is put, and asked about."""
    async with opened(tmp_path, asks=Asks({})) as world:
        world.exchange(ASK)
        await world.follow()
        for number in range(40):
            world.say(f"{WEAK}, the {number}th", turn="t1")
            world.say("", "assistant", calls=[f"c{number}"], turn="t1")
            world.say("result", "tool", call=f"c{number}", turn="t1")
            world.say("The coffee report is written.", "assistant", turn="t1")
        question = world.say(WEAK, turn="t1")
        await world.follow()
        world.say("Here it is.", "assistant", turn="t1")
        await world.follow()

        assert world.episodes_of() == [
            (1, 2, "first", None, 1, 4), (question, question + 1, "first", None, 1, 4),
        ]  # fmt: skip
        assert world.jobs("classify") == [f"classify:s1:{question}"]
        told = "SELECT outcome, reason, ref, detail FROM learning_trail WHERE stage = 'follow'"
        assert world.rows(told) == [("skipped", "history", f"s1:{question}", '{"questions": 40}')]


async def test_all_that_a_request_asks_is_put(tmp_path: Path) -> None:
    """Questions in a row, and the results of tools that its client ran, are no history; the newest is asked about."""
    async with opened(tmp_path, asks=Asks({})) as world:
        world.say(ASK, turn="t1")
        world.say("", "assistant", calls=["c1"], turn="t1")
        world.say("result", "tool", call="c1", turn="t2")
        for _ in range(12):
            world.say(WEAK, turn="t2")
        await world.follow()

        assert world.episodes_of() == [(1, 15, "first", None, 1, 15)]
        assert world.jobs("classify") == ["classify:s1:15"]


async def test_a_reply_that_a_client_tells_in_other_words_is_kept_once(tmp_path: Path) -> None:
    """The reply as it was given is a step; as its client tells it, it is history, and what is said of it is heard."""
    async with opened(tmp_path, asks=Asks({})) as world:
        world.exchange(ASK, "It is done.")
        world.say("It is done, told otherwise.", "assistant", turn="t2")
        said = world.say("No, that's wrong", turn="t2")
        await world.follow()

        assert world.episodes_of() == [(1, 2, "first", None, 1, 3), (said, said, "first", None, 1, 3)]
        assert [text for text, _, _ in world.hears.heard] == ["No, that's wrong"]
        assert world.rows("SELECT reason FROM learning_trail") == []


@pytest.mark.timeout(120)
async def test_a_turn_with_a_long_history_costs_what_a_turn_costs(tmp_path: Path) -> None:
    """Thirty exchanges that a client brings along are no steps, and no model is asked about any of them."""
    async with learning_world(tmp_path) as here:
        history = [
            each
            for number in range(30)
            for each in (Message("user", f"{WEAK}, the {number}th"), Message("assistant", "The report is written."))
        ]
        await here.say(*history, Message("user", ASK))
        await here.settled()

        assert await here.rows("SELECT count(*), count(DISTINCT turn_id) FROM messages") == [(62, 1)]
        assert await here.rows("SELECT user_text FROM traces") == [(ASK,)]
        assert [op for op, _ in here.asked] == []
