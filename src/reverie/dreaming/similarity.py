"""Passages that say nearly the same: how alike two texts are, and passages without their near-duplicates.

Words are those of the index's analyser, so that text without spaces is compared too: by its characters and pairs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from reverie.dreaming.entry import DAYS_MAX, QUERIES_MAX, TAGS_MAX, RecallEntry
from reverie.memory.scripts import MARKS
from reverie.memory.text import words_for_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMPARED_MAX = 1_000
"""Passages that are compared with one another; those beyond are left as they are."""
_WORD = re.compile(f"(?:[^\\W_]|[{MARKS}])+")


def words_of(text: str) -> frozenset[str]:
    """The different words of a text, without case; of scripts without spaces its characters and pairs."""
    return frozenset(_WORD.findall(words_for_index(text).casefold()))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """How many of the words of both they have in common, 0 to 1; 0 if neither has any."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def without_near_duplicates(
    entries: Sequence[RecallEntry], similarity: float, *, within_path: bool
) -> tuple[RecallEntry, ...]:
    """Passages of which no two are as alike as `similarity` or more, in their order.

    The first of those that are alike stands for all: with the highest of their counts and scores, and with the queries,
    days and concepts of all. `within_path`: only passages of one file are compared.
    """
    kept: list[RecallEntry] = []
    words: list[frozenset[str]] = []
    of_path: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        own = words_of(entry.snippet) if number < COMPARED_MAX else frozenset[str]()
        held = of_path.setdefault(entry.path if within_path else "", [])
        same = next((place for place in held if _alike(entry, own, kept[place], words[place], similarity)), None)
        if same is None:
            held.append(len(kept))
            kept.append(entry)
            words.append(own)
        else:
            kept[same] = joined(kept[same], entry)
    return tuple(kept)


def joined(one: RecallEntry, other: RecallEntry) -> RecallEntry:
    """The first of two passages, with the evidence of both where that is not one sum: nothing counts twice."""
    return replace(
        one,
        recall_count=max(one.recall_count, other.recall_count),
        daily_count=max(one.daily_count, other.daily_count),
        grounded_count=max(one.grounded_count, other.grounded_count),
        total_score=max(one.total_score, other.total_score),
        max_score=max(one.max_score, other.max_score),
        first_recalled_at_ms=min(one.first_recalled_at_ms, other.first_recalled_at_ms),
        last_recalled_at_ms=max(one.last_recalled_at_ms, other.last_recalled_at_ms),
        queries=_union(one.queries, other.queries, QUERIES_MAX),
        user_queries=_union(one.user_queries, other.user_queries, QUERIES_MAX),
        days=tuple(sorted({*one.days, *other.days}))[-DAYS_MAX:],
        tags=_union(one.tags, other.tags, TAGS_MAX),
    )


def _alike(
    entry: RecallEntry, own: frozenset[str], kept: RecallEntry, words: frozenset[str], similarity: float
) -> bool:
    """Texts of very different lengths cannot be alike: most pairs need no look at their words."""
    if entry.snippet == kept.snippet:
        return True
    fewer, more = sorted((len(own), len(words)))
    return bool(fewer) and fewer >= similarity * more and jaccard(own, words) >= similarity


def _union(one: Iterable[str], other: Iterable[str], most: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*one, *other]))[:most]
