"""Adding notes: where they may go, that each stands once, and that nobody's writing is lost."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from reverie.errors import MemoryPathError, StorageError
from reverie.memory.append import LOCK_FILE, AppendedNote, append_note, find_note, resolve_appendable

DAY = "2026-01-01"
KILLED = """
import sys
from pathlib import Path
from reverie.memory.append import append_note
number = 0
while True:
    append_note(Path(sys.argv[1]), f"note {number} " + "x" * 20_000, "2026-01-01")
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("memory/a.md", "memory/a.md"),
        (" ./memory/people/bo.md ", "memory/people/bo.md"),
        ("MEMORY.md", "MEMORY.md"),
        ("memory//a.md", "memory/a.md"),
    ],
)
def test_files_of_the_memory_take_notes(path: str, resolved: str) -> None:
    """`MEMORY.md` and Markdown below `memory/`."""
    assert resolve_appendable(path) == resolved


@pytest.mark.parametrize(
    "path",
    [
        "", "/etc/passwd", "../a.md", "memory/../../a.md", "memory/../AGENTS.md", "AGENTS.md", "USER.md", "DREAMS.md",
        "SOUL.md", "memory", "memory/a.txt", "memory/.hidden.md", "memory/.git/a.md", "memory/dreaming/a.md",
        "memory/node_modules/a.md", "notes/a.md", "memory\\a.md", "memory/a\x00.md", "memory/a\n.md", "sessions/1",
        "memory/" + "x" * 500 + ".md",
    ],
)  # fmt: skip
def test_nothing_else_takes_notes(path: str) -> None:
    """Neither what steers the agent, nor another folder, nor what is not indexed."""
    with pytest.raises(MemoryPathError, match="path required"):
        resolve_appendable(path)


def test_a_named_file_gets_a_heading(tmp_path: Path) -> None:
    """A new file begins with its name, so that a note cannot pass for front matter."""
    assert append_note(tmp_path, "---\nhide: all\n---", DAY, "memory/people/bo.md") == (
        AppendedNote("memory/people/bo.md", 3, 5)
    )
    assert (tmp_path / "memory/people/bo.md").read_text() == "# bo\n\n---\nhide: all\n---\n"


def test_a_note_stands_once(tmp_path: Path) -> None:
    """The same paragraphs, however they are wrapped, are found where they stand; others are added."""
    first = append_note(tmp_path, "Bo is the\nlocksmith.\n\nHis shop is in Lund.", DAY)
    again = append_note(tmp_path, "Bo  is the locksmith.\n\n\nHis shop is in Lund.\n", DAY)
    part = append_note(tmp_path, "His shop is in Lund.", DAY)
    other = append_note(tmp_path, "Bo is the locksmith.\n\nHis shop is in Malmö.", DAY)

    assert first == AppendedNote(f"memory/{DAY}.md", 3, 6)
    assert again == AppendedNote(f"memory/{DAY}.md", 3, 6, appended=False)
    assert part == AppendedNote(f"memory/{DAY}.md", 6, 6, appended=False)
    assert other == AppendedNote(f"memory/{DAY}.md", 8, 10)


def test_paragraphs_are_compared_in_order() -> None:
    """All of a note's, one after the other."""
    text = "a\n\nb\n\na\n\nc\n"
    assert [find_note(text, note) for note in ("a", "a\n\nc", "b\n\na", "c\n\na", "a\n\nb\n\nd")] == [
        (1, 1), (5, 7), (3, 5), None, None,
    ]  # fmt: skip


def test_a_file_that_is_full_is_left_alone(tmp_path: Path) -> None:
    """It would be too large to index, and the error says where to go on."""
    append_note(tmp_path, "x" * 900, DAY, file_bytes_max=1_000)
    before = (tmp_path / f"memory/{DAY}.md").read_bytes()
    for limit in (1_000, 500):
        with pytest.raises(MemoryPathError, match="is full"):
            append_note(tmp_path, "y" * 200, DAY, file_bytes_max=limit)
    assert (tmp_path / f"memory/{DAY}.md").read_bytes() == before


def test_a_folder_that_is_a_link_is_not_written_into(tmp_path: Path) -> None:
    """Nothing is made on its other side either."""
    outside = tmp_path / "outside"
    outside.mkdir()
    workspace = tmp_path / "workspace"
    (workspace / "memory").mkdir(parents=True)
    (workspace / "memory/link").symlink_to(outside)
    for path in ("memory/link/a.md", "memory/link/new/a.md"):
        with pytest.raises(MemoryPathError, match="symbolic link"):
            append_note(workspace, "x", DAY, path)
    assert list(outside.iterdir()) == []


def test_another_process_that_holds_the_lock_is_waited_for(tmp_path: Path) -> None:
    """For a while, and then the error says so; nothing was written."""
    with filelock.FileLock(tmp_path / LOCK_FILE), pytest.raises(StorageError, match="try again"):
        append_note(tmp_path, "x", DAY, lock_s_max=0.1)
    assert not (tmp_path / f"memory/{DAY}.md").exists()


def _append_many(workspace: str, name: str) -> None:
    for number in range(15):
        append_note(Path(workspace), f"{name} wrote note {number}", DAY)


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    """Both append to one file at the same time; every note arrives, whole and once."""
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_append_many, args=(str(tmp_path), name)) for name in ("Ada", "Bo")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(40)
    lines = (tmp_path / f"memory/{DAY}.md").read_text().splitlines()
    notes = [line for line in lines if "wrote note" in line]

    assert sorted(notes) == sorted(f"{name} wrote note {number}" for name in ("Ada", "Bo") for number in range(15))


def test_a_kill_leaves_a_whole_file(tmp_path: Path) -> None:
    """Whenever the process is killed, what it had confirmed stands there, whole, and the next one can write."""
    confirmed = -1
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            told = -1
            while told < confirmed + 3:
                told = int(writer.stdout.readline())
            time.sleep(0.003)
            writer.kill()
            confirmed = max(told, *(int(rest) for rest in writer.stdout), -1)
        held = (tmp_path / f"memory/{DAY}.md").read_text().removeprefix(f"# {DAY}\n\n").rstrip("\n").split("\n\n")
        assert held[: confirmed + 1] == [f"note {number} " + "x" * 20_000 for number in range(confirmed + 1)]
        assert len(held) <= confirmed + 2

    assert append_note(tmp_path, "after the kill", DAY).appended
