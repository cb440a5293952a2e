"""Explicit feedback: what it is about, and keeping it with its job, in one transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reverie.errors import UnknownLearnedError
from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.ids import content_id
from reverie.learning.surfaces_ports import FeedbackTarget

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.learning.surfaces_ports import GivenFeedback
    from reverie.storage import Database, Row, Transaction
    from reverie.types import JsonObject


def resolve(tx: Transaction, given: GivenFeedback) -> FeedbackTarget:
    """What feedback is about, with everything around it that is known. A turn may have no episode yet.

    Raises:
        UnknownLearnedError: there is no such thing; `param` is the field that named it.
    """
    match given.named:
        case "turn_id":
            return _of_turn(tx, given.name)
        case "session":
            rest = f"agent:{given.agent}:{given.name}"
            session = _known(tx.row("session_of_name", name=given.name, rest=rest), given)
            turn = tx.value("last_answer_of", session_id=session["id"])
            if turn is None:
                raise UnknownLearnedError("Nothing has been answered in this session.", param="session")
            return _of_turn(tx, turn)
        case "trace_id":
            row = _known(tx.row("item_of_traces", id=given.name), given)
            return FeedbackTarget(
                row["agent"], row["session_id"], None, row["task_id"], row["episode_id"], trace_id=given.name
            )
        case "episode_id":
            row = _known(tx.row("task_of_episode", id=given.name), given)
            return FeedbackTarget(row["agent"], row["session_id"], None, row["task_id"], given.name)
        case "task_id":
            row = _known(tx.row("last_episode_of_task", id=given.name), given)
            return FeedbackTarget(row["agent"], row["session_id"], None, given.name, row["id"])
        case "skill":
            row = _known(tx.row("find_skill_named", agent=given.agent, name=given.name), given)
            return FeedbackTarget(row["agent"], skill_id=row["id"])


def _of_turn(tx: Transaction, turn_id: str) -> FeedbackTarget:
    turn = tx.row("find_turn_place", id=turn_id)
    if turn is None:
        raise UnknownLearnedError(f"There is no turn '{turn_id[:200]}'.", param="turn_id")
    session_id: str = turn["session_id"]
    here = {"session_id": session_id, "turn_id": turn_id}
    episode = tx.row("episode_of_turn", **here) or {}
    trace = tx.value("trace_of_turn", **here)
    return FeedbackTarget(turn["agent"], session_id, turn_id, episode.get("task_id"), episode.get("id"), trace)


def _known(row: Row | None, given: GivenFeedback) -> Row:
    if row is None:
        noun = given.named.removesuffix("_id")
        raise UnknownLearnedError(f"There is no {noun} '{given.name[:200]}'.", param=given.named)
    return row


class FeedbackIntake:
    """Keeps feedback: one row, and one job `feedback` that is asked for with it."""

    def __init__(self, state: Database, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    async def submit(self, given: GivenFeedback, target: FeedbackTarget) -> JsonObject:
        """Keep it and ask for its job. Under the same key it is the same feedback, and nothing happens.

        Raises:
            StorageError: it could not be kept.
        """
        now = self._clock.now_ms()
        unique = ("key", target.agent, given.key) if given.key else ("at", now, given.named, given.name, given.polarity)
        feedback_id = content_id("fb", *unique, "" if given.key else given.text)

        def keep(tx: Transaction) -> bool:
            taken = tx.execute(
                "take_feedback",
                id=feedback_id,
                agent=target.agent,
                now=now,
                session_id=target.session_id,
                turn_id=target.turn_id,
                task_id=target.task_id,
                episode_id=target.episode_id,
                trace_id=target.trace_id,
                skill_id=target.skill_id,
                polarity=given.polarity,
                magnitude=given.magnitude,
                text=given.text,
                raw=json.dumps({given.named: given.name, "key": given.key}, ensure_ascii=False),
            )
            if taken:
                ask_for(tx, _job(feedback_id, target), now)
            return taken > 0

        return {"id": feedback_id, "accepted": await self._state.write(keep)}


def _job(feedback_id: str, target: FeedbackTarget) -> JobRequest:
    return JobRequest(
        kind="feedback",
        key=f"feedback:{feedback_id}",
        lane="interactive",
        payload={"feedback_id": feedback_id},
        agent=target.agent,
        episode_id=target.episode_id,
        task_id=target.task_id,
    )
