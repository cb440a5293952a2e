"""Messages of a conversation for tests, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.learning.said import SaidMessage
from reverie.types import ToolCall

if TYPE_CHECKING:
    from reverie.types import Provenance

T0 = 1_700_000_000_000


def user(seq: int, text: str, whose: Provenance = "owner") -> SaidMessage:
    """What a user said."""
    return SaidMessage(seq, "user", text, T0 + seq * 1_000, whose)


def agent(seq: int, text: str, *calls: str) -> SaidMessage:
    """What the agent said; a call is `id name arguments`."""
    made = tuple(ToolCall(*call.split(" ", 2)) for call in calls)
    return SaidMessage(seq, "assistant", text, T0 + seq * 1_000, "agent", made)


def result(seq: int, call_id: str, text: str, whose: Provenance = "untrusted", name: str = "") -> SaidMessage:
    """What a tool answered."""
    return SaidMessage(seq, "tool", text, T0 + seq * 1_000, whose, tool_call_id=call_id, name=name)
