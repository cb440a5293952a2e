"""Nights that promote: from what was asked for to MEMORY.md."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import pytest

from reverie.config import DreamingConfig
from reverie.dreaming.deep import DeepSleep, outcome_of
from reverie.dreaming.memory_file import MemoryFile
from reverie.dreaming.promotion import Applied, Promoter, PromotionReport
from reverie.dreaming.settings import FixedSettings
from reverie.dreaming.sources import LiveSources
from reverie.sessions.store import SessionStore
from reverie.types import SearchHit
from tests.integration.dreaming.nights import DAY_MS, NIGHT, Home, open_home

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.dreaming.sweep import Dreamer

KILN = "The kiln of the workshop is serviced in May by Petra."
KEYS = "The spare key of the flat is with Mrs. Novak upstairs."
NOTE = f"# 2026-04-05\n\n{KILN}\n\n{KEYS}\n"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Home]:
    """A home with one note."""
    async with open_home(tmp_path) as opened:
        opened.write("memory/2026-04-05.md", NOTE)
        yield opened


def deep_dreamer(home: Home, config: DreamingConfig | None = None) -> Dreamer:
    config = config or DreamingConfig()
    workspaces = {agent: home.workspace(agent) for agent in home.agents}
    file = MemoryFile(home.database, workspaces, home.clock, changes_kept=100)
    sources = LiveSources(workspaces, SessionStore(home.database, home.clock), bytes_max=1_000_000, zone=UTC)
    return home.dreamer(config, promotes=DeepSleep(Promoter(file, home.recalls, sources, FixedSettings(config, UTC))))


async def ask(home: Home, text: str, line: int, *, query: str) -> None:
    """Three questions on three days, each of which surfaced a passage."""
    hit = SearchHit("memory", "memory/2026-04-05.md", line, line, text, 0.95)
    for day in range(3):
        await home.recalls.record("main", f"{query} {day}", [hit], now_ms=NIGHT - 1 - day * DAY_MS)


@pytest.mark.anyio
async def test_what_was_asked_for_becomes_lasting_memory(home: Home) -> None:
    """What only passes noticed does not, whatever night it is; report and diary tell both."""
    await ask(home, KILN, 3, query="kiln")
    done = await home.night(deep_dreamer(home))

    assert (done["candidates"], done["promoted"], done["failed"]) == (1, 1, 0)
    deep = done["by_agent"]["main"]["deep"]
    assert deep == {
        "candidates": 1, "promoted": 1, "gave_way": 0, "waiting": "", "reconciled": 0, "rejected": {},
        "refused": {"recalls": 1}, "report": "memory/dreaming/deep/2026-04-06.md",
    }  # fmt: skip
    assert KILN in home.read("MEMORY.md")
    assert KEYS not in home.read("MEMORY.md")
    assert f"1 passage became lasting memory. “{KILN}” (memory/2026-04-05.md:3-3)." in home.read("DREAMS.md")

    for night in range(1, 8):
        home.write("memory/2026-04-05.md", NOTE, mtime_ns=night)
        await home.night(deep_dreamer(home), now_ms=NIGHT + night * DAY_MS)
    assert home.read("MEMORY.md").count(KILN) == 1
    assert KEYS not in home.read("MEMORY.md")


@pytest.mark.anyio
async def test_a_night_that_was_stopped_promotes_no_more_than_one_may(home: Home) -> None:
    """Stopped before its promotion was on record with the run: it finds what it did, and stays within its limit."""
    await ask(home, KILN, 3, query="kiln")
    await ask(home, KEYS, 5, query="key")
    config = DreamingConfig(limit=1)
    run = home.begin_run()
    first = await deep_dreamer(home, config).sweep(run, NIGHT)
    memory, diary = home.read("MEMORY.md"), home.read("DREAMS.md")
    assert (first["promoted"], memory.count("openclaw-memory-promotion:")) == (1, 1)

    home.sql("DELETE FROM dream_steps WHERE step IN ('deep', 'diary', 'entry')")
    again = await deep_dreamer(home, config).sweep(run, NIGHT + 3_600_000)
    assert again["promoted"] == 1
    assert home.read("MEMORY.md") == memory
    assert home.read("DREAMS.md").startswith(diary.partition("<!-- openclaw:dreaming:diary:end")[0])


@pytest.mark.anyio
async def test_a_promotion_that_was_planned_is_settled_first(home: Home) -> None:
    """Killed between the file and its record: the next try counts what the file holds."""
    await ask(home, KILN, 3, query="kiln")
    config = DreamingConfig(limit=1)
    run = home.begin_run()
    await deep_dreamer(home, config).sweep(run, NIGHT)
    home.sql("UPDATE memory_changes SET state = 'planned', ended_at = NULL")
    home.sql("UPDATE recall_entries SET promoted_at = NULL")
    home.sql("DELETE FROM dream_steps WHERE step IN ('deep', 'diary', 'entry')")
    await ask(home, KEYS, 5, query="key")
    done = await deep_dreamer(home, config).sweep(run, NIGHT)

    assert done["promoted"] == 1
    assert home.read("MEMORY.md").count("openclaw-memory-promotion:") == 1
    assert [entry.promoted_at_ms for entry in await home.entries() if entry.snippet == KILN] == [NIGHT]


def test_what_a_report_of_promotion_comes_to() -> None:
    """Written ones are named; marked ones are counted; what waits says why and how many."""
    applied = (Applied("a", "p", 1, 1, "A.", 0.9), Applied("b", "p", 2, 2, "B.", 0.8, reconciled=True))
    rejections, waiting = {"budget": 2, "source": 1}, "MEMORY.md is full"
    done = outcome_of(
        PromotionReport("main", "x", applied, rejections=rejections, gave_way=3, waiting=waiting, gates={"recalls": 4})
    )

    assert (done.keys, done.candidates, done.gave_way) == (("a",), 5, 3)
    assert done.waiting == "2 passages wait: MEMORY.md is full"
    assert done.counts == {"reconciled": 1, "rejected": {"budget": 2, "source": 1}, "refused": {"recalls": 4}}
