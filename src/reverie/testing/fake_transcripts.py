"""Transcripts that a test writes message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reverie.types import LoggedMessage

if TYPE_CHECKING:
    from reverie.types import Role


class FakeTranscripts:
    """A log of messages in memory: what `SessionStore` shows to the memory index."""

    def __init__(self) -> None:
        self.messages: list[LoggedMessage] = []

    def say(
        self,
        text: str,
        *,
        session_id: str = "s1",
        agent: str = "main",
        role: Role = "user",
        speaker: str = "",
        said_on: str = "",
        created_at_ms: int = 0,
        origin: Literal["live", "import"] = "live",
    ) -> LoggedMessage:
        """Append a message to a session; its number follows from those before it."""
        seq = 1 + sum(message.session_id == session_id for message in self.messages)
        position = len(self.messages) + 1
        message = LoggedMessage(position, session_id, agent, seq, role, text, speaker, said_on, created_at_ms, origin)
        self.messages.append(message)
        return message

    async def messages_after(self, position: int, limit: int) -> list[LoggedMessage]:
        """The next messages after a position of the log."""
        return self.messages[position : position + limit]

    async def read_lines(self, session_id: str, start: int, count: int) -> list[LoggedMessage]:
        """Messages of one session from a number on."""
        own = [message for message in self.messages if message.session_id == session_id and message.seq >= start]
        return own[:count]

    async def last_position(self) -> int:
        """The position of the newest message."""
        return len(self.messages)
