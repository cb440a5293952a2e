"""What happened to a skill, one row each: the history that a person sees of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reverie.storage import Transaction
    from reverie.types import JsonObject

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
