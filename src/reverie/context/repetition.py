"""Whether a text says again what another one says: a run of words they share, or an address. Pure.

Five words in a row are hardly ever the same by chance; a web or an e-mail address never is. What says the same in words
of its own is not noticed here: in the turn in which a model read something, all that it writes counts as read
(`agent/exposure.py`); this is about what it says of it later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.memory.plain import addresses, plain_words, runs

if TYPE_CHECKING:
    from collections.abc import Iterable

RUN_WEIGHT_MIN = 10
"""Five words, or ten characters of a script without spaces."""

COMPARED_CHARS_MAX = 4_000_000
"""So much is compared. Beyond it nobody knows, and what nobody knows is not to be trusted."""

TOO_MUCH = "there is too much to compare it with"


def repeated(text: str, others: Iterable[str]) -> str:
    """What a text repeats of others, for people: the words, or the address; empty when it repeats nothing."""
    said_at = addresses(text)
    said = set(runs(plain_words(text), RUN_WEIGHT_MIN))
    if not said and not said_at:
        return ""
    left = COMPARED_CHARS_MAX
    for other in others:
        left -= len(other)
        if left < 0:
            return TOO_MUCH
        if shared := said_at & addresses(other):
            return min(shared)
        for run in runs(plain_words(other), RUN_WEIGHT_MIN):
            if run in said:
                return " ".join(run)
    return ""
