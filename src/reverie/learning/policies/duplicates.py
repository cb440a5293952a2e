"""Whether two policies say the same, in nearly the same words: compared by the pairs of their characters."""

from __future__ import annotations

import operator
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TITLE_LEAST = 0.9
TRIGGER_LEAST = 0.8
PROCEDURE_LEAST = 0.7
REST_LEAST = 0.45
"""Boundary and verification, where both have one, are at least so alike."""
TITLE_WEIGHT, TRIGGER_WEIGHT, PROCEDURE_WEIGHT = 0.45, 0.25, 0.30
COMPARED_CHARS = 2_000
"""Of each text."""

_NOT_OF_A_WORD = re.compile(r"[\W_]+")
_FORBIDS = re.compile(
    r"\b(?:not|never|no|none|without|except|unless|avoid|don'?t|doesn'?t|cannot|can'?t)\b|不|勿|禁止|避免|除非|没有",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a policy says, as it is compared."""

    id: str
    title: str
    trigger: str
    procedure: str
    verification: str
    boundary: str


def likeness(one: Said, other: Said) -> float | None:
    """How alike two policies are, 0 to 1, when they say the same; None when they do not.

    They do when the titles (0.9), the triggers (0.8) or the procedures (0.7) are nearly the same, boundary and
    verification are alike (0.45) where both have one, and no boundary forbids what the other allows.
    """
    return Compared(one).likeness(other)


def nearest(draft: Said, others: Iterable[Said]) -> tuple[float, str] | None:
    """The policy that says the same as a draft and is most alike: how much, and its id. Not for the event loop."""
    compared = Compared(draft)
    alike = ((compared.likeness(other), other.id) for other in others)
    return max(((how, name) for how, name in alike if how is not None), default=None)


def dice(one: str, other: str) -> float:
    """How many of the pairs of characters two texts share, 0 to 1, without case and punctuation; 0 if one is empty."""
    return _Pairs(one).dice(other)


class Compared:
    """A policy that many are compared with: what its words are made of is worked out once."""

    def __init__(self, said: Said) -> None:
        self._said = said
        self._title, self._trigger, self._procedure = map(_Pairs, (said.title, said.trigger, said.procedure))
        self._boundary, self._verification = _Pairs(said.boundary), _Pairs(said.verification)

    def likeness(self, other: Said) -> float | None:
        """As the function of this name."""
        near = (
            self._title.dice(other.title, TITLE_LEAST) >= TITLE_LEAST
            or self._trigger.dice(other.trigger, TRIGGER_LEAST) >= TRIGGER_LEAST
            or self._procedure.dice(other.procedure, PROCEDURE_LEAST) >= PROCEDURE_LEAST
        )
        if not near or _conflict(self._said.boundary, other.boundary):
            return None
        if not (_agree(self._boundary, other.boundary) and _agree(self._verification, other.verification)):
            return None
        return (
            TITLE_WEIGHT * self._title.dice(other.title)
            + TRIGGER_WEIGHT * self._trigger.dice(other.trigger)
            + PROCEDURE_WEIGHT * self._procedure.dice(other.procedure)
        )


class _Pairs:
    """The pairs of characters of a text."""

    def __init__(self, text: str) -> None:
        self.empty = not text
        self._counts = _counted(_plain(text))
        self._total = self._counts.total()

    def dice(self, other: str, least: float = 0.0) -> float:
        """How many pairs are shared; 0 as well where that cannot be `least`, because one is much longer."""
        plain = _plain(other)
        total = max(len(plain) - 1, min(len(plain), 1))
        if not total or not self._total or 2 * min(total, self._total) < least * (total + self._total):
            return 0.0
        shared = sum(min(self._counts[pair], times) for pair, times in _counted(plain).items() if pair in self._counts)
        return 2 * shared / (total + self._total)


def _plain(text: str) -> str:
    return _NOT_OF_A_WORD.sub(" ", text[:COMPARED_CHARS].casefold()).strip()


def _counted(plain: str) -> Counter[str]:
    if len(plain) < len("ab"):
        return Counter([plain] if plain else [])
    return Counter(map(operator.add, plain, plain[1:]))


def _agree(one: _Pairs, other: str) -> bool:
    return one.empty or not other or one.dice(other) >= REST_LEAST


def _conflict(one: str, other: str) -> bool:
    """One boundary forbids and the other does not."""
    return bool(one and other) and bool(_FORBIDS.search(one)) != bool(_FORBIDS.search(other))
