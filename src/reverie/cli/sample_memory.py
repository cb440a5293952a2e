"""The sample memory: a few notes of a made-up coffee roastery, to have something to ask about on the first day.

Invariant: only a workspace without any files receives it. Nothing that exists is ever changed.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from reverie.memory.workspace import write_atomic

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

QUESTION = "When is the roaster's next service due, and who does it?"
"""A question the sample answers."""


def copy_sample(workspace: Path) -> int:
    """Put the sample into a new workspace; returns how many files were written, 0 when it is not new.

    Raises:
        HomeReadOnlyError: the place cannot be written.
        StorageFullError: the disk is full.
    """
    if workspace.is_dir() and any(workspace.iterdir()):
        return 0
    return sum(_copy(entry, workspace) for entry in files("reverie.cli").joinpath("sample").iterdir())


def _copy(entry: Traversable, folder: Path) -> int:
    target = folder / entry.name
    if entry.is_dir():
        return sum(_copy(inner, target) for inner in entry.iterdir())
    if not entry.name.endswith(".md"):
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(target, entry.read_bytes())
    return 1
