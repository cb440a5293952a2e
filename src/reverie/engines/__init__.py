"""Context engines of others: found, made, and asked so that nothing they do reaches a turn.

Purpose: let a package decide which part of a conversation a prompt shows, in place of the built-in engine.

Invariant: an engine never runs on the event loop and never holds a turn up beyond its deadline. One that raises, is
late or answers what it may not is not asked again by this process; the turn goes on with the built-in engine, and it
is said in the log, in the session's events, in status and metrics. What an engine needs and the runtime lacks is an
error before anything runs.

Start reading at `context/contract.py` (what an engine is; its names are exported here), then `hosted.py` (how one is
asked), `runtime.py` (which agent has which).
"""

from reverie.context.contract import (
    AbortSignal,
    AfterTurnRequest,
    Assembled,
    AssembleRequest,
    BootstrapRequest,
    Capability,
    Compacted,
    CompactRequest,
    ContextEngine,
    EngineContext,
    EngineInfo,
    EngineMessage,
    EngineSession,
    HostRequirement,
    IngestBatchRequest,
    IngestRequest,
    MaintainRequest,
    Operation,
    OptionalOperations,
)
from reverie.types import Message, Projection

__all__ = [
    "AbortSignal",
    "AfterTurnRequest",
    "AssembleRequest",
    "Assembled",
    "BootstrapRequest",
    "Capability",
    "CompactRequest",
    "Compacted",
    "ContextEngine",
    "EngineContext",
    "EngineInfo",
    "EngineMessage",
    "EngineSession",
    "HostRequirement",
    "IngestBatchRequest",
    "IngestRequest",
    "MaintainRequest",
    "Message",
    "Operation",
    "OptionalOperations",
    "Projection",
]
