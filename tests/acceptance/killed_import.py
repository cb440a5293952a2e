"""An import of vectors as a process that can be killed: the same code as the command's, without its start-up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.clock import SystemClock
from reverie.config import MemoryConfig
from reverie.importers.openclaw.seeding import open_store
from reverie.importers.openclaw.vector_import import import_vectors
from reverie.storage import EMBEDDINGS, Database

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event


def run(source: str, target: str, entries_max: int, started: Event) -> None:
    """Import, after saying that it begins."""
    asyncio.run(_run(Path(source), Path(target), entries_max, started))


async def _run(source: Path, target: Path, entries_max: int, started: Event) -> None:
    clock = SystemClock()
    database = await Database.open(target, EMBEDDINGS, now_ms=clock.now_ms())
    store = await open_store(database, MemoryConfig(cache_entries_max=entries_max), clock)
    started.set()
    await import_vectors(source, store, database, clock)
    await database.aclose()
