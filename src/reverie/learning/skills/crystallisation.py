"""The job that makes a skill of a policy: one call of a model, or two where the first answer could not be used.

    sync the files (a person's word comes first) → decide → evidence → draft, checked → row → file

Invariants: nothing is written before the draft has been verified, so that a skill in use stays as it is until then;
evidence of which nothing could be made is not tried again; a rebuild changes neither id, name, status nor what the
skill has earned.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from reverie.errors import AnswerRefusedError, EmbedderError, JobDeferredError
from reverie.jobs.forgotten import unless_forgotten
from reverie.learning.asking.asks import Question
from reverie.learning.ids import digest_of
from reverie.learning.records import policy_of, skill_of
from reverie.learning.skills.document import DUE, folder_name, numbered_name
from reverie.learning.skills.draft import Draft, SkillAnswer, guide_of, normalised, with_guidance, wrong_with
from reverie.learning.skills.eligibility import (
    DELETED,
    SKILL_JOB,
    Eligibility,
    Refusal,
    decide,
    evidence_digest,
    policy_text,
    refusal_mark,
    refused_policy,
    skill_id_of,
)
from reverie.learning.skills.events import note_event
from reverie.learning.skills.evidence import Evidence, read_evidence, shown
from reverie.learning.skills.folder import SKILLS_MAX
from reverie.learning.skills.verification import tools_seen
from reverie.learning.trail import note
from reverie.learning.vectors import pack
from reverie.llm.prompt_files import read_prompt
from reverie.memory.redaction import redacted
from reverie.types import least_trusted

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.config import LearningConfig, SkillsConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Asks
    from reverie.learning.records import Policy, Skill
    from reverie.learning.skills.files import SkillFiles
    from reverie.learning.trail import Outcome
    from reverie.llm.embeddings import Embedder
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject

PROMPT = "skill.crystallize"
ANSWER_TOKENS_MAX = 2_048
POLICY_CHARS_MAX = 2_000
WORLDS_MAX = 5
TAKEN_NAMES_MAX = 50
HINTS_MAX = 10
HINT_CHARS_MAX = 300
TOOLS_SHOWN_MAX = 50
OVERTAKEN = "changed_meanwhile"
"""While the model was asked, a person took the skill over, or another job made it."""

ETA_MIN = 0.1
GAIN_SHARE = 0.5
SUPPORT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class _Matter:
    """A policy, its skill if it has one, and what the skill would be made of now."""

    policy: Policy
    skill: Skill | None
    evidence: Evidence
    digest: str
    refusal: Refusal
    full: bool
    worlds: tuple[str, ...]
    taken_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Built:
    """A verified draft, by what it is found, which prompt it came of, and the folders that are there already."""

    draft: Draft
    vec: bytes | None
    prompt_id: str
    folders: frozenset[str]


def first_eta(gain: float, support: int, min_support: int) -> float:
    """The success rate of a skill before it was used, 0.1 to 1: half from its policy's gain, half from its support."""
    earned = GAIN_SHARE * gain + SUPPORT_SHARE * min(1.0, support / min_support)
    return min(1.0, max(ETA_MIN, earned))


class SkillJob:
    """Does jobs of the kind `skill`; their payload is `{"policy_id": …}`.

    Without an embedder, or while it fails, skills are made all the same and found by their words.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        config: LearningConfig,
        asks: Asks,
        files: SkillFiles,
        embedder: Embedder | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._mode = config.mode
        self._config: SkillsConfig = config.skills
        self._asks = asks
        self._files = files
        self._embedder = embedder

    async def handle(self, job: Job) -> JsonObject:
        """Make or remake the skill of a policy, if there is reason to.

        Raises:
            JobDeferredError: the last build is too recent, or the budget says later.
            JobPutBackError, UpstreamError: as `Asks.ask`.
            HomeReadOnlyError, StorageFullError, StorageError: its file, or its row, could not be written.
        """
        if self._mode != "full":
            return {"skipped": self._mode}
        policy_id = str(job.payload["policy_id"])
        if job.agent:
            await self._files.sync(job.agent)
        matter = await self._database.read(lambda tx: _read(tx, policy_id, self._config))
        if matter is None:
            return {"skipped": "policy_gone"}
        decision = self._decision(matter)
        if decision.choice == "wait":
            raise JobDeferredError(decision.until_ms, decision.reason)
        if decision.choice == "no":
            return await self._left(matter, "skipped", decision.reason)
        if not matter.evidence.good:
            return await self._failed(matter, "no_evidence")
        return await self._crystallise(matter, decision, job)

    def _decision(self, matter: _Matter) -> Eligibility:
        if not self._config.use_llm or not self._asks.available:
            reason = refused_policy(matter.policy, self._config) or "no_model"
            return Eligibility("no", reason)
        if matter.full:
            return Eligibility("no", "too_many_skills")
        return decide(matter.policy, matter.skill, matter.digest, matter.refusal, self._config, self._clock.now_ms())

    async def _crystallise(self, matter: _Matter, decision: Eligibility, job: Job) -> JsonObject:
        good = matter.evidence.good
        prompt = await asyncio.to_thread(read_prompt, "reverie.learning", PROMPT)
        text = await asyncio.to_thread(question_text, matter.policy, matter.evidence, matter.taken_names, self._config)
        question = Question(
            prompt, text, SkillAnswer, max_tokens=ANSWER_TOKENS_MAX, check=lambda answer: wrong_with(answer, good)
        )
        try:
            answer = await self._asks.ask(question, job)
        except AnswerRefusedError as error:
            return await self._failed(matter, "draft_refused", error.wrong)
        draft = with_guidance(await asyncio.to_thread(normalised, answer, good), matter.policy)
        vec = await self._vector(draft.text_for_vector(matter.policy.trigger))
        now_ms = self._clock.now_ms()
        built = _Built(draft, vec, prompt.id, await self._files.folders(matter.policy.agent))
        name = await self._database.write(
            unless_forgotten(job, lambda tx: _keep(tx, matter, decision, built, self._config, now_ms))
        )
        if name is None:
            return {"skipped": OVERTAKEN}
        await self._files.settle(matter.policy.agent, name)
        return {decision.choice: name}

    async def _vector(self, text: str) -> bytes | None:
        """A skill is found by its words as long as it has no vector; the next comparison of files gives it one."""
        if self._embedder is None:
            return None
        try:
            return pack((await self._embedder.embed_passages([text]))[0])
        except EmbedderError:
            return None

    async def _failed(self, matter: _Matter, reason: str, wrong: str = "") -> JsonObject:
        """Remember that nothing could be made of this evidence."""

        def remember(tx: Transaction, now_ms: int) -> None:
            name = refusal_mark(matter.policy.id)
            if tx.value("learning_mark", name=name) != DELETED:  # a person deleted the skill meanwhile
                tx.execute("set_learning_mark", name=name, value=matter.digest, now=now_ms)
            _note(tx, now_ms, matter, "failed", reason, {"wrong": wrong} if wrong else {})

        now_ms = self._clock.now_ms()
        await self._database.write(lambda tx: remember(tx, now_ms))
        return {"failed": reason}

    async def _left(self, matter: _Matter, outcome: Outcome, reason: str) -> JsonObject:
        now_ms = self._clock.now_ms()
        await self._database.write(lambda tx: _note(tx, now_ms, matter, outcome, reason, {}))
        return {"skipped": reason}


def question_text(policy: Policy, evidence: Evidence, taken_names: tuple[str, ...], config: SkillsConfig) -> str:
    """What the model is shown, as JSON: bounded and without secrets, whatever the policy and the steps hold."""
    said = {
        "title": policy.title,
        "trigger": policy.trigger,
        "procedure": policy.procedure,
        "verification": policy.verification,
        "boundary": policy.boundary,
    }
    show = config.trace_chars_max
    return json.dumps(
        {
            "policy": {key: redacted(text)[:POLICY_CHARS_MAX] for key, text in said.items()},
            "hints": {"prefer": _hints(policy.preference), "avoid": _hints(policy.anti_pattern)},
            "evidence": [{"step": shown(each, show), "value": round(each.value, 2)} for each in evidence.good],
            "counter_examples": [{"step": shown(each, show), "value": round(each.value, 2)} for each in evidence.bad],
            "tools": sorted(tools_seen(evidence.good))[:TOOLS_SHOWN_MAX],
            "taken_names": taken_names,
        },
        ensure_ascii=False,
    )


def _hints(texts: tuple[str, ...]) -> list[str]:
    return [redacted(text)[:HINT_CHARS_MAX] for text in texts[:HINTS_MAX]]


def _read(tx: Transaction, policy_id: str, config: SkillsConfig) -> _Matter | None:
    row = tx.row("find_policy", id=policy_id)
    if row is None:
        return None
    policy = policy_of(row)
    held = tx.row("find_skill", id=skill_id_of(policy.agent, policy.id))
    held = held or tx.row("skill_of_policy", agent=policy.agent, policy_id=policy.id)
    skill = None if held is None else skill_of(held)
    evidence = read_evidence(tx, policy, config)
    mark = tx.row("skill_refusal", name=refusal_mark(policy.id))
    names = tx.rows("skill_files_of_agent", agent=policy.agent, limit=TAKEN_NAMES_MAX)
    worlds = tx.rows("skill_worlds", agent=policy.agent, policy_id=policy.id, limit=WORLDS_MAX)
    return _Matter(
        policy=policy,
        skill=skill,
        evidence=evidence,
        digest=evidence_digest(policy, evidence.trace_ids),
        full=skill is None and tx.value("count_skills_of_agent", agent=policy.agent) >= SKILLS_MAX,
        refusal=Refusal() if mark is None else Refusal(mark["evidence"], mark["at"]),
        worlds=tuple(each["id"] for each in worlds),
        taken_names=tuple(each["name"] for each in names if skill is None or each["id"] != skill.id),
    )


def _keep(
    tx: Transaction, matter: _Matter, decision: Eligibility, built: _Built, config: SkillsConfig, now_ms: int
) -> str | None:
    """Write a verified draft into its row; the name of the skill, or None when somebody came in between."""
    policy, skill = matter.policy, matter.skill
    values = _values(matter, built) | {"now": now_ms}
    eta = first_eta(policy.gain, policy.support, config.min_support)
    if skill is None:
        name = _insert(tx, policy, built, eta, values)
    else:
        kept = tx.execute("rebuild_skill", id=skill.id, **_earned(tx, skill, decision, eta), **values)
        name = skill.name if kept else None
    if name is None:
        _note(tx, now_ms, matter, "skipped", OVERTAKEN, {})
        return None
    skill_id = skill_id_of(policy.agent, policy.id) if skill is None else skill.id
    detail: JsonObject = {"name": name, "why": decision.reason, "gain": policy.gain, "support": policy.support}
    note_event(tx, skill_id, "build", now_ms, detail)
    _note(tx, now_ms, matter, "learned" if skill is None else "changed", decision.choice, {"skill": skill_id, **detail})
    return name


def _values(matter: _Matter, built: _Built) -> JsonObject:
    """What a row says of a draft and of what it was made of."""
    policy, draft, good = matter.policy, built.draft, matter.evidence.good
    earlier = () if matter.skill is None else matter.skill.policies
    return {
        "title": draft.title,
        "description": draft.summary,
        "guide": guide_of(draft, policy, good),
        "draft": json.dumps({**draft.as_json(), "policy": digest_of(policy_text(policy))}, ensure_ascii=False),
        "tools": json.dumps(draft.tools),
        "support": policy.support,
        "gain": policy.gain,
        "policies": json.dumps(list(dict.fromkeys((*earlier, policy.id)))),
        "worlds": json.dumps(matter.worlds),
        "anchors": json.dumps([trace.id for trace in (*good, *matter.evidence.bad)]),
        "evidence": matter.digest,
        "induced_by": built.prompt_id,
        "vec": built.vec,
        "provenance": least_trusted([policy.provenance, *(trace.provenance for trace in good)]),
    }


def _earned(tx: Transaction, skill: Skill, decision: Eligibility, eta: float) -> JsonObject:
    """Status and scores of a skill that is made anew: a rebuild keeps what it has earned, one given up begins again."""
    row = tx.row("find_skill", id=skill.id)
    held = skill if row is None else skill_of(row)  # as it is now: tasks may have been scored during the call
    if decision.choice == "build":
        return {"status": "candidate", "eta": eta, "trials": 0, "passes": 0}
    kept = held.eta if held.trials else eta
    return {"status": held.status, "eta": kept, "trials": held.trials, "passes": held.passes}


def _insert(tx: Transaction, policy: Policy, built: _Built, eta: float, values: JsonObject) -> str | None:
    """A new row under a name that is free, in the database and on disk; None when there is one by now."""
    skill_id = skill_id_of(policy.agent, policy.id)
    if tx.row("find_skill", id=skill_id) is not None:
        return None
    wanted = folder_name(built.draft.wanted_name, built.draft.title, skill_id)
    names = (numbered_name(wanted, number) for number in count(1))
    name = next(
        name
        for name in names
        if name not in built.folders and not tx.value("skill_name_taken", agent=policy.agent, name=name, id=skill_id)
    )
    tx.execute(
        "insert_skill", id=skill_id, agent=policy.agent, name=name, status="candidate", disabled=0, eta=eta,
        built_gain=policy.gain, built_support=policy.support, built_at=values["now"], file_digest="", file_words="",
        file_planned=DUE, file_state="none", edited_at=None, **values,
    )  # fmt: skip
    return name


def _note(tx: Transaction, now_ms: int, matter: _Matter, outcome: Outcome, reason: str, detail: JsonObject) -> None:
    detail = {"digest": matter.digest, **detail}
    note(tx, now_ms, agent=matter.policy.agent, stage=SKILL_JOB, outcome=outcome, reason=reason, ref=matter.policy.id,
         detail=detail)  # fmt: skip
