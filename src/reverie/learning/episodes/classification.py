"""Asking a model what a message is about: one call for relation, intent and what it says of the last reply.

All of it has to be answered within one deadline. A new task the model is not sure of gets a second opinion, within
what is left of that deadline. An answer that is late is `new_task` (`relation.LATE`) until it is decided again
(`redecision.py`); one that fails, or may not be asked for, leaves what the rules said.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol, TypeVar

import structlog
from pydantic import BaseModel, BeforeValidator

from reverie.errors import (
    AnswerRefusedError,
    JobDeferredError,
    JobHopelessError,
    UpstreamError,
    UpstreamTimeoutError,
)
from reverie.learning.asking.asks import Question
from reverie.learning.episodes.decision import Decision, HiddenFeedback
from reverie.learning.episodes.intent import Intent, IntentKind
from reverie.learning.episodes.relation import LATE, Relation, Verdict
from reverie.llm.prompt_files import read_prompt

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.jobs.request import Job
    from reverie.learning.episodes.episodes import Episodes, Undecided
    from reverie.llm.prompt_files import Prompt
    from reverie.storage import Database
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=BaseModel)

ARBITRATE_BELOW: Final = 0.8
DISAGREED: Final = Verdict("follow_up", 0.55, "llm", "arbitrated")
NOT_ARBITRATED: Final = Verdict("follow_up", 0.5, "llm", "arbitration_failed")
USER_CHARS, REPLY_CHARS, TEXT_CHARS = 800, 1_500, 800
"""Of what a model is shown."""
ANSWER_TOKENS: Final = 256
MS_PER_S: Final = 1_000
MS_PER_MINUTE: Final = 60_000


def _within_one(value: object) -> float:
    number = float(str(value))
    return 0.0 if math.isnan(number) else min(1.0, max(0.0, number))


Share = Annotated[float, BeforeValidator(_within_one)]
"""A number from 0 to 1; what is beyond is brought to the nearer end."""


class TurnAnswer(BaseModel):
    """What `turn.classify` answers."""

    relation: Relation
    relation_confidence: Share
    intent: IntentKind = "unknown"
    intent_confidence: Share = 0.0
    feedback: Literal["none", "neutral", "positive", "negative", "mixed"] = "none"
    feedback_magnitude: Share = 0.0
    feedback_confidence: Share = 0.0
    reason: str = ""


class ArbitrateAnswer(BaseModel):
    """What `turn.arbitrate` answers."""

    verdict: Literal["same", "new"]
    confidence: Share = 0.5


class AsksNow(Protocol):
    """Something that has a model answer within a deadline."""

    @property
    def available(self) -> bool:
        """False when there is no model to ask."""
        ...

    async def ask_now(self, question: Question[T], job: Job, timeout_ms: int) -> T:
        """The model's answer, within so many milliseconds; the call is given up at the deadline.

        Raises:
            TimeoutError: there was none in time.
            JobDeferredError: the budget, or the server, says later; nothing was spent.
            JobPutBackError: it gave way to a turn.
            JobHopelessError: there is no model.
            AnswerRefusedError: twice the answer was not what was asked for.
            UpstreamError: the call failed.
        """
        ...


class Ask(Protocol):
    """One question of a decision; raises as `AsksNow.ask_now`."""

    async def __call__(self, question: Question[T]) -> T:
        """The model's answer."""
        ...


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a model is told for a decision."""

    classify: Prompt
    arbitrate: Prompt


async def read_prompts() -> Prompts:
    """The prompts of a decision, read on a worker thread."""
    names = ("turn.classify", "turn.arbitrate")
    return Prompts(*[await asyncio.to_thread(read_prompt, "reverie.learning", name) for name in names])


async def decide(undecided: Undecided, prompts: Prompts, ask: Ask) -> Decision:
    """What a message is about, by one question and, for a new task that is not sure, a second one.

    Raises:
        TimeoutError: the second opinion came too late, or the first.
        ReverieError: as `AsksNow.ask_now`; but a second opinion that fails is none.
    """
    text = shown(undecided)
    answer = await ask(Question(prompts.classify, text, TurnAnswer, max_tokens=ANSWER_TOKENS))
    verdict = Verdict(answer.relation, answer.relation_confidence, "llm", "classified")
    if verdict.relation == "new_task" and verdict.confidence < ARBITRATE_BELOW:
        verdict = await _arbitrated(verdict, text, prompts, ask)
    return Decision(
        verdict,
        Intent(answer.intent, answer.intent_confidence, "classified", "llm"),
        _hidden(answer),
    )


def _hidden(answer: TurnAnswer) -> HiddenFeedback:
    """What an answer says of the last reply. That it is nothing counts as well: a rule may have found something."""
    if answer.feedback == "none":
        return HiddenFeedback("neutral", 0.0, answer.feedback_confidence)
    return HiddenFeedback(answer.feedback, answer.feedback_magnitude, answer.feedback_confidence)


async def _arbitrated(verdict: Verdict, text: str, prompts: Prompts, ask: Ask) -> Verdict:
    try:
        second = await ask(Question(prompts.arbitrate, text, ArbitrateAnswer, max_tokens=ANSWER_TOKENS))
    except UpstreamTimeoutError:
        raise
    except (AnswerRefusedError, JobDeferredError, JobHopelessError, UpstreamError):
        return NOT_ARBITRATED
    return DISAGREED if second.verdict == "same" else verdict


def shown(undecided: Undecided) -> str:
    """What a model is shown of a message, as JSON: bounded, and data."""
    asked = undecided.asked
    return json.dumps(
        {
            "previous_user": asked.previous_user[:USER_CHARS],
            "previous_reply": asked.previous_reply[:REPLY_CHARS],
            "minutes_between": None if asked.gap_ms is None else asked.gap_ms // MS_PER_MINUTE,
            "message": asked.text[:TEXT_CHARS],
        },
        ensure_ascii=False,
    )


class RelationJob:
    """Does `classify` jobs: decides where a user's message belongs, within `classify_timeout_ms`."""

    def __init__(self, database: Database, clock: Clock, episodes: Episodes, asks: AsksNow) -> None:
        self._database = database
        self._clock = clock
        self._episodes = episodes
        self._asks = asks
        self._timeout_s = episodes.config.session.classify_timeout_ms / MS_PER_S

    async def handle(self, job: Job) -> JsonObject:
        """Ask, and put the message where it belongs; whatever comes after the deadline changes nothing.

        Raises:
            JobPutBackError: it gave way to a turn.
        """
        session_id, seq = job.payload["session_id"], job.payload["seq"]
        undecided = await self._database.read(lambda tx: self._episodes.undecided(tx, session_id, seq))
        if undecided is None or undecided.late:
            return {"skipped": "decided"}
        if self._episodes.config.mode != "full" or not self._asks.available:
            decision, why = None, "lightweight" if self._asks.available else "no_model"
        else:
            decision, why = await self._decision(undecided, job)
        await self._episodes.write(
            self._database, session_id, lambda tx: self._episodes.decide(tx, undecided, decision, self._clock.now_ms())
        )
        return {"decided": why} if decision is None else {"decided": why, **asdict(decision.verdict)}

    async def _decision(self, undecided: Undecided, job: Job) -> tuple[Decision | None, str]:
        """What the model says in time, or that it was late; None where the rules' word stands, and why."""
        prompts = await read_prompts()
        began_s = self._clock.monotonic_s()
        ends_s = began_s + self._timeout_s

        async def ask(question: Question[T]) -> T:
            left_ms = round((ends_s - self._clock.monotonic_s()) * MS_PER_S)
            if left_ms <= 0:
                raise TimeoutError
            async with asyncio.timeout(left_ms / MS_PER_S):
                return await self._asks.ask_now(question, job, left_ms)

        try:
            decision, why = await decide(undecided, prompts, ask), "answered"
        except (TimeoutError, UpstreamTimeoutError):
            log.warning("relation.classify_timeout", session=undecided.session_id, seq=undecided.seq, job=job.key)
            decision, why = Decision(LATE), "late"
        except JobDeferredError as error:
            return None, error.reason
        except (AnswerRefusedError, JobHopelessError, UpstreamError) as error:
            log.warning("relation.classify_failed", session=undecided.session_id, seq=undecided.seq, cause=str(error))
            return None, "failed"
        took_ms = round((self._clock.monotonic_s() - began_s) * MS_PER_S)
        return Decision(decision.verdict, decision.intent, decision.hidden, took_ms), why
