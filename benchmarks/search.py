"""How the cost of a search grows with the index.

    python -m benchmarks.search [--sizes 10000,100000,191000,1000000] [--queries 200] [--peers] [--keep DIR] [--json]

Messages of a made-up corpus go through the product's own indexing (words, then vectors), and questions through its
search, each size in a process of its own. A question's words come from one message, its words' frequencies from Zipf's
law; embedding it costs what the bundled encoder costs. `rss_above_matrix` is the process's memory beyond the 8-bit
matrix; `same_after_restart` compares every hit and score of fifty questions with those of a second process.

`--peers` compares one vector lookup of the same vectors, top 10, in this run: ours, sqlite-vec and plain NumPy, which
is exact: the others' recall is measured against it.
`--keep` leaves the indexes in a folder and uses them again.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.corpus import Corpus, SignEmbedder
from benchmarks.report import Report, process_rss_mib, quantile
from reverie.clock import SystemClock
from reverie.config import MemoryConfig
from reverie.llm.embeddings_bundled import BundledEmbedder
from reverie.memory.generation_files import GenerationFiles
from reverie.memory.index import MemoryIndex, SearchQuery
from reverie.storage import EMBEDDINGS, INDEX, Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.llm.embeddings import Embedder
    from reverie.memory.index import SearchResult
    from reverie.memory.transcripts import TranscriptLog
    from reverie.types import LoggedMessage, Provenance

SIZES = (10_000, 100_000, 191_000, 1_000_000)
SMALL_SIZES = (10_000, 50_000)
WARM_UP = 10
COMPARED = 50
PEER_QUESTIONS = 20


async def main(arguments: Sequence[str] | None = None) -> Report:
    """Build, measure and compare, as the command line asks."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="reverie-search-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        columns: dict[str, dict[str, float]] = {}
        for size in options.sizes:
            place = folder / str(size)
            place.mkdir(exist_ok=True)
            columns[f"{size:,}"] = await asyncio.to_thread(_measured, place, size, options)
            if options.keep is None:
                shutil.rmtree(place)
    report = Report("search", {}, columns)
    if options.show:
        report.show(as_json=options.json)
    return report


def _measured(folder: Path, size: int, options: argparse.Namespace) -> dict[str, float]:
    """One size, each step in a process of its own."""
    built = _child("build", folder, size, options.queries)
    figures = _child("measure", folder, size, options.queries + WARM_UP)
    again = _child("measure", folder, size, COMPARED)
    figures["same_after_restart"] = float(figures.pop("digest") == again["digest"])
    if options.peers:
        figures |= _child("peers", folder, size, PEER_QUESTIONS)
    return built | figures


def _child(step: str, folder: Path, size: int, queries: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.search", "--step", step, "--keep", str(folder), "--sizes", str(size)]
    corpus = Corpus(size)
    questions = json.dumps([corpus.question(number) for number in range(queries)])
    done = subprocess.run(command, check=True, input=questions, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


async def _build(folder: Path, size: int) -> dict[str, float]:
    """Index the corpus with the product's own means: words first, then vectors."""
    started = time.perf_counter()
    async with AsyncExitStack() as stack:
        index = await _open(stack, folder, Corpus(size), SignEmbedder())
        await index.follow_transcripts()
        worded = time.perf_counter()
        await index.settle()
    ended = time.perf_counter()
    return {"words_s": worded - started, "vectors_s": ended - worded}


async def _measure(folder: Path, size: int, questions: list[tuple[str, str]]) -> dict[str, Any]:
    """Ask questions one after the other, on an index that was just opened."""
    async with AsyncExitStack() as stack:
        opened = time.perf_counter()
        index = await _open(stack, folder, _Ended(size), SignEmbedder(BundledEmbedder()))
        usable = time.perf_counter()
        await index.warm_up()
        await index.settle()
        loaded = time.perf_counter()
        took: list[float] = []
        found = 0
        digest = hashlib.sha256()
        for number, (text, place) in enumerate(questions):
            started = time.perf_counter()
            result = await index.search(SearchQuery(text, "main"))
            if number >= WARM_UP:
                took.append((time.perf_counter() - started) * 1000)
                found += any(hit.citation == place for hit in result.hits)
            if number < COMPARED:
                digest.update(_written(result))
        statistics = index.statistics()
        rss = process_rss_mib(os.getpid())
    return {
        "open_s": usable - opened,
        "matrix_loaded_s": loaded - usable,
        "p50_ms": quantile(took, 0.5),
        "p95_ms": quantile(took, 0.95),
        "p99_ms": quantile(took, 0.99),
        "found_at_10": 100 * found / max(1, len(took)),
        "rss_mib": rss,
        "rss_above_matrix_mib": rss - statistics.vectors * SignEmbedder.identity.dims / 2**20,
        "digest": digest.hexdigest(),
    }


async def _peers(folder: Path, size: int, asked: list[tuple[str, str]]) -> dict[str, float]:
    """The ten nearest vectors, three ways, over the same rows."""
    import apsw
    import numpy as np
    import sqlite_vec  # type: ignore[import-untyped] # a peer, not a dependency

    from reverie.memory.scope import Scope
    from reverie.memory.vectors import VectorIndex

    embedder = SignEmbedder()
    questions = [await embedder.embed_query(text) for text, _ in asked]
    source = apsw.Connection(str(folder / "index.db"), flags=apsw.SQLITE_OPEN_READONLY)
    database = await Database.open(folder / "index.db", INDEX, now_ms=0)
    ours = VectorIndex(database, embedder.identity.dims)
    await ours.load()
    peer = apsw.Connection("")
    peer.enable_load_extension(True)
    peer.load_extension(str(sqlite_vec.loadable_path()))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] (it ships no types)
    peer.execute(f"CREATE VIRTUAL TABLE v USING vec0(id INTEGER PRIMARY KEY, e FLOAT[{embedder.identity.dims}])")
    matrix = np.empty((size, embedder.identity.dims), np.float32)
    ids: list[int] = []
    with peer:
        for row, (chunk_id, vector) in enumerate(source.execute("SELECT chunk_id, vector FROM vectors")):
            matrix[row] = np.frombuffer(vector, "<f4")
            ids.append(chunk_id)
            peer.execute("INSERT INTO v VALUES (?, ?)", (chunk_id, vector))
    scope = Scope(1, frozenset({"memory", "sessions"}))
    took: dict[str, list[float]] = {"vectors_reverie_ms": [], "vectors_sqlite_vec_ms": [], "vectors_numpy_ms": []}
    found = {"vectors_reverie_recall_at_10": 0, "vectors_sqlite_vec_recall_at_10": 0}
    for question in questions:
        started = time.perf_counter()
        best = (await ours.scan(question, scope, 100)).best[:10]
        after = time.perf_counter()
        knn = peer.execute("SELECT id FROM v WHERE e MATCH ? AND k = 10", (question.astype("<f4").tobytes(),)).get
        then = time.perf_counter()
        scores = matrix @ question
        top = np.argpartition(-scores, 10)[:10]
        end = time.perf_counter()
        for name, seconds in zip(took, (after - started, then - after, end - then), strict=True):
            took[name].append(seconds * 1000)
        exact = {ids[int(row)] for row in top}
        for name, chunk_ids in zip(found, ([chunk_id for chunk_id, _ in best], knn), strict=True):
            found[name] += len(exact.intersection(chunk_ids))
    await ours.aclose()
    await database.aclose()
    recall = {name: 10 * count / max(1, len(questions)) for name, count in found.items()}
    return {name: quantile(values, 0.5) for name, values in took.items()} | recall


async def _open(stack: AsyncExitStack, folder: Path, log: TranscriptLog, embedder: Embedder) -> MemoryIndex:
    clock = SystemClock()
    embeddings_db = await Database.open(folder / "embeddings.db", EMBEDDINGS, now_ms=clock.now_ms())
    stack.push_async_callback(embeddings_db.aclose)
    index = await MemoryIndex.open(
        files=GenerationFiles(folder),
        embeddings_db=embeddings_db,
        embedder=embedder,
        workspaces={"main": folder},
        transcripts=log,
        config=MemoryConfig(cache_entries_max=0),
        clock=clock,
    )
    stack.push_async_callback(embedder.aclose)
    stack.push_async_callback(index.aclose)
    return index


class _Ended:
    """A transcript log that is read to its end."""

    def __init__(self, size: int) -> None:
        self._size = size

    async def messages_after(self, position: int, limit: int) -> list[LoggedMessage]:
        """Nothing."""
        del position, limit
        return []

    async def read_lines(self, session_id: str, start: int, count: int) -> list[LoggedMessage]:
        """Nothing."""
        del session_id, start, count
        return []

    async def whose_words(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Provenance]:
        """A stranger's, all of them."""
        return dict.fromkeys(places, "untrusted")

    async def last_position(self) -> int:
        """Where the index stands."""
        return self._size


def _written(result: SearchResult) -> bytes:
    return json.dumps([(hit.path, hit.start_line, round(hit.score, 6)) for hit in result.hits]).encode()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], default=list(SIZES))
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", choices=["build", "measure", "peers"], help=argparse.SUPPRESS)
    parser.set_defaults(show=arguments is None)
    return parser.parse_args(arguments)


async def _step(options: argparse.Namespace) -> None:
    size = options.sizes[0]
    questions: list[tuple[str, str]] = json.loads(sys.stdin.read())
    match options.step:
        case "build":
            figures = await _build(options.keep, size)
        case "measure":
            figures = await _measure(options.keep, size, questions)
        case _:
            figures = await _peers(options.keep, size, questions)
    print(json.dumps(figures))


if __name__ == "__main__":
    if (options := _options(None)).step:
        asyncio.run(_step(options))
    else:
        asyncio.run(main())
