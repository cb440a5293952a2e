"""Why something was learned, or was not: one row a step, written with the step itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reverie.storage import Transaction
    from reverie.types import JsonObject

Outcome = Literal["learned", "changed", "skipped", "deferred", "failed"]


def note(
    tx: Transaction,
    now_ms: int,
    *,
    agent: str,
    stage: str,
    outcome: Outcome,
    reason: str,
    ref: str = "",
    task_id: str | None = None,
    episode_id: str | None = None,
    detail: JsonObject | None = None,
) -> None:
    """Write down what a stage did or left undone, and why. `reason` is a code such as `low_gain`."""
    tx.execute(
        "note_learning",
        at=now_ms,
        agent=agent,
        task_id=task_id,
        episode_id=episode_id,
        stage=stage,
        ref=ref,
        outcome=outcome,
        reason=reason,
        detail=json.dumps(detail or {}, ensure_ascii=False),
    )
