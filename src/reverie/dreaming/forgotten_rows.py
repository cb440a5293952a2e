"""Traces in `state.db`: evidence of recalls, results of tools that quote, and the transcripts themselves.

Everything is gone through in pages or in ranges of ids, and deleted in small transactions: turns come in between.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from reverie.dreaming.traces import Traces
from reverie.sessions.forgetting import (
    blank,
    drop_summaries,
    end_for_good,
    note_messages,
    note_names,
    quoting_summaries,
    refuse_busy,
    silence_successors,
)
from reverie.sessions.retention import discard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from reverie.dreaming.traces import Portion
    from reverie.sessions.forgetting import Doomed, MeantSession
    from reverie.storage.database import Database, Row, Transaction

T = TypeVar("T")

PAGE_ROWS = 1_000
DELETED_AT_ONCE = 500
EVENTS_AT_ONCE = 2_000
"""Recorded searches whose hits are looked through in one read; each has at most 50."""
MESSAGES_AT_ONCE = 2_000
"""Messages of all transcripts that are looked through for quotations in one read."""
BLANKED_AT_ONCE = 200
BREATH_S = 0.005
QUOTED = "(forgotten)"
"""What stands in the place of a result of a tool that quoted what was forgotten."""


class FoundEntry(NamedTuple):
    """A recall entry that is to go: its row, and its text."""

    id: int
    snippet: str


async def entries_of(database: Database, portion: Portion) -> list[FoundEntry]:
    """The recall entries of what is to be forgotten; an agent has at most `dreaming.entries_max`."""
    found: list[FoundEntry] = []
    after = 0
    while rows := await database.read(
        lambda tx, after=after: tx.rows("entry_places_after", agent=portion.agent, after=after, limit=PAGE_ROWS)
    ):
        after = rows[-1]["id"]
        found += [
            FoundEntry(row["id"], row["snippet"])
            for row in rows
            if portion.means(row["path"], row["start_line"], row["end_line"], row["snippet"])
        ]
    return found


class Evidence:
    """What searches surfaced of it and asked with its words, what is known of its passages, and what a night kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, portion: Portion) -> Traces:
        """Count them."""
        found = Traces()
        found.counts["entries"] = len(await entries_of(self._database, portion))
        async for page in self._searches(portion):
            found.counts["searches"] += len(page)
        async for hits in self._hits(portion):
            found.counts["hits"] += len(hits)
        return found

    async def remove(self, portion: Portion) -> Traces:
        """Delete them; of a search with other words what it surfaced of it goes, and the search stays on record."""
        gone = Traces()
        await self._database.write(lambda tx: _forget_dreams(tx, portion.agent))
        ids = [entry.id for entry in await entries_of(self._database, portion)]
        for part in _parts(ids):
            gone.counts["entries"] += await self._database.write(
                lambda tx, part=part: _delete_entries(tx, portion, part)
            )
        async for page in self._searches(portion):
            for part in _parts(page):
                gone.counts["searches"] += await self._execute("delete_recall_events", part)
        async for hits in self._hits(portion):
            for part in _parts(hits):
                gone.counts["hits"] += await self._execute("delete_recall_hits", part)
        return gone

    async def _execute(self, name: str, part: Sequence[object]) -> int:
        listed = json.dumps(part)
        return await self._database.write(lambda tx: tx.execute(name, ids=listed))

    async def _searches(self, portion: Portion) -> AsyncIterator[list[int]]:
        """The searches that were made in it, page by page."""
        sessions = json.dumps([doom.session.id for doom in portion.whole_sessions])
        turns = json.dumps(portion.turns)
        async for after, upto in self._ranges("recall_event_bounds", EVENTS_AT_ONCE):
            found = await self._database.read(
                lambda tx, after=after, upto=upto: list(
                    tx.tuples(
                        "searches_within",
                        agent=portion.agent,
                        after=after,
                        upto=upto,
                        sessions=sessions,
                        turns=turns,
                    )
                )
            )
            if found:
                yield [event_id for (event_id,) in found]

    async def _hits(self, portion: Portion) -> AsyncIterator[list[tuple[int, int]]]:
        """What searches surfaced of it, by event and rank, page by page."""
        paths = json.dumps(list(portion.by_path))
        async for after, upto in self._ranges("recall_event_bounds", EVENTS_AT_ONCE):
            rows = await self._database.read(
                lambda tx, after=after, upto=upto: tx.rows(
                    "hits_within", agent=portion.agent, after=after, upto=upto, paths=paths
                )
            )
            found = [
                (row["event_id"], row["rank"])
                for row in rows
                if portion.means(row["path"], row["start_line"], row["end_line"], row["snippet"])
            ]
            if found:
                yield found

    async def _ranges(self, bounds: str, size: int) -> AsyncIterator[tuple[int, int]]:
        first, last = await self._database.read(lambda tx: next(tx.tuples(bounds)))
        for after in range(first - 1, last, size):
            yield after, after + size


def _forget_dreams(tx: Transaction, agent: str) -> None:
    """Words of passages in the records of nights: they are not told apart, so all of the agent's go."""
    for name in ("forget_untold_entry", "forget_themes", "forget_themes_of_runs"):
        tx.execute(name, agent=agent)


def _delete_entries(tx: Transaction, portion: Portion, ids: Sequence[int]) -> int:
    count = tx.execute("delete_recall_entries", ids=json.dumps(ids))
    if count:
        tx.execute("recall_entries_changed", agent=portion.agent, at=portion.now_ms)
    return count


class Quotes:
    """Results of tools, and answers that only quote memory, in other conversations of the agent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, portion: Portion) -> Traces:
        """Count them."""
        found = Traces()
        async for page in self._found(portion):
            found.counts["quotes"] += len(page)
        return found

    async def remove(self, portion: Portion) -> Traces:
        """A word takes their place: a model's server wants a result for each call. Busy conversations are left."""
        gone = Traces()
        async for page in self._found(portion):
            for session_id in dict.fromkeys(row["session_id"] for row in page):
                seqs = [row["seq"] for row in page if row["session_id"] == session_id]
                done = await self._database.write(
                    lambda tx, session_id=session_id, seqs=seqs: _replace_quotes(tx, session_id, seqs, portion.now_ms)
                )
                gone.counts["quotes"] += done
                if done < len(seqs):
                    gone.remarks.append(
                        f"The conversation {session_id} is busy and quotes it: do the same again when its turn has "
                        "ended."
                    )
        return gone

    async def _found(self, portion: Portion) -> AsyncIterator[list[Row]]:
        paths = json.dumps([*portion.by_path, *(("learned/", "skills/") if portion.learned else ())])
        going = {doom.session.id for doom in portion.whole_sessions}
        last = await self._database.read(lambda tx: tx.value("last_position"))
        for after in range(0, last, MESSAGES_AT_ONCE):
            rows = await self._database.read(
                lambda tx, after=after: tx.rows(
                    "quoting_messages",
                    agent=portion.agent,
                    after=after,
                    upto=after + MESSAGES_AT_ONCE,
                    paths=paths,
                    replaced=QUOTED,
                )
            )
            if not rows:
                continue
            found = await asyncio.to_thread(_citing, rows, portion, going)
            if found:
                yield found


def _citing(rows: Sequence[Row], portion: Portion, going: set[str]) -> list[Row]:
    """Those of some messages that cite what is forgotten, and do not go themselves."""
    return [row for row in rows if row["session_id"] not in going and portion.mentions.cites(row["text"])]


def _replace_quotes(tx: Transaction, session_id: str, seqs: Sequence[int], now_ms: int) -> int:
    """Replace what quotes; 0 when a turn of the session runs or waits, whose prompt holds it."""
    if tx.value("unended_turn_of_session", session_id=session_id) is not None:
        return 0
    listed = json.dumps(list(seqs))
    count = tx.execute("replace_quotes", session_id=session_id, seqs=listed, text=QUOTED)
    rows = tx.rows("fingerprints_of", session_id=session_id, seqs=listed)
    turns = sorted({row["turn_id"] for row in rows if row["turn_id"] is not None})
    tx.execute("blank_turns", turns=json.dumps(turns))
    drop_summaries(tx, session_id, min(seqs))
    tx.execute("forget_in_session", id=session_id, reason="what it quoted was forgotten", now=now_ms)
    return count


class Transcripts:
    """The conversations themselves. They go last: by them everything else is found."""

    def __init__(self, database: Database, gone: Callable[[str], None]) -> None:
        self._database = database
        self._gone = gone

    async def look(self, portion: Portion) -> Traces:
        """Count conversations, messages and summaries.

        Raises:
            SessionBusyError: a turn of one of them runs or waits.
        """
        found = Traces()
        for doom in portion.dooms:
            await self._database.read(lambda tx, doom=doom: refuse_busy(tx, doom.session))
            rows = await self._database.read(
                lambda tx, doom=doom: quoting_summaries(tx, doom.session.id, 1 if doom.whole else doom.first)
            )
            summaries = sum(row["says"] for row in rows)
            found.counts.update(
                sessions=int(doom.whole),
                messages=doom.said,
                answers=len(doom.seqs) - doom.said,
                summaries=summaries,
            )
        return found

    async def begin(self, portion: Portion) -> Traces:
        """Nothing more is said in what goes whole, nothing of it is taken in again, and no summary of it is made.

        Raises:
            SessionBusyError: a turn of one of the conversations runs or waits; nothing of that one was changed.
        """
        gone = Traces()
        for doom in portion.dooms:
            gone.counts["summaries"] += await self._database.write(
                lambda tx, doom=doom: _begin(tx, doom, portion.now_ms)
            )
            for part in _parts(doom.seqs):
                await self._database.write(
                    lambda tx, doom=doom, part=part: note_messages(tx, doom.session, part, portion.now_ms)
                )
        return gone

    async def remove(self, portion: Portion) -> Traces:
        """Delete conversations, and take the words out of messages.

        Raises:
            SessionBusyError: a turn of one of the conversations runs or waits.
        """
        gone = await self.look(portion)
        for doom in portion.dooms:
            if doom.whole:
                await self._delete(doom)
            else:
                await self._blank(doom, portion.now_ms)
            self._gone(doom.session.id)
        return gone

    async def _delete(self, doom: Doomed) -> None:
        session = doom.session
        gone = DELETED_AT_ONCE
        while gone == DELETED_AT_ONCE:
            gone = await self._database.write(lambda tx: _delete_events(tx, session))
            await asyncio.sleep(BREATH_S)
        await self._database.write(lambda tx: silence_successors(tx, session))
        await self._database.write(lambda tx: tx.execute("release_origins", session_id=session.id, agent=session.agent))
        await discard(self._database, session.id)

    async def _blank(self, doom: Doomed, now_ms: int) -> None:
        parts = list(_parts(doom.seqs, BLANKED_AT_ONCE))
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            await self._database.write(
                lambda tx, part=part, last=last: blank(tx, doom.session, part, now_ms, last=last)
            )
            await asyncio.sleep(BREATH_S)


def _delete_events(tx: Transaction, session: MeantSession) -> int:
    """Delete some of what happened in a session; returns how many."""
    since, until = session.started_at_ms, session.updated_at_ms
    return tx.execute("delete_session_events_between", key=session.key, since=since, until=until, limit=DELETED_AT_ONCE)


def _begin(tx: Transaction, doom: Doomed, now_ms: int) -> int:
    """Returns how many summaries are of no use any more."""
    session = doom.session
    if not doom.whole:
        refuse_busy(tx, session)
        return drop_summaries(tx, session.id, doom.first)
    end_for_good(tx, session, now_ms)
    note_names(tx, session.agent, "session", [session.id, session.key], now_ms)
    return drop_summaries(tx, session.id, 1)


def _parts(ids: Sequence[T], size: int = DELETED_AT_ONCE) -> list[list[T]]:
    return [list(ids[start : start + size]) for start in range(0, len(ids), size)]
