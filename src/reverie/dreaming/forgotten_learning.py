"""Traces in what was learned: steps, episodes, policies, world models, skills, feedback, and what models answered.

What rests on forgotten words may repeat them, in words that nobody can find again. So a policy, a world model or a
skill goes when any of its evidence does; what remains of the evidence may lead to it anew. A skill that a person has
rewritten is theirs: it stays, and a remark says so.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from reverie.dreaming.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from reverie.dreaming.traces import Portion
    from reverie.storage.database import Database, Transaction

PAGE_ROWS = 1_000
DELETED_AT_ONCE = 200
BREATH_S = 0.005
SKILLS_FOLDER = "skills"
SKILL_FILE = "SKILL.md"


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

    def counted(self) -> Traces:
        """How much of what, and what stays."""
        found = Traces()
        going = [skill for skill in self.skills if not skill.rewritten]
        found.counts.update(
            steps=len(self.traces),
            episodes=len(self.episodes),
            policies=len(self.policies),
            world_models=len(self.worlds),
            skills=len(going),
            feedback=len(self.feedback) + len(self.repairs),
        )
        found.remarks += [
            f"{SKILLS_FOLDER}/{skill.name}/{SKILL_FILE} was rewritten by you and stays: look whether it quotes it."
            for skill in self.skills
            if skill.rewritten
        ]
        return found


class Learned:
    """What was learned from it. `workspaces` hold the files of skills."""

    def __init__(self, database: Database, workspaces: Mapping[str, Path]) -> None:
        self._database = database
        self._workspaces = workspaces

    async def look(self, portion: Portion) -> Traces:
        """Count it."""
        return (await self._doomed(portion)).counted()

    async def remove(self, portion: Portion) -> Traces:
        """Delete it, files of skills first: by the rows they are found again. Episodes that stay lose their words.

        Raises:
            StorageError: something could not be written.
            OSError: the file of a skill could not be deleted.
        """
        doomed = await self._doomed(portion)
        if not portion.dooms:
            return Traces()
        await asyncio.to_thread(self._delete_files, portion.agent, doomed)
        await self._database.write(lambda tx: _delete_made(tx, portion.agent, doomed))
        for part in _parts(doomed.traces):
            await self._database.write(lambda tx, part=part: tx.execute("forget_traces", ids=json.dumps(part)))
            await asyncio.sleep(BREATH_S)
        await self._database.write(lambda tx: _delete_told(tx, portion, doomed))
        await self._forget_answers(portion.agent)
        return doomed.counted()

    async def _forget_answers(self, agent: str) -> None:
        """Answers of models are not told apart by what they say, so all of the agent's go."""
        gone = DELETED_AT_ONCE
        while gone == DELETED_AT_ONCE:
            gone = await self._database.write(
                lambda tx: tx.execute("forget_answers", agent=agent, limit=DELETED_AT_ONCE)
            )
            await asyncio.sleep(BREATH_S)

    def _delete_files(self, agent: str, doomed: _Doomed) -> None:
        for skill in doomed.skills:
            if not skill.rewritten:
                folder = self._workspaces[agent] / SKILLS_FOLDER / skill.name
                (folder / SKILL_FILE).unlink(missing_ok=True)
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

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
        if portion.dooms:
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


def _of_evidence(tx: Transaction, agent: str, found: _Doomed) -> None:
    """What was made of the steps that go, and what was made of that."""
    traces, episodes = json.dumps(found.traces), json.dumps(found.episodes)
    feedback = json.dumps(found.feedback)
    rows = tx.rows("policies_of_evidence", agent=agent, traces=traces, episodes=episodes, feedback=feedback)
    found.policies += [row["id"] for row in rows]
    policies = json.dumps(found.policies)
    rows = tx.rows("world_models_of_policies", agent=agent, policies=policies, episodes=episodes)
    found.worlds += [row["id"] for row in rows]
    rows = tx.rows("skills_of_evidence", agent=agent, policies=policies, worlds=json.dumps(found.worlds), traces=traces)
    found.skills += [_Skill(row["id"], row["name"], row["file_state"] == "edited") for row in rows]
    rows = tx.rows("repairs_of_evidence", agent=agent, sessions=json.dumps(found.sessions), traces=traces)
    found.repairs += [row["id"] for row in rows]


def _delete_made(tx: Transaction, agent: str, doomed: _Doomed) -> None:
    """What was made of the steps goes before them: by them it is found."""
    going = [skill.id for skill in doomed.skills if not skill.rewritten]
    tx.execute("forget_skills", ids=json.dumps(going))
    tx.execute("loosen_skills", ids=json.dumps([skill.id for skill in doomed.skills if skill.rewritten]))
    tx.execute("forget_world_models", ids=json.dumps(doomed.worlds))
    tx.execute("forget_policies", ids=json.dumps(doomed.policies))
    tx.execute("forget_repairs", ids=json.dumps(doomed.repairs))
    tx.execute("forget_feedback", ids=json.dumps(doomed.feedback))
    refs = [*going, *doomed.worlds, *doomed.policies, *doomed.repairs, *doomed.feedback, *doomed.traces]
    tx.execute("forget_trail", agent=agent, tasks=json.dumps(doomed.tasks), refs=json.dumps(refs))


def _delete_told(tx: Transaction, portion: Portion, doomed: _Doomed) -> None:
    """The tasks and episodes of conversations that go; of those that stay the words."""
    sessions, episodes = json.dumps(doomed.sessions), json.dumps(doomed.episodes)
    tx.execute("blank_episodes", ids=episodes)
    tx.execute("blank_following_episodes", ids=episodes)
    tx.execute("blank_rewards", ids=json.dumps(doomed.tasks))
    for doom in portion.dooms:
        if not doom.whole:
            tx.execute("blank_routings", session_id=doom.session.id, seqs=json.dumps(list(doom.seqs)))
    tx.execute("forget_routings", sessions=sessions)
    tx.execute("forget_cursors", sessions=sessions)
    gone = [row["id"] for row in _tasks_of(tx, portion.agent, doomed)]
    tx.execute("forget_jobs", tasks=json.dumps(gone))
    tx.execute("forget_tasks", agent=portion.agent, sessions=sessions)


def _tasks_of(tx: Transaction, agent: str, doomed: _Doomed) -> list[dict[str, str]]:
    return tx.rows("tasks_of_sessions", agent=agent, sessions=json.dumps(doomed.sessions))


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + DELETED_AT_ONCE] for start in range(0, len(ids), DELETED_AT_ONCE)]
