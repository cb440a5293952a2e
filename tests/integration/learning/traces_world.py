"""A home with one conversation whose steps are taken, reflected on and scored, by scripted answers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apsw

from reverie.config import CaptureConfig, LearningConfig, RewardConfig
from reverie.jobs.request import Job
from reverie.learning.credit.reflection import WindowJob
from reverie.learning.credit.reward import RewardJob
from reverie.learning.records import Episode, Task, Trace, episode_of, task_of, trace_of
from reverie.learning.steps.capture import Capture, Captured, window_key
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, FakeEmbedder, ScriptedAsks
from tests.learning_rows import T0, seed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from reverie.learning.said import SaidMessage
    from reverie.storage import Row
    from reverie.types import JsonObject


@dataclass
class Home:
    """A home with a task `ta_1` and its episode `ep_1`, open until a test ends it."""

    path: Path
    database: Database
    config: LearningConfig = field(default_factory=LearningConfig)
    clock: FakeClock = field(default_factory=lambda: FakeClock(T0 + 100_000))
    asks: ScriptedAsks = field(default_factory=ScriptedAsks)
    embedder: FakeEmbedder | None = field(default_factory=FakeEmbedder)

    def seed(self, table: str, **columns: Any) -> None:
        """Write a row."""
        seed(self.path, table, **columns)

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement, or its effect."""
        connection = apsw.Connection(str(self.path))
        try:
            connection.set_busy_timeout(5_000)
            return list(connection.execute(statement, values))
        finally:
            connection.close()

    def set(self, **settings: Any) -> None:
        """Change settings: `mode`, or those of `capture` and `reward`."""
        values = self.config.model_dump()
        for section, model in (("capture", CaptureConfig), ("reward", RewardConfig)):
            known = {name: value for name, value in settings.items() if name in model.model_fields}
            values[section] = {**values[section], **known}
        values["mode"] = settings.get("mode", values["mode"])
        self.config = LearningConfig.model_validate(values)

    async def episode(self, episode_id: str = "ep_1") -> Episode:
        """An episode as it stands."""
        row = await self.database.read(lambda tx: tx.row("find_episode", id=episode_id))
        assert row is not None
        return episode_of(row)

    async def task(self) -> Task:
        """The task as it stands."""
        row = await self.database.read(lambda tx: tx.row("find_task", id="ta_1"))
        assert row is not None
        return task_of(row)

    async def take(self, messages: Sequence[SaidMessage], *, final: bool = False, episode_id: str = "ep_1") -> Captured:
        """Take the steps of messages."""
        episode, now_ms = await self.episode(episode_id), self.clock.now_ms()
        capture = Capture(self.config)
        return await self.database.write(lambda tx: capture.take(tx, episode, messages, now_ms, final=final))

    async def close_window(self, episode_id: str = "ep_1") -> bool:
        """Close the last window."""
        return await self.database.write(
            lambda tx: Capture(self.config).close_window(tx, episode_id, self.clock.now_ms())
        )

    async def reflect(self, number: int = 1, episode_id: str = "ep_1") -> JsonObject:
        """Do the job of a window."""
        job = Job(window_key(episode_id, number), "window", "background", {"episode_id": episode_id, "window": number})
        return await WindowJob(self.database, self.clock, self.config, self.asks, self.embedder).handle(job)

    async def end_task(self) -> None:
        """End the task, once more."""
        self.sql("UPDATE tasks SET state = 'ended', ended_at = ?, endings = endings + 1", self.clock.now_ms())

    async def reward(self, endings: int = 1) -> JsonObject:
        """Do the job of the task's reward."""
        job = Job(
            f"reward:ta_1:{endings}", "reward", "background", {"task_id": "ta_1", "endings": endings}, task_id="ta_1"
        )
        return await RewardJob(self.database, self.clock, self.config, self.asks).handle(job)

    def traces(self) -> tuple[Trace, ...]:
        """All traces in their order."""
        return tuple(trace_of(row) for row in self.rows("SELECT * FROM traces ORDER BY at, session_id"))

    def rows(self, statement: str, *values: Any) -> list[Row]:
        """Rows of a statement by the names of their columns."""
        connection = apsw.Connection(str(self.path))
        try:
            found: list[Row] = []
            cursor = connection.execute(statement, values)
            for row in cursor:
                names = [column[0] for column in cursor.get_description()]
                found.append(dict(zip(names, row, strict=True)))
            return found
        finally:
            connection.close()

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of what these stages write, to be compared."""
        tables = ("tasks", "traces", "reflection_windows", "learning_trail", "job_requests")
        return {table: self.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}  # noqa: S608 (our tables)


@asynccontextmanager
async def open_home(tmp_path: Path) -> AsyncGenerator[Home]:
    """An empty home with an open task and episode."""
    path = tmp_path / "state.db"
    database = await Database.open(path, STATE, now_ms=T0)
    home = Home(path, database)
    home.seed("tasks", id="ta_1", state="open", ended_at=None, ended_for=None, endings=0)
    home.seed("episodes", id="ep_1", task_id="ta_1", state="open", closed_at=None, closed_for=None, title="Cleaning")
    try:
        yield home
    finally:
        await database.aclose()


def scores(*alphas: Any, **more: Any) -> dict[str, Any]:
    """The answer of a model on so many steps."""
    return {
        "scores": [
            {
                "idx": idx,
                "alpha": alpha,
                "reflection_text": f"I learned thing {idx}.",
                "usable": True,
                "summary": f"step {idx}",
                **more,
            }
            for idx, alpha in enumerate(alphas)
        ]
    }


def verdict(goal: Any = 0.8, process: Any = 0.8, satisfaction: Any = 0.8, **more: Any) -> dict[str, Any]:
    """The answer of a judge."""
    return {
        "goal_achievement": goal,
        "process_quality": process,
        "user_satisfaction": satisfaction,
        "label": "success",
        "reason": "it worked",
        **more,
    }
