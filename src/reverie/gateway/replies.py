"""Answers in OpenAI's wire format: completions, chunks of a stream, lists of models, embeddings, errors.

Every function gives the bytes of a body; nothing here does I/O. JSON is compact and readable (no ASCII escapes); text
that cannot be encoded becomes `?` rather than a broken answer.

Errors have all four of OpenAI's fields. Three bodies are OpenClaw's to the byte instead, because its clients know
them: `UNAUTHORIZED`, `TOO_MANY_ATTEMPTS` and `INTERNAL_ERROR`.
"""

from __future__ import annotations

from dataclasses import dataclass
from json import JSONEncoder
from typing import TYPE_CHECKING, Any, Final

from reverie.errors import (
    EmbedderError,
    EngineError,
    HomeError,
    QueueFullError,
    RequestError,
    ReverieError,
    SessionBusyError,
    StorageClosedError,
    StorageError,
    StorageFullError,
    TurnEndedError,
    UpstreamError,
    UpstreamRefusedError,
)
from reverie.types import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reverie.gateway.routing import Dialect
    from reverie.sessions.events import TurnFinished
    from reverie.types import FinishReason, JsonObject, ToolCall

ARGUMENTS_SLICE = 256
DONE: Final = b"data: [DONE]\n\n"
PING: Final = b": ping\n\n"
UNAUTHORIZED: Final = b'{"error":{"message":"Unauthorized","type":"unauthorized"}}'
TOO_MANY_ATTEMPTS: Final = (
    b'{"error":{"message":"Too many failed authentication attempts. Please try again later.","type":"rate_limited"}}'
)
INTERNAL_ERROR: Final = b'{"error":{"message":"internal error","type":"api_error"}}'
QUEUED: Final = "[queued] Delivered to the agent's next-turn queue."
"""What a caller reads whose message will be answered later, in OpenClaw's words."""
NEXT_TURN: Final = "next-turn"
"""The value of `x-openclaw-queued`, and of its twin, that goes with it."""
QUEUED_COMMENT: Final = b": x-openclaw-queued: next-turn\n\n"
"""What stands in a stream whose headers were out before it was known."""

_EMPTY_REPLY: dict[Dialect, str] = {
    "reverie": "No response from Reverie.",
    "openclaw": "No response from OpenClaw.",
}
_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def render(value: Any) -> bytes:
    """A JSON value as compact UTF-8."""
    return _encode(value).encode("utf-8", "replace")


# -- completions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every answer and every chunk of one turn repeats. `model` is the client's word for it."""

    id: str
    created_s: int
    model: str
    dialect: Dialect

    def completion(self, finished: TurnFinished) -> bytes:
        """The whole answer of a turn."""
        return render(self.completion_object(finished))

    def completion_object(self, finished: TurnFinished) -> JsonObject:
        """The whole answer of a turn, before it is rendered."""
        message: JsonObject = {"role": "assistant", "content": self.text_of(finished)}
        if finished.tool_calls:
            message["tool_calls"] = [_tool_call(call) for call in finished.tool_calls]
        return self._completion(message, finished.finish_reason, finished.usage)

    def said(self, text: str) -> bytes:
        """An answer that no model gave: ours, at no cost."""
        return render(self._completion({"role": "assistant", "content": text}, "stop", Usage()))

    def _completion(self, message: JsonObject, reason: FinishReason, counted: Usage) -> JsonObject:
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created_s,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": usage(counted),
        }

    def text_of(self, finished: TurnFinished) -> str:
        """What the assistant says at the end; a sentence of ours when it says and asks nothing."""
        return finished.text or ("" if finished.tool_calls else _EMPTY_REPLY[self.dialect])


def usage(counted: Usage) -> JsonObject:
    """Token counts; the details only where the model's server gave them."""
    prompt, completion = max(0, counted.prompt_tokens), max(0, counted.completion_tokens)
    rendered: JsonObject = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": max(prompt + completion, counted.total_tokens),
    }
    if counted.cached_tokens > 0:
        rendered["prompt_tokens_details"] = {"cached_tokens": counted.cached_tokens}
    if counted.reasoning_tokens > 0:
        rendered["completion_tokens_details"] = {"reasoning_tokens": counted.reasoning_tokens}
    return rendered


def _tool_call(call: ToolCall) -> JsonObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


# -- chunks of a stream ----------------------------------------------------------------------------------------------


class Frames:
    """The server-sent events of one turn. What all chunks share is rendered once."""

    def __init__(self, envelope: Envelope) -> None:
        shared: JsonObject = {
            "id": envelope.id,
            "object": "chat.completion.chunk",
            "created": envelope.created_s,
            "model": envelope.model,
        }
        self._open = b"data: " + render(shared)[:-1]
        self._delta = self._open + b',"choices":[{"index":0,"delta":'
        self._content = self._delta + b'{"content":'
        self._reasoning = self._delta + b'{"reasoning_content":'

    def role(self) -> bytes:
        """The first chunk: who speaks."""
        return self._delta + b'{"role":"assistant"},"finish_reason":null}]}\n\n'

    def bare_role(self) -> bytes:
        """The first chunk of OpenClaw's next-turn answer, which has no `finish_reason` at all."""
        return self._delta + b'{"role":"assistant"}}]}\n\n'

    def last_content(self, text: str) -> bytes:
        """A reply's only chunk, which also ends it."""
        return self._content + render(text) + b'},"finish_reason":"stop"}]}\n\n'

    def content(self, text: str) -> bytes:
        """More of the reply."""
        return self._content + render(text) + b'},"finish_reason":null}]}\n\n'

    def reasoning(self, text: str) -> bytes:
        """More of the model's visible reasoning."""
        return self._reasoning + render(text) + b'},"finish_reason":null}]}\n\n'

    def tool_calls(self, calls: Sequence[ToolCall]) -> Iterator[bytes]:
        """For each call its name, then its arguments in slices; at least one slice, even when it is empty."""
        for index, call in enumerate(calls):
            yield self._tool_delta(
                {"index": index, **_tool_call(call), "function": {"name": call.name, "arguments": ""}}
            )
            for start in range(0, max(1, len(call.arguments)), ARGUMENTS_SLICE):
                part = call.arguments[start : start + ARGUMENTS_SLICE]
                yield self._tool_delta({"index": index, "function": {"arguments": part}})

    def _tool_delta(self, call: JsonObject) -> bytes:
        return self._delta + render({"tool_calls": [call]}) + b',"finish_reason":null}]}\n\n'

    def finish(self, reason: FinishReason) -> bytes:
        """The last chunk of the reply: why it ends."""
        return self._delta + b'{},"finish_reason":' + render(reason) + b"}]}\n\n"

    def usage(self, counted: Usage) -> bytes:
        """The chunk with token counts, for callers that asked."""
        return self._open + b',"choices":[],"usage":' + render(usage(counted)) + b"}\n\n"

    @staticmethod
    def error(body: bytes) -> bytes:
        """What takes the place of the rest when a turn fails after the stream began."""
        return b"data: " + body + b"\n\n"


# -- lists -----------------------------------------------------------------------------------------------------------


def model_object(model_id: str) -> JsonObject:
    """One entry of `/v1/models`."""
    owner = "openclaw" if model_id.startswith("openclaw") else "reverie"
    return {"id": model_id, "object": "model", "created": 0, "owned_by": owner, "permission": []}


def listing(entries: Sequence[JsonObject]) -> JsonObject:
    """A list object around its entries."""
    return {"object": "list", "data": list(entries)}


def embeddings(vectors: Sequence[Any], model: str) -> bytes:
    """The answer of `/v1/embeddings`; each vector is a list of floats or base64 text. Usage is not counted."""
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return render({**listing(data), "model": model, "usage": {"prompt_tokens": 0, "total_tokens": 0}})


# -- errors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as it goes out."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """An OpenAI error object."""
    return render({"error": {"message": message, "type": kind, "param": param, "code": code}})


_OPAQUE: tuple[tuple[type[ReverieError], int, str, str], ...] = (
    (EngineError, 502, "context_engine_failed", "The context engine failed; the server's log says how."),
    (EmbedderError, 502, "embedder_failed", "The texts could not be embedded."),
    (StorageFullError, 507, "storage_full", "The server's disk is full: the turn could not be recorded."),
    (StorageClosedError, 503, "stopping", "The server is stopping."),
    (StorageError, 500, "storage_failed", "The server's storage failed; its log says why."),
    (HomeError, 500, "storage_failed", "The server's storage failed; its log says why."),
)
"""Errors whose own words are for the server's owner. The first that fits is taken."""


def error_answer(error: ReverieError) -> ErrorAnswer:
    """How an error is told to the caller: in its own words where they are meant for it, else in ours."""
    match error:
        case RequestError():
            body = error_body(str(error), error.type, param=error.param, code=error.code)
            headers = (
                (("Retry-After", str(error.retry_after_s)),)
                if isinstance(error, QueueFullError | SessionBusyError)
                else ()
            )
            return ErrorAnswer(error.status, body, headers)
        case UpstreamError():
            body = error_body(str(error), error.type, code=error.code)
            retry_after = error.retry_after if isinstance(error, UpstreamRefusedError) else None
            return ErrorAnswer(error.status, body, (("Retry-After", retry_after),) if retry_after else ())
        case TurnEndedError():
            return ErrorAnswer(error.status, error_body(str(error), error.type, code=error.code))
        case _:
            return _opaque(error)


def _opaque(error: ReverieError) -> ErrorAnswer:
    for kind, status, code, message in _OPAQUE:
        if isinstance(error, kind):
            return ErrorAnswer(status, error_body(message, "api_error", code=code))
    return ErrorAnswer(500, INTERNAL_ERROR)
