"""A process that opens a database at the same moment as others do, and says what it found."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from reverie.errors import ReverieError
from reverie.storage import STATE, Database

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier
    from pathlib import Path


def run(paths: list[Path], together: Barrier) -> None:
    """Open and close each of these files; leave with the first error."""
    for path in paths:
        together.wait(60)
        try:
            asyncio.run(_open(path))
        except ReverieError as error:
            sys.exit(str(error))


async def _open(path: Path) -> None:
    database = await Database.open(path, STATE, now_ms=1)
    assert await database.read(lambda tx: tx.rows("tallies")) is not None
    await database.aclose()
