"""`reverie import conversation`: past conversations from a file."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from reverie.cli.commands.index import index_all
from reverie.cli.opening import check_agent, new_or_old_home, open_home
from reverie.cli.output import columns, say, say_json, warn
from reverie.cli.progress import Progress
from reverie.importers.conversations import ImportReport, import_conversations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reverie.cli.commands.index import IndexReport
    from reverie.cli.opening import Opened

INDEXED_BY_SERVER = "The running server makes it searchable within seconds."


async def import_file(given: Path | None, file: Path, *, agent: str, mine: bool, as_json: bool) -> None:
    """Import a file, then make it searchable, unless a server runs on this home and does that by itself.

    `mine`: the owner vouches for what it holds.

    Raises:
        ImportFileError: the file cannot be read as conversations; what stood before that place was imported.
        ReverieError: the home cannot be used.
    """
    home, config = await asyncio.to_thread(new_or_old_home, given)
    indexed: IndexReport | None = None
    async with open_home(home, config) as opened:
        check_agent(opened.memory, agent)
        with Progress(shown=not as_json) as progress:
            report = await _import(opened, file, agent, progress, mine=mine)
            if opened.alone:
                indexed = await index_all(opened.memory, progress, [])
    if as_json:
        facts = {"messages_indexed": indexed.messages, "vectors": indexed.vectors} if indexed else {}
        say_json(asdict(report) | {"indexed_by_server": indexed is None} | facts)
    else:
        _show(report, indexed)


async def _import(opened: Opened, file: Path, agent: str, progress: Progress, *, mine: bool) -> ImportReport:
    with progress.step("messages") as advance:
        return await import_conversations(
            file,
            opened.memory.sessions,
            agent=agent,
            now_ms=opened.memory.clock.now_ms(),
            mine=mine,
            progress=_follow(advance),
        )


def _follow(advance: Callable[[int], None]) -> Callable[[ImportReport], None]:
    seen = 0

    def note(report: ImportReport) -> None:
        nonlocal seen
        total = report.messages_added + report.messages_present
        advance(total - seen)
        seen = total

    return note


def _show(report: ImportReport, indexed: IndexReport | None) -> None:
    rows = [
        ("histories", f"{report.histories:,}"),
        ("sessions", f"{report.sessions:,}"),
        ("messages added", f"{report.messages_added:,}"),
        ("already there", f"{report.messages_present:,}"),
        *((f"left out: {reason}", f"{count:,}") for reason, count in sorted(report.skipped.items())),
    ]
    if indexed is not None:
        rows += [("messages indexed", f"{indexed.messages:,}"), ("vectors computed", f"{indexed.vectors:,}")]
    for line in columns(rows, indent=""):
        say(line)
    if indexed is None:
        say(INDEXED_BY_SERVER)
    elif indexed.embedder_failure:
        warn(f"note: no vectors, search by words alone: {indexed.embedder_failure}")
