"""Taking over a large OpenClaw memory while the gateway serves: what it costs, and what nobody should notice.

    python -m benchmarks.seed [--rows N] [--layout text|blob] [--folder DIR] [--json]

Writes a database in OpenClaw's layout, starts the real gateway with an offline model's server behind it, chats with it
ten times a second, asks `/healthz` every 20 ms, and runs `reverie import openclaw` beside it. Then, without a gateway,
each in a process of its own and beside a loop that ticks every 2 ms: all rows at once, rows one by one with a yield at
every thousandth (both on the loop), a plain row copy in a thread, and the import.

`stall` is how late the loop was. The gateway's is its own histogram over the import, so that it says below which bound
all its measurements are (`stall_max_below_ms`); the others' are their ticks. `no_import` is the same gateway, chat and
probes for some seconds before.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import numpy as np

from benchmarks.gateway import Target, read_answer, reverie_process, upstream_process
from benchmarks.report import Report, quantile
from reverie.clock import SystemClock
from reverie.config import Home, MemoryConfig, load_config
from reverie.importers.openclaw.seeding import open_store
from reverie.importers.openclaw.vector_import import import_vectors
from reverie.storage import EMBEDDINGS, Database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

DIMS = 1_536
ROWS_AT_ONCE = 2_000
NUMBER_CHARS = 12
NUMBERS = 65_536
PROBE_S = 0.02
CHAT_S = 0.1
TICK_S = 0.002
YIELD_ROWS = 1_000
SETTLE_S = 2.0
QUIET_S = 5.0
BUCKET = re.compile(r'^reverie_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', re.MULTILINE)
FETCHALL_SHARE = 0.25
"""All rows at once is measured only where they fit into this share of the machine's memory."""

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE files (path TEXT PRIMARY KEY, source TEXT NOT NULL DEFAULT 'memory', hash TEXT NOT NULL,
  mtime INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE TABLE chunks (id TEXT PRIMARY KEY, path TEXT NOT NULL, source TEXT NOT NULL DEFAULT 'memory',
  start_line INTEGER NOT NULL, end_line INTEGER NOT NULL, hash TEXT NOT NULL, model TEXT NOT NULL, text TEXT NOT NULL,
  embedding TEXT NOT NULL, updated_at INTEGER NOT NULL);
"""
CACHE = """
CREATE TABLE {name} (provider TEXT NOT NULL, model TEXT NOT NULL, provider_key TEXT NOT NULL, hash TEXT NOT NULL,
  embedding {kind} NOT NULL, dims INTEGER, updated_at INTEGER NOT NULL,
  PRIMARY KEY (provider, model, provider_key, hash));
CREATE INDEX {name}_by_time ON {name} (updated_at);
"""
INSERT = "INSERT INTO {name} VALUES (?, ?, ?, ?, ?, ?, ?)"
TABLES = {"text": ("embedding_cache", "TEXT"), "blob": ("memory_embedding_cache", "BLOB")}

Row = tuple[str, str, str, str, str | bytes, int, int]


# -- the source ------------------------------------------------------------------------------------------------------


def write_source(path: Path, rows: int, layout: str) -> None:
    """A database in OpenClaw's layout, the same for the same arguments, written a few rows at a time."""
    name, kind = TABLES[layout]
    with closing(apsw.Connection(str(path))) as database:
        database.pragma("journal_mode", "off")
        database.pragma("synchronous", "off")
        database.execute(SCHEMA + CACHE.format(name=name, kind=kind))
        for start in range(0, rows, ROWS_AT_ONCE):
            with database:
                database.executemany(
                    INSERT.format(name=name), source_rows(start, min(ROWS_AT_ONCE, rows - start), layout)
                )


def source_rows(start: int, count: int, layout: str) -> Iterator[Row]:
    """Some rows of the source. Numbers are taken from a fixed lot, as text of equal length, which is quick."""
    texts, numbers = number_lot()
    chosen = np.random.default_rng(start).integers(0, NUMBERS, (count, DIMS))
    for place, picks in enumerate(chosen):
        key = hashlib.sha256(f"text {start + place}".encode()).hexdigest()
        if layout == "text":
            joined = texts[picks].tobytes()
            embedding: str | bytes = "[" + joined[:-1].decode("ascii") + "]"
        else:
            embedding = numbers[picks].astype("<f8").tobytes()
        yield ("openai", "text-embedding-3-small", "key", key, embedding, DIMS, 1_770_000_000_000 + start + place)


_lot: list[Any] = []


def number_lot() -> tuple[Any, Any]:
    """Numbers as a vector of this size has them: as text with its comma, and as they are."""
    if not _lot:
        numbers = np.random.default_rng(0).normal(0, DIMS**-0.5, NUMBERS)
        texts = [f"{number:.{NUMBER_CHARS}f}"[:NUMBER_CHARS] + "," for number in numbers]
        _lot.extend((np.array(texts, dtype=f"S{NUMBER_CHARS + 1}"), numbers))
    return _lot[0], _lot[1]


# -- beside a gateway ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Watched:
    """What callers of the gateway saw for a while, and how often its loop was late by up to each bound in seconds."""

    probes_ms: list[float] = field(default_factory=list[float])
    turns_ms: list[float] = field(default_factory=list[float])
    late_by: dict[float, float] = field(default_factory=dict[float, float])

    def figures(self) -> dict[str, float]:
        """As figures of the report."""
        return {
            "stall_p99_below_ms": 1_000 * self._bound(0.99),
            "stall_max_below_ms": 1_000 * self._bound(1.0),
            "healthz_p50_ms": quantile(self.probes_ms, 0.5),
            "healthz_p99_ms": quantile(self.probes_ms, 0.99),
            "healthz_max_ms": max(self.probes_ms, default=0.0),
            "turns": len(self.turns_ms),
            "turn_p50_ms": quantile(self.turns_ms, 0.5),
            "turn_p99_ms": quantile(self.turns_ms, 0.99),
        }

    def _bound(self, share: float) -> float:
        """The first bound that covers a share of the loop's measurements."""
        total = max(self.late_by.values(), default=0.0)
        return next((bound for bound, count in sorted(self.late_by.items()) if count >= share * total), 0.0)


async def beside_gateway(source: Path, home: Path, mib: float) -> tuple[dict[str, float], dict[str, float]]:
    """Import a source of so many MiB into the home of a gateway that serves chat; first the same without an import."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(upstream_process())
        gateway, _ = await stack.enter_async_context(reverie_process(home, upstream.url))
        await asyncio.sleep(SETTLE_S)
        async with watched(gateway) as before:
            await asyncio.sleep(QUIET_S)
        async with watched(gateway) as during:
            seconds, peak_mib, report = await run_import(source, home)
    figures = {
        "rows": report["vectors"]["read"],
        "source_mib": mib,
        "vectors_added": report["vectors"]["added"],
        "s": seconds,
        "mib_per_s": mib / seconds,
        "peak_rss_mib": peak_mib,
        **during.figures(),
    }
    return figures, before.figures()


@asynccontextmanager
async def watched(gateway: Target) -> AsyncGenerator[Watched]:
    """Chat and probes while the block runs."""
    saw, stop = Watched(), asyncio.Event()
    before = await lateness(gateway)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(probe(gateway, saw, stop))
        tasks.create_task(chat(gateway, saw, stop))
        yield saw
        stop.set()
    after = await lateness(gateway)
    saw.late_by = {bound: count - before[bound] for bound, count in after.items()}


async def run_import(source: Path, home: Path) -> tuple[float, float, Any]:
    """The command as a person would run it: seconds, peak memory in MiB, and its report."""
    command = [sys.executable, "-m", "reverie", "import", "openclaw", str(source), "--home", str(home), "--json"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        printed = await asyncio.to_thread(process.stdout.read)
        _, status, usage = await asyncio.to_thread(os.wait4, process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise RuntimeError("the import failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1024, json.loads(printed)


async def probe(gateway: Target, saw: Watched, stop: asyncio.Event) -> None:
    """Ask `/healthz` on a fixed beat; a late answer counts from the moment it was due."""
    reader, writer = await connect(gateway)
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    due = time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        writer.write(request)
        await read_answer(reader)
        saw.probes_ms.append(1_000 * (time.perf_counter() - due))
        due = max(due + PROBE_S, time.perf_counter())
    writer.close()


async def chat(gateway: Target, saw: Watched, stop: asyncio.Event) -> None:
    """Somebody who talks steadily."""
    reader, writer = await connect(gateway)
    number = 0
    while not stop.is_set():
        number += 1
        message = {"role": "user", "content": f"What did we plan for day {number}, and who wanted the garden repaired?"}
        body = json.dumps({"model": "reverie", "user": f"talk-{number // 50}", "messages": [message]}).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        started = time.perf_counter()
        writer.write(head.encode() + body)
        status = await read_answer(reader)
        if status != 200:
            raise RuntimeError(f"a turn was answered with {status}")
        saw.turns_ms.append(1_000 * (time.perf_counter() - started))
        await asyncio.sleep(CHAT_S)
    writer.close()


async def lateness(gateway: Target) -> dict[float, float]:
    """How often the gateway's loop was late by at most each bound, from its metrics."""
    reader, writer = await connect(gateway)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    page = (await reader.readexactly(length)).decode()
    writer.close()
    return {float(le): float(count) for le, count in BUCKET.findall(page)}


async def connect(gateway: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A plain connection, which costs little beside the server."""
    host, port = gateway.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


# -- side by side ----------------------------------------------------------------------------------------------------


async def fetchall(source: Path, target: Path) -> None:
    """All rows into memory, then all into the target, on the loop."""
    with closing(open_source(source)) as reading, closing(open_target(target)) as writing:
        rows = list(reading.execute(f"SELECT * FROM {table_of(reading)}"))  # noqa: S608 (a name of our own)
        with writing:
            writing.executemany(INSERT.format(name="embedding_cache"), rows)


async def iterate(source: Path, target: Path) -> None:
    """Rows one by one on the loop, which is yielded to at every thousandth."""
    with closing(open_source(source)) as reading, closing(open_target(target)) as writing, writing:
        rows = reading.execute(f"SELECT * FROM {table_of(reading)}")  # noqa: S608 (a name of our own)
        for number, row in enumerate(rows, 1):
            writing.execute(INSERT.format(name="embedding_cache"), row)
            if number % YIELD_ROWS == 0:
                await asyncio.sleep(0)


async def row_copy(source: Path, target: Path) -> None:
    """Every row as it is into another database, in a thread and one transaction."""

    def copy() -> None:
        with closing(open_source(source)) as reading, closing(open_target(target)) as writing, writing:
            rows = reading.execute(f"SELECT * FROM {table_of(reading)}")  # noqa: S608 (a name of our own)
            writing.executemany(INSERT.format(name="embedding_cache"), rows)

    await asyncio.to_thread(copy)


async def ours(source: Path, target: Path) -> None:
    """The import itself, without a command line around it."""
    clock = SystemClock()
    database = await Database.open(target, EMBEDDINGS, now_ms=clock.now_ms())
    store = await open_store(database, load_config(Home(target.parent)).memory, clock)
    await import_vectors(source, store, database, clock)
    await database.aclose()


APPROACHES: dict[str, Callable[[Path, Path], Awaitable[None]]] = {
    "fetchall": fetchall,
    "iterate": iterate,
    "row_copy": row_copy,
    "import": ours,
}


def open_source(path: Path) -> apsw.Connection:
    """The source, to be read."""
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)


def open_target(path: Path) -> apsw.Connection:
    """An empty database with the cache's table, as OpenClaw would have it, in WAL."""
    database = apsw.Connection(str(path))
    database.pragma("journal_mode", "wal")
    database.pragma("synchronous", "normal")
    database.execute(CACHE.format(name="embedding_cache", kind="BLOB"))
    return database


def table_of(database: apsw.Connection) -> str:
    """The name of the cache's table."""
    names = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
    return next(name for name, _ in TABLES.values() if name in names)


async def alone(approach: str, source: Path, target: Path, mib: float) -> dict[str, float]:
    """One approach in this process, on a source of so many MiB, beside a ticking loop."""
    late_ms: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            late_ms.append(1_000 * (time.perf_counter() - due))

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(10 * TICK_S)
    started = time.perf_counter()
    await APPROACHES[approach](source, target)
    seconds = time.perf_counter() - started
    await asyncio.sleep(10 * TICK_S)
    ticking.cancel()
    return {
        "s": seconds,
        "mib_per_s": mib / seconds,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "stall_p99_ms": quantile(late_ms, 0.99),
        "stall_max_ms": max(late_ms),
    }


def side_by_side(source: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Every approach in a process of its own, one after the other; their targets are removed at once."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    peers: dict[str, dict[str, float]] = {}
    for approach in APPROACHES:
        if approach == "fetchall" and source.stat().st_size > FETCHALL_SHARE * memory:
            print("fetchall is left out: the rows would not fit into memory", file=sys.stderr)
            continue
        target = folder / f"{approach}.db"
        command = [sys.executable, "-m", "benchmarks.seed", "--alone", approach, str(source), str(target)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        peers[approach] = json.loads(printed)
        for file in folder.glob(f"{approach}.db*"):
            file.unlink()
    return peers


def mib_of(file: Path) -> float:
    """A file's size."""
    return file.stat().st_size / 2**20


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000, help="vectors in the source; 435,266 need 40 GB of disk")
    parser.add_argument("--layout", choices=sorted(TABLES), default="text", help="vectors as JSON text or as blobs")
    parser.add_argument("--folder", type=Path, help="where the files are made; removed afterwards")
    parser.add_argument("--alone", nargs=3, metavar=("APPROACH", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.alone:
        approach, source, target = arguments.alone
        print(json.dumps(asyncio.run(alone(approach, Path(source), Path(target), mib_of(Path(source))))))
        return
    measure(arguments.rows, arguments.layout, arguments.folder).show(as_json=arguments.json)


def measure(rows: int, layout: str, where: Path | None) -> Report:
    """Everything, in a folder that is removed."""
    os.environ["REVERIE_MEMORY__CACHE_ENTRIES_MAX"] = "10000000"
    if "cache_bytes_max" in MemoryConfig.model_fields:
        os.environ["REVERIE_MEMORY__CACHE_BYTES_MAX"] = str(2**40)
    with tempfile.TemporaryDirectory(prefix="reverie-seed-", dir=where) as name:
        folder = Path(name)
        source = folder / "main.sqlite"
        started = time.perf_counter()
        write_source(source, rows, layout)
        print(f"wrote {rows:,} rows in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        home = folder / "home"
        home.mkdir()
        figures, before = asyncio.run(beside_gateway(source, home, mib_of(source)))
        for file in home.glob("embeddings.db*"):
            file.unlink()
        return Report("seed", figures, peers={"no_import": before, **side_by_side(source, folder)})


if __name__ == "__main__":
    main()
