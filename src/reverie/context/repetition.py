"""Whether a text says again what another one says. Pure.

Three signs: a run of words that both have, for five in a row are hardly ever the same by chance; a web or an e-mail
address; and a sentence of which most of what it says stands close together in the other text, in whatever order and
with other endings. What is said again in words that are wholly its own is not noticed here: in the turn in which a
model read something, all that it writes counts as read (`agent/exposure.py`). This is about what it says of it later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.memory.plain import addresses, is_unspaced, plain_words, runs
from reverie.memory.stop_words import STOP_WORDS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

RUN_WEIGHT_MIN = 10
"""Five words, or ten characters of a script without spaces."""

SENTENCE_WORDS_MIN = 3
SENTENCE_SHARE = 0.4
CLOSE_WORDS = 24
"""So many of the words of a sentence that say something, and such a part of them, within so many words of the other."""

COMPARED_CHARS_MAX = 2_000_000
"""So much is compared. Beyond it nobody knows, and what nobody knows is not to be trusted."""

STEM_CHARS = 5
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


@dataclass(frozen=True, slots=True)
class _Said:
    """What is looked for: addresses, runs of words, and of each sentence the words that say something."""

    addresses: frozenset[str]
    runs: frozenset[tuple[str, ...]]
    words: frozenset[str]
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
        telling = {word for _, word in _telling(plain_words(sentence))}
        for word in telling:
            meant.setdefault(word, []).append(len(needed))
        needed.append(max(SENTENCE_WORDS_MIN, -int(-SENTENCE_SHARE * len(telling) // 1)))
    sentences = {word: tuple(numbers) for word, numbers in meant.items()}
    found = frozenset(runs(words, RUN_WEIGHT_MIN))
    return _Said(frozenset(addresses(text)), found, frozenset(words), sentences, tuple(needed))


def _is_said_by(said: _Said, other: str) -> bool:
    if said.addresses and not said.addresses.isdisjoint(addresses(other)):
        return True
    words = plain_words(other)
    if said.words.isdisjoint(words):
        return False
    return _shares_a_run(said, words) or _shares_a_sentence(said, words)


def _shares_a_run(said: _Said, words: Sequence[str]) -> bool:
    """Only stretches of words that both have can hold a run of both."""
    if not said.runs:
        return False
    start: int | None = None
    for at, word in enumerate((*words, "")):
        if word in said.words:
            start = at if start is None else start
        elif start is not None:
            if any(run in said.runs for run in runs(words[start:at], RUN_WEIGHT_MIN)):
                return True
            start = None
    return False


def _shares_a_sentence(said: _Said, words: Sequence[str]) -> bool:
    """Whether most of what a sentence says stands within `CLOSE_WORDS` of the other text."""
    near: dict[int, dict[str, int]] = {}
    for at, word in _telling(words, said.sentences):
        for number in said.sentences[word]:
            seen = near.setdefault(number, {})
            seen[word] = at
            needed = said.needed[number]
            if len(seen) >= needed and sum(at - each < CLOSE_WORDS for each in seen.values()) >= needed:
                return True
    return False


def _telling(words: Sequence[str], wanted: Container[str] | None = None) -> Iterator[tuple[int, str]]:
    """The words that say something, without their endings, and where they stand; of unspaced scripts the pairs.

    With `wanted`, only those: nearly all words of a long text are none, and cost no more than a look.
    """
    for at, word in enumerate(words):
        if is_unspaced(word):
            following = words[at + 1] if at + 1 < len(words) else ""
            if is_unspaced(following) and (wanted is None or word + following in wanted):
                yield at, word + following
        elif (wanted is None or word[:STEM_CHARS] in wanted) and _says_something(word):
            yield at, word[:STEM_CHARS]


def _says_something(word: str) -> bool:
    return len(word) > 2 and word not in STOP_WORDS  # noqa: PLR2004 (shorter words tell little)
