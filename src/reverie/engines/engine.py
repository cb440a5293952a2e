"""A context engine as a turn sees it: the operations of the contract, to be awaited on the event loop.

Two kinds fit it: the built-in engine (`agent/built_in_engine.py`), which is asked directly, and engines of others
(`hosted.py`), each on threads of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from reverie.context.compaction.budget import Load
    from reverie.context.contract import (
        AfterTurnRequest,
        Assembled,
        AssembleRequest,
        Compacted,
        CompactRequest,
        EngineInfo,
    )


class Engine(Protocol):
    """What decides which part of a conversation a prompt shows."""

    @property
    def info(self) -> EngineInfo:
        """Who it is."""
        ...

    @property
    def fallback(self) -> Engine:
        """What a turn goes on with when this one failed; the built-in engine has itself."""
        ...

    async def assemble(self, request: AssembleRequest) -> Assembled:
        """What the prompt shows. `estimated_tokens` of the answer and of its messages are Reverie's.

        Raises:
            EngineError: it did not do it. Its `fallback` will.
        """
        ...

    async def compact(self, request: CompactRequest) -> Compacted:
        """Make a conversation smaller. A summary that came of it stands in the record when this returns.

        Raises:
            EngineError: it did not do it.
            StorageError: what came of it could not be recorded.
        """
        ...

    def turn_ended(self, ended: AfterTurnRequest, load: Load) -> None:
        """A turn is answered and on disk. Nobody waits; the session's next turn may."""
        ...
