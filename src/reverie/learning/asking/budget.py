"""What learning may spend, and the ledger of what it has spent.

A call is entered into the ledger before it is made, with what it may take at most, in the transaction that looks
whether that is still allowed: however many ask at once, and in however many processes, no bound is passed. When it has
ended, the ledger is corrected by what it really took. At any time the ledger's calls, tokens and money are the sums
over `model_calls`; a call whose end nobody knows counts as what was set aside for it.

Hours and days are those of UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.config import LearningBudgetConfig
    from reverie.storage.database import Transaction
    from reverie.types import JsonObject

Span = Literal["hour", "day", "episode"]

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
MILLION = 1_000_000
KINDS_MAX = 100
ALL_KINDS = ""
PLACING = frozenset({"classify", "redecide"})
"""Kinds of jobs that say where messages belong. What is learned of an episode is not to fail for their calls."""
SECTION = "learning.budget."
"""How every reason begins for which a call may not be made now."""


@dataclass(frozen=True, slots=True)
class Spend:
    """So many calls, tokens and so much money."""

    calls: int = 0
    tokens: int = 0
    money: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.calls + other.calls, self.tokens + other.tokens, self.money + other.money)

    def __sub__(self, other: Spend) -> Spend:
        return Spend(self.calls - other.calls, self.tokens - other.tokens, self.money - other.money)

    def as_json(self) -> JsonObject:
        """For programs."""
        return {"calls": self.calls, "tokens": self.tokens, "money": round(self.money, 6)}


@dataclass(frozen=True, slots=True)
class Account:
    """On whose behalf is spent, and when."""

    kind: str
    episode_id: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What the bounds of an account are compared with."""

    hour: Spend
    day: Spend
    kind_day: Spend
    episode: Spend


@dataclass(frozen=True, slots=True)
class OverBudget:
    """A call that may not be made: before when, and which bound it would pass, in words.

    `used_up`: no other call of this kind of job has room in it either. `for_all`: none of any kind.
    `for_good`: waiting does not help, it is the bound of an episode.
    """

    until_ms: int
    reason: str
    used_up: bool = False
    for_all: bool = False
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """What was spent in this hour and on this day, by kind of jobs too, and what is allowed."""

    hour: Spend
    day: Spend
    kinds_day: Mapping[str, Spend]
    limits: LearningBudgetConfig
    paused_until_ms: int | None
    paused_for: str

    def as_json(self) -> JsonObject:
        """For programs."""
        return {
            "hour": self.hour.as_json(),
            "day": self.day.as_json(),
            "kindsToday": {kind: each.as_json() for kind, each in self.kinds_day.items()},
            "limits": self.limits.model_dump(mode="json"),
            "pausedUntilMs": self.paused_until_ms,
            "pausedFor": self.paused_for,
        }


def price(config: LearningBudgetConfig, tokens_in: int, tokens_out: int) -> float:
    """What so many tokens cost."""
    return (tokens_in * config.price_in + tokens_out * config.price_out) / MILLION


def decide(config: LearningBudgetConfig, account: Account, spent: Spent, wanted: Spend) -> OverBudget | None:
    """Why a call may not be made now; None if it may. The bound that ends last is the one that is told."""
    hour_ends, day_ends = _next(account.at_ms, HOUR_MS), _next(account.at_ms, DAY_MS)
    bounds: list[tuple[str, int, float, float, float]] = [
        ("calls_day", day_ends, spent.day.calls, wanted.calls, config.calls_day),
        ("tokens_day", day_ends, spent.day.tokens, wanted.tokens, config.tokens_day),
        ("calls_episode", day_ends, spent.episode.calls, wanted.calls, _of_episode(config, account.kind)),
        ("calls_hour", hour_ends, spent.hour.calls, wanted.calls, config.calls_hour),
        ("tokens_hour", hour_ends, spent.hour.tokens, wanted.tokens, config.tokens_hour),
    ]
    if config.money_day > 0:
        bounds.insert(0, ("money_day", day_ends, spent.day.money, wanted.money, config.money_day))
    kind_max = config.kinds.get(account.kind)
    if kind_max is not None:
        bounds.insert(0, (f"kinds.{account.kind}", day_ends, spent.kind_day.calls, wanted.calls, kind_max))
    if account.episode_id is None:
        bounds = [bound for bound in bounds if bound[0] != "calls_episode"]
    for name, until_ms, so_far, more, allowed in bounds:
        if so_far + more > allowed:
            reason = f"{SECTION}{name}: this would make {so_far + more:g} of {allowed:g}"
            for_good = name == "calls_episode"
            used_up = so_far >= allowed and not for_good
            return OverBudget(until_ms, reason, used_up, used_up and name in {"calls_day", "calls_hour"}, for_good)
    return None


def _of_episode(config: LearningBudgetConfig, kind: str) -> int:
    """How many calls an episode may have had: the half of them, rounded up, for saying where its messages belong."""
    return (config.calls_episode + 1) // 2 if kind in PLACING else config.calls_episode


def spent_for(tx: Transaction, account: Account) -> Spent:
    """What the ledger says an account's bounds are compared with."""
    hour, day = hour_name(account.at_ms), day_name(account.at_ms)
    return Spent(
        spent_in(tx, "hour", hour, ALL_KINDS),
        spent_in(tx, "day", day, ALL_KINDS),
        spent_in(tx, "day", day, account.kind),
        spent_in(tx, "episode", account.episode_id or "", ALL_KINDS),
    )


def spent_in(tx: Transaction, span: Span, name: str, kind: str) -> Spend:
    """One row of the ledger."""
    row = tx.row("spent", span=span, span_name=name, kind=kind)
    return Spend() if row is None else Spend(row["calls"], row["tokens"], row["money"])


def enter(tx: Transaction, account: Account, difference: Spend, now_ms: int) -> None:
    """Change the ledger, under the hour and the day at which the call was set aside."""
    hour, day = hour_name(account.at_ms), day_name(account.at_ms)
    places: list[tuple[Span, str, str]] = [
        ("hour", hour, ALL_KINDS),
        ("day", day, ALL_KINDS),
        ("day", day, account.kind),
    ]
    if account.episode_id is not None:
        places.append(("episode", account.episode_id, ALL_KINDS))
    for span, name, kind in places:
        tx.execute("spend", span=span, span_name=name, kind=kind, calls=difference.calls, tokens=difference.tokens,
                   money=difference.money, now=now_ms)  # fmt: skip


def status(tx: Transaction, config: LearningBudgetConfig, now_ms: int) -> BudgetStatus:
    """What is left of the budget. It is paused when the smallest call of any kind would be refused."""
    account = Account(ALL_KINDS, None, now_ms)
    spent = spent_for(tx, account)
    rows = tx.rows("spent_by_kind", span="day", span_name=day_name(now_ms), limit=KINDS_MAX)
    kinds = {row["kind"]: Spend(row["calls"], row["tokens"], row["money"]) for row in rows if row["kind"]}
    over = decide(config, account, spent, Spend(1, 1))
    until_ms, reason = (None, "") if over is None else (over.until_ms, over.reason)
    return BudgetStatus(spent.hour, spent.day, kinds, config, until_ms, reason)


def hour_name(at_ms: int) -> str:
    """`2026-01-31T09`."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%dT%H")


def day_name(at_ms: int) -> str:
    """`2026-01-31`."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d")


def _next(at_ms: int, unit_ms: int) -> int:
    """The beginning of the next hour or day."""
    return (at_ms // unit_ms + 1) * unit_ms
