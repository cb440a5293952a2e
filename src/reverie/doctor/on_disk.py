"""The index compared with what it is made from: the files of each workspace, and the transcripts in `state.db`."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reverie.doctor.finding import NAMED_MAX, Finding, counted, examples
from reverie.memory.documents import (
    FILES_MAX,
    MEMORY_FOLDER,
    ROOT_FILES,
    SkippedFile,
    is_ignored_folder,
    is_indexed_path,
    read_file,
    stat_file,
    walk_memory,
)
from reverie.memory.passages import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reverie.doctor.patient import Patient
    from reverie.storage import Row, Transaction

LISTED_AT_ONCE = 500
SETTLING_NS = 5_000_000_000
"""A file that changed this shortly ago may still be on its way into the index of a running server."""

MESSAGES_COUNTED_MAX = 100_000
SESSIONS_SAMPLED = 1_000


@dataclass(slots=True)
class Named:
    """How many, and the first few by name."""

    count: int = 0
    names: list[str] = field(default_factory=list[str])

    def add(self, name: str) -> None:
        """One more."""
        self.count += 1
        if len(self.names) < NAMED_MAX:
            self.names.append(name)

    def __str__(self) -> str:
        return examples(self.names, self.count)


@dataclass(slots=True)
class Compared:
    """How the index and one workspace differ. `skipped` are files that are not indexed, each with its reason."""

    same: int = 0
    missing: Named = field(default_factory=Named)
    changed: Named = field(default_factory=Named)
    vanished: Named = field(default_factory=Named)
    skipped: Named = field(default_factory=Named)
    settling: int = 0


async def check_files(patient: Patient) -> list[Finding]:
    """Each agent's files against the index.

    Raises:
        StorageError: the index cannot be read.
    """
    findings: list[Finding] = []
    for agent, workspace in (await asyncio.to_thread(patient.workspaces)).items():
        if not await asyncio.to_thread(workspace.is_dir):
            findings.append(_no_workspace(agent, workspace))
            continue
        compared = await patient.index.read(
            lambda tx, agent=agent, workspace=workspace: compare(tx, patient, agent, workspace)
        )
        findings += file_findings(agent, compared, served=patient.held_by is not None)
    return findings


def file_findings(agent: str, compared: Compared, *, served: bool) -> list[Finding]:
    """What a comparison comes to. `served`: a process has the home, and should have followed the files."""
    cause = "they were written while nothing watched them"
    if served:
        cause = "memory.watch is off, or the running server's watcher failed: its log says so"
    remedy = "--fix reads them, and so does `reverie index` or the next start"
    findings = [
        Finding(
            "warning",
            f"files.{word}",
            f"{agent}: {counted(named.count, 'file')} {what}: {named}",
            cause,
            remedy,
            fixable=True,
        )
        for word, what, named in (
            ("missing", "on disk and not in the index", compared.missing),
            ("changed", "changed since they were indexed", compared.changed),
            ("vanished", "in the index and not on disk any more", compared.vanished),
        )
        if named.count
    ]
    if compared.skipped.count:
        findings.append(
            Finding(
                "note",
                "files.skipped",
                f"{agent}: {counted(compared.skipped.count, 'file')} not indexed: {compared.skipped}",
                "it is too large, a link, or cannot be read",
                "see the reason with each; what is skipped is not searched",
            )
        )
    if not findings or all(each.severity == "note" for each in findings):
        settling = f" ({compared.settling} just changed)" if compared.settling else ""
        findings.insert(
            0, Finding("ok", "files.in_step", f"{agent}: {counted(compared.same, 'file')} in step{settling}")
        )
    return findings


def compare(tx: Transaction, patient: Patient, agent: str, workspace: Path) -> Compared:
    """Walk a workspace and the index's list of it, and say in what they differ; on a worker thread."""
    assert patient.config is not None
    compared = Compared()
    seen = set(walk_memory(workspace))
    for path in _linked(workspace):
        compared.skipped.add(f"{path} (a symbolic link)")
    in_index: set[str] = set()
    for row in _known_files(tx, agent):
        in_index.add(row["path"])
        if row["path"] not in seen or not is_indexed_path(row["path"]):
            compared.vanished.add(row["path"])
        else:
            _compare_file(patient, workspace, row, compared)
    for path in sorted(seen - in_index):
        _note_missing(patient, workspace, path, compared)
    return compared


def _known_files(tx: Transaction, agent: str) -> Iterator[Row]:
    after = ""
    while rows := tx.rows("list_files", agent=agent, after=after, limit=LISTED_AT_ONCE):
        yield from rows
        after = rows[-1]["path"]


def _compare_file(patient: Patient, workspace: Path, known: Row, compared: Compared) -> None:
    """A file that both have: its content decides, its time and size only whether it is read."""
    path = known["path"]
    info = stat_file(workspace, path)
    if info is None:
        compared.vanished.add(path)
        return
    as_known = (info.mtime_ns, info.size_bytes) == (known["mtime_ns"], known["size_bytes"])
    if as_known and not patient.deep:
        compared.same += 1
        return
    found = _read(patient, workspace, path)
    if isinstance(found, SkippedFile):
        compared.changed.add(f"{path} ({found.reason})")
    elif found == known["content_hash"]:
        compared.same += 1
    elif _is_settling(patient, info.mtime_ns):
        compared.settling += 1
    else:
        compared.changed.add(path)


def _note_missing(patient: Patient, workspace: Path, path: str, compared: Compared) -> None:
    """A file that only the disk has: left out for a reason, on its way, or missed."""
    info = stat_file(workspace, path)
    if info is None:
        return
    found = _read(patient, workspace, path)
    if isinstance(found, SkippedFile):
        compared.skipped.add(f"{path} ({found.reason})")
    elif found is not None and _is_settling(patient, info.mtime_ns):
        compared.settling += 1
    elif found is not None:
        compared.missing.add(path)


def _read(patient: Patient, workspace: Path, path: str) -> bytes | SkippedFile | None:
    """The hash of a file's content, why it is not read, or None when it is gone."""
    assert patient.config is not None
    found = read_file(workspace, path, patient.config.memory.file_bytes_max)
    return found if found is None or isinstance(found, SkippedFile) else content_hash(found.data)


def _is_settling(patient: Patient, mtime_ns: int) -> bool:
    return patient.held_by is not None and patient.clock.now_ms() * 1_000_000 - mtime_ns < SETTLING_NS


def _linked(workspace: Path) -> Iterator[str]:
    """Notes and folders of notes that are symbolic links, which nobody follows; bounded as the walk itself is."""
    for name in (*ROOT_FILES, MEMORY_FOLDER):
        if (workspace / name).is_symlink():
            yield name
    looked_at = 0
    for folder, folders, files in os.walk(workspace / MEMORY_FOLDER):
        folders[:] = [name for name in folders if not is_ignored_folder(name)]
        looked_at += len(files) + 1
        if looked_at > FILES_MAX:
            return
        for name in (*folders, *(file for file in files if file.endswith(".md"))):
            path = os.path.join(folder, name)  # noqa: PTH118 (a hundred thousand of them)
            if os.path.islink(path):  # noqa: PTH114 (as above)
                yield os.path.relpath(path, workspace)


def _no_workspace(agent: str, workspace: Path) -> Finding:
    return Finding(
        "note",
        "files.no_workspace",
        f"{agent}: there is no folder {workspace}",
        "the agent was not used so far",
        "the next start makes it; if it should be there, check [agents] in config.toml",
        fixable=False,
    )


# -- transcripts -------------------------------------------------------------------------------------------------------


async def check_transcripts(patient: Patient) -> list[Finding]:
    """How far the index has read the log of all sessions, and whether a session is left out.

    Raises:
        StorageError: a database cannot be read.
    """
    position = await patient.index.read(_position)
    last, behind = await patient.state.read(
        lambda tx: (
            int(tx.value("last_message")),
            int(tx.value("count_messages_after", position=position, limit=MESSAGES_COUNTED_MAX)),
        )
    )
    findings = [position_finding(position, last, behind, served=patient.held_by is not None)]
    if position <= last:
        findings += await _left_out(patient, position)
    return findings


def position_finding(position: int, last: int, behind: int, *, served: bool) -> Finding:
    """What the log position comes to, beside the last message and how many are not read yet."""
    if position > last:
        return Finding(
            "warning",
            "transcripts.log_shrank",
            f"the index has read up to message {position:,}, the last is {last:,}",
            "state.db was replaced by an older one",
            "--fix indexes all transcripts anew, and so does the next start",
            fixable=True,
        )
    if not behind:
        return Finding("ok", "transcripts.in_step", f"every message up to {last:,} is read")
    what = f"{counted(behind, 'message')}{' or more' * (behind == MESSAGES_COUNTED_MAX)} not indexed yet"
    if served:
        return Finding(
            "note",
            "transcripts.behind",
            what,
            "the running server has not come to them",
            "look again in a moment; if the number does not fall, the server's log says why",
        )
    return Finding(
        "warning",
        "transcripts.behind",
        what,
        "they were written while nothing indexed them",
        "--fix reads them, and so does `reverie index` or the next start",
        fixable=True,
    )


async def _left_out(patient: Patient, position: int) -> list[Finding]:
    """Sessions of which nothing is in the index though it has read past them; looks at those used last."""
    sessions = await patient.state.read(
        lambda tx: [
            (row[0], row[1]) for row in tx.tuples("sessions_to_be_found", position=position, limit=SESSIONS_SAMPLED)
        ]
    )
    indexed = await patient.index.read(
        lambda tx: {row[0] for row in tx.tuples("which_sessions_indexed", sessions=json.dumps(sessions))}
    )
    lost = [session_id for _, session_id in sessions if session_id not in indexed]
    if not lost:
        return []
    return [
        Finding(
            "error",
            "transcripts.left_out",
            f"{counted(len(lost), 'session')} cannot be found: {examples(lost, len(lost))}",
            "their passages were lost from the index",
            "--fix rebuilds the index; `reverie index --rebuild` does the same",
            fixable=patient.embedding_is_free,
        )
    ]


def _position(tx: Transaction) -> int:
    return int(tx.value("meta", key="log_position") or 0)
