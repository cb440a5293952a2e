"""The embedder behind an OpenAI-compatible server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import numpy as np
import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import EmbedderError, TextRefusedError
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


def sizes(upstream: FakeUpstream) -> list[int]:
    """How many texts each call held."""
    return [len(request.body["input"]) for request in upstream.requests]


async def test_a_call_holds_about_8000_tokens() -> None:
    """Counted in bytes: two long texts go in two calls, four short ones in one, a very long one alone (E1)."""
    upstream = FakeUpstream()
    embedder = faked(upstream)
    await embedder.embed_passages(["a" * 4_200, "b" * 4_200])
    assert sizes(upstream) == [1, 1]
    upstream.requests.clear()
    await embedder.embed_passages([letter * 120 for letter in "abcd"])
    assert sizes(upstream) == [4]
    upstream.requests.clear()
    await embedder.embed_passages(["語" * 1_400, "言" * 1_400, "data:image/png;base64," + "A" * 9_000, "short"])
    assert sizes(upstream) == [1, 1, 1, 1]


async def test_blank_texts_are_not_sent() -> None:
    """They have the vector of nothing, and cost nothing (E2)."""
    upstream = FakeUpstream()
    assert not (await faked(upstream, "text-embedding-ada-002").embed_passages(["", " \n\t"])).any()
    assert not upstream.requests


async def test_a_server_that_takes_fewer_texts() -> None:
    """A call with too many is halved until it fits, and the calls after it are as small at once (E4)."""
    upstream = FakeUpstream(Plan(embedding_inputs_max=20))
    embedder = faked(upstream)
    texts = [f"text {number}" for number in range(100)]
    expected = np.stack([FakeEmbedder().vector(text) for text in texts])
    np.testing.assert_allclose(await embedder.embed_passages(texts), expected, rtol=1e-6)
    assert sizes(upstream) == [100, 50, 25, 12, 13, 25, 12, 13, 50, 25, 12, 13, 25, 12, 13]
    upstream.requests.clear()
    await embedder.embed_passages(texts)
    assert sizes(upstream) == [12] * 8 + [4]


def failing(error: Exception | int, beyond: int = 0) -> tuple[httpx2.MockTransport, list[int]]:
    """A server that fails on calls with more texts than `beyond`, and the sizes of the calls."""
    asked: list[int] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        texts = json.loads(request.content)["input"]
        asked.append(len(texts))
        if len(texts) > beyond:
            if isinstance(error, Exception):
                raise error
            return httpx2.Response(error, json={"error": {"message": "made to fail"}})
        entries = [{"index": number, "embedding": [1, 0]} for number in range(len(texts))]
        return httpx2.Response(200, json={"data": entries})

    return httpx2.MockTransport(handle), asked


@pytest.mark.parametrize("error", [431, 413, httpx2.ReadError("Connection reset by peer")])
async def test_failures_that_smaller_calls_avoid(error: Exception | int) -> None:
    """Headers or a body too large, and a connection that was reset: each half is tried by itself (E4)."""
    transport, asked = failing(error, beyond=2)
    assert (await embedder_on(transport).embed_passages(list("abcde"))).shape == (5, 2)
    assert asked == [5, 2, 3, 1, 2]


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (httpx2.ConnectError("Connection refused"), 4),
        (httpx2.ConnectError("No route to host"), 4),
        (httpx2.ReadTimeout("slow"), 1),
        (429, 5),
        (503, 4),
        (401, 1),
        (402, 1),
    ],
)
async def test_failures_that_smaller_calls_would_meet_too(error: Exception | int, calls: int) -> None:
    """No connection, no host, a timeout, a limit and no quota: the call stays whole, however often it is tried (E4)."""
    transport, asked = failing(error)
    with pytest.raises(EmbedderError) as raised:
        await embedder_on(transport).embed_passages(list("abcd"))
    assert asked == [4] * calls
    assert raised.value.lasting == (error in {401, 402})


async def test_a_connection_that_is_always_reset_is_given_up() -> None:
    """Halving ends with one text, which is tried as often as any; the others are left alone."""
    transport, asked = failing(httpx2.ReadError("Connection reset by peer"))
    with pytest.raises(EmbedderError):
        await embedder_on(transport).embed_passages(list("abcdefgh"))
    assert asked == [8, 4, 2, 1, 1, 1, 1]


async def test_a_text_that_is_refused() -> None:
    """Once a form is known to be understood, a refusal is the text's, and is not asked for in another form."""
    upstream = FakeUpstream(Plan(embedding_refuses="forbidden"))
    embedder = faked(upstream)
    await embedder.embed_query("fine")
    with pytest.raises(TextRefusedError, match="This input cannot be embedded"):
        await embedder.embed_passages(["fine", "forbidden"])
    assert sizes(upstream) == [1, 2]


async def test_a_vector_that_is_not_finite_is_the_texts() -> None:
    """So that a text over which a model stumbles can be told from a server that is broken."""
    with pytest.raises(TextRefusedError, match="not finite"):
        await embedder_on(answering({"data": [{"embedding": "AADAfwAAgD8="}]})).embed_query("a")


async def test_giving_up_ends_the_tries() -> None:
    """A call that is cancelled while it waits for its next try asks no more (E4)."""
    upstream = FakeUpstream(Plan(fail_first=100, fail_status=429, retry_after="8"))
    with stamina.set_testing(False), anyio.move_on_after(0.05) as gave_up:
        await faked(upstream).embed_query("a")
    assert gave_up.cancelled_caught
    assert len(upstream.requests) == 1


async def test_a_question_waits_for_eight_seconds_at_most() -> None:
    """A server that wants to be left alone for longer is not waited for, and its wish is passed on."""
    upstream = FakeUpstream(Plan(fail_first=100, fail_status=429, retry_after="9"))
    with pytest.raises(EmbedderError) as raised:
        await faked(upstream).embed_query("a")
    assert (len(upstream.requests), raised.value.retry_after_s) == (1, 9)


@given(st.lists(st.text(max_size=50).map(lambda text: text * 300), max_size=200))
def test_batches_keep_everything_and_are_bounded(texts: list[str]) -> None:
    """No text is lost or moved; batches are bounded by count and by size."""
    parts = list(batches(texts))
    assert [text for part in parts for text in part] == texts
    assert all(len(part) <= 128 for part in parts)
    assert all(len(part) == 1 or sum(len(text.encode()) for text in part) <= 8_000 for part in parts)
