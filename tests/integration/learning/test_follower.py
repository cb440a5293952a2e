"""What the follower reads and passes over: restored messages, numbers that were put before, a session that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reverie.sessions.restore import restore
from reverie.sessions.retention import archive, discard
from tests.integration.learning.episode_world import ASK, Asks, Takes, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.learning.episode_world import World

pytestmark = pytest.mark.anyio

FOLLOWS = "It needs a title"
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
