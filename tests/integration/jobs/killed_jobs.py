"""A process that does jobs and may be killed at any moment: `python -m … FOLDER LIMIT [URL]`.

Jobs of the kind `step` write a line when they begin and one when they have ended; they do not end while a file `hold`
is there. Jobs of the kind `call` do the same around a place for a call of a model.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.clock import SystemClock
from reverie.jobs.engine import Jobs
from reverie.jobs.executor import Executor
from reverie.learning.asking.foreground import Foreground
from reverie.learning.asking.permits import Permits
from reverie.storage import STATE, Database
from tests.integration.jobs.jobs_world import QUICK

if TYPE_CHECKING:
    from reverie.jobs.request import Job
    from reverie.types import JsonObject


class Steps:
    """What is done, and written into the file `log` of the folder."""

    def __init__(self, folder: Path, permits: Permits) -> None:
        self._folder = folder
        self._permits = permits

    async def step(self, job: Job) -> JsonObject:
        """Begin, and end as soon as nothing holds it."""
        self._say("begin", job.key)
        while (self._folder / "hold").exists():
            await asyncio.sleep(0.01)
        self._say("end", job.key)
        return {"pid": os.getpid()}

    async def call(self, job: Job) -> JsonObject:
        """Have a place for a moment."""
        async with self._permits.hold():
            self._say("begin", job.key)
            await asyncio.sleep(0.03)
            self._say("end", job.key)
        return {}

    def _say(self, word: str, key: str) -> None:
        with (self._folder / "log").open("a", encoding="utf-8") as file:
            file.write(f"{word} {key} {os.getpid()}\n")


async def main(folder: Path, limit: int, url: str | None) -> None:
    """Do jobs until told to stop."""
    clock = SystemClock()
    database = await Database.open(folder / "state.db", STATE, now_ms=clock.now_ms())
    executor = Executor(folder)
    steps = Steps(folder, Permits(database, clock, limit, executor.name))
    jobs = Jobs(
        database,
        clock,
        QUICK.model_copy(update={"database_url": url}),
        {"step": steps.step, "call": steps.call},
        Foreground(clock),
        engine_file=folder / "jobs.db",
        executor=executor,
    )
    await jobs.start()
    await asyncio.to_thread(sys.stdin.readline)
    await jobs.stop()
    await database.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None))
