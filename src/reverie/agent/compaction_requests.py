"""A person asks for a compaction: of the built-in kind, or of the context engine that owns compaction.

The built-in kind is prepared in the background, and what is asked for is told at once. An engine is asked there and
then; what it raises reaches whoever asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.context.contract import CompactRequest, EngineMessage, EngineSession
from reverie.errors import NothingToCompactError
from reverie.sessions.compactions import Compaction

if TYPE_CHECKING:
    from reverie.agent.compaction import Compactor
    from reverie.context.contract import Compacted
    from reverie.engines.runtime import Engines
    from reverie.llm.tokens import TokenEstimator
    from reverie.sessions.compactions import Compactions, SessionLoad
    from reverie.sessions.turns import TurnStore


class CompactionRequests:
    """Takes requests for compactions."""

    def __init__(
        self,
        compactor: Compactor,
        record: Compactions,
        turns: TurnStore,
        engines: Engines,
        estimator: TokenEstimator,
        messages_max: int,
    ) -> None:
        self._compactor = compactor
        self._record = record
        self._turns = turns
        self._engines = engines
        self._estimator = estimator
        self._messages_max = messages_max

    async def request(self, key: str, focus: str = "") -> Compaction:
        """Ask for a compaction of the session a key leads to, down to its last turn; the one under way, if any.

        Raises:
            NothingToCompactError: there is no such session, nothing before its last turn, or the engine sees no need.
            EngineUnsupportedError: the engine cannot be asked for it.
            EngineError: the engine failed.
        """
        session_id = await self._record.current_session(key)
        load = None if session_id is None else await self._record.load(session_id)
        if load is None or not self._engines.owns_compaction(load.agent):
            return await self._compactor.request(key, focus)
        return await self._of_engine(load, focus)

    async def _of_engine(self, load: SessionLoad, focus: str) -> Compaction:
        self._engines.require(load.agent, "manual-compact")
        session = EngineSession(load.session_id, load.key, load.agent)
        entries = await self._turns.in_view(load.session_id, history_max=self._messages_max)
        engine = self._engines.of(session)
        request = CompactRequest(
            session=session,
            messages=tuple(
                EngineMessage(each.message, each.seq, self._estimator.message(each.message), each.joined)
                for each in entries
            ),
            token_budget=self._compactor.budget.keep,
            cause="manual",
            force=True,
            tokens=load.prompt_tokens or 0,
            instructions=focus,
        )
        done = await engine.compact(request)
        if not done.compacted:
            why = done.reason or "it gave no reason"
            raise NothingToCompactError(f"The context engine {engine.info.id!r} did not compact this: {why}.")
        newest = await self._record.newest(load.session_id) if done.summary and done.first_kept else None
        return newest or _kept_by_engine(load, focus, done, engine.info.id)


def _kept_by_engine(load: SessionLoad, focus: str, done: Compacted, engine: str) -> Compaction:
    """What an engine keeps to itself, as far as it can be shown: it stands in no record of ours."""
    return Compaction(
        id=f"kept-by-{engine}",
        session_id=load.session_id,
        key=load.key,
        agent=load.agent,
        state="adopted",
        cause="manual",
        base_id=load.compaction_id,
        first_seq=0,
        last_seq=0,
        focus=focus,
        summary="",
        audit={"by": engine, "kept_by_engine": True},
        flushed_to=None,
        tokens_before=done.tokens_before,
        tokens_after=done.tokens_after,
        attempts=1,
        error=None,
        created_at_ms=0,
        adopted_at_ms=0,
    )
