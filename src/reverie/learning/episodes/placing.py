"""Putting messages into episodes, within a transaction; and putting them anew when a better decision has come.

Nothing is learned from a message before it is decided where it belongs (`settling.py`). So the end of a session from
such a message on may be put again at any time: its spans are cut off, what began there goes, and every message of it
is put once more, each by the decision that stands for it. Limits hold that way, too, whatever was decided when. What
people said of those messages goes along (`moving.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.episodes import intent as intents
from reverie.learning.episodes import relation as relations
from reverie.learning.episodes.entries import Entry, after, entry_of, open_calls
from reverie.learning.episodes.moving import Moved, stretches, take_along
from reverie.learning.episodes.relation import Asked, Verdict
from reverie.learning.episodes.routing import HARD_TIMEOUT, Load, Route, Routing, limit_reached, route
from reverie.learning.episodes.rows import (
    END,
    ENTRIES_READ_MAX,
    Opening,
    add_entry,
    begin_task,
    close,
    continue_task,
    latest_episode,
    recount,
    reopen,
)
from reverie.learning.trail import note

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.config import LearningConfig
    from reverie.learning.episodes.routing import Limit, Site
    from reverie.learning.records import Episode
    from reverie.storage import Row, Transaction

log = structlog.get_logger(__name__)

TAIL_MAX: Final = 200
"""Messages that are put again at most, in some 20 ms; a decision later than that changes nothing any more."""
OPENING_CHARS: Final = 300
NEWEST_CHARS: Final = 700
REPLY_CHARS: Final = 2_000
_REACHED: Final = {
    "turn_limit": "episode.turn_limit_reached",
    "step_limit": "episode.step_limit_reached",
    "token_limit": "episode.token_limit_reached",
}


@dataclass(slots=True)
class Place:
    """Where the next message of a session would go. Lives within one transaction."""

    session: Row
    episode: Episode | None
    waiting: set[str]
    followed: bool


@dataclass(frozen=True, slots=True)
class _Told:
    """What is known of a user's message when it is put. `row` is the decision that stands for it, if it has one."""

    verdict: Verdict
    intent: intents.Intent
    undecided: bool
    row: Row | None = None


class Placing:
    """Puts messages. `available` says whether there is a model to ask about them."""

    def __init__(self, config: LearningConfig, available: Callable[[], bool]) -> None:
        self._rules = Routing.of(config.session)
        self._full = config.mode == "full"
        self._available = available

    def place(self, tx: Transaction, session_id: str, before_seq: int, *, followed: bool) -> Place | None:
        """Where a message of a session goes, before a number; None when the session is gone."""
        session = tx.row("session_of_episodes", id=session_id)
        if session is None:
            return None
        rounds = tx.rows("last_round", session_id=session_id, before_seq=before_seq, limit=ENTRIES_READ_MAX)
        return Place(session, latest_episode(tx, session_id, before_seq), open_calls(rounds), followed)

    def put(self, tx: Transaction, place: Place, entry: Entry, now_ms: int, *, brought: bool = False) -> None:
        """Put a new message. One that was `brought` along, as history or by a program, is put by rules alone.

        What an agent says before anything was asked belongs to no episode.
        """
        if entry.message.role == "user":
            told = self._told(tx, place, entry, brought=brought)
            self._put_user(tx, place, entry, told, now_ms)
        elif place.episode is not None:
            self._put_other(tx, place, place.episode, entry, now_ms)
        place.waiting = after(place.waiting, entry.message)
        place.followed = True

    def put_again(self, tx: Transaction, session_id: str, seq: int, now_ms: int) -> bool:
        """Put a user's message and all after it again, by the decisions that stand for them now.

        False, and nothing is changed, when they are gone, or more than `TAIL_MAX`.
        """
        if tx.value("count_spanned_from", session_id=session_id, seq=seq) > TAIL_MAX:
            return False
        rows = tx.rows("spanned_messages", session_id=session_id, from_seq=seq, before_seq=END, limit=TAIL_MAX)
        last = latest_episode(tx, session_id)
        if not rows or rows[0]["seq"] != seq or last is None:
            return False
        before = stretches(tx, session_id, seq, TAIL_MAX)
        self._cut(tx, session_id, seq, now_ms)
        place = self.place(tx, session_id, seq, followed=True)
        assert place is not None, "a message has a session"
        for entry in map(entry_of, rows):
            self._put_recorded(tx, place, entry, now_ms)
        after = stretches(tx, session_id, seq, TAIL_MAX)
        take_along(tx, Moved(last.agent, session_id, seq, before, after), now_ms)
        if last.state == "closed" and place.episode is not None:
            close(tx, place.episode, last.closed_for or "", last.closed_at_ms or now_ms)
        return True

    # -- messages of users ----------------------------------------------------------------------------------------

    def _told(self, tx: Transaction, place: Place, entry: Entry, *, brought: bool) -> _Told:
        verdict = relations.classify(asked_of(tx, place.episode, entry), self._rules.hard_gap_ms)
        asking = self._full and not brought and self._available()
        undecided = place.episode is not None and not verdict.decides and asking
        return _Told(verdict, intents.classify(entry.message.text), undecided)

    def _put_recorded(self, tx: Transaction, place: Place, entry: Entry, now_ms: int) -> None:
        row = tx.row("routing_of", session_id=entry.session_id, seq=entry.seq)
        if entry.message.role != "user" or row is None:
            self.put(tx, place, entry, now_ms, brought=True)
            return
        verdict = Verdict(row["relation"], row["confidence"], row["classified_by"], row["signal"])
        intent = intents.Intent(**json.loads(row["intent"]))
        self._put_user(tx, place, entry, _Told(verdict, intent, undecided=False, row=row), now_ms)
        place.waiting = after(place.waiting, entry.message)

    def _put_user(self, tx: Transaction, place: Place, entry: Entry, told: _Told, now_ms: int) -> None:
        before = place.episode
        site = _site(place) if told.row is None else _site_again(place, told.row)
        gap_ms = None if before is None else max(0, entry.message.at_ms - before.last_at_ms)
        relation = told.verdict.relation
        worth = before is None or not tx.value("is_of_no_worth", id=before.task_id)
        chosen = route(site, relation, gap_ms, _load(before), entry.tokens, self._rules, worth=worth)
        if chosen.forced is not None and before is not None:
            self._tell_limit(tx, before, chosen.forced, site, relation, now_ms)
        place.episode = add_entry(tx, _perform(tx, place, chosen, entry, told, now_ms), entry)
        self._record(tx, place, entry, told, _Put(site, chosen, gap_ms, before), now_ms)

    def _record(self, tx: Transaction, place: Place, entry: Entry, told: _Told, put: _Put, now_ms: int) -> None:
        """Write down where a message was put; and ask for the decision it waits for."""
        assert place.episode is not None, "the message was put"
        where: dict[str, Any] = {
            "source": put.site,
            "reason": put.route.reason,
            "action": put.route.action,
            "forced": put.route.forced or "",
            "before_id": None if put.before is None else put.before.id,
            "episode_id": place.episode.id,
            "gap_ms": put.gap_ms,
            "inputs": json.dumps(_inputs(put.before, entry)),
        }
        if told.row is not None:
            tx.execute("place_routing", id=told.row["id"], **where)
            return
        tx.execute(
            "insert_routing",
            at=now_ms,
            agent=place.session["agent"],
            session_id=entry.session_id,
            seq=entry.seq,
            relation=told.verdict.relation,
            confidence=told.verdict.confidence,
            classified_by=told.verdict.classified_by,
            signal=told.verdict.signal,
            state="provisional" if told.undecided else "decided",
            corrects=None,
            duration_ms=0,
            intent=json.dumps(told.intent.as_json()),
            feedback="{}",
            heard=0,
            **where,
        )
        if told.undecided:
            ask_for(tx, _classification(place.episode, entry), now_ms)

    # -- everything else ------------------------------------------------------------------------------------------

    def _put_other(self, tx: Transaction, place: Place, episode: Episode, entry: Entry, now_ms: int) -> None:
        """Put what follows a user's message; a limit is looked at before each of it, but not between call and result.

        A reply that comes after its episode was closed opens it again.
        """
        message = entry.message
        result = message.role == "tool" and (message.tool_call_id or "") in place.waiting
        limit = None if result else limit_reached(_load(episode), entry.piece, self._rules.limits)
        if limit is not None:
            self._tell_limit(tx, episode, limit, _site(place), None, now_ms)
            close(tx, episode, limit, now_ms)
            episode = continue_task(tx, place.session, Opening(entry, limit), episode)
        elif episode.state == "closed":
            episode = reopen(tx, episode)
        place.episode = add_entry(tx, episode, entry)

    def _tell_limit(
        self, tx: Transaction, episode: Episode, limit: Limit, site: Site, relation: str | None, now_ms: int
    ) -> None:
        held = {"turns": episode.entries, "steps": episode.steps, "tokens": episode.tokens}
        bounds = self._rules.limits
        bound = {"turn_limit": bounds.entries, "step_limit": bounds.steps, "token_limit": bounds.tokens}[limit]
        detail: dict[str, Any] = {"source": site, **held, "max": bound, "relation": relation}
        log.info(_REACHED[limit], episode=episode.id, session=episode.session_id, **detail)
        note(
            tx,
            now_ms,
            agent=episode.agent,
            stage="limit",
            outcome="changed",
            reason=limit,
            ref=episode.id,
            task_id=episode.task_id,
            episode_id=episode.id,
            detail=detail,
        )

    def _cut(self, tx: Transaction, session_id: str, seq: int, now_ms: int) -> None:
        """Take a session back to the state before a message, as far as episodes go.

        What was told of limits goes as well: they are reached anew, by the messages as they are put then.
        """
        gone = [row["episode_id"] for row in tx.rows("episodes_from", session_id=session_id, seq=seq)]
        tx.execute("drop_spans_from", session_id=session_id, seq=seq)
        last = tx.row("last_span", session_id=session_id, before_seq=seq)
        if last is not None and last["last_seq"] >= seq:
            tx.execute("extend_span", session_id=session_id, first_seq=last["first_seq"], last_seq=seq - 1)
        for episode_id in gone:
            tx.execute("drop_limit_notes", episode_id=episode_id)
            tx.execute("drop_episode", id=episode_id)
        tx.execute("drop_empty_tasks", session_id=session_id)
        before = latest_episode(tx, session_id, seq)
        if before is not None:
            tx.execute("drop_limit_notes", episode_id=before.id)
            before = recount(tx, before)
            _as_it_was(tx, before, tx.row("routing_of", session_id=session_id, seq=seq), now_ms)


@dataclass(frozen=True, slots=True)
class _Put:
    """Where a user's message was put: the site, the choice, the pause, and the episode before."""

    site: Site
    route: Route
    gap_ms: int | None
    before: Episode | None


def asked_of(tx: Transaction, before: Episode | None, entry: Entry) -> Asked:
    """What the relation of a message to an episode is told by."""
    if before is None:
        return Asked(entry.message.text, "", "", None)
    newest = {
        role: tx.value("episode_newest", episode_id=before.id, role=role, before_seq=entry.seq, chars=chars) or ""
        for role, chars in (("user", NEWEST_CHARS), ("assistant", REPLY_CHARS))
    }
    opening = tx.value("episode_opening", episode_id=before.id, chars=OPENING_CHARS) or ""
    user = newest["user"] if newest["user"].startswith(opening) else f"{opening}\n{newest['user']}"
    gap_ms = max(0, entry.message.at_ms - before.last_at_ms)
    return Asked(entry.message.text, user or before.title, newest["assistant"], gap_ms)


def _site(place: Place) -> Site:
    if place.episode is None:
        return "none"
    if place.episode.state == "closed":
        return "closed_episode"
    return "open_episode" if place.followed else "recovered_open_topic"


def _site_again(place: Place, row: Row) -> Site:
    """The site of a message that is put again: what was found open then was found open."""
    site = _site(place)
    return "recovered_open_topic" if site == "open_episode" and row["source"] == "recovered_open_topic" else site


def _load(episode: Episode | None) -> Load:
    return Load() if episode is None else Load(episode.entries, episode.steps, episode.tokens)


def _perform(tx: Transaction, place: Place, chosen: Route, entry: Entry, told: _Told, now_ms: int) -> Episode:
    """Do with the episode before a message what was chosen; the episode that the message goes into."""
    before = place.episode
    reason = _boundary(chosen, told.verdict)
    opening = Opening(entry, reason, told.intent)
    if before is None:
        return begin_task(tx, place.session, opening)
    if chosen.action.startswith("close_open"):
        close(tx, before, reason, now_ms)
    match chosen.action:
        case "append_to_open_episode":
            return before
        case "reopen_previous_episode":
            return reopen(tx, before)
        case "close_open_and_start_new_episode" | "start_new_episode":
            return continue_task(tx, place.session, opening, before)
        case "close_open_and_start_new_task" | "start_new_task_episode":
            return begin_task(tx, place.session, opening)


def _boundary(chosen: Route, verdict: Verdict) -> str:
    """Why an episode ends and another begins, as both keep it."""
    if chosen.forced is not None:
        return chosen.forced
    if chosen.reason in {HARD_TIMEOUT, "first"}:
        return chosen.reason
    return verdict.signal if verdict.classified_by == "timeout" else "topic"


def _inputs(before: Episode | None, entry: Entry) -> dict[str, Any]:
    figures: dict[str, Any] = {"chars": len(entry.message.text)}
    if before is not None:
        figures |= {
            "entries": before.entries,
            "steps": before.steps,
            "tokens": before.tokens,
            "closed_for": before.closed_for,
        }
    return figures


def _classification(episode: Episode, entry: Entry) -> JobRequest:
    return JobRequest(
        kind="classify",
        key=f"classify:{entry.session_id}:{entry.seq}",
        lane="interactive",
        payload={"session_id": entry.session_id, "seq": entry.seq},
        agent=episode.agent,
        episode_id=episode.id,
        task_id=episode.task_id,
    )


def _as_it_was(tx: Transaction, before: Episode, row: Row | None, now_ms: int) -> None:
    """Have the episode before a message open or closed as it was when that message came."""
    was_closed = row is not None and row["source"] == "closed_episode"
    if was_closed and before.state == "open":
        assert row is not None, "it says that the episode was closed"
        close(tx, before, json.loads(row["inputs"]).get("closed_for") or "idle", now_ms)
    elif not was_closed and before.state == "closed":
        tx.execute("reopen_episode", id=before.id, reopened=0)
