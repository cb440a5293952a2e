"""Sessions and transcripts in `state.db`: what is read of them, and past conversations that are added.

Every method is a single commit or a single consistent read; reads are bounded by a count or a key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.sessions.failures import decode_failure
from reverie.sessions.forgetting import FORGOTTEN_EXTRA, forgotten_among, forgotten_prints
from reverie.sessions.replay import fingerprint
from reverie.sessions.transcript import open_session
from reverie.types import LoggedMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject, Provenance, SessionKey


@dataclass(frozen=True, slots=True)
class PastMessage:
    """A message of an imported conversation, with its speaker and its date in the source's own words.

    `foreign` tells words that are a stranger's even where the owner vouches for the conversation: what others say in a
    group, and an answer that followed the result of a tool.
    """

    role: Literal["user", "assistant"]
    text: str
    speaker: str
    said_on: str
    said_at_ms: int
    foreign: bool = False

    def whose(self, *, mine: bool) -> Provenance:
        """Whose words they are; `mine`: the owner vouches for the conversation."""
        if not mine or self.foreign:
            return "untrusted"
        return "owner" if self.role == "user" else "agent"


ForgottenPast = Literal["known", "forgotten", "taken"]
"""What is on record of a past conversation: nothing against it, that it was forgotten, or that its key stands for
another one that was."""


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A line of a list of sessions."""

    id: str
    key: str
    agent: str
    origin: str
    title: str
    started_at_ms: int
    last_interaction_at_ms: int
    message_count: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SessionTotals:
    """Counts for status."""

    sessions: int
    messages: int
    turns: dict[str, int]


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """Something that happened in a session. `seq` rises over all sessions; `kind` is `turn.queued` and the like."""

    seq: int
    session_key: str
    turn_id: str | None
    at_ms: int
    kind: str
    data: JsonObject


class SessionStore:
    """Sessions, turns and transcripts in `state.db`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def import_session(
        self, key: SessionKey, title: str, messages: Sequence[PastMessage], *, batch: int = 500, mine: bool = False
    ) -> tuple[str, int]:
        """Add a past conversation, once: a session whose key exists already only gains the messages it lacks.

        Returns its id and how many messages were added. Each batch is one commit, so that an interrupted import
        goes on where it stopped. `mine`: the owner says that it is his own, so that he spoke in it, and his agent; else
        its words count as a stranger's. What was said once is not taken back by an import that does not say it.
        """
        now = self._clock.now_ms()

        def find_or_open(tx: Transaction) -> tuple[str, int]:
            row = tx.row("find_current_session", key=key.value)
            session_id: str = row["id"] if row is not None else open_session(tx, key, "import", now, title)
            return session_id, tx.value("next_seq", session_id=session_id) - 1

        session_id, present = await self._database.write(find_or_open)
        for start in range(present, len(messages), batch):
            part = messages[start : start + batch]
            await self._database.write(
                lambda tx, part=part, start=start: append_past(tx, key, session_id, part, start, mine=mine)
            )
        known = messages[:present] if mine else ()
        for start in range(0, len(known), batch):
            part = known[start : start + batch]
            await self._database.write(lambda tx, part=part, start=start: _vouch(tx, session_id, part, start))
        return session_id, max(0, len(messages) - present)

    async def is_forgotten(self, key: SessionKey, history: str, messages: Sequence[PastMessage]) -> ForgottenPast:
        """Whether a past conversation was forgotten: with its whole history, or this one under its key.

        `taken` says that another one was forgotten under this key, which then stands for that one.
        """
        first = [fingerprint(message.role, message.text) for message in messages[:1]]

        def look(tx: Transaction) -> ForgottenPast:
            if forgotten_among(tx, key.agent, "history", [history]):
                return "forgotten"
            if not forgotten_among(tx, key.agent, "session", [key.value]):
                return "known"
            return "forgotten" if forgotten_prints(tx, key.agent, key.value, first) else "taken"

        return await self._database.read(look)

    async def messages_after(self, position: int, limit: int) -> list[LoggedMessage]:
        """What is to be remembered of all sessions, after a position in their log."""
        rows = await self._database.read(lambda tx: tx.rows("messages_after", position=position, limit=limit))
        return [LoggedMessage(**row) for row in rows]

    async def read_lines(self, session_id: str, start: int, count: int) -> list[LoggedMessage]:
        """`count` messages of one transcript from number `start` on."""
        rows = await self._database.read(
            lambda tx: tx.rows("read_lines", session_id=session_id, start=start, limit=count)
        )
        for row in rows:
            row["forgotten"] = bool(row["forgotten"])
        return [LoggedMessage(**row) for row in rows]

    async def whose_words(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Provenance]:
        """Whose words some messages are, by session and number; one that there is not is missing."""
        listed = json.dumps(places)
        rows = await self._database.read(lambda tx: list(tx.tuples("whose_words", places=listed)))
        return {(session_id, seq): whose for session_id, seq, whose in rows}

    async def last_position(self) -> int:
        """The end of the log of all sessions."""
        return await self._database.read(lambda tx: tx.value("last_position"))

    async def events_after(self, key: str, after: int, limit: int) -> list[SessionEvent]:
        """What happened in a session after an event, oldest first."""
        rows = await self._database.read(lambda tx: tx.rows("session_events_after", key=key, after=after, limit=limit))
        return [
            SessionEvent(row["id"], row["session_key"], row["turn_id"], row["at"], row["kind"], json.loads(row["data"]))
            for row in rows
        ]

    async def turn_state(self, turn_id: str) -> tuple[str, str | None] | None:
        """A turn's state and, if it has no answer, its cause; None for an unknown id."""
        row = await self._database.read(lambda tx: tx.row("find_turn", id=turn_id))
        if row is None:
            return None
        return row["state"], str(decode_failure(row["error"])) if row["error"] else None

    async def list_sessions(self, limit: int = 50) -> list[SessionSummary]:
        """The sessions by last interaction, newest first."""
        rows = await self._database.read(lambda tx: tx.rows("list_sessions", limit=limit))
        return [
            SessionSummary(
                started_at_ms=row.pop("started_at"), last_interaction_at_ms=row.pop("last_interaction_at"), **row
            )
            for row in rows
        ]

    async def totals(self) -> SessionTotals:
        """Counts for status."""

        def work(tx: Transaction) -> SessionTotals:
            turns = {row["state"]: row["turns"] for row in tx.rows("count_turns_by_state")}
            return SessionTotals(tx.value("count_sessions"), tx.value("count_messages"), turns)

        return await self._database.read(work)


def _vouch(tx: Transaction, session_id: str, messages: Sequence[PastMessage], start: int) -> None:
    """The owner vouches for messages: they, and what is known of them as recalled, are his and his agent's."""
    changed = 0
    for seq, message in enumerate(messages, start + 1):
        if not message.foreign:
            whose = message.whose(mine=True)
            changed += tx.execute("vouch_for_message", session_id=session_id, seq=seq, provenance=whose)
    if changed:
        tx.execute("vouch_for_recalls", session_id=session_id)


def append_past(
    tx: Transaction, key: SessionKey, session_id: str, messages: Sequence[PastMessage], start: int, *, mine: bool
) -> None:
    """Append messages after number `start`; one that was forgotten takes its place without its words."""
    prints = [fingerprint(message.role, message.text) for message in messages]
    gone = forgotten_prints(tx, key.agent, key.value, prints)
    for offset, (message, print_) in enumerate(zip(messages, prints, strict=True)):
        kept = print_ not in gone
        tx.execute(
            "insert_message",
            session_id=session_id,
            seq=start + offset + 1,
            turn_id=None,
            role=message.role,
            text=message.text if kept else "",
            speaker=message.speaker if kept else "",
            said_on=message.said_on if kept else "",
            extra="{}" if kept else FORGOTTEN_EXTRA,
            visible=1,
            remember=int(kept),
            fingerprint=print_,
            now=message.said_at_ms,
            provenance=message.whose(mine=mine),
        )
    if messages:
        tx.execute("touch_session", id=session_id, now=messages[-1].said_at_ms)
