"""Why something was learned, and what happened to it: everything on record around one thing, within bounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from reverie.learning.policies.gain import SET_MAX
from reverie.learning.surfaces.items import item, shown, shown_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reverie.learning.surfaces.ports import Kind
    from reverie.storage import Row, Transaction
    from reverie.types import JsonObject

SHOWN_MAX = 200
"""Rows of each kind around a thing."""
CALLS_SUMMED_MAX = 10_000
LOOKED_AT = 1_000
"""Of an agent's newest skills and world models, those that are looked at for a policy."""


def explain(tx: Transaction, kind: Kind, row: Row) -> JsonObject:
    """The explanation of one thing, whose row it is."""
    return {"object": "reverie.learning.explanation", "kind": kind, "item": item(kind, row), **_AROUND[kind](tx, row)}


def _episode(tx: Transaction, row: Row) -> JsonObject:
    here = {"id": row["id"], "limit": SHOWN_MAX}
    return {
        **_task(tx, row["task_id"]),
        "spans": shown_all(tx.rows("spans_of_episode", **here)),
        "routings": shown_all(tx.rows("routings_of_episode", **here)),
        "windows": shown_all(tx.rows("windows_of_episode", **here)),
        "traces": shown_all(tx.rows("steps_of_episode", **here)),
        "jobs": _jobs(tx, row["task_id"], row["id"]),
        "trail": _trail(tx, task_id=row["task_id"], episode_id=row["id"]),
    }


def _trace(tx: Transaction, row: Row) -> JsonObject:
    here = {"id": row["id"], "limit": SHOWN_MAX}
    return {
        **_task(tx, row["task_id"]),
        "evidence": _episodes(tx, [row["episode_id"]]),
        "policies": shown_all(tx.rows("policies_of_trace", **here)),
        "candidates": shown_all(tx.rows("candidates_of_trace", **here)),
        "jobs": _jobs(tx, row["task_id"], row["episode_id"]),
        "trail": _trail(tx, ref=row["id"], task_id=row["task_id"]),
    }


def _policy(tx: Transaction, row: Row) -> JsonObject:
    with_set = tx.rows("with_set", id=row["id"], limit=SET_MAX)
    without = tx.rows("without_set", id=row["id"], agent=row["agent"], limit=SET_MAX)
    of_agent = {"id": row["id"], "agent": row["agent"], "looked_at": LOOKED_AT, "limit": SHOWN_MAX}
    return {
        "evidence": _episodes(tx, json.loads(row["source_episodes"])),
        "traces": _named(tx, "steps_named", json.loads(row["source_traces"])),
        "feedback": _named(tx, "feedback_named", json.loads(row["source_feedback"])),
        "gain": {
            "value": row["gain"],
            "known": bool(row["gain_known"]),
            "support": row["support"],
            "with": shown_all(with_set),
            "without": shown_all(without),
        },
        "world_models": shown_all(tx.rows("worlds_of_policy", **of_agent)),
        "skills": shown_all(tx.rows("skills_of_policy", **of_agent)),
        "trail": _trail(tx, ref=row["id"]),
    }


def _world_model(tx: Transaction, row: Row) -> JsonObject:
    return {
        "evidence": _episodes(tx, json.loads(row["source_episodes"])),
        "policies": _named(tx, "policies_named", json.loads(row["policies"])),
        "trail": _trail(tx, ref=row["id"]),
    }


def _skill(tx: Transaction, row: Row) -> JsonObject:
    events = shown_all(tx.rows("events_of_skill", id=row["id"], limit=SHOWN_MAX))
    return {
        "policies": _named(tx, "policies_named", json.loads(row["policies"])),
        "world_models": _named(tx, "world_models_named", json.loads(row["worlds"])),
        "traces": _named(tx, "steps_named", json.loads(row["anchors"])),
        "events": events,
        "eta": [
            {"at_ms": event["at_ms"], "kind": event["kind"], "eta": event["detail"]["eta"]}
            for event in events
            if isinstance(event["detail"].get("eta"), int | float)
        ],
        "trail": _trail(tx, ref=row["id"]),
    }


def _feedback(tx: Transaction, row: Row) -> JsonObject:
    traces = [row["trace_id"]] if row["trace_id"] else []
    return {
        **(_task(tx, row["task_id"]) if row["task_id"] else {}),
        "evidence": _episodes(tx, [row["episode_id"]] if row["episode_id"] else []),
        "traces": _named(tx, "steps_named", traces),
        "jobs": shown_all([job] if (job := tx.row("item_of_jobs", id=f"feedback:{row['id']}")) else []),
        "trail": _trail(tx, ref=row["id"]),
    }


def _job(tx: Transaction, row: Row) -> JsonObject:
    return {
        "calls": shown_all(tx.rows("calls_of_job", id=row["id"], limit=SHOWN_MAX)),
        "trail": _trail(tx, ref=row["id"]),
        **(_task(tx, row["task_id"]) if row["task_id"] else {}),
    }


_AROUND: dict[Kind, Callable[[Transaction, Row], JsonObject]] = {
    "episodes": _episode,
    "traces": _trace,
    "policies": _policy,
    "world-models": _world_model,
    "skills": _skill,
    "feedback": _feedback,
    "jobs": _job,
}


# -- what several have ---------------------------------------------------------------------------------------------


def _task(tx: Transaction, task_id: str) -> JsonObject:
    """The task with its episodes, what was said of it and what it cost."""
    row = tx.row("task_shown", id=task_id)
    if row is None:
        return {"task": None}
    here = {"id": task_id, "limit": SHOWN_MAX}
    return {
        "task": {**shown(row), "episodes": shown_all(tx.rows("episodes_of_task", **here))},
        "feedback": shown_all(tx.rows("feedback_of_task", **here)),
        "spend": tx.rows("spend_of_task", id=task_id, limit=CALLS_SUMMED_MAX),
    }


def _episodes(tx: Transaction, ids: Sequence[str]) -> list[JsonObject]:
    """Episodes as evidence: what became of their tasks, and where they stand in their transcripts."""
    episodes = _named(tx, "episodes_named", ids)
    places: dict[str, list[str]] = {}
    for span in _named(tx, "spans_named", ids):
        places.setdefault(span["episode_id"], []).append(span["citation"])
    return [{**episode, "citations": places.get(episode["id"], [])} for episode in episodes]


def _named(tx: Transaction, query: str, ids: Sequence[str]) -> list[JsonObject]:
    return shown_all(tx.rows(query, ids=json.dumps(ids[:SHOWN_MAX]), limit=SHOWN_MAX)) if ids else []


def _jobs(tx: Transaction, task_id: str, episode_id: str) -> list[JsonObject]:
    """The jobs of a task and of an episode of it, each once, in the order in which they were asked for."""
    rows = [
        *tx.rows("jobs_of_task", id=task_id, limit=SHOWN_MAX),
        *tx.rows("jobs_of_episode", id=episode_id, limit=SHOWN_MAX),
    ]
    once = {row["id"]: row for row in rows}
    return shown_all(sorted(once.values(), key=lambda row: (row["requested_at"], row["id"]))[:SHOWN_MAX])


def _trail(tx: Transaction, *, ref: str = "", task_id: str | None = None, episode_id: str | None = None) -> Any:
    """What happened, the newest last. With a task: of all of it, else of the one thing."""
    rows = list(tx.rows("trail_of", id=ref, limit=SHOWN_MAX)) if ref else []
    rows += tx.rows("trail_of_task", id=task_id, limit=SHOWN_MAX) if task_id else []
    rows += tx.rows("trail_of_episode", id=episode_id, limit=SHOWN_MAX) if episode_id else []
    once = {json.dumps(row, sort_keys=True): row for row in rows}
    return shown_all(sorted(once.values(), key=lambda row: row["at"])[-SHOWN_MAX:])
