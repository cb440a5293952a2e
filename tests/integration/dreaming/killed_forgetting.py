"""Forgetting in a process that is killed, with SIGKILL, before a given statement of any of its databases."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.app import forgetter_of, open_memory
from reverie.config import Home, load_config
from reverie.dreaming.forgetting import Options, Selection, Surroundings

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized


def run(home: str, selection: dict[str, str], kill_at: int, counted: Synchronized[int]) -> None:
    """Forget; before statement `kill_at` (0: never) the process ends. `counted` says how many there were."""
    asyncio.run(_run(Home(Path(home)), selection, kill_at, counted))


async def _run(home: Home, selection: dict[str, str], kill_at: int, counted: Synchronized[int]) -> None:
    lock = threading.Lock()
    armed = False

    def trace(_sql: str, _bindings: object) -> None:
        nonlocal armed
        if not armed:
            return
        with lock:
            counted.value += 1
            if counted.value == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    config = load_config(home, {"memory": {"watch": False}, "dreaming": {"mode": "off", "time_zone": "UTC"}})
    async with open_memory(home, config, embedder=None, tracer=trace) as opened:
        forgetter = await forgetter_of(opened, Surroundings(alone=True))
        armed = True
        wanted = Selection(selection.get("session", ""), participant=selection.get("participant", ""))
        await forgetter.apply("main", wanted, Options(delete_files=True))
        armed = False
