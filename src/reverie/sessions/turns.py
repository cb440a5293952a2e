"""The inbox on disk: each turn from the moment it is accepted to its end, every step in one transaction.

The row decides. Whoever moves a turn does so only from the state it expects, so that of two who want it, a lane that
begins it and a caller who cancels it, exactly one gets it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from reverie.errors import MessageKeyReusedError, TurnCancelledError, TurnDroppedError, TurnEndedError, TurnExpiredError
from reverie.sessions.codec import decode_request, dump, encode_request
from reverie.sessions.compactions import adopt_ready, record_prompt_tokens, summary_of
from reverie.sessions.events import TurnFailed, TurnFinished, TurnStarted
from reverie.sessions.failures import decode_failure, encode_failure
from reverie.sessions.inbox import InboxEntry, collect_leads, drop_line, overflow_note
from reverie.sessions.replay import input_start, message_fingerprint
from reverie.sessions.rollover import continuity_of, place, touch
from reverie.sessions.transcript import (
    RecordedMessage,
    Views,
    append,
    in_view,
    open_session,
    records_of,
    session_of,
    unseen_messages,
)
from reverie.sessions.tree import mark_ended
from reverie.types import Message, SessionKey, ToolCall, Turn, TurnRequest, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reverie.clock import Clock
    from reverie.errors import ReverieError
    from reverie.sessions.compactions import StandingSummary
    from reverie.sessions.rollover import ResetRules, RollOver
    from reverie.sessions.transcript import HistoryEntry, Session
    from reverie.storage import Database, Row, Transaction
    from reverie.types import Delivery, JsonObject, TurnState

UNFINISHED_PAGE = 200
DROPPED_TOLD_MAX = 100
UNENDED = frozenset({"accepted", "queued", "running"})


@dataclass(frozen=True, slots=True)
class Accepted:
    """A turn as it was accepted; `attached` when its key had brought it before. `settings` are its session's own.

    `dropped` are the turns that gave way to it: not those that had begun by then.
    """

    turn: Turn
    attached: bool
    settings: JsonObject
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BegunTurn:
    """A turn that runs: its session, the transcript in view, the number of the first message of the new input.

    The input stands last: user messages, or the results of tools that the client ran. `continuity` is what is known
    of the session before this one, and `rolled` says that this very turn ended that one. `summary` stands for what
    came before the transcript in view; `compacted` tells that it was adopted just now.
    """

    turn: Turn
    session: Session
    history: tuple[HistoryEntry, ...]
    input_seq: int
    input_reason: str
    continuity: str = ""
    rolled: RollOver | None = None
    summary: StandingSummary | None = None
    compacted: bool = False

    def started(self) -> TurnStarted:
        """What those who follow the turn hear of its beginning."""
        if self.rolled is None:
            return TurnStarted(self.turn.id)
        return TurnStarted(self.turn.id, self.rolled.reason, self.turn.session_id)


@dataclass(frozen=True, slots=True)
class Recovered:
    """A turn that a restart finds without an end, without its request: that is read when it runs."""

    turn_id: str
    session_id: str
    session: SessionKey
    state: TurnState
    settings: str
    source: str
    delivery: Delivery
    accepted_at_ms: int
    deadline_at_ms: int | None
    message_key: str | None
    digest: bytes
    carried: bool

    def accepted(self) -> Accepted:
        """As it was accepted, without its request: that is read when it runs."""
        request = TurnRequest(self.turn_id, self.session, ())
        turn = Turn(self.turn_id, self.session_id, request, self.state, self.accepted_at_ms)
        return Accepted(turn, attached=False, settings=json.loads(self.settings))


class TurnStore:
    """The turns in `state.db`."""

    def __init__(self, database: Database, clock: Clock, resets: ResetRules | None = None) -> None:
        self._database = database
        self._clock = clock
        self._resets = resets
        self._views = Views()

    # -- accept --------------------------------------------------------------------------------------------------

    async def accept(
        self, request: TurnRequest, *, waits: bool = False, drop: Sequence[str] = (), keep_lines: bool = False
    ) -> Accepted:
        """Make a turn durable. Opens the key's session if it has none.

        `waits`: its session is busy, so that it is queued. `drop`: waiting turns that give way to it, in the same
        commit; with `keep_lines` the next turn is told a line of each.

        Raises:
            MessageKeyReusedError: its key stands for another message.
        """
        now = self._clock.now_ms()
        encoded = encode_request(request)
        arrival = request.arrival

        def work(tx: Transaction) -> Accepted:
            known = _known(tx, request)
            if known is not None:
                return known
            session = tx.row("find_current_session", key=request.session.value)
            session_id = session["id"] if session is not None else open_session(tx, request.session, "live", now)
            state: Literal["queued", "accepted"] = "queued" if waits else "accepted"
            tx.execute(
                "insert_turn",
                id=request.turn_id,
                session_id=session_id,
                state=state,
                request=encoded,
                now=now,
                source=arrival.source,
                message_key=arrival.message_key,
                request_digest=request_digest(request),
                mode=arrival.delivery,
                deadline_at=arrival.deadline_at_ms,
                client_model=arrival.client_model,
            )
            dropped = tuple(
                turn_id
                for turn_id in drop
                if _end_waiting(tx, turn_id, "dropped", TurnDroppedError(DROPPED), now, keep_line=keep_lines)
            )
            settings: JsonObject = json.loads(session["queue_settings"]) if session is not None else {}
            turn = Turn(request.turn_id, session_id, request, state, now)
            return Accepted(turn, attached=False, settings=settings, dropped=dropped)

        return await self._database.write(work)

    async def find_key(self, request: TurnRequest) -> Accepted | None:
        """The turn that a message's key stands for already; None when it is new.

        Raises:
            MessageKeyReusedError: it stands for another message.
        """
        return await self._database.read(lambda tx: _known(tx, request))

    # -- run -----------------------------------------------------------------------------------------------------

    async def load(self, turn_ids: Sequence[str]) -> list[Turn]:
        """Waiting turns with their requests; those that no longer wait are left out."""

        def work(tx: Transaction) -> list[Turn]:
            rows = [tx.row("find_turn", id=turn_id) for turn_id in turn_ids]
            return [_turn(row) for row in rows if row is not None and row["state"] in {"accepted", "queued"}]

        return await self._database.read(work)

    async def begin(self, turn: Turn, *, history_max: int) -> BegunTurn:
        """The turn runs: append what it brings to the transcript and return the conversation in view.

        Raises:
            TurnEndedError: it no longer waits: it was cancelled or dropped, or its deadline has passed.
        """
        now = self._clock.now_ms()

        def work(tx: Transaction) -> BegunTurn | None:
            row = tx.row("turn_with_session", id=turn.id)
            assert row is not None, "a turn that runs was accepted"
            if row["turn_state"] not in {"accepted", "queued"}:
                return None
            if row["turn_deadline"] is not None and now > row["turn_deadline"]:
                _end_waiting(tx, turn.id, "expired", TurnExpiredError(EXPIRED), now)
                return None
            placed = place(tx, turn, row, self._resets, now)
            session_id = placed.turn.session_id
            compacted = adopt_ready(tx, session_id, now)
            first, new = _start(tx, placed.turn, now)
            if compacted or placed.rolled is not None:
                row = tx.row("find_session", id=session_id)
                assert row is not None, "a turn's session exists"
            session = session_of(row)
            return BegunTurn(
                turn=placed.turn,
                session=session,
                history=in_view(tx, session, self._views.last(session), history_max),
                input_seq=first,
                input_reason=new,
                continuity=continuity_of(tx, session_id) if row["parent_id"] is not None else "",
                rolled=placed.rolled,
                summary=summary_of(tx, row),
                compacted=compacted,
            )

        begun = await self._database.write(work)
        if begun is None:
            raise TurnEndedError("the turn ended before it could begin")
        self._views.keep(begun.session, begun.history)
        return begun

    def drop_view(self, session_id: str) -> None:
        """Hold nothing of a transcript any more of which something was forgotten."""
        self._views.drop(session_id)

    async def in_view(self, session_id: str, *, history_max: int) -> tuple[HistoryEntry, ...]:
        """The conversation in view of a session, between its turns."""

        def work(tx: Transaction) -> tuple[HistoryEntry, ...]:
            return in_view(tx, session_of(tx.row("find_session", id=session_id)), (), history_max)

        return await self._database.read(work)

    async def record_epoch(
        self, session_id: str, *, epoch: int, reason: str, fingerprints: dict[str, str], history_start: int
    ) -> None:
        """Remember what the stable prefix of a session's prompts is, and why it changed."""
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

    async def deliver(self, carrier: Turn, turn_ids: Sequence[str]) -> list[Turn]:
        """Waiting turns enter a running one; returns those that did, in order.

        Their text joins the transcript when the carrier ends, at the place where the model read it.
        """
        now = self._clock.now_ms()

        def work(tx: Transaction) -> list[Turn]:
            delivered: list[Turn] = []
            for turn_id in turn_ids:
                if tx.execute("carry_turn", id=turn_id, carrier_id=carrier.id, now=now):
                    row = tx.row("find_turn", id=turn_id)
                    assert row is not None, "it was just changed"
                    delivered.append(_turn(row))
            return delivered

        return await self._database.write(work)

    async def give_back(self, carrier: Turn, turns: Sequence[Turn]) -> None:
        """Turns that were to enter a running one and did not wait again: they are answered by themselves."""

        def work(tx: Transaction) -> None:
            for turn in turns:
                tx.execute("give_back_turn", id=turn.id, carrier_id=carrier.id)

        await self._database.write(work)

    async def finish(
        self,
        turn: Turn,
        replies: Sequence[RecordedMessage],
        finished: TurnFinished,
        *,
        prompt_tokens_last: int = 0,
        also: Callable[[Transaction, int], None] | None = None,
    ) -> int:
        """The turn is answered, and those it carries with it: their messages and their end, in one commit.

        Returns the number of the first message added. `prompt_tokens_last` is what the prompt of the last call took, as
        the server counted it; 0: it did not say. `also` is done in the same commit, with the last message's number.
        """
        now = self._clock.now_ms()
        reply = dump({"text": finished.text, "tool_calls": [asdict(call) for call in finished.tool_calls]})

        def work(tx: Transaction) -> int:
            first = append(tx, turn.session_id, turn.id, replies, now)
            ended = {
                "state": "answered",
                "model": finished.model,
                "finish_reason": finished.finish_reason,
                "usage": dump(asdict(finished.usage)),
                "error": None,
                "now": now,
            }
            tx.execute("end_turn", id=turn.id, reply=reply, **ended)
            tx.execute("end_carried_turns", carrier_id=turn.id, **ended)
            touch(tx, turn.session_id, turn, now)
            last = first + len(replies) - 1
            record_prompt_tokens(tx, turn.session_id, prompt_tokens_last, last)
            if also is not None:
                also(tx, last)
            return first

        return await self._database.write(work)

    async def fail(self, turn: Turn, error: ReverieError, *, partial: str = "") -> TurnFinished | TurnFailed:
        """The turn ended without an answer, and those it carries with it; returns the end that is on record.

        What it brought and what was said by then stay in the transcript; of the latter nobody looked into what it rests
        on. An end that is on record already stands.
        """
        now = self._clock.now_ms()
        state = "cancelled" if isinstance(error, TurnCancelledError) else "failed"

        def work(tx: Transaction) -> TurnFinished | TurnFailed:
            row = tx.row("find_turn", id=turn.id)
            assert row is not None, "a turn that ends was accepted"
            if row["state"] not in UNENDED:
                return _end_of(tx, row)
            session_id: str = row["session_id"]
            began = row["state"] == "running"
            if not began:  # its input is not in the transcript yet, and what it was to carry stands before it
                for each in turn.carries:
                    tx.execute("carry_turn", id=each.id, carrier_id=turn.id, now=now)
            for carried in tx.rows("carried_untold", carrier_id=turn.id):
                told = decode_request(carried["request"])
                append(tx, session_id, carried["id"], records_of(told, _new_input(told)), now)
            if not began:
                new = unseen_messages(tx, session_id, turn.request)
                append(tx, session_id, turn.id, records_of(turn.request, new.messages), now)
            if partial:
                append(tx, session_id, turn.id, [RecordedMessage(Message("assistant", partial))], now)
            ended = {
                "state": state,
                "model": None,
                "finish_reason": None,
                "usage": None,
                "error": encode_failure(error),
                "now": now,
            }
            tx.execute("end_turn", id=turn.id, reply=None, **ended)
            tx.execute("end_carried_turns", carrier_id=turn.id, **ended)
            mark_ended(tx, session_id, turn.id, state, str(error), now)
            touch(tx, session_id, turn, now)
            return TurnFailed(turn.id, error, partial)

        return await self._database.write(work)

    # -- end before the beginning --------------------------------------------------------------------------------

    async def cancel_waiting(self, turn_id: str, error: ReverieError) -> bool:
        """A turn that waits ends; False when it does not wait any more. Its words stay out of the transcript.

        There a mark says what became of it.
        """
        now = self._clock.now_ms()
        state: TurnState = "expired" if isinstance(error, TurnExpiredError) else "cancelled"
        return await self._database.write(lambda tx: _end_waiting(tx, turn_id, state, error, now))

    # -- look ----------------------------------------------------------------------------------------------------

    async def entry(self, turn_id: str) -> InboxEntry | None:
        """A turn as the inbox has it; None for an unknown id."""
        row = await self._database.read(lambda tx: tx.row("find_inbox_entry", id=turn_id))
        return None if row is None else _entry(row)

    async def unended_of(self, key: str, limit: int) -> list[InboxEntry]:
        """The turns of a session key that run or wait, in order of arrival."""
        rows = await self._database.read(lambda tx: tx.rows("unended_turns_of_key", key=key, limit=limit))
        return [_entry(row) for row in rows]

    async def end_of(self, turn_id: str) -> TurnFinished | TurnFailed | None:
        """The terminal event of a turn as it is on record; None while it has none, or is unknown."""

        def work(tx: Transaction) -> TurnFinished | TurnFailed | None:
            row = tx.row("find_turn", id=turn_id)
            return None if row is None or row["state"] in UNENDED else _end_of(tx, row)

        return await self._database.read(work)

    async def apart(self, turn: Turn, turn_ids: Sequence[str]) -> dict[str, TurnFinished | TurnFailed | None]:
        """Of turns that were to be answered by this one, those that were not: the end of each, None while it waits."""

        def work(tx: Transaction) -> dict[str, TurnFinished | TurnFailed | None]:
            found: dict[str, TurnFinished | TurnFailed | None] = {}
            for turn_id in turn_ids:
                row = tx.row("find_turn", id=turn_id)
                assert row is not None, "a turn that was accepted is kept"
                if row["state"] in {"accepted", "queued"}:
                    found[turn_id] = None
                elif row["state"] in {"dropped", "expired"} or row["carrier_id"] != turn.id:
                    found[turn_id] = _end_of(tx, row)
            return found

        return await self._database.read(work)

    async def session_settings(self, key: str) -> JsonObject:
        """The queue settings of a session's own; empty when it has none."""
        stored = await self._database.read(lambda tx: tx.value("session_queue_settings", key=key))
        return json.loads(stored) if stored else {}

    async def change_session_settings(self, key: SessionKey, settings: JsonObject) -> None:
        """Give a session queue settings of its own, and the session if it does not exist yet."""
        now = self._clock.now_ms()

        def work(tx: Transaction) -> None:
            if tx.row("find_current_session", key=key.value) is None:
                open_session(tx, key, "live", now)
            tx.execute("set_session_queue_settings", key=key.value, settings=dump(settings), now=now)

        await self._database.write(work)

    async def unended(self, after: tuple[str, int] = ("", 0)) -> tuple[list[Recovered], tuple[str, int]]:
        """A page of the turns a restart finds without an end, by session and arrival, and the next page's cursor."""
        rows = await self._database.read(
            lambda tx: tx.rows("unended_turns", session_id=after[0], position=after[1], limit=UNFINISHED_PAGE)
        )
        if not rows:
            return [], after
        return [_recovered(row) for row in rows], (rows[-1]["session_id"], rows[-1]["position"])

    async def turn_of(self, recovered: Recovered) -> Turn:
        """The turn of a recovered entry, with its request."""
        row = await self._database.read(lambda tx: tx.row("find_turn", id=recovered.turn_id))
        assert row is not None, "turns without an end are never deleted"
        return _turn(row)


def request_digest(request: TurnRequest) -> bytes:
    """A digest of what a message says and where, so that a key that is used for another message is noticed.

    A session of the request's own is named after the request, anew each time it is sent: there is no other place.
    """
    prints = [message_fingerprint(message) for message in _new_input(request)]
    is_own = request.session.value.endswith(f":{request.turn_id.rpartition('_')[2]}")
    where = "" if is_own else request.session.value
    return hashlib.sha256(b"\0".join([where.encode("utf-8", "surrogatepass"), *prints])).digest()[:16]


def _new_input(request: TurnRequest) -> tuple[Message, ...]:
    return request.messages[input_start(request.messages) :]


def _known(tx: Transaction, request: TurnRequest) -> Accepted | None:
    arrival = request.arrival
    if arrival.message_key is None:
        return None
    row = tx.row("find_turn_by_message_key", source=arrival.source, message_key=arrival.message_key)
    if row is None:
        return None
    if row["request_digest"] != request_digest(request):
        raise MessageKeyReusedError(
            f"The key {arrival.message_key!r} was used for another message (turn {row['id']}). Use a new key for each "
            "new message, and the same key only to send the same message again."
        )
    turn = Turn(row["id"], row["session_id"], request, row["state"], row["accepted_at"])
    return Accepted(turn, attached=True, settings={})


def _start(tx: Transaction, turn: Turn, now: int) -> tuple[int, str]:
    """The turn and those collected with it leave the queue; their input joins the transcript.

    Returns the number of the first message of the input, and why this much of the requests is new.
    """
    session_id = turn.session_id
    changed = tx.execute("start_turn", id=turn.id, now=now)
    assert changed == 1, f"turn {turn.id} is not waiting"
    together = [
        carried for carried in turn.carries if tx.execute("carry_turn", id=carried.id, carrier_id=turn.id, now=now)
    ]
    inputs = [*together, turn]
    dropped = tx.rows("dropped_untold", session_id=session_id, limit=DROPPED_TOLD_MAX)
    if dropped:
        tx.execute("told_of_dropped", session_id=session_id, carrier_id=turn.id)
    note = overflow_note(len(dropped), [row["drop_line"] for row in dropped])
    leads = collect_leads([each.request.arrival.source for each in inputs], note)
    first, reason = 0, ""
    for each, lead in zip(inputs, leads, strict=True):
        new = unseen_messages(tx, session_id, each.request)
        start = input_start(new.messages)
        records = [replace(record, turn_id=each.id) for record in records_of(each.request, new.messages)]
        if new.messages[start].role == "user":
            records[start] = replace(records[start], lead=lead, joined=each is not inputs[-1])
        at = append(tx, session_id, each.id, records, now)
        if not first:
            first, reason = at + start, new.reason
    return first, reason


DROPPED = "the session's queue was full, and this message gave way to newer ones (queue.cap, queue.drop)"
EXPIRED = "the message's deadline passed before its turn could begin"


def _end_waiting(
    tx: Transaction, turn_id: str, state: TurnState, error: ReverieError, now: int, *, keep_line: bool = False
) -> bool:
    """A turn ends before it began; False when it began meanwhile, and needs no place in the queue any more."""
    row = tx.row("find_turn", id=turn_id)
    if row is None or row["state"] not in {"accepted", "queued"}:
        return False
    said = _new_input(decode_request(row["request"]))[0].text
    line = drop_line(said) if keep_line else None
    tx.execute("end_waiting_turn", id=turn_id, state=state, error=encode_failure(error), drop_line=line, now=now)
    mark_ended(tx, row["session_id"], turn_id, state, str(error), now, said=said)
    tx.execute("count_entries", id=row["session_id"])
    return True


def _turn(row: Row) -> Turn:
    return Turn(row["id"], row["session_id"], decode_request(row["request"]), row["state"], row["accepted_at"])


def _end_of(tx: Transaction, row: Row) -> TurnFinished | TurnFailed:
    """The terminal event of a turn that has ended; of one that was carried, its carrier's answer."""
    if row["state"] != "answered":
        return TurnFailed(row["id"], decode_failure(row["error"]))
    carrier = row if row["carrier_id"] is None else tx.row("find_turn", id=row["carrier_id"])
    assert carrier is not None, "a carrier is kept as long as what it carried"
    reply: JsonObject = json.loads(carrier["reply"] or '{"text":"","tool_calls":[]}')
    return TurnFinished(
        turn_id=row["id"],
        text=reply["text"],
        tool_calls=tuple(ToolCall(**call) for call in reply["tool_calls"]),
        finish_reason=row["finish_reason"] or "stop",
        usage=Usage(**json.loads(row["usage"] or "{}")),
        model=row["model"] or "",
    )


def _entry(row: Row) -> InboxEntry:
    return InboxEntry(
        turn_id=row["id"],
        session_key=row["key"],
        session_id=row["session_id"],
        state=row["state"],
        source=row["source"],
        message_key=row["message_key"],
        delivery=row["mode"],
        accepted_at_ms=row["accepted_at"],
        started_at_ms=row["started_at"],
        finished_at_ms=row["finished_at"],
        deadline_at_ms=row["deadline_at"],
        carrier_id=row["carrier_id"],
        client_model=row["client_model"],
        error=json.loads(row["error"]) if row["error"] else None,
        agent=row["agent"],
    )


def _recovered(row: Row) -> Recovered:
    return Recovered(
        turn_id=row["id"],
        session_id=row["session_id"],
        session=SessionKey(row["agent"], row["key"]),
        state=row["state"],
        settings=row["queue_settings"],
        source=row["source"],
        delivery=row["mode"],
        accepted_at_ms=row["accepted_at"],
        deadline_at_ms=row["deadline_at"],
        message_key=row["message_key"],
        digest=row["request_digest"] or b"",
        carried=row["carrier_id"] is not None,
    )
