"""`reverie index`: bring the index up to date, or make it anew."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reverie.app import open_memory
from reverie.cli.opening import check_agent, find_home
from reverie.cli.output import counted, say, say_json, warn
from reverie.cli.progress import Progress
from reverie.errors import EmbedderError
from reverie.memory.notices import DAMAGED_REASON

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.app import OpenMemory
    from reverie.memory.index import Rebuild, SyncReport

BATCH_CHUNKS = 64


@dataclass(slots=True)
class IndexReport:
    """What a run of the indexer did."""

    files: dict[str, SyncReport] = field(default_factory=dict[str, "SyncReport"])
    messages: int = 0
    vectors: int = 0
    embedder_failure: str = ""


async def index_home(given: Path | None, *, rebuild: bool, agent: str | None, as_json: bool) -> None:
    """Index every file and conversation, then compute the vectors that are missing.

    Raises:
        HomeInUseError: a server runs on this home; it keeps the index up to date itself.
        ReverieError: there is no such home or agent, or the index cannot be written.
    """
    home, config = await asyncio.to_thread(find_home, given)
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
