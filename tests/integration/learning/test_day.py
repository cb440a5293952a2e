"""A day of work: two thousand turns in five sessions, with a model that fails now and then, and what must be true then.

Everything is the real thing but time, the model and the embedder. What is said, what fails and when is drawn by a seed.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from reverie.config import LearningConfig
from reverie.learning.feedback import Submission
from reverie.learning.feedback_targets import Target
from reverie.learning.gain import SET_MAX, raw_gain
from reverie.learning.ids import digest_of
from reverie.learning.skills import note_exposures
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.testing.learning_answers import LearningAnswers
from tests.integration.learning.learning_process import (
    AskedModel,
    Conversations,
    LearningProcess,
    ToolRound,
    open_process,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from reverie.testing.flaky_model import Fault
    from reverie.types import JsonObject

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

TURNS = 2_000
SESSIONS = ("s1", "s2", "s3", "s4", "s5")
RESTARTS = frozenset({700, 1_400})
RESET_AT = 1_000
LONG_EXCHANGES = frozenset({250, 900, 1_650})
CALLS_PER_TURN_MAX = 1.2
CONFIG = LearningConfig.model_validate({
    "budget": {"calls_hour": 100_000, "calls_day": 100_000, "tokens_hour": 1_000_000_000, "tokens_day": 1_000_000_000,
               "price_in": 1.0, "price_out": 3.0},
    "jobs": {"retry_wait_s": 5, "idle_quiet_s": 0},
})  # fmt: skip
"""Budgets that stop nothing: how often a model is asked is to come of the work alone."""
FAULTS: dict[Fault, int] = {
    "ok": 900, "malformed": 30, "broken_json": 30, "rate_limited": 12, "server_error": 20, "unreachable": 8,
}  # fmt: skip
"""Of so many calls in a thousand, what becomes."""
TOPICS = (
    ("coffee", "roasting", "beans", "espresso"),
    ("garden", "tomatoes", "watering", "seedlings"),
    ("parser", "tokens", "grammar", "pytest"),
    ("invoice", "customer", "payment", "overdue"),
    ("holiday", "flights", "hotel", "luggage"),
    ("container", "docker", "registry", "layers"),
    ("database", "sqlite", "indexes", "vacuum"),
    ("newsletter", "subscribers", "headline", "draft"),
)
TOOLS = ("bash", "read_file", "web_search", "edit_file")
THANKS = ("Thanks, that is perfect!", "Great work, thank you.", "Perfect.")
CORRECTIONS = (
    "No, that is wrong. Use uv instead of pip.",
    "That is not what I asked for: sort it by date.",
    "Wrong. Never commit without running the checks.",
)
OPENERS = ("And what about the {1}?", "Which of them has the {2}?", "And the {3}, please.")
WEAK = (
    "The {0} list deserves a table of {1} with a column for the {2} that is easy to read",
    "Could the {3} part of the {0} work be made shorter, say half a page about {1}",
)


@dataclass
class Day:
    """What is said on a day, drawn by a seed. `topics` are what each session is about."""

    rng: random.Random
    home: Conversations
    topics: dict[str, int] = field(default_factory=dict[str, int])
    live: dict[str, str] = field(default_factory=lambda: {key: key for key in SESSIONS})
    thumbs: int = 0

    def turn(self, number: int) -> str:
        """One turn somewhere; its session."""
        key = self.rng.choice(SESSIONS)
        if number == RESET_AT:
            self.home.end(self.live[key])
            self.live[key] = f"{key}b"
        session = self.live[key]
        text = self._text(session)
        self.home.begin(session, key)
        self.home.say(session, text, self._reply(session), self._rounds(number))
        return session

    def pause(self) -> float:
        """Seconds until the next turn: mostly some, now and then minutes, seldom hours."""
        draw = self.rng.random()
        if draw < 0.003:
            return self.rng.uniform(2.2, 5) * 3_600
        return self.rng.uniform(8, 50) * 60 if draw < 0.02 else self.rng.uniform(4, 60)

    def _text(self, session: str) -> str:
        draw = self.rng.random()
        if session not in self.topics or draw < 0.10:
            self.topics[session] = self.rng.randrange(len(TOPICS))
            return "New task: look after the {0} today, with the {1} and the {2} of it.".format(*self._words(session))
        if draw < 0.17:
            self.topics[session] = self.rng.randrange(len(TOPICS))
            return "Please prepare everything about {0}, {1} and {3} for the meeting".format(*self._words(session))
        if draw < 0.24:
            return self.rng.choice(THANKS)
        if draw < 0.30:
            return self.rng.choice(CORRECTIONS)
        told = self.rng.choice(OPENERS if draw < 0.75 else WEAK)
        return told.format(*self._words(session))

    def _reply(self, session: str) -> str:
        words = self._words(session)
        return f"The {words[0]} is done: {words[1]} and {words[2]} are in order, {self.rng.randrange(1000)} of them."

    def _words(self, session: str) -> tuple[str, ...]:
        return TOPICS[self.topics[session]]

    def _rounds(self, number: int) -> list[list[ToolRound]]:
        if number in LONG_EXCHANGES:
            return [[self._call(failing=False)] for _ in range(60)]
        if self.rng.random() < 0.6:
            return []
        failing = self.rng.random() < 0.1
        count = 4 if failing else self.rng.randrange(1, 4)
        tool = "bash" if failing else None
        return [[self._call(failing=failing, tool=tool) for _ in range(self.rng.randrange(1, 3))] for _ in range(count)]

    def _call(self, *, failing: bool, tool: str | None = None) -> ToolRound:
        name = tool or self.rng.choice(TOOLS)
        arguments = {"bash": {"command": "pytest -q"}, "web_search": {"query": "prices"}}.get(name, {"path": "notes.md"})
        result = "Traceback (most recent call last): ModuleNotFoundError: No module named 'uv'" if failing else "3 found"
        return ToolRound(name, json.dumps(arguments), result)


def relation_of(shown: JsonObject) -> str:
    """What a sensible model says: words in common with what was said before are the same task."""
    before = f"{shown['previous_user']} {shown['previous_reply']}".lower()
    about = next((topic for topic in TOPICS if topic[0] in shown["message"].lower()), None)
    return "follow_up" if about is None or about[0] in before else "new_task"


def axes_of(shown: JsonObject) -> tuple[float, float, float]:
    """Some tasks go well and some badly, by what is shown of them."""
    return ((0.9, 0.8, 0.9), (0.6, 0.5, 0.4), (-0.8, -0.6, -0.7))[len(json.dumps(shown)) % 3]


def faults(rng: random.Random) -> list[Fault]:
    """What becomes of ten thousand calls."""
    return rng.choices(list(FAULTS), weights=list(FAULTS.values()), k=10_000)


@dataclass
class Ran:
    """A day that is over."""

    home: Conversations
    model: AskedModel
    process: LearningProcess
    began: Counter[str]


async def thumbs(day: Day, process: LearningProcess, session: str, number: int) -> None:
    """Somebody presses a button."""
    target = Target("session", session)
    up = day.rng.random() < 0.7
    await process.feedbacks.submit(
        Submission(target, "positive" if up else "negative", text="" if up else "Use tabs instead of spaces.",
                   key=f"thumb{number}")
    )  # fmt: skip
    day.thumbs += 1


async def skills_shown(day: Day, process: LearningProcess, session: str) -> None:
    """A turn is shown the skills that there are, as the recall of turns notes it."""
    ids = [row[0] for row in day.home.rows("SELECT id FROM skills WHERE status <> 'archived' ORDER BY id LIMIT 3")]
    turn, now_ms = f"turn{day.home.turns}", day.home.clock.now_ms()
    if ids:
        await process.database.write(lambda tx: note_exposures(tx, "main", ids, turn, session, now_ms))


async def restarted(process: LearningProcess, home: Path, model: AskedModel) -> LearningProcess:
    """Another process, while jobs of this one are under way."""
    work = asyncio.create_task(process.work())
    await asyncio.sleep(0.02)
    work.cancel()
    await asyncio.wait([work])
    await process.aclose()
    process = await open_process(home, process.clock, model, CONFIG, together=True)
    await process.recover()
    return process


async def run_out(process: LearningProcess, home: Conversations) -> None:
    """Let time pass until nothing waits any more."""
    for _ in range(2_000):
        await process.follow()
        await process.work()
        due = home.value("SELECT min(not_before) FROM job_requests WHERE state = 'waiting'")
        if due is None:
            return
        process.clock.advance(ms=max(1, due - process.clock.now_ms()))
        await process.close_idle()
    raise AssertionError(home.rows("SELECT key, waits_for, error FROM job_requests WHERE state = 'waiting'"))


@asynccontextmanager
async def a_day(path: Path, seed: int) -> AsyncGenerator[Ran]:
    """The day, and what is left of it when all is done."""
    rng, clock, began = random.Random(seed), FakeClock(), Counter[str]()
    answers = LearningAnswers(relation=relation_of, axes=axes_of)
    model = AskedModel(answers, faults=faults(random.Random(seed)))
    process = await open_process(path, clock, model, CONFIG, together=True)
    home = Conversations(path, clock)
    day = Day(rng, home)
    try:
        await process.recover()
        for number in range(TURNS):
            session = day.turn(number)
            if rng.random() < 0.5:
                await skills_shown(day, process, session)
            if rng.random() < 0.04:
                await thumbs(day, process, session, number)
            await process.follow()
            clock.advance(seconds=day.pause())
            if number in RESTARTS:
                process = await restarted(process, path, model)
            if number % 5 == 0:
                await process.work()
                await process.close_idle()
        for session in home.rows("SELECT id FROM sessions WHERE ended_at IS NULL"):
            home.end(*session)
        await run_out(process, home)
        yield Ran(home, model, process, began)
    finally:
        home.close()
        await process.aclose()


async def test_probe(tmp_path: Path) -> None:
    """Figures."""
    import time
    t = time.monotonic()
    async with a_day(tmp_path, 1) as ran:
        h = ran.home
        print("seconds", time.monotonic() - t, "calls", len(ran.model.calls), ran.model.ops, ran.model.background_max)
        for sql in ("SELECT kind, state, count(*), sum(put_backs), sum(attempts) FROM job_requests GROUP BY 1,2", "SELECT state, count(*), sum(endings) FROM tasks GROUP BY 1",
                    "SELECT type, status, count(*) FROM policies GROUP BY 1, 2", "SELECT status, count(*), sum(exposures), sum(uses), sum(trials) FROM skills GROUP BY 1",
                    "SELECT count(*) FROM messages", "SELECT count(*), max(entries), max(steps), max(tokens) FROM episodes", "SELECT classified_by, state, count(*) FROM routings GROUP BY 1,2",
                    "SELECT stage, outcome, reason, count(*) FROM learning_trail GROUP BY 1,2,3", "SELECT state, count(*), sum(calls) FROM model_calls GROUP BY 1",
                    "SELECT key, error FROM job_requests WHERE state='dead'"):
            print(sql)
            for row in h.rows(sql):
                print("   ", row)
