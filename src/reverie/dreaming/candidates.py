"""How passages are weighed: six components and a boost make a score, gates decide, and every decision has its figures.

`rank` sorts what would be promoted and says of everything else which gate it failed, with how much; `explain` shows one
passage against every gate. Both read the same figures, so that they cannot disagree. Pure: the instant is given.

A gate means what its name says. `recalls` counts searches of people and models, `queries` their distinct questions,
`days` distinct days, and passes of our own count in `signals` only. The `upstream` counting is OpenClaw's of 2026.4.25,
where all signals count as recalls and days as questions, days of its transcripts as trusted, and only its own output is
unfit: for comparing with it, never for writing.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from operator import lt, mul
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, get_args

from reverie.dreaming.contamination import contaminated, refused_by_openclaw
from reverie.dreaming.recording import is_conversation, is_short_term

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reverie.config import DreamingMode
    from reverie.dreaming.entry import RecallEntry
    from reverie.types import Provenance

T = TypeVar("T")
Counting = Literal["strict", "upstream"]
Gate = Literal[
    "source", "content", "provenance", "promoted", "signals", "recalls", "queries", "days", "ingested", "age", "score"
]
"""In the order in which they are asked. `content` refuses what is never a memory (`contamination.contaminated`);
`ingested` what only passes of our own ever saw, also where `recalls_min` is 0."""

GATES: tuple[Gate, ...] = get_args(Gate)
DAY_MS = 86_400_000
SPAN_DAYS_FULL = 7
NO_DAY = 0
_PHASE_DAYS_HALF = 14.0
TRUSTED: frozenset[Provenance] = frozenset({"owner", "agent"})
"""Whose words may be promoted."""

_CORPUS = "memory/.dreams/session-corpus/"
_LN_FREQUENCY = math.log(11)
_LN_HITS = math.log(7)
_LN_DAYS = math.log(5)
_is_source = lru_cache(maxsize=4_096)(is_short_term)
SNIPPETS_KEPT_MAX = 16_384
"""Passages of which it is kept in memory whether their words are fit; each has at most 800 characters."""


class Weights(NamedTuple):
    """What each component counts for. Any numbers: `normalised` brings their sum to 1."""

    frequency: float = 0.24
    relevance: float = 0.30
    diversity: float = 0.15
    recency: float = 0.15
    consolidation: float = 0.10
    conceptual: float = 0.06

    def normalised(self) -> Weights:
        """Negative and unusable numbers as 0, the sum 1; the defaults where nothing is left."""
        kept = [weight if math.isfinite(weight) and weight > 0 else 0.0 for weight in self]
        total = sum(kept)
        return Weights(*(weight / total for weight in kept)) if total and math.isfinite(total) else Weights()


class Components(NamedTuple):
    """The parts of a score, each 0 to 1 and before its weight."""

    frequency: float
    relevance: float
    diversity: float
    recency: float
    consolidation: float
    conceptual: float


class Boosts(NamedTuple):
    """What fresh reinforcement by a phase of sleep adds to a score at most."""

    light: float
    rem: float


BOOSTS: Mapping[Counting, Boosts] = {"strict": Boosts(0.05, 0.08), "upstream": Boosts(0.06, 0.09)}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a passage must reach to be promoted. The defaults are OpenClaw's of April 2026.

    `limit` is how many candidates are kept (None: all). A minimum of 0 asks nothing. `age_days_max` counts from the
    last recall (None: any age), `half_life_days` is after how long recency counts half.
    """

    score_min: float = 0.75
    recalls_min: int = 3
    queries_min: int = 2
    days_min: int = 0
    signals_min: int = 1
    age_days_max: float | None = None
    half_life_days: float = 14.0
    limit: int | None = None
    include_promoted: bool = False
    counting: Counting = "strict"
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True, slots=True)
class Preset:
    """A mode of dreaming: when (a cron expression in the user's time zone), and by which rules."""

    cron: str
    rules: Rules


PRESETS: Mapping[DreamingMode, Preset] = {
    "off": Preset("0 3 * * *", Rules(0.75, 3, 2, limit=10)),
    "core": Preset("0 3 * * *", Rules(0.75, 3, 2, limit=10)),
    "deep": Preset("0 */12 * * *", Rules(0.80, 3, 3, limit=10)),
    "rem": Preset("0 */6 * * *", Rules(0.85, 4, 3, limit=10)),
}
"""The modes. `off` has the rules of `core`, for looking at what would be promoted."""


@dataclass(frozen=True, slots=True)
class Options:
    """Rules as somebody gave them: None is not given."""

    score_min: float | None = None
    recalls_min: float | None = None
    queries_min: float | None = None
    days_min: float | None = None
    age_days_max: float | None = None
    half_life_days: float | None = None
    limit: float | None = None
    include_promoted: bool = False
    counting: Counting = "strict"


def rules_of(options: Options, base: Rules | None = None) -> Rules:
    """The rules that options ask for. What makes no sense gives way to the base, without a word.

    A score outside 0 to 1, a negative count and a half-life of nothing are no sense; counts are cut to whole numbers.
    A negative age means any age.
    """
    base = base or Rules()
    score, half_life = options.score_min, options.half_life_days
    return Rules(
        score_min=score if score is not None and 0 <= score <= 1 else base.score_min,
        recalls_min=_count(options.recalls_min, base.recalls_min),
        queries_min=_count(options.queries_min, base.queries_min),
        days_min=_count(options.days_min, base.days_min),
        signals_min=base.signals_min,
        age_days_max=_count(options.age_days_max, base.age_days_max),
        half_life_days=half_life if half_life is not None and 0 < half_life < math.inf else base.half_life_days,
        limit=_count(options.limit, base.limit),
        include_promoted=options.include_promoted,
        counting=options.counting,
        weights=base.weights,
    )


class GateCheck(NamedTuple):
    """One gate: what the passage has, what it needs, and whether that is enough.

    Of `age` the figures are days, and what is needed is the most allowed; None where any age is. Of `source`,
    `content`, `provenance`, `promoted` and `ingested` they are 1 for yes and 0 for no: is one, says something, is
    trusted, is still to be promoted, was asked for by somebody.
    """

    gate: Gate
    has: float
    needs: float | None
    passed: bool


class Candidate(NamedTuple):
    """A passage that would be promoted. `score` is 0 to 1; `boost` is what the phases of sleep added to it."""

    entry: RecallEntry
    score: float
    components: Components
    boost: float
    age_days: float


class Rejection(NamedTuple):
    """A passage that would not be promoted: the first gate it failed, what it has and what it needed."""

    entry: RecallEntry
    gate: Gate
    has: float
    needs: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """What was decided. Candidates come best first; those beyond the limit were good enough, and wait."""

    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]
    waiting: tuple[Candidate, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many each gate refused, in the order of the gates; `limit` are those that wait."""
        counted = Counter[str](rejection.gate for rejection in self.rejected)
        found = {gate: counted[gate] for gate in GATES if counted[gate]}
        return found | ({"limit": len(self.waiting)} if self.waiting else {})


@dataclass(frozen=True, slots=True)
class Explanation:
    """One passage in full: its score and parts, and every gate in order. It is a candidate when all are passed."""

    candidate: Candidate
    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether it would be promoted, the limit aside."""
        return all(check.passed for check in self.checks)


def rank(entries: Iterable[RecallEntry], rules: Rules, now_ms: int) -> Ranking:
    """Weigh entries: by score, then recalls, then place, best first; the order never depends on the one given."""
    needs, weights = _needs(rules), rules.weights.normalised()
    found: list[Candidate] = []
    rejected: list[Rejection] = []
    for entry in entries:
        age_days = age_days_of(entry.last_recalled_at_ms, now_ms)
        has = _has(entry, rules, -age_days)
        if any(map(lt, has, needs)):
            failed = next(place for place, own in enumerate(has) if own < needs[place])
            rejected.append(_rejection(entry, failed, has[failed], needs[failed]))
            continue
        candidate, total = _weighed(entry, rules, weights, now_ms, age_days)
        if total < rules.score_min:
            rejected.append(Rejection(entry, "score", total, rules.score_min))
        else:
            found.append(candidate)
    kept, waiting = best(found, rules.limit)
    return Ranking(kept, tuple(rejected), waiting)


def best(found: Iterable[Candidate], limit: int | None) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Candidates in their order, best first: those within the limit (None: all), and those beyond it."""
    ordered = sorted(found, key=_order)
    end = len(ordered) if limit is None else max(0, limit)
    return tuple(ordered[:end]), tuple(ordered[end:])


def explain(entry: RecallEntry, rules: Rules, now_ms: int) -> Explanation:
    """One entry against every gate, by the figures that `rank` decides with."""
    age_days = age_days_of(entry.last_recalled_at_ms, now_ms)
    candidate, total = _weighed(entry, rules, rules.weights.normalised(), now_ms, age_days)
    checks: list[GateCheck] = []
    for gate, own, needed in zip(GATES, (*_has(entry, rules, -age_days), total), _needs(rules), strict=True):
        own_shown, needed_shown = (-own, -needed) if gate == "age" else (own, needed)
        checks.append(
            GateCheck(gate, own_shown, needed_shown if math.isfinite(needed_shown) else None, passed=own >= needed)
        )
    return Explanation(candidate, tuple(checks))


def components_of(entry: RecallEntry, rules: Rules, now_ms: int) -> Components:
    """The six parts of an entry's score, each 0 to 1."""
    return _components(entry, rules, age_days_of(entry.last_recalled_at_ms, now_ms))


def consolidation_of(days: Iterable[str]) -> float:
    """How well recalls are spread over days (`YYYY-MM-DD`), 0 to 1: five days or more over a week or more are 1."""
    numbers = set(map(_day_number, days))
    numbers.discard(NO_DAY)
    if len(numbers) <= 1:
        return 0.2 * len(numbers)
    spread = _clamp(math.log(len(numbers)) / _LN_DAYS)
    return 0.55 * spread + 0.45 * _clamp((max(numbers) - min(numbers)) / SPAN_DAYS_FULL)


def phase_boost(entry: RecallEntry, boosts: Boosts, now_ms: int) -> float:
    """What light and REM sleep add to a score: full with six fresh hits, half after 14 days."""
    light = _reinforcement(entry.light_hits, entry.light_at_ms, now_ms)
    rem = _reinforcement(entry.rem_hits, entry.rem_at_ms, now_ms)
    return _clamp(boosts.light * light + boosts.rem * rem)


def age_days_of(last_recalled_at_ms: int, now_ms: int) -> float:
    """Days since an instant; 0 for one that is not known or still to come."""
    return max(0, now_ms - last_recalled_at_ms) / DAY_MS if last_recalled_at_ms > 0 else 0.0


def _components(entry: RecallEntry, rules: Rules, age_days: float) -> Components:
    signals = max(0, entry.signals)
    consolidation = consolidation_of(entry.days)
    if rules.counting == "upstream":
        consolidation = max(consolidation, _clamp(entry.grounded_count / 3))
    return Components(
        _clamp(math.log1p(signals) / _LN_FREQUENCY),
        _clamp(entry.total_score / max(1, signals)),
        _clamp(max(len(entry.queries), len(entry.days)) / 5),
        _halved(age_days, rules.half_life_days),
        consolidation,
        _clamp(len(entry.tags) / 6),
    )


def _weighed(
    entry: RecallEntry, rules: Rules, weights: Weights, now_ms: int, age_days: float
) -> tuple[Candidate, float]:
    """An entry's parts, and its score before it is cut to 1: that is what the threshold is held against."""
    parts = _components(entry, rules, age_days)
    boost = phase_boost(entry, BOOSTS[rules.counting], now_ms)
    total = sum(map(mul, weights, parts)) + boost
    return Candidate(entry, _clamp(total), parts, boost, age_days), total


def _has(entry: RecallEntry, rules: Rules, youth_days: float) -> tuple[float, ...]:
    """What an entry has, in the order of the gates but that of the score; its age below zero: more is better."""
    signals, days = entry.signals, len(entry.days)
    is_strict = rules.counting == "strict"
    return (
        1 <= entry.start_line <= entry.end_line
        and _is_source(entry.path)
        and (is_strict or not is_conversation(entry.path)),
        _is_fit(entry.snippet) if is_strict else refused_by_openclaw(entry.snippet) is None,
        entry.provenance in TRUSTED or (not is_strict and _CORPUS in entry.path),
        entry.promoted_at_ms is None or rules.include_promoted,
        signals,
        entry.recall_count if is_strict else signals,
        len(entry.user_queries) if is_strict else max(len(entry.queries), days),
        days,
        entry.recall_count > 0 or entry.grounded_count > 0 or not is_strict,
        youth_days,
    )


@lru_cache(maxsize=SNIPPETS_KEPT_MAX)
def _is_fit(snippet: str) -> bool:
    return contaminated(snippet) is None


def _needs(rules: Rules) -> tuple[float, ...]:
    """What is needed, in the order of the gates; of the age, below zero, the most allowed."""
    age = math.inf if rules.age_days_max is None else rules.age_days_max
    minima = (max(1, rules.signals_min), rules.recalls_min, rules.queries_min, rules.days_min)
    return (1, 1, 1, 1, *minima, 1, -age, rules.score_min)


def _rejection(entry: RecallEntry, place: int, has: float, needs: float) -> Rejection:
    gate = GATES[place]
    return Rejection(entry, gate, -has, -needs) if gate == "age" else Rejection(entry, gate, has, needs)


def _order(candidate: Candidate) -> tuple[float, int, str, int, int, str]:
    entry = candidate.entry
    return (-candidate.score, -entry.recall_count, entry.path, entry.start_line, entry.end_line, entry.key)


def _reinforcement(hits: int, at_ms: int | None, now_ms: int) -> float:
    if hits <= 0 or at_ms is None:
        return 0.0
    return _clamp(math.log1p(hits) / _LN_HITS) * _halved(max(0, now_ms - at_ms) / DAY_MS, _PHASE_DAYS_HALF)


def _halved(age_days: float, half_life_days: float) -> float:
    return 1.0 if half_life_days <= 0 else _clamp(2 ** (-age_days / half_life_days))


def _count(given: float | None, default: T) -> int | T:
    return math.floor(given) if given is not None and math.isfinite(given) and given >= 0 else default


@lru_cache(maxsize=4_096)
def _day_number(day: str) -> int:
    try:
        return date.fromisoformat(day).toordinal()
    except ValueError:
        return NO_DAY


def _clamp(value: float) -> float:
    return 0.0 if value < 0 else 1.0 if value > 1 else value
