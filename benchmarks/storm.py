"""Whether learning is felt: long conversations on a slow model, with learning and without, in one run.

    python -m benchmarks.storm [--turns N] [--delay-s S] [--sessions N] [--settle-s S] [--json]

Three parts. Every call of the model takes `--delay-s` (2 s), turns and questions of learning alike.

turns     `--turns` (500) turns of one conversation that is one task, a breath apart, on two servers side by side: one
          learns, one does not. `added_foreground_ms` is a turn's time with learning less the same without.
ending    `--sessions` (20) conversations end at the same moment on the server that learns; what a turn of another one
          takes meanwhile.
restart   while that is learned from, the server is killed with SIGKILL and started again; `paid_twice` are calls of
          the model that were answered more than once.

Budgets are set so high that they hold nothing back: what bounds the calls here is the design. `calls_per_turn` counts
every call of the model that is no turn, by the server that was called. `background_in_flight_max` is what that server
saw at once. `loop_stall_ms_max` is the server's own figure (`/v1/status`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.busy import ask
from benchmarks.gateway import Target, reverie_process
from benchmarks.report import Report, process_rss_mib, quantile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

KEY = "agent:main:bench:"
BREATH_S = 0.3
"""Between two turns: nobody answers at once."""
FIFTH = 5
SAMPLE_S = 5.0
BESIDE_TURNS = 20
"""Turns of another conversation while many are learned from."""
ENDING_TURNS = 3
DRAINED_S_MAX = 900.0
RESTS_S = 120.0
"""Work that is not to begin sooner is not waited for: a skill rests for hours between two builds."""
FOLLOWED_S = 3.0
"""After this an end was noticed by learning."""
KILLED_AFTER_S = 3.0
LEARNS = {
    "REVERIE_LEARNING__MODE": "full",
    "REVERIE_LEARNING__BUDGET__CALLS_HOUR": "1000000",
    "REVERIE_LEARNING__BUDGET__CALLS_DAY": "1000000",
    "REVERIE_LEARNING__BUDGET__TOKENS_HOUR": "1000000000",
    "REVERIE_LEARNING__BUDGET__TOKENS_DAY": "1000000000",
    "REVERIE_LEARNING__REWARD__FEEDBACK_WINDOW_S": "1",
    "REVERIE_LEARNING__JOBS__IDLE_QUIET_S": "1",
}
DOES_NOT = {"REVERIE_LEARNING__MODE": "off"}
WORK = ("the parser", "the invoice template", "the backup job", "the login page", "the report", "the greenhouse log")
ASKS = (
    "Rename the second column of {} to total and run its checks.",
    "Which of the checks of {} failed there, and at which line?",
    "Make {} skip rows without a date and show me the difference.",
    "Add a case to {} for an empty list, please.",
    "How long does {} take on the large file?",
)


@dataclass(slots=True)
class Side:
    """A server, the model's server behind it, and what was seen of the two."""

    name: str
    server: Target
    upstream: Target
    added_ms: list[float] = field(default_factory=list[float])
    rss_mib: list[float] = field(default_factory=list[float])
    stall_ms_max: float = 0.0
    marks: list[int] = field(default_factory=list[int])

    async def calls(self) -> dict[str, Any]:
        """What its model was asked."""
        answer = await ask(self.upstream, "GET", "/calls")
        told: dict[str, Any] = json.loads(answer.body)
        return told

    async def learned(self) -> list[dict[str, Any]]:
        """The calls that were no turns."""
        return [call for call in (await self.calls())["calls"] if call["op"] != "turn"]

    async def look(self) -> None:
        """Note its memory, and how late its loop was in the last minute."""
        status: dict[str, Any] = json.loads((await ask(self.server, "GET", "/v1/status")).body)
        lag: dict[str, float] = status.get("eventLoop") or {}
        self.stall_ms_max = max(self.stall_ms_max, lag.get("delayMaxMs", 0.0))
        self.rss_mib.append(process_rss_mib(self.server.pid))


@asynccontextmanager
async def model_process(delay_s: float) -> AsyncGenerator[Target]:
    """A model's server that answers questions of learning, each after a time."""
    command = [sys.executable, "-m", "reverie.testing.learning_upstream", "--delay-s", str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
            yield Target("model", line.split()[-1], process.pid)
        finally:
            process.kill()


async def turn(server: Target, session: str, number: int) -> float:
    """One turn; how long it took in milliseconds."""
    text = ASKS[number % len(ASKS)].format(WORK[number // len(ASKS) % len(WORK)]) + f" ({number})"
    body = {"model": "reverie", "messages": [{"role": "user", "content": text}]}
    answer = await ask(server, "POST", "/v1/chat/completions", body, {"x-reverie-session-key": KEY + session})
    if answer.status != 200:
        raise RuntimeError(f"a turn was answered with {answer.status}: {answer.body[:300]!r}")
    return answer.whole_ms


async def warm(side: Side, settle_s: float) -> None:
    """A first turn loads what a start has not; its stalls then leave the figure, which is of the last minute."""
    await turn(side.server, "first", 0)
    await asyncio.sleep(settle_s)


async def converse(side: Side, turns: int, delay_s: float) -> None:
    """One conversation, turn by turn."""
    for number in range(turns):
        side.added_ms.append(await turn(side.server, "long", number) - 1_000 * delay_s)
        if (number + 1) % max(1, turns // FIFTH) == 0:
            side.marks.append(len(await side.learned()))
        await asyncio.sleep(BREATH_S)


async def watch(sides: list[Side]) -> None:
    """Look at the servers now and then."""
    while True:
        for side in sides:
            await side.look()
        await asyncio.sleep(SAMPLE_S)


async def end(server: Target, *sessions: str) -> None:
    """End conversations, all at once."""
    answers = await asyncio.gather(*(ask(server, "POST", f"/v1/sessions/{KEY}{name}/reset") for name in sessions))
    refused = [answer for answer in answers if answer.status != 200]
    if refused:
        raise RuntimeError(f"a session was not ended: {refused[0].status} {refused[0].body[:300]!r}")


async def drained(side: Side) -> float:
    """Wait until nothing is left to be done; how long that took, in seconds."""
    started = time.perf_counter()
    await asyncio.sleep(FOLLOWED_S)
    quiet = 0
    while time.perf_counter() - started < DRAINED_S_MAX:
        status: dict[str, Any] = json.loads((await ask(side.server, "GET", "/v1/learning/status")).body)
        quiet = quiet + 1 if not any(_busy(lane) for lane in status["lanes"].values()) else 0
        if quiet >= 3:
            break
        await asyncio.sleep(1.0)
    return time.perf_counter() - started


def _busy(lane: dict[str, Any]) -> bool:
    """Whether a lane has work now or soon; what rests for hours on purpose is none."""
    rests = lane["next_at_ms"] is not None and lane["next_at_ms"] - 1_000 * time.time() > 1_000 * RESTS_S
    return bool(lane["running"] or (lane["waiting"] and not rests))


async def ending(side: Side, sessions: int, delay_s: float) -> dict[str, float]:
    """Many conversations end at once; a turn of another one meanwhile, against one with nothing to do."""
    names = [f"short{number}" for number in range(sessions)]

    async def short(name: str, seed: int) -> None:
        for number in range(ENDING_TURNS):
            await turn(side.server, name, seed * 7 + number)

    await asyncio.gather(*(short(name, seed) for seed, name in enumerate(names)))
    await drained(side)
    quiet = [await turn(side.server, "beside", number) - 1_000 * delay_s for number in range(BESIDE_TURNS // 2)]
    await drained(side)
    before = len(await side.learned())
    await end(side.server, *names)
    beside = [await turn(side.server, "beside", 100 + number) - 1_000 * delay_s for number in range(BESIDE_TURNS)]
    drained_s = await drained(side)
    return {
        "ending_added_ms_p50": quantile(beside, 0.5) - quantile(quiet, 0.5),
        "ending_added_ms_max": max(beside) - max(quiet),
        "ending_calls": float(len(await side.learned()) - before),
        "ending_drained_s": drained_s,
    }


async def end_and_leave(side: Side, sessions: int) -> None:
    """Fill many conversations and end them, so that there is much to learn from."""
    names = [f"last{number}" for number in range(sessions)]

    async def short(name: str, seed: int) -> None:
        for number in range(ENDING_TURNS):
            await turn(side.server, name, 1_000 + seed * 7 + number)

    await asyncio.gather(*(short(name, seed) for seed, name in enumerate(names)))
    await end(side.server, *names)


async def run(turns: int, delay_s: float, sessions: int, settle_s: float) -> Report:
    """All three parts."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reverie-bench-")))
        models = [await stack.enter_async_context(model_process(delay_s)) for _ in range(2)]
        async with AsyncExitStack() as servers:
            sides: list[Side] = []
            for name, upstream, environment in (("on", models[0], LEARNS), ("off", models[1], DOES_NOT)):
                home = folder / name
                home.mkdir()
                server, _ = await servers.enter_async_context(
                    reverie_process(home, upstream.url, starts=1, environment=environment)
                )
                sides.append(Side(name, server, upstream))
            await asyncio.gather(*(warm(side, settle_s) for side in sides))
            watching = asyncio.create_task(watch(sides))
            await asyncio.gather(*(converse(side, turns, delay_s) for side in sides))
            figures: dict[str, float] = await _turns_figures(sides[0], sides[1], turns)
            figures |= await ending(sides[0], sessions, delay_s)
            watching.cancel()
            figures["loop_stall_ms_max"] = sides[0].stall_ms_max
            figures["rss_mib_end"] = sides[0].rss_mib[-1]
            await end_and_leave(sides[0], sessions)
            await asyncio.sleep(KILLED_AFTER_S)
            in_flight = sum(call["ended_s"] is None for call in await sides[0].learned())
            os.kill(sides[0].server.pid, signal.SIGKILL)
        restart = await _restarted(folder / "on", models[0])
        calls: dict[str, Any] = json.loads((await ask(models[0], "GET", "/calls")).body)
    figures |= restart | {
        "killed_in_flight": float(in_flight),
        "background_in_flight_max": float(calls["background_max"]),
    }
    off = {"turn_ms_p50": quantile(sides[1].added_ms, 0.5), "turn_ms_p99": quantile(sides[1].added_ms, 0.99)}
    off |= {"loop_stall_ms_max": sides[1].stall_ms_max, "rss_mib_end": sides[1].rss_mib[-1]}
    by_op = Counter(call["op"] for call in calls["calls"])
    return Report("storm", figures, peers={"learning off": off}, groups={"calls": dict(by_op)})


async def _turns_figures(on: Side, off: Side, turns: int) -> dict[str, float]:
    """What a long conversation cost, while it lasted and until all of it was learned from."""
    fifth = max(1, turns // FIFTH)
    steps = [after - before for before, after in zip([0, *on.marks], on.marks, strict=False)]
    rss = on.rss_mib
    await end(on.server, "long")
    drained_s = await drained(on)
    learned = await on.learned()
    added = {
        name: quantile(on.added_ms, share) - quantile(off.added_ms, share)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    return {
        "turns": float(turns),
        "added_foreground_ms_p50": added["p50"],
        "added_foreground_ms_p99": added["p99"],
        "turn_ms_p50": quantile(on.added_ms, 0.5),
        "turn_ms_p99": quantile(on.added_ms, 0.99),
        "calls_per_turn": len(learned) / turns,
        "calls_per_turn_first_fifth": steps[0] / fifth,
        "calls_per_turn_last_fifth": steps[-1] / fifth,
        "drained_s": drained_s,
        "rss_mib_fifth": rss[len(rss) // FIFTH],
        "rss_mib_turns": rss[-1],
    }


async def _restarted(home: Path, model: Target) -> dict[str, float]:
    """Start again what was killed, and wait until nothing is left to do."""
    async with reverie_process(home, model.url, starts=1, environment=LEARNS) as (server, start_s):
        side = Side("on", server, model)
        drained_s = await drained(side)
        answered = Counter(call["digest"] for call in await side.learned() if call.get("answered"))
    return {
        "restart_s": start_s,
        "restart_drained_s": drained_s,
        "paid_twice": float(sum(count - 1 for count in answered.values())),
    }


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=500)
    parser.add_argument("--delay-s", type=float, default=2.0)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--settle-s", type=float, default=65.0, help="rest after the start, which is not measured")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    asyncio.run(run(given.turns, given.delay_s, given.sessions, given.settle_s)).show(as_json=given.json)


if __name__ == "__main__":
    main()
