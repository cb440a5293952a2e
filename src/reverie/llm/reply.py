"""From the chunks of a chat completion, or from a whole one, to the events of `client.py`.

`ReplyAssembler` is fed parsed chunks and gives back text as it comes; tool calls are collected until the end. What
servers do differently is settled here: calls without an index or an id, whole calls in one chunk, arguments as an
object, content as a list of parts, the older `function_call`, usage with or without its own chunk.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from reverie.errors import UpstreamMalformedError
from reverie.llm.client import Completed, ReasoningText, TextDelta
from reverie.types import ToolCall, Usage

if TYPE_CHECKING:
    from reverie.types import FinishReason, JsonObject

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}

COUNT_MAX = 1_000_000_000_000
"""No call has more tokens: a count beyond is cut, so that a database can hold it."""


@dataclass(slots=True)
class _Call:
    """A tool call under construction."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class ReplyAssembler:
    """Collects one reply. `finished` turns true when the server has said why it stopped."""

    def __init__(self, model: str) -> None:
        self.finished = False
        self._model = model
        self._finish = ""
        self._usage: Usage | None = None
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def chunk(self, chunk: JsonObject) -> list[TextDelta | ReasoningText]:
        """What a chunk of a stream says. A chunk without choices only brings usage."""
        self._facts(chunk)
        choice = _first_choice(chunk)
        if choice is None:
            return []
        # Some servers send the whole message in the only chunk of a stream.
        part: Any = choice.get("delta") or choice.get("message") or {}
        return self._part(part, choice.get("finish_reason"))

    def whole(self, completion: JsonObject) -> list[TextDelta | ReasoningText]:
        """What a completion that was not streamed says.

        Raises:
            UpstreamMalformedError: it holds no message.
        """
        self._facts(completion)
        choice = _first_choice(completion)
        message = choice.get("message") if choice else None
        if choice is None or not isinstance(message, dict):
            raise UpstreamMalformedError(f"the model's reply holds no message: {json.dumps(completion)[:120]}")
        return self._part(message, choice.get("finish_reason") or "stop")

    def completed(self) -> Completed:
        """The last event.

        Raises:
            UpstreamMalformedError: a tool call has no name.
        """
        calls = tuple(_tool_call(call) for call in self._calls)
        finish = _FINISH_REASONS.get(self._finish, "stop")
        if calls and finish == "stop":
            finish = "tool_calls"
        if not calls and finish == "tool_calls":
            finish = "stop"
        return Completed(finish, calls, self._usage, self._model)

    def _facts(self, chunk: JsonObject) -> None:
        model = chunk.get("model")
        if isinstance(model, str) and model:
            self._model = model
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._usage = read_usage(cast("JsonObject", usage))

    def _part(self, part: Any, finish: Any) -> list[TextDelta | ReasoningText]:
        if not isinstance(part, dict):
            raise UpstreamMalformedError(f"the model's reply holds a choice that is not an object: {str(part)[:120]!r}")
        part = cast("JsonObject", part)
        events: list[TextDelta | ReasoningText] = []
        reasoning = part.get("reasoning_content") or part.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            events.append(ReasoningText(_encodable(reasoning)))
        content = part.get("content") or part.get("refusal")
        if isinstance(content, str):
            if content:
                events.append(TextDelta(_encodable(content)))
        elif isinstance(content, list):
            events += _content_parts(cast("list[Any]", content))
        if calls := part.get("tool_calls"):
            self._call_deltas(calls)
        if call := part.get("function_call"):
            self._call_deltas([{"index": 0, "function": call}])
        if isinstance(finish, str) and finish:
            self._finish = finish
            self.finished = True
        return events

    def _call_deltas(self, deltas: Any) -> None:
        if not isinstance(deltas, list):
            raise UpstreamMalformedError("the model's reply holds tool calls that are not a list")
        for delta in cast("list[Any]", deltas):
            if not isinstance(delta, dict):
                raise UpstreamMalformedError("the model's reply holds a tool call that is not an object")
            self._call_delta(cast("JsonObject", delta))

    def _call_delta(self, delta: JsonObject) -> None:
        raw: Any = delta.get("function")
        function = cast("JsonObject", raw) if isinstance(raw, dict) else {}
        call_id, name = str(delta.get("id") or ""), str(function.get("name") or "")
        call = self._call_for(delta.get("index"), call_id, name)
        call.id = call.id or call_id
        call.name = call.name or name
        arguments: Any = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments += arguments
        elif arguments is not None:
            call.arguments += json.dumps(arguments, ensure_ascii=False)

    def _call_for(self, index: Any, call_id: str, name: str) -> _Call:
        """The call that a delta continues, or a new one.

        With an index: that one, unless the delta brings another id and a name (servers that number every call 0).
        Without: the call of that id; with no id, a name begins a new call and anything else continues the last.
        """
        if isinstance(index, int):
            call = self._by_index.get(index)
            if call is None or (name and call_id and call.id and call.id != call_id):
                call = self._by_index[index] = self._new_call()
            return call
        if call_id:
            return next((call for call in self._calls if call.id == call_id), None) or self._new_call()
        if name or not self._calls:
            return self._new_call()
        return self._calls[-1]

    def _new_call(self) -> _Call:
        call = _Call()
        self._calls.append(call)
        return call


def read_usage(usage: JsonObject) -> Usage:
    """Token counts as servers give them: whatever is missing or not a number counts as zero."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_count(usage, "total_tokens") or prompt + completion,
        cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens")
        or _count(usage, "prompt_cache_hit_tokens")  # DeepSeek's word
        or _count(usage, "cache_read_input_tokens"),  # Anthropic's
        reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: Any, key: str) -> int:
    value: Any = cast("JsonObject", counts).get(key) if isinstance(counts, dict) else None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else 0
    return min(max(0, value), COUNT_MAX) if isinstance(value, int) else 0


def _first_choice(chunk: JsonObject) -> JsonObject | None:
    """The choice with index 0; further ones (`n` > 1) are not followed."""
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return None
    for choice in cast("list[Any]", choices):
        if isinstance(choice, dict) and not cast("JsonObject", choice).get("index"):
            return cast("JsonObject", choice)
    return None


def _content_parts(parts: list[Any]) -> list[TextDelta | ReasoningText]:
    """Content as a list of typed parts: text, and a model's thinking."""
    events: list[TextDelta | ReasoningText] = []
    for part in parts:
        if not isinstance(part, dict):
            continue
        typed = cast("JsonObject", part)
        text, thinking = typed.get("text"), typed.get("thinking")
        if isinstance(text, str) and text:
            events.append(TextDelta(_encodable(text)))
        elif isinstance(thinking, str) and thinking:
            events.append(ReasoningText(_encodable(thinking)))
        elif isinstance(thinking, list):
            nested = _content_parts(cast("list[Any]", thinking))
            events += [ReasoningText(event.text) for event in nested]
    return events


def _tool_call(call: _Call) -> ToolCall:
    if not call.name:
        raise UpstreamMalformedError("the model's reply holds a tool call without a name")
    return ToolCall(call.id or f"call_{uuid.uuid4().hex}", call.name, _encodable(call.arguments))


def _encodable(text: str) -> str:
    """The text with lone surrogates replaced: JSON can express them, UTF-8 (the database, the socket) cannot."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
