"""What ten turns cost on a stateless API: what is new, what is sent again and can be kept, what cannot.

    python -m benchmarks.threads_chat [--scale full|small] [--json]

A conversation of 90,000 tokens (workspace files, the client's instructions, messages) goes on for ten turns of 2,000
tokens, half of them asked, half answered; each question finds something in memory. Reverie runs as a process; its
model's server is the fake one, which keeps what it was sent. Between two prompts one after the other
(`reverie.testing.prefixes`, four bytes a token):

    identical    the beginning that is the same to the byte: a provider's cache serves it
    changed      sent before, but behind a change
    new          the rest

`cold_starts` are epochs that began within the ten turns. Before a second series MEMORY.md is edited, so that exactly
one begins, with its first turn. `others_` is computed from the same ten turns: the same messages, but what was recalled
stands in the system message, and the files are cut anew to the room that each turn leaves, as is commonly done.
`--scale small` takes seconds and is for trying it out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import apsw

from benchmarks.gateway import reverie_process
from benchmarks.report import Report
from reverie.testing.fake_upstream import FakeUpstream, Plan, serve_in_thread
from reverie.testing.prefixes import Repetition, as_tokens, repetition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.gateway import Target
    from reverie.types import JsonObject

SEED = 20_261_127
SESSION = "agent:main:bench"
WORDS = (
    "kiln",
    "glaze",
    "boat",
    "harbour",
    "roaster",
    "drum",
    "ledger",
    "invoice",
    "garden",
    "bridge",
    "violin",
    "clay",
)
TURNS = 10


@dataclass(frozen=True, slots=True)
class Scale:
    """Tokens: of MEMORY.md, of the client's instructions, of all that was said before, of half a turn; the window."""

    memory: int
    instructions: int
    history: int
    half_turn: int
    window: int


SCALES = {
    "full": Scale(memory=12_000, instructions=6_000, history=72_000, half_turn=1_000, window=200_000),
    "small": Scale(memory=1_200, instructions=600, history=4_000, half_turn=100, window=32_768),
}


@dataclass(frozen=True, slots=True)
class Series:
    """Ten turns: what each prompt repeated, how long until its first words, the epochs that began and why."""

    repeated: tuple[Repetition, ...]
    first_ms: tuple[float, ...]
    epochs: int
    reason: str


async def run_chat(scale: str) -> dict[str, float]:
    """The figures of both series, and of what others do."""
    size = SCALES[scale]
    choose = random.Random(SEED)
    upstream = FakeUpstream(Plan(text=prose(choose, size.half_turn), chunks=8))
    with tempfile.TemporaryDirectory() as folder, serve_in_thread(upstream.app) as address:
        home = Path(folder)
        prepare(home, size, choose)
        async with reverie_process(home, address, starts=1) as (target, _):
            instructions = prose(choose, size.instructions)
            for number in range(size.history // (2 * size.half_turn)):
                await say(target, instructions, question(choose, size, number))
            quiet = await series(home, target, upstream, instructions, size, choose)
            others = emulated([request.body for request in upstream.requests][-TURNS - 1 :], size)
            await asyncio.to_thread(edit, home)
            edited = await series(home, target, upstream, instructions, size, choose)
    for name, told in (("quiet", quiet), ("edited", edited)):
        print(f"{name}: {told.epochs} cold starts; the last epoch began because {told.reason}", file=sys.stderr)
    return {
        **figures("", quiet.repeated),
        "cold_starts": quiet.epochs,
        "first_event_ms_p50": median(quiet.first_ms),
        "first_event_ms_max": max(quiet.first_ms),
        **figures("edited_", edited.repeated),
        "edited_cold_starts": edited.epochs,
        "edited_identical_share_between_epochs": figures("", edited.repeated[1:])["identical_share"],
        **figures("others_", others),
    }


def figures(name: str, repeated: Sequence[Repetition]) -> dict[str, float]:
    """Ten turns together, in tokens and bytes."""
    identical = sum(each.identical_bytes for each in repeated)
    changed = sum(each.changed_bytes for each in repeated)
    new = sum(each.new_bytes for each in repeated)
    return {
        f"{name}new_tokens": as_tokens(new),
        f"{name}identical_tokens": as_tokens(identical),
        f"{name}changed_tokens": as_tokens(changed),
        f"{name}sent_bytes": identical + changed + new,
        f"{name}identical_share": identical / max(1, identical + changed),
    }


async def series(
    home: Path, target: Target, upstream: FakeUpstream, instructions: str, size: Scale, choose: random.Random
) -> Series:
    """Ten turns on what was said before."""
    before = len(upstream.requests)
    epoch, _ = await asyncio.to_thread(epoch_of, home)
    first_ms = [await say(target, instructions, question(choose, size, before + number)) for number in range(TURNS)]
    sent = [parts(request.body) for request in list(upstream.requests)[before - 1 :]]
    after, reason = await asyncio.to_thread(epoch_of, home)
    repeated = tuple(repetition(one, other) for one, other in pairwise(sent))
    return Series(repeated, tuple(first_ms), after - epoch, reason)


def parts(body: JsonObject) -> list[bytes]:
    """A request as its prompt, in the order in which providers keep it: tools, then messages."""
    return [encoded(body.get("tools", [])), *(encoded(message) for message in body["messages"])]


def encoded(value: Any) -> bytes:
    """JSON as it goes over the wire."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def emulated(bodies: Sequence[JsonObject], size: Scale) -> tuple[Repetition, ...]:
    """The same turns with recall in the system message and files cut to what each turn leaves."""
    sent = [parts(as_others(body, size)) for body in bodies]
    return tuple(repetition(one, other) for one, other in pairwise(sent))


def as_others(body: JsonObject, size: Scale) -> JsonObject:
    """A request as one that does not care for the cache would put it."""
    system, *history, last = body["messages"]
    recall, mark, asked = last["content"].rpartition("</recalled_memory>\n\n")
    said = sum(len(message["content"]) for message in history)
    room = max(1_000, 2 * size.memory * 4 - said // 16)
    files = system["content"][:room]
    return {
        **body,
        "messages": [
            {"role": "system", "content": f"{recall}{mark}{files}"},
            *history,
            {"role": "user", "content": asked},
        ],
    }


def prose(choose: random.Random, tokens: int) -> str:
    """Words of about so many tokens, four bytes each."""
    text = ""
    while len(text) < 4 * tokens:
        text += " ".join(choose.choice(WORDS) for _ in range(12)) + ".\n"
    return text[: 4 * tokens]


def question(choose: random.Random, size: Scale, number: int) -> str:
    """A question whose words stand in a note."""
    return f"{prose(choose, size.half_turn)}\nWhat became of the {choose.choice(WORDS)} on day {number % 40}?"


def prepare(home: Path, size: Scale, choose: random.Random) -> None:
    """A home with its settings, a MEMORY.md that is too long for its share, and notes to be recalled."""
    workspace = home / "agents" / "main" / "workspace"
    (workspace / "memory").mkdir(parents=True)
    facts = "\n".join(f"## Day {number}\n{prose(choose, size.memory // 40)}" for number in range(40))
    (workspace / "MEMORY.md").write_text(f"# Memory\n{facts}\n", encoding="utf-8")
    for number in range(40):
        note = f"# Day {number}\n\nThe {choose.choice(WORDS)} on day {number} was seen to by person {number}.\n"
        (workspace / "memory" / f"2026-01-{number % 28 + 1:02}-{number}.md").write_text(note, encoding="utf-8")
    settings = f'[upstream]\ncontext_tokens = {size.window}\n[memory]\nembedder = "none"\nrecall_ms_max = 5000\n'
    (home / "config.toml").write_text(settings, encoding="utf-8")


def edit(home: Path) -> None:
    """A person adds a line to MEMORY.md."""
    with (home / "agents" / "main" / "workspace" / "MEMORY.md").open("a", encoding="utf-8") as file:
        file.write("\nThe violin was sold.\n")


def epoch_of(home: Path) -> tuple[int, str]:
    """The epoch of the session's prompts, and why it began."""
    with closing(apsw.Connection(str(home / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)) as database:
        row = database.execute("SELECT epoch, epoch_reason FROM sessions WHERE key = ?", (SESSION,)).fetchone()
    assert row is not None, "the session exists"
    return int(str(row[0])), str(row[1])


async def say(target: Target, instructions: str, text: str) -> float:
    """One streamed turn; how long until its first words, in ms."""
    host, port = target.url.removeprefix("http://").split(":")
    messages = [{"role": "system", "content": instructions}, {"role": "user", "content": text}]
    body = encoded({"model": "reverie", "stream": True, "messages": messages})
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"x-reverie-session-key: {SESSION}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, int(port))
    first_ms = 0.0
    try:
        writer.write(head.encode() + body)
        received = b""
        while piece := await reader.read(65_536):
            received += piece
            if not first_ms and b'"content":"' in received:
                first_ms = 1_000 * (time.perf_counter() - started)
        if b"data: [DONE]" not in received:
            raise RuntimeError(f"the turn was not answered: {received[:500]!r}")
    finally:
        writer.close()
    return first_ms


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.threads_chat", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scale", choices=sorted(SCALES), default="full")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    Report("threads_chat", asyncio.run(run_chat(arguments.scale))).show(as_json=arguments.json)


if __name__ == "__main__":
    main()
