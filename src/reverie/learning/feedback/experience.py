"""Experiences: what feedback teaches, as a policy of a type of its own.

Feedback that weighs enough and says what to do, or that comes from a program that checked, becomes one row, or part of
a row that says the same. Its text is the owner's words, refined by one call of a model where there is one. Where the
owner says something else of the same, the newest words stand.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from reverie.errors import AnswerRefusedError, EmbedderError
from reverie.jobs.forgotten import unless_forgotten
from reverie.learning.asking.asks import Question
from reverie.learning.feedback.feedback import SIGNIFICANT
from reverie.learning.feedback.guidance import added, amended, cleaned, turns_round
from reverie.learning.ids import content_id, digest_of
from reverie.learning.records import policy_of, trace_of
from reverie.learning.trail import note
from reverie.learning.vectors import cosine, pack
from reverie.llm.prompt_files import read_prompt
from reverie.types import TRUSTED, least_trusted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.clock import Clock
    from reverie.config import FeedbackConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Asks
    from reverie.learning.feedback.feedback import Feedback, Verdict
    from reverie.learning.feedback.guidance import Advice
    from reverie.learning.records import Polarity, Policy, PolicyStatus, PolicyType, Trace
    from reverie.llm.embeddings import Embedder
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject, Provenance

STAGE = "experience"
PROMPT = "feedback.refine"
GAIN_MIN = 0.02
ACTIVE_SALIENCE = 0.5
"""From this on an experience is recalled; below it waits for another one that says the same."""
VAGUE_SHARE = 0.8
"""Of its weight that feedback has which names no pair, and that nobody gave with a button."""
MERGE_SIMILARITY = 0.72
MERGE_SIMILARITY_ACROSS_TYPES = 0.82
REWORDED_SIMILARITY = 0.82
"""From this on two experiences are of one matter, and the later one stands; below it one may complete the other."""
COMPARED_MAX = 500
"""Policies that an experience is compared with, those that changed last."""
SOURCES_MAX = 50
"""Ids of each kind that a policy keeps of what it comes of, the newest ones."""
TURNS_EACH = 3
"""Of a task's beginning and of its end, as the model sees them."""
TEXT_CHARS_MIN = 24
CJK_TEXT_CHARS_MIN = 10
"""Words that are shorter judge, and do not say what to do."""
TITLE_CHARS_MAX = 80
TRIGGER_CHARS_MAX = 300
PROCEDURE_CHARS_MAX = 1_200
CLAUSE_CHARS_MAX = 600
ANSWER_TOKENS_MAX = 700
HEURISTIC = "heuristic"
MEASURED: PolicyType = "procedural"
"""What was induced from steps: its gain says whether it is recalled, and not what somebody said."""

_CJK = re.compile(r"[\u3400-\u9fff]")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*")
_TELLING = frozenset({"preference", "correction", "constraint", "instruction"})
_POLARITY: dict[PolicyType, Polarity] = {
    "success_pattern": "positive",
    "repair_validated": "positive",
    "failure_avoidance": "negative",
    "verifier_feedback": "negative",
}
_SUCCESS = frozenset({"success_pattern", "repair_validated"})
_ORDERS: frozenset[PolicyType] = frozenset({"preference", "repair_instruction", "failure_avoidance"})
"""What the owner wants, in whichever form it was said."""

Joining = Literal["reworded", "told", "late"]
"""How a policy takes in an experience: it says that from now on; it is advised; or a newer word is known already."""


class RefineAnswer(BaseModel):
    """An experience as the model words it."""

    title: str
    trigger: str
    procedure: str
    caveats: str = ""
    verification: str = ""
    confidence: float = 0.5


@dataclass(frozen=True, slots=True)
class Experience:
    """What is to become a policy, or part of one. `by` is the prompt that worded it, or `heuristic`."""

    type: PolicyType
    title: str
    trigger: str
    procedure: str
    verification: str
    boundary: str
    preference: tuple[str, ...]
    anti_pattern: tuple[str, ...]
    salience: float
    confidence: float
    provenance: Provenance
    by: str
    vec: NDArray[np.float32] | None = None

    @property
    def polarity(self) -> Polarity:
        """Whether it tells of what went well."""
        return _POLARITY.get(self.type, "neutral")

    @property
    def status(self) -> PolicyStatus:
        """Whether it weighs enough to be recalled."""
        return "active" if self.salience >= ACTIVE_SALIENCE else "candidate"

    @property
    def gain(self) -> float:
        """What it counts among policies whose gain was measured."""
        return max(GAIN_MIN, self.salience)

    @property
    def skill_eligible(self) -> bool:
        """Whether a skill may be made of it: only of what went well."""
        return self.type in _SUCCESS


@dataclass(frozen=True, slots=True)
class Kind:
    """What feedback teaches; without a type it teaches nothing. `reason` says why."""

    type: PolicyType | None
    reason: str


def kind_of(feedback: Feedback, *, criticised: bool) -> Kind:
    """What type of experience feedback is. `criticised`: fault was found with the same task before."""
    if feedback.significance < SIGNIFICANT:
        return Kind(None, "insignificant")
    if feedback.verdict is not None:
        return _checked(feedback.verdict, criticised=criticised)
    if not is_actionable(feedback):
        return Kind(None, "not_actionable")
    return _told(feedback)


def is_actionable(feedback: Feedback) -> bool:
    """Whether feedback says what to do, beyond that something was good or bad.

    Praise or blame in passing moves a score and teaches nothing; what somebody wrote beside a thumb may mean more.
    """
    if feedback.prefer or feedback.avoid:
        return True
    text = feedback.text.strip()
    least = CJK_TEXT_CHARS_MIN if _CJK.search(text) else TEXT_CHARS_MIN
    written = feedback.channel == "explicit" and len(text) >= least
    return bool(text) and (feedback.shape in _TELLING or written)


def _checked(verdict: Verdict, *, criticised: bool) -> Kind:
    if not verdict.ok:
        return Kind("verifier_feedback", "checks_failed")
    return Kind("repair_validated" if criticised else "success_pattern", "checks_passed")


def _told(feedback: Feedback) -> Kind:
    if feedback.prefer or feedback.avoid or feedback.shape == "preference":
        return Kind("preference", "preference")
    if feedback.shape in _TELLING:
        return Kind("repair_instruction", feedback.shape)
    match feedback.polarity:
        case "positive":
            return Kind("success_pattern", "praised")
        case "negative":
            return Kind("failure_avoidance", "blamed")
        case "neutral" | "mixed":
            return Kind("repair_instruction", "told")


def drafted(feedback: Feedback, kind: PolicyType, turns: Sequence[Trace]) -> Experience:
    """An experience in the owner's words, made without a model. `turns` are how its task began and ended."""
    asked = next((turn.user_text for turn in turns if turn.user_text), "")
    done = next((turn.summary or turn.agent_text for turn in reversed(turns) if turn.summary or turn.agent_text), "")
    said = feedback.text or _pair(feedback) or done or asked
    telling = feedback.channel == "explicit" or bool(feedback.prefer or feedback.avoid)
    return Experience(
        type=kind,
        title=cleaned(_title(feedback, said or kind), TITLE_CHARS_MAX),
        trigger=cleaned(asked, TRIGGER_CHARS_MAX),
        procedure=cleaned(said, PROCEDURE_CHARS_MAX),
        verification="",
        boundary="",
        preference=added((), (cleaned(feedback.prefer),)),
        anti_pattern=added((), (cleaned(feedback.avoid),)),
        salience=feedback.significance * (1.0 if telling else VAGUE_SHARE),
        confidence=feedback.confidence,
        provenance=least_trusted((feedback.provenance, *(turn.provenance for turn in turns))),
        by=HEURISTIC,
    )


def refined(draft: Experience, answer: RefineAnswer, prompt_id: str) -> Experience:
    """An experience with the words of a model; what it weighs is not for the model to say."""
    return replace(
        draft,
        title=cleaned(answer.title, TITLE_CHARS_MAX),
        trigger=cleaned(answer.trigger, TRIGGER_CHARS_MAX),
        procedure=cleaned(answer.procedure, PROCEDURE_CHARS_MAX),
        boundary=cleaned(answer.caveats, CLAUSE_CHARS_MAX),
        verification=cleaned(answer.verification, CLAUSE_CHARS_MAX),
        confidence=min(1.0, max(0.0, answer.confidence)) if answer.confidence == answer.confidence else 0.0,
        by=prompt_id,
    )


def nearest(new: Experience, policies: Sequence[Policy]) -> Policy | None:
    """The policy that says the same, if one does.

    One of the same type at a cosine of 0.72, of another type at 0.82.
    """
    near = [
        (likeness, policy)
        for policy in policies
        if _takes_in(policy)
        and (likeness := cosine(new.vec, policy.vec))
        >= (MERGE_SIMILARITY if policy.type == new.type else MERGE_SIMILARITY_ACROSS_TYPES)
    ]
    return max(near, key=lambda pair: (pair[0], pair[1].id))[1] if near else None


def _takes_in(policy: Policy) -> bool:
    """Whether a policy may take in what the owner said, so that it is neither lost nor in bad company.

    One that a person edited keeps its words; one whose gain is not shown yet is not recalled; one of strangers' words
    would not be trusted any more.
    """
    recalled = policy.status == "active" or policy.type != MEASURED
    return recalled and policy.edited_at_ms is None and policy.provenance in TRUSTED


def joining(policy: Policy, new: Experience, feedback: Feedback, newest_ms: int) -> Joining:
    """How a policy takes in an experience; `newest_ms` is when the newest feedback was given that it comes of.

    The owner's newest words replace those of an experience of the same kind that is of the same matter: it is very much
    alike, or prefers what is to be avoided now. What weighs too little to be recalled by itself replaces none that are
    recalled, nor does a verdict without words.
    """
    if feedback.at_ms < newest_ms:
        return "late"
    known, said = (policy.preference, policy.anti_pattern), (new.preference, new.anti_pattern)
    of_one_matter = cosine(new.vec, policy.vec) >= REWORDED_SIMILARITY or turns_round(known, said)
    weighs = new.status == "active" or policy.status != "active"
    worded = bool(feedback.text or _pair(feedback))
    return "reworded" if _is_alike(policy, new) and of_one_matter and weighs and worded else "told"


def _is_alike(policy: Policy, new: Experience) -> bool:
    return policy.type == new.type or {policy.type, new.type} <= _ORDERS


def merged(policy: Policy, new: Experience, feedback: Feedback, how: Joining) -> JsonObject:
    """What changes of a policy that takes in an experience, as the columns of its row; its words are `reworded`.

    What may become a skill still may. Its gain and support are its own where they were measured.
    """
    salience = 1 - (1 - policy.salience) * (1 - new.salience)
    new_task = feedback.episode_id is not None and feedback.episode_id not in policy.source_episodes
    measured = policy.type == MEASURED
    known = (policy.preference, policy.anti_pattern)
    said = _advice(new, whole=how == "told" or not _is_alike(policy, new))
    prefer, avoid = amended(said, known) if how == "late" else amended(known, said)
    active = policy.status == "active" or salience >= ACTIVE_SALIENCE
    return {
        "id": policy.id,
        "guidance": json.dumps({"preference": prefer, "anti_pattern": avoid}, ensure_ascii=False),
        "polarity": policy.polarity if policy.polarity == new.polarity else "mixed",
        "salience": salience,
        "confidence": max(policy.confidence, new.confidence),
        "status": policy.status if measured or not active else "active",
        "gain": policy.gain if measured else max(policy.gain, salience),
        "support": policy.support + (0 if measured or not new_task else 1),
        "skill_eligible": int(policy.skill_eligible or new.skill_eligible),
        "source_episodes": _sources(policy.source_episodes, feedback.episode_id),
        "source_feedback": _sources(policy.source_feedback, feedback.id),
        "source_traces": _sources(policy.source_traces, feedback.trace_id),
        "provenance": least_trusted((policy.provenance, new.provenance)),
    }


def reworded(policy: Policy, new: Experience) -> JsonObject:
    """The words of a policy that says from now on what an experience does, as the columns of its row."""
    return {
        "id": policy.id,
        "title": new.title,
        "trigger": new.trigger,
        "procedure": new.procedure,
        "verification": new.verification,
        "boundary": new.boundary,
        "type": new.type,
        "induced_by": new.by,
        "vec": None if new.vec is None else pack(new.vec),
    }


class Experiences:
    """Makes an experience of feedback. Done again for the same feedback, nothing changes."""

    def __init__(
        self, database: Database, clock: Clock, config: FeedbackConfig, asks: Asks, embedder: Embedder | None
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._asks = asks
        self._embedder = embedder

    async def learn(self, feedback: Feedback, job: Job) -> JsonObject:
        """What became of it: `{"policy": id, "how": "made" | "merged"}`, or `{"skipped": reason}`.

        Raises:
            JobDeferredError: the model may not be asked yet.
            JobPutBackError: the call gave way to a turn, or something was forgotten meanwhile.
            UpstreamError: the call failed.
        """
        if "experience" in feedback.raw:
            return {"skipped": "known"}
        criticised, turns = await self._database.read(lambda tx: _context(tx, feedback))
        kind = kind_of(feedback, criticised=criticised)
        if kind.type is None:
            await self._note_skipped(feedback, kind.reason)
            return {"skipped": kind.reason}
        draft = drafted(feedback, kind.type, turns)
        if not draft.procedure:
            await self._note_skipped(feedback, "nothing_to_say")
            return {"skipped": "nothing_to_say"}
        worded, why = await self._refine(draft, feedback, turns, job)
        complete = replace(worded, vec=await self._vector(worded))
        return await self._database.write(
            unless_forgotten(job, lambda tx: self._store(tx, complete, feedback, why or kind.reason))
        )

    async def _refine(
        self, draft: Experience, feedback: Feedback, turns: Sequence[Trace], job: Job
    ) -> tuple[Experience, str]:
        """The experience in better words where a model finds some, and why it did not."""
        if not self._config.use_llm or not self._asks.available:
            return draft, ""
        prompt = await asyncio.to_thread(read_prompt, "reverie.learning", PROMPT)
        shown = _shown(draft, feedback, turns, self._config.trace_chars_max)
        question = Question(prompt, shown, RefineAnswer, max_tokens=ANSWER_TOKENS_MAX, check=_wrong)
        try:
            return refined(draft, await self._asks.ask(question, job), prompt.id), ""
        except AnswerRefusedError:
            return draft, "answer_refused"

    async def _vector(self, worded: Experience) -> NDArray[np.float32] | None:
        """What it is compared by; None when that cannot be computed now: it is then a row of its own."""
        if self._embedder is None:
            return None
        text = f"{worded.title}\n{worded.trigger}\n{worded.procedure}"
        try:
            return (await self._embedder.embed_passages([text]))[0]
        except EmbedderError:
            return None

    def _store(self, tx: Transaction, new: Experience, feedback: Feedback, reason: str) -> JsonObject:
        now_ms = self._clock.now_ms()
        rows = [] if new.vec is None else tx.rows("policies_with_vectors", agent=feedback.agent, limit=COMPARED_MAX)
        near = nearest(new, [policy_of(row) for row in rows])
        policy_id = content_id("po", "feedback", feedback.id) if near is None else near.id
        if not tx.execute("mark_feedback", id=feedback.id, path="$.experience", value=policy_id):
            return {"skipped": "known"}
        if near is None:
            how = "made"
            tx.execute("insert_experience", **_row_of(new, feedback, policy_id), now=now_ms)
        else:
            how = _join(tx, near, new, feedback, now_ms)
        note(
            tx,
            now_ms,
            agent=feedback.agent,
            stage=STAGE,
            outcome="learned" if near is None else "changed",
            reason=reason,
            ref=policy_id,
            task_id=feedback.task_id,
            episode_id=feedback.episode_id,
            detail={"feedback": feedback.id, "type": new.type, "by": new.by, "salience": new.salience, "how": how},
        )
        return {"policy": policy_id, "how": "made" if near is None else "merged"}

    async def _note_skipped(self, feedback: Feedback, reason: str) -> None:
        now_ms = self._clock.now_ms()
        await self._database.write(
            lambda tx: note(
                tx,
                now_ms,
                agent=feedback.agent,
                stage=STAGE,
                outcome="skipped",
                reason=reason,
                ref=feedback.id,
                task_id=feedback.task_id,
                episode_id=feedback.episode_id,
            )
        )


def _join(tx: Transaction, policy: Policy, new: Experience, feedback: Feedback, now_ms: int) -> Joining:
    """Have a policy take in an experience; how it did."""
    newest_ms = tx.value("newest_feedback_of", ids=json.dumps(policy.source_feedback)) or 0
    how = joining(policy, new, feedback, newest_ms)
    columns = merged(policy, new, feedback, how)
    tx.execute("merge_experience", **columns, verifier=_verifier(feedback), now=now_ms)
    if how == "reworded":
        tx.execute("reword_experience", **reworded(policy, new))
    return how


def _context(tx: Transaction, feedback: Feedback) -> tuple[bool, tuple[Trace, ...]]:
    """Whether fault was found with the task before, and how it began and ended, in trusted words alone."""
    if feedback.task_id is None:
        return False, ()
    criticised = tx.value("task_was_criticised", task_id=feedback.task_id, at=feedback.at_ms)
    rows = tx.rows("first_and_last_steps", task_id=feedback.task_id, each=TURNS_EACH)
    return bool(criticised), tuple(trace_of(row) for row in rows)


def _title(feedback: Feedback, said: str) -> str:
    return _pair(feedback) or next((part for part in _SENTENCE.split(said.strip()) if part), said)


def _pair(feedback: Feedback) -> str:
    return f"{feedback.prefer} > {feedback.avoid}" if feedback.prefer and feedback.avoid else ""


def _shown(draft: Experience, feedback: Feedback, turns: Sequence[Trace], chars_max: int) -> str:
    """What the model is shown: bounded, and data."""
    said: dict[str, Any] = {
        "text": feedback.text,
        "polarity": feedback.polarity,
        "shape": feedback.shape,
        "prefer": feedback.prefer,
        "avoid": feedback.avoid,
    }
    if feedback.verdict is not None:
        said["checks"] = f"{feedback.verdict.passed} of {feedback.verdict.total} passed"
    shown = {
        "feedback": said,
        "turns": [{"user": turn.user_text[:chars_max], "agent": turn.agent_text[:chars_max]} for turn in turns],
        "draft": {"type": draft.type, "title": draft.title, "trigger": draft.trigger, "procedure": draft.procedure},
    }
    return json.dumps(shown, ensure_ascii=False)


def _wrong(answer: RefineAnswer) -> str | None:
    if not cleaned(answer.title) or not cleaned(answer.procedure):
        return "`title` and `procedure` must not be empty"
    return None


def _advice(new: Experience, *, whole: bool) -> Advice:
    """What a policy that takes it in is told to prefer and to avoid: the pair, or else all that it says, if `whole`."""
    if new.preference or new.anti_pattern or not whole:
        return new.preference, new.anti_pattern
    words = (cleaned(new.procedure),)
    return ((), words) if new.polarity == "negative" else (words, ())


def _row_of(new: Experience, feedback: Feedback, policy_id: str) -> JsonObject:
    return {
        "id": policy_id,
        "agent": feedback.agent,
        "title": new.title,
        "trigger": new.trigger,
        "procedure": new.procedure,
        "verification": new.verification,
        "boundary": new.boundary,
        "support": 1,
        "gain": new.gain,
        "status": new.status,
        "type": new.type,
        "polarity": new.polarity,
        "salience": new.salience,
        "confidence": new.confidence,
        "evidence": digest_of("feedback", feedback.id),
        "source_episodes": _sources((), feedback.episode_id),
        "source_feedback": _sources((), feedback.id),
        "source_traces": _sources((), feedback.trace_id),
        "induced_by": new.by,
        "guidance": json.dumps({"preference": new.preference, "anti_pattern": new.anti_pattern}, ensure_ascii=False),
        "verifier": _verifier(feedback),
        "skill_eligible": int(new.skill_eligible),
        "vec": None if new.vec is None else pack(new.vec),
        "provenance": new.provenance,
    }


def _verifier(feedback: Feedback) -> str:
    return json.dumps(feedback.raw.get("verdict", {}))


def _sources(known: tuple[str, ...], new: str | None) -> str:
    """Ids of what a policy comes of, with a new one, as JSON."""
    ids = [each for each in known if each != new]
    return json.dumps([*ids, *([] if new is None else [new])][-SOURCES_MAX:])
