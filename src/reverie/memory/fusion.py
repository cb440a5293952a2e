"""How the words of a question, its meaning, and what stands around a place become one score.

Pure functions over *units*: a message, or a piece of a note. Five observations, each measured on conversations that
want opposite things (`docs/retrieval.md`):

* What counts most is which of the question's words a unit holds, the rare ones more; how often it holds them counts
  less.
* An answer often stands next to the words of the question. A word that a unit lacks counts a share when a unit beside
  it holds it: the nearer the more, and each word once, however many neighbours repeat it. Meaning is inherited
  likewise. A long unit speaks for itself: beyond `short_chars` it inherits less the longer it is.
* A short message that ends with a question mark is seldom the answer, but the message after it often is: the question
  counts less, and passes on its words whole.
* Where one unit clearly matches the words best, the words are right; where many match equally, meaning decides. So the
  weight of meaning follows how flat the top of the word scores is.
* A question about a person is mostly answered by what that person said.

Word scores are divided by the best one; similarities become z-scores among everything the search may see. The order
comes from their sum; the published score says in addition how sure the search is of its best hit, from 0 to 1.
"""

from __future__ import annotations

import heapq
import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from reverie.memory.questions import asks_what_assistant_said

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

FLAT_RANKS = 10
Z_MAX = 6.0
SPREAD_MIN = 0.03
FEW_UNITS = 4
CERTAINTY_POWER = 1.5
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


@dataclass(frozen=True, slots=True)
class Tuning:
    """What each observation counts: one set for everything, chosen as `docs/retrieval.md` tells.

    Words weigh `lexical_weight`; `bm25_share` of a unit's word score is its bm25, the rest what its words tell.
    Meaning weighs `weight_min`, and `flat_weight` more the flatter the words are, or `weight_without_words`.
    `previous_shares` and `next_shares` are what a word counts that stands one unit, two units away; `meaning_shares`
    the same for the meaning of the unit before and of the one after. `question_share` replaces the first share where
    the unit before is a question. `mmr_lambda` 1 and `half_life_days` 0 switch off what they control.
    """

    lexical_weight: float = 1.0
    bm25_share: float = 0.3
    weight_min: float = 0.05
    flat_weight: float = 0.25
    weight_without_words: float = 1.0
    previous_shares: tuple[float, ...] = (0.6, 0.4)
    next_shares: tuple[float, ...] = (0.5, 0.3)
    meaning_shares: tuple[float, float] = (0.6, 0.4)
    short_chars: int = 400
    question_share: float = 1.0
    question_factor: float = 0.8
    other_speaker_factor: float = 0.75
    mmr_lambda: float = 1.0
    half_life_days: float = 0.0

    @property
    def reach(self) -> int:
        """How many units away a neighbour may stand."""
        return max(len(self.previous_shares), len(self.next_shares), 1)

    @property
    def steps(self) -> tuple[tuple[int, float], ...]:
        """Where a neighbour may stand, counted from a unit, and what its words count."""
        before = ((-distance, share) for distance, share in enumerate(self.previous_shares, 1))
        return (*before, *enumerate(self.next_shares, 1))


TUNING = Tuning()
_NO_WORDS: Mapping[str, float] = MappingProxyType({})


class UnitFacts(NamedTuple):
    """What fusion knows of a unit besides its scores.

    `speaker` is a name, `user`, `assistant`, or empty for a note; `asks`: a short message that ends with a question
    mark; `fresh`: what is left of its score after its time.
    """

    speaker: str
    chars: int
    asks: bool = False
    fresh: float = 1.0


@dataclass(frozen=True, slots=True)
class Weights:
    """What the signals count in one search, and why."""

    semantic: float
    flatness: float
    reason: str
    lexical: float = 1.0


@dataclass(frozen=True, slots=True)
class Fused:
    """A unit's score and what it is made of: (lexical + weight * semantic + context) * the factors.

    `lexical` and `semantic` are its own; `context` is what its neighbours added, `nearby` the words they hold and it
    lacks.
    """

    unit: Unit
    score: float
    lexical: float
    semantic: float
    context: float
    speaker_factor: float = 1.0
    question_factor: float = 1.0
    fresh: float = 1.0
    nearby: tuple[str, ...] = ()


def max_normalised(scores: Mapping[Unit, float]) -> dict[Unit, float]:
    """The scores divided by the best; empty when nothing scored."""
    top = max(scores.values(), default=0.0)
    return {unit: score / top for unit, score in scores.items()} if top > 0 else {}


def flatness(lexical: Mapping[Unit, float]) -> float:
    """The mean of ranks 2 to 11 beside rank 1: 0 is one clear winner, 1 is all the same; a missing rank counts 0."""
    top = sorted(lexical.values(), reverse=True)[: FLAT_RANKS + 1]
    return sum(top[1:]) / (FLAT_RANKS * top[0]) if top and top[0] > 0 else 0.0


def held_words(
    held: Mapping[Unit, Collection[str]], weight: Mapping[str, float], bm25: Mapping[Unit, float], bm25_share: float
) -> dict[Unit, dict[str, float]]:
    """What each word that a unit holds contributes to its word score; the best possible score is 1.

    `held` are the words of each unit, `weight` what each word tells, `bm25` the full-text scores. A unit without words
    is left out.
    """
    told = {unit: sum(weight[word] for word in words) for unit, words in held.items() if words}
    top = max(told.values(), default=0.0)
    normal = max_normalised(bm25)
    scores: dict[Unit, dict[str, float]] = {}
    for unit, sum_told in told.items():
        if sum_told > 0:
            scale = (1 - bm25_share) / top + bm25_share * normal.get(unit, 0.0) / sum_told
            scores[unit] = {word: scale * weight[word] for word in held[unit]}
    return scores


def weigh(lexical: Mapping[Unit, float], tuning: Tuning = TUNING) -> Weights:
    """How much meaning counts beside the words."""
    if not lexical:
        return Weights(tuning.weight_without_words, 0.0, "no word of the question occurs: meaning alone")
    flat = flatness(lexical)
    kind = "one clear match of words" if flat < 0.35 else "many equal matches of words" if flat > 0.65 else "mixed"  # noqa: PLR2004 (thirds, named beside them)
    semantic = tuning.weight_min + tuning.flat_weight * flat
    return Weights(semantic, flat, f"{kind} (flatness {flat:.2f})", tuning.lexical_weight)


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


def speaker_factor(speaker: str, subject: str | None, other: float = TUNING.other_speaker_factor) -> float:
    """What a unit's score is multiplied with; `speaker` is a name, `user`, `assistant`, or empty for a note.

    A person's name lowers other named people only; the user as subject lowers the assistant only.
    """
    if subject is None or not speaker or speaker == subject:
        return 1.0
    if subject == USER:
        return other if speaker == ASSISTANT else 1.0
    return 1.0 if speaker in {USER, ASSISTANT} else other


def own_scores(lexical: Mapping[Unit, float], semantic: Mapping[Unit, float], weights: Weights) -> dict[Unit, float]:
    """What each unit earns by itself."""
    return {
        unit: weights.lexical * lexical.get(unit, 0.0) + weights.semantic * semantic.get(unit, 0.0)
        for unit in lexical.keys() | semantic.keys()
    }


@dataclass(frozen=True, slots=True)
class Signals:
    """All that fusion reads: words by unit (from `held_words`), z-scores, the facts of every unit that may be a hit.

    A unit that has words or a z-score has facts.
    """

    words: Mapping[Unit, Mapping[str, float]]
    semantic: Mapping[Unit, float]
    facts: Mapping[Unit, UnitFacts]
    weights: Weights
    subject: str | None = None
    tuning: Tuning = TUNING


def fuse(signals: Signals, limit: int) -> list[Fused]:
    """The best units that score, best first; equal scores in reading order."""
    steps = signals.tuning.steps
    scored = [(-_score(unit, signals, steps), unit) for unit in signals.facts]
    return [_explained(unit, -negative, signals) for negative, unit in heapq.nsmallest(limit, scored) if negative < 0]


def _score(unit: Unit, signals: Signals, steps: Sequence[tuple[int, float]]) -> float:
    words = signals.words.get(unit, _NO_WORDS)
    weights = signals.weights
    near, meaning = _inherited(unit, words, signals, steps)
    by_words = sum(words.values()) + (sum(near.values()) if near else 0.0)
    by_meaning = signals.semantic.get(unit, 0.0) + meaning
    by_speaker, by_form, fresh = _factors(unit, signals)
    return (weights.lexical * by_words + weights.semantic * by_meaning) * by_speaker * by_form * fresh


def _explained(unit: Unit, score: float, signals: Signals) -> Fused:
    words = signals.words.get(unit, _NO_WORDS)
    weights = signals.weights
    near, meaning = _inherited(unit, words, signals, signals.tuning.steps)
    by_speaker, by_form, fresh = _factors(unit, signals)
    return Fused(
        unit,
        score,
        lexical=sum(words.values()),
        semantic=signals.semantic.get(unit, 0.0),
        context=weights.lexical * sum(near.values()) + weights.semantic * meaning,
        speaker_factor=by_speaker,
        question_factor=by_form,
        fresh=fresh,
        nearby=tuple(sorted(word for word in near if word not in words)),
    )


def _factors(unit: Unit, signals: Signals) -> tuple[float, float, float]:
    speaker, _, asks, fresh = signals.facts[unit]
    tuning = signals.tuning
    by_speaker = speaker_factor(speaker, signals.subject, tuning.other_speaker_factor)
    return by_speaker, tuning.question_factor if asks else 1.0, fresh


def _inherited(
    unit: Unit, words: Mapping[str, float], signals: Signals, steps: Sequence[tuple[int, float]]
) -> tuple[dict[str, float], float]:
    """What the neighbours add: to each word what it counts more, and to the meaning."""
    tuning, facts, semantic = signals.tuning, signals.facts, signals.semantic
    chars = facts[unit].chars
    need = 1.0 if chars <= tuning.short_chars else tuning.short_chars / chars
    added: dict[str, float] = {}
    for step, share in steps:
        beside = signals.words.get(unit + step)
        if beside is None:
            continue
        answers = step == -1 and facts[unit - 1].asks
        counted = need * (tuning.question_share if answers else share)
        for word, score in beside.items():
            more = counted * score - words.get(word, 0.0)
            if more > added.get(word, 0.0):
                added[word] = more
    before, after = tuning.meaning_shares
    return added, need * (before * semantic.get(unit - 1, 0.0) + after * semantic.get(unit + 1, 0.0))


def term_weight(rows_with_term: int, rows: int) -> float:
    """How much a word tells: more the fewer rows hold it; the most when none does."""
    return math.log(1 + (rows - rows_with_term + 0.5) / (rows_with_term + 0.5))


def confidence(found_weight: float, asked_weight: float, similarity: float) -> float:
    """How sure a search is of its best hit, 0 to 1: from the share of what was asked that it holds, and its similarity.

    Either alone can make it sure. Both are sharpened, because a third of the words and a middling similarity are found
    for most questions that memory cannot answer.
    """
    covered = min(1.0, found_weight / asked_weight) if asked_weight > 0 else 0.0
    alike = min(1.0, max(0.0, similarity))
    return 1 - (1 - covered**CERTAINTY_POWER) * (1 - alike**CERTAINTY_POWER)
