"""What it costs to weigh everything that was recalled, and to dream over a large memory.

    python -m benchmarks.dreaming [--scale full|small] [--json]

`rank_10k_ms` is the median time of 20 rankings of 10,000 passages by the default rules, `rank_10k_ms_max` the longest,
after a first one, `rank_10k_ms_first`, in which the words of every passage are read. Two thirds of the passages
reach the last gate, that of the score.
`tags_ms` is the median time in which the tags of one passage of 800 characters are found, over as many passages as are
ranked.

Then whole sweeps, in a process of their own, over 100,000 recalled passages, 1,000 daily notes of 20 paragraphs and
20,000 messages: the first, which reads everything, and a second a day later, when 20 notes have changed. `sweep_s` and
`next_sweep_s` are how long they take, `rss_mib_max` the most memory that process had, `rss_mib_before` what it had with
the home open, and `loop_stall_ms_max` and `_p99` how late a tick of 5 ms came on its event loop. `idle_stall_ms_max` is
the same for ten seconds in which nothing happens: what the machine itself does to a loop. `cancel_ms_max` is the
longest of 20 sweeps to stop after it was cancelled at random.

`--scale small` is for trying it out, and its figures say nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Report, process_rss_mib, quantile
from reverie.app import dreamer_over, open_memory
from reverie.cli.server import spare_the_collector
from reverie.config import Home, load_config
from reverie.dreaming.candidates import DAY_MS, Rules, rank
from reverie.dreaming.concepts import concept_tags
from reverie.dreaming.entry import RecallEntry, entry_key, query_hash
from reverie.dreaming.runs import DreamRuns
from reverie.sessions.store import PastMessage
from reverie.testing import FakeClock
from reverie.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from reverie.app import OpenMemory
    from reverie.dreaming.sweep import Dreamer

SEED = 20_261_121
NOW_MS = 1_776_000_000_000
WORDS = (
    "roaster",
    "service",
    "März",
    "router",
    "备份",
    "バックアップ",
    "라우터",
    "invoice",
    "garden",
    "flight",
    "gateway",
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How many passages, and how often they are ranked."""

    entries: int
    runs: int
    recalled: int
    notes: int
    messages: int
    cancelled: int
    idle_s: float


SCALES = {
    "full": Scale(10_000, 20, recalled=100_000, notes=1_000, messages=20_000, cancelled=20, idle_s=10),
    "small": Scale(200, 2, recalled=300, notes=20, messages=100, cancelled=3, idle_s=0.2),
}
PARAGRAPHS = 20


def entry(chance: random.Random, number: int) -> RecallEntry:
    """A passage, recalled at random."""
    path, line = f"memory/2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}.md", 1 + number
    recalls, daily = chance.choice((0, 1, 3, 5, 9, 20)), chance.randint(0, 3)
    queries = tuple(query_hash(f"{number} {each}") for each in range(min(32, recalls)))
    days = sorted({f"2026-03-{chance.randint(1, 31):02}" for _ in range(min(16, recalls + daily))})
    return RecallEntry(
        entry_key(path, line, line), path, line, line, f"{number}. {' '.join(chance.choices(WORDS, k=20))}.",
        recall_count=recalls, daily_count=daily, total_score=chance.uniform(0.4, 1) * (recalls + daily),
        last_recalled_at_ms=NOW_MS - chance.randrange(60 * DAY_MS), queries=queries, user_queries=queries,
        days=tuple(days), tags=tuple(WORDS[: chance.randint(0, 8)]),
        light_hits=chance.randint(0, 6), light_at_ms=NOW_MS, rem_hits=chance.randint(0, 6), rem_at_ms=NOW_MS,
    )  # fmt: skip


def timed_ms(work: Callable[[], object]) -> float:
    """How long it took, in milliseconds."""
    started = time.perf_counter()
    work()
    return 1_000 * (time.perf_counter() - started)


def run(scale: Scale) -> Report:
    """All measurements."""
    chance = random.Random(SEED)
    entries = [entry(chance, number) for number in range(scale.entries)]
    first_ms = timed_ms(lambda: rank(entries, Rules(), NOW_MS))
    ranking = rank(entries, Rules(), NOW_MS)
    ranked = [timed_ms(lambda: rank(entries, Rules(), NOW_MS)) for _ in range(scale.runs)]
    texts = [" ".join(chance.choices(WORDS, k=150))[:800] for _ in range(scale.entries)]
    tagged = [timed_ms(lambda text=text: concept_tags("memory/2026-04-01.md", text)) for text in texts]
    figures = {
        "entries": float(scale.entries),
        "candidates": float(len(ranking.candidates)),
        "rejected": float(len(ranking.rejected)),
        "rank_10k_ms_first": first_ms,
        "rank_10k_ms": quantile(ranked, 0.5),
        "rank_10k_ms_max": max(ranked),
        "tags_ms": quantile(tagged, 0.5),
    }
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures |= pool.apply(sweeps, (scale,))
    return Report("dreaming", figures)


# -- whole sweeps, in a process of their own -------------------------------------------------------------------------


def sweeps(scale: Scale) -> dict[str, float]:
    """All measurements of sweeps."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_sweeps(Home(Path(folder)), scale))


async def _sweeps(home: Home, scale: Scale) -> dict[str, float]:
    flags = {
        "memory": {"watch": False},
        "dreaming": {"entries_max": max(16, scale.recalled), "time_zone": "UTC", "memory_chars_max": 0},
    }
    config, clock = load_config(home, flags), FakeClock(NOW_MS)
    async with open_memory(home, config, embedder=None, clock=clock) as opened:
        await fill(opened, scale)
        spare_the_collector()  # as a server does once it serves
        dreamer = dreamer_over(opened)
        before = process_rss_mib(os.getpid())
        figures = {"rss_mib_before": before, "idle_stall_ms_max": max([ms async for ms in late(scale.idle_s)])}
        ticks: list[float] = []
        figures["sweep_s"], most = await measured(dreamer, opened, NOW_MS, ticks)
        for number in range(0, scale.notes, max(1, scale.notes // 20)):
            write_note(opened, number, f"Changed since: shelf {number} moved to the cellar.")
        figures["next_sweep_s"], most_next = await measured(dreamer, opened, NOW_MS + DAY_MS, ticks)
        figures["rss_mib_max"] = max(before, most, most_next)
        figures["loop_stall_ms_max"], figures["loop_stall_ms_p99"] = max(ticks), quantile(ticks, 0.99)
        stops = [await cancelled(dreamer, opened, NOW_MS + (2 + n) * DAY_MS, n) for n in range(scale.cancelled)]
        figures["cancel_ms_max"] = max(stops)
    return figures


async def fill(opened: OpenMemory, scale: Scale) -> None:
    """Recalled passages, of which many stand in the notes; the notes; conversations of their owner's."""
    chance = random.Random(SEED)
    for number in range(scale.notes):
        write_note(opened, number)
    await opened.recalls.take_in("main", [entry(chance, n) for n in range(scale.recalled)], updated_at_ms=NOW_MS)
    said = [
        PastMessage("user", f"Kettle {n} is on shelf {n % 97} of the cellar.", "", "", NOW_MS - n)
        for n in range(scale.messages)
    ]
    await opened.sessions.import_session(SessionKey("main", "agent:main:past"), "", said, mine=True)


def write_note(opened: OpenMemory, number: int, more: str = "") -> None:
    """A daily note of some day before the night."""
    day = datetime.fromtimestamp((NOW_MS - number * DAY_MS) / 1_000, UTC).date()
    lines = "".join(f"\nThe kettle of {number}-{part} stands in the cellar.\n" for part in range(PARAGRAPHS))
    (opened.workspaces["main"] / f"memory/{day}.md").write_text(f"# {day}\n{lines}\n{more}\n", encoding="utf-8")


async def measured(dreamer: Dreamer, opened: OpenMemory, at_ms: int, ticks: list[float]) -> tuple[float, float]:
    """How long one sweep takes, in seconds, and the most memory meanwhile; how late the loop was goes to `ticks`."""
    most = 0.0

    async def watch() -> None:
        nonlocal most
        async for late_ms in late(None):
            ticks.append(late_ms)
            if len(ticks) % 50 == 0:
                most = max(most, await asyncio.to_thread(process_rss_mib, os.getpid()))

    run_id = await begun(opened, at_ms)
    watching = asyncio.create_task(watch())
    started = time.perf_counter()
    await dreamer.sweep(run_id, at_ms)
    took_s = time.perf_counter() - started
    watching.cancel()
    await ended(opened, run_id)
    return took_s, max(most, process_rss_mib(os.getpid()))


async def late(for_s: float | None) -> AsyncGenerator[float]:
    """By how many milliseconds each tick came late, for so long; None: for ever."""
    started = time.perf_counter()
    while for_s is None or time.perf_counter() - started < for_s:
        asked = time.perf_counter()
        await asyncio.sleep(0.005)
        yield 1_000 * max(0.0, time.perf_counter() - asked - 0.005)


async def cancelled(dreamer: Dreamer, opened: OpenMemory, at_ms: int, seed: int) -> float:
    """How long a sweep that is cancelled at random takes to stop, in milliseconds."""
    run_id = await begun(opened, at_ms)
    sweep = asyncio.create_task(dreamer.sweep(run_id, at_ms))
    await asyncio.sleep(random.Random(seed).uniform(0, 1))
    asked = time.perf_counter()
    sweep.cancel()
    with suppress(asyncio.CancelledError):
        await sweep
    took_ms = 1_000 * (time.perf_counter() - asked)
    await ended(opened, run_id)
    return took_ms


async def begun(opened: OpenMemory, at_ms: int) -> str:
    """A run of dreaming at an instant, put on record as whoever begins one does; its id."""
    assert isinstance(opened.clock, FakeClock)
    opened.clock.set(at_ms)
    return (await DreamRuns(opened.state, opened.clock).begin("manual", at_ms)).run.id


async def ended(opened: OpenMemory, run_id: str) -> None:
    """A run is over."""
    await DreamRuns(opened.state, opened.clock).finish(run_id, {})


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dreaming", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run(SCALES[arguments.scale]).show(as_json=arguments.json)


if __name__ == "__main__":
    main()
