"""Bring the vectors of one OpenClaw database into the embedding cache, a bounded batch at a time.

A worker thread reads, parses and scales one batch while the one before it is written: never more than two are held.
After each batch follows the mark of how far the import has come; when the process is killed between the two, the next
run reads that batch again and finds it there.

Invariant: a finished import of an unchanged source reads nothing; a source that changed is read anew.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from reverie.errors import ImportFileError
from reverie.importers.openclaw.source import SourceDatabase
from reverie.importers.openclaw.vectors import read_batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.importers.openclaw.seeding import VectorStore
    from reverie.importers.openclaw.source import IndexMeta, VectorTable
    from reverie.importers.openclaw.vectors import Batch, SkippedRow
    from reverie.storage.database import Database

T = TypeVar("T")

EXAMPLES_MAX = 20
REASONS_MAX = 100
SPACES_MAX = 100
IMPORTS_KEPT = 1_000
SAMPLE_ROWS = 32
FULL = "no room: the embedding cache is full"
OTHER_REASONS = "other reasons"


@dataclass(slots=True)
class VectorTally:
    """What an import of vectors counted; over all runs of an import that was interrupted.

    `spaces` counts vectors, added or present, by embedder identity, and `foreign` those of them that no embedder of
    Reverie can be set to use. `examples` are at most `EXAMPLES_MAX` of the rows that were skipped.
    """

    read: int = 0
    added: int = 0
    present: int = 0
    repeated: int = 0
    skipped: dict[str, int] = field(default_factory=dict[str, int])
    examples: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    spaces: dict[str, int] = field(default_factory=dict[str, int])
    foreign: dict[str, int] = field(default_factory=dict[str, int])

    def skip(self, reason: str, count: int = 1) -> None:
        """Count rows that were left out; of reasons beyond `REASONS_MAX` only their number."""
        if reason not in self.skipped and len(self.skipped) >= REASONS_MAX:
            reason = OTHER_REASONS
        self.skipped[reason] = self.skipped.get(reason, 0) + count

    def show(self, row: SkippedRow) -> None:
        """Count a row and keep it as an example while there is place."""
        self.skip(row.reason)
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(asdict(row))

    def add(self, other: VectorTally) -> None:
        """Count what another tally counted."""
        self.read += other.read
        self.added += other.added
        self.present += other.present
        self.repeated += other.repeated
        self.examples = [*self.examples, *other.examples][:EXAMPLES_MAX]
        for reason, count in other.skipped.items():
            self.skip(reason, count)
        for own, others in ((self.spaces, other.spaces), (self.foreign, other.foreign)):
            for name, count in others.items():
                _count(own, name, count)


@dataclass(frozen=True, slots=True)
class TableReport:
    """What became of one table. `resumed_after` is the row after which this run began, 0 at the beginning."""

    table: str
    rows: int
    tally: VectorTally
    resumed_after: int = 0
    was_finished: bool = False


@dataclass(slots=True)
class _Progress:
    """How far the import of one table has come, as it is stored.

    `kept_before` is how many vectors an earlier import of it left here, which need no further room.
    """

    source: str
    table: str
    fingerprint: str
    room: int | None = None
    last_rowid: int = 0
    finished: bool = False
    tally: VectorTally = field(default_factory=VectorTally)
    kept_before: int = 0


async def import_vectors(
    path: Path,
    store: VectorStore,
    database: Database,
    clock: Clock,
    *,
    skip_foreign: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[TableReport]:
    """Import every table of vectors of a database; `progress` is told of rows as they are done.

    Raises:
        ImportFileError: the source cannot be read, or changed while it was read. What was committed stays; running the
            import again goes on, or begins anew when the source changed.
        StorageError: embeddings.db cannot be written.
    """
    source = await asyncio.to_thread(SourceDatabase, path)
    try:
        tables, meta = await _in_thread(lambda: (source.tables(), source.meta()))
        work = _VectorImport(source, meta, store, database, clock, skip_foreign=skip_foreign, progress=progress)
        return [await work.run(table) for table in tables]
    finally:
        await asyncio.to_thread(source.close)


class _VectorImport:
    """One import of one source."""

    def __init__(
        self,
        source: SourceDatabase,
        meta: IndexMeta,
        store: VectorStore,
        database: Database,
        clock: Clock,
        *,
        skip_foreign: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._source = source
        self._meta = meta
        self._store = store
        self._database = database
        self._clock = clock
        self._skip_foreign = skip_foreign
        self._progress = progress or _ignore

    async def run(self, table: VectorTable) -> TableReport:
        """Import one table, from where an earlier run stopped."""
        states = await _in_thread(lambda: self._source.fingerprint(table))
        held = await self._find(table, states)
        if held.finished:
            self._progress(table.rows)
            tally = replace(held.tally, added=0, present=held.tally.added + held.tally.present)
            return TableReport(table.name, table.rows, tally, held.last_rowid, was_finished=True)
        began_after = held.last_rowid
        self._progress(held.tally.read)
        await self._choose(table, held)
        await self._copy(table, held, states)
        held.finished = True
        await self._mark(held)
        return TableReport(table.name, table.rows, held.tally, began_after)

    async def _copy(self, table: VectorTable, held: _Progress, states: str) -> None:
        """Read a batch while the one before it is written."""
        writing: asyncio.Task[None] | None = None
        after = held.last_rowid
        try:
            while (
                batch := await self._next(table, after, states, chosen=held.room is not None)
            ).last_rowid is not None:
                if writing is not None:
                    await asyncio.shield(writing)
                after = batch.last_rowid
                writing = asyncio.create_task(self._write(batch, held))
            if writing is not None:
                await asyncio.shield(writing)
        finally:
            if writing is not None:
                await asyncio.gather(asyncio.shield(writing), return_exceptions=True)

    async def _next(self, table: VectorTable, after: int, states: str, *, chosen: bool) -> Batch:
        return await _in_thread(lambda: self._read(table, after, states, chosen=chosen))

    def _read(self, table: VectorTable, after: int, states: str, *, chosen: bool) -> Batch:
        batch = read_batch(
            self._source.rows(table, after, chosen=chosen), table.name, self._meta, skip_foreign=self._skip_foreign
        )
        if not self._source.is_as(states):
            message = f"{self._source.path} changed while it was read: stop OpenClaw, then run the import again"
            raise ImportFileError(message)
        return batch

    async def _write(self, batch: Batch, held: _Progress) -> None:
        tally = VectorTally(read=batch.read, repeated=batch.repeated)
        for space, vectors in batch.spaces.items():
            identity = space.identity.key
            seeded = await self._store.seed(identity, space.dims, vectors.rows, vectors.used_at_ms)
            tally.added += seeded.added
            tally.present += seeded.present
            _count(tally.spaces, identity, len(vectors.rows))
            if not space.is_ours:
                _count(tally.foreign, identity, len(vectors.rows))
        for row in batch.skipped:
            tally.show(row)
        held.tally.add(tally)
        assert batch.last_rowid is not None, "a batch that is written has rows"
        held.last_rowid = batch.last_rowid
        await self._mark(held)
        self._progress(batch.read)

    # -- how far it has come -------------------------------------------------------------------------------------

    async def _find(self, table: VectorTable, states: str) -> _Progress:
        """Where an earlier run stopped, if it read the same source in the same way and had as much room."""
        source = str(self._source.path)
        row = await self._database.read(lambda tx: tx.row("find_import", source=source, table=table.name))
        fingerprint = json.dumps([states, self._skip_foreign])
        if row is None:
            return _Progress(source, table.name, fingerprint)
        tally = VectorTally(**json.loads(row["tally"]))
        fresh = _Progress(source, table.name, fingerprint, kept_before=tally.added + tally.present)
        if row["fingerprint"] != fingerprint:
            return fresh
        if row["finished"] and tally.skipped.get(FULL) and self._room(tally) > 0:
            return fresh  # there is room now for what was left out
        return _Progress(source, table.name, fingerprint, row["room"], row["last_rowid"], bool(row["finished"]), tally)

    def _room(self, tally: VectorTally) -> int:
        dims = [int(identity.split("/")[-2]) for identity in tally.spaces]
        return self._store.room(max(dims, default=1))

    async def _choose(self, table: VectorTable, held: _Progress) -> None:
        """Where there are more rows than room, take the newest; a run that goes on takes the same ones."""
        if not held.last_rowid:
            dims = await _in_thread(lambda: self._size(table))
            room = self._store.room(dims) + held.kept_before
            if room >= table.rows:
                return
            held.room = room
            held.tally.skip(FULL, table.rows - room)
        if held.room is not None:
            room = held.room
            await _in_thread(lambda: self._source.choose_newest(table, room))

    def _size(self, table: VectorTable) -> int:
        """The size of the table's first vectors, by which room is reckoned."""
        rows = self._source.rows(table, 0, chosen=False, limit=SAMPLE_ROWS)
        first = read_batch(rows, table.name, self._meta)
        return max((space.dims for space in first.spaces), default=1)

    async def _mark(self, held: _Progress) -> None:
        now_ms = self._clock.now_ms()
        tally = json.dumps(asdict(held.tally))

        await self._database.write(
            lambda tx: tx.execute(
                "put_import",
                source=held.source,
                table=held.table,
                fingerprint=held.fingerprint,
                room=held.room,
                last_rowid=held.last_rowid,
                finished=held.finished,
                tally=tally,
                updated_at=now_ms,
            )
        )
        if held.finished:
            await self._database.write(lambda tx: tx.execute("drop_old_imports", kept=IMPORTS_KEPT))


async def _in_thread(work: Callable[[], T]) -> T:
    """Run work of the source on a thread. Cancelled, it ends before this does: the source is closed next."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _count(counts: dict[str, int], name: str, count: int) -> None:
    """Add to a bounded count by name; of names beyond `SPACES_MAX` only the number."""
    if name not in counts and len(counts) >= SPACES_MAX:
        name = OTHER_REASONS
    counts[name] = counts.get(name, 0) + count


def _ignore(_: int) -> None:
    """Nobody wants to know."""
