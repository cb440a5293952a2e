"""Hundreds of files change at random: in the end the index is what the files are, and no text was embedded twice."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from reverie.memory.documents import SeenFile, walk_memory
from reverie.memory.watch import WatchSettings, watch_workspaces
from reverie.testing import FakeEmbedder
from reverie.testing.edit_storm import EditStorm, damage, indexed_files, indexed_times, write_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio
FILES = 400
SEED = 20_261_121


class NotingEmbedder(FakeEmbedder):
    """Keeps the texts it embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Note them."""
        self.texts += texts
        return await super().embed_passages(texts)


def on_disk(workspace: Path) -> dict[str, int]:
    """The modification time of every file, by path."""
    return {file.path: file.mtime_ns for file in walk_memory(workspace) if isinstance(file, SeenFile)}


async def anew(open_index: OpenIndex) -> dict[str, Any]:
    """What an index holds that is made from the same files now."""
    async with open_index(databases_in="anew") as fresh:
        await fresh.index.sync_workspace("main")
    return await asyncio.to_thread(indexed_files, fresh.index_db.path)


async def test_a_storm_under_the_watch_ends_in_the_files(open_index: OpenIndex) -> None:
    """Four hundred random changes while everything is watched and searched: every file, hash and chunk is right."""
    embedder = NotingEmbedder()
    async with open_index(embedder=embedder) as memory:
        paths = await asyncio.to_thread(write_notes, memory.workspace, FILES, seed=SEED, size_min=300, size_max=1_500)
        storm = EditStorm(memory.workspace, paths, seed=SEED)
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        stop = asyncio.Event()
        watching = asyncio.create_task(
            watch_workspaces(memory.index, {"main": memory.workspace}, WatchSettings(30), stop)
        )
        for _ in range(FILES):
            await asyncio.to_thread(storm.change)
            if random.Random(sum(storm.counts.values())).random() < 0.1:
                await memory.search("who repaired the lantern?")
                await memory.index.embed_backlog()
        async with asyncio.timeout(20):
            while await asyncio.to_thread(indexed_times, memory.index_db.path) != await asyncio.to_thread(
                on_disk, memory.workspace
            ):
                await asyncio.sleep(0.02)
        stop.set()
        await watching
        await memory.index.settle()
        held = await asyncio.to_thread(indexed_files, memory.index_db.path)
        assert memory.index.statistics().chunks == memory.index.statistics().vectors
        assert memory.index.statistics().memory_documents == len(held)
        assert await asyncio.to_thread(damage, memory.index_db.path) == []
    assert storm.counts.keys() >= {"edited", "touched", "renamed", "deleted", "created"}
    assert held == await anew(open_index)
    assert len(embedder.texts) == len(set(embedder.texts))


async def test_a_rename_embeds_nothing_though_the_cache_is_empty(open_index: OpenIndex) -> None:
    """A file with another name keeps its passages and vectors: nothing is cut, looked up or embedded."""
    embedder = NotingEmbedder()
    async with open_index(embedder=embedder, cache_entries_max=0) as memory:
        paths = await asyncio.to_thread(write_notes, memory.workspace, 20, seed=SEED)
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        embedded = len(embedder.texts)
        for path in paths:
            (memory.workspace / path).rename(memory.workspace / path.replace("note-", "renamed-"))
        report = await memory.index.sync_workspace("main")
        await memory.index.settle()
        assert (report.renamed, report.added, report.removed, report.chunks_added) == (16, 0, 0, 0)
        assert report.unchanged + report.renamed == len(paths)
        assert len(embedder.texts) == embedded
        assert (await memory.index.sync_workspace("main")).found_changes is False
        held = await asyncio.to_thread(indexed_files, memory.index_db.path)
    assert held == await anew(open_index)


async def test_two_files_that_swap_names_are_both_right(open_index: OpenIndex) -> None:
    """Contents that change places are no renames: both names were taken all the time."""
    async with open_index() as memory:
        memory.write("memory/a.md", "walrus\n")
        memory.write("memory/b.md", "zebra!\n")
        await memory.index.sync_workspace("main")
        a, b, aside = (memory.workspace / "memory" / name for name in ("a.md", "b.md", "aside"))
        a.rename(aside)
        b.rename(a)
        aside.rename(b)
        await memory.index.sync_workspace("main")
        assert [await memory.cited(word) for word in ("walrus", "zebra")] == [["memory/b.md#L1"], ["memory/a.md#L1"]]


async def test_a_copy_is_another_file(open_index: OpenIndex) -> None:
    """A file that has its like elsewhere is added; the one that was there stays."""
    async with open_index() as memory:
        memory.write("memory/a.md", "walrus\n")
        await memory.index.sync_workspace("main")
        memory.write("memory/b.md", "walrus\n")
        report = await memory.index.sync_workspace("main")
        assert (report.added, report.renamed) == (1, 0)
        held = await asyncio.to_thread(indexed_files, memory.index_db.path)
        assert sorted(held) == ["memory/a.md", "memory/b.md"]


async def test_what_is_written_is_found_though_everything_is_being_indexed(open_index: OpenIndex) -> None:
    """A file that was written, overwritten, renamed and deleted is found so at every return, while all is indexed."""
    async with open_index() as memory:
        await asyncio.to_thread(write_notes, memory.workspace, FILES, seed=SEED)
        whole = asyncio.create_task(memory.index.sync_workspace("main"))
        file, other = "memory/mine.md", "memory/other.md"
        for number in range(5):
            memory.write(file, f"walrus{number} is written\n")
            await memory.index.sync_workspace("main", [file])
            assert await memory.cited(f"walrus{number}") == [f"{file}#L1"]
            memory.write(file, f"zebra{number} is overwritten\n")
            await memory.index.sync_workspace("main", [file])
            assert (await memory.cited(f"walrus{number}"), await memory.cited(f"zebra{number}")) == ([], [f"{file}#L1"])
            (memory.workspace / file).rename(memory.workspace / other)
            report = await memory.index.sync_workspace("main", [file, other])
            assert (report.renamed, await memory.cited(f"zebra{number}")) == (1, [f"{other}#L1"])
            (memory.workspace / other).unlink()
            await memory.index.sync_workspace("main", [other])
            assert await memory.cited(f"zebra{number}") == []
        await whole
        assert len(await asyncio.to_thread(indexed_files, memory.index_db.path)) == FILES


async def test_runs_that_meet_the_same_files_end_in_the_files(open_index: OpenIndex) -> None:
    """Whoever reads a file later has the last word, however many runs meet it, in whatever order they write."""
    async with open_index() as memory:
        names = [f"memory/{number}.md" for number in range(30)]

        async def change(seed: int) -> None:
            choose = random.Random(seed)
            for step in range(40):
                name = choose.choice(names)
                if choose.random() < 0.3:
                    (memory.workspace / name).unlink(missing_ok=True)
                else:
                    memory.write(name, f"state {seed} {step}\n" * choose.randrange(1, 4))
                await memory.index.sync_workspace("main", None if choose.random() < 0.2 else choose.sample(names, 3))

        await asyncio.gather(*(change(seed) for seed in range(6)))
        await memory.index.sync_workspace("main")
        held = await asyncio.to_thread(indexed_files, memory.index_db.path)
        assert await asyncio.to_thread(damage, memory.index_db.path) == []
        assert memory.index.statistics().memory_documents == len(held)
    assert held == await anew(open_index)


async def test_notices_last_until_their_reason_is_gone(open_index: OpenIndex) -> None:
    """Links, files over the bound and damaged ones are told of, also after a restart, until they are put right."""
    async with open_index(file_bytes_max=1_024) as memory:
        memory.write("memory/large.md", "x" * 2_000)
        memory.write("memory/damaged.md", b"\xff walrus\n")
        (memory.workspace / "memory/link.md").symlink_to(memory.workspace / "memory/large.md")
        await memory.index.sync_workspace("main")
    async with open_index(file_bytes_max=1_024) as memory:
        before = memory.index.statistics()
        memory.write("memory/large.md", "small now\n")
        memory.write("memory/damaged.md", "whole now\n")
        (memory.workspace / "memory/link.md").unlink()
        await memory.index.sync_workspace("main")
        after = memory.index.statistics()
    assert [file.path for file in before.skipped] == ["memory/large.md", "memory/link.md"]
    assert (before.damaged, after.skipped, after.damaged) == (("memory/damaged.md",), (), ())
