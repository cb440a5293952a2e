"""The sample memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.cli.sample_memory import copy_sample

if TYPE_CHECKING:
    from pathlib import Path


def test_copied_into_a_new_workspace(tmp_path: Path) -> None:
    """A new workspace receives the notes, and only Markdown."""
    written = copy_sample(tmp_path / "agents" / "main" / "workspace")

    found = sorted(path.relative_to(tmp_path / "agents" / "main" / "workspace") for path in tmp_path.rglob("*.*"))
    assert written == len(found)
    assert [str(path) for path in found] == [
        "MEMORY.md",
        "USER.md",
        "memory/2026-09-08.md",
        "memory/2026-09-23.md",
        "memory/2026-10-12.md",
        "memory/2026-10-29.md",
        "memory/2026-11-16.md",
    ]


def test_twice(tmp_path: Path) -> None:
    """The second time nothing is written: what was changed since stays."""
    copy_sample(tmp_path)
    (tmp_path / "MEMORY.md").write_text("mine\n", encoding="utf-8")

    assert copy_sample(tmp_path) == 0
    assert (tmp_path / "MEMORY.md").read_text(encoding="utf-8") == "mine\n"


def test_a_workspace_with_files(tmp_path: Path) -> None:
    """A workspace that holds anything at all receives nothing."""
    (tmp_path / "MEMORY.md").write_text("mine\n", encoding="utf-8")

    assert copy_sample(tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["MEMORY.md"]
