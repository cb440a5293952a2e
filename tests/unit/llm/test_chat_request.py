"""Messages and sampling as the body of a chat-completions call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reverie.llm.chat_request import render_message, request_body
from reverie.llm.client import ModelRequest
from reverie.types import ImagePart, Message, ToolCall

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def body(request: ModelRequest, *, stream: bool = True, usage: bool = True) -> dict[str, Any]:
    """The body of a request, parsed again."""
    return json.loads(request_body(request, model="m", stream=stream, usage_in_stream=usage))


def test_a_whole_request() -> None:
    """Sampling is merged, tools and tool choice are passed on, and usage is asked for in the stream."""
    request = ModelRequest(
        messages=(Message("system", "Be kind."), Message("user", "Hi")),
        tools=(TOOL,),
        tool_choice="auto",
        sampling={"temperature": 0.2, "stop": ["x"]},
    )
    assert body(request) == {
        "temperature": 0.2,
        "stop": ["x"],
        "model": "m",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [TOOL],
        "tool_choice": "auto",
    }


def test_what_is_ours_wins_over_sampling() -> None:
    """A sampling parameter cannot replace the model, the messages or the way of answering."""
    request = ModelRequest(
        (Message("user", "Hi"),), sampling={"model": "x", "stream": True, "stream_options": {}, "messages": []}
    )
    assert body(request, stream=False) == {
        "model": "m",
        "stream": False,
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_no_tool_choice_without_tools() -> None:
    """A tool choice is only sent beside tools: servers refuse it alone."""
    assert "tool_choice" not in body(ModelRequest((Message("user", "Hi"),), tool_choice="auto"))


def test_stream_options_can_be_left_out() -> None:
    """A server that refuses `stream_options` is not sent any."""
    assert "stream_options" not in body(ModelRequest((Message("user", "Hi"),)), usage=False)


def test_lone_surrogates_do_not_fail_the_call() -> None:
    """Text that cannot be written as UTF-8 is sent with a question mark in its place."""
    assert body(ModelRequest((Message("user", "é\ud83d"),)))["messages"][0]["content"] == "é?"


@pytest.mark.parametrize(
    ("message", "rendered"),
    [
        (
            Message("user", "Look", images=(ImagePart("data:image/png;base64,AA==", "low"), ImagePart("https://x/y"))),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://x/y"}},
                ],
            },
        ),
        (
            Message("user", "", images=(ImagePart("https://x/y"),)),
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}]},
        ),
        (
            Message("assistant", "", tool_calls=(ToolCall("a", "f", ""), ToolCall("b", "g", '{"q":1}'))),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"q":1}'}},
                ],
            },
        ),
        (
            Message("tool", "found", tool_call_id="a", name="f"),
            {"role": "tool", "content": "found", "tool_call_id": "a", "name": "f"},
        ),
        (Message("user", "Hi", name="Anna Lee / ops"), {"role": "user", "content": "Hi", "name": "Anna_Lee_ops"}),
        (Message("user", "Hi", name="安娜"), {"role": "user", "content": "Hi"}),
        (Message("assistant", ""), {"role": "assistant", "content": ""}),
    ],
)
def test_messages(message: Message, rendered: dict[str, Any]) -> None:
    """Images, tool calls, tool results and names take OpenAI's form; names keep to the alphabet servers accept."""
    assert render_message(message) == rendered
