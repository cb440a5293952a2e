"""`POST /v1/embeddings`."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from reverie.errors import EmbedderError
from reverie.testing import FakeEmbedder
from tests.unit.gateway.scripted_app import ScriptedApp, client_of

pytestmark = pytest.mark.anyio

URL = "/v1/embeddings"


async def embed(body: Any, *, embedder: FakeEmbedder | None = None, headers: dict[str, str] | None = None) -> Any:
    """Send one request."""
    app = ScriptedApp(embedder=embedder or FakeEmbedder(dims=4))
    async with client_of(app) as client:
        return await client.post(URL, json=body, headers=headers)


async def test_vectors_as_numbers() -> None:
    """One vector for each text, in order; usage is not counted."""
    response = await embed({"model": "reverie", "input": ["sun", "moon"]})
    embedder = FakeEmbedder(dims=4)
    assert response.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": embedder.vector("sun").tolist()},
            {"object": "embedding", "index": 1, "embedding": embedder.vector("moon").tolist()},
        ],
        "model": "reverie",
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }


async def test_vectors_in_base64() -> None:
    """Little-endian float32, as the official client asks for."""
    response = await embed({"model": "bag-of-words", "input": "sun moon", "encoding_format": "base64", "dimensions": 4})
    data = base64.b64decode(response.json()["data"][0]["embedding"])
    assert np.array_equal(np.frombuffer(data, "<f4"), FakeEmbedder(dims=4).vector("sun moon"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": "x"}, "`model` is required and must be a string."),
        ({"model": 1, "input": "x"}, "`model` is required and must be a string."),
        (
            {"model": "gpt-5", "input": "x"},
            "Invalid `model`. Use `reverie`, `reverie/<agentId>`, `openclaw` or `openclaw/<agentId>`.",
        ),
        ({"model": "reverie"}, "`input` must be a string or an array of strings."),
        ({"model": "reverie", "input": [1, 2]}, "`input` must be a string or an array of strings."),
        ({"model": "reverie", "input": []}, "`input` must hold 1 to 128 texts."),
        ({"model": "reverie", "input": ["x"] * 129}, "`input` must hold 1 to 128 texts."),
        ({"model": "reverie", "input": ["x", " "]}, "`input` must not hold an empty text."),
        ({"model": "reverie", "input": "x" * 8193}, "Each text of `input` may have at most 8192 characters."),
        ({"model": "reverie", "input": ["x" * 8192] * 9}, "`input` may have at most 65536 characters in all."),
        ({"model": "reverie", "input": "x", "dimensions": 8}, "`dimensions` must be 4, or be left out."),
        ({"model": "reverie", "input": "x", "dimensions": []}, "`dimensions` must be 4, or be left out."),
        (
            {"model": "reverie", "input": "x", "encoding_format": "hex"},
            "`encoding_format` must be `float` or `base64`.",
        ),
    ],
)
async def test_a_wrong_request_is_refused(body: Any, message: str) -> None:
    """Each limit is named."""
    response = await embed(body)
    assert (response.status_code, response.json()["error"]["message"]) == (400, message)


@pytest.mark.parametrize(("model", "status"), [("fake/bag-of-words", 200), ("bag-of-words", 200), ("other", 400)])
async def test_another_model_is_not_to_be_had(model: str, status: int) -> None:
    """The header may name the embedder there is, and no other."""
    response = await embed({"model": "openclaw", "input": "x"}, headers={"x-openclaw-model": model})
    assert response.status_code == status


async def test_no_embedder() -> None:
    """The answer says how this server is set."""
    async with client_of(ScriptedApp()) as client:
        response = await client.post(URL, json={"model": "reverie", "input": "x"})
    assert (response.status_code, response.json()["error"]) == (
        400,
        {
            "message": 'This server has no embedder (memory.embedder = "none").',
            "type": "invalid_request_error",
            "param": "model",
            "code": "embedder_disabled",
        },
    )


async def test_an_embedder_that_fails() -> None:
    """Why is for the log."""
    response = await embed({"model": "reverie", "input": "x"}, embedder=FakeEmbedder(error=EmbedderError("secret")))
    assert (response.status_code, response.content) == (
        502,
        (
            b'{"error":{"message":"The texts could not be embedded.","type":"api_error","param":null,'
            b'"code":"embedder_failed"}}'
        ),
    )


async def test_the_body_is_bounded() -> None:
    """At 5 MiB."""
    async with client_of(ScriptedApp(embedder=FakeEmbedder())) as client:
        response = await client.post(URL, content=b" " * (5 * 1024 * 1024 + 1))
    assert response.status_code == 413
