"""A rebuild beside the live index: nobody notices it until it is complete, and nothing of it stays when it is not."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from os import kill
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.errors import EmbedderError, StorageFullError
from reverie.memory.generation_files import GenerationFiles, number_of
from reverie.testing import FakeEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from reverie.memory.index import Rebuild
    from reverie.storage.database import Transaction

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio

QUESTIONS = ["Who is Luna?", "the boat", "harbour in March", "no such thing"]


async def fill(memory: Any, notes: int = 12) -> None:
    """Notes and messages, with their vectors."""
    for number in range(notes):
        memory.write(
            f"memory/note-{number}.md", f"# Note {number}\n\nLuna saw boat {number}.\n\nThe harbour was cold.\n"
        )
    memory.transcripts.say("The boat is called Alba.")
    memory.transcripts.say("Alba it is.", role="assistant")
    await memory.index.sync_workspace("main")
    await memory.index.settle()


async def answers(memory: Any) -> list[list[tuple[str, float]]]:
    """What every question finds, with its score."""
    return [[(hit.citation, hit.score) for hit in (await memory.search(text)).hits] for text in QUESTIONS]


async def test_searches_see_one_whole_generation(open_index: OpenIndex) -> None:
    """Until the switch every search gives what it gave before; after it the same, from another file."""
    async with open_index(embedder=FakeEmbedder()) as memory:
        await fill(memory)
        before = await answers(memory)
        seen: list[Rebuild] = []
        rebuilding = asyncio.create_task(memory.index.rebuild(on_progress=seen.append))
        while not rebuilding.done():
            assert await answers(memory) == before
        published = await rebuilding
        assert await answers(memory) == before
        statistics = memory.index.statistics()
        assert (statistics.generation, published.file, published.step) == ("index.2.db", "index.2.db", "published")
        assert [step.step for step in seen] == ["notes", "notes", "conversations", "vectors"]
        assert (published.messages, published.files["main"].added) == (2, 12)
        assert published.chunks == published.vectors == statistics.chunks


async def test_nothing_paid_for_is_embedded_again(open_index: OpenIndex) -> None:
    """A rebuild takes every vector from the cache, and the old file is gone afterwards."""
    embedder = FakeEmbedder()
    async with open_index(embedder=embedder) as memory:
        await fill(memory)
        paid = embedder.passages
        await memory.index.rebuild()
        assert embedder.passages == paid
        assert [path.name for path in memory.index_db.path.parent.glob("index*.db")] == ["index.2.db"]
        assert (await memory.index.rebuild()).file == "index.3.db"
        assert number_of(memory.index_db.path) == 3


async def test_what_is_written_meanwhile_is_in_the_new_generation(open_index: OpenIndex) -> None:
    """Files and messages that arrive while the new generation is built can be found before and after the switch."""
    async with open_index(embedder=FakeEmbedder()) as memory:
        await fill(memory)
        written: list[str] = []

        async def write(number: int) -> None:
            memory.write(f"memory/new-{number}.md", f"Pelican number{number} landed.\n")
            memory.transcripts.say(f"Walrus number{number} spoke.")
            await memory.index.sync_workspace("main", [f"memory/new-{number}.md"])
            await memory.index.follow_transcripts()
            written.append(f"number{number}")

        rebuilding = asyncio.create_task(memory.index.rebuild())
        number = 0
        while not rebuilding.done():
            number += 1
            await write(number)
            assert {f"memory/new-{number}.md#L1", f"sessions/s1#L{number + 2}"} <= set(await memory.cited(written[-1]))
        await rebuilding
        for place, word in enumerate(written, 1):
            assert {f"memory/new-{place}.md#L1", f"sessions/s1#L{place + 2}"} <= set(await memory.cited(word))
        assert number > 3


async def test_a_failed_rebuild_leaves_no_trace(open_index: OpenIndex) -> None:
    """When the embedder fails, the old generation stays live and complete, and the new file is gone."""
    embedder = FakeEmbedder()
    async with open_index(embedder=embedder, cache_entries_max=0) as memory:
        await fill(memory)
        before = await answers(memory)
        embedder.error = EmbedderError("out of order")
        with pytest.raises(EmbedderError, match="out of order"):
            await memory.index.rebuild()
        embedder.error = None
        assert memory.index.statistics().generation == "index.db"
        assert [path.name for path in memory.index_db.path.parent.glob("index*.db")] == ["index.db"]
        assert await answers(memory) == before
        assert memory.index.rebuild_progress is None


async def test_a_cancelled_rebuild_leaves_no_trace(open_index: OpenIndex) -> None:
    """Whoever stops waiting for a rebuild stops it; the next one succeeds."""
    async with open_index(embedder=FakeEmbedder()) as memory:
        await fill(memory)
        before = await answers(memory)
        rebuilding = asyncio.create_task(memory.index.rebuild())
        while memory.index.rebuild_progress is None:
            await asyncio.sleep(0)
        rebuilding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rebuilding
        assert [path.name for path in memory.index_db.path.parent.glob("index*.db")] == ["index.db"]
        assert (await memory.index.rebuild()).file == "index.2.db"
        assert await answers(memory) == before


def test_a_rebuild_needs_room(tmp_path: Path) -> None:
    """Without room for a second index nothing is begun, and the error names the place and the sizes."""
    (tmp_path / "index.db").write_bytes(b"x" * 1000)
    files = GenerationFiles(tmp_path, free=lambda _: 1499)
    with pytest.raises(StorageFullError, match=f"1,500 bytes are needed in {tmp_path}, 1,499 are free"):
        files.next()
    assert GenerationFiles(tmp_path, free=lambda _: 1500).next().name == "index.2.db"


async def test_another_chunker_pauses_the_vectors(open_index: OpenIndex) -> None:
    """Text cut in another way is not embedded unasked: the reason is stated, and a rebuild is the way out."""
    embedder = FakeEmbedder()
    async with open_index(embedder=embedder) as memory:
        await fill(memory)
    paid = embedder.passages
    async with open_index(embedder=embedder, chunker="lines", transcripts=memory.transcripts) as memory:
        memory.write("memory/later.md", "A heron stood there.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        statistics = memory.index.statistics()
        assert (statistics.vectors_state, embedder.passages) == ("paused", paid)
        assert "built with headings 100/0, the settings now say lines 400/80" in statistics.vectors_reason
        assert await memory.cited("heron") == ["memory/later.md#L1-L2"]
        await memory.index.rebuild()
        statistics = memory.index.statistics()
        assert (statistics.vectors_state, statistics.vectors_reason, statistics.notes) == ("ready", "", ())
        assert embedder.passages > paid


async def test_an_older_analyser_is_noted(open_index: OpenIndex) -> None:
    """Words prepared in another way are still searched; the difference and the remedy are stated."""
    async with open_index(embedder=None) as memory:
        await fill(memory)

        def forget_analyser(tx: Transaction) -> None:
            tx.execute("set_meta", key="analyser", value="0")

        await memory.index_db.write(forget_analyser)
    async with open_index(embedder=None, transcripts=memory.transcripts) as memory:
        (note,) = memory.index.statistics().notes
        assert note.startswith("analyser: the index was built with 0")
        assert "reverie index --rebuild" in note
        assert await memory.cited("Alba")


async def test_an_old_file_that_cannot_be_removed(open_index: OpenIndex) -> None:
    """The rebuild has succeeded all the same; the file is left for the next start."""
    async with open_index(embedder=None) as memory:
        await fill(memory)
        folder = memory.index_db.path.parent
        (folder / "index.db-journal").mkdir()  # a folder in the place of a side file
        assert (await memory.index.rebuild()).step == "published"
        assert memory.index.statistics().notes == ()
        assert await memory.cited("Alba")
        (folder / "index.db-journal").rmdir()
        swept = await asyncio.to_thread(GenerationFiles(folder).sweep)
        assert [path.name for path in swept] == ["index.db"]


async def test_vectors_that_another_process_removed(open_index: OpenIndex) -> None:
    """The matrix no longer matches the index's checksum, and is read anew."""
    async with open_index(embedder=FakeEmbedder()) as memory:
        await fill(memory)
        held = memory.index.statistics().vectors
        other = apsw.Connection(str(memory.index_db.path))
        other.execute("DELETE FROM vectors WHERE chunk_id = (SELECT min(chunk_id) FROM vectors)")
        other.close()
        assert memory.index.statistics().vectors == held
        await memory.index.embed_backlog()
        assert memory.index.statistics().vectors == held - 1


def test_leftovers_are_swept(tmp_path: Path) -> None:
    """What is not the live generation goes, with its side files; other files stay."""
    files = GenerationFiles(tmp_path)
    for name in ("index.db", "index.2.db", "index.2.db-wal", "index.7.db", "index.db.bak", "index.old.db", "state.db"):
        (tmp_path / name).write_bytes(b"x")
    files.publish(tmp_path / "index.2.db")
    assert [path.name for path in files.sweep()] == ["index.7.db", "index.db"]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["index.2.db", "index.2.db-wal", "index.db.bak", "index.live", "index.old.db", "state.db"]
    assert files.next().name == "index.3.db"


@pytest.mark.parametrize("text", [b"", b"../../etc/passwd\n", b"state.db\n", b"\xff\xfe", b"index.0.db\n"])
def test_a_strange_pointer_is_not_followed(tmp_path: Path, text: bytes) -> None:
    """Whatever stands in the pointer, only an index file of this folder is opened."""
    (tmp_path / "index.live").write_bytes(text)
    assert GenerationFiles(tmp_path).live() == tmp_path / "index.db"


# -- full disk -------------------------------------------------------------------------------------------------------

FULL = """
import asyncio, pathlib, resource, sys
import structlog
from reverie.clock import SystemClock
from reverie.config import MemoryConfig
from reverie.errors import StorageError
from reverie.memory.generation_files import GenerationFiles
from reverie.memory.index import MemoryIndex, SearchQuery
from reverie.storage import EMBEDDINGS, Database
from reverie.testing import FakeEmbedder
from reverie.testing.fake_transcripts import FakeTranscripts

async def work(folder):
    log = FakeTranscripts()
    for number in range(400):
        log.say(f"Message {number} of the walrus.")
    cache = await Database.open(folder / "embeddings.db", EMBEDDINGS, now_ms=0)
    index = await MemoryIndex.open(
        files=GenerationFiles(folder), embeddings_db=cache, embedder=FakeEmbedder(), workspaces={},
        transcripts=log, config=MemoryConfig(), clock=SystemClock(),
    )
    await index.settle()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        await index.rebuild()
    except StorageError as error:
        print(type(error).__name__, [path.name for path in sorted(folder.glob("index*.db"))])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(len((await index.search(SearchQuery("walrus 17", "main"))).hits))
    print((await index.rebuild()).chunks)

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
asyncio.run(work(pathlib.Path(sys.argv[1])))
"""
"""Rebuilds where no file may grow beyond 100 KB, as on a full disk; then where it may."""


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """A rebuild that runs out of room leaves the live index alone and answering; with room again it succeeds."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[1:] == ["10", "400"], done.stderr
    assert done.stdout.splitlines()[0].endswith("['index.db']")


# -- kill -9 ---------------------------------------------------------------------------------------------------------

KILLS = 60
SEED = 20_261_122
NOTES = 8
MESSAGES = 12
VICTIM = """
import asyncio, os, pathlib, sys
import structlog
from reverie.clock import SystemClock
from reverie.config import MemoryConfig
from reverie.memory import kernel, vector_table
from reverie.memory.generation_files import GenerationFiles
from reverie.memory.index import MemoryIndex
from reverie.storage import EMBEDDINGS, INDEX, Database
from reverie.testing import FakeEmbedder
from reverie.testing.fake_transcripts import FakeTranscripts

async def work(folder):
    files = GenerationFiles(folder)
    files.sweep()
    cache = await Database.open(folder / "embeddings.db", EMBEDDINGS, now_ms=0)
    log = FakeTranscripts()
    for number in range(12):
        log.say(f"Message {number} of the walrus.")
    index = await MemoryIndex.open(
        files=files, embeddings_db=cache, embedder=FakeEmbedder(), workspaces={"main": folder / "workspace"},
        transcripts=log, config=MemoryConfig(), clock=SystemClock(),
    )
    await index.sync_workspace("main")
    await index.settle()
    os.write(1, b"working\\n")
    while True:
        await index.rebuild()

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
INDEX.queries(), EMBEDDINGS.queries()
for line in sys.stdin:
    child = os.fork()
    if not child:
        asyncio.run(work(pathlib.Path(sys.argv[1])))
    os.write(1, b"%d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""
"""Forks a process that rebuilds again and again until it is killed, for each line it reads."""


def test_killed_at_any_moment_of_a_rebuild(tmp_path: Path) -> None:
    """Sixty times killed, the live file is sound and holds everything, and generations were published meanwhile."""
    chance = random.Random(SEED)
    notes = tmp_path / "workspace" / "memory"
    notes.mkdir(parents=True)
    for number in range(NOTES):
        (notes / f"{number}.md").write_text(f"# Note {number}\n\nLuna saw it.\n", encoding="utf-8")
    numbers: set[int] = set()
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdin is not None
        assert victim.stdout is not None
        for _ in range(KILLS):
            victim.stdin.write("go\n")
            victim.stdin.flush()
            said = {victim.stdout.readline().strip(), victim.stdout.readline().strip()}
            assert "working" in said
            time.sleep(chance.uniform(0, 0.25))
            kill(int(next(word for word in said if word != "working")), signal.SIGKILL)
            assert victim.stdout.readline() == "dead\n"
            live = GenerationFiles(tmp_path).live()
            numbers.add(number_of(live))
            file = apsw.Connection(str(live))
            assert file.pragma("integrity_check") == "ok"
            held = file.execute("SELECT chunks, vectors FROM tally").get
            counted = file.execute("SELECT (SELECT count(*) FROM chunks), (SELECT count(*) FROM vectors)").get
            file.close()
            assert held == counted == (NOTES + MESSAGES, NOTES + MESSAGES)
        victim.stdin.close()
    assert len(numbers) > 1
