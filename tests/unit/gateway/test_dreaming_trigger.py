"""The text by which OpenClaw's clocks say that it is time to dream: handled at the door, to the byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.dreaming.clockwork import Triggered
from reverie.dreaming.status import Blocked
from reverie.gateway.dreaming_trigger import MARK, TOKENS, carries_trigger, without_triggers
from reverie.types import Message, ToolCall
from tests.unit.gateway.scripted_app import ScriptedApp, ScriptedDreaming, client_of

if TYPE_CHECKING:
    import httpx2

    from reverie.types import Role

TOKEN = "__openclaw_memory_core_short_term_promotion_dream__"
LIGHT = "__openclaw_memory_core_light_sleep__"
REM = "__openclaw_memory_core_rem_sleep__"
REMINDER = f"A scheduled reminder has been triggered. The reminder content is:\n\n{TOKEN}\n\nHandle it internally."
BEGUN = "[dreaming] A sweep over the memory has begun."


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"  \n{TOKEN}\t\n",
        REMINDER,
        REMINDER.replace("\n", "\r\n"),
        f"water the plants\n  {TOKEN}",
        f"[cron:3f1c-77 Memory Dreaming Promotion] {TOKEN}",
        f"[cron:3f1c-77 Memory Dreaming Promotion]{TOKEN}\nCurrent time: 03:00",
        f"[cron:3f1c] {LIGHT}",
        LIGHT,
        f"first\n{REM}\nlast",
    ],
)
def test_a_trigger(text: str) -> None:
    """Alone, as a line of a reminder's body, behind the label of a cron job; any of the three."""
    assert carries_trigger(Message("user", text))


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("user", f"what does {TOKEN} mean?"),
        ("user", f"{TOKEN}?"),
        ("user", f"`{TOKEN}`"),
        ("user", f"> {TOKEN}"),
        ("user", f"please run\n{TOKEN} now"),
        ("user", f"[cron:1 a] please: {TOKEN}"),
        ("user", f"[reminder] {TOKEN}"),
        ("user", f"{TOKEN} {TOKEN}"),
        ("user", TOKEN.upper()),
        ("user", "__openclaw_memory_core_deep_sleep__"),
        ("user", ""),
        ("assistant", TOKEN),
        ("tool", TOKEN),
    ],
)
def test_no_trigger(role: Role, text: str) -> None:
    """Within a sentence or a quotation it is a word like any other; so it is when nobody sends it."""
    assert not carries_trigger(Message(role, text))


def test_triggers_of_a_history_are_left_out() -> None:
    """And so are our answers to them; everything else stays."""
    call = (ToolCall("1", "look", "{}"),)
    kept = (
        Message("user", "hello"),
        Message("assistant", "hi"),
        Message("assistant", f"{MARK}x", tool_calls=call),
        Message("tool", TOKEN, tool_call_id="1"),
        Message("user", f"{MARK}is what it said"),
    )
    history = [
        kept[0], Message("user", REMINDER), Message("assistant", BEGUN), *kept[1:4], Message("user", TOKEN), kept[4]
    ]  # fmt: skip
    assert without_triggers(history) == kept


# -- at the door -----------------------------------------------------------------------------------------------------


async def ask(app: ScriptedApp, *texts: str, **fields: Any) -> httpx2.Response:
    """Send a conversation in which user and assistant take turns."""
    messages = [
        {"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(texts)
    ]  # fmt: skip
    async with client_of(app) as client:
        return await client.post(
            "/v1/chat/completions",
            content=json.dumps({"model": "reverie", "user": "main", "messages": messages, **fields}),
        )


def without_id(response: httpx2.Response) -> bytes:
    """The body, with a fixed id in the place of the answer's own."""
    first = response.content.removeprefix(b"data: ").split(b"\n\n")[0]
    return response.content.replace(json.loads(first)["id"].encode(), b"chatcmpl_1")


@pytest.mark.anyio
@pytest.mark.parametrize("token", TOKENS)
async def test_a_trigger_is_answered_at_once(token: str) -> None:
    """A small completion that says what was done; nothing is accepted, and no header speaks of a turn."""
    app = ScriptedApp()
    response = await ask(app, token)
    assert without_id(response) == (
        b'{"id":"chatcmpl_1","object":"chat.completion","created":1767225600,"model":"reverie","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"[dreaming] A sweep over the memory has begun."},'
        b'"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}'
    )
    ours = {name: value for name, value in response.headers.items() if name.startswith("x-reverie-")}
    assert (response.status_code, ours) == (
        200,
        {"x-reverie-session-key": "agent:main:main", "x-reverie-dreaming": "processed"},
    )
    assert (app.requests, app.changes, app.channels, app.dreaming.triggers) == ([], [], [], 1)


@pytest.mark.anyio
async def test_a_trigger_in_a_stream() -> None:
    """The same as server-sent events, with the counts that were asked for."""
    app = ScriptedApp()
    head = (
        b'data: {"id":"chatcmpl_1","object":"chat.completion.chunk","created":1767225600,"model":"reverie","choices":['
    )
    expected = (
        head + b'{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n',
        head
        + b'{"index":0,"delta":{"content":"[dreaming] A sweep over the memory has begun."},"finish_reason":null}]}\n\n',
        head + b'{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    )
    plain = await ask(app, REMINDER, stream=True)
    counted = await ask(app, TOKEN, stream=True, stream_options={"include_usage": True})
    usage = head + b'],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}\n\n'
    assert without_id(plain) == b"".join(expected) + b"data: [DONE]\n\n"
    assert without_id(counted) == b"".join(expected) + usage + b"data: [DONE]\n\n"
    assert [each.headers["x-reverie-dreaming"] for each in (plain, counted)] == ["processed"] * 2
    assert (app.requests, app.dreaming.triggers) == ([], 2)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("triggered", "word", "text"),
    [
        (Triggered("begun"), "processed", "A sweep over the memory has begun."),
        (Triggered("running"), "processed", "A sweep over the memory runs already; none was begun."),
        (
            Triggered("recent"), "processed",
            "A sweep over the memory was begun less than a minute ago; none was begun now.",
        ),
        (
            Triggered(Blocked("mode-off")), "disabled",
            "Nothing was done: dreaming is switched off (dreaming.mode).",
        ),
        (
            Triggered(Blocked("limit-zero")), "disabled-by-limit",
            "Nothing was done: nothing may be promoted (dreaming.limit is 0).",
        ),
        (Triggered(Blocked("no-workspace")), "no-workspace", "Nothing was done: no agent has a workspace."),
        (
            Triggered(Blocked("unavailable", "the path of a file")), "unavailable",
            "Nothing was done: the record of sweeps cannot be read or written; the log says why.",
        ),
        (
            Triggered(Blocked("read-only", "the path of a file")), "unavailable",
            "Nothing was done: the home cannot be written; the log says why.",
        ),
    ],
)  # fmt: skip
async def test_what_was_done_is_said(triggered: Triggered, word: str, text: str) -> None:
    """Each outcome in words of its own, and as one word in a header; what went wrong is for the log."""
    response = await ask(ScriptedApp(dreaming=ScriptedDreaming(triggered)), TOKEN)
    assert response.json()["choices"][0]["message"]["content"] == MARK + text
    assert response.headers["x-reverie-dreaming"] == word


@pytest.mark.anyio
@pytest.mark.parametrize("busy", [False, True])
async def test_a_trigger_is_no_message_of_a_busy_session(*, busy: bool) -> None:
    """It neither waits nor steers, and its words change no settings."""
    app = ScriptedApp(is_busy=busy)
    response = await ask(app, f"/queue steer\n{TOKEN}")
    assert (response.headers["x-reverie-dreaming"], app.requests, app.changes) == ("processed", [], [])


@pytest.mark.anyio
async def test_a_token_within_a_sentence_is_a_message() -> None:
    """It becomes a turn, word for word."""
    app = ScriptedApp()
    response = await ask(app, f"what does {TOKEN} mean?")
    assert "x-reverie-dreaming" not in response.headers
    assert app.requests[0].messages == (Message("user", f"what does {TOKEN} mean?"),)
    assert app.dreaming.triggers == 0


@pytest.mark.anyio
async def test_a_history_with_a_trigger_reaches_nobody() -> None:
    """A client that sends its history again feeds neither the trigger nor our answer to the model."""
    app = ScriptedApp()
    await ask(app, "hello", "hi", TOKEN, BEGUN, "what now?")
    assert app.requests[0].messages == (
        Message("user", "hello"), Message("assistant", "hi"), Message("user", "what now?"),
    )  # fmt: skip
    assert app.dreaming.triggers == 0


@pytest.mark.anyio
async def test_a_request_that_is_wrong_triggers_nothing() -> None:
    """It is refused as ever."""
    app = ScriptedApp()
    responses = [await ask(app, TOKEN, n=2), await ask(app, TOKEN, model="gpt-5")]
    assert [response.status_code for response in responses] == [400, 400]
    assert app.dreaming.triggers == 0
