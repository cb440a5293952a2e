"""Traces in what was learned: steps, episodes, policies, world models, skills, feedback, and what models answered.

What rests on forgotten words may repeat them, in words that nobody can find again. So a policy, a world model or a
skill goes when any of its evidence does; what remains of the evidence may lead to it anew. A skill that a person has
rewritten is theirs: it stays, and a remark says so. Files are compared with their rows before that is decided.

Learning goes on meanwhile. What it makes of the evidence until that is gone is found when the conversation's episodes
go; from then on no run that began before writes anything (`jobs/forgotten.py`). Each thing that goes is on record by
its id, so that neither an import nor its own file brings it back.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from reverie.dreaming.traces import Traces
from reverie.jobs.forgotten import note_forgetting
from reverie.sessions.forgetting import note_unlearned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from reverie.dreaming.traces import Portion
    from reverie.storage.database import Database, Row, Transaction

PAGE_ROWS = 1_000
DELETED_AT_ONCE = 200
BREATH_S = 0.005
SKILLS_FOLDER = "skills"
SKILL_FILE = "SKILL.md"


class SkillFolders(Protocol):
    """The files of skills."""

    def at_rest(self, agent: str) -> AbstractAsyncContextManager[Callable[[str], Awaitable[None]]]:
        """An agent's skills say what their files say, and none is written meanwhile; gives what deletes one by name."""
        ...


class _Skill(NamedTuple):
    """A skill that rests on what is forgotten; one that is `rewritten` stays."""

    id: str
    name: str
    rewritten: bool


@dataclass(slots=True)
class _Doomed:
    """Ids of what is to go. `episodes` and `tasks` of sessions that stay lose their words only."""

    traces: list[str] = field(default_factory=list[str])
    episodes: list[str] = field(default_factory=list[str])
    tasks: list[str] = field(default_factory=list[str])
    sessions: list[str] = field(default_factory=list[str])
    feedback: list[str] = field(default_factory=list[str])
    policies: list[str] = field(default_factory=list[str])
    worlds: list[str] = field(default_factory=list[str])
    skills: list[_Skill] = field(default_factory=list[_Skill])
    repairs: list[str] = field(default_factory=list[str])

    @property
    def going(self) -> list[_Skill]:
        """The skills that do not stay."""
        return [skill for skill in self.skills if not skill.rewritten]

    @property
    def ids(self) -> list[str]:
        """Of everything that goes, and of the episodes that lose their words."""
        skills = [skill.id for skill in self.going]
        told = [*self.traces, *self.episodes, *self.feedback, *self.repairs]
        return [*told, *self.policies, *self.worlds, *skills]

    def counted(self) -> Traces:
        """How much of what, and what stays."""
        found = Traces()
        found.counts.update(
            steps=len(self.traces),
            episodes=len(self.episodes),
            policies=len(self.policies),
            world_models=len(self.worlds),
            skills=len(self.going),
            feedback=len(self.feedback) + len(self.repairs),
        )
        found.remarks += [
            f"{SKILLS_FOLDER}/{skill.name}/{SKILL_FILE} was rewritten by you and stays: look whether it quotes it."
            for skill in self.skills
            if skill.rewritten
        ]
        return found


class Learned:
    """What was learned from it, and the files of skills."""

    def __init__(self, database: Database, skills: SkillFolders) -> None:
        self._database = database
        self._skills = skills

    async def cited(self, portion: Portion) -> frozenset[str]:
        """How what goes is cited where it was quoted: `learned/` with an id, or the path of a skill's file."""
        if not portion.teaches:
            return frozenset()
        async with self._skills.at_rest(portion.agent):
            doomed = await self._doomed(portion)
        named = (*doomed.traces, *doomed.episodes, *doomed.policies, *doomed.worlds)
        skills = (f"{SKILLS_FOLDER}/{skill.name}/{SKILL_FILE}" for skill in doomed.going)
        return frozenset((*(f"learned/{each}" for each in named), *skills))

    async def look(self, portion: Portion) -> Traces:
        """Count it."""
        if not portion.teaches:
            return Traces()
        async with self._skills.at_rest(portion.agent):
            return (await self._doomed(portion)).counted()

    async def remove(self, portion: Portion) -> Traces:
        """Delete it, files of skills first: by the rows they are found again. Episodes that stay lose their words.

        Raises:
            StorageError, HomeReadOnlyError: something could not be written, or the file of a skill not be deleted.
        """
        if not portion.teaches:
            return Traces()
        agent = portion.agent
        async with self._skills.at_rest(agent) as delete:
            doomed = await self._doomed(portion)
            await self._write_down(agent, doomed.ids, portion.now_ms)
            for skill in doomed.going:
                await delete(skill.name)
            await self._database.write(lambda tx: _delete_made(tx, agent, doomed))
            for part in _parts(doomed.traces):
                await self._database.write(lambda tx, part=part: tx.execute("forget_traces", ids=json.dumps(part)))
                await asyncio.sleep(BREATH_S)
            late = await self._database.write(lambda tx: _delete_told(tx, portion, doomed))
            for skill in late:
                await delete(skill.name)
        await self._in_parts("forget_answers", agent)
        await self._in_parts("blank_jobs", agent)
        return doomed.counted()

    async def _write_down(self, agent: str, ids: Sequence[str], now_ms: int) -> None:
        """Before anything goes, have it on record that it is not to be learned again."""
        for part in _parts(ids):
            await self._database.write(lambda tx, part=part: note_unlearned(tx, agent, part, "forgotten", now_ms))

    async def _in_parts(self, name: str, agent: str) -> None:
        """Words of models and of errors are not told apart by what they say, so all of the agent's go."""
        gone = DELETED_AT_ONCE
        while gone == DELETED_AT_ONCE:
            gone = await self._database.write(lambda tx: tx.execute(name, agent=agent, limit=DELETED_AT_ONCE))
            await asyncio.sleep(BREATH_S)

    async def _doomed(self, portion: Portion) -> _Doomed:
        found = _Doomed()
        for doom in portion.dooms:
            if doom.whole:
                found.sessions.append(doom.session.id)
                await self._of_session(portion.agent, doom.session.id, found)
            elif doom.seqs:
                await self._database.read(
                    lambda tx, doom=doom: _of_messages(tx, portion.agent, doom.session.id, doom.seqs, doom.turns, found)
                )
        if portion.history:
            await self._database.read(lambda tx: _of_history(tx, portion.agent, portion.history, found))
        await self._database.read(lambda tx: _of_evidence(tx, portion.agent, found))
        return found

    async def _of_session(self, agent: str, session_id: str, found: _Doomed) -> None:
        after = ""
        while rows := await self._database.read(
            lambda tx, after=after: tx.rows(
                "traces_of_session", session_id=session_id, agent=agent, after=after, limit=PAGE_ROWS
            )
        ):
            after = rows[-1]["id"]
            found.traces += [row["id"] for row in rows]
        last = ""
        while rows := await self._database.read(
            lambda tx, last=last: tx.rows(
                "episodes_of_session", session_id=session_id, agent=agent, after=last, limit=PAGE_ROWS
            )
        ):
            last = rows[-1]["id"]
            found.episodes += [row["id"] for row in rows]
            found.tasks += [row["task_id"] for row in rows if row["task_id"] not in found.tasks]
        rows = await self._database.read(
            lambda tx: tx.rows("feedback_of_sessions", agent=agent, sessions=json.dumps([session_id]), limit=PAGE_ROWS)
        )
        found.feedback += [row["id"] for row in rows]


def _of_messages(
    tx: Transaction, agent: str, session_id: str, seqs: Sequence[int], turns: Sequence[str], found: _Doomed
) -> None:
    listed = json.dumps(list(seqs))
    rows = tx.rows("traces_of_messages", session_id=session_id, agent=agent, seqs=listed)
    found.traces += [row["id"] for row in rows]
    rows = tx.rows("episodes_of_messages", session_id=session_id, agent=agent, seqs=listed)
    found.episodes += [row["id"] for row in rows]
    found.tasks += [row["task_id"] for row in rows if row["task_id"] not in found.tasks]
    rows = tx.rows(
        "feedback_of_messages", agent=agent, session_id=session_id, seqs=listed, turns=json.dumps(list(turns))
    )
    found.feedback += [row["id"] for row in rows]


def _of_history(tx: Transaction, agent: str, history: str, found: _Doomed) -> None:
    """What was imported under the name of a history, also what names no step of it."""
    for row in tx.rows("learned_of_history", agent=agent, history=history):
        kinds = {"policy": found.policies, "world": found.worlds, "feedback": found.feedback, "repair": found.repairs}
        kinds[row["kind"]].append(row["id"])
    found.skills += map(_skill_of, tx.rows("skills_of_history", agent=agent, history=history))


def _of_evidence(tx: Transaction, agent: str, found: _Doomed) -> None:
    """What was made of the steps that go, and what was made of that. What is known to go already is kept in mind.

    A task is judged and taught as one: what rests on any episode of one that loses words may repeat them.
    """
    traces, tasks = json.dumps(found.traces), json.dumps(found.tasks)
    rows = tx.rows("episodes_of_tasks", tasks=tasks)
    episodes = json.dumps(list(dict.fromkeys((*found.episodes, *(row["id"] for row in rows)))))
    _add(found.feedback, tx.rows("feedback_of_traces", agent=agent, traces=traces))
    rows = tx.rows("repairs_of_evidence", agent=agent, sessions=json.dumps(found.sessions), tasks=tasks, traces=traces)
    _add(found.repairs, rows)
    feedback, repairs = json.dumps(found.feedback), json.dumps(found.repairs)
    rows = tx.rows(
        "policies_of_evidence", agent=agent, traces=traces, episodes=episodes, feedback=feedback, repairs=repairs
    )
    _add(found.policies, rows)
    policies = json.dumps(found.policies)
    _add(found.worlds, tx.rows("world_models_of_policies", agent=agent, policies=policies, episodes=episodes))
    rows = tx.rows("skills_of_evidence", agent=agent, policies=policies, worlds=json.dumps(found.worlds), traces=traces)
    known = {skill.id for skill in found.skills}
    found.skills += [_skill_of(row) for row in rows if row["id"] not in known]


def _add(ids: list[str], rows: Sequence[Row]) -> None:
    known = set(ids)
    ids += [row["id"] for row in rows if row["id"] not in known]


def _skill_of(row: Row) -> _Skill:
    return _Skill(row["id"], row["name"], bool(row["rewritten"]))


def _delete_made(tx: Transaction, agent: str, doomed: _Doomed) -> None:
    """What was made of the steps goes before them: by them it is found."""
    going = [skill.id for skill in doomed.going]
    names = json.dumps([skill.name for skill in doomed.going])
    policies, feedback, traces = map(json.dumps, (doomed.policies, doomed.feedback, doomed.traces))
    tx.execute("forget_skills", ids=json.dumps(going))
    tx.execute("loosen_skills", ids=json.dumps([skill.id for skill in doomed.skills if skill.rewritten]))
    tx.execute("forget_world_models", ids=json.dumps(doomed.worlds))
    tx.execute("forget_policies", ids=policies)
    tx.execute("forget_repairs", ids=json.dumps(doomed.repairs))
    tx.execute("forget_feedback", ids=feedback)
    tx.execute("forget_jobs_about", agent=agent, policies=policies, feedback=feedback, traces=traces,
               tasks=json.dumps(doomed.tasks))  # fmt: skip
    refs = [*going, *doomed.worlds, *doomed.policies, *doomed.repairs, *doomed.feedback, *doomed.traces]
    tx.execute("forget_trail", agent=agent, tasks=json.dumps(doomed.tasks), refs=json.dumps(refs), names=names)
    tx.execute("forget_marks", agent=agent, names=names)


def _delete_told(tx: Transaction, portion: Portion, doomed: _Doomed) -> list[_Skill]:
    """The tasks and episodes of conversations that go; of those that stay the words.

    With them goes what was made of the steps while these went; its skills are given. From here on no run that began
    before writes anything.
    """
    late = replace(doomed, feedback=[*doomed.feedback], repairs=[*doomed.repairs], policies=[*doomed.policies],
                   worlds=[*doomed.worlds], skills=[])  # fmt: skip
    _of_evidence(tx, portion.agent, late)
    _delete_made(tx, portion.agent, late)
    note_unlearned(tx, portion.agent, set(late.ids) - set(doomed.ids), "forgotten", portion.now_ms)
    sessions, tasks = json.dumps(doomed.sessions), json.dumps(doomed.tasks)
    tx.execute("blank_episodes", tasks=tasks)
    tx.execute("blank_reflections", tasks=tasks)
    tx.execute("blank_rewards", ids=tasks)
    for doom in portion.dooms:
        if not doom.whole:
            tx.execute("blank_routings", session_id=doom.session.id, seqs=json.dumps(list(doom.seqs)))
    tx.execute("forget_routings", sessions=sessions)
    tx.execute("forget_cursors", sessions=sessions)
    gone = [row["id"] for row in _tasks_of(tx, portion.agent, doomed)]
    tx.execute("forget_jobs", tasks=json.dumps(gone))
    tx.execute("forget_tasks", agent=portion.agent, sessions=sessions)
    note_forgetting(tx, portion.agent, portion.now_ms)
    return late.going


def _tasks_of(tx: Transaction, agent: str, doomed: _Doomed) -> list[dict[str, str]]:
    return tx.rows("tasks_of_sessions", agent=agent, sessions=json.dumps(doomed.sessions))


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + DELETED_AT_ONCE] for start in range(0, len(ids), DELETED_AT_ONCE)]
