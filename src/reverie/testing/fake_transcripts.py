"""Transcripts that a test writes message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reverie.types import LoggedMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.types import Provenance, Role


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
        provenance: Provenance | None = None,
    ) -> LoggedMessage:
        """Append a message to a session; its number follows from those before it.

        Without `provenance` it is the owner's or the agent's by its role, and untrusted in an import or of a tool.
        """
        seq = 1 + sum(message.session_id == session_id for message in self.messages)
        position = len(self.messages) + 1
        by_role: dict[Role, Provenance] = {"user": "owner", "assistant": "agent"}
        whose = provenance or ("untrusted" if origin == "import" else by_role.get(role, "untrusted"))
        message = LoggedMessage(
            position, session_id, agent, seq, role, text, speaker, said_on, created_at_ms, origin, whose
        )
        self.messages.append(message)
        return message

    async def messages_after(self, position: int, limit: int) -> list[LoggedMessage]:
        """The next messages after a position of the log."""
        return self.messages[position : position + limit]

    async def read_lines(self, session_id: str, start: int, count: int) -> list[LoggedMessage]:
        """Messages of one session from a number on."""
        own = [message for message in self.messages if message.session_id == session_id and message.seq >= start]
        return own[:count]

    async def whose_words(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Provenance]:
        """Whose words some messages are."""
        said = {(message.session_id, message.seq): message for message in self.messages}
        return {place: said[place].provenance for place in places if place in said}

    async def last_position(self) -> int:
        """The position of the newest message."""
        return len(self.messages)
