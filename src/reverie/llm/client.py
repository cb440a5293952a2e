"""The contract of a model: a prompt goes in, events come out, the last one says how it ended.

Two implementations exist: `OpenAICompatibleModel` speaks to any chat-completions server, `OfflineModel` answers
from memory when none is connected. Tests use `reverie.testing.ScriptedModel`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reverie.types import FinishReason, JsonObject, Message, SearchHit, ToolCall, Usage


Lane = Literal["foreground", "background"]
"""Whether somebody waits for the answer of a model call: `llm/lanes.py` lets those go first."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    `sampling` is merged into the request body as the client sent it. `stream` says how to ask the server; the
    events are the same either way. `found` is what memory holds on the input, whether it is quoted in `messages` or
    stands in the history anyway: for a model that answers from memory alone. `lane` says whether somebody waits.
    `cache_key` names the conversation to a server that keeps beginnings of prompts, and `cache_breakpoints` are the
    places of messages up to which the next prompt begins like this one.
    """

    messages: tuple[Message, ...]
    tools: tuple[JsonObject, ...] = ()
    tool_choice: str | JsonObject | None = None
    sampling: JsonObject = field(default_factory=dict[str, Any])
    model_override: str | None = None
    stream: bool = True
    found: tuple[SearchHit, ...] = ()
    lane: Lane = "foreground"
    cache_key: str = ""
    cache_breakpoints: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningText:
    """More text of the model's visible reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of a call.

    `tool_calls` are whole; `usage` is None when the server did not say. `only_quotes` marks an answer made of memories,
    which must not become a memory itself.
    """

    finish_reason: FinishReason
    tool_calls: tuple[ToolCall, ...]
    usage: Usage | None
    model: str
    only_quotes: bool = False


ModelEvent = TextDelta | ReasoningText | Completed


class Model(Protocol):
    """Something that answers a prompt."""

    @property
    def name(self) -> str:
        """What answers, for transcripts and status: a model name, or `offline`."""
        ...

    def respond(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Call the model. The last event is `Completed`; leaving the iterator early cancels the call.

        Raises:
            UpstreamError: the call failed; a failure before the first event has been retried as configured.
        """
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
