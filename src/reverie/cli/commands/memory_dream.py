"""`reverie memory dream`: a sweep now, by the server that runs on the home, else in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from reverie.app import asked_in_background, choose_model, open_clockwork
from reverie.cli.commands.memory_promote import parse_now
from reverie.cli.opening import find_home, open_home
from reverie.cli.output import columns, say, say_json, warn
from reverie.cli.progress import Progress
from reverie.cli.running import ask, find_server
from reverie.clock import iso_instant
from reverie.config import read_secret
from reverie.errors import ServerRefusedError, SweepFailedError

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from reverie.cli.running import RunningServer
    from reverie.config import Config, Home
    from reverie.types import JsonObject

QUIET_S = 2.0
"""A sweep that ends sooner needs no progress."""
POLL_S = 0.2
RUNS_LOOKED_AT = 100
ENDED = frozenset({"done", "failed"})


async def dream_now(given: Path | None, *, now: str | None, as_json: bool) -> None:
    """Have a sweep run, as if at an instant, whatever the mode, and show what it did.

    Raises:
        ConfigError: the instant is none.
        SweepFailedError: the sweep failed; its record says why.
        ServerRefusedError: the server did not do it.
        ReverieError: the home cannot be used.
    """
    home, config = await asyncio.to_thread(find_home, given)
    at_ms = None if now is None else parse_now(now, 0)
    server = await asyncio.to_thread(find_server, home)
    work = _here(home, config, at_ms) if server is None else _there(server, config, at_ms)
    started, run = await _with_progress(work, shown=not as_json)
    if not started and not as_json:
        warn("a sweep ran already; this is what became of it")
    if as_json:
        say_json({"started": started, "run": run})
    else:
        _show(run)
    if run["state"] == "failed":
        raise SweepFailedError(f"the sweep failed: {run['error']}")


async def _here(home: Home, config: Config, at_ms: int | None) -> tuple[bool, JsonObject]:
    """Sweep in this process."""
    async with open_home(home, config) as opened:
        model = choose_model(config)
        try:
            clockwork = await open_clockwork(opened.memory, asked_in_background(model))
            begun = await clockwork.dream(at_ms)
        finally:
            await model.aclose()
    return begun.fresh, begun.run.as_json()


async def _there(server: RunningServer, config: Config, at_ms: int | None) -> tuple[bool, JsonObject]:
    """Have the server sweep, and wait for the end."""
    gateway = config.gateway
    token = await asyncio.to_thread(read_secret, gateway.token_env, gateway.token_file)
    wanted = {} if at_ms is None else {"now": iso_instant(at_ms)}
    begun = await asyncio.to_thread(ask, server, "POST", "/v1/memory/dream", token, wanted)
    run: Any = begun["run"]
    while run["state"] not in ENDED:
        await asyncio.sleep(POLL_S)
        path = f"/v1/memory/dreams?limit={RUNS_LOOKED_AT}"
        listed = await asyncio.to_thread(ask, server, "GET", path, token)
        found = next((each for each in listed["data"] if each["id"] == run["id"]), None)
        if found is None:
            raise ServerRefusedError(f"the server at {server.url} knows no sweep {run['id']} any more")
        run = found
    return begun["started"], run


async def _with_progress(work: Awaitable[tuple[bool, JsonObject]], *, shown: bool) -> tuple[bool, JsonObject]:
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=QUIET_S)
        if not done:
            with Progress(shown=shown) as progress, progress.step("dreaming"):
                await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    return task.result()


def _show(run: JsonObject) -> None:
    rows = [("sweep", run["id"]), ("began", run["startedAt"]), ("ended", run["endedAt"] or "not yet")]
    rows += _told(run["report"])
    for line in columns(rows, indent=""):
        say(line)


def _told(report: JsonObject) -> list[tuple[str, str]]:
    """A sweep's counts, and each agent's behind its name, for a person."""
    rows = [(name.replace("_", " "), str(value)) for name, value in report.items() if name != "by_agent"]
    for agent, own in report.get("by_agent", {}).items():
        rows += [(f"{agent}: {name}", _shown(value)) for name, value in own.items()]
    return rows


def _shown(value: Any) -> str:
    """One step's report on one line: what it counted, without what is empty."""
    if not isinstance(value, dict):
        return str(value)
    counts = cast("JsonObject", value)
    told = [f"{name.replace('_', ' ')} {each}" for name, each in counts.items() if each not in (0, "", None, [], {})]
    return ", ".join(told) or "nothing"
