"""Skills as others see them: what was shown and used, and what a person may do with one.

`note_exposures` and `note_use` are for the turn; `Skills` is for commands and requests of people. A person's word is
written into the row first, then into the file; the next comparison finishes what was interrupted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from reverie.errors import RequestError
from reverie.jobs.forgotten import note_forgetting
from reverie.learning.records import Skill, skill_of
from reverie.learning.skills.document import DESCRIPTION_CHARS_MAX, TITLE_CHARS_MAX
from reverie.learning.skills.eligibility import DELETED, refusal_mark
from reverie.learning.skills.events import note_event
from reverie.learning.skills.folder import FILE_BYTES_MAX
from reverie.learning.skills.scores import score_of, status_after, with_thumb
from reverie.learning.trail import note
from reverie.memory.text import clean, collapse
from reverie.sessions.forgetting import note_unlearned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reverie.clock import Clock
    from reverie.config import SkillsConfig
    from reverie.learning.skills.files import SkillFiles
    from reverie.learning.skills.scores import SkillScore
    from reverie.storage import Database, Transaction

STAGE = "skills"
HEAD_BYTES_MAX = 8 * 1024
"""What a file takes besides its text."""

UseKind = Literal["fetched", "followed"]


def note_exposures(
    tx: Transaction, agent: str, skill_ids: Iterable[str], turn_id: str, session_id: str | None, now_ms: int
) -> int:
    """Note that skills were shown in a turn; how many of them were not noted for it yet. Unknown ids are left out."""
    counted = 0
    for skill_id in dict.fromkeys(skill_ids):
        if tx.execute("note_skill_exposure", skill_id=skill_id, agent=agent, turn_id=turn_id, session_id=session_id,
                      now=now_ms):  # fmt: skip
            tx.execute("count_skill_exposure", skill_id=skill_id)
            counted += 1
    return counted


def note_use(
    tx: Transaction,
    agent: str,
    skill_id: str,
    turn_id: str,
    session_id: str | None,
    now_ms: int,
    how: UseKind = "fetched",
) -> bool:
    """Note that a skill was fetched or followed in a turn; False when that is known. To read it is to be shown it."""
    note_exposures(tx, agent, [skill_id], turn_id, session_id, now_ms)
    noted = tx.execute("note_skill_use", skill_id=skill_id, agent=agent, turn_id=turn_id, session_id=session_id,
                       now=now_ms, detail=json.dumps({"how": how}))  # fmt: skip
    if noted:
        tx.execute("count_skill_use", skill_id=skill_id, now=now_ms)
    return noted > 0


def keep_score(tx: Transaction, skill: Skill, score: SkillScore, config: SkillsConfig, now_ms: int) -> Skill:
    """Write a new score and the status that follows from it; the skill afterwards. A new status makes its file due."""
    tx.execute("set_skill_score", id=skill.id, eta=score.eta, trials=score.trials, passes=score.passes, now=now_ms)
    choice = status_after(skill.status, score, config)
    if choice.status != skill.status:
        tx.execute("set_skill_status", id=skill.id, status=choice.status, now=now_ms)
        tx.execute("mark_skill_file_due", id=skill.id, asked=False)
        change = {"from": skill.status, "to": choice.status, "why": choice.reason, "eta": score.eta}
        note_event(tx, skill.id, "status", now_ms, change)
        note(tx, now_ms, agent=skill.agent, stage=STAGE, outcome="changed", reason=choice.reason, ref=skill.id,
             detail=change)  # fmt: skip
    return found_skill(tx, skill.id)


def thumb(tx: Transaction, skill_id: str, config: SkillsConfig, now_ms: int, *, up: bool) -> Skill:
    """A person's thumb for a skill: it moves η by `eta_delta`, and below the floor the skill is given up.

    Raises:
        RequestError: there is no such skill.
    """
    skill = found_skill(tx, skill_id)
    score = with_thumb(score_of(skill), up=up, delta=config.eta_delta)
    note_event(tx, skill_id, "thumb", now_ms, {"up": up, "from": skill.eta, "to": score.eta})
    return keep_score(tx, skill, score, config, now_ms)


def found_skill(tx: Transaction, skill_id: str) -> Skill:
    """A skill by its id.

    Raises:
        RequestError: there is none.
    """
    row = tx.row("find_skill", id=skill_id)
    if row is None:
        raise RequestError(f"there is no skill {skill_id!r}", code="skill_not_found", status=404)
    return skill_of(row)


class Skills:
    """What a person may do with a skill. Every method raises `RequestError` (404) when there is no such skill.

    When a method returns, the row is changed for good and the file says the same. A file that could not be written
    raises as `SkillFiles.settle` does; the change stands, and the next comparison writes it.
    """

    def __init__(self, database: Database, clock: Clock, config: SkillsConfig, files: SkillFiles) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._files = files

    async def edit(
        self, skill_id: str, *, title: str | None = None, description: str | None = None, guide: str | None = None
    ) -> Skill:
        """Give a skill other words; from then on it is its owner's, and no rebuild changes it.

        Raises:
            RequestError: the text is empty or too long, or there is no such skill.
        """
        words = _checked(title, description, guide)

        def change(tx: Transaction, skill: Skill, now_ms: int) -> None:
            values = {"title": skill.title, "description": skill.description, "guide": skill.guide, **words}
            tx.execute("edit_skill", id=skill.id, now=now_ms, **values)
            note_event(tx, skill.id, "edit", now_ms, {"fields": sorted(words)})

        return await self._changed(skill_id, change, "edited_by_a_person")

    async def archive(self, skill_id: str) -> Skill:
        """Give a skill up for good: it is neither recalled nor made anew until it is taken up again."""
        return await self._with_status(skill_id, "archive_skill_for_good", "archived", "archived_by_a_person")

    async def unarchive(self, skill_id: str) -> Skill:
        """Take a skill up again; a file that was deleted is written again."""
        return await self._with_status(skill_id, "take_skill_up_again", "active", "taken_up_by_a_person")

    async def disable(self, skill_id: str) -> Skill:
        """Switch a skill off: it is not recalled."""
        return await self._switched(skill_id, disabled=True)

    async def enable(self, skill_id: str) -> Skill:
        """Switch a skill on again."""
        return await self._switched(skill_id, disabled=False)

    async def delete(self, skill_id: str) -> Skill:
        """Delete a skill with its file and all that is known of it: what it was.

        Its policy makes no other, and no import brings it back.
        """
        before = await self._database.read(lambda tx: found_skill(tx, skill_id))
        await self._files.settle(before.agent, before.name)  # its file may have been moved, and another stand there
        skill = await self._database.read(lambda tx: found_skill(tx, skill_id))
        await self._files.remove(skill.agent, skill.name)
        now_ms = self._clock.now_ms()

        def forget(tx: Transaction) -> None:
            for policy_id in skill.policies:
                tx.execute("set_learning_mark", name=refusal_mark(policy_id), value=DELETED, now=now_ms)
            tx.execute("delete_skill", id=skill.id)
            note_unlearned(tx, skill.agent, [skill.id], "deleted", now_ms)
            note_forgetting(tx, skill.agent, now_ms)
            note(tx, now_ms, agent=skill.agent, stage=STAGE, outcome="changed", reason="deleted_by_a_person",
                 ref=skill.id)  # fmt: skip

        await self._database.write(forget)
        return skill

    async def thumb(self, skill_id: str, *, up: bool) -> Skill:
        """A thumb up or down."""
        now_ms = self._clock.now_ms()
        skill = await self._database.write(lambda tx: thumb(tx, skill_id, self._config, now_ms, up=up))
        await self._files.settle(skill.agent, skill.name)
        return skill

    async def _switched(self, skill_id: str, *, disabled: bool) -> Skill:
        def change(tx: Transaction, skill: Skill, now_ms: int) -> None:
            tx.execute("switch_skill", id=skill.id, disabled=disabled, now=now_ms)
            note_event(tx, skill.id, "edit", now_ms, {"disabled": disabled})

        return await self._changed(skill_id, change, "disabled_by_a_person" if disabled else "enabled_by_a_person")

    async def _with_status(
        self, skill_id: str, query: str, status: Literal["active", "archived"], reason: str
    ) -> Skill:
        def change(tx: Transaction, skill: Skill, now_ms: int) -> None:
            tx.execute(query, id=skill.id, now=now_ms)
            note_event(tx, skill.id, "status", now_ms, {"from": skill.status, "to": status, "why": reason})

        return await self._changed(skill_id, change, reason)

    async def _changed(self, skill_id: str, change: Callable[[Transaction, Skill, int], None], reason: str) -> Skill:
        """Change a skill as a person asked: after what that person wrote into its file, before the file is written."""
        before = await self._database.read(lambda tx: found_skill(tx, skill_id))
        await self._files.settle(before.agent, before.name)
        now_ms = self._clock.now_ms()

        def work(tx: Transaction) -> Skill:
            skill = found_skill(tx, skill_id)
            change(tx, skill, now_ms)
            tx.execute("mark_skill_file_due", id=skill.id, asked=True)
            note(tx, now_ms, agent=skill.agent, stage=STAGE, outcome="changed", reason=reason, ref=skill.id)
            return found_skill(tx, skill_id)

        changed = await self._database.write(work)
        await self._files.settle(changed.agent, changed.name)
        return await self._database.read(lambda tx: found_skill(tx, skill_id))


def _checked(title: str | None, description: str | None, guide: str | None) -> dict[str, str]:
    """The words that were given, fit for a file.

    Raises:
        RequestError: nothing is given, or a text is empty or too long.
    """
    words: dict[str, str] = {}
    for param, text, chars_max in (
        ("title", title, TITLE_CHARS_MAX),
        ("description", description, DESCRIPTION_CHARS_MAX),
    ):
        if text is not None:
            words[param] = collapse(clean(text))
            if not words[param] or len(words[param]) > chars_max:
                raise RequestError(f"{param} needs 1 to {chars_max} characters", param=param)
    if guide is not None:
        words["guide"] = clean(guide).replace("\r\n", "\n").strip()
        if len(words["guide"].encode()) > FILE_BYTES_MAX - HEAD_BYTES_MAX:
            raise RequestError(f"guide: at most {FILE_BYTES_MAX - HEAD_BYTES_MAX:,} bytes", param="guide")
    if not words:
        raise RequestError("nothing to change: give title, description or guide")
    return words
