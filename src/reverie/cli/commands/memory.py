"""`reverie memory …`: what is known of recalled passages, taken in from OpenClaw and taken along.

Works beside a running server: what is written are single entries, each whole, between its own writes.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from reverie.cli.opening import check_agent, find_home, open_home
from reverie.cli.output import counted, say, say_json, warn
from reverie.dreaming.openclaw_files import (
    PhaseFile,
    file_head,
    file_tail,
    phase_lines,
    read_phase_file,
    read_recall_file,
    recall_lines,
    with_phases,
)
from reverie.errors import ConfigError
from reverie.memory.workspace import write_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.evidence import EvidenceTotals, RecallEntries
    from reverie.types import JsonObject


async def import_recalls(
    given: Path | None, file: Path, *, phase_signals: Path | None, agent: str, as_json: bool
) -> None:
    """Take in OpenClaw's recalls; of an entry that is there already, what was recalled last stands.

    Raises:
        ImportFileError: a file is not what it should be; nothing was taken in.
        ReverieError: the home cannot be used.
    """
    home, config = await asyncio.to_thread(find_home, given)
    async with open_home(home, config, with_vectors=False) as opened:
        check_agent(opened.memory, agent)
        recalls, now_ms = opened.memory.recalls, opened.memory.clock.now_ms()
        read = await asyncio.to_thread(read_recall_file, file, now_ms, recalls.tags)
        phases = PhaseFile()
        if phase_signals is not None:
            phases = await asyncio.to_thread(read_phase_file, phase_signals, now_ms)
        entries = with_phases(read.entries, phases.signals)
        done = await recalls.take_in(
            agent, entries, updated_at_ms=read.updated_at_ms, phases_updated_at_ms=phases.updated_at_ms
        )
        held = (await recalls.totals(agent)).entries
    keys = {entry.key for entry in read.entries}
    unknown = sum(key not in keys for key in phases.signals)
    report: JsonObject = {
        "file": str(file),
        "agent": agent,
        "entries": len(read.entries),
        **asdict(done),
        "held": held,
        "invalid": read.invalid,
        "phase_signals": {"applied": len(phases.signals) - unknown, "unknown": unknown, "invalid": phases.invalid},
    }
    if as_json:
        say_json(report)
    else:
        _show_import(report)


def _show_import(report: JsonObject) -> None:
    known = f"{report['added']:,} new, {report['updated']:,} changed, {report['unchanged']:,} known as they are"
    say(f"{counted(report['entries'], 'entry', 'entries')}: {known}; {report['agent']} has {report['held']:,} now")
    phases = report["phase_signals"]
    if phases["applied"]:
        say(f"{counted(phases['applied'], 'phase signal')} with them")
    if phases["unknown"]:
        warn(f"left out: {counted(phases['unknown'], 'phase signal')} of entries that are not in the file")
    for reason, count in (*report["invalid"].items(), *phases["invalid"].items()):
        warn(f"left out: {counted(count, 'entry', 'entries')} ({reason})")
    if report["forgotten"]:
        warn(f"left out: {counted(report['forgotten'], 'entry', 'entries')} (forgotten)")
    if report["gave_way"]:
        warn(f"gave way: {counted(report['gave_way'], 'entry', 'entries')} above `dreaming.entries_max`")


@dataclass(frozen=True, slots=True)
class _Files:
    """Where an export goes: the recalls, and the phase signals if they are asked for."""

    recalls: IO[str]
    phases: IO[str] | None


async def export_recalls(
    given: Path | None, *, output: Path | None, phase_signals: Path | None, agent: str, as_json: bool
) -> None:
    """Write what is known of recalled passages as OpenClaw's files, each whole or not at all, or to standard output.

    Raises:
        ConfigError: both files would be the same one, or there is no such agent.
        ReverieError: the home cannot be used, or a file cannot be written.
    """
    if output is not None and output == phase_signals:
        raise ConfigError("--phase-signals", str(phase_signals), "another file than that of --out")
    home, config = await asyncio.to_thread(find_home, given)
    async with open_home(home, config, with_vectors=False) as opened:
        check_agent(opened.memory, agent)
        counts = await _export(opened.memory.recalls, agent, output, phase_signals)
    if output is None:
        return
    if as_json:
        named = {"file": str(output), "phase_signals_file": None if phase_signals is None else str(phase_signals)}
        say_json({**named, "agent": agent, **counts})
    else:
        more = f", {counted(counts['phase_signals'], 'phase signal')}" if phase_signals is not None else ""
        say(f"{counted(counts['entries'], 'entry', 'entries')}{more} written")


async def _export(
    recalls: RecallEntries, agent: str, output: Path | None, phase_signals: Path | None
) -> dict[str, int]:
    """Write both files page by page; those that are files appear when both are complete."""
    totals = await recalls.totals(agent)
    wanted = [path for path in (output, phase_signals) if path is not None]
    temporary = {path: path.with_name(f".{path.name}.tmp") for path in wanted}
    entries = reinforced = 0
    try:
        with ExitStack() as stack:
            files = await asyncio.to_thread(_open, stack, temporary, output, phase_signals)
            await asyncio.to_thread(_begin, files, totals)
            async for page in recalls.pages(agent):
                await asyncio.to_thread(_write, files, page, entries, reinforced)
                entries += len(page)
                reinforced += sum(bool(each.light_hits or each.rem_hits) for each in page)
            await asyncio.to_thread(_end, files, entries, reinforced)
            await asyncio.to_thread(stack.close)
        for path, written in temporary.items():
            await asyncio.to_thread(written.replace, path)
    except OSError as error:
        raise write_error(error, output or Path("standard output")) from error
    finally:
        for written in temporary.values():
            await asyncio.to_thread(written.unlink, missing_ok=True)
    return {"entries": entries, "phase_signals": reinforced}


def _open(stack: ExitStack, temporary: dict[Path, Path], output: Path | None, phase_signals: Path | None) -> _Files:
    def opened(path: Path) -> IO[str]:
        return stack.enter_context(temporary[path].open("w", encoding="utf-8", newline="\n"))

    return _Files(
        sys.stdout if output is None else opened(output), None if phase_signals is None else opened(phase_signals)
    )


def _begin(files: _Files, totals: EvidenceTotals) -> None:
    files.recalls.write(file_head(totals.updated_at_ms))
    if files.phases is not None:
        files.phases.write(file_head(totals.phases_updated_at_ms or totals.updated_at_ms))


def _write(files: _Files, page: Sequence[RecallEntry], entries: int, reinforced: int) -> None:
    files.recalls.write(recall_lines(page, first=entries == 0))
    if files.phases is not None:
        files.phases.write(phase_lines(page, first=reinforced == 0))


def _end(files: _Files, entries: int, reinforced: int) -> None:
    files.recalls.write(file_tail(any_entries=entries > 0))
    files.recalls.flush()
    if files.phases is not None:
        files.phases.write(file_tail(any_entries=reinforced > 0))
