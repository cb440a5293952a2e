"""What learning may spend."""

from __future__ import annotations

import pytest

from reverie.config import LearningBudgetConfig
from reverie.learning.asking.budget import Account, OverBudget, Spend, Spent, day_name, decide, hour_name, price

AT_MS = 1_767_225_600_000 + 90 * 60_000  # 2026-01-01 01:30 UTC
HOUR_ENDS = 1_767_225_600_000 + 2 * 3_600_000
DAY_ENDS = 1_767_225_600_000 + 24 * 3_600_000
CONFIG = LearningBudgetConfig(
    calls_hour=10, calls_day=20, tokens_hour=1_000, tokens_day=2_000, calls_episode=3, money_day=1.0,
    kinds={"induce": 2},
)  # fmt: skip
WANTED = Spend(1, 100, 0.1)


def spent(
    hour: Spend | None = None, day: Spend | None = None, kind: Spend | None = None, episode: Spend | None = None
) -> Spent:  # fmt: skip
    return Spent(hour or Spend(), day or Spend(), kind or Spend(), episode or Spend())


@pytest.mark.parametrize(
    ("already", "until_ms", "reason"),
    [
        (spent(hour=Spend(10)), HOUR_ENDS, "learning.budget.calls_hour: this would make 11 of 10"),
        (spent(hour=Spend(1, 901)), HOUR_ENDS, "learning.budget.tokens_hour: this would make 1001 of 1000"),
        (spent(day=Spend(20)), DAY_ENDS, "learning.budget.calls_day: this would make 21 of 20"),
        (spent(day=Spend(1, 1_901)), DAY_ENDS, "learning.budget.tokens_day: this would make 2001 of 2000"),
        (spent(day=Spend(1, 1, 0.95)), DAY_ENDS, "learning.budget.money_day: this would make 1.05 of 1"),
        (spent(kind=Spend(2)), DAY_ENDS, "learning.budget.kinds.induce: this would make 3 of 2"),
        (spent(episode=Spend(3)), DAY_ENDS, "learning.budget.calls_episode: this would make 4 of 3"),
        (spent(hour=Spend(10), day=Spend(20)), DAY_ENDS, "learning.budget.calls_day: this would make 21 of 20"),
    ],
)
def test_each_bound_is_kept_and_named(already: Spent, until_ms: int, reason: str) -> None:
    """A call that would pass a bound is refused until the next hour or day, naming the bound and both figures."""
    over = decide(CONFIG, Account("induce", "ep_1", AT_MS), already, WANTED)
    for_all = ".calls_hour:" in reason or ".calls_day:" in reason
    used_up, for_good = for_all or ".kinds." in reason, ".calls_episode:" in reason
    assert over == OverBudget(until_ms, reason, used_up=used_up, for_all=for_all, for_good=for_good)


def test_half_of_an_episodes_calls_are_for_what_is_learned_of_it() -> None:
    """Saying where messages belong never takes more than the half of them, rounded up."""
    for kind, may in (("classify", 2), ("redecide", 2), ("window", 3)):
        account = Account(kind, "ep_1", AT_MS)
        allowed = [decide(CONFIG, account, spent(episode=Spend(calls)), WANTED) is None for calls in range(5)]
        assert allowed == [calls < may for calls in range(5)]


def test_tokens_that_are_used_up_stop_all() -> None:
    """Where nothing is left, nothing smaller has room either."""
    over = decide(CONFIG, Account("reward", None, AT_MS), spent(hour=Spend(1, 1_000)), WANTED)
    assert over is not None
    assert (over.used_up, over.for_all) == (True, False)


def test_what_reaches_a_bound_exactly_is_allowed() -> None:
    """The last call that a bound leaves room for may be made."""
    already = spent(hour=Spend(9, 900), day=Spend(19, 1_900, 0.9), kind=Spend(1), episode=Spend(2))
    assert decide(CONFIG, Account("induce", "ep_1", AT_MS), already, WANTED) is None


def test_bounds_apply_where_they_belong() -> None:
    """Without an episode its bound is none, another kind's bound is none, and no price means no bound on money."""
    already = spent(day=Spend(1, 1, 50.0), kind=Spend(9), episode=Spend(9))
    config = CONFIG.model_copy(update={"money_day": 0.0})
    assert decide(config, Account("reward", None, AT_MS), already, WANTED) is None


def test_nothing_is_allowed_by_a_budget_of_zero() -> None:
    """With no calls an hour, none is made."""
    over = decide(LearningBudgetConfig(calls_hour=0), Account("reward", None, AT_MS), spent(), WANTED)
    assert over == OverBudget(
        HOUR_ENDS, "learning.budget.calls_hour: this would make 1 of 0", used_up=True, for_all=True
    )


def test_hours_days_and_prices() -> None:
    """Spans are named in UTC, and tokens cost by the million."""
    assert (hour_name(AT_MS), day_name(AT_MS)) == ("2026-01-01T01", "2026-01-01")
    assert price(LearningBudgetConfig(price_in=2.0, price_out=10.0), 500_000, 100_000) == pytest.approx(2.0)
