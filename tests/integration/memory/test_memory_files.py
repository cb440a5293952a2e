"""Files become memory: synced, cut, found, changed, renamed, deleted, damaged, enormous."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import MemoryPathError
from reverie.memory import store
from reverie.testing import FakeEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio


async def test_a_written_file_is_found_with_its_lines(open_index: OpenIndex) -> None:
    """What a sync has read is findable by its words at once, with path and lines."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "# Pets\n\nLuna is a cat.\nRex is a dog.\n\n## Food\n\nLuna eats tuna.\n")
        report = await memory.index.sync_workspace("main", ["MEMORY.md"])
        assert (report.added, report.chunks_added, report.skipped, report.broken) == (1, 2, (), ())
        hits = (await memory.search("Who eats tuna?")).hits
        assert [(h.citation, h.text) for h in hits][:1] == [("MEMORY.md#L6-L8", "## Food\n\nLuna eats tuna.")]
        assert (hits[0].source, hits[0].provenance, hits[0].session_id) == ("memory", "owner", None)


async def test_crlf_and_front_matter_keep_line_numbers(open_index: OpenIndex) -> None:
    """A citation names the line an editor shows."""
    async with open_index() as memory:
        memory.write("memory/a.md", "---\r\ntitle: x\r\n---\r\n\r\nzebra\r\n")
        await memory.index.sync_workspace("main")
        assert await memory.cited("zebra") == ["memory/a.md#L5"]
        assert await memory.cited("title") == []


async def test_an_unchanged_file_is_left_alone(open_index: OpenIndex) -> None:
    """Syncing twice reads nothing into the index the second time."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "one\n")
        memory.write("memory/empty.md", "")
        assert (await memory.index.sync_workspace("main")).added == 2
        again = await memory.index.sync_workspace("main")
        assert (again.added, again.changed, again.unchanged) == (0, 0, 2)


async def test_a_change_keeps_the_chunks_that_stay(open_index: OpenIndex) -> None:
    """Only what changed is cut and embedded again; what moved keeps its vector and gets its new lines."""
    embedder = FakeEmbedder()
    async with open_index(embedder=embedder) as memory:
        memory.write("MEMORY.md", "# A\n\napple\n\n# B\n\nbanana\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        memory.write("MEMORY.md", "# New\n\ncherry\n\n# A\n\napple\n\n# B\n\nbanana\n")
        report = await memory.index.sync_workspace("main")
        await memory.index.settle()
        assert (report.changed, report.chunks_added, report.chunks_reused, report.chunks_removed) == (1, 1, 2, 0)
        assert embedder.passages == 3
        assert (await memory.cited("banana"))[0] == "MEMORY.md#L9-L11"


async def test_a_deleted_file_is_forgotten(open_index: OpenIndex) -> None:
    """A file that is gone leaves nothing behind: no chunk, no word, no vector."""
    async with open_index(embedder=FakeEmbedder()) as memory:
        memory.write("memory/a.md", "aardvark\n")
        memory.write("memory/b.md", "buffalo\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        (memory.workspace / "memory/a.md").unlink()
        assert (await memory.index.sync_workspace("main")).removed == 1
        assert "memory/a.md#L1" not in await memory.cited("aardvark")
        assert (
            (statistics := memory.index.statistics()).chunks
            == statistics.vectors
            == await memory.count("read_tally")
            == 1
        )
        assert memory.index.statistics().vectors == 1


async def test_a_renamed_folder_takes_its_files_along(open_index: OpenIndex) -> None:
    """Naming the old and the new folder is enough to follow a rename."""
    async with open_index() as memory:
        memory.write("memory/old/a.md", "aardvark\n")
        await memory.index.sync_workspace("main")
        (memory.workspace / "memory/old").rename(memory.workspace / "memory/new")
        report = await memory.index.sync_workspace("main", ["memory/old", "memory/new"])
        assert (report.renamed, report.added, report.removed) == (1, 0, 0)
        assert await memory.cited("aardvark") == ["memory/new/a.md#L1"]


async def test_an_edit_storm_is_followed(open_index: OpenIndex) -> None:
    """Three hundred files changed at once are all found afterwards."""
    async with open_index() as memory:
        names = [f"memory/{number:03}.md" for number in range(300)]
        for round_ in ("first", "second"):
            for number, name in enumerate(names):
                memory.write(name, f"# File {number}\n\n{round_} state of item{number}\n")
            await memory.index.sync_workspace("main", names)
        assert memory.index.statistics().memory_documents == 300
        assert [await memory.cited(f"item{n}", limit=1) for n in (0, 150, 299)] == [
            ["memory/000.md#L1-L3"],
            ["memory/150.md#L1-L3"],
            ["memory/299.md#L1-L3"],
        ]
        assert await memory.count("read_tally") == 300


async def test_broken_utf8_is_indexed_and_reported(open_index: OpenIndex) -> None:
    """A damaged file is searchable as far as it is text, and named in the report."""
    async with open_index() as memory:
        memory.write("memory/a.md", b"good line\n\xff\xfe\xfa broken walrus\n")
        report = await memory.index.sync_workspace("main")
        assert report.broken == ("memory/a.md",)
        assert await memory.cited("walrus") == ["memory/a.md#L1-L2"]


async def test_an_enormous_file_is_skipped_without_reading_it(open_index: OpenIndex) -> None:
    """A Markdown file of 100 MB is left out with a reason, and costs no memory."""
    async with open_index() as memory:
        memory.write("memory/small.md", "walrus\n")
        memory.write("memory/huge.md", "")
        os.truncate(memory.workspace / "memory/huge.md", 100 * 1024 * 1024)
        tracemalloc.start()
        report = await memory.index.sync_workspace("main")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * 1024 * 1024
        assert [file.path for file in report.skipped] == ["memory/huge.md"]
        assert "104,857,600 bytes" in report.skipped[0].reason
        assert memory.index.statistics().skipped == report.skipped
        assert await memory.cited("walrus") == ["memory/small.md#L1"]


async def test_a_file_that_grew_too_large_is_taken_out(open_index: OpenIndex) -> None:
    """What the index knew of a file that is skipped now is no longer true, so it goes."""
    async with open_index(file_bytes_max=1024) as memory:
        memory.write("MEMORY.md", "walrus\n")
        await memory.index.sync_workspace("main")
        memory.write("MEMORY.md", "walrus\n" * 500)
        report = await memory.index.sync_workspace("main")
        assert (report.removed, len(report.skipped)) == (1, 1)
        assert await memory.cited("walrus") == []


async def test_links_and_foreign_paths_are_not_indexed(open_index: OpenIndex) -> None:
    """A path out of the workspace, by name or by link, brings nothing in."""
    async with open_index() as memory:
        outside = memory.workspace.parent / "outside.md"
        outside.write_text("secret walrus\n")
        (memory.workspace / "memory").mkdir()
        (memory.workspace / "memory/link.md").symlink_to(outside)
        report = await memory.index.sync_workspace(
            "main", ["../outside.md", "memory/link.md", "memory/../../outside.md"]
        )
        assert (report.added, [file.path for file in report.skipped]) == (0, ["memory/link.md"])
        assert await memory.cited("walrus") == []


async def test_a_file_that_vanishes_while_it_is_looked_for_is_no_error(open_index: OpenIndex) -> None:
    """Between the listing and the reading a file may go; it is then simply not there."""
    async with open_index() as memory:
        report = await memory.index.sync_workspace("main", ["memory/gone.md"])
        assert (report.added, report.removed, report.skipped) == (0, 0, ())


async def test_a_failure_inside_a_write_leaves_nothing_half_indexed(open_index: OpenIndex) -> None:
    """Chunks, words and the file's mark stand or fall together."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "walrus\n")
        await memory.index.sync_workspace("main")
        read = store.ReadFile("MEMORY.md", b"new", 1, 1, ())

        def work(tx: Any) -> None:
            store.write_file(tx, 1, read, store.known_files(tx, 1, ["MEMORY.md"])["MEMORY.md"], 0)
            raise RuntimeError("killed here")

        with pytest.raises(RuntimeError, match="killed here"):
            await memory.index_db.write(work)
        assert await memory.cited("walrus") == ["MEMORY.md#L1"]
        assert (await memory.index.sync_workspace("main")).unchanged == 1


async def test_agents_see_their_own_memory_only(open_index: OpenIndex) -> None:
    """The same path in two workspaces is two documents, and a search stays within its agent."""
    async with open_index(agents=("main", "work"), embedder=FakeEmbedder()) as memory:
        memory.write("MEMORY.md", "walrus at home\n")
        (memory.workspace.parent / "work/MEMORY.md").write_text("walrus at work\n")
        for agent in ("main", "work"):
            await memory.index.sync_workspace(agent)
        await memory.index.settle()
        assert [h.text for h in (await memory.search("walrus")).hits] == ["walrus at home"]
        assert [h.text for h in (await memory.search("walrus", agent="work")).hits] == ["walrus at work"]
        assert (await memory.search("walrus", agent="stranger")).hits == ()
        with pytest.raises(MemoryPathError, match="there is no agent 'stranger'"):
            await memory.index.sync_workspace("stranger")


async def test_two_syncs_at_once_end_in_the_state_on_disk(open_index: OpenIndex) -> None:
    """A whole comparison and a single file may run side by side; the later read wins."""
    import asyncio

    async with open_index() as memory:
        for number in range(60):
            memory.write(f"memory/{number}.md", f"item{number}\n")
        whole = asyncio.create_task(memory.index.sync_workspace("main"))
        memory.write("memory/7.md", "changed walrus\n")
        await memory.index.sync_workspace("main", ["memory/7.md"])
        assert await memory.cited("walrus") == ["memory/7.md#L1"]
        await whole
        assert await memory.cited("walrus") == ["memory/7.md#L1"]
        assert await memory.count("read_tally") == 60
