"""What clients send wrongly and what files hold wrongly: a clear error, nothing lost, and the next turn works."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from reverie.testing.fake_upstream import Plan
from tests.acceptance.servers import Answer, until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.acceptance.servers import Server, WithUpstream

MIB = 1024 * 1024
HELLO = [{"role": "user", "content": "hello"}]


def send(server: Server, body: bytes | Iterable[bytes], headers: dict[str, str], *, chunked: bool = False) -> Answer:
    """POST a chat completion over a plain connection that says exactly what it is told to say."""
    with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)) as connection:
        connection.request("POST", "/v1/chat/completions", body, headers, encode_chunked=chunked)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def check_still_answers(wire: WithUpstream) -> None:
    """The server takes turns as if nothing had happened, and the bad request never reached the model."""
    assert wire.server.chat("still there?", user="after").text == "still there?"
    assert len(wire.asked) == 1


# -- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b'{"model": "reverie", "messages": [}', "line 1 column"),
        (b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', "not valid UTF-8"),
        (b'["not", "an", "object"]', "must be a JSON object, not an array"),
        (b"null", "must be a JSON object, not null"),
        (b'{"temperature": NaN, "messages": []}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_malformed_json(wire: WithUpstream, body: bytes, said: str) -> None:
    """A body that is no JSON object is refused with what is wrong, and where."""
    answer = wire.server.post("/v1/chat/completions", body)

    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert said in answer.error["message"]
    check_still_answers(wire)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": 7, "content": "hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": "hello"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
         "messages"),
        ({"model": 7}, "model"),
        ({"user": ["main"]}, "user"),
        ({"user": "a\nb"}, "user"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": "usage"}, "stream_options"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 9}, "temperature"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"tools": {"type": "function"}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
    ],
)  # fmt: skip
def test_wrong_types(wire: WithUpstream, changes: dict[str, Any], param: str) -> None:
    """A field of the wrong type or out of range is refused by its name, before anything is accepted."""
    answer = wire.server.post(
        "/v1/chat/completions", {"model": "reverie", "user": "wrong", "messages": HELLO, **changes}
    )

    assert (answer.status, answer.error["type"], answer.error["param"]) == (400, "invalid_request_error", param)
    assert wire.server.transcript("agent:main:openai-user:wrong") == []
    check_still_answers(wire)


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [("reverie/nobody", 404, "model_not_found"), ("openclaw/nobody", 404, "model_not_found"), ("gpt-5", 400, None)],
)
def test_an_unknown_model(wire: WithUpstream, model: str, status: int, code: str | None) -> None:
    """A model that no agent answers to is refused, with the names that would do."""
    answer = wire.server.chat("hello", model=model)

    assert (answer.status, answer.error["param"], answer.error["code"]) == (status, "model", code)
    assert "reverie" in answer.error["message"] or "main" in answer.error["message"]
    check_still_answers(wire)


def test_a_body_declared_too_large(wire: WithUpstream) -> None:
    """50 MB are refused at their declaration, the caller reads the answer, and memory does not grow."""
    before = wire.server.memory_kib("VmHWM")
    body = b'{"messages": "' + b"x" * (50 * MIB) + b'"}'
    answer = send(wire.server, body, {"Content-Type": "application/json"})

    assert (answer.status, answer.error["type"]) == (413, "invalid_request_error")
    assert wire.server.memory_kib("VmHWM") - before < 20 * 1024
    check_still_answers(wire)


def test_a_body_that_turns_out_too_large(wire: WithUpstream) -> None:
    """50 MB without a declared length are read as far as the limit (20 MiB) and refused."""
    before = wire.server.memory_kib("VmHWM")
    pieces = (b"x" * MIB for _ in range(50))
    answer = send(wire.server, pieces, {"Transfer-Encoding": "chunked"}, chunked=True)

    assert (answer.status, answer.error["type"]) == (413, "invalid_request_error")
    assert wire.server.memory_kib("VmHWM") - before < 60 * 1024
    check_still_answers(wire)


def test_a_large_body_within_the_limit(wire: WithUpstream) -> None:
    """15 MB of text exceed the model's window: refused with both sizes, and the session goes on without them."""
    user = "large"
    answer = wire.server.chat("word " * (3 * MIB), user=user)

    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert wire.server.chat("and now?", user=user).text == "and now?"


def test_a_client_that_hangs_up_while_it_sends(wire: WithUpstream) -> None:
    """Half a request is no request."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 200\r\n"
    parts = urlsplit(wire.server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as half:
        half.sendall(head + b'\r\n{"user": "half", "messages": [{"role": "user", "content": "hel')

    check_still_answers(wire)
    assert wire.server.transcript("agent:main:openai-user:half") == []


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_while_it_is_answered(wire: WithUpstream, *, stream: bool) -> None:
    """The turn goes on without it, is recorded whole, and stands in the history of the next one."""
    user, session = f"leaver-{stream}", f"agent:main:openai-user:leaver-{stream}".lower()
    wire.upstream.plan = Plan(text="one two three four five six", chunks=6, chunk_delay_s=0.1, delay_s=0.2)
    body = {"model": "reverie", "user": user, "stream": stream, "messages": HELLO}
    with closing(http.client.HTTPConnection(urlsplit(wire.server.url).netloc, timeout=20)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        until(lambda: wire.server.turn_states(session) == ["running"], "the turn runs")
        if stream:
            answer = connection.getresponse()
            while b"one" not in answer.fp.readline():  # the role comes first
                pass
    until(lambda: wire.server.turn_states(session) == ["answered"], "the turn is answered")
    wire.upstream.plan = Plan(echo=True)
    wire.server.chat("and then?", user=user)

    assert wire.upstream.disconnects == 0
    assert wire.asked[-1].body["messages"][1:] == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "one two three four five six"},
        {"role": "user", "content": "and then?"},
    ]


# -- Markdown --------------------------------------------------------------------------------------------------------


def test_broken_utf8_in_markdown(connected: WithUpstream) -> None:
    """Bytes that are no text are replaced: the file's other lines are found, and its fragments stand in the prompt."""
    server = connected.server
    (server.workspace / "MEMORY.md").write_bytes(b"# Memory\n\n\xff\xfe\x80 garbled\n\nThe boat is called Alba.\n")
    (server.workspace / "memory" / "2026-02-03.md").write_bytes(b"caf\xe9 \xf0\x9f\n\nThe mooring is number 42.\n")

    def found() -> bool:
        lines = server.run("search", "mooring number", "--json").stdout.splitlines()
        return any("number 42" in line for line in lines)

    until(found, "the line beside the broken one is found", within_s=20)
    answer = server.chat("What is the boat called?")
    system = connected.asked[-1].body["messages"][0]["content"]

    assert answer.status == 200
    assert "The boat is called Alba." in system
    assert "�" in system


def large_file(path: Path) -> None:
    """100 MB that take no room on the disk."""
    with path.open("wb") as file:
        file.write(b"The anchor is stowed aft.\n")
        file.truncate(100 * MIB)


def test_a_huge_markdown_file(server: Server) -> None:
    """100 MB of Markdown are skipped with a reason, also as MEMORY.md; memory stays bounded and the rest is found."""
    server.environment["REVERIE_MEMORY__EMBEDDER"] = "none"
    server.start()
    large_file(server.workspace / "MEMORY.md")
    large_file(server.workspace / "memory" / "huge.md")
    (server.workspace / "memory" / "small.md").write_text("The keel was painted in May.\n", encoding="utf-8")

    until(lambda: "small.md#L1" in server.chat("When was the keel painted?").text, "the small file is found")
    until(lambda: "memory/huge.md" in server.log, "the log names the huge file")
    assert server.stop() == 0
    server.start()

    assert "small.md#L1" in server.chat("When was the keel painted?").text
    assert server.memory_kib("VmHWM") < 150 * 1024
    for path in ("memory/huge.md", "MEMORY.md"):
        assert f'"file": "{path}", "reason": "104,857,600 bytes, more than the limit of 16,777,216' in server.log
