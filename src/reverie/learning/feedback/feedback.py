"""Feedback: what people say of answers, with a button or in their next message.

Writing it down is all that anybody waits for. What follows from it is the job `feedback:{id}`, which is asked for in
the same transaction. A message is looked at by rules at once (`note_message`) and by a model later (`note_hidden`); it
is feedback only where the words are the owner's.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from reverie.errors import MessageKeyReusedError, RequestError
from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.feedback.rules import HARD_PREFERENCE, FeedbackGuess, Shape, classify, plain
from reverie.learning.feedback.targets import Place, Target, resolve, unknown
from reverie.learning.ids import content_id, digest_of
from reverie.learning.trail import note

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.config import LearningConfig
    from reverie.learning.records import Episode, Polarity
    from reverie.learning.said import SaidMessage
    from reverie.storage import Database, Row, Transaction
    from reverie.types import JsonObject, Provenance

STAGE = "feedback"
TEXT_CHARS_MAX = 4_000
"""Of what somebody says; the rest is left out."""
PAIR_CHARS_MAX = 400
KEY_CHARS_MAX = 200
REPLY_CHARS_MAX = 4_000
"""Of the reply that is judged, as the rules see it."""
SIGNIFICANT = 0.5
"""From this on something is done about it at once."""
TEXT_MAGNITUDE = 0.5
"""Of words without a judgement, which somebody took the trouble to write."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a program found that checked an answer: so many checks passed of so many; a `reward` of 1 is all of it.

    One without a check has a reward.
    """

    passed: int
    total: int
    reward: float | None = None

    @property
    def ok(self) -> bool:
        """Whether everything passed; where nothing was checked, whether all of the reward was given."""
        if self.total == 0:
            return self.reward is not None and self.reward >= 1
        return self.passed == self.total and (self.reward is None or self.reward >= 1)


@dataclass(frozen=True, slots=True)
class Submission:
    """Feedback as somebody gives it. Without a `polarity` it is what the verdict, or the text, says.

    The same `key` again is the same feedback. `magnitude` is 0 to 1.
    """

    target: Target
    polarity: Polarity | None = None
    magnitude: float | None = None
    text: str = ""
    prefer: str = ""
    avoid: str = ""
    verdict: Verdict | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A row of `feedback`. `magnitude` and `confidence` are 0 to 1; `seq` is the message that said it.

    `raw` has what belongs to no column: the verdict, the world model, what was done about it already.
    """

    id: str
    agent: str
    at_ms: int
    session_id: str | None
    turn_id: str | None
    task_id: str | None
    episode_id: str | None
    trace_id: str | None
    skill_id: str | None
    channel: Literal["explicit", "implicit"]
    polarity: Polarity
    magnitude: float
    confidence: float
    shape: Shape
    text: str
    prefer: str
    avoid: str
    seq: int | None
    classified_by: str
    provenance: Provenance
    raw: JsonObject = field(default_factory=dict[str, Any])

    @property
    def significance(self) -> float:
        """How much it weighs, 0 to 1: how strong it is, by how sure that is."""
        return self.magnitude * self.confidence

    @property
    def verdict(self) -> Verdict | None:
        """What a program found, if one was asked."""
        found = self.raw.get("verdict")
        return None if found is None else Verdict(found["passed"], found["total"], found["reward"])

    @property
    def world_model_id(self) -> str | None:
        """The world model it is about, if it is about one."""
        return self.raw.get("world_model")


class HiddenFeedback(Protocol):
    """What a model found in a message. Numbers are 0 to 1; a magnitude of 0 says that it is no feedback."""

    @property
    def polarity(self) -> Polarity:
        """Which way."""
        ...

    @property
    def magnitude(self) -> float:
        """How strongly."""
        ...

    @property
    def confidence(self) -> float:
        """How sure that is."""
        ...


def feedback_of(row: Row) -> Feedback:
    """A row of `feedback`."""
    given = {name: value for name, value in row.items() if name not in {"at", "raw", "history"}}
    return Feedback(**given, at_ms=row["at"], raw=json.loads(row["raw"]))


def decided(rule: FeedbackGuess, hidden: HiddenFeedback) -> tuple[FeedbackGuess | None, Literal["rule", "llm"]]:
    """What counts of what a rule and a model say, and who said it; None when the message is no feedback.

    A rule as sure as 0.8 wins. A model that finds nothing wins when it is surer than the rule.
    """
    if rule.confidence >= HARD_PREFERENCE:
        return rule, "rule"
    if hidden.magnitude <= 0:
        return (None, "llm") if hidden.confidence > rule.confidence else (rule, "rule")
    found = replace(
        rule,
        polarity=hidden.polarity,
        magnitude=_clamped(hidden.magnitude),
        confidence=_clamped(hidden.confidence),
        reason="model",
    )
    return found, "llm"


class Feedbacks:
    """Takes feedback in. Each method writes the row and asks for its job in one transaction."""

    def __init__(self, database: Database, clock: Clock, config: LearningConfig) -> None:
        self._database = database
        self._clock = clock
        self._config = config

    async def submit(self, submission: Submission, *, agent: str | None = None) -> Feedback:
        """Write down what somebody says of something; it returns when that is on disk, and before anything follows.

        `agent`, when given, is whose things it may be about.

        Raises:
            UnknownFeedbackTargetError: there is nothing of that id; nothing was written.
            MessageKeyReusedError: the key stands for other feedback; nothing was written.
            RequestError: it says nothing, or a number is out of range; nothing was written.
        """
        _refuse_nonsense(submission)
        now_ms = self._clock.now_ms()
        return await self._database.write(lambda tx: self._submit(tx, submission, agent, now_ms))

    def note_message(
        self,
        tx: Transaction,
        message: SaidMessage,
        episode: Episode,
        now_ms: int,
        *,
        previous_reply: str | None = None,
        hidden: HiddenFeedback | None = None,
    ) -> Feedback | None:
        """Look for feedback in a user's message, on the reply before it, which stands in `episode`.

        Rules judge it, and with `hidden` a model has, too. `previous_reply` is looked up when it is not given. None
        when it says nothing of the reply, or too little, or is not the owner's.
        """
        if self._config.mode != "full" or message.role != "user" or message.whose != "owner":
            return None
        before = tx.row("answer_before", session_id=episode.session_id, seq=message.seq, chars=REPLY_CHARS_MAX)
        if previous_reply is None:
            previous_reply = "" if before is None else before["text"]
        rule = classify(message.text, previous_reply)
        guess, by = (rule, "rule") if hidden is None else decided(rule, hidden)
        known = tx.row("find_feedback", id=_implicit_id(episode.session_id, message.seq))
        if guess is None or min(guess.magnitude, guess.confidence) < self._config.reward.implicit_threshold:
            self._drop(tx, known, rule, guess, message, episode, now_ms)
            return None
        given = _implicit(message, episode, guess, by, now_ms, turn_id=None if before is None else before["turn_id"])
        return self._keep(tx, given, known, now_ms)

    def note_hidden(
        self, tx: Transaction, message: SaidMessage, episode: Episode, hidden: HiddenFeedback, now_ms: int
    ) -> Feedback | None:
        """What a model found in a message that the rules have seen already; the one row of that message is changed.

        A rule as sure as 0.8 stands; a model that is surer than a weaker rule that there is no feedback takes it back.
        """
        return self.note_message(tx, message, episode, now_ms, hidden=hidden)

    def _submit(self, tx: Transaction, submission: Submission, agent: str | None, now_ms: int) -> Feedback:
        place = resolve(tx, submission.target)
        if agent is not None and place.agent != agent:
            raise unknown(submission.target)
        given = _explicit(tx, submission, place, now_ms)
        known = tx.row("find_feedback", id=given.id)
        if known is None:
            return self._keep(tx, given, None, now_ms)
        before = feedback_of(known)
        if before.raw.get("said") != given.raw["said"]:
            raise MessageKeyReusedError(f"the key {submission.key!r} stands for other feedback: {given.id}")
        return before

    def _keep(self, tx: Transaction, given: Feedback, known: Row | None, now_ms: int) -> Feedback:
        """Write feedback, or what is new of it, and ask for its job where something is to be done about it."""
        if known is None:
            tx.execute("insert_feedback", **_row_of(given))
        elif given.classified_by == "llm":
            tx.execute(
                "judge_feedback_again",
                id=given.id,
                polarity=given.polarity,
                magnitude=given.magnitude,
                confidence=given.confidence,
            )
        significant = given.channel == "explicit" or given.significance >= SIGNIFICANT
        if significant and self._config.mode == "full":
            ask_for(tx, _request(given), now_ms)
        kept = tx.row("find_feedback", id=given.id)
        assert kept is not None, "it was written just now"
        return feedback_of(kept)

    def _drop(
        self,
        tx: Transaction,
        known: Row | None,
        rule: FeedbackGuess,
        guess: FeedbackGuess | None,
        message: SaidMessage,
        episode: Episode,
        now_ms: int,
    ) -> None:
        """Take back what is no feedback after all, and say of what a rule found why it is none."""
        if known is not None:
            tx.execute("delete_feedback", id=known["id"])
        elif rule.shape == "unknown":
            return
        note(
            tx,
            now_ms,
            agent=episode.agent,
            stage=STAGE,
            outcome="skipped",
            reason="no_feedback" if guess is None else "below_threshold",
            ref=_implicit_id(episode.session_id, message.seq),
            task_id=episode.task_id,
            episode_id=episode.id,
        )


def _request(feedback: Feedback) -> JobRequest:
    return JobRequest(
        kind="feedback",
        key=f"feedback:{feedback.id}",
        lane="interactive",
        payload={"feedback_id": feedback.id},
        agent=feedback.agent,
        episode_id=feedback.episode_id,
        task_id=feedback.task_id,
    )


def _refuse_nonsense(submission: Submission) -> None:
    magnitude, key, verdict = submission.magnitude, submission.key, submission.verdict
    if magnitude is not None and not 0 <= magnitude <= 1:  # a NaN is in no range
        raise RequestError(f"magnitude is {magnitude}: it is a number from 0 to 1", param="magnitude")
    if key is not None and not 0 < len(key) <= KEY_CHARS_MAX:
        raise RequestError(f"a key for feedback has 1 to {KEY_CHARS_MAX} characters", param="key")
    if verdict is not None and not 0 <= verdict.passed <= verdict.total:
        raise RequestError(f"{verdict.passed} of {verdict.total} checks cannot have passed", param="verdict")
    if verdict is not None and verdict.total == 0 and verdict.reward is None:
        raise RequestError("a verdict says nothing without a check or a reward", param="verdict")
    if verdict is not None and verdict.reward is not None and not math.isfinite(verdict.reward):
        raise RequestError("the reward of a verdict is a number", param="verdict")
    words = submission.text.strip() or submission.prefer.strip() or submission.avoid.strip()
    if submission.polarity is None and verdict is None and not words:
        raise RequestError("feedback says nothing: give a polarity, a verdict or a text", param="polarity")


def _explicit(tx: Transaction, submission: Submission, place: Place, now_ms: int) -> Feedback:
    said = digest_of(submission.target.kind, submission.target.id, *_words(submission))
    named = ("key", submission.key) if submission.key is not None else (said, now_ms)
    guess = _text_says(tx, submission, place)
    verdict = submission.verdict
    raw: JsonObject = {"said": said}
    if verdict is not None:
        raw["verdict"] = {"passed": verdict.passed, "total": verdict.total, "reward": verdict.reward}
    if place.world_model_id is not None:
        raw["world_model"] = place.world_model_id
    return Feedback(
        id=content_id("fb", place.agent, *named),
        agent=place.agent,
        at_ms=now_ms,
        session_id=place.session_id,
        turn_id=place.turn_id,
        task_id=place.task_id,
        episode_id=place.episode_id,
        trace_id=place.trace_id,
        skill_id=place.skill_id,
        channel="explicit",
        polarity=_polarity(submission, guess),
        magnitude=_magnitude(submission, guess),
        confidence=1.0,
        shape=guess.shape,
        text=submission.text.strip()[:TEXT_CHARS_MAX],
        prefer=(submission.prefer.strip() or guess.prefer)[:PAIR_CHARS_MAX],
        avoid=(submission.avoid.strip() or guess.avoid)[:PAIR_CHARS_MAX],
        seq=None,
        classified_by="person" if verdict is None else "verifier",
        provenance="owner",
        raw=raw,
    )


def _text_says(tx: Transaction, submission: Submission, place: Place) -> FeedbackGuess:
    reply = None
    if place.session_id is not None and place.seq is not None:
        reply = tx.value("text_of_entry", session_id=place.session_id, seq=place.seq, chars=REPLY_CHARS_MAX)
    guess = classify(submission.text, reply or None)
    if submission.prefer.strip() or submission.avoid.strip():
        return replace(guess, shape="preference")
    return guess


def _words(submission: Submission) -> tuple[object, ...]:
    verdict = submission.verdict
    return (
        submission.polarity,
        submission.magnitude,
        submission.text,
        submission.prefer,
        submission.avoid,
        None if verdict is None else (verdict.passed, verdict.total, verdict.reward),
    )


def _polarity(submission: Submission, guess: FeedbackGuess) -> Polarity:
    if submission.polarity is not None:
        return submission.polarity
    if submission.verdict is not None:
        return "positive" if submission.verdict.ok else "negative"
    return guess.polarity


def _magnitude(submission: Submission, guess: FeedbackGuess) -> float:
    if submission.magnitude is not None:
        return submission.magnitude
    judged = submission.polarity is not None or submission.verdict is not None
    return 1.0 if judged else max(guess.magnitude, TEXT_MAGNITUDE)


def _implicit_id(session_id: str, seq: int) -> str:
    return content_id("fb", session_id, seq)


def _implicit(
    message: SaidMessage, episode: Episode, guess: FeedbackGuess, by: str, now_ms: int, *, turn_id: str | None
) -> Feedback:
    return Feedback(
        id=_implicit_id(episode.session_id, message.seq),
        agent=episode.agent,
        at_ms=now_ms,
        session_id=episode.session_id,
        turn_id=turn_id,
        task_id=episode.task_id,
        episode_id=episode.id,
        trace_id=None,
        skill_id=None,
        channel="implicit",
        polarity=guess.polarity,
        magnitude=guess.magnitude,
        confidence=guess.confidence,
        shape=guess.shape,
        text=plain(message.text)[:TEXT_CHARS_MAX],
        prefer=guess.prefer[:PAIR_CHARS_MAX],
        avoid=guess.avoid[:PAIR_CHARS_MAX],
        seq=message.seq,
        classified_by=by,
        provenance=message.whose,
        raw={"rule": guess.reason},
    )


def _row_of(feedback: Feedback) -> JsonObject:
    names = [name for name in Feedback.__dataclass_fields__ if name not in {"at_ms", "raw"}]
    row: JsonObject = {name: getattr(feedback, name) for name in names}
    return {**row, "at": feedback.at_ms, "raw": json.dumps(feedback.raw, ensure_ascii=False, sort_keys=True)}


def _clamped(number: float) -> float:
    return min(1.0, max(0.0, number)) if math.isfinite(number) else 0.0
