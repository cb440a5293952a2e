"""Two hundred times killed while it dreams: MEMORY.md is whole each time, and nothing is promoted twice or lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import apsw
import pytest

from reverie.app import open_memory
from reverie.config import Home, load_config
from reverie.dreaming.entry import RecallEntry, entry_key, query_hash
from reverie.dreaming.sections import generated_entries, markers
from reverie.testing import FakeClock
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

KILLS = int(os.environ.get("KILLS", "200"))
SEED = 20_261_127
FACTS, PER_NOTE = 120, 10
FIRST_NIGHT_MS = 1_775_444_400_000  # 2026-04-06 03:00 UTC
DAY_MS = 86_400_000
HEAD = "# What I know\n\n- The roaster is mine.\n"
CONFIG = (
    '[dreaming]\nlimit = 4\nmemory_chars_max = 0\nhalf_life_days = 36500\ntime_zone = "UTC"\n[memory]\nwatch = false\n'
)


def fact(number: int) -> str:
    return f"Kettle number {number} belongs to shelf {number * 7} in the cellar."


def recalled(number: int) -> RecallEntry:
    """A fact that passes every gate."""
    path, line = f"memory/2026-03-{1 + number // PER_NOTE:02}.md", 3 + 2 * (number % PER_NOTE)
    queries = tuple(query_hash(f"{number} {each}") for each in range(4))
    return RecallEntry(
        entry_key(path, line, line), path, line, line, fact(number), recall_count=5, total_score=4.5, max_score=0.9,
        first_recalled_at_ms=FIRST_NIGHT_MS - 5 * DAY_MS, last_recalled_at_ms=FIRST_NIGHT_MS - DAY_MS, queries=queries,
        user_queries=queries, days=("2026-04-01", "2026-04-03", "2026-04-05"), tags=("kettle", "shelf", "cellar"),
    )  # fmt: skip


async def filled(home: Home) -> None:
    """A home whose notes hold the facts, all of them recalled often, and whose owner has written into MEMORY.md."""
    home.path.mkdir()
    home.config_file.write_text(CONFIG, encoding="utf-8")
    async with open_memory(home, load_config(home), embedder=None, clock=FakeClock(FIRST_NIGHT_MS)) as opened:
        workspace = opened.workspaces["main"]
        for first in range(0, FACTS, PER_NOTE):
            lines = "".join(f"\n{fact(number)}\n" for number in range(first, first + PER_NOTE))
            (workspace / recalled(first).path).write_text(f"# Kettles\n{lines}", encoding="utf-8")
        (workspace / "MEMORY.md").write_text(HEAD, encoding="utf-8")
        await opened.recalls.take_in("main", [recalled(number) for number in range(FACTS)], updated_at_ms=1)


@dataclass
class Nights:
    """Nights of one home, one after the other; one that was killed is gone on with."""

    home: Home
    process: subprocess.Popen[str]
    number: int = 0
    owners: list[str] = field(default_factory=list[str])

    @property
    def memory(self) -> Path:
        return self.home.workspace(load_config(self.home), "main") / "MEMORY.md"

    def dream(self, killed_after_s: float | None) -> str:
        """How one try at the present night ends."""
        self._begin()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        at_ms, seconds = FIRST_NIGHT_MS + self.number * DAY_MS, -1 if killed_after_s is None else killed_after_s
        self.process.stdin.write(f"night-{self.number} {at_ms} {seconds}\n")
        self.process.stdin.flush()
        ended = self.process.stdout.readline().strip()
        assert ended in {"done", "killed"}
        self.number += ended == "done"
        return ended

    def edit(self, line: str) -> None:
        """Its owner writes a line at the end."""
        with self.memory.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
        self.owners.append(line)

    def check(self) -> Counter[str]:
        """MEMORY.md is whole, with all its owner's lines; what dreaming wrote, and how often."""
        text = self.memory.read_text("utf-8")
        entries = generated_entries(text)
        assert text.startswith(HEAD)
        assert text.endswith("\n")
        assert [line for line in text.splitlines() if line in self.owners] == self.owners
        assert len(entries) == len(markers(text)), "each marker has its entry"
        return Counter(entry.text for entry in entries)

    def _begin(self) -> None:
        """Put the night on record, as whoever begins it does."""
        state = apsw.Connection(str(self.home.state_db))
        state.set_busy_timeout(5_000)
        state.execute(
            "INSERT OR IGNORE INTO dream_runs (id, cause, due_at, state, holder, lease_until, started_at) "
            "VALUES (?, 'manual', 1, 'running', 'test', 1, 1)",
            (f"night-{self.number}",),
        )
        state.close()


@contextmanager
def nights(home: Home) -> Generator[Nights]:
    """Nights in processes that can be killed."""
    command = [sys.executable, "-m", "tests.acceptance.dreaming_forks", str(home.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        yield Nights(home, process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.timeout(600)
def test_two_hundred_kills(tmp_path: Path) -> None:
    """At any moment of a night: the owner's lines stand as they were, every fact is there once in the end."""
    home, chance = Home(tmp_path / "home"), random.Random(SEED)
    asyncio.run(filled(home))
    kills = Counter[str]()
    with nights(home) as running:
        assert running.dream(None) == "done"
        begun = time.monotonic()
        assert running.dream(None) == "done"
        night_s = time.monotonic() - begun
        while kills.total() < KILLS:
            kills[running.dream(chance.uniform(0, 1.2 * night_s))] += 1
            assert set(running.check().values()) <= {1}
            if chance.random() < 0.1:
                running.edit(f"- Line {kills.total()} is its owner's.")
        held = running.check()
        while held.total() < FACTS:
            running.dream(None)
            before, held = held, running.check()
            assert held.total() > before.total(), "each night brings some, until all are there"
    sys.stdout.write(f"{json.dumps({**kills, 'nights': running.number, 'night_ms': round(1000 * night_s)})}\n")
    assert held == {fact(number): 1 for number in range(FACTS)}
    assert kills["killed"] > KILLS / 3
