"""Which file holds the live index, and which one a rebuild writes.

    index.db        the first generation
    index.2.db …    later ones, each built beside the live one
    index.live      the name of the live one; missing: `index.db`

The pointer is replaced in one step of the file system, so there is no moment without a whole index: before it the old
generation is live, after it the new one. Files of neither are what a killed rebuild left behind; whoever has the home
for itself removes them at the start. A database is never renamed, and never opened by two generations.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.errors import HomeReadOnlyError, StorageFullError
from reverie.memory.workspace import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POINTER = "index.live"
FIRST = "index.db"
DAMAGED = "damaged-index.db"
SIDE_FILES = ("", "-wal", "-shm", "-journal")
ROOM_FACTOR = 1.5
"""Free space a rebuild asks for, beside the size of the live file: its write-ahead log stands beside it."""

_GENERATION = re.compile(r"^index(?:\.([1-9]\d{0,8}))?\.db$")


@dataclass(frozen=True, slots=True)
class GenerationFiles:
    """The index files in one folder. Everything here touches the disk: call it on a worker thread.

    `free` says how many bytes are free on a folder's file system.
    """

    folder: Path
    free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free

    def live(self) -> Path:
        """The file of the live generation; it may not exist yet."""
        try:
            name = (self.folder / POINTER).read_text(encoding="utf-8").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            name = FIRST
        except OSError as error:
            raise HomeReadOnlyError(f"{self.folder / POINTER} cannot be read: {error.strerror or error}") from error
        return self.folder / (name if _GENERATION.match(name) else FIRST)

    def next(self) -> Path:
        """The file of the next generation, which does not exist; what stood there is removed.

        Raises:
            StorageFullError: the file system has too little room for a second index beside the live one.
        """
        live = self.live()
        needed = int(ROOM_FACTOR * sum(size_of(live).values()))
        if (free := self.free(self.folder)) < needed:
            message = (
                f"a rebuild writes a second index beside the live one: {needed:,} bytes are needed in {self.folder}, "
                f"{free:,} are free. The live index stays as it is."
            )
            raise StorageFullError(message)
        path = self.folder / f"index.{number_of(live) + 1}.db"
        remove(path)
        return path

    def publish(self, path: Path) -> None:
        """Make a complete generation the live one; survives a crash of the machine once it returns.

        Raises:
            HomeReadOnlyError, StorageFullError: the pointer could not be written; the old generation stays live.
        """
        write_atomic(self.folder / POINTER, f"{path.name}\n")

    def quarantine(self, path: Path) -> Path:
        """Put a damaged index aside, in place of the one put aside before; returns where it stands now."""
        aside = path.with_name(DAMAGED)
        remove(aside)
        for name in size_of(path):
            path.with_name(name).replace(aside.with_name(DAMAGED + name.removeprefix(path.name)))
        return aside

    def stale(self) -> list[Path]:
        """The index files that are not live: what a killed rebuild, or a crash after a publication, left."""
        live = self.live()
        return sorted(path for path in self.folder.glob("index*.db") if _GENERATION.match(path.name) and path != live)

    def sweep(self) -> list[Path]:
        """Remove the stale files; returns them. Only for the process that has the home for itself."""
        found = self.stale()
        for path in found:
            remove(path)
        return found


def number_of(path: Path) -> int:
    """The number of a generation, from its file's name; the first is 1."""
    match = _GENERATION.match(path.name)
    return int(match[1] or 1) if match else 1


def size_of(path: Path) -> dict[str, int]:
    """The bytes of a database by file: itself and what stands beside it."""
    files = [path.with_name(path.name + suffix) for suffix in SIDE_FILES]
    return {file.name: file.stat().st_size for file in files if file.exists()}


def remove(path: Path) -> None:
    """Delete a database and what stands beside it, the database last."""
    for suffix in reversed(SIDE_FILES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
