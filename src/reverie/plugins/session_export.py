"""The plugin `session_export`: each session as a file that follows it.

    [plugins.session_export]
    conversation_access = true
    settings = { folder = "/srv/conversations", forms = ["markdown", "jsonl"] }

After a turn, a compaction or a reset the session's file `AGENT/SESSION-ID.md` or `.jsonl` is written anew, wholly or
not at all, once the session has been quiet for a moment. The file is a copy: after a crash it may be one turn behind
until the next one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from reverie.errors import PluginError, ReverieError
from reverie.plugins.contract import Plugin

if TYPE_CHECKING:
    from io import BufferedWriter

    from reverie.plugins.contract import PluginContext
    from reverie.plugins.events import CompactionStep, SessionReset, TurnEnded

SUFFIXES = {"jsonl": ".jsonl", "markdown": ".md"}
CHANGED_MAX = 1_000
"""Sessions that may wait to be written; at this number they are written without waiting for quiet."""
RETRY_S = 30.0
TRIES_MAX = 5
"""A session that cannot be written so often is left until it changes again."""
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


class ExportSettings(BaseModel):
    """`[plugins.session_export.settings]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    forms: tuple[Literal["jsonl", "markdown"], ...] = Field(default=("markdown",), min_length=1)
    debounce_ms: int = Field(default=2_000, ge=0, le=600_000)


@dataclass(frozen=True, slots=True)
class _Changed:
    """A session to be written. Another value for the same session means that it changed again."""

    agent: str
    tries: int = 0


class SessionExport(Plugin):
    """Writes sessions into a folder."""

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self._settings = ExportSettings.model_validate(dict(context.settings))
        if context.transcripts is None:
            raise PluginError(f"it reads conversations: set plugins.{context.name}.conversation_access to true")
        self._transcripts = context.transcripts
        self._folder = self._settings.folder.expanduser()
        self._changed: dict[str, _Changed] = {}
        self._writer: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._closing = False

    async def after_turn(self, event: TurnEnded) -> None:
        """The session has grown."""
        self._note(event)

    async def on_compaction(self, event: CompactionStep) -> None:
        """A summary stands in the transcript now."""
        if event.state == "finished":
            self._note(event)

    async def on_reset(self, event: SessionReset) -> None:
        """The old session will not change any more."""
        self._note(event)

    async def close(self) -> None:
        """Write what is still to be written."""
        self._closing = True
        self._hurry.set()
        if self._writer is not None:
            await self._writer

    def _note(self, event: TurnEnded | CompactionStep | SessionReset) -> None:
        self._changed[event.session_id] = _Changed(event.agent)
        if len(self._changed) >= CHANGED_MAX:
            self._hurry.set()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Write what has changed, after a moment of collecting; what fails is tried again later."""
        quiet_s = wait_s = self._settings.debounce_ms / 1000
        while self._changed:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hurry.wait()
            self._hurry.clear()
            wait_s = quiet_s if await self._write_changed() else RETRY_S
            if self._closing:
                return

    async def _write_changed(self) -> bool:
        """Write every changed session once, and report those that could not be; False when one is to be tried again."""
        failed: dict[str, _Changed] = {}
        while self._changed:
            session_id, changed = next(iter(self._changed.items()))
            try:
                for form in self._settings.forms:
                    await self._write(session_id, changed.agent, form)
            except (OSError, ReverieError) as error:
                self.context.report(error)
                if changed.tries + 1 < TRIES_MAX:
                    failed[session_id] = _Changed(changed.agent, changed.tries + 1)
            if self._changed.get(session_id) is changed:  # else it has changed again meanwhile
                del self._changed[session_id]
        self._changed.update({key: value for key, value in failed.items() if key not in self._changed})
        return not failed

    async def _write(self, session_id: str, agent: str, form: Literal["jsonl", "markdown"]) -> None:
        """Write one file: beside its place, to the disk, then into its place."""
        target = self._folder / agent / f"{session_id}{SUFFIXES[form]}"
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        file = await asyncio.to_thread(_create, temporary)
        written = 0

        async def write(piece: bytes) -> None:
            nonlocal written
            await asyncio.to_thread(file.write, piece)
            written += len(piece)

        try:
            try:
                await self._transcripts.export(session_id, form, write)
                await asyncio.to_thread(_synced, file)
            finally:
                await asyncio.to_thread(file.close)
            await asyncio.to_thread(temporary.replace, target)
        except BaseException:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)
            raise
        self.context.add_event(session_id, "export.written", {"file": f"{agent}/{target.name}", "bytes": written})


def _create(path: Path) -> BufferedWriter:
    """A new file that nobody else reads, and its folder."""
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb")


def _synced(file: BufferedWriter) -> None:
    """Everything that was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())
