"""Whatever a caller sends, the answer is never an unexplained 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie.gateway.server import create_gateway
from reverie.gateway.wire import OWNED
from reverie.testing import FakeEmbedder
from tests.unit.gateway.scripted_app import ScriptedApp

pytestmark = pytest.mark.anyio

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
PART = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "input_text", "image_url", "refusal", "audio"]) | VALUE,
        "text": VALUE,
        "input_text": VALUE,
        "refusal": VALUE,
        "image_url": st.fixed_dictionaries({"url": st.just("data:image/png;base64,AAAA") | VALUE}) | VALUE,
    },
)
FUNCTION = st.fixed_dictionaries({}, optional={"name": VALUE, "arguments": VALUE, "parameters": VALUE})
CALL = st.fixed_dictionaries({}, optional={"id": VALUE, "type": VALUE, "function": FUNCTION | VALUE})
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool", "function"]) | VALUE,
        "content": TEXT | st.lists(PART | VALUE, max_size=3) | VALUE,
        "name": VALUE,
        "tool_calls": st.lists(CALL | VALUE, max_size=2) | VALUE,
        "tool_call_id": VALUE,
        "function_call": FUNCTION | VALUE,
    },
)
BODY = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(MESSAGE | VALUE, max_size=4) | VALUE,
        "tools": st.lists(CALL | VALUE, max_size=2) | VALUE,
        "tool_choice": st.sampled_from(["auto", "none", "required"]) | CALL | VALUE,
        "model": st.just("reverie") | VALUE,
        **dict.fromkeys(sorted(OWNED - {"messages", "tools", "tool_choice", "model"}), VALUE),
        **dict.fromkeys(("temperature", "seed", "max_tokens", "response_format", "stop", "input"), VALUE),
    },
)
HEADERS = st.dictionaries(
    st.sampled_from(["x-openclaw-session-key", "x-reverie-dm-scope", "x-openclaw-agent", "x-reverie-model"]),
    st.binary(max_size=20),
    max_size=2,
)


async def post(path: str, body: bytes, headers: dict[str, bytes]) -> tuple[int, bytes, dict[str, str]]:
    """One request, as an HTTP server would pass it on."""
    app = create_gateway(ScriptedApp(embedder=FakeEmbedder(dims=2)))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(name.encode(), value) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    answered = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:]), answered


def check(status: int, answer: bytes, headers: dict[str, str]) -> None:
    """A reply, a stream, or an error object; never a 500."""
    assert status in {200, 400, 404}
    if headers["content-type"].startswith("text/event-stream"):
        assert answer.endswith(b"data: [DONE]\n\n")
        return
    parsed = json.loads(answer)
    assert ("error" in parsed) == (status != 200)
    if status != 200:
        assert set(parsed["error"]) == {"message", "type", "param", "code"}


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(body=BODY, headers=HEADERS)
async def test_no_json_body_breaks_chat_completions(body: dict[str, Any], headers: dict[str, bytes]) -> None:
    """Any JSON in any field is answered or refused."""
    check(*await post("/v1/chat/completions", json.dumps(body).encode(), headers))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(body=BODY | VALUE)
async def test_no_json_body_breaks_embeddings(body: Any) -> None:
    """As for chat completions."""
    check(*await post("/v1/embeddings", json.dumps(body).encode(), {}))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
async def test_no_bytes_break_chat_completions(body: bytes) -> None:
    """What is not JSON is refused as such."""
    status, answer, _ = await post("/v1/chat/completions", body, {})
    assert (status, "error" in json.loads(answer)) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":' + b"[" * 100_000,
        b'{"messages":[{"role":"user","content":' + b'{"a":' * 5_000,
        b'{"messages":[{"role":"user","content":"hi"}],"x":' + b"[" * 190 + b"]" * 190 + b"}",
        b'{"messages":[{"role":"user","content":"hi"}],"x":1e999}',
        b'{"messages":[{"role":"user","content":"hi"}],"seed":1e999}',
        b'{"messages":[{"role":"user","content":"hi"}],"temperature":NaN}',
        b'{"messages":[{"role":"user","content":"a\\u0000\\ud800"}]}',
        b'{"messages":[{"role":"user","content":"hi"}],"user":"\\u0000"}',
        b'{"messages":[{"role":"user","content":"hi"}],"model":"\\ud800"}',
        b'{"messages":[{"role":"user","content":"hi"}],"n":' + b"9" * 10_000 + b"}",
    ],
)
async def test_known_bombs(body: bytes) -> None:
    """Deep nesting, numbers beyond bounds, characters that are none."""
    check(*await post("/v1/chat/completions", body, {}))
