"""What the inbox holds, in figures: how many turns stand in each state, and where somebody waits longest.

Counts come from the `tally` that the database keeps itself, so they cost the same however much is stored. Only turns
that have not ended are looked at one by one, and those are bounded by `queue.waiting_max`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverie.storage import Database, Transaction

SESSIONS_SHOWN = 10

TURNS, COMPACTIONS = "turns.", "compactions."


@dataclass(frozen=True, slots=True)
class SessionQueue:
    """A session with unfinished turns. `oldest_wait_ms` is 0 when none of them waits."""

    session_key: str
    waiting: int
    running: int
    oldest_wait_ms: int


@dataclass(frozen=True, slots=True)
class InboxFigures:
    """Turns and compactions by state, and the at most `SESSIONS_SHOWN` sessions in which one has waited longest."""

    turns: dict[str, int]
    compactions: dict[str, int]
    queues: tuple[SessionQueue, ...]

    @property
    def running(self) -> int:
        """Turns that run."""
        return self.turns.get("running", 0)

    @property
    def waiting(self) -> int:
        """Turns that wait, in all sessions."""
        return self.turns.get("accepted", 0) + self.turns.get("queued", 0)

    @property
    def oldest_wait_ms(self) -> int:
        """How long the turn that waits longest has waited; 0 when none does."""
        return max((queue.oldest_wait_ms for queue in self.queues), default=0)


async def read_inbox_figures(state: Database, now_ms: int) -> InboxFigures:
    """The figures as they stand, from one consistent read.

    Raises:
        StorageError: the database could not be read.
    """

    def work(tx: Transaction) -> InboxFigures:
        totals = {row["name"]: row["total"] for row in tx.rows("tallies")}
        queues = [
            SessionQueue(row["session_key"], row["waiting"], row["running"], _wait_ms(row["oldest_at"], now_ms))
            for row in tx.rows("waiting_by_session", limit=SESSIONS_SHOWN)
        ]
        return InboxFigures(_by_state(totals, TURNS), _by_state(totals, COMPACTIONS), tuple(queues))

    return await state.read(work)


def _by_state(totals: dict[str, int], prefix: str) -> dict[str, int]:
    """The states that any row is in, by name."""
    found = {name.removeprefix(prefix): total for name, total in totals.items() if name.startswith(prefix) and total}
    return dict(sorted(found.items()))


def _wait_ms(oldest_at: int | None, now_ms: int) -> int:
    return max(0, now_ms - oldest_at) if oldest_at is not None else 0
