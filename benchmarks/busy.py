"""What a message gets whose session is busy: how soon it is acknowledged, when its reply comes, whether any is lost.

    python -m benchmarks.busy [--scale full|small] [--json]

Two parts, each on a server of its own, on an empty home.

modes   A turn of 12 s (two calls of the model of 6 s each, with a tool of ours between them) and a second message 2 s
        later, in every mode, streamed and not, each pair in a session of its own, all at once. Every second message
        that is accepted is sent again under its key half a second later, as a client does that got no answer.
load    200 sessions for 60 s: bursts of one to four messages of 30 bytes to 20 kB in changing modes, streamed and
        not, from two sources, one in ten sent twice at once. The model answers after 0.3 s. Meanwhile `/healthz` is
        asked ten times a second.

`ack_ms` is the time until a caller holds the next-turn answer, its stream's headers, or the refusal; 0 where the reply
itself is the first that is heard. `first_s` and `reply_s` are from the moment a message is sent until the reply of its
turn can be had; 0 where there is none, because it was refused or gave way. At the end every message that was
acknowledged is looked up by its id and in the transcript: `lost` is not there, `duplicated` is there twice or ran
twice, `reordered` stands before one of its source that was acknowledged before it was sent,
`wrong` had another answer than its mode promises.
`--scale small` takes seconds and is for trying it out; its figures say nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import apsw

from benchmarks.gateway import reverie_process, upstream_process
from benchmarks.report import Report, process_cpu_s, process_rss_mib, quantile
from reverie.testing.fake_upstream import FakeUpstream, Plan, serve
from reverie.types import ToolCall

if TYPE_CHECKING:
    from benchmarks.gateway import Target

SEED = 20_261_121
MODES = ("wait_ms_0", "wait", "queue", "followup", "collect", "steer", "interrupt", "reject")
LOAD_MODES = ("queue", "followup", "collect", "steer", "wait", "wait", "interrupt")
SIZES = (30, 30, 200, 200, 2_000, 20_000)
SOURCES = ("ann", "bob")
SENT_TWICE = 0.1
STREAMED = 0.4
PROBE_S = 0.1
ENDED = frozenset({"answered", "failed", "cancelled"})
NUMBERED = re.compile(r"<[\w -]+ \d+>")


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how much."""

    call_s: float
    second_after_s: float
    again_after_s: float
    sessions: int
    load_s: float
    pause_s: float
    load_call_s: float


SCALES = {
    "full": Scale(6.0, 2.0, 0.5, 200, 60.0, 20.0, 0.3),
    "small": Scale(0.5, 0.3, 0.1, 10, 3.0, 0.5, 0.05),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, and how long its headers and all of it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    head_ms: float
    whole_ms: float

    @property
    def turn_id(self) -> str:
        """The message's id in the queue; empty when it was refused."""
        return self.headers.get("x-reverie-queue-id", "")

    @property
    def queued(self) -> bool:
        """Whether it is a next-turn answer."""
        return "x-openclaw-queued" in self.headers or b": x-openclaw-queued: next-turn" in self.body


async def ask(
    target: Target, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request on a connection of its own."""
    host, port = target.url.removeprefix("http://").split(":")
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in {"Content-Type": "application/json", **(headers or {})}.items()]
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        head_ms = 1_000 * (time.perf_counter() - started)
        rest = await reader.read()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    pairs = (line.split(":", 1) for line in head[1:] if line)
    found = {name.lower(): value.strip() for name, value in pairs}
    return Answer(int(head[0].split()[1]), found, rest, head_ms, 1_000 * (time.perf_counter() - started))


async def say(target: Target, text: str, headers: dict[str, str], *, stream: bool) -> Answer:
    """One message."""
    return await ask(target, "POST", "/v1/chat/completions", message(text, stream=stream), headers)


def message(text: str, *, stream: bool) -> dict[str, Any]:
    """A request's body."""
    return {"model": "reverie", "stream": stream, "messages": [{"role": "user", "content": text}]}


def headers_of(session: str, source: str, key: str, mode: str) -> dict[str, str]:
    """A request's headers: which session, who sends it, under which key, and what if the session is busy."""
    found = {"x-reverie-session-key": session, "x-reverie-source": source, "Idempotency-Key": key}
    if mode == "wait_ms_0":
        return {**found, "x-reverie-on-busy": "wait", "x-reverie-wait-ms": "0"}
    if mode == "wait":
        return {**found, "x-reverie-on-busy": "wait", "x-reverie-wait-ms": "60000"}
    return {**found, "x-reverie-on-busy": mode}


async def until_ended(target: Target, turn_id: str) -> dict[str, Any]:
    """A message as the queue has it once it has ended."""
    while True:
        item = json.loads((await ask(target, "GET", f"/v1/queue/{turn_id}?wait_ms=30000")).body)
        if item["state"] not in {"accepted", "queued", "running"}:
            return item


# -- the modes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """What two messages met, one after the other in one session."""

    mode: str
    stream: bool
    ack_ms: float
    first_s: float
    reply_s: float
    sent: dict[str, Sent]
    wrong: int


async def pair(target: Target, mode: str, scale: Scale, *, stream: bool) -> Pair:
    """A long turn, and a second message while it runs."""
    name = f"{mode}{'_stream' if stream else ''}"
    session, first_text, second_text = f"agent:main:{name}", f"<{name} 1>", f"<{name} 2>"
    started = time.perf_counter()
    headers = headers_of(session, "ann", f"{name} 1", "wait")
    first = asyncio.create_task(
        ask(target, "POST", "/v1/chat/completions", message(first_text, stream=stream), headers)
    )
    await asyncio.sleep(scale.second_after_s)
    headers = headers_of(session, "ann", f"{name} 2", mode)
    sent_at = time.perf_counter()
    second = asyncio.create_task(
        ask(target, "POST", "/v1/chat/completions", message(second_text, stream=stream), headers)
    )
    again: Answer | None = None
    if mode != "reject":
        await asyncio.sleep(scale.again_after_s)
        again = await say(target, second_text, {**headers, "x-reverie-wait-ms": "0"}, stream=stream)
    first_answer = await first
    first_s = (time.perf_counter() - started) if first_answer.status == 200 and mode != "interrupt" else 0.0
    answer = await second
    is_told_early = stream or answer.queued or answer.status != 200
    ack_ms = answer.head_ms if is_told_early else 0.0
    sent = {first_text: Sent(first_answer.turn_id, "ann", started, sent_at)}
    if mode == "reject":
        return Pair(mode, stream, ack_ms, first_s, 0.0, sent, wrong=int(answer.status != 409))
    sent[second_text] = Sent(answer.turn_id, "ann", sent_at, time.perf_counter())
    item = await until_ended(target, answer.turn_id)
    reply_s = time.perf_counter() - sent_at
    said = "" if item["completion"] is None else item["completion"]["choices"][0]["message"]["content"]
    wrong = int(second_text not in said) + int(again is None or again.turn_id != answer.turn_id)
    wrong += int(mode != "interrupt" and first_answer.status != 200)
    return Pair(mode, stream, ack_ms, first_s, reply_s, sent, wrong)


async def measure_modes(scale: Scale) -> tuple[list[Pair], Counter[str]]:
    """Every mode at once; what was found wrong in the end."""
    call = ToolCall("call-1", "memory_search", json.dumps({"query": "anything"}))
    upstream = FakeUpstream(Plan(echo=True, delay_s=scale.call_s, tool_calls=(call,)))
    with tempfile.TemporaryDirectory(prefix="reverie-bench-") as folder:
        home = Path(folder)
        write_config(home)
        async with serve(upstream.app) as address, reverie_process(home, address, starts=1) as (target, _):
            work = [pair(target, mode, scale, stream=stream) for mode in MODES for stream in (False, True)]
            pairs = await asyncio.gather(*work)
            found: Counter[str] = Counter(wrong=sum(one.wrong for one in pairs))
            for one in pairs:
                session = f"agent:main:{one.mode}{'_stream' if one.stream else ''}"
                found += Counter(await count(target, home, session, one.sent))
    return pairs, found


def write_config(home: Path) -> None:
    """No embedder: what is measured is the inbox."""
    (home / "config.toml").write_text('[memory]\nembedder = "none"\n', encoding="utf-8")


# -- counting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was accepted: its id, who sent it, and when it was sent and acknowledged."""

    turn_id: str
    source: str
    sent_at: float
    told_at: float


async def count(target: Target, home: Path, session: str, sent: dict[str, Sent]) -> dict[str, int]:
    """How many of a session's accepted messages, by their text, are lost, doubled or out of order."""
    states = {text: (await until_ended(target, one.turn_id))["state"] for text, one in sent.items()}
    began = await begun(target, session)
    said = await asyncio.to_thread(said_in, home, session)
    seen = Counter(said)
    twice = sum(times > 1 for times in seen.values()) + sum(times > 1 for times in began.values())
    return {
        "lost": sum(seen[text] == 0 or state not in ENDED for text, state in states.items()),
        "duplicated": twice + len(set(began) - {one.turn_id for one in sent.values()}),
        "reordered": sum(_overtook(one, other) for one, other in combinations([sent[text] for text in said], 2)),
    }


def _overtook(one: Sent, other: Sent) -> bool:
    """Whether the first stands before one of its source that was acknowledged before it was sent."""
    return one.source == other.source and other.told_at <= one.sent_at


async def begun(target: Target, session: str) -> Counter[str]:
    """How often each turn of a session began, by its recorded events."""
    began: Counter[str] = Counter()
    after = 0
    while True:
        path = f"/v1/sessions/{quote(session, safe='')}/events?follow=false&after={after}"
        page: list[dict[str, Any]] = json.loads((await ask(target, "GET", path)).body)["data"]
        if not page:
            return began
        after = page[-1]["seq"]
        began.update(event["turn_id"] for event in page if event["kind"] == "turn.running")


def said_in(home: Path, session: str) -> list[str]:
    """The numbered messages of a session's transcript, in order."""
    sql = (
        "SELECT text FROM messages JOIN sessions ON sessions.id = session_id "
        "WHERE key = ? AND role = 'user' ORDER BY messages.id"
    )
    with closing(apsw.Connection(str(home / "state.db"))) as connection:
        connection.set_busy_timeout(5_000)
        return [each for (text,) in connection.execute(sql, (session,)) for each in NUMBERED.findall(text)]


# -- the load --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Talker:
    """A session under load, and what was accepted in it."""

    session: str
    choose: random.Random
    sent: dict[str, Sent] = field(default_factory=dict[str, Sent])
    acks_ms: list[float] = field(default_factory=list[float])
    tries: int = 0
    refused: int = 0
    wrong: int = 0
    numbers: int = 0

    async def talk(self, target: Target, scale: Scale, stop_at: float) -> None:
        """Bursts of messages, each of which is sent without waiting for the answer to the one before."""
        await asyncio.sleep(self.choose.uniform(0, min(scale.pause_s, scale.load_s)))
        while time.perf_counter() < stop_at:
            async with asyncio.TaskGroup() as group:
                for number in range(self.choose.randint(1, 4)):
                    group.create_task(self.say(target))
                    await asyncio.sleep(scale.load_call_s / (10 if number else 3))
            pause_s = self.choose.expovariate(1 / scale.pause_s)
            await asyncio.sleep(max(0.0, min(pause_s, stop_at - time.perf_counter())))

    async def say(self, target: Target) -> None:
        """One message, sometimes sent twice at once under its key."""
        self.numbers += 1
        text = f"<{self.session.removeprefix('agent:main:')} {self.numbers}>"
        padded = f"{text} {'x' * max(0, self.choose.choice(SIZES) - len(text))}"
        source, stream = self.choose.choice(SOURCES), self.choose.random() < STREAMED
        headers = headers_of(self.session, source, text, self.choose.choice(LOAD_MODES))
        times = 2 if self.choose.random() < SENT_TWICE else 1
        self.tries += times
        sent_at = time.perf_counter()
        answers = await asyncio.gather(*(say(target, padded, headers, stream=stream) for _ in range(times)))
        accepted = [answer for answer in answers if answer.turn_id]
        self.refused += times - len(accepted)
        self.wrong += max(0, len({answer.turn_id for answer in accepted}) - 1)
        if accepted:
            told_at = sent_at + min(answer.head_ms for answer in accepted) / 1_000
            self.sent[text] = Sent(accepted[0].turn_id, source, sent_at, told_at)
        self.acks_ms += [answer.head_ms for answer in accepted if answer.queued or stream]


async def measure_load(scale: Scale) -> tuple[dict[str, float], list[float], Counter[str]]:
    """Many sessions at once: figures, times to acknowledgement, and what was found wrong in the end."""
    talkers = [Talker(f"agent:main:busy-{number}", random.Random(SEED + number)) for number in range(scale.sessions)]
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="reverie-bench-") as folder:
        home = Path(folder)
        write_config(home)
        async with (
            upstream_process("--echo", "--delay-s", str(scale.load_call_s)) as upstream,
            reverie_process(home, upstream.url, starts=1) as (target, _),
        ):
            rss_idle = process_rss_mib(target.pid)
            probe = asyncio.create_task(probe_health(target))
            cpu_s, started = process_cpu_s(target.pid), time.perf_counter()
            await asyncio.gather(*(talker.talk(target, scale, started + scale.load_s) for talker in talkers))
            took_s, cpu_s = time.perf_counter() - started, process_cpu_s(target.pid) - cpu_s
            loop = json.loads((await ask(target, "GET", "/readyz")).body)["eventLoop"]
            rss_loaded = process_rss_mib(target.pid)
            probe.cancel()
            with suppress(asyncio.CancelledError):
                await probe
            for talker in talkers:
                found += Counter(await count(target, home, talker.session, talker.sent))
    sent = sum(len(talker.sent) for talker in talkers)
    found["wrong"] += sum(talker.wrong for talker in talkers)
    figures: dict[str, float] = {
        "messages": sent,
        "messages_per_s": sent / took_s,
        "cpu_ms_per_message": 1_000 * cpu_s / max(1, sent),
        "sent_again": sum(talker.tries for talker in talkers) - sum(talker.numbers for talker in talkers),
        "refused": sum(talker.refused for talker in talkers),
        "rss_mib_idle": rss_idle,
        "rss_mib_loaded": rss_loaded,
        "loop_delay_ms_p99": loop["delayP99Ms"],
        "loop_delay_ms_max": loop["delayMaxMs"],
        "healthz_ms_p50": quantile(PROBED_MS, 0.5),
        "healthz_ms_p99": quantile(PROBED_MS, 0.99),
        "healthz_ms_max": max(PROBED_MS, default=0.0),
    }
    return figures, [ms for talker in talkers for ms in talker.acks_ms], found


PROBED_MS: list[float] = []


async def probe_health(target: Target) -> None:
    """Ask for a sign of life again and again, and keep how long it took."""
    while True:
        PROBED_MS.append((await ask(target, "GET", "/healthz")).whole_ms)
        await asyncio.sleep(PROBE_S)


# -- outcome ---------------------------------------------------------------------------------------------------------


async def run(scale: Scale) -> Report:
    """Both parts, one after the other."""
    pairs, found = await measure_modes(scale)
    figures, acks_ms, found_under_load = await measure_load(scale)
    found += found_under_load
    early = [one.ack_ms for one in pairs if one.ack_ms]
    groups: dict[str, dict[str, float]] = {"ack_ms": {}, "first_s": {}, "reply_s": {}}
    for one in pairs:
        name = f"{one.mode}{'_stream' if one.stream else ''}"
        groups["ack_ms"][name], groups["first_s"][name], groups["reply_s"][name] = one.ack_ms, one.first_s, one.reply_s
    counts = {name: float(found[name]) for name in ("lost", "duplicated", "reordered", "wrong")}
    acks = {
        "modes_ack_ms_max": max(early),
        "ack_ms_p50": quantile(acks_ms, 0.5),
        "ack_ms_p99": quantile(acks_ms, 0.99),
        "ack_ms_max": max(acks_ms, default=0.0),
        "acks": len(acks_ms),
    }
    return Report("busy", {**counts, **acks, **figures}, groups=groups)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scale", choices=tuple(SCALES), default="full")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(run(SCALES[arguments.scale])).show(as_json=arguments.json)


if __name__ == "__main__":
    main()
