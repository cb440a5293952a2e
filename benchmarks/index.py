"""What it costs to keep an index in step with thousands of Markdown files, while it is searched.

    python -m benchmarks.index [--files N] [--storm] [--embedder bundled|none] [--json]

The files hold 2 to 6 kB each and are the same in every run. Each phase opens the application as `reverie serve` does,
without its HTTP edge, and asks a new question every 50 ms meanwhile:

    build        the first start: every file is read, cut and made findable by its words
    unchanged    the next start: every file is compared with the index
    vectors      the bundled embedder computes the vectors of all passages (not with --embedder none)
    storm        as many random changes as there are files (edits, touches, renames, moved folders, deletions, new
                 files) while the watcher runs; until the index has them all. Then index and files are compared.

A stall is by how much a timer of the event loop was late; `loop_cpu_ms_max` is how much of that the loop itself
computed at most, which is the part that a busy machine does not add to. Memory is the process's peak within the phase.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from benchmarks.report import Report, quantile
from reverie.app import choose_embedder, open_app, open_memory
from reverie.cli.server import spare_the_collector
from reverie.config import Config, Home, load_config
from reverie.memory.documents import SeenFile, walk_memory
from reverie.memory.generation_files import GenerationFiles
from reverie.memory.index import SearchQuery
from reverie.testing.edit_storm import EditStorm, indexed_files, indexed_times, write_notes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.app import App
    from reverie.llm.embeddings import Embedder, EmbedderIdentity
    from reverie.memory.index import MemoryIndex

SEED = 20_261_121
TICK_S = 0.005
ASK_S = 0.05
LOOK_S = 0.25
WAIT_S_MAX = 3_600.0
THINGS = ("baker", "boiler", "clinic", "ferry", "harbour", "kettle", "ladder", "piano", "roaster", "violin", "wagon")


@dataclass(slots=True)
class CountingEmbedder:
    """An embedder that notes what it is asked to embed."""

    inner: Embedder
    texts: list[int] = field(default_factory=list[int])

    @property
    def identity(self) -> EmbedderIdentity:
        """What the inner one is."""
        return self.inner.identity

    async def warm(self) -> None:
        """Load the inner one."""
        await self.inner.warm()

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """A question, which is not counted."""
        return await self.inner.embed_query(text)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts to be found, which are."""
        self.texts += map(hash, texts)
        return await self.inner.embed_passages(texts)

    async def aclose(self) -> None:
        """End the inner one."""
        await self.inner.aclose()


@dataclass(slots=True)
class Phase:
    """What is measured of a phase: how late timers were, what the loop computed, how long searches took, in seconds."""

    stalls_s: list[float] = field(default_factory=list[float])
    loop_cpu_s: list[float] = field(default_factory=list[float])
    searches_s: list[float] = field(default_factory=list[float])
    took_s: float = 0.0

    def figures(self) -> dict[str, float]:
        """The figures that all phases share."""
        return {
            "seconds": self.took_s,
            "rss_mib_peak": peak_rss_mib(),
            "stall_ms_p99": 1_000 * quantile(self.stalls_s, 0.99),
            "stall_ms_max": 1_000 * max(self.stalls_s, default=0.0),
            "loop_cpu_ms_max": 1_000 * max(self.loop_cpu_s, default=0.0),
            "search_ms_p50": 1_000 * quantile(self.searches_s, 0.5),
            "search_ms_p95": 1_000 * quantile(self.searches_s, 0.95),
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """The home, its settings, and the files."""

    home: Home
    config: Config
    workspace: Path
    paths: list[str]

    @asynccontextmanager
    async def serving(self, phase: Phase, embedder: Embedder | None) -> AsyncGenerator[App]:
        """The application, with its loop watched and questions asked; the time of the block is the phase's."""
        forget_peak_rss()
        started_s = time.perf_counter()
        async with open_app(self.home, self.config, embedder=embedder) as app:
            spare_the_collector()  # as the server does
            probes = [asyncio.create_task(tick(phase)), asyncio.create_task(ask(phase, app.open.memory))]
            try:
                yield app
                phase.took_s = time.perf_counter() - started_s
            finally:
                for probe in probes:
                    probe.cancel()
                await asyncio.gather(*probes, return_exceptions=True)


async def tick(phase: Phase) -> None:
    """Note how late a timer is, for ever."""
    while True:
        started_s, cpu_s = time.perf_counter(), time.thread_time()
        await asyncio.sleep(TICK_S)
        phase.loop_cpu_s.append(time.thread_time() - cpu_s)
        phase.stalls_s.append(time.perf_counter() - started_s - TICK_S)


async def ask(phase: Phase, memory: MemoryIndex) -> None:
    """Ask a new question every 50 ms, for ever."""
    choose = random.Random(SEED)
    while True:
        question = f"Who repaired the {choose.choice(THINGS)} with number {choose.randrange(10_000)}?"
        started_s = time.perf_counter()
        await memory.search(SearchQuery(question, "main"))
        phase.searches_s.append(time.perf_counter() - started_s)
        await asyncio.sleep(ASK_S)


async def run(files: int, *, storm: bool, embedder: str) -> Report:
    """Every phase, one after the other, on the same home."""
    with tempfile.TemporaryDirectory(prefix="reverie-bench-") as folder:
        workspace = Path(folder) / "workspace"
        paths = write_notes(workspace, files, seed=SEED)
        home = Home(Path(folder) / "home")
        flags = {"memory": {"embedder": embedder}, "agents": {"main": {"workspace": str(workspace)}}}
        bench = Bench(home, load_config(home, flags), workspace, paths)
        groups = {"build": await start(bench), "unchanged": await start(bench)}
        if embedder != "none":
            groups["vectors"] = await vectors(bench)
        if storm:
            groups["storm"] = await edit_storm(bench)
        groups["rebuild"] = await rebuild(bench, embedder)
        size = sum(path.stat().st_size for path in (workspace / "memory").rglob("*.md"))
        figures = {
            "files": files,
            "files_mib": size / 2**20,
            "index_mib": GenerationFiles(home.path).live().stat().st_size / 2**20,
        }
    return Report("index", figures, groups=groups)


async def start(bench: Bench) -> dict[str, float]:
    """Open the home until every file is compared, and indexed if it was not."""
    phase = Phase()
    async with bench.serving(phase, None) as app:
        await app.background.caught_up(WAIT_S_MAX)
    chunks = app.open.memory.statistics().chunks
    return {**phase.figures(), "files_per_s": len(bench.paths) / phase.took_s, "passages": chunks}


async def rebuild(bench: Bench, embedder: str) -> dict[str, float]:
    """Build the index anew beside the live one, which answers meanwhile."""
    phase = Phase()
    counting = None
    if embedder != "none":
        chosen = choose_embedder(bench.config.memory)
        assert chosen is not None
        counting = CountingEmbedder(chosen)
    async with bench.serving(phase, counting) as app:
        await app.background.caught_up(WAIT_S_MAX)
        published = await app.open.memory.rebuild()
    texts = 0 if counting is None else len(counting.texts)
    return {
        **phase.figures(),
        "files_per_s": len(bench.paths) / published.took_s,
        "passages": published.chunks,
        "texts_embedded": texts,
    }


async def vectors(bench: Bench) -> dict[str, float]:
    """Open the home until every passage has its vector."""
    phase = Phase()
    chosen = choose_embedder(bench.config.memory)
    assert chosen is not None
    counting = CountingEmbedder(chosen)
    async with bench.serving(phase, counting) as app:
        await app.open.memory.settle()
        passages = app.open.memory.statistics().vectors
    figures = {"passages": passages, "passages_per_s": passages / phase.took_s, "texts_embedded": len(counting.texts)}
    return {**phase.figures(), **figures}


async def edit_storm(bench: Bench) -> dict[str, float]:
    """Change the files while the watcher runs, and wait until the index has it all; then look closely."""
    phase = Phase()
    chosen = choose_embedder(bench.config.memory)
    counting = None if chosen is None else CountingEmbedder(chosen)
    storm = EditStorm(bench.workspace, bench.paths, seed=SEED)
    async with bench.serving(phase, counting) as app:
        await app.background.caught_up(WAIT_S_MAX)
        passages = app.open.memory.statistics().chunks
        started_s = time.perf_counter()
        await asyncio.to_thread(change, storm, len(bench.paths))
        changed_s = time.perf_counter()
        await asyncio.to_thread(wait_until_indexed, bench)
        indexed_s = time.perf_counter()
        await app.open.memory.settle()
    figures = {
        **phase.figures(),
        "changes": len(bench.paths),
        "changing_s": changed_s - started_s,
        "behind_s": indexed_s - changed_s,
        "files_per_s": len(bench.paths) / (indexed_s - started_s),
        "passages": passages,
        "files_that_differ": await differences(bench),
    }
    if counting is not None:
        figures |= {
            "texts_embedded": len(counting.texts),
            "texts_twice": len(counting.texts) - len(set(counting.texts)),
        }
    return figures


def change(storm: EditStorm, count: int) -> None:
    """The storm itself, as fast as the disk allows."""
    for _ in range(count):
        storm.change()


def wait_until_indexed(bench: Bench) -> None:
    """Look until the index holds time and size of every file, and no other."""
    wanted = {file.path: file.mtime_ns for file in walk_memory(bench.workspace) if isinstance(file, SeenFile)}
    ends_s = time.monotonic() + WAIT_S_MAX
    while indexed_times(GenerationFiles(bench.home.path).live()) != wanted:
        assert time.monotonic() < ends_s, "the index did not catch up"
        time.sleep(LOOK_S)


async def differences(bench: Bench) -> int:
    """How many files another index, made from the same files now, holds otherwise."""
    with tempfile.TemporaryDirectory(prefix="reverie-bench-fresh-") as folder:
        home = Home(Path(folder))
        async with open_memory(home, bench.config, embedder=None) as opened:
            await opened.memory.sync_workspace("main")
        fresh, kept = (
            indexed_files(GenerationFiles(home.path).live()),
            indexed_files(GenerationFiles(bench.home.path).live()),
        )
    return sum(fresh.get(path) != kept.get(path) for path in fresh.keys() | kept.keys())


def forget_peak_rss() -> None:
    """Begin the peak of memory anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_rss_mib() -> float:
    """The most memory since then, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=20_000, help="how many files")
    parser.add_argument("--storm", action="store_true", help="also change as many files at random")
    parser.add_argument("--embedder", choices=("bundled", "none"), default="bundled")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = uvloop.run(run(arguments.files, storm=arguments.storm, embedder=arguments.embedder))
    report.show(as_json=arguments.json)


if __name__ == "__main__":
    main()
