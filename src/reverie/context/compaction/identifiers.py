"""Exact identifiers in a conversation: what a summary must not garble."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

IDENTIFIERS_MAX = 12
MESSAGES_MAX = 10
CHARS_MIN = 4
CHARS_MAX = 200
TEXT_CHARS_MAX = 20_000

_WORDS = re.compile(r"[^\s<>\"'`()\[\]{}|,;]+")
_URL = re.compile(r"https?://\S+")
_WINDOWS = re.compile(r"(?<![A-Za-z])[A-Za-z]:\\\S+")
_UNIX = re.compile(r"(?<![\w/.])~?(?:/[\w.@+-]+){2,}/?")
_HOST = re.compile(r"(?<![\w.-])(?:(?=[\w.-]*[A-Za-z])[A-Za-z0-9.-]+|\d{1,3}(?:\.\d{1,3}){3}):\d{2,5}\b")
_HEX = re.compile(r"\b(?=[0-9A-Fa-f]*\d)[0-9A-Fa-f]{8,}\b")
_NUMBER = re.compile(r"\b\d{6,}\b")


def identifiers_in(text: str) -> list[str]:
    """URLs, paths, host:port, hexadecimal words of 8 and numbers of 6 digits or more, in order, each once.

    Linear in the text's length: it is looked at word by word, and longer words than `CHARS_MAX` are none.
    """
    found: dict[str, None] = {}
    for match in _WORDS.finditer(text[:TEXT_CHARS_MAX]):
        word = match[0].rstrip(".:!?")
        if CHARS_MIN <= len(word) <= CHARS_MAX:
            for identifier in _in_word(word):
                found[identifier] = None
    return list(found)


def _in_word(word: str) -> list[str]:
    """The identifiers in one word; of the kinds, the first that is there."""
    for kind in (_URL, _WINDOWS, _UNIX, _HOST, _NUMBER):
        if there := kind.findall(word):
            return there
    return [digits.lower() for digits in _HEX.findall(word)]


def identifiers(texts: Iterable[str]) -> tuple[str, ...]:
    """The identifiers of the last ten of `texts`, the newest first, at most twelve."""
    found: dict[str, None] = {}
    for text in list(texts)[-MESSAGES_MAX:][::-1]:
        for word in identifiers_in(text):
            found.setdefault(word)
    return tuple(found)[:IDENTIFIERS_MAX]


def stands_in(identifier: str, text: str) -> bool:
    """Whether a text holds the identifier; hexadecimal words in either case."""
    return identifier in text or identifier in text.lower()
