"""Traces in `MEMORY.md`: entries that were promoted out of what is forgotten, and what is on record of its changes.

The entries are taken out as every change of `MEMORY.md` is made. The record of a change keeps the file as it was
before; where that holds what is forgotten it is kept no longer, so that no undoing brings it back. A record that names
it in any other way goes as a whole.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from reverie.dreaming.memory_file import MEMORY_FILE, Edit, decoded, encoded
from reverie.dreaming.sections import generated_entries, without_entries
from reverie.dreaming.traces import Edit as Shown
from reverie.dreaming.traces import Traces
from reverie.errors import MemoryPathError
from reverie.memory.forgetting import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.dreaming.memory_file import MemoryFile
    from reverie.dreaming.sections import GeneratedEntry
    from reverie.dreaming.traces import Portion
    from reverie.memory.index import MemoryIndex
    from reverie.storage.database import Database, Row

CHANGES_AT_ONCE = 20
"""Recorded changes that are looked at in one read; each may hold a whole MEMORY.md."""


class _Holding(NamedTuple):
    """A recorded change that holds some of it: its id, and the keys of the entries it holds."""

    id: str
    keys: frozenset[str]


class Promotions:
    """What was promoted out of it."""

    def __init__(self, database: Database, memory: MemoryIndex, file: MemoryFile) -> None:
        self._database = database
        self._memory = memory
        self._file = file

    async def look(self, portion: Portion) -> Traces:
        """Count entries and recorded changes, and say what becomes of the file."""
        found = Traces()
        try:
            await self._take_out(portion, found, dry_run=True)
        except MemoryPathError as error:
            found.remarks.append(str(error))
        found.counts["changes"] = len(await self._holding(portion))
        return found

    async def remove(self, portion: Portion) -> Traces:
        """Take the entries out, with the vectors kept of them; then keep no longer what stood there before.

        Raises:
            StorageError, HomeReadOnlyError, StorageFullError: something could not be written.
        """
        gone = Traces()
        agent = portion.agent
        holding = await self._holding(portion)
        gone.counts["changes"] = len(holding)
        keys = {key for each in holding for key in each.keys}
        try:
            lines = await self._lines(portion)
            if lines:
                await self._memory.forget_passages(agent, [Place(MEMORY_FILE, lines)], rows=False)
            keys |= await self._take_out(portion, gone, dry_run=False)
            if lines:
                await self._memory.sync_workspace(agent, [MEMORY_FILE])
        except MemoryPathError as error:
            gone.remarks.append(str(error))
        if keys:
            await self._file.forget_before(agent, keys)
        for each in await self._holding(portion):
            await self._database.write(lambda tx, each=each: tx.execute("delete_memory_change", id=each.id))
        return gone

    async def _take_out(self, portion: Portion, traces: Traces, *, dry_run: bool) -> set[str]:
        """Take the entries out of the file; the keys they stood for."""
        going: list[GeneratedEntry] = []

        async def decide(text: str) -> Edit | None:
            nonlocal going
            going = await asyncio.to_thread(_entries, text, portion)
            if not going:
                return None
            after = await asyncio.to_thread(without_entries, text, [key for entry in going for key in entry.keys])
            return Edit("forgetting", encoded(after), {"entries": len(going)})

        edited = await self._file.edit(portion.agent, decide, dry_run=dry_run)
        if going:
            traces.edits.append(Shown(MEMORY_FILE, await asyncio.to_thread(edited.diff)))
            traces.counts["promoted"] += len(going)
        return {key for entry in going for key in entry.keys}

    async def _lines(self, portion: Portion) -> frozenset[int]:
        """The lines of the file on which its entries stand now."""
        text = decoded(await self._file.read(portion.agent))
        going = await asyncio.to_thread(_entries, text, portion)
        return frozenset(line for entry in going for line in range(entry.first_line, entry.last_line + 1))

    async def _holding(self, portion: Portion) -> list[_Holding]:
        """The recorded changes whose text before, or whose details, hold some of it."""
        found: list[_Holding] = []
        after = ""
        while rows := await self._database.read(
            lambda tx, after=after: tx.rows(
                "memory_changes_after", agent=portion.agent, after=after, limit=CHANGES_AT_ONCE
            )
        ):
            after = rows[-1]["id"]
            found += await asyncio.to_thread(_holding, rows, portion)
        return found


def _entries(text: str, portion: Portion) -> list[GeneratedEntry]:
    """The entries that were taken from what is forgotten, stand for a passage of it, or say what one says."""
    return [
        entry
        for entry in generated_entries(text)
        if portion.means(entry.source_path, entry.start_line, entry.end_line, entry.text)
        or any(portion.mentions.cites(key) for key in entry.keys)
        or portion.mentions.within(entry.text)
    ]


def _holding(rows: Sequence[Row], portion: Portion) -> list[_Holding]:
    found: list[_Holding] = []
    for row in rows:
        before = decoded(row["before"])
        if portion.mentions.within(f"{before}\n{row['details']}"):
            keys = frozenset(key for entry in _entries(before, portion) for key in entry.keys)
            found.append(_Holding(row["id"], keys))
    return found
