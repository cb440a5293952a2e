"""Induction (L2): one call of a model makes a policy of steps that were alike and went well.

What says the same as a policy that is there becomes part of it. The same evidence is asked about once.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from reverie.errors import AnswerRefusedError
from reverie.jobs.forgotten import unless_forgotten
from reverie.learning import trail
from reverie.learning.asking.asks import Question
from reverie.learning.policies.association import makes_skills
from reverie.learning.policies.buckets import parse_signature
from reverie.learning.policies.clusters import ask_for_worlds
from reverie.learning.policies.duplicates import Said, nearest
from reverie.learning.policies.matching import Nearest
from reverie.learning.policies.measuring import measure
from reverie.learning.policies.policies import (
    PolicyDraft,
    each_page,
    find_policy,
    find_policy_of_evidence,
    follow,
    insert_policy,
    merge_policy,
)
from reverie.learning.policies.pool import MEMBERS_MAX, evidence_digest, followers, note_known
from reverie.learning.records import trace_of
from reverie.learning.steering import answer_language
from reverie.learning.vectors import centroid, unpack
from reverie.llm.prompt_files import read_prompt
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.config import LearningConfig, PoliciesConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Asks
    from reverie.learning.records import Policy, Trace
    from reverie.learning.trail import Outcome
    from reverie.llm.prompt_files import Prompt
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject

STATE_CHARS = 200
ACTION_CHARS = 300
OUTCOME_CHARS = 300
REFLECTION_CHARS = 300
TITLE_CHARS_MAX = 200
TEXT_CHARS_MAX = 4_000
"""Of each part of a policy."""
ANSWER_TOKENS = 1_200
TEMPERATURE = 0.1
TEXTS_PAGE = 200
"""Policies whose words are compared at once."""

_LINE_MARKUP = re.compile(r"^\s*(?:#{1,6}\s+|>\s?|```\w*\s*$)", re.MULTILINE)
_BOLD_OR_CODE = re.compile(r"\*\*([^\s*/][^*\n]*)\*\*|`([^`\n]+)`")
_BLANK_LINES = re.compile(r"\n{2,}")


class InductionAnswer(BaseModel):
    """A policy as the model words it."""

    title: str
    trigger: str
    action: str
    rationale: str = ""
    caveats: list[str] = Field(default_factory=list[str])
    confidence: float = 0.5
    support_trace_ids: list[str] = Field(default_factory=list[str])
    boundary: str = ""
    verification: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a policy is to be made of: a bucket, and the best step of each task in it."""

    agent: str
    signature: str
    steps: tuple[Trace, ...]
    digest: str


class InduceJob:
    """The handler of `induce`. Its payload is `{"signature": …, "traces": [ids]}`; its agent is the job's.

    Built with the database, a clock, the settings of learning, and what a model is asked with.
    """

    def __init__(self, database: Database, clock: Clock, config: LearningConfig, asks: Asks) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._asks = asks

    async def handle(self, job: Job) -> JsonObject:
        """Make a policy, or say why there is none. With no model, or one that does not comply, nothing fails."""
        if self._config.mode != "full":
            return {"skipped": self._config.mode}
        evidence = await self._database.read(lambda tx: _evidence(tx, job))
        if not evidence.steps:
            return await self._leave(job, "no_evidence")
        done = await self._without_asking(evidence, job) or await self._by_asking(evidence, job)
        await ask_for_worlds(
            self._database, job.agent, self._config, job, self._clock.now_ms(), available=self._asks.available
        )
        return done

    async def _without_asking(self, evidence: Evidence, job: Job) -> JsonObject | None:
        """What became of the evidence already, or becomes of it by a policy that is near; None when neither."""
        made = await self._database.read(lambda tx: _made_before(tx, evidence))
        if made is not None:
            return {"policy": made, "made": "before"}
        known = await self._known(evidence)
        if known is None:
            return None
        return await self._database.write(unless_forgotten(job, lambda tx: self._take_in(tx, evidence, known, job)))

    async def _by_asking(self, evidence: Evidence, job: Job) -> JsonObject:
        if not (self._config.policies.use_llm and self._asks.available):
            return await self._leave(job, "llm_disabled")
        draft = await self._draft(evidence, job)
        if isinstance(draft, str):
            return await self._leave(job, "llm_failed", wrong=draft)
        same = await self._same(draft)
        return await self._database.write(unless_forgotten(job, lambda tx: self._keep(tx, evidence, draft, same, job)))

    async def _known(self, evidence: Evidence) -> str | None:
        """The policy that came to be since this one was asked for, and that each of the steps would follow."""
        middle = centroid([step.vec_summary for step in evidence.steps if step.vec_summary is not None])
        if middle is None:
            return None
        nearest_policy = Nearest([middle], [parse_signature(evidence.signature)])
        await each_page(self._database, evidence.agent, nearest_policy.see)
        near, least = nearest_policy.best()[0], self._config.policies.min_similarity
        if near is None or near.score < least:
            return None
        policy = await self._database.read(lambda tx: find_policy(tx, near.policy_id))
        steps = [(step.id, step.vec_summary) for step in evidence.steps]
        if policy is None or len(followers(policy, evidence.signature, steps, least)) < len(steps):
            return None
        return policy.id

    def _take_in(self, tx: Transaction, evidence: Evidence, policy_id: str, job: Job) -> JsonObject:
        """Have the steps follow a policy that is there, without asking anybody."""
        now_ms = self._clock.now_ms()
        follow(tx, [step.id for step in evidence.steps], policy_id)
        self._say(tx, job, "skipped", "known_already", policy_id)
        measure(tx, policy_id, self._config, job, now_ms, skills=makes_skills(self._config, self._asks))
        return {"policy": policy_id, "made": "known_already"}

    async def _draft(self, evidence: Evidence, job: Job) -> PolicyDraft | str:
        """The policy, or what was wrong with the answers."""
        prompt = await asyncio.to_thread(read_prompt, "reverie.learning", "l2.induction")
        question = Question(
            prompt=prompt,
            text=question_text(evidence.steps, self._config.policies.trace_chars_max),
            answer=InductionAnswer,
            max_tokens=ANSWER_TOKENS,
            temperature=TEMPERATURE,
            check=wrong_with,
        )
        try:
            answer = await self._asks.ask(question, job)
        except AnswerRefusedError as error:
            return error.wrong
        return drafted(answer, evidence, prompt, self._config.policies)

    async def _same(self, draft: PolicyDraft) -> str | None:
        """The policy that says the same already, of all of the agent: 200 are compared at once."""
        said = Said(draft.id, draft.title, draft.trigger, draft.procedure, draft.verification, draft.boundary)
        best: tuple[float, str] | None = None
        after = ""
        while True:
            page = await self._database.read(lambda tx, after=after: _said(tx, draft.agent, after))
            found = await asyncio.to_thread(nearest, said, page)
            best = max((each for each in (best, found) if each is not None), default=None)
            if len(page) < TEXTS_PAGE:
                return best[1] if best is not None else None
            after = page[-1].id

    def _keep(self, tx: Transaction, evidence: Evidence, draft: PolicyDraft, same: str | None, job: Job) -> JsonObject:
        now_ms = self._clock.now_ms()
        known = find_policy(tx, same) if same is not None else None
        policy = insert_policy(tx, draft, now_ms) if known is None else merge_policy(tx, known, draft, now_ms)
        follow(tx, draft.traces, policy.id)
        follow(tx, _like(tx, evidence, policy, self._config.policies.min_similarity, now_ms), policy.id)
        for left in evidence.steps:
            tx.execute("stamp_candidate", trace_id=left.id, policy_id=policy.id)
        reason = "induced" if known is None else "archived_duplicate" if known.status == "archived" else "duplicate"
        if known is not None:
            note_known(tx, evidence.agent, evidence.signature, evidence.digest, now_ms)
        detail = {"signature": evidence.signature, "traces": list(draft.traces), "prompt": draft.induced_by}
        self._say(tx, job, "learned" if known is None else "changed", reason, policy.id, detail)
        measure(tx, policy.id, self._config, job, now_ms, skills=makes_skills(self._config, self._asks))
        return {"policy": policy.id, "made": reason}

    async def _leave(self, job: Job, reason: str, *, wrong: str = "") -> JsonObject:
        outcome = "failed" if wrong else "skipped"
        signature = str(job.payload["signature"])
        detail = {"wrong": wrong} if wrong else {}
        await self._database.write(lambda tx: self._say(tx, job, outcome, reason, signature, detail))
        return {outcome: reason}

    def _say(
        self, tx: Transaction, job: Job, outcome: Outcome, reason: str, ref: str, detail: JsonObject | None = None
    ) -> None:
        trail.note(
            tx,
            self._clock.now_ms(),
            agent=job.agent,
            stage=job.kind,
            ref=ref,
            task_id=job.task_id,
            outcome=outcome,
            reason=reason,
            detail=detail,
        )


def question_text(steps: Sequence[Trace], chars_max: int) -> str:
    """What the model is shown: the language to answer in, and each step within so many characters."""
    language = answer_language(text for step in steps for text in (step.user_text, step.agent_text))
    packs = [pack_of(step, chars_max) for step in steps]
    return json.dumps({"answer_in": language, "steps": packs}, ensure_ascii=False)


def pack_of(step: Trace, chars_max: int) -> JsonObject:
    """One step as the model is shown it, of at most `chars_max` characters as JSON; its tools get what is left."""
    pack: JsonObject = {
        "id": step.id,
        "state": step.user_text[:STATE_CHARS],
        "action": step.agent_text[:ACTION_CHARS],
        "tools": [],
        "outcome": _outcome(step),
        "reflection": step.reflection[:REFLECTION_CHARS],
        "utility": round(step.value, 3),
        "alpha": round(step.alpha, 3),
    }
    for use in step.tool_calls:
        room = chars_max - _size(pack)
        called = {"name": use.name, "input": use.input[: max(0, room // 3)], "error": use.error_code}
        if _size(called) >= room:
            break
        pack["tools"].append(called)
    while _size(pack) > chars_max and any(pack[name] for name in ("reflection", "outcome", "action", "state")):
        longest = max(("reflection", "outcome", "action", "state"), key=lambda name: len(pack[name]))
        pack[longest] = pack[longest][: len(pack[longest]) // 2]
    return pack


def wrong_with(answer: InductionAnswer) -> str | None:
    """What a policy lacks that can be followed: a title, a trigger and an action."""
    empty = [name for name in ("title", "trigger", "action") if not plain(getattr(answer, name))]
    return f"{', '.join(empty)} must not be empty" if empty else None


def drafted(answer: InductionAnswer, evidence: Evidence, prompt: Prompt, config: PoliciesConfig) -> PolicyDraft:
    """The policy that an answer words. It rests on the steps that the answer names, or on all of them.

    All, where it names none, or so few that no policy could be made of them: those of one task that went less well.
    """
    named = [step for step in evidence.steps if step.id in set(answer.support_trace_ids)]
    tasks = {step.task_id for step in named}
    if len(tasks) < config.min_episodes and not any(step.value >= config.single_task_value for step in named):
        named = list(evidence.steps)
    return PolicyDraft(
        agent=evidence.agent,
        title=plain(answer.title)[:TITLE_CHARS_MAX],
        trigger=plain(answer.trigger)[:TEXT_CHARS_MAX],
        procedure=plain(answer.action)[:TEXT_CHARS_MAX],
        verification=plain(answer.verification)[:TEXT_CHARS_MAX],
        boundary="\n".join(filter(None, map(plain, (answer.boundary, *answer.caveats))))[:TEXT_CHARS_MAX],
        confidence=min(1.0, max(0.0, answer.confidence)),
        signature=evidence.signature,
        evidence=evidence.digest,
        episodes=tuple(dict.fromkeys(step.episode_id for step in named)),
        traces=tuple(step.id for step in named),
        induced_by=prompt.id,
        vec=centroid([step.vec_summary for step in named if step.vec_summary is not None]),
        provenance=least_trusted((step.provenance for step in evidence.steps), default="agent"),
    )


def plain(text: str) -> str:
    """A text without Markdown: it is shown in prompts and files that have a form of their own."""
    bare = _BOLD_OR_CODE.sub(lambda found: found[1] or found[2], _LINE_MARKUP.sub("", text))
    return _BLANK_LINES.sub("\n", bare).strip()


def _outcome(step: Trace) -> str:
    """How a step ended: its tool's result, else its reply's end."""
    results = [use.output for use in step.tool_calls if use.output]
    return (results[-1] if results else step.agent_text)[-OUTCOME_CHARS:]


def _size(part: JsonObject) -> int:
    return len(json.dumps(part, ensure_ascii=False))


def _evidence(tx: Transaction, job: Job) -> Evidence:
    """The steps that a job names and that are there still; its digest is of all that it names."""
    ids: list[Any] = list(job.payload["traces"])
    rows = [row for row in (tx.row("find_trace", id=each) for each in ids) if row is not None]
    steps = tuple(trace_of(row) for row in rows if row["archived_at"] is None and row["agent"] == job.agent)
    signature = str(job.payload["signature"])
    return Evidence(job.agent, signature, steps, evidence_digest(job.agent, signature, ids))


def _made_before(tx: Transaction, evidence: Evidence) -> str | None:
    """The policy that was made of this evidence, or that its steps became part of meanwhile; None while one waits."""
    made = find_policy_of_evidence(tx, evidence.agent, evidence.signature, evidence.digest)
    if made is not None:
        return made.id
    became = [tx.value("policy_step_became", trace_id=step.id) for step in evidence.steps]
    return became[0] if all(became) else None


def _said(tx: Transaction, agent: str, after: str) -> list[Said]:
    rows = tx.rows("policy_texts", agent=agent, after=after, limit=TEXTS_PAGE)
    return [
        Said(row["id"], row["title"], row["trigger_text"], row["procedure"], row["verification"], row["boundary"])
        for row in rows
    ]


def _like(tx: Transaction, evidence: Evidence, policy: Policy, least: float, now_ms: int) -> list[str]:
    """The other steps of the bucket that come near to the new policy: they wait no longer."""
    rows = tx.rows(
        "bucket_members", agent=evidence.agent, signature=evidence.signature, now=now_ms, value_min=-1.0,
        limit=MEMBERS_MAX,
    )  # fmt: skip
    steps = [(row["id"], unpack(row["vec_summary"])) for row in rows]
    return list(followers(policy, evidence.signature, steps, least))
