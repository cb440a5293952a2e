"""A message of a transcript as learning reads it."""

from __future__ import annotations

import re
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


_SPACES = re.compile(r"\s+")


def spaced(text: str) -> str:
    """A text with one space for each run of spaces, or one line break where the run has any.

    So rules that look past spaces from each of them take no longer for a page that is mostly empty.
    """
    return _SPACES.sub(lambda run: "\n" if "\n" in run[0] else " ", text)
