"""Plugins: code of others that is told what happens in conversations.

Purpose: hooks before and after a turn, on compaction and on reset, for packages that are named in the configuration.

Invariant: a plugin never holds up what it is told of, except `before_turn` within its deadline; it never runs on the
event loop; what it raises costs the turn nothing; without the grant `conversation_access` nothing it is given leads to
what was said.

Start reading at `contract.py` (what a plugin is), then `events.py` (what it is told), `runtime.py` (how it is called).
"""

from reverie.errors import PluginError
from reverie.plugins.contract import Plugin, PluginContext, Transcripts, TurnNote
from reverie.plugins.events import (
    CompactionStep,
    CompactionText,
    PluginEvent,
    ResetText,
    SessionReset,
    TurnEnded,
    TurnExchange,
    TurnInput,
    TurnStarting,
)

__all__ = [
    "CompactionStep",
    "CompactionText",
    "Plugin",
    "PluginContext",
    "PluginError",
    "PluginEvent",
    "ResetText",
    "SessionReset",
    "Transcripts",
    "TurnEnded",
    "TurnExchange",
    "TurnInput",
    "TurnNote",
    "TurnStarting",
]
