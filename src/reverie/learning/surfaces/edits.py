"""What a person changes of what was learned. A person's word stands: `edited_at` keeps rebuilds from undoing it.

Each change is one transaction with a line in the trail. Skills are changed by `Skills`, which has their files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from reverie.errors import RequestError, UnknownLearnedError
from reverie.jobs.forgotten import note_forgetting
from reverie.jobs.request import JobRequest, ask_for
from reverie.learning import trail
from reverie.learning.policies.policies import edit_policy, set_policy_status
from reverie.learning.skills.document import DESCRIPTION_CHARS_MAX
from reverie.learning.skills.document import TITLE_CHARS_MAX as SKILL_TITLE_CHARS_MAX
from reverie.learning.skills.folder import FILE_BYTES_MAX
from reverie.learning.skills.skills import HEAD_BYTES_MAX
from reverie.learning.surfaces.items import FORMS
from reverie.learning.worlds.world_models import edit_world_model, set_world_status
from reverie.sessions.forgetting import note_unlearned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.learning.surfaces.ports import Kind, Verb
    from reverie.storage import Row, Transaction
    from reverie.types import JsonObject

TEXT_CHARS_MAX = 16_000
GUIDE_CHARS_MAX = FILE_BYTES_MAX - HEAD_BYTES_MAX
TITLE_CHARS_MAX = 300
ENTRIES_MAX = 24
ENTRY_CHARS_MAX = 1_000
ARCHIVED_REWARD = '{"skipped": true, "reason": "archived_by_person"}'
"""What stands for the score of a task that a person put aside before it had one."""


@dataclass(frozen=True, slots=True)
class Editable:
    """A kind that can be edited: its texts with their longest, its lists of texts, and its switches."""

    texts: Mapping[str, int]
    lists: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """All that may be given."""
        return (*self.texts, *self.lists, *self.switches)


EDITABLE: dict[Kind, Editable] = {
    "traces": Editable({"summary": TITLE_CHARS_MAX, "reflection": TEXT_CHARS_MAX}),
    "policies": Editable(
        {
            "title": TITLE_CHARS_MAX,
            "trigger": TEXT_CHARS_MAX,
            "procedure": TEXT_CHARS_MAX,
            "verification": TEXT_CHARS_MAX,
            "boundary": TEXT_CHARS_MAX,
        },
        ("preference", "anti_pattern"),
        ("skill_eligible",),
    ),
    "world-models": Editable({"title": TITLE_CHARS_MAX, "body": TEXT_CHARS_MAX}, ("domain_tags",)),
    "skills": Editable(
        {"title": SKILL_TITLE_CHARS_MAX, "description": DESCRIPTION_CHARS_MAX, "guide": GUIDE_CHARS_MAX}
    ),
}
VERBS: dict[Kind, tuple[Verb, ...]] = {
    "episodes": ("archive", "unarchive"),
    "traces": ("archive", "unarchive"),
    "policies": ("archive", "unarchive"),
    "world-models": ("archive", "unarchive"),
    "skills": ("archive", "unarchive", "enable", "disable"),
    "feedback": (),
    "jobs": ("retry", "cancel"),
}
DELETABLE: frozenset[Kind] = frozenset({"policies", "world-models", "skills"})


def find(tx: Transaction, kind: Kind, id_: str) -> Row:
    """The row of one thing.

    Raises:
        UnknownLearnedError: there is none.
    """
    row = tx.row(f"item_of_{FORMS[kind].stem}", id=id_)
    if row is None:
        raise UnknownLearnedError(f"There is no {FORMS[kind].noun} '{id_[:200]}'.", param="id")
    return row


def check_changes(kind: Kind, changes: JsonObject) -> None:
    """Refuse changes that cannot be made.

    Raises:
        RequestError: nothing is changed, a field is not one, or holds what it may not.
    """
    editable = EDITABLE.get(kind)
    if editable is None:
        raise RequestError(f"A thing of the kind `{kind}` cannot be edited.", status=405)
    listed = ", ".join(f"`{field}`" for field in editable.fields)
    if not changes:
        raise RequestError(f"Nothing is to be changed. Fields: {listed}.")
    for name, value in changes.items():
        if name not in editable.fields:
            raise RequestError(f"There is no field `{name[:100]}` here. Fields: {listed}.", param=name[:100])
        wrong = _wrong(editable, name, value)
        if wrong:
            raise RequestError(f"`{name}` must be {wrong}.", param=name)


def _wrong(editable: Editable, name: str, value: Any) -> str:
    """What a field must be, if this value is not that."""
    if name in editable.switches:
        return "" if isinstance(value, bool) else "true or false"
    if name in editable.lists:
        texts = cast("list[Any]", value) if isinstance(value, list) else [None]
        fits = len(texts) <= ENTRIES_MAX and all(isinstance(t, str) and len(t) <= ENTRY_CHARS_MAX for t in texts)
        return "" if fits else f"a list of at most {ENTRIES_MAX} texts of at most {ENTRY_CHARS_MAX} characters"
    longest, least = editable.texts[name], int(name == "title")
    if isinstance(value, str) and len(value) <= longest and len(value.strip()) >= least:
        return ""
    return f"a text of {least} to {longest} characters"


def edit(tx: Transaction, kind: Kind, id_: str, changes: JsonObject, now_ms: int) -> None:
    """Make checked changes to anything but a skill.

    Raises:
        UnknownLearnedError: there is no such thing.
    """
    row = find(tx, kind, id_)
    texts: dict[str, str] = {name: changes[name] for name in EDITABLE[kind].texts if name in changes}
    more = sorted(set(changes) - set(texts))
    if kind == "traces":
        tx.execute("edit_trace", id=id_, now=now_ms, summary=texts.get("summary"), reflection=texts.get("reflection"))
        _note(tx, now_ms, kind, row, "edited", {"fields": sorted(changes)})
    elif kind == "policies":
        if texts:
            edit_policy(tx, id_, texts, now_ms)
        if more:
            _guide(tx, row, changes, now_ms)
    else:
        if texts:
            edit_world_model(tx, id_, texts, now_ms)
        if more:
            tags = json.dumps(changes["domain_tags"], ensure_ascii=False)
            tx.execute("tag_world_model", id=id_, now=now_ms, domain_tags=tags)
    if more:
        _note(tx, now_ms, kind, row, "edited", {"fields": more})


def _guide(tx: Transaction, row: Row, changes: JsonObject, now_ms: int) -> None:
    """Give a policy other guidance, or say whether skills may be made of it; what is not given stays."""
    given = {name: changes[name] for name in ("preference", "anti_pattern") if name in changes}
    guidance = json.dumps({**json.loads(row["guidance"]), **given}, ensure_ascii=False) if given else None
    eligible = int(changes["skill_eligible"]) if "skill_eligible" in changes else None
    tx.execute("guide_policy", id=row["id"], now=now_ms, guidance=guidance, skill_eligible=eligible)


def archive(tx: Transaction, kind: Kind, id_: str, now_ms: int, *, aside: bool) -> None:
    """Put something but a skill aside, or take it back; what is so already stays so. An episode stands for its task.

    A task that was put aside is never scored, and none of its steps is recalled. A policy or world model that is taken
    back is active.

    Raises:
        UnknownLearnedError: there is no such thing.
    """
    row = find(tx, kind, id_)
    if (row["archived_at"] is not None) == aside:
        return
    match kind:
        case "policies":
            set_policy_status(tx, id_, "archived" if aside else "active", now_ms)
            return
        case "world-models":
            set_world_status(tx, id_, "archived" if aside else "active", now_ms)
            return
        case "episodes" if aside:
            tx.execute("archive_task", id=row["task_id"], reward=ARCHIVED_REWARD, now=now_ms)
        case "episodes":
            _take_back(tx, row, now_ms)
        case _:
            tx.execute("archive_trace", id=id_, archived_at=now_ms if aside else None)
    _note(tx, now_ms, kind, row, "archived" if aside else "unarchived", {})


def _take_back(tx: Transaction, episode: Row, now_ms: int) -> None:
    """Take a task back. One that only a person had skipped has ended, and may be scored: once each time."""
    tx.execute("unarchive_task", id=episode["task_id"], reward=ARCHIVED_REWARD)
    task = tx.row("find_task", id=episode["task_id"])
    if task is None or task["state"] != "ended":
        return
    request = JobRequest(
        kind="reward",
        key=f"reward:{task['id']}:{task['endings']}:{episode['archived_at']}",
        lane="background",
        payload={"task_id": task["id"], "endings": task["endings"]},
        agent=task["agent"],
        task_id=task["id"],
    )
    ask_for(tx, request, now_ms)


def delete(tx: Transaction, kind: Kind, id_: str, now_ms: int) -> None:
    """Delete a policy or a world model; no import brings it back, and no run that had read it makes anything of it.

    Raises:
        UnknownLearnedError: there is no such thing.
    """
    row = find(tx, kind, id_)
    tx.execute(f"delete_{FORMS[kind].name}", id=id_)
    note_unlearned(tx, row["agent"], [id_], "deleted", now_ms)
    note_forgetting(tx, row["agent"], now_ms)
    _note(tx, now_ms, kind, row, "deleted", {})


def _note(tx: Transaction, now_ms: int, kind: Kind, row: Row, reason: str, detail: JsonObject) -> None:
    trail.note(
        tx,
        now_ms,
        agent=row["agent"],
        stage="edit",
        outcome="changed",
        reason=reason,
        ref=row["id"],
        task_id=row.get("task_id"),
        episode_id=row["id"] if kind == "episodes" else row.get("episode_id"),
        detail=detail,
    )
