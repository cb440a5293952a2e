"""Whoever promotes may be killed at any moment: MEMORY.md is whole, and nothing is promoted twice or lost."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from reverie.dreaming.memory_file import MemoryFile
from reverie.dreaming.promotion import Promoter
from reverie.dreaming.sections import generated_entries
from reverie.dreaming.settings import FixedSettings
from reverie.dreaming.sources import LiveSources
from reverie.errors import MemoryPathError
from tests.integration.dreaming.promotion_world import (
    NOTE,
    NOW_MS,
    ROASTER,
    RULES,
    TEXT_OF_ROASTER,
    World,
    recalled,
    world,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from reverie.storage.database import Database, Transaction

pytestmark = pytest.mark.anyio
T = TypeVar("T")
FACTS = 48
KILLS = 4


class KilledError(Exception):
    """The process is gone."""


class Dying:
    """A database whose process is killed instead of its last write."""

    def __init__(self, database: Database, writes: int) -> None:
        self._database = database
        self._left = writes

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await self._database.read(work)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        if not self._left:
            raise KilledError
        self._left -= 1
        return await self._database.write(work)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path) as made:
        made.memory = "Mine.\n"
        await made.recall(recalled(ROASTER))
        yield made


def dying(here: World, writes: int) -> Promoter:
    """A promoter that is killed after so many writes into the database."""
    database: Any = Dying(here.database, writes)
    workspaces = {"main": here.workspace}
    file = MemoryFile(database, workspaces, here.clock, changes_kept=10)
    sources = LiveSources(workspaces, here.talk, bytes_max=1_000_000, zone=here.recalls.zone)
    return Promoter(file, here.recalls, sources, FixedSettings(here.config, here.recalls.zone))


@pytest.mark.parametrize(("writes", "text"), [(0, "Mine.\n"), (1, f"Mine.\n{TEXT_OF_ROASTER}")])
async def test_killed_before_a_write(here: World, writes: int, text: str) -> None:
    """Before the plan nothing has happened; before the record of it the file is written and the next one knows."""
    with pytest.raises(KilledError):
        await dying(here, writes).promote("main", RULES, NOW_MS)
    assert here.memory == text
    await here.promote()

    assert here.memory == f"Mine.\n{TEXT_OF_ROASTER}"
    assert [change.state for change in await here.promoter.file.changes("main")] == ["applied"]
    entry = await here.recalls.find("main", recalled("").key)
    assert entry is not None
    assert entry.promoted_at_ms == NOW_MS
    await here.promoter.undo("main")
    assert here.memory == "Mine.\n"


async def test_killed_after_the_rename_and_edited_since(here: World) -> None:
    """The markers tell that it was made; it can be undone like any other."""
    with pytest.raises(KilledError):
        await dying(here, 1).promote("main", RULES, NOW_MS)
    here.memory = f"{here.memory}\nAnd mine.\n"
    await here.promoter.undo("main")

    assert here.memory == "Mine.\n\nAnd mine.\n"


async def test_killed_before_the_rename(here: World) -> None:
    """A plan that came to nothing is abandoned, and made anew."""
    kept = here.workspace / "kept.md"
    here.file.rename(kept)
    here.file.symlink_to(kept)
    with pytest.raises(MemoryPathError):
        await here.promote()
    here.file.unlink()
    kept.rename(here.file)
    await here.database.write(
        lambda tx: tx.execute(
            "plan_memory_change", id="mem_0", agent="main", path="MEMORY.md", kind="promotion", before=b"Mine.\n",
            before_digest=b"1", after_digest=b"2", details="{}", at=NOW_MS,
        )
    )  # fmt: skip
    await here.promote()

    assert here.memory == f"Mine.\n{TEXT_OF_ROASTER}"
    assert [change.state for change in await here.promoter.file.changes("main")] == ["applied", "abandoned"]


async def test_cancelled_at_any_moment(here: World) -> None:
    """What has begun is finished, what has not is not; and the lock is free for the next one."""
    for steps in range(1, 40, 3):
        task = asyncio.ensure_future(here.promote())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await here.promote()

    assert here.memory == f"Mine.\n{TEXT_OF_ROASTER}"
    states = Counter(change.state for change in await here.promoter.file.changes("main"))
    assert states == {"applied": 1}


def fact(number: int) -> str:
    return f"Fact {number} of the kiln, which is hot."


async def promote_all(folder: Path) -> None:
    """Promote one fact after another: what the child does until it is killed."""
    async with world(folder, memory_chars_max=0) as here:
        print("ready", flush=True)  # noqa: T201 (the parent waits for it)
        for _ in range(FACTS):
            await here.promote(RULES.__class__(limit=1))


async def a_child(folder: Path) -> asyncio.subprocess.Process:
    """A process of its own that promotes, from the moment on when it begins."""
    script = (
        "import asyncio, pathlib, sys; from tests.integration.dreaming.test_promotion_killed import promote_all; "
        "asyncio.run(promote_all(pathlib.Path(sys.argv[1])))"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    return child


async def with_facts(folder: Path) -> None:
    """A world in which every fact was recalled often."""
    async with world(folder, memory_chars_max=0) as here:
        here.memory = "Mine.\n"
        for number in range(FACTS):
            path = NOTE.replace("01.md", f"01-{number}.md")
            here.note(fact(number), path=path)
            await here.recall(recalled(fact(number), path, 1))


@pytest.mark.timeout(180)  # it starts processes
async def test_two_processes_at_once(tmp_path: Path) -> None:
    """Each fact is written once, by the one or the other."""
    await with_facts(tmp_path)
    children = await asyncio.gather(a_child(tmp_path), a_child(tmp_path))
    assert [await child.wait() for child in children] == [0, 0]

    async with world(tmp_path, memory_chars_max=0) as here:
        held = Counter(entry.text for entry in generated_entries(here.memory))
        states = Counter(change.state for change in await here.promoter.file.changes("main"))
    assert held == {fact(number): 1 for number in range(FACTS)}
    assert states == {"applied": FACTS}


@pytest.mark.timeout(180)  # it starts processes
async def test_a_killed_process(tmp_path: Path) -> None:
    """Killed again and again: the owner's text is whole, every fact is there once in the end."""
    await with_facts(tmp_path)
    chance = random.Random(5)
    for _ in range(KILLS):
        child = await a_child(tmp_path)
        await asyncio.sleep(chance.uniform(0.0, 0.25))
        with suppress(ProcessLookupError):  # it may have done everything already
            child.kill()
        await child.wait()
        memory = (tmp_path / "workspace" / "MEMORY.md").read_text("utf-8")
        held = Counter(entry.text for entry in generated_entries(memory))
        assert memory.startswith("Mine.\n")
        assert set(held.values()) <= {1}
    async with world(tmp_path, memory_chars_max=0) as here:
        for _ in range(FACTS):
            await here.promote()
        held = Counter(entry.text for entry in generated_entries(here.memory))
        assert held == {fact(number): 1 for number in range(FACTS)}
