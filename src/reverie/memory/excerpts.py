"""Reading memory by citation: the lines of a file, or the messages of a transcript.

Bounded: at most `LINES_MAX` lines and `TEXT_BYTES_MAX` bytes come back, and the excerpt says when more stands there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reverie.errors import MemoryPathError
from reverie.memory.documents import (
    SkippedFile,
    is_indexed_path,
    is_skill_path,
    read_file,
    resolve_readable,
    split_lines,
)
from reverie.memory.forgotten import without_forgotten
from reverie.memory.transcripts import rendered
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from reverie.memory.transcripts import TranscriptLog
    from reverie.types import LoggedMessage, Provenance

LINES_MAX = 400
TEXT_BYTES_MAX = 64 * 1024
SESSIONS_PREFIX = "sessions/"


@dataclass(frozen=True, slots=True)
class MemoryExcerpt:
    """Lines of a memory; an empty `text` means that nothing stands there.

    `cut` says that the excerpt ends before what was asked for does; go on reading at `end_line + 1`. `provenance` is
    that of its least trusted line.
    """

    path: str
    start_line: int
    end_line: int
    text: str
    cut: bool
    provenance: Provenance = "owner"


async def read_file_excerpt(
    workspace: Path,
    path: str,
    from_line: int | None,
    lines: int | None,
    *,
    bytes_max: int,
    whose: Callable[[str], Awaitable[Sequence[Provenance]]],
    forgotten: frozenset[bytes] = frozenset(),
) -> MemoryExcerpt:
    """Lines of a memory file; a missing file is empty, and so is a paragraph that was forgotten.

    `whose` says for each line of a text whose words it is. What is readable and neither a memory nor a skill (the
    reports and the diary of dreaming) quotes anybody, so it is untrusted.

    Raises:
        MemoryPathError: not a path of the memory, a link, or too large to read.
        StorageError: whose words it holds could not be read.
    """
    normal = resolve_readable(path)
    content = await asyncio.to_thread(read_file, workspace, normal, bytes_max)
    if isinstance(content, SkippedFile):
        raise MemoryPathError(f"{normal}: {content.reason}")
    text = without_forgotten(content.text, forgotten) if content is not None else ""
    excerpt = await asyncio.to_thread(_file_excerpt, normal, text, from_line, lines)
    if not excerpt.text:
        return excerpt
    if not is_indexed_path(normal) and not is_skill_path(normal):
        return replace(excerpt, provenance="untrusted")
    shown = (await whose(text))[excerpt.start_line - 1 : excerpt.end_line]
    return replace(excerpt, provenance=least_trusted(shown))


async def read_transcript_excerpt(
    transcripts: TranscriptLog, agent: str, path: str, from_line: int | None, lines: int | None
) -> MemoryExcerpt:
    """Messages of one session of this agent, one per line; another agent's session is empty, as a missing one is."""
    session_id = path.removeprefix(SESSIONS_PREFIX)
    start = max(1, from_line or 1)
    count = min(LINES_MAX + 1, _count(lines))
    messages = await transcripts.read_lines(session_id, start, count)
    own = [message for message in messages if message.agent == agent]
    return await asyncio.to_thread(_transcript_excerpt, path, start, own)


def _count(lines: int | None) -> int:
    return LINES_MAX + 1 if lines is None else max(1, lines)


def _file_excerpt(path: str, text: str, from_line: int | None, lines: int | None) -> MemoryExcerpt:
    held = split_lines(text)
    start = max(1, from_line or 1)
    return _excerpt(path, start, held[start - 1 : start - 1 + _count(lines)])


def _transcript_excerpt(path: str, start: int, messages: Sequence[LoggedMessage]) -> MemoryExcerpt:
    first = messages[0].seq if messages else start
    excerpt = _excerpt(path, first, [rendered(message) for message in messages])
    shown = messages[: excerpt.end_line - first + 1]  # the result of a tool is left out, whosever it is
    return replace(excerpt, provenance=least_trusted(each.provenance for each in shown if each.role != "tool"))


def _excerpt(path: str, start: int, lines: list[str]) -> MemoryExcerpt:
    """As many whole lines as fit; a first line that is too long alone is cut."""
    kept: list[str] = []
    room = TEXT_BYTES_MAX
    for line in lines[:LINES_MAX]:
        size = len(line.encode()) + 1
        if size > room:
            break
        kept.append(line)
        room -= size
    if not kept and lines:
        kept = [lines[0].encode()[: TEXT_BYTES_MAX - 1].decode("utf-8", "ignore")]
        return MemoryExcerpt(path, start, start, kept[0], cut=True)
    return MemoryExcerpt(path, start, start + max(0, len(kept) - 1), "\n".join(kept), cut=len(kept) < len(lines))
