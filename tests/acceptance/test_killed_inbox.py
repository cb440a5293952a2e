"""Killed again and again under load: of what was sent, nothing is lost, nothing doubled, nothing out of order."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest

from reverie.testing.fake_upstream import Plan
from tests.acceptance.servers import WAIT_S_MAX, WITHOUT_MEMORY, supervised, until, upstream_for

if TYPE_CHECKING:
    from tests.acceptance.servers import Server, Supervised, WithUpstream

KILLS = int(os.environ.get("KILLS", "200"))
SEED = 20_261_121
UP_S_MAX = 0.4
EARLY_SHARE = 0.2
"""Of the kills, those that come while the server still starts, among them while it takes up what the last one left."""
PAUSE_S = 0.02
ENDED_S_MAX = 60.0
MODES = ("queue", "wait", "followup", "wait", "steer")
TOGETHER = "galley"
"""In this session what waits is collected into one turn."""
SESSIONS = ("hall", "deck", "cabin", TOGETHER)
SOURCES = ("ann", "bob")
NUMBERED = re.compile(r"[a-z]+-[a-z]+-\d+")
ENDS = {"answered", "failed"}
MOVES = {("accepted", "running"), ("queued", "running"), ("running", "answered"), ("running", "failed")}


@dataclass
class Sender:
    """One source in one session. Sends message after message, each again under its key until it is acknowledged."""

    server: Supervised
    session: str
    source: str
    chance: random.Random
    ids: dict[str, str] = field(default_factory=dict[str, str])
    replies: dict[str, str] = field(default_factory=dict[str, str])
    tries: int = 0
    attached: int = 0

    @property
    def key(self) -> str:
        return f"agent:main:{self.session}"

    def send_all(self, up: threading.Event, stop: threading.Event) -> None:
        """One message after the other until it is told to stop; the one it is at is sent to its end."""
        while not stop.is_set():
            text = f"{self.session}-{self.source}-{len(self.ids)}"
            mode = "collect" if self.session == TOGETHER else self.chance.choice(MODES)
            stream = self.chance.random() < 0.4
            while text not in self.ids:
                assert up.wait(WAIT_S_MAX * 2), "the server is up again"
                try:
                    self._send(text, mode, stream=stream)
                except (OSError, http.client.HTTPException, ValueError):
                    time.sleep(PAUSE_S)  # it was killed: the message may or may not have arrived

    def _send(self, text: str, mode: str, *, stream: bool) -> None:
        self.tries += 1
        body: dict[str, Any] = {"model": "reverie", "stream": stream, "messages": [{"role": "user", "content": text}]}
        if mode != "collect":
            body["number"] = text  # what a client adds is passed on: the model's server sees whose turn a call is
        headers = {
            "Content-Type": "application/json",
            "x-reverie-session-key": self.key,
            "x-reverie-source": self.source,
            "x-reverie-on-busy": mode,
            "Idempotency-Key": text,
        }
        with closing(http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=20)) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            turn_id = answer.headers.get("x-reverie-queue-id")
            if turn_id is None:  # refused, so that nothing was accepted
                assert answer.status in {429, 503}, (answer.status, answer.read())
                time.sleep(PAUSE_S)
                return
            self.attached += "x-reverie-attached" in answer.headers
            self.ids[text] = turn_id
            said = answer.read().decode()
            if answer.status == 200 and not stream and answer.headers.get("x-openclaw-queued") is None:
                self.replies[text] = json.loads(said)["choices"][0]["message"]["content"]


@pytest.mark.timeout(600)
def test_two_hundred_kills(server: Server) -> None:
    """Every message is acknowledged once, ends once, runs at most once, in its source's order, in one place."""
    chance = random.Random(SEED)
    server.environment |= WITHOUT_MEMORY | {
        "REVERIE_SESSIONS__HISTORY_MESSAGES_MAX": "4",
        "REVERIE_QUEUE__DEBOUNCE_MS": "10",
    }
    with upstream_for(server, Plan(echo=True, delay_s=0.01)) as both, supervised(server) as running:
        both.upstream.requests = deque()
        senders = [
            Sender(running, session, source, random.Random(f"{session} {source}"))
            for session in SESSIONS
            for source in SOURCES
        ]
        started = time.monotonic()
        kill_often(running, senders, chance)
        killed_s = time.monotonic() - started
        until(
            lambda: all(set(running.turn_states(one.key)) <= ENDS for one in senders), "all end", within_s=ENDED_S_MAX
        )
        found = check_all(both, running, senders)
    summary = {"kills": KILLS, "seconds": round(killed_s, 1), **found}
    sys.stdout.write(f"{json.dumps(summary)}\n")
    assert (found["lost"], found["duplicated"], found["reordered"]) == (0, 0, 0), summary
    assert found["answered"] > KILLS


def kill_often(running: Supervised, senders: list[Sender], chance: random.Random) -> None:
    """Let them send, and kill the server at any moment; at the end it is up and all they sent is acknowledged."""
    up, stop = threading.Event(), threading.Event()
    with ThreadPoolExecutor(len(senders)) as pool:
        sending = [pool.submit(sender.send_all, up, stop) for sender in senders]
        try:
            for _ in range(KILLS):
                up.set()
                stop.wait(chance.uniform(0, UP_S_MAX))
                up.clear()
                os.kill(running.pid, signal.SIGKILL)
                while chance.random() < EARLY_SHARE:
                    running.wait_for_next(ready=False)
                    os.kill(running.pid, signal.SIGKILL)
                running.wait_for_next()
        finally:
            stop.set()
            up.set()
        for one in sending:
            one.result()


def check_all(both: WithUpstream, server: Supervised, senders: list[Sender]) -> dict[str, int]:
    """Count what became of every message, in the inbox, in the transcripts, and at the model's server."""
    sent = {text: (sender, turn_id) for sender in senders for text, turn_id in sender.ids.items()}
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(server.get, [f"/v1/queue/{turn_id}" for _, turn_id in sent.values()])
        items = {text: answer.json for text, answer in zip(sent, found, strict=True)}
    answered = {text for text, item in items.items() if item["state"] == "answered"}
    for text, item in items.items():
        sender, turn_id = sent[text]
        assert (item["id"], item["source"], item["session_key"]) == (turn_id, sender.source, sender.key)
        assert item["state"] in ENDS
        if text not in answered:
            assert "interrupted" in item["error"]["message"], item
        elif text in sender.replies:
            assert item["completion"]["choices"][0]["message"]["content"] == sender.replies[text]
    said = {key: numbers_of(server, key) for key in {sender.key for sender in senders}}
    in_transcripts = Counter(text for texts in said.values() for text in texts)
    asked = Counter(request.body["number"] for request in both.asked if "number" in request.body)
    runs = runs_of(server, senders)
    twice = [text for counts in (in_transcripts, asked, runs) for text, times in counts.items() if times > 1]
    lost = [text for text in sent if in_transcripts[text] != 1 or (text in answered and not runs[text])]
    lost += [text for text in answered if TOGETHER not in text and asked[text] != 1]
    return {
        "messages": len(sent),
        "tries": sum(sender.tries for sender in senders),
        "attached": sum(sender.attached for sender in senders),
        "answered": len(answered),
        "interrupted": len(sent) - len(answered),
        "lost": len(lost),
        "duplicated": len(twice) + sum(len(server.turn_states(key)) for key in said) - len(sent),
        "reordered": sum(reordered(said[sender.key], sender) for sender in senders),
    }


def numbers_of(server: Server, key: str) -> list[str]:
    """What users said in a session, one entry for every message."""
    return [each for role, text in server.transcript(key) if role == "user" for each in NUMBERED.findall(text)]


def reordered(said: list[str], sender: Sender) -> int:
    """How many of a source's messages stand before one that it sent earlier."""
    mine = [text for text in said if text.startswith(f"{sender.session}-{sender.source}-")]
    wanted = sorted(mine, key=lambda text: int(text.rsplit("-", 1)[1]))
    return sum(is_there != is_wanted for is_there, is_wanted in zip(mine, wanted, strict=True))


def runs_of(server: Server, senders: list[Sender]) -> Counter[str]:
    """How often each message began to run, by the recorded events of its session; each step must be allowed."""
    text_of = {turn_id: text for sender in senders for text, turn_id in sender.ids.items()}
    began: Counter[str] = Counter()
    for key in {sender.key for sender in senders}:
        states: dict[str, str] = {}
        after = 0
        while True:
            path = f"/v1/sessions/{quote(key, safe='')}/events?follow=false&after={after}"
            page = [event for event in server.get(path).json["data"] if event["seq"] > after]
            if not page:
                break
            for event in page:
                after = event["seq"]
                if not event["kind"].startswith("turn."):
                    continue
                turn_id, state = event["turn_id"], event["kind"].removeprefix("turn.")
                before = states.get(turn_id)
                assert (before, state) in MOVES or (before is None and state in {"accepted", "queued"}), event
                states[turn_id] = state
                began[text_of[turn_id]] += state == "running"
    return began
