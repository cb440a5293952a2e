"""What of a run is done: a row for each step of each agent, written with the step's own work or right after it.

So a run that is killed and taken up again does what is missing, and nothing twice.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.storage.database import Database, Transaction
    from reverie.types import JsonObject


class RunSteps:
    """The table `dream_steps` of state.db. The run itself must be on record."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def done(self, run_id: str, agent: str) -> dict[str, JsonObject]:
        """The steps of a run that are done for an agent, with what each of them found.

        It is asked behind whatever is being written: what a sweep that was stopped a moment ago had under way is there.

        Raises:
            StorageError: it could not be read.
        """
        rows = await self._database.write(lambda tx: tx.rows("dream_steps_of", run_id=run_id, agent=agent))
        return {row["step"]: json.loads(row["report"]) for row in rows}

    async def record(self, run_id: str, agent: str, step: str, report: JsonObject) -> None:
        """A step is done.

        Raises:
            StorageError: it could not be written.
        """
        await self._database.write(lambda tx: self.record_in(tx, run_id, agent, step, report))

    def claim_in(self, tx: Transaction, run_id: str, agent: str, step: str, report: JsonObject) -> bool:
        """A step is done by this transaction; False, and nothing is changed, if it was done before."""
        return tx.execute("claim_dream_step", **self._values(run_id, agent, step, report)) == 1

    def record_in(self, tx: Transaction, run_id: str, agent: str, step: str, report: JsonObject) -> None:
        """A step is done, by what else is written in this transaction."""
        tx.execute("put_dream_step", **self._values(run_id, agent, step, report))

    def _values(self, run_id: str, agent: str, step: str, report: JsonObject) -> JsonObject:
        return {
            "run_id": run_id,
            "agent": agent,
            "step": step,
            "done_at": self._clock.now_ms(),
            "report": json.dumps(report, ensure_ascii=False),
        }
