"""How soon the probes answer while the very process that serves them copies rows into a database.

    python -m benchmarks.probes [--rows N] [--dims N] [--folder DIR] [--json]

Opens an empty home, serves it, and seeds `--rows` vectors of `--dims` numbers through the embedding cache in batches of
2,000, in the same process. Another process asks `/healthz` and `/readyz` of the gateway and `/livez` of the probe
listener, each every 20 ms; a late answer counts from the moment it was due. `loop_ms` is how late the event loop was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.gateway import read_answer
from benchmarks.report import Report, process_rss_mib, quantile
from reverie.cli.listening import address_of, take_port
from reverie.cli.logs import configure_logs
from reverie.cli.server import ServerPlan, run_on_fast_loop, serve_until_stopped
from reverie.config import Home, load_config
from reverie.memory.embedding_cache import EmbeddingCache

if TYPE_CHECKING:
    from reverie.app import App

HOST = "127.0.0.1"
BATCH = 2_000
PROBE_S = 0.02
TICK_S = 0.005
QUIET_S = 1.0


@dataclass(slots=True)
class Seen:
    """What came of the copy."""

    copy_s: float
    loop_ms: list[float]
    answers_ms: dict[str, list[float]]
    rss_mib: float


# -- the process that copies -----------------------------------------------------------------------------------------


def measure(rows: int, dims: int, folder: Path) -> Seen:
    """Serve a new home in this process, copy, and collect what the probing process saw."""
    home = Home(folder / "home")
    settings = {"upstream": {"detect": False}, "memory": {"embedder": "none", "watch": False}}
    config = load_config(home, settings)
    port, probe_port = take_port(HOST, 0), take_port(HOST, 0)
    plan = ServerPlan(home, config, None, address_of(port, HOST), port, probe_port)
    seen: list[Seen] = []

    async def listening(app: App) -> None:
        urls = [f"{plan.url}/healthz", f"{plan.url}/readyz", f"{address_of(probe_port, HOST)}/livez"]
        seen.append(await copied_beside_probes(app, rows, dims, urls))
        os.kill(os.getpid(), 15)

    run_on_fast_loop(serve_until_stopped(plan, listening))
    return seen[0]


async def copied_beside_probes(app: App, rows: int, dims: int, urls: list[str]) -> Seen:
    """Copy while another process probes; every answer it got has to be 200."""
    command = [sys.executable, "-m", "benchmarks.probes", *(f"--probe={url}" for url in urls)]
    prober = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert prober.stdout is not None
    await prober.stdout.readline()  # it has had one answer of each
    await asyncio.sleep(QUIET_S)
    late: list[float] = []
    ticker = asyncio.create_task(ticking(late))
    started = time.perf_counter()
    await copy(app, rows, dims)
    copy_s = time.perf_counter() - started
    ticker.cancel()
    out, _ = await prober.communicate(b"")
    return Seen(copy_s, late, json.loads(out), process_rss_mib(os.getpid()))


async def copy(app: App, rows: int, dims: int) -> None:
    """Seed the embedding cache, one transaction a batch."""
    cache = EmbeddingCache(app.open.embeddings_db, entries_max=rows, bytes_max=2**40, clock=app.clock)
    vectors = np.random.default_rng(1).standard_normal((BATCH, dims)).astype("<f4")
    blobs = [vector.tobytes() for vector in vectors / np.linalg.norm(vectors, axis=1, keepdims=True)]
    for start in range(0, rows, BATCH):
        keys = [os.urandom(16) for _ in range(min(BATCH, rows - start))]
        await cache.seed(f"openai/text/1/{dims}/unit", dims, list(zip(keys, blobs, strict=False)))


async def ticking(late_ms: list[float]) -> None:
    """Note how late the loop wakes a task that sleeps."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(TICK_S)
        late_ms.append(max(0.0, (time.perf_counter() - before - TICK_S) * 1000))


# -- the process that probes -----------------------------------------------------------------------------------------


async def probed(urls: list[str]) -> dict[str, list[float]]:
    """Ask each URL on a fixed beat until standard input ends; the milliseconds from when an answer was due.

    Prints an empty line when each has answered once; those answers are not counted.
    """
    stop = asyncio.Event()
    await asyncio.gather(*map(ask, urls))
    print(flush=True)
    asyncio.get_running_loop().run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: stop.set())
    times = await asyncio.gather(*(ask_steadily(url, stop) for url in urls))
    return {url.rpartition("/")[2]: found for url, found in zip(urls, times, strict=True)}


async def ask_steadily(url: str, stop: asyncio.Event) -> list[float]:
    """One probe after the other."""
    times: list[float] = []
    due = time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await ask(url)
        times.append(1_000 * (time.perf_counter() - due))
        due = max(due + PROBE_S, time.perf_counter())
    return times


async def ask(url: str) -> None:
    """One probe, over a connection of its own, as a watchdog does."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
    status = await read_answer(reader)
    writer.close()
    if status != 200:
        raise RuntimeError(f"{url} answered {status}")


def report(rows: int, dims: int, seen: Seen) -> Report:
    """The published figures."""
    figures = {
        "rows": float(rows),
        "copy_s": seen.copy_s,
        "rows_s": rows / seen.copy_s,
        "rss_mib": seen.rss_mib,
        "loop_ms_p99": quantile(seen.loop_ms, 0.99),
        "loop_ms_max": max(seen.loop_ms),
    }
    for name, times in seen.answers_ms.items():
        figures[f"{name}_answers"] = float(len(times))
        figures[f"{name}_ms_p50"] = quantile(times, 0.5)
        figures[f"{name}_ms_p99"] = quantile(times, 0.99)
        figures[f"{name}_ms_max"] = max(times)
    return Report(f"probes, {dims} numbers", figures)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.probes", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--dims", type=int, default=1_536)
    parser.add_argument("--folder", type=Path, default=None, help="where the home is made (default: the system's)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--probe", action="append", default=[], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        print(json.dumps(asyncio.run(probed(arguments.probe))))
        return
    configure_logs("warning", as_json=None)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        seen = measure(arguments.rows, arguments.dims, Path(folder))
    report(arguments.rows, arguments.dims, seen).show(as_json=arguments.json)


if __name__ == "__main__":
    main()
