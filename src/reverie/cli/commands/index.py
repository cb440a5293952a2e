"""`reverie index`: bring the index up to date, or make it anew."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from reverie.app import open_memory
from reverie.cli.opening import check_agent, find_home
from reverie.cli.output import counted, is_terminal, say, say_json, warn
from reverie.cli.progress import Progress
from reverie.cli.running import ask, find_server
from reverie.config import read_secret
from reverie.errors import CostNotAgreedError, EmbedderError, ServerRefusedError
from reverie.llm.upstream_server import public_url
from reverie.memory.notices import DAMAGED_REASON

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.app import OpenMemory
    from reverie.cli.running import RunningServer
    from reverie.config import Config, Home
    from reverie.memory.index import Rebuild, SyncReport

BATCH_CHUNKS = 64
POLL_S = 0.2


@dataclass(slots=True)
class IndexReport:
    """What a run of the indexer did."""

    files: dict[str, SyncReport] = field(default_factory=dict[str, "SyncReport"])
    messages: int = 0
    vectors: int = 0
    embedder_failure: str = ""


async def index_home(given: Path | None, *, rebuild: bool, yes: bool, agent: str | None, as_json: bool) -> None:
    """Index every file and conversation, then compute the vectors that are missing.

    A rebuild beside a running server is done by the server. One that would send texts to a paid embedder is begun only
    when `yes` says so, or a person does.

    Raises:
        CostNotAgreedError: it would cost money, and nobody agreed.
        HomeInUseError: a server runs on this home; it keeps the index up to date itself.
        ReverieError: there is no such home or agent, or the index cannot be written.
    """
    home, config = await asyncio.to_thread(find_home, given)
    if rebuild and not yes and config.memory.embedder == "openai":
        await agree_to_cost(home, config)
    server = await asyncio.to_thread(find_server, home) if rebuild else None
    if server is not None:
        await rebuild_by(server, config, as_json=as_json)
        return
    async with open_memory(home, config) as opened:
        if agent is not None:
            check_agent(opened, agent)
        with Progress(shown=not as_json) as progress:
            if rebuild:
                report = await rebuild_all(opened, progress)
            else:
                report = await index_all(opened, progress, [agent] if agent else list(opened.workspaces))
        chunks = opened.memory.statistics().chunks
    if as_json:
        say_json(_as_object(report, chunks))
    else:
        _show(report, chunks)


async def agree_to_cost(home: Home, config: Config) -> None:
    """Tell a person what a rebuild would send to the embeddings server, and ask.

    Raises:
        CostNotAgreedError: the answer was no, or nobody can be asked.
    """
    async with open_memory(home, config, exclusive=False) as opened:
        estimate = await opened.memory.estimate_rebuild()
    if not estimate.texts:
        return
    cost = (
        f"about {estimate.texts:,} of {estimate.passages:,} texts are not in the cache and would be sent to "
        f"{config.memory.embedder_model} at {public_url(config.memory.embedder_base_url or '')}"
    )
    if not is_terminal():
        raise CostNotAgreedError(f"{cost}. Nothing was changed; --yes says that you want that.")
    if not await asyncio.to_thread(typer.confirm, f"{cost}. Go on?"):
        raise CostNotAgreedError("nothing was changed.")


async def index_all(opened: OpenMemory, progress: Progress, agents: list[str]) -> IndexReport:
    """Index what changed and embed what waits; an embedder that fails costs the vectors only."""
    report = IndexReport()
    memory = opened.memory
    with progress.step("notes"):
        for agent in agents:
            report.files[agent] = await memory.sync_workspace(agent)
    with progress.step("conversations"):
        report.messages = await memory.follow_transcripts()
    try:
        report.vectors = await _embed(opened, progress)
    except EmbedderError as error:
        report.embedder_failure = str(error)
    return report


async def _embed(opened: OpenMemory, progress: Progress) -> int:
    memory = opened.memory
    statistics = memory.statistics()
    done = 0
    with progress.step("vectors", total=max(0, statistics.chunks - statistics.vectors)) as advance:
        while count := await memory.embed_backlog(BATCH_CHUNKS):
            done += count
            advance(count)
        await memory.settle()
    return done


async def rebuild_all(opened: OpenMemory, progress: Progress) -> IndexReport:
    """Build the index anew beside the live one and switch to it; an interrupted rebuild changes nothing."""
    known = opened.memory.statistics().chunks
    with progress.step("index beside the live one", total=known) as advance:
        vectors = 0

        def show(rebuild: Rebuild) -> None:
            nonlocal vectors
            advance(rebuild.vectors - vectors)
            vectors = rebuild.vectors

        done = await opened.memory.rebuild(on_progress=show)
    return IndexReport(dict(done.files), done.messages, done.vectors)


async def rebuild_by(server: RunningServer, config: Config, *, as_json: bool) -> None:
    """Have a server rebuild its index, and wait until it has.

    Raises:
        ServerRefusedError: it refused, or the rebuild failed; its index is as it was.
    """
    gateway = config.gateway
    token = await asyncio.to_thread(read_secret, gateway.token_env, gateway.token_file)
    before = await asyncio.to_thread(ask, server, "GET", "/v1/memory/status", token)
    await asyncio.to_thread(ask, server, "POST", "/v1/memory/rebuild", token)
    with Progress(shown=not as_json) as progress, progress.step("the server builds a new index"):
        status = await _rebuilt(server, token)
    if status["generation"] == before["generation"]:
        reason = next((note for note in status["notes"] if "rebuild" in note), "its log says why")
        raise ServerRefusedError(f"the server at {server.url} did not rebuild: {reason}")
    if as_json:
        say_json({"generation": status["generation"], "passages": status["chunks"], "vectors": status["vectors"]})
    else:
        say(f"the server at {server.url} now searches {status['generation']}: {counted(status['chunks'], 'passage')}")


async def _rebuilt(server: RunningServer, token: str | None) -> Any:
    """The status once no rebuild runs any more."""
    while True:
        status = await asyncio.to_thread(ask, server, "GET", "/v1/memory/status", token)
        if not status["rebuilding"]:
            return status
        await asyncio.sleep(POLL_S)


def _as_object(report: IndexReport, chunks: int) -> dict[str, object]:
    files = {
        agent: {
            "added": sync.added,
            "changed": sync.changed,
            "renamed": sync.renamed,
            "removed": sync.removed,
            "unchanged": sync.unchanged,
            "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in sync.skipped],
            "broken": list(sync.broken),
        }
        for agent, sync in report.files.items()
    }
    return {
        "files": files,
        "messages": report.messages,
        "vectors": report.vectors,
        "passages": chunks,
        "embedder_failure": report.embedder_failure,
    }


def _show(report: IndexReport, chunks: int) -> None:
    for agent, sync in report.files.items():
        say(
            f"{agent}: {counted(sync.added, 'note file')} added, {sync.changed} changed, {sync.renamed} renamed, "
            f"{sync.removed} removed, {sync.unchanged} unchanged"
        )
        for skipped in sync.skipped:
            warn(f"skipped {skipped.path}: {skipped.reason}")
        for path in sync.broken:
            warn(f"{path}: {DAMAGED_REASON}")
    say(f"{counted(report.messages, 'message')} read, {counted(report.vectors, 'vector')} computed")
    say(f"{counted(chunks, 'passage')} can be found")
    if report.embedder_failure:
        warn(f"note: no vectors, search by words alone: {report.embedder_failure}")
