"""The transactions of index.db: what is written together stands or falls together.

Every function takes an open `Transaction` and is short: one file, or one batch of messages. Chunks whose text did not
change keep their row, and with it their words and their vector.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reverie.memory.passages import scope_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.memory.passages import Passage
    from reverie.storage.database import Row, Transaction
    from reverie.types import MemorySource

LOG_POSITION = "log_position"
EMBEDDER = "embedder"
WATCH = "watch"
REFUSED_TEXTS = "refused_texts"
REFUSED_REASON = "refused_reason"


@dataclass(frozen=True, slots=True)
class Refusals:
    """How many chunks the embedder would not take since the last rebuild, and why the last one."""

    chunks: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file as the index knows it."""

    document_id: int
    path: str
    content_hash: bytes
    mtime_ns: int
    size_bytes: int
    indexed_at_ms: int


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows the index holds. The sum and the revision let a copy of the vectors prove that it is complete."""

    chunks: int
    vectors: int
    vectors_checksum: int
    vectors_revision: int


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file as it was just read and cut."""

    path: str
    content_hash: bytes
    mtime_ns: int
    size_bytes: int
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class TranscriptPassages:
    """The passages of one session within a batch."""

    agent: str
    session_id: str
    passages: tuple[Passage, ...]


@dataclass(slots=True)
class Change:
    """What a transaction did, for those who follow it.

    `moved` holds chunk id and first line of chunks that stand elsewhere now; `agents` and `speakers` are new ones, and
    `silent` speakers that are not known any more.
    """

    added: int = 0
    reused: int = 0
    documents: int = 0
    agents: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    speakers: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    silent: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    removed_ids: list[int] = field(default_factory=list[int])
    moved: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


def read_tally(tx: Transaction) -> Tally:
    """The tally as of this transaction's snapshot."""
    return Tally(*next(tx.tuples("read_tally")))


def agent_number(tx: Transaction, agent: str, change: Change) -> int:
    """An agent's number, given when it is first seen."""
    known = tx.value("find_agent", agent=agent)
    if known is None:
        known = tx.insert("add_agent", agent=agent)
        change.agents.append((agent, known))
    return int(known)


def known_files(tx: Transaction, agent_id: int, paths: Sequence[str]) -> dict[str, KnownFile]:
    """What the index knows of some files."""
    rows = tx.rows("find_documents", agent_id=agent_id, source="memory", paths=json.dumps(list(paths)))
    return {row["path"]: _known(row) for row in rows}


def list_files(tx: Transaction, agent_id: int, after: str, high: str, limit: int) -> list[KnownFile]:
    """What the index knows of the files in a range of paths, both ends excluded, in path order."""
    rows = tx.rows("list_documents", agent_id=agent_id, after=after, high=high, limit=limit)
    return [_known(row) for row in rows]


def _known(row: Row) -> KnownFile:
    return KnownFile(row["id"], row["path"], row["content_hash"], row["mtime_ns"], row["size_bytes"], row["indexed_at"])


def touch_file(tx: Transaction, agent_id: int, known: KnownFile, now: KnownFile) -> bool:
    """The content is the same, time or size are not: note them. False when the index no longer holds `known`."""
    if not _still_holds(tx, agent_id, known.path, known):
        return False
    _update_document(tx, now)
    return True


def write_file(
    tx: Transaction, agent_id: int, file: ReadFile, known: KnownFile | None, looked_at_ms: int
) -> Change | None:
    """Bring the index from `known` to what the file held at `looked_at_ms`; None when it no longer holds `known`."""
    if not _still_holds(tx, agent_id, file.path, known):
        return None
    change = Change()
    if known is None:
        document_id = tx.insert(
            "add_document",
            agent_id=agent_id,
            source="memory",
            path=file.path,
            session_id=None,
            content_hash=file.content_hash,
            mtime_ns=file.mtime_ns,
            size_bytes=file.size_bytes,
            indexed_at=looked_at_ms,
        )
        change.documents = 1
    else:
        document_id = known.document_id
        facts = (file.content_hash, file.mtime_ns, file.size_bytes, looked_at_ms)
        _update_document(tx, KnownFile(document_id, file.path, *facts))
    _replace_chunks(tx, document_id, scope_word(agent_id, "memory"), file.passages, change)
    return change


def move_file(tx: Transaction, agent_id: int, known: KnownFile, now: KnownFile) -> bool:
    """A file has another name: its chunks, words and vectors stay. False when the index no longer holds `known`."""
    if not _still_holds(tx, agent_id, known.path, known) or not _still_holds(tx, agent_id, now.path, None):
        return False
    tx.execute("move_document", id=known.document_id, path=now.path)
    _update_document(tx, now)
    return True


def remove_file(tx: Transaction, agent_id: int, known: KnownFile) -> Change | None:
    """Forget a file and everything that stood in it; None when the index no longer holds `known`."""
    if not _still_holds(tx, agent_id, known.path, known):
        return None
    change = Change(documents=-1)
    for row in tx.tuples("list_document_chunks", document_id=known.document_id):
        change.removed_ids.append(row[0])
    _delete_chunks(tx, change.removed_ids)
    tx.execute("delete_document", id=known.document_id)
    return change


def _still_holds(tx: Transaction, agent_id: int, path: str, known: KnownFile | None) -> bool:
    """Whether nobody has written the file since it was compared: of two who read it, the one who read last may."""
    return known_files(tx, agent_id, [path]).get(path) == known


def _update_document(tx: Transaction, now: KnownFile) -> None:
    tx.execute(
        "update_document",
        id=now.document_id,
        content_hash=now.content_hash,
        mtime_ns=now.mtime_ns,
        size_bytes=now.size_bytes,
        indexed_at=now.indexed_at_ms,
    )


def write_transcripts(
    tx: Transaction, batch: Sequence[TranscriptPassages], *, start: int, end: int, now_ms: int
) -> Change | None:
    """Add messages and move the log position from `start` to `end`; None when another run was faster."""
    if log_position(tx) != start:
        return None
    change = Change()
    for session in batch:
        agent_id = agent_number(tx, session.agent, change)
        document_id = _session_document(tx, agent_id, session.session_id, now_ms, change)
        scope = scope_word(agent_id, "sessions")
        last = int(tx.value("last_unit", document_id=document_id))
        for passage in session.passages:
            _add_chunk(tx, document_id, scope, passage, after_unit=last)
        for name in sorted({passage.speaker for passage in session.passages if passage.speaker}):
            if tx.execute("add_speaker", agent_id=agent_id, speaker=name):
                change.speakers.append((agent_id, name))
        change.added += len(session.passages)
    tx.execute("set_meta", key=LOG_POSITION, value=str(end))
    return change


def log_position(tx: Transaction) -> int:
    """How far the transcripts are indexed."""
    return int(tx.value("get_meta", key=LOG_POSITION) or 0)


def watch_mode(tx: Transaction) -> str:
    """How changed files were last noticed; empty when they never were."""
    return tx.value("get_meta", key=WATCH) or ""


def forget_transcripts(tx: Transaction) -> None:
    """Drop everything that came from transcripts, and begin their log anew: it is not the log that was indexed."""
    tx.execute("forget_transcript_fulltext")
    tx.execute("forget_transcript_documents")
    tx.execute("set_meta", key=LOG_POSITION, value="0")


def forget_session(tx: Transaction, agent_id: int, session_id: str, limit: int) -> Change | None:
    """Drop up to `limit` passages of one transcript, and its document with the last of them; None when it is gone."""
    document_id = tx.value("find_session_document", agent_id=agent_id, path=session_path(session_id))
    if document_id is None:
        return None
    change = Change()
    change.removed_ids.extend(row[0] for row in tx.tuples("some_chunks", document_id=document_id, limit=limit))
    _delete_chunks(tx, change.removed_ids)
    if len(change.removed_ids) < limit:
        tx.execute("delete_document", id=document_id)
        change.documents = -1
    return change


def remove_passages(tx: Transaction, chunk_ids: Sequence[int]) -> Change:
    """Drop single passages, with their words and vectors."""
    change = Change()
    change.removed_ids.extend(row[0] for row in tx.tuples("which_chunks", ids=json.dumps(list(chunk_ids))))
    _delete_chunks(tx, change.removed_ids)
    return change


def refusals(tx: Transaction) -> Refusals:
    """What was set aside since the last rebuild."""
    count, reason = (tx.value("get_meta", key=key) for key in (REFUSED_TEXTS, REFUSED_REASON))
    return Refusals(int(count or 0), reason or "")


def set_aside(tx: Transaction, chunk_ids: Sequence[int], reason: str) -> Refusals:
    """Let chunks wait no longer for a vector, and count them."""
    marked = sum(tx.execute("mark_refused", id=chunk_id) for chunk_id in chunk_ids)
    noted = Refusals(refusals(tx).chunks + marked, reason)
    tx.execute("set_meta", key=REFUSED_TEXTS, value=str(noted.chunks))
    tx.execute("set_meta", key=REFUSED_REASON, value=reason)
    return noted


def session_path(session_id: str) -> str:
    """How a transcript is cited."""
    return f"sessions/{session_id}"


def _session_document(tx: Transaction, agent_id: int, session_id: str, now_ms: int, change: Change) -> int:
    known = tx.value("find_session_document", agent_id=agent_id, path=session_path(session_id))
    if known is not None:
        return int(known)
    change.documents += 1
    source: MemorySource = "sessions"
    return tx.insert(
        "add_document",
        agent_id=agent_id,
        source=source,
        path=session_path(session_id),
        session_id=session_id,
        content_hash=b"",
        mtime_ns=0,
        size_bytes=0,
        indexed_at=now_ms,
    )


def _replace_chunks(tx: Transaction, document_id: int, scope: str, passages: Sequence[Passage], change: Change) -> None:
    """Keep the chunks whose content stands in the new passages, in order; add and delete the rest."""
    held: dict[bytes, list[tuple[Any, ...]]] = {}
    for row in tx.tuples("list_document_chunks", document_id=document_id):
        held.setdefault(row[-1], []).append(row[:-1])
    for passage in passages:
        same = held.get(passage.content_hash)
        if not same:
            _add_chunk(tx, document_id, scope, passage)
            change.added += 1
            continue
        change.reused += 1
        chunk_id, *place = same.pop(0)
        if place != [passage.start_line, passage.end_line, passage.unit, passage.part, passage.provenance]:
            tx.execute(
                "move_chunk",
                id=chunk_id,
                start_line=passage.start_line,
                end_line=passage.end_line,
                unit=passage.unit,
                part=passage.part,
                provenance=passage.provenance,
            )
            change.moved.append((chunk_id, passage.start_line))
    change.removed_ids.extend(row[0] for rows in held.values() for row in rows)
    _delete_chunks(tx, change.removed_ids)


def _add_chunk(tx: Transaction, document_id: int, scope: str, passage: Passage, after_unit: int = 0) -> None:
    chunk_id = tx.insert(
        "add_chunk",
        document_id=document_id,
        start_line=passage.start_line,
        end_line=passage.end_line,
        unit=after_unit + passage.unit,
        part=passage.part,
        unit_chars=passage.unit_chars,
        content_hash=passage.content_hash,
        text=passage.text,
        heading=passage.heading,
        speaker=passage.speaker,
        said_by=passage.said_by,
        said_on=passage.said_on,
        provenance=passage.provenance,
        created_at=passage.created_at_ms,
    )
    tx.execute("add_fulltext", id=chunk_id, body=passage.body, header=passage.header, scope=scope)


def _delete_chunks(tx: Transaction, chunk_ids: Sequence[int]) -> None:
    parameters = [{"id": chunk_id} for chunk_id in chunk_ids]
    if parameters:
        tx.execute_many("delete_fulltext", parameters)
        tx.execute_many("delete_chunk", parameters)
