"""REM sleep: which themes come back in what was recalled, and which of it may be a lasting truth. Pure.

A theme is a concept that many passages share. A candidate for a truth needs recalls of people or models: what was only
noticed by passes has no confidence to speak of, however many days and concepts it has.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from reverie.dreaming.similarity import without_near_duplicates
from reverie.dreaming.window import is_new_since, may_be_memory, order_of, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.window import Window

THEME_PASSAGES_MIN = 2
CONFIDENCE_MIN = 0.45
TRUTHS_MAX = 3
TRUTH_SIMILARITY = 0.88
EVIDENCE_MAX = 3
COMPARED_MAX = 200
"""Passages of which truths are chosen: those with the highest confidence."""
TAGS_HELD_MAX = 20_000
"""Different concepts that are counted; of more, the rarest are passed over."""
_LN_RECALLS = math.log(7)


@dataclass(frozen=True, slots=True)
class Theme:
    """A concept that came back: in how many passages, how strong that is (0 to 1), and where it stands."""

    tag: str
    count: int
    strength: float
    evidence: tuple[str, ...]


class Truth(NamedTuple):
    """A passage that may be a lasting truth, and how sure that is, 0 to 1."""

    entry: RecallEntry
    confidence: float


@dataclass(frozen=True, slots=True)
class Reflection:
    """What REM sleep found in so many passages, and the keys of those that it reinforces."""

    entries: int = 0
    themes: tuple[Theme, ...] = ()
    truths: tuple[Truth, ...] = ()
    reinforced: tuple[str, ...] = ()


@dataclass(slots=True)
class Recollection:
    """What was recalled within a look-back, page by page: counts of concepts, and the likeliest truths."""

    window: Window
    include_promoted: bool = False
    entries: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])
    evidence: dict[str, list[RecallEntry]] = field(default_factory=dict[str, "list[RecallEntry]"])
    likeliest: list[RecallEntry] = field(default_factory=list["RecallEntry"])

    def take(self, page: Iterable[RecallEntry]) -> None:
        """Count a further page."""
        held = [entry for entry in page if self.window.holds(entry) and may_be_memory(entry)]
        self.entries += len(held)
        for entry in held:
            self.counts.update(entry.tags)
            for tag in entry.tags:
                self._support(tag, entry)
        if len(self.counts) > TAGS_HELD_MAX:
            self.counts = Counter(dict(self.counts.most_common(TAGS_HELD_MAX // 2)))
            self.evidence = {tag: self.evidence[tag] for tag in self.counts}
        may_be_true = [entry for entry in held if entry.promoted_at_ms is None or self.include_promoted]
        self.likeliest = heapq.nsmallest(COMPARED_MAX, [*self.likeliest, *may_be_true], key=_by_confidence)

    def _support(self, tag: str, entry: RecallEntry) -> None:
        """Name a passage as evidence of a concept, if it is one of the first three."""
        named = self.evidence.setdefault(tag, [])
        if len(named) < EVIDENCE_MAX or order_of(entry) < order_of(named[-1]):
            named.append(entry)
            named.sort(key=order_of)
            del named[EVIDENCE_MAX:]


def reflect(recollection: Recollection, *, strength_min: float, limit: int) -> Reflection:
    """The strongest themes, at most `limit`, and the likeliest truths, at most three and at least one."""
    truths = _truths(recollection.likeliest, max(1, min(TRUTHS_MAX, limit)))
    of_key = {entry.key: entry for entry in recollection.likeliest}
    reinforced = (key for key, entry in of_key.items() if is_new_since(entry, entry.rem_at_ms))
    chosen = {truth.entry.key for truth in truths}
    return Reflection(
        recollection.entries,
        _themes(recollection, strength_min, limit),
        truths,
        tuple(key for key in reinforced if key in chosen),
    )


def confidence_of(entry: RecallEntry) -> float:
    """How likely a passage is a lasting truth, 0 to 1: how well and how often it was recalled, on how many days."""
    recalls = entry.recall_count
    average = min(1.0, max(0.0, entry.total_score / recalls)) if recalls else 0.0
    often = min(1.0, math.log1p(recalls) / _LN_RECALLS)
    return 0.45 * average + 0.25 * often + 0.2 * min(1.0, len(entry.days) / 3) + 0.1 * min(1.0, len(entry.tags) / 6)


def strength_of(count: int, entries: int) -> float:
    """How strong a theme is that so many of so many passages share, 0 to 1: full when half of them do."""
    return min(1.0, 2 * count / entries) if entries else 0.0


def _themes(recollection: Recollection, strength_min: float, limit: int) -> tuple[Theme, ...]:
    found = (
        Theme(tag, count, strength_of(count, recollection.entries), ())
        for tag, count in recollection.counts.items()
        if count >= THEME_PASSAGES_MIN and strength_of(count, recollection.entries) >= strength_min
    )
    best = heapq.nsmallest(limit, found, key=lambda theme: (-theme.strength, -theme.count, theme.tag))
    return tuple(replace(theme, evidence=tuple(map(place_of, recollection.evidence[theme.tag]))) for theme in best)


def _truths(likeliest: Sequence[RecallEntry], most: int) -> tuple[Truth, ...]:
    distinct = without_near_duplicates(likeliest, TRUTH_SIMILARITY, within_path=False)
    sure = [entry for entry in distinct if confidence_of(entry) >= CONFIDENCE_MIN]
    return tuple(Truth(entry, confidence_of(entry)) for entry in sorted(sure, key=_by_confidence)[:most])


def _by_confidence(entry: RecallEntry) -> tuple[float, tuple[int, int, str, int, str]]:
    return (-confidence_of(entry), order_of(entry))
