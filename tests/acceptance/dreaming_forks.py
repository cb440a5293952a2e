"""Sweeps in processes that can be killed: forked from one that has loaded its modules once and has no thread.

    python -m tests.acceptance.dreaming_forks HOME

For each line `RUN INSTANT SECONDS` that it reads it forks a process that sweeps, kills it after so many seconds unless
they are negative, and says how it ended: `done`, `killed` or `failed`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from reverie.app import dreamer_over, open_memory
from reverie.config import Home, load_config
from reverie.testing import FakeClock


async def sweep(home: Home, run_id: str, now_ms: int) -> None:
    """One night."""
    config = load_config(home)
    async with open_memory(home, config, exclusive=False, embedder=None, clock=FakeClock(now_ms)) as opened:
        await dreamer_over(opened).sweep(run_id, now_ms)


def main() -> None:
    """Fork for every line, until there are no more."""
    home = Home(Path(sys.argv[1]))
    for line in sys.stdin:
        run_id, now_ms, seconds = line.split()
        child = os.fork()
        if not child:
            asyncio.run(sweep(home, run_id, int(now_ms)))
            os._exit(0)  # what stands in the parent's buffers is its own
        if float(seconds) >= 0:
            time.sleep(float(seconds))
            os.kill(child, signal.SIGKILL)  # nobody has waited for it yet, so its number is nobody else's
        _, status = os.waitpid(child, 0)
        say("done" if status == 0 else "killed" if os.WIFSIGNALED(status) else "failed")


def say(word: str) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
