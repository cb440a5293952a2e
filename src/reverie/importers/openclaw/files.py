"""Notes: an OpenClaw workspace's Markdown into an agent's workspace, byte for byte.

A file that stands there already is never overwritten, unless it is one that Reverie itself put there and nobody has
touched. Links are not followed. Everything here blocks; callers run it on a worker thread.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reverie.errors import HomeReadOnlyError
from reverie.memory.documents import GENERATED_FOLDER, MEMORY_FOLDER, READ_FLAGS, is_ignored_folder
from reverie.memory.workspace import DEFAULT_FILES, write_atomic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

FILES_MAX = 200_000
LISTED_MAX = 1_000
ROOT_FILES = ("MEMORY.md", "USER.md", "DREAMS.md")
OLD_ROOT_FILE = "memory.md"
DREAM_FILES = ("memory/.dreams/short-term-recall.json", "memory/.dreams/phase-signals.json")
GENERATED = "a generated report, which is no memory"
LINK = "a symbolic link: not followed"
FORGOTTEN = "it was forgotten"
DIFFERS = "another file of this name stands there: merge them by hand"


@dataclass(slots=True)
class FilesReport:
    """What became of the files. `skipped` names at most `LISTED_MAX` with their reasons; `skipped_count` counts all."""

    copied: int = 0
    bytes: int = 0
    present: int = 0
    skipped_count: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def skip(self, path: str, reason: str) -> None:
        """Count a file that was left out."""
        self.skipped_count += 1
        if len(self.skipped) < LISTED_MAX:
            self.skipped.append({"path": path, "reason": reason})


def copy_files(
    source: Path, workspace: Path, *, file_bytes_max: int, report: FilesReport, forgotten: Collection[str] = ()
) -> None:
    """Copy a workspace's notes and what dreaming has noted; `report` grows. Notes that were `forgotten` stay away.

    Raises:
        HomeReadOnlyError: the target cannot be written.
        StorageFullError: the disk is full; whole files stand there already.
    """
    for name, target in _files(source, report):
        if target in forgotten:
            report.skip(name, FORGOTTEN)
            continue
        data = _read(source, name, file_bytes_max, report)
        if data is not None:
            _put(data, workspace, target, report)


def count_files(source: Path) -> int:
    """How many files `copy_files` would look at."""
    return sum(1 for _ in _files(source, FilesReport()))


def _files(source: Path, report: FilesReport) -> Iterator[tuple[str, str]]:
    """The files there are, each with its name here; what is left out by its name is counted."""
    held = {entry.name for entry in _entries(source)}
    for name in ROOT_FILES:
        if name in held:
            yield name, name
    if OLD_ROOT_FILE in held:  # read as MEMORY.md in its time; only that name is memory here
        yield OLD_ROOT_FILE, OLD_ROOT_FILE if "MEMORY.md" in held else "MEMORY.md"
    for name in DREAM_FILES:
        if os.path.lexists(source / name):
            yield name, name
    for name in _notes(source, report):
        yield name, name


def _notes(source: Path, report: FilesReport) -> Iterator[str]:
    """The Markdown below `memory/`, without hidden folders and generated reports."""
    if (source / MEMORY_FOLDER).is_symlink():
        report.skip(MEMORY_FOLDER, LINK)
        return
    waiting = [MEMORY_FOLDER]
    found = 0
    while waiting:
        folder = waiting.pop()
        for entry in _entries(source / folder):
            path = f"{folder}/{entry.name}"
            if entry.is_symlink():
                report.skip(path, LINK)
            elif entry.is_dir(follow_symlinks=False):
                if not is_ignored_folder(entry.name):
                    waiting.append(path)
            elif path.startswith(f"{GENERATED_FOLDER}/"):
                report.skip(path, GENERATED)
            elif entry.name.endswith(".md"):
                found += 1
                if found > FILES_MAX:
                    report.skip(path, f"more than {FILES_MAX:,} files")
                    return
                yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """A folder's entries in order; none where it cannot be read. A name that is not UTF-8 cannot be cited."""
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if entry.name.isprintable()]
    except OSError:
        return []
    return sorted(kept, key=lambda entry: entry.name)


@dataclass(frozen=True, slots=True)
class _Content:
    data: bytes
    accessed_ns: int
    mtime_ns: int


def _read(source: Path, name: str, bytes_max: int, report: FilesReport) -> _Content | None:
    path = source / name
    try:
        if path.is_symlink() or path.parent.is_symlink():
            report.skip(name, LINK)
            return None
        with os.fdopen(os.open(path, READ_FLAGS), "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                report.skip(name, "not a regular file")
            elif info.st_size > bytes_max:
                report.skip(name, f"larger than memory.file_bytes_max ({bytes_max:,} bytes)")
            else:
                return _Content(file.read(info.st_size), info.st_atime_ns, info.st_mtime_ns)
    except OSError as error:
        report.skip(name, f"cannot be read: {error.strerror or error}")
    return None


def _put(content: _Content, workspace: Path, name: str, report: FilesReport) -> None:
    """Write a file where there is none, with the time of its last change."""
    target = workspace / name
    if _is_blocked(workspace, name):
        report.skip(name, DIFFERS)
        return
    held = _held(target, len(content.data))
    if held == content.data:
        report.present += 1
        return
    if held is not None and not _is_untouched(name, held):
        report.skip(name, DIFFERS)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, content.data)
        os.utime(target, ns=(content.accessed_ns, content.mtime_ns))
    except OSError as error:
        raise HomeReadOnlyError(f"{target} cannot be written ({error.strerror or error})") from error
    report.copied += 1
    report.bytes += len(content.data)


def _is_blocked(workspace: Path, name: str) -> bool:
    """Whether something other than a file stands at the target, or a link on the way to it."""
    parts = name.split("/")
    steps = [workspace.joinpath(*parts[: count + 1]) for count in range(len(parts))]
    return any(step.is_symlink() for step in steps) or (steps[-1].exists() and not steps[-1].is_file())


def _held(target: Path, size: int) -> bytes | None:
    """What stands at the target, read only as far as it may be the same; None when nothing does."""
    try:
        with target.open("rb") as file:
            return file.read(max(size, *map(len, DEFAULT_FILES.values())) + 1)
    except FileNotFoundError:
        return None


def _is_untouched(name: str, data: bytes) -> bool:
    """Whether a file is still the one that a new workspace begins with."""
    return name in DEFAULT_FILES and data == DEFAULT_FILES[name].encode("utf-8")
