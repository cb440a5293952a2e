"""Rows of learning for tests: written as they are, with defaults for what a test does not care about.

    seed(home.state_db, "traces", id="tr_1", task_id="ta_1", episode_id="ep_1", value=0.8, tags=["python"])

Lists and dictionaries become JSON, NumPy arrays become blobs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import apsw
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

T0 = 1_700_000_000_000

DEFAULTS: dict[str, dict[str, Any]] = {
    "tasks": {"agent": "main", "session_id": "s1", "session_key": "agent:main:main", "state": "ended",
              "started_at": T0, "ended_at": T0 + 60_000, "ended_for": "topic", "endings": 1},
    "episodes": {"agent": "main", "session_id": "s1", "session_key": "agent:main:main", "state": "closed",
                 "opened_at": T0, "last_at": T0 + 60_000, "closed_at": T0 + 60_000, "opened_for": "first",
                 "closed_for": "topic"},
    "episode_spans": {"session_id": "s1"},
    "traces": {"agent": "main", "session_id": "s1", "turn_seq": 1, "step": 0, "window": 1, "digest": "d",
               "provenance": "agent"},
    "reflection_windows": {"number": 1, "steps": 1, "state": "reflected"},
    "policies": {"agent": "main", "title": "a policy", "status": "active", "provenance": "agent", "created_at": T0,
                 "updated_at": T0},
    "trace_policy_links": {"at": T0},
    "l2_candidates": {"agent": "main", "at": T0, "expires_at": T0 + 30 * 86_400_000},
    "world_models": {"agent": "main", "title": "a world", "status": "active", "provenance": "agent", "created_at": T0,
                     "updated_at": T0},
    "skills": {"agent": "main", "status": "active", "provenance": "agent", "created_at": T0, "updated_at": T0},
    "skill_events": {"at": T0},
    "feedback": {"agent": "main", "at": T0, "channel": "explicit", "polarity": "positive", "magnitude": 1.0},
    "decision_repairs": {"agent": "main", "at": T0, "context_hash": "0" * 16},
    "learning_trail": {"agent": "main", "at": T0, "stage": "reward", "outcome": "learned", "reason": "scored"},
    "job_requests": {"lane": "background", "state": "waiting", "attempts_max": 5, "not_before": T0,
                     "requested_at": T0, "updated_at": T0},
    "model_calls": {"kind": "reward", "op": "reward.r_human@1", "at": T0, "state": "answered"},
}  # fmt: skip
"""For each table what a row of it needs at least."""


def seed(state_db: Path, table: str, **columns: Any) -> None:
    """Write one row; a trace without place in its transcript stands after all that are there."""
    connection = apsw.Connection(str(state_db))
    try:
        connection.set_busy_timeout(5_000)
        connection.pragma("foreign_keys", 0)
        row = {**DEFAULTS.get(table, {}), **columns}
        if table == "traces" and "first_seq" not in row:
            last = connection.execute("SELECT max(last_seq) FROM traces WHERE session_id = ?", (row["session_id"],)).get
            row["first_seq"] = row["last_seq"] = (last or 0) + 1
        if table == "traces":
            row.setdefault("at", T0 + row["first_seq"] * 1_000)
        names = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        values = tuple(_stored(value) for value in row.values())
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608 (names of columns of tests)
    finally:
        connection.close()


def unit(*numbers: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector of length 1 in the direction of these numbers."""
    vector = np.array(numbers, dtype=np.float32)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _stored(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.astype("<f4").tobytes()
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, ensure_ascii=False)
    return value
