"""What it costs to take over a large cache of vectors, to count it, to look texts up in it, and to add when it is full.

    python -m benchmarks.embedding_cache [--rows N] [--dims N] [--folder DIR] [--json]

Seeds `--rows` vectors of `--dims` numbers in batches of 2,000, one transaction each, into a new file. `loop_lag_ms_max`
is how late the event loop was meanwhile, at worst; `rss_mib` the memory of the process at the end. Then the file is
opened again with a bound it has already reached, counted, asked for 400 texts, and given 10,000 vectors more, each
batch of which evicts as many. The file needs about `rows * (dims * 4.4)` bytes of disk.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import Report, process_rss_mib
from reverie.clock import SystemClock
from reverie.memory.embedding_cache import EmbeddingCache
from reverie.storage import EMBEDDINGS, Database

BATCH = 2_000
MORE = 10_000
LOOKED_UP = 400
TICK_S = 0.005
IDENTITY = "openai/text-embedding-3-small/1/{dims}/unit"


async def lag_ms_max(worst: list[float]) -> None:
    """Note how late the loop wakes a task that sleeps."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(TICK_S)
        worst[0] = max(worst[0], (time.perf_counter() - before - TICK_S) * 1000)


async def seeded(cache: EmbeddingCache, rows: int, dims: int) -> tuple[float, float, list[bytes]]:
    """Seed rows; returns the seconds, the worst lag of the loop in milliseconds, and the keys of the last batch."""
    vectors = np.random.default_rng(1).standard_normal((BATCH, dims)).astype("<f4")
    blobs = [vector.tobytes() for vector in vectors / np.linalg.norm(vectors, axis=1, keepdims=True)]
    worst, keys = [0.0], list[bytes]()
    ticker = asyncio.create_task(lag_ms_max(worst))
    started = time.perf_counter()
    for start in range(0, rows, BATCH):
        keys = [os.urandom(16) for _ in range(min(BATCH, rows - start))]
        await cache.seed(IDENTITY.format(dims=dims), dims, list(zip(keys, blobs, strict=False)))
    took_s = time.perf_counter() - started
    ticker.cancel()
    return took_s, worst[0], keys


async def run(rows: int, dims: int, folder: Path) -> Report:
    """All measurements, in a file that is deleted afterwards."""
    path = folder / "embeddings.db"
    database = await Database.open(path, EMBEDDINGS, now_ms=0)
    cache = EmbeddingCache(database, entries_max=rows, bytes_max=2**40, clock=SystemClock())
    seed_s, lag_ms, keys = await seeded(cache, rows, dims)
    await database.aclose()
    database = await Database.open(path, EMBEDDINGS, now_ms=0)
    cache = EmbeddingCache(database, entries_max=rows, bytes_max=2**40, clock=SystemClock())
    started = time.perf_counter()
    await cache.open()
    counted = time.perf_counter()
    await cache.lookup(IDENTITY.format(dims=dims), keys[:LOOKED_UP], dims)
    looked_up = time.perf_counter()
    full_s, _, _ = await seeded(cache, MORE, dims)
    held = cache.statistics()
    await database.aclose()
    figures = {
        "seeded_rows": float(rows),
        "seed_s": seed_s,
        "seeded_rows_s": rows / seed_s,
        "loop_lag_ms_max": lag_ms,
        "rss_mib": process_rss_mib(os.getpid()),
        "file_bytes_row": path.stat().st_size / rows,
        "count_ms": (counted - started) * 1000,
        "lookup_400_ms": (looked_up - counted) * 1000,
        "seeded_rows_s_when_full": MORE / full_s,
        "evicted": float(held.evicted),
    }
    return Report(f"embedding cache, {dims} numbers", figures)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embedding_cache", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=1_536)
    parser.add_argument("--folder", type=Path, default=None, help="where the file is made (default: the system's)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        report = asyncio.run(run(arguments.rows, arguments.dims, Path(folder)))
    report.show(as_json=arguments.json)


if __name__ == "__main__":
    main()
