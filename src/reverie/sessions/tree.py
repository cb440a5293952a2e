"""The transcript as a tree of entries that is only appended to, and reading it a bounded page at a time.

An entry is named `<session id>/<number>`. Its parent is the entry before it, unless it names another; the first entry
of a session that follows another has as its parent the last entry that one had then. So a conversation is one path
through all its sessions, and what was said is never moved or changed.

Most entries are messages. The others are marks: they say that a summary took the place of what came before
(`compaction`), that this session follows another (`continuity`), or that a turn ended without an answer
(`turn_ended`). A mark has no text, is never sent to a model as it stands, and is not remembered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.sessions.codec import dump

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.storage import Row, Transaction
    from reverie.types import JsonObject, Role

EntryKind = Literal["message", "compaction", "continuity", "turn_ended"]

PAGE_ENTRIES_MAX = 200
PAGE_BYTES_MAX = 1024 * 1024
"""A page of a transcript holds no more than this, except that it holds one entry however large that is."""
CAUSE_CHARACTERS_MAX = 1_000
SAID_CHARACTERS_MAX = 160
ANCESTORS_MAX = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a transcript. `data` is what a message has besides its text, or what a mark says."""

    id: str
    parent: str | None
    seq: int
    kind: EntryKind
    role: Role
    text: str
    data: JsonObject
    turn_id: str | None
    speaker: str
    said_on: str
    visible: bool
    remember: bool
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries in order. `more` is true when there are others beyond the page."""

    entries: tuple[Entry, ...]
    more: bool


def entry_id(session_id: str, seq: int) -> str:
    """The name of an entry."""
    return f"{session_id}/{seq}"


def parent_of(session_id: str, parent_session: str | None, seq: int, parent_seq: int | None) -> str | None:
    """The name of an entry's parent; None for the first entry of a conversation."""
    if seq == 1:
        return entry_id(parent_session, parent_seq) if parent_session is not None and parent_seq else None
    return entry_id(session_id, seq - 1 if parent_seq is None else parent_seq)


def within_bytes(sizes: Sequence[int], bytes_max: int = PAGE_BYTES_MAX) -> int:
    """How many of the first entries fit a page; at least one."""
    left = bytes_max
    for count, size in enumerate(sizes):
        left -= size
        if left < 0 and count:
            return count
    return len(sizes)


def page_before(tx: Transaction, session: Row, before: int, limit: int) -> EntryPage:
    """The newest entries with a number below `before`, within the bounds of a page."""
    sizes = list(tx.tuples("entry_sizes_before", session_id=session["id"], before=before, limit=limit))
    count = within_bytes([size for _, size in sizes])
    return _page(tx, session, sizes[count - 1][0], sizes[0][0]) if sizes else EntryPage((), more=False)


def page_after(tx: Transaction, session: Row, after: int, last: int, limit: int = PAGE_ENTRIES_MAX) -> EntryPage:
    """The oldest entries with a number above `after`, up to `last`, within the bounds of a page."""
    sizes = list(tx.tuples("entry_sizes_after", session_id=session["id"], after=after, last=last, limit=limit))
    if not sizes:
        return EntryPage((), more=False)
    page = _page(tx, session, sizes[0][0], sizes[within_bytes([size for _, size in sizes]) - 1][0])
    return EntryPage(page.entries, more=page.entries[-1].seq < last)


def _page(tx: Transaction, session: Row, first: int, last: int) -> EntryPage:
    rows = tx.rows("read_entries", session_id=session["id"], first=first, last=last)
    return EntryPage(tuple(entry_of(row, session) for row in rows), more=first > 1)


def entry_of(row: Row, session: Row) -> Entry:
    """A row of the transcript as an entry."""
    return Entry(
        id=entry_id(session["id"], row["seq"]),
        parent=parent_of(session["id"], session["parent_id"], row["seq"], row["parent_seq"]),
        seq=row["seq"],
        kind=row["kind"],
        role=row["role"],
        text=row["text"],
        data=json.loads(row["extra"]),
        turn_id=row["turn_id"],
        speaker=row["speaker"],
        said_on=row["said_on"],
        visible=bool(row["visible"]),
        remember=bool(row["remember"]),
        created_at_ms=row["created_at"],
    )


def append_mark(
    tx: Transaction,
    session_id: str,
    kind: Literal["compaction", "continuity", "turn_ended"],
    data: JsonObject,
    now_ms: int,
    *,
    turn_id: str | None = None,
    parent_seq: int | None = None,
) -> int:
    """Append a mark; returns its number."""
    seq: int = tx.value("next_seq", session_id=session_id)
    tx.execute(
        "insert_mark",
        session_id=session_id,
        seq=seq,
        turn_id=turn_id,
        kind=kind,
        extra=dump(data),
        parent_seq=parent_seq,
        now=now_ms,
    )
    return seq


def mark_ended(
    tx: Transaction, session_id: str, turn_id: str, state: str, cause: str, now_ms: int, *, said: str = ""
) -> int:
    """Append what became of a turn that has no answer: its end (`failed`, `expired`, …) and the cause, for people.

    `said` is the message of a turn that never began, which is nowhere else in the transcript; a line of it is kept.
    """
    data: JsonObject = {"state": state, "cause": cause[:CAUSE_CHARACTERS_MAX]}
    if line := " ".join(said.split())[:SAID_CHARACTERS_MAX]:
        data["said"] = line
    return append_mark(tx, session_id, "turn_ended", data, now_ms, turn_id=turn_id)


def known_fingerprints(tx: Transaction, session_id: str, limit: int) -> list[bytes]:
    """The fingerprints of the newest messages a client knows of, oldest first.

    A client that resends its history does not know that its session was followed by another: what it has seen of the
    sessions before counts too, up to `ANCESTORS_MAX` of them.
    """
    found: list[bytes] = []
    current: str | None = session_id
    for _ in range(ANCESTORS_MAX):
        if current is None or len(found) >= limit:
            break
        rows = tx.tuples("newest_fingerprints", session_id=current, limit=limit - len(found))
        found += [row[0] for row in rows]
        current = tx.value("find_parent", id=current)
    return found[::-1]
