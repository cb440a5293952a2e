"""The fake upstream speaks OpenAI's protocol as its plan says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import httpx2
import pytest

from reverie.testing.fake_upstream import FakeUpstream, Plan, serve_in_thread
from reverie.types import ToolCall

TOOL = {"type": "function", "function": {"name": "f"}}
CALL = ToolCall("a", "f", '{"q":1}')


def post(upstream: FakeUpstream, path: str = "/v1/chat/completions", **body: Any) -> httpx2.Response:
    """What a fake upstream answers to one call."""
    with serve_in_thread(upstream.app) as address:
        return httpx2.post(address + path, json={"messages": [{"role": "user", "content": "Hi"}], **body})


def events(response: httpx2.Response) -> list[Any]:
    """The parsed events of a stream that ended well."""
    frames = response.text.strip().split("\n\n")
    assert frames[-1] == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-1]]


def deltas(response: httpx2.Response) -> list[Any]:
    """What the chunks of a stream bring."""
    return [event["choices"][0]["delta"] for event in events(response) if event["choices"]]


def test_an_answer_in_one_piece() -> None:
    """The whole completion, with usage."""
    answer = post(FakeUpstream(Plan(text="one two"))).json()
    assert answer["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "one two"}, "finish_reason": "stop"}
    ]
    assert answer["usage"] == {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102}


def test_a_stream() -> None:
    """Role, text in as many chunks as planned, finish; usage only where it is asked for."""
    upstream = FakeUpstream(Plan(text="abcdef", chunks=3))
    plain = post(upstream, stream=True)
    assert plain.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert deltas(plain) == [
        {"role": "assistant", "content": ""},
        {"content": "ab"},
        {"content": "cd"},
        {"content": "ef"},
        {},
    ]
    assert all("usage" not in event for event in events(plain))
    counted = events(post(upstream, stream=True, stream_options={"include_usage": True}))
    assert (counted[-1]["choices"], counted[-1]["usage"]["total_tokens"]) == ([], 101)


def test_echo() -> None:
    """The last user message comes back."""
    answer = post(FakeUpstream(Plan(echo=True)), messages=[{"role": "user", "content": "say this"}]).json()
    assert answer["choices"][0]["message"]["content"] == "say this"


def test_tool_calls_are_asked_for_until_results_come() -> None:
    """With tools offered it asks for the planned calls; after their results it answers."""
    upstream = FakeUpstream(Plan(text="done", tool_calls=(CALL,)))
    asked = post(upstream, tools=[TOOL]).json()["choices"][0]
    assert asked["finish_reason"] == "tool_calls"
    assert asked["message"]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"q":1}'}}
    ]
    streamed = deltas(post(upstream, tools=[TOOL], stream=True))
    pieces = [d["tool_calls"][0]["function"]["arguments"] for d in streamed if "tool_calls" in d]
    assert "".join(pieces) == '{"q":1}'
    steered = [{"role": "tool", "tool_call_id": "a", "content": "r"}, {"role": "user", "content": "And?"}]
    assert "tool_calls" not in post(upstream, tools=[TOOL], messages=steered).json()["choices"][0]["message"]
    after = post(upstream, tools=[TOOL], messages=[{"role": "tool", "tool_call_id": "a", "content": "r"}])
    assert after.json()["choices"][0]["message"]["content"] == "done"
    assert "tool_calls" not in post(upstream).json()["choices"][0]["message"]


def test_failures_then_answers() -> None:
    """The first calls fail as planned; a new plan begins to count anew."""
    upstream = FakeUpstream(Plan(fail_first=1, fail_status=429, retry_after="7", fail_code="busy"))
    with serve_in_thread(upstream.app) as address:

        def call() -> httpx2.Response:
            return httpx2.post(f"{address}/v1/chat/completions", json={"messages": []})

        failed = call()
        assert (failed.status_code, failed.headers["retry-after"]) == (429, "7")
        assert failed.json()["error"]["code"] == "busy"
        assert call().status_code == 200
        upstream.plan = Plan(fail_first=1)
        assert call().status_code == 503


@pytest.mark.parametrize(
    ("plan", "body", "status"),
    [
        (Plan(refuse_tools=True), {"tools": [TOOL]}, 400),
        (Plan(refuse_tools=True), {}, 200),
        (Plan(refuse_stream_options=True), {"stream": True, "stream_options": {}}, 400),
        (Plan(api_key="other"), {}, 401),
    ],
)
def test_refusals(plan: Plan, body: dict[str, Any], status: int) -> None:
    """It refuses what the plan says it refuses."""
    assert post(FakeUpstream(plan), **body).status_code == status


def test_a_connection_that_dies() -> None:
    """The connection breaks within the stream."""
    with pytest.raises(httpx2.RemoteProtocolError):
        post(FakeUpstream(Plan(die_after_chunks=2)), stream=True)


def test_a_stream_that_ends_early_and_one_that_is_garbage() -> None:
    """Broken streams are broken as planned."""
    assert "[DONE]" not in post(FakeUpstream(Plan(end_after_chunks=2)), stream=True).text
    assert "{not json}" in post(FakeUpstream(Plan(malformed=True)), stream=True).text
    with pytest.raises(json.JSONDecodeError):
        post(FakeUpstream(Plan(malformed=True))).json()


def test_models_and_embeddings() -> None:
    """The other endpoints answer, too."""
    upstream = FakeUpstream(Plan(models=("a", "b"), embedding_dims=4))
    with serve_in_thread(upstream.app) as address:
        listed = httpx2.get(f"{address}/v1/models").json()["data"]
    assert [entry["id"] for entry in listed] == ["a", "b"]
    embedded = post(upstream, "/v1/embeddings", input=["x y", "z"]).json()["data"]
    assert [(entry["index"], len(entry["embedding"])) for entry in embedded] == [(0, 4), (1, 4)]
    assert [request.path for request in upstream.requests] == ["/v1/models", "/v1/embeddings"]


def test_as_a_process() -> None:
    """Started as a process it says where it listens, and answers there."""
    command = [sys.executable, "-m", "reverie.testing.fake_upstream", "--port", "0", "--text", "from afar"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("listening on ").strip()
            answer = httpx2.post(f"{address}/v1/chat/completions", json={"messages": []}, timeout=20)
            assert answer.json()["choices"][0]["message"]["content"] == "from afar"
        finally:
            process.terminate()
