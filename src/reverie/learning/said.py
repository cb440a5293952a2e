"""A message of a transcript as learning reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reverie.types import Provenance, ToolCall


@dataclass(frozen=True, slots=True)
class SaidMessage:
    """An entry of a session's transcript, by its number there. `whose` says whose words it holds."""

    seq: int
    role: Literal["user", "assistant", "tool"]
    text: str
    at_ms: int
    whose: Provenance
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    turn_id: str | None = None
    name: str = ""
