"""Whether a text says again what another one says. Pure.

Three signs: a run of words that both have, for five in a row are hardly ever the same by chance; a web or an e-mail
address; and a sentence of which most of what it says stands close together in the other text, in whatever order and
with other endings. What is said again in words that are wholly its own is not noticed here: in the turn in which a
model read something, all that it writes counts as read (`agent/exposure.py`). This is about what it says of it later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from reverie.memory.plain import addresses, is_unspaced, plain_words, runs
from reverie.memory.stop_words import STOP_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RUN_WEIGHT_MIN = 10
"""Five words, or ten characters of a script without spaces."""

SENTENCE_WORDS_MIN = 3
SENTENCE_SHARE = 0.4
CLOSE_WORDS = 24
"""So many of the words of a sentence that say something, and such a part of them, within so many words of the other."""

COMPARED_CHARS_MAX = 2_000_000
"""So much is compared, in about 30 ms for 400,000 characters. Of the rest nobody knows, and what nobody knows is
not to be trusted."""

STEM_CHARS = 5
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


@dataclass(frozen=True, slots=True)
class _Said:
    """What is looked for: addresses, runs of words, and of each sentence the words that say something.

    `sentences` has for each of these words, without its ending, the numbers of its sentences; `needed` how many of them
    must stand together for each sentence. `stems` are the beginnings of all words: what begins otherwise is no match.
    """

    addresses: frozenset[str]
    runs: frozenset[tuple[str, ...]]
    words: frozenset[str]
    stems: frozenset[str]
    sentences: dict[str, tuple[int, ...]]
    needed: tuple[int, ...]


def repeats(text: str, others: Iterable[str]) -> bool:
    """Whether a text says something again that one of the others says; also when there is too much to compare."""
    said = _said(text)
    if not said.addresses and not said.words:
        return False
    left = COMPARED_CHARS_MAX
    for other in others:
        left -= len(other)
        if left < 0 or _is_said_by(said, other):
            return True
    return False


def _said(text: str) -> _Said:
    words = plain_words(text)
    meant: dict[str, list[int]] = {}
    needed: list[int] = []
    for sentence in _SENTENCE_END.split(text):
        own = plain_words(sentence)
        telling = {word for at in range(len(own)) if (word := _telling(own, at))}
        for word in telling:
            meant.setdefault(word, []).append(len(needed))
        needed.append(max(SENTENCE_WORDS_MIN, -int(-SENTENCE_SHARE * len(telling) // 1)))
    return _Said(
        frozenset(addresses(text)),
        frozenset(runs(words, RUN_WEIGHT_MIN)),
        frozenset(words),
        frozenset(word[:STEM_CHARS] for word in words),
        {word: tuple(numbers) for word, numbers in meant.items()},
        tuple(needed),
    )


def _is_said_by(said: _Said, other: str) -> bool:
    if said.addresses and not said.addresses.isdisjoint(addresses(other)):
        return True
    words = plain_words(other)
    alike = [at for at, word in enumerate(words) if word[:STEM_CHARS] in said.stems]  # of a long text, most are not
    return _shares_a_run(said, words, alike) or _shares_a_sentence(said, words, alike)


def _shares_a_run(said: _Said, words: Sequence[str], alike: Sequence[int]) -> bool:
    """Whether a run stands in both; only a stretch of words that both have can hold one."""
    shared = [at for at in alike if words[at] in said.words]
    start = 0
    for end, (at, following) in enumerate(pairwise((*shared, len(words) + 1)), 1):
        if following != at + 1:
            stretch = words[shared[start] : at + 1]
            start = end
            if any(run in said.runs for run in runs(stretch, RUN_WEIGHT_MIN)):
                return True
    return False


def _shares_a_sentence(said: _Said, words: Sequence[str], alike: Sequence[int]) -> bool:
    """Whether enough of what a sentence says stands within `CLOSE_WORDS` of the other text."""
    near: dict[int, dict[str, int]] = {}
    for at in alike:
        word = _telling(words, at)
        for number in said.sentences.get(word, ()):
            seen = near.setdefault(number, {})
            seen[word] = at
            needed = said.needed[number]
            if len(seen) >= needed and sum(at - each < CLOSE_WORDS for each in seen.values()) >= needed:
                return True
    return False


def _telling(words: Sequence[str], at: int) -> str:
    """A word without its ending, if it says something, else nothing; of a script without spaces it and the next one."""
    word = words[at]
    if is_unspaced(word):
        following = words[at + 1] if at + 1 < len(words) else ""
        return word + following if is_unspaced(following) else ""
    return word[:STEM_CHARS] if len(word) > 2 and word not in STOP_WORDS else ""  # noqa: PLR2004 (shorter tell little)
