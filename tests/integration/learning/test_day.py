"""A day of work: two thousand turns in five sessions, with a model that fails now and then, and what must be true then.

Everything is the real thing but time, the model and the embedder. What is said, what fails and when is drawn by a seed.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from reverie.config import LearningConfig
from reverie.errors import UpstreamTimeoutError
from reverie.jobs.decisions import LANES, RUNS_MAX
from reverie.jobs.request import Job
from reverie.learning.feedback.feedback import Submission
from reverie.learning.feedback.targets import Target
from reverie.learning.ids import digest_of
from reverie.learning.policies.gain import SET_MAX, raw_gain
from reverie.learning.policies.measuring import measure
from reverie.learning.skills.skills import note_exposures
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
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.storage import Transaction
    from reverie.testing.flaky_model import Fault
    from reverie.types import JsonObject

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

TURNS = 2_000
SESSIONS = ("s1", "s2", "s3", "s4", "s5")
RESTARTS = frozenset({700, 1_400})
RESET_AT = 1_000
LONG_EXCHANGES = frozenset({250, 900, 1_650})
CALLS_PER_TURN_MAX = 1.2
LATE_SHARE = 0.05
"""Of the decisions where a message belongs."""
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
TABLES = (
    "tasks", "episodes", "traces", "policies", "world_models", "skills", "l2_candidates", "learned_places",
    "learned_changes", "reflection_windows", "learning_trail", "job_requests", "learning_cursors", "learning_marks",
    "feedback", "decision_repairs",
)  # fmt: skip
TOOLS = ("bash", "read_file", "web_search", "edit_file")
FAILURE = "Traceback (most recent call last): ModuleNotFoundError: No module named 'uv'"
THANKS = ("Thanks, that is perfect!", "Great work, thank you.", "Perfect.")
CORRECTIONS = (
    "No, that is wrong. Use uv instead of pip.",
    "That is not what I asked for: sort it by date.",
    "Wrong. Never commit without running the checks.",
)
BOILERPLATE = frozenset({"action", "alpha", "error", "input", "name", "outcome", "reflection", "state", "tools",
                         "utility"})  # fmt: skip
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
        if draw < 0.0015:
            return self.rng.uniform(2.2, 4) * 3_600
        return self.rng.uniform(5, 45) * 60 if draw < 0.01 else self.rng.uniform(2, 25)

    def _text(self, session: str) -> str:
        draw = self.rng.random()
        if session not in self.topics or draw < 0.10:
            self.topics[session] = self.rng.randrange(len(TOPICS))
            return "New task: look after the {} today, with the {} and the {} of it.".format(*self._words(session)[:3])
        if draw < 0.17:
            self.topics[session] = self.rng.randrange(len(TOPICS))
            return "Please prepare everything about {0}, {1} and {3} for the meeting".format(*self._words(session))
        if draw < 0.24:
            return self.rng.choice(THANKS)
        if draw < 0.30:
            return self.rng.choice(CORRECTIONS)
        told = self.rng.choice(OPENERS if draw < 0.85 else WEAK)
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
        arguments = {"bash": {"command": "pytest -q"}, "web_search": {"query": "prices"}}.get(
            name, {"path": "notes.md"}
        )
        result = FAILURE if failing else "3 found"
        return ToolRound(name, json.dumps(arguments), result)


class DayAnswers(LearningAnswers):
    """Answers whose policies say something of their own: one of the garden is not one of the parser."""

    def _l2_induction(self, shown: JsonObject) -> JsonObject:
        answer = super()._l2_induction(shown)
        words = sorted(set(re.findall(r"[a-z]{4,}", json.dumps(shown["steps"]).lower())) - BOILERPLATE)
        return {**answer, "title": " ".join(words[:6]), "trigger": " ".join(words[3:12]), "action": " ".join(words)}


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


async def thumbs(day: Day, process: LearningProcess, session: str, number: int) -> None:
    """Somebody presses a button."""
    target = Target("session", session)
    scored = day.home.rows("SELECT id FROM tasks WHERE state = 'scored' ORDER BY id")
    if scored and day.rng.random() < 0.4:
        target = Target("task", day.rng.choice(scored)[0])
    up = day.rng.random() < 0.7
    await process.feedbacks.submit(
        Submission(target, "positive" if up else "negative", text="" if up else "Use tabs instead of spaces.",
                   key=f"thumb{number}")
    )  # fmt: skip
    day.thumbs += 1


async def next_morning(process: LearningProcess, home: Conversations) -> None:
    """When all is done, somebody finds that the last tasks were no good after all."""
    for (task,) in home.rows("SELECT id FROM tasks WHERE state = 'scored' ORDER BY ended_at DESC LIMIT 10"):
        await process.feedbacks.submit(Submission(Target("task", task), "negative", key=f"late-{task}"))
    await run_out(process, home)


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
    await asyncio.sleep(0.2)  # what became of calls is written down
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
    rng, clock = random.Random(seed), FakeClock()
    answers = DayAnswers(relation=relation_of, axes=axes_of)
    slow = random.Random(seed)

    def takes_time(op: str) -> None:
        clock.advance(seconds=slow.uniform(0.05, 0.8))
        if op == "turn.classify" and slow.random() < LATE_SHARE:
            raise UpstreamTimeoutError("the flaky model is late")

    model = AskedModel(answers, before_answer=takes_time, faults=faults(random.Random(seed)))
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
            if number % 8 == 0:
                await process.work()
                await process.close_idle()
        for session in home.rows("SELECT id FROM sessions WHERE ended_at IS NULL"):
            home.end(*session)
        await run_out(process, home)
        await next_morning(process, home)
        yield Ran(home, model, process)
    finally:
        home.close()
        await process.aclose()


# -- what must be true of it ---------------------------------------------------------------------------------------


def check_episodes(home: Conversations) -> None:
    """Every message is in exactly one span, every user's message was decided on once, and no episode is too large."""
    unplaced = home.rows(
        "SELECT session_id, seq, (SELECT count(*) FROM episode_spans s WHERE s.session_id = m.session_id"
        " AND m.seq BETWEEN s.first_seq AND s.last_seq) AS spans FROM messages m WHERE spans <> 1"
    )
    assert unplaced == []
    decided = home.rows(
        "SELECT count(*), sum(state = 'provisional'), count(DISTINCT session_id || seq) FROM routings"
        " WHERE state <> 'superseded'"
    )
    assert decided == [(TURNS, 0, TURNS)]
    assert home.value("SELECT count(*) FROM routings WHERE state = 'superseded'") > 0, "some decisions were late"
    limits = CONFIG.session
    too_large = home.rows(
        "SELECT id, entries, steps, tokens FROM episodes WHERE entries > ? OR steps > ? OR tokens > ?",
        limits.max_turns_per_episode,
        limits.max_steps_per_episode,
        limits.max_tokens_per_episode,
    )
    assert too_large == []
    apart = home.rows(
        "SELECT e.id FROM episodes e JOIN episodes b ON b.id = e.continues_id WHERE e.task_id <> b.task_id"
    )
    assert apart == []
    assert home.rows("SELECT count(*) FROM episodes WHERE state = 'open' OR provisional = 1") == [(0,)]


def check_traces(home: Conversations) -> None:
    """Every tool call and every reply is one step, and every step was reflected on in one window."""
    rounds = home.value("SELECT sum(json_array_length(extra, '$.tool_calls')) FROM messages WHERE role = 'assistant'")
    assert home.value("SELECT sum(max(1, json_array_length(tool_calls))) FROM traces") == rounds + TURNS
    assert home.rows("SELECT id FROM traces WHERE vec_summary IS NULL") == []
    stray = home.rows(
        "SELECT t.id FROM traces t LEFT JOIN reflection_windows w ON w.episode_id = t.episode_id"
        " AND w.number = t.window WHERE w.state IS NOT 'reflected'"
    )
    assert stray == []


def check_rewards(home: Conversations) -> None:
    """Every ending of a task was looked at once, and scored at most once; none is missing."""
    assert home.rows("SELECT id FROM tasks WHERE state NOT IN ('scored', 'skipped')") == []
    missing = home.rows(
        "SELECT t.id, t.endings, count(j.key) FROM tasks t LEFT JOIN job_requests j ON j.task_id = t.id"
        " AND j.kind = 'reward' AND j.state = 'done' GROUP BY t.id HAVING count(j.key) <> t.endings"
    )
    assert missing == []
    twice = home.rows(
        "SELECT task_id, count(*) AS scored, (SELECT endings FROM tasks WHERE id = task_id) AS endings"
        " FROM learning_trail WHERE stage = 'reward' GROUP BY task_id HAVING scored > endings"
    )
    assert twice == []
    unscored = home.rows(
        "SELECT t.id FROM traces t JOIN tasks k ON k.id = t.task_id WHERE k.state = 'scored' AND t.r_human IS NULL"
    )
    assert unscored == []


def check_jobs(home: Conversations) -> None:
    """Nothing waits, nothing is dead, and what a model refused twice is in the trail."""
    left = home.rows("SELECT key, state, error FROM job_requests WHERE state NOT IN ('done', 'cancelled')")
    assert left == []
    refused = home.rows(
        "SELECT job_key FROM model_calls WHERE state = 'answered' AND error IS NOT NULL AND kind NOT IN ('classify')"
        " GROUP BY job_key, op HAVING count(*) > 1"
    )
    told = home.value(
        "SELECT count(*) FROM learning_trail WHERE reason IN ('refused', 'llm_failed', 'draft_refused',"
        " 'answer_refused')"
    )
    assert told >= sum(not key.startswith("feedback") for (key,) in refused)


def check_spend(ran: Ran) -> None:
    """The ledger is the sum of the calls; no more ran at once than may, and few for what was said."""
    home = ran.home
    calls = home.rows(
        "SELECT sum(calls), sum(tokens_in + tokens_out + tokens_reserved), round(sum(money), 6) FROM model_calls"
    )
    for span, kind in (("hour", ""), ("day", "")):
        spent = home.rows(
            "SELECT sum(calls), sum(tokens), round(sum(money), 6) FROM learning_spend WHERE span = ? AND kind = ?",
            span,
            kind,
        )
        assert spent == calls
    by_kind = "SELECT replace(kind, 'redecide', 'classify'), sum(calls) FROM {} GROUP BY 1 ORDER BY 1"
    of_calls, of_days = "model_calls", "learning_spend WHERE span = 'day' AND kind <> ''"
    assert home.rows(by_kind.format(of_days)) == home.rows(by_kind.format(of_calls)), "both ask the same question"
    unknown = home.value("SELECT count(*) FROM model_calls WHERE state = 'reserved' OR tokens_reserved <> 0")
    assert unknown <= RUNS_MAX * len(LANES) * len(RESTARTS), "only a restart leaves a call whose end is not known"
    assert home.rows("SELECT slot FROM model_permits") == []
    assert 0 < ran.model.background_max <= CONFIG.background_llm_concurrency
    assert len(ran.model.calls) <= CALLS_PER_TURN_MAX * TURNS
    assert max(count for (count,) in home.rows("SELECT calls FROM learning_spend WHERE span = 'episode'")) <= (
        CONFIG.budget.calls_episode
    )


async def check_policies(ran: Ran) -> None:
    """The gain of every policy was computed of the steps that follow it, as they are worth now, and by the formula."""
    home, job = ran.home, Job("associate:all:now", "associate", "idle", {}, "main")
    measured = home.rows("SELECT id, gain_of, support FROM policies WHERE type = 'procedural' AND status = 'active'")
    assert measured
    stale = [each[0] for each in measured if each[1] != digest_of(following(home, each[0]), each[2])]
    assert stale == []
    for policy_id, _, support in measured:

        def anew(tx: Transaction, policy_id: str = policy_id) -> None:
            tx.execute("forget_policy_gain", id=policy_id)
            measure(tx, policy_id, CONFIG, job, ran.process.clock.now_ms(), skills=False)

        await ran.process.database.write(anew)
        others = home.rows(
            "SELECT value FROM traces WHERE r_human IS NOT NULL AND id NOT IN (SELECT trace_id FROM trace_policy_links"
            " WHERE policy_id = ?) ORDER BY at DESC LIMIT ?",
            policy_id,
            SET_MAX,
        )
        values = [value for _, value in following(home, policy_id)]
        expected = raw_gain(values, [value for (value,) in others], CONFIG.policies.tau_softmax)
        gain, now_support = home.rows("SELECT gain, support FROM policies WHERE id = ?", policy_id)[0]
        assert (gain, now_support) == (pytest.approx(expected), support)


def following(home: Conversations, policy_id: str) -> list[tuple[str, float]]:
    """The newest steps that follow a policy, and what they are worth."""
    return home.rows(
        "SELECT t.id, t.value FROM trace_policy_links l JOIN traces t ON t.id = l.trace_id WHERE l.policy_id = ?"
        " AND t.archived_at IS NULL ORDER BY l.at DESC, l.trace_id DESC LIMIT ?",
        policy_id,
        SET_MAX,
    )


def check_skills(ran: Ran, path: Path) -> None:
    """What is counted of every skill is what happened to it, and its file is there."""
    rows = ran.home.rows(
        "SELECT name, exposures, uses, trials, passes,"
        " (SELECT count(*) FROM skill_events e WHERE e.skill_id = s.id AND kind = 'exposure'),"
        " (SELECT count(*) FROM skill_events e WHERE e.skill_id = s.id AND kind = 'use'),"
        " (SELECT count(*) FROM skill_events e WHERE e.skill_id = s.id AND kind = 'trial' AND outcome <> 'unknown'),"
        " (SELECT count(*) FROM skill_events e WHERE e.skill_id = s.id AND kind = 'trial' AND outcome = 'pass')"
        " FROM skills s"
    )
    assert rows
    for name, *counted in rows:
        assert counted[:4] == counted[4:], name
        assert (path / "workspace" / "skills" / name / "SKILL.md").is_file()
    assert sum(row[2] for row in rows) > 0, "some skill was used"


def check_sizes(home: Conversations) -> None:
    """No table has more than what happened: nothing grows by being worked on."""
    count = {name: home.value(f"SELECT count(*) FROM {name}") for name in TABLES}  # noqa: S608 (our names)
    things = count["traces"] + count["policies"] + count["world_models"] + count["skills"]
    assert count["learned_places"] == things
    assert count["learned_changes"] <= things
    assert count["l2_candidates"] <= count["traces"]
    assert count["reflection_windows"] <= count["traces"]
    assert count["learning_trail"] <= 3 * TURNS
    assert count["job_requests"] <= 2 * TURNS
    assert count["learning_cursors"] == 1 + len(SESSIONS) + 1
    assert count["learning_marks"] <= count["policies"] + 100


def figures(ran: Ran, seconds: float) -> str:
    """What became of the day, for people."""
    home = ran.home
    counted = {name: home.value(f"SELECT count(*) FROM {name}") for name in TABLES}  # noqa: S608 (our names)
    calls = len(ran.model.calls)
    return f"{calls} calls, {calls / TURNS:.2f} a turn, {dict(ran.model.ops)}, {counted}, {seconds:.0f} s"


async def test_day_of_two_thousand_turns(tmp_path: Path) -> None:
    """After failures, restarts and a reset everything is there once, counted right, and was not paid for twice."""
    began_s = time.monotonic()
    async with a_day(tmp_path, seed=1) as ran:
        print(figures(ran, time.monotonic() - began_s))  # noqa: T201 (shown with `-s`)
        check_episodes(ran.home)
        check_traces(ran.home)
        check_rewards(ran.home)
        check_jobs(ran.home)
        check_spend(ran)
        await check_policies(ran)
        check_skills(ran, tmp_path)
        check_sizes(ran.home)
