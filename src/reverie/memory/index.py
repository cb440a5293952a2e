"""The memory index: one generation that is searched, and now and then a second one that is built beside it.

Callers hold this object; which generation stands behind it may change at any moment without their noticing. A rebuild
reads files and transcripts anew into a file of its own, with every vector that the cache holds, while searches and
writes go on as before. What is written meanwhile enters both. When the new generation is complete it becomes the live
one in a single step; the old file goes once its last search has ended.

Invariants: a search sees one whole generation; a rebuild that fails or is killed changes nothing that anybody sees.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import structlog

from reverie.errors import DatabaseCorruptError, EmbedderError, RebuildRunsError, StorageError
from reverie.memory.embedding_cache import EmbeddingCache
from reverie.memory.excerpts import MemoryExcerpt
from reverie.memory.generation import IndexGeneration, IndexSources, IndexStatistics
from reverie.memory.generation_files import remove
from reverie.memory.passages import embedding_key
from reverie.memory.search import SearchQuery, SearchResult
from reverie.memory.sync import SyncReport
from reverie.storage import INDEX, Database
from reverie.storage.database import REWRITTEN_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping, Sequence
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.config import MemoryConfig
    from reverie.llm.embeddings import Embedder
    from reverie.memory.forgetting import ForgottenPassages, Place
    from reverie.memory.forgotten import ForgottenNotes
    from reverie.memory.generation_files import GenerationFiles
    from reverie.memory.sync import WhoseLines, WhoseSkill
    from reverie.memory.transcripts import TranscriptLog

__all__ = ["IndexStatistics", "MemoryExcerpt", "MemoryIndex", "Rebuild", "SearchQuery", "SearchResult", "SyncReport"]

log = structlog.get_logger(__name__)

Step = Literal["notes", "conversations", "vectors", "published"]

REBUILD_CHUNKS = 64
SAMPLED_TEXTS = 400
PAUSE_S_MIN = 1.0
RETIRE_S_MAX = 60.0
"""How long the old generation waits for searches that still read it."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """How far a rebuild is: what the new generation holds so far, and what was read into it."""

    file: str
    step: Step
    chunks: int
    vectors: int
    took_s: float
    messages: int = 0
    files: Mapping[str, SyncReport] = field(default_factory=dict[str, SyncReport])


@dataclass(frozen=True, slots=True)
class RebuildEstimate:
    """What a rebuild would have to embed, judged by a sample: of `sampled` texts the cache holds `cached`."""

    passages: int
    sampled: int
    cached: int

    @property
    def texts(self) -> int:
        """About how many texts would go to the embedder."""
        return 0 if not self.sampled else round(self.passages * (self.sampled - self.cached) / self.sampled)


class MemoryIndex:
    """The index of all agents of one home. Build it with `await MemoryIndex.open(...)`, end it with `aclose()`."""

    def __init__(
        self,
        live: IndexGeneration,
        files: GenerationFiles,
        sources: IndexSources,
        tracer: Callable[[str, object], None] | None,
    ) -> None:
        self._live = live
        self._files = files
        self._sources = sources
        self._tracer = tracer
        self._building: IndexGeneration | None = None
        self._rebuilding = asyncio.Lock()
        self._progress: Rebuild | None = None
        self._rebuild_failure = ""
        self._users: dict[IndexGeneration, int] = {}
        self._idle = asyncio.Condition()

    @classmethod
    async def open(
        cls,
        *,
        files: GenerationFiles,
        embeddings_db: Database,
        embedder: Embedder | None,
        workspaces: Mapping[str, Path],
        transcripts: TranscriptLog,
        config: MemoryConfig,
        clock: Clock,
        forgotten: ForgottenNotes | None = None,
        origins: WhoseLines | None = None,
        skills: WhoseSkill | None = None,
        tracer: Callable[[str, object], None] | None = None,
        repair: bool = False,
    ) -> MemoryIndex:
        """Open the live generation, or make the first one. Cache database and embedder stay the caller's.

        `forgotten` tells what stays out of it though it stands in a file. Without `origins`, what stands in notes is
        their owner's; without `skills`, a skill that is read is a stranger's.

        With `repair`, a damaged file is put aside and an empty index takes its place: the caller's next syncs fill it.

        Raises:
            DatabaseCorruptError: its file is damaged, and is not to be repaired; nothing was changed.
            DatabaseTooNewError: a newer Reverie wrote it; nothing was changed.
            StorageError: it could not be read.
        """
        cache = EmbeddingCache(
            embeddings_db, entries_max=config.cache_entries_max, bytes_max=config.cache_bytes_max, clock=clock
        )
        await cache.open()
        sources = IndexSources(
            cache, embedder, dict(workspaces), transcripts, config, clock, forgotten, origins, skills
        )
        await transcripts.last_position()  # what is wrong with the log must not be blamed on the index
        path = await asyncio.to_thread(files.live)
        try:
            live = await _opened(path, sources, tracer)
        except DatabaseCorruptError:
            if not repair:
                raise
            aside = await asyncio.to_thread(files.quarantine, path)
            log.warning(
                "the index is damaged: it was put aside and is built anew", action="index_damaged", to=aside.name
            )
            live = await _opened(path, sources, tracer)
        return cls(live, files, sources, tracer)

    @property
    def cache(self) -> EmbeddingCache:
        """The vectors already paid for, which every generation shares; importers seed it."""
        return self._sources.cache

    @property
    def database(self) -> Database:
        """The live generation's database, for figures about it."""
        return self._live.database

    async def sync_workspace(self, agent: str, paths: Collection[str] | None = None) -> SyncReport:
        """Bring the index in step with an agent's files: all of them, or the given workspace-relative paths.

        When it returns, what the files held is findable by its words. A given folder stands for the files in it.

        Raises:
            MemoryPathError: there is no such agent.
            StorageError: the index could not be written.
        """
        while True:
            live, building = self._live, self._building
            async with self._using(live):
                report = await live.sync_workspace(agent, paths)
            if building is not None:
                async with self._using(building):
                    await building.sync_workspace(agent, paths)
            if self._live in {live, building}:
                return report

    async def note_watch(self, mode: str, cause: str) -> None:
        """Remember how changed files are noticed: `system`, or `polling` and why.

        Raises:
            StorageError: the index could not be written.
        """
        if mode == "polling":
            log.warning("files are compared again and again, not watched", action="watch_polling", cause=cause)
        async with self._using(self._live) as live:
            await live.note_watch(f"{mode}: {cause}" if cause else mode)

    async def follow_transcripts(self) -> int:
        """Index the messages written since the last time; returns how many, 0 when there was nothing new.

        Raises:
            StorageError: the index could not be written; the next call goes on where this one stopped.
        """
        while True:
            async with self._using(self._live) as live:
                indexed = await live.follow_transcripts()
            if self._live is live:
                return indexed

    async def forget_session(self, agent: str, session_id: str) -> None:
        """Drop what one transcript holds, also from an index that is being built.

        Raises:
            StorageError: the index could not be written; the next call goes on where this one stopped.
        """
        for generation in [self._live, *([self._building] if self._building is not None else [])]:
            async with self._using(generation) as used:
                await used.forget_session(agent, session_id)

    @asynccontextmanager
    async def without_rebuild(self) -> AsyncGenerator[None]:
        """While the block runs no second index is built, into which what is deleted might have been read before.

        Raises:
            RebuildRunsError: one is.
        """
        if self._rebuilding.locked():
            raise RebuildRunsError("The index is being rebuilt: try again when that is done (`reverie status` tells).")
        async with self._rebuilding:
            yield

    async def count_passages(self, agent: str, places: Sequence[Place]) -> ForgottenPassages:
        """How many passages `forget_passages` would find in some places, and how many cached vectors.

        Raises:
            StorageError: the index or the cache could not be read.
        """
        async with self._using(self._live) as live:
            return await live.count_passages(agent, places)

    async def forget_passages(self, agent: str, places: Sequence[Place], *, rows: bool = True) -> ForgottenPassages:
        """Take what stands in some places out of the index, and the vectors kept of texts that stand nowhere else.

        With `rows` False the passages stay: they are those of a file, and go when the file is read again. To be called
        within `without_rebuild`.

        Raises:
            StorageError: something could not be written; the next call goes on where this one stopped.
        """
        async with self._using(self._live) as live:
            return await live.forget_passages(agent, places, rows=rows)

    async def purge(self, *, rewritten_bytes_max: int | None = REWRITTEN_BYTES_MAX) -> bool:
        """Leave no trace of deleted passages in the file; True when that is certain (see `Database.purge`).

        Raises:
            StorageError: the index could not be written.
        """
        async with self._using(self._live) as live:
            await live.forget_words()
            return await live.database.purge(rewritten_bytes_max=rewritten_bytes_max)

    async def embed_backlog(self, limit: int | None = None) -> int:
        """Give up to `limit` waiting chunks their vectors; returns how many wait no more, 0 when none wait or may.

        Raises:
            EmbedderPausedError: the embedder failed a moment ago and is not asked again yet.
            EmbedderError: the embedder failed; what was embedded before is kept.
            StorageError: the index could not be written.
        """
        async with self._using(self._live) as live:
            return await (live.embed_backlog() if limit is None else live.embed_backlog(limit))

    async def warm_up(self) -> None:
        """Load the embedder; meanwhile a search with a deadline does without it.

        Raises:
            EmbedderError: it cannot be loaded or reached.
        """
        async with self._using(self._live) as live:
            await live.warm_up()

    async def settle(self) -> None:
        """Return once everything written so far is indexed and embedded.

        Raises:
            EmbedderError: the embedder failed.
            StorageError: the index could not be written.
        """
        async with self._using(self._live) as live:
            await live.settle()

    async def search(self, query: SearchQuery) -> SearchResult:
        """The best hits for a query, best first. A signal that is missing is named in the result's reasons.

        Raises:
            StorageError: the index could not be read.
        """
        async with self._using(self._live) as live:
            return await live.search(query)

    async def get(self, agent: str, path: str, from_line: int | None = None, lines: int | None = None) -> MemoryExcerpt:
        """Lines of a memory file, or messages of `sessions/<id>`; what does not exist is empty.

        Raises:
            MemoryPathError: not a path of this agent's memory, or not readable as such.
            StorageError: the transcript could not be read.
        """
        return await self._live.get(agent, path, from_line, lines)

    def statistics(self) -> IndexStatistics:
        """A snapshot, without waiting for anything."""
        return _with_rebuild(self._live.statistics(), self._progress, self._rebuild_failure)

    @property
    def rebuild_progress(self) -> Rebuild | None:
        """The rebuild that runs, or is about to; None when none does."""
        return self._progress

    def announce_rebuild(self) -> bool:
        """Say that a rebuild is about to run; False when one runs already. Whoever says so calls `rebuild`."""
        if self._progress is not None:
            return False
        self._progress = Rebuild("", "notes", 0, 0, 0.0)
        return True

    async def estimate_rebuild(self) -> RebuildEstimate:
        """What a rebuild with the running embedder would cost. Embeds nothing.

        Raises:
            StorageError: the index or the cache could not be read.
        """
        async with self._using(self._live) as live:
            texts = list(dict.fromkeys(await live.sampled_texts(SAMPLED_TEXTS)))
        embedder = self._sources.embedder
        if embedder is None:
            return RebuildEstimate(live.statistics().chunks, 0, 0)
        keys = await asyncio.to_thread(lambda: [embedding_key(text) for text in texts])
        cached = await self._sources.cache.count_held(embedder.identity.key, keys)
        return RebuildEstimate(live.statistics().chunks, len(texts), cached)

    async def rebuild(
        self,
        *,
        on_progress: Callable[[Rebuild], None] = lambda _: None,
        busy: Callable[[], bool] = lambda: False,
        patience: int = 0,
    ) -> Rebuild:
        """Build the index anew beside the live one, then switch to it; a second call waits for the first.

        Everything is cut, indexed and embedded as the settings say now; texts that the cache knows are not embedded
        again. While `busy` says so, embedding rests as long as it works. An embedder that fails is given `patience`
        further tries in a row, each after the pause that it is in.

        Raises:
            EmbedderError: the embedder failed. The live index stays as it is; what was embedded is in the cache.
            StorageFullError: there is no room for a second index.
            StorageError: the new generation could not be written; the live index stays as it is.
        """
        async with self._rebuilding:
            self.announce_rebuild()
            try:
                building = self._building = await self._begun()
            except BaseException as error:
                self._progress, self._rebuild_failure = None, str(error) or "it was stopped"
                raise
            told = _Told(building, self._sources.clock, self._note_progress, on_progress)
            try:
                await self._fill(building, told, busy, patience)
                await _to_its_end(self._publish(building))
            except BaseException as error:
                self._rebuild_failure = str(error) or "it was stopped"
                await asyncio.shield(self._abandon(building))
                raise
            else:
                self._rebuild_failure = ""
            finally:
                self._progress = None
            return told.of("published")

    async def aclose(self) -> None:
        """Close the live generation. Cache database and embedder belong to whoever opened them."""
        await self._live.aclose()

    @asynccontextmanager
    async def _using(self, generation: IndexGeneration) -> AsyncGenerator[IndexGeneration]:
        """While the block runs, the generation stays open even when another takes its place."""
        self._users[generation] = self._users.get(generation, 0) + 1
        try:
            yield generation
        finally:
            self._users[generation] -= 1
            if not self._users[generation]:
                del self._users[generation]
                async with self._idle:
                    self._idle.notify_all()

    async def _begun(self) -> IndexGeneration:
        """An empty generation in a file of its own."""
        if self._sources.embedder is not None:
            await self._sources.embedder.warm()
        path = await asyncio.to_thread(self._files.next)
        return await _opened(path, self._sources, self._tracer)

    def _note_progress(self, progress: Rebuild) -> None:
        self._progress = progress

    async def _fill(self, building: IndexGeneration, told: _Told, busy: Callable[[], bool], patience: int) -> None:
        """Everything that is in files and transcripts enters the new generation."""
        told.tell("notes")
        for agent in self._sources.workspaces:
            told.files[agent] = await building.sync_workspace(agent)
            told.tell("notes")
        told.messages = await building.follow_transcripts()
        told.tell("conversations")
        failures = 0
        while True:
            started_s = self._sources.clock.monotonic_s()
            try:
                if not await building.embed_backlog(REBUILD_CHUNKS):
                    break
            except EmbedderError:
                failures += 1
                if failures > patience:
                    raise
                await asyncio.sleep(max(PAUSE_S_MIN, building.statistics().embedder_pause_s))
                continue
            failures = 0
            told.tell("vectors")
            if busy():
                await asyncio.sleep(self._sources.clock.monotonic_s() - started_s)
        await building.settle()

    async def _publish(self, building: IndexGeneration) -> None:
        """The one switch, on disk and then in memory; afterwards the old generation goes."""
        old = self._live

        async def switch() -> None:
            await asyncio.to_thread(self._files.publish, building.file)
            self._live, self._building = building, None

        await old.handed_over(building, switch)
        log.info("the index was rebuilt", action="index_published", file=building.file.name)
        await self._retire(old)

    async def _retire(self, old: IndexGeneration) -> None:
        """Close and delete a generation that is not live any more, once nobody reads it."""
        try:
            async with asyncio.timeout(RETIRE_S_MAX), self._idle:
                await self._idle.wait_for(lambda: old not in self._users)
        except TimeoutError:
            log.warning("the old index is still read and stays until the next start", action="index_kept")
            return
        try:
            await old.aclose()
            await asyncio.to_thread(remove, old.file)
        except (OSError, StorageError) as error:  # the new one is live all the same; the next start sweeps
            log.warning("the old index could not be removed", action="index_kept", reason=str(error))

    async def _abandon(self, building: IndexGeneration) -> None:
        """Leave no trace of a generation that did not become the live one."""
        if self._live is building:
            return
        self._building = None
        async with self._idle:
            await self._idle.wait_for(lambda: building not in self._users)
        await building.aclose()
        if await asyncio.to_thread(self._files.live) != building.file:
            await asyncio.to_thread(remove, building.file)


@dataclass(slots=True)
class _Told:
    """What is told of a rebuild while it runs."""

    building: IndexGeneration
    clock: Clock
    note: Callable[[Rebuild], None]
    on_progress: Callable[[Rebuild], None]
    files: dict[str, SyncReport] = field(default_factory=dict[str, SyncReport])
    messages: int = 0
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = self.clock.monotonic_s()

    def of(self, step: Step) -> Rebuild:
        held = self.building.statistics()
        took_s = self.clock.monotonic_s() - self.started_s
        return Rebuild(held.generation, step, held.chunks, held.vectors, took_s, self.messages, dict(self.files))

    def tell(self, step: Step) -> None:
        progress = self.of(step)
        self.note(progress)
        self.on_progress(progress)


async def _opened(path: Path, sources: IndexSources, tracer: Callable[[str, object], None] | None) -> IndexGeneration:
    database = await Database.open(path, INDEX, now_ms=sources.clock.now_ms(), tracer=tracer)
    try:
        return await IndexGeneration.open(database, sources)
    except BaseException:
        await database.aclose()
        raise


async def _to_its_end(work: Coroutine[object, object, None]) -> None:
    """Do not leave it half done when the caller is cancelled; the cancellation follows afterwards."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _with_rebuild(statistics: IndexStatistics, rebuild: Rebuild | None, failure: str) -> IndexStatistics:
    """The statistics with the rebuild that runs, or failed last."""
    if rebuild is not None:
        note = f"a rebuild runs ({rebuild.step}): {rebuild.chunks:,} passages, {rebuild.vectors:,} vectors so far"
        return replace(statistics, notes=(*statistics.notes, note), rebuilding=rebuild.step)
    if failure:
        note = f"the last rebuild failed and changed nothing: {failure}"
        return replace(statistics, notes=(*statistics.notes, note))
    return statistics
