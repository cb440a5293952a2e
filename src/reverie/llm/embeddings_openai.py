"""An embedder behind any server that speaks OpenAI's `POST /embeddings`.

Passages go in batches of at most 128 texts and about 8000 tokens, one request after the other; a query goes at once.
Vectors are asked for in base64, the smaller and faster form; a server that answers with numbers, or refuses to be
asked, is understood too. Every vector is checked: its size must be the model's, its numbers finite.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread

from reverie.config import read_secret
from reverie.errors import ConfigError, EmbedderError, UpstreamError, UpstreamRefusedError
from reverie.llm.embeddings import EmbedderIdentity, unit_length
from reverie.llm.tokens import BYTES_PER_TOKEN
from reverie.llm.upstream_failures import may_be_about_request_form
from reverie.llm.upstream_server import Purpose, ServerSettings, UpstreamServer, read_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import httpx2
    import numpy as np
    from numpy.typing import NDArray

    from reverie.config import MemoryConfig
    from reverie.types import JsonObject

BATCH_TEXTS_MAX = 128
BATCH_TOKENS_MAX = 8_000
TEXT_BYTES_MAX = 24_000
"""Longer texts are cut here, at about 6000 tokens: models refuse a text beyond some 8000."""

QUERY_S_MAX = 60.0
_CALLS_MAX = 4
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
    ) -> None:
        settings = ServerSettings(
            what="the embeddings server",
            base_url=base_url.rstrip("/"),
            api_key=api_key,
            key_source=key_source,
            connect_s=10.0,
            read_s=QUERY_S_MAX,
            retries_max=3,
            retry_wait_s_max=30.0,
            calls_max=_CALLS_MAX,
        )
        self._server = UpstreamServer(settings, transport)
        self._model = model
        self._dims = _KNOWN_DIMS.get(model, 0)
        self._asks_base64 = True
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
            await self._embed(["warm"])

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question.

        Raises:
            EmbedderError: the server failed, or took longer than `QUERY_S_MAX` with all its tries.
        """
        try:
            with anyio.fail_after(QUERY_S_MAX):
                return (await self._embed([text]))[0]
        except TimeoutError as error:
            raise EmbedderError(f"the embeddings server took longer than {QUERY_S_MAX:.0f} s") from error

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts to be found, in batches.

        Raises:
            EmbedderError: the server failed on one of them.
        """
        async with self._passages:
            rows = [await self._embed(batch) for batch in batches(texts)]
        if len(rows) == 1:
            return rows[0]
        return await anyio.to_thread.run_sync(_joined, rows, self._dims)

    async def aclose(self) -> None:
        """Close connections."""
        await self._server.aclose()

    async def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        """One request for the texts that have something in them; the others are zero."""
        filled = {number: text for number, text in enumerate(texts) if text.strip()}
        if not filled and not self._dims:
            await self._embed(["warm"])  # even a zero vector has a size
        found: list[bytes | list[float]] = await self._ask(list(filled.values())) if filled else []
        vectors = await anyio.to_thread.run_sync(_vectors, found, list(filled), len(texts), self._dims)
        self._dims = vectors.shape[1]
        return vectors

    async def _ask(self, texts: list[str]) -> list[bytes | list[float]]:
        """The vectors as the server wrote them, in the order of the texts."""
        try:
            return await self._post(texts, as_base64=self._asks_base64)
        except UpstreamRefusedError as error:
            if not self._asks_base64 or not may_be_about_request_form(error):
                raise EmbedderError(str(error)) from error
        except UpstreamError as error:
            raise EmbedderError(str(error)) from error
        try:
            found = await self._post(texts, as_base64=False)
        except UpstreamError as error:
            raise EmbedderError(str(error)) from error
        self._asks_base64 = False
        return found

    async def _post(self, texts: list[str], *, as_base64: bool) -> list[bytes | list[float]]:
        body: JsonObject = {"model": self._model, "input": [_cut(text) for text in texts]}
        if as_base64:
            body["encoding_format"] = "base64"
        sent = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        async with self._server.call("POST", "/embeddings", sent, Purpose(self._model)) as response:
            answer = await read_body(response, self._server.called)
        return await anyio.to_thread.run_sync(_written_vectors, answer, len(texts))


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in requests of bounded size by count and by estimated tokens."""
    batch: list[str] = []
    tokens = 0
    for text in texts:
        size = min(len(text.encode("utf-8", "replace")), TEXT_BYTES_MAX) // BYTES_PER_TOKEN + 1
        if batch and (len(batch) == BATCH_TEXTS_MAX or tokens + size > BATCH_TOKENS_MAX):
            yield batch
            batch, tokens = [], 0
        batch.append(text)
        tokens += size
    if batch:
        yield batch


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
        raise EmbedderError(f"the embeddings server answered something that is not embeddings: {error!r}") from error
    if len(vectors) != count:
        raise EmbedderError(f"the embeddings server answered {len(vectors)} vectors for {count} texts")
    return vectors


def _vectors(found: list[bytes | list[float]], places: list[int], count: int, dims: int) -> NDArray[np.float32]:
    """All rows, those of empty texts zero.

    Raises:
        EmbedderError: a vector has another size than the others, or holds what is not a finite number.
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
