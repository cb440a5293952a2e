"""`reverie import memos`: what a MemOS local plugin has learned."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from reverie.app import choose_embedder
from reverie.cli.commands.import_conversation import INDEXED_BY_SERVER
from reverie.cli.commands.index import index_all
from reverie.cli.config_file import toml
from reverie.cli.opening import check_agent, new_or_old_home, open_home
from reverie.cli.output import printable, say, say_json, warn
from reverie.cli.progress import Progress
from reverie.cli.table import show_table
from reverie.importers.memos.moving import move, survey
from reverie.importers.memos.rows import Terms
from reverie.importers.memos.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from reverie.config import Config
    from reverie.importers.memos.report import TableReport
    from reverie.importers.memos.settings import Translated
    from reverie.types import JsonObject


@dataclass(frozen=True, slots=True)
class MemosFlags:
    """The options of the command. `mine`: the owner vouches for what is imported."""

    agent: str = "main"
    dry_run: bool = False
    config: Path | None = None
    mine: bool = False
    as_json: bool = False


async def import_from_memos(given: Path | None, path: Path, flags: MemosFlags) -> None:
    """Take over a database, then make it searchable, unless a server runs on this home and does that by itself.

    Raises:
        ImportFileError: the database or the configuration cannot be read; what was imported before stays.
        ConfigError: there is no such agent, or a setting is out of range.
        ReverieError: the home cannot be used.
    """
    settings = None if flags.config is None else await asyncio.to_thread(read_settings, flags.config)
    found = await asyncio.to_thread(survey, path)
    if flags.dry_run:
        _say(found, settings, flags, {"dry_run": True})
        return
    home, config = await asyncio.to_thread(new_or_old_home, given)
    with Progress(shown=not flags.as_json) as progress:
        async with open_home(home, config, with_vectors=False) as opened:
            memory = opened.memory
            check_agent(memory, flags.agent)
            dims = await _dims(config, settings)
            terms = Terms(flags.agent, flags.mine, dims, memory.clock.now_ms())
            with progress.step("rows", total=sum(table.rows for table in found)) as advance:
                reports = await move(path, memory.state, terms, progress=advance)
        indexed = False
        if opened.alone:
            async with open_home(home, config) as again:
                if again.alone:
                    await index_all(again.memory, progress, [])
                    indexed = True
    _say(reports, settings, flags, {"indexed_by_server": not indexed})
    if not indexed and not flags.as_json:
        say(INDEXED_BY_SERVER)


async def _dims(config: Config, settings: Translated | None) -> int | None:
    """The length of vectors that can be kept: our embedder's, unless the source is known to have used another model."""
    embedder = choose_embedder(config.memory)
    if embedder is None:
        return None
    try:
        identity = embedder.identity
        of_another = settings is not None and settings.embedding_model not in {"", identity.model}
        return None if of_another else identity.dims
    finally:
        await embedder.aclose()


# -- what is shown ---------------------------------------------------------------------------------------------------


def _say(reports: Sequence[TableReport], settings: Translated | None, flags: MemosFlags, facts: JsonObject) -> None:
    if flags.as_json:
        translated = None if settings is None else {"values": settings.values, "unknown": list(settings.unknown)}
        say_json({"tables": [asdict(report) for report in reports], "settings": translated, **facts})
        return
    if flags.dry_run:
        show_table(("table", "rows"), [(report.name, f"{report.rows:,}") for report in reports])
    else:
        _show(reports)
    if settings is not None:
        _show_settings(settings)


def _show(reports: Sequence[TableReport]) -> None:
    heads = ("table", "rows", "added", "already there", "left out", "vectors kept", "vectors to be made")
    show_table(heads, [_row(report) for report in reports])
    for report in reports:
        for reason, count in sorted(report.tally.skipped.items()):
            warn(f"left out of {report.name}: {count:,} ({reason})")
    if all(report.was_finished for report in reports):
        say("It was imported before and has not changed since: nothing was read again.")


def _row(report: TableReport) -> tuple[str, ...]:
    tally = report.tally
    counts = (report.rows, tally.added, tally.present, sum(tally.skipped.values()))
    return (report.name, *(f"{count:,}" for count in (*counts, tally.vectors_kept, tally.vectors_dropped)))


def _show_settings(settings: Translated) -> None:
    """The settings as a piece of config.toml."""
    tables: dict[str, list[str]] = {}
    for key, value in settings.values.items():
        table, _, name = key.rpartition(".")
        tables.setdefault(table, []).append(f"{name} = {toml(value)}")
    if tables:
        say("Its settings, for config.toml in the home:")
    for table, lines in sorted(tables.items()):
        say("\n".join(["", f"[{table}]", *lines]))
    if settings.unknown:
        warn(f"without a counterpart here: {', '.join(map(printable, settings.unknown))}")
