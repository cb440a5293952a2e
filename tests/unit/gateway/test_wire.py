"""What a chat-completions body may say."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.errors import RequestError
from reverie.gateway.images import ImageLimits
from reverie.gateway.wire import (
    IMAGES_ONLY,
    MESSAGES_MAX,
    TOOLS_MAX,
    Conversation,
    Head,
    Tools,
    read_conversation,
    read_head,
    read_tools,
)
from reverie.sessions.replay import NO_ANSWER
from reverie.types import ImagePart, JsonObject, Message, ToolCall

LIMITS = ImageLimits(parts_max=8, bytes_max=1024, total_bytes_max=4096)
PICTURE = "data:image/png;base64,iVBORw0KGgo="
MISSING = "Missing user message in `messages`."
BAD_CALLS = "`messages[0].tool_calls` must hold objects with `id` and `function` (`name`, and `arguments` as a string)."
NOTHING: JsonObject = {}


def said(*messages: object) -> Conversation:
    """What is read from these messages."""
    return read_conversation({"messages": list(messages)}, LIMITS)


def user(content: object, **fields: object) -> JsonObject:
    """A user's message."""
    return {"role": "user", "content": content, **fields}


def assistant(content: object = None, **fields: object) -> JsonObject:
    """An assistant's message."""
    return {"role": "assistant", "content": content, **fields}


def image(url: str = PICTURE) -> JsonObject:
    """An image part."""
    return {"type": "image_url", "image_url": {"url": url}}


def text_part(text: object) -> JsonObject:
    """A text part."""
    return {"type": "text", "text": text}


def refusal(call: Any, *arguments: Any) -> tuple[str, str | None]:
    """The message and field of the refusal."""
    with pytest.raises(RequestError) as caught:
        call(*arguments)
    assert caught.value.status == 400
    return str(caught.value), caught.value.param


# -- head ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "head"),
    [
        ({}, Head("reverie", None, stream=False, include_usage=False, sampling={})),
        ({"model": " "}, Head("reverie", None, stream=False, include_usage=False, sampling={})),
        ({"model": None, "user": None}, Head("reverie", None, stream=False, include_usage=False, sampling={})),
        ({"stream": 1}, Head("reverie", None, stream=True, include_usage=False, sampling={})),
        (
            {"stream": False, "stream_options": {"include_usage": True}},
            Head("reverie", None, stream=False, include_usage=False, sampling={}),
        ),
        (
            {"n": 1, "max_tokens": 5.0, "seed": 7, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2},
            Head(
                "reverie",
                None,
                stream=False,
                include_usage=False,
                sampling={"max_tokens": 5.0, "seed": 7, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2},
            ),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}, "future_field": [1]},
            Head(
                "reverie",
                None,
                stream=False,
                include_usage=False,
                sampling={
                    "response_format": {"type": "json_schema", "json_schema": {"name": "x"}},
                    "future_field": [1],
                },
            ),
        ),
    ],
)
def test_head(body: JsonObject, head: Head) -> None:
    """Null is absent, defaults hold, and what is not ours passes through as it is."""
    assert read_head(body) == head


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model", 1, "`model` must be a string."),
        ("user", {}, "`user` must be a string."),
        ("stream", "false", "`stream` must be a boolean."),
        ("stream_options", [], "`stream_options` must be an object."),
        ("temperature", 2.1, "`temperature` must be between 0 and 2."),
        ("temperature", "1", "`temperature` must be between 0 and 2."),
        ("temperature", True, "`temperature` must be between 0 and 2."),
        ("temperature", float("inf"), "`temperature` must be between 0 and 2."),
        ("top_p", -0.1, "`top_p` must be between 0 and 1."),
        ("frequency_penalty", 3, "`frequency_penalty` must be between -2 and 2."),
        ("presence_penalty", -3, "`presence_penalty` must be between -2 and 2."),
        ("seed", 1.5, "`seed` must be an integer."),
        ("seed", True, "`seed` must be an integer."),
        ("max_tokens", 0, "`max_tokens` must be a positive integer."),
        ("max_completion_tokens", "9", "`max_completion_tokens` must be a positive integer."),
        ("n", 2, "`n` must be 1: a turn has one reply."),
        ("n", [1], "`n` must be 1: a turn has one reply."),
        ("n", True, "`n` must be 1: a turn has one reply."),
        ("response_format", "json", "Invalid response_format: it must be an object with a `type`."),
        ("response_format", {"type": 1}, "Invalid response_format: it must be an object with a `type`."),
        ("response_format", {"type": "json_schema"}, "Invalid response_format: `json_schema` must be an object."),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object, message: str) -> None:
    """Each refusal says which field and what is allowed."""
    assert refusal(read_head, {field: value}) == (message, field)


def test_a_number_beyond_all_bounds_is_refused() -> None:
    """What cannot be written as JSON again must not reach the model."""
    assert refusal(read_head, {"logit_bias": {"1": float("inf")}}) == (
        "The request holds a number that is too large.",
        None,
    )


# -- tools -----------------------------------------------------------------------------------------------------------

WEATHER: JsonObject = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("body", "tools"),
    [
        ({}, Tools()),
        ({"tools": None, "functions": [], "tool_choice": None}, Tools()),
        ({"tools": [WEATHER]}, Tools((WEATHER,))),
        ({"tools": [WEATHER], "tool_choice": "auto"}, Tools((WEATHER,), "auto")),
        ({"tools": [WEATHER], "tool_choice": "none"}, Tools()),
        ({"tools": [WEATHER], "tool_choice": "required"}, Tools((WEATHER,), "required")),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            Tools((WEATHER,), {"type": "function", "function": {"name": "weather"}}),
        ),
        (
            {"tools": [{"type": "function", "function": {"name": " weather ", "strict": True}}]},
            Tools(({"type": "function", "function": {"name": "weather", "strict": True}},)),
        ),
    ],
)
def test_tools(body: JsonObject, tools: Tools) -> None:
    """The client's functions pass as they are; `none` drops them; every other choice goes to the model."""
    assert read_tools(body) == tools


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"tools": NOTHING}, "tools must be an array", "tools"),
        ({"tools": [WEATHER] * (TOOLS_MAX + 1)}, "at most 1024 tools", "tools"),
        ({"tools": ["x"]}, "tools[0] must be an object with type 'function'", "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type 'web_search' is not supported", "tools"),
        ({"tools": [WEATHER, {"type": "function"}]}, "tools[1].function.name is required", "tools"),
        ({"tools": [{"type": "function", "function": {"name": " "}}]}, "tools[0].function.name is required", "tools"),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": 1}}]},
            "tools[0].function.parameters has the wrong type",
            "tools",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "description": 1}}]},
            "tools[0].function.description has the wrong type",
            "tools",
        ),
        ({"tool_choice": "required"}, "tool_choice needs tools", "tool_choice"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "tool_choice names 'other', which is not in tools",
            "tool_choice",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "custom"}}, "tool_choice custom is not supported", "tool_choice"),
        (
            {"tools": [WEATHER], "tool_choice": 1},
            "tool_choice must be 'auto', 'none', 'required' or an object with a type",
            "tool_choice",
        ),
    ],
)
def test_wrong_tools_are_refused(body: JsonObject, message: str, param: str) -> None:
    """Every refusal has the same beginning, so that clients can tell it."""
    assert refusal(read_tools, body) == (f"Invalid tools/tool_choice: {message}.", param)


def test_the_old_form_of_tools_is_refused() -> None:
    """A function the model would never hear of is not silently dropped."""
    assert refusal(read_tools, {"functions": [{"name": "x"}]}) == (
        "`functions` is not supported; use `tools` and `tool_choice`.",
        "functions",
    )


# -- conversation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "conversation"),
    [
        pytest.param([user(" hi\n")], Conversation("", (Message("user", " hi\n"),)), id="text is kept as sent"),
        pytest.param(
            [
                user([text_part("a"), {"type": "input_text", "text": "b"}, {"type": "x", "input_text": "c"}]),
                assistant("ok"),
                user("d"),
            ],
            Conversation("", (Message("user", "a\nb\nc"), Message("assistant", "ok"), Message("user", "d"))),
            id="parts are lines",
        ),
        pytest.param(
            [
                {"role": "system", "content": "one"},
                {"role": "developer", "content": "two"},
                {"role": "system", "content": " "},
                user("hi"),
            ],
            Conversation("one\n\ntwo", (Message("user", "hi"),)),
            id="instructions",
        ),
        pytest.param(
            [user("hi"), assistant("hello"), assistant("more")],
            Conversation("", (Message("user", "hi"),)),
            id="assistant after the last input",
        ),
        pytest.param(
            [user("a"), {"role": "critic", "content": "no"}, user(""), assistant(""), user("b", name="Ann")],
            Conversation("", (Message("user", "a"), Message("user", "b", name="Ann"))),
            id="empty and unknown",
        ),
        pytest.param(
            [user("a"), assistant(NO_ANSWER), user("b")],
            Conversation("", (Message("user", "a"), Message("user", "b"))),
            id="a turn that had failed",
        ),
        pytest.param(
            [
                user("weather?"),
                assistant(tool_calls=[{"id": "c1", "type": "function", "function": {"name": "w", "arguments": "{}"}}]),
                {"role": "tool", "tool_call_id": "c1", "content": ""},
                assistant("ignored"),
            ],
            Conversation(
                "",
                (
                    Message("user", "weather?"),
                    Message("assistant", "", tool_calls=(ToolCall("c1", "w", "{}"),)),
                    Message("tool", "", tool_call_id="c1"),
                ),
            ),
            id="tool results are input",
        ),
        pytest.param(
            [
                assistant(function_call={"name": "w", "arguments": "{}"}),
                {"role": "function", "name": "w", "content": "rain"},
            ],
            Conversation(
                "",
                (
                    Message("assistant", "", tool_calls=(ToolCall("function-w", "w", "{}"),)),
                    Message("tool", "rain", tool_call_id="function-w", name="w"),
                ),
            ),
            id="the old form of tool calls in history",
        ),
        pytest.param(
            [assistant("x", tool_calls=[{"id": "c", "function": {"name": "w", "arguments": None}}]), user("b")],
            Conversation("", (Message("assistant", "x", tool_calls=(ToolCall("c", "w", ""),)), Message("user", "b"))),
            id="a call without arguments",
        ),
        pytest.param(
            [assistant([{"type": "refusal", "refusal": "no"}, {"type": "thinking", "thinking": "hm"}]), user("b")],
            Conversation("", (Message("assistant", "no"), Message("user", "b"))),
            id="refusals are text, other parts of the past are left out",
        ),
        pytest.param(
            [user([image()])],
            Conversation("", (Message("user", IMAGES_ONLY, images=(ImagePart(PICTURE),)),)),
            id="only an image",
        ),
        pytest.param(
            [user([image()]), assistant("a cat"), user([{"type": "text", "text": "sure?"}])],
            Conversation("", (Message("user", IMAGES_ONLY), Message("assistant", "a cat"), Message("user", "sure?"))),
            id="earlier images are not replayed",
        ),
        pytest.param(
            [user([image("http://x/y.png")]), {"role": "tool", "tool_call_id": "c", "content": "r"}],
            Conversation("", (Message("user", IMAGES_ONLY), Message("tool", "r", tool_call_id="c"))),
            id="a tool's turn has no images",
        ),
    ],
)
def test_conversation(messages: list[JsonObject], conversation: Conversation) -> None:
    """Messages become entries up to the new input; what is not said is left out."""
    assert said(*messages) == conversation


@pytest.mark.parametrize(
    ("messages", "message", "param"),
    [
        ([], MISSING, "messages"),
        ([{"role": "system", "content": "x"}], MISSING, "messages"),
        ([assistant("x")], MISSING, "messages"),
        ([user("hi"), assistant("hello"), user(" ")], MISSING, "messages"),
        ([user("hi"), {"role": "tool", "content": ""}], MISSING, "messages"),
        ([user(None)], MISSING, "messages"),
        (["hi"], "`messages[0]` must be an object.", "messages[0]"),
        ([{"content": "hi"}], "`messages[0].role` must be a string.", "messages[0].role"),
        ([user(1)], "`messages[0].content` must be a string or an array of parts.", "messages[0].content"),
        ([user(["hi"])], "`messages[0].content` must hold objects with a `type`.", "messages[0].content"),
        (
            [user([{"type": "text", "text": 1}])],
            "`messages[0].content` has a text part whose `text` is not a string.",
            "messages[0].content",
        ),
        (
            [user("a"), assistant("b"), user([{"type": "input_audio", "input_audio": NOTHING}])],
            "`messages[2].content` has a part of type 'input_audio', which is not supported.",
            "messages",
        ),
        ([user("hi", name=1)], "`messages[0].name` must be a string.", "messages[0].name"),
        (
            [assistant(tool_calls={}), user("x")],
            "`messages[0].tool_calls` must be an array.",
            "messages[0].tool_calls",
        ),
        (
            [assistant(tool_calls=[{"id": "c", "function": {"name": "w", "arguments": NOTHING}}]), user("x")],
            BAD_CALLS,
            "messages[0].tool_calls",
        ),
        (
            [{"role": "tool", "tool_call_id": 1, "content": "x"}],
            "`messages[0].tool_call_id` must be a string.",
            "messages[0].tool_call_id",
        ),
        ([user("x")] * (MESSAGES_MAX + 1), "`messages` may have at most 20000 entries.", "messages"),
        ([user([image("http://x/y.png")])], "Invalid image_url content in `messages`.", "messages"),
    ],
)
def test_a_wrong_conversation_is_refused(messages: list[object], message: str, param: str) -> None:
    """The refusal names the message; an older message is never answered in place of an unusable new one."""
    assert refusal(said, *messages) == (message, param)


def test_messages_must_be_an_array() -> None:
    """And there must be some."""
    assert refusal(read_conversation, {"messages": {}}, LIMITS) == ("`messages` must be an array.", "messages")
    assert refusal(read_conversation, {}, LIMITS) == (MISSING, "messages")
