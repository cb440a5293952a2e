"""Ending a session and going on in a successor, within one transaction: what waits is not lost, nothing happens twice.

The old transcript stays as it is. The successor takes over the key, the settings of its queue, the turns that wait and
the native thread that knows the conversation. It begins with a `continuity` mark: a summary made without a model, which
its prompts quote as data.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reverie.clock import utc_date
from reverie.sessions.bindings import moved
from reverie.sessions.replay import input_start
from reverie.sessions.reset import Clocks, find_trigger, is_system_source, policy_of, reset_due
from reverie.sessions.tree import append_mark
from reverie.types import SessionKey

if TYPE_CHECKING:
    from datetime import tzinfo

    from reverie.config import ResetConfig
    from reverie.sessions.bindings import KeepOverReset
    from reverie.sessions.reset import ResetReason, Trigger
    from reverie.storage import Row, Transaction
    from reverie.types import JsonObject, Turn

SUMMARY_CHARACTERS_MAX = 2_400
EXCHANGE_MESSAGES = 6
EXCHANGE_ENTRIES = 200
"""How far back the last messages are looked for: rounds of tools stand between them."""
EXCERPT_CHARACTERS_MAX = 400


@dataclass(frozen=True, slots=True)
class ResetRules:
    """What decides about resets: the settings, the time zone they mean, and when a native thread goes on after one."""

    config: ResetConfig
    zone: tzinfo
    keep_threads: KeepOverReset = "automatic"


@dataclass(frozen=True, slots=True)
class RollOver:
    """A session of so many messages ended and another goes on under its key, told `continuity` of it."""

    ended_id: str
    session_id: str
    reason: ResetReason
    messages: int
    key: SessionKey
    continuity: str

    def as_json(self) -> JsonObject:
        """What a program that asked for it is told."""
        return {
            "ended_id": self.ended_id,
            "session_id": self.session_id,
            "reason": self.reason,
            "messages": self.messages,
        }


@dataclass(frozen=True, slots=True)
class Placed:
    """A turn that begins: with the session it belongs to now, and without a word that only began that session."""

    turn: Turn
    rolled: RollOver | None = None


def place(tx: Transaction, turn: Turn, session: Row, rules: ResetRules | None, now_ms: int) -> Placed:
    """Where a turn begins. Ends its session first if that is due, or if its message says so.

    `session` is the one that the turn belongs to now: the one that accepted it may have been ended while it waited.
    Called before the turn counts as running.
    """
    turn = replace(turn, session_id=session["id"])
    if rules is None:
        return Placed(turn)
    trigger = trigger_of(turn, rules.config.triggers)
    if trigger is not None:
        turn = _without(turn, trigger)
        rolled = None if _is_unused(session) else roll_over(tx, session, "manual", now_ms, rules.keep_threads)
    else:
        rolled = roll_over_if_due(tx, session, turn.request.arrival.source, rules, now_ms)
    return Placed(turn if rolled is None else replace(turn, session_id=rolled.session_id), rolled)


def trigger_of(turn: Turn, words: tuple[str, ...]) -> Trigger | None:
    """The word that begins a turn's new message and a session; None when a program sent it, or there is none."""
    request = turn.request
    message = request.messages[input_start(request.messages)]
    if message.role != "user" or is_system_source(request.arrival.source, request.session.value):
        return None
    return find_trigger(message.text, words)


def _without(turn: Turn, trigger: Trigger) -> Turn:
    """The turn with what is left of its message; a message that is the word alone stays, so that it is answered."""
    if not trigger.rest:
        return turn
    messages = list(turn.request.messages)
    at = input_start(messages)
    messages[at] = replace(messages[at], text=trigger.rest)
    return replace(turn, request=replace(turn.request, messages=tuple(messages)))


def roll_over_if_due(tx: Transaction, session: Row, source: str, rules: ResetRules, now_ms: int) -> RollOver | None:
    """End a session if its clocks say so; None leaves it. What programs send by themselves ends nothing."""
    if session["ended_at"] is not None or _is_unused(session) or is_system_source(source, session["key"]):
        return None
    clocks = Clocks(session["started_at"], session["last_interaction_at"])
    due = reset_due(policy_of(rules.config, session["key"]), clocks, now_ms, rules.zone)
    return None if due is None else roll_over(tx, session, due.reason, now_ms, rules.keep_threads)


def _is_unused(session: Row) -> bool:
    """True for a session in which nothing was said yet: a successor has the mark it begins with."""
    return session["message_count"] <= (0 if session["parent_id"] is None else 1)


def roll_over(
    tx: Transaction, session: Row, reason: ResetReason, now_ms: int, keep_threads: KeepOverReset = "automatic"
) -> RollOver:
    """End a session now and open its successor, which goes on in its native thread where that may be."""
    ended, new = session["id"], new_session_id(now_ms)
    last: int = tx.value("next_seq", session_id=ended) - 1
    text = continuity(tx, session, reason, now_ms)
    tx.execute("end_session", id=ended, reason=reason, now=now_ms)
    tx.execute("give_up_compactions", session_id=ended)
    tx.execute("insert_successor", id=new, parent=ended, now=now_ms)
    tx.execute("move_waiting_turns", old=ended, new=new)
    data = {"summary": text, "reason": reason, "session": ended}
    mark = append_mark(tx, new, "continuity", data, now_ms, parent_seq=last)
    moved(tx, ended, new, reason=reason, keep=keep_threads, through=mark, now_ms=now_ms)
    tx.execute("count_entries", id=new)
    return RollOver(ended, new, reason, session["message_count"], SessionKey(session["agent"], session["key"]), text)


def continuity(tx: Transaction, session: Row, reason: ResetReason, now_ms: int) -> str:
    """What the successor is told of a session: the summary that stands for its beginning, and its last words."""
    base = tx.value("adopted_summary", session_id=session["id"]) or continuity_of(tx, session["id"])
    rows = tx.rows(
        "last_exchange",
        session_id=session["id"],
        entries=EXCHANGE_ENTRIES,
        messages=EXCHANGE_MESSAGES,
        characters=EXCERPT_CHARACTERS_MAX + 1,
    )
    said = [f"{row['role'].capitalize()}: {excerpt(row['text'], EXCERPT_CHARACTERS_MAX)}" for row in reversed(rows)]
    parts = [f"The conversation before this one ended on {utc_date(now_ms)} ({WORDS[reason]})."]
    if base:
        parts.append(f"Summary of it:\n{excerpt(base, SUMMARY_CHARACTERS_MAX, lines=True)}")
    if said:
        parts.append("\n".join(["Last words:", *said]))
    return "\n\n".join(parts)


WORDS = {"manual": "a new one was asked for", "daily": "a new day", "idle": "a long pause"}


def excerpt(text: str, characters_max: int, *, lines: bool = False) -> str:
    """The beginning of a text; on one line, unless its lines are to stay."""
    text = text.strip() if lines else " ".join(text.split())
    return text if len(text) <= characters_max else f"{text[: characters_max - 1].rstrip()}…"


def continuity_of(tx: Transaction, session_id: str) -> str:
    """The summary with which a session began; empty when it followed none."""
    held = tx.value("find_continuity", session_id=session_id)
    return "" if held is None else str(json.loads(held)["summary"])


def new_session_id(now_ms: int) -> str:
    """A name for a session; names sort by the time at which their sessions began."""
    return f"{now_ms:012x}-{secrets.token_hex(4)}"


def touch(tx: Transaction, session_id: str, turn: Turn, now_ms: int) -> None:
    """A turn of a session is over: count its entries, and note that somebody spoke unless a program did."""
    system = is_system_source(turn.request.arrival.source, turn.request.session.value)
    tx.execute("touch_session_quietly" if system else "touch_session", id=session_id, now=now_ms)
