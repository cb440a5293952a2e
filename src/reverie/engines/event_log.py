"""What of context engines stands in the streams of sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverie.storage import Database

QUARANTINED = "engine.quarantined"
"""An engine is not asked any more by this process; `data` has engine, operation and error."""


@dataclass(frozen=True, slots=True)
class RecordedQuarantine:
    """The end of an engine's service as it stands in the record."""

    at_ms: int
    session_key: str
    engine: str
    operation: str
    error: str


async def newest_quarantines(database: Database, limit: int) -> list[RecordedQuarantine]:
    """What ended engines' service last, newest first."""
    rows = await database.read(lambda tx: tx.rows("newest_engine_quarantines", limit=limit))
    return [RecordedQuarantine(**row) for row in rows]
