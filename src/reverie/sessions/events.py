"""What can happen to a turn, as one closed union.

The reply stream, the transcript, the terminal chat, metrics and tests all read these values. A turn emits
`TurnStarted`, then any number of progress events, then exactly one terminal event: `TurnFinished` or `TurnFailed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverie.errors import ReverieError
    from reverie.types import FinishReason, PromptContext, ToolCall, Usage


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The turn left the queue and runs.

    `reset` says why its session ended before it and another went on under the key, `session_id` which that is; both
    are empty as long as the session is the one that accepted the turn.
    """

    turn_id: str
    reset: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class ContextAssembled:
    """The prompt is ready; `context.recalled` are the memories quoted in it."""

    context: PromptContext


@dataclass(frozen=True, slots=True)
class ReplyDelta:
    """More text of the reply. Repeated identical deltas are meant."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More text of the model's visible reasoning; shown, never remembered."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """One of our own tools (memory_search, memory_get) runs for the model."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """That tool's result went back to the model."""

    call: ToolCall
    result: str


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """The turn is answered and recorded. `tool_calls` are those the client is to run."""

    turn_id: str
    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    usage: Usage
    model: str


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """The turn ended without an answer; the cause is recorded with it. `text` is what had been said by then."""

    turn_id: str
    error: ReverieError
    text: str = ""


TurnEvent = (
    TurnStarted
    | ContextAssembled
    | ReplyDelta
    | ReasoningDelta
    | ToolStarted
    | ToolFinished
    | TurnFinished
    | TurnFailed
)
