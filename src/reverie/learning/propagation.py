"""Handing the reward of a task on to its steps, in the caller's transaction. Run as often as anything changes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from reverie.learning.backprop import backprop, neutral_alpha, priority
from reverie.learning.rewards import heuristic, voice_of

if TYPE_CHECKING:
    from reverie.config import RewardConfig
    from reverie.learning.rewards import Voice
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
    """What people said with a button that single steps of a task were worth, by the step's id."""
    voices: dict[str, list[Voice]] = defaultdict(list)
    for row in tx.rows("list_trace_feedback", task_id=task_id, limit=TRACE_FEEDBACK_MAX):
        voices[row["trace_id"]].append(voice_of(row))
    return {trace_id: heuristic(each) for trace_id, each in voices.items()}
