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
from reverie.memory.fusion import Fused, Unit, UnitFacts, Weights
from reverie.memory.passages import scope_word
from reverie.memory.scope import Scope
from reverie.memory.store import session_path
from reverie.memory.text import TERMS_MAX, quoted
from reverie.types import SearchHit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reverie.memory.scope import VectorScan
    from reverie.storage.database import Row, Transaction
    from reverie.types import Source

COMMON_SHARE = 0.50
COMMON_SHARE_OF_MANY = 0.05
FEW_ROWS = 10
MANY_ROWS = 1_000
RANKED_ROWS_MAX = 20_000
"""Rows that one search ranks by their words, however large the index is; a row costs about a microsecond."""
HEADER_WEIGHT = 0.5
SPARE_HITS = 10
RARE_ROWS_MAX = 500
SCOPED_DOCUMENTS_MAX = 10_000
NO_SIMILARITY = -1.0
HIGHEST = "\U0010ffff"
NEWEST = 2**62
"""Beyond every chunk id."""


@dataclass(frozen=True, slots=True)
class SearchScope:
    """What a search may see. `everything`: the agent and sources exclude nothing that the index holds.

    `hidden` is a document of which lines from a number on are left out, `shown_to` its last chunk before them; `paths`
    a range of paths, with the documents in it.
    """

    agent_id: int
    sources: frozenset[Source]
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
    `reason` says what was left out of a large index, and is empty when nothing was.
    """

    chunks: tuple[tuple[int, float], ...] = ()
    words: tuple[str, ...] = ()
    rows_with: dict[str, int] = field(default_factory=dict[str, int])
    rows: int = 0
    reason: str = ""

    def weight_of(self, words: Iterable[str]) -> float:
        """How much some of the words tell, together."""
        return sum(fusion.term_weight(self.rows_with.get(word, 0), self.rows) for word in words)


@dataclass(frozen=True, slots=True)
class Places:
    """The hits of a search and the weights they were fused with."""

    hits: tuple[SearchHit, ...]
    weights: Weights


@dataclass(slots=True)
class _Units:
    """The candidates by unit: their signals, what is known of them, and the chunk that shows each best.

    `echoes` are the chunks that only repeat the question; their units are no candidates.
    """

    lexical: dict[Unit, float] = field(default_factory=dict[Unit, float])
    similarity: dict[Unit, float] = field(default_factory=dict[Unit, float])
    facts: dict[Unit, UnitFacts] = field(default_factory=dict[Unit, UnitFacts])
    chunks: dict[Unit, int] = field(default_factory=dict[Unit, int])
    echoes: dict[int, Unit] = field(default_factory=dict[int, Unit])


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
    return Lexical(chunks, asked, counts, rows, reason)


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


def rank(
    tx: Transaction,
    lexical: Lexical,
    scan: VectorScan | None,
    scope: SearchScope,
    *,
    subject: str | None,
    limit: int,
    min_score: float,
    echo: bytes = b"",
) -> Places:
    """Fuse both signals and show the best hits, without the messages whose content hash is `echo`."""
    units = _gathered(tx, lexical, scan, echo)
    normal = fusion.max_normalised(units.lexical)
    semantic = _stand_out(units.similarity, scan)
    weights = fusion.weigh(normal)
    own = fusion.own_scores(normal, semantic, weights)
    _add_neighbours(tx, units, own, scope, of=2 * limit + SPARE_HITS)
    ranked = fusion.fuse(normal, semantic, own, units.facts, subject, limit + SPARE_HITS)
    hits = _shown(tx, units, ranked, weights)
    best = (
        next((similarity for chunk_id, similarity in scan.best if chunk_id not in units.echoes), 0.0) if scan else 0.0
    )
    return Places(_scored(tx, hits[:limit], lexical, best, min_score), weights)


def _anywhere(words: Iterable[str]) -> str:
    """An expression for any of the words, outside the scope column."""
    return f"{{body header}} : ({' OR '.join(map(quoted, words))})"


def _scoped(words: Iterable[str], scope: SearchScope) -> str:
    if scope.everything:
        return _anywhere(words)
    allowed = " OR ".join(quoted(scope_word(scope.agent_id, source)) for source in sorted(scope.sources))
    return f"scope : ({allowed}) AND {_anywhere(words)}"


def _gathered(tx: Transaction, lexical: Lexical, scan: VectorScan | None, echo: bytes) -> _Units:
    """The candidates of both signals by unit.

    Of a unit's chunks the best one counts for each signal, and the one with the best words is shown.
    """
    words = dict(lexical.chunks)
    similar = {} if scan is None else scan.estimate(list(words)) | dict(scan.best)
    units = _Units()
    shown: dict[Unit, tuple[float, float]] = {}
    for chunk_id, document_id, number, said_by, chars, is_echo in tx.packed(
        "find_places", ids=json.dumps(list(words.keys() | similar.keys())), echo=echo
    ):
        unit = fusion.unit_of(document_id, number)
        if is_echo:
            units.echoes[chunk_id] = unit
            continue
        units.facts[unit] = UnitFacts(said_by, chars)
        merit = (words.get(chunk_id, 0.0), similar.get(chunk_id, NO_SIMILARITY))
        if unit not in shown or merit > shown[unit]:
            shown[unit] = merit
            units.chunks[unit] = chunk_id
        if merit[0] > units.lexical.get(unit, 0.0):
            units.lexical[unit] = merit[0]
        if merit[1] > units.similarity.get(unit, NO_SIMILARITY):
            units.similarity[unit] = merit[1]
    return units


def _stand_out(similarity: Mapping[Unit, float], scan: VectorScan | None) -> dict[Unit, float]:
    """How far each unit's similarity stands out, where it does."""
    if scan is None:
        return {}
    return fusion.z_scores(similarity, scan.mean, scan.spread, scan.count)


def _add_neighbours(tx: Transaction, units: _Units, own: Mapping[Unit, float], scope: SearchScope, *, of: int) -> None:
    """Let the units beside the best ones be hits too."""
    best = heapq.nlargest(of, own, key=lambda unit: (own[unit], -unit))
    known = units.facts.keys() | units.echoes.values()
    beside = {near for unit in best for near in (unit - 1, unit + 1) if near not in known}
    wanted = json.dumps([fusion.place_of(unit) for unit in sorted(beside)])
    for chunk_id, document_id, number, said_by, chars, line in tx.packed("find_units", units=wanted):
        if not scope.hides(document_id, line):
            unit = fusion.unit_of(document_id, number)
            units.facts[unit] = UnitFacts(said_by, chars)
            units.chunks[unit] = chunk_id


def _shown(tx: Transaction, units: _Units, ranked: Sequence[Fused], weights: Weights) -> list[tuple[SearchHit, int]]:
    """The hits with their texts, and the chunk of each; of equal texts only the best hit stays."""
    rows = {row["id"]: row for row in tx.packed("find_chunks", ids=json.dumps([units.chunks[f.unit] for f in ranked]))}
    shown: dict[str, tuple[SearchHit, int]] = {}
    for fused in ranked:
        row = rows.get(units.chunks[fused.unit])
        if row is not None and row["text"] not in shown:
            hit = _hit(row, fused, weights, units.similarity.get(fused.unit))
            shown[row["text"]] = (hit, row["id"])
    return list(shown.values())


def _hit(row: Row, fused: Fused, weights: Weights, similarity: float | None) -> SearchHit:
    source: Source = row["source"]
    parts = {
        "lexical": round(fused.lexical, 4),
        "semantic": round(fused.semantic, 4),
        "semantic_weight": round(weights.semantic, 4),
        "context": round(fused.context, 4),
        "speaker_factor": fused.speaker_factor,
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
    tx: Transaction, hits: Sequence[tuple[SearchHit, int]], lexical: Lexical, similarity: float, min_score: float
) -> tuple[SearchHit, ...]:
    """Publish scores from 0 to 1: the fused score beside the best one's, times how sure the search is of that."""
    if not hits:
        return ()
    found = _words_found(tx, lexical, [chunk_id for _, chunk_id in hits])
    covered = max(lexical.weight_of(words) for words in found.values())
    sure = fusion.confidence(covered, lexical.weight_of(lexical.words), similarity)
    top = hits[0][0].score
    published = [
        replace(hit, score=sure * hit.score / top, reason=_reason(hit, found[chunk_id])) for hit, chunk_id in hits
    ]
    published.sort(key=lambda hit: (-hit.score, hit.path, hit.start_line))
    return tuple(hit for hit in published if hit.score >= min_score)


def _words_found(tx: Transaction, lexical: Lexical, chunk_ids: Sequence[int]) -> dict[int, list[str]]:
    """Which of the question's words each hit holds."""
    found: dict[int, list[str]] = {chunk_id: [] for chunk_id in chunk_ids}
    if not lexical.chunks:
        return found
    ids = json.dumps(list(chunk_ids))
    for word in lexical.words:
        if held_by := lexical.rows_with[word]:
            query = "rows_with_rare_word" if held_by <= RARE_ROWS_MAX else "rows_with_common_word"
            for chunk_id in tx.packed(query, match=_anywhere([word]), ids=ids):
                found[chunk_id].append(word)
    return found


def _reason(hit: SearchHit, words: Sequence[str]) -> str:
    """The parts of a score in words."""
    parts: dict[str, Any] = hit.parts
    said: list[str] = []
    if words:
        said.append(f"words {', '.join(words)} ({parts['lexical']:.2f})")
    if parts["semantic"]:
        said.append(f"meaning {parts['semantic']:.1f} × {parts['semantic_weight']:.2f}")
    if parts["context"]:
        said.append(f"neighbours {parts['context']:.2f}")
    if parts["speaker_factor"] != 1:
        said.append(f"another speaker × {parts['speaker_factor']:.1f}")
    return " + ".join(said)
