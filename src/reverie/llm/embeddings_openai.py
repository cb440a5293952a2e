"""An embedder behind any server that speaks OpenAI's `POST /embeddings`.

Passages go in calls of bounded size (`llm/embeddings.py` `batches`), one after the other; a question goes at once. What
follows a failed call is decided in `llm/embedding_patience.py`. Vectors are asked for in base64, the smaller and faster
form; a server that answers with numbers, or refuses to be asked, is understood too. Every vector is checked: its size
must be the model's, its numbers finite.
"""

from __future__ import annotations

import base64
import json
import random
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import stamina

from reverie.clock import SystemClock
from reverie.config import read_secret
from reverie.errors import (
    ConfigError,
    EmbedderError,
    UpstreamError,
    UpstreamMalformedError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
)
from reverie.llm.embedding_patience import (
    PASSAGES,
    QUESTION,
    embedder_error,
    is_too_many,
    may_halve,
    patience_after,
    wait_before_retry,
)
from reverie.llm.embeddings import BATCH_TEXTS_MAX, EmbedderIdentity, batches, unit_length
from reverie.llm.upstream_failures import may_be_about_request_form
from reverie.llm.upstream_server import Purpose, ServerSettings, UpstreamServer, read_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx2
    import numpy as np
    from numpy.typing import NDArray

    from reverie.clock import Clock
    from reverie.config import MemoryConfig
    from reverie.llm.embedding_patience import Patience
    from reverie.types import JsonObject

TEXT_BYTES_MAX = 24_000
"""Longer texts are cut here, at about 6000 tokens: models refuse a text beyond some 8000."""

CONNECT_S_MAX = 10.0
_CALLS_MAX = 4
_TRIES_MAX = 10
"""A last bound: patience ends before it."""

_KNOWN_DIMS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}


class OpenAIEmbedder:
    """An `Embedder` on a server. The size of its vectors is known after the first, or after `warm()`."""

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: str | None,
        key_source: str = "the environment variable of memory.embedder_key_env",
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        settings = ServerSettings(
            what="the embeddings server",
            base_url=base_url.rstrip("/"),
            api_key=api_key,
            key_source=key_source,
            connect_s=CONNECT_S_MAX,
            read_s=PASSAGES.try_s,
            retries_max=0,
            retry_wait_s_max=0,
            calls_max=_CALLS_MAX,
        )
        self._clock = clock or SystemClock()
        self._server = UpstreamServer(settings, transport, self._clock)
        self._model = model
        self._dims = _KNOWN_DIMS.get(model, 0)
        self._batch_texts_max = BATCH_TEXTS_MAX
        self._asks_base64 = True
        self._form_is_known = False
        self._passages = anyio.Lock()

    @classmethod
    def from_config(cls, config: MemoryConfig) -> OpenAIEmbedder:
        """The embedder of a configuration, with its key from the environment.

        Raises:
            ConfigError: `embedder_base_url` is not set.
        """
        if config.embedder_base_url is None:
            allowed = "the URL of an OpenAI-compatible API, because memory.embedder is openai"
            raise ConfigError("memory.embedder_base_url", None, allowed)
        return cls(
            base_url=config.embedder_base_url,
            model=config.embedder_model,
            api_key=read_secret(config.embedder_key_env, None),
            key_source=f"the environment variable {config.embedder_key_env}",
        )

    @property
    def identity(self) -> EmbedderIdentity:
        """The vector space; `dims` is 0 for a model we do not know until its first vector came."""
        return EmbedderIdentity(provider="openai", model=self._model, version="1", dims=self._dims)

    async def warm(self) -> None:
        """Learn the size of the model's vectors, if it is not a known one.

        Raises:
            EmbedderError: the server cannot be reached or refused.
        """
        if not self._dims:
            await self._question("warm")

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question.

        Raises:
            TextRefusedError: the server does not embed this text.
            EmbedderError: the server failed, or took longer than a minute with all its tries.
        """
        return await self._question(text)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts to be found, in calls of bounded size.

        Raises:
            TextRefusedError: the server does not embed one of them, and its words do not say which.
            EmbedderError: the server failed on one of the calls.
        """
        async with self._passages:
            rows = [await self._embed(batch, PASSAGES) for batch in batches(texts, self._batch_texts_max)]
        if len(rows) == 1:
            return rows[0]
        return await anyio.to_thread.run_sync(_joined, rows, self._dims)

    async def aclose(self) -> None:
        """Close connections."""
        await self._server.aclose()

    async def _question(self, text: str) -> NDArray[np.float32]:
        try:
            with anyio.fail_after(QUESTION.try_s):
                return (await self._embed([text], QUESTION))[0]
        except TimeoutError as error:
            raise EmbedderError(self._late(QUESTION), over_text=True) from error

    async def _embed(self, texts: list[str], patience: Patience) -> NDArray[np.float32]:
        """One call for the texts that have something in them; the others are zero."""
        filled = {number: text for number, text in enumerate(texts) if text.strip()}
        if not filled and not self._dims:
            await self._embed(["warm"], patience)  # even a zero vector has a size
        try:
            found = await self._ask(list(filled.values()), patience) if filled else []
        except UpstreamError as error:
            raise embedder_error(error, self._clock.now_ms()) from error
        vectors = await anyio.to_thread.run_sync(_vectors, found, list(filled), len(texts), self._dims)
        self._dims = vectors.shape[1]
        return vectors

    async def _ask(self, texts: list[str], patience: Patience) -> list[bytes | list[float]]:
        """The vectors as the server wrote them, in the order of the texts; where it helps, in smaller calls."""
        try:
            return await self._ask_in_a_known_form(texts, patience)
        except UpstreamError as error:
            if len(texts) == 1 or not may_halve(error):
                raise
            half = len(texts) // 2
            if is_too_many(error):
                self._batch_texts_max = min(self._batch_texts_max, half)  # the next batches are spared the refusal
        return [*await self._ask(texts[:half], patience), *await self._ask(texts[half:], patience)]

    async def _ask_in_a_known_form(self, texts: list[str], patience: Patience) -> list[bytes | list[float]]:
        """Ask in base64 until the server has refused it once, and taken numbers instead."""
        try:
            found = await self._ask_patiently(texts, patience, as_base64=self._asks_base64)
        except UpstreamRefusedError as error:
            if self._form_is_known or not may_be_about_request_form(error) or may_halve(error):
                raise
            found = await self._ask_patiently(texts, patience, as_base64=False)
            self._asks_base64 = False
        self._form_is_known = True
        return found

    async def _ask_patiently(
        self, texts: list[str], patience: Patience, *, as_base64: bool
    ) -> list[bytes | list[float]]:
        """Try until it succeeds or another try cannot help."""
        failures, waited_s = 0, 0.0

        def wait(error: Exception) -> float | bool:
            nonlocal failures, waited_s
            failures += 1
            if len(texts) > 1 and may_halve(error):
                return False
            wait_s = wait_before_retry(
                error,
                patience_after(error, patience),
                failures=failures,
                waited_s=waited_s,
                chance=random.random(),  # noqa: S311 (spreads tries over time)
                now_ms=self._clock.now_ms(),
            )
            waited_s += wait_s or 0.0
            return False if wait_s is None else wait_s

        async for attempt in stamina.retry_context(on=wait, attempts=_TRIES_MAX, timeout=None):
            with attempt:
                return await self._in_time(texts, patience, as_base64=as_base64)
        raise AssertionError("the last try returns or raises")

    async def _in_time(self, texts: list[str], patience: Patience, *, as_base64: bool) -> list[bytes | list[float]]:
        try:
            with anyio.fail_after(patience.try_s):
                return await self._post(texts, as_base64=as_base64)
        except TimeoutError as error:
            raise UpstreamTimeoutError(self._late(patience)) from error

    def _late(self, patience: Patience) -> str:
        return f"{self._server.called.what} at {self._server.called.url} took longer than {patience.try_s:.0f} s"

    async def _post(self, texts: list[str], *, as_base64: bool) -> list[bytes | list[float]]:
        body: JsonObject = {"model": self._model, "input": [_cut(text) for text in texts]}
        if as_base64:
            body["encoding_format"] = "base64"
        sent = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        async with self._server.call("POST", "/embeddings", sent, Purpose(self._model)) as response:
            answer = await read_body(response, self._server.called)
        return await anyio.to_thread.run_sync(_written_vectors, answer, len(texts))


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:TEXT_BYTES_MAX].decode("utf-8", "ignore")


def _written_vectors(answer: bytes, count: int) -> list[bytes | list[float]]:
    """The vectors of an answer by their `index`, each as bytes (from base64) or as a list of numbers."""
    try:
        entries: Any = json.loads(answer)["data"]
        ordered = sorted(cast("list[JsonObject]", entries), key=lambda entry: entry.get("index", 0))
        found: list[Any] = [entry["embedding"] for entry in ordered]
        vectors = [base64.b64decode(each, validate=True) if isinstance(each, str) else each for each in found]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        message = f"the embeddings server answered something that is not embeddings: {error!r}"
        raise UpstreamMalformedError(message) from error
    if len(vectors) != count:
        raise UpstreamMalformedError(f"the embeddings server answered {len(vectors)} vectors for {count} texts")
    return vectors


def _vectors(found: list[bytes | list[float]], places: list[int], count: int, dims: int) -> NDArray[np.float32]:
    """All rows, those of empty texts zero.

    Raises:
        TextRefusedError: a vector holds what is not a finite number.
        EmbedderError: a vector has another size than the others, or cannot be read.
    """
    import numpy as np

    try:
        rows = [np.frombuffer(v, "<f4") if isinstance(v, bytes) else np.asarray(v, np.float32) for v in found]
    except (ValueError, TypeError) as error:
        raise EmbedderError(f"the embeddings server answered a vector that cannot be read: {error}") from error
    dims = dims or len(rows[0])
    for row in rows:
        if row.shape != (dims,) or not dims:
            raise EmbedderError(f"the embeddings server answered a vector of shape {row.shape}, not of {dims} numbers")
    vectors = np.zeros((count, dims), np.float32)
    for place, row in zip(places, rows, strict=True):
        vectors[place] = row
    return unit_length(vectors)


def _joined(rows: list[NDArray[np.float32]], dims: int) -> NDArray[np.float32]:
    import numpy as np

    return np.concatenate(rows) if rows else np.zeros((0, dims), np.float32)
