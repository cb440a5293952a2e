"""Where the candidates of a search stand, how they rank, and what is shown of the best.

These functions run on a reader thread, inside one transaction each.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from reverie.clock import iso_minute
from reverie.memory import fusion
from reverie.memory.decay import fresh_share
from reverie.memory.diversity import diverse
from reverie.memory.fusion import TUNING, Fused, Signals, Tuning, Unit, UnitFacts, Weights
from reverie.memory.passages import scope_word
from reverie.memory.scope import Scope
from reverie.memory.store import session_path
from reverie.memory.text import TERMS_MAX, quoted
from reverie.types import SearchHit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reverie.memory.scope import VectorScan
    from reverie.storage.database import Row, Transaction
    from reverie.types import MemorySource

COMMON_SHARE = 0.50
COMMON_SHARE_OF_MANY = 0.05
FEW_ROWS = 10
MANY_ROWS = 1_000
RANKED_ROWS_MAX = 20_000
"""Rows that one search ranks by their words, however large the index is; a row costs about a microsecond."""
RARITY_ROWS_MIN = 200
"""A word's rarity is judged as if there were at least so many rows."""

HEADER_WEIGHT = 0.5
SPARE_HITS = 10
WORDS_LOCATED_MAX = 16
SCOPED_DOCUMENTS_MAX = 10_000
NO_SIMILARITY = -1.0
HIGHEST = "\U0010ffff"
NEWEST = 2**62
"""Beyond every chunk id."""
DIVERSE_HITS_MAX = 20
"""A search for more hits has room for repetition, and comparing them all would take longer than the search."""
UNCERTAIN_BELOW = 0.3
"""A hit with a lower score says so: it is likely that the answer is not in memory at all."""


@dataclass(frozen=True, slots=True)
class SearchScope:
    """What a search may see. `everything`: the agent and sources exclude nothing that the index holds.

    `hidden` is a document of which lines from a number on are left out, `shown_to` its last chunk before them; `paths`
    a range of paths, with the documents in it.
    """

    agent_id: int
    sources: frozenset[MemorySource]
    everything: bool = False
    hidden: tuple[int, int] | None = None
    shown_to: int = NEWEST
    paths: tuple[str, str] | None = None
    document_ids: frozenset[int] | None = None

    def for_vectors(self) -> Scope:
        """The same, for a scan of the vectors."""
        return Scope(self.agent_id, self.sources, self.document_ids, self.hidden)

    def hides(self, document_id: int, line: int) -> bool:
        """Whether a line is one the asker has before their eyes."""
        return self.hidden is not None and document_id == self.hidden[0] and line >= self.hidden[1]


@dataclass(frozen=True, slots=True)
class Lexical:
    """What the words found: chunks with positive scores, best first.

    `words` are those that were looked up, or that nothing holds; `rows_with` counts the rows of each, up to a bound.
    `reason` says what was left out of a large index, and is empty when nothing was; `first` is the chunk from which on
    words were looked up.
    """

    chunks: tuple[tuple[int, float], ...] = ()
    words: tuple[str, ...] = ()
    rows_with: dict[str, int] = field(default_factory=dict[str, int])
    rows: int = 0
    reason: str = ""
    first: int = 0

    def weight_of(self, words: Iterable[str]) -> float:
        """How much some of the words tell, together. In a small memory it says little that a word is missing."""
        rows = max(self.rows, RARITY_ROWS_MIN)
        return sum(fusion.term_weight(self.rows_with.get(word, 0), rows) for word in words)


@dataclass(frozen=True, slots=True)
class Places:
    """The hits of a search and the weights they were fused with."""

    hits: tuple[SearchHit, ...]
    weights: Weights

    @property
    def certainty(self) -> float:
        """How sure the search is of its best hit, 0 to 1; 0 without any."""
        return self.hits[0].score if self.hits else 0.0


@dataclass(frozen=True, slots=True)
class Ranking:
    """How candidates are ranked: whom the question is about, how many hits, from which score on, and by what tuning.

    Messages whose content hash is `echo` only repeat the question and are no hits. `now_ms` is what ages are counted
    from.
    """

    subject: str | None
    limit: int
    min_score: float = 0.0
    echo: bytes = b""
    tuning: Tuning = TUNING
    now_ms: int = 0


@dataclass(slots=True)
class _Units:
    """The candidates by unit: their signals, what is known of them, and the chunk that shows each best.

    `words` are those that the shown chunk holds. `echoes` are the chunks that only repeat the question; their units
    are no candidates.
    """

    words: dict[Unit, list[str]] = field(default_factory=dict[Unit, list[str]])
    bm25: dict[Unit, float] = field(default_factory=dict[Unit, float])
    similarity: dict[Unit, float] = field(default_factory=dict[Unit, float])
    facts: dict[Unit, UnitFacts] = field(default_factory=dict[Unit, UnitFacts])
    chunks: dict[Unit, int] = field(default_factory=dict[Unit, int])
    echoes: dict[int, Unit] = field(default_factory=dict[int, Unit])


@dataclass(frozen=True, slots=True)
class _Shown:
    """A hit and how it was fused."""

    hit: SearchHit
    fused: Fused


def find_scope(
    tx: Transaction, scope: SearchScope, *, path_prefix: str | None, exclude_session: tuple[str, int] | None
) -> SearchScope:
    """The scope with its places looked up."""
    if exclude_session is not None:
        session_id, from_line = exclude_session
        document = tx.value("find_document", agent_id=scope.agent_id, path=session_path(session_id))
        if document is not None:
            shown_to = tx.value("last_chunk_before", document_id=document, line=from_line)
            scope = replace(scope, hidden=(int(document), from_line), shown_to=int(shown_to or 0))
    if path_prefix is None:
        return scope
    low, high = path_prefix, path_prefix + HIGHEST
    rows = tx.tuples("find_documents_below", agent_id=scope.agent_id, low=low, high=high, limit=SCOPED_DOCUMENTS_MAX)
    return replace(scope, paths=(low, high), document_ids=frozenset(row[0] for row in rows))


def lexical_candidates(tx: Transaction, words: Sequence[str], scope: SearchScope, rows: int, limit: int) -> Lexical:
    """The chunks that hold words of the question, of at most `RANKED_ROWS_MAX` rows that are ranked."""
    bound = min(common_from(rows), RANKED_ROWS_MAX)
    matches = json.dumps([_scoped([word], scope) for word in words], ensure_ascii=False)
    counts = dict(zip(words, tx.packed("count_rows_with", matches=matches, bound=bound + 1), strict=True))
    chosen, all_common = choose_words(counts, bound)
    if not chosen:
        return Lexical(words=tuple(words), rows_with=counts, rows=rows)
    match = _scoped(chosen, scope)
    first = 0
    reason = ""
    if all_common and rows > RANKED_ROWS_MAX:
        first = tx.value("newest_with", match=match, rows=RANKED_ROWS_MAX)
        reason = f"words: every one stands in too many places; looked through the newest {RANKED_ROWS_MAX:,} of them"
    low, high = scope.paths or ("", "")
    hidden_document, _ = scope.hidden or (0, 0)
    found = tx.packed(
        "rank_fulltext",
        match=match,
        header_weight=HEADER_WEIGHT,
        first=first,
        hidden_document=hidden_document,
        shown_to=scope.shown_to,
        agent_id=scope.agent_id,
        low=low,
        high=high,
        limit=limit,
    )
    chunks = tuple((row[0], -row[1]) for row in found)
    asked = tuple(word for word in words if word in chosen or not counts[word])
    return Lexical(chunks, asked, counts, rows, reason, first)


def choose_words(counts: Mapping[str, int], bound: int) -> tuple[list[str], bool]:
    """The words to look up, rarest first, given in how many rows each stands; and whether all of them are common.

    A word in more than `bound` rows is common and says too little; the others are taken while their rows together stay
    below `RANKED_ROWS_MAX`. When every word is common, all of them are looked up.
    """
    known = sorted((word for word, rows in counts.items() if rows), key=lambda word: counts[word])
    rare = [word for word in known if counts[word] <= bound]
    if not rare:
        return known[:TERMS_MAX], True
    room = RANKED_ROWS_MAX - counts[rare[0]]
    chosen = rare[:1]
    for word in rare[1:TERMS_MAX]:
        room -= counts[word]
        if room < 0:
            break
        chosen.append(word)
    return chosen, False


def common_from(rows: int) -> int:
    """The number of rows above which a word says too little: half of a small index, a twentieth of a large one."""
    return max(FEW_ROWS, min(int(rows * COMMON_SHARE), max(MANY_ROWS, int(rows * COMMON_SHARE_OF_MANY))))


def rank(tx: Transaction, lexical: Lexical, scan: VectorScan | None, scope: SearchScope, ranking: Ranking) -> Places:
    """Fuse both signals and show the best hits."""
    tuning = ranking.tuning
    weight = {word: lexical.weight_of([word]) for word in lexical.words}
    units = _gathered(tx, lexical, weight, scan, scope, ranking)
    words = fusion.held_words(units.words, weight, units.bm25, tuning.bm25_share)
    own_words = {unit: sum(scores.values()) for unit, scores in words.items()}
    semantic = _stand_out(units.similarity, scan)
    weights = fusion.weigh(own_words, tuning)
    own = fusion.own_scores(own_words, semantic, weights)
    _add_neighbours(tx, units, own, scope, of=2 * ranking.limit + SPARE_HITS, reach=tuning.reach)
    _age(tx, units, ranking)
    signals = Signals(words, semantic, units.facts, weights, ranking.subject, tuning)
    hits = _shown(tx, units, fusion.fuse(signals, ranking.limit + SPARE_HITS), weights)
    kept = _distinct(hits, tuning.mmr_lambda, ranking.limit)
    return Places(_scored(kept, units, lexical, _best_similarity(units, scan), ranking.min_score), weights)


def _anywhere(words: Iterable[str]) -> str:
    """An expression for any of the words, outside the scope column."""
    return f"{{body header}} : ({' OR '.join(map(quoted, words))})"


def _scoped(words: Iterable[str], scope: SearchScope) -> str:
    if scope.everything:
        return _anywhere(words)
    allowed = " OR ".join(quoted(scope_word(scope.agent_id, source)) for source in sorted(scope.sources))
    return f"scope : ({allowed}) AND {_anywhere(words)}"


def _gathered(
    tx: Transaction,
    lexical: Lexical,
    weight: Mapping[str, float],
    scan: VectorScan | None,
    scope: SearchScope,
    ranking: Ranking,
) -> _Units:
    """The candidates of both signals by unit.

    Of a unit's chunks the one with the best words counts and is shown; for meaning the most similar one counts.
    """
    bm25 = dict(lexical.chunks)
    similar = {} if scan is None else scan.estimate(list(bm25)) | dict(scan.best)
    ids = list(bm25.keys() | similar.keys())
    words = _words_held(tx, lexical, scope, ids)
    units = _Units()
    shown: dict[Unit, tuple[float, float, float]] = {}
    for chunk_id, document_id, number, said_by, chars, is_echo, asks in tx.packed(
        "find_places", ids=json.dumps(ids), echo=ranking.echo, short_chars=ranking.tuning.short_chars
    ):
        unit = fusion.unit_of(document_id, number)
        if is_echo:
            units.echoes[chunk_id] = unit
            continue
        units.facts[unit] = UnitFacts(said_by, chars, bool(asks))
        similarity = similar.get(chunk_id, NO_SIMILARITY)
        merit = (sum(map(weight.__getitem__, words[chunk_id])), bm25.get(chunk_id, 0.0), similarity)
        if unit not in shown or merit > shown[unit]:
            shown[unit] = merit
            units.chunks[unit] = chunk_id
            units.words[unit] = words[chunk_id]
            units.bm25[unit] = merit[1]
        if similarity > units.similarity.get(unit, NO_SIMILARITY):
            units.similarity[unit] = similarity
    return units


def _words_held(
    tx: Transaction, lexical: Lexical, scope: SearchScope, chunk_ids: Sequence[int]
) -> dict[int, list[str]]:
    """Which of the question's words each chunk holds; of very many words only the rarest are located."""
    held: dict[int, list[str]] = {chunk_id: [] for chunk_id in chunk_ids}
    known = [word for word in lexical.words if lexical.rows_with[word]]
    located = sorted(known, key=lambda word: lexical.rows_with[word])[:WORDS_LOCATED_MAX]
    if lexical.chunks and located:
        matches = json.dumps([_scoped([word], scope) for word in located], ensure_ascii=False)
        ids = json.dumps(list(chunk_ids))
        found: list[tuple[int, int]] = tx.packed("locate_words", matches=matches, ids=ids, first=lexical.first)
        for at, chunk_id in found:
            held[chunk_id].append(located[at])
    return held


def _best_similarity(units: _Units, scan: VectorScan | None) -> float:
    """How similar the best chunk is that does not only repeat the question."""
    if scan is None:
        return 0.0
    return next((similarity for chunk_id, similarity in scan.best if chunk_id not in units.echoes), 0.0)


def _stand_out(similarity: Mapping[Unit, float], scan: VectorScan | None) -> dict[Unit, float]:
    """How far each unit's similarity stands out, where it does."""
    if scan is None:
        return {}
    return fusion.z_scores(similarity, scan.mean, scan.spread, scan.count)


def _add_neighbours(
    tx: Transaction, units: _Units, own: Mapping[Unit, float], scope: SearchScope, *, of: int, reach: int
) -> None:
    """Let the units near the best ones be hits too."""
    best = heapq.nlargest(of, own, key=lambda unit: (own[unit], -unit))
    known = units.facts.keys() | units.echoes.values()
    steps = [step for step in range(-reach, reach + 1) if step]
    beside = {unit + step for unit in best for step in steps if unit + step not in known}
    wanted = json.dumps([fusion.place_of(unit) for unit in sorted(beside)])
    for chunk_id, document_id, number, said_by, chars, line in tx.packed("find_units", units=wanted):
        if not scope.hides(document_id, line):
            unit = fusion.unit_of(document_id, number)
            units.facts[unit] = UnitFacts(said_by, chars)
            units.chunks[unit] = chunk_id


def _age(tx: Transaction, units: _Units, ranking: Ranking) -> None:
    """Note how much each unit has faded, if memories fade at all."""
    half_life = ranking.tuning.half_life_days
    if half_life <= 0:
        return
    unit_of_chunk = {units.chunks[unit]: unit for unit in units.facts}
    for chunk_id, path, created_at in tx.packed("find_dates", ids=json.dumps(list(unit_of_chunk))):
        unit = unit_of_chunk[chunk_id]
        fresh = fresh_share(path, created_at, ranking.now_ms, half_life)
        units.facts[unit] = units.facts[unit]._replace(fresh=fresh)


def _shown(tx: Transaction, units: _Units, ranked: Sequence[Fused], weights: Weights) -> list[_Shown]:
    """The hits with their texts; of equal texts only the best hit stays."""
    rows = {row["id"]: row for row in tx.packed("find_chunks", ids=json.dumps([units.chunks[f.unit] for f in ranked]))}
    shown: dict[str, _Shown] = {}
    for fused in ranked:
        row = rows.get(units.chunks[fused.unit])
        if row is not None and row["text"] not in shown:
            shown[row["text"]] = _Shown(_hit(row, fused, weights, units.similarity.get(fused.unit)), fused)
    return list(shown.values())


def _distinct(hits: Sequence[_Shown], relevance_share: float, limit: int) -> list[_Shown]:
    """The hits to keep, best first, each chosen for its score and for what the others do not say yet."""
    if limit > DIVERSE_HITS_MAX:
        return list(hits[:limit])
    scores, texts = [shown.hit.score for shown in hits], [shown.hit.text for shown in hits]
    return [hits[at] for at in sorted(diverse(scores, texts, relevance_share, limit))]


def _hit(row: Row, fused: Fused, weights: Weights, similarity: float | None) -> SearchHit:
    source: MemorySource = row["source"]
    parts = {
        "lexical": round(fused.lexical, 4),
        "semantic": round(fused.semantic, 4),
        "semantic_weight": round(weights.semantic, 4),
        "context": round(fused.context, 4),
        "speaker_factor": fused.speaker_factor,
        "question_factor": fused.question_factor,
        "fresh": round(fused.fresh, 4),
        "fused": fused.score,
    }
    if similarity is not None:
        parts["similarity"] = round(similarity, 4)
    when = row["said_on"] or (iso_minute(row["created_at"]) if source == "sessions" else "")
    return SearchHit(
        source=source,
        path=row["path"],
        start_line=row["start_line"],
        end_line=row["end_line"],
        text=row["text"],
        score=fused.score,
        parts=parts,
        when=when,
        speaker=row["speaker"] or row["said_by"],
        session_id=row["session_id"],
        provenance=row["provenance"],
    )


def _scored(
    hits: Sequence[_Shown], units: _Units, lexical: Lexical, similarity: float, min_score: float
) -> tuple[SearchHit, ...]:
    """Publish scores from 0 to 1: the fused score beside the best one's, times how sure the search is of that."""
    if not hits:
        return ()
    held = [units.words.get(shown.fused.unit, []) for shown in hits]
    covered = max(map(lexical.weight_of, held))
    sure = fusion.confidence(covered, lexical.weight_of(lexical.words), similarity)
    top = hits[0].hit.score
    published: list[SearchHit] = []
    for shown, words in zip(hits, held, strict=True):
        score = sure * shown.hit.score / top
        published.append(
            replace(shown.hit, score=score, reason=_reason(shown, words, uncertain=score < UNCERTAIN_BELOW))
        )
    published.sort(key=lambda hit: (-hit.score, hit.path, hit.start_line))
    return tuple(hit for hit in published if hit.score >= min_score)


def _reason(shown: _Shown, words: Sequence[str], *, uncertain: bool) -> str:
    """The parts of a score in words."""
    parts: dict[str, Any] = shown.hit.parts
    said: list[str] = []
    if words:
        said.append(f"words {', '.join(words)} ({parts['lexical']:.2f})")
    if parts["semantic"]:
        said.append(f"meaning {parts['semantic']:.1f} × {parts['semantic_weight']:.2f}")
    if parts["context"]:
        nearby = f" with {', '.join(shown.fused.nearby)}" if shown.fused.nearby else ""
        said.append(f"neighbours{nearby} {parts['context']:.2f}")
    for part, name in (("speaker_factor", "another speaker"), ("question_factor", "a question"), ("fresh", "its age")):
        if parts[part] != 1:
            said.append(f"{name} × {parts[part]:.2f}")
    return " + ".join(said) + (", uncertain" if uncertain else "")
