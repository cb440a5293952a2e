"""Each database as a file: is it there, is it ours, is its structure sound, and what takes its space.

A file that fails here is not looked into any further: what its rows say could not be trusted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from reverie.doctor.finding import Finding, TableSize, counted, examples, size_words
from reverie.errors import DatabaseCorruptError, ReverieError
from reverie.memory.generation_files import size_of
from reverie.storage.database import WAL_BYTES_MAX

if TYPE_CHECKING:
    from reverie.doctor.patient import Patient
    from reverie.doctor.reading import LookedAt
    from reverie.storage import Transaction

GIB = 1024**3
FULL_CHECK_BYTES_MAX = GIB
"""Above this the quick check takes the place of the full one, which compares every index with its table."""

SIZES_BYTES_MAX = 2 * GIB
"""Above this sizes by table are left out: they ask for every page."""

LINES_MAX = 20
WAL_FACTOR = 4


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """What became of one file. `sound` says that its rows can be looked at."""

    findings: tuple[Finding, ...]
    tables: tuple[TableSize, ...]
    sound: bool


@dataclass(frozen=True, slots=True)
class _Header:
    application_id: int
    version: int
    newest: int
    tables: int


async def check_database(patient: Patient, file: LookedAt) -> DatabaseHealth:
    """Everything about one file as a whole."""
    sizes = await asyncio.to_thread(size_of, file.path)
    if not sizes.get(file.path.name):
        return DatabaseHealth((await asyncio.to_thread(_missing, patient, file),), (), sound=False)
    try:
        header = await file.read(lambda tx: _header(tx, file))
        refused = identity_problem(file, header)
        if refused is not None:
            return DatabaseHealth((refused,), (), sound=False)
        size = sizes[file.path.name]
        findings = [*await _structure(patient, file, size), *wal_size(file, sizes)]
        if any(each.severity == "error" for each in findings):
            return DatabaseHealth(tuple(findings), (), sound=False)
        tables = () if size > SIZES_BYTES_MAX and not patient.deep else await file.read(lambda tx: _sizes(tx, file))
    except DatabaseCorruptError as error:
        return DatabaseHealth((damaged(file, str(error)),), (), sound=False)
    except ReverieError as error:
        unreadable = Finding(
            "error",
            f"database.{file.schema.name}_unreadable",
            f"{file.path.name} cannot be read",
            str(error),
            "check the permissions of the home and the health of the disk",
        )
        return DatabaseHealth((unreadable,), (), sound=False)
    left_out = "" if tables else f"; sizes by table are left out above {size_words(SIZES_BYTES_MAX)} (--deep)"
    sound = Finding(
        "ok",
        f"database.{file.schema.name}",
        f"{file.path.name}: {_checked(patient, size)}, {size_words(size)}{left_out}",
    )
    return DatabaseHealth((sound, *findings), tables, sound=True)


def identity_problem(file: LookedAt, header: _Header) -> Finding | None:
    """Why a file must not be looked into as ours; None when it may."""
    name, newest = file.path.name, header.newest
    if header.application_id != file.schema.application_id and header.tables:
        return Finding(
            "error",
            f"database.{file.schema.name}_foreign",
            f"{name} is not a Reverie {file.schema.name} database",
            "another program wrote it, or it was copied from elsewhere",
            "move it away, then start again",
        )
    if header.version > newest:
        return Finding(
            "error",
            f"database.{file.schema.name}_too_new",
            f"{name} has schema {header.version}, known is {newest}",
            "a newer Reverie wrote it",
            "install that version again, or use another home with --home",
        )
    if header.version < newest:
        return Finding(
            "note",
            f"database.{file.schema.name}_older",
            f"{name} has schema {header.version} of {newest}: not looked into",
            "an older Reverie wrote it",
            "the next start brings it up to date; examine it again afterwards",
        )
    return None


def damaged(file: LookedAt, cause: str) -> Finding:
    """A file whose structure is broken; the derived ones can be made anew."""
    derived = file.schema.name != "state"
    remedy = file.schema.remedy
    if derived:
        remedy = "--fix puts it aside and builds it anew; what was paid for is kept in the other file"
    return Finding(
        "error", f"database.{file.schema.name}_damaged", f"{file.path.name} is damaged", cause, remedy, fixable=derived
    )


def wal_size(file: LookedAt, sizes: dict[str, int]) -> list[Finding]:
    """A write-ahead log that was not folded back in for long."""
    log = sizes.get(f"{file.path.name}-wal", 0)
    if log <= WAL_FACTOR * WAL_BYTES_MAX:
        return []
    return [
        Finding(
            "warning",
            f"database.{file.schema.name}_wal",
            f"the write-ahead log of {file.path.name} has {size_words(log)}",
            "a program reads the file without end, so that the log cannot be folded in, or a large write runs",
            "end programs that keep the file open; a start without them folds the log in",
        )
    ]


def _missing(patient: Patient, file: LookedAt) -> Finding:
    name, check = file.path.name, f"database.{file.schema.name}_missing"
    if file.schema.name != "state":
        return Finding(
            "note",
            check,
            f"{name} is not there yet",
            "nothing was indexed so far, or it was deleted",
            "the next start makes it; --fix does too",
            fixable=True,
        )
    if patient.live.exists():
        return Finding(
            "error",
            check,
            f"{name} is gone, while an index of it exists",
            "it was deleted or moved",
            "restore it from a backup; without one, the next start begins with no conversations",
        )
    return Finding("note", check, f"{name} is not there yet", "nobody used this home so far", "the next start makes it")


def _header(tx: Transaction, file: LookedAt) -> _Header:
    application_id, version = file.pragma("application_id"), file.pragma("user_version")
    return _Header(application_id, version, len(file.schema.migrations()), int(tx.value("count_tables")))


async def _structure(patient: Patient, file: LookedAt, size: int) -> list[Finding]:
    """What SQLite itself says of the file."""
    full = patient.deep or size <= FULL_CHECK_BYTES_MAX
    query = "integrity_check" if full else "quick_check"
    lines = await file.read(lambda tx: [str(row[0]) for row in islice(tx.tuples(query), LINES_MAX)])
    if lines != ["ok"]:
        return [damaged(file, "; ".join(lines))]
    if not full or file.schema.name == "index":  # rows of the index that belong to nothing are checks of their own
        return []
    broken = await file.read(lambda tx: list(islice(tx.tuples("foreign_key_check"), LINES_MAX)))
    if not broken:
        return []
    named = examples([f"{table} {row} (no {parent})" for table, row, parent, _ in broken], len(broken))
    return [
        Finding(
            "error",
            f"database.{file.schema.name}_references",
            f"{file.path.name} has {counted(len(broken), 'row')}{' or more' * (len(broken) == LINES_MAX)} "
            f"that name what is not there: {named}",
            "another program wrote it",
            "restore it from a backup; nothing in it is repaired by guessing",
        )
    ]


def _checked(patient: Patient, size: int) -> str:
    if patient.deep or size <= FULL_CHECK_BYTES_MAX:
        return "full integrity check passed"
    return f"quick check passed (the full one is for files up to {size_words(FULL_CHECK_BYTES_MAX)}, or --deep)"


def _sizes(tx: Transaction, file: LookedAt) -> tuple[TableSize, ...]:
    return tuple(TableSize(file.path.name, row["name"], row["size_bytes"]) for row in tx.iterate("table_sizes"))
