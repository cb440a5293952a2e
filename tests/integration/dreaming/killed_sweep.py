"""A sweep in a process of its own, which may be killed at any moment: `python -m … FOLDER RUN`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.integration.dreaming.nights import NIGHT, open_home


async def main(folder: Path, run_id: str) -> None:
    """Sweep, and say when it begins and when it has ended."""
    async with open_home(folder) as home:
        say("ready")
        await home.dreamer().sweep(run_id, NIGHT)
    say("done")


def say(word: str) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
