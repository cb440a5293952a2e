"""What ten turns cost on a bootstrap of 90,000 tokens: native threads of the real Codex, and a stateless chat API.

    python -m benchmarks.threads [--half codex|chat|both] [--scale full|small] [--json]

Codex runs for real (`openai-codex-cli-bin`), against a fake server of the Responses API that keeps what it was sent. A
session that has a conversation of 90,000 tokens goes on for ten turns of 2,000 tokens, half of them asked, half
answered. Between two prompts of the session, one after the other (`reverie.testing.prefixes`, four bytes a token):

    new          not sent before
    identical    sent before, at the beginning, in the same thread: a provider's cache serves it
    changed      sent before, but behind a change, or in another thread, which no cache can serve

`replayed_bootstrap_tokens` is what Reverie told threads in all ten turns: the bootstrap each time that a thread begins,
and the messages asked. `cold_starts` are the turns that began a thread, the first one not counted. `codex_old_order` is
the same session in the same run with the order in which the system that Reverie succeeds looked at things: a guard of
70,000 tokens, before anybody asks whether the thread is the right one. The fake model reads 50,000 tokens a second that
it has not cached: that is what a caller waits for before the first event. The chat half is `benchmarks.threads_chat`,
whose model reads at once. `--scale small` takes seconds and is for trying it out.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import threads_chat
from benchmarks.report import Report
from reverie.app import open_app
from reverie.cli.logs import configure_logs
from reverie.config import Home, load_config
from reverie.sessions.events import ReplyDelta
from reverie.testing.fake_responses import Answer, FakeResponses, serve
from reverie.testing.prefixes import Repetition, as_tokens, repetition
from reverie.types import Message, SessionKey, TurnRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.app import App
    from reverie.sessions.thread_log import ThreadEvent
    from reverie.testing.fake_responses import SentRequest

SEED = 20_261_127
PREFILL_TOKENS_S = 50_000.0
"""How fast the fake model reads what it has not cached. A real one is slower, so real waits are longer."""
SESSION = SessionKey("main", "agent:main:bench")
TURNS = 10


@dataclass(frozen=True, slots=True)
class Scale:
    """Tokens: of all that was said before, of half a turn, and the limit of the old order's guard."""

    bootstrap: int
    half_turn: int
    old_guard: int


SCALES = {"full": Scale(90_000, 1_000, 70_000), "small": Scale(9_000, 100, 7_000)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Ten turns: what was decided, what each prompt repeated, how long until the first words."""

    decisions: tuple[ThreadEvent, ...]
    repeated: tuple[Repetition, ...]
    first_ms: tuple[float, ...]

    @property
    def told_chars(self) -> int:
        """What Reverie told threads: instructions where they began, projections, messages."""
        return sum(event.data["sent_chars"] + event.data["instruction_chars"] for event in self.decisions)

    @property
    def cold(self) -> tuple[str, ...]:
        """Why threads began, after the first one."""
        return tuple(event.reason for event in self.decisions[1:] if not event.warm)


# -- Codex ---------------------------------------------------------------------------------------------------------


async def run_codex(scale: str) -> dict[str, dict[str, float]]:
    """The figures of both orders, one after the other."""
    size = SCALES[scale]
    columns: dict[str, dict[str, float]] = {}
    for name, guard in (("codex", None), ("codex_old_order", size.old_guard)):
        outcome = await ten_turns(size, guard)
        columns[name] = figures_of(outcome)
        reasons = ", ".join(f"{outcome.cold.count(reason)} × {reason}" for reason in dict.fromkeys(outcome.cold))
        print(f"{name}: cold starts: {reasons or 'none'}", file=sys.stderr)
    return columns


async def ten_turns(size: Scale, guard: int | None) -> Outcome:
    """A session with a conversation behind it goes on for ten turns. With a `guard` its threads obey the old order."""
    responses = FakeResponses(
        otherwise=lambda request: Answer(prose(request.number, size.half_turn), chunks=8),
        prefill_tokens_s=PREFILL_TOKENS_S,
    )
    history = conversation(size)
    first_ms: list[float] = []
    with tempfile.TemporaryDirectory(prefix="reverie-bench-") as folder:
        async with serve(responses.app) as address:
            home = Home(Path(folder))
            config = await asyncio.to_thread(load_config, home, settings(address))
            async with open_app(home, config) as app:
                for number in range(TURNS):
                    if guard is not None:
                        await obey_old_guard(app, guard)
                    asked = Message("user", prose(-number - 1, size.half_turn))
                    first_ms.append(await say(app, (*history, asked) if number == 0 else (asked,)))
                decisions = (await app.open.thread_log.events(SESSION.value, limit=2 * TURNS))[::-1]
    return Outcome(tuple(decisions), between(list(responses.requests)), tuple(first_ms))


def settings(address: str) -> dict[str, Any]:
    """An agent on Codex, with nothing else that could take part."""
    codex = {"base_url": f"{address}/v1", "model": "fake-model"}
    return {
        "agents": {"main": {"runtime": "codex", "codex": codex}},
        "memory": {"embedder": "none", "recall_hits": 0, "watch": False},
    }


async def obey_old_guard(app: App, guard: int) -> None:
    """What the old order did before each turn: a thread as full as this is thrown away, whatever else is true."""
    page = await app.open.bindings.page()
    binding = page.sessions[0].binding if page.sessions else None
    if binding is not None and binding.tokens is not None and binding.tokens.tokens >= guard:
        await app.open.bindings.clear(binding.session_id, binding.thread_id, "old-guard")


async def say(app: App, messages: Sequence[Message]) -> float:
    """One turn; how long until its first words, in ms."""
    started = time.perf_counter()
    feed = await app.submit(TurnRequest(f"turn_{uuid.uuid4().hex}", SESSION, tuple(messages)))
    first_ms = 0.0
    async for event in feed.follow():
        if isinstance(event, ReplyDelta) and not first_ms:
            first_ms = 1_000 * (time.perf_counter() - started)
    await feed.result()
    return first_ms


def between(sent: Sequence[SentRequest]) -> tuple[Repetition, ...]:
    """What each prompt of the session repeated of the one before it."""
    first = Repetition(0, 0, sent[0].repeated.prompt_bytes)
    return (first, *(_repeated(one, other) for one, other in pairwise(sent)))


def _repeated(one: SentRequest, other: SentRequest) -> Repetition:
    """In another thread nothing is cached, and what the last one had as messages may be quoted: lines are compared."""
    if one.thread == other.thread:
        return repetition(one.parts, other.parts)
    told = repetition(_lines(one), _lines(other))
    return Repetition(0, told.identical_bytes + told.changed_bytes, told.new_bytes)


def _lines(request: SentRequest) -> list[bytes]:
    return [line for part in request.parts for line in part.replace(rb"\n", b"\n").splitlines(keepends=True)]


def figures_of(outcome: Outcome) -> dict[str, float]:
    """Ten turns together."""
    later = outcome.repeated[1:]
    identical = sum(each.identical_bytes for each in later)
    changed = sum(each.changed_bytes for each in later)
    new = sum(each.new_bytes for each in outcome.repeated)
    return {
        "replayed_bootstrap_tokens": as_tokens(outcome.told_chars),
        "identical_prefix_share": identical / max(1, identical + changed),
        "cold_starts": len(outcome.cold),
        "new_tokens": as_tokens(new),
        "identical_tokens": as_tokens(identical),
        "changed_tokens": as_tokens(changed),
        "sent_bytes": identical + changed + new,
        "first_turn_first_event_ms": outcome.first_ms[0],
        "first_event_ms_p50": median(outcome.first_ms[1:]),
        "first_event_ms_max": max(outcome.first_ms[1:]),
    }


# -- what is said --------------------------------------------------------------------------------------------------


def conversation(size: Scale) -> tuple[Message, ...]:
    """What was said before, in turns."""
    count = size.bootstrap // size.half_turn
    return tuple(
        Message("assistant" if number % 2 else "user", prose(1_000 + number, size.half_turn)) for number in range(count)
    )


def prose(seed: int, tokens: int) -> str:
    """Words of about so many tokens, four bytes each; no two texts have a line in common."""
    choose = random.Random(SEED + seed)
    lines: list[str] = []
    left = 4 * tokens
    while left > 0:
        lines.append(" ".join([*(choose.choice(threads_chat.WORDS) for _ in range(9)), f"{choose.getrandbits(32)}."]))
        left -= len(lines[-1]) + 1
    return "\n".join(lines)[: 4 * tokens]


# -- chat ----------------------------------------------------------------------------------------------------------


async def run_chat(scale: str) -> dict[str, float]:
    """The chat half, under the keys that both have."""
    figures = await threads_chat.run_chat(scale)
    return {
        "replayed_bootstrap_tokens": figures["new_tokens"] + figures["changed_tokens"],
        "identical_prefix_share": figures["identical_share"],
        **figures,
    }


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--half", choices=["codex", "chat", "both"], default="both")
    parser.add_argument("--scale", choices=sorted(SCALES), default="full")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    configure_logs("error")
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    columns: dict[str, dict[str, float]] = {}
    if arguments.half != "chat":
        columns |= asyncio.run(run_codex(arguments.scale))
    if arguments.half != "codex":
        columns["chat"] = asyncio.run(run_chat(arguments.scale))
    first, *rest = columns
    Report("threads", columns[first], {name: columns[name] for name in rest}).show(as_json=arguments.json)


if __name__ == "__main__":
    main()
