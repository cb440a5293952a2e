"""Rows of a MemOS plugin as rows of ours: pure functions that give the columns, or a reason why there is no row.

Figures are clamped to their ranges, statuses and types to the known ones, JSON to what it should be. An instant is read
in the unit in which it lies in this century. A vector of another length than our embedder's is left out, so that it is
made anew; any other becomes one of length 1.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from reverie.learning.ids import digest_of
from reverie.learning.records import Polarity, PolicyStatus, PolicyType
from reverie.learning.skills.document import NAME_CHARS_MAX
from reverie.learning.vectors import pack
from reverie.memory.text import clean

if TYPE_CHECKING:
    from collections.abc import Collection

    from reverie.types import JsonObject, Provenance

IDS_MAX = 500
TAGS_MAX = 24
TAG_CHARS_MAX = 64
CALLS_MAX = 50
CALL_CHARS_MAX = 4_000
ENTRIES_MAX = 24
ENTRY_CHARS_MAX = 1_000
TITLE_CHARS_MAX = 300
NO_ID = "no usable id"
NO_TRACE = "no trace"
NO_TIME = "no time of this century"
FIRST_MS, END_MS = 946_684_800_000, 4_102_444_800_000
"""2000-01-01 and 2100-01-01."""
_UNITS = ((1, 1), (1_000, 1), (1, 1_000), (1, 1_000_000))
"""How milliseconds are made of milliseconds, seconds, micro- and nanoseconds; no number lies in the century in two."""
_NOT_IN_NAME = re.compile(r"[^a-z0-9]+")
_HASH = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms rows are taken over.

    `mine`: the owner vouches for them. `dims` is the length of our embedder's vectors; None: there is none, and no
    vector is kept.
    """

    agent: str
    mine: bool
    dims: int | None
    now_ms: int

    @property
    def learned(self) -> Provenance:
        """Whose words something learned holds."""
        return "agent" if self.mine else "untrusted"

    @property
    def said(self) -> Provenance:
        """Whose words feedback holds."""
        return "owner" if self.mine else "untrusted"


# -- values --------------------------------------------------------------------------------------------------------


def text(value: Any, chars_max: int | None = None) -> str:
    """A text that can be stored; '' for anything else."""
    return clean(value)[:chars_max] if isinstance(value, str) else ""


def number(value: Any, low: float, high: float, default: float) -> float:
    """A number within its range; the default for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    return float(min(high, max(low, value)))


def whole(value: Any, low: int, high: int, default: int) -> int:
    """A whole number within its range; the default for what is none."""
    return int(number(value, low, high, default))


def instant(value: Any, default: int) -> int:
    """An instant in milliseconds; the default for what is none."""
    found = in_century(value)
    return default if found is None else found


def in_century(value: Any) -> int | None:
    """An instant from 2000 up to 2100 in milliseconds, in whichever unit it is one; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    in_ms = (value * times // by for times, by in _UNITS)
    return next((int(at) for at in in_ms if FIRST_MS <= at < END_MS), None)


def parsed(value: Any, kind: type[Any]) -> Any:
    """JSON of a kind, `list` or `dict`, that can be stored; an empty one for what is broken or something else."""
    try:
        found = _storable(json.loads(value)) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, kind) else kind()


def _storable(value: Any) -> Any:
    """JSON without what cannot be stored: texts are cleaned, a number that is none becomes null."""
    match value:
        case str():
            return clean(value)
        case float():
            return value if math.isfinite(value) else None
        case list():
            return [_storable(each) for each in cast("list[Any]", value)]
        case dict():
            return {clean(name): _storable(each) for name, each in cast("JsonObject", value).items()}
        case _:
            return value


def texts(value: Any, most: int = IDS_MAX, chars_max: int = TAG_CHARS_MAX) -> list[str]:
    """The texts of a list, none of them empty."""
    held = cast("list[Any]", value) if isinstance(value, list) else []
    return [text(each, chars_max) for each in held if isinstance(each, str) and each][:most]


def one_of(value: Any, known: Collection[str], default: str) -> str:
    """A word of a closed list; the default for any other."""
    return value if isinstance(value, str) and value in known else default


def vector(blob: Any, dims: int | None) -> bytes | None:
    """A vector of our embedder's length, of length 1; None for any other, for zeros and for what is no number."""
    if dims is None or not isinstance(blob, bytes) or len(blob) != dims * 4:
        return None
    held = np.frombuffer(blob, dtype="<f4")
    length = float(np.linalg.norm(held))
    return pack((held / length).astype(np.float32)) if math.isfinite(length) and length > 0 else None


def as_json(value: object) -> str:
    """A value as it is kept in a row."""
    return json.dumps(value, ensure_ascii=False)


def skill_name(name: str) -> str:
    """The name of a skill as the name of a folder: lower case, digits, hyphens."""
    return _NOT_IN_NAME.sub("-", name.lower()).strip("-")[:NAME_CHARS_MAX].strip("-")


# -- rows ----------------------------------------------------------------------------------------------------------


def episode(row: JsonObject) -> JsonObject | str:
    """An episode and the task that is made of it. One that was open is closed: it goes on in nobody's hands."""
    meta: JsonObject = parsed(row["meta_json"], dict)
    started = in_century(row["started_at"]) or in_century(row["ended_at"])
    if started is None:
        return NO_TIME
    scored = isinstance(row["r_task"], int | float)
    reward: JsonObject = parsed(as_json(meta.get("reward")), dict)
    kept = {name: reward[name] for name in ("axes", "reason", "source") if name in reward}
    return {
        "started_at": started,
        "ended_at": max(started, instant(row["ended_at"], started)),
        "r_human": number(row["r_task"], -1, 1, 0.0) if scored else None,
        "state": "scored" if scored else "skipped",
        "reward": as_json({**kept, "source": "import"} if scored else {"skipped": True, "reason": "imported"}),
        "title": text(meta.get("initialUserText"), TITLE_CHARS_MAX),
        "intent": as_json(parsed(as_json(meta.get("intent")), dict)),
        "closed_for": "import",
    }


def calls(value: Any) -> list[JsonObject]:
    """The tool calls of a trace, in our words."""
    held = [cast("JsonObject", each) for each in parsed(value, list) if isinstance(each, dict)]
    return [
        {
            "name": text(each.get("name"), TAG_CHARS_MAX),
            "input": _shown(each.get("input")),
            "output": _shown(each.get("output")),
            "error_code": text(each.get("errorCode"), TAG_CHARS_MAX),
            "call_id": text(each.get("toolCallId"), TAG_CHARS_MAX),
            "text_before": text(each.get("assistantTextBefore"), CALL_CHARS_MAX),
        }
        for each in held[:CALLS_MAX]
    ]


def _shown(value: Any) -> str:
    """What a tool was given or gave, as text."""
    return text(value if isinstance(value, str) else "" if value is None else as_json(value), CALL_CHARS_MAX)


def trace(row: JsonObject, terms: Terms) -> JsonObject | str:
    """The columns of a trace that do not depend on its place in the transcript."""
    at = in_century(row["ts"])
    if at is None:
        return NO_TIME
    uses = calls(row["tool_calls_json"])
    value, alpha = number(row["value"], -1, 1, 0.0), number(row["alpha"], 0, 1, 0.0)
    return {
        "at": at,
        "user_text": text(row["user_text"]),
        "agent_text": text(row["agent_text"]),
        "thinking": text(row["agent_thinking"]),
        "summary": text(row["summary"], TITLE_CHARS_MAX),
        "tool_calls": as_json(uses),
        "reflection": text(row["reflection"]),
        "usable": int(alpha > 0) if row["reflection"] else None,
        "alpha": alpha,
        "value": value,
        "r_human": None if row["r_human"] is None else number(row["r_human"], -1, 1, 0.0),
        "priority": number(row["priority"], 0, 1, 0.5),
        "tags": as_json(texts(parsed(row["tags_json"], list), TAGS_MAX)),
        "signatures": as_json(texts(parsed(row["error_signatures_json"], list), TAGS_MAX, ENTRY_CHARS_MAX)),
        "failed": int(any(use["error_code"] for use in uses)),
        "vec_summary": vector(row["vec_summary"], terms.dims),
        "vec_action": vector(row["vec_action"], terms.dims),
        "digest": digest_of(row["user_text"], row["agent_text"], uses),
    }


def policy(row: JsonObject, terms: Terms) -> JsonObject | str:
    """A policy."""
    guidance: JsonObject = parsed(row["decision_guidance_json"], dict)
    kept = {"preference": guidance.get("preference"), "anti_pattern": guidance.get("antiPattern")}
    status = one_of(row["status"], get_args(PolicyStatus), "candidate")
    return {
        **_learned(row, terms),
        "title": text(row["title"], TITLE_CHARS_MAX) or "untitled",
        "trigger": text(row["trigger"]),
        "procedure": text(row["procedure"]),
        "verification": text(row["verification"]),
        "boundary": text(row["boundary"]),
        "support": whole(row["support"], 0, 1_000_000, 0),
        "gain": number(row["gain"], -2, 2, 0.0),
        "status": status,
        "type": one_of(row["experience_type"], get_args(PolicyType), "procedural"),
        "polarity": one_of(row["evidence_polarity"], get_args(Polarity), "positive"),
        "salience": number(row["salience"], 0, 1, 0.0),
        "confidence": number(row["confidence"], 0, 1, 0.5),
        "source_episodes": as_json(texts(parsed(row["source_episodes_json"], list))),
        "source_feedback": as_json(texts(parsed(row["source_feedback_ids_json"], list))),
        "source_traces": as_json(texts(parsed(row["source_trace_ids_json"], list))),
        "guidance": as_json({name: texts(each, ENTRIES_MAX, ENTRY_CHARS_MAX) for name, each in kept.items()}),
        "verifier": as_json(parsed(row["verifier_meta_json"], dict)),
        "skill_eligible": whole(row["skill_eligible"], 0, 1, 1),
        "archived_at": _archived(row, terms, status),
    }


def world_model(row: JsonObject, terms: Terms) -> JsonObject | str:
    """A world model."""
    structure: JsonObject = parsed(row["structure_json"], dict)
    status = one_of(row["status"], ("active", "archived"), "active")
    parts = ("environment", "inference", "constraints")
    return {
        **_learned(row, terms),
        "title": text(row["title"], TITLE_CHARS_MAX) or "untitled",
        "body": text(row["body"]),
        "structure": as_json({part: _entries(structure.get(part)) for part in parts}),
        "domain_tags": as_json(texts(parsed(row["domain_tags_json"], list), TAGS_MAX)),
        "confidence": number(row["confidence"], 0, 1, 0.5),
        "policies": as_json(texts(parsed(row["policy_ids_json"], list))),
        "source_episodes": as_json(texts(parsed(row["source_episodes_json"], list))),
        "status": status,
        "version": whole(row["version"], 1, 1_000_000, 1),
        "archived_at": _archived(row, terms, status),
    }


def _entries(value: Any) -> list[JsonObject]:
    held = cast("list[Any]", value) if isinstance(value, list) else []
    known = [cast("JsonObject", each) for each in held if isinstance(each, dict)]
    return [
        {
            "label": text(each.get("label"), TITLE_CHARS_MAX),
            "description": text(each.get("description"), ENTRY_CHARS_MAX),
            "evidence": texts(each.get("evidenceIds"), ENTRIES_MAX),
        }
        for each in known[:ENTRIES_MAX]
    ]


def skill(row: JsonObject, terms: Terms) -> JsonObject | str:
    """A skill. What it was used is taken as shown as well: uses are part of what was shown."""
    name = skill_name(text(row["name"]))
    if not name:
        return "no name"
    draft: JsonObject = parsed(row["procedure_json"], dict)
    status = one_of(row["status"], get_args(PolicyStatus), "candidate")
    trials = whole(row["trials_attempted"], 0, 1_000_000, 0)
    uses = max(trials, whole(row["usage_count"], 0, 1_000_000, 0))
    return {
        **_learned(row, terms),
        "name": name,
        "title": text(draft.get("displayTitle") or draft.get("display_title") or row["name"], TITLE_CHARS_MAX),
        "status": status,
        "description": text(draft.get("summary"), TITLE_CHARS_MAX * 2),
        "guide": text(row["invocation_guide"]),
        "draft": as_json(draft),
        "tools": as_json(texts(draft.get("tools"), ENTRIES_MAX)),
        "eta": number(row["eta"], 0, 1, 0.1),
        "support": whole(row["support"], 0, 1_000_000, 0),
        "gain": number(row["gain"], -2, 2, 0.0),
        "uses": uses,
        "trials": trials,
        "passes": min(trials, whole(row["trials_passed"], 0, 1_000_000, 0)),
        "version": whole(row["version"], 1, 1_000_000, 1),
        "policies": as_json(texts(parsed(row["source_policies_json"], list))),
        "worlds": as_json(texts(parsed(row["source_world_json"], list))),
        "anchors": as_json(texts(parsed(row["evidence_anchors_json"], list))),
        "archived_at": _archived(row, terms, status),
        "last_used_at": None if row["last_used_at"] is None else instant(row["last_used_at"], terms.now_ms),
    }


def feedback(row: JsonObject, terms: Terms) -> JsonObject | str:
    """What was said. It may be about nothing that is there."""
    return {
        "agent": terms.agent,
        "at": instant(row["ts"], terms.now_ms),
        "episode_id": text(row["episode_id"]) or None,
        "trace_id": text(row["trace_id"]) or None,
        "channel": one_of(row["channel"], ("explicit", "implicit"), "implicit"),
        "polarity": one_of(row["polarity"], get_args(Polarity), "neutral"),
        "magnitude": number(row["magnitude"], 0, 1, 0.0),
        "text": text(row["rationale"]),
        "raw": as_json(parsed(row["raw_json"], dict)),
        "provenance": terms.said,
    }


def decision_repair(row: JsonObject, terms: Terms) -> JsonObject | str:
    """What to prefer and to avoid in a context."""
    if _HASH.fullmatch(text(row["context_hash"])) is None:
        return "no context"
    return {
        "agent": terms.agent,
        "at": instant(row["ts"], terms.now_ms),
        "context_hash": row["context_hash"],
        "preference": text(row["preference"], ENTRY_CHARS_MAX),
        "anti_pattern": text(row["anti_pattern"], ENTRY_CHARS_MAX),
        "high": as_json(texts(parsed(row["high_value_traces_json"], list), ENTRIES_MAX)),
        "low": as_json(texts(parsed(row["low_value_traces_json"], list), ENTRIES_MAX)),
        "validated": whole(row["validated"], 0, 1, 0),
        "provenance": terms.learned,
    }


def candidate(row: JsonObject, terms: Terms) -> JsonObject | str:
    """A trace that waits for others; one that has waited too long is none."""
    traces = texts(parsed(row["evidence_trace_ids_json"], list))
    expires = instant(row["expires_at"], 0)
    if expires <= terms.now_ms:
        return "expired"
    if not traces:
        return NO_TRACE
    return {
        "agent": terms.agent,
        "signature": text(row["signature"], ENTRY_CHARS_MAX),
        "trace_id": traces[0],
        "similarity": number(row["similarity"], -1, 1, 0.0),
        "policy_id": text(row["policy_id"]) or None,
        "expires_at": expires,
        "at": terms.now_ms,
    }


def link(row: JsonObject, terms: Terms) -> JsonObject | str:
    """That a trace follows a policy."""
    return {"at": instant(row["created_at"], terms.now_ms)}


def _learned(row: JsonObject, terms: Terms) -> JsonObject:
    """What policies, world models and skills have in common."""
    created = instant(row["created_at"], terms.now_ms)
    return {
        "agent": terms.agent,
        "induced_by": text(row["induced_by"], TITLE_CHARS_MAX),
        "vec": vector(row["vec"], terms.dims),
        "provenance": terms.learned,
        "created_at": created,
        "updated_at": max(created, instant(row["updated_at"], created)),
        "edited_at": None if row["edited_at"] is None else instant(row["edited_at"], created),
    }


def _archived(row: JsonObject, terms: Terms, status: str) -> int | None:
    """Since when something is put aside: since it was changed last, where nothing says it."""
    if status != "archived":
        return None
    return instant(row.get("archived_at"), instant(row["updated_at"], terms.now_ms))
