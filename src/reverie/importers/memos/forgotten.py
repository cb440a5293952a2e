"""What an import does not bring back: what a person had forgotten or deleted, and what was made of what is forgotten.

A row that is refused is on record as forgotten itself, so that what names it is refused as well: a session's episodes,
their traces, the policies that came of these, and so on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from reverie.importers.conversations import session_key
from reverie.importers.memos.transcripts import FORGOTTEN
from reverie.sessions.forgetting import forgotten_among, history_prefix, note_unlearned, unlearned_among

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.importers.memos.report import Tally
    from reverie.importers.memos.rows import Terms
    from reverie.importers.memos.source import TableName
    from reverie.storage import Transaction
    from reverie.types import JsonObject

    Converted = tuple[JsonObject, Any]

DELETED: Final = "deleted by a person"
_FINDS: Final[dict[TableName, str]] = {
    "episodes": "find_episode",
    "traces": "find_trace",
    "policies": "find_policy",
    "world_model": "find_world_model",
    "skills": "find_skill",
    "feedback": "find_feedback",
    "decision_repairs": "find_repair",
}
"""What has an id of its own under which it is found."""
_LISTED: Final[dict[TableName, tuple[str, ...]]] = {
    "policies": ("source_traces", "source_episodes", "source_feedback"),
    "world_model": ("policies", "source_episodes"),
    "skills": ("policies", "worlds", "anchors"),
    "decision_repairs": ("high", "low"),
}
"""The columns that name what a row was made of, as JSON."""


def admitted(
    tx: Transaction, name: TableName, page: Sequence[Converted], terms: Terms, history: str, tally: Tally
) -> list[Converted]:
    """Those rows of a page that may be taken in; the others are counted, with why."""
    if forgotten_among(tx, terms.agent, "history", [history_prefix(terms.agent, history)]):
        for _ in page:
            tally.skip(FORGOTTEN)
        return []
    kept: list[Converted] = []
    for row, columns in page:
        reason = _refusal(tx, name, row, columns, terms, history) if name in _FINDS else ""
        if not reason:
            kept.append((row, columns))
            continue
        tally.skip(reason)
        if reason == FORGOTTEN:
            note_unlearned(tx, terms.agent, [str(row["id"])], "forgotten", terms.now_ms)
    return kept


def _refusal(tx: Transaction, name: TableName, row: JsonObject, columns: JsonObject, terms: Terms, history: str) -> str:
    """Why a row is not taken in; '' when it may be, or is there."""
    id_, evidence = str(row["id"]), _evidence(tx, name, row, columns)
    known = unlearned_among(tx, terms.agent, [id_, *evidence])
    if name == "episodes" and not known:
        key = session_key(terms.agent, history, str(row["session_id"])).value
        return FORGOTTEN if forgotten_among(tx, terms.agent, "session", [key]) else ""
    if not known or tx.row(_FINDS[name], id=id_) is not None:
        return ""
    if id_ in known:
        return FORGOTTEN if known[id_] == "forgotten" else DELETED
    return FORGOTTEN if "forgotten" in known.values() else ""


def _evidence(tx: Transaction, name: TableName, row: JsonObject, columns: JsonObject) -> list[str]:
    """The ids of what a row was made of. A trace is no part of an episode of which only other words were forgotten."""
    match name:
        case "traces":
            episode = str(row["episode_id"])
            return [] if tx.row("find_episode", id=episode) is not None else [episode]
        case "feedback":
            return [columns[each] for each in ("trace_id", "episode_id") if columns[each]]
        case _:
            return [id_ for column in _LISTED.get(name, ()) for id_ in json.loads(columns[column])]
