"""The embedder that needs no network: its slices, its thread, its failures, and the real encoder."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import EmbedderError
from reverie.llm.embeddings import EmbedderIdentity
from reverie.llm.embeddings_bundled import BundledEmbedder, BundledEncoder, slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

pytestmark = pytest.mark.anyio

IDENTITY = EmbedderIdentity("bundled", "test", "1", 2)


class Recorder:
    """An encoder that notes what it is given and on which thread, and waits where told."""

    def __init__(self, free: threading.Event | None = None) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()
        self.loads = 0
        self.started = threading.Event()
        self._free = free

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        self.threads.add(threading.current_thread().name)
        self.batches.append(texts)
        self.started.set()
        if self._free is not None:
            self._free.wait(10)
        return np.array([[3.0, 4.0 * len(text)] for text in texts], np.float32)

    def load(self) -> Recorder:
        self.loads += 1
        return self


def embedder_of(recorder: Recorder) -> BundledEmbedder:
    """An embedder with this encoder."""
    return BundledEmbedder(BundledEncoder(IDENTITY, recorder.load))


async def test_vectors_have_length_one_and_keep_the_order() -> None:
    """Rows come in the order of the texts, scaled to length 1; empty texts are zero."""
    recorder = Recorder()
    embedder = embedder_of(recorder)
    vectors = await embedder.embed_passages(["a", "", " \n", "abc"])
    lengths = [np.hypot(3, 4), np.hypot(3, 12)]
    expected = [[3 / lengths[0], 4 / lengths[0]], [0, 0], [0, 0], [3 / lengths[1], 12 / lengths[1]]]
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
    assert vectors.dtype == np.float32
    assert recorder.batches == [["a", "abc"]]
    query = await embedder.embed_query("a")
    np.testing.assert_allclose(query, vectors[0])
    await embedder.aclose()


async def test_no_texts() -> None:
    """Nothing in, a matrix without rows out."""
    embedder = embedder_of(Recorder())
    assert (await embedder.embed_passages([])).shape == (0, 2)
    assert (await embedder.embed_query("")).tolist() == [0, 0]
    await embedder.aclose()


async def test_many_texts_are_done_in_slices_on_one_thread() -> None:
    """The work is cut into slices, all on the embedder's own thread, loaded once."""
    recorder = Recorder()
    embedder = embedder_of(recorder)
    texts = [f"text {number}" for number in range(100)]
    vectors = await embedder.embed_passages(texts)
    assert vectors.shape == (100, 2)
    assert [text for batch in recorder.batches for text in batch] == texts
    assert max(len(batch) for batch in recorder.batches) == 32
    assert (len(recorder.threads), recorder.loads) == (1, 1)
    assert all(name.startswith("reverie-embedder") for name in recorder.threads)
    await embedder.aclose()


async def test_a_query_waits_for_one_slice_at_most() -> None:
    """A query goes before the slices that are still to be done."""
    free = threading.Event()
    recorder = Recorder(free)
    embedder = embedder_of(recorder)
    async with anyio.create_task_group() as work:
        work.start_soon(embedder.embed_passages, ["passage"] * 96)
        work.start_soon(embedder.embed_passages, ["another"] * 96)
        await anyio.to_thread.run_sync(recorder.started.wait, 10)
        work.start_soon(embedder.embed_query, "query")
        await anyio.wait_all_tasks_blocked()
        free.set()
    first = [batch[0] for batch in recorder.batches]
    assert first.index("query") == 1
    await embedder.aclose()


async def test_long_texts_are_cut() -> None:
    """What goes beyond the bound is not embedded."""
    recorder = Recorder()
    embedder = embedder_of(recorder)
    await embedder.embed_passages(["x" * 100_000])
    assert [len(text) for batch in recorder.batches for text in batch] == [4_000]
    await embedder.aclose()


def raising(error: Exception) -> Callable[[], Recorder]:
    """A way of loading that fails."""

    def load() -> Recorder:
        raise error

    return load


@pytest.mark.parametrize("error", [ImportError("no module"), FileNotFoundError("weights"), ValueError("bad file")])
async def test_an_encoder_that_cannot_be_loaded(error: Exception) -> None:
    """The error says what to do."""
    embedder = BundledEmbedder(BundledEncoder(IDENTITY, raising(error)))
    with pytest.raises(EmbedderError, match=r"cannot be loaded .*: reinstall Reverie, or set memory\.embedder"):
        await embedder.warm()
    await embedder.aclose()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
async def test_vectors_that_are_not_finite(bad: float) -> None:
    """A vector that would poison every search is refused."""
    encoder = BundledEncoder(IDENTITY, lambda: lambda texts: np.full((len(texts), 2), bad, np.float32))
    embedder = BundledEmbedder(encoder)
    with pytest.raises(EmbedderError, match="not finite"):
        await embedder.embed_query("a")
    await embedder.aclose()


async def test_an_encoder_that_gives_another_size() -> None:
    """Vectors of the wrong size are refused instead of stored."""
    embedder = BundledEmbedder(BundledEncoder(IDENTITY, lambda: lambda texts: np.ones((len(texts), 3), np.float32)))
    with pytest.raises(EmbedderError, match="failed on a text"):
        await embedder.embed_passages(["a", "b"])
    await embedder.aclose()


async def test_closing_ends_what_waits() -> None:
    """After closing, calls that wait and calls that come fail as errors of the embedder, not as cancellations."""
    free = threading.Event()
    recorder = Recorder(free)
    embedder = embedder_of(recorder)
    failed: list[str] = []

    async def call(text: str) -> None:
        try:
            await embedder.embed_query(text)
        except EmbedderError as error:
            failed.append(f"{text}: {error}")

    async with anyio.create_task_group() as work:
        work.start_soon(call, "running")
        await anyio.to_thread.run_sync(recorder.started.wait, 10)
        work.start_soon(call, "waiting")
        await anyio.wait_all_tasks_blocked()
        work.start_soon(embedder.aclose)
        await anyio.wait_all_tasks_blocked()
        free.set()
    await call("late")
    assert failed == ["waiting: the embedder is closed", "late: the embedder is closed"]


@given(st.lists(st.text(max_size=20).map(lambda text: text * 100), max_size=100))
def test_slices_keep_everything_and_are_bounded(texts: list[str]) -> None:
    """No text is lost or moved, and only a single long text makes a slice longer than the bound."""
    parts = list(slices(texts))
    assert [text for part in parts for text in part] == texts
    assert all(len(part) <= 32 for part in parts)
    assert all(len(part) == 1 or sum(len(text) for text in part) <= 2_400 for part in parts)


async def test_the_real_encoder() -> None:
    """The encoder that ships understands questions across languages, and gives what it claims."""
    embedder = BundledEmbedder()
    await embedder.warm()
    passages = [
        "Anna drinks green tea every morning.",
        "The train to Lisbon leaves at nine.",
        "Der Hund schläft unter dem Tisch.",
    ]
    vectors = await embedder.embed_passages(passages)
    assert vectors.shape == (3, embedder.identity.dims) == (3, 512)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for number, question in enumerate(["What does Anna like to drink?", "火车几点开往里斯本？", "Where is the dog?"]):
        assert int(np.argmax(vectors @ await embedder.embed_query(question))) == number
    assert not (await embedder.embed_query("   ")).any()
    await embedder.aclose()


async def test_a_text_just_embedded_is_not_computed_again() -> None:
    """A message is first a question, and a moment later something to be found: it costs once."""
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> NDArray[np.float32]:
        calls.append(texts)
        return np.ones((len(texts), IDENTITY.dims), np.float32)

    embedder = BundledEmbedder(BundledEncoder(IDENTITY, lambda: encode))
    query = await embedder.embed_query("said once")
    passages = await embedder.embed_passages(["said once", "something else"])
    await embedder.aclose()

    assert calls == [["said once"], ["something else"]]
    assert (passages[0] == query).all()


async def test_questions_that_come_together_are_embedded_together() -> None:
    """Those that wait while the thread is busy share the next call."""
    free = threading.Event()
    recorder = Recorder(free)
    embedder = embedder_of(recorder)
    first = asyncio.create_task(embedder.embed_query("first"))
    await asyncio.to_thread(recorder.started.wait, 5)
    others = [asyncio.create_task(embedder.embed_query(f"q{n}")) for n in range(5)]
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(first, *others)
    await embedder.aclose()

    assert [len(batch) for batch in recorder.batches] == [1, 5]
