"""How an agent's recall entries are: every row is judged, and OpenClaw's files where its workspace holds them.

What is wrong with a row is decided here, by `normalised`, for audit and repair alike. Nothing here changes anything,
and nothing more than a page of rows is held at once.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

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
from reverie.dreaming.evidence import columns
from reverie.dreaming.memory_file import FILE_BYTES_MAX, MEMORY_FILE
from reverie.dreaming.openclaw_files import COUNT_MAX
from reverie.dreaming.openclaw_store import Reading, audit_files, exists
from reverie.dreaming.recording import day_of
from reverie.dreaming.sections import markers
from reverie.dreaming.store_audit import Counted, Issue, StoreAudit, invalid_issue
from reverie.memory.documents import FileContent, read_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from reverie.storage.database import Row, Transaction
    from reverie.types import JsonObject

T = TypeVar("T")

PAGE_ROWS = 500
KEYS_AT_ONCE = 500
_CLAIM = re.compile(r":\d+:\d+:([0-9a-f]{12})$")


class Reads(Protocol):
    """Reads `state.db`: as `Database.read`, or beside whoever has it."""

    async def __call__(self, work: Callable[[Transaction], T]) -> T:
        """Run `work`, which reads."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """By which rules rows are judged: how many are kept, where days begin, and what names the concepts of a passage."""

    entries_max: int
    zone: tzinfo
    tags: Callable[[str, str], tuple[str, ...]] = concept_tags

    def reading(self, now_ms: int) -> Reading:
        """How entries are read at an instant."""
        return Reading(now_ms, self.tags, self.zone)


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
class Judged:
    """A row, and what it is to be: an entry, or the reason why it is no use. `right`: it is that entry already."""

    row: Row
    result: RecallEntry | str
    right: bool = False


async def audit(read: Reads, agent: str, workspace: Path, rules: Rules, now_ms: int, *, store_path: Path) -> AgentAudit:
    """How an agent's entries are. Everything is read, page by page; `store_path` is the database's file.

    Raises:
        StorageError: the rows cannot be read.
    """
    rows = await _audit_rows(read, agent, workspace, rules, now_ms, store_path)
    if not await asyncio.to_thread(exists, workspace):
        return AgentAudit(agent, rows)
    return AgentAudit(agent, rows, await asyncio.to_thread(audit_files, workspace, rules.reading(now_ms)))


async def entry_pages(read: Reads, agent: str, query: str) -> AsyncIterator[list[Row]]:
    """The rows that a query gives, page by page."""
    after = 0
    while rows := await read(lambda tx, after=after: tx.rows(query, agent=agent, after=after, limit=PAGE_ROWS)):
        after = rows[-1]["id"]
        yield rows


async def unmarked(read: Reads, agent: str, workspace: Path) -> list[str]:
    """The keys of entries that stand in MEMORY.md, which is not known of them; none if it cannot be read."""
    standing = await asyncio.to_thread(_standing, workspace)
    found: list[str] = []
    for start in range(0, len(standing), KEYS_AT_ONCE):
        keys = json.dumps(standing[start : start + KEYS_AT_ONCE])
        rows = await read(lambda tx, keys=keys: list(tx.tuples("unmarked_recall_entries", agent=agent, keys=keys)))
        found += [key for (key,) in rows]
    return found


def _standing(workspace: Path) -> list[str]:
    held = read_file(workspace, MEMORY_FILE, FILE_BYTES_MAX)
    return sorted(markers(held.data.decode("utf-8", "replace"))) if isinstance(held, FileContent) else []


async def _audit_rows(
    read: Reads, agent: str, workspace: Path, rules: Rules, now_ms: int, store_path: Path
) -> StoreAudit:
    counted = Counted()
    invalid: Counter[str] = Counter()
    reading = rules.reading(now_ms)
    async for rows in entry_pages(read, agent, "recall_entries_after"):
        judged = await asyncio.to_thread(judge, rows, reading)
        invalid.update(each.result for each in judged if isinstance(each.result, str))
        entries = [each.result for each in judged if isinstance(each.result, RecallEntry)]
        await asyncio.to_thread(counted.add, entries)
    totals = await read(lambda tx: tx.row("recall_totals_of", agent=agent))
    updated_at = 0 if totals is None else totals["updated_at"]
    return StoreAudit(
        store_path=str(store_path),
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
            *_over_limit(counted.entries + sum(invalid.values()), rules.entries_max),
            *_unmarked_issue(len(await unmarked(read, agent, workspace))),
        ),
    )


def _over_limit(entries: int, entries_max: int) -> tuple[Issue, ...]:
    more = entries - entries_max
    if more <= 0:
        return ()
    message = f"{more:,} entries more than the {entries_max:,} that are kept (dreaming.entries_max)."
    return (Issue("recall-store-over-limit", "warn", message, fixable=True, count=more),)


def _unmarked_issue(count: int) -> tuple[Issue, ...]:
    if not count:
        return ()
    message = f"{count:,} recall entries stand in MEMORY.md and are not marked as promoted."
    return (Issue("recall-store-unmarked", "warn", message, fixable=True, count=count),)


# -- judging, pure -----------------------------------------------------------------------------------------------


def judge(rows: Sequence[Row], reading: Reading) -> list[Judged]:
    """What each row is to be. CPU work, for a worker thread."""
    found = [(row, normalised(row, reading)) for row in rows]
    return [Judged(row, to_be, isinstance(to_be, RecallEntry) and row | columns(to_be) == row) for row, to_be in found]


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
