"""Learning over one home as a process does it, driven by hand: what is said, followed, and worked on, by a fake clock.

    process = await open_process(home, clock, model)
    home.say("s1", "Compile the report"); await process.follow(); await process.work()

A process can be ended and another one opened over the same home; one whose database is mortal can die at any write.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from reverie.config import Home, LearningConfig
from reverie.learning.asking.foreground import Foreground
from reverie.learning.asking.model_door import ModelDoor
from reverie.learning.asking.permits import Permits
from reverie.learning.asking.provider import Provider
from reverie.learning.asking.storm_alarm import StormAlarm
from reverie.learning.episodes.episodes import Episodes
from reverie.learning.episodes.follower import Follower
from reverie.learning.feedback.bursts import Bursts
from reverie.learning.feedback.feedback import Feedbacks
from reverie.learning.feedback.listening import Listening
from reverie.learning.pipeline import Ground, handlers_of
from reverie.learning.skills.files import SkillFiles
from reverie.learning.steps.capture import Capture
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, FakeEmbedder, FlakyModel, InlineJobs
from reverie.testing.learning_answers import LearningAnswers, op_of, shown_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from reverie.jobs.record import JobRecord
    from reverie.llm.client import ModelEvent, ModelRequest
    from reverie.storage import Transaction

T = TypeVar("T")

QUICK_STATE = replace(STATE, durable=False)
"""No test here cuts the power, and thousands of commits need not wait for the disk."""
PROVIDER = "http://127.0.0.1:1/v1 flaky"


class ProcessDied(BaseException):
    """The process is gone, as by `kill -9`: nothing after this point was done."""


class MortalDatabase(Database):
    """A database whose process dies before its write number `dies_before`, counted from 0; None: it lives."""

    dies_before: int | None = None
    written = 0
    dead = False

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """As `Database.read`, by the living."""
        if self.dead:
            raise ProcessDied
        return await super().read(work)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """As `Database.write`, by the living."""
        if self.dead or self.written == self.dies_before:
            self.dead = True
            raise ProcessDied
        self.written += 1
        return await super().write(work)


class AskedModel(FlakyModel):
    """A flaky model that answers what learning asks. `ops` counts what it was asked for, per operation.

    `background_max` are the most calls at one time that need a place: all but the decision where a message belongs.
    `before_answer` is told of each operation before it is answered: it may let time pass, or raise what goes wrong.
    """

    def __init__(
        self, answers: LearningAnswers, *, before_answer: Callable[[str], None] = lambda _: None, **given: Any
    ) -> None:
        super().__init__(self._answered, **given)
        self.answers = answers
        self._before_answer = before_answer
        self.ops: Counter[str] = Counter()
        self.background = self.background_max = 0

    async def respond(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """As `FlakyModel.respond`."""
        op = op_of(request.messages[0].text) or "turn"
        self.ops[op] += 1
        placed = not op.startswith("turn.")
        self.background += placed
        self.background_max = max(self.background_max, self.background)
        try:
            async for event in super().respond(request):
                yield event
        finally:
            self.background -= placed

    def _answered(self, request: ModelRequest) -> str:
        op = op_of(request.messages[0].text)
        assert op is not None, "learning asks nothing else"
        self._before_answer(op)
        return self.answers.answer(op, shown_in(request.messages[1].text))


class Conversations:
    """The transcripts of a home, written as turns write them, and what a test looks at."""

    def __init__(self, home: Path, clock: FakeClock) -> None:
        self.home, self.clock = home, clock
        self._sql = apsw.Connection(str(home / "state.db"))
        self._sql.set_busy_timeout(5_000)
        self._sql.execute("PRAGMA synchronous = OFF")
        self._seqs: Counter[str] = Counter(dict(self.rows("SELECT session_id, max(seq) FROM messages GROUP BY 1")))
        self.turns = self.value("SELECT count(*) FROM turns")

    def begin(self, session: str, key: str | None = None) -> None:
        """A session."""
        self._sql.execute(
            "INSERT INTO sessions (id, key, agent, origin, started_at, last_interaction_at, updated_at)"
            " VALUES (?, ?, 'main', 'live', ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (session, f"agent:main:{key or session}", *[self.clock.now_ms()] * 3),
        )

    def end(self, session: str) -> None:
        """It is over: reset, or as old as it may get."""
        self._sql.execute("UPDATE sessions SET ended_at = ? WHERE id = ?", (self.clock.now_ms(), session))

    def say(
        self,
        session: str,
        text: str,
        reply: str = "It is done, and checked.",
        tools: Sequence[Sequence[ToolRound]] = (),
    ) -> str:
        """A turn: a message, rounds of tool calls, a reply; the turn's id. One transaction, as a turn's end is."""
        self.begin(session)
        self.turns += 1
        turn, now_ms = f"turn{self.turns}", self.clock.now_ms()
        with self._sql:
            self._sql.execute(
                "INSERT INTO turns (id, session_id, position, state, request, accepted_at, finished_at)"
                " VALUES (?, ?, ?, 'answered', '{}', ?, ?)",
                (turn, session, self.turns, now_ms, now_ms),
            )
            self._message(session, turn, "user", text)
            for number, calls in enumerate(tools):
                self._round(session, turn, number, calls)
            self._message(session, turn, "assistant", reply)
        return turn

    def _round(self, session: str, turn: str, number: int, calls: Sequence[ToolRound]) -> None:
        ids = [f"{turn}.{number}.{place}" for place in range(len(calls))]
        made = [
            {"id": call_id, "name": call.name, "arguments": call.arguments}
            for call_id, call in zip(ids, calls, strict=True)
        ]
        self._message(session, turn, "assistant", "I look at it.", tool_calls=made)
        for call_id, call in zip(ids, calls, strict=True):
            self._message(session, turn, "tool", call.result, tool_call_id=call_id, name=call.name)

    def _message(self, session: str, turn: str, role: str, text: str, **extra: Any) -> None:
        self._seqs[session] += 1
        self._sql.execute(
            "INSERT INTO messages (session_id, seq, turn_id, role, text, extra, fingerprint, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, x'', ?)",
            (session, self._seqs[session], turn, role, text, json.dumps(extra), self.clock.now_ms()),
        )

    def change(self, sql: str, *values: Any) -> None:
        """Change rows."""
        self._sql.execute(sql, values)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        return list(self._sql.execute(sql, values))

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row."""
        return self._sql.execute(sql, values).get

    def close(self) -> None:
        """Let the file go."""
        self._sql.close()


@dataclass(frozen=True, slots=True)
class ToolRound:
    """A call of a tool and what it gave."""

    name: str
    arguments: str
    result: str


@dataclass(slots=True)
class LearningProcess:
    """One process: everything of learning, and the jobs done by the test itself."""

    database: Database
    clock: FakeClock
    config: LearningConfig
    follower: Follower
    feedbacks: Feedbacks
    jobs: InlineJobs
    files: SkillFiles

    async def follow(self) -> None:
        """Read what was said, all of it."""
        while await self.follower.follow():
            pass

    async def close_idle(self) -> None:
        """End what nothing was said in for long."""
        while await self.follower.close_idle():
            pass

    async def recover(self) -> None:
        """As at a start: what ended while none ran, and the jobs that a process before this one had in hand."""
        await self.follower.start()
        while await self.follower.recover():
            pass
        await self.jobs.recover()

    async def work(self) -> tuple[JobRecord, ...]:
        """Do the jobs that are due, and what they ask for."""
        return await self.jobs.run_due(runs_max=20_000)

    async def aclose(self) -> None:
        """Release the database."""
        await self.database.aclose()


async def open_process(
    home: Path,
    clock: FakeClock,
    model: FlakyModel | None,
    config: LearningConfig,
    *,
    kind: type[Database] = Database,
    together: bool = False,
) -> LearningProcess:
    """Another process over a home; what one before it left is not looked at yet. `together`: jobs run side by side."""
    await asyncio.to_thread((home / "workspace").mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(op_of, "")  # reads the prompts, which the guard forbids on the loop
    database = await kind.open(home / "state.db", QUICK_STATE, now_ms=clock.now_ms())
    files = SkillFiles(database, clock, {"main": home / "workspace"}, FakeEmbedder())
    ground = Ground(Home(home), database, clock, config, model, FakeEmbedder(), files, PROVIDER)
    door = ModelDoor(
        model,
        database,
        clock,
        config,
        provider=Provider(database, clock, PROVIDER, pause_s=config.jobs.pause_s, probe_s=config.model_timeout_s),
        permits=Permits(database, clock, config.background_llm_concurrency, _name),
        foreground=Foreground(clock),
        alarm=StormAlarm(clock, config.jobs.storm_factor, 100_000),
    )
    feedbacks = Feedbacks(database, clock, config)
    episodes = Episodes(config, Capture(config), Listening(feedbacks, Bursts(config)), lambda: door.available)
    jobs = InlineJobs(database, clock, handlers_of(ground, door, episodes), config.jobs, together=together)
    return LearningProcess(
        database, clock, config, Follower(database, clock, episodes), feedbacks, jobs, files
    )  # fmt: skip


async def _name() -> str:
    return "inline-1"
