"""Runs beside forgetting: what a run had read by then is not written any more.

Whatever removes something for a person counts that, once it is gone, in the transaction that makes an end of it. A run
knows how far that count was when it began, and writes nothing when it is further: it is put back, and reads anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from reverie.errors import JobPutBackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.jobs.request import Job
    from reverie.storage import Transaction

T = TypeVar("T")

PUT_BACK = "something was forgotten meanwhile"


def note_forgetting(tx: Transaction, agent: str, now_ms: int) -> None:
    """Something of an agent is gone: what runs that began before have read may be of it."""
    tx.execute("note_forgetting", agent=agent, now=now_ms)


def forgotten_meanwhile(tx: Transaction, job: Job) -> bool:
    """Whether something of a job's agent was forgotten since its run began."""
    return bool(tx.value("forgotten_meanwhile", agent=job.agent, key=job.key))


def unless_forgotten(job: Job, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """What a run writes, if nothing was forgotten since it began.

    Within the transaction raises:
        JobPutBackError: something was; nothing is written.
    """

    def checked(tx: Transaction) -> T:
        if forgotten_meanwhile(tx, job):
            raise JobPutBackError(PUT_BACK)
        return work(tx)

    return checked
