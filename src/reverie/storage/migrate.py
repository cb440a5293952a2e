"""Bring a database file from any earlier schema to today's: forward only, one transaction per step.

The file's `user_version` is the number of the last step applied; `schema_migrations` records when, and under which
checksum. A file that is not ours, damaged or newer is refused before anything is written to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw

from reverie.errors import DatabaseCorruptError, DatabaseTooNewError
from reverie.storage.waiting import BUSY_TIMEOUT_MS

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.storage.schema import Schema


def check_identity(path: Path, schema: Schema) -> None:
    """Look at an existing file and refuse what we must not write to.

    All of it is seen in one snapshot: another process may make the file's tables at this very moment.

    Raises:
        DatabaseCorruptError: it is not a SQLite file, or belongs to another program.
        DatabaseTooNewError: its schema is newer than this program knows.
    """
    if path.stat().st_size == 0:
        return
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("BEGIN")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").get
        application_id = connection.pragma("application_id")
        version = connection.pragma("user_version")
    finally:
        connection.close()
    if application_id != schema.application_id and tables:
        message = f"{path} is not a Reverie {schema.name} database. Nothing was changed. Move it away and start again."
        raise DatabaseCorruptError(message)
    newest = len(schema.migrations())
    if isinstance(version, int) and version > newest:
        message = (
            f"{path} was written by a newer Reverie (schema {version}, this one knows {newest}). Nothing was changed. "
            "Install that version again, or use another home with --home."
        )
        raise DatabaseTooNewError(message)


def migrate(connection: apsw.Connection, path: Path, schema: Schema, *, now_ms: int, up_to: int | None = None) -> None:
    """Apply every step the file has not had, up to `up_to` (the newest by default).

    A step may rebuild a table that others refer to, so references are not watched meanwhile; a step that leaves one
    without its row is undone.
    """
    current = _version(connection)
    assert current <= len(schema.migrations()), f"{path} was checked before"
    watched = bool(connection.pragma("foreign_keys"))
    connection.pragma("foreign_keys", False)
    try:
        _apply_steps(connection, schema, current, now_ms=now_ms, up_to=up_to)
    finally:
        connection.pragma("foreign_keys", watched)


def _apply_steps(connection: apsw.Connection, schema: Schema, current: int, *, now_ms: int, up_to: int | None) -> None:
    for migration in schema.migrations()[current:up_to]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) >= migration.version:  # another process took this step while this one waited
                connection.execute("ROLLBACK")
                continue
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations "
                "(version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL)"
            )
            connection.execute(migration.sql)
            assert connection.execute("PRAGMA foreign_key_check").fetchone() is None, f"{migration.name} loses rows"
            connection.execute(
                "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
                (migration.version, migration.name, migration.checksum, now_ms),
            )
            connection.pragma("application_id", schema.application_id)
            connection.pragma("user_version", migration.version)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _version(connection: apsw.Connection) -> int:
    """The number of the last step that a file has had."""
    version = connection.pragma("user_version")
    assert isinstance(version, int), "every database has a version"
    return version
