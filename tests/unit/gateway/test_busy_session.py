"""`POST /v1/chat/completions` while the session is busy, to the byte."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.gateway.chat_completions import HUNG_UP, ChatCompletions
from reverie.gateway.endpoint import Endpoint
from reverie.gateway.metrics import Metrics
from reverie.gateway.sse import StreamTimes
from reverie.sessions.events import ReplyDelta
from reverie.sessions.inbox import InboxEntry, Place, QueueSettings
from reverie.types import Message
from tests.unit.gateway.scripted_app import STARTED, TURN_ID, ScriptedApp, client_of, config, finished, says

if TYPE_CHECKING:
    import httpx2
    from starlette.types import Message as AsgiMessage
    from starlette.types import Scope

pytestmark = pytest.mark.anyio

URL = "/v1/chat/completions"
HI: dict[str, Any] = {"model": "reverie", "user": "main", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**HI, "stream": True, "stream_options": {"include_usage": True}}
STEER = QueueSettings(mode="steer")
HEAD = '"id":"chatcmpl_1","object":"chat.completion.chunk","created":1767225600,"model":"reverie"'
TEXT = "[queued] Delivered to the agent's next-turn queue."
QUEUED = (
    '{"id":"chatcmpl_1","object":"chat.completion","created":1767225600,"model":"reverie",'
    '"choices":[{"index":0,"message":{"role":"assistant",'
    '"content":"' + TEXT + '"},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}'
)
ROLE = "data: {" + HEAD + ',"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n'
BARE_ROLE = "data: {" + HEAD + ',"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
MARKER = "data: {" + HEAD + ',"choices":[{"index":0,"delta":{"content":"' + TEXT + '"},"finish_reason":"stop"}]}\n\n'
DONE = "data: [DONE]\n\n"
REPLY = "Hello there"
NAMES = (
    "x-openclaw-queued",
    "x-reverie-queued",
    "x-reverie-queue-id",
    "x-reverie-queue-position",
    "x-reverie-queue-depth",
    "x-reverie-attached",
)


async def ask(app: ScriptedApp, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx2.Response:
    """Send one request."""
    async with client_of(app) as client:
        return await client.post(URL, content=json.dumps(body), headers=headers)


def queue_headers(response: httpx2.Response) -> list[str | None]:
    """The headers that say what became of the message."""
    return [response.headers.get(name) for name in NAMES]


def busy(**fields: Any) -> ScriptedApp:
    """An application whose session is busy; the message is third in line and never begins by itself."""
    values: dict[str, Any] = {"is_busy": True, "place": Place(3, 4), "begins": anyio.Event(), **fields}
    return ScriptedApp(**values)


def entry(**fields: Any) -> InboxEntry:
    """A message in the inbox."""
    values: dict[str, Any] = {
        "turn_id": TURN_ID, "session_key": "agent:main:main", "session_id": "session-1", "state": "queued",
        "source": "webchat:main", "message_key": "k", "delivery": "followup", "accepted_at_ms": 1_767_000_000_000,
        "started_at_ms": None, "finished_at_ms": None, "deadline_at_ms": None, "carrier_id": None,
        "client_model": "openclaw", "error": None, "agent": "main", **fields,
    }  # fmt: skip
    return InboxEntry(**values)


# -- the matrix ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wait", "steer", "followup", "collect", "interrupt", "reject"])
async def test_idle_and_not_streaming(mode: str) -> None:
    """In every mode: the real reply, and no header that says queued."""
    response = await ask(ScriptedApp(settings=QueueSettings(mode=mode)), HI)  # pyright: ignore[reportArgumentType]
    assert response.json()["choices"][0]["message"]["content"] == REPLY
    assert queue_headers(response) == [None, None, TURN_ID, "0", "0", None]


async def test_idle_and_streaming() -> None:
    """The ordinary stream, and no header that says queued."""
    response = await ask(ScriptedApp(settings=STEER), {**HI, "stream": True})
    assert response.text.startswith(ROLE)
    assert response.text.endswith(DONE)
    assert queue_headers(response) == [None, None, TURN_ID, "0", "0", None]


@pytest.mark.parametrize("mode", ["steer", "followup", "collect", "interrupt"])
async def test_busy_and_not_streaming(mode: str) -> None:
    """At once: 200, the header, the marker, `stop`, no usage; the message is kept and told how to reach the session."""
    app = busy(settings=QueueSettings(mode=mode))  # pyright: ignore[reportArgumentType]
    response = await ask(app, HI)
    assert (response.status_code, response.text) == (200, QUEUED)
    assert queue_headers(response) == ["next-turn", "next-turn", TURN_ID, "3", "4", None]
    (request,) = app.requests
    assert (request.arrival.delivery, request.arrival.waits, app.feeds[0].waited_s) == (mode, False, [])


async def test_busy_and_streaming() -> None:
    """The header before the stream's, a role chunk as OpenClaw's, one chunk with text and end, the mark; no usage."""
    response = await ask(busy(settings=STEER), STREAM)
    assert (response.status_code, response.text) == (200, BARE_ROLE + MARKER + DONE)
    assert queue_headers(response) == ["next-turn", "next-turn", TURN_ID, "3", "4", None]
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-reverie-turn-id"] == TURN_ID


async def test_the_whole_request_is_kept() -> None:
    """A queued message keeps its instructions, tools, override and sampling."""
    app = busy(settings=STEER)
    tool = {"type": "function", "function": {"name": "weather"}}
    messages = [{"role": "system", "content": "Be brief."}, *HI["messages"]]
    body = {**HI, "messages": messages, "tools": [tool], "temperature": 0.5}
    await ask(app, body, {"x-openclaw-model": "qwen3"})
    (request,) = app.requests
    assert (request.instructions, request.client_tools, request.model_override, request.sampling) == (
        "Be brief.",
        (tool,),
        "qwen3",
        {"temperature": 0.5},
    )


# -- by request ------------------------------------------------------------------------------------------------------


async def test_rejected() -> None:
    """409 with the time after which it is worth trying again; nothing was accepted."""
    app = busy()
    response = await ask(app, HI, {"x-reverie-on-busy": "reject"})
    assert (response.status_code, response.text, response.headers["retry-after"]) == (
        409,
        '{"error":{"message":"The session is busy.","type":"conflict_error","param":null,"code":"session_busy"}}',
        "3",
    )
    assert (app.requests, queue_headers(response)) == ([], [None] * 6)


async def test_rejecting_does_not_hinder_an_idle_session() -> None:
    """Who would rather be refused is answered when nobody else is."""
    response = await ask(ScriptedApp(), HI, {"x-reverie-on-busy": "reject"})
    assert response.json()["choices"][0]["message"]["content"] == REPLY


async def test_queued_on_request() -> None:
    """`queue` answers at once where the session would wait."""
    app = busy()
    response = await ask(app, HI, {"x-reverie-on-busy": "queue"})
    assert (response.text, app.requests[0].arrival.delivery) == (QUEUED, "followup")


async def test_a_bad_header_is_refused() -> None:
    """Before anything is accepted."""
    app = busy()
    response = await ask(app, HI, {"x-reverie-wait-ms": "soon"})
    assert (response.status_code, response.json()["error"]["param"], app.requests) == (400, "x-reverie-wait-ms", [])


async def test_the_channel_has_its_settings() -> None:
    """The session's settings are asked for with the channel that the message came from."""
    app = ScriptedApp()
    await ask(app, HI, {"x-openclaw-message-channel": "Telegram"})
    assert (app.channels, app.requests[0].arrival.source) == (["telegram"], "telegram:main")


async def test_a_message_lives_as_long_as_it_is_worth() -> None:
    """The deadline is counted from now; without one it is the configuration's."""
    app = ScriptedApp(config=config(queue={"ttl_s": 60}))
    await ask(app, HI, {"x-reverie-deadline-ms": "5"})
    await ask(app, HI)
    now = app.clock.now_ms()
    assert [request.arrival.deadline_at_ms for request in app.requests] == [now + 5, now + 60_000]


# -- waiting ---------------------------------------------------------------------------------------------------------


async def test_who_waits_gets_the_reply_when_the_turn_begins() -> None:
    """By default a caller waits 30 s for its turn to begin."""
    app = busy()
    assert app.begins is not None
    app.begins.set()
    response = await ask(app, HI)
    assert response.json()["choices"][0]["message"]["content"] == REPLY
    assert (app.feeds[0].waited_s, app.requests[0].arrival.waits) == ([30.0], True)
    assert queue_headers(response) == [None, None, TURN_ID, "3", "4", None]


async def test_who_waited_long_enough_is_told() -> None:
    """The turn did not begin in the time that the request gives: the next-turn answer, with its header."""
    app = busy()
    response = await ask(app, HI, {"x-reverie-on-busy": "wait", "x-reverie-wait-ms": "20"})
    assert (response.text, app.feeds[0].waited_s) == (QUEUED, [0.02])
    assert queue_headers(response) == ["next-turn", "next-turn", TURN_ID, "3", "4", None]


async def test_an_interrupting_caller_may_wait_for_its_reply() -> None:
    """A wait that is asked for is waited in other modes too."""
    app = busy()
    assert app.begins is not None
    app.begins.set()
    response = await ask(app, HI, {"x-reverie-on-busy": "interrupt", "x-reverie-wait-ms": "1000"})
    assert response.json()["choices"][0]["message"]["content"] == REPLY
    assert (app.requests[0].arrival.delivery, app.requests[0].arrival.waits) == ("interrupt", True)


async def test_a_stream_that_waited_in_vain() -> None:
    """Its headers are long out, so a comment stands for the header; then the marker ends it. No usage, no finish."""
    response = await ask(busy(), STREAM, {"x-reverie-wait-ms": "20"})
    assert response.text == ROLE + ": x-openclaw-queued: next-turn\n\n" + MARKER + DONE
    assert queue_headers(response) == [None, None, TURN_ID, "3", "4", None]


class Caller:
    """One request by hand: what is sent back is kept, and the caller hangs up when it likes."""

    def __init__(self, app: ScriptedApp, body: dict[str, Any], **headers: str) -> None:
        self.body = json.dumps(body).encode()
        self.sent: list[bytes] = []
        self.status = 0
        self.hangs_up = anyio.Event()
        self.said = anyio.Event()
        self.scope: Scope = {
            "type": "http", "method": "POST", "path": URL, "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        chat = ChatCompletions(app, Metrics(app.clock, app.gauges), StreamTimes(ping_s=0.01))
        self.endpoint = Endpoint(chat.create, "POST")

    async def call(self) -> None:
        """The request, to its end."""
        await self.endpoint(self.scope, self.receive, self.send)

    async def receive(self) -> AsgiMessage:
        """The body, then nothing until the caller hangs up."""
        if self.body:
            body, self.body = self.body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await self.hangs_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: AsgiMessage) -> None:
        """Keep it."""
        self.status = message.get("status", self.status)
        self.sent.append(message.get("body", b""))
        if self.sent.count(b": ping\n\n") == 2 or b'"content":"a"' in self.sent[-1]:
            self.said.set()


async def test_a_stream_that_waits_is_kept_open() -> None:
    """Headers and role at once, comments while the turn waits, then the reply."""
    app = busy()
    caller = Caller(app, STREAM)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.call)
            await caller.said.wait()
            assert caller.sent[:2] == [b"", ROLE.encode()]
            assert app.begins is not None
            app.begins.set()
    assert set(caller.sent[2:4]) == {b": ping\n\n"}
    assert b'"content":"Hello"' in b"".join(caller.sent)
    assert caller.sent[-1].endswith(DONE.encode())


# -- sent again ------------------------------------------------------------------------------------------------------


async def test_a_retry_gets_the_first_answer() -> None:
    """The same id, the same time, the same word for the model; a header says that nothing new was accepted."""
    app = ScriptedApp(attached=True, steps=[finished("the first")], inbox={TURN_ID: entry(state="answered")})
    response = await ask(app, HI, {"idempotency-key": "k"})
    assert response.text == (
        '{"id":"chatcmpl_1","object":"chat.completion","created":1767000000,"model":"openclaw",'
        '"choices":[{"index":0,"message":{"role":"assistant","content":"the first"},"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
    )
    assert queue_headers(response) == [None, None, TURN_ID, "0", "0", "true"]
    assert app.requests[0].arrival.message_key == "k"


@pytest.mark.parametrize(("mode", "marker"), [("wait", False), ("steer", True), ("reject", True)])
async def test_a_retry_of_a_message_that_waits(mode: str, marker: bool) -> None:  # noqa: FBT001 (a test case)
    """It waits as any caller would, or is told that the message is queued; it is not refused, being accepted."""
    settings = QueueSettings(mode=mode)  # pyright: ignore[reportArgumentType]
    app = busy(attached=True, settings=settings, inbox={TURN_ID: entry(client_model="reverie")})
    if not marker:
        assert app.begins is not None
        app.begins.set()
    response = await ask(app, HI, {"idempotency-key": "k"})
    assert (response.json()["choices"][0]["message"]["content"] == TEXT) is marker
    assert response.headers["x-reverie-attached"] == "true"


async def test_a_retry_of_a_running_turn_waits_for_its_end() -> None:
    """It has begun, so nothing is queued any more, whatever the mode."""
    app = ScriptedApp(attached=True, settings=STEER, inbox={TURN_ID: entry(state="running")})
    response = await ask(app, {**HI, "stream": True}, {"x-reverie-message-id": "k"})
    assert '"content":"Hello"' in response.text
    assert response.headers.get("x-openclaw-queued") is None


# -- hanging up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("cancels", [True, False])
async def test_a_caller_who_hangs_up(stream: bool, cancels: bool) -> None:  # noqa: FBT001 (a test case)
    """The turn goes on, unless the caller asked for it to end then; nothing more is written."""
    never = anyio.Event()
    app = ScriptedApp(steps=[STARTED, ReplyDelta("a"), never, finished("a")])
    caller = Caller(app, {**HI, "stream": stream}, x_reverie_on_disconnect="cancel" if cancels else "continue")
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.call)
            if stream:
                await caller.said.wait()
            else:
                await anyio.wait_all_tasks_blocked()
            caller.hangs_up.set()
            if not (stream or cancels):
                await anyio.wait_all_tasks_blocked()
                never.set()
    assert app.cancelled == ([(TURN_ID, HUNG_UP)] if cancels else [])
    assert app.feeds[0].left.is_set()
    assert caller.status == (200 if stream or not cancels else 0)
    assert not any(DONE.encode() in piece for piece in caller.sent)


async def test_a_caller_who_hangs_up_while_it_waits() -> None:
    """A message that has not begun is cancelled too."""
    app = busy()
    caller = Caller(app, HI, x_reverie_on_disconnect="cancel")
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.call)
            await anyio.wait_all_tasks_blocked()
            caller.hangs_up.set()
    assert (app.cancelled, caller.sent) == ([(TURN_ID, HUNG_UP)], [])


async def test_a_caller_who_stays_is_answered() -> None:
    """Watching for the end of the connection changes nothing of the answer, nor of a failure."""
    response = await ask(ScriptedApp(), HI, {"x-reverie-on-disconnect": "cancel"})
    failing = ScriptedApp(steps=[STARTED, RuntimeError("secret")])
    refused = await ask(failing, HI, {"x-reverie-on-disconnect": "cancel"})
    assert response.json()["choices"][0]["message"]["content"] == REPLY
    assert (refused.status_code, failing.cancelled) == (500, [])


# -- /queue in a message ---------------------------------------------------------------------------------------------


def saying(text: str, **fields: Any) -> dict[str, Any]:
    """A request that says something."""
    return {**HI, "messages": [{"role": "user", "content": text}], **fields}


async def test_a_directive_alone_is_answered_at_once() -> None:
    """One sentence of the settings that hold now: no model, no turn."""
    app = busy()
    response = await ask(app, saying("/queue collect debounce:2s cap:25 drop:old"))
    told = "[queue] Messages that find this session busy: mode collect, debounce 2000 ms, cap 25, drop old."
    assert response.json()["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": told}, "finish_reason": "stop"}
    ]
    assert response.json()["usage"]["total_tokens"] == 0
    assert app.changes == [{"mode": "collect", "debounce_ms": 2000, "cap": 25, "drop": "old"}]
    assert (app.requests, queue_headers(response)) == ([], [None] * 6)


async def test_a_directive_alone_in_a_stream() -> None:
    """The same sentence as an ordinary stream."""
    app = ScriptedApp(changes=[{"mode": "steer"}])
    response = await ask(app, saying("/queue reset", stream=True))
    head = response.text.partition('"created"')[0]
    assert head.startswith('data: {"id":"chatcmpl_')
    assert "mode wait (up to 30000 ms), debounce 500 ms, cap 20, drop new." in response.text
    assert response.text.endswith('"delta":{},"finish_reason":"stop"}]}\n\n' + DONE)
    assert (app.changes, app.requests) == ([{"mode": "steer"}, None], [])


async def test_a_directive_beside_other_words() -> None:
    """It holds from this message on, and the agent does not see it."""
    app = busy()
    response = await ask(app, saying("/queue steer look at the oven"))
    assert (response.text, app.requests[0].messages) == (QUEUED, (Message("user", "look at the oven"),))
    assert (app.requests[0].arrival.delivery, app.changes) == ("steer", [{"mode": "steer"}])


async def test_directives_can_be_switched_off() -> None:
    """Then they are words like others."""
    app = ScriptedApp(config=config(queue={"directives": False}))
    await ask(app, saying("/queue steer"))
    assert (app.requests[0].messages, app.changes) == ((Message("user", "/queue steer"),), [])


async def test_the_marker_in_a_history_is_left_out() -> None:
    """A client that sends its history again brings the marker back; it is nothing that the assistant said."""
    app = ScriptedApp()
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": f" {TEXT}\n"},
        {"role": "user", "content": "second"},
    ]
    await ask(app, {**HI, "messages": messages})
    assert app.requests[0].messages == (Message("user", "first"), Message("user", "second"))


async def test_what_became_of_queued_callers_is_counted() -> None:
    """`/metrics` tells the queued ones from the answered ones."""
    app = busy(settings=STEER)
    async with client_of(app) as client:
        await client.post(URL, json=HI)
        await client.post(URL, json=STREAM, headers={"x-reverie-on-busy": "wait", "x-reverie-wait-ms": "1"})
        app.is_busy = False
        app.steps = says("x")
        await client.post(URL, json=HI)
        figures = (await client.get("/metrics")).text
    assert 'reverie_turn_seconds_count{outcome="queued"} 2.0' in figures
    assert 'reverie_turn_seconds_count{outcome="answered"} 1.0' in figures


# -- a session that ended before the turn ------------------------------------------------------------------------------

RESET = (replace(STARTED, reset="daily", session_id="session-2"), *says(REPLY)[1:])


async def test_a_reset_is_told_with_the_reply() -> None:
    """By a header, beside the id of the session that goes on; the reply is the ordinary one."""
    response = await ask(ScriptedApp(steps=RESET), HI)

    assert response.json()["choices"][0]["message"]["content"] == REPLY
    assert response.headers["x-reverie-session-reset"] == "daily"
    assert response.headers.get_list("x-reverie-session-id") == ["session-2"]


async def test_a_reset_is_told_in_a_stream() -> None:
    """By a comment, which clients skip, before the first word."""
    response = await ask(ScriptedApp(steps=RESET), STREAM)

    assert response.text.startswith(f"{ROLE}: x-reverie-session-reset: daily\n\ndata: ")


async def test_no_reset_no_word() -> None:
    """An ordinary turn says nothing of it."""
    response = await ask(ScriptedApp(steps=says(REPLY)), HI)

    assert "x-reverie-session-reset" not in response.headers
