"""The one way notes are added to memory: by the command line, the library and the tools of a model alike.

A note is a paragraph, or several, at the end of a Markdown file. What stands in the file stays byte for byte. A note
that stands there already is not written again: repeated by a model, a client or a retry, it is kept once.

Invariants: one writer a workspace, in whatever process, by a lock that ends with its holder; the file is whole before
and after, whenever the process is killed; nothing is written outside of `MEMORY.md` and `memory/`, nor through a link.

These functions block; callers run them on a worker thread.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import filelock

from reverie.errors import MemoryPathError, StorageError
from reverie.memory.documents import (
    MEMORY_FOLDER,
    SkippedFile,
    crosses_link,
    is_generated,
    is_ignored_folder,
    read_file,
    split_lines,
    stat_file,
)
from reverie.memory.passages import content_hash
from reverie.memory.text import clean, collapse
from reverie.memory.workspace import write_atomic, write_error

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from reverie.memory.documents import FileContent

NOTE_FILE_BYTES_MAX = 64 * 1024 * 1024
NOTE_RETRIES_MAX = 5
PATH_CHARS_MAX = 400
LOCK_FILE = ".reverie-append.lock"
LOCK_S_MAX = 10.0
"""How long an append waits for another process that appends; one takes milliseconds."""

WORKSPACES_KEPT_MAX = 256


@lru_cache(maxsize=WORKSPACES_KEPT_MAX)
def _in_process(workspace: Path) -> threading.Lock:  # noqa: ARG001 (one lock each)
    """A lock for the threads of this process, which wait for it without trying; the file's lock is what counts."""
    return threading.Lock()


class AppendedNote(NamedTuple):
    """Where a note stands: a workspace-relative path and its lines.

    `appended` False: it stood there before, and nothing was written.
    """

    path: str
    start_line: int
    end_line: int
    appended: bool = True


def daily_path(date: str) -> str:
    """The note file of a day, `memory/YYYY-MM-DD.md`."""
    return f"{MEMORY_FOLDER}/{date}.md"


def resolve_appendable(path: str) -> str:
    """A path as a tool or a person gives it, as that of a file notes may be added to, by its name alone.

    Raises:
        MemoryPathError: it is neither `MEMORY.md` nor a Markdown file below `memory/` that gets indexed.
    """
    cleaned = path.strip().removeprefix("./")
    parts = PurePosixPath(cleaned).parts
    if "\\" in cleaned or "\x00" in cleaned or not parts or cleaned.startswith("/") or ".." in parts:
        raise MemoryPathError(f"path required: {path!r} is not a path inside the memory")
    normal = "/".join(parts)
    in_memory = parts[0] == MEMORY_FOLDER and len(parts) > 1 and not is_generated(normal)
    hidden = any(map(is_ignored_folder, parts[1:]))
    if normal != "MEMORY.md" and (not in_memory or hidden or not normal.endswith(".md")):
        raise MemoryPathError(f"path required: notes go to MEMORY.md or memory/**/*.md, not to {path!r}")
    if len(normal) > PATH_CHARS_MAX or not normal.isprintable():
        raise MemoryPathError(f"path required: at most {PATH_CHARS_MAX} printable characters")
    return normal


def append_note(
    workspace: Path,
    text: str,
    date: str,
    path: str | None = None,
    *,
    marker: str | None = None,
    file_bytes_max: int = NOTE_FILE_BYTES_MAX,
    lock_s_max: float = LOCK_S_MAX,
) -> AppendedNote:
    """Add a note to the file of a day, or to `path`, as a paragraph of its own; the file is made when missing.

    Notes appended at the same time all arrive, also from several processes. When a person saves the file meanwhile,
    their version is read again. A `marker` is a line of the note: where it stands in the file already, the note has
    been written, however a person changed it since.

    Raises:
        HomeReadOnlyError: the workspace cannot be written.
        StorageFullError: the disk is full; nothing was added.
        StorageError: the file keeps changing, or another process holds the lock for longer than `lock_s_max`.
        MemoryPathError: the note is blank, notes may not go there, or the file is a link, or would be larger than
            `file_bytes_max`.
    """
    note = clean(text).strip()
    if not note:
        raise MemoryPathError("a note needs some text")
    name = resolve_appendable(path or daily_path(date))
    file = workspace / name
    with only_writer(workspace, file, lock_s_max):
        for _ in range(NOTE_RETRIES_MAX):
            before = _identity(file)
            held = _held(workspace, name, file_bytes_max)
            if (known := _find(held.text, note, marker) if held is not None else None) is not None:
                return AppendedNote(name, *known, appended=False)
            joined, appended = _joined(name, held, note)
            if len(joined) > file_bytes_max:
                limit = f"{file_bytes_max:,} bytes"
                raise MemoryPathError(f"{name} is full: it takes notes up to {limit}, write to another file")
            if _identity(file) == before:
                write_atomic(file, joined)
                return appended
    raise StorageError(f"{file} keeps changing: the note was not added, try again")


def standing_note(
    workspace: Path, text: str, path: str, *, file_bytes_max: int = NOTE_FILE_BYTES_MAX
) -> AppendedNote | None:
    """Where a note stands already that would not be written again; None if it would be.

    Raises:
        MemoryPathError: notes may not go there, or the file is too large.
    """
    name, note = resolve_appendable(path), clean(text).strip()
    held = _held(workspace, name, file_bytes_max)
    known = find_note(held.text, note) if held is not None and note else None
    return None if known is None else AppendedNote(name, *known, appended=False)


def find_note(text: str, note: str) -> tuple[int, int] | None:
    """The lines on which a note stands in a text already, paragraph by paragraph; white space does not count."""
    wanted = [digest for _, _, digest in paragraphs(note)]
    held = paragraphs(text)
    digests = [digest for _, _, digest in held]
    for start in range(len(held) - len(wanted) + 1):
        if digests[start] == wanted[0] and digests[start : start + len(wanted)] == wanted:
            return held[start][0], held[start + len(wanted) - 1][1]
    return None


def _find(text: str, note: str, marker: str | None) -> tuple[int, int] | None:
    """The lines of a note that was written before: where its marker stands, else where its words do."""
    if marker is not None and marker in text:
        line = next((number for number, line in enumerate(split_lines(text), 1) if line.strip() == marker), None)
        if line is not None:
            return line, line
    return find_note(text, note)


def paragraphs(text: str) -> list[tuple[int, int, bytes]]:
    """First line, last line and content hash of every paragraph of a note; white space does not count."""
    found: list[tuple[int, int, bytes]] = []
    numbered = enumerate(split_lines(text), 1)
    for blank, group in groupby(numbered, key=lambda line: not line[1].strip()):
        if not blank:
            lines = list(group)
            found.append((lines[0][0], lines[-1][0], content_hash(collapse("\n".join(line for _, line in lines)))))
    return found


def _held(workspace: Path, name: str, bytes_max: int) -> FileContent | None:
    info = stat_file(workspace, name)
    if info is not None and info.size_bytes > bytes_max:
        raise MemoryPathError(f"{name} is full: it has {info.size_bytes:,} bytes, and takes notes up to {bytes_max:,}")
    held = read_file(workspace, name, bytes_max)
    if isinstance(held, SkippedFile):
        raise MemoryPathError(f"{name}: {held.reason}")
    return held


def _joined(name: str, held: FileContent | None, note: str) -> tuple[bytes, AppendedNote]:
    """The file with the note at its end; what stands there stays byte for byte, damaged characters too."""
    data = held.data.rstrip(b"\r\n") if held is not None else b""
    start = data + b"\n\n" if data else f"# {PurePosixPath(name).stem}\n\n".encode()
    first = start.count(b"\n") + 1
    return start + f"{note}\n".encode(), AppendedNote(name, first, first + len(split_lines(note)) - 1)


@contextmanager
def only_writer(workspace: Path, file: Path, lock_s_max: float = LOCK_S_MAX) -> Generator[None]:
    """Be the one program that writes into a workspace; the folder of the file is made.

    It blocks, and may be entered and left on different threads.

    Raises:
        StorageError: another process writes for longer than `lock_s_max`.
        HomeReadOnlyError: the workspace cannot be written.
        MemoryPathError: the file is a link, or below one.
    """
    lock = filelock.FileLock(workspace / LOCK_FILE, timeout=lock_s_max, thread_local=False)
    with _in_process(workspace):
        try:
            if crosses_link(workspace, file.relative_to(workspace).as_posix()):
                raise MemoryPathError(f"{file} is a symbolic link, or below one: not written, it may point anywhere")
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout as error:
            raise StorageError(f"another process writes notes into {workspace}: try again") from error
        except OSError as error:
            raise write_error(error, file.parent) from error
        try:
            yield
        finally:
            lock.release()


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return (info.st_ino, info.st_mtime_ns, info.st_size)
