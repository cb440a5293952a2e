"""Files changed by hand are noticed."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
from watchfiles import Change

from reverie.memory.pending import PATHS_MAX, PendingPaths
from reverie.memory.sync import SyncReport
from reverie.memory.watch import WatchSettings, relevant_paths, watch_workspaces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio
DEBOUNCE_MS = 50


class Syncs:
    """An index that only notes what it is asked to sync, and can be waited for."""

    def __init__(self, index: Any = None) -> None:
        self.calls: list[tuple[str, list[str] | None]] = []
        self.failures = 0
        self.report = SyncReport()
        self._index = index
        self._called = asyncio.Condition()

    async def sync_workspace(self, agent: str, paths: Collection[str] | None = None) -> SyncReport:
        """Note the call, fail if told to, and pass it on."""
        async with self._called:
            self.calls.append((agent, None if paths is None else sorted(paths)))
            self._called.notify_all()
        if self.failures:
            self.failures -= 1
            raise OSError("the disk hiccups")
        return self.report if self._index is None else await self._index.sync_workspace(agent, paths)

    async def wait_for(self, *wanted: tuple[str, list[str] | None]) -> None:
        """Return once all these calls were made."""
        async with asyncio.timeout(20), self._called:
            await self._called.wait_for(lambda: all(call in self.calls for call in wanted))


@asynccontextmanager
async def watching(
    syncs: Syncs, *workspaces: Path, polling: bool = False, reconcile_s: float = 0
) -> AsyncGenerator[None]:
    """Watch until the block ends."""
    stop = asyncio.Event()
    settings = WatchSettings(DEBOUNCE_MS, reconcile_s, polling=polling)
    named = {f"agent{number}" if number else "main": path for number, path in enumerate(workspaces)}
    task = asyncio.create_task(watch_workspaces(syncs, named, settings, stop))
    try:
        await syncs.wait_for(("main", None))
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def found(memory: Any, word: str) -> None:
    """Return once a word is found."""
    async with asyncio.timeout(20):
        while not await memory.cited(word):
            await asyncio.sleep(0.01)


async def test_a_change_is_noticed(tmp_path: Path) -> None:
    """Files in the workspace and below memory/ are synced by name."""
    (tmp_path / "memory").mkdir()
    syncs = Syncs()
    async with watching(syncs, tmp_path):
        (tmp_path / "memory/a.md").write_text("hello")
        await syncs.wait_for(("main", ["memory/a.md"]))
        (tmp_path / "MEMORY.md").write_text("hello")
        await syncs.wait_for(("main", ["MEMORY.md"]))


async def test_an_edit_is_findable_soon(open_index: OpenIndex) -> None:
    """A file saved by hand is found by its words, with nothing else done."""
    async with open_index() as memory:
        (memory.workspace / "memory").mkdir()
        syncs = Syncs(memory.index)
        async with watching(syncs, memory.workspace):
            memory.write("memory/a.md", "walrus\n")
            await found(memory, "walrus")
        assert await memory.cited("walrus") == ["memory/a.md#L1"]


async def test_a_memory_folder_made_later_is_watched(tmp_path: Path) -> None:
    """When memory/ appears, everything is compared again and its files are watched from then on."""
    syncs = Syncs()
    async with watching(syncs, tmp_path):
        syncs.calls.clear()
        (tmp_path / "memory").mkdir()
        await syncs.wait_for(("main", None))
        (tmp_path / "memory/a.md").write_text("hello")
        await syncs.wait_for(("main", ["memory/a.md"]))


async def test_polling_compares_everything_again_and_again(open_index: OpenIndex) -> None:
    """Without help of the system a change is found by comparing, and that is what is told."""
    async with open_index() as memory:
        syncs = Syncs(memory.index)
        async with watching(syncs, memory.workspace, polling=True):
            memory.write("memory/a.md", "walrus\n")
            await found(memory, "walrus")
        assert all(paths is None for _, paths in syncs.calls)


async def test_what_the_system_does_not_tell_is_found_by_comparing(open_index: OpenIndex) -> None:
    """A file changed behind the watch's back is found at the next comparison."""
    async with open_index() as memory:
        beside = memory.workspace.parent / "beside.md"
        memory.write("memory/a.md", "one thing\n")
        memory.write("../beside.md", "walrus\n")
        os.link(beside, memory.workspace / "memory/b.md")
        syncs = Syncs(memory.index)
        async with watching(syncs, memory.workspace, reconcile_s=0.3):
            await found(memory, "walrus")
            beside.write_text("zebra crossing\n")  # under its other name, of which no folder that is watched is told
            await found(memory, "zebra")
        assert all(paths != ["memory/b.md"] for _, paths in syncs.calls)


async def test_a_watch_that_missed_something_is_renewed(tmp_path: Path) -> None:
    """When a comparison finds changes of which the system told nothing, another watch takes the place of the first."""
    (tmp_path / "memory").mkdir()
    syncs = Syncs()
    with structlog.testing.capture_logs() as logs:
        async with watching(syncs, tmp_path, reconcile_s=0.3), asyncio.timeout(20):
            syncs.report = SyncReport(changed=1)
            while not any(log.get("action") == "watch_renewed" for log in logs):
                await asyncio.sleep(0.05)
            syncs.report = SyncReport()
            while ("main", ["memory/a.md"]) not in syncs.calls:  # what changes before the new one stands is compared
                (tmp_path / "memory" / "a.md").write_text("the new watch tells of this")
                await asyncio.sleep(0.2)


async def test_a_replaced_folder_is_watched_again(tmp_path: Path) -> None:
    """A memory folder that gives way to another one of its name takes the watch along; the new one gets its own."""
    (tmp_path / "memory").mkdir()
    syncs = Syncs()
    async with watching(syncs, tmp_path):
        (tmp_path / "memory").rename(tmp_path / "old")
        (tmp_path / "memory").mkdir()
        await asyncio.sleep(3)
        (tmp_path / "memory/a.md").write_text("hello")
        await syncs.wait_for(("main", ["memory/a.md"]))


async def test_a_file_written_without_a_pause_is_indexed_meanwhile(open_index: OpenIndex) -> None:
    """Debouncing has an end: a file that never rests is read all the same."""
    async with open_index() as memory:
        memory.write("memory/a.md", "start\n")
        syncs = Syncs(memory.index)
        async with watching(syncs, memory.workspace), asyncio.timeout(20):
            number = 0
            while not await memory.cited("walrus"):
                number += 1
                memory.write("memory/a.md", f"walrus number {number}\n")
                await asyncio.sleep(DEBOUNCE_MS / 4_000)


async def test_a_burst_larger_than_the_bound_is_one_comparison() -> None:
    """Paths beyond what may wait are dropped, and everything is compared instead: nothing is missed."""
    pending = PendingPaths()
    pending.add("work", ["memory/a.md"])
    pending.add("main", [f"memory/{number}.md" for number in range(PATHS_MAX + 1)])
    pending.add("main", ["memory/one-more.md"])
    assert await pending.noted(0)
    assert pending.take() == {"work": ["memory/a.md"], "main": None}
    assert (pending.take(), await pending.noted(0)) == ({}, False)


async def test_a_failure_is_survived(open_index: OpenIndex) -> None:
    """When a sync fails, watching starts again and compares everything, so that no change is missed."""
    async with open_index() as memory:
        (memory.workspace / "memory").mkdir()
        syncs = Syncs(memory.index)
        syncs.failures = 1
        async with watching(syncs, memory.workspace):
            memory.write("memory/a.md", "walrus\n")
            await found(memory, "walrus")
        assert syncs.failures == 0


async def test_it_ends_when_cancelled(tmp_path: Path) -> None:
    """Cancelling the task ends it without waiting for anything to change."""
    task = asyncio.create_task(watch_workspaces(Syncs(), {"main": tmp_path}, WatchSettings(DEBOUNCE_MS)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 20)


def test_only_what_can_matter_is_passed_on(tmp_path: Path) -> None:
    """Litter of editors and programs, hidden folders and our own reports are ignored."""
    paths = {
        "MEMORY.md",
        "memory",
        "memory/a.md",
        "memory/folder",
        "AGENTS.md",
        "memory/.a.md.1f.tmp",
        "memory/.git/x",
        "memory/dreaming/x.md",
        "venv/lib/x.md",
    }
    named = {str(tmp_path / path) for path in paths} | {"/elsewhere/memory/a.md", f"{tmp_path}-beside/memory/a.md"}
    found = relevant_paths(tmp_path, {(Change.modified, path) for path in named})
    assert found == ["MEMORY.md", "memory/a.md", "memory/folder"]
