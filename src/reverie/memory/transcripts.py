"""Transcripts as the index reads them: a log of messages that only grows, followed by position.

A message is one line of `sessions/<session id>`, numbered as in the transcript. A long message becomes several parts
on the same line. What a person or the agent said is indexed; tool results are not, because they are neither's memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from reverie.memory.chunking import split_message
from reverie.memory.fusion import ASSISTANT, USER
from reverie.memory.passages import make_passage
from reverie.memory.store import TranscriptPassages
from reverie.memory.text import clean, collapse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.memory.passages import Passage
    from reverie.types import LoggedMessage, Provenance, Role

FOLLOW_MESSAGES_MAX = 200
FOLLOW_CHARS_MAX = 2_000_000
INDEXED_ROLES = frozenset[str]({"user", "assistant"})
GENERIC_SPEAKERS = frozenset({"user", "assistant", "human", "ai", "system", "bot", "me", "you"})
"""Names that say a role. They name nobody a question could be about."""

_SPEAKERS: dict[Role, str] = {"user": "User", "assistant": "Assistant", "tool": "Tool", "system": "System"}


class TranscriptLog(Protocol):
    """Where the messages of all sessions stand, in the order they were written."""

    async def messages_after(self, position: int, limit: int) -> list[LoggedMessage]:
        """The next messages after a position of the log, in log order."""
        ...

    async def read_lines(self, session_id: str, start: int, count: int) -> list[LoggedMessage]:
        """Messages of one session from number `start` on; empty when there is no such session."""
        ...

    async def whose_words(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Provenance]:
        """Whose words some messages are, by session and number; one that there is not is missing."""
        ...

    async def last_position(self) -> int:
        """The position of the newest message; 0 when there is none."""
        ...


def within_size(messages: Sequence[LoggedMessage]) -> list[LoggedMessage]:
    """The first messages that together stay below `FOLLOW_CHARS_MAX`, at least one."""
    taken: list[LoggedMessage] = []
    room = FOLLOW_CHARS_MAX
    for message in messages:
        room -= len(message.text)
        if taken and room < 0:
            break
        taken.append(message)
    return taken


def transcript_passages(messages: Sequence[LoggedMessage]) -> list[TranscriptPassages]:
    """The passages of a batch of messages, by session; CPU work, for a worker thread."""
    grouped: dict[tuple[str, str], list[Passage]] = {}
    for message in messages:
        if message.role in INDEXED_ROLES:
            held = grouped.setdefault((message.agent, message.session_id), [])
            held.extend(_passages(message, held[-1].unit + 1 if held else 1))
    return [TranscriptPassages(agent, session, tuple(parts)) for (agent, session), parts in grouped.items() if parts]


def _passages(message: LoggedMessage, unit: int) -> list[Passage]:
    return [
        make_passage(
            start_line=message.seq,
            end_line=message.seq,
            unit=unit,
            part=part,
            text=text,
            unit_chars=len(message.text),
            speaker=clean(message.speaker),
            said_by=said_by(message.speaker, message.role),
            said_on=clean(message.said_on),
            provenance=message.provenance,
            created_at_ms=message.created_at_ms,
        )
        for part, text in enumerate(split_message(clean(message.text)))
    ]


def said_by(speaker: str, role: Role) -> str:
    """Who said a message, for ranking: a folded name, else `user` or `assistant`."""
    name = clean(speaker).casefold()
    return name if name and name not in GENERIC_SPEAKERS else ASSISTANT if role == "assistant" else USER


def rendered(message: LoggedMessage) -> str:
    """A message as one line of text. A tool's result is left out: it can be as long and as hostile as it likes."""
    if message.forgotten:
        return "(forgotten)"
    if message.role == "tool":
        return f"Tool: (result of {len(message.text)} characters left out)"
    text = collapse(message.text)
    speaker = message.speaker.strip() or _SPEAKERS[message.role]
    return text if text.startswith(f"{speaker}:") else f"{speaker}: {text}"
