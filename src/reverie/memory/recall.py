"""What a search surfaced, and to whom: the evidence from which it is later learned what is worth keeping.

One write per search. Bounded: at most `events_max` searches are kept, the oldest give way as new ones arrive. Whoever
learns from searches (`AlsoRecorded`) writes in a transaction of its own, a moment later: an answer waits for the first.
`aclose` waits for it. A `kill -9` in that moment costs one count, never the record of the search.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

from reverie.memory.forgetting import Place
from reverie.memory.text import clean, collapse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.storage.database import Database, Transaction
    from reverie.types import JsonObject, SearchHit

log = structlog.get_logger(__name__)

RecallKind = Literal["turn", "tool", "cli", "api"]

QUERY_CHARS_MAX = 1_000
SNIPPET_CHARS_MAX = 240
HITS_MAX = 50


@dataclass(frozen=True, slots=True)
class RecallNote:
    """A search that reached a person or a model: who asked what, what it surfaced, best first, and when (ms)."""

    kind: RecallKind
    agent: str
    query: str
    hits: Sequence[SearchHit]
    at_ms: int


AlsoRecorded = Callable[["Transaction", RecallNote], None]
"""What else is written of a search, in a transaction of its own."""
LEFT_OUT_MAX = 1_000
LEARNED_LATER_MAX = 256
"""So many searches may wait to be learned from; beyond that the caller waits."""


class RecallEvidence:
    """Records searches in state.db, and has others record what they make of them."""

    def __init__(self, state_db: Database, clock: Clock, events_max: int, also: AlsoRecorded | None = None) -> None:
        self._state_db = state_db
        self._clock = clock
        self._events_max = events_max
        self._also = also
        self._learning: set[asyncio.Task[None]] = set()
        self._gone: dict[str, Place] = {}

    def leave_out(self, places: Sequence[Place]) -> None:
        """From now on nothing is recorded of these places: a search that is under way may still have found them.

        Only for conversations, whose numbers are never given out again. Searches take seconds at most, so only the
        newest `LEFT_OUT_MAX` conversations are held.
        """
        for place in places:
            known = self._gone.pop(place.path, Place(place.path, frozenset()))
            lines = None if known.lines is None or place.lines is None else known.lines | place.lines
            self._gone[place.path] = Place(place.path, lines)
        for path in list(self._gone)[: max(0, len(self._gone) - LEFT_OUT_MAX)]:
            del self._gone[path]

    def _is_gone(self, hit: SearchHit) -> bool:
        place = self._gone.get(hit.path)
        return place is not None and place.holds(hit.start_line, hit.end_line)

    async def record(
        self,
        kind: RecallKind,
        agent: str,
        query: str,
        hits: Sequence[SearchHit],
        *,
        session_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Remember that a query surfaced these hits; a search without hits is remembered too.

        Raises:
            StorageError: it could not be written.
        """
        kept = [hit for hit in hits if not self._is_gone(hit)] if self._gone else hits
        note = RecallNote(kind, agent, query, tuple(kept[:HITS_MAX]), self._clock.now_ms())
        event: JsonObject = {
            "at": note.at_ms,
            "agent": agent,
            "session_id": session_id,
            "turn_id": turn_id,
            "kind": kind,
            "query": clean(collapse(query[:QUERY_CHARS_MAX])),
            "hits": len(kept),
        }
        surfaced = json.dumps([_as_row(rank, hit) for rank, hit in enumerate(note.hits, 1)])

        await self._state_db.write(lambda tx: _record(tx, event, surfaced, self._events_max))
        if self._also is not None and note.hits:
            if len(self._learning) >= LEARNED_LATER_MAX:
                await self.settle()
            task = asyncio.create_task(self._learn(self._also, note), name="learn from a search")
            self._learning.add(task)
            task.add_done_callback(self._learning.discard)

    async def settle(self) -> None:
        """Wait until what was recorded has been learned from."""
        if self._learning:
            await asyncio.wait(self._learning)

    async def aclose(self) -> None:
        """As `settle`; to be called before the database is closed."""
        await self.settle()

    async def _learn(self, also: AlsoRecorded, note: RecallNote) -> None:
        try:
            await self._state_db.write(lambda tx: also(tx, note))
        except Exception:  # a named border: the search is on record, and nobody waits for what is made of it
            log.exception("a search was recorded and not learned from", action="recall_unlearned")


def _record(tx: Transaction, event: JsonObject, surfaced: str, events_max: int) -> None:
    event_id = tx.insert("add_recall_event", **event)
    tx.execute("add_recall_hits", event_id=event_id, hits=surfaced)
    tx.execute("prune_recall_events", oldest=event_id - events_max)


def _as_row(rank: int, hit: SearchHit) -> JsonObject:
    return {
        "rank": rank,
        "source": hit.source,
        "path": hit.path,
        "start_line": hit.start_line,
        "end_line": hit.end_line,
        "score": round(hit.score, 4),
        "snippet": collapse(hit.text[: 2 * SNIPPET_CHARS_MAX])[:SNIPPET_CHARS_MAX],
    }
