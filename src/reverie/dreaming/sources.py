"""Where passages come from, read anew: notes of a workspace, and messages of conversations, with whose words they are.

What an entry remembers of its passage counts for nothing here: the file and the transcript say what stands there now,
and who wrote it is looked up again, line by line.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from reverie.dreaming.recording import is_conversation, note_path
from reverie.memory.documents import MEMORY_FOLDER, SkippedFile, is_indexed_path, read_file, split_lines
from reverie.memory.text import clean, collapse
from reverie.memory.transcripts import INDEXED_ROLES
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo
    from pathlib import Path

    from reverie.types import LoggedMessage, Provenance, Role

MESSAGES_MAX = 20
"""Messages of one passage: it has one, unless somebody made the entry by hand."""

DAY_CHARACTERS_MAX = 40
_SPEAKERS: dict[Role, str] = {"user": "User", "assistant": "Assistant", "tool": "Tool", "system": "System"}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


class NoteAuthors(Protocol):
    """Who wrote what of the notes."""

    async def of_lines(self, agent: str, text: str) -> tuple[Provenance, ...]:
        """Whose words each line of a text is, as `documents.split_lines` counts them."""
        ...


class Transcripts(Protocol):
    """Where conversations are kept."""

    async def read_lines(self, session_id: str, start: int, count: int) -> list[LoggedMessage]:
        """Messages of one session from number `start` on; empty when there is no such session."""
        ...


@dataclass(frozen=True, slots=True)
class LiveText:
    """What stands at a place now: a whole file, or the messages that were asked for.

    `lines[0]` is line `first_line`, and `provenance` tells whose words each is. Of a conversation every line is a
    message, empty where there is none, and `said` is what to put before it: when it was said, and by whom.
    """

    path: str
    first_line: int
    lines: tuple[str, ...]
    provenance: tuple[Provenance, ...]
    said: tuple[str, ...] = ()

    def trust(self, start_line: int, end_line: int) -> Provenance:
        """Whose words these lines are; of several, the least trusted. Lines that are not there are nobody's."""
        first, last = start_line - self.first_line, end_line - self.first_line + 1
        if first < 0 or last > len(self.lines) or first >= last:
            return "untrusted"
        pairs = zip(self.lines[first:last], self.provenance[first:last], strict=True)
        return least_trusted((whose for line, whose in pairs if line.strip()), default="untrusted")


class OwnersNotes:
    """Everything in notes is its owner's: where no program writes into them."""

    async def of_lines(self, agent: str, text: str) -> tuple[Provenance, ...]:  # noqa: ARG002 (as every author is asked)
        """The owner, for every line."""
        return ("owner",) * len(split_lines(text))


class LiveSources:
    """Reads passages where they come from. `zone` decides on which day a message was said."""

    def __init__(
        self,
        workspaces: Mapping[str, Path],
        transcripts: Transcripts,
        *,
        bytes_max: int,
        zone: tzinfo,
        authors: NoteAuthors | None = None,
    ) -> None:
        self._workspaces = workspaces
        self._transcripts = transcripts
        self._bytes_max = bytes_max
        self._zone = zone
        self._authors = authors or OwnersNotes()

    async def read(self, agent: str, path: str, start_line: int, end_line: int) -> LiveText | None:
        """What stands there now; None if it is gone, is not this agent's, or may not be read.

        Of a note all of it is read, at most the size that is indexed; of a conversation these messages.

        Raises:
            StorageError: the transcript, or who wrote what, could not be read.
        """
        path = note_path(path)
        if is_conversation(path):
            return await self._read_messages(agent, path, start_line, end_line)
        return await self._read_note(agent, path)

    async def _read_note(self, agent: str, path: str) -> LiveText | None:
        workspace = self._workspaces.get(agent)
        if workspace is None:
            return None
        text = await asyncio.to_thread(_note_text, workspace, path, self._bytes_max)
        if text is None:
            return None
        lines = tuple(await asyncio.to_thread(split_lines, text))
        provenance = await self._authors.of_lines(agent, text)
        if len(provenance) != len(lines):
            provenance = ("untrusted",) * len(lines)
        return LiveText(path, 1, lines, provenance)

    async def _read_messages(self, agent: str, path: str, start_line: int, end_line: int) -> LiveText | None:
        count = end_line - start_line + 1
        if not 1 <= count <= MESSAGES_MAX or start_line < 1:
            return None
        read = await self._transcripts.read_lines(path.removeprefix("sessions/"), start_line, count)
        found = {
            each.seq: each
            for each in read
            if each.agent == agent and each.seq <= end_line and each.role in INDEXED_ROLES and each.text.strip()
        }
        if not found:
            return None
        messages = [found.get(number) for number in range(start_line, end_line + 1)]
        return LiveText(
            path,
            start_line,
            tuple("" if each is None else each.text for each in messages),
            tuple("untrusted" if each is None else each.provenance for each in messages),
            tuple("" if each is None else said_before(each, self._zone) for each in messages),
        )


def _note_text(workspace: Path, path: str, bytes_max: int) -> str | None:
    """The text of the note that an entry's path names; an older one may lack its folder."""
    under = path if path.startswith(f"{MEMORY_FOLDER}/") else f"{MEMORY_FOLDER}/{path.rsplit('/', 1)[-1]}"
    for name in dict.fromkeys((path, under)):
        if is_indexed_path(name) and name.startswith(f"{MEMORY_FOLDER}/"):
            held = read_file(workspace, name, bytes_max)
            if held is not None and not isinstance(held, SkippedFile):
                return held.text
    return None


def said_before(message: LoggedMessage, zone: tzinfo) -> str:
    """What to put before a message where it is quoted: `(8 May 2023) Caroline: `, as far as it is known."""
    speaker = clean(collapse(message.speaker)) or _SPEAKERS[message.role]
    name = "" if collapse(message.text).startswith(f"{speaker}:") else f"{speaker}: "
    day = _said_on(message, zone)
    return f"({day}) {name}" if day else name


def _said_on(message: LoggedMessage, zone: tzinfo) -> str:
    """The day of a message in words; of an import only what its source said, read or as it stands."""
    if message.origin == "live":
        return _day_in_words(datetime.fromtimestamp(message.created_at_ms / 1000, zone))
    words = clean(collapse(message.said_on))
    at = datetime.fromtimestamp(message.created_at_ms / 1000, UTC)
    figures = set(map(int, re.findall(r"\d{1,4}", words)))
    return _day_in_words(at) if {at.year, at.day} <= figures else words[:DAY_CHARACTERS_MAX]


def _day_in_words(at: datetime) -> str:
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"
