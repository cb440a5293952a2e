"""A model's server that speaks OpenAI's Responses API as scripted, and knows how much of each prompt is a repetition.

    server = FakeResponses(Answer("Hello"), Refusal(429, retry_after="0"), Answer(calls=(FunctionCall("f", "{}"),)))
    async with serve(server.app) as address:
        ...                                              # the API is at f"{address}/v1"
    server.requests[0].input                             # what was really sent
    server.requests[1].repeated.identical_bytes            # how much of it a provider's cache would hold

Requests are answered from the script, one by one; `otherwise` answers those that come after its end. What runs real
clients of that API against it (the official SDK, the Codex app-server) is told the truth about tokens: a prompt has one
for four bytes, and those of its beginning that the thread's prompt before it had, too, are told as cached.

It also runs as a process:

    python -m reverie.testing.fake_responses --port 0    # prints: listening on http://127.0.0.1:PORT
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from reverie.testing.prefixes import Repetition, as_tokens, repetition
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
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from reverie.testing.serving import Exchange
    from reverie.types import JsonObject

__all__ = [
    "Answer",
    "Failure",
    "FakeResponses",
    "FunctionCall",
    "Refusal",
    "Scripted",
    "SentRequest",
    "context_too_long",
    "invalid_image",
    "overloaded",
    "serve",
    "serve_in_thread",
]

REQUESTS_KEPT_MAX = 1_000
THREADS_KEPT_MAX = 256
HELD_LOOK_S = 0.01
CREATED_AT = 1_767_225_600


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of a tool that the model asks for. `call_id` empty: a number. `namespace` is the tool's, if it has one."""

    name: str
    arguments: str = "{}"
    call_id: str = ""
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that works. It says `text`, cut into `chunks` pieces, and then asks for `calls`.

    `reasoning` is a summary of the model's thoughts that comes first. `delay_s` passes before the first byte,
    `chunk_delay_s` before each piece of text. As long as `held_by` is not set, neither the last piece of text comes nor
    what follows it. `cut_after` breaks the connection after so many events. `output_tokens` None: as the text is long.
    """

    text: str = "Hello from the fake model."
    calls: tuple[FunctionCall, ...] = ()
    reasoning: str = ""
    chunks: int = 4
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    held_by: threading.Event | None = None
    cut_after: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with an error status, before any stream begins."""

    status: int = 503
    message: str = "made to fail"
    code: str | None = None
    retry_after: str | None = None
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A stream that begins and ends in `response.failed` with this code."""

    code: str = "server_error"
    message: str = "made to fail"
    delay_s: float = 0.0


def context_too_long() -> Failure:
    """The prompt does not fit the model's window."""
    message = "Your input exceeds the context window of this model. Please adjust your input and try again."
    return Failure("context_length_exceeded", message)


def overloaded() -> Failure:
    """The model has no capacity left."""
    return Failure("server_is_overloaded", "Our servers are currently overloaded. Please try again later.")


def invalid_image() -> Refusal:
    """An image in the prompt cannot be read."""
    message = "The image data you provided does not represent a valid image. Please check your input and try again."
    return Refusal(400, message, "invalid_image")


Scripted = Answer | Refusal | Failure
"""How one request is answered."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it arrived, beside the one before it of the same thread.

    `number` counts from 1. `raw` is the body as sent, `body` what it says; header names are lower case. `thread` is its
    `prompt_cache_key`, else its `thread-id` header. `parts` are what the model reads: instructions, tools, and each
    input item, as JSON. `repeated` says how much of them its thread had sent before.
    """

    number: int
    at_s: float
    path: str
    headers: dict[str, str]
    raw: bytes
    body: JsonObject
    parts: tuple[bytes, ...]
    repeated: Repetition

    @property
    def thread(self) -> str:
        """What its cache is kept under."""
        return self.body.get("prompt_cache_key") or self.headers.get("thread-id", "")

    @property
    def input(self) -> list[JsonObject]:
        """The input items; a text alone is one user message."""
        return input_items(self.body)

    @property
    def tools(self) -> list[JsonObject]:
        """The tools that are offered."""
        return self.body.get("tools") or []

    @property
    def prompt_tokens(self) -> int:
        """What the prompt takes."""
        return as_tokens(self.repeated.prompt_bytes)

    @property
    def cached_tokens(self) -> int:
        """What of it is a cached beginning."""
        return min(self.prompt_tokens, self.repeated.identical_bytes // 4)

    def texts(self, role: str = "user") -> list[str]:
        """What the input's messages of a role say, each as one text."""
        return [message_text(item) for item in self.input if item.get("role") == role]


class FakeResponses:
    """The server's behaviour and what it was asked.

    `requests` keeps the last thousand; `disconnects` counts the streams whose client left before their end. A prompt of
    more than `context_tokens` is answered as too long and takes nothing from the script. With `prefill_tokens_s` an
    answer begins once the prompt is read, so many tokens a second; its cached beginning takes no time. `app` is the
    ASGI application. It may be used from other threads than the one that it is served in.
    """

    def __init__(
        self,
        *script: Scripted,
        otherwise: Scripted | Callable[[SentRequest], Scripted] | None = None,
        context_tokens: int | None = None,
        prefill_tokens_s: float = 0.0,
        models: tuple[str, ...] = ("fake-model",),
    ) -> None:
        self.requests: deque[SentRequest] = deque(maxlen=REQUESTS_KEPT_MAX)
        self.disconnects = 0
        self.context_tokens = context_tokens
        self.otherwise = otherwise or Answer()
        self._prefill_tokens_s = prefill_tokens_s
        self._script = deque(script)
        self._models = models
        self._count = 0
        self._last: OrderedDict[str, tuple[bytes, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self.app: ASGIApp = Starlette(
            routes=[
                Route("/v1/responses", Endpoint(self._responses), methods=["POST"]),
                Route("/v1/models", Endpoint(self._list_models), methods=["GET"]),
            ]
        )

    def then(self, *script: Scripted) -> None:
        """Answer the next requests so, behind what is scripted already."""
        with self._lock:
            self._script.extend(script)

    @property
    def unused(self) -> tuple[Scripted, ...]:
        """What of the script no request has asked for yet."""
        with self._lock:
            return tuple(self._script)

    def of_thread(self, thread: str) -> list[SentRequest]:
        """The requests of one thread, in order."""
        return [request for request in tuple(self.requests) if request.thread == thread]

    # -- endpoints -----------------------------------------------------------------------------------------------

    async def _responses(self, exchange: Exchange) -> None:
        raw = await exchange.body()
        request, scripted = self._received(exchange, raw)
        delay_s = scripted.delay_s + self._reading_s(request)
        if delay_s and not await exchange.waited(delay_s):
            self.disconnects += 1
            return
        if isinstance(scripted, Refusal):
            error = {"message": scripted.message, "type": _kind(scripted.status), "param": None, "code": scripted.code}
            await exchange.answer(scripted.status, compact_json({"error": error}), scripted.retry_after)
        elif request.body.get("stream"):
            await self._stream(exchange, request, scripted)
        else:
            await exchange.answer(200, compact_json(whole_response(request, scripted)))

    async def _stream(self, exchange: Exchange, request: SentRequest, scripted: Answer | Failure) -> None:
        await exchange.start(200, b"text/event-stream; charset=utf-8")
        answer = scripted if isinstance(scripted, Answer) else Answer()
        last_text = answer.chunks if answer.text else 0
        pieces = 0
        for sent, (event, fields) in enumerate(response_events(request, scripted)):
            if sent == answer.cut_after:
                raise ConnectionCutError
            if event == "response.output_text.delta":
                pieces += 1
                stays = answer.chunk_delay_s == 0 or await exchange.waited(answer.chunk_delay_s)
                if stays and answer.held_by is not None and pieces >= min(last_text, len(answer.text)):
                    stays = await _released(exchange, answer.held_by)
                if not stays:
                    self.disconnects += 1
                    return
            await exchange.piece(sse_frame(event, {**fields, "sequence_number": sent}))
        await exchange.end()

    def _reading_s(self, request: SentRequest) -> float:
        """How long the model takes to read what it has not cached."""
        unread = request.prompt_tokens - request.cached_tokens
        return unread / self._prefill_tokens_s if self._prefill_tokens_s else 0.0

    async def _list_models(self, exchange: Exchange) -> None:
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "fake"} for name in self._models]
        await exchange.answer(200, compact_json({"object": "list", "data": entries}))

    def _received(self, exchange: Exchange, raw: bytes) -> tuple[SentRequest, Scripted]:
        """Put a request into the log, and find out how it is answered."""
        body: JsonObject = json.loads(raw)
        headers = exchange.headers()
        parts = prompt_parts(body)
        thread = body.get("prompt_cache_key") or headers.get("thread-id", "")
        with self._lock:
            self._count += 1
            repeated = repetition(self._last.get(thread, ()), parts)
            self._last[thread] = parts
            self._last.move_to_end(thread)
            if len(self._last) > THREADS_KEPT_MAX:
                self._last.popitem(last=False)
            request = SentRequest(self._count, time.monotonic(), exchange.path, headers, raw, body, parts, repeated)
            self.requests.append(request)
            if self.context_tokens is not None and request.prompt_tokens > self.context_tokens:
                return request, context_too_long()
            if self._script:
                return request, self._script.popleft()
        return request, self.otherwise(request) if callable(self.otherwise) else self.otherwise


async def _released(exchange: Exchange, held_by: threading.Event) -> bool:
    """Wait until an answer may go on; False if the client left meanwhile."""
    while not held_by.is_set():
        if not await exchange.waited(HELD_LOOK_S):
            return False
    return True


# -- what is sent in -----------------------------------------------------------------------------------------------


def input_items(body: JsonObject) -> list[JsonObject]:
    """The input items of a request."""
    given: str | list[JsonObject] = body.get("input") or []
    return [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given


def message_text(item: JsonObject) -> str:
    """What a message says; its parts in one text."""
    content = item.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def prompt_parts(body: JsonObject) -> tuple[bytes, ...]:
    """What the model reads of a request, in the order in which a provider renders it: its cache is of beginnings."""
    tools: list[JsonObject] = body.get("tools") or []
    instructions = body.get("instructions")
    first = (compact_json(instructions),) if instructions else ()
    return (*first, *(compact_json(tool) for tool in tools), *(compact_json(item) for item in input_items(body)))


# -- what is answered ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Output:
    """The items of a response as they come into being, and the events that tell of them."""

    request: SentRequest
    items: list[JsonObject] = field(default_factory=list[Any])

    def reasoning(self, text: str) -> Iterator[tuple[str, JsonObject]]:
        """A summary of the model's thoughts."""
        item: JsonObject = {
            "type": "reasoning",
            "id": f"rs_{self.request.number}",
            "summary": [],
            "status": "completed",
        }
        place = {"item_id": item["id"], "output_index": len(self.items), "summary_index": 0}
        part: JsonObject = {"type": "summary_text", "text": text}
        yield "response.output_item.added", self._at({**item, "status": "in_progress"})
        yield "response.reasoning_summary_part.added", {**place, "part": {**part, "text": ""}}
        yield "response.reasoning_summary_text.delta", {**place, "delta": text}
        yield "response.reasoning_summary_text.done", {**place, "text": text}
        yield "response.reasoning_summary_part.done", {**place, "part": part}
        yield self._done(
            {**item, "status": "completed", "summary": [part], "encrypted_content": f"sealed-{self.request.number}"}
        )

    def message(self, text: str, chunks: int) -> Iterator[tuple[str, JsonObject]]:
        """What the model says."""
        item: JsonObject = {"type": "message", "id": f"msg_{self.request.number}", "role": "assistant", "content": []}
        place = {"item_id": item["id"], "output_index": len(self.items), "content_index": 0}
        part: JsonObject = {"type": "output_text", "text": text, "annotations": []}
        yield "response.output_item.added", self._at({**item, "status": "in_progress"})
        yield "response.content_part.added", {**place, "part": {**part, "text": ""}}
        for piece in in_pieces(text, chunks):
            yield "response.output_text.delta", {**place, "delta": piece, "logprobs": []}
        yield "response.output_text.done", {**place, "text": text, "logprobs": []}
        yield "response.content_part.done", {**place, "part": part}
        yield self._done({**item, "status": "completed", "content": [part]})

    def call(self, call: FunctionCall) -> Iterator[tuple[str, JsonObject]]:
        """A tool that the model asks for."""
        name = f"{self.request.number}_{len(self.items)}"
        item: JsonObject = {"type": "function_call", "id": f"fc_{name}", "call_id": call.call_id or f"call_{name}"}
        item |= {"name": call.name, "arguments": call.arguments, "status": "completed"}
        if call.namespace is not None:
            item["namespace"] = call.namespace
        place = {"item_id": item["id"], "output_index": len(self.items)}
        yield "response.output_item.added", self._at({**item, "arguments": "", "status": "in_progress"})
        yield "response.function_call_arguments.delta", {**place, "delta": call.arguments}
        yield "response.function_call_arguments.done", {**place, "name": call.name, "arguments": call.arguments}
        yield self._done(item)

    def _at(self, item: JsonObject) -> JsonObject:
        return {"output_index": len(self.items), "item": item}

    def _done(self, item: JsonObject) -> tuple[str, JsonObject]:
        event = "response.output_item.done", self._at(item)
        self.items.append(item)
        return event


def response_events(request: SentRequest, scripted: Answer | Failure) -> Iterator[tuple[str, JsonObject]]:
    """The events of a stream, each with its fields."""
    yield "response.created", {"response": _response(request, "in_progress")}
    if isinstance(scripted, Failure):
        error = {"code": scripted.code, "message": scripted.message}
        yield "response.failed", {"response": {**_response(request, "failed"), "error": error}}
        return
    output = _Output(request)
    if scripted.reasoning:
        yield from output.reasoning(scripted.reasoning)
    if scripted.text:
        yield from output.message(scripted.text, scripted.chunks)
    for call in scripted.calls:
        yield from output.call(call)
    done = {**_response(request, "completed"), "output": output.items, "usage": usage_of(request, scripted)}
    yield "response.completed", {"response": done}


def whole_response(request: SentRequest, scripted: Answer | Failure) -> JsonObject:
    """An answer in one piece: what its stream ends with."""
    *_, (_, last) = response_events(request, scripted)
    return last["response"]


def usage_of(request: SentRequest, answer: Answer) -> JsonObject:
    """The tokens of a response: of the prompt, of its cached beginning, of the answer."""
    said = len(f"{answer.reasoning}{answer.text}{''.join(call.arguments for call in answer.calls)}".encode())
    output = as_tokens(said) if answer.output_tokens is None else answer.output_tokens
    return {
        "input_tokens": request.prompt_tokens,
        "input_tokens_details": {"cached_tokens": request.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": as_tokens(len(answer.reasoning.encode()))},
        "total_tokens": request.prompt_tokens + output,
    }


def sse_frame(event: str, fields: JsonObject) -> bytes:
    """An event as it stands in the stream."""
    return b"event: " + event.encode() + b"\ndata: " + compact_json({"type": event, **fields}) + b"\n\n"


def _response(request: SentRequest, status: str) -> JsonObject:
    return {
        "id": f"resp_{request.number}",
        "object": "response",
        "created_at": CREATED_AT,
        "status": status,
        "model": request.body.get("model") or "fake-model",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": request.body.get("tool_choice") or "auto",
        "tools": [],
        "error": None,
        "usage": None,
    }


def _kind(status: int) -> str:
    return "invalid_request_error" if status < 500 and status != 429 else "server_error"  # noqa: PLR2004 (HTTP's own)


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    what = "A fake server of the Responses API."
    parser = argparse.ArgumentParser(prog="python -m reverie.testing.fake_responses", description=what)
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 picks a free one (default)")
    parser.add_argument("--text", default=Answer().text, help="what every response says")
    parser.add_argument("--delay-s", type=float, default=0.0, help="time before the first byte")
    parser.add_argument("--context-tokens", type=int, default=None, help="the window; larger prompts are refused")
    options = parser.parse_args(arguments)
    listening = listening_socket(options.port)
    server = FakeResponses(
        otherwise=Answer(options.text, delay_s=options.delay_s), context_tokens=options.context_tokens
    )
    listening.listen()  # a client may connect from now on; its request waits for the loop
    sys.stdout.write(f"listening on http://127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(server.app, log_config=None, lifespan="off", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
