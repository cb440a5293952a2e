"""Bring the index in step with a workspace: read what changed, leave the rest alone, forget what is gone.

A file is read again when its size or modification time differs from what the index knows, and cut again only when its
content does. One that has another name, and nothing else new, keeps its chunks and vectors. Files are handled a few at
a time, so that one which must be findable now waits for at most one such batch.

Invariant: each file is one transaction, and it is written only onto the state it was compared with. So what is indexed
is always one state the file really had, and of two runs that meet the same file, the one that read it later wins.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from reverie.memory.chunking import ChunkLimits, chunk_document, chunk_lines
from reverie.memory.documents import (
    MEMORY_FOLDER,
    SeenFile,
    SkippedFile,
    find_file,
    is_indexed_path,
    parse_markdown,
    read_file,
    split_lines,
    stat_file,
    walk_memory,
    without_comments,
)
from reverie.memory.forgotten import without_forgotten
from reverie.memory.passages import content_hash, make_passage
from reverie.memory.store import (
    Change,
    KnownFile,
    ReadFile,
    agent_number,
    known_files,
    list_files,
    move_file,
    remove_file,
    touch_file,
    write_file,
)
from reverie.types import TRUSTED, least_trusted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.memory.documents import FileContent
    from reverie.memory.forgotten import ForgottenNotes
    from reverie.memory.notices import FileNotices
    from reverie.memory.passages import Passage
    from reverie.storage.database import Database
    from reverie.types import Chunk, Provenance

FILES_AT_ONCE = 32
BYTES_AT_ONCE = 4 * 1024 * 1024
"""Files are read and written in batches of at most so many, and so large unless one file alone is larger."""

COMPARED_AT_ONCE = 500
CONFLICTS_MAX = 5
"""So often a file is read again because another run wrote it meanwhile; then that run has the last word."""

REASONS_MAX = 1_000
RECENT_CHANGE_NS = 2_000_000_000
"""A file that changed this shortly before it was read may have changed again within one tick of its clock."""

_LAST = "\U0010ffff"
_DATED = re.compile(r"^memory/(?:.*/)?(\d{4}-\d{2}-\d{2})[^/]*\.md$")


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one run over a workspace did, in files and chunks. `skipped` and `broken` name at most `REASONS_MAX` files.

    A file counts as renamed when it keeps its content under another name; `unchanged` ones are as the index knew them.
    """

    added: int = 0
    changed: int = 0
    renamed: int = 0
    removed: int = 0
    unchanged: int = 0
    chunks_added: int = 0
    chunks_reused: int = 0
    chunks_removed: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    broken: tuple[str, ...] = ()
    took_ms: float = 0.0

    @property
    def found_changes(self) -> bool:
        """Whether the index was behind the files."""
        return bool(self.added or self.changed or self.renamed or self.removed)


@dataclass(frozen=True, slots=True)
class _SameContent:
    """A file whose content is what the index knows, though its time or size said otherwise."""

    now: KnownFile


@dataclass(frozen=True, slots=True)
class _Renamed:
    """A file whose content the index knows under a name that is gone."""

    known: KnownFile
    now: KnownFile


@dataclass(frozen=True, slots=True)
class _NewContent:
    """A file whose content the index does not know: what is to be cut."""

    content_hash: bytes
    content: FileContent


@dataclass(frozen=True, slots=True)
class _ToRead:
    """A file to read: what the index holds of it, or else perhaps under which other name.

    `forgotten` are the paragraphs that are left out. Such a file is cut anew whenever it is read.
    """

    path: str
    mtime_ns: int = 0
    size_bytes: int = 0
    known: KnownFile | None = None
    renamed_from: KnownFile | None = None
    forgotten: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class _Looked:
    """A path and what was found there; `found` None: nothing to index."""

    path: str
    known: KnownFile | None
    found: ReadFile | _NewContent | _SameContent | _Renamed | SkippedFile | None
    looked_at_ms: int
    broken: bool = False
    forgotten: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class _Differences:
    """Where workspace and index differ: files to read, and what the index knows of files that were not met."""

    to_read: list[_ToRead] = field(default_factory=list[_ToRead])
    gone: dict[str, KnownFile] = field(default_factory=dict[str, KnownFile])


@dataclass(slots=True)
class _Tally:
    """A report while it grows, and the notices that follow it."""

    notices: FileNotices
    counts: dict[str, int] = field(default_factory=dict[str, int])
    skipped: list[SkippedFile] = field(default_factory=list[SkippedFile])
    broken: list[str] = field(default_factory=list[str])

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def skip(self, file: SkippedFile) -> None:
        self.notices.skip(file)
        if len(self.skipped) < REASONS_MAX:
            self.skipped.append(file)

    def read(self, path: str, *, broken: bool) -> None:
        self.notices.read(path, damaged=broken)
        if broken and len(self.broken) < REASONS_MAX:
            self.broken.append(path)

    def report(self, took_ms: float) -> SyncReport:
        return SyncReport(
            **self.counts, skipped=tuple(self.skipped), broken=tuple(sorted(self.broken)), took_ms=took_ms
        )


class WhoseLines(Protocol):
    """Who knows whose words the lines of a note are."""

    async def of_lines(self, agent: str, text: str) -> tuple[Provenance, ...]:
        """Whose words each line of a whole note is."""
        ...


class WhoseSkill(Protocol):
    """Who knows whose words a skill is."""

    async def whose(self, agent: str, name: str, text: str) -> Provenance:
        """Whose words the whole text of a skill's file is."""
        ...


class WorkspaceSync:
    """Syncs the files of one agent. `follow` is told of every committed change.

    `origins` None: what stands in notes is their owner's.
    """

    def __init__(
        self,
        database: Database,
        agent: str,
        workspace: Path,
        *,
        file_bytes_max: int,
        clock: Clock,
        limits: ChunkLimits,
        notices: FileNotices,
        follow: Callable[[Change], Awaitable[None]],
        forgotten: ForgottenNotes | None = None,
        origins: WhoseLines | None = None,
    ) -> None:
        self._forgotten = forgotten
        self._database = database
        self._agent = agent
        self._workspace = workspace
        self._file_bytes_max = file_bytes_max
        self._clock = clock
        self._limits = limits
        self._notices = notices
        self._follow = follow
        self._origins = origins
        self._whole = asyncio.Lock()

    async def run(self, paths: Collection[str] | None) -> SyncReport:
        """Sync the whole workspace, or the given files and folders of it (workspace-relative).

        Two runs over the whole workspace follow one another.
        """
        if paths is not None:
            return await self._run(paths)
        async with self._whole:
            return await self._run(None)

    async def _run(self, paths: Collection[str] | None) -> SyncReport:
        started_s = self._clock.monotonic_s()
        tally = _Tally(self._notices)
        skipped_before = self._notices.skipped_below(paths)
        agent_id = await self._number()
        if paths is None:
            differences = await self._compare(agent_id, "", tally)
        else:
            differences = await self._look_for(agent_id, paths, tally)
        await asyncio.to_thread(_pair_renames, differences)
        await self._note_forgotten(differences)
        await self._read_and_write(agent_id, differences, tally)
        await self._forget(agent_id, differences.gone.values(), tally)
        self._notices.clear(skipped_before.difference(file.path for file in tally.skipped))
        await self._save_notices(agent_id)
        return tally.report((self._clock.monotonic_s() - started_s) * 1000)

    async def _number(self) -> int:
        """The agent's number. Memory follows what was written also when the sync is cancelled here."""
        return await asyncio.shield(self._numbered())

    async def _numbered(self) -> int:
        known = await self._database.read(lambda tx: tx.value("find_agent", agent=self._agent))
        if known is not None:
            return int(known)
        change = Change()
        agent_id = await self._database.write(lambda tx: agent_number(tx, self._agent, change))
        await self._follow(change)
        return agent_id

    async def _save_notices(self, agent_id: int) -> None:
        if self._notices.unsaved:
            self._notices.unsaved = False
            await self._database.write(lambda tx: self._notices.save(tx, agent_id))

    # -- finding what differs ------------------------------------------------------------------------------------

    async def _compare(self, agent_id: int, under: str, tally: _Tally) -> _Differences:
        """Walk along the files and along the documents, both in path order, and note where they differ."""
        differences = _Differences()
        walk = walk_memory(self._workspace, under)
        after, last = _below(under) if under else ("", _LAST)
        ended = False
        while not ended:
            seen, skipped, ended = await asyncio.to_thread(_next_part, walk)
            for file in skipped:
                tally.skip(file)
            end = next(reversed(seen), after)
            high = last if ended else f"{end}\x01"
            while known := await self._list(agent_id, after, high):
                _compare_part(seen, known, differences, tally)
                after = known[-1].path
            differences.to_read += [_ToRead(*file) for file in seen.values()]
            after = max(after, end)
        return differences

    async def _list(self, agent_id: int, after: str, high: str) -> list[KnownFile]:
        return await self._database.read(lambda tx: list_files(tx, agent_id, after, high, COMPARED_AT_ONCE))

    async def _look_for(self, agent_id: int, paths: Collection[str], tally: _Tally) -> _Differences:
        """Files that are named are read whatever the index knows; folders are compared."""
        differences = _Differences()
        files, folders = await asyncio.to_thread(_files_and_folders, paths)
        for start in range(0, len(files), COMPARED_AT_ONCE):
            await self._look_for_files(agent_id, files[start : start + COMPARED_AT_ONCE], differences, tally)
        for folder in folders:
            below = await self._compare(agent_id, folder, tally)
            differences.to_read += below.to_read
            differences.gone |= below.gone
        differences.to_read = list({one.path: one for one in differences.to_read}.values())
        return differences

    async def _look_for_files(
        self, agent_id: int, files: Sequence[str], differences: _Differences, tally: _Tally
    ) -> None:
        known = await self._database.read(lambda tx: known_files(tx, agent_id, files))
        met = await asyncio.to_thread(lambda: [find_file(self._workspace, path) for path in files])
        for path, found in zip(files, met, strict=True):
            _note_named(path, known.get(path), found, differences, tally)

    async def _note_forgotten(self, differences: _Differences) -> None:
        """Say of the files to read what was forgotten of them; of nearly all it is nothing."""
        if self._forgotten is None:
            return
        paths = await self._forgotten.paths(self._agent)
        for at, one in enumerate(differences.to_read if paths else ()):
            if one.path in paths:
                digests = await self._forgotten.paragraphs(self._agent, one.path)
                differences.to_read[at] = replace(one, forgotten=digests)

    # -- reading and writing -------------------------------------------------------------------------------------

    async def _read_and_write(self, agent_id: int, differences: _Differences, tally: _Tally) -> None:
        """Batch by batch. The next is not read while one is written: both need the interpreter, and so do turns."""
        for batch in _batches(differences.to_read, self._file_bytes_max):
            looked = await self._looked_at(batch)
            await self._write(agent_id, looked, differences, tally)

    async def _looked_at(self, batch: Sequence[_ToRead]) -> list[_Looked]:
        """Read files, and cut those with new content, knowing whose words each of their lines is."""
        looked = await asyncio.to_thread(self._look_at, batch)
        whose: dict[str, tuple[Provenance, ...]] = {}
        for one in looked:
            if self._origins is not None and isinstance(one.found, _NewContent):
                whose[one.path] = await self._origins.of_lines(self._agent, one.found.content.text)
        return await asyncio.to_thread(lambda: [self._cut(one, whose.get(one.path, ())) for one in looked])

    async def _write(self, agent_id: int, looked: Sequence[_Looked], differences: _Differences, tally: _Tally) -> None:
        """Write a batch, to its end even when the run is cancelled: memory follows what is committed."""
        await asyncio.shield(asyncio.gather(*(self._apply(agent_id, one, differences, tally) for one in looked)))

    async def _apply(self, agent_id: int, looked: _Looked, differences: _Differences, tally: _Tally) -> None:
        """Write what was found at one path; look again when another run has written it since."""
        for _ in range(CONFLICTS_MAX):
            if await self._applied(agent_id, looked, differences, tally):
                break
            known = await self._database.read(lambda tx: known_files(tx, agent_id, [looked.path]))  # noqa: B023 (runs now)
            again = _ToRead(looked.path, known=known.get(looked.path), forgotten=looked.forgotten)
            [looked] = await self._looked_at([again])
        if looked.found is None:
            self._notices.clear([looked.path])
        elif not isinstance(looked.found, SkippedFile):
            tally.read(looked.path, broken=looked.broken)

    async def _applied(self, agent_id: int, looked: _Looked, differences: _Differences, tally: _Tally) -> bool:
        """False when the index no longer holds what the file was compared with; nothing was written then."""
        known = looked.known
        match looked.found:
            case _SameContent(now):
                assert known is not None
                applied = await self._database.write(lambda tx: touch_file(tx, agent_id, known, now))
                tally.add(unchanged=int(applied))
            case _Renamed(old, now):
                applied = await self._database.write(lambda tx: move_file(tx, agent_id, old, now))
                if applied:
                    differences.gone.pop(old.path, None)
                    tally.add(renamed=1)
            case ReadFile() as file:
                change = await self._database.write(
                    lambda tx: write_file(tx, agent_id, file, known, looked.looked_at_ms)
                )
                applied = await self._followed(change, tally)
                tally.add(**{"added" if known is None else "changed": int(applied)})
            case found:
                assert not isinstance(found, _NewContent), "what is written was cut before"
                if isinstance(found, SkippedFile):
                    tally.skip(found)
                applied = known is None or await self._remove(agent_id, known, tally)
        return applied

    async def _remove(self, agent_id: int, known: KnownFile, tally: _Tally) -> bool:
        removed = await self._followed(await self._database.write(lambda tx: remove_file(tx, agent_id, known)), tally)
        tally.add(removed=int(removed))
        return removed

    async def _followed(self, change: Change | None, tally: _Tally) -> bool:
        if change is None:
            return False
        tally.add(chunks_added=change.added, chunks_reused=change.reused, chunks_removed=len(change.removed_ids))
        await self._follow(change)
        return True

    async def _forget(self, agent_id: int, gone: Iterable[KnownFile], tally: _Tally) -> None:
        """Remove what the index knows but the walk did not meet, after a second look at the disk."""
        files = list(gone)
        for start in range(0, len(files), FILES_AT_ONCE):
            part = files[start : start + FILES_AT_ONCE]
            missing = await asyncio.to_thread(self._missing, part)
            self._notices.clear([file.path for file in missing if file.path not in self._notices.skipped])
            await asyncio.shield(asyncio.gather(*(self._remove(agent_id, file, tally) for file in missing)))

    # -- on a worker thread --------------------------------------------------------------------------------------

    def _missing(self, files: Sequence[KnownFile]) -> list[KnownFile]:
        """Those of which no file is left, or none that is indexed."""
        return [f for f in files if not is_indexed_path(f.path) or stat_file(self._workspace, f.path) is None]

    def _look_at(self, batch: Sequence[_ToRead]) -> list[_Looked]:
        return [self._look(one) for one in batch]

    def _look(self, wanted: _ToRead) -> _Looked:
        path, known, looked_at_ms = wanted.path, wanted.known, self._clock.now_ms()
        content = read_file(self._workspace, path, self._file_bytes_max)
        if content is None or isinstance(content, SkippedFile):
            return _Looked(path, known, content, looked_at_ms, forgotten=wanted.forgotten)
        digest = content_hash(content.data)
        found: _NewContent | _SameContent | _Renamed
        if known is not None and known.content_hash == digest and not wanted.forgotten:
            found = _SameContent(_known_now(known.document_id, path, digest, content, looked_at_ms))
        elif (old := wanted.renamed_from) is not None and not wanted.forgotten and self._is_renamed(old, path, digest):
            found = _Renamed(old, _known_now(old.document_id, path, digest, content, looked_at_ms))
        else:
            visible = without_forgotten(content.text, wanted.forgotten)
            found = _NewContent(digest, content if visible == content.text else replace(content, text=visible))
        return _Looked(path, known, found, looked_at_ms, content.broken, wanted.forgotten)

    def _cut(self, looked: _Looked, whose: Sequence[Provenance]) -> _Looked:
        if not isinstance(looked.found, _NewContent):
            return looked
        content = looked.found.content
        passages = file_passages(looked.path, content.text, content.mtime_ns // 1_000_000, self._limits, whose)
        read = ReadFile(looked.path, looked.found.content_hash, content.mtime_ns, len(content.data), passages)
        return replace(looked, found=read)

    def _is_renamed(self, old: KnownFile, path: str, digest: bytes) -> bool:
        """Whether it is the same content and day, and nothing is left under the old name."""
        same = old.content_hash == digest and dated_path(old.path) == dated_path(path)
        return same and stat_file(self._workspace, old.path) is None


def _known_now(document_id: int, path: str, digest: bytes, content: FileContent, looked_at_ms: int) -> KnownFile:
    return KnownFile(document_id, path, digest, content.mtime_ns, len(content.data), looked_at_ms)


def _next_part(walk: Iterator[SeenFile | SkippedFile]) -> tuple[dict[str, SeenFile], list[SkippedFile], bool]:
    """The next files of a walk by path, those left out, and whether it has ended."""
    met = list(islice(walk, COMPARED_AT_ONCE))
    seen = {file.path: file for file in met if isinstance(file, SeenFile) and is_indexed_path(file.path)}
    return seen, [file for file in met if isinstance(file, SkippedFile)], len(met) < COMPARED_AT_ONCE


def _compare_part(
    seen: dict[str, SeenFile], known: Sequence[KnownFile], differences: _Differences, tally: _Tally
) -> None:
    """Take from `seen` what the index knows, and note what differs."""
    for one in known:
        file = seen.pop(one.path, None)
        if file is None:
            differences.gone[one.path] = one
        elif _is_as_known(file, one):
            tally.add(unchanged=1)
        else:
            differences.to_read.append(_ToRead(*file, one))


def _is_as_known(file: SeenFile, known: KnownFile) -> bool:
    same = (known.mtime_ns, known.size_bytes) == (file.mtime_ns, file.size_bytes)
    return same and known.indexed_at_ms * 1_000_000 - file.mtime_ns > RECENT_CHANGE_NS


def _note_named(
    path: str, known: KnownFile | None, found: SeenFile | SkippedFile | None, differences: _Differences, tally: _Tally
) -> None:
    """A file that was named: it is read, or gone, or left out."""
    if isinstance(found, SeenFile):
        differences.to_read.append(_ToRead(*found, known))
        return
    if isinstance(found, SkippedFile):
        tally.skip(found)
    if known is not None:
        differences.gone[path] = known


def _pair_renames(differences: _Differences) -> None:
    """Guess for each new file under which name it was known: one that is gone, of the same time and size."""
    gone: dict[tuple[int, int], list[KnownFile]] = {}
    for known in differences.gone.values():
        gone.setdefault((known.mtime_ns, known.size_bytes), []).append(known)
    for at, one in enumerate(differences.to_read if gone else ()):
        candidates = gone.get((one.mtime_ns, one.size_bytes)) if one.known is None else None
        if candidates:
            differences.to_read[at] = replace(one, renamed_from=candidates.pop())


def _batches(files: Sequence[_ToRead], file_bytes_max: int) -> Iterator[list[_ToRead]]:
    """At most `FILES_AT_ONCE` files and `BYTES_AT_ONCE` bytes each, unless one file alone is larger."""
    batch: list[_ToRead] = []
    size = 0
    for one in files:
        read_bytes = one.size_bytes if one.size_bytes <= file_bytes_max else 0
        if batch and (len(batch) == FILES_AT_ONCE or size + read_bytes > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += read_bytes
    if batch:
        yield batch


def file_passages(
    path: str, text: str, mtime_ms: int, limits: ChunkLimits, whose: Sequence[Provenance] = ()
) -> tuple[Passage, ...]:
    """The passages of a Markdown file. A file named by a date is of that day, any other of its modification time.

    `whose` says for each line whose words it is; without it they are the owner's. A passage is the least trusted one's
    of its lines. Cut at headings, none mixes the owner's words with a stranger's; cut by lines, a passage has no
    heading, so that what is embedded is exactly its text.
    """
    day = dated_path(path)
    created_at_ms = mtime_ms if day is None else int(datetime.fromisoformat(f"{day}T00:00+00:00").timestamp() * 1000)
    passages: list[Passage] = []
    for unit, chunk in enumerate(_cut(text, limits, whose), 1):
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
                provenance=least_trusted(whose[chunk.start_line - 1 : chunk.end_line]),
                created_at_ms=created_at_ms,
            )
        )
    return tuple(passages)


def _cut(text: str, limits: ChunkLimits, whose: Sequence[Provenance]) -> list[Chunk]:
    """The chunks of a file; by lines, comments are text, but a file of nothing else still holds nothing."""
    if limits.chunker == "lines":
        if not without_comments(text).strip():
            return []
        return chunk_lines(text, limits.tokens, limits.overlap_tokens)
    return chunk_document(parse_markdown(text), limits, _trust_changes(text, whose))


def _trust_changes(text: str, whose: Sequence[Provenance]) -> frozenset[int]:
    """The lines at which words that may be trusted follow others, or others follow them; blank ones aside."""
    if TRUSTED.issuperset(whose):
        return frozenset()
    marked = zip(split_lines(text), whose, strict=False)
    told = [(n, each if each not in TRUSTED else "owner") for n, (line, each) in enumerate(marked, 1) if line.strip()]
    return frozenset(after[0] for before, after in pairwise(told) if before[1] != after[1])


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


def _files_and_folders(paths: Collection[str]) -> tuple[list[str], list[str]]:
    """The files to index and the folders of the memory among some paths; no folder that lies in another of them."""
    named = set(paths)
    files = sorted(path for path in named if is_indexed_path(path))
    folders: dict[str, None] = {}
    for path in sorted(named):
        first, *rest = path.split("/")
        counts = first == MEMORY_FOLDER and not path.endswith(".md") and ".." not in rest
        if counts and not any(str(above) in folders for above in PurePosixPath(path).parents):
            folders[path] = None
    return files, list(folders)


def _below(path: str) -> tuple[str, str]:
    """The range of paths inside a folder: from `path/` up to, but not including, the next name."""
    return f"{path}/", f"{path}0"
