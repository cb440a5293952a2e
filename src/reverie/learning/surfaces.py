"""What was learned, for people and programs: pages, one thing, why it is there, changing it, giving feedback.

Each answer is an object of the wire, so that HTTP and the command line show the same. Reading is one bounded snapshot,
a change one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.errors import LearnedStateError, RequestError
from reverie.learning import edits
from reverie.learning.feedback_intake import FeedbackIntake, resolve
from reverie.learning.views_explain import explain
from reverie.learning.views_items import item
from reverie.learning.views_pages import read_page
from reverie.learning.views_status import read_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.clock import Clock
    from reverie.config import LearningConfig
    from reverie.learning.surfaces_ports import FeedbackDesk, GivenFeedback, JobDesk, Kind, SkillFolder, Verb
    from reverie.learning.views_pages import PageRequest
    from reverie.storage import Database, Row, Transaction
    from reverie.types import JsonObject


class LearningSurfaces:
    """The surfaces of one home.

    `jobs` is the engine where it runs here; without it only rows are changed, which is enough for jobs that do not
    run. `skills` are the files that follow a change of a skill; `feedback` takes feedback, ours if none is given.
    `wake` is called when something was asked for.
    """

    def __init__(
        self,
        state: Database,
        clock: Clock,
        config: LearningConfig,
        *,
        jobs: JobDesk | None = None,
        skills: SkillFolder | None = None,
        feedback: FeedbackDesk | None = None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._config = config
        self._jobs = jobs
        self._skills = skills
        self._feedback = feedback or FeedbackIntake(state, clock)
        self._wake = wake

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
        return item(kind, await self._state.read(lambda tx: _find(tx, kind, name, agent)))

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
        now = self._clock.now_ms()
        return await self._changed(kind, name, agent, lambda tx, id_: edits.edit(tx, kind, id_, changes, now))

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
        if kind == "jobs":
            return await self._act_on_job(name, verb)
        now = self._clock.now_ms()

        def change(tx: Transaction, id_: str) -> None:
            if verb in {"enable", "disable"}:
                edits.switch(tx, id_, now, on=verb == "enable")
            else:
                edits.archive(tx, kind, id_, now, aside=verb == "archive")

        return await self._changed(kind, name, agent, change)

    async def delete(self, kind: Kind, name: str, agent: str = "") -> JsonObject:
        """Delete one thing; returns `{object, id, deleted}`.

        Raises:
            RequestError: a thing of this kind is not deleted.
            UnknownLearnedError: there is no such thing.
            StorageError, HomeError: it could not be written.
        """
        now = self._clock.now_ms()

        def work(tx: Transaction) -> Row:
            return edits.delete(tx, kind, _find(tx, kind, name, agent)["id"], now)

        gone = await self._state.write(work)
        if kind == "skills" and self._skills is not None:
            await self._skills.withdraw(gone["agent"], gone["name"])
        return {"object": f"{item(kind, gone)['object']}.deleted", "id": gone["id"], "deleted": True}

    async def give_feedback(self, given: GivenFeedback) -> JsonObject:
        """Keep feedback and have its consequences follow in the background; returns at once.

        Raises:
            UnknownLearnedError: what it is about does not exist.
            StorageError: it could not be kept.
        """
        target = await self._state.read(lambda tx: resolve(tx, given))
        taken = await self._feedback.submit(given, target)
        if self._wake is not None:
            self._wake()
        return {"object": "reverie.feedback", **taken}

    async def _changed(
        self, kind: Kind, name: str, agent: str, change: Callable[[Transaction, str], None]
    ) -> JsonObject:
        def work(tx: Transaction) -> Row:
            id_ = _find(tx, kind, name, agent)["id"]
            change(tx, id_)
            return edits.find(tx, kind, id_)

        row = await self._state.write(work)
        if kind == "skills" and self._skills is not None:
            await self._skills.publish(row["id"])
        return item(kind, row)

    async def _act_on_job(self, key: str, verb: Verb) -> JsonObject:
        """Through the engine where it runs here, because only it can stop what runs; else on the row."""
        if self._jobs is not None:
            before = await self._state.read(lambda tx: edits.find(tx, "jobs", key))
            done = await (self._jobs.retry(key) if verb == "retry" else self._jobs.cancel(key))
            if not done:
                raise LearnedStateError(f"The job is {before['state']}: there is nothing to {verb}.")
        else:
            now = self._clock.now_ms()
            change = edits.retry_job if verb == "retry" else edits.cancel_job
            await self._state.write(lambda tx: change(tx, key, now))
        if self._wake is not None:
            self._wake()
        return await self.show("jobs", key)


def _find(tx: Transaction, kind: Kind, name: str, agent: str) -> Row:
    """One thing by its id; a skill of an agent also by its name."""
    if kind == "skills" and agent:
        named = tx.row("find_skill_named", agent=agent, name=name)
        name = named["id"] if named is not None else name
    return edits.find(tx, kind, name)
