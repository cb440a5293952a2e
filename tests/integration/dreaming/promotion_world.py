"""A workspace with notes that were recalled often enough, and what promotes them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from reverie.config import DreamingConfig
from reverie.dreaming.candidates import DAY_MS, Rules
from reverie.dreaming.entry import RecallEntry, entry_key, query_hash
from reverie.dreaming.evidence import RecallEntries, put_entry
from reverie.dreaming.memory_file import MemoryFile
from reverie.dreaming.promotion import Promoter
from reverie.dreaming.settings import FixedSettings
from reverie.dreaming.sources import LiveSources
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.testing.fake_transcripts import FakeTranscripts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from reverie.dreaming.promotion import PromotionReport
    from reverie.dreaming.sources import NoteAuthors
    from reverie.storage import Transaction
    from reverie.types import Provenance

NOTE = "memory/2026-04-01.md"
NOW = datetime(2026, 4, 6, 12, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1_000)
RULES = Rules(limit=10)
ROASTER = "The roaster is serviced in March."
TEXT_OF_ROASTER = f"""
## Promoted From Short-Term Memory (2026-04-06)

<!-- openclaw-memory-promotion:memory:{NOTE}:3:3 -->
- {ROASTER} [score=0.820 recalls=5 avg=0.850 source={NOTE}:3-3]
"""


def recalled(
    snippet: str, path: str = NOTE, line: int = 3, last: int | None = None, *, average: float = 0.85,
    recalls: int = 5, provenance: Provenance = "owner", **more: Any,
) -> RecallEntry:  # fmt: skip
    """A passage that passes every gate by default: the golden case of five recalls on three days."""
    last = last or line
    queries = tuple(query_hash(f"{path} {line} {number}") for number in range(min(4, recalls)))
    days = tuple((NOW - timedelta(shift)).date().isoformat() for shift in (5, 3, 1))
    values: dict[str, Any] = {
        "recall_count": recalls, "total_score": average * recalls, "max_score": average,
        "first_recalled_at_ms": NOW_MS - 5 * DAY_MS, "last_recalled_at_ms": NOW_MS - DAY_MS, "queries": queries,
        "user_queries": queries, "days": days, "tags": ("a1", "b1", "c1", "d1", "e1", "f1"), "provenance": provenance,
    }  # fmt: skip
    return RecallEntry(entry_key(path, line, last), path, line, last, snippet, **values | more)


@dataclass(slots=True)
class World:
    """A workspace, what was recalled of it, and a promoter. `told` is what the index heard of."""

    workspace: Path
    database: Database
    clock: FakeClock
    recalls: RecallEntries
    talk: FakeTranscripts
    config: DreamingConfig
    told: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    promoter: Promoter = field(init=False)

    def __post_init__(self) -> None:
        self.promoter = self.another()

    def another(
        self,
        recalls: RecallEntries | None = None,
        authors: NoteAuthors | None = None,
        repair: Callable[[str], Awaitable[object]] | None = None,
    ) -> Promoter:
        """A promoter on the same files, as another process has it."""
        workspaces = {"main": self.workspace}

        async def told(agent: str, path: str) -> None:
            self.told.append((agent, path))

        file = MemoryFile(self.database, workspaces, self.clock, changes_kept=self.config.changes_kept, written=told)
        sources = LiveSources(workspaces, self.talk, bytes_max=1_000_000, zone=UTC, authors=authors)
        return Promoter(file, recalls or self.recalls, sources, FixedSettings(self.config, UTC), repair=repair)

    def note(self, *lines: str, path: str = NOTE) -> None:
        file = self.workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    async def say(self, text: str, known_as: Provenance | None = None, **more: Any) -> None:
        """A message of a conversation; `known_as` is whose it was on record when it was recalled, if another."""
        said = self.talk.say(text, **more)

        def work(tx: Transaction) -> None:
            if tx.row("find_session", id=said.session_id) is None:
                names = {"id": said.session_id, "key": said.session_id, "agent": said.agent, "title": ""}
                tx.execute("insert_session", **names, origin=said.origin, now=said.created_at_ms)
            tx.execute(
                "insert_message", session_id=said.session_id, seq=said.seq, turn_id=None, role=said.role, text=text,
                speaker="", said_on="", extra="{}", visible=1, remember=1, fingerprint=b"", now=said.created_at_ms,
                provenance=known_as or said.provenance,
            )  # fmt: skip

        await self.database.write(work)

    async def recall(self, *entries: RecallEntry) -> None:
        """Have these passages been recalled, as searches here leave them."""
        for entry in entries:
            await self.database.write(lambda tx, e=entry: put_entry(tx, "main", e))

    async def write(self, text: str) -> None:
        """Save MEMORY.md as a person does, while something else goes on."""
        await asyncio.to_thread(self.file.write_bytes, text.encode("utf-8", "surrogateescape"))

    async def promote(self, rules: Rules = RULES, **more: Any) -> PromotionReport:
        return await self.promoter.promote("main", rules, NOW_MS, **more)

    @property
    def file(self) -> Path:
        return self.workspace / "MEMORY.md"

    @property
    def memory(self) -> str:
        """The text of MEMORY.md, of one that is there."""
        return self.file.read_bytes().decode("utf-8", "surrogateescape")

    @memory.setter
    def memory(self, text: str) -> None:
        self.file.write_bytes(text.encode("utf-8", "surrogateescape"))


@asynccontextmanager
async def world(folder: Path, **config: Any) -> AsyncGenerator[World]:
    """A world below a folder, whose note holds the roaster's passage; nothing is recalled yet."""
    workspace = folder / "workspace"
    (workspace / "memory").mkdir(parents=True, exist_ok=True)
    clock = FakeClock(NOW_MS)
    database = await Database.open(folder / "state.db", STATE, now_ms=1)
    try:
        recalls = RecallEntries(database, clock, entries_max=4_096, zone=UTC)
        made = World(workspace, database, clock, recalls, FakeTranscripts(), DreamingConfig(**config))
        made.note("# 2026-04-01", "", ROASTER, "Something else entirely.")
        yield made
    finally:
        await database.aclose()
