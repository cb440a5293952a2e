"""Entries of a transcript as episodes count them."""

from __future__ import annotations

import json
from typing import Any

from reverie.learning.episodes.entries import after, entry_of, open_calls
from reverie.learning.episodes.routing import Load
from reverie.learning.said import SaidMessage
from reverie.types import ToolCall

CALLS = [{"id": "a", "name": "shell", "arguments": "{}"}, {"id": "b", "name": "shell", "arguments": "{}"}]


def row(role: str, text: str = "", **extra: Any) -> dict[str, Any]:
    return {
        "id": 7, "session_id": "s1", "seq": 3, "turn_id": "t1", "role": role, "whose": "owner", "created_at": 5,
        "text": text, "extra": json.dumps(extra),
    }  # fmt: skip


def test_a_row_is_an_entry() -> None:
    """A message keeps its words and calls; its size is estimated."""
    entry = entry_of(row("assistant", "Looking.", tool_calls=CALLS))

    assert entry.message == SaidMessage(
        3, "assistant", "Looking.", 5, "owner", (ToolCall("a", "shell", "{}"), ToolCall("b", "shell", "{}")), None, "t1"
    )
    assert (entry.position, entry.session_id, entry.seq, entry.tokens) == (7, "s1", 3, 28)


def test_calls_and_replies_are_steps() -> None:
    """Each call is a step and so is a reply; calls come with their results, which add none."""
    calls, reply = entry_of(row("assistant", tool_calls=CALLS)), entry_of(row("assistant", "Done."))
    result, asked = entry_of(row("tool", "ok", tool_call_id="a")), entry_of(row("user", "Do it"))

    assert (calls.load, calls.piece) == (Load(1, 2, 26), Load(3, 2, 26))
    assert (reply.load, result.load, asked.load) == (Load(1, 1, 6), Load(1, 0, 5), Load(1, 0, 6))


def test_calls_without_result() -> None:
    """A call waits until its result; a further message ends the waiting."""
    rows = [row("assistant", tool_calls=CALLS), row("tool", tool_call_id="a")]

    assert open_calls(rows) == {"b"}
    assert open_calls([]) == set()
    assert after({"b"}, entry_of(row("tool", tool_call_id="b")).message) == set()
    assert after({"b"}, entry_of(row("assistant", tool_calls=CALLS)).message) == {"a", "b"}
    assert after({"b"}, entry_of(row("user", "Stop")).message) == set()
