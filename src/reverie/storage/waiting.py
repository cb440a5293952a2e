"""How a connection waits for other processes that have the same file open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY_TIMEOUT_MS = 5_000
"""How long a connection waits for a lock of another one."""
WAL_TRIES = 100
WAL_RETRY_S = 0.05


def enter_wal(connection: apsw.Connection, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Give a file a write-ahead log, unless it has one. Only for worker threads.

    When several connections do so at once to a new file, SQLite tells all but one that it is busy, and tells them at
    once: each holds a lock that the others wait for, so that waiting with it would be for ever. Those begin anew.

    Raises:
        BusyError: somebody else has held the file for about five seconds.
    """
    for left in reversed(range(WAL_TRIES)):
        try:
            connection.pragma("journal_mode", "wal")
        except apsw.BusyError:
            if not left:
                raise
            sleep(WAL_RETRY_S)
        else:
            return
