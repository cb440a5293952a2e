"""What a turn does when the model's server finds its prompt too large: at most three times, without losing anything.

    shorten tool results, where that is enough ─┐
    let a summary stand for older history ──────┴─► send again

The message that was said is in the transcript already and is not appended again; what the turn has done so far is
kept. The session stays the same in any case: nothing is reset behind anybody's back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from reverie.agent.runtimes.chat import Fitted
from reverie.context.compaction.estimate import RESULT_CHARS_KEPT, Sized, choose_route, sized
from reverie.errors import ContextTooLongError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from reverie.context.compaction.estimate import Route
    from reverie.llm.overflow import Overflow
    from reverie.types import Message, PromptContext

log = structlog.get_logger(__name__)

ATTEMPTS_MAX = 3
SAFETY = 1.2
HISTORY_SHARES = (0.6, 0.3, 0.0)
"""How much of the history may stay at the first, second and third attempt."""

EXHAUSTED = (
    "Context overflow: the prompt is too large for the model, also after it was shortened. The conversation is "
    "unchanged. Send a shorter message, begin a new session, or set upstream.context_tokens to what the model takes."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a prompt is made smaller: what to do, and how many tokens of history may stay."""

    route: Route
    history_tokens: int


def plan_recovery(size: Sized, history_tokens: int, over: Overflow, *, window: int, budget: int, attempt: int) -> Plan:
    """How to make a prompt smaller that was refused. `attempt` counts from 1; `budget` is what a prompt may take.

    The server's count is believed where it gave one; else the prompt took a token more than the window.
    """
    counted = over.counted_tokens or window + 1
    limit = min(budget, over.limit_tokens or budget)
    route = choose_route(Sized(max(counted, limit + 1), size.reducible_chars), limit)
    needed = int((counted - limit) * SAFETY)
    left = min(history_tokens - needed, int(history_tokens * HISTORY_SHARES[attempt - 1]))
    return Plan(route, max(0, left))


class OverflowRecovery:
    """Makes one turn's prompt smaller, as often as it is allowed to.

    `move` lets the history of a context begin later, so that at most so many tokens of it stay, and gives the new
    context; None when nothing of it can go.
    """

    def __init__(
        self,
        context: PromptContext,
        *,
        window: int,
        move: Callable[[int, PromptContext], Awaitable[PromptContext | None]],
        learned: Callable[[int], None],
    ) -> None:
        self.attempts = 0
        self._context = context
        self._window = window
        self._move = move
        self._learned = learned
        self._result_chars_max: int | None = None

    async def __call__(self, over: Overflow, sent: Sequence[Message]) -> Fitted:
        """A smaller prompt than the one that was sent.

        Raises:
            ContextTooLongError: there is nothing left to shorten, or it was tried three times.
        """
        self.attempts += 1
        if self.attempts > ATTEMPTS_MAX:
            raise _exhausted()
        if over.limit_tokens:
            self._learned(over.limit_tokens)
        context = self._context
        plan = plan_recovery(
            sized(sent),
            history_tokens(context),
            over,
            window=self._window,
            budget=context.budget_tokens,
            attempt=self.attempts,
        )
        log.warning("the model's server found a prompt too large", action="context_overflow", attempt=self.attempts,
                    route=plan.route, counted=over.counted_tokens, limit=over.limit_tokens)  # fmt: skip
        shortened = self._shorten(plan.route)
        enough = shortened and plan.route == "truncate_tool_results_only"
        moved = None if enough else await self._move(plan.history_tokens, context)
        if moved is None and not shortened:
            raise _exhausted()
        self._context = moved or context
        return Fitted(self._context, self._result_chars_max)

    def _shorten(self, route: Route) -> bool:
        """Cut tool results, once; False when that is done already or would change nothing."""
        if route == "compact_only" or self._result_chars_max is not None:
            return False
        self._result_chars_max = RESULT_CHARS_KEPT
        return True


def history_tokens(context: PromptContext) -> int:
    """What the history in a prompt takes, as estimated, with what an engine says in its place."""
    return sum(piece.estimated_tokens for piece in context.pieces if piece.origin.startswith(("history:", "engine:")))


def last_to_go(context: PromptContext, tokens_max: int) -> int | None:
    """The last message number that must leave the history so that at most `tokens_max` tokens of it stay.

    What stays begins with a user message. None when there is no history.
    """
    pieces = [piece for piece in context.pieces if piece.origin.startswith("history:")]
    if not pieces:
        return None
    last = _seq(pieces[-1].origin)
    kept = 0
    for number in range(len(pieces) - 1, -1, -1):
        kept += pieces[number].estimated_tokens
        if kept > tokens_max:
            break
        if pieces[number].message.role == "user":
            last = _seq(pieces[number].origin) - 1
    return last if last >= _seq(pieces[0].origin) else None


def _seq(origin: str) -> int:
    return int(origin.removeprefix("history:"))


def _exhausted() -> ContextTooLongError:
    return ContextTooLongError(EXHAUSTED, param="messages", code="context_length_exceeded")
