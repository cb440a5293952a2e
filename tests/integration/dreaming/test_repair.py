"""Recall entries, audited and put right: every rule, only what was written since, and what happens meanwhile."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.dreaming.audit import PAGE_ROWS, Rules
from reverie.dreaming.concepts import concept_tags
from reverie.dreaming.entry import RecallEntry, entry_key
from reverie.dreaming.evidence import RecallEntries
from reverie.dreaming.openclaw_lock import SYSTEM_LOCK
from reverie.dreaming.openclaw_store import STORE
from reverie.dreaming.repair import Repairer
from reverie.dreaming.sections import marker
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

NOTE = "memory/2026-01-01.md"
WORDS = "The kiln is serviced in May by Ines."

pytestmark = pytest.mark.anyio


class Home:
    """A database, two agents' workspaces, and what audits and repairs them."""

    def __init__(self, path: Path, database: Database, entries_max: int = 4_096) -> None:
        self.path = path
        self.database = database
        self.clock = FakeClock()
        self.workspaces = {name: path / name for name in ("main", "work")}
        self.recalls = RecallEntries(database, self.clock, entries_max=10**6, zone=UTC)
        self.repairer = self.of(entries_max)

    def of(self, entries_max: int, tags: Callable[[str, str], tuple[str, ...]] = concept_tags) -> Repairer:
        """One that keeps so many entries, and finds concepts like this."""
        return Repairer(self.database, self.workspaces, self.clock, Rules(entries_max, UTC, tags))

    def entry(self, line: int = 1, **more: Any) -> RecallEntry:
        """An entry that is right."""
        now = self.clock.now_ms()
        found = RecallEntry(
            entry_key(NOTE, line, line), NOTE, line, line, WORDS, 1, 0, 0, 0.5, 0.5, now, now,
            ("a" * 12,), ("a" * 12,), ("2026-01-01",), ("kiln",),
        )  # fmt: skip
        return replace(found, **more)

    async def take(self, *entries: RecallEntry, agent: str = "main") -> None:
        """Keep entries as they are."""
        await self.database.write(lambda tx: self.recalls.keep(tx, agent, entries, self.clock.now_ms()))

    async def entries(self, agent: str = "main") -> list[RecallEntry]:
        """All that are kept."""
        return [entry async for page in self.recalls.pages(agent) for entry in page]

    def change(self, change: str, where: str, table: str = "recall_entries") -> None:
        """Change rows as another program would."""
        connection = apsw.Connection(str(self.path / "state.db"))
        connection.execute(f"UPDATE {table} SET {change} WHERE {where}")  # noqa: S608 (a test's own)
        connection.close()

    async def damage(self, change: str, where: str = "1", **more: str) -> None:
        """The same, from a test."""
        await asyncio.to_thread(self.change, change, where, **more)

    async def write(self, name: str, text: str) -> None:
        """A file of the first agent's workspace."""

        def work() -> None:
            path = self.workspaces["main"] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

        await asyncio.to_thread(work)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Home]:
    """An empty home."""
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=1)
    yield Home(tmp_path, database)
    await database.aclose()


async def test_what_is_right_stays_and_is_looked_at_once(home: Home) -> None:
    """Nothing is changed, and the second time nothing is looked at but what was written in between."""
    entries = [home.entry(line) for line in range(1, 4)]
    await home.take(*entries)
    reports = [await home.repairer.repair("main") for _ in range(2)]
    await home.take(home.entry(2, recall_count=2))
    reports.append(await home.repairer.repair("main"))

    assert [report.changed for report in reports] == [False] * 3
    assert [report.rows.looked_at for report in reports] == [3, 0, 1]
    assert await home.entries() == [entries[0], home.entry(2, recall_count=2), entries[2]]


@pytest.mark.parametrize(
    ("damage", "becomes"),
    [
        ('queries = \'["a", 3, "a", "b"\'', {"queries": ()}),
        ("user_queries = '{}'", {"user_queries": ()}),
        ('queries = \'["a", 3, "a", ""]\'', {"queries": ("a",)}),
        ("tags = 'null'", {"tags": ("kiln", "serviced", "ines")}),
        ('days = \'["soon", "2026-13-01", "2025-12-31"]\'', {"days": ("2025-12-31",)}),
        ("days = 'broken'", {"days": ("2026-01-01",)}),
        ("max_score = 9e999, total_score = -9e999", {"max_score": 0.0, "total_score": 0.0}),
        ("max_score = 1.5, total_score = -2", {"max_score": 1.0, "total_score": 0.0}),
        ("recall_count = -4, daily_count = -1", {"recall_count": 0, "daily_count": 0}),
        ("light_hits = 12345, rem_hits = -1", {"light_hits": 9_999, "rem_hits": 0}),
        ("last_recalled_at = -5", {}),
        ("first_recalled_at = 9e18", {}),
        ("snippet = snippet || hex(zeroblob(500))", {"snippet": f"{WORDS}{'0' * 1000}"[:800]}),
    ],
)
async def test_what_can_be_derived_is(home: Home, damage: str, becomes: dict[str, Any]) -> None:
    """Lists that are no lists, numbers that cannot be, days that are none; the audit counts the entry all the same."""
    await home.take(home.entry(), home.entry(2))
    await home.repairer.repair("main")
    await home.damage(damage, "start_line = 1")
    report = await home.repairer.repair("main")
    audit = await home.repairer.audit("main")

    found, other = await home.entries()
    tags = becomes.pop("tags", None)
    if tags is not None:
        assert set(tags) <= set(found.tags)
        becomes["tags"] = found.tags
    assert found == home.entry(**becomes)
    assert other == home.entry(2)
    assert (report.rows.looked_at, report.rows.normalised) == (1, 1)
    assert (audit.rows.entries, audit.issues) == (2, ())
    assert not (await home.repairer.repair("main")).changed


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("path = ' '", "no path"),
        ("start_line = 0", "no lines"),
        ("end_line = 0", "no lines"),
        ("snippet = ''", "empty"),
        ("snippet = '<!-- openclaw-memory-promotion:k -->'", "a marker of dreaming"),
        ("snippet = 'thanks!'", "a courtesy"),
        ("snippet = '# Plans'", "headings without text"),
    ],
)
async def test_what_is_no_use_goes(home: Home, damage: str, reason: str) -> None:
    """The audit names it with the reason, a dry run counts it, and the repair removes it; other agents keep theirs."""
    await home.take(home.entry(), home.entry(2))
    await home.take(home.entry(), agent="work")
    await home.damage(damage, "start_line = 1 AND agent = 'main'")
    audit = await home.repairer.audit("main")
    planned = await home.repairer.repair("main", dry_run=True)
    before = await home.recalls.totals("main")
    done = await home.repairer.repair("main")

    assert audit.rows.invalid == planned.rows.removed == done.rows.removed == {reason: 1}
    assert [issue.code for issue in audit.issues] == ["recall-store-invalid"]
    assert before.entries == 2
    assert await home.entries() == [home.entry(2)]
    assert await home.entries("work") == [home.entry()]


async def test_the_claim_is_read_out_of_the_key(home: Home) -> None:
    """An entry whose key ends with what it claims is known by that."""
    key = entry_key(NOTE, 1, 1, "0123456789ab")
    await home.take(home.entry(key=key))
    report = await home.repairer.repair("main")

    (entry,) = await home.entries()
    assert entry.claim_hash == "0123456789ab"
    assert report.rows.normalised == 1


async def test_what_stands_in_the_file_is_marked(home: Home) -> None:
    """A mark that was lost comes back from MEMORY.md, so that nothing is promoted twice; a link marks nothing."""
    await home.take(home.entry(), home.entry(2))
    await home.write("MEMORY.md", f"- a fact\n{marker(home.entry(2).key)}\n- {WORDS}\n")
    audit = await home.repairer.audit("main")
    planned = await home.repairer.repair("main", dry_run=True)
    done = await home.repairer.repair("main")

    assert [issue.code for issue in audit.issues] == ["recall-store-unmarked"]
    assert planned.rows.marked == done.rows.marked == 1
    assert [entry.promoted_at_ms for entry in await home.entries()] == [None, home.clock.now_ms()]
    assert not (await home.repairer.repair("main")).changed
    path = home.workspaces["main"] / "MEMORY.md"
    await asyncio.to_thread(path.rename, path.with_name("elsewhere"))
    await asyncio.to_thread(path.symlink_to, path.with_name("elsewhere"))
    assert not (await home.repairer.repair("main")).changed


async def test_what_is_too_much_gives_way(home: Home) -> None:
    """Those that were recalled longest ago, as always."""
    await home.take(*(home.entry(line, last_recalled_at_ms=line * 1000) for line in range(1, 6)))
    few = home.of(3)
    audit = await few.audit("main")
    planned = await few.repair("main", dry_run=True)
    done = await few.repair("main")

    assert [(issue.code, issue.count) for issue in audit.issues] == [("recall-store-over-limit", 2)]
    assert planned.rows.overflow == done.rows.overflow == 2
    assert [entry.start_line for entry in await home.entries()] == [3, 4, 5]


async def test_new_rules_look_at_everything_again(home: Home) -> None:
    """Entries that were right by the old ones may not be by the new ones; then it is cheap again."""
    await home.take(*(home.entry(line) for line in range(1, PAGE_ROWS + 3)))
    await home.repairer.repair("main")
    await home.damage("rules = 0", "agent = 'main'", table="recall_totals")
    looked_at = [
        (await home.repairer.repair("main", dry_run=True)).rows.looked_at,
        *[(await home.repairer.repair("main")).rows.looked_at for _ in range(2)],
    ]

    assert looked_at == [PAGE_ROWS + 2, PAGE_ROWS + 2, 0]


async def test_what_is_recalled_meanwhile_is_not_overwritten(home: Home) -> None:
    """An entry that a search counts between reading and writing keeps that, and is looked at the next time."""
    await home.take(home.entry(), home.entry(2))
    await home.damage("tags = '[]'")

    def while_it_is_judged(_path: str, _snippet: str) -> tuple[str, ...]:
        home.change("recall_count = 7", "start_line = 1")
        return ("kiln",)

    first = await home.of(4_096, tags=while_it_is_judged).repair("main")
    second = await home.repairer.repair("main")
    found = await home.entries()

    assert (first.rows.normalised, second.rows.normalised) == (1, 1)
    assert [entry.recall_count for entry in found] == [7, 1]
    assert all("kiln" in entry.tags for entry in found)


async def test_a_repair_that_is_stopped_goes_on(home: Home) -> None:
    """What it had done is done, and the next one does the rest."""
    await home.take(*(home.entry(line) for line in range(1, 3 * PAGE_ROWS + 1)))
    await home.damage("tags = '[]'")
    asked: list[str] = []

    def stopping(path: str, _snippet: str) -> tuple[str, ...]:
        asked.append(path)
        if len(asked) > PAGE_ROWS + 10:
            raise KeyError("stopped")
        return ("kiln",)

    with pytest.raises(KeyError):
        await home.of(4_096, tags=stopping).repair("main")
    report = await home.repairer.repair("main")

    assert report.rows.normalised == 2 * PAGE_ROWS
    assert all("kiln" in entry.tags for entry in await home.entries())


async def test_the_files_of_openclaw_are_seen_to_as_well(home: Home) -> None:
    """Both are told, both are put right; a file that cannot be is said, and the rows are right all the same."""
    await home.take(home.entry(snippet=""))
    await home.write(STORE, json.dumps({"version": 1, "entries": {"k": 3}}))
    audit = await home.repairer.audit("main")
    report = await home.repairer.repair("main")

    assert [issue.code for issue in audit.issues] == ["recall-store-invalid"] * 2
    assert audit.as_json()["openclaw"]["invalidEntryCount"] == 1
    assert report.files is not None
    assert report.files.rewrote_store
    assert report.as_json()["rows"]["removedInvalidEntries"] == 1
    assert (await home.repairer.repair("work")).files is None

    await asyncio.to_thread((home.workspaces["main"] / SYSTEM_LOCK).unlink, missing_ok=True)
    await asyncio.to_thread((home.workspaces["main"] / SYSTEM_LOCK).mkdir)
    await home.take(home.entry(snippet=""))
    await home.write(STORE, "{")
    refused = await home.repairer.repair("main")
    assert "promotion" in refused.problem
    assert refused.files is None
    assert refused.rows.removed == {"empty": 1}


async def test_a_night_begins_with_it(home: Home) -> None:
    """What a repair says is JSON."""
    report = await home.repairer.repair("main")

    assert json.loads(json.dumps(report.as_json())) == {
        "agent": "main", "changed": False, "openclaw": None,
        "rows": {
            "lookedAt": 0, "removedInvalidEntries": 0, "removedByReason": {}, "normalisedEntries": 0,
            "markedAsPromoted": 0, "removedOverflowEntries": 0,
        },
    }  # fmt: skip
