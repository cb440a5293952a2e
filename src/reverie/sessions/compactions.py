"""Summaries of stretches of transcripts, from the moment one is asked for until a session goes on with it.

    preparing ──► flushed ──► ready ──► adopted
        │            │          │
        └────────────┴──────────┴──► failed, stale

`flushed` comes after the stretch's extract is durable in a memory file; only then a summary may become `ready`.
Adoption happens in the transaction that begins a turn (`adopt_ready`), by compare-and-set: a summary made on another
one than the session stands on now is `stale`. Transcripts are never shortened, so a summary can be expanded again.

Every method is one commit or one consistent read; reads are bounded by a key, a count or bytes.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from reverie.sessions.bindings import compacted
from reverie.sessions.codec import decode_message, dump

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.storage import Database, Row, Transaction
    from reverie.types import JsonObject, Message, Provenance, Role

SPAN_MESSAGES_MAX = 2_000
SPAN_CHARS_MAX = 8_000
"""Of one message; what is longer is counted whole and read in part."""
BYTES_SINCE_MESSAGES_MAX = 2_000
ATTEMPTS_MAX = 3
OPEN_MAX = 100
LISTED_MAX = 100
EXPANDED_MAX = 200
EXPANDED_BYTES_MAX = 1024 * 1024
FOCUS_CHARS_MAX = 1_000
ERROR_CHARS_MAX = 600

CompactionState = Literal["preparing", "flushed", "ready", "adopted", "failed", "stale"]
CompactionCause = Literal["threshold", "preflight", "bytes", "overflow", "manual"]


@dataclass(frozen=True, slots=True)
class Compaction:
    """One compaction as it is on record. It stands for messages `first_seq` to `last_seq`, and for `base_id`'s."""

    id: str
    session_id: str
    key: str
    agent: str
    state: CompactionState
    cause: CompactionCause
    base_id: str | None
    first_seq: int
    last_seq: int
    focus: str
    summary: str
    audit: JsonObject
    flushed_to: str | None
    tokens_before: int | None
    tokens_after: int | None
    attempts: int
    error: str | None
    created_at_ms: int
    adopted_at_ms: int | None


@dataclass(frozen=True, slots=True)
class StandingSummary:
    """The summary a session stands on: it replaces messages 1 to `last_seq` in the prompt.

    `hidden` are the numbers of later messages that only repeat an earlier one and are left out as well.
    """

    id: str
    last_seq: int
    text: str
    hidden: frozenset[int] = field(default_factory=frozenset[int])


@dataclass(frozen=True, slots=True)
class SessionLoad:
    """How full a session is. `prompt_tokens` None: nobody counted; `bytes_since` are of what no count holds."""

    session_id: str
    key: str
    agent: str
    ended: bool
    history_start: int
    message_count: int
    prompt_tokens: int | None
    transcript_bytes: int
    bytes_since: int
    compaction_id: str | None


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A message of a stretch as it is read for compaction: `text` may be cut, `size_bytes` is of all of it."""

    seq: int
    role: Role
    text: str
    size_bytes: int
    argument_chars: int
    said_at_ms: int
    remember: bool
    images: int
    calls: tuple[str, ...]
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Planned:
    """A stretch to be summarised. `tokens_before` is the prompt's size now, where known."""

    session_id: str
    cause: CompactionCause
    base_id: str | None
    first_seq: int
    last_seq: int
    tokens_before: int | None
    focus: str = ""


@dataclass(frozen=True, slots=True)
class Expanded:
    """A page of the messages a summary stands for. `more` tells that some follow the last one."""

    messages: tuple[tuple[int, Message, int], ...]
    more: bool


@dataclass(frozen=True, slots=True)
class TokenSnapshot:
    """What a session knows of its prompt's size. `compacted`: the figure comes from a compaction, not from a server."""

    tokens: int | None
    fresh: bool
    compacted: bool = False


def next_snapshot(before: TokenSnapshot, *, counted: int) -> TokenSnapshot:
    """The snapshot after a turn whose last call's prompt took `counted` tokens; 0: the server did not say.

    First match: what was counted; what a compaction left and nobody counted since; the last figure, no longer fresh;
    nothing.
    """
    if counted > 0:
        return TokenSnapshot(counted, fresh=True)
    if before.tokens and before.compacted and before.fresh:
        return before
    if before.tokens:
        return TokenSnapshot(before.tokens, fresh=False, compacted=before.compacted)
    return TokenSnapshot(None, fresh=False)


# -- within the transactions of a turn -------------------------------------------------------------------------------


def adopt_ready(tx: Transaction, session_id: str, now: int) -> bool:
    """Let a session go on with the summary that is ready for it. To be called where a turn begins, before its input.

    False when there is none, or when it was made on another state of the session: that one becomes `stale`.
    """
    row = tx.row("find_ready_compaction", session_id=session_id)
    if row is None:
        return False
    if not _adopt(tx, row, now):
        tx.execute("outdate_compactions", session_id=session_id, but="", error=OUTDATED)
        return False
    tx.execute("adopted_compaction", id=row["id"], now=now)
    return True


OUTDATED = "the session went on with another summary, or ended, before this one was ready"


def standing_summary(tx: Transaction, session_id: str) -> StandingSummary | None:
    """The summary that a session stands on; None for one that was never compacted."""
    session = tx.row("find_session", id=session_id)
    return None if session is None else summary_of(tx, session)


def summary_of(tx: Transaction, session: Row) -> StandingSummary | None:
    """The summary that a session stands on, from its row."""
    if session["compaction_id"] is None:
        return None
    row = tx.row("find_compaction", id=session["compaction_id"])
    assert row is not None, "an adopted summary is on record"
    hidden: list[int] = json.loads(row["audit"]).get("hidden", [])
    return StandingSummary(row["id"], row["last_seq"], row["summary"], frozenset(hidden))


def record_prompt_tokens(tx: Transaction, session_id: str, counted: int, answer_seq: int) -> None:
    """Keep what the last call's prompt took. To be called where a turn is finished, after its messages.

    `counted` is of the last call alone: a sum over the rounds of a tool loop would be several prompts. `answer_seq` is
    the number of the answer, which the prompt did not hold.
    """
    if counted > 0:
        tx.execute("record_snapshot", id=session_id, tokens=counted, fresh=1, seq=max(0, answer_seq - 1))
        return
    row = tx.row("read_snapshot", id=session_id)
    if row is None:
        return
    before = TokenSnapshot(row["tokens"], bool(row["fresh"]), bool(row["compacted"]))
    after = next_snapshot(before, counted=counted)
    tx.execute("record_snapshot", id=session_id, tokens=after.tokens, fresh=int(after.fresh), seq=None)


def _adopt(tx: Transaction, row: Row, now: int) -> bool:
    """Compare-and-set: the session stands on this summary from now on, if its base still stands."""
    assert row["summary"].strip(), "a summary that is adopted says something"
    session_id = row["session_id"]
    seq: int = tx.value("next_seq", session_id=session_id)
    changed = tx.execute(
        "adopt_summary",
        id=row["id"],
        session_id=session_id,
        base_id=row["base_id"],
        last_seq=row["last_seq"],
        tokens=_tokens_left(tx, row),
        mark_seq=seq,
        now=now,
    )
    if not changed:
        return False
    compacted(tx, session_id, now)
    extra = dump({"compaction": row["id"], "first": row["first_seq"], "last": row["last_seq"]})
    tx.execute("insert_compaction_mark", session_id=session_id, seq=seq, extra=extra, now=now)
    return True


def _tokens_left(tx: Transaction, row: Row) -> int | None:
    """The prompt's size after adoption: what it is now, less what the summary saves."""
    before, after = row["tokens_before"], row["tokens_after"]
    snapshot = tx.row("read_snapshot", id=row["session_id"])
    if before is None or after is None:
        return after
    current = snapshot["tokens"] if snapshot is not None and snapshot["fresh"] else None
    return after if current is None else max(0, current - (before - after))


# -- the record of compactions ---------------------------------------------------------------------------------------


class Compactions:
    """The record of compactions in `state.db`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def load(self, session_id: str) -> SessionLoad | None:
        """How full a session is; None for an unknown id."""
        row = await self._database.read(
            lambda tx: tx.row("session_load", id=session_id, limit=BYTES_SINCE_MESSAGES_MAX)
        )
        if row is None:
            return None
        return SessionLoad(
            session_id=row["id"],
            key=row["key"],
            agent=row["agent"],
            ended=row["ended_at"] is not None,
            history_start=row["history_start"],
            message_count=row["message_count"],
            prompt_tokens=row["prompt_tokens"] if row["prompt_tokens_fresh"] else None,
            transcript_bytes=row["transcript_bytes"],
            bytes_since=row["bytes_since"],
            compaction_id=row["compaction_id"],
        )

    async def current_session(self, key: str) -> str | None:
        """The id of the session that a key leads to now."""
        return await self._database.read(lambda tx: tx.value("find_current_session", key=key))

    async def span(self, session_id: str, first_seq: int, last_seq: int) -> list[SpanRow]:
        """The newest `SPAN_MESSAGES_MAX` messages of a stretch, in order."""

        def work(tx: Transaction) -> list[SpanRow]:
            rows = tx.iterate(
                "newest_span",
                session_id=session_id,
                first_seq=first_seq,
                last_seq=last_seq,
                chars=SPAN_CHARS_MAX,
                limit=SPAN_MESSAGES_MAX,
            )
            return [_span_row(row) for row in rows][::-1]

        return await self._database.read(work)

    async def find(self, compaction_id: str) -> Compaction | None:
        """A compaction by its id."""
        row = await self._database.read(lambda tx: tx.row("find_compaction", id=compaction_id))
        return None if row is None else _compaction(row)

    async def under_way(self, session_id: str) -> Compaction | None:
        """The compaction of a session that is not over yet."""
        row = await self._database.read(lambda tx: tx.row("compaction_under_way", session_id=session_id))
        return None if row is None else _compaction(row)

    async def newest(self, session_id: str) -> Compaction | None:
        """The compaction of a session that was asked for last."""
        row = await self._database.read(lambda tx: tx.row("newest_compaction", session_id=session_id))
        return None if row is None else _compaction(row)

    async def listed(self, key: str, limit: int = LISTED_MAX) -> list[Compaction]:
        """The compactions of the sessions that a key led to, the newest first."""
        rows = await self._database.read(lambda tx: tx.rows("list_compactions", key=key, limit=min(limit, LISTED_MAX)))
        return [_compaction(row) for row in rows]

    async def unprepared(self) -> list[str]:
        """The ids of those that a restart finds half done, at most `OPEN_MAX`."""
        return await self._database.read(lambda tx: [row["id"] for row in tx.rows("open_compactions", limit=OPEN_MAX)])

    async def ask(self, planned: Planned) -> tuple[str, bool]:
        """Ask for a summary; the id of the one under way, if there is one, and whether it is new."""
        now = self._clock.now_ms()
        new_id = f"cmp_{now:012x}{secrets.token_hex(4)}"

        def work(tx: Transaction) -> tuple[str, bool]:
            held = tx.row("compaction_under_way", session_id=planned.session_id)
            if held is not None:
                return held["id"], False
            _insert(tx, new_id, planned, now, state="preparing")
            return new_id, True

        return await self._database.write(work)

    async def flushed(self, compaction_id: str, path: str) -> None:
        """The extract stands in `path`, durably."""
        await self._database.write(lambda tx: tx.execute("flush_compaction", id=compaction_id, flushed_to=path))

    async def ready(self, compaction_id: str, summary: str, *, audit: JsonObject, tokens_after: int | None) -> bool:
        """The summary may be adopted; False if it is of no use any more. It must say something."""
        assert summary.strip(), "a summary that is ready says something"
        changed = await self._database.write(
            lambda tx: tx.execute(
                "ready_compaction", id=compaction_id, summary=summary, audit=dump(audit), tokens_after=tokens_after
            )
        )
        return changed == 1

    async def fail(self, compaction_id: str, error: str, *, attempts_max: int = ATTEMPTS_MAX) -> CompactionState | None:
        """A try failed, history is as it was; the state after it: `failed` once `attempts_max` tries are used up."""
        return await self._database.write(
            lambda tx: tx.value(
                "miss_compaction", id=compaction_id, error=error[:ERROR_CHARS_MAX], attempts_max=attempts_max
            )
        )

    async def native_boundary(self, key: str, session_id: str) -> int:
        """Up to which message the conversation was in memory when its native thread was last compacted; 0: never."""
        found = await self._database.read(lambda tx: tx.value("native_boundary", key=key, session_id=session_id))
        return int(found or 0)

    async def mark_native_boundary(self, session_id: str, first_seq: int, last_seq: int, flushed_to: str) -> None:
        """A native thread was compacted: those who follow the session hear of it, and the next one begins there."""
        now = self._clock.now_ms()
        await self._database.write(
            lambda tx: tx.execute(
                "add_native_boundary",
                session_id=session_id,
                first_seq=first_seq,
                last_seq=last_seq,
                flushed_to=flushed_to,
                now=now,
            )
        )

    async def outdate(self, session_id: str) -> None:
        """What is being prepared for a session is of no use any more: it ended."""
        await self._database.write(
            lambda tx: tx.execute("outdate_compactions", session_id=session_id, but="", error=OUTDATED)
        )

    async def adopt_waiting(self, session_id: str) -> StandingSummary | None:
        """Adopt the summary that is ready in the middle of a turn; None if there is none that fits."""
        now = self._clock.now_ms()
        return await self._database.write(
            lambda tx: standing_summary(tx, session_id) if adopt_ready(tx, session_id, now) else None
        )

    async def standing(self, session_id: str) -> StandingSummary | None:
        """The summary that a session stands on; None for one that was never compacted."""
        return await self._database.read(lambda tx: standing_summary(tx, session_id))

    async def adopt_now(
        self, planned: Planned, summary: str, *, audit: JsonObject, flushed_to: str, tokens_after: int | None
    ) -> StandingSummary | None:
        """Record a summary and let the session go on with it, in one commit; None if another one came first.

        What was being prepared for the session is `stale` then: it was made on what stood before.
        """
        now = self._clock.now_ms()
        new_id = f"cmp_{now:012x}{secrets.token_hex(4)}"

        def work(tx: Transaction) -> StandingSummary | None:
            session = tx.row("find_session", id=planned.session_id)
            if session is None or session["compaction_id"] != planned.base_id:
                return None
            _insert(
                tx,
                new_id,
                planned,
                now,
                state="adopted",
                summary=summary,
                audit=dump(audit),
                flushed_to=flushed_to,
                tokens_after=tokens_after,
                adopted_at=now,
            )
            row = tx.row("find_compaction", id=new_id)
            assert row is not None
            assert _adopt(tx, row, now), "nothing came between the look and the change"
            tx.execute("outdate_compactions", session_id=planned.session_id, but=new_id, error=OUTDATED)
            return standing_summary(tx, planned.session_id)

        return await self._database.write(work)

    async def expand(self, compaction: Compaction, after_seq: int = 0) -> Expanded:
        """The messages that a summary stands for, exactly as they were said; a page after a number."""

        def work(tx: Transaction) -> Expanded:
            found: list[tuple[int, Message, int]] = []
            size = 0
            first = max(compaction.first_seq, after_seq + 1)
            for row in tx.iterate(
                "expand_span",
                session_id=compaction.session_id,
                first_seq=first,
                last_seq=compaction.last_seq,
                limit=EXPANDED_MAX + 1,
            ):
                size += len(row["text"]) + len(row["extra"])
                if len(found) == EXPANDED_MAX or (found and size > EXPANDED_BYTES_MAX):
                    return Expanded(tuple(found), more=True)
                message = decode_message(row["role"], row["text"], row["extra"])
                found.append((row["seq"], message, row["created_at"]))
            return Expanded(tuple(found), more=False)

        return await self._database.read(work)


def _insert(
    tx: Transaction,
    compaction_id: str,
    planned: Planned,
    now: int,
    *,
    state: CompactionState,
    summary: str = "",
    audit: str = "{}",
    flushed_to: str | None = None,
    tokens_after: int | None = None,
    adopted_at: int | None = None,
) -> None:
    tx.execute(
        "insert_compaction",
        id=compaction_id,
        session_id=planned.session_id,
        state=state,
        cause=planned.cause,
        base_id=planned.base_id,
        first_seq=planned.first_seq,
        last_seq=planned.last_seq,
        focus=planned.focus[:FOCUS_CHARS_MAX],
        tokens_before=planned.tokens_before,
        tokens_after=tokens_after,
        summary=summary,
        audit=audit,
        flushed_to=flushed_to,
        now=now,
        adopted_at=adopted_at,
    )


def _span_row(row: Row) -> SpanRow:
    return SpanRow(
        seq=row["seq"],
        role=row["role"],
        text=row["text"],
        size_bytes=row["size"],
        argument_chars=row["arguments"],
        said_at_ms=row["created_at"],
        remember=bool(row["remember"]),
        images=row["images"],
        calls=tuple(json.loads(row["calls"])),
        provenance=row["whose"],
    )


def _compaction(row: Row) -> Compaction:
    facts = dict(row)
    facts["audit"] = json.loads(facts["audit"])
    facts["created_at_ms"] = facts.pop("created_at")
    facts["adopted_at_ms"] = facts.pop("adopted_at")
    return Compaction(**facts)
