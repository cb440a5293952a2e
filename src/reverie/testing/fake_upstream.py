"""A model's server that behaves as told: a real HTTP application that speaks OpenAI's protocol.

    upstream = FakeUpstream(Plan(text="Hello", fail_first=2, fail_status=503))
    async with serve(upstream.app) as address:
        ...                                             # the API is at f"{address}/v1"
    upstream.requests[0].body["messages"]

It also runs as a process, for benchmarks and for trying things by hand:

    python -m reverie.testing.fake_upstream --port 0        # prints: listening on http://127.0.0.1:PORT

What does not depend on the request is rendered once, so that a reply costs it little more than reading the request.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import dataclasses
import json
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from reverie.testing.serving import (
    ConnectionCutError,
    Endpoint,
    compact_json,
    in_pieces,
    listening_socket,
    serve,
    serve_in_thread,
)

if TYPE_CHECKING:
    import threading

    from starlette.types import ASGIApp

    from reverie.testing.serving import Exchange
    from reverie.types import JsonObject, ToolCall

__all__ = [
    "FakeUpstream",
    "Plan",
    "ReceivedRequest",
    "completion",
    "serve",
    "serve_in_thread",
    "stream_frames",
    "usage",
]

REQUESTS_KEPT_MAX = 1_000
HELD_LOOK_S = 0.01
"""How often a held answer looks whether it is let go."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a `FakeUpstream` answers.

    `text` is the reply, or the last user message with `echo`; a stream cuts it into `chunks` pieces. `delay_s` passes
    before anything is answered, `chunk_delay_s` before each chunk; as long as `held_by` is not set, no chat call is
    answered. The first `fail_first` chat calls get
    `fail_status` with `fail_message`, `fail_code` and `retry_after`. `die_after_chunks` breaks the connection after
    so many chunks, `end_after_chunks` ends the stream there without a finish and `[DONE]`; `malformed` answers
    something that is not JSON. `tool_calls` are asked for when the request offers tools and does not already bring
    results. With `refuse_cache_hints` a `prompt_cache_key` or a `cache_control` is refused. `efforts` are the levels of
    `reasoning_effort` it takes; any other is refused. A call for the vectors of more than `embedding_inputs_max` texts,
    or of a text that holds the words `embedding_refuses`, is refused with 400; one with the words
    `embedding_fails_over` ends in a 500.
    """

    text: str = "Hello from the fake upstream."
    echo: bool = False
    chunks: int = 4
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    held_by: threading.Event | None = None
    fail_first: int = 0
    fail_status: int = 503
    fail_message: str = "made to fail"
    fail_code: str | None = None
    retry_after: str | None = None
    die_after_chunks: int | None = None
    end_after_chunks: int | None = None
    malformed: bool = False
    refuse_tools: bool = False
    refuse_stream_options: bool = False
    refuse_stream: bool = False
    refuse_cache_hints: bool = False
    efforts: tuple[str, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    models: tuple[str, ...] = ("fake-model",)
    api_key: str | None = None
    embedding_dims: int = 64
    embedding_inputs_max: int | None = None
    embedding_refuses: str | None = None
    embedding_fails_over: str | None = None


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it arrived: header names are lower case, `body` is the parsed JSON."""

    path: str
    headers: dict[str, str]
    body: JsonObject


class FakeUpstream:
    """A server's behaviour and what it was asked. `plan` may be replaced between calls.

    `requests` keeps the last thousand; with `keep_requests=False` none, for benchmarks. `disconnects` counts the
    streams whose client left before the end. `app` is the ASGI application.
    """

    def __init__(self, plan: Plan | None = None, *, keep_requests: bool = True) -> None:
        self.requests: deque[ReceivedRequest] = deque(maxlen=REQUESTS_KEPT_MAX if keep_requests else 0)
        self.disconnects = 0
        self._failed = 0
        self._keep = keep_requests
        self.plan = plan or Plan()
        self.app: ASGIApp = Starlette(
            routes=[
                Route("/v1/chat/completions", Endpoint(self._chat), methods=["POST"]),
                Route("/v1/embeddings", Endpoint(self._embeddings), methods=["POST"]),
                Route("/v1/models", Endpoint(self._models), methods=["GET"]),
            ]
        )

    @property
    def plan(self) -> Plan:
        """How it answers now."""
        return self._plan

    @plan.setter
    def plan(self, plan: Plan) -> None:
        self._plan = plan
        self._failed = 0
        self._frames = stream_frames(plan.text, plan.chunks, with_usage=False)
        self._frames_with_usage = stream_frames(plan.text, plan.chunks, with_usage=True)
        self._whole = compact_json(completion(plan.text))

    # -- endpoints -----------------------------------------------------------------------------------------------

    async def _chat(self, exchange: Exchange) -> None:
        plan = self._plan
        body = await self._received(exchange)
        if plan.delay_s:
            await asyncio.sleep(plan.delay_s)
        while plan.held_by is not None and not plan.held_by.is_set():  # noqa: ASYNC110 (set from another thread)
            await asyncio.sleep(HELD_LOOK_S)
        refusal = self._refusal(exchange, body)
        if refusal is not None:
            await exchange.answer(*refusal)
            return
        calls = plan.tool_calls if body.get("tools") and not brings_results(body) else ()
        text = _last_user_text(body) if plan.echo else plan.text
        if body.get("stream") and not plan.refuse_stream:
            await self._stream(exchange, body, text, calls)
        elif plan.malformed:
            await exchange.answer(200, b'{"choices": [')
        else:
            varies = plan.echo or calls
            await exchange.answer(200, compact_json(completion(text, calls)) if varies else self._whole)

    async def _stream(self, exchange: Exchange, body: JsonObject, text: str, calls: tuple[ToolCall, ...]) -> None:
        plan = self._plan
        options: Any = body.get("stream_options") or {}
        with_usage = bool(options.get("include_usage"))
        frames = self._frames_with_usage if with_usage else self._frames
        if plan.echo or calls:
            frames = stream_frames(text, plan.chunks, with_usage=with_usage, calls=calls)
        if plan.malformed:
            frames = [*frames[:2], b"data: {not json}\n\n"]
        if plan.end_after_chunks is not None:
            frames = frames[: plan.end_after_chunks]
        await exchange.start(200, b"text/event-stream; charset=utf-8")
        for sent, frame in enumerate(frames):
            if sent == plan.die_after_chunks:
                raise ConnectionCutError
            if plan.chunk_delay_s and not await exchange.waited(plan.chunk_delay_s):
                self.disconnects += 1
                return
            await exchange.piece(frame)
        if plan.die_after_chunks is not None:
            raise ConnectionCutError
        await exchange.end()

    async def _models(self, exchange: Exchange) -> None:
        await self._received(exchange)
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "fake"} for name in self._plan.models]
        await exchange.answer(200, compact_json({"object": "list", "data": entries}))

    async def _embeddings(self, exchange: Exchange) -> None:
        body = await self._received(exchange)
        from reverie.testing.fake_embedder import FakeEmbedder

        if self._plan.delay_s:
            await asyncio.sleep(self._plan.delay_s)
        refusal = self._refusal(exchange, body) or self._refusal_of_texts(body["input"])
        if refusal is not None:
            await exchange.answer(*refusal)
            return
        embedder = FakeEmbedder(self._plan.embedding_dims)
        texts: list[str] = [body["input"]] if isinstance(body["input"], str) else body["input"]
        entries: list[JsonObject] = []
        for number, text in enumerate(texts):
            vector = embedder.vector(text) * 3  # not of length 1: whoever needs that must see to it
            as_base64 = body.get("encoding_format") == "base64"
            written = base64.b64encode(vector.tobytes()).decode() if as_base64 else [float(each) for each in vector]
            entries.append({"object": "embedding", "index": number, "embedding": written})
        await exchange.answer(200, compact_json({"object": "list", "data": entries, "model": body.get("model")}))

    # -- what is common ------------------------------------------------------------------------------------------

    async def _received(self, exchange: Exchange) -> JsonObject:
        raw = await exchange.body()
        body: JsonObject = json.loads(raw) if raw else {}
        if self._keep:
            self.requests.append(ReceivedRequest(exchange.path, exchange.headers(), body))
        return body

    def _refusal(self, exchange: Exchange, body: JsonObject) -> tuple[int, bytes, str | None] | None:
        """Status, body and Retry-After of a call that is not to be answered."""
        plan = self._plan
        if plan.api_key is not None and exchange.headers().get("authorization") != f"Bearer {plan.api_key}":
            return 401, _error("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"), None
        if self._failed < plan.fail_first:
            self._failed += 1
            return plan.fail_status, _error(plan.fail_message, "server_error", plan.fail_code), plan.retry_after
        if plan.refuse_tools and body.get("tools"):
            return 400, _error("fake-model does not support tools", "api_error", None), None
        effort = body.get("reasoning_effort")
        if plan.efforts is not None and effort is not None and effort not in plan.efforts:
            listed = ", ".join(f"'{level}'" for level in plan.efforts)
            message = f"Unsupported value: 'reasoning_effort' does not support '{effort}'. Supported values: {listed}."
            return 400, _error(message, "invalid_request_error", "unsupported_value"), None
        unknown = self._unknown_field(body)
        if unknown is not None:
            return 400, _error(f"{unknown}Extra inputs are not permitted", "invalid_request_error", None), None
        return None

    def _unknown_field(self, body: JsonObject) -> str | None:
        """What a request has that this server does not know, as its refusal begins; None when it has nothing such."""
        if self._plan.refuse_stream_options and "stream_options" in body:
            return "stream_options: "
        if not self._plan.refuse_cache_hints:
            return None
        return "" if "prompt_cache_key" in body or "cache_control" in json.dumps(body.get("messages")) else None

    def _refusal_of_texts(self, given: str | list[str]) -> tuple[int, bytes, str | None] | None:
        """As `_refusal`, for the texts to be embedded."""
        plan, texts = self._plan, [given] if isinstance(given, str) else given
        if plan.embedding_inputs_max is not None and len(texts) > plan.embedding_inputs_max:
            message = f"Too many inputs: at most {plan.embedding_inputs_max} are allowed."
            return 400, _error(message, "invalid_request_error", None), None
        if plan.embedding_refuses is not None and any(plan.embedding_refuses in text for text in texts):
            return 400, _error("This input cannot be embedded.", "invalid_request_error", None), None
        if plan.embedding_fails_over is not None and any(plan.embedding_fails_over in text for text in texts):
            return 500, _error("unsupported value: NaN", "api_error", None), None
        return None


# -- bytes ---------------------------------------------------------------------------------------------------------


def stream_frames(text: str, chunks: int, *, with_usage: bool, calls: tuple[ToolCall, ...] = ()) -> list[bytes]:
    """The events of a stream: role, the text in pieces, tool calls, finish, usage where asked, `[DONE]`."""
    frames = [_frame({"role": "assistant", "content": ""})]
    frames += [_frame({"content": piece}) for piece in in_pieces(text, chunks)]
    for index, call in enumerate(calls):
        head = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        frames.append(_frame({"tool_calls": [head]}))
        for piece in in_pieces(call.arguments, 2):
            frames.append(_frame({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    frames.append(_frame({}, "tool_calls" if calls else "stop"))
    if with_usage:
        frames.append(_event({"choices": [], "usage": usage(text)}))
    return [*frames, b"data: [DONE]\n\n"]


def completion(text: str, calls: tuple[ToolCall, ...] = ()) -> JsonObject:
    """An answer in one piece."""
    message: JsonObject = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": usage(text)}


def usage(text: str) -> JsonObject:
    """Token counts that depend on the reply alone: 100 for any prompt, one for each word."""
    words = len(text.split())
    return {"prompt_tokens": 100, "completion_tokens": words, "total_tokens": 100 + words}


_HEAD: JsonObject = {"id": "chatcmpl-fake", "created": 1_767_225_600, "model": "fake-model"}


def _frame(delta: JsonObject, finish: str | None = None) -> bytes:
    return _event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _event(fields: JsonObject) -> bytes:
    return b"data: " + compact_json({**_HEAD, "object": "chat.completion.chunk", **fields}) + b"\n\n"


def _error(message: str, kind: str, code: str | None) -> bytes:
    return compact_json({"error": {"message": message, "type": kind, "param": None, "code": code}})


def brings_results(body: JsonObject) -> bool:
    """Whether the results of tools came in since the model last spoke; the user may have said something since, too."""
    spoke = [message["role"] for message in body["messages"] if message["role"] != "user"]
    return bool(spoke) and spoke[-1] == "tool"


def _last_user_text(body: JsonObject) -> str:
    for message in reversed(body["messages"]):
        if message["role"] == "user":
            content = message["content"]
            return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    return ""


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m reverie.testing.fake_upstream", description="A fake model server.")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 picks a free one (default)")
    for field in dataclasses.fields(Plan):
        option = "--" + field.name.replace("_", "-")
        if field.type == "bool":
            parser.add_argument(option, action="store_true")
        elif field.type in {"str", "int", "float", "str | None", "int | None"}:
            kind = {"int": int, "float": float}.get(str(field.type).split(" ", maxsplit=1)[0], str)
            parser.add_argument(option, type=kind, default=field.default)
    options = vars(parser.parse_args(arguments))
    listening = listening_socket(options.pop("port"))
    upstream = FakeUpstream(Plan(**options), keep_requests=False)
    listening.listen()  # a client may connect from now on; its request waits for the loop
    sys.stdout.write(f"listening on http://127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(upstream.app, log_config=None, lifespan="off", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
