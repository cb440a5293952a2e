"""Which native thread a session goes on with: every change compares what it found, and the last holder wins.

    acquire ──► bind ──► accepted ──► finished_on ──► release
       │        pending    active
       └──► elsewhere: another process is at work on it; nothing that this one does changes the binding

A holder says every `RENEW_S` that it is still there. One that was silent for `STALE_MS` is overtaken: whoever comes
then raises the fence, and what the one before still does, for example the end of a turn that hung, changes nothing.
A thread is replaced in the same commit that binds the next one, so a kill leaves the old binding or the new one. A new
binding is `pending` until the first turn on it is accepted: before that nobody knows what the thread was told.

`finished_on`, `moved` and `compacted` belong into transactions of others: the end of a turn, a session that goes on in
another, a summary that is adopted.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from reverie.errors import UnknownSessionError
from reverie.sessions.binding_record import encode_binding, parse_binding, tokens_record

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.sessions.reset import ResetReason
    from reverie.storage import Database, Row, Transaction
    from reverie.types import ThreadBinding, ThreadTokens

LEASE_MS = 60_000
"""So long a holder may count on its lease without renewing it."""
STALE_MS = 65_000
RENEW_S = 21.7
BINDINGS_MAX = 50_000
PRUNED_AT_ONCE = 100
LISTED_MAX = 200
LAST = 2**62

KeepOverReset = Literal["automatic", "always", "never"]


@dataclass(frozen=True, slots=True)
class Held:
    """A session's thread as it was found, and the right to change it.

    `binding` None: it has none, or the record is not understood, for the reason `ignored`. `dropped` are parts of it
    that were malformed. `thread_id` stands in the row, understood or not: it is what a new thread replaces.
    `elsewhere`: another process is at work on it, so nothing can be changed.
    """

    session_id: str
    binding: ThreadBinding | None = None
    fence: int = 0
    holder: str = ""
    leased_at_ms: int = 0
    elsewhere: bool = False
    ignored: str = ""
    dropped: tuple[str, ...] = ()
    thread_id: str | None = None

    def valid_at(self, now_ms: int) -> bool:
        """Whether the holder may still count on its lease."""
        return not self.elsewhere and 0 <= now_ms - self.leased_at_ms < LEASE_MS


@dataclass(frozen=True, slots=True)
class BoundSession:
    """A session with the thread it is bound to, as it is shown. `cleared_for` tells why there is none any more."""

    session_id: str
    session_key: str
    agent: str
    binding: ThreadBinding | None
    cleared_for: str | None
    ignored: str
    held: bool
    updated_at_ms: int
    last_event: int | None


@dataclass(frozen=True, slots=True)
class BoundPage:
    """Sessions with their threads, those used last first. `more` is true when others follow the last one."""

    sessions: tuple[BoundSession, ...]
    more: bool


class BindingStore:
    """The thread bindings in `state.db`. `holder` names this process; no other one has the same."""

    def __init__(
        self, database: Database, clock: Clock, *, holder: str | None = None, rows_max: int = BINDINGS_MAX
    ) -> None:
        self._database = database
        self._clock = clock
        self._holder = holder or f"{os.getpid()}-{secrets.token_hex(6)}"
        self._rows_max = rows_max

    # -- a turn's way ----------------------------------------------------------------------------------------------

    async def acquire(self, session_id: str) -> Held:
        """The session's thread, and the right to change it unless another process has that.

        Raises:
            StorageError: it could not be read or written.
        """
        now = self._clock.now_ms()

        def work(tx: Transaction) -> Held:
            row = tx.row("find_binding", session_id=session_id)
            if row is None:
                self._make_room(tx)
                tx.execute("insert_vacancy", session_id=session_id, holder=self._holder, now=now)
                return Held(session_id, fence=1, holder=self._holder, leased_at_ms=now)
            if _is_held(row, self._holder, now):
                return _found(row, elsewhere=True)
            tx.execute("take_binding", session_id=session_id, holder=self._holder, now=now)
            return _found(row | {"fence": row["fence"] + 1, "holder": self._holder, "leased_at": now})

        return await self._database.write(work)

    async def bind(self, held: Held, binding: ThreadBinding) -> Held | None:
        """Bind a thread in place of the one that was found, or where none was, in one commit.

        None when somebody else has the session's binding by now: the thread is for this turn alone then.
        """
        now = self._clock.now_ms()
        changed = await self._database.write(
            lambda tx: tx.execute(
                "bind_thread",
                session_id=held.session_id,
                thread_id=binding.thread_id,
                record=encode_binding(replace(binding, session_id=held.session_id, state="pending")),
                before=held.thread_id,
                fence=held.fence,
                holder=held.holder,
                now=now,
            )
        )
        return _with(held, binding, "pending") if changed else None

    async def accepted(self, held: Held, binding: ThreadBinding) -> Held | None:
        """A turn was accepted by the thread: it is active, and `binding` holds what it knows and was given now.

        None when somebody else has the session's binding by now; it stays as that one made it.
        """
        now = self._clock.now_ms()
        changed = await self._database.write(
            lambda tx: tx.execute(
                "patch_binding",
                session_id=held.session_id,
                thread_id=binding.thread_id,
                state="active",
                record=encode_binding(replace(binding, session_id=held.session_id, state="active")),
                fence=held.fence,
                holder=held.holder,
                now=now,
            )
        )
        return _with(held, binding, "active") if changed else None

    async def note_tokens(self, held: Held, tokens: ThreadTokens) -> bool:
        """Keep how full the thread is, as its runtime tells; False when somebody else has the binding by now."""
        if held.thread_id is None:
            return False
        changed = await self._database.write(
            lambda tx: tx.execute(
                "note_thread_tokens",
                session_id=held.session_id,
                thread_id=held.thread_id,
                tokens=tokens_record(tokens),
                fence=held.fence,
                holder=held.holder,
            )
        )
        return changed == 1

    async def renew(self, held: Held) -> Held | None:
        """Say that this process is still at work on the thread; None when another one has it by now."""
        now = self._clock.now_ms()
        changed = await self._database.write(
            lambda tx: tx.execute(
                "renew_binding", session_id=held.session_id, fence=held.fence, holder=held.holder, now=now
            )
        )
        return replace(held, leased_at_ms=now) if changed else None

    async def release(self, held: Held) -> None:
        """This process is done with the thread. What another one has by now is not touched."""
        if not held.elsewhere:
            await self._database.write(lambda tx: released(tx, held))

    # -- from elsewhere --------------------------------------------------------------------------------------------

    async def clear(self, session_id: str, thread_id: str, reason: str) -> bool:
        """Unbind a thread; False when another one is bound by now, or when it is watched and stays."""
        now = self._clock.now_ms()
        return await self._database.write(lambda tx: cleared(tx, session_id, thread_id, reason, now))

    async def ask_for_rotation(self, session_id: str) -> bool:
        """Have the next turn begin another thread; False when the session has none, or a watched one."""
        now = self._clock.now_ms()
        changed = await self._database.write(lambda tx: tx.execute("ask_for_rotation", session_id=session_id, now=now))
        return changed == 1

    async def release_all(self) -> int:
        """Take the leases of processes that are gone; returns how many. Only for the one process that has the home."""
        return await self._database.write(lambda tx: tx.execute("release_all_bindings"))

    async def find(self, session_id: str) -> BoundSession | None:
        """A session with the thread it is bound to; None for one that never had any, or is not there."""

        def work(tx: Transaction) -> BoundSession | None:
            row = tx.row("find_binding", session_id=session_id)
            session = tx.row("find_session", id=session_id)
            if row is None or session is None:
                return None
            last = tx.rows("newest_thread_events", key=session["key"], before=LAST, limit=1)
            event = last[0]["id"] if last else None
            return _shown(row | {"key": session["key"], "agent": session["agent"], "event_id": event}, now)

        now = self._clock.now_ms()
        return await self._database.read(work)

    async def page(self, limit: int = 50, after: str | None = None) -> BoundPage:
        """Sessions with their threads, those used last first, or those after a session; at most `LISTED_MAX`.

        Raises:
            UnknownSessionError: no session `after` has or had a thread.
        """
        limit, now = max(1, min(limit, LISTED_MAX)), self._clock.now_ms()

        def work(tx: Transaction) -> list[Row]:
            if after is None:
                return tx.rows("bindings_page", at=LAST, before="", limit=limit + 1)
            row = tx.row("find_binding", session_id=after)
            if row is None:
                raise UnknownSessionError(
                    f"No session '{after[:200]}' has a thread; `reverie threads list` shows them."
                )
            return tx.rows("bindings_page", at=row["updated_at"], before=after, limit=limit + 1)

        rows = await self._database.read(work)
        return BoundPage(tuple(_shown(row, now) for row in rows[:limit]), more=len(rows) > limit)

    def _make_room(self, tx: Transaction) -> None:
        """One row more will fit: what is cleared gives way first, then what was used longest ago."""
        over: int = tx.value("count_bindings") + 1 - self._rows_max
        if over <= 0:
            return
        limit = min(over, PRUNED_AT_ONCE)
        gone = tx.execute("prune_cleared_bindings", limit=limit)
        if gone < limit:
            tx.execute("prune_bindings", limit=limit - gone)


# -- within the transactions of others ---------------------------------------------------------------------------


def finished_on(tx: Transaction, held: Held, through: int, tokens: ThreadTokens | None, now_ms: int) -> bool:
    """A turn is over that ran on a bound thread, which has seen the transcript up to a number now.

    False when the thread is not this holder's any more: nothing is changed then.
    """
    if held.thread_id is None or held.elsewhere:
        return False
    changed = tx.execute(
        "cover_binding",
        session_id=held.session_id,
        thread_id=held.thread_id,
        through=through,
        tokens=None if tokens is None else tokens_record(tokens),
        fence=held.fence,
        holder=held.holder,
        now=now_ms,
    )
    return changed == 1


def released(tx: Transaction, held: Held) -> None:
    """As `BindingStore.release`, in a transaction of others."""
    mine = {"session_id": held.session_id, "fence": held.fence, "holder": held.holder}
    if not held.elsewhere and tx.execute("release_binding", **mine):
        tx.execute("drop_vacancy", session_id=held.session_id)


def cleared(tx: Transaction, session_id: str, thread_id: str, reason: str, now_ms: int) -> bool:
    """Unbind a thread if it is still the bound one."""
    changed = tx.execute("clear_binding", session_id=session_id, thread_id=thread_id, reason=reason, now=now_ms)
    return changed == 1


def moved(
    tx: Transaction, old: str, new: str, *, reason: ResetReason, keep: KeepOverReset, through: int, now_ms: int
) -> bool:
    """A session goes on in another: so does its thread, if that may be.

    It may be when an engine bootstrapped it and it was told everything: then the successor's first turn finds that the
    thread knows what went before. `through` is the successor's mark, up to which there is nothing to tell. A person who
    asks for a new conversation gets a new thread as well, unless `keep` says otherwise.
    """
    row = tx.row("find_binding", session_id=old)
    if row is None:
        return False
    binding = None if row["thread_id"] is None else parse_binding(row["record"]).binding
    kept = keep == "always" or (keep == "automatic" and reason != "manual")
    if not kept or row["state"] != "active" or not _is_bootstrap(binding):
        tx.execute("leave_binding", session_id=old)
        return False
    tx.execute("move_binding", old=old, new=new, through=through, now=now_ms)
    tx.execute("leave_binding", session_id=old)
    return True


def compacted(tx: Transaction, session_id: str, now_ms: int) -> bool:
    """A summary stands for a session's beginning now. A bootstrapped thread has read that word for word, and stays.

    Any other one does not know of the summary; it gives way. True when the thread stays.
    """
    row = tx.row("find_binding", session_id=session_id)
    if row is None or row["thread_id"] is None:
        return False
    if _is_bootstrap(parse_binding(row["record"]).binding):
        return True
    cleared(tx, session_id, row["thread_id"], "compacted", now_ms)
    return False


def forget_threads(tx: Transaction, agent: str, now_ms: int) -> int:
    """None of an agent's threads is gone on with: they were told what must not be known any more. How many there were.

    A thread that is watched gives way too.
    """
    return tx.execute("clear_bindings_of_agent", agent=agent, reason="forgotten", now=now_ms)


# -- rows --------------------------------------------------------------------------------------------------------


def _is_bootstrap(binding: ThreadBinding | None) -> bool:
    return binding is not None and binding.engine is not None and binding.engine.projection is not None


def _is_held(row: Row, holder: str, now_ms: int) -> bool:
    """Whether somebody else is at work on it. A lease from the future is none: the clock was set back."""
    if row["holder"] is None or row["holder"] == holder:
        return False
    return -STALE_MS < now_ms - row["leased_at"] < STALE_MS


def _found(row: Row, *, elsewhere: bool = False) -> Held:
    session_id, thread_id = row["session_id"], row["thread_id"]
    held = Held(
        session_id,
        fence=0 if elsewhere else row["fence"],
        holder="" if elsewhere else row["holder"],
        leased_at_ms=row["leased_at"],
        elsewhere=elsewhere,
        thread_id=thread_id,
    )
    if thread_id is None:
        return held
    parsed = parse_binding(row["record"], session_id=session_id, fence=row["fence"], rotate=bool(row["rotate"]))
    if parsed.binding is not None and parsed.binding.thread_id != thread_id:
        return replace(held, ignored="the record is of another thread")
    binding = parsed.binding and replace(parsed.binding, state=row["state"])
    return replace(held, binding=binding, ignored=parsed.reason, dropped=parsed.dropped)


def _with(held: Held, binding: ThreadBinding, state: Literal["pending", "active"]) -> Held:
    """What is held after a change of one's own."""
    now = replace(binding, session_id=held.session_id, state=state, fence=held.fence)
    return replace(held, binding=now, ignored="", dropped=(), thread_id=binding.thread_id)


def _shown(row: Row, now_ms: int) -> BoundSession:
    found = _found(row, elsewhere=row["holder"] is None)  # what is not held is looked at all the same
    return BoundSession(
        session_id=row["session_id"],
        session_key=row["key"],
        agent=row["agent"],
        binding=found.binding,
        cleared_for=row["cleared_for"],
        ignored=found.ignored,
        held=_is_held(row, "", now_ms),
        updated_at_ms=row["updated_at"],
        last_event=row["event_id"],
    )
