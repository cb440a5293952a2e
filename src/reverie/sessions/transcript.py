"""Transcripts: what is appended to one, what of it is in view, and what of a request it does not hold yet.

Functions over a transaction, so that whoever changes a turn's state changes its transcript in the same commit. An
entry is a message or a mark (`kind`); a mark is never sent to a model as it stands.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reverie.sessions.codec import decode_entry, encode_extra
from reverie.sessions.forgetting import forgotten_prints
from reverie.sessions.replay import NewMessages, input_start, message_fingerprint, unseen
from reverie.sessions.rollover import new_session_id
from reverie.sessions.tree import known_fingerprints
from reverie.sessions.whose import whose_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.storage import Row, Transaction
    from reverie.types import Message, Provenance, SessionKey, ToolCall, TurnRequest

KNOWN_MESSAGES_MAX = 1_000
KNOWN_MESSAGES_MIN = 100
VIEWS_MAX = 64
VIEW_BYTES_MAX = 64 * 1024 * 1024
"""More is not read of a transcript for one turn: ten million tokens, the largest window there is, are about this."""


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation. `history_start` is the first message number that is still sent to the model."""

    id: str
    key: str
    agent: str
    epoch: int
    epoch_reason: str
    prefix_fingerprints: dict[str, str]
    history_start: int
    message_count: int


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A message of a transcript with its number. One that is `joined` is sent as one message with the next.

    `provenance` is whose words it is; what nobody says is nobody's to trust.
    """

    seq: int
    message: Message
    joined: bool = False
    provenance: Provenance = "untrusted"


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """A message to append, and how the client saw it.

    `visible` is False for rounds of our own tools, `remember` False for text that only quotes memory. `seen_text` is
    the whole reply and `seen_calls` the calls that the client was shown, where they differ from the message's own: it
    is recognised by those when it is replayed. `lead` is what stands before the text when it is sent to a model,
    and one that is `joined` is sent as one message with the next.
    `turn_id` is the message's own turn where that is not the turn that appends it. `provenance` is whose words it is:
    who appends it says so, or it is untrusted.
    """

    message: Message
    visible: bool = True
    remember: bool = True
    seen_text: str | None = None
    seen_calls: tuple[ToolCall, ...] | None = None
    lead: str = ""
    joined: bool = False
    turn_id: str | None = None
    provenance: Provenance = "untrusted"

    def as_seen(self) -> Message:
        """The message as the client knows it."""
        text = self.message.text if self.seen_text is None else self.seen_text
        calls = self.message.tool_calls if self.seen_calls is None else self.seen_calls
        return replace(self.message, text=text, tool_calls=calls)


class Views:
    """The transcripts in view of the sessions used last, so that a turn reads only what was added since.

    Transcripts only grow, so what was committed stays true, within an epoch: where something of a session is
    forgotten, a new one begins. At most `VIEWS_MAX` sessions are kept.
    """

    def __init__(self) -> None:
        self._views: OrderedDict[str, tuple[int, tuple[HistoryEntry, ...]]] = OrderedDict()

    def last(self, session: Session) -> tuple[HistoryEntry, ...]:
        """What the session's last turn had in view; nothing when its epoch is another one now."""
        epoch, view = self._views.get(session.id, (session.epoch, ()))
        return view if epoch == session.epoch else ()

    def keep(self, session: Session, view: tuple[HistoryEntry, ...]) -> None:
        """Remember what a committed turn has in view."""
        self._views[session.id] = (session.epoch, view)
        self._views.move_to_end(session.id)
        while len(self._views) > VIEWS_MAX:
            self._views.popitem(last=False)

    def drop(self, session_id: str) -> None:
        """Forget a session that is gone."""
        self._views.pop(session_id, None)


def in_view(tx: Transaction, session: Session, last: tuple[HistoryEntry, ...], limit: int) -> tuple[HistoryEntry, ...]:
    """The newest `limit` messages of a session from its `history_start` on; what the last view lacks is read."""
    start = session.history_start
    kept = last[bisect_left(last, start, key=_seq) :] if last and last[0].seq <= start else ()
    after = kept[-1].seq + 1 if kept else start
    added: list[HistoryEntry] = []
    left = VIEW_BYTES_MAX
    rows = tx.tuples("newest_messages", session_id=session.id, from_seq=after, limit=limit)
    for seq, role, text, extra, whose in rows:
        left -= len(text) + len(extra)
        if added and left < 0:
            kept = ()
            break
        added.append(HistoryEntry(seq, *decode_entry(role, text, extra), whose))
    return (*kept, *added[::-1])[-limit:]


def _seq(entry: HistoryEntry) -> int:
    return entry.seq


def open_session(tx: Transaction, key: SessionKey, origin: str, now: int, title: str = "") -> str:
    """Open a session for a key that has none; returns its id, which sorts by time."""
    session_id = new_session_id(now)
    tx.execute("insert_session", id=session_id, key=key.value, agent=key.agent, origin=origin, title=title, now=now)
    return session_id


def unseen_messages(tx: Transaction, session_id: str, request: TurnRequest) -> NewMessages:
    """What a turn's request adds to its session. The transcript is asked only when the client sent history.

    History that a person had forgotten is left out: the client may still have it.
    """
    messages = request.messages
    start = input_start(messages)
    if start == 0:
        return NewMessages(messages, "the request brings no history")
    limit = min(KNOWN_MESSAGES_MAX, 4 * len(messages) + KNOWN_MESSAGES_MIN)
    new = unseen(messages, known_fingerprints(tx, session_id, limit))
    return _without_forgotten(tx, request.session, new, len(messages) - start)


def _without_forgotten(tx: Transaction, key: SessionKey, new: NewMessages, input_count: int) -> NewMessages:
    """Without those messages before the input that were forgotten under the session's key."""
    history = new.messages[: len(new.messages) - input_count]
    prints = [message_fingerprint(message) for message in history]
    gone = forgotten_prints(tx, key.agent, key.value, prints) if history else set[bytes]()
    if not gone:
        return new
    kept = [message for message, print_ in zip(history, prints, strict=True) if print_ not in gone]
    reason = f"{new.reason}; {len(history) - len(kept)} messages that were forgotten are left out"
    return NewMessages((*kept, *new.messages[len(history) :]), reason)


def records_of(request: TurnRequest, messages: Sequence[Message]) -> list[RecordedMessage]:
    """Messages of a request as they are appended: with whose words they are."""
    source, key = request.arrival.source, request.session.value
    return [RecordedMessage(message, provenance=whose_words(message.role, source, key)) for message in messages]


def append(tx: Transaction, session_id: str, turn_id: str, records: Sequence[RecordedMessage], now: int) -> int:
    """Append to a transcript; returns the number of the first message added."""
    first: int = tx.value("next_seq", session_id=session_id)
    for offset, record in enumerate(records):
        message = record.message
        tx.execute(
            "insert_message",
            session_id=session_id,
            seq=first + offset,
            turn_id=record.turn_id or turn_id,
            role=message.role,
            text=message.text,
            speaker="",
            said_on="",
            extra=encode_extra(message, record.lead, joined=record.joined),
            visible=int(record.visible),
            remember=int(record.remember),
            fingerprint=message_fingerprint(record.as_seen()),
            now=now,
            provenance=record.provenance,
        )
    return first


def session_of(row: Row | None) -> Session:
    """A session's row as a value."""
    assert row is not None, "a turn's session exists"
    return Session(
        id=row["id"],
        key=row["key"],
        agent=row["agent"],
        epoch=row["epoch"],
        epoch_reason=row["epoch_reason"],
        prefix_fingerprints=json.loads(row["prefix_fingerprint"]),
        history_start=row["history_start"],
        message_count=row["message_count"],
    )
