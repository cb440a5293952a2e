"""Traces in the archive: sessions that were written there before they were deleted.

A file of the archive is whole or it is not, so nothing is cut out of one: it is named, and deleted if that is asked
for. What it holds of what is forgotten stays out when it is imported again. These functions block.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from reverie.errors import ImportFileError
from reverie.memory.workspace import write_error
from reverie.sessions.forgetting import EntryHead, MeantSession, mark_name, message_name
from reverie.sessions.restore import EntryLine, exported_lines, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from reverie.sessions.forgetting import Wanted

ARCHIVES_MAX = 1_000_000
HEADER_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ArchivedSession:
    """A file of the archive that holds some of it: the session, and the names of its messages that are meant.

    Of a session that is meant whole there are none: its own name is enough.
    """

    file: Path
    session: MeantSession
    names: tuple[str, ...] = ()


def archived(folder: Path, is_meant: Callable[[MeantSession], bool], wanted: Wanted) -> Iterator[ArchivedSession]:
    """The files of an archive that hold something of what is meant.

    A file that cannot be read as an export is passed over: it cannot be imported either.
    """
    for file in islice(sorted(folder.glob("*.jsonl.gz")), ARCHIVES_MAX):
        session = _session_of(file)
        if session is None or not is_meant(session):
            continue
        if wanted.everything:
            yield ArchivedSession(file, session)
        elif wanted.reaches(session) and (names := _names(file, session, wanted)):
            yield ArchivedSession(file, session, names)


def delete(found: ArchivedSession) -> None:
    """Delete a file of the archive.

    Raises:
        HomeReadOnlyError, StorageError: it could not be deleted.
    """
    try:
        found.file.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(error, found.file) from error


def _session_of(file: Path) -> MeantSession | None:
    try:
        with gzip.open(file, "rb") as opened:
            header: Any = json.loads(opened.readline(HEADER_BYTES_MAX))
        return MeantSession(
            id=str(header["id"]),
            key=str(header["key"]),
            agent=str(header["agent"]),
            origin="import" if header["origin"] == "import" else "live",
            started_at_ms=int(header["started_at"]),
            updated_at_ms=int(header["updated_at"]),
            ended=True,
            entries=int(header["entries"]),
        )
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError):
        return None


def _names(file: Path, session: MeantSession, wanted: Wanted) -> tuple[str, ...]:
    """The names of the messages that are meant, in a file of the archive."""
    try:
        lines = [line for line in exported_lines(file) if isinstance(line, EntryLine) and _means(line, wanted)]
    except ImportFileError:
        return ()
    return tuple(
        message_name(session.key, fingerprint_of(line))
        if line.kind == "message"
        else mark_name(session.id, int(line.id.rpartition("/")[2]))
        for line in lines
    )


def _means(line: EntryLine, wanted: Wanted) -> bool:
    if line.forgotten or (
        line.kind != "message" and not (line.kind == "turn_ended" and line.data and "said" in line.data)
    ):
        return False
    name = line.name or "" if line.role == "user" else ""
    return wanted.means(EntryHead(0, line.kind, line.role, line.speaker, line.at, line.turn, name))
