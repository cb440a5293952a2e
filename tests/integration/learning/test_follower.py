"""What the follower reads and passes over: restored messages, numbers that were put before, a session that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.sessions.restore import restore
from reverie.sessions.retention import archive, discard
from tests.integration.learning.episode_world import ASK, Asks, opened

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
