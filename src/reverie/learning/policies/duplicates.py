"""Whether two policies say the same, in nearly the same words: compared by the pairs of their characters."""

from __future__ import annotations

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
    title, trigger, procedure = (dice(one.title, other.title), dice(one.trigger, other.trigger),
                                 dice(one.procedure, other.procedure))  # fmt: skip
    if title < TITLE_LEAST and trigger < TRIGGER_LEAST and procedure < PROCEDURE_LEAST:
        return None
    if not (_agree(one.boundary, other.boundary) and _agree(one.verification, other.verification)):
        return None
    if _conflict(one.boundary, other.boundary):
        return None
    return TITLE_WEIGHT * title + TRIGGER_WEIGHT * trigger + PROCEDURE_WEIGHT * procedure


def nearest(draft: Said, others: Iterable[Said]) -> tuple[float, str] | None:
    """The policy that says the same as a draft and is most alike: how much, and its id. Not for the event loop."""
    alike = ((likeness(draft, other), other.id) for other in others)
    return max(((how, name) for how, name in alike if how is not None), default=None)


def dice(one: str, other: str) -> float:
    """How many of the pairs of characters two texts share, 0 to 1, without case and punctuation; 0 if one is empty."""
    pairs, others = _pairs(one), _pairs(other)
    if not pairs or not others:
        return 0.0
    return 2 * (pairs & others).total() / (pairs.total() + others.total())


def _pairs(text: str) -> Counter[str]:
    plain = _NOT_OF_A_WORD.sub(" ", text[:COMPARED_CHARS].casefold()).strip()
    if len(plain) < len("ab"):
        return Counter([plain] if plain else [])
    return Counter(plain[at : at + 2] for at in range(len(plain) - 1))


def _agree(one: str, other: str) -> bool:
    return not one or not other or dice(one, other) >= REST_LEAST


def _conflict(one: str, other: str) -> bool:
    """One boundary forbids and the other does not."""
    return bool(one and other) and bool(_FORBIDS.search(one)) != bool(_FORBIDS.search(other))
