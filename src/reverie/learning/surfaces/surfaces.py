"""What was learned, for people and programs: pages, one thing, why it is there, changing it, giving feedback.

Each answer is an object of the wire, so that HTTP and the command line show the same. Reading is one bounded snapshot,
a change one transaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reverie.errors import LearnedStateError, RequestError
from reverie.jobs.requests import JobBook
from reverie.learning.feedback.feedback import Feedbacks
from reverie.learning.feedback.targets import Target
from reverie.learning.skills.files import SkillFiles
from reverie.learning.skills.skills import Skills
from reverie.learning.surfaces import edits
from reverie.learning.surfaces.explain import explain
from reverie.learning.surfaces.items import FORMS, item
from reverie.learning.surfaces.pages import read_page
from reverie.learning.surfaces.status import read_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.config import LearningConfig
    from reverie.learning.surfaces.pages import PageRequest
    from reverie.learning.surfaces.ports import GivenFeedback, JobDesk, Kind, Verb
    from reverie.storage import Database, Row, Transaction
    from reverie.types import JsonObject

RETRIED = frozenset({"dead", "cancelled"})
CANCELLED = frozenset({"waiting", "dispatched", "running"})
"""States of a job that can be tried again, and of one that can be cancelled."""


class LearningSurfaces:
    """The surfaces of one home. `wake` is called when something was asked for."""

    def __init__(
        self,
        state: Database,
        clock: Clock,
        config: LearningConfig,
        *,
        skills: Skills,
        feedback: Feedbacks,
        jobs: JobDesk,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._config = config
        self._skills = skills
        self._feedback = feedback
        self._jobs = jobs
        self._wake = wake

    @classmethod
    def over(
        cls, state: Database, clock: Clock, config: LearningConfig, workspaces: Mapping[str, Path]
    ) -> LearningSurfaces:
        """Over a database alone, where no engine runs: what is asked for is done by whoever serves the home."""
        skills = Skills(state, clock, config.skills, SkillFiles(state, clock, workspaces))
        feedback = Feedbacks(state, clock, config)
        return cls(state, clock, config, skills=skills, feedback=feedback, jobs=JobBook(state, clock))

    # -- looking -----------------------------------------------------------------------------------------------------

    async def page(self, asked: PageRequest) -> JsonObject:
        """A page of one kind, as `{object: "list", data, has_more, next_after}`.

        Raises:
            RequestError: the request makes no sense.
            UnknownLearnedError: there is no row `after`.
            StorageError: it cannot be read.
        """
        asked.check()
        page = await self._state.read(lambda tx: read_page(tx, asked))
        return page.as_json()

    async def show(self, kind: Kind, name: str, agent: str = "") -> JsonObject:
        """One thing, whole. A skill may be named by its name, as one of `agent`.

        Raises:
            UnknownLearnedError: there is none.
        """
        return item(kind, await self._found(kind, name, agent))

    async def explain(self, kind: Kind, name: str, agent: str = "") -> JsonObject:
        """One thing with everything on record around it: evidence, scores, feedback, jobs, spend, trail.

        Raises:
            UnknownLearnedError: there is none.
        """
        return await self._state.read(lambda tx: explain(tx, kind, _find(tx, kind, name, agent)))

    async def status(self) -> JsonObject:
        """Spend, queues, pauses, what runs, alarms, counts."""
        now = self._clock.now_ms()
        return await self._state.read(lambda tx: read_status(tx, self._config, now))

    # -- changing ----------------------------------------------------------------------------------------------------

    async def edit(self, kind: Kind, name: str, changes: JsonObject, agent: str = "") -> JsonObject:
        """Change one thing; returns it as it is then.

        Raises:
            RequestError: the changes make no sense.
            UnknownLearnedError: there is no such thing.
            StorageError, HomeError: it could not be written.
        """
        edits.check_changes(kind, changes)
        id_ = (await self._found(kind, name, agent))["id"]
        if kind == "skills":
            await self._skills.edit(id_, **changes)
        else:
            now = self._clock.now_ms()
            await self._state.write(lambda tx: edits.edit(tx, kind, id_, changes, now))
        return await self.show(kind, id_)

    async def act(self, kind: Kind, name: str, verb: Verb, agent: str = "") -> JsonObject:
        """Archive, unarchive, enable, disable, retry or cancel one thing; returns it as it is then.

        Raises:
            RequestError: that cannot be done to a thing of this kind.
            UnknownLearnedError: there is no such thing.
            LearnedStateError: a job is in no state for it.
            StorageError, HomeError: it could not be written.
        """
        if verb not in edits.VERBS[kind]:
            raise RequestError(f"`{verb}` cannot be done to a thing of the kind `{kind}`.", status=405)
        row = await self._found(kind, name, agent)
        match kind:
            case "jobs":
                await self._act_on_job(row, verb)
            case "skills":
                await self._act_on_skill(row["id"], verb)
            case _:
                now, aside = self._clock.now_ms(), verb == "archive"
                await self._state.write(lambda tx: edits.archive(tx, kind, row["id"], now, aside=aside))
        return await self.show(kind, row["id"])

    async def delete(self, kind: Kind, name: str, agent: str = "") -> JsonObject:
        """Delete one thing; returns `{object, id, deleted}`.

        Raises:
            RequestError: a thing of this kind is not deleted.
            UnknownLearnedError: there is no such thing.
            StorageError, HomeError: it could not be written.
        """
        if kind not in edits.DELETABLE:
            raise RequestError(f"A thing of the kind `{kind}` is not deleted; archive it.", status=405)
        id_ = (await self._found(kind, name, agent))["id"]
        if kind == "skills":
            await self._skills.delete(id_)
        else:
            now = self._clock.now_ms()
            await self._state.write(lambda tx: edits.delete(tx, kind, id_, now))
        return {"object": f"reverie.learning.{FORMS[kind].name}.deleted", "id": id_, "deleted": True}

    async def give_feedback(self, given: GivenFeedback) -> JsonObject:
        """Keep feedback and have its consequences follow in the background; returns at once.

        Raises:
            UnknownFeedbackTargetError: what it is about does not exist.
            MessageKeyReusedError: its key stands for other feedback.
            RequestError: it says nothing.
            StorageError: it could not be kept.
        """
        target = await self._state.read(lambda tx: _target(tx, given))
        submission = replace(given.submission, target=target)
        kept = await self._feedback.submit(submission, agent=given.agent if given.only else None)
        if self._wake is not None:
            self._wake()
        return {
            "object": "reverie.feedback",
            "id": kept.id,
            "polarity": kept.polarity,
            "magnitude": kept.magnitude,
            "task_id": kept.task_id,
            "at_ms": kept.at_ms,
        }

    async def _found(self, kind: Kind, name: str, agent: str) -> Row:
        return await self._state.read(lambda tx: _find(tx, kind, name, agent))

    async def _act_on_skill(self, skill_id: str, verb: Verb) -> None:
        match verb:
            case "archive":
                await self._skills.archive(skill_id)
            case "unarchive":
                await self._skills.unarchive(skill_id)
            case "enable":
                await self._skills.enable(skill_id)
            case _:
                await self._skills.disable(skill_id)

    async def _act_on_job(self, row: Row, verb: Verb) -> None:
        wanted = RETRIED if verb == "retry" else CANCELLED
        if row["state"] not in wanted:
            states = ", ".join(sorted(wanted))
            raise LearnedStateError(f"The job is {row['state']}: `{verb}` is for one that is {states}.")
        await (self._jobs.retry(row["id"]) if verb == "retry" else self._jobs.cancel(row["id"]))
        if self._wake is not None:
            self._wake()


def _find(tx: Transaction, kind: Kind, name: str, agent: str) -> Row:
    """One thing by its id; a skill of an agent also by its name."""
    if kind == "skills" and agent:
        named = tx.row("find_skill_named", agent=agent, name=name)
        name = named["id"] if named is not None else name
    return edits.find(tx, kind, name)


def _target(tx: Transaction, given: GivenFeedback) -> Target:
    """What feedback is about, by its id: names that people use are looked up. What is unknown stays as it is."""
    target = given.submission.target
    if target.kind == "skill":
        named = tx.row("find_skill_named", agent=given.agent, name=target.id)
        return target if named is None else Target("skill", named["id"])
    if target.kind == "session":
        for key in (target.id, f"agent:{given.agent}:{target.id}"):
            session = tx.row("find_session", id=key) or tx.row("find_current_session", key=key)
            if session is not None:
                return Target("session", session["id"])
    return target
