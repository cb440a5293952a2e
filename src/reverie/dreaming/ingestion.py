"""Passes over daily notes and conversations: what was written and said lately leaves a signal, once.

A pass keeps its place for each thing it follows. For notes that is a row for each file, with the time and size it was
read with: an unchanged file is not read again, whatever window the next pass has, and a file that was too long for its
share goes on where it stopped. For conversations it is a position in the log of all messages: nothing is read twice,
and what a budget did not reach is read first the next time.

A passage and the place it moves on to are one transaction, so that a pass can be killed anywhere.
"""

from __future__ import annotations

import asyncio
import heapq
import re
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from reverie.dreaming.candidates import DAY_MS
from reverie.dreaming.noticing import (
    MESSAGES_QUERY,
    NOTES_QUERY,
    Message,
    look_at_message,
    look_at_note,
    noticed_message,
    noticed_note,
    shares,
)
from reverie.dreaming.recording import Signal, day_of, is_short_term, keys_of
from reverie.memory.documents import MEMORY_FOLDER, FileContent, SeenFile, read_file, walk_memory
from reverie.memory.forgotten import ForgottenNotes
from reverie.sessions.forgetting import forgotten_among
from reverie.sessions.reset import is_system_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from reverie.dreaming.evidence import RecallEntries
    from reverie.dreaming.noticing import NoteLook, Noticed, Tags
    from reverie.dreaming.sources import NoteAuthors
    from reverie.memory.documents import SkippedFile
    from reverie.storage.database import Database, Row, Transaction
    from reverie.types import JsonObject

LISTED_AT_ONCE = 1_000
NOTES_MAX = 1_000
"""Files that one pass may read; of more, the newest days are."""
LOG_ROWS_MAX = 1_000
MESSAGES_AT_ONCE = 200
WINDOWS_MAX = 2_000
"""Stretches of the log that one pass goes through; a longer log is gone on with by the next one."""
MESSAGE_CHARACTERS_READ = 4_000
_DAY_OF_NOTE = re.compile(r"(\d{4}-\d{2}-\d{2})[^/]*$")


@dataclass(frozen=True, slots=True)
class NotesPass:
    """What a pass over notes did. `files` are those of the look-back, `waiting` those it did not get to the end of."""

    files: int = 0
    read: int = 0
    unchanged: int = 0
    skipped: int = 0
    waiting: int = 0
    passages: int = 0

    def as_json(self) -> JsonObject:
        """Its counts."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MessagesPass:
    """What a pass over conversations did. `behind`: it did not get to the end of the log."""

    messages: int = 0
    passages: int = 0
    behind: bool = False

    def as_json(self) -> JsonObject:
        """Its counts."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Place:
    """How far the log was read, since when what was said counts, and how many messages this pass has looked at."""

    position: int
    since_ms: int
    pass_id: str = ""
    looked: int = 0


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The messages of a stretch of the log that count, and where it ends."""

    messages: tuple[Message, ...]
    position: int


class Ingestion:
    """The passes. `bytes_max` is the largest note that is read."""

    def __init__(
        self,
        database: Database,
        recalls: RecallEntries,
        *,
        origins: NoteAuthors,
        tags: Tags,
        zone: tzinfo,
        bytes_max: int,
    ) -> None:
        self._database = database
        self._recalls = recalls
        self._forgotten = ForgottenNotes(database)
        self._origins = origins
        self._tags = tags
        self._zone = zone
        self._bytes_max = bytes_max

    # -- notes ---------------------------------------------------------------------------------------------------

    async def notes(self, agent: str, workspace: Path, *, now_ms: int, lookback_days: int, limit: int) -> NotesPass:
        """Look at the daily notes of the last days that changed since they were read last, the newest first.

        `limit` is how many passages light sleep stages: four times as many get a signal at most.

        Raises:
            StorageError: it could not be written; what was read before stays.
        """
        days = (day_of(now_ms - lookback_days * DAY_MS, self._zone), day_of(now_ms + DAY_MS, self._zone))
        files = await self._notes_of_days(workspace, *days)
        known = await self._database.read(lambda tx: _known_notes(tx, agent, files))
        to_read = [file for file in files if not _is_read(file, known.get(file.path))]
        share = shares(len(to_read), limit)
        done = NotesPass(files=len(files), unchanged=len(files) - len(to_read))
        left = share.total
        for number, file in enumerate(to_read):
            if left <= 0:
                return replace(done, waiting=done.waiting + len(to_read) - number)
            row = known.get(file.path)
            from_line = row["next_line"] if row is not None and _is_as_it_was(file, row) else 1
            part = await self._read_note(agent, workspace, file.path, from_line, min(left, share.per_file), now_ms)
            left -= part.passages
            done = _sum(done, part)
            await asyncio.sleep(0)
        return done

    async def _notes_of_days(self, workspace: Path, first: str, last: str) -> list[SeenFile]:
        """The daily notes between two days, the newest first. The folder is listed off the loop, bit by bit."""
        walk = walk_memory(workspace, MEMORY_FOLDER)
        newest: list[SeenFile] = []
        while page := await asyncio.to_thread(_next_page, walk):
            found = [file for file in page if isinstance(file, SeenFile) and first <= note_day(file.path) <= last]
            newest = heapq.nlargest(NOTES_MAX, [*newest, *found], key=lambda file: (note_day(file.path), file.path))
        return newest

    async def _read_note(
        self, agent: str, workspace: Path, path: str, from_line: int, share: int, now_ms: int
    ) -> NotesPass:
        read = await asyncio.to_thread(read_file, workspace, path, self._bytes_max)
        if not isinstance(read, FileContent):
            return NotesPass(skipped=1)
        text = await self._forgotten.visible(agent, path, read.text)
        origins = await self._origins.of_lines(agent, text)
        look = await asyncio.to_thread(look_at_note, path, text, origins, tags=self._tags, from_line=from_line)
        next_line, counted = await self._database.write(
            lambda tx: self._keep_note(tx, agent, path, read, look, share, now_ms)
        )
        return NotesPass(read=1, waiting=int(next_line > 0), passages=counted)

    def _keep_note(
        self, tx: Transaction, agent: str, path: str, read: FileContent, look: NoteLook, share: int, now_ms: int
    ) -> tuple[int, int]:
        day = note_day(path)
        signal = Signal("daily", NOTES_QUERY.format(day), now_ms, day)
        change = noticed_note(self._recalls.known_of(tx, agent, path), look.noticed, signal, share)
        self._recalls.keep(tx, agent, change.put, now_ms, gone=change.gone)
        next_line = change.next_line or look.rest_line
        tx.execute(
            "put_ingested_note",
            agent=agent,
            path=path,
            mtime_ns=read.mtime_ns,
            size_bytes=len(read.data),
            next_line=next_line,
            at=now_ms,
        )
        return next_line, change.counted

    # -- conversations -------------------------------------------------------------------------------------------

    async def messages(
        self, agent: str, *, now_ms: int, lookback_days: int, messages_max: int, pass_id: str = ""
    ) -> MessagesPass:
        """Look at what was said in the agent's conversations since the last pass, at most so many messages.

        A pass that was killed goes on within what is left of its share, if it is given the same `pass_id`.

        The first pass begins at the look-back; from then on every message is looked at once, however long it waits.
        Of imported conversations only what was said within the look-back is short-term memory.

        Raises:
            StorageError: it could not be written; what was read before stays.
        """
        recent_ms = now_ms - lookback_days * DAY_MS
        place = await self._place(agent, recent_ms, pass_id)
        passages = 0
        for _ in range(WINDOWS_MAX):
            most = min(MESSAGES_AT_ONCE, messages_max - place.looked)
            if most <= 0:
                break
            stretch = await self._database.read(lambda tx, at=place, n=most: _stretch(tx, agent, at, recent_ms, n))
            if stretch is None:
                await self._keep_place(agent, place, now_ms)
                return MessagesPass(place.looked, passages)
            place = replace(place, position=stretch.position, looked=place.looked + len(stretch.messages))
            if stretch.messages:
                passages += await self._notice(agent, stretch.messages, place, now_ms)
            await asyncio.sleep(0)
        await self._keep_place(agent, place, now_ms)
        return MessagesPass(place.looked, passages, behind=await self._database.read(lambda tx: _is_behind(tx, place)))

    async def _place(self, agent: str, recent_ms: int, pass_id: str) -> _Place:
        row = await self._database.read(lambda tx: tx.row("ingested_position", agent=agent, **{"pass": pass_id}))
        if row is None:
            return _Place(0, recent_ms, pass_id)
        return _Place(row["position"], row["since"], pass_id, row["looked"] if pass_id else 0)

    async def _keep_place(self, agent: str, place: _Place, now_ms: int) -> None:
        await self._database.write(lambda tx: _put_place(tx, agent, place, now_ms))

    async def _notice(self, agent: str, messages: Sequence[Message], place: _Place, now_ms: int) -> int:
        """Look at messages, and keep what was noticed together with the place they were read up to."""
        looked_at = await asyncio.to_thread(self._look_at, messages)

        def keep(tx: Transaction) -> int:
            counted = 0
            forgotten: dict[str, bool] = {}
            for message, noticed in looked_at:
                if message.session_id not in forgotten:
                    forgotten[message.session_id] = bool(forgotten_among(tx, agent, "session", [message.session_id]))
                if not forgotten[message.session_id]:
                    counted += self._keep_message(tx, agent, message, noticed, now_ms)
            _put_place(tx, agent, place, now_ms)
            return counted

        return await self._database.write(keep)

    def _look_at(self, messages: Sequence[Message]) -> list[tuple[Message, Noticed]]:
        looked_at = ((each, look_at_message(each, tags=self._tags)) for each in messages)
        return [(message, noticed) for message, noticed in looked_at if noticed is not None]

    def _keep_message(self, tx: Transaction, agent: str, message: Message, noticed: Noticed, now_ms: int) -> bool:
        day = day_of(message.created_at_ms, self._zone)
        signal = Signal("daily", MESSAGES_QUERY.format(day), now_ms, day)
        keys = keys_of(noticed.hit)
        known = next((entry for key in keys if (entry := self._recalls.known_under(tx, agent, key))), None)
        entry = noticed_message(known, noticed, signal)
        if entry is not None:
            self._recalls.keep(tx, agent, [entry], now_ms)
        return entry is not None


def note_day(path: str) -> str:
    """The day of a daily note, `YYYY-MM-DD`, by its name; empty for what is none."""
    found = _DAY_OF_NOTE.search(path) if is_short_term(path) else None
    return found[1] if found else ""


def is_interactive(key: str, source: str) -> bool:
    """Whether a person speaks in a session, and not a clock, a program or another agent."""
    return not is_system_source(source, key) and key.lower().split(":")[2:3] != ["subagent"]


def _next_page(walk: Iterator[SeenFile | SkippedFile]) -> list[SeenFile | SkippedFile]:
    return list(islice(walk, LISTED_AT_ONCE))


def _known_notes(tx: Transaction, agent: str, files: Sequence[SeenFile]) -> dict[str, Row]:
    rows = ((file.path, tx.row("ingested_note", agent=agent, path=file.path)) for file in files)
    return {path: row for path, row in rows if row is not None}


def _is_as_it_was(file: SeenFile, row: Row) -> bool:
    return (file.mtime_ns, file.size_bytes) == (row["mtime_ns"], row["size_bytes"])


def _is_read(file: SeenFile, row: Row | None) -> bool:
    return row is not None and _is_as_it_was(file, row) and not row["next_line"]


def _sum(done: NotesPass, part: NotesPass) -> NotesPass:
    return replace(
        done,
        read=done.read + part.read,
        skipped=done.skipped + part.skipped,
        waiting=done.waiting + part.waiting,
        passages=done.passages + part.passages,
    )


def _stretch(tx: Transaction, agent: str, place: _Place, recent_ms: int, most: int) -> _Stretch | None:
    """The next messages of an agent in a stretch of the log; None at its end."""
    until: int | None = tx.value("log_window_end", position=place.position, rows=LOG_ROWS_MAX)
    if until is None:
        return None
    rows = tx.rows(
        "messages_to_notice",
        agent=agent,
        position=place.position,
        until=until,
        since=place.since_ms,
        recent=recent_ms,
        limit=most,
        characters=MESSAGE_CHARACTERS_READ,
    )
    position = rows[-1]["position"] if len(rows) == most else until
    messages = (_message(row) for row in rows)
    return _Stretch(tuple(each for each in messages if is_interactive(each.key, each.source)), position)


def _message(row: Row) -> Message:
    return Message(created_at_ms=row.pop("created_at"), **row)


def _put_place(tx: Transaction, agent: str, place: _Place, now_ms: int) -> None:
    read = {"position": place.position, "since": place.since_ms, "pass": place.pass_id, "looked": place.looked}
    tx.execute("put_ingested_position", agent=agent, at=now_ms, **read)


def _is_behind(tx: Transaction, place: _Place) -> bool:
    return tx.value("log_window_end", position=place.position, rows=1) is not None
