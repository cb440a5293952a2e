"""`reverie status`: what a home holds, which model answers, and whether a server runs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import anyio

from reverie.app import open_memory
from reverie.cli.opening import find_home
from reverie.cli.output import columns, counted, say, say_json, size_words, warn
from reverie.cli.running import RunningServer, ask, find_server
from reverie.config import read_secret
from reverie.dreaming.status import dreaming_status
from reverie.engines.event_log import newest_quarantines
from reverie.engines.found import offered_engines
from reverie.engines.report import QUARANTINES_MAX, named_engines
from reverie.engines.runtime import chosen_engines
from reverie.errors import ReverieError
from reverie.llm.upstream_server import public_url
from reverie.memory.generation_files import GenerationFiles, size_of
from reverie.memory.notices import DAMAGED_REASON
from reverie.plugins.event_log import PluginEventLog
from reverie.plugins.found import offered_plugins
from reverie.plugins.report import FAILURES_MAX, named_plugins
from reverie.sessions.figures import read_inbox_figures

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.app import OpenMemory
    from reverie.config import Config, Home
    from reverie.engines.report import NamedEngine
    from reverie.memory.index import IndexStatistics
    from reverie.plugins.report import NamedPlugin
    from reverie.sessions.directory import OversizedSession
    from reverie.sessions.figures import InboxFigures
    from reverie.sessions.store import SessionTotals
    from reverie.types import JsonObject

REACH_S_MAX = 3.0
LOAD_S_MAX = 2.0
LOAD_POLL_S = 0.02
NOTICES_SHOWN = 20
OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The model's server; `url` None when there is none. `problem` is why it does not answer, empty when it does."""

    url: str | None
    model: str
    problem: str


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that is shown. Sizes are in bytes, with the write-ahead log of each database.

    `live` is what the running server says of itself (`/v1/status`); None when there is none, or it did not say.
    `dreaming` is its word for how dreaming does, else what the home tells.
    """

    home: str
    server: RunningServer | None
    upstream: Upstream
    databases: dict[str, int]
    agents: dict[str, str]
    totals: SessionTotals
    oversized: list[OversizedSession]
    inbox: InboxFigures
    index: IndexStatistics
    live: JsonObject | None
    plugins: tuple[NamedPlugin, ...]
    dreaming: JsonObject
    engines: tuple[NamedEngine, ...]


async def show_status(given: Path | None, *, as_json: bool) -> None:
    """Show the state of a home; nothing is indexed or changed.

    Raises:
        ReverieError: there is no such home, or it cannot be read.
    """
    home, config = await asyncio.to_thread(find_home, given)
    server, upstream = await asyncio.gather(asyncio.to_thread(find_server, home), reach(config))
    async with open_memory(home, config, exclusive=False) as opened:
        await vectors_counted(opened)
        live = await live_status(server, config) if server is not None else None
        status = await _gather(opened, home, server, upstream, live)
    if as_json:
        say_json(asdict(status))
    else:
        _show(status)


async def live_status(server: RunningServer, config: Config) -> JsonObject | None:
    """What the server says of itself. Not having it must not keep the rest from being shown."""
    try:
        token = await asyncio.to_thread(read_secret, config.gateway.token_env, config.gateway.token_file)
        return await asyncio.to_thread(ask, server, "GET", "/v1/status", token)
    except ReverieError as error:
        warn(str(error))
        return None


async def _gather(
    opened: OpenMemory, home: Home, server: RunningServer | None, upstream: Upstream, live: JsonObject | None
) -> Status:
    return Status(
        home=str(home.path),
        server=server,
        upstream=upstream,
        databases=await asyncio.to_thread(_sizes, home),
        agents={name: str(workspace) for name, workspace in opened.workspaces.items()},
        totals=await opened.sessions.totals(),
        oversized=await opened.directory.oversized(
            opened.config.sessions.alarm_bytes, opened.config.sessions.alarm_messages
        ),
        inbox=await read_inbox_figures(opened.state, opened.clock.now_ms()),
        index=opened.memory.statistics(),
        live=live,
        plugins=await _plugins(opened),
        dreaming=await dreaming_of(opened, live),
        engines=await _engines(opened),
    )


async def dreaming_of(opened: OpenMemory, live: JsonObject | None) -> JsonObject:
    """How dreaming does, as the server says, which knows what is in its way; else as the home tells."""
    if live is not None and live.get("dreaming") is not None:
        return live["dreaming"]
    found = await dreaming_status(opened.state, opened.config.dreaming, opened.clock.now_ms())
    return found.as_json()


async def _engines(opened: OpenMemory) -> tuple[NamedEngine, ...]:
    """The context engines of the configuration, without the built-in one; their packages are looked up, not loaded."""
    chosen = chosen_engines(opened.config, opened.workspaces)
    if not chosen:
        return ()
    quarantines = await newest_quarantines(opened.state, QUARANTINES_MAX)
    offered = await asyncio.to_thread(offered_engines)
    return named_engines(chosen, offered, quarantines, opened.clock.now_ms())


async def _plugins(opened: OpenMemory) -> tuple[NamedPlugin, ...]:
    """The plugins of the configuration; their packages are looked up, not loaded."""
    if not opened.config.plugins:
        return ()
    failures = await PluginEventLog(opened.state).newest_failures(FAILURES_MAX)
    offered = await asyncio.to_thread(offered_plugins)
    return named_plugins(opened.config.plugins, offered, failures, opened.clock.now_ms())


async def vectors_counted(opened: OpenMemory) -> None:
    """Wait for the stored vectors to load, at most `LOAD_S_MAX`: before that their number is not known."""
    with anyio.move_on_after(LOAD_S_MAX):
        while opened.memory.statistics().vectors_state == "loading":  # noqa: ASYNC110 (a snapshot has no event)
            await anyio.sleep(LOAD_POLL_S)


async def reach(config: Config) -> Upstream:
    """Ask the model's server for its models."""
    from reverie.llm.openai_compatible import OpenAICompatibleModel

    settings = config.upstream
    if settings.base_url is None:
        return Upstream(None, OFFLINE, "")
    url = public_url(settings.base_url)
    try:
        key = await asyncio.to_thread(read_secret, settings.api_key_env, settings.api_key_file)
        model = OpenAICompatibleModel(settings.model_copy(update={"retries_max": 0}), key)
        try:
            async with asyncio.timeout(REACH_S_MAX):
                listed = await model.list_models()
        finally:
            await model.aclose()
    except TimeoutError:
        return Upstream(url, settings.model or "", f"no answer within {REACH_S_MAX:g} s")
    except ReverieError as error:
        return Upstream(url, settings.model or "", str(error))
    return Upstream(url, settings.model or (listed[0] if listed else ""), "")


def _sizes(home: Home) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in (home.state_db, GenerationFiles(home.path).live(), home.embeddings_db):
        found[path.name] = sum(size_of(path).values())
    return found


def _show(status: Status) -> None:
    index, totals = status.index, status.totals
    turns = ", ".join(f"{count:,} {state}" for state, count in sorted(totals.turns.items()))
    vectors = f"{index.vectors:,}, {index.vectors_state}" + (
        f" ({index.vectors_reason})" if index.vectors_reason else ""
    )
    if index.refused_chunks:
        vectors += f"; {counted(index.refused_chunks, 'passage')} not taken by the embedder: {index.refused_reason}"
    cache = index.cache
    kept = f"{cache.entries:,} of {cache.entries_max:,}, {size_words(cache.bytes)} of {size_words(cache.bytes_max)}"
    rows = [
        ("home", status.home),
        ("server", f"{status.server.url} (process {status.server.pid})" if status.server else "not running"),
        ("model", _model_words(status.upstream)),
        ("databases", ", ".join(f"{name} {size_words(size)}" for name, size in status.databases.items())),
        ("agents", ", ".join(status.agents)),
        ("sessions", f"{totals.sessions:,}, with {counted(totals.messages, 'message')}"),
        *(
            ("large session", f"{each.key}: {each.entries:,} entries, {size_words(each.bytes)}; `reverie doctor`")
            for each in status.oversized
        ),
        ("turns", turns or "none"),
        *queue_rows(status.inbox),
        *dreaming_rows(status.dreaming, served=status.server is not None),
        ("notes", f"{counted(index.memory_documents, 'file')} indexed"),
        ("passages", f"{index.chunks:,} can be found"),
        ("vectors", vectors),
        ("cache", kept),
        *(("note", note) for note in index.notes),
        *(("plugin", _plugin_words(plugin)) for plugin in status.plugins),
        *(("engine", _engine_words(engine)) for engine in status.engines),
        ("embedder", index.embedder + (f" (failed: {index.embedder_failure})" if index.embedder_failure else "")),
    ]
    if status.live is not None:
        rows += live_rows(status.live)
    if status.server is not None and index.watch:
        rows.append(("changed files", "noticed at once" if index.watch == "system" else f"noticed by {index.watch}"))
    for line in columns(rows, indent=""):
        say(line)
    _show_notices(index)


def queue_rows(inbox: InboxFigures) -> list[tuple[str, str]]:
    """Who waits, and for how long; nothing while nobody does."""
    rows: list[tuple[str, str]] = []
    if inbox.waiting or inbox.running:
        oldest = f", the oldest for {_seconds(inbox.oldest_wait_ms)}" if inbox.waiting else ""
        rows.append(("queue", f"{inbox.running:,} running, {inbox.waiting:,} waiting{oldest}"))
    for queue in inbox.queues:
        if queue.waiting:
            words = f"{queue.session_key}: {queue.waiting:,} waiting, for up to {_seconds(queue.oldest_wait_ms)}"
            rows.append(("", words))
    if inbox.compactions:
        rows.append(("compactions", ", ".join(f"{count:,} {state}" for state, count in inbox.compactions.items())))
    return rows


def dreaming_rows(dreaming: JsonObject, *, served: bool) -> list[tuple[str, str]]:
    """When dreaming is due, what became of it last, and what is in its way."""
    blocked, due = dreaming["blocked"], dreaming["nextDue"]
    rows = [("dreaming", blocked["message"] if blocked is not None and due is None else _due_words(dreaming))]
    if due is not None and not served:
        rows.append(("", "it waits for a server: `reverie serve`"))
    if blocked is not None and due is not None:
        rows.append(("", f"it cannot begin: {blocked['message']}"))
    if dreaming["configProblem"]:
        rows.append(("", f"config.toml was not read again: {dreaming['configProblem']}"))
    if (running := dreaming["running"]) is not None:
        rows.append(("", f"{running['state']} since {running['startedAt']} ({running['cause']})"))
    if (last := dreaming["last"]) is not None:
        rows.append(("", _last_words(last, dreaming["failedInARow"])))
    return rows


def _due_words(dreaming: JsonObject) -> str:
    """When it is due, and by which rule."""
    due = dreaming["nextDue"]
    rule = f"{dreaming['mode']}, {dreaming['cron']} ({dreaming['timeZone']})"
    if due is None:
        return f"{rule}: never due again"
    return f"{rule}, {'missed' if dreaming['missed'] else 'next'} {due}"


def _last_words(last: JsonObject, failed_in_a_row: int) -> str:
    """How the last sweep ended."""
    if last["state"] == "failed":
        more = f" ({counted(failed_in_a_row, 'time')} in a row)" if failed_in_a_row > 1 else ""
        return f"FAILED {last['endedAt']}{more}: {last['error']}"
    report = ", ".join(f"{name} {value}" for name, value in last["report"].items() if isinstance(value, int | str))
    return f"last {last['endedAt']} ({last['cause']}){': ' if report else ''}{report}"


def live_rows(live: JsonObject) -> list[tuple[str, str]]:
    """What only the running server knows, where it is worth a line."""
    rows = [
        ("not ready" if held["requirement"] == "required" else "note", f"{held['reason']}: {held['message']}")
        for held in live["conditions"]
        if held["status"] == "False"
    ]
    for lane, load in live["modelCalls"].items():
        waits = f", the oldest for {_seconds(load['oldestWaitMs'])}" if load["waiting"] else ""
        rows.append(("model calls", f"{lane}: {load['running']:,} running, {load['waiting']:,} waiting{waits}"))
    cache = live.get("promptCache", {})
    if cache.get("cachedTokens"):
        share = 100 * cache["cachedTokens"] / max(1, cache["promptTokens"])
        rows.append(("prompts", f"{cache['promptTokens']:,} tokens, {share:.0f} % of them kept by the model's server"))
    if (lag := live["eventLoop"]) is not None:
        rows.append(("event loop", f"late by {lag['delayP99Ms']:g} ms (p99), {lag['delayMaxMs']:g} ms at worst"))
    rows += [("plugin", f"{name} failed {count:,} times") for name, count in live["pluginFailures"].items() if count]
    rows += [
        ("engine", f"{name} is out of service: {held['cause']}")
        for name, held in live.get("contextEngines", {}).items()
        if held["state"] == "quarantined"
    ]
    rows += [
        ("codex", f"the app-server of '{agent}' ended by itself {held['deaths']:,} times")
        for agent, held in live.get("codex", {}).items()
        if held["deaths"]
    ]
    return rows


def _seconds(ms: int) -> str:
    return f"{ms / 1000:,.1f} s"


def _show_notices(index: IndexStatistics) -> None:
    """The files that a person should look at, and how many more there are."""
    lines = [f"skipped {file.path}: {file.reason}" for file in index.skipped]
    lines += [f"damaged {path}: {DAMAGED_REASON}" for path in index.damaged]
    for line in lines[:NOTICES_SHOWN]:
        warn(line)
    if len(lines) > NOTICES_SHOWN:
        warn(f"and {len(lines) - NOTICES_SHOWN:,} more: `reverie status --json` lists them")


def _plugin_words(plugin: NamedPlugin) -> str:
    if not plugin.enabled:
        return f"{plugin.name}, switched off"
    if len(plugin.packages) != 1:
        return f"{plugin.name}, NOT usable: offered by {' and '.join(plugin.packages) or 'no installed package'}"
    grant = "sees conversations" if plugin.conversation_access else "sees no conversations"
    failed = f"; failed {counted(plugin.failures, 'time')} within a day, last in {plugin.last_failure}"
    return f"{plugin.name} ({plugin.packages[0]}), {grant}{failed if plugin.failures else ''}"


def _engine_words(engine: NamedEngine) -> str:
    agents = ", ".join(engine.agents)
    if len(engine.packages) != 1:
        offers = " and ".join(engine.packages) or "no installed package"
        return f"{engine.name} for {agents}, NOT usable: offered by {offers}; the built-in engine serves"
    failed = f"; out of service {counted(engine.quarantines, 'time')} within a day, last by {engine.last}"
    return f"{engine.name} ({engine.packages[0]}) for {agents}{failed if engine.quarantines else ''}"


def _model_words(upstream: Upstream) -> str:
    if upstream.url is None:
        return "none connected: answers are quoted from memory"
    state = f"NOT reachable: {upstream.problem}" if upstream.problem else "reachable"
    return f"{upstream.model or 'its first'} at {upstream.url}, {state}"
