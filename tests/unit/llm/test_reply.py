"""Chunks of a chat completion become events, whatever dialect the server speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import UpstreamMalformedError
from reverie.llm.client import Completed, ReasoningText, TextDelta
from reverie.llm.reply import ReplyAssembler, read_usage
from reverie.types import ToolCall, Usage

if TYPE_CHECKING:
    from reverie.types import FinishReason


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a stream with one choice."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def call(function: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chunk with a delta of one tool call."""
    return chunk({"tool_calls": [{**more, "function": function}]})


def assemble(*chunks: dict[str, Any]) -> list[TextDelta | ReasoningText | Completed]:
    """All events that these chunks give."""
    reply = ReplyAssembler("asked")
    events: list[TextDelta | ReasoningText | Completed] = []
    for each in chunks:
        events += reply.chunk(each)
    return [*events, reply.completed()]


def calls(*chunks: dict[str, Any]) -> tuple[ToolCall, ...]:
    """The tool calls that these chunks give."""
    last = assemble(*chunks)[-1]
    assert isinstance(last, Completed)
    return last.tool_calls


def test_text_reasoning_usage_and_model() -> None:
    """Text and reasoning come as deltas; finish, usage and the served model with the last event."""
    assert assemble(
        chunk({"role": "assistant", "content": None}),
        chunk({"reasoning_content": "hm"}),
        chunk({"reasoning": "so"}),
        chunk({"content": "a"}),
        chunk({"content": "a"}),
        chunk({}, "length", model="served"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    ) == [
        ReasoningText("hm"),
        ReasoningText("so"),
        TextDelta("a"),
        TextDelta("a"),
        Completed("length", (), Usage(3, 2, 5), "served"),
    ]


def test_a_server_that_says_little() -> None:
    """Without usage, model or finish reason the last event says so, or takes what was asked."""
    assert assemble(chunk(None), {"choices": None}, {}, chunk({"content": "x"})) == [
        TextDelta("x"),
        Completed("stop", (), None, "asked"),
    ]


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("max_tokens", "length"),
        ("eos", "stop"),
        ("tool_calls", "stop"),
        ("function_call", "stop"),
    ],
)
def test_finish_reasons_without_calls(said: str, finish: FinishReason) -> None:
    """Unknown reasons become `stop`, and so does a promise of tool calls that did not come."""
    assert assemble(chunk({}, said)) == [Completed(finish, (), None, "asked")]


@pytest.mark.parametrize(
    ("said", "finish"), [("stop", "tool_calls"), ("tool_calls", "tool_calls"), ("length", "length")]
)
def test_finish_reasons_with_calls(said: str, finish: FinishReason) -> None:
    """With calls a plain `stop` becomes `tool_calls`; calls cut off by the length stay recognisable."""
    completed = assemble(call({"name": "f", "arguments": "{}"}, index=0, id="a"), chunk({}, said))
    assert completed == [Completed(finish, (ToolCall("a", "f", "{}"),), None, "asked")]


class TestToolCalls:
    def test_deltas_by_index(self) -> None:
        """Deltas of two calls, interleaved by index, are joined to whole calls in order of appearance."""
        assert calls(
            call({"name": "f", "arguments": ""}, index=0, id="a"),
            call({"name": "g", "arguments": '{"q"'}, index=1, id="b"),
            call({"arguments": '{"p":'}, index=0),
            call({"arguments": ":2}"}, index=1),
            call({"arguments": "1}"}, index=0),
        ) == (ToolCall("a", "f", '{"p":1}'), ToolCall("b", "g", '{"q":2}'))

    def test_whole_calls_without_index(self) -> None:
        """Calls that come whole in one chunk and without an index stay apart."""
        both = [{"id": "a", "function": {"name": "f", "arguments": "{}"}}, {"id": "b", "function": {"name": "f"}}]
        assert calls(chunk({"tool_calls": both})) == (ToolCall("a", "f", "{}"), ToolCall("b", "f", ""))

    def test_deltas_without_index_continue_the_last_call(self) -> None:
        """Without index and id, arguments belong to the last call and a name begins the next one."""
        assert calls(
            call({"name": "f", "arguments": "{"}, id="a"),
            call({"arguments": "}"}),
            call({"name": "g", "arguments": "{}"}, id="b"),
            call({"arguments": " "}, id="a"),
        ) == (ToolCall("a", "f", "{} "), ToolCall("b", "g", "{}"))

    def test_a_server_that_numbers_every_call_zero(self) -> None:
        """Another id and a name under the same index is another call."""
        assert calls(
            call({"name": "f", "arguments": "{}"}, index=0, id="a"),
            call({"name": "f", "arguments": '{"x":1}'}, index=0, id="b"),
        ) == (ToolCall("a", "f", "{}"), ToolCall("b", "f", '{"x":1}'))

    def test_a_repeated_name_is_not_doubled(self) -> None:
        """A server that repeats id and name with each delta still makes one call."""
        assert calls(
            call({"name": "f", "arguments": "{"}, index=0, id="a"),
            call({"name": "f", "arguments": "}"}, index=0, id="a"),
        ) == (ToolCall("a", "f", "{}"),)

    def test_missing_ids_are_generated(self) -> None:
        """Calls without an id get different ones of our own."""
        first, second = calls(call({"name": "f"}, index=0), call({"name": "f"}, index=1))
        assert first.id.startswith("call_")
        assert second.id.startswith("call_")
        assert first.id != second.id

    def test_arguments_as_an_object(self) -> None:
        """Arguments given as JSON instead of as text become text."""
        assert calls(call({"name": "f", "arguments": {"q": "é"}}, id="a")) == (ToolCall("a", "f", '{"q": "é"}'),)

    def test_the_older_function_call(self) -> None:
        """The form before tool calls is understood."""
        (only,) = calls(
            chunk({"function_call": {"name": "f", "arguments": '{"a"'}}), chunk({"function_call": {"arguments": ":1}"}})
        )
        assert (only.name, only.arguments) == ("f", '{"a":1}')

    @pytest.mark.parametrize("broken", [{"tool_calls": "x"}, {"tool_calls": ["x"]}, {"tool_calls": [{"id": "a"}]}])
    def test_calls_that_cannot_be_used(self, broken: dict[str, Any]) -> None:
        """Calls of a wrong type, or without a name, are an error."""
        with pytest.raises(UpstreamMalformedError):
            calls(chunk(broken))


def test_content_as_parts() -> None:
    """Content as a list of parts gives its text, and its thinking as reasoning."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "thinking", "thinking": "so"},
        {"type": "text", "text": "yes"},
        {"type": "image_url"},
        "odd",
    ]
    assert assemble(chunk({"content": parts}))[:-1] == [ReasoningText("hm"), ReasoningText("so"), TextDelta("yes")]


def test_a_refusal_is_text() -> None:
    """A model's refusal reaches the user as text."""
    assert assemble(chunk({"refusal": "I cannot."}))[:-1] == [TextDelta("I cannot.")]


def test_lone_surrogates_become_replacement_characters() -> None:
    """Text that JSON can express but UTF-8 cannot is mended, so that it can be stored and sent."""
    assert assemble(chunk({"content": "é\ud83d"}))[:-1] == [TextDelta("é\ufffd")]


def test_further_choices_are_not_followed() -> None:
    """With several choices only the first speaks."""
    two = {"choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]}
    assert assemble(two)[:-1] == [TextDelta("a")]


def test_a_whole_message_in_a_stream() -> None:
    """A stream whose only chunk holds a message instead of a delta is read."""
    only = {"choices": [{"message": {"content": "all"}, "finish_reason": "stop"}]}
    assert assemble(only) == [TextDelta("all"), Completed("stop", (), None, "asked")]


def test_a_completion_in_one_piece() -> None:
    """An answer that was not streamed gives the same events."""
    reply = ReplyAssembler("asked")
    message = {
        "content": "let me look",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    events = reply.whole({"model": "m", "choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {}})
    assert events == [ReasoningText("hm"), TextDelta("let me look")]
    assert reply.completed() == Completed("tool_calls", (ToolCall("a", "f", "{}"),), Usage(), "m")


NO_MESSAGE: list[dict[str, Any]] = [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": "text"}]}]


@pytest.mark.parametrize("broken", NO_MESSAGE)
def test_a_completion_without_a_message(broken: dict[str, Any]) -> None:
    """An answer without a message is an error, not an empty reply."""
    with pytest.raises(UpstreamMalformedError, match="no message"):
        ReplyAssembler("m").whole(broken)


def test_a_delta_that_is_no_object() -> None:
    """A delta of another type is an error."""
    with pytest.raises(UpstreamMalformedError, match="not an object"):
        assemble({"choices": [{"delta": "text"}]})


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, Usage()),
        ({"prompt_tokens": 7.0, "completion_tokens": None, "total_tokens": "9"}, Usage(7, 0, 7)),
        ({"prompt_tokens": float("nan"), "completion_tokens": -3}, Usage()),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "total_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(10, 4, 20, 8, 2),
        ),
    ],
)
def test_usage(counts: dict[str, Any], usage: Usage) -> None:
    """Counts are taken where they are numbers; the total is computed when it is missing."""
    assert read_usage(counts) == usage
