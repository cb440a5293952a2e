"""Which of all that was found is worth showing, and in which order. Pure: values in, values out, each with its reasons.

relevance   the best score of any lookup (or the similarity), a boost for what has proved itself, and a share for
            every lookup that found it (reciprocal ranks)
leave out   what lacks an identifier that was asked for; the same answer to the same question twice; what is far
            less relevant than the best, unless two lookups agree and one of them is sure
choose      one after the other: by relevance, less what it repeats of what was chosen (MMR); the best of each tier
            first, where it is nearly as good as the best of all
order       by relevance
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from reverie.learning.vectors import cosine
from reverie.memory.diversity import likeness, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.learning.recall.channels import Channel, Tier
    from reverie.types import Provenance

CandidateKind = Literal["skill", "trace", "episode", "policy", "world"]

RRF_K: Final = 60
RRF_WEIGHT: Final = 0.4
VALUE_WEIGHT: Final = 0.3
SKILL_WEIGHT: Final = 0.15
POLICY_WEIGHT: Final = 0.2
STRUCTURAL_BONUS: Final = 0.08
RELATIVE_FLOOR: Final = 0.2
SURE_STRUCTURAL: Final = 0.8
SURE_WORDS: Final = 0.75
AGREEING_CHANNELS: Final = 2
SEED_SHARE: Final = 0.7
ADAPTIVE_FLOOR: Final = 0.45
PERSONAL_FLOOR_SUMMARY: Final = 0.55
PERSONAL_FLOOR_ACTION: Final = 0.65
PERSONAL_LAMBDA: Final = 0.85
WORLD_SIMILARITY_MIN: Final = 0.15
ROLL_UP_TRACES: Final = 2
ROLL_UP_SIMILARITY: Final = 0.45
SAME_QUESTION: Final = 0.9
SAME_ANSWER: Final = 0.7
"""Share of words in common from which two questions, or two answers, count as one."""

VECTOR_CHANNELS: Final = frozenset[str]({"vec_summary", "vec_action"})


@dataclass(frozen=True, slots=True)
class Signal:
    """What one lookup said of a thing: its score, 0 to 1, and its rank there, from 0."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A thing that may be shown, with all that counts for it.

    `similarity` is its cosine to the question, 0 where that is not known. `worth` is the success rate of a skill, the
    value of a trace times what is left of it after its time, or the best of a policy's salience, confidence and gain.
    `question` and `answer` tell whether two say the same. `covers` are the policies that a skill was made of.
    """

    kind: CandidateKind
    ref: str
    signals: Mapping[Channel, Signal]
    similarity: float = 0.0
    worth: float = 0.0
    question: str = ""
    answer: str = ""
    vec: NDArray[np.float32] | None = None
    holds_identifier: bool = True
    episode_id: str = ""
    value: float = 0.0
    updated_at_ms: int = 0
    covers: frozenset[str] = frozenset()
    provenance: Provenance = "agent"

    @property
    def tier(self) -> Tier:
        """Among which it competes for a place."""
        return "skills" if self.kind == "skill" else "worlds" if self.kind == "world" else "traces"


@dataclass(frozen=True, slots=True)
class Rules:
    """How many of each tier, and how sure something must be. `personal`: the message asks for a fact about a person."""

    limits: Mapping[Tier, int]
    similarity_min: float = 0.25
    mmr_lambda: float = 0.7
    personal: bool = False
    identifiers: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its relevance, what that is made of, and why it was kept."""

    candidate: Candidate
    relevance: float
    parts: dict[str, float] = field(default_factory=dict[str, float])
    reason: str = ""


def rank(candidates: Sequence[Candidate], rules: Rules) -> tuple[Ranked, ...]:
    """What is worth showing: skills first, then the rest, each best first; at most what the rules allow of a tier."""
    likely = above_floors(candidates, rules)
    known = [each for each in (*likely, *rolled_up(likely)) if each.holds_identifier or not rules.identifiers]
    scored = by_relevance(relevance(each, rules) for each in known)
    kept = above_threshold(without_own_traces(without_repeated(scored)), rules)
    chosen = by_relevance(diverse(kept, rules))
    shown = without_covered(chosen)
    return (
        *(each for each in shown if each.candidate.kind == "skill"),
        *(each for each in shown if each.candidate.kind != "skill"),
    )


def by_relevance(ranked: Iterable[Ranked]) -> list[Ranked]:
    """Best first; of two that are equal an episode comes before a trace, then by id."""
    return sorted(ranked, key=lambda each: (-each.relevance, each.candidate.kind != "episode", each.candidate.ref))


def above_floors(candidates: Sequence[Candidate], rules: Rules) -> list[Candidate]:
    """The candidates with only those signals of meaning that say enough; one that no signal is left of goes.

    A similarity must reach `similarity_min` (world models: 0.15), and of traces and policies a share of the best one.
    """
    summary = PERSONAL_FLOOR_SUMMARY if rules.personal else ADAPTIVE_FLOOR
    action = PERSONAL_FLOOR_ACTION if rules.personal else ADAPTIVE_FLOOR
    shares: dict[Channel, float] = {"vec_summary": summary, "vec_action": action}
    steps = [each for each in candidates if each.tier == "traces"]
    floors = {channel: share * _top(steps, channel) for channel, share in shares.items()}
    kept: list[Candidate] = []
    for each in candidates:
        least = WORLD_SIMILARITY_MIN if each.kind == "world" else rules.similarity_min
        adaptive = floors if each.tier == "traces" else {}
        signals = {
            channel: signal
            for channel, signal in each.signals.items()
            if channel not in VECTOR_CHANNELS or signal.score >= max(least, adaptive.get(channel, 0.0))
        }
        if signals:
            kept.append(replace(each, signals=signals))
    return kept


def rolled_up(candidates: Iterable[Candidate]) -> list[Candidate]:
    """For each episode with two or more candidate traces that is near enough and led somewhere, the episode itself."""
    episodes: dict[str, list[Candidate]] = {}
    for each in candidates:
        if each.kind == "trace" and each.episode_id:
            episodes.setdefault(each.episode_id, []).append(each)
    return [
        _episode(episode_id, traces)
        for episode_id, traces in episodes.items()
        if len(traces) >= ROLL_UP_TRACES
        and max(trace.similarity for trace in traces) >= ROLL_UP_SIMILARITY
        and sum(trace.value for trace in traces) >= 0
    ]


def relevance(candidate: Candidate, rules: Rules) -> Ranked:
    """How relevant a candidate is, and what that is made of."""
    semantic = max([candidate.similarity, *map(_scored(candidate), candidate.signals)])
    boost = _boost(candidate, rules)
    rrf = RRF_WEIGHT * sum(1 / (RRF_K + signal.rank + 1) for signal in candidate.signals.values())
    total = semantic + boost + rrf
    parts = {"semantic": semantic, "tier_boost": boost, "rrf_boost": rrf, "relevance": total}
    rounded = {name: round(part, 4) for name, part in parts.items()}
    return Ranked(candidate, total, rounded, "found by " + ", ".join(sorted(candidate.signals)))


def without_repeated(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Of traces that say the same only the most relevant; given best first.

    Two say the same when their questions are nearly the same and their answers too: another answer to the same
    question stays.
    """
    kept: list[Ranked] = []
    told: list[tuple[frozenset[str], frozenset[str]]] = []
    for each in ranked:
        if each.candidate.kind == "trace":
            said = words_of(each.candidate.question), words_of(each.candidate.answer)
            if any(_says_the_same(said, before) for before in told):
                continue
            told.append(said)
        kept.append(each)
    return kept


def without_own_traces(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Either an episode or traces of it, whichever is more relevant; given best first."""
    kept: list[Ranked] = []
    shown_as: dict[str, CandidateKind] = {}
    for each in ranked:
        candidate = each.candidate
        if not candidate.episode_id or shown_as.setdefault(candidate.episode_id, candidate.kind) == candidate.kind:
            kept.append(each)
    return kept


def above_threshold(ranked: Sequence[Ranked], rules: Rules) -> list[Ranked]:
    """What is at least a fifth as relevant as the best; and what several lookups found, one of them being sure."""
    floor = RELATIVE_FLOOR * max((each.relevance for each in ranked), default=0.0)
    kept: list[Ranked] = []
    for each in ranked:
        if each.relevance >= floor:
            kept.append(each)
        elif _bypasses(each.candidate, rules):
            kept.append(replace(each, reason=f"{each.reason}; kept because several lookups agree"))
    return kept


def diverse(ranked: Sequence[Ranked], rules: Rules) -> list[Ranked]:
    """As many of each tier as allowed, chosen for their relevance and for what the others do not say yet."""
    share = PERSONAL_LAMBDA if rules.personal else rules.mmr_lambda
    room = dict(rules.limits)
    chosen: list[Ranked] = []
    for seed in _seeds(ranked, room):
        chosen.append(replace(seed, reason=f"{seed.reason}; the best of its tier"))
        room[seed.candidate.tier] -= 1
    taken = {each.candidate.ref for each in chosen}
    left = {each.candidate.ref: each for each in ranked if each.candidate.ref not in taken}
    repeats = {ref: _repetition(each, chosen) for ref, each in left.items()}
    while left:
        open_tiers = [each for each in left.values() if room.get(each.candidate.tier, 0) > 0]
        if not open_tiers:
            break
        best = max(open_tiers, key=lambda each: _marginal(each, repeats[each.candidate.ref], share, first=not chosen))
        ref = best.candidate.ref
        final = share * best.relevance - (1 - share) * repeats[ref]
        parts = {**best.parts, "redundancy": round(repeats[ref], 4), "final": round(final, 4)}
        chosen.append(replace(best, parts=parts))
        room[best.candidate.tier] -= 1
        del left[ref]
        for other, each in left.items():
            repeats[other] = max(repeats[other], _alike(each.candidate, best.candidate))
    return chosen


def without_covered(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Without policies of which a skill that is shown was made later."""
    skills = [each.candidate for each in ranked if each.candidate.kind == "skill"]
    return [
        each
        for each in ranked
        if each.candidate.kind != "policy"
        or not any(
            each.candidate.ref in skill.covers and skill.updated_at_ms >= each.candidate.updated_at_ms
            for skill in skills
        )
    ]


def _top(candidates: Iterable[Candidate], channel: Channel) -> float:
    return max((each.signals[channel].score for each in candidates if channel in each.signals), default=0.0)


def _episode(episode_id: str, traces: Sequence[Candidate]) -> Candidate:
    """An episode as the best of its candidate traces in every respect, but worth what they are worth on average."""
    signals: dict[Channel, Signal] = {}
    for trace in traces:
        for channel, signal in trace.signals.items():
            before = signals.get(channel, signal)
            signals[channel] = Signal(max(before.score, signal.score), min(before.rank, signal.rank))
    best = max(traces, key=lambda trace: trace.similarity)
    return Candidate(
        "episode",
        episode_id,
        signals,
        similarity=best.similarity,
        worth=sum(trace.worth for trace in traces) / len(traces),
        vec=best.vec,
        holds_identifier=any(trace.holds_identifier for trace in traces),
        episode_id=episode_id,
        value=sum(trace.value for trace in traces) / len(traces),
    )


def _scored(candidate: Candidate) -> Callable[[Channel], float]:
    """What a lookup's score counts: an error that is the same adds to a similarity by which the thing was found."""
    similar = not VECTOR_CHANNELS.isdisjoint(candidate.signals)

    def score(channel: Channel) -> float:
        if channel == "structural" and similar:
            return min(1.0, candidate.similarity + STRUCTURAL_BONUS)
        return candidate.signals[channel].score

    return score


def _boost(candidate: Candidate, rules: Rules) -> float:
    match candidate.kind:
        case "skill":
            return SKILL_WEIGHT * candidate.worth
        case "trace" | "episode":
            return VALUE_WEIGHT * max(candidate.worth, 0.0)
        case "policy":
            return 0.0 if rules.personal else POLICY_WEIGHT * candidate.worth
        case "world":
            return 0.0


def _bypasses(candidate: Candidate, rules: Rules) -> bool:
    if len(candidate.signals) < AGREEING_CHANNELS:
        return False
    return any(signal.score >= _sure(channel, rules) for channel, signal in candidate.signals.items())


def _sure(channel: Channel, rules: Rules) -> float:
    if channel in VECTOR_CHANNELS:
        return rules.similarity_min
    return SURE_STRUCTURAL if channel == "structural" else SURE_WORDS


def _says_the_same(one: tuple[frozenset[str], frozenset[str]], other: tuple[frozenset[str], frozenset[str]]) -> bool:
    return likeness(one[0], other[0]) >= SAME_QUESTION and likeness(one[1], other[1]) >= SAME_ANSWER


def _seeds(ranked: Sequence[Ranked], room: Mapping[Tier, int]) -> list[Ranked]:
    """The best of each tier that has room, where it is nearly as relevant as the best of all."""
    top = max((each.relevance for each in ranked), default=0.0)
    seeds: dict[Tier, Ranked] = {}
    for each in by_relevance(ranked):
        if room.get(each.candidate.tier, 0) > 0 and each.relevance >= SEED_SHARE * top:
            seeds.setdefault(each.candidate.tier, each)
    return list(seeds.values())


def _marginal(each: Ranked, repetition: float, share: float, *, first: bool) -> tuple[float, float]:
    """What a candidate adds; the first one is chosen by its relevance alone, and ties go to the more relevant."""
    gain = each.relevance if first else share * each.relevance - (1 - share) * repetition
    return gain, each.relevance


def _repetition(each: Ranked, chosen: Iterable[Ranked]) -> float:
    return max((_alike(each.candidate, other.candidate) for other in chosen), default=0.0)


def _alike(one: Candidate, other: Candidate) -> float:
    """How much two repeat each other, 0 to 1: by their vectors, or by their words where one of them has none."""
    if one.vec is not None and other.vec is not None and one.vec.shape == other.vec.shape:
        return max(0.0, cosine(one.vec, other.vec))
    return likeness(words_of(one.answer), words_of(other.answer)) if one.answer and other.answer else 0.0
