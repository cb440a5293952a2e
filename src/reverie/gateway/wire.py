"""What the body of `POST /v1/chat/completions` says, parsed once into types of our own.

The parts are read in the order in which they are checked: `read_head` (which model, how to answer, sampling),
`read_tools`, `read_conversation`. Each is pure: a decoded body goes in, values come out, and a body that is wrong
raises a `RequestError` that names the field.

Where we differ from OpenClaw, on purpose: `tool_choice` may be `required` or an object and goes to the model; fields
we do not know go to the model as well; `n` above 1, `functions` and parts of a message that we could only drop
(audio, files) are refused; text is kept as it was sent, surrounding white space included.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from reverie.errors import RequestError
from reverie.gateway.images import read_images
from reverie.gateway.replies import QUEUED
from reverie.sessions.replay import NO_ANSWER
from reverie.types import Message, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reverie.gateway.images import ImageLimits
    from reverie.types import JsonObject

MODEL_DEFAULT = "reverie"
IMAGES_ONLY = "User sent image(s) with no text."
MISSING_USER_MESSAGE = "Missing user message in `messages`."
MESSAGES_MAX = 20_000
TOOLS_MAX = 1_024

OWNED = frozenset({
    "function_call", "functions", "messages", "metadata", "model", "n", "store", "stream", "stream_options",
    "tool_choice", "tools", "user",
})  # fmt: skip
"""Fields that are ours to answer; every other one passes through to the model."""

_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
_CHECKED = frozenset({*_RANGES, "seed", "max_tokens", "max_completion_tokens"})
_READ_PARTS = frozenset({"text", "input_text", "refusal", "image_url"})
_FORMATS = ("text", "json_object", "json_schema")


@dataclass(frozen=True, slots=True)
class Head:
    """How the answer is to be made: everything but the conversation and the tools."""

    model: str
    user: str | None
    stream: bool
    include_usage: bool
    sampling: JsonObject


@dataclass(frozen=True, slots=True)
class Tools:
    """The client's own functions, as it sent them, and which of them the model is to use."""

    functions: tuple[JsonObject, ...] = ()
    choice: str | JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """The client's instructions, and its messages up to and including the new input."""

    instructions: str
    messages: tuple[Message, ...]


# -- head ------------------------------------------------------------------------------------------------------------


def read_head(body: JsonObject) -> Head:
    """Model, user, streaming and sampling of a request.

    Raises:
        RequestError: a field has the wrong type or is out of range.
    """
    model = _optional_text(body, "model")
    _check_response_format(body.get("response_format"))
    stream = body.get("stream")
    if not isinstance(stream, bool | int | None):
        raise RequestError("`stream` must be a boolean.", param="stream")
    return Head(
        model=model if model and not model.isspace() else MODEL_DEFAULT,
        user=_optional_text(body, "user"),
        stream=bool(stream),
        include_usage=_includes_usage(body.get("stream_options")) and bool(stream),
        sampling=_sampling(body),
    )


def _includes_usage(options: object) -> bool:
    match options:
        case {"include_usage": True}:
            return True
        case None | {}:
            return False
        case _:
            raise RequestError("`stream_options` must be an object.", param="stream_options")


def _optional_text(body: JsonObject, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestError(f"`{name}` must be a string.", param=name)
    return value


def _check_response_format(value: object) -> None:
    match value:
        case None | {"type": "text" | "json_object"} | {"type": "json_schema", "json_schema": {}}:
            return
        case {"type": "json_schema"}:
            reason = "`json_schema` must be an object."
        case {"type": str()}:
            reason = f"`type` must be one of {', '.join(_FORMATS)}."
        case _:
            reason = "it must be an object with a `type`."
    raise RequestError(f"Invalid response_format: {reason}", param="response_format")


def _sampling(body: JsonObject) -> JsonObject:
    """The fields that go to the model. Null means absent; of the two output limits the newer one wins."""
    if body.get("n") not in (None, 1) or isinstance(body.get("n"), bool):  # a tuple: n may be unhashable
        raise RequestError("`n` must be 1: a turn has one reply.", param="n")
    sampling = {name: value for name, value in body.items() if name not in OWNED and value is not None}
    if "max_completion_tokens" in sampling:
        sampling.pop("max_tokens", None)
    for name, (low, high) in _RANGES.items():
        if name in sampling and not _is_between(sampling[name], low, high):
            raise RequestError(f"`{name}` must be between {low} and {high}.", param=name)
    if "seed" in sampling and not _is_integer(sampling["seed"]):
        raise RequestError("`seed` must be an integer.", param="seed")
    for name in ("max_completion_tokens", "max_tokens"):
        if name in sampling and not (_is_integer(sampling[name]) and sampling[name] > 0):
            raise RequestError(f"`{name}` must be a positive integer.", param=name)
    if not sampling.keys() <= _CHECKED:
        _check_finite(sampling)
    return sampling


def _is_between(value: object, low: int, high: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_integer(value: object) -> bool:
    """True for 5 and 5.0; JSON makes no difference."""
    if isinstance(value, float):
        return math.isfinite(value) and value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _check_finite(passed_through: JsonObject | list[Any]) -> None:
    """Refuse a number that overflows to infinity, for example 1e999: it could not be written as JSON again."""
    try:
        json.dumps(passed_through, allow_nan=False)
    except ValueError:
        raise RequestError("The request holds a number that is too large.") from None


# -- tools -----------------------------------------------------------------------------------------------------------


def read_tools(body: JsonObject) -> Tools:
    """The client's functions; none when it chose `none`.

    Raises:
        RequestError: they are not functions in OpenAI's form, or the choice does not fit them.
    """
    for name in ("functions", "function_call"):
        if body.get(name):
            raise RequestError(f"`{name}` is not supported; use `tools` and `tool_choice`.", param=name)
    functions = body.get("tools")
    if functions is None:
        functions = []
    if not isinstance(functions, list):
        raise _tools_error("tools must be an array")
    functions = cast("list[object]", functions)
    if len(functions) > TOOLS_MAX:
        raise _tools_error(f"at most {TOOLS_MAX} tools")
    tools = tuple(_function(tool, index) for index, tool in enumerate(functions))
    choice = _choice(body.get("tool_choice"), tools)
    if tools:
        _check_finite(list(tools))
    return Tools() if choice == "none" else Tools(tools, choice)


def _function(tool: object, index: int) -> JsonObject:
    match tool:
        case {"type": "function", "function": {"name": str(name)}} if name.strip():
            pass
        case {"type": "function"}:
            raise _tools_error(f"tools[{index}].function.name is required")
        case {"type": str(kind)}:
            raise _tools_error(f"tools[{index}].type {kind[:40]!r} is not supported")
        case _:
            raise _tools_error(f"tools[{index}] must be an object with type 'function'")
    tool = cast("JsonObject", tool)
    function: JsonObject = tool["function"]
    for key, kind in (("description", str), ("parameters", dict), ("strict", bool)):
        if function.get(key) is not None and not isinstance(function[key], kind):
            raise _tools_error(f"tools[{index}].function.{key} has the wrong type")
    return tool if name == name.strip() else {**tool, "function": {**function, "name": name.strip()}}


def _choice(choice: object, tools: tuple[JsonObject, ...]) -> str | JsonObject | None:
    match choice:
        case None:
            return None
        case "auto":
            return "auto"
        case "none":
            return "none"
        case "required" if tools:
            return "required"
        case {"type": "function", "function": {"name": str(name)}}:
            if name.strip() not in {tool["function"]["name"] for tool in tools}:
                raise _tools_error(f"tool_choice names {name[:64]!r}, which is not in tools")
            return {"type": "function", "function": {"name": name.strip()}}
        case {"type": "allowed_tools"} if tools:
            _check_finite(cast("JsonObject", choice))
            return cast("JsonObject", choice)
        case "required" | {"type": "allowed_tools"}:
            raise _tools_error("tool_choice needs tools")
        case {"type": str(kind)}:
            raise _tools_error(f"tool_choice {kind[:40]} is not supported")
        case _:
            raise _tools_error("tool_choice must be 'auto', 'none', 'required' or an object with a type")


def _tools_error(reason: str) -> RequestError:
    param = "tool_choice" if reason.startswith("tool_choice") else "tools"
    return RequestError(f"Invalid tools/tool_choice: {reason}.", param=param)


# -- conversation ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reading:
    """A conversation while it is read.

    `content` is what the last user message was made of. `unusable` says why the newest input, a user's or a tool's,
    cannot be answered; an older message must not be answered in its place.
    """

    instructions: list[str] = field(default_factory=list[str])
    messages: list[Message] = field(default_factory=list[Message])
    content: object = None
    unusable: str = MISSING_USER_MESSAGE


def read_conversation(body: JsonObject, limits: ImageLimits) -> Conversation:
    """Instructions and messages. The last message is the new input: the user's, with its images, or a tool's.

    Messages of the assistant after the last one of a user or tool are left out, as are earlier messages without
    content, parts of them that are not text, and roles we do not know.

    Raises:
        RequestError: a message has the wrong shape, an image is not allowed, or nobody says anything.
    """
    entries = body.get("messages")
    if entries is None:
        raise RequestError(MISSING_USER_MESSAGE, param="messages")
    if not isinstance(entries, list):
        raise RequestError("`messages` must be an array.", param="messages")
    entries = cast("list[object]", entries)
    if len(entries) > MESSAGES_MAX:
        raise RequestError(f"`messages` may have at most {MESSAGES_MAX} entries.", param="messages")
    reading = _Reading()
    for index, entry in enumerate(entries):
        _read_message(reading, entry, index)
    messages = reading.messages
    if reading.unusable:
        raise RequestError(reading.unusable, param="messages")
    while messages[-1].role == "assistant":
        messages.pop()
    if messages[-1].role == "user" and isinstance(reading.content, list):
        messages[-1] = _with_images(messages[-1], cast("list[JsonObject]", reading.content), limits)
    return Conversation("\n\n".join(reading.instructions), tuple(messages))


def _read_message(reading: _Reading, entry: object, index: int) -> None:
    if not isinstance(entry, dict):
        raise RequestError(f"`messages[{index}]` must be an object.", param=f"messages[{index}]")
    entry = cast("JsonObject", entry)
    content = entry.get("content")
    text = content if isinstance(content, str) else _text_of_parts(content, index)
    match entry.get("role"):
        case "user":
            _read_user(reading, entry, text, index)
        case "assistant":
            message = _assistant(entry, text, index)
            if message is not None:
                reading.messages.append(message)
        case "system" | "developer":
            if text.strip():
                reading.instructions.append(text)
        case "tool" | "function" as role:
            message = _tool_result(entry, role, text, index)
            reading.unusable = "" if message is not None else MISSING_USER_MESSAGE
            if message is not None:
                reading.messages.append(message)
        case str():
            return
        case _:
            raise RequestError(f"`messages[{index}].role` must be a string.", param=f"messages[{index}].role")


def _read_user(reading: _Reading, entry: JsonObject, text: str, index: int) -> None:
    content = entry.get("content")
    dropped = ""
    if isinstance(content, list):
        parts = cast("list[JsonObject]", content)
        dropped = next((str(part["type"])[:40] for part in parts if part.get("type") not in _READ_PARTS), "")
        if not text.strip() and any(True for _ in _image_urls(parts)):
            text = IMAGES_ONLY
    if dropped:
        reading.unusable = f"`messages[{index}].content` has a part of type {dropped!r}, which is not supported."
    else:
        reading.unusable = "" if text.strip() else MISSING_USER_MESSAGE
    if text.strip():
        reading.messages.append(Message("user", text, name=_name(entry, index)))
        reading.content = content


def _assistant(entry: JsonObject, text: str, index: int) -> Message | None:
    """What the assistant said or asked for; None when it is nothing, or only says that a turn had failed or waits."""
    calls = _tool_calls(entry, index)
    if not calls and (not text.strip() or text.strip() in {NO_ANSWER, QUEUED}):
        return None
    return Message("assistant", text, tool_calls=calls, name=_name(entry, index))


def _tool_calls(entry: JsonObject, index: int) -> tuple[ToolCall, ...]:
    calls = entry.get("tool_calls")
    match entry.get("function_call"):
        case {"name": str(name), "arguments": str(arguments)} if not calls:
            return (ToolCall(_legacy_id(name), name, arguments),)
        case _:
            pass
    if calls is None:
        return ()
    where = f"messages[{index}].tool_calls"
    if not isinstance(calls, list):
        raise RequestError(f"`{where}` must be an array.", param=where)
    return tuple(_tool_call(call, where) for call in cast("list[object]", calls))


def _tool_call(call: object, where: str) -> ToolCall:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}}:
            return ToolCall(call_id, name, arguments)
        case {"id": str(call_id), "function": {"name": str(name), "arguments": None}}:
            return ToolCall(call_id, name, "")
        case _:
            message = f"`{where}` must hold objects with `id` and `function` (`name`, and `arguments` as a string)."
            raise RequestError(message, param=where)


def _tool_result(entry: JsonObject, role: str, text: str, index: int) -> Message | None:
    """A tool's result. An empty one counts when it answers a call; without text and call it is nothing."""
    name = _name(entry, index)
    call_id = entry.get("tool_call_id")
    if call_id is not None and not isinstance(call_id, str):
        where = f"messages[{index}].tool_call_id"
        raise RequestError(f"`{where}` must be a string.", param=where)
    if role == "function" and call_id is None and name is not None:
        call_id = _legacy_id(name)
    if not text.strip() and not call_id:
        return None
    return Message("tool", text, tool_call_id=call_id, name=name)


def _legacy_id(function: str) -> str:
    """The id that ties the result of an old-style function call to the call, which had none."""
    return f"function-{function}"


def _name(entry: JsonObject, index: int) -> str | None:
    name = entry.get("name")
    if name is not None and not isinstance(name, str):
        raise RequestError(f"`messages[{index}].name` must be a string.", param=f"messages[{index}].name")
    return name or None


def _text_of_parts(content: object, index: int) -> str:
    """The text of a message given in parts: its `text` and `input_text` parts, one a line."""
    where = f"messages[{index}].content"
    if content is None:
        return ""
    if not isinstance(content, list):
        raise RequestError(f"`{where}` must be a string or an array of parts.", param=where)
    return "\n".join(text for part in cast("list[object]", content) if (text := _part_text(part, where)))


def _part_text(part: object, where: str) -> str:
    match part:
        case {"type": "text" | "input_text", "text": str(text)} | {"type": str(), "input_text": str(text)}:
            return text
        case {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "text" | "input_text"}:
            raise RequestError(f"`{where}` has a text part whose `text` is not a string.", param=where)
        case {"type": str()}:
            return ""
        case _:
            raise RequestError(f"`{where}` must hold objects with a `type`.", param=where)


def _image_urls(parts: list[JsonObject]) -> Iterator[object]:
    """The `image_url` field of each image part."""
    return (part.get("image_url") or {} for part in parts if part.get("type") == "image_url")


def _with_images(message: Message, parts: list[JsonObject], limits: ImageLimits) -> Message:
    images = read_images(_image_urls(parts), limits)
    return replace(message, images=images) if images else message
