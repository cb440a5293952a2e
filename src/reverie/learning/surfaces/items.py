"""Rows as they are shown: JSON parsed, instants as `…_ms`, switches as true or false, and where it was said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reverie.learning.surfaces.ports import Kind
    from reverie.storage import Row
    from reverie.types import JsonObject

INSTANTS = frozenset({"at", "until", "since", "not_before"})
PARSED = frozenset({
    "tags", "signatures", "tool_calls", "intent", "reward", "structure", "domain_tags", "policies", "worlds", "anchors",
    "tools", "draft", "guidance", "verifier", "source_episodes", "source_feedback", "source_traces", "payload",
    "result", "detail", "raw",
})  # fmt: skip
SWITCHES = frozenset({"usable", "failed", "provisional", "has_vector", "gain_known", "skill_eligible", "disabled"})
RENAMED = {"trigger_text": "trigger"}


@dataclass(frozen=True, slots=True)
class Form:
    """How things of a kind are called: `name` in answers, `noun` to people, `stem` in the names of queries."""

    name: str
    noun: str
    stem: str
    statuses: tuple[str, ...]
    has_words: bool = False


_LIFE = ("candidate", "active", "archived")
FORMS: dict[Kind, Form] = {
    "episodes": Form("episode", "episode", "episodes",
                     ("open", "closed", "provisional", "ended", "scored", "skipped", "archived")),
    "traces": Form("trace", "trace", "traces", ("active", "archived", "failed", "unreflected"), has_words=True),
    "policies": Form("policy", "policy", "policies", _LIFE, has_words=True),
    "world-models": Form("world_model", "world model", "world_models", ("active", "archived"), has_words=True),
    "skills": Form("skill", "skill", "skills", (*_LIFE, "disabled"), has_words=True),
    "feedback": Form("feedback", "feedback", "feedback",
                     ("positive", "negative", "neutral", "mixed", "explicit", "implicit")),
    "jobs": Form("job", "job", "jobs", ("waiting", "dispatched", "running", "done", "dead", "cancelled")),
}  # fmt: skip


def shown(row: Row) -> JsonObject:
    """A row as it is shown; one that stands in a transcript says where, as `citation`."""
    item = {_name(column): _value(column, value) for column, value in row.items()}
    if {"session_id", "first_seq", "last_seq"} <= row.keys():
        item["citation"] = citation(row["session_id"], row["first_seq"], row["last_seq"])
    return item


def shown_all(rows: Iterable[Row]) -> list[JsonObject]:
    """Rows as they are shown."""
    return [shown(row) for row in rows]


def item(kind: Kind, row: Row) -> JsonObject:
    """A row as an object of the wire, which says what it is."""
    return {"object": f"reverie.learning.{FORMS[kind].name}", **shown(row)}


def citation(session_id: str, first: int, last: int) -> str:
    """Where a stretch of a transcript stands: `sessions/<id>#L4-L6`."""
    return f"sessions/{session_id}#L{first}" + (f"-L{last}" if last > first else "")


def _name(column: str) -> str:
    column = RENAMED.get(column, column)
    return f"{column}_ms" if column in INSTANTS or column.endswith("_at") else column


def _value(column: str, value: Any) -> Any:
    if value is None:
        return None
    if column in PARSED and isinstance(value, str):
        return json.loads(value)
    return bool(value) if column in SWITCHES else value
