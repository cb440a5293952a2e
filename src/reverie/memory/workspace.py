"""The folder of Markdown that a person and the agent both edit: made, read and written without losing either's work.

Invariant: a write is whole or not at all. The new text goes to a temporary file beside the target, is forced to disk,
and takes the target's name in one step; a crash or a full disk leaves the old file.

These functions block; callers run them on a worker thread. Notes are added by `append.py`.
"""

from __future__ import annotations

import errno
import os
import secrets
from typing import TYPE_CHECKING

from reverie.errors import HomeReadOnlyError, MemoryPathError, ReverieError, StorageError, StorageFullError
from reverie.memory.documents import READ_FLAGS
from reverie.memory.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEFAULT_FILES = {
    "AGENTS.md": """\
# How this agent works

- Answer in the language of the question.
- When memory is quoted to you, say where it stands, for example `memory/2026-05-04.md#L3`.
- Say so when you do not know. Never invent a memory.
""",
    "USER.md": """\
<!-- What the agent should always know about you: name, language, time zone, preferences. Comments are not read. -->
""",
    "MEMORY.md": """\
<!-- Lasting facts, one per line. Edit this file as you like: a change is noticed within a second. -->
""",
}


def create_workspace(workspace: Path) -> None:
    """Make the folder and its first files; what exists already is left alone.

    Raises:
        HomeReadOnlyError: the place cannot be written.
        StorageFullError: the disk is full.
    """
    try:
        (workspace / "memory").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, workspace) from error
    for name, text in DEFAULT_FILES.items():
        if not os.path.lexists(workspace / name):
            write_atomic(workspace / name, text)


def write_atomic(
    path: Path,
    text: str | bytes,
    *,
    sync: Callable[[int], None] = os.fsync,
    still: Callable[[], bool] | None = None,
) -> bool:
    """Replace a file's text, or create it: afterwards it holds the old text or the new one, never a mixture.

    The file keeps its permissions. `sync` forces a descriptor's data to disk. `still` is asked at the last moment, when
    the new text is on disk under another name: False leaves the old file as it is, and so is the result.

    Raises:
        HomeReadOnlyError: the place cannot be written.
        StorageFullError: the disk is full; the old file stands.
        MemoryPathError: the path is a symbolic link.
    """
    if path.is_symlink():
        raise MemoryPathError(f"{path} is a symbolic link: not written, because it may point anywhere")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        data = clean(text).encode("utf-8") if isinstance(text, str) else text
        _write_new(temporary, data, _mode_of(path), sync)
        if still is not None and not still():
            temporary.unlink()
            return False
        temporary.replace(path)
        _sync_folder(path.parent, sync)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(error, path) from error
    return True


def read_markdown(path: Path, bytes_max: int) -> str:
    """The text of a Markdown file, empty when it is missing; at most `bytes_max` bytes, cut after a whole line.

    Bytes that are not UTF-8 become the replacement character U+FFFD. A symbolic link is not followed: it is empty.
    """
    try:
        descriptor = os.open(path, READ_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(bytes_max + 1)
    except OSError:
        return ""
    if len(data) > bytes_max:
        data = data[:bytes_max]
        data = data[: data.rfind(b"\n") + 1] or data
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").replace("\x00", "\ufffd")


def _write_new(path: Path, data: bytes, mode: int | None, sync: Callable[[int], None]) -> None:
    with path.open("xb") as file:
        if mode is not None:
            path.chmod(mode)
        file.write(data)
        file.flush()
        sync(file.fileno())


def _sync_folder(folder: Path, sync: Callable[[int], None]) -> None:
    """Force the new name to disk; where folders cannot be opened (Windows) there is nothing to force."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _mode_of(path: Path) -> int | None:
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return None


def write_error(error: OSError, path: Path) -> ReverieError:
    """What the system said of a write, as an error that says what to do."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StorageFullError(f"no space left for {path}: free some space and try again. The old file stands.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return HomeReadOnlyError(f"{path} cannot be written ({error.strerror}): check the permissions of its folder.")
    return StorageError(f"{path} could not be written: {error.strerror or error}")
