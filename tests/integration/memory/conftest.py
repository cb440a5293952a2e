"""A memory index over real files and databases, with a workspace to write into and transcripts to speak in."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from reverie.config import MemoryConfig
from reverie.memory.generation_files import GenerationFiles
from reverie.memory.index import MemoryIndex, SearchQuery, SearchResult
from reverie.storage import EMBEDDINGS, Database
from reverie.testing import FakeClock, FakeEmbedder
from reverie.testing.fake_transcripts import FakeTranscripts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from reverie.llm.embeddings import Embedder
    from reverie.memory.sync import WhoseLines


@dataclass(frozen=True)
class OpenedIndex:
    """An index and everything it stands on."""

    index: MemoryIndex
    workspace: Path
    transcripts: FakeTranscripts
    embedder: FakeEmbedder | None
    embeddings_db: Database
    clock: FakeClock

    @property
    def index_db(self) -> Database:
        """The live generation's database."""
        return self.index.database

    def write(self, path: str, data: str | bytes) -> None:
        """Put a file into the workspace."""
        target = self.workspace / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)

    async def search(self, text: str, **options: Any) -> SearchResult:
        """Search as the agent `main`."""
        return await self.index.search(SearchQuery(text, options.pop("agent", "main"), **options))

    async def cited(self, text: str, **options: Any) -> list[str]:
        """The citations of a search, best first."""
        return [hit.citation for hit in (await self.search(text, **options)).hits]

    async def count(self, query: str) -> int:
        """A figure straight from the index database."""
        return int(await self.index_db.read(lambda tx: tx.value(query)))


OpenIndex = "Callable[..., AbstractAsyncContextManager[OpenedIndex]]"


@pytest.fixture
def open_index(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[OpenedIndex]]:
    """Open an index below `tmp_path`; opening again finds what was there, unless the databases are elsewhere."""

    @asynccontextmanager
    async def opened(
        *,
        embedder: Embedder | FakeEmbedder | None = None,
        transcripts: FakeTranscripts | None = None,
        agents: tuple[str, ...] = ("main",),
        tracer: Callable[[str, object], None] | None = None,
        databases_in: str = ".",
        origins: WhoseLines | None = None,
        **settings: Any,
    ) -> AsyncGenerator[OpenedIndex]:
        clock = FakeClock()
        folder = tmp_path / databases_in
        folder.mkdir(exist_ok=True)
        log = transcripts or FakeTranscripts()
        workspaces = {agent: tmp_path / "workspaces" / agent for agent in agents}
        for workspace in workspaces.values():
            workspace.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            embeddings_db = await Database.open(
                folder / "embeddings.db", EMBEDDINGS, now_ms=clock.now_ms(), tracer=tracer
            )
            stack.push_async_callback(embeddings_db.aclose)
            index = await MemoryIndex.open(
                files=GenerationFiles(folder),
                embeddings_db=embeddings_db,
                embedder=embedder,
                workspaces=workspaces,
                transcripts=log,
                config=MemoryConfig(**settings),
                clock=clock,
                origins=origins,
                tracer=tracer,
            )
            stack.push_async_callback(index.aclose)
            fake = embedder if isinstance(embedder, FakeEmbedder) else None
            yield OpenedIndex(index, workspaces[agents[0]], log, fake, embeddings_db, clock)

    return opened
