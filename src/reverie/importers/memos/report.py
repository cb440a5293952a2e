"""What an import came to: for each table what was added, was there already, or was left out and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverie.types import JsonObject


@dataclass(slots=True)
class Tally:
    """Counts of one table. `vectors_dropped` are those that our embedder could not have made."""

    added: int = 0
    present: int = 0
    vectors_kept: int = 0
    vectors_dropped: int = 0
    skipped: dict[str, int] = field(default_factory=dict[str, int])

    def skip(self, reason: str, rows: int = 1) -> None:
        """Count rows that were left out."""
        if rows:
            self.skipped[reason] = self.skipped.get(reason, 0) + rows

    def there(self, owner: str, agent: str) -> None:
        """Count a row that is there already: as one of the agent's, or as left out because it is another's."""
        if owner == agent:
            self.present += 1
        else:
            self.skip(f"belongs to agent {owner}")

    def add(self, columns: JsonObject, source: JsonObject, *vectors: str) -> None:
        """Count a row that was added, and what became of its vectors."""
        self.added += 1
        for name in vectors:
            if source.get(name) is not None:
                kept = columns[name] is not None
                self.vectors_kept += kept
                self.vectors_dropped += not kept


@dataclass(slots=True)
class TableReport:
    """One table: how many rows the source has. `was_finished`: it was imported before and has not changed since."""

    name: str
    rows: int
    tally: Tally
    was_finished: bool = False
