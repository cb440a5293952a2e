"""The job `feedback`: what follows from what somebody said, after they have their answer.

The score of a task comes forward, values and confidences move, a repair is asked for, and an experience is made. Each
happens once, however often the job runs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from reverie.errors import JobDeferredError
from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.feedback.bursts import context_hash, context_of, repair_request, rest_ends_ms, told_repair_waits
from reverie.learning.feedback.feedback import STAGE, feedback_of
from reverie.learning.feedback.rules import HARD_CORRECTION
from reverie.learning.feedback.targets import Target, judged_seq, resolve
from reverie.learning.records import task_of
from reverie.learning.trail import note

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.config import LearningConfig
    from reverie.jobs.request import Job
    from reverie.learning.feedback.experience import Experiences
    from reverie.learning.feedback.feedback import Feedback
    from reverie.learning.records import Task
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject

PLACING_WAIT_MS = 2_000
"""An answer of a moment ago is part of a task when the conversation was followed, which takes no longer as a rule. As
long as it is not decided of which task it is looked at again, each time after twice as long as before."""
PLACING_MS_MAX = 600_000
"""Feedback that is older and about no task is about none."""
REPLY_TOOL = "reply"
"""Stands for the tool where an answer was corrected that used none."""
_CORRECTING = frozenset({"correction", "preference"})


class Revalue(Protocol):
    """Makes what was said of a scored task, or of one step, count. Arithmetic alone, and the same when done again."""

    def __call__(self, tx: Transaction, *, task_id: str | None, trace_id: str | None, now_ms: int) -> object:
        """Value the steps of a task anew, or one step of it by what was said of that one."""
        ...


class Thumbs(Protocol):
    """Moves what is known of a thing by a person's thumb: a skill's success rate, a world model's confidence."""

    def __call__(self, tx: Transaction, thing_id: str, now_ms: int, *, up: bool) -> object:
        """One thumb up or down for a thing that exists."""
        ...


class FeedbackJob:
    """Does what follows from feedback. `skill_thumb` and `world_thumb` are called once for each feedback."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        config: LearningConfig,
        experiences: Experiences,
        *,
        revalue: Revalue,
        skill_thumb: Thumbs,
        world_thumb: Thumbs,
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._experiences = experiences
        self._revalue = revalue
        self._skill_thumb = skill_thumb
        self._world_thumb = world_thumb

    async def handle(self, job: Job) -> JsonObject:
        """What became of it: `{"done": what, "experience": …}`, or `{"skipped": reason}`.

        Raises:
            JobDeferredError: the answer it is about is not part of a task yet, or not for sure; or the model may not be
                asked yet.
            JobPutBackError: a call gave way to a turn.
            UpstreamError: a call failed.
        """
        if self._config.mode != "full":
            return {"skipped": "lightweight"}
        now_ms = self._clock.now_ms()
        done, feedback = await self._database.write(lambda tx: self._apply(tx, job.payload["feedback_id"], now_ms))
        if feedback is None:
            return {"skipped": done}
        if done == "not_followed_yet":
            raise JobDeferredError(now_ms + PLACING_WAIT_MS, done)
        if done == "not_decided_yet":
            raise JobDeferredError(now_ms + max(PLACING_WAIT_MS, now_ms - feedback.at_ms), done)
        return {"done": done, "experience": await self._experiences.learn(feedback, job)}

    def _apply(self, tx: Transaction, feedback_id: str, now_ms: int) -> tuple[str, Feedback | None]:
        """All that needs no model, in one transaction: what was done, and the feedback if there is more to do."""
        row = tx.row("find_feedback", id=feedback_id)
        if row is None:
            return "gone", None
        if row["provenance"] != "owner":
            self._note(tx, feedback_of(row), "not_the_owners", now_ms)
            return "not_the_owners", None
        feedback = _placed(tx, feedback_of(row))
        if feedback.task_id is None and feedback.turn_id and now_ms - feedback.at_ms < PLACING_MS_MAX:
            return "not_followed_yet", feedback
        if _may_move(tx, feedback):
            return "not_decided_yet", feedback
        if not tx.execute("mark_feedback", id=feedback_id, path="$.applied", value=now_ms):
            return "known", feedback
        done = self._effect(tx, feedback, now_ms)
        self._ask_for_repair(tx, feedback, now_ms)
        self._note(tx, feedback, done, now_ms)
        return done, feedback

    def _effect(self, tx: Transaction, feedback: Feedback, now_ms: int) -> str:
        if feedback.skill_id is not None:
            exists = tx.row("find_skill", id=feedback.skill_id) is not None
            return self._thumb(tx, self._skill_thumb, feedback, feedback.skill_id if exists else None, now_ms)
        if feedback.world_model_id is not None:
            exists = tx.row("find_world_model", id=feedback.world_model_id) is not None
            return self._thumb(tx, self._world_thumb, feedback, feedback.world_model_id if exists else None, now_ms)
        row = None if feedback.task_id is None else tx.row("find_task", id=feedback.task_id)
        if row is None:
            return "no_task"
        return self._count(tx, feedback, task_of(row), now_ms)

    @staticmethod
    def _thumb(tx: Transaction, thumb: Thumbs, feedback: Feedback, thing_id: str | None, now_ms: int) -> str:
        if thing_id is None:
            return "gone"
        if feedback.polarity not in {"positive", "negative"}:
            return "no_thumb"
        thumb(tx, thing_id, now_ms, up=feedback.polarity == "positive")
        return "thumb"

    def _count(self, tx: Transaction, feedback: Feedback, task: Task, now_ms: int) -> str:
        """Have feedback count in the score of its task: now, or when the task is scored anyway."""
        if feedback.channel == "explicit" and (feedback.trace_id is not None or task.state == "scored"):
            self._revalue(tx, task_id=task.id, trace_id=feedback.trace_id, now_ms=now_ms)
        match task.state:
            case "open":
                return "task_open"
            case "scored":
                return "revalued" if feedback.channel == "explicit" else "scored_before"
            case "skipped":
                return "task_skipped"
            case "ended":
                return self._score_now(tx, feedback, task, now_ms)

    def _score_now(self, tx: Transaction, feedback: Feedback, task: Task, now_ms: int) -> str:
        """A task that has ended is scored at once after feedback with a button; a message leaves time for others."""
        if feedback.channel == "implicit" and self._config.reward.feedback_window_s > 0:
            return "reward_waits"
        request = JobRequest(
            kind="reward",
            key=f"reward:{task.id}:{task.endings}",
            lane="background",
            payload={"task_id": task.id, "endings": task.endings},
            agent=task.agent,
            task_id=task.id,
        )
        if not ask_for(tx, request, now_ms):
            tx.execute("bring_reward_forward", key=request.key, now=now_ms)
        return "reward_now"

    def _ask_for_repair(self, tx: Transaction, feedback: Feedback, now_ms: int) -> None:
        """A correction, or a preference, of which we are sure is a reason to look at what led to the answer."""
        sure = feedback.confidence >= HARD_CORRECTION and feedback.polarity != "positive"
        if feedback.shape not in _CORRECTING or not sure or feedback.session_id is None:
            return
        tool, context = _tool_before(tx, feedback)
        hashed = context_hash(tool, context)
        if told_repair_waits(tx, feedback.agent, hashed):
            return
        rests = rest_ends_ms(tx, feedback.agent, hashed, self._config.feedback.cooldown_s)
        request = repair_request(
            feedback.agent,
            feedback.session_id,
            tool,
            context,
            feedback.id,
            task_id=feedback.task_id,
            feedback_id=feedback.id,
            not_before_ms=max(now_ms, rests),
        )
        ask_for(tx, request, now_ms)

    @staticmethod
    def _note(tx: Transaction, feedback: Feedback, reason: str, now_ms: int) -> None:
        note(
            tx,
            now_ms,
            agent=feedback.agent,
            stage=STAGE,
            outcome="changed" if reason in {"thumb", "revalued", "reward_now"} else "skipped",
            reason=reason,
            ref=feedback.id,
            task_id=feedback.task_id,
            episode_id=feedback.episode_id,
        )


def _placed(tx: Transaction, feedback: Feedback) -> Feedback:
    """Feedback with the task of its turn, which may not have been known when it was given."""
    if feedback.task_id is not None or feedback.turn_id is None:
        return feedback
    if tx.value("session_of_turn", id=feedback.turn_id) is None:
        return feedback
    place = resolve(tx, Target("turn", feedback.turn_id))
    if place.task_id is None:
        return feedback
    tx.execute("place_feedback", id=feedback.id, task_id=place.task_id, episode_id=place.episode_id)
    row = tx.row("find_feedback", id=feedback.id)
    assert row is not None, "it was there a moment ago"
    return feedback_of(row)


def _may_move(tx: Transaction, feedback: Feedback) -> bool:
    """Whether it is not decided yet of which task that is what was judged. A step is made of what is decided."""
    if feedback.channel == "implicit" or feedback.trace_id is not None or feedback.episode_id is None:
        return False
    judged = None if feedback.turn_id is None else judged_seq(tx, feedback.turn_id)
    seq = tx.value("last_seq_of_episode", episode_id=feedback.episode_id) if judged is None else judged[1]
    undecided = tx.value("first_provisional", session_id=feedback.session_id)
    return None not in {seq, undecided} and seq >= undecided


def _tool_before(tx: Transaction, feedback: Feedback) -> tuple[str, str]:
    """The tool that was used last before what was judged, and what for."""
    seq = feedback.seq
    if seq is None and feedback.turn_id is not None:
        judged = judged_seq(tx, feedback.turn_id)
        seq = None if judged is None else judged[1]
    row = None
    if seq is not None and feedback.episode_id is not None:
        row = tx.row("last_tool_trace_before", session_id=feedback.session_id, seq=seq, episode_id=feedback.episode_id)
    if row is None:
        return REPLY_TOOL, ""
    call = json.loads(row["tool_calls"])[-1]
    return call["name"], context_of(call["input"])
