"""What a phase of sleep looks at: what was recalled lately, of what may ever become a memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.dreaming.candidates import DAY_MS, TRUSTED
from reverie.dreaming.contamination import contaminated
from reverie.dreaming.recording import day_of, is_short_term

if TYPE_CHECKING:
    from datetime import tzinfo

    from reverie.dreaming.entry import RecallEntry


@dataclass(frozen=True, slots=True)
class Window:
    """The look-back of a phase: from an instant (milliseconds), and from its day on."""

    since_ms: int
    since_day: str

    @classmethod
    def of(cls, now_ms: int, lookback_days: int, zone: tzinfo) -> Window:
        """The last days before an instant."""
        since_ms = now_ms - lookback_days * DAY_MS
        return cls(since_ms, day_of(since_ms, zone))

    @property
    def read_from_ms(self) -> int:
        """From when on entries are read: a day that counts may have begun before the instant."""
        return self.since_ms - DAY_MS

    def holds(self, entry: RecallEntry) -> bool:
        """Whether a passage was recalled within the look-back, or on one of its days."""
        return entry.last_recalled_at_ms >= self.since_ms or any(day >= self.since_day for day in entry.days)


def may_be_memory(entry: RecallEntry) -> bool:
    """Whether a passage is one that phases look at: short-term memory, its owner's or the agent's, and no junk."""
    return entry.provenance in TRUSTED and is_short_term(entry.path) and contaminated(entry.snippet) is None


def is_new_since(entry: RecallEntry, at_ms: int | None) -> bool:
    """Whether a passage was recalled after an instant; always if there is none.

    What nothing recalled since a phase looked at it is not reinforced again: repetition is no evidence.
    """
    return at_ms is None or entry.last_recalled_at_ms > at_ms


def order_of(entry: RecallEntry) -> tuple[int, int, str, int, str]:
    """Passages in the order in which phases look at them: recalled last first, of these those recalled most often."""
    return (-entry.last_recalled_at_ms, -entry.recall_count, entry.path, entry.start_line, entry.key)


def place_of(entry: RecallEntry) -> str:
    """Where a passage stands, as reports name it: `memory/2026-04-01.md:3-4`."""
    return f"{entry.path}:{entry.start_line}-{entry.end_line}"
