"""A home whose nights a test decides: its notes, what was said, what time it is, and when the process is killed."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import apsw

from reverie.config import DreamingConfig
from reverie.dreaming.concepts import concept_tags
from reverie.dreaming.evidence import RecallEntries
from reverie.dreaming.ingestion import Ingestion
from reverie.dreaming.settings import FixedSettings
from reverie.dreaming.sources import OwnersNotes
from reverie.dreaming.sweep import Dreamer, dreamer_of
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.sources import NoteAuthors
    from reverie.types import JsonObject, Provenance

DAY_MS = 86_400_000


def at(text: str) -> int:
    """An instant in milliseconds, in UTC unless it says otherwise."""
    instant = datetime.fromisoformat(text)
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)


NIGHT = at("2026-04-06T03:00")


@dataclass
class Home:
    """A home at night. Agents have a workspace each; what a test says and writes is there at once."""

    path: Path
    database: Database
    recalls: RecallEntries
    agents: tuple[str, ...] = ("main",)
    clock: FakeClock = field(default_factory=lambda: FakeClock(NIGHT))
    runs: int = 0

    def workspace(self, agent: str = "main") -> Path:
        """An agent's workspace."""
        return self.path / agent

    def write(self, name: str, text: str, agent: str = "main", *, mtime_ns: int | None = None) -> Path:
        """Write a file of an agent's memory."""
        file = self.workspace(agent) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        if mtime_ns is not None:
            os.utime(file, ns=(mtime_ns, mtime_ns))
        return file

    def read(self, name: str, agent: str = "main") -> str:
        """A file of an agent's memory; empty if there is none."""
        file = self.workspace(agent) / name
        return file.read_bytes().decode() if file.exists() else ""

    def sql(self, statement: str, values: Any = ()) -> list[Any]:
        """Run a statement beside the program."""
        connection = apsw.Connection(str(self.path / "state.db"))
        connection.set_busy_timeout(5_000)
        try:
            return list(connection.execute(statement, values))
        finally:
            connection.close()

    def say(
        self,
        text: str,
        *,
        agent: str = "main",
        session: str = "s1",
        key: str = "",
        role: str = "user",
        at_ms: int = NIGHT - 3_600_000,
        origin: str = "live",
        remember: int = 1,
        provenance: Provenance | None = None,
        source: str | None = None,
    ) -> int:
        """Append a message to a conversation, which is opened; returns its number there."""
        self.sql(
            "INSERT OR IGNORE INTO sessions (id, key, agent, origin, started_at, last_interaction_at, updated_at) "
            "VALUES (?, ?, ?, ?, 1, 1, 1)",
            (session, key or f"agent:{agent}:{session}", agent, origin),
        )
        ((seq,),) = self.sql("SELECT coalesce(max(seq), 0) + 1 FROM messages WHERE session_id = ?", (session,))
        turn = None
        if source is not None:
            turn = f"turn-{session}-{seq}"
            self.sql(
                "INSERT INTO turns (id, session_id, position, state, request, accepted_at, source) "
                "VALUES (?, ?, ?, 'answered', '{}', 1, ?)",
                (turn, session, seq, source),
            )
        self.sql(
            "INSERT INTO messages (session_id, seq, turn_id, role, text, remember, fingerprint, created_at, provenance)"
            " VALUES (?, ?, ?, ?, ?, ?, x'00', ?, ?)",
            (session, seq, turn, role, text, remember, at_ms, provenance),
        )
        return seq

    def begin_run(self, run_id: str = "") -> str:
        """Put a run on record."""
        self.runs += 1
        run_id = run_id or f"run-{self.runs}"
        self.sql(
            "INSERT OR IGNORE INTO dream_runs (id, cause, due_at, state, holder, lease_until, started_at) "
            "VALUES (?, 'manual', 1, 'running', 'test', 1, 1)",
            (run_id,),
        )
        return run_id

    def ingestion(self, origins: NoteAuthors | None = None) -> Ingestion:
        """The passes."""
        return Ingestion(
            self.database,
            self.recalls,
            origins=origins or OwnersNotes(),
            tags=concept_tags,
            zone=UTC,
            bytes_max=1_000_000,
        )

    def dreamer(self, config: DreamingConfig | None = None, **more: Any) -> Dreamer:
        """What dreams."""
        return dreamer_of(
            database=self.database,
            clock=self.clock,
            recalls=self.recalls,
            workspaces={agent: self.workspace(agent) for agent in self.agents},
            settings=FixedSettings(config or DreamingConfig(), UTC),
            origins=more.pop("origins", OwnersNotes()),
            note_bytes_max=1_000_000,
            **more,
        )

    async def night(self, dreamer: Dreamer | None = None, now_ms: int = NIGHT, run_id: str = "") -> JsonObject:
        """One sweep, of a run of its own unless one is named."""
        return await (dreamer or self.dreamer()).sweep(self.begin_run(run_id), now_ms)

    async def entries(self, agent: str = "main") -> list[RecallEntry]:
        """All that is known, by place."""
        found = [entry async for page in self.recalls.pages(agent) for entry in page]
        return sorted(found, key=lambda entry: (entry.path, entry.start_line, entry.key))

    def steps(self, run_id: str, agent: str = "main") -> dict[str, JsonObject]:
        """What of a run is on record."""
        rows = self.sql("SELECT step, report FROM dream_steps WHERE run_id = ? AND agent = ?", (run_id, agent))
        return {step: json.loads(report) for step, report in rows}


@asynccontextmanager
async def open_home(
    path: Path, *, entries_max: int = 4_096, agents: tuple[str, ...] = ("main",)
) -> AsyncGenerator[Home]:
    """A home in a folder, new or as it was left."""
    for agent in agents:
        (path / agent).mkdir(parents=True, exist_ok=True)
    clock = FakeClock(NIGHT)
    database = await Database.open(path / "state.db", STATE, now_ms=1)
    try:
        recalls = RecallEntries(database, clock, entries_max=entries_max, zone=UTC, tags=concept_tags)
        yield Home(path, database, recalls, agents, clock)
    finally:
        await database.aclose()
