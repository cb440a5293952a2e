"""A state database with tasks that were scored, and the jobs that make policies and world models of them."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apsw

from reverie.config import LearningConfig
from reverie.jobs.request import Job
from reverie.learning.policies.association import AssociateJob
from reverie.learning.policies.induction import InduceJob
from reverie.learning.worlds.abstraction import AbstractJob
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, FakeEmbedder, ScriptedAsks
from tests.learning_rows import T0, seed, unit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.types import JsonObject

NOW = T0 + 3_600_000
POLICY: dict[str, Any] = {
    "title": "Install build headers before pip",
    "trigger": "pip fails to compile in an alpine container",
    "action": "Install gcc and musl-dev with apk, then run pip install again.",
    "rationale": "Wheels are missing for musl.",
    "confidence": 0.7,
}
WORLD: dict[str, Any] = {
    "title": "Alpine containers",
    "domain_tags": ["alpine", "musl"],
    "environment": [{"label": "musl", "description": "The C library is musl.", "evidenceIds": []}],
    "body": "Alpine images come without a compiler.",
    "confidence": 0.6,
}
TABLES = ("policies", "trace_policy_links", "l2_candidates", "world_models", "job_requests", "learning_marks")


@dataclass(slots=True)
class World:
    """The database, what is asked, and the three jobs."""

    path: Path
    database: Database
    clock: FakeClock
    asks: ScriptedAsks
    embedder: FakeEmbedder
    config: LearningConfig

    def task(self, name: str, *, agent: str = "main", r_human: float = 0.8) -> None:
        """A task that was scored, of one episode."""
        seed(self.path, "tasks", id=f"ta_{name}", agent=agent, state="scored", r_human=r_human)
        seed(self.path, "episodes", id=f"ep_{name}", task_id=f"ta_{name}", agent=agent, session_id=f"s_{name}")

    def trace(self, name: str, task: str, *, value: float = 0.8, **columns: Any) -> None:
        """A step of a task, about docker and pip in a shell unless said otherwise."""
        given: dict[str, Any] = {
            "tags": ["docker", "pip"],
            "tool_calls": [{"name": "shell", "input": "pip install"}],
            "vec_summary": unit(1, 0, 0),
            "r_human": value,
            "user_text": "install it",
            "agent_text": "installed",
            "episode_id": f"ep_{task}",
            **columns,
        }
        seed(self.path, "traces", id=f"tr_{name}", task_id=f"ta_{task}", value=value, **given)

    def worked(self, name: str, *, value: float = 0.8, agent: str = "main", **columns: Any) -> None:
        """A task of one step of the same name."""
        self.task(name, agent=agent, r_human=value)
        self.trace(name, name, value=value, agent=agent, session_id=f"s_{name}", **columns)

    async def associate(self, task: str) -> JsonObject:
        """Run the job that follows a scored task."""
        job = Job(f"associate:ta_{task}:x", "associate", "idle", {"task_id": f"ta_{task}"}, task_id=f"ta_{task}")
        return await AssociateJob(self.database, self.clock, self.config, self.asks).handle(job)

    async def run(self, key: str) -> JsonObject:
        """Run one job that was asked for."""
        row = next(row for row in self.rows("job_requests") if row["key"] == key)
        job = Job(key, row["kind"], row["lane"], json.loads(row["payload"]), row["agent"], task_id=row["task_id"])
        if row["kind"] == "induce":
            return await InduceJob(self.database, self.clock, self.config, self.asks).handle(job)
        assert row["kind"] == "abstract"
        return await AbstractJob(self.database, self.clock, self.config, self.asks, self.embedder).handle(job)

    async def run_all(self, kind: str) -> list[JsonObject]:
        """Run the jobs of a kind, in the order of their keys."""
        return [await self.run(key) for key in self.keys(kind)]

    def keys(self, kind: str) -> list[str]:
        """The jobs of a kind that were asked for."""
        return sorted(row["key"] for row in self.rows("job_requests") if row["kind"] == kind)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table."""
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            cursor = connection.cursor()
            rows = cursor.execute(f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608 (names of tables of tests)
            return [dict(zip([column[0] for column in cursor.get_description()], row, strict=True)) for row in rows]
        finally:
            connection.close()

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """All rows that these jobs write, but for the trail, which says each time what was done."""
        return {table: self.rows(table) for table in TABLES}

    def reasons(self, stage: str) -> list[str]:
        """Why a stage did what it did, in the order it did."""
        rows = sorted(self.rows("learning_trail"), key=lambda row: row["id"])
        return [row["reason"] for row in rows if row["stage"] == stage]

    def change(self, sql: str, *values: Any) -> None:
        """Change rows as another stage would."""
        connection = apsw.Connection(str(self.path))
        try:
            connection.set_busy_timeout(5_000)
            connection.execute(sql, values)
        finally:
            connection.close()


@asynccontextmanager
async def learned_world(path: Path, **settings: Any) -> AsyncGenerator[World]:
    """A world with settings of learning."""
    state = path / "state.db"
    database = await Database.open(state, STATE, now_ms=NOW)
    config = LearningConfig.model_validate(settings)
    try:
        yield World(state, database, FakeClock(NOW), ScriptedAsks(), FakeEmbedder(), config)
    finally:
        await database.aclose()
