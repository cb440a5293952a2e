"""Traces in `MEMORY.md`: entries that were promoted out of what is forgotten, and what is on record of such changes.

The entries are taken out by whoever changes `MEMORY.md`. The record of a change keeps the file as it was before; where
that holds what is forgotten, the record goes, and the change cannot be undone any more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from reverie.dreaming.cuttings import deletion_diff, lines_gone
from reverie.dreaming.forgotten_files import cut_file, held
from reverie.dreaming.sections import generated_entries, without_entries
from reverie.dreaming.traces import Edit, Traces
from reverie.memory.forgetting import Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from reverie.dreaming.sections import GeneratedEntry
    from reverie.dreaming.traces import Portion
    from reverie.memory.index import MemoryIndex
    from reverie.storage.database import Database, Row

MEMORY_FILE = "MEMORY.md"
MEMORY_BYTES_MAX = 64 * 1024 * 1024
CHANGES_AT_ONCE = 20
"""Recorded changes that are looked at in one read; each may hold a whole MEMORY.md."""


class DropEntries(Protocol):
    """Takes entries out of an agent's `MEMORY.md`, without keeping what they said."""

    async def drop_entries(self, agent: str, keys: Sequence[str], *, now_ms: int) -> str:
        """Take out the entries that stand for these keys; returns the change as a unified diff, empty if there is none.

        Raises:
            StorageError, HomeReadOnlyError: the file could not be written; it is as it was.
        """
        ...


class MemoryEntries:
    """Takes entries out of `MEMORY.md` as a whole file, under the workspace's lock."""

    def __init__(self, workspaces: Mapping[str, Path]) -> None:
        self._workspaces = workspaces

    async def drop_entries(self, agent: str, keys: Sequence[str], *, now_ms: int) -> str:  # noqa: ARG002 (the protocol's)
        """As `DropEntries`."""

        def choose(text: str) -> set[int]:
            return lines_gone(text, without_entries(text, keys))

        edit = await asyncio.to_thread(cut_file, self._workspaces[agent], MEMORY_FILE, choose, MEMORY_BYTES_MAX)
        return "" if edit is None else edit.diff


class Promotions:
    """What was promoted out of it."""

    def __init__(
        self, database: Database, memory: MemoryIndex, workspaces: Mapping[str, Path], lasting: DropEntries
    ) -> None:
        self._database = database
        self._memory = memory
        self._workspaces = workspaces
        self._lasting = lasting

    async def look(self, portion: Portion) -> Traces:
        """Count entries and recorded changes, and say what becomes of the file."""
        found = await asyncio.to_thread(self._look, portion)
        for page in await self._changes(portion):
            found.counts["changes"] += len(page)
        return found

    async def remove(self, portion: Portion) -> Traces:
        """Take the entries out, with the vectors kept of them, then delete the records of changes that hold them.

        Raises:
            StorageError, HomeReadOnlyError: something could not be written.
        """
        gone = Traces()
        agent = portion.agent
        going = await asyncio.to_thread(self._going, portion)
        if going:
            lines = frozenset(line for entry in going for line in range(entry.first_line, entry.last_line + 1))
            await self._memory.forget_passages(agent, [Place(MEMORY_FILE, lines)], rows=False)
            keys = [key for entry in going for key in entry.keys]
            diff = await self._lasting.drop_entries(agent, keys, now_ms=portion.now_ms)
            await self._memory.sync_workspace(agent, [MEMORY_FILE])
            gone.edits.append(Edit(MEMORY_FILE, diff))
            gone.counts["promoted"] += len(going)
        for page in await self._changes(portion):
            await self._database.write(
                lambda tx, page=page: [tx.execute("delete_memory_change", id=change_id) for change_id in page]
            )
            gone.counts["changes"] += len(page)
        return gone

    async def _changes(self, portion: Portion) -> list[list[str]]:
        """The ids of recorded changes whose text before, or whose details, hold some of it."""
        found: list[list[str]] = []
        after = ""
        while rows := await self._database.read(
            lambda tx, after=after: tx.rows(
                "memory_changes_after", agent=portion.agent, after=after, limit=CHANGES_AT_ONCE
            )
        ):
            after = rows[-1]["id"]
            page = await asyncio.to_thread(_holding, rows, portion)
            found += [page] if page else []
        return found

    # -- on a worker thread --------------------------------------------------------------------------------------

    def _look(self, portion: Portion) -> Traces:
        found = Traces()
        there = held(self._workspaces[portion.agent], MEMORY_FILE, MEMORY_BYTES_MAX)
        going = [] if there is None else _entries(there.text, portion)
        if there is not None and going:
            after = without_entries(there.text, [key for entry in going for key in entry.keys])
            shown = there.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            found.edits.append(Edit(MEMORY_FILE, deletion_diff(MEMORY_FILE, shown, lines_gone(there.text, after))))
            found.counts["promoted"] += len(going)
        return found

    def _going(self, portion: Portion) -> list[GeneratedEntry]:
        there = held(self._workspaces[portion.agent], MEMORY_FILE, MEMORY_BYTES_MAX)
        return [] if there is None else _entries(there.text, portion)


def _entries(text: str, portion: Portion) -> list[GeneratedEntry]:
    """The entries that were taken from what is forgotten, stand for a passage of it, or say what one says."""
    return [
        entry
        for entry in generated_entries(text)
        if portion.means(entry.source_path, entry.start_line, entry.end_line, entry.text)
        or any(portion.mentions.cites(key) for key in entry.keys)
        or portion.mentions.within(entry.text)
    ]


def _holding(rows: Sequence[Row], portion: Portion) -> list[str]:
    found: list[str] = []
    for row in rows:
        before: bytes = row["before"] or b""
        if portion.mentions.within(f"{before.decode('utf-8', 'replace')}\n{row['details']}"):
            found.append(row["id"])
    return found
