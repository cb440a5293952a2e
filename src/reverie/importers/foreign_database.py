"""A SQLite database of another program, opened so that nothing of it can change: no byte, no WAL, no journal.

Everything here blocks; callers run it on a worker thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import apsw

from reverie.errors import ImportFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

BUSY_TIMEOUT_MS = 5_000


class ForeignDatabase:
    """One open database and the queries on it. Use it as a context. `owner` is the program that writes it.

    In a query SOURCE stands for a table; the caller names one of a fixed list.

    Raises, from every method:
        ImportFileError: it is not a database, is damaged, or cannot be read without changing it.
    """

    def __init__(self, path: Path, queries: Mapping[str, str], owner: str) -> None:
        self.path = path.resolve()
        self._queries = queries
        self._owner = owner
        self._made_shm = False
        self._connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; a `-shm` that SQLite had to make for reading goes again."""
        self._connection.close()
        if self._made_shm:
            self._beside("-shm").unlink(missing_ok=True)

    def states(self) -> list[list[int]]:
        """Size and time of the database and its WAL, by which a change shows; empty for what is not there."""
        states: list[list[int]] = []
        for path in (self.path, self._beside("-wal")):
            try:
                info = path.stat()
                states.append([info.st_size, info.st_mtime_ns])
            except OSError:
                states.append([])
        return states

    def run(self, query: str, table: str = "", **parameters: Any) -> apsw.Cursor:
        """Run one of the queries."""
        return self.run_sql(self._queries[query].replace("SOURCE", f'"{table}"'), parameters)

    def run_sql(self, sql: str, parameters: Mapping[str, Any]) -> apsw.Cursor:
        """Run a query that was made of one of them."""
        try:
            return self._connection.execute(sql, parameters)
        except apsw.Error as error:
            raise self.refused(error) from error

    def value(self, query: str, table: str = "", **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        return next((row[0] for row in self.run(query, table, **parameters)), None)

    def refused(self, error: apsw.Error) -> ImportFileError:
        """What SQLite refused, in words that say what to do."""
        match error:
            case apsw.NotADBError() | apsw.CorruptError():
                advice = "it is damaged or not a SQLite database: restore it from a backup, or import the other files"
            case apsw.BusyError():
                advice = f"it is being written: stop {self._owner}, then run the import again"
            case apsw.ReadOnlyError() | apsw.CantOpenError():
                advice = f"reading it would change it: stop {self._owner} so that it closes the file, or import a copy"
            case _:
                advice = "try a copy of it"
        return ImportFileError(f"{self.path} cannot be read ({error}): {advice}")

    def _open(self) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        try:
            connection = apsw.Connection(f"{self.path.as_uri()}?{self._mode()}", flags=flags)
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.pragma("query_only", False)  # a temporary table may be made; the file is read-only
            connection.pragma("temp_store", "FILE")
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except apsw.Error as error:
            raise self.refused(error) from error
        return connection

    def _mode(self) -> str:
        """Without a WAL or a journal beside it the file may be taken as immutable; with one, its locks count."""
        wal, shm, journal = (self._beside(suffix).exists() for suffix in ("-wal", "-shm", "-journal"))
        if not (wal or shm or journal):
            return "mode=ro&immutable=1"
        if shm:
            return "mode=ro&readonly_shm=1"
        self._made_shm = wal
        return "mode=ro"

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)
