"""What a runtime is: something that makes a reply of a turn whose prompt is ready. One module for each kind.

`TurnRunner` says what a turn is, whatever its runtime: a place in the queue, a transcript, recall, what follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from reverie.sessions.replay import input_start
from reverie.sessions.transcript import RecordedMessage, records_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from reverie.agent.loop_guard import LoopGuard
    from reverie.context.contract import Capability
    from reverie.llm.overflow import Overflow
    from reverie.memory.tool_contracts import ToolAnswer
    from reverie.sessions.compactions import StandingSummary
    from reverie.sessions.events import TurnEvent
    from reverie.sessions.turns import BegunTurn
    from reverie.storage import Transaction
    from reverie.types import (
        FinishReason,
        JsonObject,
        Message,
        PromptContext,
        SearchHit,
        ToolCall,
        Turn,
        TurnRequest,
        Usage,
    )

BETWEEN_ROUNDS = "\n\n"
"""Where the model says something, uses a tool of ours and goes on speaking, the client's reply shows two paragraphs."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a turn: messages for the transcript, and what the client is told.

    `also` is done in the commit that records the answer, with the number of its last message.
    """

    records: tuple[RecordedMessage, ...]
    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    usage: Usage
    prompt_tokens_first: int
    model: str
    prompt_tokens_last: int = 0
    also: Callable[[Transaction, int], None] | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that was made smaller: its context, and to how many characters tool results are cut (None: whole)."""

    context: PromptContext
    result_chars_max: int | None = None


class Shrink(Protocol):
    """How a prompt that was too large is made smaller."""

    async def __call__(self, over: Overflow, sent: tuple[Message, ...]) -> Fitted:
        """A smaller prompt than the one that was sent.

        Raises:
            ContextTooLongError: it cannot be made smaller, or that was tried too often.
        """
        ...


@dataclass(frozen=True, slots=True)
class ReadyTurn:
    """A turn whose prompt is ready, and what its runtime may use.

    `summary` stands for what came before the history in the prompt. `steered` gives the messages that are to enter the
    turn now. What is too large for a stateless server is made smaller by `shrink`; `guard` watches the tool calls.
    """

    begun: BegunTurn
    context: PromptContext
    summary: StandingSummary | None
    found: tuple[SearchHit, ...]
    emit: Callable[[TurnEvent], None]
    run_tool: Callable[[ToolCall], Awaitable[ToolAnswer]]
    steered: Callable[[], Awaitable[Sequence[Turn]]]
    shrink: Shrink
    guard: LoopGuard

    @property
    def request(self) -> TurnRequest:
        """What the caller asked for."""
        return self.begun.turn.request


class Runtime(Protocol):
    """How an agent's turns are answered."""

    @property
    def model(self) -> str:
        """What answers, unless a request asks for another."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it does for a context engine."""
        ...

    @property
    def window_tokens(self) -> int | None:
        """What its model reads at once; None: as `upstream.context_tokens` says."""
        ...

    def offered_tools(self, request: TurnRequest) -> tuple[JsonObject, ...]:
        """Our tools that take room in the prompt of this turn."""
        ...

    async def answer(self, turn: ReadyTurn) -> Reply:
        """The reply.

        Raises:
            RequestError: the runtime cannot serve such a request.
            UpstreamError: no reply came.
            StorageError: what must be on record could not be written.
        """
        ...


def input_records(turns: Sequence[Turn]) -> list[RecordedMessage]:
    """What the messages that enter the running turn bring to the conversation: sent as one, each with its own turn."""
    brought = [
        replace(record, turn_id=turn.id)
        for turn in turns
        for record in records_of(turn.request, turn.request.messages[input_start(turn.request.messages) :])
    ]
    return [replace(record, joined=True) for record in brought[:-1]] + brought[-1:]
