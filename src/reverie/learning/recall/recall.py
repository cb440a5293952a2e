"""What was learned, for a new message: found by its meaning and its words, ranked, and worded for the prompt.

    gate      what kind of message it is says which tiers are asked, if any
    look up   by meaning (vectors in memory) and by words (the database), side by side
    rank      `ranking.py`, on a thread
    word      `text.py`

No model is called, and nothing is embedded that a search of memory does not embed too. A lookup that fails, or is not
done in its part of the time, is left out and said in the log: the rest is used.

Invariant: only what is the same agent's is recalled, never what is archived or disabled, and nothing that stands in the
prompt anyway.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from reverie.errors import EmbedderError, StorageError
from reverie.learning.recall.channels import KINDS_OF, TIERS, Found, by_meaning, by_words, no_signatures, read_query
from reverie.learning.recall.hits import Asking, candidates_of, guidance_hit, hits_of, read_shelved
from reverie.learning.recall.learned_vectors import Eligible, InView, LearnedVectors
from reverie.learning.recall.ranking import Rules, rank

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.clock import Clock
    from reverie.config import LearningConfig
    from reverie.learning.recall.channels import LearnedQuery, Tier
    from reverie.learning.recall.learned_vectors import LearnedKind, LearnedVectorStatistics
    from reverie.storage import Database, Transaction
    from reverie.types import SearchHit

log = structlog.get_logger(__name__)

T = TypeVar("T")

POOL_FACTOR: Final = 4
"""So many times what may be shown of a tier is looked at."""
SHARE_FOR_LOOKUPS: Final = 0.8
"""The part of the time that lookups may take, so that what they found can still be ranked."""


def every_tier(_text: str) -> tuple[Tier, ...]:
    """Skills, traces and world models, whatever the message is."""
    return TIERS


@dataclass(frozen=True, slots=True)
class _ByMeaning:
    """The vector of a message, and what is near it."""

    vector: NDArray[np.float32] | None = None
    found: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True)
class _ByWords:
    """A message as it was read, and what holds its words."""

    query: LearnedQuery
    found: tuple[Found, ...] = ()


class LearnedRecall:
    """Recalls what was learned. Built with the state database, and the vector that memory is searched with.

    `tiers` says for a message what is asked; traces alone mean that it asks for a fact about a person. `signatures`
    finds the errors that a text quotes, as they are kept with traces. `deadline_ms` is the time a turn waits.
    """

    def __init__(
        self,
        database: Database,
        query_vector: Callable[[str], Awaitable[NDArray[np.float32] | None]],
        clock: Clock,
        config: LearningConfig,
        *,
        deadline_ms: int,
        tiers: Callable[[str], tuple[Tier, ...]] = every_tier,
        signatures: Callable[[Iterable[str]], tuple[str, ...]] = no_signatures,
    ) -> None:
        self._database = database
        self._query_vector = query_vector
        self._clock = clock
        self._config = config
        self._lookup_s = SHARE_FOR_LOOKUPS * deadline_ms / 1_000
        self._tiers = tiers
        self._signatures = signatures
        recall = config.recall
        self._eligible = Eligible(config.world_models.min_confidence, config.skills.min_eta, recall.include_low_value)
        self._limits: dict[Tier, int] = {
            "skills": recall.skills,
            "traces": recall.traces,
            "worlds": recall.world_models,
        }
        self._vectors = LearnedVectors(database, self._eligible)
        self._words_turn = asyncio.Lock()

    async def recall(
        self, agent: str, text: str, session_id: str | None, visible_from_seq: int | None = None
    ) -> tuple[SearchHit, ...]:
        """What of all that an agent has learned bears on a message: skills first, then the rest, best first.

        What a session says from `visible_from_seq` on is left out, because its prompt shows it; None: from where its
        prompts begin, as far as is known.

        Raises:
            StorageError: what was found could not be read.
        """
        tiers = self._asked_tiers(text)
        if not tiers:
            return ()
        pool, hidden = await self._database.read(
            lambda tx: self._ground(tx, agent, tiers, session_id, visible_from_seq)
        )
        if not pool:
            return ()
        meaning, words = await self._looked_up(agent, text, pool, hidden)
        if words is None:
            words = _ByWords(await asyncio.to_thread(read_query, text))
        found = (*meaning.found, *words.found)
        if not found:
            return ()
        identifiers, half_life_days = words.query.identifiers, self._config.reward.decay_half_life_days
        asking = Asking(meaning.vector, identifiers, self._clock.now_ms(), half_life_days)
        rules = self._rules(tiers, identifiers)
        return await self._database.read(lambda tx: self._chosen(tx, agent, found, asking, rules, hidden))

    async def warm(self, agent: str, dims: int) -> None:
        """Read the vectors of an agent, so that its first message need not wait for them.

        Raises:
            StorageError: they could not be read.
        """
        await self._vectors.load(agent, dims)

    def statistics(self) -> LearnedVectorStatistics:
        """What is held in memory."""
        return self._vectors.statistics()

    async def aclose(self) -> None:
        """Stop reading vectors, and wait for a lookup that was given up."""
        await self._vectors.aclose()
        async with self._words_turn:
            pass

    # -- looking up ----------------------------------------------------------------------------------------------

    def _asked_tiers(self, text: str) -> tuple[Tier, ...]:
        return tuple(tier for tier in self._tiers(text) if self._limits[tier]) if text.strip() else ()

    def _rules(self, tiers: tuple[Tier, ...], identifiers: Sequence[str]) -> Rules:
        return Rules(
            {tier: self._limits[tier] for tier in tiers},
            similarity_min=self._config.recall.min_trace_similarity,
            mmr_lambda=self._config.recall.mmr_lambda,
            personal=tiers == ("traces",),
            identifiers=bool(identifiers),
        )

    async def _looked_up(
        self, agent: str, text: str, pool: Mapping[LearnedKind, int], hidden: InView | None
    ) -> tuple[_ByMeaning, _ByWords | None]:
        """Both lookups at once; what is late or fails is left out."""
        meaning = asyncio.create_task(self._by_meaning(agent, text, pool, hidden), name="recall by meaning")
        words = asyncio.create_task(self._by_words(agent, text, pool, hidden), name="recall by words")
        try:
            await asyncio.wait({meaning, words}, timeout=self._lookup_s)
            return _outcome(meaning) or _ByMeaning(), _outcome(words)
        finally:
            meaning.cancel()
            words.cancel()

    async def _by_meaning(
        self, agent: str, text: str, pool: Mapping[LearnedKind, int], hidden: InView | None
    ) -> _ByMeaning:
        started = self._clock.monotonic_s()
        vector = await self._query_vector(text)
        if vector is None:
            return _ByMeaning()
        left_s = self._lookup_s - (self._clock.monotonic_s() - started)
        near = await self._vectors.nearest(
            agent, vector, pool, hidden=hidden, wait_s=max(0.0, SHARE_FOR_LOOKUPS * left_s)
        )
        return _ByMeaning(vector, by_meaning(near))

    async def _by_words(
        self, agent: str, text: str, pool: Mapping[LearnedKind, int], hidden: InView | None
    ) -> _ByWords:
        def look_up(tx: Transaction) -> _ByWords:
            query = read_query(text, self._signatures)
            return _ByWords(query, by_words(tx, agent, query, tuple(pool), self._eligible, hidden))

        return await self._one_by_one(look_up)

    async def _one_by_one(self, look_up: Callable[[Transaction], _ByWords]) -> _ByWords:
        """A lookup that is given up runs on in its thread: the next one waits for it, so that turns keep the others."""
        await self._words_turn.acquire()
        reading = asyncio.ensure_future(self._database.read(look_up))
        reading.add_done_callback(self._read)
        return await asyncio.shield(reading)

    def _read(self, reading: asyncio.Future[_ByWords]) -> None:
        self._words_turn.release()
        if not reading.cancelled() and isinstance(error := reading.exception(), StorageError):
            log.debug("words could not be looked up", action="learned_words_failed", cause=str(error))

    # -- on a thread of the database -----------------------------------------------------------------------------

    def _ground(
        self, tx: Transaction, agent: str, tiers: Sequence[Tier], session_id: str | None, visible_from_seq: int | None
    ) -> tuple[dict[LearnedKind, int], InView | None]:
        """How many of each kind are looked for, of kinds of which there is any; and what is in view anyway."""
        held = tx.row("kinds_learned", agent=agent, low=self._eligible.low_value) or {}
        pool: dict[LearnedKind, int] = {
            kind: POOL_FACTOR * self._limits[tier] for tier in tiers for kind in KINDS_OF[tier] if held.get(kind)
        }
        if session_id is None:
            return pool, None
        if visible_from_seq is None:
            visible_from_seq = tx.value("history_in_view", session_id=session_id)
        return pool, InView(session_id, visible_from_seq or 0)

    def _chosen(
        self,
        tx: Transaction,
        agent: str,
        found: Sequence[Found],
        asking: Asking,
        rules: Rules,
        hidden: InView | None,
    ) -> tuple[SearchHit, ...]:
        shelved = read_shelved(tx, agent, found, self._asked(hidden))
        ranked = rank(candidates_of(shelved, found, asking), rules)
        hits = hits_of(tx, agent, shelved, ranked, self._config.recall)
        guidance = guidance_hit(tx, agent, shelved, ranked)
        return hits if guidance is None else (*hits, guidance)

    def _asked(self, hidden: InView | None) -> dict[str, Any]:
        in_view = InView("", 0) if hidden is None else hidden
        return {
            "session_id": in_view.session_id,
            "visible_from": in_view.from_seq,
            **self._eligible.parameters(),
        }


def _outcome(lookup: asyncio.Task[T]) -> T | None:
    """What a lookup has found; None for one that is late or has failed, which is said."""
    if not lookup.done():
        log.info("a lookup of what was learned is late", action="learned_late", lookup=lookup.get_name())
        return None
    try:
        return lookup.result()
    except (EmbedderError, StorageError) as error:
        log.warning("a lookup of what was learned failed", action="learned_lookup_failed", lookup=lookup.get_name(),
                    cause=str(error))  # fmt: skip
        return None
