"""How a prompt is made smaller that the model's server refused."""

from __future__ import annotations

import pytest

from reverie.agent.overflow import ATTEMPTS_MAX, OverflowRecovery, Plan, last_to_go, plan_recovery
from reverie.context.compaction.estimate import Sized
from reverie.errors import ContextTooLongError
from reverie.llm.overflow import Overflow
from reverie.types import Message, PromptContext, PromptPiece, Role

pytestmark = pytest.mark.anyio


def context(*history: tuple[Role, int]) -> PromptContext:
    """A context whose history has these roles and tokens, from message 1 on."""
    pieces = [
        PromptPiece(f"history:{seq}", Message(role, "x"), tokens) for seq, (role, tokens) in enumerate(history, 1)
    ]
    return PromptContext((*pieces, PromptPiece("message", Message("user", "now"), 5)), 0, {}, 1, "", 1, 1_000, 10)


@pytest.mark.parametrize(
    ("over", "plan"),
    [
        (Overflow(1_500, None), Plan("compact_only", 0)),
        (Overflow(1_100, None), Plan("compact_only", 240)),
        (Overflow(None, None), Plan("compact_only", 0)),
        (Overflow(1_100, 1_050), Plan("compact_only", 240)),
    ],
)
def test_the_servers_count_is_believed(over: Overflow, plan: Plan) -> None:
    """Without one, the prompt took a token more than the window (2,000), of which 1,000 are the prompt's."""
    assert plan_recovery(Sized(900, 0), 400, over, window=2_000, budget=1_000, attempt=1) == plan


def test_each_attempt_leaves_less() -> None:
    """At the last one no history stays."""
    plans = [
        plan_recovery(Sized(0, 0), 400, Overflow(1_001, None), window=2_000, budget=1_000, attempt=attempt)
        for attempt in (1, 2, 3)
    ]
    assert [plan.history_tokens for plan in plans] == [240, 120, 0]


def test_large_tool_results_are_cut_first() -> None:
    """Where that alone is enough."""
    plan = plan_recovery(Sized(0, 10_000), 400, Overflow(1_500, None), window=2_000, budget=1_000, attempt=1)
    assert plan.route == "truncate_tool_results_only"


def test_what_stays_begins_with_a_user_message() -> None:
    """A call keeps its results; with no room at all everything goes; an empty history has nothing to give."""
    held = context(("user", 10), ("assistant", 10), ("user", 10), ("assistant", 10), ("tool", 10), ("assistant", 10))

    assert last_to_go(held, 40) == 2
    assert last_to_go(held, 25) == 6
    assert last_to_go(held, 60) is None
    assert last_to_go(context(), 0) is None


async def test_three_attempts_and_no_more() -> None:
    """Then the caller is told, in words that say what to do."""
    smaller = context(("user", 10))

    async def move(_tokens: int, _context: PromptContext) -> PromptContext:
        return smaller

    learned: list[int] = []
    recovery = OverflowRecovery(smaller, window=2_000, move=move, learned=learned.append)
    for _ in range(ATTEMPTS_MAX):
        fitted = await recovery(Overflow(None, 900), ())
        assert fitted.context is smaller
    with pytest.raises(ContextTooLongError, match="Context overflow"):
        await recovery(Overflow(None, None), ())
    assert learned == [900, 900, 900]


async def test_nothing_left_to_shorten_ends_it_at_once() -> None:
    """No further call of the model is paid for."""

    async def move(_tokens: int, _context: PromptContext) -> None:
        return None

    recovery = OverflowRecovery(context(), window=2_000, move=move, learned=lambda _: None)
    with pytest.raises(ContextTooLongError):
        await recovery(Overflow(None, None), ())
