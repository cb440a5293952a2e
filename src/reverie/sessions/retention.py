"""Sessions that ended long ago: written to the archive, read back, and only then deleted, a bounded batch at a time.

Nothing is touched that is current, or in which a turn runs or waits. The index forgets a session before its rows go,
so that no search finds what is not there any more; whatever interrupts that is made good by the next sweep.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from reverie.config import PRIVATE
from reverie.errors import StorageError
from reverie.sessions.export import jsonl

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.config import RetentionConfig
    from reverie.storage import Database, Transaction

log = structlog.get_logger(__name__)

SESSIONS_AT_ONCE = 50
DELETED_AT_ONCE = 500
EVENTS_KEPT = 100_000
EVENTS_PRUNED_AT_ONCE = 5_000
DAY_MS = 86_400_000
BREATH_S = 0.01
"""Between two batches, so that turns get at the database."""
NAME_CHARACTERS_MAX = 100
CHUNK_BYTES = 1024 * 1024
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: sessions written to the archive, sessions deleted, events that gave way."""

    archived: int = 0
    deleted: int = 0
    events: int = 0


class Retention:
    """Keeps the database from growing for ever. `forget` takes a session of an agent out of the index."""

    def __init__(
        self,
        database: Database,
        archive: Path,
        config: RetentionConfig,
        clock: Clock,
        forget: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._database = database
        self._archive = archive
        self._config = config
        self._clock = clock
        self._forget = forget

    async def sweep(self) -> Swept:
        """Archive and delete what is old enough, and let old events give way.

        Raises:
            StorageError: a session could not be archived or deleted; it and those after it are as they were.
        """
        events = await prune_events(self._database)
        if not self._config.keep_days:
            return Swept(events=events)
        archived = deleted = 0
        before, after = self._clock.now_ms() - self._config.keep_days * DAY_MS, ""
        while rows := await self._database.read(
            lambda tx, after=after: tx.rows("sessions_to_retire", before=before, after=after, limit=SESSIONS_AT_ONCE)
        ):
            for row in rows:
                if self._config.archive:
                    await archive(self._database, self._archive, row["key"], row["id"])
                    archived += 1
                await self._forget(row["agent"], row["id"])
                await discard(self._database, row["id"])
                deleted += 1
            after = rows[-1]["id"]
        if deleted:
            log.info("old sessions were deleted", action="sessions_retired", archived=archived, deleted=deleted)
        return Swept(archived, deleted, events)


def archive_name(key: str, session_id: str) -> str:
    """What a session's file in the archive is called."""
    return f"{_UNSAFE.sub('-', key)[:NAME_CHARACTERS_MAX]}-{_UNSAFE.sub('-', session_id)}.jsonl.gz"


async def archive(database: Database, folder: Path, key: str, session_id: str) -> Path:
    """Write a session to the archive; when this returns, the file is whole, read back and on disk.

    A whole file that holds as much already stays: the session has lost its end since, because its deletion began.

    Raises:
        StorageError: it could not be written, or did not read back as it was written.
    """
    target = folder / archive_name(key, session_id)
    temporary = target.with_name(f".{target.name}.tmp")
    digest = hashlib.sha256()
    try:
        if await asyncio.to_thread(_entries_in, target) >= await database.read(
            lambda tx: tx.value("next_seq", session_id=session_id) - 1
        ):
            return target
        file = await asyncio.to_thread(_create, folder, temporary)
        try:
            async for piece in jsonl(database, session_id):
                digest.update(piece)
                await asyncio.to_thread(file.write, piece)
        finally:
            await asyncio.to_thread(file.close)
        await asyncio.to_thread(_settle, temporary, target, digest.hexdigest())
    except OSError as error:
        with suppress(OSError):
            await asyncio.to_thread(temporary.unlink, missing_ok=True)
        message = f"the session {session_id} was not archived to {target} ({error}); it is kept, and tried again."
        raise StorageError(message) from error
    return target


def _create(folder: Path, temporary: Path) -> gzip.GzipFile:
    folder.mkdir(mode=PRIVATE, exist_ok=True)
    return gzip.GzipFile(temporary, "wb", mtime=0)


def _entries_in(target: Path) -> int:
    """How many entries a file of the archive holds; -1 when there is none, or it is damaged."""
    last = b""
    try:
        with gzip.open(target, "rb") as file:
            for line in file:
                last = line
        end: Any = json.loads(last)
        return int(end["entries"]) if end["type"] == "end" else -1
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError):
        return -1


def _settle(temporary: Path, target: Path, wanted: str) -> None:
    """Read the file back, force it to disk, give it its name."""
    digest = hashlib.sha256()
    with gzip.open(temporary, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != wanted:
        raise OSError("it reads back differently")
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.chmod(0o600)
    temporary.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def prune_events(database: Database) -> int:
    """Let the oldest events of sessions give way beyond `EVENTS_KEPT`; returns how many did.

    Raises:
        StorageError: it could not be written.
    """
    total = 0
    while True:
        count = await database.write(
            lambda tx: tx.execute("prune_session_events", kept=EVENTS_KEPT, limit=EVENTS_PRUNED_AT_ONCE)
        )
        total += count
        if count < EVENTS_PRUNED_AT_ONCE:
            return total
        await asyncio.sleep(BREATH_S)


async def discard(database: Database, session_id: str) -> None:
    """Delete a session that nothing is to be said in any more, a bounded batch at a time; its row goes last.

    Interrupted, it leaves a shorter transcript; called again it goes on.

    Raises:
        StorageError: it could not be written.
    """
    gone = False
    while not gone:
        gone = await database.write(lambda tx: _discard_some(tx, session_id))
        await asyncio.sleep(BREATH_S)


def _discard_some(tx: Transaction, session_id: str) -> bool:
    """Delete one batch; True when the session is gone."""
    if tx.execute("delete_newest_entries", session_id=session_id, limit=DELETED_AT_ONCE):
        tx.execute("count_entries", id=session_id)
        return False
    found: list[Any] = [row[0] for row in tx.tuples("newest_turn_ids", session_id=session_id, limit=DELETED_AT_ONCE)]
    if found:
        turns = json.dumps(found)
        tx.execute("release_carried_turns", ids=turns)
        tx.execute("release_entries_of_turns", ids=turns)
        tx.execute("delete_turns", ids=turns)
        return False
    if tx.execute("delete_newest_compactions", session_id=session_id, limit=DELETED_AT_ONCE):
        return False
    tx.execute("delete_session", id=session_id)
    return True
