"""`reverie import openclaw`: vectors, notes and conversations from OpenClaw."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from reverie.cli.commands.import_conversation import INDEXED_BY_SERVER
from reverie.cli.commands.index import index_all
from reverie.cli.opening import check_agent, new_or_old_home, open_home
from reverie.cli.output import columns, counted, say, say_json, size_words, warn
from reverie.cli.progress import Progress
from reverie.errors import HomeReadOnlyError
from reverie.importers.openclaw.discovery import discover
from reverie.importers.openclaw.moving import Steps, Target, move, survey
from reverie.importers.openclaw.seeding import open_store
from reverie.memory.forgotten import ForgottenNotes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from reverie.cli.commands.index import IndexReport
    from reverie.cli.opening import Opened
    from reverie.config import Config, Home
    from reverie.importers.openclaw.discovery import Found
    from reverie.importers.openclaw.moving import MoveReport, PlaceSize, Survey

EXAMPLES_SHOWN = 5
NICENESS = 10
"""How far a running server goes before the import, where both want the processor."""


@dataclass(frozen=True, slots=True)
class OpenClawFlags:
    """The options of the command. `agent` None: each agent of the source under its own name.

    `mine`: the owner vouches for the conversations.
    """

    agent: str | None = None
    dry_run: bool = False
    skip_foreign: bool = False
    mine: bool = False
    as_json: bool = False


async def import_from_openclaw(given: Path | None, path: Path, flags: OpenClawFlags) -> None:
    """Import what stands at a path, then make it searchable, unless a server runs on this home and does that by itself.

    Raises:
        ImportFileError: nothing of OpenClaw's stands there, or it cannot be read; what was imported before stays.
        ConfigError: there is no such agent.
        ReverieError: the home cannot be used.
    """
    found = await asyncio.to_thread(discover, path)
    sizes = await asyncio.to_thread(survey, found)
    if not flags.as_json:
        _show_found(sizes, flags.agent)
    if flags.dry_run:
        if flags.as_json:
            say_json({"found": asdict(sizes), "notes": list(found.notes), "dry_run": True})
        for note in () if flags.as_json else found.notes:
            warn(f"note: {note}")
        return
    home, config = await asyncio.to_thread(new_or_old_home, given)
    if flags.agent is None:
        await asyncio.to_thread(_make_workspaces, home, config, found)
    indexed: IndexReport | None = None
    with Progress(shown=not flags.as_json) as progress:
        async with open_home(home, config, with_vectors=False) as opened:
            if not opened.alone:
                _give_way()
            report = await _move(opened, found, flags, progress, sizes)
        if opened.alone:
            agents = [flags.agent] if flags.agent is not None and found.agents else list(found.agents)
            async with open_home(home, config) as again:
                if again.alone:
                    indexed = await index_all(again.memory, progress, agents)
    if flags.as_json:
        say_json(_as_object(sizes, report, indexed))
    else:
        _show(report, indexed)


def _make_workspaces(home: Home, config: Config, found: Found) -> None:
    """A folder for every agent that something is for, so that the home knows it."""
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # conversations are nobody else's
        for agent in found.agents:
            home.workspace(config, agent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"the home {home.path} cannot be written ({error.strerror or error}): choose another with --home."
        raise HomeReadOnlyError(message) from error


def _give_way() -> None:
    """Let the server go first, where the system knows how."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)


async def _move(opened: Opened, found: Found, flags: OpenClawFlags, progress: Progress, sizes: Survey) -> MoveReport:
    memory = opened.memory
    if flags.agent is not None:
        check_agent(memory, flags.agent)
    store = await open_store(memory.embeddings_db, memory.config.memory, memory.clock)
    target = Target(
        store=store,
        embeddings_db=memory.embeddings_db,
        sessions=memory.sessions,
        workspaces=memory.workspaces,
        clock=memory.clock,
        file_bytes_max=memory.config.memory.file_bytes_max,
        forgotten=ForgottenNotes(memory.state),
    )
    with ExitStack() as stack:
        steps = Steps(
            rows=stack.enter_context(progress.step("vectors", total=_total(sizes.databases))),
            files=stack.enter_context(progress.step("notes", total=_total(sizes.workspaces))),
            messages=stack.enter_context(progress.step("messages")),
        )
        return await move(
            found, target, agent=flags.agent, skip_foreign=flags.skip_foreign, steps=steps, mine=flags.mine
        )


def _total(places: Sequence[PlaceSize]) -> int:
    return sum(place.count for place in places)


# -- what is shown ---------------------------------------------------------------------------------------------------


def _show_found(sizes: Survey, agent: str | None) -> None:
    rows = [
        (kind, place.path, counted(place.count, what), "" if kind == "database" else f"for {agent or place.agent}")
        for kind, places, what in (
            ("database", sizes.databases, "vector"),
            ("workspace", sizes.workspaces, "file"),
            ("sessions", sizes.sessions, "conversation"),
        )
        for place in places
    ]
    for line in columns(rows, indent=""):
        say(line)


def _show(report: MoveReport, indexed: IndexReport | None) -> None:
    vectors, files, sessions = report.vectors, report.files, report.sessions
    rows = [
        ("vectors added", f"{vectors.added:,}"),
        ("already there", f"{vectors.present + vectors.repeated:,}"),
        *((f"left out: {reason}", f"{count:,}") for reason, count in sorted(vectors.skipped.items())),
        ("files copied", f"{files.copied:,} ({size_words(files.bytes)})"),
        ("already there", f"{files.present:,}"),
        ("left out", f"{files.skipped_count:,}"),
        ("conversations", f"{sessions.sessions:,}"),
        ("messages added", f"{sessions.messages_added:,}"),
        ("already there", f"{sessions.messages_present:,}"),
        *((f"left out: {reason}", f"{count:,}") for reason, count in sorted(sessions.skipped.items())),
    ]
    if indexed is not None:
        rows += [("messages indexed", f"{indexed.messages:,}"), ("vectors computed", f"{indexed.vectors:,}")]
    for line in columns(rows, indent=""):
        say(line)
    _show_notes(report, indexed)
    if report.settings:
        say("The imported vectors serve under these settings (`reverie config set KEY VALUE`):")
        for key, value in report.settings:
            say(f"  {key} = {value}")


def _show_notes(report: MoveReport, indexed: IndexReport | None) -> None:
    if any(table.was_finished for table in report.tables):
        say("A database was imported before and has not changed since: it was not read again.")
    if indexed is None:
        say(INDEXED_BY_SERVER)
    elif indexed.embedder_failure:
        warn(f"note: no vectors, search by words alone: {indexed.embedder_failure}")
    for example in report.vectors.examples[:EXAMPLES_SHOWN]:
        warn(f"skipped {example['table']} row {example['rowid']}: {example['reason']}")
    for file in report.files.skipped[:EXAMPLES_SHOWN]:
        warn(f"skipped {file['path']}: {file['reason']}")
    for line in report.sessions.examples[:EXAMPLES_SHOWN]:
        warn(f"skipped {line['file']} line {line['line']}: {line['reason']}")
    for note in report.notes:
        warn(f"note: {note}")


def _as_object(sizes: Survey, report: MoveReport, indexed: IndexReport | None) -> dict[str, Any]:
    value = asdict(report)
    value["settings"] = dict(report.settings)
    facts = {"messages_indexed": indexed.messages, "vectors_computed": indexed.vectors} if indexed else {}
    return {"found": asdict(sizes), **value, "indexed_by_server": indexed is None, **facts}
