"""The journal of calls: set aside before they are made, kept with their answers, entered into the ledger.

One transaction looks at the budget, sets the call aside and enters it; another one, when the call has ended, puts what
it took in the place of what was set aside. A question that was answered is never paid for again, whoever asks it.
What was asked for a run that had read what was forgotten since is not asked any more, and its answer is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reverie.errors import EpisodeSpentError, JobDeferredError, JobPutBackError
from reverie.jobs.forgotten import PUT_BACK, forgotten_meanwhile
from reverie.learning.asking.budget import Account, Spend, decide, enter, price, spent_for
from reverie.learning.ids import digest_of

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.config import LearningBudgetConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Question
    from reverie.learning.asking.budget import OverBudget
    from reverie.storage.database import Database, Transaction

ERROR_CHARS_MAX = 500
PRUNED_MAX = 500
"""Rows that are dropped at a time."""
LEDGER_KEPT_MS = 2 * 86_400_000


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model on behalf of a job: try number `number` of a question."""

    question: Question[Any]
    job: Job
    model: str
    number: int = 1

    @property
    def key(self) -> str:
        """The same for the same question to the same model."""
        return digest_of(self.question.prompt.id, self.question.text, self.model, self.number)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call that was set aside, with what."""

    call: Call
    account: Account
    tokens_in: int
    tokens_out: int
    money: float


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended and what it took. `counts` False: the server did not take it, so that it was none."""

    state: Literal["answered", "failed", "cancelled"]
    tokens_in: int = 0
    tokens_out: int = 0
    answer: str | None = None
    error: str | None = None
    counts: bool = True


class CallJournal:
    """The tables `model_calls` and `learning_spend`."""

    def __init__(self, database: Database, clock: Clock, config: LearningBudgetConfig) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self.spent_until_ms = 0
        """Until then the budget of all jobs together is known to be used up."""

    async def answer(self, call: Call) -> str | None:
        """What the model has answered to this call before; None if it has not."""
        row = await self._database.read(lambda tx: tx.row("find_call", key=call.key))
        return None if row is None or row["state"] != "answered" else row["answer"]

    async def reserve(self, call: Call, tokens_in: int, tokens_out: int) -> Reservation:
        """Set a call aside with what it may take at most, if the budget allows.

        Raises:
            JobDeferredError: it does not, and until when.
            EpisodeSpentError: it never will: the episode has had all its calls.
            JobPutBackError: something was forgotten since the run began, and the question may quote it.
        """
        now_ms = self._clock.now_ms()
        account = Account(call.job.kind, call.job.episode_id, now_ms)
        money = price(self._config, tokens_in, tokens_out)
        reservation = Reservation(call, account, tokens_in, tokens_out, money)
        over = await self._database.write(lambda tx: self._set_aside(tx, reservation))
        if over is not None:
            if over.for_good:
                raise EpisodeSpentError(call.question.prompt.id, over.reason)
            if over.for_all:
                self.spent_until_ms = over.until_ms
            raise JobDeferredError(over.until_ms, over.reason, all_until_ms=over.until_ms if over.used_up else None)
        return reservation

    async def settle(self, reservation: Reservation, ending: Ending) -> bool:
        """Write down how a call ended, and correct the ledger.

        False, and none of its words are kept, when something was forgotten since the run began: they may quote it.
        """
        now_ms = self._clock.now_ms()
        reserved = reservation.tokens_in + reservation.tokens_out
        money = price(self._config, ending.tokens_in, ending.tokens_out) - reservation.money
        calls = 0 if ending.counts else -1

        def work(tx: Transaction) -> bool:
            forgotten = forgotten_meanwhile(tx, reservation.call.job)
            tx.execute(
                "settle_call",
                key=reservation.call.key,
                state="cancelled" if forgotten else ending.state,
                answer=None if forgotten else ending.answer,
                error=None if forgotten or ending.error is None else ending.error[:ERROR_CHARS_MAX],
                calls=calls,
                reserved=reserved,
                tokens_in=ending.tokens_in,
                tokens_out=ending.tokens_out,
                money=money,
                now=now_ms,
            )
            took = ending.tokens_in + ending.tokens_out
            enter(tx, reservation.account, Spend(calls, took - reserved, money), now_ms)
            return not forgotten

        return await self._database.write(work)

    async def note_wrong(self, call: Call, wrong: str) -> None:
        """Write down, for people, what was wrong with an answer."""
        error = wrong[:ERROR_CHARS_MAX]
        await self._database.write(lambda tx: tx.execute("note_wrong_answer", key=call.key, error=error))

    def _set_aside(self, tx: Transaction, reservation: Reservation) -> OverBudget | None:
        """On the writer thread: look, and enter if it may be."""
        account, call = reservation.account, reservation.call
        if forgotten_meanwhile(tx, call.job):
            raise JobPutBackError(PUT_BACK)
        tokens = reservation.tokens_in + reservation.tokens_out
        wanted = Spend(1, tokens, reservation.money)
        over = decide(self._config, account, spent_for(tx, account), wanted)
        if over is not None:
            return over
        job = call.job
        tx.execute(
            "reserve_call", key=call.key, kind=job.kind, op=call.question.prompt.id, job_key=job.key, agent=job.agent,
            episode_id=job.episode_id, task_id=job.task_id, now=account.at_ms, model=call.model, tokens=tokens,
            money=reservation.money,
        )  # fmt: skip
        enter(tx, account, wanted, account.at_ms)
        return None


async def prune(database: Database, before_ms: int, now_ms: int) -> int:
    """Drop some of the calls, and of the ledger's rows, of before an instant; gives how many at most of one kind.

    A question whose answer was dropped would be paid for again; that it is not asked again is the doing of jobs, which
    have come to their end long before. The ledger of two days is kept in any case: bounds of a day are read from it.
    """
    ledger_ms = min(before_ms, now_ms - LEDGER_KEPT_MS)

    def work(tx: Transaction) -> int:
        calls = tx.execute("prune_calls", before=before_ms, limit=PRUNED_MAX)
        return max(calls, tx.execute("prune_spend", before=ledger_ms, limit=PRUNED_MAX))

    return await database.write(work)
