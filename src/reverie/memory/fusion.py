"""How the words of a question, its meaning, and what stands around a place become one score.

Pure functions over *units*: a message, or a piece of a note. Three observations, each measured on conversations that
want opposite things:

* Where one unit clearly matches the words best, the words are right; where many match equally, meaning decides. So the
  weight of meaning follows how flat the top of the word scores is.
* An answer often stands next to the words of the question: a unit inherits from the one before it (half) and from the
  one after it (a third). A long unit speaks for itself: beyond `SHORT_CHARS` it inherits less the longer it is.
* A question about a person is mostly answered by what that person said.

Word scores are divided by the best one; similarities become z-scores among everything the search may see. The order
comes from their sum; the published score says in addition how sure the search is of its best hit, from 0 to 1.
"""

from __future__ import annotations

import heapq
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from reverie.memory.questions import asks_what_assistant_said

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

WEIGHT_MIN = 0.05
FLAT_WEIGHT = 0.3
FLAT_RANKS = 10
WEIGHT_WITHOUT_WORDS = 1.0
PREVIOUS_SHARE = 0.5
NEXT_SHARE = 0.3
SHORT_CHARS = 400
OTHER_SPEAKER_FACTOR = 0.7
Z_MAX = 6.0
SPREAD_MIN = 0.03
FEW_UNITS = 4
USER = "user"
ASSISTANT = "assistant"

_ABOUT_ASSISTANT = re.compile(
    r"\b(did|have|had|were|was) you\b(?! (think|know))"
    r"|\byou('d| had| have|'ve)? (previously |already |just )?"
    r"(said|told|mentioned|recommended|suggested|advised|gave|provided|listed|explained|described|wrote|shared"
    r"|referr\w+|recommend|suggest)\b"
    r"|\byour (suggestion|advice|recommendation|answer|explanation|list|response)s?\b",
    re.IGNORECASE,
)


Unit = int
"""A place by document and running number, in one integer: its neighbours are the integers beside it."""

_NUMBER_BITS = 32


def unit_of(document_id: int, number: int) -> Unit:
    """The unit with a running number (from 1) in a document."""
    return document_id << _NUMBER_BITS | number


def place_of(unit: Unit) -> tuple[int, int]:
    """Document and running number of a unit."""
    return unit >> _NUMBER_BITS, unit & ((1 << _NUMBER_BITS) - 1)


class UnitFacts(NamedTuple):
    """What fusion knows of a unit besides its scores: who said it (a name, `user`, `assistant`, or empty), how long."""

    speaker: str
    chars: int


@dataclass(frozen=True, slots=True)
class Weights:
    """What the signals count in one search, and why."""

    semantic: float
    flatness: float
    reason: str
    lexical: float = 1.0


@dataclass(frozen=True, slots=True)
class Fused:
    """A unit's score and what it is made of.

    `lexical` and `semantic` are its own; `context` is what its neighbours added, `speaker_factor` what all of it was
    multiplied with.
    """

    unit: Unit
    score: float
    lexical: float
    semantic: float
    context: float
    speaker_factor: float


def max_normalised(scores: Mapping[Unit, float]) -> dict[Unit, float]:
    """The scores divided by the best; empty when nothing scored."""
    top = max(scores.values(), default=0.0)
    return {unit: score / top for unit, score in scores.items()} if top > 0 else {}


def flatness(lexical: Mapping[Unit, float]) -> float:
    """The mean of ranks 2 to 11 beside rank 1: 0 is one clear winner, 1 is all the same; a missing rank counts 0."""
    top = sorted(lexical.values(), reverse=True)[: FLAT_RANKS + 1]
    return sum(top[1:]) / (FLAT_RANKS * top[0]) if top and top[0] > 0 else 0.0


def weigh(lexical: Mapping[Unit, float]) -> Weights:
    """How much meaning counts beside the words."""
    if not lexical:
        return Weights(WEIGHT_WITHOUT_WORDS, 0.0, "no word of the question occurs: meaning alone")
    flat = flatness(lexical)
    kind = "one clear match of words" if flat < 0.35 else "many equal matches of words" if flat > 0.65 else "mixed"  # noqa: PLR2004 (thirds, named beside them)
    return Weights(WEIGHT_MIN + FLAT_WEIGHT * flat, flat, f"{kind} (flatness {flat:.2f})")


def z_scores(similarities: Mapping[Unit, float], mean: float, spread: float, count: int) -> dict[Unit, float]:
    """How far similarities stand out among all `count` of the search, up to `Z_MAX`; those that do not are left out.

    With very few units their own mean says little, so it is drawn towards 0.
    """
    drawn = mean * count / (count + FEW_UNITS)
    wide = max(spread, SPREAD_MIN)
    return {
        unit: min(Z_MAX, (similarity - drawn) / wide) for unit, similarity in similarities.items() if similarity > drawn
    }


def subject_of(question: str, words: Collection[str], speakers: Mapping[str, frozenset[str]]) -> str | None:
    """Whom a question is about: the one speaker it names, else the user unless it asks what the assistant said.

    `speakers` maps everyone with a name to the words of that name. None: no preference.
    """
    known = set(words)
    named = [name for name, parts in speakers.items() if parts and parts <= known]
    if named:
        return named[0] if len(named) == 1 else None
    return None if _ABOUT_ASSISTANT.search(question) or asks_what_assistant_said(question) else USER


def speaker_factor(speaker: str, subject: str | None) -> float:
    """What a unit's score is multiplied with; `speaker` is a name, `user`, `assistant`, or empty for a note.

    A person's name lowers other named people only; the user as subject lowers the assistant only.
    """
    if subject is None or not speaker or speaker == subject:
        return 1.0
    if subject == USER:
        return OTHER_SPEAKER_FACTOR if speaker == ASSISTANT else 1.0
    return 1.0 if speaker in {USER, ASSISTANT} else OTHER_SPEAKER_FACTOR


def own_scores(lexical: Mapping[Unit, float], semantic: Mapping[Unit, float], weights: Weights) -> dict[Unit, float]:
    """What each unit earns by itself."""
    return {
        unit: weights.lexical * lexical.get(unit, 0.0) + weights.semantic * semantic.get(unit, 0.0)
        for unit in lexical.keys() | semantic.keys()
    }


def fuse(
    lexical: Mapping[Unit, float],
    semantic: Mapping[Unit, float],
    own: Mapping[Unit, float],
    facts: Mapping[Unit, UnitFacts],
    subject: str | None,
    limit: int,
) -> list[Fused]:
    """The best units of `facts` that score, best first; equal scores in reading order.

    `lexical` is max-normalised, `semantic` holds z-scores, `own` what `own_scores` makes of both; `facts` holds every
    unit that may be a hit.
    """
    scored: list[tuple[float, Unit, float, float]] = []
    for unit, (speaker, chars) in facts.items():
        context = PREVIOUS_SHARE * own.get(unit - 1, 0.0) + NEXT_SHARE * own.get(unit + 1, 0.0)
        if chars > SHORT_CHARS:
            context *= SHORT_CHARS / chars
        factor = speaker_factor(speaker, subject)
        scored.append((-(own.get(unit, 0.0) + context) * factor, unit, context, factor))
    return [
        Fused(unit, -negative, lexical.get(unit, 0.0), semantic.get(unit, 0.0), context, factor)
        for negative, unit, context, factor in heapq.nsmallest(limit, scored)
        if negative < 0
    ]


def term_weight(rows_with_term: int, rows: int) -> float:
    """How much a word tells: more the fewer rows hold it; the most when none does."""
    return math.log(1 + (rows - rows_with_term + 0.5) / (rows_with_term + 0.5))


def confidence(found_weight: float, asked_weight: float, similarity: float) -> float:
    """How sure a search is of its best hit, 0 to 1: the share of what was asked that it holds, or its similarity."""
    covered = min(1.0, found_weight / asked_weight) if asked_weight > 0 else 0.0
    return 1 - (1 - covered) * (1 - min(1.0, max(0.0, similarity)))
