"""A model behind any server that speaks OpenAI's chat completions.

One call is one `POST {base_url}/chat/completions`. A streamed answer is parsed as it comes, one event a delta; an
answer in one piece gives the same events. The last event comes after the connection was given back, so whoever stops
reading at `Completed` holds nothing.

What is learned about a server is remembered for the life of the object: its first model, when none is configured,
whether it refuses `stream_options` or hints for its cache, and which level of reasoning stands for one that a model
refuses.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import structlog

from reverie.clock import SystemClock
from reverie.errors import ConfigError, UpstreamMalformedError, UpstreamRefusedError, UpstreamTimeoutError
from reverie.llm.cache_hints import hints_for, names_a_hint
from reverie.llm.chat_request import body_size_estimate, request_body
from reverie.llm.circuit import UpstreamCircuit
from reverie.llm.event_stream import EventStreamParser
from reverie.llm.lanes import ModelLanes
from reverie.llm.overflow import overflow
from reverie.llm.reasoning_effort import effort_of, nearest_effort, with_effort
from reverie.llm.reply import ReplyAssembler
from reverie.llm.upstream_failures import may_be_about_request_form, reported
from reverie.llm.upstream_server import (
    REPLY_BYTES_MAX,
    Purpose,
    ServerSettings,
    UpstreamServer,
    failures_translated,
    read_body,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx2

    from reverie.clock import Clock
    from reverie.config import UpstreamConfig
    from reverie.llm.cache_hints import CacheHints
    from reverie.llm.client import ModelEvent, ModelRequest, ReasoningText, TextDelta
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

LARGE_JSON_BYTES = 256 * 1024
"""From this size on, JSON is rendered and parsed in a thread: it would hold the event loop for milliseconds."""

EFFORTS_MAX = 256
"""Pairs of a model and a refused level that are remembered; the oldest give way."""
MODELS_BYTES_MAX = 4 * 1024 * 1024
LINGER_S_MAX = 0.05
"""How long a stream may stay open after `[DONE]`. Read to its end, the connection can be used again."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a call is put: streamed or not, with which of the extras that not every server takes."""

    stream: bool
    with_usage: bool
    hints: CacheHints


class OpenAICompatibleModel:
    """Calls a chat-completions server. Safe for any number of concurrent calls; `lanes` bound those that run at a time.

    `transport` replaces the network, for tests. Without `lanes` the model has those of its configuration to itself.
    `circuit` is told how each call ended.

    Raises:
        ConfigError: `base_url` is not set, or the key holds characters that cannot be sent.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        api_key: str | None,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        lanes: ModelLanes | None = None,
        circuit: UpstreamCircuit | None = None,
    ) -> None:
        if config.base_url is None:
            raise ConfigError("upstream.base_url", None, "the URL of an OpenAI-compatible API")
        self._config = config
        lanes = lanes or ModelLanes(config.calls_max, config.background_calls_max, clock=clock)
        self._server = UpstreamServer(_server_settings(config, config.base_url, api_key), transport, clock, lanes)
        self._circuit = circuit or UpstreamCircuit(clock or SystemClock())
        self._first_listed: str | None = None
        self._listing = anyio.Lock()
        self._takes_stream_options: bool | None = None
        self._hints: CacheHints = hints_for(config.cache_hints, config.base_url)
        self._takes_hints: bool | None = None
        self._efforts: OrderedDict[tuple[str, str], str] = OrderedDict()

    @property
    def name(self) -> str:
        """The configured model, else the first one the server listed, else `upstream` until it was asked."""
        return self._config.model or self._first_listed or "upstream"

    @property
    def cache_hints(self) -> CacheHints:
        """What is said to the server for its cache of prompts; `off` once it has refused it."""
        return "off" if self._takes_hints is False else self._hints

    async def respond(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Call the model. The last event is `Completed`; leaving the iterator early closes the connection.

        Raises:
            UpstreamUnreachableError: no connection, after `retries_max` further tries.
            UpstreamTimeoutError: the server was silent for `read_s`.
            UpstreamRefusedError: it refused; `code` is `tools_unsupported` when it cannot be offered tools.
            ModelBusyError: too many calls wait for a place already.
            UpstreamMalformedError: its answer is not a chat completion, too long, or ended early. What had arrived
                was already given out as events.
        """
        with self._circuit.judging():
            model = request.model_override or self._config.model or self._first_listed or await self._listed_model()
            purpose = Purpose(model, with_tools=bool(request.tools), lane=request.lane)
            reply = ReplyAssembler(model)
            async with AsyncExitStack() as held:
                response = await self._open(held, request, purpose)
                if _is_event_stream(response):
                    async with aclosing(self._streamed(response, purpose, reply)) as events:
                        async for event in events:
                            yield event
                else:
                    for event in await self._at_once(response, purpose, reply):
                        yield event
            completed = reply.completed()
        self._circuit.worked()
        yield completed

    async def list_models(self) -> list[str]:
        """The ids of the models that the server offers, in its order.

        Raises:
            UpstreamError: as `respond`.
        """
        async with self._server.call("GET", "/models") as response:
            body = await read_body(response, self._server.called, MODELS_BYTES_MAX)
        return model_ids(await _parsed(body))

    async def aclose(self) -> None:
        """Close connections."""
        await self._server.aclose()

    async def _listed_model(self) -> str:
        async with self._listing:
            if self._first_listed is None:
                models = await self.list_models()
                if not models:
                    message = f"{self._server.called.url} lists no models: load one there, or set upstream.model"
                    raise UpstreamMalformedError(message)
                self._first_listed = models[0]
            return self._first_listed

    # -- one call ------------------------------------------------------------------------------------------------

    async def _open(self, held: AsyncExitStack, request: ModelRequest, purpose: Purpose) -> httpx2.Response:
        """The server's answer. A level of reasoning that it refuses becomes the nearest one it takes.

        That is learned once for a model and a level.
        """
        asked = effort_of(request)
        if asked is None:
            return await self._open_as_asked(held, request, purpose)
        known = self._efforts.get((purpose.model, asked))
        if known is not None:
            return await self._open_as_asked(held, with_effort(request, known), purpose)
        try:
            return await self._open_as_asked(held, request, purpose)
        except UpstreamRefusedError as refusal:
            nearest = nearest_effort(asked, refusal)
            if nearest is None:
                raise
            try:
                response = await self._open_as_asked(held, with_effort(request, nearest), purpose)
            except UpstreamRefusedError:
                raise refusal from None
        self._efforts[purpose.model, asked] = nearest
        while len(self._efforts) > EFFORTS_MAX:
            self._efforts.popitem(last=False)
        return response

    async def _open_as_asked(self, held: AsyncExitStack, request: ModelRequest, purpose: Purpose) -> httpx2.Response:
        """The server's answer, status 2xx, held open by `held`.

        A server that may refuse an extra of ours is asked again without it, and not offered it any more.
        """
        stream = request.stream and self._config.streaming
        hints = self.cache_hints if request.cache_key or request.cache_breakpoints else "off"
        forms = [_Form(stream, stream and self._takes_stream_options is not False, hints)]
        refused: UpstreamRefusedError | None = None
        while forms:
            form = forms.pop(0)
            try:
                response = await self._post(held, request, purpose, form)
            except UpstreamRefusedError as refusal:
                if refusal.upstream_status == 404:  # noqa: PLR2004 (an HTTP status)
                    self._first_listed = None  # the server may have changed its model: ask again next time
                if refused is None:
                    refused, forms = refusal, self._other_forms(form, refusal)
                if not forms:
                    raise refused from None
            else:
                self._learn(form, hints)
                return response
        raise AssertionError("the last form returns or raises")

    def _other_forms(self, form: _Form, refusal: UpstreamRefusedError) -> list[_Form]:
        """What to ask for instead of a form that was refused: without what this server has never taken."""
        if not may_be_about_request_form(refusal):
            return []
        # Only an untried server: one that has taken an extra means something else by its refusal, unless it names it.
        bare_usage = replace(form, with_usage=False)
        usage = [bare_usage] if form.with_usage and self._takes_stream_options is None else []
        if form.hints == "off":
            return usage
        plain = [replace(each, hints="off") for each in (form, *usage)]
        if names_a_hint(refusal):
            return plain
        untried = self._takes_hints is None and overflow(refusal) is None
        return [*usage, *plain] if untried else usage

    def _learn(self, form: _Form, hints: CacheHints) -> None:
        """What an answer says about the extras that stood in its request."""
        if form.with_usage:
            self._takes_stream_options = True
        elif form.stream and self._takes_stream_options is None:
            self._takes_stream_options = False
        if form.hints != "off":
            self._takes_hints = True
        elif hints != "off":
            log.info("the model's server takes no hints for its cache", action="cache_hints_refused", hints=hints)
            self._takes_hints = False

    async def _post(
        self, held: AsyncExitStack, request: ModelRequest, purpose: Purpose, form: _Form
    ) -> httpx2.Response:
        def render() -> bytes:
            return request_body(
                request, model=purpose.model, stream=form.stream, usage_in_stream=form.with_usage, hints=form.hints
            )

        large = body_size_estimate(request) > LARGE_JSON_BYTES
        body = await anyio.to_thread.run_sync(render) if large else render()
        return await held.enter_async_context(self._server.call("POST", "/chat/completions", body, purpose))

    async def _at_once(
        self, response: httpx2.Response, purpose: Purpose, reply: ReplyAssembler
    ) -> list[TextDelta | ReasoningText]:
        completion = await _parsed(await read_body(response, self._server.called))
        self._raise_reported(completion, purpose)
        return reply.whole(completion)

    async def _streamed(
        self, response: httpx2.Response, purpose: Purpose, reply: ReplyAssembler
    ) -> AsyncGenerator[TextDelta | ReasoningText]:
        parser = EventStreamParser()
        try:
            async with aclosing(self._pieces(response)) as pieces:
                async for piece in pieces:
                    for chunk in parser.feed(piece):
                        self._raise_reported(chunk, purpose)
                        for event in reply.chunk(chunk):
                            yield event
                    if parser.done:
                        with anyio.move_on_after(LINGER_S_MAX):
                            await anext(pieces, None)
                        return
        except (UpstreamMalformedError, UpstreamTimeoutError):
            if not reply.finished:  # broken off after the server had said why it stopped: nothing is missing
                raise
        for chunk in parser.end():
            self._raise_reported(chunk, purpose)
            for event in reply.chunk(chunk):
                yield event
        if not (reply.finished or parser.done):
            called = self._server.called
            raise UpstreamMalformedError(f"the reply of {called.what} at {called.url} ended early")

    async def _pieces(self, response: httpx2.Response) -> AsyncGenerator[bytes]:
        received = 0
        with failures_translated(self._server.called, answered=True):
            async for piece in response.aiter_bytes():
                received += len(piece)
                if received > REPLY_BYTES_MAX:
                    raise UpstreamMalformedError(too_long(self._server.called, REPLY_BYTES_MAX))
                yield piece

    def _raise_reported(self, chunk: JsonObject, purpose: Purpose) -> None:
        """Raise if the server reports an error inside an answer that began well."""
        report: Any = chunk.get("error")
        if not report and chunk.get("object") == "error":
            report = chunk
        if report:
            raise reported(self._server.called, report, model=purpose.model, with_tools=purpose.with_tools)


def _is_event_stream(response: httpx2.Response) -> bool:
    """Judged by what came, not by what was asked: a server may answer in one piece all the same."""
    kind = response.headers.get("content-type", "")
    return "event-stream" in kind or "json" not in kind


def model_ids(listing: JsonObject) -> list[str]:
    """The ids in the answer of `GET /models`; entries without one are left out."""
    entries = listing.get("data")
    if not isinstance(entries, list):
        return []
    found = [cast("JsonObject", entry).get("id") for entry in cast("list[Any]", entries) if isinstance(entry, dict)]
    return [model for model in found if isinstance(model, str) and model]


async def _parsed(body: bytes) -> JsonObject:
    """The JSON object of a body, parsed in a thread if it is large.

    Raises:
        UpstreamMalformedError: it is something else.
    """
    return await anyio.to_thread.run_sync(_parse, body) if len(body) > LARGE_JSON_BYTES else _parse(body)


def _parse(body: bytes) -> JsonObject:
    try:
        parsed: Any = json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        shown = body[:120].decode("utf-8", "replace")
        raise UpstreamMalformedError(f"the model's server answered something that is not a JSON object: {shown!r}")
    return cast("JsonObject", parsed)


def _server_settings(config: UpstreamConfig, base_url: str, api_key: str | None) -> ServerSettings:
    file = config.api_key_file
    return ServerSettings(
        what="the model's server",
        base_url=base_url,
        api_key=api_key,
        key_source=f"the file {file}" if file else f"the environment variable {config.api_key_env}",
        connect_s=config.connect_s,
        read_s=config.read_s,
        retries_max=config.retries_max,
        retry_wait_s_max=config.retry_wait_s_max,
        calls_max=config.calls_max,
    )
