"""Writing Markdown: whole or not at all, nobody's work lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from reverie.errors import HomeReadOnlyError, MemoryPathError, StorageError, StorageFullError
from reverie.memory.append import AppendedNote, append_note
from reverie.memory.workspace import create_workspace, read_markdown, write_atomic

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_workspace_has_its_files(tmp_path: Path) -> None:
    """Missing files are made, existing ones are left alone, and doing it twice changes nothing."""
    (tmp_path / "MEMORY.md").write_text("mine\n")
    create_workspace(tmp_path)
    create_workspace(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["AGENTS.md", "MEMORY.md", "USER.md", "memory"]
    assert (tmp_path / "MEMORY.md").read_text() == "mine\n"


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    """The new text stands there, with the old permissions and nothing beside it."""
    path = tmp_path / "a.md"
    write_atomic(path, "one")
    path.chmod(0o600)
    write_atomic(path, "two 猫\ud800")
    assert path.read_text(encoding="utf-8") == "two 猫?"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["a.md"]


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, StorageFullError), (errno.EROFS, HomeReadOnlyError), (errno.EIO, StorageError)],
)
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, code: int, error: type[Exception]) -> None:
    """A disk that is full, read-only or broken costs the new text only, and the error says which it was."""
    path = tmp_path / "a.md"
    path.write_text("old")

    def fail(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(error):
        write_atomic(path, "new", sync=fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.md"]


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path) -> None:
    """With a real limit on the file size, in a process of its own, the old file stands as it was."""
    path = tmp_path / "a.md"
    path.write_text("old")
    program = (
        "import resource, signal, sys, pathlib\n"
        "from reverie.errors import StorageFullError\n"
        "from reverie.memory.workspace import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_atomic(pathlib.Path(sys.argv[1]), 'x' * 5000)\n"
        "except StorageFullError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "no space left" in done.stdout
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.md"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_workspace_is_a_clear_error(tmp_path: Path) -> None:
    """Nothing can be written there, and the error names the path and the remedy."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(HomeReadOnlyError, match="check the permissions"):
            append_note(tmp_path, "note", "2026-01-01")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """A file in the place of a folder is an error that names it."""
    (tmp_path / "memory").write_text("a file")
    with pytest.raises(StorageError, match="memory"):
        append_note(tmp_path, "note", "2026-01-01")
    with pytest.raises(StorageError):
        create_workspace(tmp_path)


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    """A file that points elsewhere is refused, whether it is replaced or appended to."""
    (tmp_path / "memory").mkdir()
    outside = tmp_path / "outside.md"
    outside.write_text("outside")
    (tmp_path / "memory/2026-01-01.md").symlink_to(outside)
    with pytest.raises(MemoryPathError, match="symbolic link"):
        write_atomic(tmp_path / "memory/2026-01-01.md", "x")
    with pytest.raises(MemoryPathError, match="symbolic link"):
        append_note(tmp_path, "x", "2026-01-01")
    assert outside.read_text() == "outside"


def test_notes_are_appended_as_paragraphs(tmp_path: Path) -> None:
    """Each note says on which lines it stands now; the first one makes the day's file."""
    assert append_note(tmp_path, "first note\n", "2026-01-01") == AppendedNote("memory/2026-01-01.md", 3, 3)
    assert append_note(tmp_path, "two\nlines", "2026-01-01") == AppendedNote("memory/2026-01-01.md", 5, 6)
    assert (tmp_path / "memory/2026-01-01.md").read_text() == "# 2026-01-01\n\nfirst note\n\ntwo\nlines\n"


def test_what_stands_there_stays_byte_for_byte(tmp_path: Path) -> None:
    """Appending to a damaged file does not repair, and so does not lose, anything."""
    path = tmp_path / "memory/2026-01-01.md"
    path.parent.mkdir()
    path.write_bytes(b"caf\xe9\r\nx")
    assert append_note(tmp_path, "note", "2026-01-01") == AppendedNote("memory/2026-01-01.md", 4, 4)
    assert path.read_bytes() == b"caf\xe9\r\nx\n\nnote\n"


def test_blank_notes_are_refused(tmp_path: Path) -> None:
    """A note needs some text."""
    with pytest.raises(MemoryPathError):
        append_note(tmp_path, " \n", "2026-01-01")


def test_notes_at_the_same_time_all_arrive(tmp_path: Path) -> None:
    """Many threads append, and no note is lost or torn."""
    notes = [f"note number {number}" for number in range(24)]
    threads = [threading.Thread(target=append_note, args=(tmp_path, note, "2026-01-01")) for note in notes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "memory/2026-01-01.md").read_text().splitlines()
    assert sorted(line for line in lines if line.startswith("note")) == sorted(notes)


def test_reading_is_bounded_and_forgiving(tmp_path: Path) -> None:
    """A missing file or a link is empty, damaged bytes are replaced, and a large file ends after a whole line."""
    path = tmp_path / "a.md"
    assert read_markdown(path, 100) == ""
    path.write_bytes(b"\xef\xbb\xbfok \xff\n")
    assert read_markdown(path, 100) == "ok \ufffd\n"
    path.write_text("line\n" * 100)
    assert read_markdown(path, 12) == "line\nline\n"
    (tmp_path / "link.md").symlink_to(path)
    assert read_markdown(tmp_path / "link.md", 100) == ""
