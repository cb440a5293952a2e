"""The embedder behind an OpenAI-compatible server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import EmbedderError
from reverie.llm.embeddings import batches
from reverie.llm.embeddings_openai import OpenAIEmbedder
from reverie.testing import FakeEmbedder
from reverie.testing.fake_upstream import FakeUpstream, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

TEXTS = ["green tea", "black coffee", "", "red wine"]


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    """Tries follow one another at once."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


def embedder_on(transport: httpx2.AsyncBaseTransport, model: str = "text-x") -> OpenAIEmbedder:
    """An embedder on this transport."""
    return OpenAIEmbedder(base_url="http://127.0.0.1:9/v1/", model=model, api_key="sk-secret-key", transport=transport)


def faked(upstream: FakeUpstream, model: str = "text-x") -> OpenAIEmbedder:
    """An embedder on a fake upstream."""
    return embedder_on(httpx2.ASGITransport(upstream.app), model)


def answering(body: Any, status: int = 200) -> httpx2.MockTransport:
    """A transport that gives one answer to everything."""
    return httpx2.MockTransport(lambda _: httpx2.Response(status, json=body))


async def test_passages_and_queries() -> None:
    """Vectors come in the order of the texts, scaled to length 1; empty texts are zero and are not sent."""
    upstream = FakeUpstream()
    embedder = faked(upstream)
    expected = np.stack([FakeEmbedder().vector(text) for text in TEXTS])
    np.testing.assert_allclose(await embedder.embed_passages(TEXTS), expected, rtol=1e-6)
    np.testing.assert_allclose(await embedder.embed_query("green tea"), expected[0], rtol=1e-6)
    assert [request.body for request in upstream.requests] == [
        {"model": "text-x", "input": ["green tea", "black coffee", "red wine"], "encoding_format": "base64"},
        {"model": "text-x", "input": ["green tea"], "encoding_format": "base64"},
    ]
    assert embedder.identity.key == "openai/text-x/1/64/unit"


async def test_vectors_as_numbers_in_any_order() -> None:
    """A server that ignores the encoding and the order of texts is understood."""
    entries = [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}]
    vectors = await embedder_on(answering({"data": entries})).embed_passages(["a", "b"])
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 1]])


async def test_a_server_that_refuses_base64() -> None:
    """It is asked again for numbers, and from then on at once."""
    asked: list[bool] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        asked.append("encoding_format" in body)
        if asked[-1]:
            return httpx2.Response(400, json={"error": "encoding_format is not supported"})
        return httpx2.Response(200, json={"data": [{"index": 0, "embedding": [1, 0]}]})

    embedder = embedder_on(httpx2.MockTransport(handle))
    await embedder.embed_query("a")
    await embedder.embed_query("b")
    assert asked == [True, False, False]


async def test_many_texts_go_in_batches() -> None:
    """No request holds more than 128 texts."""
    upstream = FakeUpstream()
    vectors = await faked(upstream).embed_passages([f"text {number}" for number in range(300)])
    assert vectors.shape == (300, 64)
    assert [len(request.body["input"]) for request in upstream.requests] == [128, 128, 44]


async def test_the_size_of_vectors() -> None:
    """Known models have their size from the start, others after `warm`; nothing but empty texts also asks for it."""
    assert faked(FakeUpstream(), "text-embedding-3-small").identity.dims == 1536
    warmed = faked(FakeUpstream())
    await warmed.warm()
    assert warmed.identity.dims == 64
    assert (await faked(FakeUpstream()).embed_passages(["", " "])).tolist() == [[0.0] * 64] * 2
    assert (await faked(FakeUpstream()).embed_passages([])).shape == (0, 0)


async def test_passing_failures_are_tried_again() -> None:
    """Overload is waited out, as with chat."""
    upstream = FakeUpstream(Plan(fail_first=2, fail_status=503))
    await faked(upstream).embed_query("a")
    assert len(upstream.requests) == 3


async def test_a_refusal() -> None:
    """What the server refuses is an error of the embedder, with the server's words and without the key."""
    with pytest.raises(EmbedderError, match=r"the embeddings server at .* answered HTTP 401: no key"):
        await faked(FakeUpstream(Plan(fail_first=1, fail_status=401, fail_message="no key"))).embed_query("a")


NO_VECTORS: list[Any] = [
    [],
    {},
    {"data": None},
    {"data": ["x"]},
    {"data": [{"index": 0}]},
    {"data": []},
    {"data": [{"embedding": [1, 2]}, {"embedding": [1, 2]}]},
    {"data": [{"embedding": "not base64!"}]},
    {"data": [{"embedding": "AAAA"}]},
    {"data": [{"embedding": ["x", "y"]}]},
    {"data": [{"embedding": [[1, 2]]}]},
    {"data": [{"embedding": []}]},
    {"data": [{"embedding": "AADAfwAAgD8="}]},
]


@pytest.mark.parametrize("body", NO_VECTORS)
async def test_answers_that_are_no_vectors(body: Any) -> None:
    """Anything but one finite vector per text is an error, never a stored vector."""
    with pytest.raises(EmbedderError):
        await embedder_on(answering(body)).embed_query("a")


async def test_vectors_of_another_size() -> None:
    """A server that changes its model under way is noticed."""
    embedder = embedder_on(answering({"data": [{"embedding": [1, 2]}]}), "text-embedding-3-small")
    with pytest.raises(EmbedderError, match=r"of shape \(2,\), not of 1536 numbers"):
        await embedder.embed_query("a")


@given(st.lists(st.text(max_size=50).map(lambda text: text * 300), max_size=200))
def test_batches_keep_everything_and_are_bounded(texts: list[str]) -> None:
    """No text is lost or moved; batches are bounded by count and by size."""
    parts = list(batches(texts))
    assert [text for part in parts for text in part] == texts
    assert all(len(part) <= 128 for part in parts)
    assert all(len(part) == 1 or sum(len(text.encode()) for text in part) <= 8_000 for part in parts)
