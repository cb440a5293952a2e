"""The plugins that come with Reverie, as they are installed and named in the configuration."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.config import Config
from reverie.errors import StorageError
from reverie.plugins import CompactionStep, SessionReset
from reverie.plugins.compaction_indicator import indication
from reverie.plugins.event_log import PluginEventLog
from reverie.plugins.events import TurnResult
from reverie.plugins.found import offered_plugins
from reverie.plugins.runtime import open_plugins
from reverie.sessions.turns import TurnStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import Message, SessionKey, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from reverie.plugins.runtime import Plugins
    from reverie.types import Turn

pytestmark = pytest.mark.anyio

KEY = "agent:main:main"
ABROAD = CompactionStep("c1", "s1", "main", 1, "started", "threshold", 3, 12, 800, None, 1000, None)


class World:
    """A state database with a session, and a way to export it that can be told to fail."""

    def __init__(self, database: Database, turn: Turn) -> None:
        self.database = database
        self.turn = turn
        self.exports = 0
        self.failures = 0

    async def export(self, session_id: str, form: str, write: Callable[[bytes], Any]) -> None:
        """Write a session's key and the number of the export, in two pieces."""
        self.exports += 1
        if self.failures:
            self.failures -= 1
            raise StorageError("the disk is full")
        rows = await self.database.read(lambda tx: tx.rows("find_session", id=session_id))
        for piece in (f"# {rows[0]['key']}\n".encode(), f"{self.exports}\n".encode()):
            done: Any = write(piece)
            await done

    @asynccontextmanager
    async def plugins(self, **configs: dict[str, Any]) -> AsyncGenerator[Plugins]:
        """The plugins of a configuration."""
        config = Config.model_validate({"plugins": configs}).plugins
        log = PluginEventLog(self.database)
        async with open_plugins(config, log, FakeClock(), self) as plugins:
            yield plugins

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        """The events of plugins in the session's stream."""
        rows = await asyncio.to_thread(self._rows)
        return [(kind, json.loads(data)) for kind, data in rows if not kind.startswith("turn.")]

    def _rows(self) -> list[tuple[Any, ...]]:
        connection = apsw.Connection(str(self.database.path))
        try:
            return list(connection.execute("SELECT kind, data FROM session_events ORDER BY id"))
        finally:
            connection.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    """One accepted turn."""
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=0)
    request = TurnRequest("t1", SessionKey("main", KEY), (Message("user", "Hello."),))
    yield World(database, (await TurnStore(database, FakeClock()).accept(request, waits=False)).turn)
    await database.aclose()


def export_to(folder: Path, **settings: Any) -> dict[str, Any]:
    """The configuration of the export."""
    return {"conversation_access": True, "settings": {"folder": str(folder), **settings}}


async def test_they_are_offered_by_our_own_package() -> None:
    """Both are entry points like those of anybody else, and nothing is loaded that is not named."""
    offered = await asyncio.to_thread(offered_plugins)

    names = {name: [each.package for each in several] for name, several in offered.items()}
    assert names == {"session_export": ["reverie"], "compaction_indicator": ["reverie"]}


async def test_a_session_is_written_once_it_is_quiet(world: World, tmp_path: Path) -> None:
    """Several turns in a row make one file, in each form, that only its owner can read."""
    folder = tmp_path / "out"
    settings = export_to(folder, forms=["markdown", "jsonl"], debounce_ms=50)
    async with world.plugins(session_export=settings) as plugins:
        for _ in range(5):
            plugins.turn_ends(world.turn, TurnResult("answered", "Hi."))
        await plugins.settle()
        await settled(plugins, folder, 2)
        await plugins.settle()

    files = await asyncio.to_thread(contents, folder)
    name = world.turn.session_id
    assert files == {f"main/{name}.md": f"# {KEY}\n1\n", f"main/{name}.jsonl": f"# {KEY}\n2\n"}
    assert (folder / "main" / f"{name}.md").stat().st_mode & 0o777 == 0o600
    assert await world.events() == [
        ("export.written", {"file": f"main/{name}.md", "bytes": len(f"# {KEY}\n1\n")}),
        ("export.written", {"file": f"main/{name}.jsonl", "bytes": len(f"# {KEY}\n2\n")}),
    ]


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder with its text."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


async def test_what_is_not_written_yet_is_written_at_the_end(world: World, tmp_path: Path) -> None:
    """Stopping does not wait for quiet; a reset and a compaction count as changes, the start of one does not."""
    folder = tmp_path / "out"
    name = world.turn.session_id
    async with world.plugins(session_export=export_to(folder, debounce_ms=60_000)) as plugins:
        plugins.on_compaction(CompactionStep("c", name, "main", 1, "finished", "manual", 1, 2, None, None, 9, None))
        plugins.on_reset(SessionReset(name, "s2", "main", 1, "daily", 2, None))

    assert list(await asyncio.to_thread(contents, folder)) == [f"main/{name}.md"]
    folder = tmp_path / "other"
    async with world.plugins(session_export=export_to(folder)) as plugins:
        plugins.on_compaction(ABROAD)
    assert not folder.exists()


async def test_a_failed_export_is_reported_and_the_old_file_stands(world: World, tmp_path: Path) -> None:
    """The file is replaced wholly or not at all; no leftovers stay; the next change writes it."""
    folder = tmp_path / "out"
    async with world.plugins(session_export=export_to(folder, debounce_ms=0)) as plugins:
        plugins.turn_ends(world.turn, TurnResult("answered", "Hi."))
        await settled(plugins, folder)
        before = await asyncio.to_thread(contents, folder)
        world.failures = 1
        plugins.turn_ends(world.turn, TurnResult("answered", "Hi."))
        async with asyncio.timeout(10):
            while not plugins.statistics()[0].failures:
                await asyncio.sleep(0.01)
        assert await asyncio.to_thread(contents, folder) == before
        (figures,) = plugins.statistics()

    assert figures.last_failure.startswith("a task of its own: StorageError in test_shipped_plugins.py, line ")
    assert figures.last_failure.endswith(" (the disk is full)")
    assert await asyncio.to_thread(contents, folder) != before  # tried again at the end


async def settled(plugins: Plugins, folder: Path, files: int = 1) -> None:
    """Wait until so many files are in their places."""
    await plugins.settle()
    async with asyncio.timeout(10):
        while len([path for path in await asyncio.to_thread(contents, folder) if "/." not in path]) < files:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (
            {"settings": {"folder": "x"}},
            "it reads conversations: set plugins.session_export.conversation_access to true",
        ),
        ({"conversation_access": True}, "folder\n  Field required"),
        (
            {"conversation_access": True, "settings": {"folder": "x", "form": 1}},
            "form\n  Extra inputs are not permitted",
        ),
    ],
)
async def test_an_export_that_cannot_work_says_so(world: World, config: dict[str, Any], problem: str) -> None:
    """The grant and the folder are needed, and a misspelt setting is refused."""
    async with world.plugins(session_export=config) as plugins:
        assert problem in plugins.statistics()[0].problem


async def test_compactions_are_shown_in_the_stream(world: World) -> None:
    """Start and end, with sizes; without the grant."""
    name = world.turn.session_id
    started = CompactionStep("c1", name, "main", 1, "started", "threshold", 3, 12, 800, None, 1000, None)
    finished = CompactionStep("c1", name, "main", 2, "finished", "threshold", 3, 12, 800, 205, 1000, None)
    async with world.plugins(compaction_indicator={}) as plugins:
        plugins.on_compaction(started)
        plugins.on_compaction(finished)

    before = {"compaction": "c1", "cause": "threshold", "messages": 10}
    sizes = {"tokens_before": 800, "window_percent_before": 80.0}
    saved = {"tokens_after": 205, "window_percent_after": 20.5}
    assert await world.events() == [
        ("compaction.started", {**before, **sizes}),
        ("compaction.finished", {**before, "outcome": "adopted", **sizes, **saved}),
    ]


def test_a_compaction_that_failed_is_shown_as_one() -> None:
    """What is not known is left out."""
    failed = CompactionStep("c1", "s1", "main", 1, "failed", "manual", 1, 1, None, None, 1000, None)

    assert indication(failed) == {"compaction": "c1", "cause": "manual", "messages": 1, "outcome": "failed"}
