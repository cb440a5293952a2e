"""The job that lets skills earn their success rate: what a scored task says of the skills that were shown in it.

A skill that was shown and then fetched, or followed, is on trial; the task's score passes or fails it. One that was
shown and not used has earned nothing. One that was made for work of this kind and was not there drifts with how such
work goes. No model is asked.

Invariant: a task speaks once of a skill, however often the job runs; scored anew, it takes back what it said.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.learning.records import ToolUse, skill_of, task_of
from reverie.learning.skills.events import note_event
from reverie.learning.skills.scores import outcome_of, score_of, with_drift, with_trial
from reverie.learning.skills.skills import keep_score, note_use
from reverie.learning.skills.verification import keys_of
from reverie.learning.trail import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.config import LearningConfig, SkillsConfig
    from reverie.jobs.request import Job
    from reverie.learning.records import Skill, Task
    from reverie.learning.skills.files import SkillFiles
    from reverie.learning.skills.scores import TrialOutcome
    from reverie.learning.skills.skills import UseKind
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject

STAGE = "trials"
CALLS_MAX = 2_000
EVENTS_MAX = 1_000
SKILLS_MAX = 100
FOLLOWED_TOOLS_MIN = 2
"""A skill of one tool is not followed by calling it: that would have happened anyway."""

FETCH_TOOL = "memory_get"
_FETCHED = re.compile(r"skills/([^/\"'\s\\]+)/SKILL\.md")


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call of a task: where it stands in the transcript, in which turn, and by what names it is known."""

    seq: int
    turn_id: str | None
    keys: tuple[str, ...]
    fetched: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """The turns of a task in which one skill was shown, or used, with where they begin; in order."""

    exposures: tuple[tuple[int, str], ...] = ()
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """In which turn a skill was used, and how."""

    turn_id: str
    how: UseKind


class TrialsJob:
    """Does jobs of the kind `trials`; their payload is `{"task_id": …}`."""

    def __init__(self, database: Database, clock: Clock, config: LearningConfig, files: SkillFiles) -> None:
        self._database = database
        self._clock = clock
        self._mode = config.mode
        self._config: SkillsConfig = config.skills
        self._files = files

    async def handle(self, job: Job) -> JsonObject:
        """Resolve the trials of a scored task.

        Raises:
            HomeReadOnlyError, StorageFullError, StorageError: a row, or the file of a skill, could not be written.
        """
        if self._mode != "full":
            return {"skipped": self._mode}
        task_id, now_ms = str(job.payload["task_id"]), self._clock.now_ms()
        task = await self._database.read(lambda tx: _task(tx, task_id))
        if task is None or task.r_human is None:
            return {"skipped": "not_scored"}
        changed, did = await self._database.write(lambda tx: _resolve(tx, task, self._config, now_ms))
        for name in changed:
            await self._files.settle(task.agent, name)
        return did


def _task(tx: Transaction, task_id: str) -> Task | None:
    row = tx.row("find_task", id=task_id)
    return None if row is None else task_of(row)


def _resolve(tx: Transaction, task: Task, config: SkillsConfig, now_ms: int) -> tuple[list[str], JsonObject]:
    """All skills of one task in one transaction; the names of those whose files are due, and what was done."""
    calls = read_calls(tx, task.id)
    shown = _shown(tx, task, calls)
    outcome = outcome_of(task.r_human)
    due: list[str] = []
    used: set[str] = set()
    for skill_id, each in list(shown.items())[:SKILLS_MAX]:
        row = tx.row("find_skill", id=skill_id)
        if row is None or row["agent"] != task.agent:
            continue
        skill = skill_of(row)
        uses = uses_of(skill, each, calls)
        for use in uses:
            note_use(tx, task.agent, skill_id, use.turn_id, task.session_id, now_ms, use.how)
        said: TrialOutcome = outcome if uses else "unknown"
        turns = json.dumps([turn_id for _, turn_id in each.exposures] + [use.turn_id for use in uses])
        tx.execute("resolve_skill_exposures", skill_id=skill_id, task_id=task.id, turns=turns, outcome=said)
        if uses:
            used.add(skill_id)
            due += _tried(tx, task, skill, uses, outcome, config, now_ms)
    due += _drift(tx, task, used | set(shown), config, now_ms)
    return due, {"shown": len(shown), "used": len(used), "outcome": outcome}


def _tried(
    tx: Transaction,
    task: Task,
    skill: Skill,
    uses: Sequence[Use],
    outcome: TrialOutcome,
    config: SkillsConfig,
    now_ms: int,
) -> list[str]:
    """Count one trial; its skill's name when its file is due."""
    held = tx.row("find_skill_trial", skill_id=skill.id, task_id=task.id)
    if held is not None and held["outcome"] == outcome:
        return []
    before: TrialOutcome | None = None if held is None else held["outcome"]
    score = with_trial(score_of(skill), outcome, before)
    detail: JsonObject = {"r": task.r_human, "how": uses[0].how, "from": skill.eta, "to": score.eta}
    if held is None:
        note_event(tx, skill.id, "trial", now_ms, detail, task_id=task.id, outcome=outcome)
    else:
        tx.execute("change_skill_trial", id=held["id"], outcome=outcome, detail=json.dumps(detail), now=now_ms)
    note(tx, now_ms, agent=task.agent, stage=STAGE, outcome="learned", reason=f"trial_{outcome}", ref=skill.id,
         task_id=task.id, detail=detail)  # fmt: skip
    after = keep_score(tx, skill, score, config, now_ms)
    return [skill.name] if after.status != skill.status else []


def _drift(tx: Transaction, task: Task, known: set[str], config: SkillsConfig, now_ms: int) -> list[str]:
    """Move the skills that were made for such work and not shown in it; the names of those whose files are due.

    One that was never tried stays where its policy put it: what it would be worth is not known from doing without.
    """
    assert task.r_human is not None
    due: list[str] = []
    for row in tx.rows("skills_near_task", task_id=task.id, agent=task.agent, limit=SKILLS_MAX):
        skill = skill_of(row)
        if skill.id in known or not skill.trials or tx.value("skill_drifted", skill_id=skill.id, task_id=task.id):
            continue
        score = with_drift(score_of(skill), [task.r_human], config.archive_eta)
        detail: JsonObject = {"r": task.r_human, "from": skill.eta, "to": score.eta}
        note_event(tx, skill.id, "drift", now_ms, detail, task_id=task.id)
        note(tx, now_ms, agent=task.agent, stage=STAGE, outcome="learned", reason="drift", ref=skill.id,
             task_id=task.id, detail=detail)  # fmt: skip
        after = keep_score(tx, skill, score, config, now_ms)
        due += [skill.name] if after.status != skill.status else []
    return due


def read_calls(tx: Transaction, task_id: str) -> tuple[Called, ...]:
    """The tool calls of a task in order, at most `CALLS_MAX` steps of them."""
    return tuple(
        _called(row["seq"], row["turn_id"], ToolUse(**call))
        for row in tx.rows("skill_calls_of_task", task_id=task_id, limit=CALLS_MAX)
        for call in json.loads(row["tool_calls"])
    )


def _called(seq: int, turn_id: str | None, call: ToolUse) -> Called:
    keys = keys_of(call)
    found = _FETCHED.search(call.input) if keys[0].endswith(FETCH_TOOL) and not call.error_code else None
    return Called(seq, turn_id, keys, found[1] if found is not None else "")


def _shown(tx: Transaction, task: Task, calls: Sequence[Called]) -> dict[str, Shown]:
    """Every skill that was shown in a task, used in it, or fetched without having been shown."""
    exposures: dict[str, list[tuple[int, str]]] = {}
    uses: dict[str, list[str]] = {}
    for row in tx.rows("skill_events_of_task", task_id=task.id, limit=EVENTS_MAX):
        exposures.setdefault(row["skill_id"], [])
        if row["kind"] == "exposure":
            exposures[row["skill_id"]].append((row["seq"], row["turn_id"]))
        else:
            uses.setdefault(row["skill_id"], []).append(row["turn_id"])
    for name in dict.fromkeys(call.fetched for call in calls if call.fetched and call.turn_id):
        row = tx.row("find_skill_named", agent=task.agent, name=name)
        if row is not None:
            exposures.setdefault(row["id"], [])
    return {skill_id: Shown(tuple(turns), tuple(uses.get(skill_id, ()))) for skill_id, turns in exposures.items()}


def uses_of(skill: Skill, shown: Shown, calls: Sequence[Called]) -> tuple[Use, ...]:
    """In which turns of a task a skill was used: noted then, fetched, or followed after it was shown."""
    uses = {turn_id: Use(turn_id, "fetched") for turn_id in shown.uses}
    for call in calls:
        if call.fetched == skill.name and call.turn_id is not None:
            uses.setdefault(call.turn_id, Use(call.turn_id, "fetched"))
    if shown.exposures:
        first_seq, first_turn = shown.exposures[0]
        if follows(skill.tools, [call for call in calls if call.seq >= first_seq]):
            uses.setdefault(first_turn, Use(first_turn, "followed"))
    return tuple(uses.values())


def follows(tools: Sequence[str], calls: Sequence[Called]) -> bool:
    """Whether calls contain a skill's tools in their order, whatever stands between them.

    Two tools at least, in two calls at least: one command that happens to name both follows nothing.
    """
    if len(tools) < FOLLOWED_TOOLS_MIN:
        return False
    waiting = list(tools)
    matched = 0
    for call in calls:
        before = len(waiting)
        for key in call.keys:
            if waiting and waiting[0] == key:
                waiting.pop(0)
        matched += len(waiting) < before
    return not waiting and matched >= FOLLOWED_TOOLS_MIN
