"""A home in which messages are said, followed, and decided on, with doubles of what learns from them."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apsw

from reverie.config import LearningConfig
from reverie.jobs.request import Job
from reverie.learning.episodes.classification import RelationJob
from reverie.learning.episodes.episodes import Episodes
from reverie.learning.episodes.follower import Follower
from reverie.learning.episodes.redecision import Redecision
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, ScriptedAsks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from reverie.learning.asking.asks import Question
    from reverie.learning.episodes.decision import HiddenFeedback
    from reverie.learning.episodes.ports import Listens
    from reverie.learning.records import Episode, Trace
    from reverie.learning.said import SaidMessage
    from reverie.storage import Transaction

FOLLOW_UP = {"relation": "follow_up", "relation_confidence": 0.9, "intent": "task", "intent_confidence": 0.8}
NEW_TASK = {"relation": "new_task", "relation_confidence": 0.95, "intent": "task", "intent_confidence": 0.8}
UNSURE_NEW_TASK = {"relation": "new_task", "relation_confidence": 0.6}
ASK = "Compile the quarterly report about coffee"
"""A first message. A weak one says something of the same, and no rule tells what."""
WEAK = "The coffee report deserves a table of prices"


@dataclass
class Taken:
    """What a double made of messages."""

    traces: tuple[Trace, ...]
    through_seq: int


@dataclass
class Takes:
    """Takes messages: an exchange is done once there is a reply, a call once there is its result.

    `seqs` are the messages that are done, by session; `ended` the episodes whose window was closed.
    """

    seqs: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    owners: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])
    ended: list[str] = field(default_factory=list[str])

    def take(
        self, tx: Transaction, episode: Episode, messages: Sequence[SaidMessage], now_ms: int, *, final: bool = False
    ) -> Taken:
        """Take what is complete."""
        del tx, now_ms
        through, waiting = messages[0].seq - 1, set[str]()
        for message in messages:
            waiting |= {call.id for call in message.tool_calls}
            waiting.discard(message.tool_call_id or "")
            if final or (message.role != "user" and not waiting):
                through = message.seq
        done = [message.seq for message in messages if message.seq <= through]
        self.seqs.setdefault(episode.session_id, []).extend(done)
        self.owners |= {(episode.session_id, seq): episode.id for seq in done}
        return Taken((), through)

    def close_window(self, tx: Transaction, episode_id: str, now_ms: int) -> None:
        """An episode has ended."""
        del tx, now_ms
        self.ended.append(episode_id)


@dataclass
class Hears:
    """Remembers what it was told: the message, the episode before it, and what a model found in it."""

    heard: list[tuple[str, str, HiddenFeedback | None]] = field(
        default_factory=list[tuple[str, str, "HiddenFeedback | None"]]
    )

    def note_message(
        self,
        tx: Transaction,
        message: SaidMessage,
        episode: Episode,
        now_ms: int,
        *,
        hidden: HiddenFeedback | None = None,
    ) -> None:
        """A user's message."""
        del tx, now_ms
        self.heard.append((message.text, episode.id, hidden))

    def note_outcomes(self, tx: Transaction, session_id: str, traces: Sequence[Trace], now_ms: int) -> None:
        """New traces."""


class Asks(ScriptedAsks):
    """A model that answers at once, or is late with whatever is asked while `late`."""

    late = False
    timeouts_ms: list[int]

    async def ask(self, question: Question[Any], job: Job) -> Any:
        """The answer that was written down."""
        if self.late:
            raise TimeoutError
        return await super().ask(question, job)

    async def ask_now(self, question: Question[Any], job: Job, timeout_ms: int) -> Any:
        """The same, within a deadline."""
        self.timeouts_ms = [*getattr(self, "timeouts_ms", []), timeout_ms]
        return await self.ask(question, job)


class World:
    """A home. `restart` is what `kill -9` and a new start are: nothing but the database is left."""

    def __init__(self, path: Path, database: Database, clock: FakeClock, config: LearningConfig, asks: Asks) -> None:
        self.path, self.database, self.clock, self.config, self.asks = path, database, clock, config, asks
        self.takes, self.hears = Takes(), Hears()
        self._sql = apsw.Connection(str(path))
        self._sql.set_busy_timeout(5_000)
        self.restart()

    def restart(self, listens: Listens | None = None) -> None:
        """Another process; `listens` is what hears of messages there instead of the double."""
        self.episodes = Episodes(self.config, self.takes, listens or self.hears, lambda: self.asks.available)
        self.follower = Follower(self.database, self.clock, self.episodes)
        self.handlers = {
            "classify": RelationJob(self.database, self.clock, self.episodes, self.asks).handle,
            "redecide": Redecision(self.database, self.clock, self.episodes, self.asks).handle,
        }

    # -- what is said ---------------------------------------------------------------------------------------------

    def say(
        self,
        text: str,
        role: str = "user",
        *,
        session: str = "s1",
        calls: Sequence[str] = (),
        call: str | None = None,
        turn: str | None = None,
        remember: bool = True,
        whose: str | None = None,
    ) -> int:
        """A message is appended; its number."""
        self._sql.execute(
            "INSERT INTO sessions (id, key, agent, origin, started_at, last_interaction_at, updated_at)"
            " VALUES (?, ?, 'main', 'live', ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (session, f"agent:main:{session}", *[self.clock.now_ms()] * 3),
        )
        seq: int = self.value("SELECT coalesce(max(seq), 0) + 1 FROM messages WHERE session_id = ?", session)
        extra: dict[str, Any] = {}
        if calls:
            extra["tool_calls"] = [{"id": each, "name": "shell", "arguments": "{}"} for each in calls]
        if call is not None:
            extra["tool_call_id"] = call
        self._sql.execute(
            "INSERT INTO messages (session_id, seq, role, text, extra, fingerprint, created_at, remember, provenance)"
            " VALUES (?, ?, ?, ?, ?, x'', ?, ?, ?)",
            (session, seq, role, text, json.dumps(extra), self.clock.now_ms(), remember, whose),
        )
        if turn is not None:
            self._sql.execute("PRAGMA foreign_keys = OFF")
            self._sql.execute("UPDATE messages SET turn_id = ? WHERE session_id = ? AND seq = ?", (turn, session, seq))
        return seq

    def exchange(self, text: str, reply: str = "It is done.", *, tools: int = 0, session: str = "s1") -> int:
        """A message, so many rounds of one tool, a reply; the number of the message."""
        seq = self.say(text, session=session)
        for number in range(tools):
            self.say("", "assistant", session=session, calls=[f"c{seq}.{number}"])
            self.say(f"result {number}", "tool", session=session, call=f"c{seq}.{number}")
        self.say(reply, "assistant", session=session)
        return seq

    def end_session(self, session: str = "s1") -> None:
        """It is over."""
        self.change("UPDATE sessions SET ended_at = ? WHERE id = ?", self.clock.now_ms(), session)

    # -- what follows ---------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Until nothing is left."""
        while await self.follower.follow():
            pass

    async def idle(self) -> None:
        """Close what is quiet."""
        while await self.follower.close_idle():
            pass

    async def recover(self) -> None:
        """As at a start."""
        await self.follower.start()
        while await self.follower.recover():
            pass

    async def run(self, *kinds: str) -> list[Any]:
        """Do the jobs that are due, of these kinds or all; what became of each."""
        results: list[Any] = []
        for key, kind, lane, payload in self.rows(
            "SELECT key, kind, lane, payload FROM job_requests WHERE state = 'waiting' AND not_before <= ?"
            " ORDER BY not_before, rowid",
            self.clock.now_ms(),
        ):
            if kind in (kinds or self.handlers):
                results.append(await self.handlers[kind](Job(key, kind, lane, json.loads(payload))))
                self.change("UPDATE job_requests SET state = 'done' WHERE key = ?", key)
        return results

    # -- what is there --------------------------------------------------------------------------------------------

    def change(self, sql: str, *values: Any) -> None:
        """Change rows."""
        self._sql.execute(sql, values)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        return list(self._sql.execute(sql, values))

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row."""
        return self._sql.execute(sql, values).get

    def episodes_of(self, session: str = "s1") -> list[tuple[int, int, str, str | None, int, int]]:
        """The spans of a session, in order.

        Of each the first and last number, why its episode was opened and why closed, the number of its task, its
        entries.
        """
        tasks: dict[str, int] = {}
        return [
            (first, last, opened, closed, tasks.setdefault(task, len(tasks) + 1), entries)
            for first, last, opened, closed, task, entries in self.rows(
                "SELECT first_seq, last_seq, opened_for, closed_for, task_id, entries FROM episode_spans"
                " JOIN episodes ON episodes.id = episode_id WHERE episode_spans.session_id = ? ORDER BY first_seq",
                session,
            )
        ]

    def routing(self, seq: int, session: str = "s1") -> tuple[Any, ...]:
        """Where a message was put: site, relation, by whom, by what, action, forced, state."""
        return self.rows(
            "SELECT source, relation, classified_by, signal, action, forced, state FROM routings"
            " WHERE session_id = ? AND seq = ? AND state <> 'superseded'",
            session,
            seq,
        )[0]

    def jobs(self, kind: str) -> list[str]:
        """The keys of jobs of a kind, in the order in which they were asked for."""
        return [key for (key,) in self.rows("SELECT key FROM job_requests WHERE kind = ? ORDER BY rowid", kind)]

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that is kept of episodes."""
        tables = ("tasks", "episodes", "episode_spans", "routings", "job_requests", "learning_trail")
        return {table: self.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}  # noqa: S608 (our names)

    def close(self) -> None:
        """Let the file go."""
        self._sql.close()


def learning(**session: Any) -> LearningConfig:
    """Settings that differ in those of sessions."""
    return LearningConfig.model_validate({"session": session})


@asynccontextmanager
async def opened(
    tmp_path: Path, config: LearningConfig | None = None, asks: Asks | None = None
) -> AsyncGenerator[World]:
    """A new home, started before anything was said. Without `asks` there is no model."""
    clock = FakeClock()
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=clock.now_ms())
    world = World(tmp_path / "state.db", database, clock, config or LearningConfig(), asks or Asks({}, available=False))
    try:
        await world.recover()
        yield world
    finally:
        world.close()
        await database.aclose()
