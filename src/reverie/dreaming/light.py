"""Light sleep: which of what was recalled lately is staged. Pure.

What is staged is shown, and reinforced once for each time it was recalled anew. What REM sleep has considered since it
was recalled last is not staged again.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.dreaming.similarity import without_near_duplicates
from reverie.dreaming.window import is_new_since, may_be_memory, order_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.window import Window


@dataclass(frozen=True, slots=True)
class Staging:
    """What light sleep stages, recalled last first, and the keys of those that it reinforces."""

    staged: tuple[RecallEntry, ...] = ()
    reinforced: tuple[str, ...] = ()


def freshest(held: Sequence[RecallEntry], page: Iterable[RecallEntry], window: Window, limit: int) -> list[RecallEntry]:
    """Of what is held and a further page, the passages within the look-back that come first, at most `limit`."""
    wanted = [entry for entry in page if window.holds(entry) and not _was_considered(entry) and may_be_memory(entry)]
    return heapq.nsmallest(limit, [*held, *wanted], key=order_of)


def stage(found: Sequence[RecallEntry], similarity: float) -> Staging:
    """Stage the freshest passages, those of one note that say nearly the same as one."""
    staged = without_near_duplicates(found, similarity, within_path=True)
    of_key = {entry.key: entry for entry in found}
    reinforced = (entry.key for entry in staged if is_new_since(of_key[entry.key], entry.light_at_ms))
    return Staging(staged, tuple(reinforced))


def _was_considered(entry: RecallEntry) -> bool:
    """Whether REM sleep took a passage for a lasting truth, and nothing recalled it since."""
    return entry.rem_at_ms is not None and not is_new_since(entry, entry.rem_at_ms)
