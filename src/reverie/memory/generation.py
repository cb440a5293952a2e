"""One generation of the index: a database with everything an agent may remember, and the searches over it.

What is written is findable by its words as soon as the call returns; vectors follow through `embed_backlog`. Nothing
here calls a language model. The database is derived: it can be deleted, and is rebuilt from files and transcripts.

Invariants: a file or a batch of messages enters in one transaction together with the mark that it did, so a crash
leaves nothing half-indexed and repeats nothing; reading, hashing, cutting and scoring happen off the event loop.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import structlog

from reverie.errors import MemoryPathError
from reverie.memory import store
from reverie.memory.backlog import EmbeddingBacklog
from reverie.memory.chunking import ChunkLimits
from reverie.memory.documents import is_skill_path, resolve_readable, split_lines
from reverie.memory.excerpts import SESSIONS_PREFIX, MemoryExcerpt, read_file_excerpt, read_transcript_excerpt
from reverie.memory.figures import IndexFigures
from reverie.memory.forgetting import (
    DoomedPassages,
    ForgottenPassages,
    Place,
    forget_speakers,
    merge_words,
    passages_after,
    still_used,
)
from reverie.memory.fusion import Tuning
from reverie.memory.notices import FileNotices, stored_notices
from reverie.memory.passages import embedded_text
from reverie.memory.search import MemorySearch, SearchQuery, SearchResult
from reverie.memory.semantic import SemanticIndex
from reverie.memory.store import Change
from reverie.memory.sync import SyncReport, WorkspaceSync
from reverie.memory.text import ANALYSER_VERSION
from reverie.memory.transcripts import FOLLOW_MESSAGES_MAX, transcript_passages, within_size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.config import MemoryConfig
    from reverie.llm.embeddings import Embedder
    from reverie.memory.documents import SkippedFile
    from reverie.memory.embedding_cache import CacheStatistics, EmbeddingCache
    from reverie.memory.forgotten import ForgottenNotes
    from reverie.memory.sync import WhoseLines, WhoseSkill
    from reverie.memory.transcripts import TranscriptLog
    from reverie.storage.database import Database, Transaction
    from reverie.types import Provenance, SearchHit, Source

log = structlog.get_logger(__name__)

BACKLOG_CHUNKS = 256
REMEDY = "`reverie index --rebuild` builds it anew beside this one, and uses every vector that is already paid for"

FORGOTTEN_AT_ONCE = 200
"""Passages of a transcript that leave the index in one transaction."""


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """The state of the index, without asking the disk.

    `vectors_state`: `off` without an embedder, `unknown` until it has said what it is, `paused` with the reason in
    `vectors_reason` when the index was built by another one. `embedder_failure` is the last failure, empty since the
    last success; `embedder_pause_s` says in how many seconds it is asked again. `refused_chunks` are those whose text
    it does not take, which have no vector until the next rebuild; `refused_reason` is why, of the last one. `skipped`
    are the files that were left out when they were last looked at, `damaged` those that are indexed although some of
    their bytes are not text; both name at most 1,000 of an agent. `watch` says how changed files are noticed: `system`,
    or `polling` and why; empty when nobody has watched yet. `notes` say in what this index differs from one that would
    be built now. `rebuilding` is the step of the rebuild that runs, empty when none does.
    """

    generation: str
    notes: tuple[str, ...]
    memory_documents: int
    session_documents: int
    chunks: int
    log_position: int
    embedder: str
    vectors: int
    vectors_state: Literal["off", "unknown", "loading", "ready", "paused"]
    vectors_reason: str
    matrix_bytes: int
    embedder_failure: str
    embedder_pause_s: float
    refused_chunks: int
    refused_reason: str
    cache: CacheStatistics
    skipped: tuple[SkippedFile, ...]
    damaged: tuple[str, ...]
    watch: str
    rebuilding: str = ""


@dataclass(frozen=True, slots=True)
class IndexSources:
    """What every generation of an index is made from, and shares with the others.

    `forgotten` is what a person had forgotten of notes; None where nobody can have.
    `origins` knows whose words stand in notes; None: their owner's. `skills` knows it of skills; None: a stranger's.
    """

    cache: EmbeddingCache
    embedder: Embedder | None
    workspaces: Mapping[str, Path]
    transcripts: TranscriptLog
    config: MemoryConfig
    clock: Clock
    forgotten: ForgottenNotes | None = None
    origins: WhoseLines | None = None
    skills: WhoseSkill | None = None


class IndexGeneration:
    """The index of all agents of one home. Build it with `await IndexGeneration.open(...)`, end it with `aclose()`."""

    def __init__(
        self,
        database: Database,
        sources: IndexSources,
        figures: IndexFigures,
        notes: Sequence[str],
        notices: Mapping[str, FileNotices],
        watch: str,
    ) -> None:
        self._database = database
        self._sources = sources
        self._figures = figures
        self._notes = tuple(notes)
        embedder, cache = sources.embedder, sources.cache
        self._semantic = (
            None if embedder is None else SemanticIndex(database, embedder, sources.clock, unfit=_unfit(notes))
        )
        self._backlog = None if self._semantic is None else EmbeddingBacklog(database, cache, self._semantic)
        config = sources.config
        tuning = Tuning(mmr_lambda=config.mmr_lambda, half_life_days=config.decay_half_life_days)
        self._search = MemorySearch(database, self._semantic, figures, sources.clock, tuning)
        self._following = asyncio.Lock()
        self._follow_limit = FOLLOW_MESSAGES_MAX
        self._syncs: dict[str, WorkspaceSync] = {}
        self._notices = dict(notices)
        self._watch = watch

    @classmethod
    async def open(cls, database: Database, sources: IndexSources) -> IndexGeneration:
        """A generation over an open database, which it owns from now on. Stored vectors load in the background.

        Raises:
            StorageError: the index could not be read.
        """
        figures = IndexFigures()
        await database.read(figures.read)
        if figures.position > (last := await sources.transcripts.last_position()):
            log.warning("the log is older than the index: transcripts are indexed anew", action="log_shrank", last=last)
            await database.write(store.forget_transcripts)
            await database.read(figures.read)
        notes = await database.write(lambda tx: differences(tx, sources.config))
        notices, watch = await database.read(lambda tx: (stored_notices(tx), store.watch_mode(tx)))
        index = cls(database, sources, figures, notes, notices, watch)
        if index._backlog is not None:
            await index._backlog.open()
        if index._semantic is not None:
            await index._semantic.open()
        return index

    @property
    def database(self) -> Database:
        """The database, which this generation owns."""
        return self._database

    @property
    def file(self) -> Path:
        """The database's file."""
        return self._database.path

    async def sync_workspace(self, agent: str, paths: Collection[str] | None = None) -> SyncReport:
        """Bring the index in step with an agent's files: all of them, or the given workspace-relative paths.

        When it returns, what the files held is findable by its words. A given folder stands for the files in it.

        Raises:
            MemoryPathError: there is no such agent.
            StorageError: the index could not be written.
        """
        return await self._sync_of(agent).run(paths)

    async def note_watch(self, watch: str) -> None:
        """Remember how changed files are noticed: `system`, or `polling` and why.

        Raises:
            StorageError: the index could not be written.
        """
        self._watch = watch
        await self._database.write(lambda tx: tx.execute("set_meta", key=store.WATCH, value=watch))

    async def follow_transcripts(self) -> int:
        """Index the messages written since the last time; returns how many, 0 when there was nothing new.

        Raises:
            StorageError: the index could not be written; the next call goes on where this one stopped.
        """
        async with self._following:
            return await self._follow_to_the_end()

    async def forget_session(self, agent: str, session_id: str) -> None:
        """Drop what one transcript holds, a bounded batch at a time; what is not there is no error.

        Raises:
            StorageError: the index could not be written; the next call goes on where this one stopped.
        """
        agent_id = self._figures.agent_id(agent)
        while agent_id is not None:
            change = await self._database.write(
                lambda tx, number=agent_id: store.forget_session(tx, number, session_id, FORGOTTEN_AT_ONCE)
            )
            if change is None:
                return
            await self._followed(change, "sessions")

    async def doomed(self, agent: str, places: Sequence[Place]) -> DoomedPassages:
        """The passages that stand in some places now.

        Raises:
            StorageError: the index could not be read.
        """
        found = DoomedPassages()
        agent_id = self._figures.agent_id(agent)
        for place in places if agent_id is not None else ():
            document_id: int | None = await self._database.read(
                lambda tx, path=place.path: tx.value("find_document", agent_id=agent_id, path=path)
            )
            after: tuple[int, int, int] | None = (-1, -1, -1)
            while document_id is not None and after is not None:
                page, after = await self._database.read(
                    lambda tx, at=after, number=document_id, place=place: passages_after(tx, number, place, at)
                )
                await asyncio.to_thread(found.add, page)
        return found

    async def count_passages(self, agent: str, places: Sequence[Place]) -> ForgottenPassages:
        """How many passages `forget_passages` would find in some places, and how many cached vectors.

        Raises:
            StorageError: the index or the cache could not be read.
        """
        doomed = await self.doomed(agent, places)
        agent_id = self._figures.agent_id(agent)
        if agent_id is None or not doomed.ids:
            return ForgottenPassages()
        await self._spare(agent_id, doomed)
        return ForgottenPassages(len(doomed.ids), await self._sources.cache.count_of_texts(list(doomed.keys.values())))

    async def forget_passages(self, agent: str, places: Sequence[Place], *, rows: bool) -> ForgottenPassages:
        """Take what stands in some places out of the index, and the vectors kept of texts that stand nowhere else.

        With `rows` False the passages stay: they are those of a file, and go when the file is read again.

        Raises:
            StorageError: something could not be written; the next call goes on where this one stopped.
        """
        await self.follow_transcripts()
        async with nullcontext() if self._backlog is None else self._backlog.resting():
            doomed = await self.doomed(agent, places)
            agent_id = self._figures.agent_id(agent)
            if agent_id is None or not doomed.ids:
                return ForgottenPassages()
            await self._spare(agent_id, doomed)
            vectors = await self._sources.cache.forget(list(doomed.keys.values()))
            ids = sorted(doomed.ids) if rows else []
            for start in range(0, len(ids), FORGOTTEN_AT_ONCE):
                part = ids[start : start + FORGOTTEN_AT_ONCE]
                change = await self._database.write(lambda tx, part=part: store.remove_passages(tx, part))
                await self._followed(change, "sessions")
            if rows and doomed.speakers:
                change = Change()
                names = sorted(doomed.speakers)
                await self._database.write(lambda tx: forget_speakers(tx, agent_id, names, change))
                await self._followed(change, "sessions")
        return ForgottenPassages(len(ids), vectors)

    async def _spare(self, agent_id: int, doomed: DoomedPassages) -> None:
        """Take from what is doomed the texts and names that stand elsewhere too."""
        after: int | None = 0
        while after is not None and (doomed.keys or doomed.speakers):
            used, speakers, after = await self._database.read(lambda tx, at=after: still_used(tx, agent_id, doomed, at))
            for content_hash in used:
                doomed.keys.pop(content_hash, None)
            doomed.speakers -= speakers

    async def forget_words(self) -> None:
        """Write the full text anew, a bounded piece at a time, so that no word of what was deleted is left in it.

        Raises:
            StorageError: the index could not be written.
        """
        first = True
        while await self._database.write(lambda tx, first=first: merge_words(tx, first=first)) or first:
            first = False

    async def handed_over(self, successor: IndexGeneration, switch: Callable[[], Awaitable[None]]) -> None:
        """Let a generation built beside this one read what was said meanwhile, then `switch`.

        This one reads no further until both have happened, so whatever can be found in it can be found in the other.

        Raises:
            StorageError: something could not be written; nothing was switched.
        """
        async with self._following:
            await successor.follow_transcripts()
            if self._watch:
                await successor.note_watch(self._watch)
            await switch()

    async def embed_backlog(self, limit: int = BACKLOG_CHUNKS) -> int:
        """Give up to `limit` waiting chunks their vectors; returns how many wait no more, 0 when none wait or may.

        Raises:
            EmbedderPausedError: the embedder failed a moment ago and is not asked again yet.
            EmbedderError: the embedder failed; what was embedded before is kept.
            StorageError: the index could not be written.
        """
        return 0 if self._backlog is None else await self._backlog.run(limit)

    async def warm_up(self) -> None:
        """Load the embedder; meanwhile a search with a deadline does without it.

        Raises:
            EmbedderError: it cannot be loaded or reached.
        """
        if self._semantic is not None:
            await self._semantic.warm_up()

    async def settle(self) -> None:
        """Return once everything written so far is indexed and embedded.

        Raises:
            EmbedderError: the embedder failed.
            StorageError: the index could not be written.
        """
        await self.follow_transcripts()
        while await self.embed_backlog():
            pass
        if self._semantic is not None:
            await self._semantic.loaded()
        await self._sources.cache.flush()

    async def sampled_texts(self, count: int) -> list[str]:
        """The texts that were embedded, or would be, of up to `count` chunks spread over the index.

        Raises:
            StorageError: the index could not be read.
        """
        return await self._database.read(lambda tx: _sampled(tx, count))

    async def search(self, query: SearchQuery) -> SearchResult:
        """The best hits for a query, best first. A signal that is missing is named in the result's reasons.

        Whose words a message is, is looked up where messages stand: the index may be older than what its owner said of
        them since.

        Raises:
            StorageError: the index, or the transcripts, could not be read.
        """
        result = await self._search.search(query)
        places = [(hit.session_id, hit.start_line) for hit in result.hits if hit.session_id is not None]
        if not places:
            return result
        whose = await self._sources.transcripts.whose_words(places)
        return replace(result, hits=tuple(_as_known(hit, whose) for hit in result.hits))

    async def get(self, agent: str, path: str, from_line: int | None = None, lines: int | None = None) -> MemoryExcerpt:
        """Lines of a memory file, or messages of `sessions/<id>`; what does not exist is empty.

        Raises:
            MemoryPathError: not a path of this agent's memory, or not readable as such.
            StorageError: the transcript could not be read.
        """
        if path.startswith(SESSIONS_PREFIX):
            self._workspace(agent)
            return await read_transcript_excerpt(self._sources.transcripts, agent, path, from_line, lines)
        workspace = self._workspace(agent)
        forgotten = self._sources.forgotten
        left_out: frozenset[bytes] = frozenset()
        if forgotten is not None and (normal := resolve_readable(path)) in await forgotten.paths(agent):
            left_out = await forgotten.paragraphs(agent, normal)
        return await read_file_excerpt(
            workspace,
            path,
            from_line,
            lines,
            bytes_max=self._sources.config.file_bytes_max,
            whose=lambda text: self._whose(agent, path, text),
            forgotten=left_out,
        )

    def statistics(self) -> IndexStatistics:
        """A snapshot, without waiting for anything."""
        semantic = self._semantic
        vectors = None if semantic is None or semantic.vectors is None else semantic.vectors.statistics()
        return IndexStatistics(
            generation=self.file.name,
            notes=self._notes,
            memory_documents=self._figures.documents.get("memory", 0),
            session_documents=self._figures.documents.get("sessions", 0),
            chunks=self._figures.chunks,
            log_position=self._figures.position,
            embedder="none" if semantic is None else semantic.identity.key,
            vectors=0 if vectors is None else vectors.rows,
            vectors_state=self._vectors_state(),
            vectors_reason="" if semantic is None else semantic.paused_reason,
            matrix_bytes=0 if vectors is None else vectors.matrix_bytes,
            embedder_failure="" if semantic is None else semantic.failure,
            embedder_pause_s=0.0 if semantic is None else round(semantic.breaker.pause_s, 1),
            refused_chunks=0 if self._backlog is None else self._backlog.refusals.chunks,
            refused_reason="" if self._backlog is None else self._backlog.refusals.reason,
            cache=self._sources.cache.statistics(),
            skipped=tuple(file for notices in self._notices.values() for file in notices.files()),
            damaged=tuple(path for notices in self._notices.values() for path in sorted(notices.damaged)),
            watch=self._watch,
        )

    async def aclose(self) -> None:
        """Stop loading and searching, and close the database. Cache and embedder belong to whoever opened them."""
        if self._backlog is not None:
            await self._backlog.aclose()
        if self._semantic is not None:
            await self._semantic.aclose()
        await self._database.aclose()

    def _vectors_state(self) -> Literal["off", "unknown", "loading", "ready", "paused"]:
        semantic = self._semantic
        if semantic is None:
            return "off"
        if semantic.paused_reason:
            return "paused"
        return "unknown" if semantic.vectors is None else semantic.vectors.statistics().state

    async def _follow_to_the_end(self) -> int:
        total = 0
        while (indexed := await self._next_messages()) is not None:
            total += indexed
        return total

    async def _next_messages(self) -> int | None:
        """Index one batch; the position moves with it in the same transaction. None when there is nothing new."""
        start = self._figures.position
        found = await self._sources.transcripts.messages_after(start, self._follow_limit)
        if not found:
            return None
        messages = within_size(found)
        self._follow_limit = len(messages) if len(messages) < len(found) else FOLLOW_MESSAGES_MAX
        batch = await asyncio.to_thread(transcript_passages, messages)
        end, now_ms = messages[-1].position, self._sources.clock.now_ms()
        change = await self._database.write(
            lambda tx: store.write_transcripts(tx, batch, start=start, end=end, now_ms=now_ms)
        )
        if change is None:  # another process was faster
            await self._database.read(self._figures.read)
            return 0
        self._figures.position = end
        await self._followed(change, "sessions")
        return len(messages)

    async def _followed(self, change: Change, source: Source) -> None:
        """Let everything in memory follow a committed change."""
        self._figures.follow(change, source)
        vectors = None if self._semantic is None else self._semantic.vectors
        if vectors is not None:
            await vectors.remove(change.removed_ids)
            await vectors.move(change.moved)

    async def _whose(self, agent: str, path: str, text: str) -> tuple[Provenance, ...]:
        """Whose words each line of a file is that may be read."""
        normal = resolve_readable(path)
        if not is_skill_path(normal):
            return await self._whose_lines(agent, text)
        skills = self._sources.skills
        whose: Provenance = "untrusted" if skills is None else await skills.whose(agent, normal.split("/")[1], text)
        return (whose,) * len(split_lines(text))

    async def _whose_lines(self, agent: str, text: str) -> tuple[Provenance, ...]:
        origins = self._sources.origins
        return () if origins is None else await origins.of_lines(agent, text)

    def _workspace(self, agent: str) -> Path:
        workspace = self._sources.workspaces.get(agent)
        if workspace is None:
            raise MemoryPathError(
                f"there is no agent {agent!r}: known are {', '.join(sorted(self._sources.workspaces))}"
            )
        return workspace

    def _sync_of(self, agent: str) -> WorkspaceSync:
        known = self._syncs.get(agent)
        if known is None:
            known = self._syncs[agent] = WorkspaceSync(
                self._database,
                agent,
                self._workspace(agent),
                file_bytes_max=self._sources.config.file_bytes_max,
                clock=self._sources.clock,
                limits=ChunkLimits.of(self._sources.config.chunker),
                notices=self._notices.setdefault(agent, FileNotices(agent)),
                follow=lambda change: self._followed(change, "memory"),
                forgotten=self._sources.forgotten,
                origins=self._sources.origins,
            )
        return known


def _as_known(hit: SearchHit, whose: Mapping[tuple[str, int], Provenance]) -> SearchHit:
    """A hit with whose words it is; of a message that is gone nobody knows."""
    if hit.session_id is None:
        return hit
    return replace(hit, provenance=whose.get((hit.session_id, hit.start_line), "untrusted"))


def _sampled(tx: Transaction, count: int) -> list[str]:
    last = int(tx.value("last_chunk"))
    ids = json.dumps([1 + number * last // count for number in range(count)])
    return [embedded_text(row["heading"], row["text"]) for row in tx.rows("sample_texts", ids=ids)]


CUTTER = "cutter"
ANALYSER = "analyser"
_FIRST = {CUTTER: "headings 100/0", ANALYSER: "1"}
"""What an index was built with that does not say so: it is of the first release."""


def differences(tx: Transaction, config: MemoryConfig) -> list[str]:
    """How this index differs from one that would be built now, in words; an empty index is of now."""
    limits = ChunkLimits.of(config.chunker)
    now = {CUTTER: f"{limits.chunker} {limits.tokens}/{limits.overlap_tokens}", ANALYSER: str(ANALYSER_VERSION)}
    if not store.read_tally(tx).chunks:
        for key, value in now.items():
            tx.execute("set_meta", key=key, value=value)
        return []
    built = {key: tx.value("get_meta", key=key) or _FIRST[key] for key in now}
    return [
        f"{key}: the index was built with {built[key]}, the settings now say {value}; {REMEDY}"
        for key, value in now.items()
        if built[key] != value
    ]


def _unfit(notes: Sequence[str]) -> str:
    """Why vectors must not be added: pieces cut in another way would be embedded, and again after the rebuild."""
    return next((f"paused: {note}" for note in notes if note.startswith(CUTTER)), "")
