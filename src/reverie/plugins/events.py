"""What a plugin is told, as one closed union of frozen values.

Every event has metadata: ids, times, counts, usage, states. What was said stands in `conversation` alone, which is
None for a plugin without the grant. A session's key and the source of a message can name a person (a phone number, a
user of a chat), so they count as conversation; `session_id` is random and tells nothing. Images are counted, never
handed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from reverie.errors import TurnCancelledError, TurnExpiredError
from reverie.sessions.events import TurnFailed, TurnFinished
from reverie.sessions.replay import input_start
from reverie.types import Message, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.types import FinishReason, ToolCall, Turn, TurnState


@dataclass(frozen=True, slots=True)
class TurnInput:
    """What a turn brings. `source` is who sent it, as far as the client says; `messages` are without their images.

    Messages that were collected into one turn stand together.
    """

    session_key: str
    source: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class TurnStarting:
    """A turn is about to run; its prompt is not made yet. `history_messages` stand in the session before its input."""

    turn_id: str
    session_id: str
    agent: str
    at_ms: int
    accepted_at_ms: int
    history_messages: int
    input_messages: int
    input_images: int
    client_tools: int
    conversation: TurnInput | None


@dataclass(frozen=True, slots=True)
class TurnExchange:
    """What a turn brought and what was answered. `error` is why there is no answer, empty when there is one.

    `messages` have those that entered the turn while it ran, at the end.
    """

    session_key: str
    source: str
    messages: tuple[Message, ...]
    reply: str
    tool_calls: tuple[ToolCall, ...]
    error: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn has ended, and its end is on disk. `error_code` is a word for machines, None where there is an answer."""

    turn_id: str
    session_id: str
    agent: str
    at_ms: int
    accepted_at_ms: int
    state: TurnState
    model: str | None
    finish_reason: FinishReason | None
    usage: Usage
    input_messages: int
    input_images: int
    client_tool_calls: int
    recalled: int
    error_code: str | None
    conversation: TurnExchange | None


@dataclass(frozen=True, slots=True)
class CompactionText:
    """The summary, empty until it is made, and what a person asked to keep in mind."""

    session_key: str
    focus: str
    summary: str


@dataclass(frozen=True, slots=True)
class CompactionStep:
    """A step of a compaction that is on disk: messages `first_seq` to `last_seq` are to have a summary in their place.

    `finished` is its adoption. Tokens are None while they are not known; `window_tokens` is the model's whole window.
    """

    compaction_id: str
    session_id: str
    agent: str
    at_ms: int
    state: Literal["started", "finished", "failed"]
    cause: str
    first_seq: int
    last_seq: int
    tokens_before: int | None
    tokens_after: int | None
    window_tokens: int
    conversation: CompactionText | None


@dataclass(frozen=True, slots=True)
class ResetText:
    """What the new session is told of the old one."""

    session_key: str
    continuity: str


@dataclass(frozen=True, slots=True)
class SessionReset:
    """A session has ended and `next_session_id` goes on under its key. `reason` is `manual`, `daily` or `idle`."""

    session_id: str
    next_session_id: str
    agent: str
    at_ms: int
    reason: str
    messages: int
    conversation: ResetText | None


PluginEvent = TurnStarting | TurnEnded | CompactionStep | SessionReset
_Event = TypeVar("_Event", bound=PluginEvent)


def withheld(event: _Event) -> _Event:
    """The event as a plugin without the grant sees it."""
    return replace(event, conversation=None)


def characters(value: object) -> int:
    """The length of all text in an event: what keeping it costs."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, tuple):
        return sum(characters(part) for part in cast("tuple[object, ...]", value))
    if is_dataclass(value) and not isinstance(value, type):
        inside: Any = value
        return sum(characters(getattr(inside, each.name)) for each in fields(inside))
    return 0


def turn_starting(turn: Turn, *, history_messages: int, now_ms: int) -> TurnStarting:
    """The event of a turn that begins."""
    brought = _brought(turn)
    return TurnStarting(
        turn_id=turn.id,
        session_id=turn.session_id,
        agent=turn.request.session.agent,
        at_ms=now_ms,
        accepted_at_ms=turn.accepted_at_ms,
        history_messages=history_messages,
        input_messages=len(brought),
        input_images=_images(brought),
        client_tools=len(turn.request.client_tools),
        conversation=TurnInput(turn.request.session.value, turn.request.arrival.source, _without_images(brought)),
    )


@dataclass(frozen=True, slots=True)
class TurnResult:
    """How a turn ended, for `turn_ended`: the answer, or the error with what had been said by then.

    `steered` are the messages that entered the turn while it ran.
    """

    state: TurnState
    reply: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    model: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage = field(default_factory=Usage)
    recalled: int = 0
    error: Exception | None = None
    steered: tuple[Message, ...] = ()


def result_of(end: TurnFinished | TurnFailed) -> TurnResult:
    """How a turn ended, from its terminal event."""
    if isinstance(end, TurnFinished):
        return TurnResult("answered", end.text, end.tool_calls, end.model, end.finish_reason, end.usage)
    states: dict[type[Exception], TurnState] = {TurnCancelledError: "cancelled", TurnExpiredError: "expired"}
    return TurnResult(states.get(type(end.error), "failed"), end.text, error=end.error)


def turn_ended(turn: Turn, result: TurnResult, now_ms: int) -> TurnEnded:
    """The event of a turn that ended, in whatever way."""
    brought = (*_brought(turn), *result.steered)
    error = result.error
    code = None if error is None else (getattr(error, "code", None) or type(error).__name__)
    return TurnEnded(
        turn_id=turn.id,
        session_id=turn.session_id,
        agent=turn.request.session.agent,
        at_ms=now_ms,
        accepted_at_ms=turn.accepted_at_ms,
        state=result.state,
        model=result.model,
        finish_reason=result.finish_reason,
        usage=result.usage,
        input_messages=len(brought),
        input_images=_images(brought),
        client_tool_calls=len(result.tool_calls),
        recalled=result.recalled,
        error_code=code,
        conversation=TurnExchange(
            session_key=turn.request.session.value,
            source=turn.request.arrival.source,
            messages=_without_images(brought),
            reply=result.reply,
            tool_calls=result.tool_calls,
            error="" if error is None else str(error),
        ),
    )


def _brought(turn: Turn) -> tuple[Message, ...]:
    """The new input of a turn and of those it carries: a client may have sent its whole history before it."""
    found: list[Message] = []
    for each in (*turn.carries, turn):
        messages = each.request.messages
        found += messages[input_start(messages) :]
    return tuple(found)


def _images(messages: Sequence[Message]) -> int:
    return sum(len(message.images) for message in messages)


def _without_images(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(replace(message, images=()) if message.images else message for message in messages)
