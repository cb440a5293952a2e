"""Taking in a session that was exported as JSON Lines: all of it, as it was, or nothing.

The file is read twice. First every line of it is checked, so that a damaged or foreign file changes nothing. Then it
is written a batch at a time, under a key of its own that leads nowhere; the last commit gives the session its key and
its end. What was interrupted in between goes on where it stopped when the file is imported again. A session that is
there already is left alone.

What the file says of whose words its messages are is kept, and believed only when the owner vouches for the file: a
checksum tells a damaged file, not a forged one.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reverie.errors import ImportFileError
from reverie.sessions.codec import dump, encode_extra
from reverie.sessions.forgetting import (
    FORGOTTEN_EXTRA,
    drop_summaries,
    forgotten_among,
    history_prefixes,
    mark_name,
    message_name,
)
from reverie.sessions.replay import message_fingerprint
from reverie.sessions.retention import discard
from reverie.sessions.tree import entry_id
from reverie.types import ImagePart, Message, Provenance, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from reverie.storage import Database, Transaction

LINE_BYTES_MAX = 64 * 1024 * 1024
BATCH_LINES = 200
BATCH_BYTES = 4 * 1024 * 1024
STAGED = "importing:"
"""What the key of a session begins with while its import is under way."""
GZIP_MAGIC = b"\x1f\x8b"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Header(_Line):
    """The first line of a file."""

    type: Literal["session"]
    version: Literal[1]
    id: str = Field(min_length=1, max_length=200)
    key: str = Field(min_length=1, max_length=512)
    agent: str = Field(min_length=1, max_length=64)
    origin: Literal["live", "import"]
    title: str
    parent: str | None
    started_at: int
    last_interaction_at: int
    updated_at: int
    ended_at: int | None
    end_reason: str | None
    epoch: int
    epoch_reason: str
    prefix: dict[str, str]
    history_start: int
    queue: dict[str, Any]
    prompt_tokens: int | None
    prompt_tokens_seq: int | None
    prompt_tokens_fresh: bool
    compaction_count: int
    compaction: str | None
    entries: int = Field(ge=0)


class CompactionLine(_Line):
    """A summary that was made of the session."""

    type: Literal["compaction"]
    id: str
    state: Literal["adopted", "failed", "stale"]
    cause: Literal["threshold", "preflight", "bytes", "overflow", "manual"]
    base_id: str | None
    first_seq: int
    last_seq: int
    focus: str
    summary: str
    audit: dict[str, Any]
    flushed_to: str | None
    tokens_before: int | None
    tokens_after: int | None
    attempts: int
    error: str | None
    created_at: int
    adopted_at: int | None


class TurnLine(_Line):
    """A turn, before its first entry."""

    type: Literal["turn"]
    id: str
    position: int
    state: Literal["answered", "failed", "dropped", "expired", "cancelled"]
    accepted_at: int
    started_at: int | None
    finished_at: int | None
    model: str | None
    finish_reason: str | None
    usage: dict[str, Any] | None
    error: dict[str, Any] | None
    source: str
    mode: Literal["followup", "steer", "collect", "interrupt"]


class EntryLine(_Line):
    """An entry of the transcript."""

    type: Literal["entry"]
    id: str
    parent: str | None
    kind: Literal["message", "compaction", "continuity", "turn_ended"]
    at: int
    turn: str | None = None
    data: dict[str, Any] | None = None
    role: Literal["user", "assistant", "tool"] = "assistant"
    text: str = ""
    tool_calls: list[dict[str, str]] = []
    images: list[dict[str, str | None]] = []
    tool_call_id: str | None = None
    name: str | None = None
    speaker: str = ""
    said_on: str = ""
    provenance: Provenance | None = None
    visible: bool = True
    remember: bool = True
    forgotten: bool = False
    fingerprint: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")


class EndLine(_Line):
    """The last line: what must have come before it."""

    type: Literal["end"]
    entries: int
    turns: int
    sha256: str


Line = Header | CompactionLine | TurnLine | EntryLine | EndLine
_ANY: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="type")])


@dataclass(frozen=True, slots=True)
class Restored:
    """What an import did. `ended` says that its key has another current session, so that it came in as an ended one.

    A session that is `forgotten` did not come in: a person had it forgotten.
    """

    session_id: str
    key: str
    entries: int
    added: int
    ended: bool
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class _Numbered:
    number: int
    line: Line


class _Order:
    """What must hold from line to line; refuses the first line where it does not."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self.entries = self.turns = 0
        self.ended = False
        self._turn_ids: set[str] = set()
        self._compaction_ids: set[str] = set()

    def take(self, line: Line, digest: str) -> str:  # noqa: PLR0911 (one answer for each kind of line)
        """Look at the next line; returns what is wrong with it, empty when nothing is."""
        if self.ended:
            return "nothing may follow the line of type `end`"
        match line:
            case Header():
                wrong = "a second header" if self.header else ""
                self.header = line
                return wrong
            case _ if self.header is None:
                return "the first line must be the header of a session"
            case CompactionLine():
                return self._compaction(line)
            case TurnLine():
                self.turns += 1
                wrong = "this turn stood there before" if line.id in self._turn_ids else ""
                self._turn_ids.add(line.id)
                return wrong
            case EntryLine():
                return self._entry(line, self.header)
            case EndLine():
                self.ended = True
                if (line.entries, line.turns) != (self.entries, self.turns) or line.entries != self.header.entries:
                    there = f"there are {self.entries} and {self.turns}"
                    return f"it counts {line.entries} entries and {line.turns} turns, {there}"
                return "" if line.sha256 == digest else "the checksum differs: the file was changed or damaged"

    def _compaction(self, line: CompactionLine) -> str:
        wrong = "it rests on a summary that is not there" if line.base_id not in {None, *self._compaction_ids} else ""
        self._compaction_ids.add(line.id)
        return wrong

    def _entry(self, line: EntryLine, header: Header) -> str:
        self.entries += 1
        if line.id != entry_id(header.id, self.entries):
            return f"its id must be {entry_id(header.id, self.entries)}"
        if line.turn is not None and line.turn not in self._turn_ids:
            return "its turn must stand before it"
        if not (line.parent is None and self.entries == 1) and parent_seq(line, header, self.entries) is None:
            return "its parent must be an entry before it"
        if line.kind == "message":
            return "" if _is_message(line) else "a tool call or an image of it is not well formed"
        return "" if line.data is not None else "a mark needs `data`"


def parent_seq(line: EntryLine, header: Header, seq: int) -> int | None:
    """The number of an entry's parent; None when it names none, or one that cannot be its parent."""
    session, _, number = (line.parent or "").rpartition("/")
    if not number.isascii() or not number.isdigit() or session != (header.parent if seq == 1 else header.id):
        return None
    return int(number) if seq == 1 or 0 < int(number) < seq else None


def _is_message(line: EntryLine) -> bool:
    try:
        _message(line)
    except (TypeError, KeyError):
        return False
    return all(isinstance(image.get("url"), str) for image in line.images)


def _message(line: EntryLine) -> Message:
    images: list[Any] = line.images
    return Message(
        line.role,
        line.text,
        images=tuple(ImagePart(**image) for image in images),
        tool_calls=tuple(ToolCall(**call) for call in line.tool_calls),
        tool_call_id=line.tool_call_id,
        name=line.name,
    )


# -- reading -----------------------------------------------------------------------------------------------------


def _checked_lines(path: Path) -> Generator[tuple[_Numbered, int]]:
    """Every line of a file with its size, checked by itself and against those before it. Blocks.

    Raises:
        ImportFileError: a line is not what an export has there; the message has its number.
    """
    order, digest = _Order(), hashlib.sha256()
    number = 0
    for number, raw in enumerate(_raw_lines(path), start=1):
        try:
            line = _ANY.validate_json(raw)
        except ValidationError as error:
            raise ImportFileError(f"{path}, line {number}: {_reason(error)}") from None
        if wrong := order.take(line, digest.hexdigest()):
            raise ImportFileError(f"{path}, line {number}: {wrong}.")
        digest.update(raw)
        yield _Numbered(number, line), len(raw)
    if not order.ended:
        raise ImportFileError(f"{path}, line {number + 1}: the file ends before its last line; it was cut off.")


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    named = f"`{where}`: " if where else ""
    return f"not a line of a session exported by Reverie ({named}{first['msg'][:200]})."


def _raw_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            zipped = file.peek(2)[:2] == GZIP_MAGIC
            yield from _bounded_lines(path, io.BufferedReader(gzip.GzipFile(fileobj=file)) if zipped else file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ImportFileError(f"{path} is a damaged gzip file ({error}); nothing was imported.") from error
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read ({error.strerror or error}).") from error


def _bounded_lines(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise ImportFileError(f"{path}, line {number}: longer than {LINE_BYTES_MAX:,} bytes.")
        yield line


def exported_lines(path: Path) -> Iterator[Line]:
    """The lines of an exported session, each checked against those before it. Blocks.

    Raises:
        ImportFileError: a line is not what an export has there, or the file cannot be read.
    """
    for numbered, _ in _checked_lines(path):
        yield numbered.line


def check_file(path: Path) -> Header:
    """Read a whole file and refuse what is not a complete export; returns its header. Blocks.

    Raises:
        ImportFileError: a line is not what an export has there, or the file cannot be read.
    """
    header: Header | None = None
    for numbered, _ in _checked_lines(path):
        if isinstance(numbered.line, Header):
            header = numbered.line
    assert header is not None, "a checked file has a header"
    return header


# -- writing -----------------------------------------------------------------------------------------------------


async def restore(
    database: Database, path: Path, *, now_ms: int, mine: bool = False, progress: Callable[[int], None] = lambda _: None
) -> Restored:
    """Take in an exported session, plain or gzipped; `progress` is told how many entries each batch added.

    `mine`: the owner vouches for the file, also for one that was taken in before, so that what it says of whose words
    its messages are counts; else they are a stranger's.

    Raises:
        ImportFileError: the file is no complete export, or a turn of it belongs to another session here.
        StorageError: it could not be written; importing it again goes on from there.
    """
    header = await asyncio.to_thread(check_file, path)
    if await database.read(lambda tx: _is_forgotten(tx, header)):
        return Restored(header.id, header.key, header.entries, 0, ended=False, forgotten=True)
    held = await database.write(lambda tx: _stage(tx, header, now_ms))
    if held is None:
        if mine:
            await database.write(lambda tx: _vouch(tx, header.id))
        return Restored(header.id, header.key, header.entries, 0, ended=False)
    lines = _checked_lines(path)
    added = 0
    try:
        while batch := await asyncio.to_thread(_batch, lines):
            count = await database.write(lambda tx, batch=batch: _write(tx, header, batch, held, path))
            added += count
            progress(count)
    except ImportFileError:
        await discard(database, header.id)
        raise
    finally:
        await asyncio.to_thread(lines.close)
    ended = await database.write(lambda tx: _publish(tx, header, now_ms, mine=mine))
    return Restored(header.id, header.key, header.entries, added, ended=ended)


def _is_forgotten(tx: Transaction, header: Header) -> bool:
    names = [header.id, *([header.key] if header.origin == "import" else [])]
    histories = history_prefixes(header.key) if header.origin == "import" else []
    found = forgotten_among(tx, header.agent, "session", names)
    return bool(found or forgotten_among(tx, header.agent, "history", histories))


def _batch(lines: Iterator[tuple[_Numbered, int]]) -> list[_Numbered]:
    batch: list[_Numbered] = []
    size = 0
    for numbered, length in lines:
        batch.append(numbered)
        size += length
        if len(batch) >= BATCH_LINES or size >= BATCH_BYTES:
            break
    return batch


def _stage(tx: Transaction, header: Header, now_ms: int) -> int | None:
    """Open the session under a key that leads nowhere; how many entries it has, None when it is there already."""
    row = tx.row("find_session", id=header.id)
    if row is not None and not row["key"].startswith(STAGED):
        return None
    if row is None:
        tx.execute(
            "stage_session",
            id=header.id,
            key=f"{STAGED}{header.id}",
            agent=header.agent,
            origin=header.origin,
            now=now_ms,
            entries=header.entries,
        )
    return tx.value("next_seq", session_id=header.id) - 1


def _write(tx: Transaction, header: Header, batch: list[_Numbered], held: int, path: Path) -> int:
    """Write the lines of a batch that are not there yet; how many entries that added."""
    added = 0
    gone = _forgotten_entries(tx, header, [each.line for each in batch if isinstance(each.line, EntryLine)])
    for numbered in batch:
        match numbered.line:
            case CompactionLine() as line:
                values = line.model_dump(exclude={"type", "audit"})
                tx.execute("restore_compaction", **values, session_id=header.id, audit=dump(line.audit))
                owner = tx.value("session_of_compaction", id=line.id)
                _own(owner, header, path, numbered.number, "summary")
            case TurnLine() as line:
                _write_turn(tx, header, line)
                _own(tx.value("session_of_turn", id=line.id), header, path, numbered.number, "turn")
            case EntryLine() as line:
                seq = int(line.id.rpartition("/")[2])
                if seq > held:
                    _write_entry(tx, header, line, seq, forgotten=line.id in gone)
                    added += 1
            case _:
                pass
    tx.execute("forget_staged_events", key=f"{STAGED}{header.id}")  # it did not happen now
    return added


def _own(owner: str, header: Header, path: Path, number: int, what: str) -> None:
    if owner != header.id:
        raise ImportFileError(f"{path}, line {number}: this {what} belongs to the session {owner} here.")


def _write_turn(tx: Transaction, header: Header, line: TurnLine) -> None:
    values = line.model_dump(exclude={"type", "usage", "error"})
    usage = None if line.usage is None else dump(line.usage)
    error = None if line.error is None else dump(line.error)
    tx.execute("restore_turn", **values, session_id=header.id, usage=usage, error=error)


def _forgotten_entries(tx: Transaction, header: Header, lines: list[EntryLine]) -> set[str]:
    """The ids of those entries that were forgotten, or that quote a session which was."""
    names = {
        message_name(header.key, fingerprint_of(line))
        if line.kind == "message"
        else mark_name(header.id, int(line.id.rpartition("/")[2])): line.id
        for line in lines
    }
    gone = {names[name] for name in forgotten_among(tx, header.agent, "message", list(names))}
    if any(line.kind == "continuity" for line in lines) and header.parent is not None and _is_silent(tx, header):
        gone |= {line.id for line in lines if line.kind == "continuity"}
    return gone | {line.id for line in lines if line.forgotten}


def _is_silent(tx: Transaction, header: Header) -> bool:
    """Whether the session before this one was forgotten, or something of it was."""
    gone = forgotten_among(tx, header.agent, "session", [header.parent or ""])
    return bool(gone) or tx.value("first_forgotten", session_id=header.parent) is not None


def fingerprint_of(line: EntryLine) -> bytes:
    """By what a message of an exported session is recognised."""
    return bytes.fromhex(line.fingerprint) if line.fingerprint else message_fingerprint(_message(line))


def _write_entry(tx: Transaction, header: Header, line: EntryLine, seq: int, *, forgotten: bool) -> None:
    is_message = line.kind == "message"
    digest = fingerprint_of(line)
    parent = parent_seq(line, header, seq)
    if forgotten:
        line = line.model_copy(update=SILENT if is_message else {"data": _silent_mark(line)})
    tx.execute(
        "restore_entry",
        session_id=header.id,
        seq=seq,
        turn_id=line.turn,
        role=line.role,
        text=line.text,
        speaker=line.speaker,
        said_on=line.said_on,
        extra=_extra(line) if is_message else dump(line.data),
        visible=int(line.visible and is_message),
        remember=int(line.remember and is_message),
        fingerprint=digest if is_message else b"",
        now=line.at,
        provenance=line.provenance if is_message else None,
        kind=line.kind,
        parent_seq=None if parent == seq - 1 else parent,
    )


SILENT: dict[str, Any] = {"text": "", "speaker": "", "said_on": "", "remember": False, "forgotten": True}
"""What is left of a message that was forgotten."""


def _extra(line: EntryLine) -> str:
    return FORGOTTEN_EXTRA if line.forgotten else encode_extra(_message(line))


def _silent_mark(line: EntryLine) -> dict[str, Any]:
    """What a mark says without quoting anybody."""
    data = {name: value for name, value in (line.data or {}).items() if name != "said"}
    return data | ({"summary": ""} if line.kind == "continuity" else {})


def _vouch(tx: Transaction, session_id: str) -> None:
    if tx.execute("vouch_for_session", session_id=session_id):
        tx.execute("vouch_for_recalls", session_id=session_id)


def _publish(tx: Transaction, header: Header, now_ms: int, *, mine: bool) -> bool:
    """Give the session its key and its state; True when it had to be ended because its key has another."""
    taken = header.ended_at is None and tx.row("find_current_session", key=header.key) is not None
    tx.execute(
        "publish_session",
        id=header.id,
        key=header.key,
        title=header.title,
        parent_id=header.parent,
        started_at=header.started_at,
        last_interaction_at=header.last_interaction_at,
        updated_at=header.updated_at,
        ended_at=now_ms if taken else header.ended_at,
        end_reason="import" if taken else header.end_reason,
        epoch=header.epoch,
        epoch_reason=header.epoch_reason,
        prefix_fingerprint=dump(header.prefix),
        history_start=header.history_start,
        queue_settings=dump(header.queue),
        prompt_tokens=header.prompt_tokens,
        prompt_tokens_seq=header.prompt_tokens_seq,
        prompt_tokens_fresh=int(header.prompt_tokens_fresh),
        compaction_count=header.compaction_count,
        compaction_id=header.compaction,
        message_count=header.entries,
        unvouched_seq=0 if mine else header.entries,
    )
    first_forgotten = tx.value("first_forgotten", session_id=header.id)
    if first_forgotten is not None:
        drop_summaries(tx, header.id, first_forgotten)
    return taken
