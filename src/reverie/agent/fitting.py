"""One turn's prompt, made to fit: assembled, and where history must leave it, a summary stands for what leaves.

Nothing leaves the prompt before its extract is in memory, unless memory cannot be written: then it leaves the view
all the same, stays in the transcript, and is taken up by the next compaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reverie.agent.overflow import last_to_go
from reverie.context.engine import PrefixState, assemble

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.agent.compaction import Compactor
    from reverie.agent.loop_guard import LoopGuard
    from reverie.context.engine import Inputs, Limits
    from reverie.llm.tokens import TokenEstimator
    from reverie.sessions.transcript import Session
    from reverie.sessions.turns import TurnStore
    from reverie.types import PromptContext

TOO_LARGE = "the model's server found the prompt too large"


class Fitting:
    """The prompt of one turn and what it was made of. `limits` are asked for anew each time: a window may shrink."""

    def __init__(
        self,
        session: Session,
        inputs: Inputs,
        *,
        turns: TurnStore,
        compactor: Compactor,
        estimator: TokenEstimator,
        limits: Callable[[], Limits],
        guard: LoopGuard,
    ) -> None:
        self._session = session
        self._inputs = inputs
        self._state = PrefixState(
            session.epoch, session.epoch_reason, session.prefix_fingerprints, session.history_start
        )
        self._turns = turns
        self._compactor = compactor
        self._estimator = estimator
        self._limits = limits
        self.guard = guard

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """What plugins add to it, each with the plugin's name."""
        return self._inputs.notes

    async def assemble(self) -> PromptContext:
        """The prompt. Where it has no room for the whole history, older messages give way to a summary by rule.

        Raises:
            ContextTooLongError: the prefix and the new message alone exceed the model's window.
            StorageError: what it begins with could not be recorded.
        """
        context = self._assembled()
        if context.history_start > self._state.history_start and await self._rescued(context.history_start - 1):
            context = self._assembled()
        return await self._recorded(context)

    async def leave_out(self, tokens_max: int, context: PromptContext) -> PromptContext | None:
        """The prompt with at most `tokens_max` tokens of history; None when nothing of the history can go.

        Raises:
            ContextTooLongError: the prefix and the new message alone exceed the window, as far as it is known now.
            StorageError: what it begins with could not be recorded.
        """
        last = last_to_go(context, tokens_max)
        if last is None:
            return None
        if await self._rescued(last, after_refusal=True):
            return await self._recorded(self._assembled())
        self._state = replace(self._state, history_start=last + 1)
        kept = tuple(entry for entry in self._inputs.history if entry.seq > last)
        self._inputs = replace(self._inputs, history=kept)
        cut = self._assembled()
        if cut.epoch == self._state.epoch:
            cut = replace(cut, epoch=cut.epoch + 1, epoch_reason=TOO_LARGE)
        return await self._recorded(cut)

    def _assembled(self) -> PromptContext:
        return assemble(self._inputs, self._state, self._limits(), self._estimator)

    async def _rescued(self, last_seq: int, *, after_refusal: bool = False) -> bool:
        """Let a summary stand for the history up to a message; False when there is none."""
        cause = "overflow" if after_refusal else "preflight"
        summary = await self._compactor.rescue(self._session.id, self._inputs.summary, last_seq, cause)
        if summary is None:
            return False
        kept = tuple(entry for entry in self._inputs.history if entry.seq > summary.last_seq)
        self._inputs = replace(self._inputs, summary=summary, history=kept)
        self._state = replace(self._state, history_start=summary.last_seq + 1)
        self.guard.arm()
        return True

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
