"""What happened to a skill, one row each: the history that a person sees of it; and to its file, in the trail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from reverie.learning.trail import note
from reverie.memory.documents import skill_path

if TYPE_CHECKING:
    from reverie.learning.records import Skill
    from reverie.learning.trail import Outcome
    from reverie.storage import Transaction
    from reverie.types import JsonObject

FILES_STAGE = "skill_files"
EventKind = Literal["trial", "thumb", "status", "build", "edit", "drift"]


def note_event(
    tx: Transaction,
    skill_id: str,
    kind: EventKind,
    now_ms: int,
    detail: JsonObject,
    *,
    task_id: str | None = None,
    outcome: str = "",
) -> None:
    """Write down something that happened to a skill, with the change itself."""
    tx.execute(
        "note_skill_event",
        skill_id=skill_id,
        now=now_ms,
        kind=kind,
        task_id=task_id,
        outcome=outcome,
        detail=json.dumps(detail, ensure_ascii=False),
    )


def note_file(
    tx: Transaction,
    now_ms: int,
    skill: Skill,
    outcome: Outcome,
    reason: str,
    detail: JsonObject | None = None,
) -> None:
    """Write down why something became of a skill's file, or of its row because of the file."""
    detail = {"path": skill_path(skill.name), **(detail or {})}
    note(tx, now_ms, agent=skill.agent, stage=FILES_STAGE, outcome=outcome, reason=reason, ref=skill.id, detail=detail)
