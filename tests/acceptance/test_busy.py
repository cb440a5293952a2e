"""A session that is busy: real process, real clients, a model that takes its time."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from reverie.testing.fake_upstream import Plan
from reverie.types import ToolCall
from tests.acceptance.servers import WITHOUT_MEMORY, said_by_user, sdk, until, upstream_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from tests.acceptance.servers import Answer, Server, WithUpstream

MARKER = "[queued] Delivered to the agent's next-turn queue."
SLOW = Plan(echo=True, delay_s=0.5)
QUEUE = {"x-reverie-on-busy": "queue"}


class Busy:
    """A session in which a turn runs until it is let go: the model answers nobody before that."""

    def __init__(self, wire: WithUpstream, pool: ThreadPoolExecutor, user: str) -> None:
        self._held = threading.Event()
        wire.upstream.plan = replace(wire.upstream.plan, delay_s=0, held_by=self._held)
        self.server = wire.server
        self.user = user
        self.key = f"agent:main:openai-user:{user}"
        before = len(wire.asked)
        self.first: Future[Answer] = pool.submit(self.say, "the slow one")
        until(  # and not on a turn that another test left in its own session
            lambda: any(said_by_user(request) == ["the slow one"] for request in wire.asked[before:]),
            "the model works on the first turn",
        )

    def let_go(self) -> None:
        """From now on the model answers at once."""
        self._held.set()

    def say(self, text: str, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        """One message to the session."""
        return self.server.chat(text, user=self.user, headers=headers, **fields)

    def item(self, turn_id: str, query: str = "") -> Any:
        """What `/v1/queue` says of a message."""
        return self.server.get(f"/v1/queue/{turn_id}{query}").json

    def states(self) -> list[str]:
        """The states of the session's turns, in order of arrival."""
        return self.server.turn_states(self.key)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """For requests that take their time."""
    with ThreadPoolExecutor(8) as made:
        yield made


@pytest.fixture
def slow(wire: WithUpstream, pool: ThreadPoolExecutor) -> Iterator[WithUpstream]:
    """The shared server, in front of a model that takes its time. In the end nothing is held."""
    wire.upstream.plan = SLOW
    yield wire
    if wire.upstream.plan.held_by is not None:
        wire.upstream.plan.held_by.set()


def test_idle_sessions_answer_as_ever(wire: WithUpstream) -> None:
    """Streaming or not, queueing asked for or not: the real reply, and nothing says queued."""
    for headers in ({}, QUEUE):
        whole = wire.server.chat("hello", user="idle", headers=headers)
        stream = wire.server.chat("hello", user="idle", headers=headers, stream=True)
        assert (whole.text, "x-openclaw-queued" in whole.headers) == ("hello", False)
        assert (MARKER.encode() in stream.body, "x-openclaw-queued" in stream.headers) == (False, False)


def test_busy_and_not_streaming(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """An answer at once that says so; the running turn is untouched; the reply is fetched by the answer's id."""
    busy = Busy(slow, pool, "plain")
    answer = busy.say("the second", QUEUE)
    assert not busy.first.done()
    assert answer.json == {
        "id": answer.headers["x-reverie-queue-id"],
        "object": "chat.completion",
        "created": answer.json["created"],
        "model": "reverie",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": MARKER}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
    names = ("x-openclaw-queued", "x-reverie-queued", "x-reverie-queue-position", "x-reverie-queue-depth")
    assert [answer.headers[name] for name in names] == ["next-turn", "next-turn", "1", "1"]
    waiting = busy.item(answer.json["id"])
    assert (waiting["state"], waiting["position"], waiting["completion"]) == ("queued", 1, None)
    busy.let_go()

    ended = busy.item(answer.json["id"], "?wait_ms=15000")
    assert busy.first.result().text == "the slow one"
    assert (ended["state"], ended["completion"]["id"]) == ("answered", answer.json["id"])
    assert ended["completion"]["choices"][0]["message"]["content"] == "the second"
    assert said_by_user(slow.asked[-1]) == ["the slow one", "the second"]


def test_busy_and_streaming_with_the_official_client(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """The SDK reads the marker as an ordinary reply that ends with `stop`, and the header is there."""
    busy = Busy(slow, pool, "sdk")
    with sdk(busy.server) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="reverie",
            user="sdk",
            stream=True,
            messages=[{"role": "user", "content": "the second"}],
            extra_headers=QUEUE,
        )
        chunks = list(raw.parse())
    busy.let_go()
    assert raw.headers["x-openclaw-queued"] == "next-turn"
    assert [(chunk.choices[0].delta.content, chunk.choices[0].finish_reason) for chunk in chunks] == [
        (None, None),
        (MARKER, "stop"),
    ]
    assert busy.first.result().text == "the slow one"
    assert busy.item(chunks[0].id, "?wait_ms=15000")["state"] == "answered"


def test_the_stream_to_the_byte(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """A role chunk without a finish reason, one chunk with text and end, the mark."""
    busy = Busy(slow, pool, "bytes")
    answer = busy.say("x", {"x-reverie-on-busy": "followup"}, stream=True, stream_options={"include_usage": True})
    busy.let_go()
    first, second, done, rest = answer.body.decode().split("\n\n")
    head = first[: first.index(',"choices"')]
    assert head.startswith(
        'data: {"id":"' + answer.headers["x-reverie-queue-id"] + '","object":"chat.completion.chunk"'
    )
    assert first == head + ',"choices":[{"index":0,"delta":{"role":"assistant"}}]}'
    assert second == (head + ',"choices":[{"index":0,"delta":{"content":"' + MARKER + '"},"finish_reason":"stop"}]}')
    assert (done, rest) == ("data: [DONE]", "")
    busy.first.result()


def test_who_waits_gets_its_own_reply(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """The default: both callers get their replies, in order, and a bounded wait ends with the marker."""
    busy = Busy(slow, pool, "waits")
    patient = pool.submit(busy.say, "patient")
    until(lambda: len(busy.states()) == 2, "the second message is accepted")
    stream = busy.say("impatient", {"x-reverie-wait-ms": "100"}, stream=True)
    assert stream.body.decode().endswith("\n\ndata: [DONE]\n\n")
    assert ": x-openclaw-queued: next-turn\n\n" in stream.body.decode()
    busy.let_go()
    assert (busy.first.result().text, patient.result().text) == ("the slow one", "patient")
    until(lambda: busy.states() == ["answered"] * 3, "all three are answered")
    assert [text for role, text in busy.server.transcript(busy.key) if role == "user"] == [
        "the slow one",
        "patient",
        "impatient",
    ]


def test_rejecting(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """409 with Retry-After, and nothing was accepted."""
    busy = Busy(slow, pool, "rejects")
    answer = busy.say("no", {"x-reverie-on-busy": "reject"})
    assert (answer.status, answer.error["code"], int(answer.headers["retry-after"]) > 0) == (409, "session_busy", True)
    busy.let_go()
    assert busy.first.result().text == "the slow one"
    assert busy.states() == ["answered"]


def test_a_retry_is_the_same_turn(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """Sent again under its key, while it waits and after its end, it is one turn and one call of the model."""
    busy = Busy(slow, pool, "retries")
    key = {"Idempotency-Key": "message-1"}
    queued = busy.say("once", {**QUEUE, **key})
    again = busy.say("once", {**QUEUE, **key})
    waiting = pool.submit(busy.say, "once", key)
    busy.let_go()
    waited = waiting.result()
    later = busy.say("once", key)
    streamed = busy.say("once", key, stream=True)
    assert queued.json["choices"] == again.json["choices"]
    assert (waited.text, later.body) == ("once", waited.body)
    ids = {answer.headers["x-reverie-turn-id"] for answer in (queued, again, waited, later, streamed)}
    attached = [answer.headers.get("x-reverie-attached") for answer in (queued, again, waited, later, streamed)]
    assert (len(ids), attached) == (1, [None, "true", "true", "true", "true"])
    assert '"content":"once"' in streamed.body.decode()
    assert len([request for request in slow.asked if said_by_user(request)[-1] == "once"]) == 1
    assert busy.say("another", key).error["code"] == "idempotency_key_reused"


def test_a_retry_without_a_session_of_its_own(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """Each request without `user` has a session to itself; the same key leads to the first one's all the same."""
    body = {"model": "reverie", "messages": [{"role": "user", "content": "stateless"}]}
    before = len(slow.asked)
    tries = [pool.submit(slow.server.post, "/v1/chat/completions", body, {"Idempotency-Key": "s-1"}) for _ in range(3)]
    answers = [one.result() for one in tries]
    later = slow.server.post("/v1/chat/completions", body, {"Idempotency-Key": "s-1"})

    assert {answer.text for answer in (*answers, later)} == {"stateless"}
    assert len({answer.headers["x-reverie-turn-id"] for answer in (*answers, later)}) == 1
    assert len({answer.headers["x-reverie-session-key"] for answer in (*answers, later)}) == 1
    assert len(slow.asked) == before + 1


def test_cancelling(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """A waiting message and the running one are stopped by id; each ends once, and the next is answered."""
    busy = Busy(slow, pool, "cancels")
    running = busy.server.get(f"/v1/sessions/{busy.key}/queue").json["data"][0]["id"]
    waiting = busy.say("never", QUEUE).json["id"]
    last = busy.say("last", QUEUE).json["id"]
    with httpx2.Client(base_url=busy.server.url) as client:
        stopped = [client.delete(f"/v1/queue/{turn_id}") for turn_id in (waiting, running)]
        again = client.delete(f"/v1/queue/{waiting}")
    busy.let_go()
    assert [answer.json()["state"] for answer in stopped] == ["cancelled", "cancelled"]
    assert (again.status_code, again.json()["error"]["code"]) == (409, "queue_item_ended")
    assert busy.first.result().error["code"] == "turn_cancelled"
    assert busy.item(last, "?wait_ms=15000")["state"] == "answered"
    assert busy.states() == ["cancelled", "cancelled", "answered"]


def test_hanging_up(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """A caller that asked for it takes its turn with it, streaming or not; without that the turn is finished."""
    for number, stream in enumerate((False, True)):
        for wanted in ("cancel", "continue"):
            user = f"hangs-up-{number}-{wanted}"
            body = json.dumps({"user": user, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
            host, port = slow.server.url.removeprefix("http://").split(":")
            before = len(slow.asked)
            with socket.create_connection((host, int(port))) as caller:
                caller.sendall(
                    f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
                    f"x-reverie-on-disconnect: {wanted}\r\n\r\n{body}".encode()
                )
                until(lambda before=before: len(slow.asked) > before, "the turn runs")
            key, state = f"agent:main:openai-user:{user}", "cancelled" if wanted == "cancel" else "answered"
            until(lambda key=key, state=state: slow.server.turn_states(key) == [state], f"{user} is {state}")
            kinds = [event["kind"] for event in events(slow, key)]
            assert [kind for kind in kinds if kind in {"turn.cancelled", "turn.answered", "turn.failed"}] == [
                f"turn.{state}"
            ]


def events(wire: WithUpstream, key: str, after: int = 0) -> list[dict[str, Any]]:
    """The recorded events of a session."""
    return wire.server.get(f"/v1/sessions/{key}/events?follow=false&limit=1000&after={after}").json["data"]


def test_the_events_of_a_session(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """They are followed live, with the reply as it is made, and replayed from a number on."""
    busy = Busy(slow, pool, "events")
    busy.say("the second", QUEUE)
    told: list[str] = []
    with (
        httpx2.Client(base_url=busy.server.url, timeout=20) as client,
        client.stream("GET", f"/v1/sessions/{busy.key}/events?after=0") as response,
    ):
        busy.let_go()
        for line in response.iter_lines():
            told.append(line)
            if line == "event: turn.answered" and told.count(line) == 2:
                break
    kinds = [line.removeprefix("event: ") for line in told if line.startswith("event: turn.")]
    assert kinds == ["turn.accepted", "turn.running", "turn.queued", "turn.answered", "turn.running", "turn.answered"]
    said = "".join(json.loads(line[6:])["text"] for line in told if line.startswith('data: {"text"'))
    assert said.endswith("the second")
    recorded = events(slow, busy.key)
    assert [event["kind"] for event in recorded] == kinds
    assert events(slow, busy.key, recorded[3]["seq"]) == recorded[4:]


def test_following_one_message(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """Its states and its reply come as they happen, to the end."""
    busy = Busy(slow, pool, "follows")
    turn_id = busy.say("the second", QUEUE).json["id"]
    with httpx2.stream(
        "GET", f"{busy.server.url}/v1/queue/{turn_id}", headers={"Accept": "text/event-stream"}, timeout=20
    ) as followed:
        pieces = followed.iter_text()
        told = next(pieces)
        busy.let_go()
        frames = (told + "".join(pieces)).split("\n\n")
    states = [json.loads(f.partition("data: ")[2])["state"] for f in frames if f.startswith("event: state")]
    said = [json.loads(f[6:])["choices"][0]["delta"].get("content", "") for f in frames if f.startswith('data: {"id"')]
    assert (states, "".join(said), frames[-2]) == (["queued", "running", "answered"], "the second", "data: [DONE]")


def test_the_queue_of_a_session(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """It lists what runs and waits; its settings decide what a message without headers gets."""
    busy = Busy(slow, pool, "settings")
    with httpx2.Client(base_url=busy.server.url) as client:
        changed = client.put(f"/v1/sessions/{busy.key}/queue", json={"mode": "followup", "cap": 2})
        first = busy.say("one")
        told = busy.say("/queue collect cap:3")
        second = busy.say("two")
        listed = client.get(f"/v1/sessions/{busy.key}/queue").json()
        cleared = client.delete(f"/v1/sessions/{busy.key}/queue").json()
    busy.let_go()
    assert (changed.json()["mode"], first.text, second.text) == ("followup", MARKER, MARKER)
    assert told.text == "[queue] Messages that find this session busy: mode collect, debounce 500 ms, cap 3, drop new."
    assert [(item["state"], item["mode"], item["position"], item["depth"]) for item in listed["data"]] == [
        ("running", "followup", 0, 0),
        ("queued", "followup", 1, 2),
        ("queued", "collect", 2, 2),
    ]
    assert (listed["settings"]["cap"], cleared["mode"], cleared["cap"]) == (3, "wait", 20)
    until(lambda: busy.states() == ["answered"] * 3, "all are answered")


def test_the_marker_does_not_come_back(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """A client that sends its history again feeds neither the marker nor anything twice to the model."""
    busy = Busy(slow, pool, "history")
    busy.say("the second", QUEUE)
    history = [
        {"role": "user", "content": "the slow one"},
        {"role": "assistant", "content": "the slow one"},
        {"role": "user", "content": "the second"},
        {"role": "assistant", "content": MARKER},
        {"role": "user", "content": "the third"},
    ]
    body = {"model": "reverie", "user": "history", "messages": history}
    third = pool.submit(busy.server.post, "/v1/chat/completions", body)
    until(lambda: len(busy.states()) == 3, "the third message is accepted")
    busy.let_go()
    assert third.result().text == "the third"
    assert [text for _, text in busy.server.transcript(busy.key)] == [
        "the slow one", "the slow one", "the second", "the second", "the third", "the third",
    ]  # fmt: skip


def test_the_terminal_waits_for_a_queued_reply(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """`reverie chat` says that the message is queued, and shows the reply when it comes."""
    busy = Busy(slow, pool, "terminal")
    with httpx2.Client(base_url=busy.server.url) as client:
        client.put(f"/v1/sessions/{busy.key}/queue", json={"mode": "wait", "wait_ms": 0})
        blockers = [busy.say(f"blocker {number}", QUEUE) for number in range(3)]
    terminal = pool.submit(busy.server.run, "chat", "--session", busy.key, stdin="from the terminal\n")
    until(lambda: len(busy.states()) == 5, "the terminal's message is accepted")
    busy.let_go()
    shown = terminal.result()
    assert (shown.returncode, shown.stderr) == (0, "")
    words = " ".join(shown.stdout.split())
    assert words == "(queued: this session is busy; the reply follows) from the terminal"
    assert [blocker.text for blocker in blockers] == [MARKER] * 3


def test_a_restart_between_the_message_and_its_reply(server: Server, pool: ThreadPoolExecutor) -> None:
    """A queued message outlives the process and is answered by the next; who watches does not hold up the stop."""
    server.environment |= WITHOUT_MEMORY
    with upstream_for(server, Plan(echo=True)) as both:
        server.start()
        busy = Busy(both, pool, "restart")
        queued = busy.say("the second", QUEUE).json["id"]
        url = f"{server.url}/v1/sessions/{busy.key}/events"
        with httpx2.stream("GET", url, timeout=20) as watching:
            lines = watching.iter_lines()
            assert next(lines) == "id: 1"
            stopping = pool.submit(server.stop)
            told = list(lines)
            busy.let_go()
            assert stopping.result() == 0
        assert busy.first.result().text == "the slow one"
        seen = max(int(line.removeprefix("id: ")) for line in told if line.startswith("id: "))
        server.start()
        ended = busy.item(queued, "?wait_ms=15000")
        missed = events(both, busy.key, seen)
    assert ended["completion"]["choices"][0]["message"]["content"] == "the second"
    assert [event["kind"] for event in missed][-2:] == ["turn.running", "turn.answered"]
    assert [event["turn_id"] for event in missed][-2:] == [queued, queued]


def test_a_queued_request_keeps_all_it_brought(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """Image, instructions, tools, model and sampling reach the model when its turn runs, though the caller has gone."""
    busy = Busy(slow, pool, "brings")
    image: dict[str, Any] = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    tool: dict[str, Any] = {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
    }
    body: dict[str, Any] = {
        "model": "reverie", "user": busy.user, "temperature": 0.25, "seed": 7, "tools": [tool],
        "messages": [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]},
        ],
    }  # fmt: skip
    queued = busy.server.post("/v1/chat/completions", body, {**QUEUE, "x-reverie-model": "other/model"})
    busy.let_go()
    assert queued.headers["x-openclaw-queued"] == "next-turn"
    assert busy.item(queued.json["id"], "?wait_ms=15000")["state"] == "answered"

    sent = slow.asked[-1].body
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("other/model", 0.25, 7)
    assert tool in sent["tools"]
    assert "Answer in one word." in sent["messages"][0]["content"]
    assert image in sent["messages"][-1]["content"]


def test_collected_messages_reach_the_model_as_one(slow: WithUpstream, pool: ThreadPoolExecutor) -> None:
    """In OpenClaw's words, with one reply for all."""
    busy = Busy(slow, pool, "collects")
    collect = {"x-reverie-on-busy": "collect", "x-reverie-source": "phone"}
    ids = [busy.say(text, collect).json["id"] for text in ("milk", "bread")]
    busy.let_go()
    items = [busy.item(turn_id, "?wait_ms=15000") for turn_id in ids]

    told = (
        "[Queued messages while agent was busy]\n\n---\nQueued #1 (from phone)\nmilk\n\n"
        "---\nQueued #2 (from phone)\nbread"
    )
    assert said_by_user(slow.asked[-1])[-1] == told
    assert [item["completion"]["choices"][0]["message"]["content"] for item in items] == [told, told]
    assert [item["carrier"] for item in items] == [ids[1], None]


def test_steering_enters_the_running_turn(server: Server, pool: ThreadPoolExecutor) -> None:
    """After the tool's result and before the next call of the model; both callers get the one reply."""
    server.environment["REVERIE_MEMORY__EMBEDDER"] = "none"
    call = ToolCall("call_1", "memory_search", '{"query":"boat"}')
    with upstream_for(server, Plan(text="Alba.", tool_calls=(call,))) as both:
        server.start()
        busy = Busy(both, pool, "steers")
        steered = busy.say("And of what colour?", {"x-reverie-on-busy": "steer"})
        assert steered.json["choices"][0]["message"]["content"] == MARKER
        busy.let_go()
        item = busy.item(steered.json["id"], "?wait_ms=15000")

        assert item["state"] == "answered"
        assert item["carrier"] == busy.first.result().json["id"]
        assert item["completion"]["choices"][0]["message"]["content"] == busy.first.result().text
        assert len(both.asked) == 2
        last = both.asked[1].body["messages"][-4:]
        assert [message["role"] for message in last] == ["user", "assistant", "tool", "user"]
        assert last[-1]["content"] == "And of what colour?"
        assert [text for role, text in server.transcript(busy.key) if role == "user"] == [
            "the slow one",
            "And of what colour?",
        ]
