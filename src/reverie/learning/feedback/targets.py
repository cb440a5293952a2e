"""What feedback is about: from an id that a person has, to the place in a conversation, the episode and the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.errors import UnknownFeedbackTargetError

if TYPE_CHECKING:
    from reverie.storage import Row, Transaction

TargetKind = Literal["turn", "trace", "episode", "task", "skill", "world_model", "session"]


@dataclass(frozen=True, slots=True)
class Target:
    """What feedback is about. A `session` is named by its id or its key, and stands for the last answer in it."""

    kind: TargetKind
    id: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target stands. `seq` is the message that is judged.

    The task and the episode of an answer that was given a moment ago may not be known yet.
    """

    agent: str
    session_id: str | None = None
    seq: int | None = None
    turn_id: str | None = None
    task_id: str | None = None
    episode_id: str | None = None
    trace_id: str | None = None
    skill_id: str | None = None
    world_model_id: str | None = None


def unknown(target: Target) -> UnknownFeedbackTargetError:
    """What is said of a target that is not there; it names the field by which feedback names such a thing."""
    field = target.kind if target.kind in {"skill", "session"} else f"{target.kind}_id"
    return UnknownFeedbackTargetError(target.kind.replace("_", " "), target.id, field)


def resolve(tx: Transaction, target: Target) -> Place:
    """Where a target stands.

    Raises:
        UnknownFeedbackTargetError: there is no such thing, or the session has no answer yet.
    """
    match target.kind:
        case "turn":
            found = _turn(tx, target.id)
        case "session":
            found = _session(tx, target.id)
        case "trace":
            found = _trace(tx, target.id)
        case "episode":
            found = _episode(tx, target.id)
        case "task":
            found = _task(tx, target.id)
        case "skill":
            row = tx.row("find_skill", id=target.id)
            found = None if row is None else Place(row["agent"], skill_id=target.id)
        case "world_model":
            row = tx.row("find_world_model", id=target.id)
            found = None if row is None else Place(row["agent"], world_model_id=target.id)
    if found is None:
        raise unknown(target)
    return found


def judged_seq(tx: Transaction, turn_id: str) -> tuple[str, int] | None:
    """The session and the number of the last message of a turn; None as long as nothing of it is in a transcript."""
    row = tx.row("last_entry_of_turn", turn_id=turn_id)
    return None if row is None else (row["session_id"], row["seq"])


def _turn(tx: Transaction, turn_id: str) -> Place | None:
    turn = tx.row("find_inbox_entry", id=turn_id)
    if turn is None:
        return None
    session_id, seq = judged_seq(tx, turn_id) or (turn["session_id"], None)
    return _said(tx, turn["agent"], session_id, seq, turn_id)


def _session(tx: Transaction, name: str) -> Place | None:
    session = tx.row("find_session", id=name) or tx.row("find_current_session", key=name)
    answer = None if session is None else tx.row("last_answer_of_session", session_id=session["id"])
    if session is None or answer is None:
        return None
    return _said(tx, session["agent"], session["id"], answer["seq"], answer["turn_id"])


def _said(tx: Transaction, agent: str, session_id: str, seq: int | None, turn_id: str | None) -> Place:
    row: Row | None = None if seq is None else tx.row("episode_at", session_id=session_id, seq=seq)
    return Place(
        agent=agent,
        session_id=session_id,
        seq=seq,
        turn_id=turn_id,
        task_id=None if row is None else row["task_id"],
        episode_id=None if row is None else row["id"],
    )


def _trace(tx: Transaction, trace_id: str) -> Place | None:
    row = tx.row("find_trace", id=trace_id)
    if row is None:
        return None
    return Place(
        agent=row["agent"],
        session_id=row["session_id"],
        seq=row["last_seq"],
        task_id=row["task_id"],
        episode_id=row["episode_id"],
        trace_id=trace_id,
    )


def _episode(tx: Transaction, episode_id: str) -> Place | None:
    row = tx.row("find_episode", id=episode_id)
    if row is None:
        return None
    return Place(row["agent"], session_id=row["session_id"], task_id=row["task_id"], episode_id=episode_id)


def _task(tx: Transaction, task_id: str) -> Place | None:
    row = tx.row("find_task", id=task_id)
    if row is None:
        return None
    episode_id = tx.value("newest_episode_of_task", task_id=task_id)
    return Place(row["agent"], session_id=row["session_id"], task_id=task_id, episode_id=episode_id)
