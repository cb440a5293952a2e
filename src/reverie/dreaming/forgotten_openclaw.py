"""Traces in OpenClaw's files of recalls, where a workspace holds them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reverie.dreaming.openclaw_lock import FOLDER
from reverie.dreaming.openclaw_store import Reading, exists, forget_in_files
from reverie.dreaming.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.traces import Portion

CORPUS = f"{FOLDER}/session-corpus"
COPIES = f"OpenClaw's own copies of conversations in {CORPUS} are not looked through: delete them yourself."


class OpenClawFiles:
    """Entries of OpenClaw's recall store, with their reinforcements."""

    def __init__(self, workspaces: Mapping[str, Path], clock: Clock) -> None:
        self._workspaces = workspaces
        self._clock = clock

    async def look(self, portion: Portion) -> Traces:
        """Count them."""
        return await self._run(portion, write=False)

    async def remove(self, portion: Portion) -> Traces:
        """Take them out of the files.

        Raises:
            StorageError, HomeReadOnlyError: a file could not be written, or another program holds its lock.
        """
        return await self._run(portion, write=True)

    async def _run(self, portion: Portion, *, write: bool) -> Traces:
        found = Traces()
        workspace = self._workspaces[portion.agent]
        if not await asyncio.to_thread(exists, workspace):
            return found

        def is_meant(entry: RecallEntry) -> bool:
            return portion.means(entry.path, entry.start_line, entry.end_line, entry.snippet)

        reading = Reading(portion.now_ms)
        found.counts["openclaw"] = await forget_in_files(workspace, self._clock, reading, is_meant, write=write)
        if portion.dooms and await asyncio.to_thread((workspace / CORPUS).is_dir):
            found.remarks.append(COPIES)
        return found
