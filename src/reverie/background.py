"""Every background edge of the system, on one screen.

    loop          wakes on                         does
    embedder      once                             it is loaded, so that no turn waits for it
    transcripts   a turn's end; every second       messages that are not indexed yet enter the index
    vectors       the loop above; every 5 seconds  chunks without a vector get one
    files         a change in a workspace;         changed Markdown is indexed again
                  every `memory.reconcile_s`       the workspaces are compared with the index
    start         once                             the workspaces are compared with the index
    retention     once a day                       sessions that ended long ago are archived and deleted
    rebuild       when it is asked for             the index is built anew beside the live one
    compactions   a turn has ended, a request      summaries of long conversations are prepared
    dreaming      when it is due, a request;       what was recalled often becomes lasting memory
                  every 30 seconds
    learning      a turn has begun or ended;       what was said is put into episodes, its steps are kept
                  every 2 seconds
    learned       every 30 seconds                 what was learned gets the vectors that it lacks
    skills        every second; every minute       skills follow what a person wrote into their files
    condensing    a file too long for the prompt   a model condenses it, where `compaction.model` names one
    probe         every 5 seconds                  whether the home can be written is tried out

Nothing in the foreground waits for any of them. A loop that fails is logged with its cause and tried again, later
each time. Embedding gives way to turns: while one runs, it rests as long as it works. An embedder that fails is asked
again after a pause that grows; this loop is what finds out that it is back.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from reverie.errors import EmbedderError, EmbedderPausedError, StorageError
from reverie.memory.watch import WatchSettings, watch_workspaces

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from reverie.agent.compaction import Compactor
    from reverie.clock import Clock
    from reverie.context.condensed import CondensedFragments
    from reverie.dreaming.clockwork import Clockwork
    from reverie.learning.pipeline import Learning
    from reverie.learning.steps.missing_vectors import MissingVectors
    from reverie.memory.index import MemoryIndex
    from reverie.sessions.retention import Retention
    from reverie.tasks import OwnedTasks

log = structlog.get_logger(__name__)

TRANSCRIPTS_POLL_S = 1.0
VECTORS_POLL_S = 5.0
COMPACTIONS_POLL_S = 60.0
CONDENSING_POLL_S = 60.0
LEARNING_POLL_S = 2.0
IDLE_EPISODES_S = 30.0
TIDY_S = 3_600.0
SKILLS_POLL_S = 60.0
SKILLS_LOOK_S = 1.0
"""A person who edited a skill, or deleted it, is heeded after so long."""

LEARNED_VECTORS_S = 30.0
GATHER_S = 0.1
"""Turns that end within this time of one another enter the index in one transaction."""
PROBE_S = 5.0
DREAMS_FIRST_S = 5.0
RETENTION_FIRST_S = 300.0
RETENTION_S = 86_400.0
VECTORS_BATCH = 16
REBUILD_PATIENCE = 20
"""Failures of the embedder in a row that a rebuild outlasts: with growing pauses about a quarter of an hour."""

RETRY_S_FIRST = 0.5
RETRY_S_MAX = 60.0


@dataclass(slots=True)
class Wake:
    """A bell that a loop sleeps by: rung by whoever made work for it."""

    _event: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self) -> None:
        """There is work."""
        self._event.set()

    async def heard(self, within_s: float) -> None:
        """Sleep until the bell rings, at most `within_s` seconds."""
        try:
            async with asyncio.timeout(within_s):
                await self._event.wait()
        except TimeoutError:
            return
        finally:
            self._event.clear()


@dataclass(frozen=True, slots=True)
class Background:
    """What the loops work on."""

    memory: MemoryIndex
    workspaces: Mapping[str, Path]
    clock: Clock
    watch: bool
    watch_debounce_ms: int
    reconcile_s: float
    foreground_busy: Callable[[], bool]
    probe: Callable[[float], Awaitable[None]] | None = None
    transcripts: Wake = field(default_factory=Wake)
    vectors: Wake = field(default_factory=Wake)
    compactor: Compactor | None = None
    retention: Retention | None = None
    compactions: Wake = field(default_factory=Wake)
    clockwork: Clockwork | None = None
    dreams: Wake = field(default_factory=Wake)
    condensed: CondensedFragments | None = None
    condensing: Wake = field(default_factory=Wake)
    learning: Learning | None = None
    warm_learned: Callable[[str], Awaitable[None]] | None = None
    missing_vectors: MissingVectors | None = None
    _rebuild_asked: asyncio.Event = field(default_factory=asyncio.Event)
    _files_read: asyncio.Event = field(default_factory=asyncio.Event)
    _transcripts_read: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, tasks: OwnedTasks) -> None:
        """Start every loop; they end with `tasks`."""
        loops: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("embedder", self._warm_up),
            ("start", self._sync_workspaces),
            ("transcripts", self._follow_transcripts),
            ("vectors", self._embed),
            ("rebuild", self._rebuild),
        ]
        if self.watch:
            loops.append(("files", self._watch_files))
        if self.compactor is not None:
            loops.append(("compactions", partial(self._compact, self.compactor)))
        if self.condensed is not None:
            self.condensed.on_waiting(self.condensing.ring)
            loops.append(("condensing", partial(self._condense, self.condensed)))
        if self.retention is not None:
            loops.append(("retention", partial(self._retire, self.retention)))
        if self.clockwork is not None:
            loops.append(("dreaming", partial(self._dream, self.clockwork)))
        if self.learning is not None:
            loops.append(("learning", partial(self._learn, self.learning)))
            loops.append(("skills", partial(self._follow_skills, self.learning)))
            loops.append(("learned", self._learned_vectors))
        if self.probe is not None:
            loops.append(("probe", partial(self.probe, PROBE_S)))
        for name, loop in loops:
            tasks.start(retried(name, loop), name=name)

    def turn_ended(self) -> None:
        """A turn is answered: what it said is to be found."""
        self.transcripts.ring()

    async def caught_up(self, within_s: float) -> None:
        """Wait until what was written and said before the start can be found, at most `within_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._files_read.wait()
                await self._transcripts_read.wait()

    async def _warm_up(self) -> None:
        """Load the embedder. If it fails, the loop for vectors finds out when it works."""
        try:
            await self.memory.warm_up()
        except EmbedderError as error:
            log.warning("the embedder failed", action="embedder_failed", reason=str(error))

    def ask_for_rebuild(self) -> bool:
        """Have the index built anew; False when that is under way already."""
        asked = self.memory.announce_rebuild()
        if asked:
            self._rebuild_asked.set()
        return asked

    async def _rebuild(self) -> None:
        while True:
            await self._rebuild_asked.wait()
            self._rebuild_asked.clear()
            try:
                await self.memory.rebuild(busy=self.foreground_busy, patience=REBUILD_PATIENCE)
            except (EmbedderError, StorageError) as error:
                log.warning("the rebuild failed; the index is as it was", action="rebuild_failed", reason=str(error))

    async def _retire(self, retention: Retention) -> None:
        """A day's sweep waits for a rebuild: what is deleted meanwhile might be read into the new index first."""
        while True:
            await asyncio.sleep(RETENTION_FIRST_S)
            if self.memory.rebuild_progress is None:
                await retention.sweep()
                await asyncio.sleep(RETENTION_S)

    async def _sync_workspaces(self) -> None:
        for agent in self.workspaces:
            await self.memory.sync_workspace(agent)
        self._files_read.set()
        self.vectors.ring()

    async def _follow_transcripts(self) -> None:
        while True:
            while await self.memory.follow_transcripts():
                self.vectors.ring()
            self._transcripts_read.set()
            await self.transcripts.heard(TRANSCRIPTS_POLL_S)
            await asyncio.sleep(GATHER_S)

    async def _embed(self) -> None:
        while True:
            started_s = self.clock.monotonic_s()
            done = await self._embed_some()
            if not done:
                await self.vectors.heard(VECTORS_POLL_S)
            elif self.foreground_busy():
                await asyncio.sleep(self.clock.monotonic_s() - started_s)

    async def _embed_some(self) -> int:
        """One run over the backlog. An embedder that is down is expected to come back, and told once a try."""
        try:
            return await self.memory.embed_backlog(VECTORS_BATCH)
        except EmbedderPausedError:
            return 0
        except EmbedderError as error:
            again_s = self.memory.statistics().embedder_pause_s
            log.warning("the embedder failed", action="embedder_failed", reason=str(error), asked_again_in_s=again_s)
            return 0

    async def _compact(self, compactor: Compactor) -> None:
        while True:
            again_s = await compactor.work()
            await self.compactions.heard(COMPACTIONS_POLL_S if again_s is None else max(0.0, again_s))

    async def _dream(self, clockwork: Clockwork) -> None:
        """A start has more urgent things to do: what was missed before it can wait some seconds more."""
        again_s = DREAMS_FIRST_S
        while True:
            await self.dreams.heard(again_s)
            again_s = await clockwork.work()

    async def _condense(self, condensed: CondensedFragments) -> None:
        while True:
            await condensed.work()
            await self.condensing.heard(CONDENSING_POLL_S)

    async def _learn(self, learning: Learning) -> None:
        await learning.recover()
        looked_s = self.clock.monotonic_s()
        tidied_s = float("-inf")
        while True:
            if self.clock.monotonic_s() - tidied_s >= TIDY_S:
                await learning.tidy()
                tidied_s = self.clock.monotonic_s()
            await learning.follow()
            if self.clock.monotonic_s() - looked_s >= IDLE_EPISODES_S:
                await learning.close_idle()
                looked_s = self.clock.monotonic_s()
            with suppress(TimeoutError):
                async with asyncio.timeout(LEARNING_POLL_S):
                    await learning.said.wait()
            await asyncio.sleep(GATHER_S)

    async def _learned_vectors(self) -> None:
        """The vectors that are there are read first: a turn looks through them."""
        warm, missing = self.warm_learned, self.missing_vectors
        if warm is not None:
            for agent in self.workspaces:
                await warm(agent)
        while missing is not None:
            more = False
            try:
                more = await missing.make_some()
            except EmbedderError as error:
                log.info("what was learned waits for the embedder", action="embedder_failed", reason=str(error))
            await asyncio.sleep(GATHER_S if more else LEARNED_VECTORS_S)

    async def _follow_skills(self, learning: Learning) -> None:
        """Heed what people do to skills: at once where a file was touched, and now and then all of it anyway."""
        files = learning.skill_files
        while True:
            seen = [await files.look(agent) for agent in self.workspaces]
            compared_s = self.clock.monotonic_s()
            for agent in self.workspaces:
                done = await files.sync(agent)
                if done.unwritten:
                    log.warning(
                        "skills could not be written", action="skills_unwritten", agent=agent, files=done.unwritten
                    )
            while self.clock.monotonic_s() - compared_s < SKILLS_POLL_S:
                await asyncio.sleep(SKILLS_LOOK_S)
                if seen != [await files.look(agent) for agent in self.workspaces]:
                    break

    async def _watch_files(self) -> None:
        settings = WatchSettings(self.watch_debounce_ms, self.reconcile_s, told=self.memory.note_watch)
        await watch_workspaces(self.memory, self.workspaces, settings, on_change=self.vectors.ring)


async def retried(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """Run a loop until it ends by itself; after a failure wait, longer each time, and start it again."""
    wait_s = RETRY_S_FIRST
    while True:
        try:
            await loop()
        except Exception:
            log.exception("a background loop failed and will be tried again", action="loop_failed", loop=name)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_S_MAX)
        else:
            return
