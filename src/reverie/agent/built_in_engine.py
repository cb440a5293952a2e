"""The built-in context engine: the history from a point on that moves rarely, and summaries by rule where it must.

It answers the questions of the contract, as every engine does; it is asked directly, because it blocks nothing. What
it shows is a pure function (`context/engine.py` `windowed`), what it compacts is the `Compactor`'s. It learns nothing
from `ingest`: the transcript is all it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.context.contract import BUILT_IN_INFO, Compacted
from reverie.context.engine import windowed

if TYPE_CHECKING:
    from reverie.agent.compaction import Compactor
    from reverie.context.compaction.budget import Load
    from reverie.context.contract import (
        AfterTurnRequest,
        Assembled,
        AssembleRequest,
        CompactRequest,
        EngineInfo,
        IngestRequest,
    )
    from reverie.engines.engine import Engine


class BuiltInEngine:
    """Without a `compactor` it only shows: for the sessions of an engine that owns their compaction."""

    def __init__(self, compactor: Compactor | None) -> None:
        self._compactor = compactor

    @property
    def info(self) -> EngineInfo:
        """`builtin`."""
        return BUILT_IN_INFO

    @property
    def fallback(self) -> Engine:
        """There is none below it."""
        return self

    async def ingest(self, request: IngestRequest) -> bool:  # noqa: ARG002 (an operation of the contract)
        """Nothing: what is in the transcript is known."""
        return False

    async def assemble(self, request: AssembleRequest) -> Assembled:
        """The history from `history_start` on; where it exceeds its room it begins later, once."""
        return windowed(request.messages, request.history_start, request.token_budget)

    async def compact(self, request: CompactRequest) -> Compacted:
        """Let a summary by rule stand for the messages up to `leaving_seq`; no model is called.

        Raises:
            StorageError: the record could not be read or written.
        """
        if self._compactor is None or request.leaving_seq is None:
            return Compacted(ok=True, compacted=False, reason="nothing is compacted here")
        base = await self._compactor.standing(request.session.id)
        cause = "overflow" if request.cause == "overflow" else "preflight"
        summary = await self._compactor.rescue(request.session.id, base, request.leaving_seq, cause)
        if summary is None:
            return Compacted(ok=True, compacted=False, reason="there is nothing to summarise")
        return Compacted(ok=True, compacted=True, summary=summary.text, first_kept=summary.last_seq + 1)

    def turn_ended(self, ended: AfterTurnRequest, load: Load) -> None:
        """The session is looked at in the background: it may be full enough for a summary."""
        if self._compactor is not None:
            self._compactor.turn_ended(ended.session.id, load)
