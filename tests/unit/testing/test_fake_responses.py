"""The fake Responses server speaks OpenAI's protocol as scripted, and keeps what it was sent."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

import httpx2
import openai
import pytest

from reverie.testing.fake_responses import (
    Answer,
    Failure,
    FakeResponses,
    FunctionCall,
    Refusal,
    context_too_long,
    invalid_image,
    overloaded,
    serve,
    serve_in_thread,
)
from reverie.testing.prefixes import Repetition

pytestmark = pytest.mark.anyio

TOOL: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}


def post(server: FakeResponses, **body: Any) -> httpx2.Response:
    """What the server answers to one request."""
    with serve_in_thread(server.app) as address:
        return httpx2.post(f"{address}/v1/responses", json={"model": "m", "input": "Hi", **body})


def events(response: httpx2.Response) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream with their fields."""
    frames = [frame.split("\n") for frame in response.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in frames]


def client(address: str) -> openai.AsyncOpenAI:
    """The official SDK, which tries once."""
    return openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def user(text: str) -> Any:
    """A message of a person as an input item."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


# -- what is answered ----------------------------------------------------------------------------------------------


def test_a_stream_names_its_events_in_the_order_of_the_protocol() -> None:
    """Created, the item with its text in pieces, done, completed with usage."""
    streamed = events(post(FakeResponses(Answer("abcd", chunks=2)), stream=True))
    assert [name for name, _ in streamed] == [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [fields["type"] for _, fields in streamed] == [name for name, _ in streamed]
    assert [fields["sequence_number"] for _, fields in streamed] == list(range(9))
    assert [fields["delta"] for name, fields in streamed if name.endswith("text.delta")] == ["ab", "cd"]
    done = streamed[-1][1]["response"]
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "abcd", "annotations": []}]
    assert done["usage"]["output_tokens"] == 1


def test_tool_calls_and_thoughts() -> None:
    """A summary of thoughts stands before the text, and the calls of tools behind it."""
    answer = Answer("ok", calls=(FunctionCall("f", '{"a":1}', namespace="mcp__x"),), reasoning="Hm.")
    output = post(FakeResponses(answer)).json()["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert output[2] == {
        "type": "function_call",
        "id": "fc_1_2",
        "call_id": "call_1_2",
        "name": "f",
        "arguments": '{"a":1}',
        "status": "completed",
        "namespace": "mcp__x",
    }


async def test_the_official_sdk_reads_a_stream() -> None:
    """Text, calls, and usage with cached tokens arrive as the SDK's own types."""
    server = FakeResponses(Answer("Hello there", calls=(FunctionCall("f", '{"a":1}'),), reasoning="Hm."))
    async with serve(server.app) as address, client(address) as sdk:
        stream = await sdk.responses.create(model="m", input="Hi", tools=[TOOL], stream=True)
        said = ""
        completed = None
        async for event in stream:
            if event.type == "response.output_text.delta":
                said += event.delta
            elif event.type == "response.completed":
                completed = event.response
    assert said == "Hello there"
    assert completed is not None
    assert completed.output_text == "Hello there"
    call = completed.output[2]
    assert call.type == "function_call"
    assert (call.name, call.arguments, call.call_id) == ("f", '{"a":1}', "call_1_2")
    assert completed.usage is not None
    assert completed.usage.input_tokens == server.requests[0].prompt_tokens
    assert completed.usage.input_tokens_details.cached_tokens == 0


async def test_the_official_sdk_reads_an_answer_in_one_piece() -> None:
    """Without a stream the same response comes whole."""
    async with serve(FakeResponses(Answer("Hello there")).app) as address, client(address) as sdk:
        whole = await sdk.responses.create(model="m", input="Hi")
    assert (whole.output_text, whole.status, whole.id) == ("Hello there", "completed", "resp_1")


async def test_the_official_sdk_raises_what_is_refused() -> None:
    """An error status is the SDK's error for it, with the code."""
    server = FakeResponses(Refusal(429, "slow down", "rate_limit_exceeded", retry_after="7"), invalid_image())
    async with serve(server.app) as address, client(address) as sdk:
        with pytest.raises(openai.RateLimitError) as limited:
            await sdk.responses.create(model="m", input="Hi", stream=True)
        with pytest.raises(openai.BadRequestError, match="does not represent a valid image") as refused:
            await sdk.responses.create(model="m", input="Hi", stream=True)
    assert limited.value.response.headers["retry-after"] == "7"
    assert refused.value.code == "invalid_image"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(), "server_error"),
        (context_too_long(), "context_length_exceeded"),
        (overloaded(), "server_is_overloaded"),
    ],
)
def test_a_stream_that_fails(failure: Failure, code: str) -> None:
    """It begins, and ends in `response.failed` with the code."""
    streamed = events(post(FakeResponses(failure), stream=True))
    assert [name for name, _ in streamed] == ["response.created", "response.failed"]
    assert streamed[1][1]["response"]["error"]["code"] == code


def test_a_broken_connection() -> None:
    """The connection breaks behind as many events as scripted."""
    with pytest.raises(httpx2.RemoteProtocolError):
        post(FakeResponses(Answer("abcd", cut_after=3)), stream=True)


def test_the_script_is_used_up_and_then_the_rest_answers() -> None:
    """Each request takes one step; afterwards `otherwise` answers, which may look at the request."""
    server = FakeResponses(Answer("one"), otherwise=lambda request: Answer(f"number {request.number}"))
    server.then(Answer("two"))
    assert server.unused == (Answer("one"), Answer("two"))
    said = [post(server).json()["output"][0]["content"][0]["text"] for _ in range(3)]
    assert said == ["one", "two", "number 3"]
    assert server.unused == ()


def test_a_prompt_beyond_the_window_is_refused() -> None:
    """It is answered as too long, and the script stays for the next."""
    server = FakeResponses(Answer("fits"), context_tokens=50)
    assert post(server, input="x" * 400).json()["error"]["code"] == "context_length_exceeded"
    assert post(server, input="x").json()["output"][0]["content"][0]["text"] == "fits"


def test_what_is_not_cached_takes_time() -> None:
    """With a pace, a prompt is answered when it is read; what its thread had before costs nothing."""
    server = FakeResponses(prefill_tokens_s=10_000)
    took: list[float] = []
    with serve_in_thread(server.app) as address:
        for _ in range(2):
            started = time.monotonic()
            httpx2.post(f"{address}/v1/responses", json={"input": "x" * 12_000, "prompt_cache_key": "t"})
            took.append(time.monotonic() - started)
    assert took[0] >= 0.3
    assert took[1] < 0.3


async def test_an_answer_can_be_held_back() -> None:
    """Its last piece comes when the event is set, and a client that leaves meanwhile is counted."""
    held = threading.Event()
    server = FakeResponses(Answer("abcd", held_by=held), Answer("abcd", held_by=threading.Event()))
    async with serve(server.app) as address, httpx2.AsyncClient() as http:
        body = {"input": "Hi", "stream": True}
        async with http.stream("POST", f"{address}/v1/responses", json=body) as response:
            lines = response.aiter_lines()
            said = ""
            async for line in lines:
                if "output_text.delta" in line and line.startswith("data: "):
                    said += json.loads(line.removeprefix("data: "))["delta"]
                    if said == "abc":
                        held.set()
        assert said == "abcd"
        async with http.stream("POST", f"{address}/v1/responses", json=body) as response:
            async for line in response.aiter_lines():
                if "output_text.delta" in line:
                    break
        for _ in range(200):
            if server.disconnects:
                break
            await _soon()
    assert server.disconnects == 1


async def _soon() -> None:
    import anyio

    await anyio.sleep(0.01)


# -- what was sent -------------------------------------------------------------------------------------------------


def test_the_log_keeps_what_was_really_sent() -> None:
    """Bytes, headers, cache key, instructions, tools and input items of each request."""
    server = FakeResponses()
    post(server, prompt_cache_key="t1", instructions="Be brief.", tools=[TOOL], input=[user("one"), user("two")])
    sent = server.requests[0]
    assert json.loads(sent.raw) == sent.body
    assert (sent.number, sent.path, sent.thread) == (1, "/v1/responses", "t1")
    assert (sent.body["instructions"], sent.tools, sent.texts()) == ("Be brief.", [TOOL], ["one", "two"])
    assert sent.headers["content-type"] == "application/json"
    assert [json.loads(part) for part in sent.parts] == ["Be brief.", TOOL, user("one"), user("two")]


def test_a_text_alone_is_one_message() -> None:
    """`input` may be a string."""
    server = FakeResponses()
    post(server, input="Hi")
    assert server.requests[0].texts() == ["Hi"]


def test_each_thread_is_compared_with_itself() -> None:
    """The repeated of a request says what of it its own thread had sent before, and usage tells it as cached."""
    server = FakeResponses()
    answers = [
        post(server, prompt_cache_key=thread, input=items)
        for thread, items in [
            ("a", [user("x" * 396)]),
            ("b", [user("other")]),
            ("a", [user("x" * 396), user("next")]),
            ("a", [user("y" * 396), user("next")]),
        ]
    ]
    first, second, third = server.of_thread("a")
    size, short = len(first.parts[0]), len(second.parts[1])
    assert first.repeated == Repetition(0, 0, size)
    assert second.repeated == Repetition(size, 0, short)
    assert third.repeated == Repetition(third.parts[0].index(b"yy"), short, size - third.parts[0].index(b"yy"))
    usage = answers[2].json()["usage"]
    assert usage["input_tokens"] == second.prompt_tokens
    assert usage["input_tokens_details"]["cached_tokens"] == size // 4


def test_models_are_listed() -> None:
    """`/v1/models` answers as OpenAI's does."""
    with serve_in_thread(FakeResponses(models=("a", "b")).app) as address:
        listed = httpx2.get(f"{address}/v1/models").json()
    assert [entry["id"] for entry in listed["data"]] == ["a", "b"]


def test_it_runs_as_a_process() -> None:
    """`python -m reverie.testing.fake_responses` tells its address and answers there."""
    command = [sys.executable, "-m", "reverie.testing.fake_responses", "--text", "from afar"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("listening on ").strip()
            answer = httpx2.post(f"{address}/v1/responses", json={"input": "Hi"}).json()
        finally:
            process.terminate()
    assert answer["output"][0]["content"][0]["text"] == "from afar"
