"""START of audit and repair: recall entries that are no use go, and what is derived of the others is derived anew.

`Repairer.repair` is what every night begins with. It looks only at entries that were written since it looked last, so
it costs next to nothing where nothing is wrong, and at all of them once its rules have changed. `audit` reads
everything and changes nothing. Where a workspace holds OpenClaw's files of recalls, both see to those too.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, cast

import structlog

from reverie.clock import INSTANT_MS_END, iso_instant
from reverie.dreaming.concepts import concept_tags
from reverie.dreaming.contamination import contaminated
from reverie.dreaming.entry import (
    DAYS_MAX,
    HITS_MAX,
    QUERIES_MAX,
    SNIPPET_CHARACTERS_MAX,
    TAGS_MAX,
    RecallEntry,
)
from reverie.dreaming.evidence import columns, promoted, put_entry
from reverie.dreaming.memory_file import decoded
from reverie.dreaming.openclaw_files import COUNT_MAX
from reverie.dreaming.openclaw_store import FilesRepair, Reading, audit_files, exists, repair_files
from reverie.dreaming.recording import day_of
from reverie.dreaming.sections import markers
from reverie.dreaming.store_audit import Counted, Issue, StoreAudit, invalid_issue
from reverie.errors import MemoryPathError, ReverieError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.dreaming.memory_file import MemoryFile
    from reverie.storage.database import Database, Row, Transaction
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

RULES = 1
"""Raise it when an entry that was right by the old rules may be wrong by the new ones: all are looked at again."""
PAGE_ROWS = 500
KEYS_AT_ONCE = 500
_CLAIM = re.compile(r":\d+:\d+:([0-9a-f]{12})$")


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


@dataclass(frozen=True, slots=True)
class AgentAudit:
    """How an agent's recall entries are: its own rows, and OpenClaw's files if its workspace holds any."""

    agent: str
    rows: StoreAudit
    files: StoreAudit | None = None

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What is wrong, in either."""
        return (*self.rows.issues, *(() if self.files is None else self.files.issues))

    def as_json(self) -> JsonObject:
        """For programs."""
        return {
            "agent": self.agent,
            "rows": self.rows.as_json(),
            "openclaw": None if self.files is None else self.files.as_json(),
        }


@dataclass(frozen=True, slots=True)
class _Judged:
    """A row, and what it is to be: an entry, or the reason why it is no use. `right`: it is that entry already."""

    row: Row
    result: RecallEntry | str
    right: bool = False


class Repairer:
    """Audits and repairs the recall entries of a home's agents."""

    def __init__(
        self,
        database: Database,
        workspaces: Mapping[str, Path],
        clock: Clock,
        lasting: MemoryFile,
        *,
        entries_max: int,
        zone: tzinfo,
        tags: Callable[[str, str], tuple[str, ...]] = concept_tags,
    ) -> None:
        self._database = database
        self._workspaces = workspaces
        self._clock = clock
        self._lasting = lasting
        self._entries_max = entries_max
        self._zone = zone
        self._tags = tags

    async def repair(self, agent: str, now_ms: int | None = None, *, dry_run: bool = False) -> RepairReport:
        """Put an agent's entries right, or only say what that would come to.

        Interrupted anywhere, it has done a part, and does the rest when it is called again. That the files cannot be
        written, or are another program's for too long, stops nothing: the report says so.

        Raises:
            StorageError: the rows cannot be read or written.
        """
        reading = self._reading(now_ms)
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
        """How an agent's entries are. Everything is read, page by page, and nothing is changed.

        Raises:
            StorageError: the rows cannot be read.
        """
        reading = self._reading(now_ms)
        rows = await self._audit_rows(agent, reading)
        workspace = self._workspaces[agent]
        if not await asyncio.to_thread(exists, workspace):
            return AgentAudit(agent, rows)
        return AgentAudit(agent, rows, await asyncio.to_thread(audit_files, workspace, reading))

    def _reading(self, now_ms: int | None) -> Reading:
        return Reading(self._clock.now_ms() if now_ms is None else now_ms, self._tags, self._zone)

    # -- rows ----------------------------------------------------------------------------------------------------

    async def _repair_rows(self, agent: str, reading: Reading, *, dry_run: bool) -> RowsRepair:
        all_anew = await self._database.read(lambda tx: tx.value("recall_rules_of", agent=agent)) != RULES
        if all_anew and not dry_run:
            await self._uncheck(agent)
        looked_at = normalised = 0
        removed: Counter[str] = Counter()
        pages = "recall_entries_after" if all_anew and dry_run else "unchecked_recall_entries"
        async for rows in self._pages(agent, pages):
            judged = await asyncio.to_thread(_judge, rows, reading)
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
        await self._database.write(lambda tx: tx.execute("set_recall_rules", agent=agent, rules=RULES))

    async def _pages(self, agent: str, query: str) -> AsyncIterator[list[Row]]:
        after = 0
        while rows := await self._database.read(
            lambda tx, after=after: tx.rows(query, agent=agent, after=after, limit=PAGE_ROWS)
        ):
            after = rows[-1]["id"]
            yield rows

    async def _mark(self, agent: str, at_ms: int, *, dry_run: bool) -> int:
        """Mark what stands in MEMORY.md, so that it is not promoted again; returns how many were not."""
        keys = await self._unmarked(agent)
        for start in range(0, 0 if dry_run else len(keys), KEYS_AT_ONCE):
            part = keys[start : start + KEYS_AT_ONCE]
            await self._database.write(lambda tx, part=part: [promoted(tx, agent, key, at_ms) for key in part])
        return len(keys)

    async def _unmarked(self, agent: str) -> list[str]:
        """The keys of entries that stand in MEMORY.md, which is not known of them; none if it cannot be read."""
        try:
            text = decoded(await self._lasting.read(agent))
        except MemoryPathError:
            return []
        standing = sorted(await asyncio.to_thread(markers, text))
        found: list[str] = []
        for start in range(0, len(standing), KEYS_AT_ONCE):
            keys = json.dumps(standing[start : start + KEYS_AT_ONCE])
            rows = await self._database.read(
                lambda tx, keys=keys: list(tx.tuples("unmarked_recall_entries", agent=agent, keys=keys))
            )
            found += [key for (key,) in rows]
        return found

    async def _prune(self, agent: str, removed: int, *, dry_run: bool) -> int:
        """Let the oldest give way to what may be kept; returns how many did, or would when `removed` are gone."""
        if dry_run:
            row = await self._database.read(lambda tx: tx.row("recall_totals_of", agent=agent))
            return max(0, (0 if row is None else row["entries"]) - removed - self._entries_max)
        return await self._database.write(
            lambda tx: tx.execute("prune_recall_entries", agent=agent, entries_max=self._entries_max)
        )

    async def _audit_rows(self, agent: str, reading: Reading) -> StoreAudit:
        counted = Counted()
        invalid: Counter[str] = Counter()
        async for rows in self._pages(agent, "recall_entries_after"):
            judged = await asyncio.to_thread(_judge, rows, reading)
            invalid.update(each.result for each in judged if isinstance(each.result, str))
            entries = [each.result for each in judged if isinstance(each.result, RecallEntry)]
            await asyncio.to_thread(counted.add, entries)
        totals = await self._database.read(lambda tx: tx.row("recall_totals_of", agent=agent))
        updated_at = 0 if totals is None else totals["updated_at"]
        return StoreAudit(
            store_path=str(self._database.path),
            updated_at=iso_instant(updated_at) if updated_at else "",
            exists=bool(counted.entries or invalid),
            entries=counted.entries,
            promoted=counted.promoted,
            spaced=counted.spaced,
            tagged=counted.tagged,
            scripts=counted.scripts,
            invalid=dict(invalid),
            issues=(
                *invalid_issue(invalid),
                *self._over_limit(counted.entries + sum(invalid.values())),
                *_unmarked_issue(len(await self._unmarked(agent))),
            ),
        )

    def _over_limit(self, entries: int) -> tuple[Issue, ...]:
        more = entries - self._entries_max
        if more <= 0:
            return ()
        message = f"{more:,} entries more than the {self._entries_max:,} that are kept (dreaming.entries_max)."
        return (Issue("recall-store-over-limit", "warn", message, fixable=True, count=more),)


def _unmarked_issue(count: int) -> tuple[Issue, ...]:
    if not count:
        return ()
    message = f"{count:,} recall entries stand in MEMORY.md and are not marked as promoted."
    return (Issue("recall-store-unmarked", "warn", message, fixable=True, count=count),)


def _uncheck(tx: Transaction, agent: str) -> int:
    return tx.execute("uncheck_recall_entries", agent=agent, limit=PAGE_ROWS)


def _put_right(tx: Transaction, agent: str, judged: Sequence[_Judged], now_ms: int) -> list[_Judged]:
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


# -- judging, pure -----------------------------------------------------------------------------------------------


def _judge(rows: Sequence[Row], reading: Reading) -> list[_Judged]:
    found = [(row, normalised(row, reading)) for row in rows]
    return [_Judged(row, to_be, isinstance(to_be, RecallEntry) and row | columns(to_be) == row) for row, to_be in found]


def normalised(row: Row, reading: Reading) -> RecallEntry | str:
    """An entry as its row should have it, or the reason why it is no use. Pure.

    A row that is right comes out as it is.
    """
    if not row["path"].strip() or not row["key"].strip():
        return "no path"
    if not 1 <= row["start_line"] <= row["end_line"]:
        return "no lines"
    reason = contaminated(row["snippet"])
    if reason is not None:
        return reason
    snippet = row["snippet"][:SNIPPET_CHARACTERS_MAX]
    last_ms = _instant(row["last_recalled_at"], reading.now_ms)
    claim = _CLAIM.search(row["key"])
    queries = tuple(_texts(row["queries"]))
    return RecallEntry(
        key=row["key"],
        path=row["path"],
        start_line=row["start_line"],
        end_line=row["end_line"],
        snippet=snippet,
        recall_count=_within(row["recall_count"], COUNT_MAX),
        daily_count=_within(row["daily_count"], COUNT_MAX),
        grounded_count=_within(row["grounded_count"], COUNT_MAX),
        total_score=max(0.0, _finite(row["total_score"])),
        max_score=min(1.0, max(0.0, _finite(row["max_score"]))),
        first_recalled_at_ms=_instant(row["first_recalled_at"], reading.now_ms),
        last_recalled_at_ms=last_ms,
        queries=queries[-QUERIES_MAX:],
        user_queries=tuple(_texts(row["user_queries"]))[-QUERIES_MAX:],
        days=_days(row["days"]) or (day_of(last_ms, reading.zone),),
        tags=tuple(_texts(row["tags"]))[:TAGS_MAX] or reading.tags(row["path"], snippet),
        claim_hash=row["claim_hash"] or (claim[1] if claim else ""),
        promoted_at_ms=row["promoted_at"],
        provenance=row["provenance"],
        light_hits=_within(row["light_hits"], HITS_MAX),
        light_at_ms=row["light_at"],
        rem_hits=_within(row["rem_hits"], HITS_MAX),
        rem_at_ms=row["rem_at"],
    )


def _within(count: int, most: int) -> int:
    return min(most, max(0, count))


def _finite(score: float) -> float:
    return score if math.isfinite(score) else 0.0


def _instant(at_ms: int, now_ms: int) -> int:
    return at_ms if 0 < at_ms < INSTANT_MS_END else now_ms


def _texts(text: str) -> Iterator[str]:
    """The distinct texts of a list that may be damaged."""
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(found, list):
        yield from dict.fromkeys(each for each in cast("list[object]", found) if isinstance(each, str) and each)


def _days(text: str) -> tuple[str, ...]:
    return tuple(sorted(day for day in _texts(text) if _is_day(day)))[-DAYS_MAX:]


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
