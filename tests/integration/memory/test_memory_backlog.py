"""Vectors from a server: each text once, past texts it does not take, and through its failures without being asked."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import apsw
import pytest
import stamina

from reverie.background import Background
from reverie.errors import EmbedderError, EmbedderPausedError
from reverie.llm.embeddings_openai import OpenAIEmbedder
from reverie.memory.passages import embedding_key
from reverie.tasks import OwnedTasks
from reverie.testing import FakeEmbedder
from reverie.testing.fake_transcripts import FakeTranscripts
from reverie.testing.fake_upstream import FakeUpstream, Plan, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    """Tries follow one another at once; how long they wait is tested where it is decided."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@asynccontextmanager
async def remembering(
    open_index: OpenIndex, address: str, log: FakeTranscripts | None = None, **settings: Any
) -> AsyncGenerator[Any]:
    """An index whose embedder is the server at this address."""
    embedder = OpenAIEmbedder(base_url=f"{address}/v1", model="text-x", api_key=None)
    try:
        async with open_index(embedder=embedder, transcripts=log, **settings) as memory:
            yield memory
    finally:
        await embedder.aclose()


def said(*texts: str) -> FakeTranscripts:
    """A log in which each of these was said."""
    log = FakeTranscripts()
    for text in texts:
        log.say(text)
    return log


def asked(upstream: FakeUpstream) -> list[str]:
    """The texts that were sent to the server, without probes."""
    return [text for request in upstream.requests for text in request.body["input"] if text not in {"ping", "warm"}]


async def until(check: Callable[[], bool], within_s: float = 10) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "it never came true"
        await anyio.sleep(0.005)


# -- each text once --------------------------------------------------------------------------------------------------


def test_the_key_of_a_text() -> None:
    """It is the beginning of the SHA-256 of exactly the embedded text, so that others can compute it."""
    assert embedding_key("abc").hex() == "ba7816bf8f01cfea414140de5dae2223"
    assert embedding_key("\ud800") == embedding_key("?")


async def test_one_embedding_for_each_distinct_text(open_index: OpenIndex) -> None:
    """However many files and messages a text stands in, it is sent once, kept once, and found everywhere."""
    upstream = FakeUpstream()
    async with (
        serve(upstream.app) as address,
        remembering(open_index, address, said(*["The boat is Alba."] * 5)) as memory,
    ):
        for name in ("a", "b", "c"):
            memory.write(f"memory/{name}.md", "The roaster squeaks.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        memory.write("memory/d.md", "The roaster squeaks.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        assert sorted(asked(upstream)) == ["The boat is Alba.", "The roaster squeaks."]
        figures = memory.index.statistics()
        assert (figures.vectors, figures.cache.entries, figures.cache.hits) == (9, 2, 1)


async def test_a_rebuild_pays_for_nothing_again(open_index: OpenIndex) -> None:
    """Every vector comes from the cache."""
    upstream = FakeUpstream()
    async with serve(upstream.app) as address, remembering(open_index, address, said("one", "two")) as memory:
        await memory.index.settle()
        upstream.requests.clear()
        await memory.index.rebuild()
        await memory.index.settle()
        assert asked(upstream) == []
        assert memory.index.statistics().vectors == 2


async def test_what_was_paid_for_is_kept_when_the_next_call_fails(open_index: OpenIndex) -> None:
    """Each call's vectors are in the index and the cache before the next one is made."""
    upstream = FakeUpstream()
    texts = [f"word{number} " * 200 for number in range(8)]
    async with serve(upstream.app) as address, remembering(open_index, address, said(*texts)) as memory:
        await memory.index.follow_transcripts()
        upstream.plan = Plan(embedding_fails_over="word7")
        with pytest.raises(EmbedderError):
            await memory.index.embed_backlog()
        paid = memory.index.statistics()
        assert paid.cache.entries == paid.vectors == 6
        upstream.plan = Plan()
        memory.clock.advance(seconds=1)
        await memory.index.settle()
        assert memory.index.statistics().vectors == memory.index.statistics().chunks


async def test_a_cancelled_run_leaves_nothing_running(open_index: OpenIndex) -> None:
    """Vectors that are on their way to the disk arrive before the index is closed, and no task outlives it."""
    log = said("walrus")
    before = asyncio.all_tasks()
    async with open_index(embedder=FakeEmbedder(), transcripts=log) as memory:
        await memory.index.follow_transcripts()
        busy = threading.Event()

        def hold(_: object) -> None:
            busy.wait(5)

        blocking = asyncio.create_task(memory.index_db.write(hold))
        running = asyncio.create_task(memory.index.embed_backlog())
        while not any(task.get_name() == "write-vectors" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        busy.set()
        await blocking
    assert asyncio.all_tasks() == before
    async with open_index(embedder=FakeEmbedder(), transcripts=log) as memory:
        await memory.index.settle()
        assert memory.index.statistics().vectors == 1


async def test_a_cache_that_cannot_be_written(open_index: OpenIndex) -> None:
    """The vectors are paid for, so they go into the index all the same."""
    async with open_index(embedder=FakeEmbedder(), transcripts=said("walrus")) as memory:
        file = apsw.Connection(str(memory.embeddings_db.path))
        file.execute("CREATE TRIGGER refuse BEFORE INSERT ON embeddings BEGIN SELECT RAISE(ABORT, 'no'); END")
        file.close()
        await memory.index.follow_transcripts()
        assert await memory.index.embed_backlog() == 1
        assert (memory.index.statistics().vectors, memory.index.statistics().cache.entries) == (1, 0)


# -- texts that are not taken ----------------------------------------------------------------------------------------


async def test_a_text_that_the_server_refuses(open_index: OpenIndex) -> None:
    """The others get their vectors, it is found by its words, and it is counted with the reason until a rebuild."""
    upstream = FakeUpstream(Plan(embedding_refuses="forbidden"))
    log = said(*(f"apple {number}" for number in range(9)), "a forbidden word", "a forbidden word", "banana")
    async with serve(upstream.app) as address, remembering(open_index, address, log) as memory:
        await memory.index.settle()
        figures = memory.index.statistics()
        assert (figures.chunks, figures.vectors, figures.refused_chunks) == (12, 10, 2)
        assert "This input cannot be embedded" in figures.refused_reason
        assert figures.embedder_failure == ""
        calls = len(upstream.requests)
        await memory.index.settle()
        assert len(upstream.requests) == calls
        assert {"sessions/s1#L10", "sessions/s1#L11"} & set(await memory.cited("forbidden"))
    async with serve(upstream.app) as address, remembering(open_index, address, log) as memory:
        assert memory.index.statistics().refused_chunks == 2
        upstream.plan = Plan()
        await memory.index.rebuild()
        await memory.index.settle()
        figures = memory.index.statistics()
        assert (figures.vectors, figures.refused_chunks, figures.refused_reason) == (12, 0, "")


async def test_a_server_that_refuses_everything(open_index: OpenIndex) -> None:
    """Then it is not the texts, and none is set aside."""
    upstream = FakeUpstream()
    async with serve(upstream.app) as address, remembering(open_index, address, said("one", "two")) as memory:
        await memory.index.warm_up()
        upstream.plan = Plan(embedding_refuses="")
        await memory.index.follow_transcripts()
        with pytest.raises(EmbedderError, match="This input cannot be embedded"):
            await memory.index.embed_backlog()
        figures = memory.index.statistics()
        assert (figures.refused_chunks, figures.vectors, figures.embedder_pause_s) == (0, 0, 1.0)
        upstream.plan = Plan()
        memory.clock.advance(seconds=1)
        await memory.index.settle()
        assert memory.index.statistics().vectors == 2


async def test_a_text_over_which_the_server_fails(open_index: OpenIndex) -> None:
    """When the same call fails three times, with a working server in between, the text is found and set aside."""
    upstream = FakeUpstream(Plan(embedding_fails_over="poison"))
    log = said("apple", "pear", "poison", "plum")
    async with serve(upstream.app) as address, remembering(open_index, address, log) as memory:
        await memory.index.follow_transcripts()
        for _ in range(2):
            with pytest.raises(EmbedderError, match="NaN"):
                await memory.index.embed_backlog()
            assert memory.index.statistics().vectors == 0
            memory.clock.advance(seconds=60)
        await memory.index.settle()
        figures = memory.index.statistics()
        assert (figures.vectors, figures.refused_chunks) == (3, 1)
        assert "NaN" in figures.refused_reason


# -- a server that is down -------------------------------------------------------------------------------------------


async def test_search_goes_on_by_words_and_recovers(open_index: OpenIndex) -> None:
    """The first search tells of the failure, the next do not even ask; soon after it is over, meaning is back."""
    upstream = FakeUpstream()
    async with serve(upstream.app) as address, remembering(open_index, address, said("Luna is a cat.")) as memory:
        await memory.index.settle()
        upstream.plan = Plan(fail_first=1_000, fail_status=503, fail_message="gone to lunch")
        upstream.requests.clear()
        first = await memory.search("Luna")
        assert [hit.citation for hit in first.hits] == ["sessions/s1#L1"]
        assert first.partial
        assert "gone to lunch" in first.reasons[0]
        assert len(upstream.requests) == 4
        for _ in range(20):
            result = await memory.search("Luna")
            assert result.partial
            assert "gone to lunch (asked again in 1 s)" in result.reasons[0]
        assert len(upstream.requests) == 4

        upstream.plan = Plan()
        memory.clock.advance(seconds=1)
        beside = await memory.search("Luna")
        assert "asked again now" in beside.reasons[0]
        await until(lambda: memory.index.statistics().embedder_failure == "")
        assert (await memory.search("Luna")).reasons == ()
        assert [request.body["input"] for request in upstream.requests][4:] == [["ping"], ["Luna"]]


async def test_a_search_does_not_wait_for_a_server_that_is_silent(open_index: OpenIndex) -> None:
    """After one probe that hangs, searches are answered at once, however many there are."""
    upstream = FakeUpstream()
    async with serve(upstream.app) as address, remembering(open_index, address, said("Luna is a cat.")) as memory:
        await memory.index.settle()
        upstream.plan = Plan(fail_first=1_000, fail_status=500)
        await memory.search("Luna")
        upstream.plan = Plan(delay_s=30)
        memory.clock.advance(seconds=1)
        started = time.monotonic()
        for _ in range(50):
            assert (await memory.search("Luna")).partial
        assert time.monotonic() - started < 5


async def test_without_quota_the_server_is_left_alone(open_index: OpenIndex) -> None:
    """Neither the backlog nor searches ask for ten minutes; then one probe does."""
    upstream = FakeUpstream()
    async with serve(upstream.app) as address, remembering(open_index, address, said("one")) as memory:
        await memory.index.settle()
        memory.transcripts.say("two")
        await memory.index.follow_transcripts()
        upstream.plan = Plan(fail_first=1_000, fail_status=429, fail_code="insufficient_quota", fail_message="pay")
        upstream.requests.clear()
        with pytest.raises(EmbedderError, match="pay"):
            await memory.index.embed_backlog()
        for _ in range(5):
            memory.clock.advance(seconds=119)
            with pytest.raises(EmbedderPausedError, match=r"pay.*asked again in"):
                await memory.index.embed_backlog()
            assert "pay" in (await memory.search("one")).reasons[0]
        assert len(upstream.requests) == 1
        assert memory.index.statistics().embedder_pause_s == 5.0
        memory.clock.advance(seconds=5)
        with pytest.raises(EmbedderPausedError):
            await memory.index.embed_backlog()
        assert [request.body["input"] for request in upstream.requests] == [["two"], ["ping"]]
        upstream.plan = Plan()
        memory.clock.advance(seconds=1_200)
        await memory.index.settle()
        assert memory.index.statistics().vectors == 2


async def test_the_background_survives_an_outage(open_index: OpenIndex) -> None:
    """With the server gone and back again, searches and the backlog use it as before, and nobody has done anything."""
    upstream = FakeUpstream()
    log = said("The boat is Alba.")
    async with serve(upstream.app) as address:
        port = int(address.rpartition(":")[2])
        embedder = OpenAIEmbedder(base_url=f"{address}/v1", model="text-x", api_key=None)
        async with open_index(embedder=embedder, transcripts=log) as memory:
            await memory.index.settle()
            memory.clock.advance(seconds=1)
    async with open_index(embedder=embedder, transcripts=log) as memory, OwnedTasks() as tasks:
        log.say("The dog is called Bruno.")
        background = loops(memory)
        background.start(tasks)
        await until(lambda: memory.index.statistics().embedder_failure != "")
        assert "cannot connect" in (await memory.search("Bruno")).reasons[0]
        async with serve(upstream.app, port):
            for _ in range(3):
                memory.clock.advance(seconds=60)
                background.vectors.ring()
                await anyio.sleep(0.2)
            await until(lambda: memory.index.statistics().vectors == 2)
            assert (await memory.search("Bruno")).reasons == ()
            assert memory.index.statistics().embedder_failure == ""
    await embedder.aclose()


def loops(memory: Any) -> Background:
    """The background of this index."""
    return Background(
        memory=memory.index,
        workspaces={"main": memory.workspace},
        clock=memory.clock,
        watch=False,
        watch_debounce_ms=10,
        reconcile_s=0,
        foreground_busy=lambda: False,
    )
