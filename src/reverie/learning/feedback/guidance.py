"""Advice in words: cleaned of what must not stand in it, bounded, and added to what there is without repeating it.

What stands between backticks is code and stays as it is: a command is often all the advice there is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reverie.memory.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable

Advice = tuple[tuple[str, ...], tuple[str, ...]]
"""What to prefer and what to avoid, what was said last as the last of each."""

ADVICE_CHARS_MAX = 600
"""Of one piece of advice."""
ADVICE_MAX = 8
"""Pieces of advice of one kind that a policy has; the oldest give way."""

_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
_DANGEROUS = r"(?:javascript|vbscript|data|file)\s*:"
_LINK = re.compile(rf"!?\[([^\]\n]*)\]\(\s*<?\s*{_DANGEROUS}(?:[^()\n]|\([^()\n]*\))*\)", re.IGNORECASE)
_ADDRESS = re.compile(rf"<\s*{_DANGEROUS}[^>\n]*>|\b{_DANGEROUS}(?=[^\s])\S*", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>\n]{0,200}>", re.IGNORECASE)


def cleaned(text: str, chars_max: int = ADVICE_CHARS_MAX) -> str:
    """A text as one paragraph, without tags and without links that run or read something; code stays as it is.

    Keys are hidden in both: advice is shown to other sessions.
    """
    parts = _CODE.split(redacted(text))
    plain = "".join(part if place % 2 else _harmless(part) for place, part in enumerate(parts))
    one = " ".join(plain.split())
    return one if len(one) <= chars_max else one[: chars_max - 1].rstrip() + "…"


def added(known: tuple[str, ...], new: Iterable[str]) -> tuple[str, ...]:
    """Known advice with what is new in it: nothing twice, whatever its case and marks, and at most `ADVICE_MAX`."""
    kept = list(known)
    said = {_same(each) for each in kept}
    for each in new:
        if each and _same(each) not in said:
            said.add(_same(each))
            kept.append(each)
    return tuple(kept[-ADVICE_MAX:])


def amended(known: Advice, new: Advice) -> Advice:
    """Known advice, with what was said later as the last of each kind.

    What is preferred now is avoided no more, and the reverse; what is said again counts as new.
    """
    (prefer, avoid), (now_prefer, now_avoid) = known, new
    return (
        added(_without(prefer, again=now_prefer, against=now_avoid), now_prefer),
        added(_without(avoid, again=now_avoid, against=now_prefer), now_avoid),
    )


def turns_round(known: Advice, new: Advice) -> bool:
    """Whether something is to be avoided now that was preferred, or the reverse."""
    (prefer, avoid), (now_prefer, now_avoid) = known, new
    return any(_is_among(each, now_avoid) for each in prefer) or any(_is_among(each, now_prefer) for each in avoid)


def _without(known: tuple[str, ...], *, again: tuple[str, ...], against: tuple[str, ...]) -> tuple[str, ...]:
    said = {_same(each) for each in again}
    return tuple(each for each in known if _same(each) not in said and not _is_among(each, against))


def _is_among(thing: str, others: tuple[str, ...]) -> bool:
    """Whether one of the others is the same thing; a name may say more behind, as `tabs in label files` does."""
    name = f"{_same(thing)} "
    return any(name.startswith(other) or other.startswith(name) for other in (f"{_same(each)} " for each in others))


def _harmless(text: str) -> str:
    return _TAG.sub("", _ADDRESS.sub("", _LINK.sub(r"\1", text)))


def _same(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).casefold().strip()
