"""Deciding again what a model did not say in time: the boundary is confirmed, or two episodes are joined again.

Until then nothing was learned from either side of it. A message is looked at a bounded number of times, ever less
often; then the boundary stands and learning goes on. Each look may take as long as a call of a model may take. Where
the budget or the server says later, that is waited for only so long: everything after the message waits with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel

from reverie.errors import AnswerRefusedError, JobDeferredError, JobHopelessError, UpstreamError
from reverie.learning.episodes.classification import MS_PER_S, decide, read_prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.clock import Clock
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Asks, Question
    from reverie.learning.episodes.decision import Decision
    from reverie.learning.episodes.episodes import Episodes, Undecided
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject

T = TypeVar("T", bound=BaseModel)

DEFERRED_MS_MAX: Final = 3_600_000
"""A decision is deferred no longer than this after its message; a bound may never free."""


class Redecision:
    """Does `redecide` jobs."""

    def __init__(self, database: Database, clock: Clock, episodes: Episodes, asks: Asks) -> None:
        self._database = database
        self._clock = clock
        self._episodes = episodes
        self._asks = asks

    async def handle(self, job: Job) -> JsonObject:
        """Decide on a message once more.

        Raises:
            JobDeferredError: the budget, or the server, says later, and soon enough.
            JobPutBackError: it gave way to a turn.
        """
        session_id, seq, attempt = job.payload["session_id"], job.payload["seq"], job.payload["attempt"]
        undecided = await self._database.read(lambda tx: self._episodes.undecided(tx, session_id, seq))
        if undecided is None or undecided.row["attempts"] >= attempt:
            return {"skipped": "decided"}
        if self._episodes.config.mode != "full" or not self._asks.available:
            return await self._apply(undecided, "boundary_stands", self._standing(undecided, "no_answer"))
        try:
            decision = await self._decision(undecided, job)
        except (TimeoutError, UpstreamError):
            return await self._apply(undecided, "late_again", self._again(undecided, attempt))
        except (AnswerRefusedError, JobHopelessError):
            return await self._apply(undecided, "boundary_stands", self._standing(undecided, "no_answer"))
        except JobDeferredError as error:
            if error.until_ms <= undecided.row["at"] + DEFERRED_MS_MAX:
                raise
            return await self._apply(undecided, "boundary_stands", self._standing(undecided, "deferred_too_long"))
        return await self._apply(undecided, decision.verdict.relation, self._correcting(undecided, decision))

    async def _decision(self, undecided: Undecided, job: Job) -> Decision:
        began_s = self._clock.monotonic_s()

        async def ask(question: Question[T]) -> T:
            return await self._asks.ask(question, job)

        decision = await decide(undecided, await read_prompts(), ask)
        return replace(decision, duration_ms=round((self._clock.monotonic_s() - began_s) * MS_PER_S))

    async def _apply(self, undecided: Undecided, what: str, work: Callable[[Transaction], int]) -> JsonObject:
        await self._episodes.write(self._database, undecided.session_id, work)
        return {"decided": what}

    def _standing(self, undecided: Undecided, reason: str) -> Callable[[Transaction], int]:
        return lambda tx: self._episodes.let_stand(tx, undecided.row, reason, self._clock.now_ms())

    def _again(self, undecided: Undecided, attempt: int) -> Callable[[Transaction], int]:
        return lambda tx: self._episodes.late_again(tx, undecided, attempt, self._clock.now_ms())

    def _correcting(self, undecided: Undecided, decision: Decision) -> Callable[[Transaction], int]:
        return lambda tx: self._episodes.correct(tx, undecided, decision, self._clock.now_ms())
