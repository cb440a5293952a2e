"""What explicit feedback does to values at once: arithmetic in the caller's transaction, no model is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reverie.jobs.request import ask_for
from reverie.learning import trail
from reverie.learning.propagation import propagate, values_said
from reverie.learning.records import task_of
from reverie.learning.reward import reward_key, reward_request, score_task, task_voices
from reverie.learning.rewards import revised

if TYPE_CHECKING:
    from reverie.config import LearningConfig
    from reverie.learning.records import Task
    from reverie.storage import Transaction

TaskFeedback = Literal["unknown_task", "switched_off", "open", "due", "skipped", "propagated"]
"""What feedback on a task led to: it counts when the task ends (`open`), its reward is due now (`due`), or the reward
was made anew and handed on (`propagated`). A task that was skipped stays so."""


def apply_to_trace(tx: Transaction, trace_id: str) -> float | None:
    """Give one step the value that people said it had; None when there is no such step, or nobody said anything.

    The feedback must be on record, with the ids of the trace and of its task.
    """
    row = tx.row("find_trace", id=trace_id)
    value = values_said(tx, row["task_id"]).get(trace_id) if row else None
    if value is not None:
        tx.execute("set_value_of_one_trace", id=trace_id, value=value)
    return value


def apply_to_task(tx: Transaction, task_id: str, config: LearningConfig, now_ms: int) -> TaskFeedback:
    """Let feedback on a task count at once. It must be on record.

    A task that has ended and is not scored yet has its reward made due; the caller wakes the jobs.
    """
    row = tx.row("find_task", id=task_id)
    if row is None:
        return "unknown_task"
    task = task_of(row)
    if config.mode != "full":
        return "switched_off"
    match task.state:
        case "open" | "skipped":
            return task.state
        case "ended":
            return _make_due(tx, task, now_ms)
        case "scored":
            return _score_anew(tx, task, config, now_ms)


def _make_due(tx: Transaction, task: Task, now_ms: int) -> TaskFeedback:
    if not tx.execute("make_job_due", key=reward_key(task.id, task.endings), now=now_ms):
        ask_for(tx, reward_request(task, now_ms), now_ms)
    return "due"


def _score_anew(tx: Transaction, task: Task, config: LearningConfig, now_ms: int) -> TaskFeedback:
    r_human = revised(task, task_voices(tx, task.id, config))
    reward = {**task.reward, "trigger": "explicit_feedback", "revised_at": now_ms}
    score_task(tx, task, r_human, reward, task.trace_set)
    traces = propagate(tx, task.id, r_human, config.reward, now_ms)
    trail.note(
        tx,
        now_ms,
        agent=task.agent,
        stage="feedback",
        outcome="changed",
        reason="propagated",
        ref=task.id,
        task_id=task.id,
        detail={"r_human": r_human, "before": task.r_human, "traces": traces},
    )
    return "propagated"
