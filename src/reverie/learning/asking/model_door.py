"""The only way by which learning calls a model.

    known answer      the journal: nothing is paid for twice, also when two jobs ask the same at the same time
    the server        paused, or refusing us: later
    turns             go first: looked at before a place is had, and again when it is
    a place           one of `background_llm_concurrency`, over all processes
    the budget        the call is set aside, or waits for the next hour or day
    the call          of an idle job, broken off when a turn begins
    the answer        read, repaired, checked; one second try that says what was wrong

Waiting for a turn or a place is not part of a call's time.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel

from reverie.context.fence import quoted
from reverie.errors import (
    AnswerRefusedError,
    JobDeferredError,
    JobError,
    JobHopelessError,
    JobPutBackError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
)
from reverie.jobs.forgotten import PUT_BACK
from reverie.learning.asking.answers import ANSWER_CHARS_MAX, Usable, read_answer
from reverie.learning.asking.compliance import Compliance, operation_of
from reverie.learning.asking.journal import Call, CallJournal, Ending
from reverie.learning.asking.provider import is_trouble
from reverie.llm.client import Completed, ModelRequest, TextDelta
from reverie.llm.tokens import raw_message_tokens, raw_tokens
from reverie.llm.upstream_failures import may_be_about_request_form
from reverie.types import Message, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from reverie.clock import Clock
    from reverie.config import LearningConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Question
    from reverie.learning.asking.foreground import Foreground
    from reverie.learning.asking.journal import Reservation
    from reverie.learning.asking.permits import Permits
    from reverie.learning.asking.provider import Provider
    from reverie.learning.asking.storm_alarm import StormAlarm
    from reverie.llm.client import Model
    from reverie.storage.database import Database

    Place = Callable[[Job], AbstractAsyncContextManager[None]]

T = TypeVar("T", bound=BaseModel)

ESTIMATE_FACTOR_MAX = 10
"""A server that counts more than so many times what is estimated is not believed."""
HIDDEN_TOKENS_MAX = 100_000
"""A model may think so much without showing it."""
SHOWN_AGAIN_CHARS_MAX = 4_000
"""What a model is shown of its first answer, for its second try."""
ANSWER_NOW = "Answer with the JSON object now, and with nothing else."
CORRECTION = "That answer cannot be used: {wrong}. " + ANSWER_NOW
QUIET_WITHIN_S = 1.0
"""A job that finds a turn waits so long at its place; then it is put back, so that others may begin."""
_FENCE = re.compile(r"<(/?)(evidence)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Unusable:
    """An answer that was not what was asked for, and why. `new`: it was given just now."""

    text: str
    wrong: str
    new: bool


@dataclass(frozen=True, slots=True)
class _Said:
    """What a model said, and what that took."""

    text: str
    usage: Usage


class _NotSentError(JobPutBackError):
    """A turn began before the call was made."""


class ModelDoor:
    """An `Asks` on the model of the app. One object serves the whole process; it belongs to one event loop.

    Without a model it is not available. `provider`, `permits`, `foreground` and `alarm` are shared with
    whoever else uses them.
    """

    def __init__(
        self,
        model: Model | None,
        database: Database,
        clock: Clock,
        config: LearningConfig,
        *,
        provider: Provider,
        permits: Permits,
        foreground: Foreground,
        alarm: StormAlarm,
    ) -> None:
        self._model = model
        self._clock = clock
        self._config = config
        self._provider = provider
        self._permits = permits
        self._foreground = foreground
        self._alarm = alarm
        self._journal = CallJournal(database, clock, config.budget)
        self._compliance = Compliance(clock, config.jobs.pause_s)
        self._takes_json_mode = True
        self._finishing: set[asyncio.Task[None]] = set()
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by call, while anybody asks it

    @property
    def available(self) -> bool:
        """False when there is no model to ask."""
        return self._model is not None

    def rests(self, op: str) -> bool:
        """Whether an operation would be deferred now: the budget of all is used up, or its answers are of no use.

        A server that asked for a pause is not looked at.
        """
        return self._clock.now_ms() < self._journal.spent_until_ms or self._compliance.rests(op)

    async def ask(self, question: Question[T], job: Job) -> T:
        """As `Asks.ask`.

        Raises:
            JobDeferredError: the budget, or the server, says later; nothing was spent.
            JobPutBackError: it gave way to a turn, or something was forgotten meanwhile.
            JobHopelessError: there is no model.
            AnswerRefusedError: twice the answer was not what was asked for. The same question is not asked again.
            EpisodeSpentError: its episode has had all its calls.
            UpstreamError: the call failed.
        """
        return await self._ask(question, job, self._in_turn)

    async def ask_now(self, question: Question[T], job: Job, timeout_ms: int) -> T:
        """As `ask`, at once and beside turns, without a place: for what has a deadline. The budget applies.

        Raises:
            TimeoutError: there was no answer in time; the call was broken off.
            JobDeferredError, JobHopelessError, AnswerRefusedError, UpstreamError: as `ask`.
        """
        async with asyncio.timeout(timeout_ms / 1_000):
            return await self._ask(question, job, _at_once)

    def at_once(self, timeout_ms: int) -> AsksAtOnce:
        """An `Asks` whose every question is asked by `ask_now`, with this deadline."""
        return AsksAtOnce(self, timeout_ms)

    async def _ask(self, question: Question[T], job: Job, place: Place) -> T:
        call = Call(question, job, self._provider.name)
        op = operation_of(question.prompt.id)
        answer = await self._tried(question, call, None, place)
        if isinstance(answer, _Unusable):
            answer = await self._tried(question, replace(call, number=2), answer, place)
        if isinstance(answer, Usable):
            self._compliance.complied(op)
            return answer.value
        if answer.new:
            self._compliance.refused(op, answer.wrong)
        raise AnswerRefusedError(question.prompt.id, answer.wrong)

    async def _tried(
        self, question: Question[T], call: Call, before: _Unusable | None, place: Place
    ) -> Usable[T] | _Unusable:
        """One try: the answer that is known, or the one of a call. Who asks the same meanwhile waits for that."""
        asking = self._asking.setdefault(call.key, asyncio.Lock())
        async with asking:
            text = await self._journal.answer(call)
            known = text is not None
            if text is None:
                self._compliance.admit(operation_of(question.prompt.id))
                async with place(call.job):
                    text = await self._made(call, _messages(question, before))
        answer = await read_answer(question, text)
        if isinstance(answer, Usable):
            return answer
        if not known:
            await self._journal.note_wrong(call, answer.wrong)
        return _Unusable(text, answer.wrong, new=not known)

    # -- a place in the line -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _in_turn(self, job: Job) -> AsyncGenerator[None]:
        """A place, had while no turn runs that goes first."""
        gives_way = job.lane != "interactive" and not job.aged
        async with AsyncExitStack() as held:
            while True:
                paused = await self._provider.paused()
                if paused is not None:
                    raise JobDeferredError(paused.until_ms, paused.reason, all_until_ms=paused.until_ms)
                if gives_way:
                    await self._foreground.quiet(QUIET_WITHIN_S)
                await held.enter_async_context(self._permits.hold())
                if not (gives_way and self._foreground.busy):
                    break
                await held.aclose()
            yield

    # -- one call ------------------------------------------------------------------------------------------------

    async def _made(self, call: Call, messages: tuple[Message, ...]) -> str:
        """What the model says, called within the budget."""
        if self._model is None:
            raise JobHopelessError("there is no model to ask")
        await self._provider.admit()
        asked_at_ms = self._clock.now_ms()
        tokens_in = sum(map(raw_message_tokens, messages))
        try:
            reservation = await self._journal.reserve(call, tokens_in, call.question.max_tokens)
        except JobError:
            await self._provider.abandoned(asked_at_ms)
            raise
        try:
            said = await self._said(self._model, call, messages)
        except UpstreamError as error:
            await self._failed(reservation, error, asked_at_ms)
            raise
        except _NotSentError:
            await self._finish(self._not_sent(reservation, asked_at_ms))
            raise
        except (JobPutBackError, asyncio.CancelledError):
            await self._finish(self._broken_off(reservation, asked_at_ms))
            raise
        await self._finish(self._answered(reservation, said, asked_at_ms))
        return said.text

    async def _said(self, model: Model, call: Call, messages: tuple[Message, ...]) -> _Said:
        """Call the model, for at most `model_timeout_s`; an idle job's call gives way to turns.

        Raises:
            JobPutBackError: it gave way, or did not begin because a turn has just done so.
            UpstreamError: the call failed, or took too long.
        """
        async with AsyncExitStack() as limits:
            if call.job.lane == "idle" and not call.job.aged:
                if self._foreground.busy:
                    raise _NotSentError("a turn runs")
                await limits.enter_async_context(self._foreground.giving_way())
            self._alarm.call_made()
            try:
                async with asyncio.timeout(self._config.model_timeout_s):
                    return await self._in_some_form(model, call.question, messages)
            except TimeoutError:
                told = f"the model gave no answer within {self._config.model_timeout_s:g} s"
                raise UpstreamTimeoutError(told) from None
        raise AssertionError("the block returns or raises")

    async def _in_some_form(self, model: Model, question: Question[T], messages: tuple[Message, ...]) -> _Said:
        """Ask for JSON by the server's own means, and without them where it has none."""
        try:
            return await _call(model, self._request(question, messages))
        except UpstreamRefusedError as refusal:
            names_it = "response_format" in str(refusal) or "json" in str(refusal).lower()
            if not (self._takes_json_mode and names_it and may_be_about_request_form(refusal)):
                raise
        self._takes_json_mode = False
        return await _call(model, self._request(question, messages))

    def _request(self, question: Question[T], messages: tuple[Message, ...]) -> ModelRequest:
        sampling = {"temperature": question.temperature, "max_tokens": question.max_tokens}
        form = {"response_format": {"type": "json_object"}} if self._takes_json_mode else {}
        return ModelRequest(
            messages, sampling={**sampling, **form}, model_override=self._config.model, stream=False, lane="background"
        )

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Have what became of a call written down, also when whoever asked is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        await asyncio.shield(task)

    # -- how it ended --------------------------------------------------------------------------------------------

    async def _answered(self, reservation: Reservation, said: _Said, asked_at_ms: int) -> None:
        """Keep an answer.

        Raises:
            JobPutBackError: something was forgotten since the run began, and the answer may quote it.
        """
        usage = said.usage
        kept = await self._journal.settle(
            reservation, Ending("answered", usage.prompt_tokens, usage.completion_tokens, said.text)
        )  # fmt: skip
        await self._provider.answered(asked_at_ms)
        if not kept:
            raise JobPutBackError(PUT_BACK)

    async def _failed(self, reservation: Reservation, error: UpstreamError, asked_at_ms: int) -> None:
        """Take note of a failure. What the server refused took nothing; else it has read what it was sent.

        What it did not take at all, for a rate or a bill or because it was not there, was no call.

        Raises:
            JobDeferredError: it is the server's, and until when nothing is to be asked.
        """
        tokens_in = 0 if isinstance(error, UpstreamRefusedError) else reservation.tokens_in
        try:
            await self._provider.failed(error, asked_at_ms)
        except JobDeferredError:
            took = is_trouble(error)
            ending = Ending("failed", tokens_in if took else 0, error=str(error), counts=took)
            await self._journal.settle(reservation, ending)
            raise
        await self._journal.settle(reservation, Ending("failed", tokens_in, error=str(error)))

    async def _broken_off(self, reservation: Reservation, asked_at_ms: int) -> None:
        """A call that was left before its end: the server has read what it was sent."""
        await self._journal.settle(reservation, Ending("cancelled", reservation.tokens_in))
        await self._provider.abandoned(asked_at_ms)

    async def _not_sent(self, reservation: Reservation, asked_at_ms: int) -> None:
        """A call that was not made after all: it takes nothing."""
        await self._journal.settle(reservation, Ending("cancelled", counts=False))
        await self._provider.abandoned(asked_at_ms)


@dataclass(frozen=True, slots=True)
class AsksAtOnce:
    """A door for a stage that has a deadline, such as deciding what a message belongs to."""

    door: ModelDoor
    timeout_ms: int

    @property
    def available(self) -> bool:
        """As `ModelDoor.available`."""
        return self.door.available

    async def ask(self, question: Question[T], job: Job) -> T:
        """As `ModelDoor.ask_now`.

        Raises:
            TimeoutError: there was no answer in time.
            JobDeferredError, JobHopelessError, AnswerRefusedError, UpstreamError: as `ModelDoor.ask`.
        """
        return await self.door.ask_now(question, job, self.timeout_ms)


@asynccontextmanager
async def _at_once(_job: Job) -> AsyncGenerator[None]:
    """No place and no waiting."""
    yield


def _messages(question: Question[T], before: _Unusable | None) -> tuple[Message, ...]:
    """What the model is told: our instructions, then the data in a fence that cannot be closed from inside."""
    shown = _FENCE.sub(r"<\1 \2", quoted(question.text))
    asked = (
        Message("system", question.prompt.instructions),
        Message("user", f"<evidence>\n{shown}\n</evidence>\n\n{ANSWER_NOW}"),
    )
    if before is None:
        return asked
    return (
        *asked,
        Message("assistant", before.text[:SHOWN_AGAIN_CHARS_MAX]),
        Message("user", CORRECTION.format(wrong=before.wrong)),
    )


async def _call(model: Model, request: ModelRequest) -> _Said:
    """One call. What the server does not count is estimated."""
    parts: list[str] = []
    read = 0
    usage: Usage | None = None
    async for event in model.respond(request):
        if isinstance(event, TextDelta) and read < ANSWER_CHARS_MAX:
            parts.append(event.text)
            read += len(event.text)
        elif isinstance(event, Completed):
            usage = event.usage
    text = "".join(parts)[:ANSWER_CHARS_MAX]
    estimate = Usage(sum(map(raw_message_tokens, request.messages)), raw_tokens(text))
    return _Said(text, believable(usage, estimate))


def believable(usage: Usage | None, estimate: Usage) -> Usage:
    """What a call took: as the server counts, unless it counts nothing, or far more than there can be."""
    told_in, told_out = (usage.prompt_tokens, usage.completion_tokens) if usage is not None else (0, 0)
    return Usage(
        _believed(told_in, estimate.prompt_tokens), _believed(told_out, estimate.completion_tokens, HIDDEN_TOKENS_MAX)
    )


def _believed(told: int, estimated: int, beside: int = 0) -> int:
    return told if 0 < told <= ESTIMATE_FACTOR_MAX * estimated + beside else estimated
