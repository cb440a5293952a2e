"""What recalling what was learned costs a turn, and whether it finds what is there, however much that is.

    python -m benchmarks.learned_recall [--sizes 5000,100000] [--queries 200] [--json]

So many traces of one agent and of equal priority, with made-up words and random vectors of 512 dimensions, each size in
a process of its own, through the product's own recall. `found` is how many of the questions bring their target among
the hits, a trace at random, when a question is its vector and noise, and shares no word with it; the vector of a
question costs nothing here, because a search of memory has computed it. `meaning_ms` are the times of these; `words_ms`
those of questions in three words of their target besides, one of which is in every third trace.

`load_s` is how long the vectors take to be read at first, `load_stall_ms_max` how late a tick of 5 ms came on the event
loop meanwhile, and `stall_ms_max` and `_p99` the same during the questions; `idle_stall_ms_max` is what the machine
does to an idle loop. `rss_mib_loaded` is what the process took more once they were there, of which `matrix_mib` is for
the vectors.
`change_ms` is a question right after ten traces were given new vectors.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import tempfile
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import numpy as np

from benchmarks.report import Report, process_rss_mib, quantile
from reverie.cli.server import spare_the_collector
from reverie.clock import SystemClock
from reverie.config import LearningConfig
from reverie.learning.recall.recall import LearnedRecall
from reverie.storage import STATE, Database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from numpy.typing import NDArray

SEED = 20_261_127
SIZES = (5_000, 100_000)
DIMS = 512
NOISE = 0.02
WORDS_OF_TEXT = 30
TICK_S = 0.005
IDLE_S = 3.0
BATCH = 2_000
CHANGED = 10
NOW_MS = 1_776_000_000_000
DEADLINE_MS = 10_000
TRACE = """
INSERT INTO traces (id, task_id, episode_id, agent, session_id, first_seq, last_seq, turn_seq, step, at, window,
  user_text, agent_text, value, digest, provenance, vec_summary, vec_action)
VALUES (?, ?, ?, 'main', ?, 1, 2, 1, 0, ?, 1, ?, ?, 0.5, 'd', 'agent', ?, ?)
"""


class Traces:
    """Made-up traces: their vectors and words by their number."""

    def __init__(self, count: int) -> None:
        chance = np.random.default_rng(SEED)
        self.count = count
        self.summaries = _units(chance.standard_normal((count, DIMS), np.float32))
        self.actions = _units(chance.standard_normal((count, DIMS), np.float32))

    def words(self, number: int) -> list[str]:
        """The words of a trace: most are rare; of the first, three make up all."""
        chance = random.Random(number)
        return [f"common{number % 3}", *(f"w{chance.randrange(50_000):05}x" for _ in range(WORDS_OF_TEXT))]

    def write(self, path: Path) -> None:
        """Into the database, in batches."""
        connection = apsw.Connection(str(path))
        connection.pragma("foreign_keys", 0)
        connection.pragma("synchronous", "OFF")
        for first in range(0, self.count, BATCH):
            numbers = range(first, min(self.count, first + BATCH))
            with connection:
                connection.executemany(TRACE, (self._row(number) for number in numbers))
        connection.close()

    def _row(self, number: int) -> tuple[str | int | bytes, ...]:
        words = self.words(number)
        half = WORDS_OF_TEXT // 2
        return (
            f"tr_{number}", f"ta_{number}", f"ep_{number}", f"s{number}", NOW_MS - number, " ".join(words[:half]),
            " ".join(words[half:]), self.summaries[number].tobytes(), self.actions[number].tobytes(),
        )  # fmt: skip


class Ticks:
    """How late a tick came on the event loop, in milliseconds."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            self.late_ms.append(1_000 * (time.perf_counter() - due))


def measure(count: int, queries: int) -> dict[str, float]:
    """All figures for so many traces, in a process that collects garbage as a server does."""
    spare_the_collector()
    with tempfile.TemporaryDirectory(prefix="reverie-learned-") as folder:
        return asyncio.run(_measure(Path(folder) / "state.db", Traces(count), queries))


async def _measure(path: Path, traces: Traces, queries: int) -> dict[str, float]:
    database = await Database.open(path, STATE, now_ms=NOW_MS)
    await asyncio.to_thread(traces.write, path)
    asked: list[NDArray[np.float32]] = []

    async def vector(_text: str) -> NDArray[np.float32]:
        return asked[-1]

    recall = LearnedRecall(database, vector, SystemClock(), LearningConfig(), deadline_ms=DEADLINE_MS)
    figures = {"traces": float(traces.count)}
    figures |= await _loaded(recall)
    chance = random.Random(SEED)
    targets = [chance.randrange(traces.count) for _ in range(queries)]
    ticks = Ticks()
    async with _running(ticks):
        found, meaning_ms = 0, list[float]()
        for target in targets:
            asked.append(_beside(traces.summaries[target], target))
            hits, took_ms = await _timed(recall, "where does it belong")
            found += f"learned/tr_{target}" in hits
            meaning_ms.append(took_ms)
        named, words_ms = 0, list[float]()
        for target in targets:
            asked.append(_beside(traces.summaries[target], target))
            hits, took_ms = await _timed(recall, " ".join(traces.words(target)[:3]))
            named += f"learned/tr_{target}" in hits
            words_ms.append(took_ms)
        figures["change_ms"] = await _after_a_change(path, recall, traces, asked)
    figures |= {"queries": float(queries), "found": float(found), "found_with_words": float(named)}
    for name, times in (("meaning_ms", meaning_ms), ("words_ms", words_ms)):
        figures |= {f"{name}_p50": quantile(times, 0.5), f"{name}_p95": quantile(times, 0.95)}
    figures |= {"stall_ms_p99": quantile(ticks.late_ms, 0.99), "stall_ms_max": max(ticks.late_ms)}
    await recall.aclose()
    await database.aclose()
    return figures


async def _loaded(recall: LearnedRecall) -> dict[str, float]:
    """Read the vectors, and what that costs."""
    idle, ticks = Ticks(), Ticks()
    async with _running(idle):
        await asyncio.sleep(IDLE_S)
    before, started = process_rss_mib(os.getpid()), time.perf_counter()
    async with _running(ticks):
        await recall.warm("main", DIMS)
    return {
        "load_s": time.perf_counter() - started,
        "idle_stall_ms_max": max(idle.late_ms),
        "load_stall_ms_max": max(ticks.late_ms),
        "rss_mib_loaded": process_rss_mib(os.getpid()) - before,
        "matrix_mib": recall.statistics().matrix_bytes / 2**20,
    }


async def _after_a_change(path: Path, recall: LearnedRecall, traces: Traces, asked: list[NDArray[np.float32]]) -> float:
    def change() -> None:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(5_000)
        with connection:
            for number in range(CHANGED):
                values = (traces.actions[number].tobytes(), f"tr_{number}")
                connection.execute("UPDATE traces SET vec_summary = ? WHERE id = ?", values)
        connection.close()

    await asyncio.to_thread(change)
    asked.append(traces.summaries[-1])
    return (await _timed(recall, "where does it belong"))[1]


async def _timed(recall: LearnedRecall, text: str) -> tuple[list[str], float]:
    started = time.perf_counter()
    hits = await recall.recall("main", text, "new")
    return [hit.path for hit in hits], 1_000 * (time.perf_counter() - started)


@asynccontextmanager
async def _running(ticks: Ticks) -> AsyncGenerator[None]:
    task = asyncio.create_task(ticks.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _beside(vector: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """A vector near another one."""
    noise = np.random.default_rng(number).standard_normal(DIMS).astype(np.float32)
    return _units((vector + np.float32(NOISE) * noise)[None, :].astype(np.float32))[0]


def run(sizes: Sequence[int], queries: int) -> Report:
    """All sizes, each in a process of its own."""
    groups: dict[str, dict[str, float]] = {}
    for size in sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            groups[f"{size:,}"] = pool.apply(measure, (size, queries))
    return Report("learned recall", groups[f"{sizes[-1]:,}"], groups=groups)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="how many traces, such as 5000,100000")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    run([int(size) for size in options.sizes.split(",")], options.queries).show(as_json=options.as_json)


if __name__ == "__main__":
    main()
