"""START 1. The composition root: opens the stores, wires the packages, closes everything in reverse.

Only this module knows which implementation stands behind a protocol. `open_memory` is the half that remembers and
finds; `open_app` adds sessions, the model and the background loops.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import filelock
import structlog

from reverie.agent.built_in_engine import BuiltInEngine
from reverie.agent.compaction import CompactionSettings, Compactor
from reverie.agent.compaction_requests import CompactionRequests
from reverie.agent.completion import ModelCompletion
from reverie.agent.runtimes.chat import ChatRuntime
from reverie.agent.runtimes.codex import CodexRuntime, CodexSettings, Stores, open_codex
from reverie.agent.turn import TurnRunner, TurnSettings
from reverie.background import Background, Wake
from reverie.clock import Clock, SystemClock
from reverie.config import PRIVATE, Config, Home, MemoryConfig, read_secret
from reverie.context.condensed import CondensedFragments
from reverie.context.fragments import FragmentReader
from reverie.dreaming.audit import Rules
from reverie.dreaming.budget import Spend
from reverie.dreaming.clockwork import Clockwork
from reverie.dreaming.concepts import concept_tags
from reverie.dreaming.consolidation import Consolidator
from reverie.dreaming.deep import DeepSleep
from reverie.dreaming.evidence import RecallEntries
from reverie.dreaming.forgetting import Forgetter, Surroundings
from reverie.dreaming.live_settings import LiveSettings
from reverie.dreaming.memory_file import MemoryFile
from reverie.dreaming.promotion import Promoter
from reverie.dreaming.repair import Repairer
from reverie.dreaming.sources import LiveSources
from reverie.dreaming.sweep import dreamer_of
from reverie.engines.runtime import Engines, open_engines
from reverie.engines.runtime import Surroundings as EngineSurroundings
from reverie.errors import HomeInUseError, HomeReadOnlyError, StorageError
from reverie.learning.asking.provider import provider_name
from reverie.learning.episodes.intent import classify
from reverie.learning.pipeline import Ground, Learning, put_together
from reverie.learning.recall.gate import tiers_for
from reverie.learning.recall.recall import LearnedRecall
from reverie.learning.recall.turn_recall import TurnRecall
from reverie.learning.skills.files import SkillFiles
from reverie.learning.skills.skills import note_exposures
from reverie.learning.steps.missing_vectors import MissingVectors
from reverie.learning.steps.signatures import error_signatures
from reverie.learning.surfaces.surfaces import LearningSurfaces
from reverie.llm.circuit import UpstreamCircuit
from reverie.llm.embeddings_bundled import BundledEmbedder
from reverie.llm.embeddings_openai import OpenAIEmbedder
from reverie.llm.lanes import ModelLanes
from reverie.llm.offline import OfflineModel
from reverie.llm.openai_compatible import OpenAICompatibleModel
from reverie.llm.tokens import TokenEstimator
from reverie.memory.forgotten import ForgottenNotes
from reverie.memory.generation_files import GenerationFiles
from reverie.memory.index import MemoryIndex
from reverie.memory.origins import NoteOrigins
from reverie.memory.recall import RecallEvidence
from reverie.memory.tools import MemoryTools
from reverie.memory.workspace import create_workspace
from reverie.plugins.event_log import PluginEventLog
from reverie.plugins.runtime import Plugins, open_plugins
from reverie.readiness import DRAINING, STARTING, Readiness, WritabilityProbe
from reverie.sessions.bindings import BindingStore
from reverie.sessions.compactions import Compactions
from reverie.sessions.directory import SessionDirectory
from reverie.sessions.figures import read_inbox_figures
from reverie.sessions.queue import TurnQueue
from reverie.sessions.reset import zone_named
from reverie.sessions.retention import Retention
from reverie.sessions.rollover import ResetRules
from reverie.sessions.store import SessionStore
from reverie.sessions.thread_directory import ThreadDirectory
from reverie.sessions.thread_log import ChurnRule, ThreadLog
from reverie.sessions.turns import TurnStore
from reverie.status import AppStatus, CodexFigures, PromptCache, upstream_condition
from reverie.storage import EMBEDDINGS, STATE, Database
from reverie.tasks import OwnedTasks
from reverie.types import Gauge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from reverie.agent.codex.home import MemoryDoor
    from reverie.agent.codex.process import Launch
    from reverie.agent.runtimes.runtime import Runtime
    from reverie.context.contract import Capability
    from reverie.dreaming.clockwork import Sweep
    from reverie.dreaming.forgetting import Forgetting, Options, Selection
    from reverie.dreaming.sweep import Dreamer
    from reverie.learning.recall.channels import Tier
    from reverie.llm.client import Model
    from reverie.llm.embeddings import Embedder
    from reverie.sessions.compactions import Compaction, Expanded
    from reverie.sessions.feed import SessionWatch, TurnFeed
    from reverie.sessions.inbox import InboxEntry, Place, QueueSettings
    from reverie.sessions.rollover import RollOver
    from reverie.sessions.store import SessionEvent
    from reverie.types import JsonObject, SessionKey, TurnRequest


log = structlog.get_logger(__name__)


class Unset:
    """Stands for an argument that was not given, where None means something."""


UNSET: Final = Unset()

CATCH_UP_S_MAX = 1.0
"""How long a start may wait for the last words before it to be indexed. A longer backlog is indexed while serving."""


@dataclass(frozen=True, slots=True)
class OpenMemory:
    """A home whose memory is open: what `search`, `import` and the library need.

    Who dreams holds `dreaming` for each step, and who forgets for all of it: the one does not read what the other
    removes.
    """

    home: Home
    config: Config
    clock: Clock
    state: Database
    embeddings_db: Database
    sessions: SessionStore
    turns: TurnStore
    memory: MemoryIndex
    evidence: RecallEvidence
    recalls: RecallEntries
    promoter: Promoter
    dream_settings: LiveSettings
    repairer: Repairer
    embedder: Embedder | None
    workspaces: Mapping[str, Path]
    origins: NoteOrigins
    tools: MemoryTools
    directory: SessionDirectory
    bindings: BindingStore
    thread_log: ThreadLog
    threads: ThreadDirectory
    skill_files: SkillFiles
    dreaming: asyncio.Lock


@dataclass(frozen=True, slots=True)
class App:
    """A running Reverie without its HTTP edge.

    Whoever serves callers leaves word in `edge` how to stop that: it is closed when the queue has drained, while the
    stores are still open, so that callers are answered to the end.
    """

    open: OpenMemory
    model: Model
    queue: TurnQueue
    background: Background
    readiness: Readiness
    lanes: ModelLanes
    plugins: Plugins
    engines: Engines
    runtime: ChatRuntime
    threaded: Mapping[str, CodexRuntime]
    fragments: FragmentReader
    compactor: Compactor
    compactions: Compactions
    requests: CompactionRequests
    circuit: UpstreamCircuit
    dreaming: Clockwork
    edge: AsyncExitStack
    forgetter: Forgetter
    learner: Learning

    @property
    def config(self) -> Config:
        """The settings it was opened with."""
        return self.open.config

    @property
    def clock(self) -> Clock:
        """The time."""
        return self.open.clock

    @property
    def embedder(self) -> Embedder | None:
        """What turns text into vectors; None when memory is full text only."""
        return self.open.embedder

    @property
    def tools(self) -> MemoryTools:
        """The memory tools."""
        return self.open.tools

    def agents(self) -> tuple[str, ...]:
        """The agents of this home; the first is the default."""
        return tuple(self.open.workspaces)

    async def submit(self, request: TurnRequest, *, refuse_busy: bool = False) -> TurnFeed:
        """Accept a turn; when this returns, it is durable. Raises what `TurnQueue.submit` raises."""
        return await self.queue.submit(request, refuse_busy=refuse_busy)

    @property
    def directory(self) -> SessionDirectory:
        """The sessions, for looking at them and ending them."""
        return self.open.directory

    @property
    def threads(self) -> ThreadDirectory:
        """The native threads of sessions, for looking at them and asking for others."""
        return self.open.threads

    @property
    def learning(self) -> LearningSurfaces:
        """What was learned, for looking at it, changing it and saying how an answer was."""
        learner = self.learner
        return LearningSurfaces(
            self.open.state,
            self.open.clock,
            self.open.config.learning,
            skills=learner.skills,
            feedback=learner.feedbacks,
            jobs=learner.jobs,
            wake=learner.jobs.wake,
        )

    def busy(self, key: SessionKey) -> bool:
        """True while a turn of this session runs, waits, or is prepared in any way."""
        return self.queue.busy(key)

    async def queue_settings(self, key: SessionKey, channel: str) -> QueueSettings:
        """How this session treats messages that find it busy."""
        return await self.queue.settings(key, channel)

    async def change_queue_settings(self, key: SessionKey, changes: JsonObject | None) -> None:
        """Give a session queue settings of its own; None: everybody's again."""
        await self.queue.change_settings(key, changes)

    async def inbox_entry(self, turn_id: str) -> InboxEntry | None:
        """A turn as the inbox has it; None for an unknown id."""
        return await self.open.turns.entry(turn_id)

    def place_of(self, turn_id: str) -> Place:
        """Where a turn stands in its session's queue now."""
        return self.queue.place_of(turn_id)

    async def attach(self, turn_id: str) -> TurnFeed | None:
        """The events of a turn; of one that has ended, its terminal event. None for an unknown id."""
        return await self.queue.attach(turn_id)

    async def queue_of(self, key: str, limit: int) -> list[InboxEntry]:
        """The turns of a session that run or wait, in the order in which they will run."""
        return await self.queue.queue_of(key, limit)

    async def cancel(self, turn_id: str, reason: str) -> InboxEntry | None:
        """Stop a turn that has not ended; None for an unknown id."""
        return await self.queue.cancel(turn_id, reason)

    async def events_after(self, key: str, after: int, limit: int) -> list[SessionEvent]:
        """What happened in a session after an event, oldest first."""
        return await self.open.sessions.events_after(key, after, limit)

    async def oldest_event(self) -> int:
        """The lowest number of the recorded events that are kept; 0 when there is none."""
        return await self.open.state.read(lambda tx: tx.value("oldest_session_event"))

    def watch(self, key: str) -> AbstractContextManager[SessionWatch]:
        """What happens in a session from now on, as it happens."""
        return self.queue.watch(key)

    def ask_for_rebuild(self) -> bool:
        """Have the index built anew in the background; False when that is under way already."""
        return self.background.ask_for_rebuild()

    async def reset_session(self, name: str) -> RollOver:
        """End the current session of a key now; plugins and watchers hear of it.

        Raises:
            UnknownSessionError: there is no such session, or it has ended already.
        """
        rolled = await self.directory.reset(name)
        self.plugins.session_was_reset(rolled)
        self.queue.ring(rolled.key.value)
        return rolled

    async def forget(self, agent: str, selection: Selection, options: Options, *, apply: bool) -> Forgetting:
        """Find what a person wants forgotten, or remove it. Raises what `Forgetter.plan` and `apply` raise."""
        if apply:
            return await self.forgetter.apply(agent, selection, options)
        return await self.forgetter.plan(agent, selection, options)

    async def request_compaction(self, key: str, focus: str = "") -> Compaction:
        """Have a session compacted in the background; what is asked for, or is under way.

        Raises:
            NothingToCompactError: nothing stands before its last turn.
            EngineError: its context engine owns compaction, and failed.
        """
        asked = await self.requests.request(key, focus)
        if asked.agent in self.threaded:
            self.threaded[asked.agent].want_compaction(asked.session_id)
        return asked

    async def compactions_of(self, key: str) -> list[Compaction]:
        """The compactions of a session key, the newest first."""
        return await self.compactions.listed(key)

    async def find_compaction(self, compaction_id: str) -> Compaction | None:
        """A compaction by its id."""
        return await self.compactions.find(compaction_id)

    async def expand_compaction(self, compaction: Compaction, after_seq: int) -> Expanded:
        """A page of the messages that a summary stands for."""
        return await self.compactions.expand(compaction, after_seq)

    async def status(self) -> AppStatus:
        """What runs and waits now; without the inbox if the database cannot be read."""
        try:
            inbox = await read_inbox_figures(self.open.state, self.clock.now_ms())
        except StorageError as error:
            log.warning("the inbox could not be counted", action="status_incomplete", cause=str(error))
            inbox = None
        try:
            dreaming = await self.dreaming.status()
        except StorageError as error:
            log.warning("the runs of dreaming could not be read", action="status_incomplete", cause=str(error))
            dreaming = None
        lanes = self.lanes.statistics()
        failures = {plugin.name: plugin.failures for plugin in self.plugins.statistics()}
        engines = {engine.name: engine.quarantined for engine in self.engines.statistics()}
        loads = {"foreground": lanes.foreground, "background": lanes.background}
        prompts = self._prompts()
        codex = {agent: _codex_figures(runtime) for agent, runtime in self.threaded.items()}
        return AppStatus(
            inbox,
            self.circuit.statistics(),
            loads,
            failures,
            dreaming,
            engines,
            prompts,
            codex,
        )

    def _prompts(self) -> PromptCache:
        """What prompts have cost since the start, in all runtimes."""
        spent = [self.runtime.figures(), *(runtime.figures() for runtime in self.threaded.values())]
        return PromptCache(
            sum(each.calls for each in spent),
            sum(each.prompt_tokens for each in spent),
            sum(each.cached_tokens for each in spent),
        )

    async def gauges(self) -> list[Gauge]:
        """Current figures for metrics."""
        queue, index = self.queue.statistics(), self.open.memory.statistics()
        databases = (self.open.state, self.open.memory.database, self.open.embeddings_db)
        return [
            Gauge("ready", "1 when turns can be served.", float(self.readiness.ready)),
            Gauge("running_turns", "Turns that run.", queue.running),
            Gauge("waiting_turns", "Turns that wait in all sessions.", queue.waiting),
            Gauge("answered_turns", "Turns answered since the start.", queue.answered),
            Gauge("failed_turns", "Turns failed since the start.", queue.failed),
            Gauge("oldest_wait_seconds", "Longest wait of a turn that waits now.", queue.oldest_wait_ms / 1000),
            Gauge("indexed_chunks", "Passages that can be found.", index.chunks),
            Gauge("vectors", "Passages that can be found by meaning.", index.vectors),
            Gauge("embedding_cache_hits", "Texts found in the embedding cache.", index.cache.hits),
            Gauge("embedding_cache_misses", "Texts not found in the embedding cache.", index.cache.misses),
            *(
                Gauge(f"waiting_writes_{d.schema.name}", "Writes that wait.", d.statistics().waiting_writes)
                for d in databases
            ),
            *self.plugins.gauges(),
            *self.engines.gauges(),
            *self.compactor.gauges(),
            *await self._thread_gauges(),
            *await self._learning_gauges(),
            *(await self.status()).gauges(),
        ]

    async def _learning_gauges(self) -> list[Gauge]:
        """Figures of learning; none if the database cannot be read."""
        storms = len(self.learner.alarm.status().storms)
        storm = Gauge("learning_storm", "1 while learning does far more than usual.", float(storms > 0))
        try:
            return [storm, *(await self.learner.jobs.status()).gauges()]
        except StorageError as error:
            log.warning("the jobs could not be counted", action="status_incomplete", cause=str(error))
            return [storm]

    async def _thread_gauges(self) -> list[Gauge]:
        """Figures of native threads; none if the database cannot be read."""
        try:
            return await self.open.thread_log.gauges()
        except StorageError as error:
            log.warning("decisions about threads could not be counted", action="status_incomplete", cause=str(error))
            return []


@asynccontextmanager
async def open_memory(
    home: Home,
    config: Config,
    *,
    exclusive: bool = True,
    embedder: Embedder | Unset | None = UNSET,
    clock: Clock | None = None,
    tracer: Callable[[str, object], None] | None = None,
) -> AsyncGenerator[OpenMemory]:
    """Open a home's memory. `exclusive` takes the home for this process, which whoever indexes must.

    Raises:
        HomeInUseError: another process has taken the home.
        HomeReadOnlyError: the home cannot be written.
        DatabaseCorruptError, DatabaseTooNewError: a database cannot be used; nothing was changed.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        workspaces = await asyncio.to_thread(_prepare_home, home, config)
        if exclusive:
            lock = await asyncio.to_thread(_take, home)
            stack.push_async_callback(asyncio.to_thread, lock.release)
        databases: list[Database] = []
        for path, schema in ((home.state_db, STATE), (home.embeddings_db, EMBEDDINGS)):
            database = await Database.open(path, schema, now_ms=clock.now_ms(), tracer=tracer)
            stack.push_async_callback(database.aclose)
            databases.append(database)
        state, embeddings_db = databases
        files = GenerationFiles(home.path)
        if exclusive and (swept := await asyncio.to_thread(files.sweep)):
            log.info("leftovers of a rebuild were removed", action="index_swept", files=[path.name for path in swept])
        chosen = choose_embedder(config.memory) if isinstance(embedder, Unset) else embedder
        if chosen is not None:
            stack.push_async_callback(chosen.aclose)
        zone = await asyncio.to_thread(zone_named, config.sessions.reset.time_zone)
        sessions = SessionStore(state, clock)
        skill_files = SkillFiles(state, clock, workspaces, chosen)
        origins = NoteOrigins(state, clock, sharing=await asyncio.to_thread(_sharing, workspaces))
        memory = await MemoryIndex.open(
            files=files,
            embeddings_db=embeddings_db,
            embedder=chosen,
            workspaces=workspaces,
            transcripts=sessions,
            config=config.memory,
            clock=clock,
            forgotten=ForgottenNotes(state),
            origins=origins,
            skills=skill_files,
            tracer=tracer,
            repair=exclusive,
        )
        stack.push_async_callback(memory.aclose)
        recalls = RecallEntries(
            state,
            clock,
            entries_max=config.dreaming.entries_max,
            zone=await asyncio.to_thread(zone_named, config.dreaming.time_zone),
            tags=concept_tags,
        )
        evidence = RecallEvidence(state, clock, config.memory.recall_events_max, also=recalls.note)
        stack.push_async_callback(evidence.aclose)
        tools = MemoryTools(
            memory,
            evidence,
            workspaces=workspaces,
            embedder=chosen,
            config=config.memory,
            clock=clock,
            origins=origins,
            owns_index=exclusive,
        )
        settings = await LiveSettings.of(home, config.dreaming)
        sources = LiveSources(
            workspaces, sessions, bytes_max=config.memory.file_bytes_max, zone=recalls.zone, authors=origins
        )
        keep_threads = config.threads.keep_over_reset
        directory = SessionDirectory(state, clock, next(iter(workspaces)), keep_threads=keep_threads)
        bindings = BindingStore(state, clock)
        thread_log = ThreadLog(state, clock, ChurnRule(config.threads.churn_rotations, config.threads.churn_turns))
        turns = TurnStore(state, clock, ResetRules(config.sessions.reset, zone, keep_threads))
        yield OpenMemory(
            home=home,
            config=config,
            clock=clock,
            state=state,
            embeddings_db=embeddings_db,
            sessions=sessions,
            turns=turns,
            memory=memory,
            evidence=evidence,
            recalls=recalls,
            promoter=_promoter(state, recalls, sources, memory if exclusive else None, workspaces, settings, clock),
            dream_settings=settings,
            repairer=Repairer(state, workspaces, clock, Rules(config.dreaming.entries_max, recalls.zone)),
            embedder=chosen,
            workspaces=workspaces,
            origins=origins,
            tools=tools,
            directory=directory,
            bindings=bindings,
            thread_log=thread_log,
            threads=ThreadDirectory(directory, bindings, thread_log),
            skill_files=skill_files,
            dreaming=asyncio.Lock(),
        )


def _promoter(
    state: Database,
    recalls: RecallEntries,
    sources: LiveSources,
    memory: MemoryIndex | None,
    workspaces: Mapping[str, Path],
    settings: LiveSettings,
    clock: Clock,
) -> Promoter:
    """What writes MEMORY.md. Without an index somebody else has it, and notices the change."""

    async def written(agent: str, path: str) -> None:
        if memory is not None:
            await memory.sync_workspace(agent, [path])

    kept = settings.current.changes_kept
    file = MemoryFile(state, workspaces, clock, changes_kept=kept, written=written)
    return Promoter(file, recalls, sources, settings)


@asynccontextmanager
async def open_app(
    home: Home,
    config: Config,
    *,
    model: Model | None = None,
    embedder: Embedder | Unset | None = UNSET,
    clock: Clock | None = None,
    tracer: Callable[[str, object], None] | None = None,
    sweep: Sweep | None = None,
    memory_door: MemoryDoor | None = None,
    codex: Launch | None = None,
) -> AsyncGenerator[App]:
    """Open a home and serve turns until the block is left.

    `sweep` is what dreaming does when it is due, in the place of its phases. `memory_door` is where Codex finds our
    memory tools; `codex` takes the place of the installed Codex.

    Raises what `open_memory`, `open_plugins`, `open_engines` and `open_codex` raise.
    """
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(
            open_memory(home, config, embedder=embedder, clock=clock, tracer=tracer)
        )
        await opened.bindings.release_all()  # the home is ours alone, so whoever held them is gone
        circuit = UpstreamCircuit(opened.clock)
        lanes = ModelLanes(config.upstream.calls_max, config.upstream.background_calls_max, clock=clock)
        model = model or choose_model(config, lanes, circuit)
        stack.push_async_callback(model.aclose)
        tasks = await stack.enter_async_context(OwnedTasks())
        readiness = Readiness(advisory=(lambda: upstream_condition(circuit.statistics()),))
        probe = WritabilityProbe(readiness, opened.state, opened.workspaces.values())
        queue: TurnQueue
        event_log = PluginEventLog(opened.state)

        def ring(key: str) -> None:
            queue.ring(key)

        plugins = await stack.enter_async_context(
            open_plugins(config.plugins, event_log, opened.clock, transcripts=opened.directory, recorded=ring)
        )
        compactions, bell = Compactions(opened.state, opened.clock), Wake()
        engines: Engines
        threaded: dict[str, CodexRuntime]

        def owned(agent: str) -> bool:
            return agent in threaded or engines.owns_compaction(agent)

        compactor = _compactor(opened, model, compactions, bell, plugins, owned)
        estimator = TokenEstimator()
        threaded = await _codex_runtimes(opened, compactor, memory_door, codex, stack)
        chat = _chat_runtime(opened, model)

        def runtime_of(agent: str) -> Runtime:
            return threaded.get(agent, chat)

        engines = await stack.enter_async_context(
            open_engines(
                config,
                opened.workspaces,
                _surroundings(model, compactor, estimator, ring, runtime_of),
                event_log,
                opened.clock,
            )
        )
        summariser = config.compaction.model
        can_condense = summariser is not None and not isinstance(model, OfflineModel)
        condensed = CondensedFragments(opened.state, opened.clock, model if can_condense else None, summariser)
        dreams = Wake()
        dreaming = await open_clockwork(
            opened, asked_in_background(model), sweep, wake=dreams.ring, busy=lambda: queue.statistics().running > 0
        )  # fmt: skip
        learner, learned = await _open_learning(opened, model, circuit, stack)
        background = Background(
            memory=opened.memory,
            workspaces=opened.workspaces,
            clock=opened.clock,
            watch=config.memory.watch,
            watch_debounce_ms=config.memory.watch_debounce_ms,
            reconcile_s=config.memory.reconcile_s,
            foreground_busy=lambda: queue.statistics().running > 0,
            compactor=compactor,
            compactions=bell,
            clockwork=dreaming,
            dreams=dreams,
            condensed=condensed,
            learning=learner if config.learning.mode != "off" else None,
            warm_learned=_warming(opened, learned),
            missing_vectors=None if opened.embedder is None else MissingVectors(opened.state, opened.embedder),
            probe=probe.run,
            retention=Retention(
                opened.state, home.archive, config.sessions.retention, opened.clock, opened.memory.forget_session
            ),
        )
        fragments = FragmentReader()
        runner = _turn_runner(
            opened, runtime_of, background, plugins, compactor, engines, estimator, fragments, condensed, learned
        )
        queue = TurnQueue(
            opened.turns,
            runner.run_turn,
            opened.clock,
            config.queue,
            turn_s_max=config.gateway.turn_s_max,
            drain_s=config.gateway.drain_s,
            unanswered=plugins.turn_unanswered,
            bystander=learner,
        )
        forgetter = await forgetter_of(
            opened, Surroundings(pauses=(compactor.without_extracts,), gone=opened.turns.drop_view)
        )
        edge = await stack.enter_async_context(AsyncExitStack())
        await stack.enter_async_context(queue.running())
        background.start(tasks)
        await background.caught_up(CATCH_UP_S_MAX)
        readiness.discard(STARTING)
        try:
            yield App(
                open=opened,
                model=model,
                queue=queue,
                background=background,
                readiness=readiness,
                lanes=lanes,
                plugins=plugins,
                engines=engines,
                runtime=chat,
                threaded=threaded,
                fragments=fragments,
                compactor=compactor,
                compactions=compactions,
                requests=CompactionRequests(
                    compactor, compactions, opened.turns, engines, estimator, config.sessions.history_messages_max
                ),
                circuit=circuit,
                dreaming=dreaming,
                edge=edge,
                forgetter=forgetter,
                learner=learner,
            )
        finally:
            readiness.add(DRAINING, "running turns may finish; new ones are refused")


async def _open_learning(
    opened: OpenMemory, model: Model, circuit: UpstreamCircuit, stack: AsyncExitStack
) -> tuple[Learning, LearnedRecall | None]:
    """Learning, started, and the recall of what was learned; both end with the stack."""
    learned = _learned_recall(opened)
    if learned is not None:
        stack.push_async_callback(learned.aclose)
    learner = _learner(opened, model, circuit)
    await learner.start()
    stack.push_async_callback(learner.stop)
    return learner, learned


def _learner(opened: OpenMemory, model: Model, circuit: UpstreamCircuit) -> Learning:
    """Learning over an open home; nothing of it runs yet."""
    config = opened.config
    return put_together(
        Ground(
            home=opened.home,
            state=opened.state,
            clock=opened.clock,
            config=config.learning,
            model=asked_in_background(model),
            embedder=opened.embedder,
            skill_files=opened.skill_files,
            provider=_provider(config, model),
            circuit=circuit,
        )
    )


def _provider(config: Config, model: Model) -> str:
    """The server that learning asks, and its model."""
    name = config.learning.model or model.name
    return name if config.upstream.base_url is None else provider_name(config.upstream.base_url, name)


def _learned_recall(opened: OpenMemory) -> LearnedRecall | None:
    """What of all that was learned joins a turn; None when nothing does."""
    learning, deadline_ms = opened.config.learning, opened.config.memory.recall_ms_max
    if learning.mode == "off" or not learning.recall.enabled:
        return None

    def tiers(text: str) -> tuple[Tier, ...]:
        intent = classify(text)
        asked = tiers_for(intent.kind, intent.confidence, text)
        return asked if learning.mode == "full" else tuple(tier for tier in asked if tier == "traces")

    return LearnedRecall(
        opened.state,
        opened.memory.query_vector,
        opened.clock,
        learning,
        deadline_ms=deadline_ms,
        tiers=tiers,
        signatures=error_signatures,
    )


def _warming(opened: OpenMemory, learned: LearnedRecall | None) -> Callable[[str], Awaitable[None]] | None:
    """What reads the vectors of what an agent has learned, so that no turn waits for them."""
    embedder = opened.embedder
    if learned is None or embedder is None:
        return None

    async def warm(agent: str) -> None:
        if embedder.identity.dims:
            await learned.warm(agent, embedder.identity.dims)

    return warm


async def forgetter_of(opened: OpenMemory, around: Surroundings) -> Forgetter:
    """What forgets in an open home. `around` is what runs beside it."""
    config = opened.config
    seeing = [name for name, plugin in config.plugins.items() if plugin.enabled and plugin.conversation_access]
    told = tuple(f"The plugin {name} sees conversations and may keep copies: look there yourself." for name in seeing)
    threaded = [opened.home.codex(agent) for agent, own in config.agents.items() if own.runtime == "codex"]
    told += tuple(
        f"Codex keeps a record of its threads in {folder / 'sessions'}: delete what is in it while no server runs."
        for folder in threaded
    )
    return Forgetter(
        state=opened.state,
        embeddings_db=opened.embeddings_db,
        memory=opened.memory,
        recalls=opened.evidence,
        workspaces=opened.workspaces,
        skills=opened.skill_files,
        archive=opened.home.archive,
        lasting=MemoryFile(opened.state, opened.workspaces, opened.clock, changes_kept=config.dreaming.changes_kept),
        clock=opened.clock,
        zone=await asyncio.to_thread(zone_named, config.dreaming.time_zone),
        file_bytes_max=config.memory.file_bytes_max,
        around=replace(around, pauses=(*around.pauses, lambda: opened.dreaming), remarks=(*around.remarks, *told)),
    )


async def open_clockwork(
    opened: OpenMemory,
    model: Model | None = None,
    sweep: Sweep | None = None,
    *,
    wake: Callable[[], None] = lambda: None,
    busy: Callable[[], bool] = lambda: False,
) -> Clockwork:
    """What begins the sweeps of a home, in the background or at once.

    `model` is asked if `dreaming.model` names one for it. `sweep` takes the place of the phases.
    """
    settings, sweep = opened.dream_settings, sweep or dreamer_over(opened, model).sweep
    return Clockwork(opened.state, opened.clock, settings, opened.workspaces.values(), sweep, wake=wake, busy=busy)


def dreamer_over(opened: OpenMemory, model: Model | None = None) -> Dreamer:
    """The nights of all agents: what they read, where they promote, whom they may ask, within which budget."""
    settings = opened.dream_settings
    spend = Spend(opened.state, settings)
    promoter = opened.promoter
    if model is not None:
        promoter = promoter.consolidating(Consolidator(model, settings, spend))

    async def put_right(agent: str) -> JsonObject:
        return (await opened.repairer.repair(agent)).as_json()

    return dreamer_of(
        database=opened.state,
        clock=opened.clock,
        recalls=opened.recalls,
        workspaces=opened.workspaces,
        settings=settings,
        origins=opened.origins,
        note_bytes_max=opened.config.memory.file_bytes_max,
        model=model,
        spend=spend,
        promotes=DeepSleep(promoter),
        repair=put_right,
        alone=opened.dreaming,
    )


def choose_embedder(config: MemoryConfig) -> Embedder | None:
    """The embedder of the configuration; None for full text only. Loads nothing yet.

    Raises:
        ConfigError: `embedder` is `openai` and `embedder_base_url` is not set.
    """
    match config.embedder:
        case "none":
            return None
        case "openai":
            return OpenAIEmbedder.from_config(config)
        case "bundled":
            return BundledEmbedder()


def choose_model(config: Config, lanes: ModelLanes | None = None, circuit: UpstreamCircuit | None = None) -> Model:
    """The model of the configuration: the upstream if there is one, else the offline responder.

    `lanes` are the places for its calls; without them it has its own. `circuit` is told how its calls end.
    """
    upstream = config.upstream
    if upstream.base_url is None:
        return OfflineModel()
    key = read_secret(upstream.api_key_env, upstream.api_key_file)
    return OpenAICompatibleModel(upstream, key, lanes=lanes, circuit=circuit)


def _compactor(
    opened: OpenMemory,
    model: Model,
    compactions: Compactions,
    bell: Wake,
    plugins: Plugins,
    owned: Callable[[str], bool],
) -> Compactor:
    config = opened.config
    return Compactor(
        record=compactions,
        model=asked_in_background(model),
        workspace=opened.workspaces.__getitem__,
        clock=opened.clock,
        settings=CompactionSettings(
            config.compaction,
            config.upstream.context_tokens,
            config.sessions.history_messages_max,
            config.memory.file_bytes_max,
        ),
        origins=opened.origins,
        wake=bell.ring,
        told=plugins.on_compaction,
        owned=owned,
    )


def asked_in_background(model: Model) -> Model | None:
    """The model for work that needs one: the offline responder can quote, and neither summarise nor tell."""
    return None if isinstance(model, OfflineModel) else model


def _surroundings(
    model: Model,
    compactor: Compactor,
    estimator: TokenEstimator,
    recorded: Callable[[str], None],
    runtime_of: Callable[[str], Runtime],
) -> EngineSurroundings:
    """What context engines of others are given."""
    complete = None if isinstance(model, OfflineModel) else ModelCompletion(model, asyncio.get_running_loop())
    completes: frozenset[Capability] = frozenset() if complete is None else frozenset({"runtime-llm-complete"})
    return EngineSurroundings(
        built_in=BuiltInEngine(compactor),
        window_only=BuiltInEngine(None),
        estimator=estimator,
        due=compactor.is_due,
        keep_tokens=lambda: compactor.budget.keep,
        adopt=compactor.take_over,
        capabilities=lambda agent: runtime_of(agent).capabilities | completes,
        complete=complete,
        recorded=recorded,
    )


def _chat_runtime(opened: OpenMemory, model: Model) -> ChatRuntime:
    config = opened.config.memory
    tools = opened.tools.definitions() if config.tools else ()
    return ChatRuntime(model, tools, rounds_max=config.tool_rounds_max)


def _codex_figures(runtime: CodexRuntime) -> CodexFigures:
    known = runtime.server.statistics()
    return CodexFigures(known.process.pid, known.process.starts, known.process.deaths, known.unread)


async def _codex_runtimes(
    opened: OpenMemory, compactor: Compactor, door: MemoryDoor | None, launch: Launch | None, stack: AsyncExitStack
) -> dict[str, CodexRuntime]:
    """The runtimes of the agents that run on Codex. What they started ends with the stack."""
    config, runtimes = opened.config, dict[str, CodexRuntime]()
    tools = opened.tools.definitions() if config.memory.tools else ()
    stores = Stores(opened.bindings, opened.thread_log, opened.turns)
    for agent, own in config.agents.items():
        if own.runtime != "codex":
            continue
        settings = CodexSettings(
            agent, own.codex, config.threads_of(agent), opened.workspaces[agent], tools, config.memory.citations
        )
        runtimes[agent] = runtime = await asyncio.to_thread(
            open_codex,
            opened.home.codex(agent),
            settings,
            stores,
            opened.clock,
            door=door if tools else None,
            thread_compacted=compactor.thread_compacted,
            launch=launch,
        )
        stack.push_async_callback(runtime.server.aclose)
    return runtimes


def _turn_runner(
    opened: OpenMemory,
    runtime_of: Callable[[str], Runtime],
    background: Background,
    plugins: Plugins,
    compactor: Compactor,
    engines: Engines,
    estimator: TokenEstimator,
    fragments: FragmentReader,
    condensed: CondensedFragments,
    learned: LearnedRecall | None,
) -> TurnRunner:
    config = opened.config
    return TurnRunner(
        turns=opened.turns,
        memory=opened.memory,
        evidence=opened.evidence,
        tools=opened.tools,
        fragments=fragments,
        condensed=condensed,
        workspace=opened.workspaces.__getitem__,
        runtimes=runtime_of,
        estimator=estimator,
        settings=TurnSettings(
            window_tokens=config.upstream.context_tokens,
            output_tokens=config.upstream.output_tokens,
            recall_hits=config.memory.recall_hits,
            recall_score_min=config.memory.recall_score_min,
            recall_tokens_max=config.memory.recall_tokens_max,
            recall_ms_max=config.memory.recall_ms_max,
            history_messages_max=config.sessions.history_messages_max,
            citations=config.memory.citations,
            learned_share=config.learning.recall.share,
        ),
        follow_up=background.turn_ended,
        plugins=plugins,
        compactor=compactor,
        engines=engines,
        learned=None if learned is None else TurnRecall(learned, opened.state, opened.clock, note_exposures),
    )


def _prepare_home(home: Home, config: Config) -> dict[str, Path]:
    """Create what is missing of a home; returns each agent's workspace, the default agent's first."""
    try:
        home.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        names = dict.fromkeys([*config.agent_names(), *_agent_folders(home)])
        workspaces = {name: home.workspace(config, name) for name in names}
        for workspace in workspaces.values():
            create_workspace(workspace)
    except OSError as error:
        message = f"the home {home.path} cannot be written ({error.strerror or error}): choose another with --home."
        raise HomeReadOnlyError(message) from error
    return workspaces


def _sharing(workspaces: Mapping[str, Path]) -> dict[str, list[str]]:
    """For each agent all agents that have its workspace, itself among them."""
    places = {agent: workspace.resolve() for agent, workspace in workspaces.items()}
    return {agent: [other for other in places if places[other] == place] for agent, place in places.items()}


def _agent_folders(home: Home) -> list[str]:
    return sorted(folder.parent.name for folder in (home.path / "agents").glob("*/workspace") if folder.is_dir())


def _take(home: Home) -> filelock.BaseFileLock:
    """Take the home for this process; the lock ends with the process, however it ends."""
    lock = filelock.FileLock(home.lock_file, thread_local=False)
    owner = home.path / "reverie.pid"
    try:
        lock.acquire(timeout=0)
        owner.write_text(f"{os.getpid()}\n", encoding="utf-8")
    except filelock.Timeout as error:
        pid = _read_owner(owner)
        message = (
            f"{home.path} is in use by another Reverie{pid}: stop it first, or choose another home with --home. "
            "`reverie search`, `status` and `import` work beside it."
        )
        raise HomeInUseError(message) from error
    except OSError as error:
        message = f"the home {home.path} cannot be written ({error.strerror or error}): choose another with --home."
        raise HomeReadOnlyError(message) from error
    return lock


def _read_owner(path: Path) -> str:
    try:
        return f" (process {int(path.read_text(encoding='utf-8'))})"
    except (OSError, ValueError):
        return ""
