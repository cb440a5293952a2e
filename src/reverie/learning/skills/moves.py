"""A skill goes where its file goes: folders that a person renamed, traded, or put in place of another.

A file belongs to the skill whose id stands in its head. Copies are not moved files: where the skill still has its own
file, where the file is the one that the skill of its folder is known to have, and where a skill stands in that folder
and the file is not, byte for byte, that of the id.

Invariant: what a skill has earned, and the policy it was made of, stay with its text.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from reverie.learning.records import skill_of
from reverie.learning.skills.document import DUE, numbered_name
from reverie.learning.skills.events import note_event, note_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from reverie.learning.records import Skill
    from reverie.learning.skills.folder import Folder, Seen
    from reverie.storage import Row, Transaction


def moved(carried: Mapping[str, str], homes: Mapping[str, str], there: Collection[str]) -> dict[str, str]:
    """The skills that are to go by another name, by id.

    `carried` are the ids in files that may have been moved, by the names of their folders; `homes` the names that the
    skills of these ids have; `there` all folders in which a file stands. A skill in whose own folder there is a file,
    and not another skill's, stays where it is.
    """
    found: dict[str, str] = {}
    for name in sorted(carried):
        skill_id = carried[name]
        home = homes[skill_id]
        left = home not in there or carried.get(home, skill_id) != skill_id
        if left and home != name and skill_id not in found:
            found[skill_id] = name
    return found


def follow_moves(tx: Transaction, agent: str, changed: Iterable[str], folder: Folder, now_ms: int) -> list[str]:
    """Let the skills of an agent go by the names of the folders that their files are in; what was done, one each.

    `changed` are the names of files that their skills do not know. A skill whose name another one takes gets a free
    name; its file was deleted, unless it stands where the name does not fit.
    """
    carried, homes = _carried(tx, agent, {name: folder.files[name] for name in changed if name in folder.files})
    moves = moved(carried, homes, folder.files.keys())
    for skill_id in moves:  # out of the way first: two may trade their names
        tx.execute("rename_skill", id=skill_id, name=f":{skill_id}", now=now_ms)
    done: list[str] = []
    for skill_id, name in moves.items():
        row = tx.row("find_skill_named", agent=agent, name=name)
        if row is not None:
            done += _made_way(tx, row, folder, now_ms)
        tx.execute("rename_skill", id=skill_id, name=name, now=now_ms)
        skill = skill_of(found_row(tx, skill_id))
        note_file(tx, now_ms, skill, "changed", "renamed_by_a_person", {"from": homes[skill_id]})
        done.append("renamed")
    return done


def file_deleted(tx: Transaction, skill: Skill, now_ms: int) -> None:
    """A person deleted the file of a skill: it is given up, and remembers how it was."""
    tx.execute("skill_file_deleted", id=skill.id, now=now_ms)
    note_event(tx, skill.id, "status", now_ms, {"from": skill.status, "to": "archived", "why": "file_deleted"})
    note_file(tx, now_ms, skill, "changed", "file_deleted")


def found_row(tx: Transaction, skill_id: str) -> Row:
    """The row of a skill that is there."""
    row = tx.row("find_skill", id=skill_id)
    assert row is not None
    return row


def known_digests(row: Row) -> set[str]:
    """Of the file of a skill: as it was last, and as it was about to be written."""
    return {row["file_digest"], row["file_planned"], row["file_planned_before"]} - {"", DUE}


def _carried(tx: Transaction, agent: str, files: Mapping[str, Seen]) -> tuple[dict[str, str], dict[str, str]]:
    """The ids in files that may have been moved, by name, and the names of their skills, by id."""
    carried: dict[str, str] = {}
    homes: dict[str, str] = {}
    for name, seen in files.items():
        row = tx.row("find_skill", id=seen.id) if seen.id else None
        if row is None or row["agent"] != agent:
            continue
        held = tx.row("find_skill_named", agent=agent, name=name)
        if held is None or held["file_state"] == "deleted" or seen.digest in known_digests(row):
            carried[name], homes[seen.id] = seen.id, row["name"]
    return carried, homes


def _made_way(tx: Transaction, row: Row, folder: Folder, now_ms: int) -> list[str]:
    """Another skill's file stands where this one's was."""
    skill = skill_of(row)
    gone = bool(row["file_digest"]) and skill.file_state != "deleted" and skill.id not in folder.strays.values()
    if gone:
        file_deleted(tx, skill, now_ms)
    taken = {name.lower() for name in folder.files}
    names = (numbered_name(skill.name, number) for number in count(2))
    name = next(
        name
        for name in names
        if name.lower() not in taken and not tx.value("skill_name_taken", agent=skill.agent, name=name, id=skill.id)
    )
    tx.execute("rename_skill", id=skill.id, name=name, now=now_ms)
    note_file(tx, now_ms, skill_of(found_row(tx, skill.id)), "changed", "made_way", {"from": skill.name})
    return ["deleted"] if gone else []
