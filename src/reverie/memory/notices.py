"""What a person should know of files that are left out of memory, or in it although damaged: which, and why.

Kept in `meta` of index.db, so that `reverie status` can tell of what the server met. At most `NOTICES_MAX` files of an
agent are named; further ones are logged only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from reverie.memory.documents import SkippedFile

if TYPE_CHECKING:
    from collections.abc import Collection

    from reverie.storage.database import Transaction

NOTICES_MAX = 1_000
DAMAGED_REASON = "some bytes are not UTF-8 and were replaced"
_KEY = "file_notices:"
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class FileNotices:
    """The notices of one agent. `unsaved` says that they differ from what is stored."""

    agent: str
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    damaged: set[str] = field(default_factory=set[str])
    unsaved: bool = False

    def skip(self, file: SkippedFile) -> None:
        """A file is left out; told in the log when that is news."""
        self._forget_damage(file.path)
        if self.skipped.get(file.path) == file.reason:
            return
        _log.warning(
            "a file is not indexed", action="file_skipped", agent=self.agent, file=file.path, reason=file.reason
        )
        if file.path in self.skipped or self._has_room():
            self.skipped[file.path] = file.reason
            self.unsaved = True

    def read(self, path: str, *, damaged: bool) -> None:
        """A file was read: it is not left out."""
        self.clear([path] if not damaged or path in self.skipped else [])
        if damaged and path not in self.damaged:
            _log.warning(
                "a file is damaged and indexed as far as it is text", action="file_damaged", agent=self.agent, file=path
            )
            if self._has_room():
                self.damaged.add(path)
                self.unsaved = True

    def clear(self, paths: Collection[str]) -> None:
        """There is nothing to tell of these files any more."""
        for path in paths:
            self._forget_damage(path)
            if self.skipped.pop(path, None) is not None:
                self.unsaved = True

    def skipped_below(self, paths: Collection[str] | None) -> set[str]:
        """The files left out among the given files and folders; None: all."""
        if paths is None:
            return set(self.skipped)
        return {file for file in self.skipped if any(file == path or file.startswith(f"{path}/") for path in paths)}

    def files(self) -> tuple[SkippedFile, ...]:
        """The files left out, in path order."""
        return tuple(SkippedFile(path, reason) for path, reason in sorted(self.skipped.items()))

    def save(self, tx: Transaction, agent_id: int) -> None:
        """Store them."""
        value = json.dumps({"skipped": self.skipped, "damaged": sorted(self.damaged)}, ensure_ascii=False)
        tx.execute("set_meta", key=f"{_KEY}{agent_id}", value=value)

    def _forget_damage(self, path: str) -> None:
        if path in self.damaged:
            self.damaged.discard(path)
            self.unsaved = True

    def _has_room(self) -> bool:
        return len(self.skipped) + len(self.damaged) < NOTICES_MAX


def stored_notices(tx: Transaction) -> dict[str, FileNotices]:
    """What is stored, by agent."""
    found: dict[str, FileNotices] = {}
    for agent, value in tx.tuples("list_file_notices", key=_KEY):
        stored = json.loads(value)
        found[agent] = FileNotices(agent, dict(stored["skipped"]), set(stored["damaged"]))
    return found
