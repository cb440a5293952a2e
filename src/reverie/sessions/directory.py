"""Looking at sessions and ending them: what the command line and `/v1/sessions` ask, a bounded page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.errors import UnknownSessionError
from reverie.sessions.export import export_jsonl, export_markdown, jsonl, markdown
from reverie.sessions.rollover import roll_over
from reverie.sessions.tree import PAGE_ENTRIES_MAX, page_before

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from reverie.clock import Clock
    from reverie.sessions.bindings import KeepOverReset
    from reverie.sessions.export import ExportFormat
    from reverie.sessions.rollover import RollOver
    from reverie.sessions.tree import EntryPage
    from reverie.storage import Database, Row, Transaction

SESSIONS_MAX = 200
"""Sessions on one page of a list."""
ALARMS_MAX = 20
ALARMS_SAMPLED = 500
LAST_SEQ = 2**62


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it is shown. `entries` counts messages and marks, `bytes` their text; it follows `parent`."""

    id: str
    key: str
    agent: str
    origin: str
    title: str
    started_at_ms: int
    last_interaction_at_ms: int
    ended_at_ms: int | None
    end_reason: str | None
    parent: str | None
    entries: int
    bytes: int
    compactions: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions, those used last first. `more` is true when there are others after them."""

    sessions: tuple[SessionRecord, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class OversizedSession:
    """A session whose transcript has passed what is configured as too large."""

    id: str
    key: str
    entries: int
    bytes: int


class SessionDirectory:
    """The sessions of one home. `default_agent` is whose a shortened key is taken to be."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        default_agent: str = "main",
        *,
        keep_threads: KeepOverReset = "automatic",
    ) -> None:
        self._database = database
        self._clock = clock
        self._default_agent = default_agent
        self._keep_threads: KeepOverReset = keep_threads

    async def page(self, limit: int = 50, after: str | None = None) -> SessionPage:
        """The sessions used last, or those after the session with the id `after`; at most `SESSIONS_MAX`.

        Raises:
            UnknownSessionError: there is no session `after`.
        """
        limit = max(1, min(limit, SESSIONS_MAX))

        def work(tx: Transaction) -> list[Row]:
            at: int = LAST_SEQ if after is None else _known(tx.row("find_session", id=after), after)[LAST]
            return tx.rows("session_page", at=at, after=after or "", limit=limit + 1)

        rows = await self._database.read(work)
        return SessionPage(tuple(_record(row) for row in rows[:limit]), more=len(rows) > limit)

    async def find(self, name: str) -> SessionRecord:
        """A session by its key, the rest of a key of the default agent (`main`), or its id.

        Of several with one key it is the current one, else the one that began last.

        Raises:
            UnknownSessionError: there is none.
        """
        row = await self._database.read(lambda tx: _find(tx, name, self._default_agent))
        return _record(_known(row, name))

    async def entries(self, session_id: str, before: int | None = None, limit: int = 50) -> EntryPage:
        """The newest entries of a transcript, or those before a number: at most 200 and about 1 MiB, in order.

        Raises:
            UnknownSessionError: there is no such session.
        """
        limit = max(1, min(limit, PAGE_ENTRIES_MAX))

        def work(tx: Transaction) -> EntryPage:
            session = _known(tx.row("find_session", id=session_id), session_id)
            return page_before(tx, session, LAST_SEQ if before is None else before, limit)

        return await self._database.read(work)

    async def reset(self, name: str) -> RollOver:
        """End the current session of a key now. A turn that runs finishes there; what waits goes on in the successor.

        Raises:
            UnknownSessionError: there is no such session, or it has ended already.
        """
        now = self._clock.now_ms()

        def work(tx: Transaction) -> RollOver:
            row = _known(_find(tx, name, self._default_agent), name)
            if row["ended_at"] is not None:
                raise UnknownSessionError(f"The session {row['id']} has ended already; its key has no other now.")
            return roll_over(tx, row, "manual", now, self._keep_threads)

        return await self._database.write(work)

    def pieces(self, session_id: str, form: ExportFormat) -> AsyncIterator[bytes]:
        """A whole session, piece by piece. Raises `UnknownSessionError` before the first piece."""
        return (jsonl if form == "jsonl" else markdown)(self._database, session_id)

    async def export(
        self, session_id: str, form: ExportFormat, write: Callable[[bytes], Awaitable[object] | object]
    ) -> None:
        """Hand a whole session to `write`, piece by piece; what `write` returns is awaited if it can be.

        Raises:
            UnknownSessionError: there is no such session.
            StorageError: it cannot be read.
        """
        await (export_jsonl if form == "jsonl" else export_markdown)(self._database, session_id, write)

    async def oversized(self, bytes_max: int, entries_max: int) -> list[OversizedSession]:
        """Current sessions larger than this, of the `ALARMS_SAMPLED` used last; 0: no limit. At most `ALARMS_MAX`."""
        rows = await self._database.read(
            lambda tx: tx.rows(
                "oversized_sessions",
                sessions=ALARMS_SAMPLED,
                bytes_max=bytes_max or LAST_SEQ,
                entries_max=entries_max or LAST_SEQ,
                limit=ALARMS_MAX,
            )
        )
        return [OversizedSession(**row) for row in rows]


LAST = "last_interaction_at"


def _known(row: Row | None, name: str) -> Row:
    if row is None:
        raise UnknownSessionError(f"There is no session '{name[:200]}'; `reverie sessions list` shows them.")
    return row


def _find(tx: Transaction, name: str, agent: str) -> Row | None:
    keys = (name, f"agent:{agent}:{name.lower()}")
    for key in keys:
        if (row := tx.row("find_current_session", key=key)) is not None:
            return row
    if (row := tx.row("find_session", id=name)) is not None:
        return row
    for key in keys:
        if (row := tx.row("newest_session_of_key", key=key)) is not None:
            return row
    return None


def _record(row: Row) -> SessionRecord:
    return SessionRecord(
        id=row["id"],
        key=row["key"],
        agent=row["agent"],
        origin=row["origin"],
        title=row["title"],
        started_at_ms=row["started_at"],
        last_interaction_at_ms=row[LAST],
        ended_at_ms=row["ended_at"],
        end_reason=row["end_reason"],
        parent=row["parent_id"],
        entries=row["message_count"],
        bytes=row["transcript_bytes"],
        compactions=row["compaction_count"],
        epoch=row["epoch"],
    )
