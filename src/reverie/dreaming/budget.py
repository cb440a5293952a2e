"""What dreaming may spend on a model: so many calls and so many tokens a day, counted durably in the user's time zone.

A call is counted before it is made, with the tokens it is expected to take, and corrected afterwards. So calls that run
side by side share one budget, and a call that is killed has been paid for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from reverie.dreaming.recording import day_of

if TYPE_CHECKING:
    from reverie.dreaming.settings import Settings
    from reverie.storage.database import Database, Transaction

DAYS_KEPT = 400
GRANTS_HELD_MAX = 64


@dataclass(frozen=True, slots=True)
class _Grant:
    """A call that was allowed, and has not been settled: of which day, and how many tokens were set aside for it."""

    day: str
    tokens: int


class Spend:
    """The budget of one home: `dreaming.model_calls_day_max` and `dreaming.model_tokens_day_max`, for all kinds."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._granted: dict[str, deque[_Grant]] = {}

    async def take(self, kind: str, tokens: int, now_ms: int) -> str | None:
        """Set a call and its tokens aside; None when it is granted, else why it is not and until when.

        Raises:
            StorageError: the budget could not be read or written; nothing is granted.
        """
        day = day_of(now_ms, self._settings.zone)
        refused = await self._database.write(lambda tx: self._take(tx, kind, tokens, day))
        if refused is None:
            held = self._granted.setdefault(kind, deque(maxlen=GRANTS_HELD_MAX))
            held.append(_Grant(day, tokens))
        return refused

    async def settle(self, kind: str, tokens_used: int) -> None:
        """Say what the oldest call that was granted and not settled really took, on the day it was granted.

        Raises:
            StorageError: it could not be written; what was set aside stays spent.
        """
        held = self._granted.get(kind)
        if held:
            grant = held.popleft()
            more = tokens_used - grant.tokens
            await self._database.write(
                lambda tx: tx.execute("add_dream_spend", day=grant.day, kind=kind, calls=0, tokens=more)
            )

    def _take(self, tx: Transaction, kind: str, tokens: int, day: str) -> str | None:
        spent = tx.row("dream_spend_of", day=day) or {"calls": 0, "tokens": 0}
        again = f"none before {(date.fromisoformat(day) + timedelta(days=1)).isoformat()}"
        config = self._settings.current
        if spent["calls"] >= config.model_calls_day_max:
            most = f"{config.model_calls_day_max:,} calls of the model"
            return f"{spent['calls']:,} of {most} were made on {day} (dreaming.model_calls_day_max): {again}"
        if spent["tokens"] + tokens > config.model_tokens_day_max:
            return (
                f"{spent['tokens']:,} tokens were spent on {day}, and {tokens:,} more are above "
                f"{config.model_tokens_day_max:,} (dreaming.model_tokens_day_max): {again}"
            )
        tx.execute("add_dream_spend", day=day, kind=kind, calls=1, tokens=tokens)
        tx.execute("prune_dream_spend", day=(date.fromisoformat(day) - timedelta(days=DAYS_KEPT)).isoformat())
        return None
