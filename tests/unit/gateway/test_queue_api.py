"""`/v1/queue/{id}` and `/v1/sessions/{key}/queue`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.errors import TurnExpiredError
from reverie.sessions.inbox import InboxEntry, Place, QueueSettings
from tests.unit.gateway.scripted_app import STARTED, TURN_ID, ScriptedApp, client_of, failed, finished, says

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

URL = f"/v1/queue/{TURN_ID}"
KEY = "agent:main:main"
QUEUED = InboxEntry(
    turn_id=TURN_ID,
    session_key=KEY,
    session_id="session-1",
    state="queued",
    source="telegram:7",
    message_key="k",
    delivery="steer",
    accepted_at_ms=1_767_225_600_123,
    started_at_ms=None,
    finished_at_ms=None,
    deadline_at_ms=1_767_225_660_123,
    carrier_id=None,
    client_model="openclaw",
    error=None,
    agent="main",
)
ANSWERED = replace(
    QUEUED, state="answered", started_at_ms=1_767_225_601_000, finished_at_ms=1_767_225_602_000, carrier_id="chatcmpl_0"
)
COMPLETION = {
    "id": TURN_ID,
    "object": "chat.completion",
    "created": 1_767_225_600,
    "model": "openclaw",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def item(**fields: Any) -> dict[str, Any]:
    """The waiting message as it is told."""
    return {
        "object": "reverie.queue_item",
        "id": TURN_ID,
        "state": "queued",
        "session_key": KEY,
        "session_id": "session-1",
        "source": "telegram:7",
        "message_key": "k",
        "mode": "steer",
        "position": 2,
        "depth": 3,
        "accepted_at": "2026-01-01T00:00:00.123Z",
        "started_at": None,
        "finished_at": None,
        "deadline": "2026-01-01T00:01:00.123Z",
        "carrier": None,
        "error": None,
        "completion": None,
        **fields,
    }


ENDED = item(
    state="answered",
    position=None,
    depth=None,
    started_at="2026-01-01T00:00:01.000Z",
    finished_at="2026-01-01T00:00:02.000Z",
    carrier="chatcmpl_0",
    completion=COMPLETION,
)


def with_inbox(*entries: InboxEntry, **fields: Any) -> ScriptedApp:
    """An application with these messages; one that waits is second of three."""
    values: dict[str, Any] = {
        "inbox": {entry.turn_id: entry for entry in entries}, "place": Place(2, 3), "steps": says("Hello"), **fields,
    }  # fmt: skip
    return ScriptedApp(**values)


async def call(app: ScriptedApp, method: str, url: str, **options: Any) -> httpx2.Response:
    """One request."""
    async with client_of(app, host="127.0.0.1") as client:
        return await client.request(method, url, **options)


# -- one message -----------------------------------------------------------------------------------------------------


async def test_a_message_that_waits() -> None:
    """Its state, its place now, when it came and until when it is worth answering."""
    response = await call(with_inbox(QUEUED), "GET", URL)
    assert (response.status_code, response.json()) == (200, item())


async def test_a_message_that_runs() -> None:
    """It has begun, and stands at no place in the line."""
    running = replace(QUEUED, state="running", started_at_ms=1_767_225_601_000)
    response = await call(with_inbox(running), "GET", URL)
    assert response.json() == item(state="running", started_at="2026-01-01T00:00:01.000Z", position=0, depth=0)


async def test_a_message_that_was_answered() -> None:
    """The whole completion, as the caller would have had it."""
    assert (await call(with_inbox(ANSWERED), "GET", URL)).json() == ENDED


async def test_a_message_that_was_not_answered() -> None:
    """What went wrong, as a caller is told it."""
    error = {"message": "too late", "type": "api_error", "code": "turn_expired", "status": 504}
    expired = replace(QUEUED, state="expired", error=error)
    response = await call(with_inbox(expired), "GET", URL)
    assert response.json() == item(state="expired", error=error, position=None, depth=None)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_message(method: str) -> None:
    """404, and where the id is to be found."""
    response = await call(ScriptedApp(), method, "/v1/queue/chatcmpl_none")
    assert (response.status_code, response.json()["error"]) == (
        404,
        {
            "message": "There is no message 'chatcmpl_none' in the queue; its id is in `x-reverie-queue-id`.",
            "type": "invalid_request_error",
            "param": "id",
            "code": "queue_item_not_found",
        },
    )


async def test_waiting_for_the_end() -> None:
    """A long poll answers as soon as the message has ended, with its completion."""
    app = with_inbox(QUEUED)
    end = anyio.Event()
    app.steps = [STARTED, end, finished("Hello")]
    answers: list[httpx2.Response] = []

    async def poll() -> None:
        answers.append(await call(app, "GET", f"{URL}?wait_ms=600000"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poll)
            await anyio.wait_all_tasks_blocked()
            assert answers == []
            app.inbox[TURN_ID] = ANSWERED
            end.set()
    assert answers[0].json() == ENDED


async def test_waiting_in_vain() -> None:
    """After the time that was asked for the state of now is the answer."""
    app = with_inbox(QUEUED, steps=[anyio.Event()])
    response = await call(app, "GET", f"{URL}?wait_ms=10")
    assert (response.status_code, response.json()) == (200, item())
    assert app.feeds[0].left.is_set()


@pytest.mark.parametrize("value", ["600001", "-1", "soon", ""])
async def test_a_wait_out_of_range(value: str) -> None:
    """The refusal names the parameter."""
    response = await call(with_inbox(QUEUED), "GET", f"{URL}?wait_ms={value}")
    assert (response.status_code, response.json()["error"]["message"]) == (
        400,
        f"`wait_ms`: {value} is not valid: a whole number from 0 to 600000.",
    )


async def test_cancelling() -> None:
    """The message ends, and is told as it stands then; a second time there is nothing left to stop."""
    app = with_inbox(QUEUED)
    response = await call(app, "DELETE", URL)
    again = await call(app, "DELETE", URL)
    assert (response.status_code, response.json()) == (200, item(state="cancelled", position=None, depth=None))
    assert (again.status_code, again.json()["error"]) == (
        409,
        {
            "message": "The message 'chatcmpl_1' has ended already: cancelled.",
            "type": "invalid_request_error",
            "param": "id",
            "code": "queue_item_ended",
        },
    )
    assert [turn_id for turn_id, _ in app.cancelled] == [TURN_ID]


async def test_a_message_within_anothers_turn_is_not_cancelled_alone() -> None:
    """Its caller is told which turn that is."""
    response = await call(with_inbox(replace(QUEUED, state="running", carrier_id="chatcmpl_other")), "DELETE", URL)
    assert (response.status_code, response.json()["error"]) == (
        409,
        {
            "message": "The message runs within the turn 'chatcmpl_other': cancel that one to stop both.",
            "type": "invalid_request_error",
            "param": "id",
            "code": "queue_item_carried",
        },
    )


# -- as it comes -----------------------------------------------------------------------------------------------------

SSE = {"accept": "text/event-stream"}


def frames_of(text: str) -> list[tuple[str, Any]]:
    """The events of a stream: their name, and their data as JSON where it is."""
    found: list[tuple[str, Any]] = []
    for frame in text.split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in frame.split("\n"))
        data = lines["data"]
        found.append((lines.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found


def delta(delta: dict[str, Any], finish: str | None = None) -> tuple[str, Any]:
    """A chunk of the reply."""
    head = {"id": TURN_ID, "object": "chat.completion.chunk", "created": 1_767_225_600, "model": "openclaw"}
    return "", {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


async def test_following_a_message_to_its_end() -> None:
    """Its states as they change, the reply as ordinary chunks, the whole of it at the end."""
    app = with_inbox(QUEUED, is_busy=True, begins=anyio.Event())
    end = anyio.Event()
    app.steps = [STARTED, *says("Hel", "lo")[2:4], end, finished("Hello")]
    running = replace(QUEUED, state="running", started_at_ms=1_767_225_601_000)
    told: list[str] = []

    async def follow() -> None:
        told.append((await call(app, "GET", URL, headers=SSE)).text)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            app.inbox[TURN_ID] = running
            assert app.begins is not None
            app.begins.set()
            await anyio.wait_all_tasks_blocked()
            app.inbox[TURN_ID] = ANSWERED
            end.set()
    assert frames_of(told[0]) == [
        ("state", item()),
        ("state", item(state="running", started_at="2026-01-01T00:00:01.000Z", position=0, depth=0)),
        delta({"role": "assistant"}),
        delta({"content": "Hel"}),
        delta({"content": "lo"}),
        delta({}, "stop"),
        ("state", ENDED),
        ("", "[DONE]"),
    ]


async def test_following_a_message_that_has_ended() -> None:
    """The same frames from what is on record, its state once."""
    response = await call(with_inbox(ANSWERED, steps=[finished("Hello")]), "GET", URL, headers=SSE)
    assert frames_of(response.text) == [
        ("state", ENDED),
        delta({"role": "assistant"}),
        delta({"content": "Hello"}),
        delta({}, "stop"),
        ("", "[DONE]"),
    ]


async def test_following_a_message_that_fails() -> None:
    """Its error stands where the reply would, as in every stream of ours."""
    expired = replace(QUEUED, state="expired")
    app = with_inbox(expired, steps=[failed(TurnExpiredError("too late"))])
    response = await call(app, "GET", URL, headers=SSE)
    assert frames_of(response.text)[1:] == [
        delta({"role": "assistant"}),
        ("", {"error": {"message": "too late", "type": "api_error", "param": None, "code": "turn_expired"}}),
        ("", "[DONE]"),
    ]


# -- a session's queue -----------------------------------------------------------------------------------------------

QUEUE_URL = "/v1/sessions/agent%3Amain%3Amain/queue"
SETTINGS = {
    "object": "reverie.queue_settings",
    "session_key": KEY,
    "mode": "wait",
    "wait_ms": 30_000,
    "debounce_ms": 500,
    "cap": 20,
    "drop": "new",
}


async def test_what_waits_in_a_session() -> None:
    """What runs and waits there, in its order, and the settings that hold; at most as many as asked for."""
    running = replace(QUEUED, turn_id="chatcmpl_0", state="running")
    elsewhere = replace(QUEUED, turn_id="chatcmpl_2", session_key="other")
    app = with_inbox(running, QUEUED, elsewhere)
    response = await call(app, "GET", QUEUE_URL)
    one = await call(app, "GET", f"{QUEUE_URL}?limit=1")
    assert response.json() == {
        "object": "list",
        "data": [item(id="chatcmpl_0", state="running", position=0, depth=0), item()],
        "settings": SETTINGS,
    }
    assert [each["id"] for each in one.json()["data"]] == ["chatcmpl_0"]


async def test_a_key_with_slashes() -> None:
    """A key is what stands between the two ends of the path, percent-encoded where it must be."""
    elsewhere = replace(QUEUED, session_key="a/b/queue:ü?")
    response = await call(with_inbox(elsewhere), "GET", "/v1/sessions/a%2Fb%2Fqueue%3A%C3%BC%3F/queue")
    plain = await call(with_inbox(elsewhere), "GET", "/v1/sessions/a/b/queue:%C3%BC%3F/queue")
    assert [len(each.json()["data"]) for each in (response, plain)] == [1, 1]


async def test_a_session_gets_settings_of_its_own() -> None:
    """Those that are given change, by any of their names; the answer is what holds now."""
    app = ScriptedApp(settings=QueueSettings())
    changed = await call(app, "PUT", QUEUE_URL, json={"mode": "Steer-Backlog", "cap": 3, "drop": "summary"})
    cleared = await call(app, "DELETE", QUEUE_URL)
    assert changed.json() == {**SETTINGS, "mode": "steer", "cap": 3, "drop": "summarize"}
    assert (cleared.json(), app.changes) == (SETTINGS, [{"mode": "steer", "cap": 3, "drop": "summarize"}, None])


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"cap": 0}, "`cap`: 0 is not valid: 1 ≤ cap ≤ 10000.", "cap"),
        ({"wait_ms": 3_600_001}, "`wait_ms`: 3600001 is not valid: 0 ≤ wait_ms ≤ 3600000.", "wait_ms"),
        (
            {"mode": "later"},
            (
                "`mode`: later is not valid: Input should be 'wait', 'followup', 'collect', 'steer', 'interrupt' or "
                "'reject'."
            ),
            "mode",
        ),
        (
            {"ttl_s": 1},
            "There is no setting `ttl_s` here. Settings: `mode`, `wait_ms`, `debounce_ms`, `cap`, `drop`.",
            "ttl_s",
        ),
    ],
)
async def test_a_setting_that_is_not_valid(body: dict[str, Any], message: str, param: str) -> None:
    """The refusal names setting, value and range, and nothing is changed."""
    app = ScriptedApp()
    response = await call(app, "PUT", QUEUE_URL, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["message"], error["param"], app.changes) == (400, message, param, [])


async def test_the_queue_of_a_session_is_guarded() -> None:
    """A page of a stranger's name for this machine reads nothing, as with memory."""
    async with client_of(ScriptedApp(), host="evil.example") as client:
        answers = [await client.get(QUEUE_URL), await client.get("/v1/sessions/k/events?follow=false")]
    assert [answer.status_code for answer in answers] == [403, 403]
