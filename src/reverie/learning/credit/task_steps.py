"""The steps of a task as a judge needs them: the beginnings of their texts, by exchange."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.learning.ids import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.storage import Row, Transaction

STEPS_MAX = 10_000
"""Steps of a task that are looked at, the newest ones."""
TEXT_CHARS = 400
"""Of a step's text, what is looked at here."""


@dataclass(frozen=True, slots=True)
class TaskStep:
    """A step, with the beginnings of its texts and their whole lengths. `tool` is '' for a reply."""

    id: str
    digest: str
    session_id: str
    turn_seq: int
    user_text: str
    agent_text: str
    user_chars: int
    agent_chars: int
    tool: str
    error_code: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was asked, with which tools it was worked on, and what was replied."""

    ask: str
    reply: str
    tools: str
    has_agent: bool


def task_steps(tx: Transaction, task_id: str) -> tuple[TaskStep, ...]:
    """The steps of a task over all its episodes, in the order in which one led to the other."""
    rows = tx.rows("list_task_steps", task_id=task_id, chars=TEXT_CHARS, limit=STEPS_MAX)
    return tuple(_step_of(row) for row in rows)


def trace_set(steps: Sequence[TaskStep]) -> str:
    """A digest of the steps there are, by their ids and contents: the same for the same steps."""
    return digest_of(*((step.id, step.digest) for step in steps))


def exchanges_of(steps: Sequence[TaskStep]) -> tuple[Exchange, ...]:
    """The exchanges that steps belong to, in their order."""
    grouped: dict[tuple[str, int], list[TaskStep]] = {}
    for step in steps:
        grouped.setdefault((step.session_id, step.turn_seq), []).append(step)
    return tuple(_exchange(each) for each in grouped.values())


def _exchange(steps: Sequence[TaskStep]) -> Exchange:
    replies = [step.agent_text for step in steps if step.agent_text]
    return Exchange(
        ask=next((step.user_text for step in steps if step.user_text), ""),
        reply=replies[-1] if replies else "",
        tools=_tools([step for step in steps if step.tool]),
        has_agent=any(step.tool or step.agent_chars for step in steps),
    )


def _tools(calls: Sequence[TaskStep]) -> str:
    """Calls on one line: `bash ×3 (1 failed: EXIT_1), read_file`."""
    named: list[str] = []
    for tool, count in Counter(step.tool for step in calls).items():
        codes = [step.error_code for step in calls if step.tool == tool and step.error_code]
        times = f" ×{count}" if count > 1 else ""
        failed = f" ({len(codes)} failed: {', '.join(dict.fromkeys(codes))})" if codes else ""
        named.append(f"{tool}{times}{failed}")
    return ", ".join(named)


def _step_of(row: Row) -> TaskStep:
    return TaskStep(
        id=row["id"],
        digest=row["digest"],
        session_id=row["session_id"],
        turn_seq=row["turn_seq"],
        user_text=row["user_text"],
        agent_text=row["agent_text"],
        user_chars=row["user_chars"],
        agent_chars=row["agent_chars"] + row["before_chars"],
        tool=row["tool"],
        error_code=row["error_code"],
    )
