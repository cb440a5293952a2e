"""What a step was like, in four words: the bucket in which it waits for others of its kind.

A signature is `primary tag|secondary tag|tool|error code`, with `_` for what there is none of.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.learning.records import ToolUse

MISSING = "_"
SEPARATOR = "|"
COMPONENT_CHARS_MAX = 64

_EXIT = re.compile(r"\bexit(?:ed)?(?:[ _-]?(?:code|status))?(?:\s+with)?(?:\s+code)?[ _:=-]*(\d{1,5})\b", re.IGNORECASE)
_SNAKE = re.compile(r"(?<![A-Za-z0-9_])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![A-Za-z0-9_])")
_CAPITALS = re.compile(r"(?<![A-Za-z0-9_])E[A-Z0-9]{2,}(?![A-Za-z0-9_])")
_SYSTEM_CODES = frozenset(errno.errorcode.values())
_NOT_OF_A_CODE = re.compile(r"[^A-Z0-9]+")


@dataclass(frozen=True, slots=True)
class Bucket:
    """The components of a signature; '' for what there is none of."""

    primary: str = ""
    secondary: str = ""
    tool: str = ""
    error: str = ""

    @property
    def signature(self) -> str:
        """The four in one line: `python|pip|shell|EXIT_1`."""
        parts = (self.primary, self.secondary, self.tool, self.error)
        return SEPARATOR.join(part or MISSING for part in parts)


def parse_signature(signature: str) -> Bucket:
    """The components of a signature: the inverse of `Bucket.signature`. What is no signature has no components."""
    parts = signature.split(SEPARATOR)
    if len(parts) != len(Bucket.__dataclass_fields__):
        return Bucket()
    return Bucket(*("" if part == MISSING else part for part in parts))


def bucket_of(tags: Sequence[str], tools: Sequence[ToolUse], signatures: Sequence[str], reflection: str) -> Bucket:
    """The bucket of a step: its first two tags, its first tool, and the code of its error.

    The code is read from the tools first, then from the signatures of errors, then from the reflection.
    """
    told = [use.error_code for use in tools if use.error_code]
    return Bucket(
        primary=_component(tags[0]) if tags else "",
        secondary=_component(tags[1]) if len(tags) > 1 else "",
        tool=_component(tools[0].name) if tools else "",
        error=_code_of_tools(told) or error_code((*signatures, reflection)),
    )


def error_code(texts: Iterable[str]) -> str:
    """The first code that texts name: a word such as `MODULE_NOT_FOUND`, a system's such as `ENOENT`, or `EXIT_1`."""
    for text in texts:
        code = _code_in(text)
        if code:
            return code
    return ""


def _code_of_tools(codes: Sequence[str]) -> str:
    """A tool's own word for what went wrong counts even when it is no code: it is made one."""
    for code in codes:
        if code.strip().isdigit():
            return f"EXIT_{int(code)}"
        made = _code_in(code) or _NOT_OF_A_CODE.sub("_", code.upper()).strip("_")
        if made:
            return made[:COMPONENT_CHARS_MAX]
    return ""


def _code_in(text: str) -> str:
    exited = _EXIT.search(text)
    named = _SNAKE.search(text)
    if exited is not None and (named is None or exited.start() <= named.start()):
        return f"EXIT_{int(exited[1])}" if int(exited[1]) else ""
    if named is not None:
        return named[0][:COMPONENT_CHARS_MAX]
    return next((word for word in _CAPITALS.findall(text) if word in _SYSTEM_CODES), "")


def _component(word: str) -> str:
    """A word that can stand in a signature; one that would read as missing is none."""
    plain = " ".join(word.replace(SEPARATOR, "/").split())[:COMPONENT_CHARS_MAX].strip()
    return "" if plain == MISSING else plain
