"""Where what is known of passages is kept: a bounded table for each agent in `state.db`.

Whatever writes runs in one transaction: what it read, what it makes of that, and the oldest giving way. So searches
that end at the same moment lose nothing of one another. Whose words a passage is, is looked up in that transaction,
where messages stand and where it is known what programs wrote into notes: an index may be older, a file may be wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from reverie.dreaming.entry import HITS_MAX, SNIPPET_CHARACTERS_MAX, RecallEntry, entry_key
from reverie.dreaming.recording import (
    Signal,
    counts_for_nothing,
    day_of,
    eligible,
    is_conversation,
    keys_of,
    newer_of,
    no_tags,
    note_path,
    with_signal,
)
from reverie.memory.origins import noted_by
from reverie.sessions.forgetting import forgotten_among
from reverie.types import SearchHit, least_trusted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import tzinfo

    from reverie.clock import Clock
    from reverie.dreaming.recording import SignalKind
    from reverie.memory.recall import RecallNote
    from reverie.storage.database import Database, Row, Transaction
    from reverie.types import Provenance

PAGE_ROWS_MAX = 1_000
IMPORT_ROWS_MAX = 200
"""Entries in one transaction of an import: searches that are recorded meanwhile wait for no more."""
Phase = Literal["light", "rem"]
"""A phase of sleep that reinforces passages."""

LISTS = ("queries", "user_queries", "days", "tags")
INSTANTS = ("first_recalled_at", "last_recalled_at", "promoted_at", "light_at", "rem_at")
NOT_OF_ENTRIES = frozenset({"id", "agent", "signals", "checked"})
"""Columns of a row that are nothing of its entry."""


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries in the order of their arrival; `after` continues behind them and is None when these were the last."""

    entries: tuple[RecallEntry, ...]
    after: int | None


@dataclass(frozen=True, slots=True)
class EvidenceTotals:
    """How many entries an agent has, and when they, or their reinforcements, changed last (milliseconds; 0: never)."""

    entries: int = 0
    updated_at_ms: int = 0
    phases_updated_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of entries given by an import. `gave_way` are entries, these or others, above what is kept.

    `forgotten` are of notes or conversations that a person had forgotten: they stay out.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    gave_way: int = 0
    forgotten: int = 0


class RecallEntries:
    """What is known of the passages that searches surfaced.

    `zone` decides on which day a search was. `tags` names the concepts of a passage, given its path and snippet; it
    runs on a database's thread and must be quick and pure.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        entries_max: int,
        zone: tzinfo,
        tags: Callable[[str, str], tuple[str, ...]] = no_tags,
    ) -> None:
        self._database = database
        self._clock = clock
        self._entries_max = entries_max
        self.zone = zone
        self.tags = tags

    def note(self, tx: Transaction, search: RecallNote) -> None:
        """Count what a search gave to a person or a model, within the transaction that puts it on record."""
        self._record(tx, search.agent, search.hits, self._signal("recall", search.query, search.at_ms))

    async def record(
        self,
        agent: str,
        query: str,
        hits: Sequence[SearchHit],
        *,
        kind: SignalKind = "recall",
        now_ms: int | None = None,
        once_a_day: bool = False,
    ) -> int:
        """Count what a search surfaced; returns how many passages that changed.

        Only daily notes and conversations count, and nothing does for an empty query. `once_a_day`, for passes of our
        own: a passage that this query surfaced on this day before stays as it is.

        Raises:
            StorageError: it could not be written; nothing was.
        """
        signal = self._signal(kind, query, self._clock.now_ms() if now_ms is None else now_ms)
        return await self._database.write(lambda tx: self._record(tx, agent, hits, signal, once_a_day=once_a_day))

    async def entries(self, agent: str, after: int = 0, limit: int = PAGE_ROWS_MAX) -> EntryPage:
        """A page of at most `limit` entries (and never more than 1,000), in the order of their arrival."""
        limit = max(1, min(limit, PAGE_ROWS_MAX))
        return await self._database.read(lambda tx: _page(tx, agent, after, limit))

    async def pages(self, agent: str) -> AsyncIterator[tuple[RecallEntry, ...]]:
        """All entries of an agent, page by page; each page is read on its own."""
        after: int | None = 0
        while after is not None:
            page = await self.entries(agent, after)
            if page.entries:
                yield page.entries
            after = page.after

    async def recent(self, agent: str, since_ms: int) -> AsyncIterator[tuple[RecallEntry, ...]]:
        """What was recalled since an instant, page by page in the order of arrival; each page is read on its own."""
        async for page in self._stretches(agent, "recent_recall_entries", since=since_ms):
            yield page

    async def grounded(self, agent: str) -> AsyncIterator[tuple[RecallEntry, ...]]:
        """What evidence from elsewhere supports, page by page in the order of arrival."""
        async for page in self._stretches(agent, "grounded_recall_entries"):
            yield page

    async def _stretches(self, agent: str, query: str, **more: Any) -> AsyncIterator[tuple[RecallEntry, ...]]:
        """What a query picks of all entries, a stretch of at most 1,000 of them at a time."""

        def stretch(tx: Transaction, after: int) -> tuple[int | None, tuple[RecallEntry, ...]]:
            until: int | None = tx.value("recall_window_end", agent=agent, after=after, rows=PAGE_ROWS_MAX)
            rows = [] if until is None else tx.rows(query, agent=agent, after=after, until=until, **more)
            return until, tuple(map(_entry, rows))

        after: int | None = 0
        while after is not None:
            after, page = await self._database.read(lambda tx, after=after: stretch(tx, after))
            if page:
                yield page

    async def find(self, agent: str, key: str) -> RecallEntry | None:
        """An entry by its key; None if there is none."""
        return await self._database.read(lambda tx: _find(tx, agent, key))

    async def totals(self, agent: str) -> EvidenceTotals:
        """How many entries there are, and when they changed last."""
        row = await self._database.read(lambda tx: tx.row("recall_totals_of", agent=agent))
        if row is None:
            return EvidenceTotals()
        return EvidenceTotals(row["entries"], row["updated_at"], row["phases_updated_at"])

    async def mark_promoted(
        self, agent: str, key: str, *, at_ms: int, start_line: int, end_line: int, snippet: str
    ) -> bool:
        """Note that a passage became lasting memory, with the place and the words it was found with then.

        False: there is no such entry any more.
        """
        place = (start_line, end_line)
        return await self._database.write(lambda tx: promoted(tx, agent, key, at_ms, place, snippet))

    async def take_in(
        self, agent: str, given: Sequence[RecallEntry], *, updated_at_ms: int, phases_updated_at_ms: int = 0
    ) -> TakenIn:
        """Add entries from elsewhere; of an entry that is there already, what was recalled last stands.

        Written in slices: an import that is interrupted is done again, and then adds what is missing.

        Raises:
            StorageError: it could not be written; the slices before it stay.
        """
        total = TakenIn()
        for start in range(0, max(1, len(given)), IMPORT_ROWS_MAX):
            part = given[start : start + IMPORT_ROWS_MAX]
            done = await self._database.write(lambda tx, part=part: self._take_in(tx, agent, part))
            total = TakenIn(
                total.added + done.added,
                total.updated + done.updated,
                total.unchanged + done.unchanged,
                total.gave_way + done.gave_way,
                total.forgotten + done.forgotten,
            )

        def changed(tx: Transaction) -> None:
            tx.execute("recall_entries_changed", agent=agent, at=updated_at_ms)
            tx.execute("recall_phases_changed", agent=agent, at=phases_updated_at_ms)

        await self._database.write(changed)
        return total

    def day(self, at_ms: int) -> str:
        """The day of an instant, `YYYY-MM-DD`, as entries count it."""
        return day_of(at_ms, self.zone)

    # -- within somebody's transaction ---------------------------------------------------------------------------

    def known_under(self, tx: Transaction, agent: str, key: str) -> RecallEntry | None:
        """An entry by its key; None if there is none."""
        return _find(tx, agent, key)

    def known_of(self, tx: Transaction, agent: str, path: str) -> list[RecallEntry]:
        """The entries of a file, at most 1,000, in the order of their keys."""
        first = entry_key(path, 0, 0).removesuffix("0:0")
        rows = tx.rows("recall_entries_of_path", agent=agent, first=first, beyond=f"{first[:-1]};", limit=PAGE_ROWS_MAX)
        return list(map(_entry, rows))

    def keep(
        self, tx: Transaction, agent: str, entries: Sequence[RecallEntry], at_ms: int, *, gone: Sequence[str] = ()
    ) -> None:
        """Put entries in the place of what was known under their keys, after those under `gone` are dropped.

        The oldest give way as always. Nothing given changes nothing, not even when something changed last.
        """
        for key in gone:
            tx.execute("delete_recall_entry", agent=agent, key=key)
        for entry in entries:
            put_entry(tx, agent, entry)
        if entries or gone:
            tx.execute("recall_entries_changed", agent=agent, at=at_ms)
            tx.execute("prune_recall_entries", agent=agent, entries_max=self._entries_max)

    def reinforce(self, tx: Transaction, agent: str, phase: Phase, keys: Sequence[str], at_ms: int) -> None:
        """Count one more hit of a phase of sleep for each of these entries; those that are gone stay gone."""
        for key in keys:
            tx.execute(f"reinforce_{phase}", agent=agent, key=key, at=at_ms, hits_max=HITS_MAX)
        if keys:
            tx.execute("recall_phases_changed", agent=agent, at=at_ms)

    # -- on the database's writer thread -------------------------------------------------------------------------

    def _signal(self, kind: SignalKind, query: str, at_ms: int) -> Signal:
        return Signal(kind, query, at_ms, self.day(at_ms))

    def _record(
        self, tx: Transaction, agent: str, hits: Sequence[SearchHit], signal: Signal, *, once_a_day: bool = False
    ) -> int:
        if counts_for_nothing(signal):
            return 0
        changed = 0
        for each in eligible(hits):
            hit = replace(each, provenance=_whose(tx, agent, each))
            known = next((entry for key in keys_of(hit) if (entry := _find(tx, agent, key))), None)
            entry = with_signal(known, hit, signal, self.tags, once_a_day=once_a_day)
            if entry is not None:
                put_entry(tx, agent, entry)
                changed += 1
        if changed:
            tx.execute("recall_entries_changed", agent=agent, at=signal.at_ms)
            tx.execute("prune_recall_entries", agent=agent, entries_max=self._entries_max)
        return changed

    def _take_in(self, tx: Transaction, agent: str, given: Sequence[RecallEntry]) -> TakenIn:
        added = updated = 0
        taken = [each for each in given if not _is_forgotten(tx, agent, each)]
        for each in taken:
            known = _find(tx, agent, each.key)
            entry = newer_of(known, replace(each, provenance=_whose(tx, agent, each)))
            if entry != known:
                put_entry(tx, agent, entry)
                added, updated = added + (known is None), updated + (known is not None)
        gone = tx.execute("prune_recall_entries", agent=agent, entries_max=self._entries_max)
        return TakenIn(added, updated, len(taken) - added - updated, gone, len(given) - len(taken))


def _is_forgotten(tx: Transaction, agent: str, entry: RecallEntry) -> bool:
    """Whether an entry is of a note, a conversation or messages that a person had forgotten."""
    if not is_conversation(entry.path):
        return bool(forgotten_among(tx, agent, "note", [entry.path]))
    session_id = entry.path.partition("/")[2]
    if forgotten_among(tx, agent, "session", [session_id]):
        return True
    return bool(tx.value("any_forgotten", session_id=session_id, first=entry.start_line, last=entry.end_line))


def _whose(tx: Transaction, agent: str, passage: SearchHit | RecallEntry) -> Provenance:
    """Whose words a passage is: for a message as it stands in its transcript, else what is known of it and of its note.

    Of messages that are not there (any more) nobody knows.
    """
    path = note_path(passage.path)
    if is_conversation(path):
        rows = tx.tuples(
            "whose_stretch",
            agent=agent,
            session_id=path.partition("/")[2],
            first_seq=passage.start_line,
            last_seq=passage.end_line,
        )
        return least_trusted((row[0] for row in rows), default="untrusted")
    text = passage.text if isinstance(passage, SearchHit) else passage.snippet
    return least_trusted((passage.provenance, noted_by(tx, agent, text)))


def promoted(
    tx: Transaction, agent: str, key: str, at_ms: int, place: tuple[int, int] | None = None, snippet: str = ""
) -> bool:
    """As `RecallEntries.mark_promoted`, within a transaction; without a place, lines and words stay as they are."""
    known = _find(tx, agent, key)
    if known is None:
        return False
    start, end = place or (known.start_line, known.end_line)
    text = snippet[:SNIPPET_CHARACTERS_MAX] or known.snippet
    put_entry(tx, agent, replace(known, start_line=start, end_line=end, snippet=text, promoted_at_ms=at_ms))
    tx.execute("recall_entries_changed", agent=agent, at=at_ms)
    return True


def _page(tx: Transaction, agent: str, after: int, limit: int) -> EntryPage:
    rows = tx.rows("recall_entries_after", agent=agent, after=after, limit=limit)
    return EntryPage(tuple(map(_entry, rows)), rows[-1]["id"] if len(rows) == limit else None)


def _find(tx: Transaction, agent: str, key: str) -> RecallEntry | None:
    row = tx.row("find_recall_entry", agent=agent, key=key)
    return None if row is None else _entry(row)


def _entry(row: Row) -> RecallEntry:
    values: dict[str, Any] = {name: row[name] for name in row if name not in NOT_OF_ENTRIES}
    for name in LISTS:
        values[name] = tuple(json.loads(values[name]))
    for name in INSTANTS:
        values[f"{name}_ms"] = values.pop(name)
    return RecallEntry(**values)


def put_entry(tx: Transaction, agent: str, entry: RecallEntry) -> None:
    """Keep an entry, within a transaction; one that is there keeps its place in the order."""
    tx.execute("put_recall_entry", agent=agent, **columns(entry))


def columns(entry: RecallEntry) -> dict[str, Any]:
    """An entry as the columns of its row."""
    values: dict[str, Any] = {name: getattr(entry, name) for name in RecallEntry.__dataclass_fields__}
    for name in LISTS:
        values[name] = json.dumps(values[name], ensure_ascii=False)
    for name in INSTANTS:
        values[name] = values.pop(f"{name}_ms")
    return values
