"""What a job is, and asking for one within the transaction of what it follows from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reverie.storage import Transaction
    from reverie.types import JsonObject

Lane = Literal["interactive", "background", "idle"]
"""`interactive`: a person asked for it; `background`: follows a conversation; `idle`: when nothing else is to do."""
JobState = Literal["waiting", "dispatched", "running", "done", "dead", "cancelled"]


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Work that is wanted. `key` is made of its content: `reflect:ep_…:2`. The same key is the same work, done once.

    It does not begin before `not_before_ms`. `episode_id` and `task_id` say on whose behalf it spends.
    `attempts_max` 0: as configured.
    """

    kind: str
    key: str
    lane: Lane
    payload: JsonObject = field(default_factory=dict[str, Any])
    not_before_ms: int = 0
    agent: str = ""
    episode_id: str | None = None
    task_id: str | None = None
    attempts_max: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its handler gets it. `attempt` counts from 1; runs that were put back are no attempts.

    `aged`: it has waited for so long that it does not give way to turns any more.
    """

    key: str
    kind: str
    lane: Lane
    payload: JsonObject
    agent: str = ""
    episode_id: str | None = None
    task_id: str | None = None
    attempt: int = 1
    aged: bool = False


Handler: TypeAlias = "Callable[[Job], Awaitable[JsonObject]]"
"""Does a job of one kind; returns what became of it. It may be run again after a crash at any point, so that everything
it writes is idempotent.

Raises `JobDeferredError` (not now, but then), `JobPutBackError` (it gave way), `JobHopelessError` (never); whatever
else it raises is a failed attempt.
"""


def ask_for(tx: Transaction, request: JobRequest, now_ms: int) -> bool:
    """Ask for a job within a transaction; False when the same work was asked for before, whatever became of it."""
    asked = tx.execute(
        "ask_for_job",
        key=request.key,
        kind=request.kind,
        lane=request.lane,
        agent=request.agent,
        episode_id=request.episode_id,
        task_id=request.task_id,
        payload=json.dumps(request.payload, ensure_ascii=False, sort_keys=True),
        attempts_max=request.attempts_max,
        not_before=request.not_before_ms or now_ms,
        now=now_ms,
    )
    return asked > 0
