"""A night whose process is killed, again and again."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from reverie.types import SearchHit
from tests.docs.pages import ROOT
from tests.integration.dreaming.nights import NIGHT, Home, open_home

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "# 2026-04-05\n\n" + "".join(f"Passage number {number} is about the kiln and Petra.\n\n" for number in range(40))
KILLS = 8
MESSAGES = 300
"""More than one pass reads."""


async def fill(home: Home) -> None:
    """Notes, a conversation, and what was recalled well."""
    for day in (3, 4, 5):
        home.write(f"memory/2026-04-0{day}.md", NOTE, mtime_ns=day)
    for number in range(MESSAGES):
        home.say(f"Message number {number} about the kiln.", session=f"s{number % 3}")
    hit = SearchHit("memory", "memory/2026-04-05.md", 3, 3, "Passage number 0 is about the kiln and Petra.", 0.9)
    for number in range(3):
        await home.recalls.record("main", f"kiln {number}", [hit], now_ms=NIGHT - 1)
    home.begin_run("run")


async def whole(folder: Path) -> dict[str, Any]:
    """Everything a night leaves."""
    async with open_home(folder) as home:
        files = sorted(home.workspace().rglob("*.md"))
        texts = {str(file.relative_to(folder)): file.read_text(encoding="utf-8") for file in files}
        return {"entries": await home.entries(), "files": texts}


def sweep(folder: Path, killed_after_s: float | None) -> bool:
    """Whether a sweep in a process of its own came to its end."""
    command = [sys.executable, "-m", "tests.integration.dreaming.killed_sweep", str(folder), "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if killed_after_s is not None:
            time.sleep(killed_after_s)
            process.kill()
        return process.stdout.readline() == "done\n"


@pytest.mark.anyio
@pytest.mark.timeout(180)
async def test_a_night_that_is_killed_anywhere_goes_on(tmp_path: Path) -> None:
    """Eight kills later it leaves what an undisturbed night leaves: nothing counts twice, nothing is half written."""
    chance = random.Random(20_261_127)
    for folder in (tmp_path / "calm", tmp_path / "storm"):
        async with open_home(folder) as home:
            await fill(home)
    assert sweep(tmp_path / "calm", None)
    ended = [sweep(tmp_path / "storm", chance.random() * 0.2) for _ in range(KILLS)]
    assert sweep(tmp_path / "storm", None)

    assert not all(ended)
    assert await whole(tmp_path / "storm") == await whole(tmp_path / "calm")
