"""What people did about messages goes along with them when they are put again, within a transaction.

A thumb is about an answer, and a task is put aside for what was said in it. Where that answer, or those words, are part
of another task after all, the thumb counts there, and that task is put aside.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reverie.learning.trail import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.storage import Row, Transaction

FEEDBACK_MAX: Final = 1_000
"""Pieces of feedback that go along at most; where so few tasks have more, the oldest stay where they are."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Messages of a session from a number on, with their episode, its task, and since when a person put that aside.

    `begins`: its episode has no message before that number.
    """

    first_seq: int
    last_seq: int
    episode_id: str
    task_id: str
    archived_at_ms: int | None
    begins: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """Messages of a session that were put again, from a number on: the stretches they were in and those they are in."""

    agent: str
    session_id: str
    seq: int
    before: Sequence[Stretch]
    after: Sequence[Stretch]


def stretches(tx: Transaction, session_id: str, seq: int, at_most: int) -> list[Stretch]:
    """The stretches of a session from a number on, in order."""
    return [
        Stretch(
            row["first_seq"],
            row["last_seq"],
            row["episode_id"],
            row["task_id"],
            row["archived_at"],
            bool(row["begins"]),
        )
        for row in tx.rows("stretches_from", session_id=session_id, seq=seq, limit=at_most)
    ]


def take_along(tx: Transaction, moved: Moved, now_ms: int) -> None:
    """Have feedback on messages, and a person's putting them aside, follow them to where they are."""
    began = {each.episode_id: each.first_seq for each in reversed(moved.before) if each.begins}
    tasks = json.dumps(sorted({each.task_id for each in moved.before}))
    for row in tx.rows("feedback_on_tasks", tasks=tasks, limit=FEEDBACK_MAX):
        seq = began.get(row["episode_id"]) if row["judged_seq"] is None else row["judged_seq"]
        if seq is not None and seq >= moved.seq:
            _place_feedback(tx, moved, row, seq, now_ms)
    for task_id, archived_at_ms in put_aside(moved).items():
        if tx.execute("put_task_aside", id=task_id, archived_at=archived_at_ms):
            _note(tx, moved, "edit", task_id, now_ms, task_id=task_id)


def put_aside(moved: Moved) -> dict[str, int]:
    """The tasks that messages are of now which were of one that was put aside, and since when that was. Pure."""
    aside: dict[str, int] = {}
    for was in moved.before:
        if was.archived_at_ms is None:
            continue
        for now in moved.after:
            if now.first_seq <= was.last_seq and now.last_seq >= was.first_seq:
                aside[now.task_id] = min(was.archived_at_ms, aside.get(now.task_id, was.archived_at_ms))
    return aside


def _place_feedback(tx: Transaction, moved: Moved, feedback: Row, seq: int, now_ms: int) -> None:
    """Feedback on an answer follows that answer; on an episode, the message that began it."""
    place = tx.row("episode_at", session_id=moved.session_id, seq=seq)
    if place is None or (place["task_id"], place["id"]) == (feedback["task_id"], feedback["episode_id"]):
        return
    tx.execute("place_feedback", id=feedback["id"], task_id=place["task_id"], episode_id=place["id"])
    _note(tx, moved, "feedback", feedback["id"], now_ms, task_id=place["task_id"], episode_id=place["id"])


def _note(
    tx: Transaction, moved: Moved, stage: str, ref: str, now_ms: int, *, task_id: str, episode_id: str | None = None
) -> None:
    note(
        tx,
        now_ms,
        agent=moved.agent,
        stage=stage,
        outcome="changed",
        reason="went_with_its_messages",
        ref=ref,
        task_id=task_id,
        episode_id=episode_id,
    )
