"""What feedback with a button does to values at once: arithmetic in the caller's transaction, no model is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.learning import trail
from reverie.learning.credit.propagation import ask_again, propagate, values_said
from reverie.learning.credit.reward import score_task, task_voices
from reverie.learning.credit.rewards import revised
from reverie.learning.records import task_of

if TYPE_CHECKING:
    from reverie.config import LearningConfig
    from reverie.learning.records import Task
    from reverie.storage import Transaction


class Revaluation:
    """Makes feedback that is on record count: in the value of one step, and in the reward of a scored task.

    A task that is not scored yet needs nothing: its reward is made with all that was said by then.
    """

    def __init__(self, config: LearningConfig) -> None:
        self._config = config

    def __call__(self, tx: Transaction, *, task_id: str | None, trace_id: str | None, now_ms: int) -> None:
        """Value the steps of a task anew, and one of them by what was said of it alone. Done again it is the same.

        Where a task was scored before, what was made of its steps is looked at anew.
        """
        if task_id is not None:
            revalue_task(tx, task_id, self._config, now_ms)
        if trace_id is not None:
            revalue_trace(tx, trace_id)
        row = tx.row("find_task", id=task_id) if task_id is not None else None
        task = task_of(row) if row else None
        if task is not None and task.state == "scored" and self._config.mode == "full":
            ask_again(tx, task, now_ms)


def revalue_trace(tx: Transaction, trace_id: str) -> float | None:
    """Give one step the value that people said it had; None when there is no such step, or nobody judged it.

    The feedback has the ids of the trace and of its task. Its priority never falls for that.
    """
    row = tx.row("find_trace", id=trace_id)
    value = values_said(tx, row["task_id"]).get(trace_id) if row else None
    if value is not None:
        tx.execute("set_value_of_one_trace", id=trace_id, value=value)
    return value


def revalue_task(tx: Transaction, task_id: str, config: LearningConfig, now_ms: int) -> bool:
    """Make the reward of a scored task anew and hand it on to its steps; False for a task that is not scored."""
    row = tx.row("find_task", id=task_id)
    task = task_of(row) if row else None
    if task is None or task.state != "scored" or config.mode != "full":
        return False
    r_human = revised(task, task_voices(tx, task.id, config))
    reward = {**task.reward, "trigger": "explicit_feedback", "revised_at": now_ms}
    score_task(tx, task, r_human, reward, task.trace_set)
    traces = propagate(tx, task.id, r_human, config.reward, now_ms)
    _note(tx, task, now_ms, r_human, traces)
    return True


def _note(tx: Transaction, task: Task, now_ms: int, r_human: float, traces: int) -> None:
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
