"""Scoring a task that has ended, once for each set of its steps, and handing the reward on to them.

It begins when the time for feedback is over, waits a while for windows that are still reflected on, asks a model at
most once, and writes everything in one transaction: the task's reward, the value of every step, and what follows.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from reverie.errors import AnswerRefusedError
from reverie.jobs.forgotten import unless_forgotten
from reverie.jobs.request import ask_for
from reverie.learning import trail
from reverie.learning.asking.asks import Question
from reverie.learning.credit.patience import Patience
from reverie.learning.credit.propagation import ask_again, propagate, what_follows
from reverie.learning.credit.rewards import (
    AXES,
    Reward,
    counted,
    finite_or_zero,
    heuristic,
    judged,
    number_of,
    revised,
    voice_of,
)
from reverie.learning.credit.summary import last_reply, task_summary
from reverie.learning.credit.task_steps import exchanges_of, task_steps, trace_set
from reverie.learning.credit.worth import skip_reason
from reverie.learning.records import task_of
from reverie.learning.steering import answer_language
from reverie.learning.steps.normalise import one_line
from reverie.llm.prompt_files import read_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.config import LearningConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Asks
    from reverie.learning.credit.rewards import Voice
    from reverie.learning.credit.task_steps import TaskStep
    from reverie.learning.credit.worth import SkipReason
    from reverie.learning.records import Task
    from reverie.llm.prompt_files import Prompt
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject

STAGE = "reward"
PATIENCE = Patience(wait_ms=5_000, waits_max=60)
"""For windows that are still reflected on, and for a decision where the task ends: five minutes in all. A window that
comes later hands the reward on anew."""
FEEDBACK_MAX = 50
FEEDBACK_SHOWN_MAX = 10
FEEDBACK_CHARS = 300
REASON_CHARS = 500
EPISODES_MAX = 200
LABELS = frozenset({"success", "partial", "failure", "unknown"})


class Verdict(BaseModel):
    """What a model says of a task. Each axis is whatever it wrote: `check_verdict` says whether that is a number."""

    goal_achievement: Any
    process_quality: Any
    user_satisfaction: Any
    label: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """A task as it stands when its reward is due."""

    task: Task
    trace_set: str
    voices: tuple[Voice, ...]
    skip: SkipReason | None
    shown: str
    waits_for: str
    put_backs: int


class RewardJob:
    """Does the jobs `reward`."""

    def __init__(self, database: Database, clock: Clock, config: LearningConfig, asks: Asks) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._asks = asks

    async def handle(self, job: Job) -> JsonObject:
        """Score the task that the job is about. The same set of steps is never scored twice.

        Raises:
            JobDeferredError: its windows are not reflected on yet; or the budget says later.
            JobPutBackError: it gave way to a turn, or something was forgotten meanwhile.
            UpstreamError: the call failed; it may be tried again.
        """
        if self._config.mode != "full":
            return {"skipped": self._config.mode}
        task_id = job.task_id or job.payload["task_id"]
        held = await self._database.read(lambda tx: self._read(tx, task_id, job.key))
        settled = _settled(held, job)
        if held is None or settled is not None:
            return {"skipped": settled or "no_task"}
        if held.waits_for:
            PATIENCE.wait(held.put_backs, self._clock.now_ms(), held.waits_for)
        if held.task.r_human is not None and held.task.trace_set == held.trace_set:
            return await self._database.write(lambda tx: self._keep_score(tx, held))
        skipped = held.skip
        if skipped is not None:
            return await self._database.write(lambda tx: self._skip(tx, held, skipped))
        reward, note = await self._score(held, job)
        return await self._database.write(unless_forgotten(job, lambda tx: self._write(tx, held, reward, note)))

    async def _score(self, held: _Held, job: Job) -> tuple[Reward, str]:
        """The reward, and why no model gave it."""
        heard = tuple(voice.id for voice in held.voices)
        by_feedback = Reward(heuristic(held.voices), "heuristic", heard=heard)
        if not self._config.reward.llm_scoring:
            return by_feedback, "switched_off"
        if not self._asks.available:
            return by_feedback, "no_model"
        prompt = await asyncio.to_thread(read_prompt, "reverie.learning", "reward.r_human")
        asked = Question(prompt, held.shown, Verdict, check=check_verdict)
        try:
            verdict = await self._asks.ask(asked, job)
        except AnswerRefusedError as refused:
            return replace(by_feedback, reason=one_line(refused.wrong, REASON_CHARS)), "refused"
        return _reward_of(verdict, prompt, heard), ""

    def _read(self, tx: Transaction, task_id: str, key: str) -> _Held | None:
        """All that is needed, ready to be asked: on a reader's thread, as a task may have thousands of steps."""
        row = tx.row("find_task", id=task_id)
        if row is None:
            return None
        steps, voices = task_steps(tx, task_id), self._voices(tx, task_id)
        return _Held(
            task=task_of(row),
            trace_set=trace_set(steps),
            voices=voices,
            skip=skip_reason(steps, self._config.reward),
            shown=_shown(tx, task_id, steps, voices, self._config.reward.summary_max_chars),
            waits_for=_waits_for(tx, task_id),
            put_backs=tx.value("count_put_backs", key=key) or 0,
        )

    def _voices(self, tx: Transaction, task_id: str) -> tuple[Voice, ...]:
        return task_voices(tx, task_id, self._config)

    def _keep_score(self, tx: Transaction, held: _Held) -> JsonObject:
        """A task that was gone on with and ended again with the same steps is not judged again."""
        now_ms, task = self._clock.now_ms(), held.task
        r_human = revised(task, self._voices(tx, task.id))
        if score_task(tx, task, r_human, task.reward, held.trace_set):
            propagate(tx, task.id, r_human, self._config.reward, now_ms)
            if r_human != task.r_human:
                ask_again(tx, task, now_ms)
            self._note(tx, held, "skipped", "same_steps")
        return {"skipped": "same_steps"}

    def _skip(self, tx: Transaction, held: _Held, reason: SkipReason) -> JsonObject:
        reward = {"skipped": reason, "at": self._clock.now_ms()}
        if tx.execute("skip_task", id=held.task.id, reward=json.dumps(reward)):
            self._note(tx, held, "skipped", reason)
        return {"skipped": reason}

    def _write(self, tx: Transaction, held: _Held, reward: Reward, note: str) -> JsonObject:
        """Everything at once; what was said with a button while the model was asked counts as well."""
        now_ms, task = self._clock.now_ms(), held.task
        voices = self._voices(tx, task.id)
        made_of = _json_of(reward, voices, now_ms)
        r_human = revised(replace(task, reward=made_of), voices)
        if not score_task(tx, task, r_human, made_of, held.trace_set):
            return {"skipped": "went_on"}
        traces = propagate(tx, task.id, r_human, self._config.reward, now_ms)
        detail = {"r_human": r_human, "source": reward.source, "traces": traces, "note": note}
        self._note(tx, held, "learned", note or "scored", detail)
        for request in what_follows(task, held.trace_set):
            ask_for(tx, request, now_ms)
        return detail

    def _note(
        self, tx: Transaction, held: _Held, outcome: trail.Outcome, reason: str, detail: JsonObject | None = None
    ) -> None:
        task = held.task
        trail.note(
            tx,
            self._clock.now_ms(),
            agent=task.agent,
            stage=STAGE,
            outcome=outcome,
            reason=reason,
            ref=task.id,
            task_id=task.id,
            detail=detail,
        )


def task_voices(tx: Transaction, task_id: str, config: LearningConfig) -> tuple[Voice, ...]:
    """The feedback on a task as such that counts, the oldest first; that on single steps is `values_said`."""
    rows = tx.rows("list_task_feedback", task_id=task_id, limit=FEEDBACK_MAX)
    return counted((voice_of(row) for row in rows), config.reward.implicit_threshold)


def score_task(tx: Transaction, task: Task, r_human: float, reward: JsonObject, scored_set: str | None) -> bool:
    """Write the reward of a task; False when it was gone on with since, or is gone."""
    written = tx.execute(
        "score_task",
        id=task.id,
        endings=task.endings,
        r_human=r_human,
        reward=json.dumps(reward, ensure_ascii=False),
        trace_set=scored_set,
    )
    return written > 0


def check_verdict(verdict: Verdict) -> str | None:
    """What is wrong with a verdict: each axis is a number."""
    wordy = [name for name in AXES if number_of(getattr(verdict, name)) is None]
    return f"`{wordy[0]}` is not a number" if wordy else None


def _settled(held: _Held | None, job: Job) -> str | None:
    """Why there is nothing to do, if there is nothing."""
    if held is None:
        return "no_task"
    if held.task.state in {"open", "skipped"}:
        return "went_on" if held.task.state == "open" else "skipped_for_good"
    if job.payload.get("endings", held.task.endings) != held.task.endings:
        return "ended_again"
    return "scored" if held.task.state == "scored" else None


def _waits_for(tx: Transaction, task_id: str) -> str:
    if tx.value("count_provisional_episodes", task_id=task_id):
        return "the task may not end here"
    return "its steps are still reflected on" if tx.value("count_windows_in_work", task_id=task_id) else ""


def _last_reply(tx: Transaction, steps: Sequence[TaskStep]) -> str:
    last = next((step for step in reversed(steps) if step.agent_text), None)
    row = tx.row("find_trace_texts", id=last.id) if last else None
    return row["agent_text"] if row else ""


def _reward_of(verdict: Verdict, prompt: Prompt, heard: tuple[str, ...]) -> Reward:
    axes = {name: finite_or_zero(number_of(getattr(verdict, name))) for name in AXES}
    bounded = {name: max(-1.0, min(1.0, value)) for name, value in axes.items()}
    return Reward(
        r_human=judged(bounded),
        source="llm",
        axes=bounded,
        label=verdict.label if verdict.label in LABELS else "unknown",
        reason=one_line(verdict.reason or "", REASON_CHARS),
        prompt=prompt.id,
        heard=heard,
    )


def _json_of(reward: Reward, voices: Sequence[Voice], now_ms: int) -> JsonObject:
    return {
        "source": reward.source,
        "judged": reward.r_human,
        "axes": reward.axes,
        "label": reward.label,
        "reason": reward.reason,
        "prompt": reward.prompt,
        "heard": list(reward.heard),
        "trigger": "implicit_fallback" if all(voice.implicit for voice in voices) else "explicit_feedback",
        "scored_at": now_ms,
    }


def _shown(
    tx: Transaction, task_id: str, steps: Sequence[TaskStep], voices: Sequence[Voice], summary_chars_max: int
) -> str:
    """What the judge is shown, as JSON."""
    episodes = tx.rows("list_task_episodes", task_id=task_id, limit=EPISODES_MAX)
    carry_over = next((each["carry_over"] for each in reversed(episodes) if each["carry_over"]), "")
    exchanges = exchanges_of(steps)
    shown = {
        "answer_in": answer_language(f"{each.ask}\n{each.reply}" for each in exchanges),
        "task": task_summary(exchanges, carry_over, summary_chars_max),
        "last_request": next((each.ask for each in reversed(exchanges) if each.ask), ""),
        "last_reply": last_reply(_last_reply(tx, steps)),
        "feedback": [_said(voice) for voice in voices[-FEEDBACK_SHOWN_MAX:]],
    }
    return json.dumps(shown, ensure_ascii=False)


def _said(voice: Voice) -> JsonObject:
    return {
        "channel": "message" if voice.implicit else "button",
        "polarity": voice.polarity,
        "magnitude": voice.magnitude,
        "text": one_line(voice.text, FEEDBACK_CHARS),
    }
