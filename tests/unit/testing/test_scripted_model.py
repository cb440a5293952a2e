"""The scripted model: what was written down is said, anything else fails the test."""

from __future__ import annotations

import anyio
import pytest

from reverie.errors import UpstreamTimeoutError
from reverie.llm.client import Completed, ModelEvent, ModelRequest, ReasoningText, TextDelta
from reverie.testing import ScriptedModel, reply
from reverie.testing.scripted_model import UnexpectedCallError, UnusedReplyError
from reverie.types import Message, ToolCall, Usage

pytestmark = pytest.mark.anyio

REQUEST = ModelRequest((Message("user", "Hi"),))
CALL = ToolCall("1", "memory_search", "{}")
USAGE = Usage(10, 5, 15)


async def collect(model: ScriptedModel, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    """All events of a call."""
    return [event async for event in model.respond(request)]


async def test_replies_in_order() -> None:
    """Texts, reasoning and tool calls come as written down; requests are kept."""
    with ScriptedModel(
        "one", reply("two", ReasoningText("hm"), calls=[CALL]), reply(finish="length", usage=None)
    ) as model:
        assert await collect(model) == [TextDelta("one"), Completed("stop", (), USAGE, "scripted")]
        assert await collect(model) == [
            TextDelta("two"),
            ReasoningText("hm"),
            Completed("tool_calls", (CALL,), USAGE, "scripted"),
        ]
        assert await collect(model) == [Completed("length", (), None, "scripted")]
    assert model.requests == [REQUEST] * 3


async def test_the_model_asked_for_is_the_one_that_answers() -> None:
    """An override shows in the answer, unless the script names a model."""
    model = ScriptedModel("a", reply("b", model="served"), name="m")
    asked = ModelRequest(REQUEST.messages, model_override="other")
    models = [event.model for _ in range(2) for event in await collect(model, asked) if isinstance(event, Completed)]
    assert (model.name, models) == ("m", ["other", "served"])


async def test_errors_are_raised_where_they_stand() -> None:
    """An error comes after the text before it."""
    model = ScriptedModel(reply("some", UpstreamTimeoutError("late")), UpstreamTimeoutError("at once"))
    events = model.respond(REQUEST)
    assert await anext(events) == TextDelta("some")
    with pytest.raises(UpstreamTimeoutError, match="late"):
        await anext(events)
    with pytest.raises(UpstreamTimeoutError, match="at once"):
        await collect(model)
    assert model.cancelled == 0


async def test_a_reply_waits_where_told() -> None:
    """An event holds the reply until it is set."""
    hold = anyio.Event()
    model = ScriptedModel(reply("before", hold, "after"))
    seen: list[ModelEvent] = []

    async def call() -> None:
        seen.extend([event async for event in model.respond(REQUEST)])

    async with anyio.create_task_group() as calls:
        calls.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        hold.set()
    assert seen[:2] == [TextDelta("before"), TextDelta("after")]


async def test_a_call_that_is_cancelled_is_counted() -> None:
    """A test can tell that the model was let go."""
    model = ScriptedModel(reply("text", anyio.Event()))
    async with anyio.create_task_group() as calls:
        calls.start_soon(collect, model)
        await anyio.wait_all_tasks_blocked()
        calls.cancel_scope.cancel()
    assert model.cancelled == 1


async def test_a_call_that_was_not_written_down() -> None:
    """One call too many fails and says how it ended."""
    with pytest.raises(UnexpectedCallError, match="call 1 of the model was not written down; it ended 'Hi'"):
        await collect(ScriptedModel())


async def test_replies_that_nobody_asked_for() -> None:
    """One call too few fails at the end of the block, but does not hide another failure."""
    with pytest.raises(UnusedReplyError, match="1 scripted replies"), ScriptedModel("unused"):
        pass
    with pytest.raises(ValueError, match="first"), ScriptedModel("unused"):
        raise ValueError("first")


async def test_an_answer_for_everything_else() -> None:
    """A function answers when the script is used up."""
    model = ScriptedModel("scripted first", otherwise=lambda request: f"echo {request.messages[-1].text}")
    model.add("added")
    said = [(await collect(model))[0] for _ in range(3)]
    assert said == [TextDelta("scripted first"), TextDelta("added"), TextDelta("echo Hi")]
    assert model.remaining == 0


async def test_closing_is_noted() -> None:
    """A test can tell that the model was closed."""
    model = ScriptedModel()
    await model.aclose()
    assert model.closed
