"""Text reduced to its words: what tells that the same thing is said again, however it is written.

Case, punctuation, list and quote marks, full-width forms, characters that are not seen, and letters of other alphabets
that look like Latin ones make no difference. A character of a script without spaces is a word that counts
half.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reverie.memory.scripts import MARKS, UNSPACED, fold
from reverie.memory.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_WORD = re.compile(rf"[{UNSPACED}](?:[{MARKS}])*|(?:(?![{UNSPACED}])[^\W_]|[{MARKS}])+")
_UNSEEN = dict.fromkeys((
    0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F),
    *range(0x2060, 0x2070), 0x3164, 0xFEFF, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0000, 0xE0080),
))  # fmt: skip
_LOOK_ALIKE = str.maketrans({
    "а": "a", "е": "e", "о": "o", "р": "p", "с": "c", "у": "y", "х": "x", "і": "i", "ј": "j", "ѕ": "s", "һ": "h",
    "ԁ": "d", "ԛ": "q", "ԝ": "w", "ӏ": "l", "к": "k", "м": "m", "т": "t", "в": "b", "н": "h",
    "α": "a", "ε": "e", "ι": "i", "κ": "k", "ν": "v", "ο": "o", "ρ": "p", "τ": "t", "υ": "u", "χ": "x", "η": "n",
    "ɑ": "a", "ɡ": "g", "ɩ": "i", "ո": "n", "օ": "o", "ս": "u", "հ": "h", "ց": "g",
})  # fmt: skip
"""Letters of other alphabets as the Latin ones for which they are taken. Where they are meant as they are, it is the
same on both sides."""
_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s<>\"'`)\]}|]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
_IS_UNSPACED = re.compile(f"[{UNSPACED}]")
_HALF, _WHOLE = 1, 2


def plain_words(text: str) -> list[str]:
    """The words of a text in order, in the form in which they are compared."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    folded = fold(clean(text).translate(_UNSEEN))[0].casefold().translate(_LOOK_ALIKE)
    return _WORD.findall(folded)


def weight(words: Sequence[str]) -> int:
    """How much words say together: two for each, one for each character of a script without spaces."""
    return sum(map(_weight, words))


def is_unspaced(word: str) -> bool:
    """True for a character of a script without spaces."""
    return not word.isascii() and _IS_UNSPACED.match(word) is not None


def _weight(word: str) -> int:
    return _HALF if is_unspaced(word) else _WHOLE


def runs(words: Sequence[str], weight_min: int) -> Iterator[tuple[str, ...]]:
    """From each word on, the shortest run of words that weighs at least `weight_min`."""
    weights = [_weight(word) for word in words]
    end = held = 0
    for start in range(len(words)):
        while held < weight_min:
            if end == len(words):
                return
            held += weights[end]
            end += 1
        yield tuple(words[start:end])
        held -= weights[start]


def addresses(text: str) -> set[str]:
    """The web and e-mail addresses in a text, without what does not tell them apart."""
    found = _ADDRESS.findall(text if text.isascii() else fold(clean(text).translate(_UNSEEN))[0])
    return {_plain_address(address) for address in found}


def _plain_address(address: str) -> str:
    return address.lower().removeprefix("http://").removeprefix("https://").removeprefix("www.").rstrip("/.,;:!?")
