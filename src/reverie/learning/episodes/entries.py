"""Entries of a transcript as episodes count them: parsed once, here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reverie.learning.episodes.routing import Load
from reverie.learning.said import SaidMessage
from reverie.llm.tokens import raw_message_tokens
from reverie.sessions.codec import decode_message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reverie.storage import Row


@dataclass(frozen=True, slots=True)
class Entry:
    """A message with its place in the log of all sessions, its size, and what an episode counts for it."""

    position: int
    session_id: str
    message: SaidMessage
    tokens: int

    @property
    def seq(self) -> int:
        """Its number in its transcript."""
        return self.message.seq

    @property
    def load(self) -> Load:
        """What it adds to an episode: a tool call is a step, and so is a reply without any; a result is part of one."""
        steps = max(1, len(self.message.tool_calls)) if self.message.role == "assistant" else 0
        return Load(1, steps, self.tokens)

    @property
    def piece(self) -> Load:
        """What comes with it and is not cut from it: the results of its tool calls."""
        return Load(1 + len(self.message.tool_calls), self.load.steps, self.tokens)


def entry_of(row: Row) -> Entry:
    """A row of messages, its size estimated."""
    message = decode_message(row["role"], row["text"], row["extra"])
    said = SaidMessage(
        seq=row["seq"],
        role=row["role"],
        text=row["text"],
        at_ms=row["created_at"],
        whose=row["whose"],
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
        turn_id=row["turn_id"],
        name=message.name or "",
    )
    return Entry(row["id"], row["session_id"], said, raw_message_tokens(message))


def open_calls(rows: Iterable[Row]) -> set[str]:
    """The tool calls without result after a message and the results that followed it."""
    waiting: set[str] = set()
    for row in rows:
        extra: dict[str, Any] = json.loads(row["extra"])
        if row["role"] == "tool":
            waiting.discard(extra.get("tool_call_id", ""))
        else:
            waiting = {call["id"] for call in extra.get("tool_calls", ())}
    return waiting


def after(waiting: set[str], message: SaidMessage) -> set[str]:
    """The tool calls without result after one more message."""
    if message.role == "tool":
        return waiting - {message.tool_call_id or ""}
    return {call.id for call in message.tool_calls}
