"""A database with a conversation of two exchanges, a task and its episode, for tests of feedback."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import apsw

from reverie.config import LearningConfig
from reverie.learning.feedback.feedback import Feedbacks
from reverie.learning.records import Episode, episode_of
from reverie.learning.said import SaidMessage
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from tests.learning_rows import T0, seed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.storage import Row

NOW = T0 + 3_600_000


class FeedbackWorld:
    """An open database, a clock at `NOW`, and what is asked of both."""

    def __init__(self, database: Database, config: LearningConfig) -> None:
        self.database = database
        self.config = config
        self.clock = FakeClock(NOW)
        self.feedbacks = Feedbacks(database, self.clock, config)

    def seed(self, table: str, **columns: Any) -> None:
        """Write a row."""
        seed(self.database.path, table, **columns)

    def rows(self, sql: str) -> list[Any]:
        """What stands in the database: rows of one column as values, else as tuples."""
        connection = apsw.Connection(str(self.database.path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            found = connection.execute(sql).fetchall()
        finally:
            connection.close()
        return [row[0] if len(row) == 1 else row for row in found]

    async def episode(self, episode_id: str = "ep_1") -> Episode:
        """An episode as it is now."""
        row: Row | None = await self.database.read(lambda tx: tx.row("find_episode", id=episode_id))
        assert row is not None
        return episode_of(row)

    def say(self, text: str, *, seq: int = 3, whose: Any = "owner") -> SaidMessage:
        """A user's message after the first exchange."""
        return SaidMessage(seq=seq, role="user", text=text, at_ms=NOW, whose=whose, turn_id=None)

    def calls(self, pattern: str, *, first: int = 0, session_id: str = "s1") -> list[str]:
        """Calls of a shell as traces: `f` fails, `s` goes well. Returns their ids."""
        ids: list[str] = []
        for number, sign in enumerate(pattern, start=first):
            trace_id = f"tr_{session_id}_{number}"
            call = {"name": "shell", "input": json.dumps({"command": "pytest -q"}),
                    "error_code": "EXIT_1" if sign == "f" else ""}  # fmt: skip
            self.seed("traces", id=trace_id, task_id="ta_1", episode_id="ep_1", session_id=session_id,
                      tool_calls=[call], failed=int(sign == "f"))  # fmt: skip
            ids.append(trace_id)
        return ids


@asynccontextmanager
async def restarted(tmp_path: Path, **settings: Any) -> AsyncGenerator[FeedbackWorld]:
    """The world as another process finds it."""
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=NOW)
    try:
        yield FeedbackWorld(database, LearningConfig(**settings))
    finally:
        await database.aclose()


@asynccontextmanager
async def feedback_world(tmp_path: Path, **settings: Any) -> AsyncGenerator[FeedbackWorld]:
    """The world, with settings of learning such as `mode="lightweight"`."""
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=T0)
    world = FeedbackWorld(database, LearningConfig(**settings))
    world.seed("sessions", id="s1", key="agent:main:main", agent="main", origin="live", started_at=T0,
               last_interaction_at=T0, updated_at=T0)  # fmt: skip
    for position, turn in enumerate(("t1", "t2"), start=1):
        world.seed("turns", id=turn, session_id="s1", position=position, state="answered", request="{}",
                   accepted_at=T0)  # fmt: skip
    for seq, role, text, turn in ((1, "user", "Write the tests", "t1"), (2, "assistant", "I used unittest.", "t1"),
                                  (3, "user", "And the docs", "t2"), (4, "assistant", "Done.", "t2")):  # fmt: skip
        world.seed("messages", session_id="s1", seq=seq, turn_id=turn, role=role, text=text, fingerprint=b"",
                   created_at=T0 + seq)  # fmt: skip
    world.seed("tasks", id="ta_1")
    world.seed("episodes", id="ep_1", task_id="ta_1")
    world.seed("episode_spans", first_seq=1, last_seq=4, episode_id="ep_1")
    try:
        yield world
    finally:
        await database.aclose()
