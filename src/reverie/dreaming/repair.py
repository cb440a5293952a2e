"""START of the repair of recall entries: what is no use goes, and what is derived of the others is derived anew.

`Repairer.repair` is what every night begins with. It looks only at entries that were written since it looked last, so
it costs next to nothing where nothing is wrong, and at all of them once its rules have changed. Where a workspace
holds OpenClaw's files of recalls, those are put right too.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from reverie.dreaming.audit import KEYS_AT_ONCE, PAGE_ROWS, Rules, audit, entry_pages, judge, unmarked
from reverie.dreaming.evidence import promoted, put_entry
from reverie.dreaming.openclaw_store import FilesRepair, Reading, exists, repair_files
from reverie.errors import ReverieError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.dreaming.audit import AgentAudit, Judged
    from reverie.storage.database import Database, Transaction
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

RULES_VERSION = 1
"""Raise it when an entry that was right by the old rules may be wrong by the new ones: all are looked at again."""


@dataclass(frozen=True, slots=True)
class RowsRepair:
    """What became of an agent's own entries. `marked` stand in MEMORY.md, which was not known of them."""

    looked_at: int = 0
    removed: Mapping[str, int] = field(default_factory=dict[str, int])
    normalised: int = 0
    marked: int = 0
    overflow: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything was put right."""
        return bool(self.removed or self.normalised or self.marked or self.overflow)

    def as_json(self) -> JsonObject:
        """For programs."""
        return {
            "lookedAt": self.looked_at,
            "removedInvalidEntries": sum(self.removed.values()),
            "removedByReason": dict(self.removed),
            "normalisedEntries": self.normalised,
            "markedAsPromoted": self.marked,
            "removedOverflowEntries": self.overflow,
        }


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did, or would do. `files` None: the workspace holds no files of OpenClaw's recalls.

    `problem` says why those could not be put right; the rows were.
    """

    agent: str
    rows: RowsRepair
    files: FilesRepair | None = None
    problem: str = ""

    @property
    def changed(self) -> bool:
        """Whether anything was put right."""
        return self.rows.changed or (self.files is not None and self.files.changed)

    def as_json(self) -> JsonObject:
        """For programs."""
        found: JsonObject = {
            "agent": self.agent,
            "changed": self.changed,
            "rows": self.rows.as_json(),
            "openclaw": None if self.files is None else self.files.as_json(),
        }
        return found | ({"problem": self.problem} if self.problem else {})


class Repairer:
    """Audits and repairs the recall entries of a home's agents."""

    def __init__(
        self,
        database: Database,
        workspaces: Mapping[str, Path],
        clock: Clock,
        rules: Rules,
    ) -> None:
        self._database = database
        self._workspaces = workspaces
        self._clock = clock
        self._rules = rules

    async def repair(self, agent: str, now_ms: int | None = None, *, dry_run: bool = False) -> RepairReport:
        """Put an agent's entries right, or only say what that would come to.

        Interrupted anywhere, it has done a part, and does the rest when it is called again. That the files cannot be
        written, or are another program's for too long, stops nothing: the report says so.

        Raises:
            StorageError: the rows cannot be read or written.
        """
        reading = self._rules.reading(self._clock.now_ms() if now_ms is None else now_ms)
        rows = await self._repair_rows(agent, reading, dry_run=dry_run)
        workspace = self._workspaces[agent]
        if not await asyncio.to_thread(exists, workspace):
            return RepairReport(agent, rows)
        try:
            files = await repair_files(workspace, self._clock, reading, dry_run=dry_run)
        except ReverieError as error:
            log.warning("the files of OpenClaw's recalls stay as they are", action="openclaw_files_unrepaired",
                        agent=agent, cause=str(error))  # fmt: skip
            return RepairReport(agent, rows, problem=str(error))
        return RepairReport(agent, rows, files)

    async def audit(self, agent: str, now_ms: int | None = None) -> AgentAudit:
        """How an agent's entries are. Everything is read, and nothing is changed.

        Raises:
            StorageError: the rows cannot be read.
        """
        at_ms = self._clock.now_ms() if now_ms is None else now_ms
        place = self._database.path
        return await audit(self._database.read, agent, self._workspaces[agent], self._rules, at_ms, store_path=place)

    # -- rows ----------------------------------------------------------------------------------------------------

    async def _repair_rows(self, agent: str, reading: Reading, *, dry_run: bool) -> RowsRepair:
        all_anew = await self._database.read(lambda tx: tx.value("recall_rules_of", agent=agent)) != RULES_VERSION
        if all_anew and not dry_run:
            await self._uncheck(agent)
        looked_at = normalised = 0
        removed: Counter[str] = Counter()
        pages = "recall_entries_after" if all_anew and dry_run else "unchecked_recall_entries"
        async for rows in entry_pages(self._database.read, agent, pages):
            judged = await asyncio.to_thread(judge, rows, reading)
            if not dry_run:
                judged = await self._database.write(
                    lambda tx, judged=judged: _put_right(tx, agent, judged, reading.now_ms)
                )
            looked_at += len(judged)
            removed.update(each.result for each in judged if isinstance(each.result, str))
            normalised += sum(not each.right and not isinstance(each.result, str) for each in judged)
        marked = await self._mark(agent, reading.now_ms, dry_run=dry_run)
        overflow = await self._prune(agent, sum(removed.values()), dry_run=dry_run)
        if removed or normalised:
            log.info("recall entries were put right", action="recalls_repaired", agent=agent, removed=dict(removed),
                     normalised=normalised, dry_run=dry_run)  # fmt: skip
        return RowsRepair(looked_at, dict(removed), normalised, marked, overflow)

    async def _uncheck(self, agent: str) -> None:
        """All entries are to be looked at; interrupted, this is done again."""
        done = PAGE_ROWS
        while done == PAGE_ROWS:
            done = await self._database.write(lambda tx: _uncheck(tx, agent))
        await self._database.write(lambda tx: tx.execute("set_recall_rules", agent=agent, rules=RULES_VERSION))

    async def _mark(self, agent: str, at_ms: int, *, dry_run: bool) -> int:
        """Mark what stands in MEMORY.md, so that it is not promoted again; returns how many were not."""
        keys = await unmarked(self._database.read, agent, self._workspaces[agent])
        for start in range(0, 0 if dry_run else len(keys), KEYS_AT_ONCE):
            part = keys[start : start + KEYS_AT_ONCE]
            await self._database.write(lambda tx, part=part: [promoted(tx, agent, key, at_ms) for key in part])
        return len(keys)

    async def _prune(self, agent: str, removed: int, *, dry_run: bool) -> int:
        """Let the oldest give way to what may be kept; returns how many did, or would when `removed` are gone."""
        if dry_run:
            row = await self._database.read(lambda tx: tx.row("recall_totals_of", agent=agent))
            return max(0, (0 if row is None else row["entries"]) - removed - self._rules.entries_max)
        return await self._database.write(
            lambda tx: tx.execute("prune_recall_entries", agent=agent, entries_max=self._rules.entries_max)
        )


def _uncheck(tx: Transaction, agent: str) -> int:
    return tx.execute("uncheck_recall_entries", agent=agent, limit=PAGE_ROWS)


def _put_right(tx: Transaction, agent: str, judged: Sequence[Judged], now_ms: int) -> list[Judged]:
    """Write what was judged; rows that changed meanwhile, or are gone, are left. Returns those that were written."""
    ids = json.dumps([each.row["id"] for each in judged])
    now = {row["id"]: row for row in tx.rows("recall_entries_by_ids", ids=ids)}
    done = [each for each in judged if now.get(each.row["id"]) == each.row]
    for each in done:
        if isinstance(each.result, str):
            tx.execute("delete_recall_entry", agent=agent, key=each.row["key"])
        elif not each.right:
            put_entry(tx, agent, each.result)
    tx.execute("check_recall_entries", ids=json.dumps([each.row["id"] for each in done]))
    if not all(each.right for each in done):
        tx.execute("recall_entries_changed", agent=agent, at=now_ms)
    return done
