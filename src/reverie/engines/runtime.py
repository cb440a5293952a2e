"""Which agent has which context engine; making them at the start, and ending them.

builtin, legacy       the built-in engine
another name          the engine that an installed package offers under it, one for all agents that name it
missing, invalid      the built-in engine, and it is said: quarantined before its first turn
unmet requirements    an error of the configuration: nothing starts
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from reverie.context.contract import BUILT_IN, EngineContext, engine_id
from reverie.engines.event_log import QUARANTINED
from reverie.engines.found import MadeEngine, make_engine, offered_engines, the_one
from reverie.engines.hosted import Deadlines, HostedEngine, Neighbours
from reverie.engines.isolation import BusyError, Isolated, LateError, RaisedError
from reverie.errors import ConfigError, EngineError, EngineUnsupportedError, StorageError
from reverie.plugins.contract import AddedEvent
from reverie.tasks import OwnedTasks
from reverie.types import Gauge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

    from reverie.clock import Clock
    from reverie.config import Config
    from reverie.context.compaction.budget import Load
    from reverie.context.contract import (
        Capability,
        Compacted,
        CompactRequest,
        Complete,
        EngineSession,
        Operation,
    )
    from reverie.engines.engine import Engine
    from reverie.engines.found import OfferedEngine
    from reverie.llm.tokens import TokenEstimator
    from reverie.plugins.event_log import PluginEventLog

log = structlog.get_logger(__name__)

LOAD_S_MAX = 10.0
DRAIN_S_MAX = 2.0
TOLD_MAX = 100
"""Events of quarantines that wait to be written; there is one for each engine."""


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """How an engine has been doing. `quarantined` is why it is not asked any more; empty while it is."""

    name: str
    id: str
    package: str
    version: str
    agents: tuple[str, ...]
    calls: int
    quarantined: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What engines are given of the rest of Reverie.

    `capabilities` are what the runtime of an agent does for an engine. The others are as in `hosted.Neighbours`.
    `recorded` is called with a session's key when an event of an engine stands in its stream.
    """

    built_in: Engine
    window_only: Engine
    estimator: TokenEstimator
    due: Callable[[Load], bool]
    keep_tokens: Callable[[], int]
    adopt: Callable[[CompactRequest, Compacted, str], Awaitable[bool]]
    capabilities: Callable[[str], frozenset[Capability]]
    complete: Complete | None = None
    recorded: Callable[[str], None] = lambda _: None


@dataclass(slots=True)
class _Chosen:
    """An engine that the configuration names, and what became of it."""

    name: str
    agents: tuple[str, ...]
    offered: OfferedEngine | None = None
    isolated: Isolated | None = None
    hosted: HostedEngine | None = None
    problem: str = ""
    untold: tuple[str, str] | None = None
    events: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    @property
    def quarantined(self) -> str:
        """Why it is not asked any more."""
        return self.problem or (self.hosted.quarantined if self.hosted is not None else "")


class Engines:
    """The context engines of a running Reverie. Use `open_engines`."""

    def __init__(
        self, around: Surroundings, event_log: PluginEventLog, clock: Clock, tasks: OwnedTasks, deadlines: Deadlines
    ) -> None:
        self._around = around
        self._log = event_log
        self._clock = clock
        self._tasks = tasks
        self._deadlines = deadlines
        self._chosen: dict[str, _Chosen] = {}
        self._of_agent: dict[str, _Chosen] = {}

    def of(self, session: EngineSession) -> Engine:
        """The engine for a session's turn: what its agent has chosen, or the built-in one where that is out of service.

        Raises:
            EngineUnsupportedError: it needs what the agent's runtime does not have.
        """
        chosen = self._of_agent.get(session.agent)
        if chosen is None:
            return self._around.built_in
        self._tell(chosen, session)
        if chosen.hosted is None or chosen.hosted.quarantined:
            return self._around.built_in
        self.require(session.agent, "agent-run")
        return chosen.hosted

    def owns_compaction(self, agent: str) -> bool:
        """Whether Reverie is not to compact an agent's sessions by itself."""
        chosen = self._of_agent.get(agent)
        hosted = None if chosen is None else chosen.hosted
        return hosted is not None and not hosted.quarantined and hosted.info.owns_compaction

    def require(self, agent: str, operation: Operation) -> None:
        """Check that the agent's engine has what it needs for an operation.

        Raises:
            EngineUnsupportedError: it has not; the words are the engine's.
        """
        chosen = self._of_agent.get(agent)
        if chosen is None or chosen.hosted is None or chosen.hosted.quarantined:
            return
        info = chosen.hosted.info
        missing = info.missing(operation, self._around.capabilities(agent))
        if missing:
            said = info.host_requirements[operation].unsupported_message
            raise EngineUnsupportedError(f"{said} (context engine {info.id!r} needs {', '.join(missing)})")

    def statistics(self) -> tuple[EngineStatistics, ...]:
        """How each engine has been doing."""
        return tuple(
            EngineStatistics(
                name=each.name,
                id=each.hosted.info.id if each.hosted is not None else "",
                package=each.offered.package if each.offered is not None else "",
                version=each.offered.version if each.offered is not None else "",
                agents=each.agents,
                calls=each.hosted.calls if each.hosted is not None else 0,
                quarantined=each.quarantined,
            )
            for each in self._chosen.values()
        )

    def gauges(self) -> list[Gauge]:
        """Figures of all engines, for metrics."""
        found: list[Gauge] = []
        for each in self.statistics():
            label = (("engine", each.name),)
            found.append(
                Gauge("engine_quarantined", "1 when an engine is not asked any more.", bool(each.quarantined), label)
            )
            found.append(Gauge("engine_calls", "Operations an engine was asked for.", each.calls, label))
        return found

    async def settle(self) -> None:
        """Wait until what follows turns is done and every event is written."""
        for each in self._chosen.values():
            if each.hosted is not None:
                await each.hosted.settle()
            while each.events:
                await asyncio.wait(each.events)

    # -- start and stop ------------------------------------------------------------------------------------------

    async def load(self, config: Config, agents: Iterable[str]) -> None:
        """Make the engines that the configuration names for agents, side by side, each within `LOAD_S_MAX` seconds.

        Raises:
            ConfigError: one needs what the runtime of an agent does not have.
        """
        for name, users in chosen_engines(config, agents).items():
            chosen = self._chosen[name] = _Chosen(name, users)
            self._of_agent |= dict.fromkeys(users, chosen)
        if not self._chosen:
            return
        offered = await asyncio.to_thread(offered_engines)
        await asyncio.gather(
            *(self._make(each, offered, config.context.settings.get(each.name, {})) for each in self._chosen.values())
        )
        for each in self._chosen.values():
            self._check_requirements(each, config)

    async def _make(
        self, chosen: _Chosen, offered: Mapping[str, tuple[OfferedEngine, ...]], settings: Mapping[str, Any]
    ) -> None:
        try:
            chosen.offered = the_one(chosen.name, offered.get(chosen.name, ()))
            chosen.isolated = await Isolated.open(chosen.name)
            context = EngineContext(chosen.name, deepcopy(dict(settings)), self._around.complete)
            made = await chosen.isolated.call(make_engine, chosen.offered, context, within_ms=int(LOAD_S_MAX * 1000))
        except EngineError as error:
            self._out_of_service(chosen, "load", str(error), None)
        except RaisedError as error:
            self._out_of_service(chosen, "load", error.words.told(private=False), None)
        except (LateError, BusyError) as error:
            self._out_of_service(chosen, "load", str(error), None)
        else:
            assert isinstance(made, MadeEngine), "it is what makes one that was called"
            chosen.hosted = HostedEngine(made, chosen.isolated, self._deadlines, self._tasks, self._neighbours(chosen))
            log.info("a context engine is used", action="engine_loaded", engine=chosen.name, agents=chosen.agents)

    def _neighbours(self, chosen: _Chosen) -> Neighbours:
        around = self._around
        return Neighbours(
            built_in=around.built_in,
            window_only=around.window_only,
            estimator=around.estimator,
            due=around.due,
            keep_tokens=around.keep_tokens,
            adopt=around.adopt,
            failed=lambda operation, cause, session: self._out_of_service(chosen, operation, cause, session),
        )

    def _check_requirements(self, chosen: _Chosen, config: Config) -> None:
        for agent in chosen.agents:
            try:
                self.require(agent, "agent-run")
            except EngineUnsupportedError as error:
                own = agent in config.agents and config.agents[agent].engine is not None
                key = f"agents.{agent}.engine" if own else "context.engine"
                raise ConfigError(key, chosen.name, f"{error}; the agent {agent!r} cannot run with it") from error

    async def aclose(self) -> None:
        """Finish what follows turns, let the engines end, end their threads; all of it within a bounded time."""
        try:
            async with asyncio.timeout(DRAIN_S_MAX):
                await self.settle()
        except TimeoutError:
            log.warning("context engines had something left to do", action="engine_work_lost", cause="Reverie stops")
        await asyncio.gather(*(_ended(each) for each in self._chosen.values()))

    # -- out of service ------------------------------------------------------------------------------------------

    def _out_of_service(self, chosen: _Chosen, operation: str, cause: str, session: EngineSession | None) -> None:
        """Say that an engine is not asked any more; without a session, the next one that would have had it is told."""
        log.error("a context engine is out of service: the built-in one goes on", action="engine_quarantined",
                  engine=chosen.name, operation=operation, cause=cause)  # fmt: skip
        if chosen.hosted is None:
            chosen.problem = f"{operation}: {cause}"
        chosen.untold = (operation, cause)
        if session is not None:
            self._tell(chosen, session)

    def _tell(self, chosen: _Chosen, session: EngineSession) -> None:
        """Put an engine's end into the stream of a session, once."""
        if chosen.untold is None:
            return
        (operation, cause), chosen.untold = chosen.untold, None
        data = {"engine": chosen.name, "operation": operation, "error": cause}
        event = AddedEvent(session.id, QUARANTINED, data)
        task = self._tasks.start(self._record(event), name=f"engine event {chosen.name}")
        chosen.events.append(task)
        task.add_done_callback(chosen.events.remove)

    async def _record(self, event: AddedEvent) -> None:
        try:
            for key in await self._log.add([event], self._clock.now_ms()):
                self._around.recorded(key)
        except StorageError as error:
            log.warning("an event of a context engine was lost", action="engine_event_lost", cause=str(error))


def chosen_engines(config: Config, agents: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The engines that a configuration names, each with its agents; agents of the built-in one are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for agent in agents:
        name = engine_id(config.engine_of(agent))
        if name != BUILT_IN:
            found[name] = (*found.get(name, ()), agent)
    return found


async def _ended(chosen: _Chosen) -> None:
    if chosen.hosted is not None:
        await chosen.hosted.dispose()
    if chosen.isolated is not None and not await chosen.isolated.close():
        log.warning("a context engine holds a thread", action="engine_thread_held", engine=chosen.name)


@asynccontextmanager
async def open_engines(
    config: Config, agents: Iterable[str], around: Surroundings, event_log: PluginEventLog, clock: Clock
) -> AsyncGenerator[Engines]:
    """The engines that the configuration names for agents, until the block is left.

    Raises:
        ConfigError: one needs what the runtime of an agent does not have.
    """
    async with OwnedTasks() as tasks:
        deadlines = Deadlines(config.context.deadline_ms, config.context.background_deadline_ms)
        engines = Engines(around, event_log, clock, tasks, deadlines)
        try:
            await engines.load(config, agents)
            yield engines
        finally:
            await engines.aclose()
