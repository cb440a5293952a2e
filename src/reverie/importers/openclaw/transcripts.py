"""Conversations: OpenClaw's session files as past sessions, read line by line.

A session file is JSON Lines; records of type `message` by the user or the assistant are what was said. A file that was
reset is the same conversation under its session's id, so it is not imported twice; deleted ones stay deleted.

Invariant: secrets of known forms are hidden before a message is kept; a line that cannot be read costs that line.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, cast

from reverie.errors import ImportFileError
from reverie.importers.conversations import (
    MESSAGE_CHARACTERS_MAX,
    PastSession,
    import_session,
    parse_date_ms,
)
from reverie.memory.redaction import redacted
from reverie.memory.text import clean, collapse
from reverie.sessions.store import PastMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from reverie.sessions.store import SessionStore
    from reverie.types import JsonObject

HISTORY = "openclaw"
FILES_MAX = 100_000
LINE_BYTES_MAX = 32 * 1024 * 1024
PART_MESSAGES_MAX = 5_000
PART_CHARACTERS_MAX = 8 * 1024 * 1024
"""A longer conversation becomes several sessions, so that no more than this of it is held at once."""

REGISTER_BYTES_MAX = 64 * 1024 * 1024
EXAMPLES_MAX = 20
_SECONDS_MAX = 100_000_000_000
_FILE = re.compile(r"^(?P<id>.+)\.jsonl(?:\.(?P<archive>reset|deleted)\.[^/]*)?$")
_MACHINE_KEY = re.compile(r"(?:^|:)(?:cron|hook|subagent|heartbeat)(?::|$)")
_DELETED = "deleted in OpenClaw"
_OF_A_MACHINE = "a cron, hook, heartbeat or subagent session: nobody spoke"


class SessionFile(NamedTuple):
    """A session's file, and its title here."""

    path: Path
    name: str
    title: str


@dataclass(slots=True)
class SessionsReport:
    """What became of the conversations. `skipped` counts lines and files by reason; `examples` name some lines."""

    files: int = 0
    sessions: int = 0
    messages_added: int = 0
    messages_present: int = 0
    skipped: dict[str, int] = field(default_factory=dict[str, int])
    examples: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def skip(self, reason: str) -> None:
        """Count a file or a message that was left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def skip_line(self, file: str, line: int, reason: str) -> None:
        """Count a line that could not be read, and name it while there is place."""
        self.skip(reason)
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append({"file": file, "line": line, "reason": reason})


async def import_transcripts(
    folder: Path,
    sessions: SessionStore,
    *,
    agent: str,
    report: SessionsReport,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Add every conversation of a sessions folder; `report` grows, `progress` is told of messages.

    Raises:
        ImportFileError: the folder cannot be read, or too many different conversations have one name.
        StorageError: state.db cannot be written; importing again goes on.
    """
    for file in await asyncio.to_thread(list_sessions, folder, report):
        report.files += 1
        parts = read_parts(file, report)
        while (past := await asyncio.to_thread(next, parts, None)) is not None:
            _, added = await import_session(sessions, agent, HISTORY, past, title=file.title)
            report.sessions += 1
            report.messages_added += added
            report.messages_present += len(past.messages) - added
            if progress is not None:
                progress(len(past.messages))


# -- which files -----------------------------------------------------------------------------------------------------


def list_sessions(folder: Path, report: SessionsReport) -> list[SessionFile]:
    """The session files to read, in order of their names. Blocks.

    Raises:
        ImportFileError: the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if _FILE.match(path.name))
    except OSError as error:
        raise ImportFileError(f"{folder} cannot be read: {error.strerror or error}") from error
    register = _register(folder / "sessions.json")
    found: list[SessionFile] = []
    for path in paths[:FILES_MAX]:
        match = _FILE.match(path.name)
        assert match is not None, "only such names are listed"
        reason = _reason_to_skip(path, match["archive"], register.get(match["id"], ("", ""))[0])
        if reason:
            report.skip(reason)
        else:
            title = register.get(match["id"], ("", match["id"]))[1]
            found.append(SessionFile(path, collapse(match["id"]), f"{HISTORY}: {title}"))
    for _ in paths[FILES_MAX:]:
        report.skip(f"more than {FILES_MAX:,} files")
    return found


def _reason_to_skip(path: Path, archive: str | None, key: str) -> str:
    if archive == "deleted":
        return _DELETED
    if path.is_symlink() or not path.is_file():
        return "a link, or not a file"
    return _OF_A_MACHINE if _MACHINE_KEY.search(key) else ""


def _register(path: Path) -> dict[str, tuple[str, str]]:
    """For each session id its key and a title, from sessions.json; empty where that cannot be read."""
    try:
        with path.open("rb") as file:
            data: Any = json.loads(file.read(REGISTER_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return {}
    named: dict[str, tuple[str, str]] = {}
    entries = cast("JsonObject", data) if isinstance(data, dict) else {}
    for key, entry in entries.items():
        values = cast("JsonObject", entry) if isinstance(entry, dict) else {}
        session_id = values.get("sessionId")
        if isinstance(session_id, str):
            names = [values.get(name) for name in ("label", "displayName", "subject")]
            title = next((name for name in names if isinstance(name, str) and name.strip()), key)
            named[session_id] = (key, redacted(collapse(clean(title)))[:200])
    return named


# -- what they say ---------------------------------------------------------------------------------------------------


def read_parts(file: SessionFile, report: SessionsReport) -> Iterator[PastSession]:
    """The conversation of a file in bounded parts, each a session of its own; none when it says nothing. Blocks."""
    number = 1
    messages: list[PastMessage] = []
    characters = 0
    for message in _messages(file, report):
        messages.append(message)
        characters += len(message.text)
        if len(messages) >= PART_MESSAGES_MAX or characters >= PART_CHARACTERS_MAX:
            yield _part(file, number, messages)
            number, messages, characters = number + 1, [], 0
    if messages:
        yield _part(file, number, messages)


def _part(file: SessionFile, number: int, messages: list[PastMessage]) -> PastSession:
    return PastSession(file.name if number == 1 else f"{file.name}.{number}", tuple(messages))


def _messages(file: SessionFile, report: SessionsReport) -> Iterator[PastMessage]:
    try:
        with file.path.open("rb") as opened:
            before_ms = int(file.path.stat().st_mtime * 1000)
            for number, line in _lines(opened):
                message = _read(line, before_ms)
                if isinstance(message, str):
                    report.skip_line(file.path.name, number, message)
                elif message is not None:
                    before_ms = message.said_at_ms + 1
                    yield message
    except OSError as error:
        report.skip_line(file.path.name, 0, f"cannot be read: {error.strerror or error}")


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """The lines that are not blank, each with its number; None for one beyond `LINE_BYTES_MAX`, passed over."""
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            while line and not line.endswith(b"\n"):
                line = file.readline(LINE_BYTES_MAX)
            yield number, None
        elif line.strip():
            yield number, line


def _read(line: bytes | None, before_ms: int) -> PastMessage | str | None:
    """A line as a message; None when it is none; the reason when it cannot be read or is left out."""
    if line is None:
        return f"a line longer than {LINE_BYTES_MAX:,} bytes"
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(record, dict):
        return "not an object"
    values = cast("JsonObject", record)
    message: Any = values.get("message")
    if values.get("type") != "message" or not isinstance(message, dict):
        return None
    return _message(cast("JsonObject", message), values, before_ms)


def _message(message: JsonObject, record: JsonObject, before_ms: int) -> PastMessage | str | None:
    role = message.get("role")
    if role not in {"user", "assistant"}:
        return None
    text = redacted(_text(message.get("content")))
    if not text.strip():
        return None
    if len(text) > MESSAGE_CHARACTERS_MAX:
        return f"longer than {MESSAGE_CHARACTERS_MAX} characters"
    read_ms = _instant(message.get("timestamp"))
    read_ms = _instant(record.get("timestamp")) if read_ms is None else read_ms
    said_at_ms = before_ms if read_ms is None else read_ms
    speaker: Literal["user", "assistant"] = "user" if role == "user" else "assistant"
    return PastMessage(speaker, text, speaker, _words(said_at_ms), said_at_ms)


def _text(content: Any) -> str:
    """The words of a message: a text, or its blocks of type `text`, each on lines of its own."""
    if isinstance(content, str):
        return clean(content)
    blocks = cast("list[Any]", content) if isinstance(content, list) else []
    parts = [cast("JsonObject", block) for block in blocks if isinstance(block, dict)]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    return clean("\n".join(text for text in texts if isinstance(text, str)))


def _instant(value: Any) -> int | None:
    """A time in seconds, milliseconds or as ISO 8601, in milliseconds since 1970; None when it is none of these."""
    if isinstance(value, str):
        value = parse_date_ms(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        value = value * 1000 if abs(value) < _SECONDS_MAX else value
    else:
        return None
    return int(value) if value is not None and 0 < value < _SECONDS_MAX * 100 else None


def _words(said_at_ms: int) -> str:
    return datetime.fromtimestamp(said_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
