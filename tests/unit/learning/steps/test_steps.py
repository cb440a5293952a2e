"""Steps out of a transcript.

Where the record of the original system differs: steps are numbered within their exchange and refer to the number of its
user message, not to an instant; there are no system messages and no tool metadata in a transcript of ours, so nothing
of that is skipped or unwrapped, and a result without a call becomes a step of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from reverie.learning.records import ToolUse
from reverie.learning.said import SaidMessage
from reverie.learning.steps.steps import Extracted, Step, extract
from reverie.types import ToolCall
from tests.unit.learning.said import T0, agent, result, user

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_an_exchange_without_tools_is_one_step() -> None:
    """A question and its reply; everything was read and nothing waits."""
    assert extract([user(1, "hello"), agent(2, "hi")]) == Extracted(
        (Step(1, 2, T0 + 2_000, "agent", opens=1, user_text="hello", agent_text="hi"),), 2, 0
    )


def test_a_call_and_the_reply_are_two_steps() -> None:
    """Only the first has the user's text; what was said before the call stays with it; whose: the least trusted."""
    said = [user(1, "list"), agent(2, "let me look", "c1 ls {}"), result(3, "c1", "a b"), agent(4, "a and b")]
    tool = ToolUse("ls", "{}", "a b", call_id="c1", text_before="let me look")
    assert extract(said).steps == (
        Step(1, 3, T0 + 3_000, "untrusted", opens=1, user_text="list", tools=(tool,)),
        Step(4, 4, T0 + 4_000, "agent", agent_text="a and b"),
    )


def test_several_calls_of_one_message_are_several_steps() -> None:
    """Results find their calls in whatever order they come, also those of one tool; the first call has the text."""
    said = [
        user(1, "both"),
        agent(2, "now", "c1 get 1", "c2 get 2"),
        result(3, "c2", "two"),
        result(4, "c1", "one"),
        agent(5, "done"),
    ]
    assert extract(said).steps == (
        Step(1, 4, T0 + 4_000, "untrusted", opens=1, user_text="both",
             tools=(ToolUse("get", "1", "one", call_id="c1", text_before="now"),)),
        Step(2, 3, T0 + 3_000, "untrusted", tools=(ToolUse("get", "2", "two", call_id="c2"),)),
        Step(5, 5, T0 + 5_000, "agent", agent_text="done"),
    )  # fmt: skip


def test_two_questions_are_two_exchanges() -> None:
    """Each begins with its own user message; several in a row are one question."""
    said = [user(1, "a"), agent(2, "b"), user(3, "c"), user(4, "d"), agent(5, "e")]
    assert [(step.opens, step.user_text, step.agent_text) for step in extract(said).steps] == [
        (1, "a", "b"),
        (3, "c\n\nd", "e"),
    ]


def test_what_is_not_complete_waits() -> None:
    """A question without a reply, and all calls of a message until the last result is there."""
    assert extract([user(1, "a"), agent(2, "b"), user(3, "c")]) == Extracted(
        (Step(1, 2, T0 + 2_000, "agent", opens=1, user_text="a", agent_text="b"),), 2, 1
    )
    assert extract([user(7, "a"), agent(8, "", "c1 x 1", "c2 x 2"), result(9, "c1", "one")]) == Extracted((), 6, 1)
    assert extract([]) == Extracted((), 0, 0)


def test_a_call_that_nobody_answered_ends_with_the_next_question() -> None:
    """It is a step without a result; a result that comes too late is a step of its own."""
    said = [
        user(1, "a"),
        agent(2, "", "c1 x 1"),
        user(3, "never mind"),
        result(4, "c1", "late", name="x"),
        agent(5, "ok"),
    ]
    assert [(step.opens, step.user_text, step.agent_text, step.tools) for step in extract(said).steps] == [
        (1, "a", "", (ToolUse("x", "1", call_id="c1"),)),
        (3, "never mind", "", (ToolUse("x", "", "late", call_id="c1"),)),
        (None, "", "ok", ()),
    ]


def test_at_the_end_everything_is_done() -> None:
    """Open calls become steps without a result; a last question is dropped, unless there was nothing else."""
    said = [user(1, "a"), agent(2, "", "c1 x 1"), user(3, "b")]
    assert extract(said, final=True, alone=True) == Extracted(
        (Step(1, 2, T0 + 2_000, "agent", opens=1, user_text="a", tools=(ToolUse("x", "1", call_id="c1"),)),), 3, 0
    )
    alone = Extracted((Step(1, 1, T0 + 1_000, "owner", opens=1, user_text="a"),), 1, 0)
    assert extract([user(1, "a")], final=True, alone=True) == alone
    assert extract([user(1, "a")], final=True) == Extracted((), 1, 0)


def test_merged_an_exchange_is_one_step() -> None:
    """All its calls and its reply, once it is there; what follows in the next exchange waits."""
    said = [
        user(1, "a"),
        agent(2, "t", "c1 x 1"),
        result(3, "c1", "one"),
        agent(4, "b"),
        user(5, "c"),
        agent(6, "", "c2 x 2"),
    ]
    tool = ToolUse("x", "1", "one", call_id="c1", text_before="t")
    assert extract(said, merged=True) == Extracted(
        (Step(1, 4, T0 + 4_000, "untrusted", opens=1, user_text="a", agent_text="b", tools=(tool,)),), 4, 1
    )
    assert len(extract(said, merged=True, final=True).steps) == 2


@st.composite
def conversations(draw: st.DrawFn) -> list[SaidMessage]:
    """Any sequence of messages, each with a text of its own: also results that nobody asked for."""
    messages: list[SaidMessage] = []
    seq, ids = 0, ["stray"]
    for kind in draw(st.lists(st.sampled_from(["user", "reply", "calls", "tool", "tool"]), max_size=24)):
        seq += draw(st.integers(1, 2))
        if kind == "user":
            messages.append(user(seq, f"<{seq}>"))
        elif kind == "tool":
            call_id = draw(st.sampled_from(ids[-3:]))
            messages.append(result(seq, call_id, f"<{seq}>"))
        else:
            count = draw(st.integers(1, 3)) if kind == "calls" else 0
            made = tuple(ToolCall(f"c{seq}-{place}", "x", f"<{seq}-{place}>") for place in range(count))
            ids.extend(call.id for call in made)
            messages.append(SaidMessage(seq, "assistant", f"<{seq}>", T0 + seq, "agent", made))
    return messages


def _texts(steps: Sequence[Step]) -> list[str]:
    texts: list[str] = []
    for step in steps:
        texts.extend(part for part in step.user_text.split("\n\n") if part)
        texts.extend(part for part in step.agent_text.split("\n\n") if part)
        texts.extend(part for tool in step.tools for part in (tool.text_before, tool.input, tool.output) if part)
    return sorted(texts)


@given(conversations(), st.booleans())
def test_every_message_is_in_exactly_one_step(messages: list[SaidMessage], merged: bool) -> None:  # noqa: FBT001 (drawn)
    """Up to where they were read; at the end only a last question may be left out."""
    read = extract(messages, merged=merged)
    done = [message for message in messages if message.seq <= read.through_seq]
    expected = [message.text for message in done]
    expected += [call.arguments for message in done for call in message.tool_calls]
    assert _texts(read.steps) == sorted(expected)

    last = extract(messages, merged=merged, final=True)
    asked_last = 0
    while asked_last < len(messages) and messages[-1 - asked_last].role == "user":
        asked_last += 1
    kept = messages[: len(messages) - asked_last]
    expected = [message.text for message in kept]
    expected += [call.arguments for message in kept for call in message.tool_calls]
    assert _texts(last.steps) == sorted(expected)


@given(conversations(), st.lists(st.integers(0, 24), max_size=6), st.booleans())
def test_any_chunks_give_the_same_steps(messages: list[SaidMessage], cuts: list[int], merged: bool) -> None:  # noqa: FBT001 (drawn)
    """Messages that are given as they come, with those that wait given again, make the steps that all make at once."""
    steps: list[Step] = []
    through = 0
    for end in [*sorted(cut for cut in cuts if cut < len(messages)), len(messages)]:
        read = extract([each for each in messages[:end] if each.seq > through], merged=merged)
        steps.extend(read.steps)
        through = max(through, read.through_seq)
    assert tuple(steps) == extract(messages, merged=merged).steps
