"""What an engine answered, checked at the door: inside, the types are trusted.

An answer that breaks the rules of a conversation would be refused by the model's server, or by the next turn; it is
refused here instead, with the rule that it broke.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reverie.context.contract import Assembled, Compacted, EngineMessage
from reverie.types import Message, Projection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.context.contract import AssembleRequest, CompactRequest

ADDITION_CHARS_MAX = 64_000
ANSWER_CHARS_MAX = 40_000_000
"""More than the largest window holds; an answer is kept in memory while its turn runs."""
SUMMARY_CHARS_MAX = 64_000
_SHOWN = frozenset({"user", "assistant", "tool"})


class InvalidAnswerError(Exception):
    """An engine answered what it may not; the message names the rule."""


def checked_view(answer: object, request: AssembleRequest) -> Assembled:
    """The answer of `assemble`; a projection without an epoch becomes `per_turn`.

    Raises:
        InvalidAnswerError: it is no `Assembled`, or its messages are no conversation.
    """
    if not isinstance(answer, Assembled):
        raise InvalidAnswerError(f"`assemble` answered {type(answer).__name__}, not Assembled")
    messages = _messages(answer.messages)
    _check_calls(messages, request)
    if len(_text(answer.system_prompt_addition, "system_prompt_addition")) > ADDITION_CHARS_MAX:
        raise InvalidAnswerError(f"`system_prompt_addition` must be a text of at most {ADDITION_CHARS_MAX} characters")
    return replace(
        answer,
        messages=messages,
        projection=_projection(answer.projection),
        history_start=_history_start(answer, request),
        reason=_text(answer.reason, "reason")[:200],
    )


def checked_compacted(answer: object, request: CompactRequest) -> Compacted:
    """The answer of `compact`.

    Raises:
        InvalidAnswerError: it is no `Compacted`, or keeps from a message on that begins no turn.
    """
    if not isinstance(answer, Compacted):
        raise InvalidAnswerError(f"`compact` answered {type(answer).__name__}, not Compacted")
    _text(answer.reason, "reason")
    if len(_text(answer.summary, "summary")) > SUMMARY_CHARS_MAX:
        raise InvalidAnswerError(f"a summary must be a text of at most {SUMMARY_CHARS_MAX} characters")
    first = answer.first_kept
    if first is not None:
        last = max((each.seq for each in request.messages if each.seq is not None), default=0)
        begins = {each.seq for each in request.messages if each.message.role == "user"} | {last + 1}
        if not _is_int(first) or first not in begins or first <= 1:
            allowed = f"the number of a user's message, or {last + 1}"
            raise InvalidAnswerError(f"`first_kept` must be {allowed}, not {first!r}")
    return answer


def _messages(given: object) -> tuple[EngineMessage, ...]:
    if not isinstance(given, (tuple, list)):
        raise InvalidAnswerError("`messages` must be a tuple of EngineMessage")
    found: list[EngineMessage] = []
    size = 0
    for each in given:  # pyright: ignore[reportUnknownVariableType] (what comes from outside is of any type)
        if not isinstance(each, EngineMessage) or not isinstance(each.message, Message):  # pyright: ignore[reportUnnecessaryIsInstance] (as above)
            raise InvalidAnswerError("`messages` must be a tuple of EngineMessage, each with a Message")
        if each.message.role not in _SHOWN:
            raise InvalidAnswerError(
                "a message must be of the role user, assistant or tool; the system message has `system_prompt_addition`"
            )
        size += len(_text(each.message.text, "text"))
        found.append(each)
    if size > ANSWER_CHARS_MAX:
        raise InvalidAnswerError(f"`messages` hold {size:,} characters; {ANSWER_CHARS_MAX:,} are allowed")
    return tuple(found)


def _check_calls(messages: Sequence[EngineMessage], request: AssembleRequest) -> None:
    """No call is parted from its result. What was parted before, by a client that never answered, may stay so."""
    parted = _parted((*messages, *request.prompt)) - _parted((*request.messages, *request.prompt))
    if parted:
        raise InvalidAnswerError(f"a tool call and its result belong together ({min(parted)[:100]!r} stands alone)")


def _parted(messages: Sequence[EngineMessage]) -> set[str]:
    """The ids of calls without a result, and of results without a call before them."""
    waiting: set[str] = set()
    parted: set[str] = set()
    for each in messages:
        message = each.message
        waiting |= {call.id for call in message.tool_calls}
        if message.tool_call_id in waiting:
            waiting.discard(message.tool_call_id)
        elif message.tool_call_id is not None:
            parted.add(message.tool_call_id)
    return parted | waiting


def _projection(given: object) -> Projection:
    if not isinstance(given, Projection) or given.mode not in {"per_turn", "thread_bootstrap"}:
        raise InvalidAnswerError("`projection` must be a Projection of the mode per_turn or thread_bootstrap")
    epoch, fingerprint = _text(given.epoch, "epoch"), _text(given.fingerprint, "fingerprint")
    if given.mode == "thread_bootstrap" and not epoch.strip():
        return Projection("per_turn", "", fingerprint)
    return given


def _history_start(answer: Assembled, request: AssembleRequest) -> int | None:
    start = answer.history_start
    if start is None:
        return None
    last = max((entry.seq for entry in (*request.messages, *request.prompt) if entry.seq is not None), default=0)
    if not _is_int(start) or not request.history_start <= start <= last + 1:
        raise InvalidAnswerError(
            f"`history_start` must be a number from {request.history_start} to {last + 1}, not {start!r}"
        )
    return start


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidAnswerError(f"`{name}` must be a text")
    return value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
