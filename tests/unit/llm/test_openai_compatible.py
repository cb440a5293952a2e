"""The client of an OpenAI-compatible server: what it sends, what it makes of answers, when it tries again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
import stamina
import stamina.instrumentation

from reverie.config import UpstreamConfig
from reverie.errors import (
    ConfigError,
    UpstreamError,
    UpstreamMalformedError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from reverie.llm.client import Completed, ModelEvent, ModelRequest, TextDelta
from reverie.llm.openai_compatible import OpenAICompatibleModel
from reverie.testing import FakeClock
from reverie.testing.fake_upstream import FakeUpstream, Plan, completion, serve, stream_frames
from reverie.types import Message, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stamina.instrumentation import RetryDetails

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/v1"
KEY = "sk-very-secret"
QUESTION = (Message("user", "Hi"),)
TOOL = {"type": "function", "function": {"name": "f"}}
SSE = {"content-type": "text/event-stream"}
HELLO = b"".join(stream_frames("Hello", 1, with_usage=True))
HELLO_EVENTS: list[ModelEvent] = [TextDelta("Hello"), Completed("stop", (), Usage(100, 1, 101), "fake-model")]


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    """Tries follow one another at once."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


def model_at(
    transport: httpx2.AsyncBaseTransport | None, *, api_key: str | None = KEY, **settings: Any
) -> OpenAICompatibleModel:
    """A model with these settings, on this transport."""
    config = UpstreamConfig.model_validate({"base_url": URL, "model": "m", **settings})
    return OpenAICompatibleModel(config, api_key, transport, FakeClock())


def faked(upstream: FakeUpstream, **settings: Any) -> OpenAICompatibleModel:
    """A model on a fake upstream."""
    return model_at(httpx2.ASGITransport(upstream.app), **settings)


def answering(*answers: httpx2.Response | Exception) -> tuple[httpx2.MockTransport, list[httpx2.Request]]:
    """A transport that gives these answers in turn, the last one for ever, and the requests it received."""
    received: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        received.append(request)
        answer = answers[min(len(received), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx2.MockTransport(handle), received


def sse(body: bytes | AsyncIterator[bytes]) -> httpx2.Response:
    """An answer that is an event stream."""
    return httpx2.Response(200, headers=SSE, content=body)


async def collect(model: OpenAICompatibleModel, request: ModelRequest | None = None) -> list[ModelEvent]:
    """All events of a call."""
    return [event async for event in model.respond(request or ModelRequest(QUESTION))]


async def failing(model: OpenAICompatibleModel, request: ModelRequest | None = None) -> tuple[str, UpstreamError]:
    """The text given out before a call failed, and the error."""
    said: list[str] = []
    try:
        async for event in model.respond(request or ModelRequest(QUESTION)):
            assert isinstance(event, TextDelta)
            said.append(event.text)
    except UpstreamError as error:
        return "".join(said), error
    pytest.fail("the call succeeded")


class TestAnswers:
    async def test_a_streamed_answer(self) -> None:
        """Each chunk is an event at once; usage, finish and the served model come with the last."""
        upstream = FakeUpstream(Plan(text="Hello you", chunks=3))
        assert await collect(faked(upstream)) == [
            TextDelta("Hel"),
            TextDelta("lo "),
            TextDelta("you"),
            Completed("stop", (), Usage(100, 2, 102), "fake-model"),
        ]
        (request,) = upstream.requests
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.body == {
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def test_an_answer_in_one_piece(self) -> None:
        """A request that is not to be streamed gives the same events, its text as one."""
        upstream = FakeUpstream(Plan(text="Hello you"))
        events = await collect(faked(upstream), ModelRequest(QUESTION, stream=False))
        assert events == [TextDelta("Hello you"), Completed("stop", (), Usage(100, 2, 102), "fake-model")]
        assert upstream.requests[0].body["stream"] is False

    async def test_a_server_that_cannot_stream(self) -> None:
        """With `streaming = false` a stream is never asked for."""
        upstream = FakeUpstream(Plan(text="Hello"))
        assert await collect(faked(upstream, streaming=False)) == HELLO_EVENTS
        assert upstream.requests[0].body["stream"] is False

    async def test_json_where_a_stream_was_asked_for(self) -> None:
        """A server that ignores `stream` and answers in one piece is understood."""
        assert await collect(faked(FakeUpstream(Plan(text="Hello", refuse_stream=True)))) == HELLO_EVENTS

    async def test_a_stream_where_one_piece_was_asked_for(self) -> None:
        """A server that always streams is understood."""
        transport, _ = answering(sse(HELLO))
        assert await collect(model_at(transport), ModelRequest(QUESTION, stream=False)) == HELLO_EVENTS

    async def test_tool_calls(self) -> None:
        """Tool calls arrive whole, with the last event."""
        call = ToolCall("a", "f", '{"q": "tea"}')
        model = faked(FakeUpstream(Plan(tool_calls=(call,))))
        for stream in (True, False):
            events = await collect(model, ModelRequest(QUESTION, tools=(TOOL,), stream=stream))
            last = events[-1]
            assert isinstance(last, Completed)
            assert (last.finish_reason, last.tool_calls) == ("tool_calls", (call,))

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
    async def test_bytes_cut_anywhere(self, size: int) -> None:
        """Pieces that end within a character or a line change nothing."""
        body = b"".join(stream_frames("日本の 🍵 café", 5, with_usage=True))

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(body), size):
                yield body[at : at + size]

        transport, _ = answering(sse(pieces()))
        events = await collect(model_at(transport))
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "日本の 🍵 café"
        assert len(events) == 6

    @pytest.mark.parametrize(
        "body",
        [
            HELLO.removesuffix(b"data: [DONE]\n\n"),
            HELLO.removesuffix(b"\n\n"),
            HELLO.replace(b"\n", b"\r\n"),
            HELLO.replace(b"data: ", b"data:"),
            b": ping\n\n" + HELLO.replace(b"\n\n", b"\n\n: ping\n\n"),
            HELLO + b"data: {broken\n\n",
        ],
    )
    async def test_streams_of_careless_servers(self, body: bytes) -> None:
        """A missing [DONE], CRLF, missing spaces, comments, and anything after [DONE] are tolerated."""
        transport, _ = answering(sse(body))
        assert await collect(model_at(transport)) == HELLO_EVENTS

    async def test_done_without_a_finish_reason(self) -> None:
        """[DONE] alone also ends a reply."""
        transport, _ = answering(sse(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'))
        assert await collect(model_at(transport)) == [TextDelta("x"), Completed("stop", (), None, "m")]

    async def test_a_connection_that_breaks_after_the_finish(self) -> None:
        """Once the server has said why it stopped, a broken connection costs the usage only."""

        async def pieces() -> AsyncIterator[bytes]:
            yield b"".join(stream_frames("Hello", 1, with_usage=False)[:-1])
            raise httpx2.ReadError("reset")

        transport, _ = answering(sse(pieces()))
        assert await collect(model_at(transport)) == [TextDelta("Hello"), Completed("stop", (), None, "fake-model")]

    async def test_a_large_answer_and_a_large_request(self) -> None:
        """Megabytes of image and of reply go through whole; their JSON is handled off the event loop."""
        upstream = FakeUpstream(Plan(text="é" * 2_000_000, refuse_stream=True))
        events = await collect(faked(upstream), ModelRequest((Message("user", "x" * 2_000_000),)))
        assert events[0] == TextDelta("é" * 2_000_000)
        assert len(upstream.requests[0].body["messages"][0]["content"]) == 2_000_000


class TestModelName:
    async def test_the_first_listed_model_is_asked_for_once(self) -> None:
        """Without a configured model the first of the server's list is used, and remembered."""
        upstream = FakeUpstream(Plan(models=("first", "second")))
        model = faked(upstream, model=None)
        assert model.name == "upstream"
        async with anyio.create_task_group() as calls:
            for _ in range(3):
                calls.start_soon(collect, model)
        assert sorted(request.path for request in upstream.requests) == [*["/v1/chat/completions"] * 3, "/v1/models"]
        assert {request.body["model"] for request in upstream.requests if request.body} == {"first"}
        assert model.name == "first"

    async def test_an_override_wins(self) -> None:
        """The request's model is sent, and the list is not asked for."""
        upstream = FakeUpstream()
        await collect(faked(upstream, model=None), ModelRequest(QUESTION, model_override="other"))
        assert [request.body.get("model") for request in upstream.requests] == ["other"]

    async def test_a_model_that_was_unloaded_is_looked_up_again(self) -> None:
        """After a 404 the list is asked for again: the server may have loaded another model."""
        upstream = FakeUpstream(Plan(models=("old",)))
        model = faked(upstream, model=None)
        await collect(model)
        upstream.plan = Plan(models=("new",), fail_first=1, fail_status=404)
        await failing(model)
        await collect(model)
        assert model.name == "new"

    async def test_a_server_without_models(self) -> None:
        """An empty list says what to do."""
        _, error = await failing(faked(FakeUpstream(Plan(models=())), model=None))
        assert str(error) == f"{URL} lists no models: load one there, or set upstream.model"

    async def test_list_models(self) -> None:
        """The ids, in the server's order; entries that are no models are left out."""
        assert await faked(FakeUpstream(Plan(models=("b", "a")))).list_models() == ["b", "a"]
        odd, _ = answering(httpx2.Response(200, json={"data": [{"id": "x"}, {"id": 3}, {}, "y"]}))
        assert await model_at(odd).list_models() == ["x"]
        none, _ = answering(httpx2.Response(200, json={"models": []}))
        assert await model_at(none).list_models() == []


class TestStreamOptions:
    async def test_a_refusal_is_remembered(self) -> None:
        """A server that refuses `stream_options` is asked without, from then on at once."""
        upstream = FakeUpstream(Plan(text="Hello", chunks=2, refuse_stream_options=True))
        model = faked(upstream)
        expected = [TextDelta("Hel"), TextDelta("lo"), Completed("stop", (), None, "fake-model")]
        assert await collect(model) == expected
        assert await collect(model) == expected
        assert ["stream_options" in request.body for request in upstream.requests] == [True, False, False]

    async def test_a_bad_request_is_reported_in_its_own_words(self) -> None:
        """When the call fails without them too, the first refusal stands and nothing is remembered."""
        upstream = FakeUpstream(Plan(fail_first=2, fail_status=400, fail_message="no such role"))
        model = faked(upstream)
        _, error = await failing(model)
        assert str(error).endswith("answered HTTP 400: no such role")
        await collect(model)
        assert ["stream_options" in request.body for request in upstream.requests] == [True, False, True]

    async def test_a_server_that_took_them_is_not_doubted(self) -> None:
        """After one success a bad request is not sent twice."""
        upstream = FakeUpstream()
        model = faked(upstream)
        await collect(model)
        upstream.plan = Plan(fail_first=1, fail_status=400)
        await failing(model)
        assert len(upstream.requests) == 2


class TestTools:
    async def test_a_model_without_tools(self) -> None:
        """The refusal carries the code on which the turn goes on without tools, and is not tried again."""
        upstream = FakeUpstream(Plan(refuse_tools=True))
        _, error = await failing(faked(upstream), ModelRequest(QUESTION, tools=(TOOL,)))
        assert isinstance(error, UpstreamRefusedError)
        assert error.code == "tools_unsupported"
        assert len(upstream.requests) == 1


class TestTries:
    @pytest.mark.parametrize("stream", [True, False])
    async def test_passing_failures_are_tried_again(self, stream: bool) -> None:  # noqa: FBT001 (a parameter of the test)
        """A call succeeds on the last try that is allowed."""
        upstream = FakeUpstream(Plan(fail_first=3, fail_status=503))
        events = await collect(faked(upstream, retries_max=3), ModelRequest(QUESTION, stream=stream))
        assert isinstance(events[-1], Completed)
        assert len(upstream.requests) == 4

    async def test_tries_are_bounded(self) -> None:
        """After the last try its error is raised."""
        upstream = FakeUpstream(Plan(fail_first=9, fail_status=500))
        _, error = await failing(faked(upstream, retries_max=2))
        assert isinstance(error, UpstreamRefusedError)
        assert len(upstream.requests) == 3

    async def test_no_tries(self) -> None:
        """With `retries_max = 0` a failure is raised at once."""
        upstream = FakeUpstream(Plan(fail_first=1, fail_status=429))
        await failing(faked(upstream, retries_max=0))
        assert len(upstream.requests) == 1

    @pytest.mark.parametrize(
        "failure",
        [
            httpx2.ConnectError("refused"),
            httpx2.ConnectTimeout("slow"),
            httpx2.RemoteProtocolError("Server disconnected without sending a response."),
            httpx2.ReadError("reset"),
            httpx2.WriteError("broken pipe"),
        ],
    )
    async def test_connections_that_fail(self, failure: Exception) -> None:
        """A connection that fails before an answer is tried again, then reported as unreachable."""
        transport, received = answering(failure)
        _, error = await failing(model_at(transport, retries_max=2))
        assert isinstance(error, UpstreamUnreachableError)
        assert (error.status, len(received)) == (502, 3)
        assert URL in str(error)

    @pytest.mark.parametrize("failure", [httpx2.ReadTimeout("silent"), httpx2.WriteTimeout("silent")])
    async def test_silence_is_not_tried_again(self, failure: Exception) -> None:
        """A server that took the request and stays silent may still be working: no second call."""
        transport, received = answering(failure)
        _, error = await failing(model_at(transport))
        assert isinstance(error, UpstreamTimeoutError)
        assert (error.status, len(received)) == (504, 1)

    async def test_the_servers_wait_is_used(self) -> None:
        """The wait before the next try is the one in Retry-After."""
        waits: list[float] = []

        def note(details: RetryDetails) -> None:
            waits.append(details.wait_for)

        stamina.set_testing(False)
        stamina.instrumentation.set_on_retry_hooks([note])
        try:
            upstream = FakeUpstream(Plan(fail_first=1, fail_status=429, retry_after="0.01"))
            await collect(faked(upstream))
        finally:
            stamina.instrumentation.set_on_retry_hooks(None)
        assert waits == [0.01]

    @pytest.mark.parametrize("header", ["31", "Thu, 01 Jan 2026 00:01:00 GMT"])
    async def test_a_wait_beyond_the_bound_is_passed_on(self, header: str) -> None:
        """A longer wait is not waited for: the caller gets the header."""
        upstream = FakeUpstream(Plan(fail_first=1, fail_status=429, retry_after=header))
        _, error = await failing(faked(upstream, retry_wait_s_max=30))
        assert isinstance(error, UpstreamRefusedError)
        assert (error.status, error.type, error.retry_after) == (429, "rate_limit_error", header)
        assert len(upstream.requests) == 1

    async def test_no_quota_is_final(self) -> None:
        """429 without quota is not a rate limit."""
        upstream = FakeUpstream(Plan(fail_first=1, fail_status=429, fail_code="insufficient_quota", retry_after="0"))
        _, error = await failing(faked(upstream))
        assert isinstance(error, UpstreamRefusedError)
        assert error.code == "insufficient_quota"
        assert len(upstream.requests) == 1

    async def test_nothing_is_tried_again_after_an_answer_began(self) -> None:
        """A reply that breaks off is not started anew: what was said has been heard."""

        async def pieces() -> AsyncIterator[bytes]:
            yield stream_frames("Hello", 1, with_usage=False)[1]
            raise httpx2.ReadError("reset")

        transport, received = answering(sse(pieces()))
        said, error = await failing(model_at(transport))
        assert isinstance(error, UpstreamMalformedError)
        assert (said, len(received)) == ("Hello", 1)
        assert "ended early" in str(error)


class TestBrokenAnswers:
    async def test_a_stream_that_ends_early(self) -> None:
        """A stream without finish and [DONE] is an error, after the text it brought."""
        said, error = await failing(faked(FakeUpstream(Plan(text="Hello", chunks=1, end_after_chunks=2))))
        assert isinstance(error, UpstreamMalformedError)
        assert said == "Hello"
        assert str(error) == f"the reply of the model's server at {URL} ended early"

    async def test_a_server_that_dies_mid_stream(self) -> None:
        """A dropped connection on a real socket is an early end, too."""
        upstream = FakeUpstream(Plan(text="Hello", chunks=1, die_after_chunks=2))
        async with serve(upstream.app) as address:
            model = model_at(None, base_url=f"{address}/v1")
            said, error = await failing(model)
            await model.aclose()
        assert isinstance(error, UpstreamMalformedError)
        assert said == "Hello"
        assert "ended early" in str(error)

    async def test_silence_mid_stream(self) -> None:
        """A server that falls silent within its answer is a timeout."""

        async def pieces() -> AsyncIterator[bytes]:
            yield stream_frames("Hello", 1, with_usage=False)[1]
            raise httpx2.ReadTimeout("silent")

        transport, _ = answering(sse(pieces()))
        said, error = await failing(model_at(transport))
        assert isinstance(error, UpstreamTimeoutError)
        assert said == "Hello"

    @pytest.mark.parametrize("stream", [True, False])
    async def test_answers_that_are_no_json(self, stream: bool) -> None:  # noqa: FBT001 (a parameter of the test)
        """Garbage instead of JSON is malformed, in both ways of answering."""
        _, error = await failing(faked(FakeUpstream(Plan(malformed=True))), ModelRequest(QUESTION, stream=stream))
        assert isinstance(error, UpstreamMalformedError)

    async def test_an_empty_answer(self) -> None:
        """Status 200 and nothing else is an early end."""
        transport, _ = answering(httpx2.Response(200))
        _, error = await failing(model_at(transport))
        assert "ended early" in str(error)

    async def test_an_error_inside_the_stream(self) -> None:
        """An error object after some text is raised as what it says."""
        body = (
            stream_frames("Hello", 1, with_usage=False)[1] + b'data: {"error":{"message":"overloaded","code":503}}\n\n'
        )
        transport, received = answering(sse(body))
        said, error = await failing(model_at(transport))
        assert isinstance(error, UpstreamRefusedError)
        assert (said, error.upstream_status, error.status, len(received)) == ("Hello", 503, 502, 1)
        assert "overloaded" in str(error)

    @pytest.mark.parametrize(
        "body", [{"error": {"message": "no", "code": 400}}, {"object": "error", "message": "no", "code": 400}]
    )
    async def test_an_error_in_a_good_answer(self, body: dict[str, Any]) -> None:
        """Status 200 with an error object is an error."""
        transport, _ = answering(httpx2.Response(200, json=body))
        _, error = await failing(model_at(transport))
        assert (error.status, error.type) == (400, "invalid_request_error")

    async def test_a_null_error_is_none(self) -> None:
        """`"error": null` beside an answer means nothing."""
        transport, _ = answering(httpx2.Response(200, json={**completion("Hello"), "error": None}))
        assert await collect(model_at(transport)) == HELLO_EVENTS

    async def test_a_line_without_an_end(self) -> None:
        """A line is given up at its bound."""

        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1_000_000

        transport, _ = answering(sse(pieces()))
        _, error = await failing(model_at(transport))
        assert isinstance(error, UpstreamMalformedError)
        assert "a line of the model's reply is longer than" in str(error)

    @pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
    async def test_a_reply_without_an_end(self, kind: str) -> None:
        """A reply is given up at its bound, streamed or not."""

        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b": " + b"x" * 1_000_000 + b"\n"

        transport, _ = answering(httpx2.Response(200, headers={"content-type": kind}, content=pieces()))
        _, error = await failing(model_at(transport))
        assert isinstance(error, UpstreamMalformedError)
        assert str(error) == f"the reply of the model's server at {URL} is longer than 16777216 bytes"


class TestSecrets:
    async def test_errors_never_hold_the_key(self) -> None:
        """A server that echoes the key back does not bring it into a message."""
        upstream = FakeUpstream(Plan(fail_first=1, fail_status=401, fail_message=f"bad key {KEY}"))
        _, error = await failing(faked(upstream))
        assert KEY not in str(error)
        assert "check the API key in the environment variable REVERIE_UPSTREAM_API_KEY" in str(error)

    async def test_a_password_in_the_url_is_not_shown(self) -> None:
        """User, password and query of the URL stay out of messages."""
        transport, _ = answering(httpx2.ConnectError("refused"))
        _, error = await failing(model_at(transport, base_url="https://me:pw@host:81/v1", retries_max=0))
        assert "https://host:81/v1" in str(error)
        assert "pw" not in str(error)

    async def test_no_key_sends_no_header(self) -> None:
        """Without a key there is no authorization header."""
        upstream = FakeUpstream()
        await collect(faked(upstream, api_key=None))
        assert "authorization" not in upstream.requests[0].headers

    def test_a_key_that_cannot_be_sent(self) -> None:
        """A key with characters that no header takes is refused at once, without showing it."""
        with pytest.raises(ConfigError) as caught:
            model_at(None, api_key="sk-\n€")
        assert "sk-" not in str(caught.value)

    @pytest.mark.parametrize("url", ["http://[::1/v1", "http://me:pw@host:abc/v1", "http://ho st/v1", "http:///v1"])
    def test_a_url_that_is_none(self, url: str) -> None:
        """A URL that cannot be called is refused at once, without showing it."""
        with pytest.raises(ConfigError, match="URL") as caught:
            model_at(None, base_url=url)
        assert url not in str(caught.value)

    def test_no_url(self) -> None:
        """Without a URL there is no such model."""
        with pytest.raises(ConfigError, match=r"upstream\.base_url"):
            model_at(None, base_url=None)


class EndlessBody(httpx2.AsyncByteStream):
    """A body whose first piece is followed by silence; tells when it is closed."""

    def __init__(self) -> None:
        self.silent = anyio.Event()
        self.closed = anyio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield stream_frames("Hello", 1, with_usage=False)[1]
        self.silent.set()
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        self.closed.set()


class TestLeaving:
    async def test_leaving_the_iterator_closes_the_connection(self) -> None:
        """Whoever stops reading closes the response, and its place is free again."""
        body = EndlessBody()
        transport, _ = answering(httpx2.Response(200, headers=SSE, stream=body), sse(HELLO))
        model = model_at(transport, calls_max=1)
        events = model.respond(ModelRequest(QUESTION))
        assert await anext(events) == TextDelta("Hello")
        await events.aclose()
        assert body.closed.is_set()
        assert await collect(model) == HELLO_EVENTS

    async def test_cancellation_closes_the_connection(self) -> None:
        """A call that is cancelled while the server is silent closes the response, and its place is free again."""
        body = EndlessBody()
        transport, _ = answering(httpx2.Response(200, headers=SSE, stream=body), sse(HELLO))
        model = model_at(transport, calls_max=1)
        async with anyio.create_task_group() as calls:
            calls.start_soon(collect, model)
            await body.silent.wait()
            calls.cancel_scope.cancel()
        assert body.closed.is_set()
        assert await collect(model) == HELLO_EVENTS

    async def test_the_server_sees_the_client_leave(self) -> None:
        """On a real socket the server notices at once that nobody listens any more."""
        upstream = FakeUpstream(Plan(chunks=2, chunk_delay_s=0.02))
        async with serve(upstream.app) as address:
            model = model_at(None, base_url=f"{address}/v1")
            events = model.respond(ModelRequest(QUESTION))
            await anext(events)
            upstream.plan = Plan(chunk_delay_s=30)
            with anyio.fail_after(10):
                await events.aclose()
                while not upstream.disconnects:
                    await anyio.sleep(0.005)
            await model.aclose()

    async def test_a_connection_is_used_again(self) -> None:
        """Replies read to their end leave their connection for the next call."""
        accepted: list[Any] = []
        upstream = FakeUpstream()

        async def counting(scope: Any, receive: Any, send: Any) -> None:
            accepted.append(scope["client"])
            await upstream.app(scope, receive, send)

        async with serve(counting) as address:
            model = model_at(None, base_url=f"{address}/v1")
            for stream in (True, False, True):
                await collect(model, ModelRequest(QUESTION, stream=stream))
            await model.aclose()
        assert len(accepted) == 3
        assert len(set(accepted)) == 1


class TestConcurrency:
    async def test_calls_at_the_same_time_are_bounded(self) -> None:
        """No more than `calls_max` calls are under way; the others wait for a place."""
        running = 0
        most = 0
        free = anyio.Event()

        async def handle(request: httpx2.Request) -> httpx2.Response:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await free.wait()
            running -= 1
            return sse(HELLO)

        model = model_at(httpx2.MockTransport(handle), calls_max=2)
        done: list[list[ModelEvent]] = []

        async def call() -> None:
            done.append(await collect(model))

        async with anyio.create_task_group() as calls:
            for _ in range(6):
                calls.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            assert running == 2
            free.set()
        assert (most, done) == (2, [HELLO_EVENTS] * 6)

    async def test_two_replies_side_by_side_in_one_task(self) -> None:
        """One task may read two replies at once."""
        transport, _ = answering(sse(HELLO), sse(HELLO))
        model = model_at(transport)
        first, second = model.respond(ModelRequest(QUESTION)), model.respond(ModelRequest(QUESTION))
        assert await anext(first) == await anext(second) == TextDelta("Hello")
        assert [event async for event in first] == [event async for event in second] == HELLO_EVENTS[1:]
