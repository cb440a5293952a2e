"""What tools are given and answer, read as JSON."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from reverie.learning.feedback.bursts import context_hash, context_of
from reverie.learning.records import ToolUse
from reverie.learning.skills.verification import command_heads
from reverie.learning.steps.normalise import normalised
from reverie.learning.steps.signatures import error_code_of
from reverie.learning.steps.steps import Step
from reverie.learning.steps.tags import tags_of
from reverie.learning.steps.tool_json import object_in, value_in

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(("status", "error", "ok", "code", "message", "exit_code", "command", "url", "path"))
            | st.text(),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(value=ANY_JSON, ascii_only=st.booleans())
@example(value={"kind": "Pod", "status": {"phase": "Running"}}, ascii_only=True)
@example(value={"command": "\ud800x", "error": {"type": "\udfff"}}, ascii_only=True)
@example(value={"error": [["failed"]], "status": ["error"]}, ascii_only=False)
def test_whatever_a_tool_says_is_kept(value: object, *, ascii_only: bool) -> None:
    """Any JSON as arguments and as an answer has tags, a code, a purpose and programs that the database can keep."""
    said = json.dumps(value, ensure_ascii=ascii_only).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = normalised(
        Step(1, 2, 0, "agent", user_text="x", tools=(ToolUse("shell", said, said),)),
        text_chars_max=4_000,
        output_chars_max=2_000,
    )
    found = [error_code_of(said), *tags_of(text), context_of(said), *command_heads(said)]
    assert all(isinstance(each, str) and each.encode() is not None for each in found)
    assert context_hash("shell", context_of(said))


def test_what_is_no_json_is_none() -> None:
    """Words, half an object, nesting without end and whole numbers of many digits are no value; a list is no object."""
    assert [value_in(each) for each in ("words", '{"a": ', "[" * 5_000, "1" * 5_000, "")] == [None] * 5
    assert object_in("[1]") is None
    assert object_in('{"a": [1]}') == {"a": [1]}


def test_half_pairs_are_replaced() -> None:
    """A half pair of surrogates becomes a question mark; a whole one is the character that it stands for."""
    assert object_in(r'{"a": "\ud83d", "b": "\ud83d\ude00"}') == {"a": "?", "b": "\U0001f600"}
