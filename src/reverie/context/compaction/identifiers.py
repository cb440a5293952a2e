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

_KINDS = re.compile(
    r"""(?P<url>https?://[^\s<>"'`)\]}]+)
      | (?P<windows>\b[A-Za-z]:\\[^\s<>"'`|?*]+)
      | (?P<unix>(?<![\w/.])~?(?:/[\w.@+-]+){2,}/?)
      | (?P<host>\b(?:[A-Za-z0-9-]+\.)*[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*:\d{2,5}\b
               | \b\d{1,3}(?:\.\d{1,3}){3}:\d{2,5}\b)
      | (?P<hex>\b(?=[0-9A-Fa-f]*\d)[0-9A-Fa-f]{8,}\b)
      | (?P<number>\b\d{6,}\b)
    """,
    re.VERBOSE,
)


def identifiers_in(text: str) -> list[str]:
    """URLs, paths, host:port, hexadecimal words of 8 and numbers of 6 digits or more, in order, each once."""
    found: dict[str, None] = {}
    for match in _KINDS.finditer(text[:TEXT_CHARS_MAX]):
        word = match[0].rstrip(".,;:!?")
        if CHARS_MIN <= len(word) <= CHARS_MAX:
            found[word.lower() if match.lastgroup == "hex" else word] = None
    return list(found)


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
