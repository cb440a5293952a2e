"""Stopped or killed at any moment: what was acknowledged is there exactly once, in order, and is answered."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from reverie.testing.fake_upstream import Plan
from tests.acceptance.servers import WAIT_S_MAX, WITHOUT_MEMORY, Server, said_by_user, supervised, until, upstream_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.servers import WithUpstream

KILLS = 30
SEED = 20_260_211


@pytest.fixture
def talking(server: Server) -> Iterator[WithUpstream]:
    """A running server without memory, and a fake upstream behind it that echoes."""
    server.environment |= WITHOUT_MEMORY
    with upstream_for(server, Plan(echo=True)) as both:
        server.start()
        yield both


# -- kill -9 ---------------------------------------------------------------------------------------------------------


def test_killed_after_an_answer(talking: WithUpstream) -> None:
    """An answered turn survives kill -9, and the next one is asked with it as history."""
    server = talking.server
    server.chat("The boat is called Alba.")
    server.kill()
    server.start()
    server.chat("What is it called?")

    assert talking.asked[-1].body["messages"][1:] == [
        {"role": "user", "content": "The boat is called Alba."},
        {"role": "assistant", "content": "The boat is called Alba."},
        {"role": "user", "content": "What is it called?"},
    ]


def test_killed_while_turns_wait(talking: WithUpstream) -> None:
    """The turn that ran is marked failed; the three that waited are answered once each, in order, with its message."""
    server = talking.server
    talking.upstream.plan = Plan(delay_s=30)
    texts = ["first", "second", "third", "fourth"]
    with ThreadPoolExecutor(len(texts)) as pool:
        for number, text in enumerate(texts, start=1):
            pool.submit(server.chat, text)
            until(lambda number=number: len(server.turn_states()) == number, f"{text} is accepted")
        until(lambda: server.turn_states() == ["running", *["queued"] * 3], "the first one runs")
        server.kill()
    talking.upstream.plan = Plan(echo=True)
    talking.upstream.requests.clear()
    server.start()
    until(lambda: server.turn_states()[-1] == "answered", "the last one is answered")

    assert server.turn_states() == ["failed", "answered", "answered", "answered"]
    assert [said_by_user(request) for request in talking.asked] == [texts[:2], texts[:3], texts]
    assert server.transcript() == [
        ("user", "first"),
        ("user", "second"), ("assistant", "second"),
        ("user", "third"), ("assistant", "third"),
        ("user", "fourth"), ("assistant", "fourth"),
    ]  # fmt: skip


# -- thirty kills ----------------------------------------------------------------------------------------------------


@dataclass
class Caller:
    """A client that goes on talking in one session whatever happens, and remembers what it was told."""

    server: Server
    session: str
    name: str
    stream: bool
    sent: list[str] = field(default_factory=list[str])
    accepted: list[str] = field(default_factory=list[str])
    answered: list[str] = field(default_factory=list[str])

    def talk(self, up: threading.Event, stop: threading.Event) -> None:
        """While the server is up, send one message after the other, each once."""
        while up.wait(WAIT_S_MAX) and not stop.is_set():
            text = f"{self.name}-{len(self.sent)}"
            self.sent.append(text)
            try:
                self._say(text)
            except (OSError, http.client.HTTPException, ValueError):
                continue  # it was killed; the message may or may not have arrived

    def _say(self, text: str) -> None:
        body = {"model": "reverie", "stream": self.stream, "messages": [{"role": "user", "content": text}]}
        headers = {"Content-Type": "application/json", "x-reverie-session-key": self.session}
        with closing(http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=20)) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.status != 200:
                return
            self.accepted.append(text)
            said = answer.read().decode()
        if self.stream and said.endswith("data: [DONE]\n\n") and '"error"' not in said:
            self.answered.append(text)
        if not self.stream and json.loads(said)["choices"][0]["message"]["content"] == text:
            self.answered.append(text)


def test_thirty_kills_lose_and_double_nothing(server: Server) -> None:
    """Killed thirty times while six clients talk in three sessions, every acknowledged message is there once."""
    chance = random.Random(SEED)
    server.environment |= WITHOUT_MEMORY
    with (
        upstream_for(server, Plan(echo=True, delay_s=0.01)),
        supervised(server) as running,
        ThreadPoolExecutor(6) as pool,
    ):
        callers = [
            Caller(running, f"agent:main:{session}", f"{session}-{number}", stream=number == 1)
            for session in ("hall", "deck", "cabin")
            for number in (1, 2)
        ]
        up, stop = threading.Event(), threading.Event()
        talks = [pool.submit(caller.talk, up, stop) for caller in callers]
        try:
            for _ in range(KILLS):
                up.set()
                stop.wait(chance.uniform(0.02, 0.25))  # the moment of the kill: any
                up.clear()
                os.kill(running.pid, signal.SIGKILL)
                running.wait_for_next()
        finally:
            stop.set()
            up.set()
        for talk in talks:
            talk.result()
        for session in {caller.session for caller in callers}:
            check_settled(running, session)
        for caller in callers:
            check_kept(running, caller)


def check_settled(server: Server, session: str) -> None:
    """No turn is left over: what had waited at a kill was answered, what had run, one at most, was marked failed."""
    until(lambda: set(server.turn_states(session)) <= {"answered", "failed"}, "every turn has ended")
    states = server.turn_states(session)
    replies = [text for role, text in server.transcript(session) if role == "assistant"]

    assert states.count("failed") <= KILLS
    assert len(replies) == len(set(replies)) == states.count("answered")


def check_kept(server: Server, caller: Caller) -> None:
    """What this client sent stands at most once and in its order, what was acknowledged exactly once."""
    lines = server.transcript(caller.session)
    kept = [text for role, text in lines if role == "user" and text.startswith(f"{caller.name}-")]
    replies = {text for (_, before), (role, text) in pairwise(lines) if role == "assistant" and text == before}

    assert caller.answered
    assert kept == [text for text in caller.sent if text in set(kept)]
    assert set(caller.accepted) <= set(kept)
    assert set(caller.answered) <= replies


def test_an_import_that_is_killed_goes_on(server: Server, tmp_path: Path) -> None:
    """Killed three times on its way and started again, an import adds each message once, in order."""
    server.environment |= WITHOUT_MEMORY
    texts = [f"message {number}" for number in range(20_000)]
    turns = [{"session": "long", "speaker": "Mia", "text": text} for text in texts]
    file = tmp_path / "history.jsonl"
    file.write_text(json.dumps({"name": "past", "turns": turns}), encoding="utf-8")
    for _ in range(3):
        before = server.message_count()
        with server.begin("import", "conversation", str(file)) as importing:
            until(
                lambda before=before, importing=importing: (
                    server.message_count() > before or importing.poll() is not None
                ),
                "it adds messages",
            )
            importing.kill()
    report = json.loads(server.run("import", "conversation", str(file), "--json").stdout)

    assert report["messages_added"] + report["messages_present"] == len(texts)
    assert server.transcript("agent:main:import:past:long") == [("user", text) for text in texts]


# -- SIGTERM ---------------------------------------------------------------------------------------------------------


def test_a_signal_lets_running_turns_finish(talking: WithUpstream) -> None:
    """The running turns, plain and streamed, are answered; one that waited is kept for the next start; exit code 0."""
    server = talking.server
    talking.upstream.plan = Plan(text="one two three four", chunks=4, delay_s=0.5, chunk_delay_s=0.1)
    with ThreadPoolExecutor(3) as pool:
        plain = pool.submit(server.chat, "plain", user="a")
        stream = pool.submit(server.chat, "stream", user="b", stream=True)
        for user in "ab":
            until(
                lambda user=user: server.turn_states(f"agent:main:openai-user:{user}") == ["running"], "the turns run"
            )
        waits = pool.submit(server.chat, "waits", user="a")
        until(lambda: len(server.turn_states("agent:main:openai-user:a")) == 2, "another one waits")
        code = server.stop()
    talking.upstream.plan = Plan(echo=True)
    server.start()
    until(lambda: server.turn_states("agent:main:openai-user:a") == ["answered", "answered"], "it is answered")

    assert code == 0
    assert plain.result().text == "one two three four"
    assert stream.result().body.endswith(b"data: [DONE]\n\n")
    assert b'"error"' not in stream.result().body
    assert (waits.result().status, waits.result().error["code"]) == (503, "turn_cancelled")
    assert "will be answered after the restart" in waits.result().error["message"]
    assert server.transcript("agent:main:openai-user:a") == [
        ("user", "plain"), ("assistant", "one two three four"), ("user", "waits"), ("assistant", "waits"),
    ]  # fmt: skip


def test_a_turn_that_outlasts_the_drain(talking: WithUpstream) -> None:
    """After `gateway.drain_s` a turn is cut off: the caller is told to send it again, and its message is kept."""
    server = talking.server
    server.stop()
    server.environment["REVERIE_GATEWAY__DRAIN_S"] = "0.2"
    server.start()
    talking.upstream.plan = Plan(delay_s=30)
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(server.chat, "Are you there?")
        until(lambda: server.turn_states() == ["running"], "the turn runs")
        started = time.monotonic()
        code = server.stop()
        took_s = time.monotonic() - started

    assert code == 0
    assert took_s < 5
    assert (cut.result().status, cut.result().error["code"]) == (503, "turn_cancelled")
    assert "send the message again" in cut.result().error["message"]
    assert server.transcript() == [("user", "Are you there?")]
    assert server.turn_states() == ["cancelled"]


def test_a_second_signal_ends_at_once(talking: WithUpstream) -> None:
    """Who asks twice does not wait for the model; the next start marks the turn as failed."""
    server = talking.server
    talking.upstream.plan = Plan(delay_s=30)
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(server.chat, "Are you there?")
        until(lambda: server.turn_states() == ["running"], "the turn runs")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "server_stopping" in server.log, "it stops")
        started = time.monotonic()
        code = server.stop(with_signal=signal.SIGINT)
        took_s = time.monotonic() - started
    server.start()

    assert code == 1
    assert took_s < 1
    assert cut.exception() is not None
    assert server.turn_states() == ["failed"]
    assert server.transcript() == [("user", "Are you there?")]
