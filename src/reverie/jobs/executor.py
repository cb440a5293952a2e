"""Which of the processes of a home this is: a name that is the same after a restart, and nobody else's meanwhile.

A name is a numbered lock file. The system frees the lock when its process ends, however it ends; the next process takes
the lowest free number and thereby knows that whatever stands under its name belongs to nobody any more.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import filelock

from reverie.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES_MAX = 64


class Executor:
    """This process's name among those of one home. The lock is taken when the name is first asked for.

    `folder` is the home: the lock files are `jobs-1.lock` and so on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taking = asyncio.Lock()
        self._lock: filelock.BaseFileLock | None = None
        self._name = ""

    async def name(self) -> str:
        """The name, without any character that a pattern of SQLite means something by.

        Raises:
            StorageError: the home cannot be written, or too many processes use it.
        """
        async with self._taking:
            if self._lock is None:
                self._lock, self._name = await asyncio.to_thread(self._take)
            return self._name

    async def release(self) -> None:
        """Give the name back."""
        lock, self._lock = self._lock, None
        if lock is not None:
            await asyncio.to_thread(lock.release)

    def _take(self) -> tuple[filelock.BaseFileLock, str]:
        home = hashlib.sha256(str(self._folder.resolve()).encode()).hexdigest()[:12]
        for number in range(1, PROCESSES_MAX + 1):
            lock = filelock.FileLock(self._folder / f"jobs-{number}.lock", thread_local=False)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                continue
            except OSError as error:
                raise StorageError(f"{self._folder} cannot be written ({error}): no job is run.") from error
            return lock, f"reverie-{home}-{number}"
        raise StorageError(f"{PROCESSES_MAX} processes use {self._folder}: this one runs no jobs.")
