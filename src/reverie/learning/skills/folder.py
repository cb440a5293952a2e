"""The folder `skills/` as it is on disk: what stands there, one file written, one deleted.

Invariants: no symbolic link is followed; no more than `FILE_BYTES_MAX` of a file and `SKILLS_MAX` files are read.

These functions block; callers run them on a worker thread.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from reverie.errors import MemoryPathError
from reverie.learning.skills.document import FOLDER_NAME, BrokenDocument, SkillDocument, parse, text_digest
from reverie.memory.documents import SKILLS_FOLDER, SkippedFile, crosses_link, is_ignored_folder, read_file, skill_path
from reverie.memory.workspace import write_atomic, write_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from reverie.memory.documents import FileContent

FILE_BYTES_MAX = 64 * 1024
SKILLS_MAX = 1_000
"""Skills of one agent that have a file, and files that are looked at; a trail note says that there are more."""
FOLDERS_MAX = 10_000
"""Names of folders that a new skill keeps clear of."""
STRAYS_MAX = 100
"""Folders whose names do not fit that are looked into."""


class Glimpse(NamedTuple):
    """A skill file as its folder tells of it: the skill, when it was changed (ns), its bytes and its number."""

    name: str
    changed_ns: int
    size: int
    number: int


class Seen(NamedTuple):
    """A file at a glance: the digest of its bytes, '' where it cannot be read, and the id in its head, '' for none."""

    digest: str
    id: str


class Folder(NamedTuple):
    """The folder of skills as it is, with its files by their folders' names.

    `usable` is False where nothing may be concluded: the workspace is away, or a link. `missing` says that the folder
    is not there as a whole, or cannot be listed. `more` says that there are more files than were looked at. `strays`
    are the ids of files in folders whose names do not fit.
    """

    usable: bool = True
    missing: bool = False
    more: bool = False
    files: Mapping[str, Seen] = {}
    strays: Mapping[str, str] = {}


class Found(NamedTuple):
    """A file as it was read just now; None when there is none."""

    content: FileContent | None

    @property
    def digest(self) -> str | None:
        """Of its bytes; None when there is none."""
        return None if self.content is None else text_digest(self.content.data)

    def document(self) -> SkillDocument | BrokenDocument:
        """What a file that is there says."""
        assert self.content is not None
        return BrokenDocument("it is not UTF-8 text") if self.content.broken else parse(self.content.text)


def read_skill(workspace: Path, name: str) -> Found | SkippedFile:
    """The file of a skill, or why it is not read."""
    content = read_file(workspace, skill_path(name), FILE_BYTES_MAX)
    return content if isinstance(content, SkippedFile) else Found(content)


def survey(workspace: Path) -> Folder:
    """Look at every skill file of a workspace; nothing but digests and ids is held."""
    if not _is_folder(workspace) or crosses_link(workspace, SKILLS_FOLDER):
        return Folder(usable=False)
    try:
        with os.scandir(workspace / SKILLS_FOLDER) as entries:
            listed = islice(entries, FOLDERS_MAX)
            names = sorted(entry.name for entry in listed if entry.is_dir(follow_symlinks=False))
    except OSError:
        return Folder(missing=True)
    fitting = [name for name in names if FOLDER_NAME.fullmatch(name)]
    others = [name for name in names if not FOLDER_NAME.fullmatch(name) and not is_ignored_folder(name)]
    strays = {name: seen.id for name, seen in _looked_at(workspace, others[:STRAYS_MAX]).items() if seen.digest}
    files = _looked_at(workspace, fitting[:SKILLS_MAX])
    return Folder(more=len(fitting) > SKILLS_MAX, files=files, strays=strays)


def glimpses(workspace: Path) -> frozenset[Glimpse]:
    """The skill files by name, time and size: nothing is read."""
    if crosses_link(workspace, SKILLS_FOLDER):
        return frozenset()
    found: list[Glimpse] = []
    for name in sorted(filter(FOLDER_NAME.fullmatch, _names(workspace)))[:SKILLS_MAX]:
        with suppress(OSError):  # a folder without a skill, or one that goes just now
            info = (workspace / skill_path(name)).lstat()
            found.append(Glimpse(name, info.st_mtime_ns, info.st_size, info.st_ino))
    return frozenset(found)


def folder_names(workspace: Path) -> frozenset[str]:
    """The names of all folders that are there, in lower case."""
    return frozenset(name.lower() for name in _names(workspace))


def write_skill(workspace: Path, name: str, text: str, expected: str | None) -> bool:
    """Write a file that still is as it was read; False when it is not.

    Raises:
        MemoryPathError: it is a link, or below one.
        HomeReadOnlyError, StorageFullError, StorageError: it could not be written.
    """
    path = workspace / skill_path(name)
    if crosses_link(workspace, skill_path(name)):
        raise MemoryPathError(f"{path} is a symbolic link, or below one: not written, it may point anywhere")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, path) from error

    def still() -> bool:
        held = read_skill(workspace, name)
        return not isinstance(held, SkippedFile) and held.digest == expected

    return write_atomic(path, text, still=still)


def remove_skill(workspace: Path, name: str) -> None:
    """Delete a file, and its folder when nothing else stands there.

    Raises:
        HomeReadOnlyError, StorageError: it could not be deleted.
    """
    path = workspace / skill_path(name)
    if crosses_link(workspace, skill_path(name)):
        return
    try:
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as error:
        raise write_error(error, path) from error


def _looked_at(workspace: Path, names: list[str]) -> dict[str, Seen]:
    files: dict[str, Seen] = {}
    for name in names:
        found = read_skill(workspace, name)
        if isinstance(found, SkippedFile):
            files[name] = Seen("", "")
        elif found.digest is not None:
            document = found.document()
            files[name] = Seen(found.digest, "" if isinstance(document, BrokenDocument) else document.id)
    return files


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _names(workspace: Path) -> list[str]:
    try:
        with os.scandir(workspace / SKILLS_FOLDER) as entries:
            return [entry.name for entry in islice(entries, FOLDERS_MAX)]
    except OSError:
        return []
