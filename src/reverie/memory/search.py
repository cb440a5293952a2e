"""One search: the words and the meaning of a question, looked up side by side, fused, and shown with their places.

    words    full text, at most 100 chunks ┐
                                           ├─ fusion over units ─ hits with citations
    meaning  vectors, at most 100 chunks   ┘

A signal that fails or is late is left out and named in `reasons`; a search never fails because of the embedder.

Invariants: filters hold before anything is scored; no list is longer than its bound, however large the index is; the
same index gives the same answer, before and after a restart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from reverie.errors import EmbedderError
from reverie.memory import fusion
from reverie.memory.candidates import Lexical, Places, Ranking, SearchScope, find_scope, lexical_candidates, rank
from reverie.memory.fusion import TUNING, Tuning
from reverie.memory.passages import message_hash
from reverie.memory.text import words_for_query

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from reverie.clock import Clock
    from reverie.memory.figures import IndexFigures
    from reverie.memory.scope import VectorScan
    from reverie.memory.semantic import SemanticIndex
    from reverie.storage.database import Database
    from reverie.types import MemorySource, SearchHit

T = TypeVar("T")

CANDIDATES = 100
HITS_MAX = 100
EMBEDDED_QUERY_CHARS_MAX = 4_000
SHARE_FOR_MEANING = 0.8
"""The part of the time left that meaning may take."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is asked, by whom, and what may be looked at.

    `path_prefix` limits the search to paths that start with it. `exclude_session` leaves out a session's messages from
    a number on, because the asker has them before their eyes; `exclude_echo` leaves out messages in exactly the
    query's words, because a question asked before is no answer to it. After `deadline_ms` what was found so far is
    returned. `semantic` False looks up words only. `candidates` is how many places each signal may name: fewer cost
    less and find a little less. `tuning` replaces what the signals count, for measurements.
    """

    text: str
    agent: str
    limit: int = 10
    sources: tuple[MemorySource, ...] = ("memory", "sessions")
    min_score: float = 0.0
    path_prefix: str | None = None
    exclude_session: tuple[str, int] | None = None
    exclude_echo: bool = False
    deadline_ms: int | None = None
    semantic: bool = True
    candidates: int = CANDIDATES
    tuning: Tuning | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found.

    `partial` says that a signal is missing, `reasons` which and why; `weights` what each signal counted, and
    `weights_reason` why it did. `certainty` is how sure the search is of its best hit, 0 to 1: below about 0.3 the
    answer is likely not in memory.
    """

    hits: tuple[SearchHit, ...] = ()
    partial: bool = False
    reasons: tuple[str, ...] = ()
    took_ms: float = 0.0
    weights: dict[str, float] = field(default_factory=dict[str, float])
    weights_reason: str = ""
    certainty: float = 0.0


class MemorySearch:
    """Searches one index. `semantic` None: by words only, because no embedder is configured."""

    def __init__(
        self,
        database: Database,
        semantic: SemanticIndex | None,
        figures: IndexFigures,
        clock: Clock,
        tuning: Tuning = TUNING,
    ) -> None:
        self._database = database
        self._semantic = semantic
        self._figures = figures
        self._clock = clock
        self._tuning = tuning

    async def search(self, query: SearchQuery) -> SearchResult:
        """The best hits for a query, best first; equal scores in path order.

        Raises:
            StorageError: the index could not be read.
        """
        started = self._clock.monotonic_s()
        reasons: list[str] = []
        outcome = None
        try:
            async with asyncio.timeout(None if query.deadline_ms is None else query.deadline_ms / 1000) as deadline:
                outcome = await self._found(query, deadline.when(), reasons)
        except TimeoutError:
            reasons.append(f"search: not finished within {query.deadline_ms} ms")
        took_ms = (self._clock.monotonic_s() - started) * 1000
        if outcome is None:
            return SearchResult(partial=bool(reasons), reasons=tuple(reasons), took_ms=took_ms)
        weights = {"lexical": outcome.weights.lexical, "semantic": round(outcome.weights.semantic, 4)}
        return SearchResult(
            outcome.hits,
            bool(reasons),
            tuple(reasons),
            took_ms,
            weights,
            weights_reason=outcome.weights.reason,
            certainty=outcome.certainty,
        )

    async def _found(self, query: SearchQuery, deadline: float | None, reasons: list[str]) -> Places | None:
        agent_id = self._figures.agent_id(query.agent)
        if not query.text.strip() or not query.sources or agent_id is None:
            return None
        scope = await self._scope(query, agent_id)
        words = words_for_query(query.text)
        lexical, scan = await self._signals(query, scope, words, deadline, reasons)
        subject = fusion.subject_of(query.text, words, self._figures.speakers(agent_id))
        ranking = Ranking(
            subject,
            limit=max(1, min(query.limit, HITS_MAX)),
            min_score=query.min_score,
            echo=message_hash(query.text) if query.exclude_echo else b"",
            tuning=query.tuning or self._tuning,
            now_ms=self._clock.now_ms(),
        )
        return await self._database.read(lambda tx: rank(tx, lexical, scan, scope, ranking))

    async def _scope(self, query: SearchQuery, agent_id: int) -> SearchScope:
        """What the query may see; the index is asked only when a filter names a place."""
        sources = frozenset(query.sources)
        everything = self._figures.is_everything(sources)
        if query.path_prefix is None and query.exclude_session is None:
            return SearchScope(agent_id, sources, everything=everything)
        return await self._database.read(
            lambda tx: find_scope(
                tx,
                SearchScope(agent_id, sources, everything=everything),
                path_prefix=query.path_prefix,
                exclude_session=query.exclude_session,
            )
        )

    async def _signals(
        self,
        query: SearchQuery,
        scope: SearchScope,
        words: tuple[str, ...],
        deadline: float | None,
        reasons: list[str],
    ) -> tuple[Lexical, VectorScan | None]:
        """Both lookups at once; meaning gives up a little before the deadline, so that words can still be shown."""
        rows = self._figures.chunks
        by_meaning = asyncio.create_task(self._by_meaning(query, scope, deadline, reasons))
        try:
            lexical = await self._database.read(lambda tx: lexical_candidates(tx, words, scope, rows, query.candidates))
            if lexical.reason:
                reasons.append(lexical.reason)
            return lexical, await by_meaning
        finally:
            by_meaning.cancel()

    async def _by_meaning(
        self, query: SearchQuery, scope: SearchScope, deadline: float | None, reasons: list[str]
    ) -> VectorScan | None:
        semantic = self._semantic
        if semantic is None or not query.semantic:
            return None
        if semantic.warming and deadline is not None:
            reasons.append("semantic: the embedder is still loading")
            return None
        try:
            text = embedded_part(query.text)
            scan = await _until(deadline, semantic.scan(text, scope.for_vectors(), query.candidates))
        except EmbedderError as error:
            reasons.append(f"semantic: embedder failed: {error}")
            return None
        except TimeoutError:
            reasons.append(f"semantic: not ready within {query.deadline_ms} ms")
            return None
        if semantic.paused_reason:
            reasons.append(f"semantic: {semantic.paused_reason}")
        elif semantic.vectors is not None and not semantic.vectors.loaded:
            reasons.append("semantic: vectors still loading")
        return scan


def embedded_part(text: str) -> str:
    """The part of a question that is embedded."""
    return text[:EMBEDDED_QUERY_CHARS_MAX]


async def _until(deadline: float | None, work: Coroutine[object, object, T]) -> T:
    if deadline is None:
        return await work
    now = asyncio.get_running_loop().time()
    async with asyncio.timeout_at(now + (deadline - now) * SHARE_FOR_MEANING):
        return await work
