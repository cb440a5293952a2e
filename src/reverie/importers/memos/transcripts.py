"""Imported traces as what they were made of: messages of a transcript, stretches of an episode, steps of an exchange.

The source keeps no transcript. What a person and the agent said stands in its traces, in their order: the first step of
an exchange has the person's words. Each trace is placed after what is there, so that pages may end anywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from reverie.clock import iso_minute
from reverie.sessions.forgetting import forgotten_prints, note_unlearned
from reverie.sessions.replay import fingerprint
from reverie.sessions.store import PastMessage, append_past
from reverie.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.importers.memos.report import Tally
    from reverie.importers.memos.rows import Terms
    from reverie.storage import Row, Transaction
    from reverie.types import JsonObject

NO_EPISODE = "its episode was not taken over"
FORGOTTEN = "forgotten"
CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session's next trace goes. `exposed`: a tool was called in this exchange, so its answer is nobody's.

    `span` is where the last stretch begins and whose it is.
    """

    next_seq: int
    turn_seq: int
    step: int
    at: int
    exposed: bool
    span: tuple[int, str] | None


def take_traces(tx: Transaction, rows: Sequence[tuple[JsonObject, JsonObject]], terms: Terms, tally: Tally) -> None:
    """Write a page of traces with their messages: each as it stands in the source, and its columns."""
    known = dict(tx.tuples("memos_known_traces", ids=json.dumps([source["id"] for source, _ in rows])))
    ids = json.dumps(sorted({str(source["episode_id"]) for source, _ in rows}))
    episodes = {row["id"]: row for row in tx.rows("memos_known_episodes", ids=ids)}
    places: dict[str, Place] = {}
    for source, columns in rows:
        episode = episodes.get(source["episode_id"])
        if source["id"] in known:
            tally.there(known[source["id"]], terms.agent)
        elif episode is None:
            tally.skip(NO_EPISODE)
        elif episode["agent"] != terms.agent:
            tally.there(episode["agent"], terms.agent)
        elif _is_forgotten(tx, episode, columns):
            tally.skip(FORGOTTEN)
            note_unlearned(tx, terms.agent, [source["id"]], "forgotten", terms.now_ms)
        else:
            session = episode["session_id"]
            place = places.get(session) or _place_of(tx, session)
            places[session] = _put(tx, source["id"], columns, episode, place, terms)
            tally.add(columns, source, "vec_summary", "vec_action")


def _place_of(tx: Transaction, session_id: str) -> Place:
    last = tx.row("memos_last_trace", session_id=session_id) or {"turn_seq": 0, "step": -1, "at": 0}
    next_seq: int = tx.value("next_seq", session_id=session_id)
    span = tx.row("memos_last_span", session_id=session_id)
    goes_on = span is not None and span["last_seq"] == next_seq - 1
    return Place(
        next_seq=next_seq,
        turn_seq=last["turn_seq"],
        step=last["step"] + 1,
        at=last["at"],
        exposed=bool(tx.value("memos_exposed", session_id=session_id, turn_seq=last["turn_seq"])),
        span=(span["first_seq"], span["episode_id"]) if span is not None and goes_on else None,
    )


def _said(columns: JsonObject) -> list[tuple[Literal["user", "assistant"], str]]:
    """Who said what in a trace."""
    said: tuple[tuple[Literal["user", "assistant"], str], ...] = (
        ("user", columns["user_text"]),
        ("assistant", columns["agent_text"]),
    )
    return [(role, words) for role, words in said if words.strip()]


def _is_forgotten(tx: Transaction, episode: Row, columns: JsonObject) -> bool:
    """Whether a person had something forgotten that a trace says."""
    prints = [fingerprint(role, words) for role, words in _said(columns)]
    return bool(forgotten_prints(tx, episode["agent"], episode["session_key"], prints))


def _put(tx: Transaction, id_: str, columns: JsonObject, episode: Row, place: Place, terms: Terms) -> Place:
    """Write one trace after what is there; returns where the next one goes."""
    said = _said(columns)
    begins = any(role == "user" for role, _ in said)
    called = columns["tool_calls"] != "[]"
    exposed = called or (place.exposed and not begins)
    at = max(columns["at"], place.at + 1)
    messages = [
        PastMessage(role, words, role, iso_minute(at), at, foreign=role == "assistant" and exposed)
        for role, words in said
    ]
    key = SessionKey(episode["agent"], episode["session_key"])
    append_past(tx, key, episode["session_id"], messages, place.next_seq - 1, mine=terms.mine)
    after = place.next_seq + len(messages)
    first = place.next_seq if messages else place.next_seq - 1
    turn_seq, step = (place.next_seq, 0) if begins else (place.turn_seq, place.step)
    where = {"task_id": episode["task_id"], "episode_id": episode["id"], "session_id": episode["session_id"]}
    tx.execute(
        "memos_trace",
        **{**columns, "at": at},
        **where,
        id=id_,
        agent=terms.agent,
        first_seq=first,
        last_seq=after - 1,
        turn_seq=turn_seq,
        step=step,
        provenance="untrusted" if exposed else terms.learned,
    )
    moved = replace(place, next_seq=after, turn_seq=turn_seq, step=step + 1, at=at, exposed=exposed)
    _grow(tx, columns, episode, at, entries=len(messages), exchanges=int(begins))
    return _with_span(tx, episode, moved, first) if messages else moved


def _grow(tx: Transaction, columns: JsonObject, episode: Row, at: int, *, entries: int, exchanges: int) -> None:
    chars = sum(len(columns[name]) for name in ("user_text", "agent_text", "tool_calls"))
    tokens = chars // CHARS_PER_TOKEN
    tx.execute("memos_grow_episode", id=episode["id"], entries=entries, exchanges=exchanges, tokens=tokens, at=at)
    tx.execute("memos_grow_window", id=episode["id"], at=at)


def _with_span(tx: Transaction, episode: Row, place: Place, first: int) -> Place:
    """Have the episode's stretch reach to the newest message, or begin one."""
    start = place.span[0] if place.span is not None and place.span[1] == episode["id"] else first
    tx.execute(
        "memos_span",
        session_id=episode["session_id"],
        first=start,
        last=place.next_seq - 1,
        episode_id=episode["id"],
    )
    return replace(place, span=(start, episode["id"]))
