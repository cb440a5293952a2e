"""The index compared with what it is made from: the files of each workspace, and the transcripts in `state.db`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reverie.doctor.finding import NAMED_MAX, Finding, counted, examples
from reverie.memory.documents import (
    FILES_MAX,
    SeenFile,
    SkippedFile,
    read_file,
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
    findings = watch_findings(str(await patient.index.read(lambda tx: tx.value("meta", key="watch")) or ""))
    for agent, workspace in (await asyncio.to_thread(patient.workspaces)).items():
        if not await asyncio.to_thread(workspace.is_dir):
            findings.append(_no_workspace(agent, workspace))
            continue
        compared = await patient.index.read(
            lambda tx, agent=agent, workspace=workspace: compare(tx, patient, agent, workspace)
        )
        findings += file_findings(agent, compared, served=patient.held_by is not None)
    return findings


def watch_findings(mode: str) -> list[Finding]:
    """How changed files were last noticed: `system`, or `polling` and why."""
    if not mode.startswith("polling"):
        return []
    return [
        Finding(
            "note",
            "files.polling",
            f"files are compared again and again: {mode}",
            "the system cannot watch these folders",
            "a change is noticed later; raise the limit of inotify watches, or move the workspace to a local disk",
        )
    ]


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
    """Walk a workspace beside the index's list of it, and say in what they differ; on a worker thread."""
    compared = Compared()
    met = 0
    for found, known in joined(walk_memory(workspace), _known_files(tx, agent)):
        met += isinstance(found, SeenFile)
        match found:
            case None if met >= FILES_MAX:  # what stands beyond them was not walked
                break
            case None:
                assert known is not None
                compared.vanished.add(known["path"])
            case SkippedFile(path, reason):
                (compared.skipped if known is None else compared.changed).add(f"{path} ({reason})")
            case SeenFile():
                _compare_file(patient, workspace, found, known, compared)
    return compared


def joined(
    found: Iterator[SeenFile | SkippedFile], known: Iterator[Row]
) -> Iterator[tuple[SeenFile | SkippedFile | None, Row | None]]:
    """Two lists in path order side by side: what both have, and what only one has. Neither is held in memory."""
    seen, row = next(found, None), next(known, None)
    while seen is not None or row is not None:
        if row is None or (seen is not None and seen.path < row["path"]):
            yield seen, None
            seen = next(found, None)
        elif seen is None or row["path"] < seen.path:
            yield None, row
            row = next(known, None)
        else:
            yield seen, row
            seen, row = next(found, None), next(known, None)


def _known_files(tx: Transaction, agent: str) -> Iterator[Row]:
    after = ""
    while rows := tx.rows("list_files", agent=agent, after=after, limit=LISTED_AT_ONCE):
        yield from rows
        after = rows[-1]["path"]


def _compare_file(patient: Patient, workspace: Path, seen: SeenFile, known: Row | None, compared: Compared) -> None:
    """A file on disk: its content decides, its time and size only whether it is read."""
    as_known = known is not None and (seen.mtime_ns, seen.size_bytes) == (known["mtime_ns"], known["size_bytes"])
    if as_known and not patient.deep:
        compared.same += 1
        return
    digest = _read(patient, workspace, seen.path)
    if digest is None:  # it went meanwhile
        return
    if isinstance(digest, SkippedFile):
        (compared.skipped if known is None else compared.changed).add(f"{seen.path} ({digest.reason})")
    elif known is not None and digest == known["content_hash"]:
        compared.same += 1
    elif _is_settling(patient, seen.mtime_ns):
        compared.settling += 1
    else:
        (compared.missing if known is None else compared.changed).add(seen.path)


def _read(patient: Patient, workspace: Path, path: str) -> bytes | SkippedFile | None:
    """The hash of a file's content, why it is not read, or None when it is gone."""
    assert patient.config is not None
    found = read_file(workspace, path, patient.config.memory.file_bytes_max)
    return found if found is None or isinstance(found, SkippedFile) else content_hash(found.data)


def _is_settling(patient: Patient, mtime_ns: int) -> bool:
    return patient.held_by is not None and patient.clock.now_ms() * 1_000_000 - mtime_ns < SETTLING_NS


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
            int(tx.value("log_end")),
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
