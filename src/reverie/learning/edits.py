"""What a person changes of what was learned. A person's word stands: `edited_at` keeps rebuilds from undoing it.

Each change is one transaction with a line in the trail. A skill's file follows its row afterwards.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from reverie.errors import LearnedStateError, RequestError, UnknownLearnedError
from reverie.learning import trail
from reverie.learning.views_items import FORMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.learning.surfaces_ports import Kind, Verb
    from reverie.storage import Row, Transaction
    from reverie.types import JsonObject

TEXT_CHARS_MAX = 16_000
TITLE_CHARS_MAX = 300
ENTRIES_MAX = 24
ENTRY_CHARS_MAX = 1_000
ARCHIVED_REWARD = '{"skipped": true, "reason": "archived_by_person"}'
"""What stands for the score of a task that a person put aside before it had one."""


@dataclass(frozen=True, slots=True)
class Editable:
    """A kind that can be edited: its texts with their longest, its lists of texts, its switches, and its query."""

    query: str
    texts: Mapping[str, int]
    lists: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """All that may be given."""
        return (*self.texts, *self.lists, *self.switches)


EDITABLE: dict[Kind, Editable] = {
    "traces": Editable("edit_trace", {"summary": TITLE_CHARS_MAX, "reflection": TEXT_CHARS_MAX}),
    "policies": Editable(
        "edit_policy",
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
    "world-models": Editable("edit_world_model", {"title": TITLE_CHARS_MAX, "body": TEXT_CHARS_MAX}, ("domain_tags",)),
    "skills": Editable(
        "edit_skill", {"title": TITLE_CHARS_MAX, "description": TITLE_CHARS_MAX * 2, "guide": TEXT_CHARS_MAX * 2}
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
    longest = editable.texts[name]
    return "" if isinstance(value, str) and len(value) <= longest else f"a text of at most {longest} characters"


def edit(tx: Transaction, kind: Kind, id_: str, changes: JsonObject, now_ms: int) -> None:
    """Make checked changes.

    Raises:
        UnknownLearnedError: there is no such thing.
    """
    row = find(tx, kind, id_)
    editable = EDITABLE[kind]
    values: JsonObject = {name: changes.get(name) for name in editable.texts}
    values |= {name: int(changes[name]) if name in changes else None for name in editable.switches}
    if kind == "policies":
        values["guidance"] = _guidance(row, changes)
    elif "domain_tags" in editable.lists:
        tags = changes.get("domain_tags")
        values["domain_tags"] = None if tags is None else json.dumps(tags, ensure_ascii=False)
    tx.execute(editable.query, id=id_, now=now_ms, **values)
    if kind == "skills":
        tx.execute("note_skill_edit", id=id_, now=now_ms, kind="edit", detail=json.dumps({"fields": sorted(changes)}))
    _note(tx, now_ms, kind, row, "edited_by_person", {"fields": sorted(changes)})


def _guidance(row: Row, changes: JsonObject) -> str | None:
    """The guidance of a policy with what is given of it; None when nothing is."""
    given = {name: changes[name] for name in ("preference", "anti_pattern") if name in changes}
    return json.dumps({**json.loads(row["guidance"]), **given}, ensure_ascii=False) if given else None


def archive(tx: Transaction, kind: Kind, id_: str, now_ms: int, *, aside: bool) -> None:
    """Put something aside, or take it back; what is so already stays so. An episode stands for its task.

    A task that was put aside is never scored. A policy, world model or skill that is taken back is active.

    Raises:
        UnknownLearnedError: there is no such thing.
    """
    row = find(tx, kind, id_)
    if (row["archived_at"] is not None) == aside:
        return
    at = now_ms if aside else None
    if kind == "episodes":
        query = "archive_task" if aside else "unarchive_task"
        timed = {"now": now_ms} if aside else {}
        tx.execute(query, id=row["task_id"], reward=ARCHIVED_REWARD, **timed)
    elif kind == "traces":
        tx.execute("archive_trace", id=id_, archived_at=at)
    else:
        query = f"archive_{FORMS[kind].name}"
        tx.execute(query, id=id_, status="archived" if aside else "active", archived_at=at, now=now_ms)
    _note(tx, now_ms, kind, row, "archived_by_person" if aside else "unarchived_by_person", {})


def switch(tx: Transaction, id_: str, now_ms: int, *, on: bool) -> None:
    """Switch a skill on or off.

    Raises:
        UnknownLearnedError: there is no such skill.
    """
    row = find(tx, "skills", id_)
    if bool(row["disabled"]) != on:
        return
    tx.execute("switch_skill", id=id_, disabled=int(not on), now=now_ms)
    detail = {"by": "person", "disabled": not on}
    tx.execute("note_skill_edit", id=id_, now=now_ms, kind="status", detail=json.dumps(detail))
    _note(tx, now_ms, "skills", row, "enabled_by_person" if on else "disabled_by_person", {})


def delete(tx: Transaction, kind: Kind, id_: str, now_ms: int) -> Row:
    """Delete something; returns the row that it was.

    Raises:
        UnknownLearnedError: there is no such thing.
        RequestError: a thing of this kind is not deleted.
    """
    if kind not in DELETABLE:
        raise RequestError(f"A thing of the kind `{kind}` is not deleted; archive it.", status=405)
    row = find(tx, kind, id_)
    tx.execute(f"delete_{FORMS[kind].name}", id=id_)
    _note(tx, now_ms, kind, row, "deleted_by_person", {})
    return row


def retry_job(tx: Transaction, key: str, now_ms: int) -> None:
    """Have a job that is dead or cancelled wait for its turn again, with all its attempts.

    Raises:
        UnknownLearnedError: there is no such job.
        LearnedStateError: it is in another state.
    """
    row = find(tx, "jobs", key)
    if not tx.execute("retry_job", id=key, now=now_ms):
        raise LearnedStateError(f"The job is {row['state']}: only one that is dead or cancelled can be tried again.")


def cancel_job(tx: Transaction, key: str, now_ms: int) -> None:
    """Have a job that waits never run.

    Raises:
        UnknownLearnedError: there is no such job.
        LearnedStateError: it runs, or has ended.
    """
    row = find(tx, "jobs", key)
    if not tx.execute("cancel_job", id=key, now=now_ms):
        raise LearnedStateError(f"The job is {row['state']}: only one that waits can be cancelled here.")


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
