"""The rows that plugins leave in `state.db`: events of their own, and `plugin.failed`, in their session's stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.sessions.codec import dump

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.plugins.contract import AddedEvent
    from reverie.storage import Database, Transaction

FAILED = "plugin.failed"


@dataclass(frozen=True, slots=True)
class RecordedFailure:
    """A failure of a plugin as it stands in the record; `data` has plugin, hook, cause, error and paused_s."""

    at_ms: int
    session_key: str
    plugin: str
    hook: str
    error: str


class PluginEventLog:
    """Writes to and reads from `session_events`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, events: Sequence[AddedEvent], now_ms: int) -> list[str]:
        """Record events, in one transaction. Returns the keys of their sessions; one of an unknown session is left out.

        Raises:
            StorageError: they could not be written.
        """

        def work(tx: Transaction) -> list[str]:
            added = [
                tx.rows(
                    "add_plugin_event",
                    session_id=event.session_id,
                    turn_id=event.turn_id,
                    kind=event.kind,
                    data=dump(event.data),
                    now=now_ms,
                )
                for event in events
            ]
            return [row["session_key"] for rows in added for row in rows]

        return await self._database.write(work)

    async def newest_failures(self, limit: int) -> list[RecordedFailure]:
        """What went wrong in plugins last, newest first."""
        rows = await self._database.read(lambda tx: tx.rows("newest_plugin_failures", limit=limit))
        return [RecordedFailure(**row) for row in rows]
