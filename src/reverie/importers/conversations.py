"""Import conversations from JSON Lines: one history a line, plain or gzipped.

Two forms are read, and may be mixed:

    {"name": "…", "turns": [{"session": "…", "speaker": "…", "text": "…", "when": "…"}, …]}
    {"name": "…", "messages": [{"role": "user" | "assistant", "content": "…"}, …]}

Each distinct `session` of a history becomes a past session under the key `agent:<agent>:import:<name>:<session>`. A
turn without a session or a date continues the session and the date before it. A speaker called `assistant` is the
assistant, anybody else a person. Dates are kept in their own words and, where they can be read, as instants.

Invariant: importing the same file again adds nothing, and a conversation is never joined to another one that happens
to have the same name: that one gets a key of its own, ending in `~2`.

What was said is untrusted unless the owner vouches for it (`mine`): then people in it are he, and the assistant is his
agent. An answer that followed the result of a tool stays untrusted.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from reverie.errors import ImportFileError
from reverie.memory.text import clean, collapse
from reverie.sessions.forgetting import history_prefix
from reverie.sessions.replay import fingerprint
from reverie.sessions.store import PastMessage
from reverie.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from reverie.sessions.store import SessionStore
    from reverie.types import JsonObject, LoggedMessage

LINE_CHARACTERS_MAX = 128 * 1024 * 1024
MESSAGE_CHARACTERS_MAX = 4 * 1024 * 1024
NAME_CHARACTERS_MAX = 200
FORGOTTEN = "forgotten"
"""Why a conversation is left out that a person had forgotten."""
NAMESAKES_MAX = 1_000
"""Different conversations under one name; more than this is taken for a mistake in the file."""

_COMPARED_AT_ONCE = 500
_SECONDS_MAX = 100_000_000_000
TOOL_RESULT = "tool result"
"""Why the result of a tool is left out. The answer that follows it is nobody's to vouch for."""
_NOT_SAID = {"system": "instructions", "developer": "instructions", "tool": TOOL_RESULT, "function": TOOL_RESULT}
_DATE_FORMATS = (
    "%Y/%m/%d (%a) %H:%M",
    "%I:%M %p on %d %B, %Y",
    "%B-%d-%Y",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d %B %Y",
)


@dataclass(frozen=True, slots=True)
class PastSession:
    """A session of a history, in order."""

    name: str
    messages: tuple[PastMessage, ...]


@dataclass(frozen=True, slots=True)
class History:
    """One line of the file. `places` says for each turn where it went: session name and message number."""

    name: str
    sessions: tuple[PastSession, ...]
    places: tuple[tuple[str, int] | None, ...]
    line: int


@dataclass(slots=True)
class ImportReport:
    """What an import did. `skipped` counts the turns that were left out by reason."""

    histories: int = 0
    sessions: int = 0
    messages_added: int = 0
    messages_present: int = 0
    skipped: dict[str, int] = field(default_factory=dict[str, int])

    def skip(self, reason: str, count: int = 1) -> None:
        """Count a turn, or several, that was left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + count


def session_key(agent: str, history: str, session: str) -> SessionKey:
    """The key under which an imported session stands."""
    return SessionKey(agent, f"agent:{agent}:import:{history}:{session}")


# -- import ----------------------------------------------------------------------------------------------------------


async def import_conversations(
    path: Path,
    sessions: SessionStore,
    *,
    agent: str,
    now_ms: int,
    mine: bool = False,
    progress: Callable[[ImportReport], None] | None = None,
) -> ImportReport:
    """Add every history of a file as past sessions. `mine`: the owner vouches for all of them, also if they are there.

    Raises:
        ImportFileError: the file cannot be read, or a line is not a conversation. What stood before that line was
            imported; running the import again is safe.
    """
    report = ImportReport()
    async for history in read_histories(path, now_ms=now_ms, report=report):
        for past in history.sessions:
            imported = await import_session(sessions, agent, history.name, past, mine=mine)
            if imported is None:
                report.skip(FORGOTTEN, len(past.messages))
                continue
            report.sessions += 1
            report.messages_added += (added := imported[1])
            report.messages_present += len(past.messages) - added
            if progress is not None:
                progress(report)
        report.histories += 1
    return report


async def import_session(
    sessions: SessionStore, agent: str, history: str, past: PastSession, *, title: str = "", mine: bool = False
) -> tuple[str, int] | None:
    """Add one past session; returns its id and how many messages it gained. Without a title its names are one.

    `mine`: the owner vouches for it, also for what of it is there already.

    A session of that name which begins as this one does is this one, and gains what it lacks. Otherwise the name
    belongs to another conversation, and the next free one is taken. None for one that a person had forgotten; of one
    of which single messages were forgotten, the others are there.

    Raises:
        ImportFileError: more than `NAMESAKES_MAX` different conversations have this name.
        StorageError: it could not be written; what was written before stays.
    """
    title = title or f"{history}: {past.name}"
    for number in range(1, NAMESAKES_MAX + 1):
        key = session_key(agent, history, past.name if number == 1 else f"{past.name}~{number}")
        on_record = await sessions.is_forgotten(key, history_prefix(agent, history), past.messages)
        if on_record == "forgotten":
            return None
        if on_record == "taken":
            continue
        session_id, _ = await sessions.import_session(key, title, ())
        if await _begins_alike(sessions, session_id, past.messages):
            return await sessions.import_session(key, title, past.messages, mine=mine)
    raise ImportFileError(f"{NAMESAKES_MAX} different conversations are called {title!r}")


async def _begins_alike(sessions: SessionStore, session_id: str, messages: Sequence[PastMessage]) -> bool:
    """True when a stored transcript and a conversation agree as far as both go; an empty one agrees with all."""
    for start in range(0, len(messages), _COMPARED_AT_ONCE):
        part = messages[start : start + _COMPARED_AT_ONCE]
        stored = await sessions.read_lines(session_id, start + 1, len(part))
        if not all(_is_same(line, past) for line, past in zip(stored, part, strict=False)):
            return False
        if len(stored) < len(part):
            return True
    return True


def _is_same(line: LoggedMessage, past: PastMessage) -> bool:
    """Whether a stored message is this one; of a forgotten one only its fingerprint tells."""
    if line.forgotten:
        return line.fingerprint == fingerprint(past.role, past.text)
    return (line.role, line.text) == (past.role, past.text)


# -- the file --------------------------------------------------------------------------------------------------------


async def read_histories(path: Path, *, now_ms: int, report: ImportReport) -> AsyncIterator[History]:
    """The histories of a file one by one; each line is read and parsed off the event loop.

    Raises:
        ImportFileError: the file cannot be read, or a line is not a conversation.
    """
    file = await asyncio.to_thread(_open, path)
    try:
        lines = _lines(file, path)
        while (history := await asyncio.to_thread(_next_history, lines, path, now_ms, report)) is not None:
            yield history
    finally:
        await asyncio.to_thread(file.close)


def _next_history(lines: Iterator[tuple[str, int]], path: Path, now_ms: int, report: ImportReport) -> History | None:
    line = next(lines, None)
    return None if line is None else parse_history(*line, path, now_ms, report)


def _open(path: Path) -> IO[str]:
    try:
        with path.open("rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
        if zipped:
            return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace")
        return path.open(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _lines(file: IO[str], path: Path) -> Iterator[tuple[str, int]]:
    """The lines that are not blank, each with its number."""
    number = 0
    while True:
        try:
            line = file.readline(LINE_CHARACTERS_MAX + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ImportFileError(f"{path} cannot be read after line {number}: {error}") from error
        if not line:
            return
        number += 1
        if len(line) > LINE_CHARACTERS_MAX:
            raise ImportFileError(f"{path} line {number} is longer than {LINE_CHARACTERS_MAX} characters")
        if line.strip():
            yield line, number


# -- a history -------------------------------------------------------------------------------------------------------


def parse_history(line: str, number: int, path: Path, now_ms: int, report: ImportReport) -> History:
    """One line as a history; turns that are left out are counted in `report`.

    Raises:
        ImportFileError: it is not JSON, or not a conversation; the message names file and line.
    """
    where = f"{path} line {number}"
    try:
        data: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ImportFileError(f"{where} is not JSON ({error})") from error
    turns = _turns(data, where)
    name = _label(data.get("name")) or f"{path.name}-{number}"
    grouped: dict[str, list[PastMessage]] = {}
    places: list[tuple[str, int] | None] = []
    session, before = "1", _Before("", now_ms)
    exposed: dict[str, bool] = {}
    for turn in turns:
        session = _label(turn.get("session")) or session
        message = read_message(turn, before.said_on, before.next_ms)
        exposed[session] = goes_on_exposed(message, before=exposed.get(session, False))
        if isinstance(message, str):
            report.skip(message)
            places.append(None)
            continue
        message = replace(message, foreign=exposed[session])
        before = _Before(message.said_on, message.said_at_ms + 1)
        grouped.setdefault(session, []).append(message)
        places.append((session, len(grouped[session])))
    return History(name, tuple(PastSession(s, tuple(m)) for s, m in grouped.items()), tuple(places), number)


@dataclass(frozen=True, slots=True)
class _Before:
    """What a turn without a date of its own takes over: the words of the date before it, and the next instant."""

    said_on: str
    next_ms: int


def _turns(data: Any, where: str) -> list[JsonObject]:
    """The turns of either form."""
    history = cast("JsonObject", data) if isinstance(data, dict) else {}
    rows: Any = history.get("turns", history.get("messages"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in cast("list[Any]", rows)):
        raise ImportFileError(f'{where} is not a conversation: expected an object with "turns" or "messages"')
    return cast("list[JsonObject]", rows)


def _label(value: Any) -> str:
    """A name as one short line; empty when there is none."""
    return collapse(clean(str(value)))[:NAME_CHARACTERS_MAX] if isinstance(value, str | int) else ""


def read_message(turn: JsonObject, said_on: str, said_at_ms: int) -> PastMessage | str:
    """A turn of either form as a message, or the reason why it is none.

    `said_on` and `said_at_ms` are its date when it has none of its own.
    """
    speaker = _label(turn.get("speaker")) or _label(turn.get("name")) or _label(turn.get("role")) or "user"
    not_said = _NOT_SAID.get(str(turn.get("role", "")).lower())
    if not_said is not None:
        return not_said
    text = _text(turn.get("text", turn.get("content")))
    if not text.strip():
        return "no text"
    if len(text) > MESSAGE_CHARACTERS_MAX:
        return f"longer than {MESSAGE_CHARACTERS_MAX} characters"
    role: Literal["user", "assistant"] = "assistant" if _is_assistant(turn, speaker) else "user"
    words, read_ms = _date(turn.get("when"))
    return PastMessage(role, text, speaker, words or said_on, said_at_ms if read_ms is None else read_ms)


def goes_on_exposed(read: PastMessage | str, *, before: bool) -> bool:
    """Whether the result of a tool stands in a turn, once one more entry was read: it does until a person speaks.

    `before`: whether one stood there already.
    """
    return before or read == TOOL_RESULT if isinstance(read, str) else before and read.role == "assistant"


def _is_assistant(turn: JsonObject, speaker: str) -> bool:
    return "assistant" in {str(turn.get("role", "")).lower(), speaker.lower()}


def _text(content: Any) -> str:
    """The words of a turn: a text, or a list of content parts of which the texts count."""
    if isinstance(content, str):
        return clean(content)
    parts = cast("list[Any]", content) if isinstance(content, list) else []
    texts = [cast("JsonObject", part).get("text") for part in parts if isinstance(part, dict)]
    return clean("\n".join(text for text in texts if isinstance(text, str)))


# -- dates -----------------------------------------------------------------------------------------------------------


def _date(value: Any) -> tuple[str, int | None]:
    """A date in words, and as an instant where it can be read; a number is in seconds, or milliseconds, since 1970."""
    if isinstance(value, str):
        words = _label(value)
        return words, parse_date_ms(words)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _SECONDS_MAX * 1000:
        said_at_ms = int(value if abs(value) >= _SECONDS_MAX else value * 1000)
        return datetime.fromtimestamp(said_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M"), said_at_ms
    return "", None


def parse_date_ms(words: str) -> int | None:
    """A date in one of the forms found in the field, as milliseconds since 1970 UTC; None when it is not one.

    Examples: `2023/05/30 (Tue) 20:26`, `1:56 pm on 8 May, 2023`, `March-15-2024`, ISO 8601.
    """
    words = re.sub(r"\s+", " ", words.strip())
    if not words:
        return None
    try:
        return _ms(datetime.fromisoformat(words))
    except (ValueError, OverflowError):
        pass
    for form in _DATE_FORMATS:
        try:
            return _ms(datetime.strptime(words, form))  # noqa: DTZ007 (the zone is added by _ms)
        except (ValueError, OverflowError):
            continue
    return None


def _ms(instant: datetime) -> int:
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)
