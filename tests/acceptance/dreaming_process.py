"""A clockwork of dreaming as a process of its own, beside others on one database, that can be killed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.config import DreamingConfig, Home
from reverie.dreaming.clockwork import Clockwork
from reverie.dreaming.live_settings import LiveSettings
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from reverie.types import JsonObject

DAY_MS = 86_400_000
FIRST_MS = 1_780_272_000_000
"""2026-06-01 00:00 UTC: three hours before the first firing."""
THREE_MS = FIRST_MS + 3 * 3_600_000
STOP = "stop"
"""A file of this name in the home makes every sweep go on until its process is killed."""


def run(home: str, days: list[int], together: Barrier) -> None:
    """Work at three o'clock of each of these days, at the same moment as the other processes."""
    asyncio.run(_run(Home(Path(home)), days, together))


async def _run(home: Home, days: list[int], together: Barrier) -> None:
    clock = FakeClock(FIRST_MS)
    database = await Database.open(home.state_db, STATE, now_ms=clock.now_ms())
    config = await asyncio.to_thread(DreamingConfig, time_zone="UTC")
    settings = await LiveSettings.of(home, config)
    clockwork = Clockwork(database, clock, settings, [home.path], lambda run_id, _now_ms: _sweep(home, run_id))
    await clockwork.work()
    for day in days:
        clock.set(THREE_MS + day * DAY_MS)
        await asyncio.to_thread(together.wait, 60)
        while not await clockwork.work():
            pass
        await asyncio.to_thread(together.wait, 60)
    await database.aclose()


async def _sweep(home: Home, run_id: str) -> JsonObject:
    """Leave a line, by one write that no other comes between."""
    await asyncio.to_thread(_append, home.path / "sweeps", f"{run_id} {os.getpid()}\n")
    while await asyncio.to_thread((home.path / STOP).exists):
        await asyncio.sleep(0.01)
    return {}


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
