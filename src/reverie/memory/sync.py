"""Bring the index in step with a workspace: read what changed, leave the rest alone, forget what is gone.

A file is read again when its size or modification time differs from what the index knows, and cut again only when its
content does. Files are handled a few at a time, so that one which must be findable now never waits for a whole walk.

Invariant: each file is one transaction, and what is indexed is always one state the file really had: of two runs that
meet the same file, the later reads it later.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reverie.memory.chunking import ChunkLimits, chunk_document, chunk_lines
from reverie.memory.documents import (
    FILES_MAX,
    SkippedFile,
    is_indexed_path,
    parse_markdown,
    read_file,
    stat_file,
    walk_memory,
    without_comments,
)
from reverie.memory.passages import content_hash, make_passage
from reverie.memory.store import (
    Change,
    KnownFile,
    ReadFile,
    agent_number,
    known_files,
    remove_file,
    touch_file,
    write_file,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.memory.passages import Passage
    from reverie.storage.database import Database, Row
    from reverie.types import Chunk

FILES_AT_ONCE = 16
LISTED_AT_ONCE = 500
REASONS_MAX = 1_000
RECENT_CHANGE_NS = 2_000_000_000
"""A file that changed this shortly before it was read may have changed again within one tick of its clock."""

_DATED = re.compile(r"^memory/(?:.*/)?(\d{4}-\d{2}-\d{2})[^/]*\.md$")


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one run over a workspace did. `skipped` and `broken` name at most `REASONS_MAX` files each."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    chunks_added: int = 0
    chunks_reused: int = 0
    chunks_removed: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    broken: tuple[str, ...] = ()
    took_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class _SameContent:
    """A file whose content is what the index knows, though its time or size said otherwise."""

    known: KnownFile
    mtime_ns: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Looked:
    """A path and what was found there; `found` None: nothing to index, `known` what the index held before."""

    path: str
    known: KnownFile | None
    found: ReadFile | _SameContent | KnownFile | SkippedFile | None
    broken: bool = False


@dataclass(slots=True)
class _Tally:
    """A report while it grows."""

    counts: dict[str, int] = field(default_factory=dict[str, int])
    skipped: list[SkippedFile] = field(default_factory=list[SkippedFile])
    broken: list[str] = field(default_factory=list[str])

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


class WorkspaceSync:
    """Syncs the files of one agent. `follow` is told of every committed change."""

    def __init__(
        self,
        database: Database,
        agent: str,
        workspace: Path,
        *,
        file_bytes_max: int,
        clock: Clock,
        limits: ChunkLimits,
        follow: Callable[[Change], Awaitable[None]],
    ) -> None:
        self._database = database
        self._agent = agent
        self._workspace = workspace
        self._file_bytes_max = file_bytes_max
        self._clock = clock
        self._limits = limits
        self._follow = follow
        self._turn = asyncio.Lock()

    async def run(self, paths: Collection[str] | None) -> SyncReport:
        """Sync the whole workspace, or the given files and folders of it (workspace-relative)."""
        started = self._clock.monotonic_s()
        tally = _Tally()
        agent_id = await self._number()
        targets = await asyncio.to_thread(_targets, self._workspace, paths)
        if len(targets) >= FILES_MAX:
            tally.skipped.append(SkippedFile("memory", f"more than {FILES_MAX:,} files: the others are left out"))
        for start in range(0, len(targets), FILES_AT_ONCE):
            await self._sync_files(agent_id, targets[start : start + FILES_AT_ONCE], tally, forced=paths is not None)
        await self._forget_vanished(agent_id, set(targets), paths, tally)
        took_ms = (self._clock.monotonic_s() - started) * 1000
        return SyncReport(
            **tally.counts,
            skipped=tuple(tally.skipped[:REASONS_MAX]),
            broken=tuple(tally.broken[:REASONS_MAX]),
            took_ms=took_ms,
        )

    async def _number(self) -> int:
        """The agent's number. Memory follows what was written also when the sync is cancelled here."""
        return await asyncio.shield(self._numbered())

    async def _numbered(self) -> int:
        change = Change()
        agent_id = await self._database.write(lambda tx: agent_number(tx, self._agent, change))
        await self._follow(change)
        return agent_id

    async def _sync_files(self, agent_id: int, paths: Sequence[str], tally: _Tally, *, forced: bool) -> None:
        async with self._turn:
            known = await self._database.read(lambda tx: known_files(tx, agent_id, paths))
            looked = await asyncio.to_thread(
                lambda: [self._look(path, known.get(path), forced=forced) for path in paths]
            )
            await asyncio.shield(asyncio.gather(*(self._apply(agent_id, one, tally) for one in looked)))

    async def _apply(self, agent_id: int, looked: _Looked, tally: _Tally) -> None:
        """Write what was found at one path."""
        now_ms = self._clock.now_ms()
        if looked.broken:
            tally.broken.append(looked.path)
        match looked.found:
            case KnownFile():
                tally.add(unchanged=1)
            case _SameContent(known, mtime_ns, size):
                await self._database.write(
                    lambda tx: touch_file(tx, known, mtime_ns=mtime_ns, size_bytes=size, now_ms=now_ms)
                )
                tally.add(unchanged=1)
            case ReadFile() as file:
                change = await self._database.write(lambda tx: write_file(tx, agent_id, file, now_ms))
                tally.add(**{"added" if looked.known is None else "changed": 1})
                await self._followed(change, tally)
            case found:
                if isinstance(found, SkippedFile):
                    tally.skipped.append(found)
                if looked.known is not None:
                    await self._remove(looked.known.document_id, tally)

    async def _remove(self, document_id: int, tally: _Tally) -> None:
        change = await self._database.write(lambda tx: remove_file(tx, document_id))
        tally.add(removed=1)
        await self._followed(change, tally)

    async def _followed(self, change: Change, tally: _Tally) -> None:
        tally.add(chunks_added=change.added, chunks_reused=change.reused, chunks_removed=len(change.removed_ids))
        await self._follow(change)

    async def _forget_vanished(
        self, agent_id: int, seen: set[str], paths: Collection[str] | None, tally: _Tally
    ) -> None:
        """Remove what the index knows but the walk did not meet, after a second look at the disk."""
        ranges = [("", "\U0010ffff")] if paths is None else [_below(path) for path in paths if not path.endswith(".md")]
        for low, high in ranges:
            after = low
            while rows := await self._list(agent_id, after, high):
                await self._remove_missing([row for row in rows if row["path"] not in seen], tally)
                after = rows[-1]["path"]

    async def _list(self, agent_id: int, after: str, high: str) -> list[Row]:
        return await self._database.read(
            lambda tx: tx.rows("list_documents", agent_id=agent_id, after=after, high=high, limit=LISTED_AT_ONCE)
        )

    async def _remove_missing(self, rows: list[Row], tally: _Tally) -> None:
        for start in range(0, len(rows), FILES_AT_ONCE):
            part = rows[start : start + FILES_AT_ONCE]
            async with self._turn:
                missing = await asyncio.to_thread(self._missing, part)
                await asyncio.shield(asyncio.gather(*(self._remove(row["id"], tally) for row in missing)))

    # -- on a worker thread --------------------------------------------------------------------------------------

    def _missing(self, rows: list[Row]) -> list[Row]:
        """The documents of which no file is left."""
        paths = ((row, row["path"]) for row in rows)
        return [row for row, path in paths if not is_indexed_path(path) or stat_file(self._workspace, path) is None]

    def _look(self, path: str, known: KnownFile | None, *, forced: bool) -> _Looked:
        info = stat_file(self._workspace, path)
        if not forced and known is not None and info is not None:
            same = (known.mtime_ns, known.size_bytes) == (info.mtime_ns, info.size_bytes)
            if same and known.indexed_at_ms * 1_000_000 - info.mtime_ns > RECENT_CHANGE_NS:
                return _Looked(path, known, known)
        content = read_file(self._workspace, path, self._file_bytes_max)
        if content is None or isinstance(content, SkippedFile):
            return _Looked(path, known, content)
        digest = content_hash(content.data)
        size = len(content.data)
        if known is not None and known.content_hash == digest:
            return _Looked(path, known, _SameContent(known, content.mtime_ns, size), content.broken)
        passages = file_passages(path, content.text, content.mtime_ns // 1_000_000, self._limits)
        return _Looked(path, known, ReadFile(path, digest, content.mtime_ns, size, passages), content.broken)


def file_passages(path: str, text: str, mtime_ms: int, limits: ChunkLimits) -> tuple[Passage, ...]:
    """The passages of a Markdown file. A file named by a date is of that day, any other of its modification time.

    Cut by lines, a passage has no heading, so that what is embedded is exactly its text.
    """
    day = dated_path(path)
    created_at_ms = mtime_ms if day is None else int(datetime.fromisoformat(f"{day}T00:00+00:00").timestamp() * 1000)
    passages: list[Passage] = []
    for unit, chunk in enumerate(_cut(text, limits), 1):
        part = 0
        if passages and passages[-1].start_line == chunk.start_line:
            part = passages[-1].part + 1
        passages.append(
            make_passage(
                start_line=chunk.start_line,
                end_line=chunk.end_line,
                unit=unit,
                part=part,
                text=chunk.text,
                heading=chunk.heading,
                said_on=day or "",
                created_at_ms=created_at_ms,
            )
        )
    return tuple(passages)


def _cut(text: str, limits: ChunkLimits) -> list[Chunk]:
    """The chunks of a file; by lines, comments are text, but a file of nothing else still holds nothing."""
    if limits.chunker == "lines":
        if not without_comments(text).strip():
            return []
        return chunk_lines(text, limits.tokens, limits.overlap_tokens)
    return chunk_document(parse_markdown(text), limits)


def dated_path(path: str) -> str | None:
    """The day a daily note is of, from its name `memory/YYYY-MM-DD….md`; None for other files and impossible days."""
    match = _DATED.match(path)
    if match is None:
        return None
    try:
        datetime.strptime(match[1], "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return match[1]


def _targets(workspace: Path, paths: Collection[str] | None) -> list[str]:
    """The files to look at, sorted: all there are, or the given ones and those in the given folders."""
    if paths is None:
        return sorted(set(walk_memory(workspace)))
    found: set[str] = set()
    for path in paths:
        if is_indexed_path(path):
            found.add(path)
        elif path.split("/")[0] == "memory" and ".." not in path.split("/"):
            found.update(file for file in walk_memory(workspace, path) if is_indexed_path(file))
    return sorted(found)


def _below(path: str) -> tuple[str, str]:
    """The range of paths inside a folder: from `path/` up to, but not including, the next name."""
    return f"{path}/", f"{path}0"
