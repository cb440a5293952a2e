"""Reflecting on a window of steps, once.

Their vectors come of one call of the embedder. One call of a model says of all of them what each contributed (α), what
is to be learned from it, and what it was about on one line, so that no step ever needs a call of its own.

Without a model, and when its answer cannot be used, the steps stay neutral: nothing is ever lost for want of a call.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from reverie.errors import AnswerRefusedError
from reverie.jobs.forgotten import unless_forgotten
from reverie.learning import trail
from reverie.learning.asking.asks import Question
from reverie.learning.credit.backprop import neutral_alpha
from reverie.learning.credit.patience import Patience
from reverie.learning.credit.propagation import ask_again, propagate
from reverie.learning.credit.rewards import finite_or_zero, number_of
from reverie.learning.records import episode_of, task_of, trace_of
from reverie.learning.steering import answer_language
from reverie.learning.steps import trace_vectors
from reverie.learning.steps.normalise import REFLECTION_CHARS_MAX, REFLECTION_CHARS_MIN, one_line, shortened
from reverie.llm.prompt_files import read_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.config import CaptureConfig, LearningConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Asks
    from reverie.learning.records import Episode, Trace
    from reverie.llm.embeddings import Embedder
    from reverie.llm.prompt_files import Prompt
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject

STATE_CHARS = 1_200
THINKING_CHARS = 1_500
ACTION_CHARS = 1_500
OUTCOME_CHARS = 600
SHOWN_REFLECTION_CHARS = 1_200
TOOL_INPUT_CHARS = 600
TOOL_OUTPUT_CHARS = 300
CONTEXT_CHARS = 800
STEPS_IN_FULL = 12
"""Of more steps in one window, each is shown with less, so that the whole is not longer."""
TOKENS_BASE, TOKENS_PER_STEP, TOKENS_MAX = 768, 512, 8_192
DECISION_PATIENCE = Patience(wait_ms=10_000, waits_max=360)
"""For the decision whether an episode ends where it was cut: an hour in all, then the window is looked at as it is."""


class StepScore(BaseModel):
    """What a model says of one step. `alpha` is whatever it wrote: `check_scores` says whether that is a number."""

    idx: int
    alpha: Any
    reflection_text: str | None = None
    usable: bool | None = None
    reason: str | None = None
    summary: str | None = None


class Scores(BaseModel):
    """What a model says of all steps of a window, in any order."""

    scores: list[StepScore]


@dataclass(frozen=True, slots=True)
class Reflected:
    """What came of reflecting on a step. `usable` is None when no model weighed it."""

    trace_id: str
    reflection: str
    summary: str
    alpha: float
    usable: bool | None


@dataclass(frozen=True, slots=True)
class _Held:
    """A window as it stands, with its steps, and what the exchange of its first step began with."""

    episode: Episode
    number: int
    state: str
    traces: tuple[Trace, ...]
    ask: str
    put_backs: int


class WindowJob:
    """Does the jobs `window`. With no embedder steps have no vectors and are found by their words."""

    def __init__(
        self, database: Database, clock: Clock, config: LearningConfig, asks: Asks, embedder: Embedder | None
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._asks = asks
        self._embedder = embedder

    async def handle(self, job: Job) -> JsonObject:
        """Reflect on the window that the payload names; one that was reflected on makes no call again.

        Raises:
            JobDeferredError: whether the episode ends there is not decided yet; or the budget says later.
            JobPutBackError: it gave way to a turn, or something was forgotten meanwhile.
            EmbedderError, UpstreamError: it may be tried again; what was done by then is kept.
        """
        episode_id, number = job.payload["episode_id"], job.payload["window"]
        held = await self._database.read(lambda tx: _read(tx, episode_id, number, job.key))
        if self._config.mode == "off" or held is None:
            return {"skipped": "no_window" if held is None else "off"}
        if held.state != "reflected" and held.episode.provisional:
            DECISION_PATIENCE.wait(held.put_backs, self._clock.now_ms(), "the episode may not end here")
        await self._embed(held)
        if held.state == "reflected":
            return {"skipped": "reflected"}
        steps, by, note = await self._reflect(held, job)
        await self._database.write(unless_forgotten(job, lambda tx: self._write(tx, held, steps, by, note)))
        return {"steps": len(steps), "by": by, "note": note}

    async def _embed(self, held: _Held) -> None:
        if self._embedder is None:
            return
        actions = self._config.mode == "full"
        vectors = await trace_vectors.embed(self._embedder, held.traces, actions=actions)
        if vectors:
            await self._database.write(lambda tx: trace_vectors.write(tx, vectors))

    async def _reflect(self, held: _Held, job: Job) -> tuple[tuple[Reflected, ...], str, str]:
        """What to say of each step; by which prompt, or `heuristic`; and why no model said it."""
        reason = self._why_not_ask(held)
        if reason is not None:
            return neutral(held.traces), "heuristic", reason
        prompt = await asyncio.to_thread(read_prompt, "reverie.learning", "reflection.batch")
        try:
            answer = await self._asks.ask(
                question(prompt, held.traces, held.ask, held.episode, self._config.capture), job
            )
        except AnswerRefusedError as refused:
            return neutral(held.traces), "heuristic", f"refused: {one_line(refused.wrong)}"
        return reflected(held.traces, answer.scores, self._config.capture), prompt.id, ""

    def _why_not_ask(self, held: _Held) -> str | None:
        capture = self._config.capture
        if self._config.mode == "lightweight":
            return "lightweight"
        if not held.traces:
            return "no_steps"
        if not (capture.alpha_scoring or capture.synth_reflections):
            return "switched_off"
        return None if self._asks.available else "no_model"

    def _write(self, tx: Transaction, held: _Held, steps: Sequence[Reflected], by: str, note: str) -> None:
        now_ms, episode = self._clock.now_ms(), held.episode
        if not tx.execute("end_window", episode_id=episode.id, number=held.number, now=now_ms, by=by, note=note):
            return
        for step in steps:
            tx.execute(
                "set_trace_reflection",
                id=step.trace_id,
                reflection=step.reflection,
                summary=step.summary,
                alpha=step.alpha,
                usable=None if step.usable is None else int(step.usable),
            )
        self._hand_on_late(tx, episode.task_id, now_ms)
        trail.note(
            tx,
            now_ms,
            agent=episode.agent,
            stage="window",
            outcome="skipped" if note else "learned",
            reason=note.split(":", 1)[0] or "reflected",
            ref=f"{episode.id}:{held.number}",
            task_id=episode.task_id,
            episode_id=episode.id,
            detail={"steps": len(steps), "by": by, "note": note},
        )

    def _hand_on_late(self, tx: Transaction, task_id: str, now_ms: int) -> None:
        """A task that did not wait for this window hands its reward on anew: arithmetic alone."""
        row = tx.row("find_task", id=task_id)
        task = task_of(row) if row else None
        if task and task.state == "scored" and task.r_human is not None:
            propagate(tx, task_id, task.r_human, self._config.reward, now_ms)
            ask_again(tx, task, now_ms)


def question(
    prompt: Prompt, traces: Sequence[Trace], ask: str, episode: Episode, config: CaptureConfig
) -> Question[Scores]:
    """What a model is asked about a window: each text within its bound."""
    context = "\n".join(part for part in (episode.title, episode.carry_over, ask) if part)
    count = len(traces)
    share = STEPS_IN_FULL / max(STEPS_IN_FULL, count)
    shown = {
        "answer_in": answer_language((ask, *(f"{each.user_text}\n{each.agent_text}" for each in traces))),
        "task_context": shortened(context, CONTEXT_CHARS),
        "steps": [
            _shown(idx, trace, after, share=share, synth=config.synth_reflections)
            for idx, (trace, after) in enumerate(zip(traces, (*traces[1:], None), strict=True))
        ],
    }
    return Question(
        prompt,
        json.dumps(shown, ensure_ascii=False),
        Scores,
        max_tokens=min(TOKENS_MAX, TOKENS_BASE + TOKENS_PER_STEP * count),
        check=lambda answer: check_scores(answer, count),
    )


def check_scores(answer: Scores, count: int) -> str | None:
    """What is wrong with the scores of so many steps: each has one, and each α is a number."""
    if sorted(score.idx for score in answer.scores) != list(range(count)):
        return f"`scores` must have exactly one entry for each `idx` from 0 to {count - 1}"
    wordy = [score.idx for score in answer.scores if number_of(score.alpha) is None]
    return f"`alpha` of step {wordy[0]} is not a number" if wordy else None


def reflected(traces: Sequence[Trace], scores: Sequence[StepScore], config: CaptureConfig) -> tuple[Reflected, ...]:
    """What a model's scores make of the steps. What the agent said of a step itself stays as it is."""
    by_idx = {score.idx: score for score in scores}
    return tuple(_reflected(trace, by_idx[idx], config) for idx, trace in enumerate(traces))


def neutral(traces: Sequence[Trace]) -> tuple[Reflected, ...]:
    """What becomes of steps that no model weighed."""
    return tuple(
        Reflected(trace.id, trace.reflection, trace.summary, neutral_alpha(reflected=bool(trace.reflection)), None)
        for trace in traces
    )


def _reflected(trace: Trace, score: StepScore, config: CaptureConfig) -> Reflected:
    written = (score.reflection_text or "").strip()[:REFLECTION_CHARS_MAX]
    adopted = written if config.synth_reflections and len(written) >= REFLECTION_CHARS_MIN else ""
    text = trace.reflection or adopted
    summary = one_line(score.summary or "") or trace.summary
    if not config.alpha_scoring:
        return Reflected(trace.id, text, summary, neutral_alpha(reflected=bool(text)), None)
    alpha = max(0.0, min(1.0, finite_or_zero(number_of(score.alpha))))
    usable = score.usable is not False
    return Reflected(trace.id, text, summary, alpha if usable else 0.0, usable)


def _shown(idx: int, trace: Trace, after: Trace | None, *, share: float, synth: bool) -> JsonObject:
    """A step as the model sees it: of each text that share of its bound."""

    def part(text: str, chars: int) -> str:
        return shortened(text, int(chars * share))

    said = "\n".join((*(tool.text_before for tool in trace.tool_calls if tool.text_before), trace.agent_text))
    return {
        "idx": idx,
        "state": part(trace.user_text, STATE_CHARS),
        "thinking": part(trace.thinking, THINKING_CHARS),
        "action": part(said.strip(), ACTION_CHARS),
        "tool_calls": [
            {
                "name": tool.name,
                "input": part(tool.input, TOOL_INPUT_CHARS),
                "output": part(tool.output, TOOL_OUTPUT_CHARS),
                "error": tool.error_code,
            }
            for tool in trace.tool_calls
        ],
        "outcome": part(after.user_text, OUTCOME_CHARS) if after else "",
        "reflection": part(trace.reflection, SHOWN_REFLECTION_CHARS),
        "synth_allowed": synth and not trace.reflection,
    }


def _read(tx: Transaction, episode_id: str, number: int, key: str) -> _Held | None:
    window = tx.row("find_window", episode_id=episode_id, number=number)
    row = tx.row("find_episode", id=episode_id)
    if window is None or row is None or window["state"] == "open":
        return None
    traces = tuple(trace_of(each) for each in tx.rows("list_window_traces", episode_id=episode_id, number=number))
    ask = _ask_of(tx, traces[0]) if traces else ""
    put_backs = tx.value("count_put_backs", key=key) or 0
    return _Held(episode_of(row), number, window["state"], traces, ask, put_backs)


def _ask_of(tx: Transaction, trace: Trace) -> str:
    """What the exchange of a step began with, when that step does not say it itself."""
    if trace.user_text:
        return ""
    known = tx.value("find_exchange_ask", session_id=trace.session_id, turn_seq=trace.turn_seq, at=trace.at_ms)
    return known or ""
