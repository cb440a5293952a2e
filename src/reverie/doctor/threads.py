"""Native threads: whether some conversation begins one again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.doctor.finding import Finding, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.doctor.patient import Patient
    from reverie.storage import Row, Transaction

DAY_MS = 86_400_000
ALARMS_MAX = 50
NAMED_MAX = 3


async def check_threads(patient: Patient) -> list[Finding]:
    """What flaps, if something does; nothing for a home without native threads.

    Raises:
        StorageError: the record of decisions cannot be read.
    """
    since = patient.clock.now_ms() - DAY_MS

    def work(tx: Transaction) -> tuple[list[Row], int]:
        alarms = tx.rows("newest_thread_alarms", since=since, limit=ALARMS_MAX)
        return alarms, int(tx.value("count_bindings"))

    alarms, bound = await patient.state.read(work, queries="state")
    return thread_findings(alarms, bound)


def thread_findings(alarms: Sequence[Row], bound: int) -> list[Finding]:
    """What is told of alarms, newest first, and of so many sessions with a row among the bindings."""
    newest = {row["session_key"]: row["alarm"] for row in reversed(alarms)}
    if newest:
        named = [f"{key} (`{of}` differs)" for key, of in list(newest.items())[-NAMED_MAX:]]
        more = f" and {len(newest) - NAMED_MAX} more" if len(newest) > NAMED_MAX else ""
        return [
            Finding(
                "warning",
                "threads.churn",
                f"{counted(len(newest), 'session')} began native threads again and again within a day: "
                f"{', '.join(reversed(named))}{more}",
                "what is named there changes from turn to turn, and each new thread is told the whole conversation",
                "`reverie threads explain KEY` shows every difference of the last turns; keep steady what it names",
            )
        ]
    if not bound:
        return []
    return [Finding("ok", "threads.steady", f"{counted(bound, 'session')} with native threads; none flapped in a day")]
