"""What a skill is made of: the best steps of the tasks behind a policy, and what went wrong in them.

Invariant: no step that holds a secret is shown to a model, and no more of any step than the settings allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.learning.records import trace_of
from reverie.learning.vectors import cosine
from reverie.memory.redaction import redacted
from reverie.memory.text import collapse

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.config import SkillsConfig
    from reverie.learning.records import Policy, Trace
    from reverie.storage import Transaction

TASKS_MAX = 20
"""Of the tasks behind a policy, those that were linked last."""
TRACES_PER_TASK_MAX = 20
COUNTER_EXAMPLES_MAX = 5
SIMILARITY_WEIGHT = 0.2
HEAD_SHARE = 0.6
"""Of a step that is too long: what is kept of its beginning; the rest is of its end, where the outcome stands."""
GAP = " … "


@dataclass(frozen=True, slots=True)
class Evidence:
    """Steps that went well, best first, and steps that did not, worst first."""

    good: tuple[Trace, ...]
    bad: tuple[Trace, ...]

    @property
    def trace_ids(self) -> tuple[str, ...]:
        """The ids of the steps that went well."""
        return tuple(trace.id for trace in self.good)


def read_evidence(tx: Transaction, policy: Policy, config: SkillsConfig) -> Evidence:
    """The evidence for a policy as it is now. Reads at most 25 steps of each of 20 tasks."""
    linked = [row["task_id"] for row in tx.rows("skill_tasks_linked", policy_id=policy.id, limit=TASKS_MAX)]
    sources = [tx.value("skill_task_of_trace", id=trace_id) for trace_id in policy.source_traces[:TASKS_MAX]]
    tasks = list(dict.fromkeys(task for task in (*linked, *sources) if task))[:TASKS_MAX]
    good: list[Trace] = []
    bad: list[Trace] = []
    for task_id in tasks:
        good += map(trace_of, tx.rows("skill_good_traces", task_id=task_id, limit=TRACES_PER_TASK_MAX))
        bad += map(trace_of, tx.rows("skill_bad_traces", task_id=task_id, limit=COUNTER_EXAMPLES_MAX))
    return choose(good, bad, policy.vec, config)


def choose(
    good: Sequence[Trace], bad: Sequence[Trace], aim: NDArray[np.float32] | None, config: SkillsConfig
) -> Evidence:
    """The steps that are shown: of high value and near to `aim` first; without those that hold secrets."""
    kept = sorted(
        (trace for trace in good if not holds_secrets(trace)), key=lambda trace: (-score(trace, aim), trace.id)
    )
    worst = sorted((trace for trace in bad if not holds_secrets(trace)), key=lambda trace: (trace.value, trace.id))
    return Evidence(tuple(kept[: config.evidence_max]), tuple(worst[:COUNTER_EXAMPLES_MAX]))


def score(trace: Trace, aim: NDArray[np.float32] | None) -> float:
    """How much a step tells about a policy: its value, and a fifth of how near it is."""
    return trace.value + SIMILARITY_WEIGHT * cosine(trace.vec_summary, aim)


def holds_secrets(trace: Trace) -> bool:
    """Whether anything in a step looks like a key or a token."""
    text = whole_text(trace)
    return redacted(text) != text


def whole_text(trace: Trace) -> str:
    """Everything that a step says."""
    calls = [piece for call in trace.tool_calls for piece in (call.text_before, call.name, call.input, call.output)]
    return "\n".join((trace.summary, trace.user_text, trace.agent_text, trace.reflection, *calls))


def shown(trace: Trace, chars_max: int) -> str:
    """A step in one line, at most `chars_max` characters: what was wanted, what was done, what came of it."""
    done = " | ".join(f"{call.name}({call.input}) -> {call.error_code or call.output}" for call in trace.tool_calls)
    said = {"": trace.summary, "user": trace.user_text, "did": done or trace.agent_text, "learned": trace.reflection}
    return shortened(
        collapse("; ".join(f"{key}: {text}".removeprefix(": ") for key, text in said.items() if text)), chars_max
    )


def shortened(text: str, chars_max: int) -> str:
    """The beginning and the end of a text that is too long."""
    if len(text) <= chars_max:
        return text
    head = int((chars_max - len(GAP)) * HEAD_SHARE)
    return text[:head] + GAP + text[len(text) - (chars_max - len(GAP) - head) :]
