"""Notes are copied byte for byte, and nothing that stands there is lost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reverie.importers.openclaw.files import DIFFERS, GENERATED, LINK, FilesReport, copy_files, count_files
from reverie.memory.workspace import create_workspace

if TYPE_CHECKING:
    from pathlib import Path

WHEN_NS = 1_770_000_000_123_456_789


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """Files in a folder, all changed at one moment."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        os.utime(folder / name, ns=(WHEN_NS, WHEN_NS))
    return folder


def copied(source: Path, workspace: Path, *, file_bytes_max: int = 1_000) -> FilesReport:
    """What became of a copy."""
    report = FilesReport()
    copy_files(source, workspace, file_bytes_max=file_bytes_max, report=report)
    return report


def test_everything_of_a_workspace(tmp_path: Path) -> None:
    """Notes, old names and what dreaming has noted come over with their bytes and times; again adds nothing."""
    files = {
        "MEMORY.md": b"tea\r\n\xff",
        "DREAMS.md": b"dreams",
        "USER.md": b"me",
        "memory/2026-01-01.md": b"a day",
        "memory/deep/er/x.md": b"x",
        "memory/.dreams/short-term-recall.json": b"{}",
        "memory/.dreams/phase-signals.json": b"{}",
    }
    others = {
        "AGENTS.md": b"theirs",
        "memory/notes.txt": b"t",
        "memory/.dreams/events.jsonl": b"",
        "memory/.git/a.md": b"g",
    }
    source, workspace = put(tmp_path / "source", files | others), tmp_path / "workspace"
    create_workspace(workspace)
    report, again = copied(source, workspace), copied(source, workspace)

    assert (report.copied, report.present, report.skipped) == (7, 0, [])
    assert {name: (workspace / name).read_bytes() for name in files} == files
    assert {(workspace / name).stat().st_mtime_ns for name in files} == {WHEN_NS}
    assert (workspace / "AGENTS.md").read_bytes().startswith(b"# How this agent works")
    assert (again.copied, again.present, again.skipped) == (0, 7, [])
    assert count_files(source) == 7


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    """Links, generated reports, files that are too large and those that would overwrite another."""
    source = put(
        tmp_path / "source",
        {"MEMORY.md": b"theirs", "memory/dreaming/deep/r.md": b"r", "memory/big.md": b"b" * 2_000, "memory/a.md": b"a"},
    )
    (source / "memory" / "link.md").symlink_to(source / "MEMORY.md")
    (source / "memory" / "folder").symlink_to(tmp_path)
    workspace = put(tmp_path / "workspace", {"MEMORY.md": b"mine", "outside/x": b""})
    (workspace / "memory").mkdir()
    (workspace / "memory" / "a.md").symlink_to(workspace / "outside" / "a.md")
    report = copied(source, workspace)

    assert {skipped["path"]: skipped["reason"] for skipped in report.skipped} == {
        "MEMORY.md": DIFFERS,
        "memory/a.md": DIFFERS,
        "memory/big.md": "larger than memory.file_bytes_max (1,000 bytes)",
        "memory/dreaming/deep/r.md": GENERATED,
        "memory/folder": LINK,
        "memory/link.md": LINK,
    }
    assert (report.copied, report.skipped_count) == (0, 6)
    assert (workspace / "MEMORY.md").read_bytes() == b"mine"
    assert not (workspace / "outside" / "a.md").exists()


def test_the_old_name_of_the_memory(tmp_path: Path) -> None:
    """`memory.md` becomes `MEMORY.md`, which is the name that is memory here, unless there are both."""
    old = put(tmp_path / "old", {"memory.md": b"old"})
    both = put(tmp_path / "both", {"memory.md": b"old", "MEMORY.md": b"new"})
    copied(old, tmp_path / "a")
    copied(both, tmp_path / "b")

    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == {"MEMORY.md": b"old"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} == {
        "memory.md": b"old",
        "MEMORY.md": b"new",
    }
