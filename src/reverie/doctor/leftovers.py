"""Files that something left behind: indexes of killed rebuilds, databases put aside, unfinished writes of notes."""

from __future__ import annotations

import asyncio
import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.doctor.finding import Finding, counted, examples, size_words
from reverie.memory.documents import FILES_MAX, is_ignored_folder
from reverie.memory.generation_files import DAMAGED, SIDE_FILES, remove, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reverie.doctor.patient import Patient

ASIDE = (DAMAGED, "damaged-embeddings.db")
TEMPORARY_MAX = 1_000
YOUNG_MS = 60 * 60 * 1000
"""A temporary file younger than this may belong to a write that is under way."""

_TEMPORARY = re.compile(r"^\..+\.[0-9a-f]{8}\.tmp$")


async def check_leftovers(patient: Patient) -> list[Finding]:
    """What could go."""
    return await asyncio.to_thread(_look, patient)


def _look(patient: Patient) -> list[Finding]:
    findings: list[Finding] = []
    if stale := patient.files.stale():
        findings.append(stale_finding([path.name for path in stale], _bytes(stale), served=patient.held_by is not None))
    if aside := put_aside(patient.home.path):
        findings.append(
            Finding(
                "note",
                "leftovers.damaged",
                f"{examples([path.name for path in aside], len(aside))}, {size_words(_bytes(aside))}",
                "a damaged database was put aside, and another took its place",
                "--fix removes it; keep it if you want to look at what happened",
                fixable=True,
            )
        )
    if temporary := list(islice(old_temporary_files(patient), TEMPORARY_MAX)):
        findings.append(
            Finding(
                "note",
                "leftovers.temporary",
                f"{counted(len(temporary), 'unfinished write')}: "
                f"{examples([path.name for path in temporary], len(temporary))}",
                "a process was killed while it wrote a note; the note itself is whole, as it was before",
                "--fix removes them",
                fixable=True,
            )
        )
    return findings or [Finding("ok", "leftovers.none", "nothing was left behind")]


def stale_finding(names: list[str], size: int, *, served: bool) -> Finding:
    """Index files that are not the live one."""
    what = f"{examples(names, len(names))} beside the live index, {size_words(size)}"
    if served:
        return Finding(
            "note",
            "leftovers.stale",
            what,
            "a rebuild runs in the process that has the home, or one was killed",
            "nothing to do: the next start removes what is not needed",
        )
    return Finding(
        "warning",
        "leftovers.stale",
        what,
        "a rebuild was killed before it was complete",
        "--fix removes it, and so does the next start",
        fixable=True,
    )


def put_aside(folder: Path) -> list[Path]:
    """The damaged databases that were put aside."""
    return [folder / name for name in ASIDE if size_of(folder / name)]


def old_temporary_files(patient: Patient) -> Iterator[Path]:
    """What writes that never finished left in the home and in the workspaces, except what may be under way."""
    before_ns = (patient.clock.now_ms() - YOUNG_MS) * 1_000_000
    folders = [patient.home.path, *patient.workspaces().values()]
    for folder in folders:
        yield from _temporary(folder, before_ns)
    for workspace in folders[1:]:
        looked_at = 0
        for found, below, files in os.walk(workspace / "memory"):
            below[:] = [name for name in below if not is_ignored_folder(name)]
            looked_at += len(files) + 1
            if looked_at > FILES_MAX:
                break
            yield from _temporary(Path(found), before_ns)


def _temporary(folder: Path, before_ns: int) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if _TEMPORARY.match(entry.name)
                and entry.is_file(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_mtime_ns < before_ns
            ]
    except OSError:  # gone meanwhile, or not ours to read
        return []


def _bytes(paths: list[Path]) -> int:
    return sum(sum(size_of(path).values()) for path in paths)


# -- repairs, on a worker thread, with the home alone ------------------------------------------------------------------


def sweep(patient: Patient) -> None:
    """Remove stale index files, databases put aside before, and unfinished writes."""
    patient.files.sweep()
    for path in put_aside(patient.home.path):
        remove(path)
    for path in list(islice(old_temporary_files(patient), TEMPORARY_MAX)):
        path.unlink(missing_ok=True)


def set_aside(path: Path, name: str) -> None:
    """Put a damaged database aside under a name, in place of one that was put aside before."""
    aside = path.with_name(name)
    remove(aside)
    for suffix in SIDE_FILES:
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.replace(aside.with_name(aside.name + suffix))
