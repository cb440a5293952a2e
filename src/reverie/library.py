"""Memory without a server: the library's one public class.

    async with Memory.open("~/.reverie") as memory:
        await memory.add("The roaster's service is due in March.")
        hits = await memory.search("when is the service due?", limit=10)

It is the same memory that `reverie serve` uses, in the same files. One process has a home at a time; while it is
open, files changed by hand and vectors that are missing are taken care of in the background, as in the server.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie.app import CATCH_UP_S_MAX, UNSET, open_memory
from reverie.background import Background
from reverie.clock import utc_date
from reverie.config import load_config, resolve_home
from reverie.errors import EmbedderError
from reverie.importers.conversations import FORGOTTEN, PastSession, goes_on_exposed, import_session, read_message
from reverie.memory.append import append_note
from reverie.memory.index import SearchQuery
from reverie.tasks import OwnedTasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from reverie.app import OpenMemory, Unset
    from reverie.clock import Clock
    from reverie.config import Config, Home
    from reverie.llm.embeddings import Embedder
    from reverie.memory.index import MemoryExcerpt
    from reverie.sessions.store import PastMessage
    from reverie.types import MemorySource, SearchHit

__all__ = ["AddedConversation", "Memory", "Note"]

HISTORY = "library"
VECTORS_WAIT_S_MAX = 0.25
"""How long `add` waits for the vectors of what it wrote; later they follow in the background."""

VECTORS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was written: a path in the workspace and its lines there."""

    path: str
    start_line: int
    end_line: int

    @property
    def citation(self) -> str:
        """Where it stands, as `path#L3` or `path#L3-L7`."""
        lines = f"L{self.start_line}" if self.start_line == self.end_line else f"L{self.start_line}-L{self.end_line}"
        return f"{self.path}#{lines}"


@dataclass(frozen=True, slots=True)
class AddedConversation:
    """A conversation that was recorded. `left_out` counts the messages that are not memory, by reason.

    The path of one that was forgotten is empty.
    """

    path: str
    messages_added: int
    messages_present: int
    left_out: dict[str, int]


class Memory:
    """The memory of one agent. Open it with `async with Memory.open(home) as memory:`.

    Methods may be called from any number of tasks of the loop it was opened on.

    >>> import asyncio, tempfile
    >>> from reverie import Memory
    >>> async def main(home: str) -> None:
    ...     async with Memory.open(home) as memory:
    ...         note = await memory.add("The roaster's next service is due on 14 January.")
    ...         hits = await memory.search("When is the service due?", limit=1)
    ...         print(hits[0].path == note.path, "14 January" in hits[0].text)
    ...         excerpt = await memory.get(note.path, note.start_line, 1)
    ...         print(excerpt.text)
    >>> with tempfile.TemporaryDirectory() as home:
    ...     asyncio.run(main(home))
    True True
    The roaster's next service is due on 14 January.
    """

    def __init__(self, opened: OpenMemory, agent: str, tasks: OwnedTasks) -> None:
        self._opened = opened
        self._agent = agent
        self._tasks = tasks

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        home: str | Path | None = None,
        *,
        agent: str = "main",
        embedder: Embedder | Unset | None = UNSET,
        clock: Clock | None = None,
    ) -> AsyncGenerator[Memory]:
        """Open the memory of an agent; home and agent are made when they do not exist.

        `home` None is `REVERIE_HOME`, else `~/.reverie`. `embedder` replaces the one that the home's settings name;
        None searches by words alone.

        Raises:
            ConfigError: the home's settings, or the agent's name, are not valid.
            HomeInUseError: another process has this home open, for example `reverie serve`.
            HomeReadOnlyError: it cannot be written.
            StorageError: one of its databases cannot be used; nothing was changed.
        """
        found, config = await asyncio.to_thread(_settings, home, agent)
        async with open_memory(found, config, embedder=embedder, clock=clock) as opened, OwnedTasks() as tasks:
            background = Background(
                memory=opened.memory,
                workspaces=opened.workspaces,
                clock=opened.clock,
                watch=config.memory.watch,
                watch_debounce_ms=config.memory.watch_debounce_ms,
                reconcile_s=config.memory.reconcile_s,
                foreground_busy=lambda: False,
            )
            background.start(tasks)
            await background.caught_up(CATCH_UP_S_MAX)
            yield cls(opened, agent, tasks)

    @property
    def workspace(self) -> Path:
        """The folder with the agent's Markdown: yours to read and edit; changes are noticed within a second."""
        return self._opened.workspaces[self._agent]

    async def add(self, text: str) -> Note:
        """Write a note, as a paragraph at the end of today's `memory/YYYY-MM-DD.md`; returns where it stands.

        A note that stands there already is not written again; where it stands is returned. When it returns, the note is
        on disk and is found by its words; by its meaning too, unless the embedder needs longer than a moment. No model
        is called.

        Raises:
            MemoryPathError: the text is blank.
            StorageError, HomeReadOnlyError: it could not be written.
        """
        date = utc_date(self._opened.clock.now_ms())
        note = await asyncio.to_thread(append_note, self.workspace, text, date)
        await self._opened.memory.sync_workspace(self._agent, [note.path])
        await self._embed_for_a_moment()
        return Note(note.path, note.start_line, note.end_line)

    async def add_conversation(
        self, messages: Sequence[Mapping[str, Any]], *, session: str, mine: bool = False
    ) -> AddedConversation:
        """Record a conversation that took place elsewhere, so that it can be found.

        `messages` is the whole conversation, each as `{"role": …, "content": …}` or `{"speaker": …, "text": …}`, with
        `when` if the date is known. `session` is your name for it: calling again with the same beginning adds what
        has been said since. `mine`: you vouch for it: you and your agent speak in it, and what is recalled of it may
        become lasting memory; else its words are a stranger's.

        Raises:
            StorageError: it could not be written.
        """
        past, left_out = self._past_messages(messages)
        imported = await import_session(
            self._opened.sessions, self._agent, HISTORY, PastSession(session, tuple(past)), mine=mine
        )
        if imported is None:
            return AddedConversation("", 0, 0, {**left_out, FORGOTTEN: len(past)})
        session_id, added = imported
        await self._opened.memory.follow_transcripts()
        await self._embed_for_a_moment()
        return AddedConversation(f"sessions/{session_id}", added, len(past) - added, left_out)

    async def search(
        self,
        text: str,
        *,
        limit: int = 10,
        sources: Sequence[MemorySource] = ("memory", "sessions"),
        min_score: float = 0.0,
    ) -> list[SearchHit]:
        """The places in memory that answer a question best, best first; each has its `citation`, `text` and `score`.

        `sources`: `memory` are notes, `sessions` conversations. What is returned is recorded as evidence of recall.

        Raises:
            StorageError: the index could not be read.
        """
        query = SearchQuery(text, self._agent, limit=limit, sources=tuple(sources), min_score=min_score)
        result = await self._opened.memory.search(query)
        await self._opened.evidence.record("api", self._agent, text, result.hits)
        return list(result.hits)

    async def get(self, path: str, from_line: int | None = None, lines: int | None = None) -> MemoryExcerpt:
        """Lines of a note file, or messages of a conversation, by the path of a hit; empty when nothing is there.

        Raises:
            MemoryPathError: the path is outside this memory.
        """
        return await self._opened.memory.get(self._agent, path, from_line, lines)

    async def settle(self) -> None:
        """Return once everything written so far is found by its meaning too.

        Raises:
            EmbedderError: the embedder failed.
            StorageError: the index could not be written.
        """
        await self._opened.memory.settle()

    def _past_messages(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[PastMessage], dict[str, int]]:
        past: list[PastMessage] = []
        left_out: dict[str, int] = {}
        said_on, next_ms = "", self._opened.clock.now_ms()
        exposed = False
        for message in messages:
            read = read_message(dict(message), said_on, next_ms)
            exposed = goes_on_exposed(read, before=exposed)
            if isinstance(read, str):
                left_out[read] = left_out.get(read, 0) + 1
                continue
            past.append(replace(read, foreign=exposed))
            said_on, next_ms = read.said_on, read.said_at_ms + 1
        return past, left_out

    async def _embed_for_a_moment(self) -> None:
        """Vectors for what is new, as far as that is quick; the rest is the background's work."""
        task = self._tasks.start(self._embed(), name="embed what is new")
        await asyncio.wait({task}, timeout=VECTORS_WAIT_S_MAX)

    async def _embed(self) -> None:
        try:
            await self._opened.memory.embed_backlog(VECTORS_AT_ONCE)
        except EmbedderError:
            return  # the background tries again, and logs the cause


def _settings(home: str | Path | None, agent: str) -> tuple[Home, Config]:
    found = resolve_home(None if home is None else Path(home))
    return found, load_config(found, {"agents": {agent: {}}})
