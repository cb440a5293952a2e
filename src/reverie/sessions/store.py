"""What is written about sessions, turns and transcripts, each change in one transaction.

Every method is a single commit or a single consistent read; reads are bounded by a count or a key.
"""

from __future__ import annotations

import json
import secrets
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from reverie.sessions.codec import decode_message, decode_request, dump, encode_extra, encode_request
from reverie.sessions.compactions import adopt_ready, record_prompt_tokens, standing_summary
from reverie.sessions.replay import NewMessages, fingerprint, input_start, message_fingerprint, unseen
from reverie.types import LoggedMessage, Message, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.sessions.compactions import StandingSummary
    from reverie.storage import Database, Row, Transaction
    from reverie.types import FinishReason, JsonObject, SessionKey, ToolCall, TurnRequest, Usage

KNOWN_MESSAGES_MAX = 1_000
KNOWN_MESSAGES_MIN = 100
VIEWS_MAX = 64
UNFINISHED_PAGE = 200


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
    """A message of a transcript with its number."""

    seq: int
    message: Message


@dataclass(frozen=True, slots=True)
class BegunTurn:
    """A turn that runs: its session, the transcript in view, the number of the first message of the new input.

    The input stands last: a user message, or the results of tools that the client ran. `summary` stands for what
    came before the transcript in view; `compacted` tells that it was adopted just now.
    """

    session: Session
    history: tuple[HistoryEntry, ...]
    input_seq: int
    input_reason: str
    summary: StandingSummary | None = None
    compacted: bool = False


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """A message to append, and how the client saw it.

    `visible` is False for rounds of our own tools, `remember` False for text that only quotes memory. `seen_text` is
    the whole reply and `seen_calls` the calls that the client was shown, where they differ from the message's own: it
    is recognised by those when it is replayed.
    """

    message: Message
    visible: bool = True
    remember: bool = True
    seen_text: str | None = None
    seen_calls: tuple[ToolCall, ...] | None = None

    def as_seen(self) -> Message:
        """The message as the client knows it."""
        text = self.message.text if self.seen_text is None else self.seen_text
        calls = self.message.tool_calls if self.seen_calls is None else self.seen_calls
        return replace(self.message, text=text, tool_calls=calls)


@dataclass(frozen=True, slots=True)
class PastMessage:
    """A message of an imported conversation, with its speaker and its date in the source's own words."""

    role: Literal["user", "assistant"]
    text: str
    speaker: str
    said_on: str
    said_at_ms: int


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


class _Views:
    """The transcripts in view of the sessions used last, so that a turn reads only what was added since.

    Transcripts only grow, so what was committed stays true. At most `VIEWS_MAX` sessions are kept.
    """

    def __init__(self) -> None:
        self._views: OrderedDict[str, tuple[HistoryEntry, ...]] = OrderedDict()

    def last(self, session_id: str) -> tuple[HistoryEntry, ...]:
        """What the session's last turn had in view."""
        return self._views.get(session_id, ())

    def keep(self, session_id: str, view: tuple[HistoryEntry, ...]) -> None:
        """Remember what a committed turn has in view."""
        self._views[session_id] = view
        self._views.move_to_end(session_id)
        while len(self._views) > VIEWS_MAX:
            self._views.popitem(last=False)


def _in_view(tx: Transaction, session: Session, last: tuple[HistoryEntry, ...], limit: int) -> tuple[HistoryEntry, ...]:
    """The newest `limit` messages of a session from its `history_start` on; what the last view lacks is read."""
    start = session.history_start
    # Marks have numbers too and are not in view, so an entry's place is not its number less the first one's.
    kept = last[bisect_left(last, start, key=lambda entry: entry.seq) :] if last and last[0].seq <= start else ()
    after = kept[-1].seq + 1 if kept else start
    rows = tx.tuples("newest_messages", session_id=session.id, from_seq=after, limit=limit)
    added = [HistoryEntry(seq, decode_message(role, text, extra)) for seq, role, text, extra in rows]
    return (*kept, *added[::-1])[-limit:]


class SessionStore:
    """Sessions, turns and transcripts in `state.db`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._views = _Views()

    async def accept(self, request: TurnRequest) -> Turn:
        """Make a turn durable. Opens the key's session if it has none."""
        now = self._clock.now_ms()
        encoded = encode_request(request)

        def work(tx: Transaction) -> Turn:
            session_id = tx.value("find_current_session", key=request.session.value)
            if session_id is None:
                session_id = _open_session(tx, request.session, "live", now)
            tx.execute("insert_turn", id=request.turn_id, session_id=session_id, request=encoded, now=now)
            return Turn(request.turn_id, session_id, request, "accepted", now)

        return await self._database.write(work)

    async def begin(self, turn: Turn, *, history_max: int) -> BegunTurn:
        """The turn runs: append what it brings to the transcript and return the conversation in view."""
        now = self._clock.now_ms()
        last = self._views.last(turn.session_id)

        def work(tx: Transaction) -> BegunTurn:
            changed = tx.execute("start_turn", id=turn.id, now=now)
            assert changed == 1, f"turn {turn.id} is not waiting"
            compacted = adopt_ready(tx, turn.session_id, now)
            new = _unseen(tx, turn)
            first = _append(tx, turn.session_id, turn.id, [RecordedMessage(m) for m in new.messages], now)
            session = _session(tx.row("find_session", id=turn.session_id))
            history = _in_view(tx, session, last, history_max)
            summary = standing_summary(tx, turn.session_id)
            return BegunTurn(session, history, first + input_start(new.messages), new.reason, summary, compacted)

        begun = await self._database.write(work)
        self._views.keep(turn.session_id, begun.history)
        return begun

    async def record_epoch(
        self, session_id: str, *, epoch: int, reason: str, fingerprints: dict[str, str], history_start: int
    ) -> None:
        """Remember what the stable prefix is and why it changed."""
        now = self._clock.now_ms()
        await self._database.write(
            lambda tx: tx.execute(
                "record_epoch",
                id=session_id,
                epoch=epoch,
                reason=reason,
                fingerprint=dump(fingerprints),
                history_start=history_start,
                now=now,
            )
        )

    async def finish(
        self,
        turn: Turn,
        replies: Sequence[RecordedMessage],
        *,
        model: str,
        finish_reason: FinishReason,
        usage: Usage,
        prompt_tokens_last: int = 0,
    ) -> None:
        """The turn is answered: its messages and its end, in one commit.

        `prompt_tokens_last` is what the prompt of the last call took, as the server counted it; 0: it did not say.
        """
        now = self._clock.now_ms()

        def work(tx: Transaction) -> None:
            _append(tx, turn.session_id, turn.id, replies, now)
            tx.execute(
                "end_turn",
                id=turn.id,
                state="answered",
                model=model,
                finish_reason=finish_reason,
                usage=dump(asdict(usage)),
                error=None,
                now=now,
            )
            tx.execute("touch_session", id=turn.session_id, now=now)
            record_prompt_tokens(tx, turn.session_id, prompt_tokens_last)

        await self._database.write(work)

    async def fail(
        self, turn: Turn, error: str, *, partial: str = "", state: Literal["failed", "cancelled"] = "failed"
    ) -> None:
        """The turn ended without an answer. What it brought and what was said by then stay in the transcript."""
        now = self._clock.now_ms()

        def work(tx: Transaction) -> None:
            row = tx.row("find_turn", id=turn.id)
            if row is None or row["state"] not in {"accepted", "running"}:
                return  # its end is on record; what came after, came too late
            if row["state"] == "accepted":  # it never began: its input is not in the transcript yet
                _append(tx, turn.session_id, turn.id, [RecordedMessage(m) for m in _unseen(tx, turn).messages], now)
            if partial:
                _append(tx, turn.session_id, turn.id, [RecordedMessage(Message("assistant", partial))], now)
            tx.execute(
                "end_turn", id=turn.id, state=state, model=None, finish_reason=None, usage=None, error=error, now=now
            )
            tx.execute("touch_session", id=turn.session_id, now=now)

        await self._database.write(work)

    async def unfinished(self, after: tuple[int, int] = (-1, -1)) -> tuple[list[Turn], tuple[int, int]]:
        """A page of the turns a restart finds unfinished, in order of arrival, and the cursor for the next page."""

        def work(tx: Transaction) -> tuple[list[Turn], tuple[int, int]]:
            rows = tx.rows("unfinished_turns", after_at=after[0], after_rowid=after[1], limit=UNFINISHED_PAGE)
            if not rows:
                return [], after
            turns = [
                Turn(row["id"], row["session_id"], decode_request(row["request"]), row["state"], row["accepted_at"])
                for row in rows
            ]
            return turns, (rows[-1]["accepted_at"], tx.value("turn_rowid", id=rows[-1]["id"]))

        return await self._database.read(work)

    async def import_session(
        self, key: SessionKey, title: str, messages: Sequence[PastMessage], *, batch: int = 500
    ) -> tuple[str, int]:
        """Add a past conversation, once: a session whose key exists already only gains the messages it lacks.

        Returns its id and how many messages were added. Each batch is one commit, so that an interrupted import
        goes on where it stopped.
        """
        now = self._clock.now_ms()

        def open_session(tx: Transaction) -> tuple[str, int]:
            row = tx.row("find_current_session", key=key.value)
            session_id = row["id"] if row is not None else _open_session(tx, key, "import", now, title)
            return session_id, tx.value("next_seq", session_id=session_id) - 1

        session_id, present = await self._database.write(open_session)
        for start in range(present, len(messages), batch):
            part = messages[start : start + batch]
            await self._database.write(lambda tx, part=part, start=start: _append_past(tx, session_id, part, start))
        return session_id, max(0, len(messages) - present)

    async def messages_after(self, position: int, limit: int) -> list[LoggedMessage]:
        """What is to be remembered of all sessions, after a position in their log."""
        rows = await self._database.read(lambda tx: tx.rows("messages_after", position=position, limit=limit))
        return [LoggedMessage(**row) for row in rows]

    async def read_lines(self, session_id: str, start: int, count: int) -> list[LoggedMessage]:
        """`count` messages of one transcript from number `start` on."""
        rows = await self._database.read(
            lambda tx: tx.rows("read_lines", session_id=session_id, start=start, limit=count)
        )
        return [LoggedMessage(**row) for row in rows]

    async def last_position(self) -> int:
        """The end of the log of all sessions."""
        return await self._database.read(lambda tx: tx.value("last_position"))

    async def turn_state(self, turn_id: str) -> tuple[str, str | None] | None:
        """A turn's state and, if it failed, its cause; None for an unknown id."""
        row = await self._database.read(lambda tx: tx.row("find_turn", id=turn_id))
        return None if row is None else (row["state"], row["error"])

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


def _open_session(tx: Transaction, key: SessionKey, origin: str, now: int, title: str = "") -> str:
    session_id = f"{now:012x}-{secrets.token_hex(4)}"
    tx.execute("insert_session", id=session_id, key=key.value, agent=key.agent, origin=origin, title=title, now=now)
    return session_id


def _unseen(tx: Transaction, turn: Turn) -> NewMessages:
    """What a turn's request adds to its session. The transcript is asked only when the client sent history."""
    messages = turn.request.messages
    if input_start(messages) == 0:
        return NewMessages(messages, "the request brings no history")
    limit = min(KNOWN_MESSAGES_MAX, 4 * len(messages) + KNOWN_MESSAGES_MIN)
    rows = tx.tuples("newest_fingerprints", session_id=turn.session_id, limit=limit)
    return unseen(messages, [row[0] for row in rows][::-1])


def _append(tx: Transaction, session_id: str, turn_id: str, records: Sequence[RecordedMessage], now: int) -> int:
    """Append to a transcript; returns the number of the first message added."""
    first: int = tx.value("next_seq", session_id=session_id)
    for offset, record in enumerate(records):
        message = record.message
        tx.execute(
            "insert_message",
            session_id=session_id,
            seq=first + offset,
            turn_id=turn_id,
            role=message.role,
            text=message.text,
            speaker="",
            said_on="",
            extra=encode_extra(message),
            visible=int(record.visible),
            remember=int(record.remember),
            fingerprint=message_fingerprint(record.as_seen()),
            now=now,
        )
    return first


def _append_past(tx: Transaction, session_id: str, messages: Sequence[PastMessage], start: int) -> None:
    for offset, message in enumerate(messages):
        tx.execute(
            "insert_message",
            session_id=session_id,
            seq=start + offset + 1,
            turn_id=None,
            role=message.role,
            text=message.text,
            speaker=message.speaker,
            said_on=message.said_on,
            extra="{}",
            visible=1,
            remember=1,
            fingerprint=fingerprint(message.role, message.text),
            now=message.said_at_ms,
        )
    if messages:
        tx.execute("touch_session", id=session_id, now=messages[-1].said_at_ms)


def _session(row: Row | None) -> Session:
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
