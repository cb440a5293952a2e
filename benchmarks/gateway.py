"""What a turn costs beside its model: the same upstream called directly and through Reverie, in turns.

    python -m benchmarks.gateway [--seconds S] [--rounds N] [--memory N] [--json]

The upstream answers without delay, so everything that is measured is Reverie: accepting the turn durably, searching
memory, assembling the prompt, the call, the record. Memory is on and filled with `--memory` messages before. Each
connection is a client of its own with a session of its own that grows with every turn. Upstream, Reverie and the load
are three processes on one machine; `added` is the median (99th percentile) through Reverie less the same directly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.report import Report, process_cpu_s, process_rss_mib, quantile
from reverie import Memory
from reverie.app import open_memory
from reverie.config import Home, load_config
from reverie.sessions.store import PastMessage
from reverie.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

CONNECTIONS = (1, 8, 32)
TOPICS = (
    "garden",
    "kiln",
    "ledger",
    "harbour",
    "engine",
    "orchard",
    "violin",
    "lantern",
    "printer",
    "bakery",
    "museum",
)
VERBS = ("repaired", "visited", "planned", "measured", "painted", "ordered", "cancelled", "described", "moved")


@dataclass(frozen=True, slots=True)
class Target:
    """A server to load: its URL and its process."""

    name: str
    url: str
    pid: int


@dataclass(slots=True)
class Samples:
    """Latencies and throughput of one target at one setting, over all rounds."""

    latencies_ms: list[float] = field(default_factory=list[float])
    turns_per_s: list[float] = field(default_factory=list[float])
    cpu_ms_per_turn: list[float] = field(default_factory=list[float])


async def run(seconds: float, rounds: int, messages: int) -> Report:
    """Start everything, warm up, measure in turns."""
    with tempfile.TemporaryDirectory(prefix="reverie-bench-") as folder:
        home = Path(folder)
        searchable_ms = await fill(home, messages)
        async with upstream_process() as upstream, reverie_process(home, upstream.url) as (reverie, start_s):
            await asyncio.sleep(2)
            rss_idle = process_rss_mib(reverie.pid)
            samples = await measure(upstream, reverie, seconds, rounds)
            rss_loaded = process_rss_mib(reverie.pid)
    return summarise(
        samples,
        {
            "start_s": start_s,
            "searchable_ms_p50": searchable_ms,
            "rss_mib_idle": rss_idle,
            "rss_mib_loaded": rss_loaded,
        },
    )


async def measure(
    upstream: Target, reverie: Target, seconds: float, rounds: int
) -> dict[tuple[str, int, bool], Samples]:
    """Each setting on each target, `rounds` times, one after the other."""
    samples: dict[tuple[str, int, bool], Samples] = {}
    for target in (upstream, reverie):
        await load(target, 8, stream=False, seconds=1, round_number=-1)
    for round_number in range(rounds):
        for connections in CONNECTIONS:
            for stream in (False, True):
                for target in (upstream, reverie):
                    kept = samples.setdefault((target.name, connections, stream), Samples())
                    cpu = process_cpu_s(target.pid)
                    started = time.perf_counter()
                    latencies = await load(
                        target, connections, stream=stream, seconds=seconds, round_number=round_number
                    )
                    kept.turns_per_s.append(len(latencies) / (time.perf_counter() - started))
                    kept.cpu_ms_per_turn.append(1_000 * (process_cpu_s(target.pid) - cpu) / max(1, len(latencies)))
                    kept.latencies_ms += latencies
    return samples


async def load(target: Target, connections: int, *, stream: bool, seconds: float, round_number: int) -> list[float]:
    """Closed-loop clients for some seconds; each turn's latency in milliseconds."""
    stop_at = time.perf_counter() + seconds
    users = [f"bench-{round_number}-{connections}-{stream}-{n}" for n in range(connections)]
    results = await asyncio.gather(*(client(target, user, stream=stream, stop_at=stop_at) for user in users))
    return [latency for latencies in results for latency in latencies]


async def client(target: Target, user: str, *, stream: bool, stop_at: float) -> list[float]:
    """One connection that asks until the time is up; a plain socket, which costs little beside the server."""
    host, port = target.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    choose = random.Random(user)
    latencies: list[float] = []
    while time.perf_counter() < stop_at:
        day = choose.randrange(1_000_000)  # no two questions are the same, so nothing is answered from a cache
        question = (
            f"What did we do on day {day}, when was it that we {choose.choice(VERBS)} the {choose.choice(TOPICS)}?"
        )
        body = {"model": "reverie", "user": user, "stream": stream, "messages": [{"role": "user", "content": question}]}
        data = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        started = time.perf_counter()
        writer.write(head.encode() + data)
        status = await read_answer(reader)
        latencies.append(1_000 * (time.perf_counter() - started))
        if status != 200:
            raise RuntimeError(f"{target.name} answered {status}")
    writer.close()
    await writer.wait_closed()
    return latencies


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read one whole HTTP/1.1 answer; returns its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = re.search(r"content-length: (\d+)", head)
    if length is not None:
        await reader.readexactly(int(length[1]))
    else:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    return int(head.split(" ", 2)[1])


def summarise(samples: dict[tuple[str, int, bool], Samples], figures: dict[str, float]) -> Report:
    """The published keys for plain answers, the same with `_stream`, and the upstream alone as the peer."""
    direct: dict[str, float] = {}
    for stream in (False, True):
        suffix = "_stream" if stream else ""
        for connections in CONNECTIONS:
            ours, theirs = samples["reverie", connections, stream], samples["direct", connections, stream]
            for share, name in ((0.5, "p50"), (0.99, "p99")):
                through, alone = quantile(ours.latencies_ms, share), quantile(theirs.latencies_ms, share)
                figures[f"added_ms_{name}_c{connections}{suffix}"] = through - alone
            figures[f"turns_per_s_c{connections}{suffix}"] = median(ours.turns_per_s)
            direct[f"turns_per_s_c{connections}{suffix}"] = median(theirs.turns_per_s)
        figures[f"cpu_ms_per_turn{suffix}"] = median(samples["reverie", 32, stream].cpu_ms_per_turn)
        direct[f"cpu_ms_per_turn{suffix}"] = median(samples["direct", 32, stream].cpu_ms_per_turn)
    return Report("gateway", figures, peers={"direct": direct})


def sentence(choose: random.Random, number: int) -> str:
    """Something to remember."""
    what, with_what = choose.choice(TOPICS), choose.choice(TOPICS)
    return f"On day {number} we {choose.choice(VERBS)} the {what} with {with_what} parts."


async def fill(home: Path, messages: int) -> float:
    """Fill a home with past conversations; returns the median time until a note just added is found, in ms."""
    choose = random.Random(0)
    config = load_config(Home(home))
    async with open_memory(Home(home), config) as opened:
        for number in range(0, messages, 200):
            past = [PastMessage("user", sentence(choose, number + n), "user", "", 1_000 + n) for n in range(200)]
            await opened.sessions.import_session(SessionKey("main", f"agent:main:import:bench:{number}"), "bench", past)
        await opened.memory.settle()
    times: list[float] = []
    async with Memory.open(home) as memory:
        for number in range(15):
            started = time.perf_counter()
            await memory.add(f"The password of box {number} is zebra{number}quartz.")
            hits = await memory.search(f"zebra{number}quartz", limit=1)
            times.append(1_000 * (time.perf_counter() - started))
            assert f"zebra{number}quartz" in hits[0].text
    return median(times)


@asynccontextmanager
async def upstream_process(*options: str) -> AsyncGenerator[Target]:
    """The fake upstream as a process, with more options of its command line where something else than speed counts."""
    command = [sys.executable, "-m", "reverie.testing.fake_upstream", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
            yield Target("direct", line.split()[-1], process.pid)
        finally:
            process.kill()


@asynccontextmanager
async def reverie_process(
    home: Path, upstream: str, *, starts: int = 2, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[tuple[Target, float]]:
    """Reverie as a process, and how long the last start took until it was ready; all but the first are warm ones.

    `environment` is added to this process's own.
    """
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "reverie",
        "serve",
        "--home",
        str(home),
        "--port",
        str(port),
        "--upstream",
        f"{upstream}/v1",
        "--model",
        "fake",
        "--json",
    ]
    url = f"http://127.0.0.1:{port}"
    start_s = 0.0
    for start in range(1, starts + 1):
        started = time.perf_counter()
        with (
            (home / "server.log").open("ab") as log,
            subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(environment or {})}) as process,
        ):
            try:
                await asyncio.to_thread(wait_ready, url, process, home / "server.log")
                start_s = time.perf_counter() - started
                if start == starts:
                    yield Target("reverie", url, process.pid), start_s
            finally:
                process.terminate()
                await asyncio.to_thread(process.wait)


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll /readyz until it says yes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Reverie did not start:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1) as answer:  # noqa: S310 (our own server)
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError("Reverie was not ready within 60 s")


def free_port() -> int:
    """A port nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=2_000, help="messages remembered before the run")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = asyncio.run(run(arguments.seconds, arguments.rounds, arguments.memory))
    report.show(as_json=arguments.json)


if __name__ == "__main__":
    main()
