"""Notes of the past as entries of the diary, and as evidence: read, staged, and taken back.

Everything is idempotent: what a note says replaces what it said in the diary before, and its evidence counts once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from reverie.dreaming.grounded import GroundedNote, findings_of, grounded, without_grounds
from reverie.dreaming.ingestion import note_day
from reverie.errors import MemoryPathError
from reverie.memory.documents import MEMORY_FOLDER, FileContent, SeenFile, read_file, walk_memory
from reverie.memory.forgotten import ForgottenNotes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.evidence import RecallEntries
    from reverie.dreaming.noticing import Tags
    from reverie.dreaming.sources import NoteAuthors
    from reverie.storage.database import Database, Transaction

NOTES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Sources:
    """The daily notes that a path names, oldest first; `more` than are looked at at once: name a part of them."""

    paths: tuple[str, ...]
    more: bool = False


class Change(NamedTuple):
    """What became of one entry: before, and after. None: it was not, or is not any more."""

    before: RecallEntry | None
    after: RecallEntry | None


class Backfill:
    """The notes of one agent's past. `bytes_max` is the largest note that is read."""

    def __init__(
        self,
        database: Database,
        recalls: RecallEntries,
        *,
        agent: str,
        workspace: Path,
        origins: NoteAuthors,
        tags: Tags,
        bytes_max: int,
    ) -> None:
        self._database = database
        self._recalls = recalls
        self._forgotten = ForgottenNotes(database)
        self._agent = agent
        self._workspace = workspace
        self._origins = origins
        self._tags = tags
        self._bytes_max = bytes_max

    async def sources(self, given: Path) -> Sources:
        """The daily notes that a path names: one, or all below a folder. It is one of the workspace, or in it.

        Raises:
            MemoryPathError: there is nothing there, or it is no daily note of this memory.
        """
        return await asyncio.to_thread(_sources, self._workspace, given)

    async def read(self, path: str) -> GroundedNote | None:
        """What in a note is evidence, and was not forgotten; None if it cannot be read.

        Raises:
            StorageError: whose words it holds could not be looked up.
        """
        held = await asyncio.to_thread(read_file, self._workspace, path, self._bytes_max)
        if not isinstance(held, FileContent):
            return None
        text = await self._forgotten.visible(self._agent, path, held.text)
        origins = await self._origins.of_lines(self._agent, text)
        return await asyncio.to_thread(findings_of, path, note_day(path), text, origins, tags=self._tags)

    async def stage(self, note: GroundedNote, now_ms: int) -> list[Change]:
        """Count what a note says as evidence; returns what that changed.

        Raises:
            StorageError: it could not be written; nothing of this note was.
        """

        def work(tx: Transaction) -> list[Change]:
            known = {entry.key: entry for entry in self._recalls.known_of(tx, self._agent, note.path)}
            changes: list[Change] = []
            for finding in note.findings:
                entry = grounded(known.values(), finding, note.day, now_ms)
                if entry is not None:
                    changes.append(Change(known.get(entry.key), entry))
                    known[entry.key] = entry
            written = [change.after for change in changes if change.after is not None]
            self._recalls.keep(tx, self._agent, written, now_ms)
            return changes

        return await self._database.write(work)

    async def take_back(self, now_ms: int) -> AsyncIterator[list[Change]]:
        """Take the evidence of notes back, a page at a time; what rests on nothing else is known no more.

        Raises:
            StorageError: it could not be written; the pages before it are done.
        """
        async for page in self._recalls.grounded(self._agent):
            keys = [entry.key for entry in page]
            yield await self._database.write(lambda tx, keys=keys: self._take_back(tx, keys, now_ms))

    def _take_back(self, tx: Transaction, keys: list[str], now_ms: int) -> list[Change]:
        found = (self._recalls.known_under(tx, self._agent, key) for key in keys)
        changes = [Change(entry, without_grounds(entry)) for entry in found if entry is not None]
        changes = [change for change in changes if change.before != change.after]
        kept = [change.after for change in changes if change.after is not None]
        gone = [change.before.key for change in changes if change.after is None and change.before is not None]
        self._recalls.keep(tx, self._agent, kept, now_ms, gone=gone)
        return changes


def _sources(workspace: Path, given: Path) -> Sources:
    path = _in_workspace(workspace, given)
    if (workspace / path).is_dir():
        notes = (each for each in walk_memory(workspace, path) if isinstance(each, SeenFile) and note_day(each.path))
        found = [each.path for each in islice(notes, NOTES_MAX + 1)]
        ordered = sorted(found[:NOTES_MAX], key=lambda each: (note_day(each), each))
        return Sources(tuple(ordered), more=len(found) > NOTES_MAX)
    if not note_day(path):
        raise MemoryPathError(f"{path} is no daily note: notes of the past are memory/YYYY-MM-DD.md, also in folders")
    return Sources((path,))


def _in_workspace(workspace: Path, given: Path) -> str:
    """A path as that of a file or folder below `memory/`, however a person wrote it."""
    root = workspace.resolve()
    tried = [given] if given.is_absolute() else [workspace / given, given]
    found = next((each.resolve() for each in tried if each.exists()), None)
    if found is None:
        raise MemoryPathError(f"there is no {given}: name a daily note, or a folder of them, in {workspace}")
    if not found.is_relative_to(root / MEMORY_FOLDER):
        message = f"{given} is not below {workspace / MEMORY_FOLDER}: evidence is what stands in the memory itself"
        raise MemoryPathError(message)
    return found.relative_to(root).as_posix()
