"""Forgetting within transcripts: which entries are meant, what becomes of them, and what must not come back.

A message that is forgotten keeps its row and its number, because a transcript is only appended to. Its words go, with
everything that came with them and whoever said it. What stays is its fingerprint, so that a client that replays its
history does not bring it back; for the same reason each has a name in the table `forgotten`, made of its session's key
and its fingerprint, by which an import recognises it.

What may quote a message goes with it: what the model wrote in its turn, summaries of its stretch and all that were made
on them, and what a session that followed was told. Functions over a transaction, each idempotent.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from reverie.errors import SessionBusyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.sessions.tree import EntryKind
    from reverie.storage import Database, Row, Transaction
    from reverie.types import Role

HEADS_AT_ONCE = 500
NAME_BYTES = 16
FORGOTTEN_EXTRA = '{"forgotten":true}'
"""What a forgotten message has in the place of everything that came with it."""
REASON = "messages were forgotten"
BUSY_RETRY_S = 5
SUMMARIES_MAX = 1_000

Kind = Literal["session", "history", "message", "note", "paragraph"]
"""What a name in the table of what was forgotten stands for."""

Unlearned = Literal["forgotten", "deleted"]
"""Why something is not to be learned again: what it came of was forgotten, or a person deleted it itself."""


class EntryHead(NamedTuple):
    """An entry without its words. `speaker` and `name` say who spoke; `name` is what a client called a user."""

    seq: int
    kind: EntryKind
    role: Role
    speaker: str
    created_at_ms: int
    turn_id: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are meant: those of one speaker, or of everybody, from an instant on and before another."""

    speaker: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def everything(self) -> bool:
        """Whether no message is left out."""
        return self.speaker is None and self.since_ms is None and self.until_ms is None

    def means(self, entry: EntryHead) -> bool:
        """Whether an entry is among them. A speaker's name is compared without regard to case and white space."""
        if self.since_ms is not None and entry.created_at_ms < self.since_ms:
            return False
        if self.until_ms is not None and entry.created_at_ms >= self.until_ms:
            return False
        if self.speaker is None:
            return True
        wanted = folded_name(self.speaker)
        return any(name and folded_name(name) == wanted for name in (entry.speaker, entry.name))

    def reaches(self, session: MeantSession) -> bool:
        """Whether a session can hold any. What was imported is dated by itself, so only looking tells."""
        if session.origin == "import":
            return True
        began_in_time = self.until_ms is None or session.started_at_ms < self.until_ms
        return began_in_time and (self.since_ms is None or session.updated_at_ms >= self.since_ms)


@dataclass(frozen=True, slots=True)
class MeantSession:
    """A session of which something is to be forgotten."""

    id: str
    key: str
    agent: str
    origin: Literal["live", "import"]
    started_at_ms: int
    updated_at_ms: int
    ended: bool
    entries: int

    @classmethod
    def of(cls, row: Row) -> MeantSession:
        """A row of `sessions`."""
        return cls(
            id=row["id"],
            key=row["key"],
            agent=row["agent"],
            origin=row["origin"],
            started_at_ms=row["started_at"],
            updated_at_ms=row["updated_at"],
            ended=row["ended_at"] is not None,
            entries=row["message_count"],
        )

    @property
    def path(self) -> str:
        """How its messages are cited."""
        return f"sessions/{self.id}"


@dataclass(frozen=True, slots=True)
class Doomed:
    """What is to be forgotten of a session: all of it, or these entries.

    `said` of them are meant themselves; the others are what the model wrote in their turns. `turns` are those turns.
    """

    session: MeantSession
    whole: bool
    seqs: tuple[int, ...]
    said: int
    turns: tuple[str, ...] = ()

    @property
    def first(self) -> int:
        """The lowest number among them."""
        return self.seqs[0] if self.seqs else 1


@lru_cache(maxsize=256)
def folded_name(name: str) -> str:
    """A speaker's name as names are compared."""
    return " ".join(name.split()).casefold()


def message_name(key: str, fingerprint: bytes) -> str:
    """The name of a message of a session key, by which it is known wherever it comes from."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=NAME_BYTES)
    digest.update(b"\0" + fingerprint)
    return digest.hexdigest()


def mark_name(session_id: str, seq: int) -> str:
    """The name of a mark that quoted a message; it has no fingerprint."""
    return hashlib.blake2b(f"{session_id}/{seq}".encode(), digest_size=NAME_BYTES).hexdigest()


def history_prefix(agent: str, history: str) -> str:
    """What the keys of an imported history begin with, and the name under which it is forgotten."""
    return f"agent:{agent}:import:{history}:"


def history_prefixes(key: str) -> list[str]:
    """The histories that an imported session's key may be of: names may hold colons."""
    parts = key.split(":")
    return [f"{':'.join(parts[:count])}:" for count in range(4, len(parts))]


# -- looking -----------------------------------------------------------------------------------------------------


async def doomed_of(database: Database, session: MeantSession, wanted: Wanted) -> Doomed:
    """What of a session is meant, found a page at a time; nothing is read of what was said."""
    seqs: set[int] = set()
    turns: set[str] = set()
    said = 0
    after: int | None = 0
    while after is not None:
        page = await database.read(lambda tx, after=after: _meant_after(tx, session.id, wanted, after))
        said += len(page.meant - seqs)
        seqs |= page.meant | page.output
        turns |= page.turns
        after = page.after
    return Doomed(session, wanted.everything, tuple(sorted(seqs)), said, tuple(sorted(turns)))


class _Page(NamedTuple):
    """Entries that are meant, what the model wrote in their turns, and those turns; where the next page begins."""

    meant: set[int]
    output: set[int]
    turns: set[str]
    after: int | None


def _meant_after(tx: Transaction, session_id: str, wanted: Wanted, after: int) -> _Page:
    heads = [
        EntryHead(*row) for row in tx.tuples("entry_heads", session_id=session_id, after=after, limit=HEADS_AT_ONCE)
    ]
    meant = [head for head in heads if wanted.everything or wanted.means(head)]
    turns = {head.turn_id for head in meant if head.turn_id is not None}
    output: set[int] = set()
    if turns and not wanted.everything:
        listed = json.dumps(sorted(turns))
        for seq, turn_id in tx.tuples("output_of_turns", session_id=session_id, turns=listed):
            output.add(seq)
            turns.add(turn_id)
    end = heads[-1].seq if len(heads) == HEADS_AT_ONCE else None
    return _Page({head.seq for head in meant}, output, turns, end)


def quoting_summaries(tx: Transaction, session_id: str, first_seq: int) -> list[Row]:
    """The compactions that may hold something said from a number on, with the notes their extracts went into."""
    return tx.rows("compactions_that_quote", session_id=session_id, first_seq=first_seq, limit=SUMMARIES_MAX)


# -- what must not come back -------------------------------------------------------------------------------------


def note_names(tx: Transaction, agent: str, kind: Kind, names: Iterable[str], now_ms: int) -> int:
    """Remember what was forgotten; how many names are new."""
    return tx.execute("note_forgotten", agent=agent, kind=kind, names=json.dumps(list(names)), now=now_ms)


def note_messages(tx: Transaction, session: MeantSession, seqs: Sequence[int], now_ms: int) -> int:
    """Remember the entries of a session that are to be forgotten; how many were not on record."""
    rows = tx.rows("fingerprints_of", session_id=session.id, seqs=json.dumps(list(seqs)))
    return note_names(tx, session.agent, "message", [_name_of(session, row) for row in rows], now_ms)


def _name_of(session: MeantSession, row: Row) -> str:
    is_message = row["kind"] == "message"
    return message_name(session.key, row["fingerprint"]) if is_message else mark_name(session.id, row["seq"])


def forgotten_among(tx: Transaction, agent: str, kind: Kind, names: Sequence[str]) -> set[str]:
    """Those of some names that were forgotten. Costs one look-up where nothing ever was."""
    if not names or not tx.value("anything_forgotten", agent=agent, kind=kind):
        return set()
    return {row[0] for row in tx.tuples("which_forgotten", agent=agent, kind=kind, names=json.dumps(list(names)))}


def learned_name(id_: str) -> str:
    """The name of something that was learned, by its id: ids of others may hold words."""
    return hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=NAME_BYTES).hexdigest()


def note_unlearned(tx: Transaction, agent: str, ids: Iterable[str], why: Unlearned, now_ms: int) -> None:
    """Remember, by their ids, things that are not to be learned again, and why."""
    names = json.dumps([learned_name(each) for each in ids])
    tx.execute("note_unlearned", agent=agent, names=names, why=why, now=now_ms)


def unlearned_among(tx: Transaction, agent: str, ids: Iterable[str]) -> dict[str, Unlearned]:
    """Those of some things, by their ids, that are not to be learned again. One look-up where there are none."""
    names = {learned_name(each): each for each in ids}
    if not names or not tx.value("anything_unlearned", agent=agent):
        return {}
    found = tx.tuples("which_unlearned", agent=agent, names=json.dumps(list(names)))
    return {names[name]: why for name, why in found}


def forgotten_prints(tx: Transaction, agent: str, key: str, fingerprints: Sequence[bytes]) -> set[bytes]:
    """Of the fingerprints of messages of a session key, those of forgotten ones."""
    names = {message_name(key, print_): print_ for print_ in fingerprints}
    return {names[name] for name in forgotten_among(tx, agent, "message", list(names))}


# -- doing -------------------------------------------------------------------------------------------------------


def refuse_busy(tx: Transaction, session: MeantSession) -> None:
    """Nothing is forgotten of a session while a turn of it runs or waits.

    Raises:
        SessionBusyError: one does.
    """
    turn_id = tx.value("unended_turn_of_session", session_id=session.id)
    if turn_id is not None:
        raise SessionBusyError(
            f"The session {session.key} is busy (turn {turn_id}): nothing of it can be forgotten now. Try again when "
            f"the turn has ended, or stop it with `reverie sessions cancel {turn_id}`.",
            retry_after_s=BUSY_RETRY_S,
        )


def end_for_good(tx: Transaction, session: MeantSession, now_ms: int) -> None:
    """A session that is to go gets no further turn: its key is free for another.

    Raises:
        SessionBusyError: a turn of it runs or waits.
    """
    refuse_busy(tx, session)
    tx.execute("end_session", id=session.id, reason="forgotten", now=now_ms)
    tx.execute("give_up_compactions", session_id=session.id)


def blank(tx: Transaction, session: MeantSession, seqs: Sequence[int], now_ms: int, *, last: bool) -> int:
    """Take the words out of some entries of a session; how many messages lost theirs. `last`: nothing else will be.

    Raises:
        SessionBusyError: a turn of it runs or waits; nothing was changed.
    """
    refuse_busy(tx, session)
    listed = json.dumps(list(seqs))
    rows = tx.rows("fingerprints_of", session_id=session.id, seqs=listed)
    turns = json.dumps(sorted({row["turn_id"] for row in rows if row["turn_id"] is not None}))
    drop_summaries(tx, session.id, min(seqs))
    tx.execute("overwrite_messages", session_id=session.id, seqs=listed)
    count = tx.execute("blank_messages", session_id=session.id, seqs=listed)
    tx.execute("blank_marks", session_id=session.id, seqs=listed)
    tx.execute("blank_turns", turns=turns)
    tx.execute("delete_plugin_events_of_turns", key=session.key, turns=turns)
    if last:
        tx.execute("forget_in_session", id=session.id, reason=REASON, now=now_ms)
        silence_successors(tx, session)
    return count


def drop_summaries(tx: Transaction, session_id: str, first_seq: int) -> int:
    """Summaries that may hold something said from a number on go; how many did.

    The session goes on with one that cannot, or shows its transcript again.
    """
    tx.execute("unhinge_summary", id=session_id, first_seq=first_seq)
    return tx.execute("blank_compactions", session_id=session_id, first_seq=first_seq)


def silence_successors(tx: Transaction, session: MeantSession) -> None:
    """What the sessions that followed under the key were told of this one goes."""
    tx.execute("blank_continuity", key=session.key, since=session.started_at_ms, id=session.id)
