"""One turn's prompt, made to fit: what its context engine shows, within the frame that is Reverie's own.

Where history must leave the prompt, the engine compacts: the built-in one lets a summary stand for what leaves.
Nothing leaves before its extract is in memory, unless memory cannot be written: then it leaves the view all the same,
stays in the transcript, and is taken up by the next compaction. Where another engine fails, the turn goes on with the
built-in one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import structlog

from reverie.agent.overflow import history_tokens, last_to_go
from reverie.context.contract import BUILT_IN, AfterTurnRequest, AssembleRequest, CompactRequest, EngineSession
from reverie.context.engine import PrefixState, as_engine_messages, composed, framed
from reverie.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reverie.agent.compaction import Compactor
    from reverie.agent.loop_guard import LoopGuard
    from reverie.agent.runtimes.chat import Reply
    from reverie.context.compaction.budget import Load
    from reverie.context.contract import Assembled, EngineMessage
    from reverie.context.engine import Frame, Inputs, Limits
    from reverie.context.fragments import Fragment
    from reverie.engines.engine import Engine
    from reverie.llm.tokens import TokenEstimator
    from reverie.sessions.compactions import StandingSummary
    from reverie.sessions.transcript import Session
    from reverie.sessions.turns import TurnStore
    from reverie.types import PromptContext

log = structlog.get_logger(__name__)

TOO_LARGE = "the model's server found the prompt too large"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an engine is told of the turn beside its conversation."""

    citations: Literal["auto", "on", "off"] = "auto"
    model: str = ""
    compacted: bool = False


@dataclass(frozen=True, slots=True)
class _Fit:
    """A prompt and how it came about: the frame, what the engine shows in it, and the room that it had."""

    frame: Frame
    view: Assembled
    context: PromptContext
    room: int
    is_ours: bool

    @property
    def exceeds(self) -> bool:
        """Whether an engine of others shows more than there is room for. Ours never does."""
        return not self.is_ours and self.view.estimated_tokens > self.room

    @property
    def may_exceed(self) -> bool:
        """As `exceeds`; for an engine that says so, also when the whole history would."""
        whole = sum(each.estimated_tokens for each in self.frame.history)
        asks = self.view.prompt_authority == "preassembly_may_overflow"
        return self.exceeds or (not self.is_ours and asks and whole > self.room)


class Fitting:
    """The prompt of one turn and what it was made of. `limits` are asked for anew each time: a window may shrink.

    `best_fragments` take the place of those in `inputs` where the prefix changes anyway.
    """

    def __init__(
        self,
        session: Session,
        inputs: Inputs,
        *,
        best_fragments: tuple[Fragment, ...],
        engine: Engine,
        asked: Asked,
        turns: TurnStore,
        compactor: Compactor,
        estimator: TokenEstimator,
        limits: Callable[[], Limits],
        guard: LoopGuard,
    ) -> None:
        self._session = session
        self._key = EngineSession(session.id, session.key, session.agent)
        self._inputs = inputs
        self._best_fragments = best_fragments
        self._state = PrefixState(
            session.epoch, session.epoch_reason, session.prefix_fingerprints, session.history_start
        )
        self._chosen = self._engine = engine
        self._asked = asked
        self._turns = turns
        self._compactor = compactor
        self._estimator = estimator
        self._limits = limits
        self._history: tuple[EngineMessage, ...] = ()
        self.guard = guard

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """What plugins add to it, each with the plugin's name."""
        return self._inputs.notes

    @property
    def summary(self) -> StandingSummary | None:
        """What stands for the conversation before the history in the prompt."""
        return self._inputs.summary

    async def assemble(self) -> PromptContext:
        """The prompt. Where it has no room for what is to be shown, the engine compacts.

        Raises:
            ContextTooLongError: the prefix and the new message alone exceed the model's window.
            StorageError: what it begins with could not be recorded.
        """
        fit = await self._fit()
        if fit.context.epoch != self._state.epoch and self._inputs.fragments != self._best_fragments:
            self._inputs = replace(self._inputs, fragments=self._best_fragments)
            fit = await self._fit()
        leaving = fit.context.history_start - 1
        leaves = fit.is_ours and leaving >= self._state.history_start
        if (leaves or fit.may_exceed) and await self._compacted(
            "preflight", fit.context, fit.room, leaving_seq=leaving if leaves else None
        ):
            fit = await self._fit()
        if fit.exceeds:
            self._fall_back("it shows more than there is room for")
            return await self.assemble()
        return await self._recorded(fit.context)

    async def leave_out(self, tokens_max: int, context: PromptContext) -> PromptContext | None:
        """The prompt with at most `tokens_max` tokens of history; None when nothing of the history can go.

        Raises:
            ContextTooLongError: the prefix and the new message alone exceed the window, as far as it is known now.
            StorageError: what it begins with could not be recorded.
        """
        if not self._is_ours:
            await self._compacted("overflow", context, tokens_max)
            fit = await self._fit(tokens_max)
            if not (fit.is_ours or fit.exceeds) and history_tokens(fit.context) < history_tokens(context):
                return await self._recorded(fit.context)
            self._fall_back("it cannot show less")
            ours = (await self._fit()).context
            if history_tokens(ours) <= tokens_max < history_tokens(context):
                return await self._recorded(ours)
            context = ours
        return await self._left_out(tokens_max, context)

    def turn_ended(self, answered: Sequence[EngineMessage], context: PromptContext, reply: Reply, load: Load) -> None:
        """The turn is on disk, with these messages as its answer: the engine is told. Nobody waits."""
        whole = (*self._history, *as_engine_messages(self._inputs, self._estimator), *answered)
        ended = AfterTurnRequest(
            session=self._key,
            messages=whole,
            history=whole,
            token_budget=context.budget_tokens,
            model=reply.model,
            compacted=self._asked.compacted,
            prompt_tokens=reply.prompt_tokens_last,
            cached_tokens=reply.usage.cached_tokens,
        )
        self._chosen.turn_ended(ended, load)

    # -- the engine ----------------------------------------------------------------------------------------------

    async def _fit(self, tokens_max: int | None = None) -> _Fit:
        """The prompt with what the engine shows; of an engine of others at most `tokens_max` tokens are wanted."""
        frame = framed(self._inputs, self._state.history_start, self._limits(), self._estimator)
        self._history = frame.history
        ours = self._is_ours
        room = frame.history_tokens if ours or tokens_max is None else min(frame.history_tokens, tokens_max)
        request = AssembleRequest(
            session=self._key,
            messages=frame.history,
            prompt=as_engine_messages(self._inputs, self._estimator),
            token_budget=room,
            tools=self._inputs.tools,
            citations=self._asked.citations,
            model=self._asked.model,
            history_start=frame.history_start,
        )
        try:
            view = await self._engine.assemble(request)
        except EngineError as error:
            self._fall_back(str(error))
            return await self._fit(tokens_max)
        made = composed(frame, view, self._state, self._estimator, self._engine.info)
        context = replace(made, session_id=self._session.id)
        return _Fit(frame, view, context, room, ours)

    @property
    def _is_ours(self) -> bool:
        return self._engine.info.id == BUILT_IN

    def _fall_back(self, why: str) -> None:
        """Go on with the built-in engine, for the rest of this turn."""
        if self._is_ours:
            return
        log.warning("a turn goes on with the built-in context engine", action="engine_fell_back",
                    engine=self._engine.info.id, session=self._session.id, cause=why)  # fmt: skip
        self._engine = self._engine.fallback

    async def _compacted(
        self,
        cause: Literal["preflight", "overflow"],
        context: PromptContext,
        tokens_max: int,
        *,
        leaving_seq: int | None = None,
    ) -> bool:
        """Have the engine make the conversation smaller; a summary that came of it takes the place of what left."""
        request = CompactRequest(
            session=self._key,
            messages=self._history,
            token_budget=tokens_max,
            cause=cause,
            force=True,
            tokens=context.estimated_tokens,
            leaving_seq=leaving_seq,
        )
        try:
            done = await self._engine.compact(request)
        except EngineError as error:
            self._fall_back(str(error))
            return False
        if not done.compacted:
            return False
        summary = await self._compactor.standing(self._session.id)
        if summary is not None and summary != self._inputs.summary:
            kept = tuple(entry for entry in self._inputs.history if entry.seq > summary.last_seq)
            self._inputs = replace(self._inputs, summary=summary, history=kept)
            self._state = replace(self._state, history_start=summary.last_seq + 1)
        self.guard.arm()
        return True

    async def _left_out(self, tokens_max: int, context: PromptContext) -> PromptContext | None:
        """As `leave_out`, of what the built-in engine shows."""
        last = last_to_go(context, tokens_max)
        if last is None:
            return None
        if await self._compacted("overflow", context, tokens_max, leaving_seq=last):
            return await self._recorded((await self._fit()).context)
        self._state = replace(self._state, history_start=last + 1)
        kept = tuple(entry for entry in self._inputs.history if entry.seq > last)
        self._inputs = replace(self._inputs, history=kept)
        cut = (await self._fit()).context
        if cut.epoch == self._state.epoch:
            cut = replace(cut, epoch=cut.epoch + 1, epoch_reason=TOO_LARGE)
        return await self._recorded(cut)

    # -- the record ----------------------------------------------------------------------------------------------

    async def _recorded(self, context: PromptContext) -> PromptContext:
        """Remember what the prompt begins with, when that changed."""
        if context.epoch != self._state.epoch:
            await self._turns.record_epoch(
                self._session.id,
                epoch=context.epoch,
                reason=context.epoch_reason,
                fingerprints=context.fingerprints,
                history_start=context.history_start,
            )
            self._state = PrefixState(context.epoch, context.epoch_reason, context.fingerprints, context.history_start)
        return context
