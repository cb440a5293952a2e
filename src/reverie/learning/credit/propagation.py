"""Handing the reward of a task on to its steps, in the caller's transaction. Run as often as anything changes.

What was made of the steps rests on their values. So whoever changes those of a task that was scored has its policies
and skills looked at anew (`ask_again`); no model is asked for that.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.credit.backprop import backprop, neutral_alpha, priority
from reverie.learning.credit.rewards import heuristic, voice_of
from reverie.learning.ids import digest_of

if TYPE_CHECKING:
    from reverie.config import RewardConfig
    from reverie.learning.credit.rewards import Voice
    from reverie.learning.records import Task
    from reverie.storage import Transaction

STEPS_MAX = 10_000
"""Steps of a task that share in its reward, the newest ones."""
TRACE_FEEDBACK_MAX = 1_000
DAY_MS = 86_400_000


def propagate(tx: Transaction, task_id: str, r_human: float, config: RewardConfig, now_ms: int) -> int:
    """Write α, value, priority and reward of every step of a task; returns how many there are.

    The steps of all its episodes count, in the order in which they happened. A step of which people said themselves
    what it was worth has that value.
    """
    steps = tx.rows("list_task_alphas", task_id=task_id, limit=STEPS_MAX)
    alphas = [
        step["alpha"] if step["usable"] is not None else neutral_alpha(reflected=bool(step["reflected"]))
        for step in steps
    ]
    said = values_said(tx, task_id)
    for step, alpha, value in zip(steps, alphas, backprop(r_human, alphas, config.gamma), strict=True):
        decayed = priority(value, (now_ms - step["at"]) / DAY_MS, config.decay_half_life_days)
        tx.execute(
            "set_trace_value",
            id=step["id"],
            alpha=alpha,
            r_human=r_human,
            value=said.get(step["id"], value),
            priority=max(decayed, abs(said.get(step["id"], 0.0))),
        )
    return len(steps)


def values_said(tx: Transaction, task_id: str) -> dict[str, float]:
    """What people said with a button that single steps of a task were worth, by the step's id.

    A step of which there are only words without a judgement is not among them: it keeps what the reward brings it.
    """
    voices: dict[str, list[Voice]] = defaultdict(list)
    for row in tx.rows("list_trace_feedback", task_id=task_id, limit=TRACE_FEEDBACK_MAX):
        voice = voice_of(row)
        if voice.judges:
            voices[row["trace_id"]].append(voice)
    return {trace_id: heuristic(each) for trace_id, each in voices.items()}


def what_follows(task: Task, scored_set: str, revision: str = "") -> tuple[JobRequest, ...]:
    """The jobs that make something of a score: of that of these steps, or of a revision of it."""
    payload = {"task_id": task.id, "trace_set": scored_set}
    key = f"{task.id}:{scored_set}:{revision}" if revision else f"{task.id}:{scored_set}"
    return (
        JobRequest("associate", f"associate:{key}", "idle", payload, agent=task.agent, task_id=task.id),
        JobRequest("trials", f"trials:{key}", "background", payload, agent=task.agent, task_id=task.id),
    )


def ask_again(tx: Transaction, task: Task, now_ms: int) -> None:
    """Values of a scored task have moved: policies and skills follow, once for the same score and values."""
    row = tx.row("find_task", id=task.id)
    values = list(tx.tuples("list_task_values", task_id=task.id, limit=STEPS_MAX))
    revision = digest_of(None if row is None else row["r_human"], values)
    for request in what_follows(task, task.trace_set or "", revision):
        ask_for(tx, request, now_ms)
