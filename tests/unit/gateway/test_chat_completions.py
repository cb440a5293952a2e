"""`POST /v1/chat/completions`, to the byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.errors import (
    ContextTooLongError,
    QueueFullError,
    ReverieError,
    StorageError,
    StorageFullError,
    TurnCancelledError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from reverie.sessions.events import ReasoningDelta, ReplyDelta, ToolFinished, ToolStarted
from reverie.types import Arrival, ImagePart, Message, SessionKey, ToolCall, TurnRequest, Usage
from tests.unit.gateway.scripted_app import STARTED, ScriptedApp, client_of, config, failed, finished, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import httpx2

pytestmark = pytest.mark.anyio

HI: dict[str, Any] = {"model": "reverie", "messages": [{"role": "user", "content": "hi"}]}
URL = "/v1/chat/completions"


async def ask(app: ScriptedApp, body: object, headers: dict[str, str] | None = None) -> httpx2.Response:
    """Send one request; bytes and text go as they are."""
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    async with client_of(app) as client:
        return await client.post(URL, content=content, headers=headers)


def chunk(delta: str, finish: str = "null", model: str = "reverie") -> str:
    """One frame of a stream."""
    return (
        'data: {"id":"chatcmpl_1","object":"chat.completion.chunk","created":1767225600,"model":"' + model + '",'
        '"choices":[{"index":0,"delta":' + delta + ',"finish_reason":' + finish + "}]}\n\n"
    )


ROLE = chunk('{"role":"assistant"}')
STOP = chunk("{}", '"stop"')
DONE = "data: [DONE]\n\n"


def completion(message: str, finish: str = "stop", usage: str = "", model: str = "reverie") -> bytes:
    """A whole answer."""
    counted = usage or '{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}'
    return (
        '{"id":"chatcmpl_1","object":"chat.completion","created":1767225600,"model":"' + model + '",'
        '"choices":[{"index":0,"message":' + message + ',"finish_reason":"' + finish + '"}],'
        '"usage":' + counted + "}"
    ).encode()


# -- whole answers ---------------------------------------------------------------------------------------------------


async def test_an_answer() -> None:
    """One JSON object, with headers that name session and turn."""
    response = await ask(ScriptedApp(), HI, {"x-openclaw-dm-scope": "main"})
    assert response.content == completion('{"role":"assistant","content":"Hello there"}')
    assert (response.status_code, dict(response.headers)) == (
        200,
        {
            "content-length": str(len(response.content)),
            "content-type": "application/json",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "permissions-policy": "camera=(), microphone=(self), geolocation=()",
            "x-reverie-session-key": "agent:main:main",
            "x-reverie-session-id": "session-1",
            "x-reverie-turn-id": "chatcmpl_1",
            "x-reverie-queue-id": "chatcmpl_1",
            "x-reverie-queue-position": "0",
            "x-reverie-queue-depth": "0",
        },
    )


async def test_the_model_is_echoed_and_text_stays_readable() -> None:
    """`model` comes back as it was sent, and no character is escaped that need not be."""
    app = ScriptedApp(steps=says('"日本語" \n\u2028 é 🙂'))
    response = await ask(app, {**HI, "model": "OpenClaw/Default"})
    assert response.content == completion(
        '{"role":"assistant","content":"\\"日本語\\" \\n\u2028 é 🙂"}', model="OpenClaw/Default"
    )


async def test_half_a_character_does_not_break_an_answer() -> None:
    """A lone surrogate of the model becomes a question mark."""
    response = await ask(ScriptedApp(steps=says("a\ud83d")), HI)
    assert response.content == completion('{"role":"assistant","content":"a?"}')


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("reverie", "No response from Reverie."), ("openclaw", "No response from OpenClaw.")],
)
async def test_an_empty_reply_is_said(model: str, sentence: str) -> None:
    """A reply without words is told in the words of the name the caller used."""
    response = await ask(ScriptedApp(steps=[finished("")]), {**HI, "model": model})
    assert response.content == completion('{"role":"assistant","content":"' + sentence + '"}', model=model)


async def test_tool_calls() -> None:
    """Calls for the client come beside the commentary, which may be empty."""
    call = ToolCall("call_1", "weather", '{"city":"Köln"}')
    app = ScriptedApp(steps=[finished("", call, reason="tool_calls")])
    response = await ask(app, HI)
    assert response.content == completion(
        (
            '{"role":"assistant","content":"","tool_calls":[{"id":"call_1","type":"function","function":'
            '{"name":"weather","arguments":"{\\"city\\":\\"Köln\\"}"}}]}'
        ),
        "tool_calls",
    )


@pytest.mark.parametrize(
    ("usage", "rendered"),
    [
        (Usage(), '{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'),
        (Usage(7, 3, 99), '{"prompt_tokens":7,"completion_tokens":3,"total_tokens":99}'),
        (
            Usage(7, 3, 10, cached_tokens=5, reasoning_tokens=2),
            (
                '{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,'
                '"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":2}}'
            ),
        ),
    ],
)
async def test_usage(usage: Usage, rendered: str) -> None:
    """Totals are never below their parts, details only where they are known."""
    response = await ask(ScriptedApp(steps=[finished("x", usage=usage)]), HI)
    assert response.content == completion('{"role":"assistant","content":"x"}', usage=rendered)


# -- streams ---------------------------------------------------------------------------------------------------------


async def test_a_stream() -> None:
    """Role, deltas as they came (repeated ones too), the end, the mark."""
    response = await ask(ScriptedApp(steps=says("ha", "ha", "", "!")), {**HI, "stream": True})
    assert response.text == (
        ROLE + chunk('{"content":"ha"}') + chunk('{"content":"ha"}') + chunk('{"content":"!"}') + STOP + DONE
    )
    assert (response.status_code, dict(response.headers)) == (
        200,
        {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "connection": "keep-alive",
            "x-accel-buffering": "no",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "permissions-policy": "camera=(), microphone=(self), geolocation=()",
            "x-reverie-session-key": response.headers["x-reverie-session-key"],
            "x-reverie-session-id": "session-1",
            "x-reverie-turn-id": "chatcmpl_1",
            "x-reverie-queue-id": "chatcmpl_1",
            "x-reverie-queue-position": "0",
            "x-reverie-queue-depth": "0",
        },
    )


@pytest.mark.parametrize(
    ("options", "usage"),
    [
        ({"include_usage": True}, True),
        ({"include_usage": 1}, False),
        ({}, False),
        (None, False),
    ],
)
async def test_usage_in_a_stream_only_when_asked(options: object, usage: bool) -> None:  # noqa: FBT001 (a test case)
    """Only the literal `true` asks for the usage chunk."""
    response = await ask(ScriptedApp(steps=says("x")), {**HI, "stream": True, "stream_options": options})
    counted = (
        'data: {"id":"chatcmpl_1","object":"chat.completion.chunk","created":1767225600,"model":"reverie",'
        '"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
    )
    assert response.text == ROLE + chunk('{"content":"x"}') + STOP + (counted if usage else "") + DONE


async def test_a_stream_without_deltas_says_the_final_text() -> None:
    """What only the end knows is sent as one chunk."""
    response = await ask(ScriptedApp(steps=[STARTED, finished("all at once")]), {**HI, "stream": True})
    assert response.text == ROLE + chunk('{"content":"all at once"}') + STOP + DONE


async def test_a_stream_without_words() -> None:
    """An empty reply is said in a stream as well."""
    response = await ask(ScriptedApp(steps=[finished("")]), {**HI, "stream": True})
    assert response.text == ROLE + chunk('{"content":"No response from Reverie."}') + STOP + DONE


async def test_reasoning_in_a_stream() -> None:
    """Visible reasoning goes out beside the content, and what our own tools do does not go out."""
    call = ToolCall("call_1", "memory_search", "{}")
    steps = [
        STARTED,
        ReasoningDelta("hm"),
        ToolStarted(call),
        ToolFinished(call, "[]"),
        ReplyDelta("ok"),
        finished("ok"),
    ]
    response = await ask(ScriptedApp(steps=steps), {**HI, "stream": True})
    assert response.text == ROLE + chunk('{"reasoning_content":"hm"}') + chunk('{"content":"ok"}') + STOP + DONE


async def test_tool_calls_in_a_stream() -> None:
    """Each call: its name, then its arguments in slices of 256 characters; no arguments are one empty slice."""
    calls = (ToolCall("call_1", "write", "é" * 300), ToolCall("call_2", "stop", ""))
    app = ScriptedApp(steps=[finished("", *calls, reason="tool_calls")])
    response = await ask(app, {**HI, "stream": True})
    assert response.text == "".join(
        [
            ROLE,
            chunk(
                '{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"write","arguments":""}}]}'
            ),
            chunk('{"tool_calls":[{"index":0,"function":{"arguments":"' + "é" * 256 + '"}}]}'),
            chunk('{"tool_calls":[{"index":0,"function":{"arguments":"' + "é" * 44 + '"}}]}'),
            chunk(
                '{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"stop","arguments":""}}]}'
            ),
            chunk('{"tool_calls":[{"index":1,"function":{"arguments":""}}]}'),
            chunk("{}", '"tool_calls"'),
            DONE,
        ]
    )


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (
            failed(UpstreamTimeoutError("The model did not answer within 120 s.")),
            (
                '{"message":"The model did not answer within 120 s.","type":"api_error","param":null,'
                '"code":"upstream_timeout"}'
            ),
        ),
        (RuntimeError("secret"), '{"message":"internal error","type":"api_error"}'),
        (None, '{"message":"internal error","type":"api_error"}'),
    ],
    ids=["failed turn", "defect", "no terminal event"],
)
async def test_a_stream_that_breaks(last: Any, error: str) -> None:
    """What was said stays, then comes an error object and the mark; nothing is made up."""
    steps: Sequence[Any] = [STARTED, ReplyDelta("Hel"), *([last] if last is not None else [])]
    response = await ask(ScriptedApp(steps=steps), {**HI, "stream": True})
    assert (response.status_code, response.text) == (
        200,
        ROLE + chunk('{"content":"Hel"}') + 'data: {"error":' + error + "}\n\n" + DONE,
    )


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            ContextTooLongError("The message is too long.", param="messages", code="context_length_exceeded"),
            400,
            (
                b'{"error":{"message":"The message is too long.","type":"invalid_request_error","param":"messages",'
                b'"code":"context_length_exceeded"}}'
            ),
        ),
        (
            UpstreamUnreachableError("No connection."),
            502,
            b'{"error":{"message":"No connection.","type":"api_error","param":null,"code":"upstream_unreachable"}}',
        ),
        (
            UpstreamRefusedError(
                "Slow down.",
                upstream_status=429,
                status=429,
                kind="rate_limit_error",
                code="rate_limited",
                retry_after="7",
            ),
            429,
            b'{"error":{"message":"Slow down.","type":"rate_limit_error","param":null,"code":"rate_limited"}}',
        ),
        (
            TurnCancelledError("Reverie is stopping."),
            503,
            b'{"error":{"message":"Reverie is stopping.","type":"api_error","param":null,"code":"turn_cancelled"}}',
        ),
        (
            StorageFullError("/secret/state.db"),
            507,
            (
                b'{"error":{"message":"The server\'s disk is full: the turn could not be recorded.","type":"api_error",'
                b'"param":null,"code":"storage_full"}}'
            ),
        ),
        (
            StorageError("/secret/state.db"),
            500,
            (
                b'{"error":{"message":"The server\'s storage failed; its log says why.","type":"api_error",'
                b'"param":null,"code":"storage_failed"}}'
            ),
        ),
        (ReverieError("a defect"), 500, b'{"error":{"message":"internal error","type":"api_error"}}'),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_a_turn_that_fails(error: ReverieError, status: int, body: bytes) -> None:
    """The error names session and turn, and tells client libraries not to send the message again by themselves."""
    response = await ask(ScriptedApp(steps=[STARTED, failed(error)]), HI, {"x-reverie-session-key": "k"})
    assert (response.status_code, response.content) == (status, body)
    names = ("x-reverie-session-key", "x-reverie-session-id", "x-reverie-turn-id", "x-should-retry", "retry-after")
    assert [response.headers.get(name) for name in names] == [
        "k",
        "session-1",
        "chatcmpl_1",
        "false",
        "7" if isinstance(error, UpstreamRefusedError) else None,
    ]


async def test_a_full_queue() -> None:
    """A turn that was not accepted is told when to come back, and for which session."""
    app = ScriptedApp(refusal=QueueFullError("20 turns wait.", retry_after_s=5))
    response = await ask(app, HI, {"x-reverie-session-key": "k"})
    assert (response.status_code, response.content) == (
        429,
        b'{"error":{"message":"20 turns wait.","type":"rate_limit_error","param":null,"code":"queue_full"}}',
    )
    names = ("retry-after", "x-reverie-session-key", "x-reverie-turn-id", "x-should-retry")
    assert [response.headers.get(name) for name in names] == ["5", "k", None, None]


async def test_a_defect_is_an_internal_error() -> None:
    """What nobody expected is told without its cause; where it happened is known to the session headers."""
    response = await ask(ScriptedApp(refusal=RuntimeError("secret")), HI, {"x-reverie-session-key": "k"})
    assert (response.status_code, response.content, response.headers["x-reverie-session-key"]) == (
        500,
        b'{"error":{"message":"internal error","type":"api_error"}}',
        "k",
    )


def error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error of the caller."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ("", error("The request body is empty; send a JSON object.")),
        ('{\n "model": }', error("The request body is not valid JSON: expected value at line 2 column 11.")),
        ("[]", error("The request body must be a JSON object, not an array.")),
        ("null", error("The request body must be a JSON object, not null.")),
        (b'{"a":"\xff"}', error("The request body is not valid UTF-8: invalid unicode code point at line 1 column 7.")),
        ("{}", error("Missing user message in `messages`.", "messages")),
        ({**HI, "response_format": 1, "temperature": 9, "model": 1}, error("`model` must be a string.", "model")),
        (
            {**HI, "response_format": {"type": "xml"}, "temperature": 9, "model": "no"},
            error("Invalid response_format: `type` must be one of text, json_object, json_schema.", "response_format"),
        ),
        (
            {**HI, "temperature": 9, "model": "openai/", "tools": 1},
            error("`temperature` must be between 0 and 2.", "temperature"),
        ),
        (
            {**HI, "model": "openai/", "tools": 1},
            error("Invalid `model`. Use `reverie`, `reverie/<agentId>`, `openclaw` or `openclaw/<agentId>`.", "model"),
        ),
        ({"tools": 1, "messages": 1}, error("Invalid tools/tool_choice: tools must be an array.", "tools")),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}
                ]
            },
            error("Invalid image_url content in `messages`.", "messages"),
        ),
        ({"messages": []}, error("Missing user message in `messages`.", "messages")),
    ],
)
async def test_a_bad_request_is_refused_before_it_reaches_an_agent(body: object, refusal: dict[str, Any]) -> None:
    """The checks run in a fixed order, the first that fails is told, and no turn is made."""
    app = ScriptedApp()
    response = await ask(app, body)
    assert (response.status_code, response.json(), app.requests) == (400, refusal, [])


async def test_an_unknown_agent() -> None:
    """It is a 404 in OpenAI's words for a missing model."""
    response = await ask(ScriptedApp(config=config(agents={"beta": {}})), {**HI, "model": "reverie/gamma"})
    assert (response.status_code, response.json()) == (
        404,
        error("The agent 'gamma' does not exist. Agents: main, beta.", "model", "model_not_found"),
    )


# -- what reaches the application ------------------------------------------------------------------------------------


async def test_everything_a_request_says_reaches_the_turn() -> None:
    """Instructions, messages, image, tools, sampling, override: nothing is lost on the way."""
    app = ScriptedApp(config=config(agents={"beta": {}}))
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    picture = "data:image/png;base64,iVBORw0KGgo="
    body = {
        "model": "openclaw:beta",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Speak German."}]},
            {"role": "user", "content": "hi", "name": "Ann"},
            {"role": "assistant", "content": "Hallo"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": picture, "detail": "low"}},
                ],
            },
        ],
        "stream": False,
        "user": "Alice",
        "temperature": 0.5,
        "max_tokens": 10,
        "max_completion_tokens": 20,
        "stop": ["\n"],
        "metadata": {"a": 1},
        "store": True,
        "logit_bias": None,
        "response_format": {"type": "json_object"},
        "tools": [tool],
        "tool_choice": "required",
    }
    response = await ask(app, body, {"x-openclaw-model": "qwen3"})
    assert response.status_code == 200
    turn_id = app.requests[0].turn_id
    assert app.requests == [
        TurnRequest(
            turn_id=turn_id,
            session=SessionKey("beta", "agent:beta:openai-user:alice"),
            messages=(
                Message("user", "hi", name="Ann"),
                Message("assistant", "Hallo"),
                Message("user", "What is this?", images=(ImagePart(picture, "low"),)),
            ),
            instructions="Be brief.\n\nSpeak German.",
            stream=False,
            model_override="qwen3",
            client_tools=(tool,),
            tool_choice="required",
            sampling={
                "temperature": 0.5,
                "max_completion_tokens": 20,
                "stop": ["\n"],
                "response_format": {"type": "json_object"},
            },
            arrival=Arrival(source="webchat:Alice", client_model="openclaw:beta"),
        )
    ]


@pytest.mark.parametrize(
    ("user_field", "key", "sampling"),
    [
        ("session", "agent:main:openai-user:alice", {}),
        ("metadata", None, {"user": "Alice"}),
        ("off", None, {}),
    ],
)
async def test_what_user_is_for(user_field: str, key: str | None, sampling: dict[str, Any]) -> None:
    """It names a session, or goes to the model as it is, or is not used at all."""
    app = ScriptedApp(config=config(sessions={"user_field": user_field}))
    response = await ask(app, {**HI, "user": "Alice"})
    fresh = "agent:main:openai:" + app.requests[0].turn_id.removeprefix("chatcmpl_")
    assert (response.headers["x-reverie-session-key"], app.requests[0].sampling) == (key or fresh, sampling)


async def test_each_request_without_a_name_has_a_session_of_its_own() -> None:
    """Two anonymous requests do not meet."""
    app = ScriptedApp()
    first, second = await ask(app, HI), await ask(app, HI)
    assert first.headers["x-reverie-session-key"] != second.headers["x-reverie-session-key"]
    assert app.requests[0].turn_id != app.requests[1].turn_id


async def test_a_key_in_another_script_is_echoed_percent_encoded() -> None:
    """Headers are ASCII: the key of the session is not changed, its echo is encoded."""
    app = ScriptedApp()
    response = await ask(app, {**HI, "user": "アリス"})
    assert app.requests[0].session.value == "agent:main:openai-user:アリス"
    assert response.headers["x-reverie-session-key"] == "agent:main:openai-user:%E3%82%A2%E3%83%AA%E3%82%B9"


async def test_a_large_request() -> None:
    """1.2 MB of text is an ordinary message; it is taken apart on a thread."""
    app = ScriptedApp()
    text = "wörter, " * 150_000
    response = await ask(app, {"messages": [{"role": "user", "content": text}]})
    assert (response.status_code, app.requests[0].messages) == (200, (Message("user", text),))


async def test_bodies_are_bounded() -> None:
    """More than the configured size is refused, whether it is declared or not, and the connection ends."""
    app = ScriptedApp(config=config(gateway={"body_bytes_max": 2048}))

    async def undeclared() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 1024

    async with client_of(app) as client:
        declared = await client.post(URL, content=b" " * 2049)
        found_out = await client.post(URL, content=undeclared())
        allowed = await client.post(URL, content=json.dumps(HI).ljust(2048))
    assert [(r.status_code, r.json(), r.headers["connection"]) for r in (declared, found_out)] == [
        (413, error("Payload too large"), "close"),
        (413, error("Payload too large"), "close"),
    ]
    assert allowed.status_code == 200


async def test_a_slow_body_is_not_waited_for() -> None:
    """After the configured time the request is refused."""
    never = anyio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with client_of(ScriptedApp(config=config(gateway={"body_read_s": 0.01}))) as client:
        response = await client.post(URL, content=slow())
    assert (response.status_code, response.json()) == (408, error("Request body timeout"))


async def test_a_compressed_body_is_refused() -> None:
    """Nothing is unpacked."""
    response = await ask(ScriptedApp(), HI, {"content-encoding": "gzip"})
    assert (response.status_code, response.json()) == (
        415,
        error("Compressed request bodies are not supported; send the JSON as it is."),
    )


async def test_other_methods() -> None:
    """They are told which one there is."""
    async with client_of(ScriptedApp()) as client:
        response = await client.get(URL)
    assert (response.status_code, response.text, response.headers["content-type"], response.headers["allow"]) == (
        405,
        "Method Not Allowed",
        "text/plain; charset=utf-8",
        "POST",
    )
