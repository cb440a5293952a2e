"""A session as a file: JSON Lines, which can be taken in again without loss, and Markdown, for people.

A JSONL export is a header, the summaries that were made of the session, its entries in order, each turn before its
first entry, and a last line by which a file that was cut off or changed is recognised. It is written a page at a time
and goes up to the last turn that has ended: all of it is settled, so it reads the same however often it is written,
and while the session goes on.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from reverie.clock import iso_minute
from reverie.errors import UnknownSessionError
from reverie.sessions.codec import decode_message, dump
from reverie.sessions.replay import message_fingerprint
from reverie.sessions.tree import entry_id, page_after, parent_of, within_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from reverie.sessions.tree import Entry
    from reverie.storage import Row, Transaction
    from reverie.types import JsonObject

    T = TypeVar("T")

ExportFormat = Literal["jsonl", "markdown"]
VERSION = 1
PAGE_ENTRIES = 200
COMPACTIONS_AT_ONCE = 20
FENCE_MIN = 3


class Reader(Protocol):
    """What reads consistently off the event loop: a `Database`, or a `SessionStore`."""

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a reader thread, on one snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is exported: the session as it was when the export began, and how far it goes."""

    session: Row
    last: int
    compactions: int


async def export_jsonl(reader: Reader, session_id: str, write: Callable[[bytes], Awaitable[object] | object]) -> None:
    """Write a session as JSON Lines; `write` is given one piece after the other, and awaited if it can be.

    Raises:
        UnknownSessionError: there is no such session; nothing was written.
        StorageError: it cannot be read.
    """
    await _written(jsonl(reader, session_id), write)


async def export_markdown(
    reader: Reader, session_id: str, write: Callable[[bytes], Awaitable[object] | object]
) -> None:
    """Write a session as Markdown, for people. Raises what `export_jsonl` raises."""
    await _written(markdown(reader, session_id), write)


async def _written(pieces: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[object] | object]) -> None:
    async for piece in pieces:
        done = write(piece)
        if inspect.isawaitable(done):
            await done


async def jsonl(reader: Reader, session_id: str) -> AsyncIterator[bytes]:
    """A session as JSON Lines, in pieces of about a page. Raises what `export_jsonl` raises."""
    plan = await reader.read(lambda tx: _planned(tx, session_id))
    digest = hashlib.sha256()
    turns = 0
    async for piece, begun in _json_pieces(reader, plan):
        digest.update(piece)
        turns += begun
        yield piece
    yield _line({"type": "end", "entries": plan.last, "turns": turns, "sha256": digest.hexdigest()})


async def _json_pieces(reader: Reader, plan: _Plan) -> AsyncIterator[tuple[bytes, int]]:
    """Everything but the last line, and how many turns begin in each piece."""
    yield _line(header(plan.session, plan.last)), 0
    at: tuple[int, int] = (-1, 0)
    while True:
        piece, at = await reader.read(lambda tx, at=at: _compaction_lines(tx, plan, at))
        if not piece:
            break
        yield piece, 0
    after = 0
    while after < plan.last:
        piece, after, turns = await reader.read(lambda tx, after=after: _entry_lines(tx, plan, after))
        yield piece, turns


def _planned(tx: Transaction, session_id: str) -> _Plan:
    session = tx.row("find_session", id=session_id)
    if session is None:
        raise UnknownSessionError(f"There is no session '{session_id[:200]}'.")
    running: int | None = tx.value("first_unended_entry", session_id=session_id)
    last: int = tx.value("next_seq", session_id=session_id) - 1 if running is None else running - 1
    return _Plan(session, last, tx.value("settled_compactions", session_id=session_id))


def header(session: Row, last: int) -> JsonObject:
    """The first line: everything a session is besides its entries."""
    return {
        "type": "session",
        "version": VERSION,
        "id": session["id"],
        "key": session["key"],
        "agent": session["agent"],
        "origin": session["origin"],
        "title": session["title"],
        "parent": session["parent_id"],
        "started_at": session["started_at"],
        "last_interaction_at": session["last_interaction_at"],
        "updated_at": session["updated_at"],
        "ended_at": session["ended_at"],
        "end_reason": session["end_reason"],
        "epoch": session["epoch"],
        "epoch_reason": session["epoch_reason"],
        "prefix": json.loads(session["prefix_fingerprint"]),
        "history_start": session["history_start"],
        "queue": json.loads(session["queue_settings"]),
        "prompt_tokens": session["prompt_tokens"],
        "prompt_tokens_seq": session["prompt_tokens_seq"],
        "prompt_tokens_fresh": bool(session["prompt_tokens_fresh"]),
        "compaction_count": session["compaction_count"],
        "compaction": session["compaction_id"],
        "entries": last,
    }


def _compaction_lines(tx: Transaction, plan: _Plan, at: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
    rows = tx.rows(
        "compaction_page",
        session_id=plan.session["id"],
        created_at=at[0],
        after=at[1],
        last=plan.compactions,
        limit=COMPACTIONS_AT_ONCE,
    )
    lines: list[bytes] = []
    for row in rows:
        at = (row["created_at"], row.pop("place"))
        row["audit"] = json.loads(row["audit"])
        lines.append(_line({"type": "compaction", **row}))
    return b"".join(lines), at


def _entry_lines(tx: Transaction, plan: _Plan, after: int) -> tuple[bytes, int, int]:
    """The lines of a page, the number of its last entry, and how many turns begin in it."""
    session = plan.session
    sizes = list(
        tx.tuples("entry_sizes_after", session_id=session["id"], after=after, last=plan.last, limit=PAGE_ENTRIES)
    )
    last: int = sizes[within_bytes([size for _, size in sizes]) - 1][0]
    lines: list[bytes] = []
    turns = 0
    before: str | None = None
    for row in tx.rows("read_entries", session_id=session["id"], first=after + 1, last=last):
        turn_id = row["turn_id"]
        if turn_id is not None and turn_id != before:
            turn = tx.row("turn_that_begins", turn_id=turn_id, session_id=session["id"], seq=row["seq"])
            if turn is not None:
                lines.append(_line(_turn(turn)))
                turns += 1
        before = turn_id
        lines.append(_line(_entry(row, session)))
    return b"".join(lines), last, turns


def _turn(row: Row) -> JsonObject:
    for name in ("usage", "error"):
        row[name] = None if row[name] is None else json.loads(row[name])
    return {"type": "turn", **row}


def _entry(row: Row, session: Row) -> JsonObject:
    """An entry; what most entries do not have is left out."""
    line: JsonObject = {
        "type": "entry",
        "id": entry_id(session["id"], row["seq"]),
        "parent": parent_of(session["id"], session["parent_id"], row["seq"], row["parent_seq"]),
        "kind": row["kind"],
        "at": row["created_at"],
    }
    if row["turn_id"] is not None:
        line["turn"] = row["turn_id"]
    extra: JsonObject = json.loads(row["extra"])
    if row["kind"] != "message":
        return line | {"data": extra}
    line |= {"role": row["role"], "text": row["text"]} | extra
    line |= {name: row[name] for name in ("speaker", "said_on", "provenance") if row[name]}
    line |= {name: False for name in ("visible", "remember") if not row[name]}
    message = decode_message(row["role"], row["text"], row["extra"])
    if row["fingerprint"] != message_fingerprint(message):  # the client saw it in another form
        line["fingerprint"] = row["fingerprint"].hex()
    return line


def _line(value: JsonObject) -> bytes:
    return f"{dump(value)}\n".encode()


# -- Markdown ----------------------------------------------------------------------------------------------------


async def markdown(reader: Reader, session_id: str) -> AsyncIterator[bytes]:
    """A session as Markdown, in pieces of about a page. Raises what `export_jsonl` raises."""
    plan = await reader.read(lambda tx: _planned(tx, session_id))
    yield _markdown_head(plan.session).encode()
    pages = _Pages()
    after = 0
    while after < plan.last:
        page = await reader.read(lambda tx, after=after: page_after(tx, plan.session, after, plan.last))
        after = page.entries[-1].seq
        yield "".join(part for entry in page.entries for part in pages.parts(entry)).encode()


def _markdown_head(session: Row) -> str:
    ended = (
        "" if session["ended_at"] is None else f", ended {iso_minute(session['ended_at'])} ({session['end_reason']})"
    )
    follows = f"\n- follows {session['parent_id']}" if session["parent_id"] else ""
    return (
        f"# {session['title'] or session['key']}\n\n- session {session['id']} of {session['key']}\n"
        f"- began {iso_minute(session['started_at'])} UTC{ended}{follows}\n"
    )


class _Pages:
    """Where the reader is: headings count turns over all pages."""

    def __init__(self) -> None:
        self._turn: object = None
        self._number = 0

    def parts(self, entry: Entry) -> Iterator[str]:
        """An entry, after the heading of its turn when it is the first one in it."""
        turn: object = entry.turn_id
        if turn is None and entry.role == "user":
            turn = entry.id
        if entry.kind == "message" and (turn is not None or not self._number) and turn != self._turn:
            self._turn = turn
            self._number += 1
            yield f"\n## Turn {self._number} · {iso_minute(entry.created_at_ms)} UTC\n"
        yield _shown_mark(entry) if entry.kind != "message" else _shown_message(entry)


def _shown_message(entry: Entry) -> str:
    if entry.role == "tool":
        return f"\nResult of a tool:\n\n{fenced_block(entry.text, 'text')}\n"
    name = entry.speaker or entry.role.capitalize()
    said = f" ({entry.said_on})" if entry.said_on else ""
    text = f"\n**{name}**{said}:\n\n{entry.text}\n" if entry.text else ""
    calls: list[dict[str, Any]] = entry.data.get("tool_calls", [])
    for call in calls:
        text += f"\n**{name}** calls `{call['name']}`:\n\n{fenced_block(call['arguments'], 'json')}\n"
    images = len(entry.data.get("images", []))
    return text + (f"\n[{images} image{'s' if images > 1 else ''}]\n" if images else "")


def _shown_mark(entry: Entry) -> str:
    data = entry.data
    match entry.kind:
        case "turn_ended":
            said = f" It said: {data['said']}" if data.get("said") else ""
            return f"\n_The turn ended without an answer ({data.get('state')}): {data.get('cause')}{said}_\n"
        case "continuity":
            return f"\n_This session follows another:_\n\n{fenced_block(str(data.get('summary', '')), 'text')}\n"
        case _:
            return f"\n_A summary took the place of what came before:_\n\n{fenced_block(dump(data), 'json')}\n"


def fenced_block(text: str, language: str) -> str:
    """A text as a fenced block that nothing in it can close."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    fence = "`" * max(FENCE_MIN, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
