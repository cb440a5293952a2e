"""Which of many good hits to keep when some say the same: maximal marginal relevance (MMR).

Pure. One hit after the other is chosen by how relevant it is, less how much it repeats what was chosen before. The
likeness of two texts is the share of words they have in common; Chinese, Japanese and Korean count by character and by
pair of adjacent characters.

Cost: choosing `count` of n texts compares at most count * n pairs of word sets; both are bounded by a search's limit.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from reverie.memory.scripts import UNSPACED

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS = re.compile(r"[a-z0-9_]+")
_OTHER_WORDS = re.compile(f"[^\\W_{UNSPACED}]+")
_UNSPACED_RUNS = re.compile(f"[{UNSPACED}]+")


def words_of(text: str) -> frozenset[str]:
    """The words by which texts are compared: runs of letters and digits, CJK characters and adjacent pairs of them."""
    folded = text.casefold()
    words = set(_WORDS.findall(folded))
    if not folded.isascii():
        words.update(word for word in _OTHER_WORDS.findall(folded) if not word.isascii())
        for run in _UNSPACED_RUNS.findall(folded):
            words.update(run)
            words.update(one + other for one, other in pairwise(run))
    return frozenset(words)


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of words in common (Jaccard), 0 to 1; two empty texts are alike, an empty one is like no other."""
    if not one or not other:
        return 1.0 if one == other else 0.0
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def diverse(scores: Sequence[float], texts: Sequence[str], relevance_share: float, count: int) -> list[int]:
    """The positions of at most `count` hits, in the order in which they were chosen.

    `relevance_share` (λ, held to 0..1) weighs relevance against repetition: 1 is the order of the scores, 0 looks at
    repetition only. Scores are spread over 0 to 1 first; ties go to the higher score, then to the earlier position.
    """
    share = min(1.0, max(0.0, relevance_share))
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    if share == 1 or len(order) <= 1:
        return order[:count]
    low, high = scores[order[-1]], scores[order[0]]
    relevance = {at: (scores[at] - low) / (high - low) if high > low else 1.0 for at in order}
    words = [words_of(text) for text in texts]
    repeats = dict.fromkeys(order, 0.0)
    chosen: list[int] = []
    while repeats and len(chosen) < count:
        best = max(repeats, key=lambda at: share * relevance[at] - (1 - share) * repeats[at])
        del repeats[best]
        chosen.append(best)
        for at in repeats:
            repeats[at] = max(repeats[at], likeness(words[best], words[at]))
    return chosen
