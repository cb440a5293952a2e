"""Traces in the workspace's files: notes, reports of sleep, the dream diary.

A file is written as a whole or not at all, under the workspace's lock, and only if nobody saved it in between. What is
cut is found anew then. A note's passages lose their cached vectors before it is cut, and leave the index afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

from reverie.dreaming.cuttings import (
    Stretch,
    deletion_diff,
    diary_lines,
    extract_lines,
    paragraph_lines,
    reported_lines,
    without_lines,
)
from reverie.dreaming.traces import Cut, Edit, Traces
from reverie.errors import StorageError
from reverie.memory.append import only_writer
from reverie.memory.documents import GENERATED_FOLDER, FileContent, SeenFile, read_file, split_lines, walk_memory
from reverie.memory.forgetting import Place
from reverie.memory.forgotten import paragraph_names
from reverie.memory.origins import paragraphs_of
from reverie.memory.workspace import write_atomic, write_error
from reverie.sessions.forgetting import note_names, quoting_summaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from reverie.dreaming.traces import Portion
    from reverie.memory.index import MemoryIndex
    from reverie.sessions.forgetting import Doomed
    from reverie.storage.database import Database

EDITS_MAX = 5
DIGESTS_AT_ONCE = 1_000
REPORTS_MAX = 10_000
REPORT_BYTES_MAX = 4 * 1024 * 1024
DIARY_BYTES_MAX = 64 * 1024 * 1024
DIARY_FILES = ("DREAMS.md", "dreams.md")
STAYS = "The file {path} stays on disk (--delete-file deletes it); it is not memory any more."


class _Held(NamedTuple):
    """A file's text, every byte of it, and what tells that it is still the same file."""

    text: str
    seen: tuple[int, int, int]


class Notes:
    """Notes that go, and what was written into others out of conversations that go."""

    def __init__(
        self, database: Database, memory: MemoryIndex, workspaces: Mapping[str, Path], *, file_bytes_max: int
    ) -> None:
        self._database = database
        self._memory = memory
        self._workspaces = workspaces
        self._file_bytes_max = file_bytes_max

    async def cuts(self, portion: Portion) -> tuple[Cut, ...]:
        """What stands in notes out of the conversations of a portion."""
        stretches: dict[str, list[Stretch]] = {}
        for doom in portion.dooms:
            rows = await self._database.read(
                lambda tx, doom=doom: quoting_summaries(tx, doom.session.id, 1 if doom.whole else doom.first)
            )
            for row in rows:
                if row["flushed_to"] and _touches(doom, row["first_seq"], row["last_seq"]):
                    stretch = Stretch(doom.session.key, row["first_seq"], row["last_seq"])
                    stretches.setdefault(row["flushed_to"], []).append(stretch)
        wanted = {path: Cut(path, tuple(each)) for path, each in stretches.items() if path not in portion.notes}
        digests = await self._written(portion)
        if digests:
            since_ms = min(doom.session.started_at_ms for doom in portion.dooms)
            for path in await asyncio.to_thread(self._changed_since, portion.agent, since_ms):
                if path not in portion.notes:
                    wanted[path] = wanted.get(path, Cut(path))._replace(digests=digests)
        return await asyncio.to_thread(self._placed, portion.agent, list(wanted.values()))

    async def _written(self, portion: Portion) -> frozenset[bytes]:
        """The digests of what programs wrote into notes out of the conversations, while the turns ran that go."""
        found: set[bytes] = set()
        for doom in portion.dooms:
            if not doom.whole and not doom.turns:
                continue
            turns = json.dumps(doom.turns)
            times = await self._database.read(lambda tx, turns=turns: list(tx.tuples("times_of_turns", turns=turns)))
            after = b""
            while rows := await self._database.read(
                lambda tx, doom=doom, after=after: list(
                    tx.tuples(
                        "origins_of_session",
                        session_id=doom.session.id,
                        agent=portion.agent,
                        after=after,
                        limit=DIGESTS_AT_ONCE,
                    )
                )
            ):
                after = rows[-1][0]
                found |= {
                    digest for digest, at in rows if doom.whole or any(first <= at <= last for first, last in times)
                }
        return frozenset(found)

    async def begin(self, portion: Portion) -> None:
        """What stands in the notes that go is not taken in again, from whatever file."""
        for path in portion.notes:
            held = await asyncio.to_thread(self._held, portion.agent, path)
            names = [] if held is None else await asyncio.to_thread(paragraph_names, path, _shown(held.text))
            await self._database.write(
                lambda tx, path=path: note_names(tx, portion.agent, "note", [path], portion.now_ms)
            )
            for start in range(0, len(names), 500):
                part = names[start : start + 500]
                await self._database.write(
                    lambda tx, part=part: note_names(tx, portion.agent, "paragraph", part, portion.now_ms)
                )

    async def look(self, portion: Portion) -> Traces:
        """Count them, and say what becomes of the files."""
        return await asyncio.to_thread(self._look, portion)

    async def remove(self, portion: Portion) -> Traces:
        """Take the notes out of memory, delete their files if that was asked for, and cut the others.

        Raises:
            StorageError, HomeReadOnlyError: a file could not be written; those before it are done.
        """
        gone = Traces()
        for cut in portion.cuts:
            await self._memory.sync_workspace(portion.agent, [cut.path])
            await self._memory.forget_passages(portion.agent, [Place(cut.path, cut.lines)], rows=False)
            edit = await asyncio.to_thread(self._cut, portion.agent, cut)
            if edit is not None:
                gone.edits.append(edit)
                gone.counts["paragraphs"] += _paragraphs(cut.text)
            await self._memory.sync_workspace(portion.agent, [cut.path])
        for path in portion.notes:
            gone.counts["notes"] += await self._exists(portion.agent, path)
            done = await self._memory.forget_passages(portion.agent, [Place(path)], rows=False)
            if portion.delete_files:
                edit = await asyncio.to_thread(self._delete, portion.agent, path)
                gone.edits += [] if edit is None else [edit]
            elif await self._exists(portion.agent, path):
                gone.remarks.append(STAYS.format(path=path))
            gone.counts["vectors"] += done.vectors
            report = await self._memory.sync_workspace(portion.agent, [path])
            gone.counts["passages"] += report.chunks_removed
        return gone

    async def _exists(self, agent: str, path: str) -> int:
        return int(await asyncio.to_thread(self._held, agent, path) is not None)

    # -- on a worker thread --------------------------------------------------------------------------------------

    def _placed(self, agent: str, wanted: list[Cut]) -> tuple[Cut, ...]:
        """The cuts of which something stands in their files."""
        placed: list[Cut] = []
        for cut in wanted:
            held = self._held(agent, cut.path)
            going = set[int]() if held is None else _going(held.text, cut)
            if held is not None and going:
                text = "\n".join(line for n, line in enumerate(split_lines(held.text), 1) if n in going)
                placed.append(cut._replace(lines=frozenset(going), text=_shown(text)))
        return tuple(placed)

    def _look(self, portion: Portion) -> Traces:
        found = Traces()
        for cut in portion.cuts:
            held = self._held(portion.agent, cut.path)
            if held is not None:
                found.counts["paragraphs"] += _paragraphs(cut.text)
                found.edits.append(Edit(cut.path, deletion_diff(cut.path, _shown(held.text), cut.lines)))
        for path in portion.notes:
            held = self._held(portion.agent, path)
            if held is None:
                continue
            found.counts["notes"] += 1
            if portion.delete_files:
                found.edits.append(_deletion(path, held.text))
            else:
                found.remarks.append(STAYS.format(path=path))
        return found

    def _changed_since(self, agent: str, since_ms: int) -> list[str]:
        """The files of the memory that were written at or after an instant."""
        return [
            file.path
            for file in walk_memory(self._workspaces[agent])
            if isinstance(file, SeenFile) and file.mtime_ns >= since_ms * 1_000_000
        ]

    def _held(self, agent: str, path: str) -> _Held | None:
        return held(self._workspaces[agent], path, self._file_bytes_max)

    def _cut(self, agent: str, cut: Cut) -> Edit | None:
        return cut_file(self._workspaces[agent], cut.path, lambda text: _going(text, cut), self._file_bytes_max)

    def _delete(self, agent: str, path: str) -> Edit | None:
        workspace = self._workspaces[agent]
        with only_writer(workspace, workspace / path):
            there = self._held(agent, path)
            if there is None:
                return None
            try:
                (workspace / path).unlink()
            except OSError as error:
                raise write_error(error, workspace / path) from error
        return _deletion(path, there.text)


class Reports:
    """Items of reports of sleep, and entries of the dream diary, that cite or quote what is forgotten."""

    def __init__(self, workspaces: Mapping[str, Path]) -> None:
        self._workspaces = workspaces

    async def look(self, portion: Portion) -> Traces:
        """Count them, and say what becomes of the files."""
        return await asyncio.to_thread(self._run, portion, write=False)

    async def remove(self, portion: Portion) -> Traces:
        """Cut them out: the diary first, because it is by the reports that its days are known.

        Raises:
            StorageError, HomeReadOnlyError: a file could not be written; those before it are done.
        """
        return await asyncio.to_thread(self._run, portion, write=True)

    def _run(self, portion: Portion, *, write: bool) -> Traces:
        found = Traces()
        workspace = self._workspaces[portion.agent]
        reports = [(path, text) for path, text in _reports(workspace) if reported_lines(text, portion.mentions)]
        days = frozenset(path.rpartition("/")[2].removesuffix(".md") for path, _ in reports)
        for path in DIARY_FILES:
            if not os.path.lexists(workspace / path):
                continue

            def entries(text: str) -> set[int]:
                return diary_lines(text, portion.mentions, days)

            self._edit(found, "diary", workspace, path, entries, DIARY_BYTES_MAX, write=write)
            break
        for path, _ in reports:

            def items(text: str) -> set[int]:
                return reported_lines(text, portion.mentions)

            self._edit(found, "reports", workspace, path, items, REPORT_BYTES_MAX, write=write)
        return found

    @staticmethod
    def _edit(
        found: Traces,
        what: str,
        workspace: Path,
        path: str,
        choose: Callable[[str], set[int]],
        bytes_max: int,
        *,
        write: bool,
    ) -> None:
        there = held(workspace, path, bytes_max)
        going = set[int]() if there is None else choose(there.text)
        if there is None or not going:
            return
        counted = _starting(there.text, going, "---" if what == "diary" else "- ")
        edit: Edit | None = Edit(path, deletion_diff(path, _shown(there.text), going))
        if write:
            edit = cut_file(workspace, path, choose, bytes_max)
        if edit is not None:
            found.edits.append(edit)
            found.counts["diary" if what == "diary" else "reports"] += counted


# -- files -------------------------------------------------------------------------------------------------------


def held(workspace: Path, path: str, bytes_max: int) -> _Held | None:
    """A file of the workspace with every byte of it; None when there is none, or it is no file of ours to read."""
    seen = _identity(workspace / path)
    content = read_file(workspace, path, bytes_max)
    if seen is None or not isinstance(content, FileContent):
        return None
    return _Held(content.data.decode("utf-8", "surrogateescape"), seen)


def cut_file(workspace: Path, path: str, choose: Callable[[str], set[int]], bytes_max: int) -> Edit | None:
    """Cut lines out of a file, which `choose` finds in its text; None when there is nothing to cut.

    Raises:
        StorageError: it keeps changing, or another process holds the workspace's lock for too long.
        HomeReadOnlyError, StorageFullError: it could not be written; it is as it was.
    """
    file = workspace / path
    with only_writer(workspace, file):
        for _ in range(EDITS_MAX):
            there = held(workspace, path, bytes_max)
            going = set[int]() if there is None else choose(there.text)
            if there is None or not going:
                return None
            if _identity(file) == there.seen:
                write_atomic(file, without_lines(there.text, going).encode("utf-8", "surrogateescape"))
                return Edit(path, deletion_diff(path, _shown(there.text), going))
    raise StorageError(f"{file} keeps changing: nothing was cut out of it, try again")


def _deletion(path: str, text: str) -> Edit:
    shown = _shown(text)
    diff = deletion_diff(path, shown, range(1, len(split_lines(shown)) + 1))
    return Edit(path, diff.replace(f"+++ b/{path}\n", "+++ /dev/null\n", 1))


def _shown(text: str) -> str:
    """A text that was read byte for byte, as it can be written down."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return (info.st_ino, info.st_mtime_ns, info.st_size)


def _reports(workspace: Path) -> Iterator[tuple[str, str]]:
    """The reports of sleep, each as its path and text."""
    folder = workspace / GENERATED_FOLDER
    if not folder.is_dir() or folder.is_symlink():
        return
    for found in islice(sorted(folder.rglob("*.md")), REPORTS_MAX):
        path = found.relative_to(workspace).as_posix()
        there = held(workspace, path, REPORT_BYTES_MAX)
        if there is not None:
            yield path, there.text


def _touches(doom: Doomed, first: int, last: int) -> bool:
    """Whether something of a stretch is to be forgotten."""
    return doom.whole or any(first <= seq <= last for seq in doom.seqs)


def _going(text: str, cut: Cut) -> set[int]:
    """The lines of a cut: of paragraphs only those that hold nothing but what was written out of it."""
    going = extract_lines(text, cut.stretches)
    if cut.digests:
        paragraphs = [(each.first, each.last) for each in paragraphs_of(text) if each.digests <= cut.digests]
        going |= paragraph_lines(text, paragraphs)
    return going


def _paragraphs(text: str) -> int:
    lines = ["", *text.split("\n")]
    return sum(bool(line.strip()) and not before.strip() for before, line in pairwise(lines))


def _starting(text: str, going: set[int], mark: str) -> int:
    """How many of some lines begin an entry: with this mark, or else with anything."""
    lines = split_lines(text)
    return sum(lines[number - 1].startswith(mark) for number in going) or 1
