"""Decision repair: after a burst of failures, or an owner's correction, what to prefer and what to avoid the next time.

The last steps of the session are the evidence: those that went well beside those that did not. One call of a model
words the advice; without one, the words of the evidence do. The policies that came of the same episodes learn of it.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from reverie.errors import AnswerRefusedError, JobDeferredError
from reverie.jobs.forgotten import unless_forgotten
from reverie.learning.asking.asks import Question
from reverie.learning.feedback.bursts import context_hash
from reverie.learning.feedback.feedback import feedback_of
from reverie.learning.feedback.guidance import added, cleaned
from reverie.learning.ids import content_id
from reverie.learning.records import policy_of, trace_of
from reverie.learning.trail import note
from reverie.llm.prompt_files import read_prompt
from reverie.types import TRUSTED, least_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.clock import Clock
    from reverie.config import FeedbackConfig, LearningConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Asks
    from reverie.learning.feedback.feedback import Feedback
    from reverie.learning.records import Policy, Trace
    from reverie.learning.trail import Outcome
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject, Provenance

STAGE = "repair"
PROMPT = "decision.repair"
STEPS_LOOKED_AT = 24
"""The last steps of a session, at least."""
STEPS_PER_PIECE = 6
"""Steps looked at for each piece of evidence that is wanted, where that is more."""
POLICIES_LOOKED_AT = 500
POLICIES_TOLD_MAX = 8
SCORE_WAIT_MS = 600_000
"""A repair that the steps give no reason for looks again after this, as long as their task is not scored …"""
SCORE_WAIT_MS_MAX = 86_400_000
"""… and the newest of them is not older."""
ANSWER_TOKENS_MAX = 500
TEMPLATE = "template"
TEMPLATE_CONFIDENCE = 0.4
TOLD_CONFIDENCE = 0.8
"""Of advice that is the owner's own pair."""
ERROR_CHARS_MAX = 200

_FAILURE = re.compile(
    r"\b(?:error|exception|traceback|failed|failure|fatal|denied|not\s+found|no\s+such|timed?\s*out|invalid|cannot|"
    r"can't|unable\s+to)\b|失败|错误|异常|报错|超时|无法|找不到|拒绝",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z0-9_.-]{3,}|[\u3400-\u9fff]{2}", re.IGNORECASE)


class RepairAnswer(BaseModel):
    """Advice as the model words it."""

    preference: str = ""
    anti_pattern: str = ""
    severity: Literal["info", "warn"] = "info"
    confidence: float = 0.5


@dataclass(frozen=True, slots=True)
class Situation:
    """What a repair is for: a tool, what it was used for, and what the owner said, if that is the cause."""

    agent: str
    session_id: str
    tool: str
    context: str
    told: Feedback | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Steps that went well and steps that did not. `difference` is that of their mean values."""

    high: tuple[Trace, ...]
    low: tuple[Trace, ...]

    @property
    def difference(self) -> float:
        """How much better the good ones are, -2 to 2; a side without any counts as 0."""
        return _mean(self.high) - _mean(self.low)

    @property
    def steps(self) -> tuple[Trace, ...]:
        """All of them."""
        return (*self.high, *self.low)


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether there is a repair to be made, and why or why not."""

    make: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What to prefer and what to avoid. `by` is the prompt that worded it, or `template`."""

    preference: str
    anti_pattern: str
    severity: Literal["info", "warn"]
    confidence: float
    by: str


def gathered(steps: Sequence[Trace], situation: Situation, config: FeedbackConfig) -> Evidence:
    """The evidence among a session's last steps, which come newest first: at most `evidence_max` of each side.

    A step whose call failed is bad whatever its value. Steps about the situation count; where a side has none, any do.
    """
    low = [step for step in steps if _is_low(step, config.min_low_value)]
    bad = {step.id for step in low}
    high = [step for step in steps if step.id not in bad and step.value > 0]
    words = _keywords(situation)
    best = sorted(_about(high, situation, words), key=lambda step: -step.value)[: config.evidence_max]
    return Evidence(tuple(best), tuple(_about(low, situation, words)[: config.evidence_max]))


def chosen(evidence: Evidence, *, told: bool, value_delta: float) -> Choice:
    """Whether the evidence is worth a repair. What an owner said always is."""
    if told:
        return Choice(make=True, reason="owner_said")
    if not evidence.low:
        return Choice(make=False, reason="no_bad_steps")
    if abs(evidence.difference) < value_delta:
        return Choice(make=False, reason="values_too_close")
    return Choice(make=True, reason="values_differ")


def worded(situation: Situation, evidence: Evidence) -> Advice:
    """Advice in the words of the evidence, without a model: the owner's pair, else the best and the worst step."""
    told = situation.told
    prefer = "" if told is None else told.prefer or told.text
    avoid = "" if told is None else told.avoid
    best = next((step.reflection or step.summary or step.agent_text for step in evidence.high), "")
    worst = next((_what_failed(step) for step in evidence.low), "")
    return Advice(
        preference=cleaned(prefer or best),
        anti_pattern=cleaned(avoid or worst),
        severity="warn" if evidence.low else "info",
        confidence=TOLD_CONFIDENCE if prefer and avoid else TEMPLATE_CONFIDENCE,
        by=TEMPLATE,
    )


def may_learn(policy: Policy, repair: Provenance) -> bool:
    """Whether a policy takes advice in: not one that a person edited, nor a trusted one from what is not trusted."""
    return policy.edited_at_ms is None and (policy.provenance not in TRUSTED or repair in TRUSTED)


class RepairJob:
    """The job `repair`: `repair:{context_hash}:{cause}`."""

    def __init__(self, database: Database, clock: Clock, config: LearningConfig, asks: Asks) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._asks = asks

    async def handle(self, job: Job) -> JsonObject:
        """What became of it: `{"repair": id, "policies": [ids]}`, or `{"skipped": reason}`.

        Raises:
            JobDeferredError: the model may not be asked yet.
            JobPutBackError: the call gave way to a turn, or something was forgotten meanwhile.
            UpstreamError: the call failed.
        """
        if self._config.mode != "full":
            return {"skipped": "lightweight"}
        repair_id = content_id("dr", job.key)
        situation, steps, known = await self._database.read(lambda tx: self._read(tx, job, repair_id))
        if known:
            return {"repair": repair_id, "known": True}
        if not steps:
            return await self._skip(job, "no_steps")
        evidence = gathered(steps, situation, self._config.feedback)
        told = situation.told is not None
        choice = chosen(evidence, told=told, value_delta=self._config.feedback.value_delta)
        if not choice.make:
            await self._wait_for_score(job, steps[0])
            return await self._skip(job, choice.reason, {"difference": evidence.difference})
        advice, refused = await self._advice(situation, evidence, job)
        if not advice.preference and not advice.anti_pattern:
            return await self._skip(job, "nothing_to_say")
        reason = refused or choice.reason
        return await self._database.write(
            unless_forgotten(job, lambda tx: self._store(tx, repair_id, situation, evidence, advice, reason))
        )

    def _read(self, tx: Transaction, job: Job, repair_id: str) -> tuple[Situation, tuple[Trace, ...], bool]:
        payload = job.payload
        row = None if payload.get("feedback_id") is None else tx.row("find_feedback", id=payload["feedback_id"])
        situation = Situation(
            agent=job.agent,
            session_id=payload["session_id"],
            tool=payload["tool"],
            context=payload["context"],
            told=None if row is None else feedback_of(row),
        )
        wanted = max(STEPS_LOOKED_AT, STEPS_PER_PIECE * self._config.feedback.evidence_max)
        rows = tx.rows("newest_traces", session_id=situation.session_id, limit=wanted)
        return situation, tuple(trace_of(each) for each in rows), tx.row("find_repair", id=repair_id) is not None

    async def _advice(self, situation: Situation, evidence: Evidence, job: Job) -> tuple[Advice, str]:
        """The advice, by a model where one may be asked, and why not by it."""
        if not self._config.feedback.use_llm or not self._asks.available:
            return worded(situation, evidence), ""
        prompt = await asyncio.to_thread(read_prompt, "reverie.learning", PROMPT)
        text = _shown(situation, evidence, self._config.feedback.trace_chars_max)
        question = Question(prompt, text, RepairAnswer, max_tokens=ANSWER_TOKENS_MAX, check=_wrong)
        try:
            answer = await self._asks.ask(question, job)
        except AnswerRefusedError:
            return worded(situation, evidence), "answer_refused"
        return _advice_of(answer, prompt.id), ""

    def _store(
        self, tx: Transaction, repair_id: str, situation: Situation, evidence: Evidence, advice: Advice, reason: str
    ) -> JsonObject:
        """Write the repair and tell the policies of it, once."""
        now_ms = self._clock.now_ms()
        policies = self._policies(tx, situation, evidence)
        provenance = _provenance(situation, evidence)
        told = [policy for policy in policies if may_learn(policy, provenance)]
        row = _row_of(repair_id, situation, evidence, advice, [policy.id for policy in told], provenance)
        if not tx.execute("insert_repair", **row, at=now_ms):
            return {"repair": repair_id, "known": True}
        for policy in told:
            _tell(tx, policy, advice, provenance, now_ms)
        detail: JsonObject = {"tool": situation.tool, "by": advice.by, "difference": evidence.difference}
        _note(tx, now_ms, situation.agent, "learned", reason, repair_id, row["task_id"], detail)
        return {"repair": repair_id, "policies": [policy.id for policy in told]}

    def _policies(self, tx: Transaction, situation: Situation, evidence: Evidence) -> tuple[Policy, ...]:
        """The policies that came of the episodes of the evidence."""
        if not self._config.feedback.attach_to_policies:
            return ()
        episodes = sorted({step.episode_id for step in evidence.steps} | _episode_of(situation.told))
        rows = tx.rows(
            "policies_of_episodes",
            agent=situation.agent,
            episodes=json.dumps(episodes),
            looked_at=POLICIES_LOOKED_AT,
            limit=POLICIES_TOLD_MAX,
        )
        return tuple(policy_of(row) for row in rows)

    async def _wait_for_score(self, job: Job, newest: Trace) -> None:
        """Steps have no values before their task is scored: what says nothing now may say something then.

        Raises:
            JobDeferredError: the task is not scored yet, and that may still happen.
        """
        now_ms = self._clock.now_ms()
        if job.task_id is None or now_ms - newest.at_ms > SCORE_WAIT_MS_MAX:
            return
        row = await self._database.read(lambda tx: tx.row("find_task", id=job.task_id))
        if row is not None and row["state"] in {"open", "ended"}:
            raise JobDeferredError(now_ms + SCORE_WAIT_MS, "task_not_scored")

    async def _skip(self, job: Job, reason: str, detail: JsonObject | None = None) -> JsonObject:
        now_ms = self._clock.now_ms()
        await self._database.write(
            lambda tx: _note(tx, now_ms, job.agent, "skipped", reason, job.key, job.task_id, detail)
        )
        return {"skipped": reason}


def _is_low(step: Trace, min_low_value: float) -> bool:
    if step.failed or step.value < -min_low_value or any(call.error_code for call in step.tool_calls):
        return True
    said = (step.reflection, *(call.output for call in step.tool_calls))
    return step.value <= 0 and any(_FAILURE.search(text) for text in said)


def _keywords(situation: Situation) -> frozenset[str]:
    said = "" if situation.told is None else f"{situation.told.text} {situation.told.prefer} {situation.told.avoid}"
    return frozenset(word.casefold() for word in _WORD.findall(f"{situation.context} {said}"))


def _about(steps: list[Trace], situation: Situation, words: frozenset[str]) -> list[Trace]:
    """The steps that used this tool or speak of the same; all of them where none does."""
    near = [
        step
        for step in steps
        if any(call.name == situation.tool for call in step.tool_calls) or any(word in _text_of(step) for word in words)
    ]
    return near or steps


def _text_of(step: Trace) -> str:
    calls = " ".join(call.input for call in step.tool_calls)
    return f"{step.user_text} {step.summary} {step.agent_text} {calls}".casefold()


def _mean(steps: Sequence[Trace]) -> float:
    return sum(step.value for step in steps) / len(steps) if steps else 0.0


def _what_failed(step: Trace) -> str:
    """The call that failed and what it said; code in backticks, so that it is kept as it is."""
    call = next((each for each in step.tool_calls if each.error_code), None) or next(iter(step.tool_calls), None)
    error = next(iter(step.signatures), "") or ("" if call is None else call.output[:ERROR_CHARS_MAX])
    if call is None:
        return step.reflection or step.summary
    given = " ".join(call.input.replace("`", "'").split())[:ERROR_CHARS_MAX]
    return f"`{call.name}` `{given}`: {error or call.error_code}" if given else f"`{call.name}`: {error}"


def _shown(situation: Situation, evidence: Evidence, chars_max: int) -> str:
    """What the model is shown: bounded, and data."""
    shown: dict[str, Any] = {"tool": situation.tool, "used_for": situation.context}
    if situation.told is not None:
        told = situation.told
        shown["owner_said"] = {"text": told.text[:chars_max], "prefer": told.prefer, "avoid": told.avoid}
    shown["high"] = [_step(step, chars_max) for step in evidence.high]
    shown["low"] = [_step(step, chars_max) for step in evidence.low]
    return json.dumps(shown, ensure_ascii=False)


def _step(step: Trace, chars_max: int) -> JsonObject:
    each = max(1, chars_max // 4)
    calls = [{"tool": call.name, "input": call.input[:each], "output": call.output[:each]} for call in step.tool_calls]
    return {
        "asked": step.user_text[:each],
        "did": (step.reflection or step.summary or step.agent_text)[:each],
        "calls": calls[:1],
        "value": round(step.value, 2),
    }


def _wrong(answer: RepairAnswer) -> str | None:
    if not cleaned(answer.preference) and not cleaned(answer.anti_pattern):
        return "`preference` and `anti_pattern` must not both be empty"
    return None


def _advice_of(answer: RepairAnswer, prompt_id: str) -> Advice:
    confidence = answer.confidence if 0 <= answer.confidence <= 1 else float(answer.confidence > 1)
    return Advice(cleaned(answer.preference), cleaned(answer.anti_pattern), answer.severity, confidence, prompt_id)


def _provenance(situation: Situation, evidence: Evidence) -> Provenance:
    """Whose words the advice is made of: those of the least trusted step that it was made of."""
    told: Iterable[Provenance] = () if situation.told is None else (situation.told.provenance,)
    return least_trusted((*told, *(step.provenance for step in evidence.steps)))


def _episode_of(told: Feedback | None) -> set[str]:
    return set() if told is None or told.episode_id is None else {told.episode_id}


def _tell(tx: Transaction, policy: Policy, advice: Advice, provenance: Provenance, now_ms: int) -> None:
    """Add advice to what a policy prefers and avoids; nothing happens where it says so already."""
    new = replace(
        policy,
        preference=added(policy.preference, (advice.preference,)),
        anti_pattern=added(policy.anti_pattern, (advice.anti_pattern,)),
    )
    if (new.preference, new.anti_pattern) == (policy.preference, policy.anti_pattern):
        return
    guidance = {"preference": new.preference, "anti_pattern": new.anti_pattern}
    tx.execute(
        "set_guidance",
        id=policy.id,
        guidance=json.dumps(guidance, ensure_ascii=False),
        provenance=least_trusted((policy.provenance, provenance)),
        now=now_ms,
    )


def _row_of(
    repair_id: str,
    situation: Situation,
    evidence: Evidence,
    advice: Advice,
    policies: Sequence[str],
    provenance: Provenance,
) -> JsonObject:
    return {
        "id": repair_id,
        "agent": situation.agent,
        "session_id": situation.session_id,
        "task_id": _task_of(situation, evidence),
        "context_hash": context_hash(situation.tool, situation.context),
        "tool": situation.tool,
        "context": situation.context,
        "preference": advice.preference,
        "anti_pattern": advice.anti_pattern,
        "severity": advice.severity,
        "confidence": advice.confidence,
        "high": json.dumps([step.id for step in evidence.high]),
        "low": json.dumps([step.id for step in evidence.low]),
        "policies": json.dumps(policies),
        "induced_by": advice.by,
        "provenance": provenance,
    }


def _task_of(situation: Situation, evidence: Evidence) -> str | None:
    if situation.told is not None and situation.told.task_id is not None:
        return situation.told.task_id
    return next((step.task_id for step in evidence.low or evidence.high), None)


def _note(
    tx: Transaction,
    now_ms: int,
    agent: str,
    outcome: Outcome,
    reason: str,
    ref: str,
    task_id: str | None,
    detail: JsonObject | None,
) -> None:
    note(tx, now_ms, agent=agent, stage=STAGE, outcome=outcome, reason=reason, ref=ref, task_id=task_id, detail=detail)
