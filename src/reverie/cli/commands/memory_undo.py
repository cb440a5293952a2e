"""`reverie memory changes` and `undo`: what dreaming changed in MEMORY.md, and taking it back.

Works beside a running server: the workspace's lock is the same, and the server notices the changed file.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reverie.cli.opening import check_agent, find_home, open_home
from reverie.cli.output import columns, counted, dim, printable, say, say_json, warn

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.dreaming.memory_file import MemoryChange
    from reverie.dreaming.promotion import UndoReport
    from reverie.types import JsonObject

WORDS_SHOWN = 60


async def list_changes(given: Path | None, *, agent: str, limit: int, as_json: bool) -> None:
    """List what was changed in an agent's MEMORY.md, the newest first.

    Raises:
        ReverieError: there is no such home or agent, or it cannot be read.
    """
    home, config = await asyncio.to_thread(find_home, given)
    async with open_home(home, config, with_vectors=False) as opened:
        check_agent(opened.memory, agent)
        found = await opened.memory.promoter.file.changes(agent, limit)
    if as_json:
        say_json({"agent": agent, "changes": [change_json(each) for each in found]})
        return
    if not found:
        say(dim("Nothing was changed yet."))
        return
    say("\n".join(columns([("change", "when", "what", "state", "entries"), *map(_row, found)], indent="")))


async def undo_change(given: Path | None, change: str | None, *, agent: str, dry_run: bool, as_json: bool) -> None:
    """Take a change of MEMORY.md back, the last promotion unless another is named.

    Raises:
        UndoRefusedError: there is no such change, or it cannot be taken back.
        ReverieError: there is no such home or agent, or it cannot be written.
    """
    home, config = await asyncio.to_thread(find_home, given)
    async with open_home(home, config, with_vectors=False) as opened:
        check_agent(opened.memory, agent)
        report = await opened.memory.promoter.undo(agent, change, dry_run=dry_run)
    if as_json:
        say_json(undo_json(report))
        return
    if report.diff:
        say(printable(report.diff, lines=True).rstrip("\n"))
    would = "would be " if dry_run else "is "
    how = "MEMORY.md as it was before" if report.exact else "only its entries taken out: the file was edited since"
    say(f"{report.undone} {would}undone, {how} ({counted(len(report.removed), 'entry', 'entries')})")
    if report.left_out:
        warn(f"{counted(len(report.left_out), 'entry', 'entries')} that gave way then had no room now")


# -- for programs ------------------------------------------------------------------------------------------------


def change_json(change: MemoryChange) -> JsonObject:
    """A change: when, what, where it stands, and which entries it added and took out."""
    return {
        "id": change.id,
        "agent": change.agent,
        "path": change.path,
        "kind": change.kind,
        "state": change.state,
        "plannedAt": _iso(change.planned_at_ms),
        "endedAt": None if change.ended_at_ms is None else _iso(change.ended_at_ms),
        "added": [
            {"keys": each["keys"], "text": each["text"], "lines": each["lines"]}
            for each in change.details.get("added", ())
        ],
        "gaveWay": [key for each in change.details.get("gave_way", ()) for key in each["keys"]],
        "undoes": change.details.get("undoes"),
    }


def undo_json(report: UndoReport) -> JsonObject:
    """What undoing did, or would do."""
    return {
        "agent": report.agent,
        "memoryPath": report.memory_path,
        "undone": report.undone,
        "changeId": report.change_id,
        "exact": report.exact,
        "removed": list(report.removed),
        "restored": list(report.restored),
        "leftOut": list(report.left_out),
        "dryRun": report.dry_run,
        "diff": report.diff,
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(change: MemoryChange) -> tuple[str, ...]:
    added = change.details.get("added", ())
    words = printable(added[0]["text"]) if added else ""
    shown = words if len(words) <= WORDS_SHOWN else f"{words[:WORDS_SHOWN]}…"
    entries = f"{len(added)}: {shown}" if added else ""
    when = datetime.fromtimestamp(change.planned_at_ms / 1_000).astimezone().strftime("%Y-%m-%d %H:%M")
    return change.id, when, change.kind, change.state, entries
