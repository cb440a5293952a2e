"""Tasks, episodes and their spans as rows: beginning, closing and going on with them, within a transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reverie.learning.episodes.entries import Entry, entry_of
from reverie.learning.ids import content_id
from reverie.learning.records import Episode, episode_of, task_of
from reverie.types import least_trusted

if TYPE_CHECKING:
    from reverie.learning.episodes.intent import Intent
    from reverie.learning.records import Task
    from reverie.storage import Row, Transaction

TITLE_CHARS_MAX: Final = 80
CARRIED_CHARS_MAX: Final = 240
"""Of the last question and of the last reply, in what an episode is told of the one it continues."""
ENTRIES_READ_MAX: Final = 10_000
"""Entries of one episode: its limits are far below, but for a single message with thousands of tool calls."""
END: Final = 2**62
"""After every number of a transcript."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How an episode begins: with which message, why, and what kind of message that is."""

    entry: Entry
    reason: str
    intent: Intent | None = None


def episode_id_of(session_id: str, seq: int) -> str:
    """The id of an episode that begins with a message."""
    return content_id("ep", session_id, seq)


def find_episode(tx: Transaction, episode_id: str | None) -> Episode | None:
    """An episode by its id; None when there is none."""
    row = None if episode_id is None else tx.row("find_episode", id=episode_id)
    return None if row is None else episode_of(row)


def latest_episode(tx: Transaction, session_id: str, before_seq: int = END) -> Episode | None:
    """The episode that holds the newest message of a session, before a number."""
    row = tx.row("latest_episode", session_id=session_id, before_seq=before_seq)
    return None if row is None else episode_of(row)


def last_put(tx: Transaction, session_id: str) -> int:
    """The number of the newest message of a session that any episode holds; 0 when none does."""
    span = tx.row("last_span", session_id=session_id, before_seq=END)
    return 0 if span is None else span["last_seq"]


def goes_on(tx: Transaction, session_id: str, seq: int, but_turn: str | None = None) -> Row | None:
    """The stretch that a message of this number follows right upon.

    None where there is none, or where something in between was not read: it was said while learning was off, for one.
    What a turn brought along may be let pass.
    """
    return tx.row("span_before", session_id=session_id, before_seq=seq, but_turn=but_turn or "")


def begin_task(tx: Transaction, session: Row, opening: Opening) -> Episode:
    """A new task with its first episode."""
    message = opening.entry.message
    task_id = content_id("ta", session["id"], message.seq)
    tx.execute(
        "insert_task",
        id=task_id,
        agent=session["agent"],
        session_id=session["id"],
        session_key=session["key"],
        now=message.at_ms,
        provenance=message.whose,
    )
    return _begin(tx, session, opening, task_id, title=one_line(message.text, TITLE_CHARS_MAX))


def continue_task(tx: Transaction, session: Row, opening: Opening, before: Episode) -> Episode:
    """Another episode of the same task, told what the one before it was about."""
    tx.execute("reopen_task", id=before.task_id)
    return _begin(
        tx,
        session,
        opening,
        before.task_id,
        title=before.title,
        continues_id=before.id,
        carry_over=carry_over(tx, before, opening.entry.seq),
    )


def _begin(
    tx: Transaction,
    session: Row,
    opening: Opening,
    task_id: str,
    *,
    title: str,
    continues_id: str | None = None,
    carry_over: str = "",
) -> Episode:
    episode_id = episode_id_of(session["id"], opening.entry.seq)
    tx.execute(
        "insert_episode",
        id=episode_id,
        task_id=task_id,
        continues_id=continues_id,
        agent=session["agent"],
        session_id=session["id"],
        session_key=session["key"],
        at=opening.entry.message.at_ms,
        opened_for=opening.reason,
        carry_over=carry_over,
        intent=json.dumps({} if opening.intent is None else opening.intent.as_json()),
        title=title,
    )
    return _reread(tx, episode_id)


def carry_over(tx: Transaction, episode: Episode, before_seq: int) -> str:
    """What an episode was about, in three lines: how it began, what was asked last, what was answered last."""
    said = {
        role: tx.value(
            "episode_newest", episode_id=episode.id, role=role, before_seq=before_seq, chars=2 * CARRIED_CHARS_MAX
        )
        for role in ("user", "assistant")
    }
    lines = (("Began with", episode.title), ("Asked last", said["user"]), ("Answered last", said["assistant"]))
    return "\n".join(f"{head}: {one_line(text, CARRIED_CHARS_MAX)}" for head, text in lines if text)


def one_line(text: str, chars_max: int) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text[: 4 * chars_max].split())
    return line if len(line) <= chars_max else f"{line[: chars_max - 1].rstrip()}…"


def add_entry(tx: Transaction, episode: Episode, entry: Entry) -> Episode:
    """Put a message into an episode: counted, and within its span, which never takes in what was not read."""
    last = goes_on(tx, entry.session_id, entry.seq)
    if last is not None and last["episode_id"] == episode.id:
        tx.execute("extend_span", session_id=entry.session_id, first_seq=last["first_seq"], last_seq=entry.seq)
    else:
        tx.execute("insert_span", session_id=entry.session_id, seq=entry.seq, episode_id=episode.id)
    said = entry.message
    tx.execute(
        "count_entry",
        id=episode.id,
        exchanges=int(said.role == "user"),
        steps=entry.load.steps,
        tokens=entry.tokens,
        at=said.at_ms,
    )
    if said.role == "user":
        _lower_trust(tx, episode.task_id, entry)
    return _reread(tx, episode.id)


def _lower_trust(tx: Transaction, task_id: str, entry: Entry) -> None:
    """A task is wanted by the least trusted of those who asked for any of it."""
    held = _task(tx, task_id).provenance
    tx.execute("set_task_provenance", id=task_id, provenance=least_trusted((held, entry.message.whose)))


def _raise_trust(tx: Transaction, task_id: str) -> None:
    """A task from which messages were taken is wanted by the least trusted of those who asked for the rest of it."""
    if _task(tx, task_id).provenance == "owner":
        return
    asked = {row["whose"] for row in tx.rows("who_asked_for_task", task_id=task_id)}
    tx.execute("set_task_provenance", id=task_id, provenance=least_trusted(asked))


def _task(tx: Transaction, task_id: str) -> Task:
    row = tx.row("find_task", id=task_id)
    assert row is not None, "an episode's task exists"
    return task_of(row)


def close(tx: Transaction, episode: Episode, reason: str, at_ms: int) -> Episode:
    """Close an episode; nothing is made of its end before it is settled."""
    tx.execute("close_episode", id=episode.id, reason=reason, at=at_ms)
    return _reread(tx, episode.id)


def reopen(tx: Transaction, episode: Episode) -> Episode:
    """Go on with a closed episode, and so with its task."""
    tx.execute("reopen_episode", id=episode.id, reopened=1)
    tx.execute("reopen_task", id=episode.task_id)
    return _reread(tx, episode.id)


def recount(tx: Transaction, episode: Episode) -> Episode:
    """Count what an episode holds again, from its messages, and who asked for its task: some were taken out of it."""
    entries = entries_of(tx, episode.id)
    tx.execute(
        "recount_episode",
        id=episode.id,
        entries=len(entries),
        exchanges=sum(entry.message.role == "user" for entry in entries),
        steps=sum(entry.load.steps for entry in entries),
        tokens=sum(entry.tokens for entry in entries),
        last_at=max((entry.message.at_ms for entry in entries), default=episode.opened_at_ms),
    )
    _raise_trust(tx, episode.task_id)
    return _reread(tx, episode.id)


def entries_of(tx: Transaction, episode_id: str) -> list[Entry]:
    """The messages of an episode, in order."""
    rows = tx.rows("messages_of_episode", episode_id=episode_id, limit=ENTRIES_READ_MAX)
    return [entry_of(row) for row in rows]


def _reread(tx: Transaction, episode_id: str) -> Episode:
    episode = find_episode(tx, episode_id)
    assert episode is not None, "it was written within this transaction"
    return episode
