"""Calling plugins, so that nothing they do reaches a turn.

    before_turn      all plugins side by side; the turn waits for the slowest, within its deadline
    after_turn       an event in each plugin's own line; a task a plugin takes them one by one
    on_compaction    as above
    on_reset         as above

A call that raises, is late, or returns what it may not is a failure: logged, counted, and put into the session's stream
as `plugin.failed`. What plugins add to streams is written by one task; when it cannot keep up, the oldest are dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from reverie.errors import PluginBusyError, StorageError
from reverie.plugins.contract import NOTE_CHARACTERS_MAX, AddedEvent, Plugin, PluginContext, TurnNote
from reverie.plugins.event_log import FAILED
from reverie.plugins.events import ResetText, SessionReset, result_of, turn_ended, turn_starting, withheld
from reverie.plugins.found import chosen_plugins, hooks_of, make_plugin
from reverie.plugins.pauses import Standing, after_failure
from reverie.plugins.threads import PluginThreads, Raised
from reverie.plugins.transcripts import GrantedTranscripts
from reverie.plugins.waiting import WaitingEvents
from reverie.tasks import OwnedTasks
from reverie.types import Gauge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from reverie.clock import Clock
    from reverie.config import PluginConfig
    from reverie.plugins.contract import Transcripts
    from reverie.plugins.event_log import PluginEventLog
    from reverie.plugins.events import (
        CompactionStep,
        PluginEvent,
        TurnEnded,
        TurnResult,
        TurnStarting,
    )
    from reverie.plugins.found import OfferedPlugin
    from reverie.sessions.events import TurnFailed, TurnFinished
    from reverie.sessions.rollover import RollOver
    from reverie.types import Turn

log = structlog.get_logger(__name__)

LOAD_S_MAX = 10.0
CLOSE_S_MAX = 5.0
DRAIN_S_MAX = 2.0
SETTLE_POLL_S = 0.005
POLL_S = 1.0
"""How often a plugin that is not called is asked for events and failures of tasks of its own."""
EVENTS_TO_WRITE_MAX = 1_000
EVENTS_A_WRITE = 100


@dataclass(frozen=True, slots=True)
class PluginStatistics:
    """How a plugin has been doing since the start.

    `problem` is why it could not be loaded, empty when it was; `last_failure` names hook and cause, empty when there
    was none. `dropped` are events that gave way because it was too slow, `skipped` those of its pauses.
    """

    name: str
    package: str
    version: str
    conversation_access: bool
    hooks: tuple[str, ...]
    calls: int
    failures: int
    skipped: int
    dropped: int
    paused_s: float
    last_failure: str
    problem: str


@dataclass(slots=True)
class _Hosted:
    """A plugin in use, and what is known of it."""

    offered: OfferedPlugin
    config: PluginConfig
    context: PluginContext
    threads: PluginThreads
    plugin: Plugin | None = None
    hooks: frozenset[str] = frozenset()
    problem: str = ""
    standing: Standing = field(default_factory=Standing)
    waiting: WaitingEvents = field(default_factory=WaitingEvents)
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    busy: bool = False
    calls: int = 0
    failures: int = 0
    skipped: int = 0
    last_failure: str = ""

    @property
    def name(self) -> str:
        return self.offered.name


class Plugins:
    """The plugins of a running Reverie. Use `open_plugins`.

    `recorded` is called with a session's key when an event of a plugin stands in its stream.
    """

    def __init__(self, log: PluginEventLog, clock: Clock, recorded: Callable[[str], None] = lambda _: None) -> None:
        self._log = log
        self._clock = clock
        self._recorded = recorded
        self._hosted: list[_Hosted] = []
        self._to_write: deque[AddedEvent] = deque(maxlen=EVENTS_TO_WRITE_MAX)
        self._write_bell = asyncio.Event()
        self._writing = False

    # -- the hooks -----------------------------------------------------------------------------------------------

    def wanted(self, hook: str) -> bool:
        """True when a plugin has this hook: else its event need not be made."""
        return any(hook in hosted.hooks for hosted in self._hosted)

    async def turn_starts(self, turn: Turn, *, history_messages: int) -> tuple[tuple[str, str], ...]:
        """`before_turn` for a turn, if a plugin has it."""
        if not self.wanted("before_turn"):
            return ()
        event = turn_starting(turn, history_messages=history_messages, now_ms=self._clock.now_ms())
        return await self.before_turn(event)

    def turn_ends(self, turn: Turn, result: TurnResult) -> None:
        """`after_turn` for a turn, if a plugin has it."""
        if self.wanted("after_turn"):
            self.after_turn(turn_ended(turn, result, self._clock.now_ms()))

    def turn_unanswered(self, turn: Turn, end: TurnFinished | TurnFailed) -> None:
        """`after_turn` for a turn that was cut off, failed or cancelled; its end is on disk."""
        self.turn_ends(turn, result_of(end))

    def session_was_reset(self, rolled: RollOver) -> None:
        """`on_reset` for a session that has ended, if a plugin has it."""
        if not self.wanted("on_reset"):
            return
        text = ResetText(rolled.key.value, rolled.continuity)
        self.on_reset(
            SessionReset(
                rolled.ended_id,
                rolled.session_id,
                rolled.key.agent,
                self._clock.now_ms(),
                rolled.reason,
                rolled.messages,
                text,
            )
        )

    async def before_turn(self, event: TurnStarting) -> tuple[tuple[str, str], ...]:
        """Call `before_turn` of every plugin; the notes for the prompt, each with its plugin's name. Never raises."""
        asked = [hosted for hosted in self._hosted if "before_turn" in hosted.hooks]
        if not asked:
            return ()
        notes = await asyncio.gather(*(self._ask(hosted, event) for hosted in asked))
        return tuple((hosted.name, note) for hosted, note in zip(asked, notes, strict=True) if note)

    def after_turn(self, event: TurnEnded) -> None:
        """A turn's end is on disk. Nobody waits: the plugins are told in the background."""
        self._tell("after_turn", event)

    def on_compaction(self, event: CompactionStep) -> None:
        """A step of a compaction is on disk. Nobody waits."""
        self._tell("on_compaction", event)

    def on_reset(self, event: SessionReset) -> None:
        """A reset is on disk. Nobody waits."""
        self._tell("on_reset", event)

    def statistics(self) -> tuple[PluginStatistics, ...]:
        """How each plugin has been doing."""
        now_s = self._clock.monotonic_s()
        return tuple(
            PluginStatistics(
                name=hosted.name,
                package=hosted.offered.package,
                version=hosted.offered.version,
                conversation_access=hosted.config.conversation_access,
                hooks=tuple(sorted(hosted.hooks)),
                calls=hosted.calls,
                failures=hosted.failures,
                skipped=hosted.skipped,
                dropped=hosted.waiting.dropped,
                paused_s=hosted.standing.paused_s(now_s),
                last_failure=hosted.last_failure,
                problem=hosted.problem,
            )
            for hosted in self._hosted
        )

    def gauges(self) -> list[Gauge]:
        """Figures of all plugins together, for metrics."""
        figures = self.statistics()
        return [
            Gauge("plugins", "Plugins that are switched on.", len(figures)),
            Gauge("plugins_paused", "Plugins that rest after failures.", sum(each.paused_s > 0 for each in figures)),
            Gauge("plugin_events_dropped", "Events plugins were too slow for.", sum(each.dropped for each in figures)),
        ]

    async def settle(self) -> None:
        """Wait until every event that waits has been told and every event of a plugin is written."""
        while self._under_way():  # noqa: ASYNC110 (only tests and the end wait for this)
            await asyncio.sleep(SETTLE_POLL_S)

    def _under_way(self) -> bool:
        return bool(self._to_write) or self._writing or any(each.waiting or each.busy for each in self._hosted)

    # -- one call ------------------------------------------------------------------------------------------------

    async def _ask(self, hosted: _Hosted, event: TurnStarting) -> str:
        answer = await self._call(hosted, "before_turn", event, hosted.config.deadline_ms)
        match answer:
            case None:
                return ""
            case TurnNote(str() as text) if hosted.config.conversation_access:
                return text.strip()[:NOTE_CHARACTERS_MAX]
            case TurnNote() if not hosted.config.conversation_access:
                self._failed(hosted, "before_turn", "a note needs the grant conversation_access", event)
            case _:
                self._failed(hosted, "before_turn", f"returned {type(answer).__name__}, not a TurnNote of text", event)
        return ""

    async def _call(self, hosted: _Hosted, hook: str, event: PluginEvent, deadline_ms: int) -> object:
        """What a hook returned; None when it failed, or was not called because the plugin is paused."""
        if hosted.standing.paused_s(self._clock.monotonic_s()):
            hosted.skipped += 1
            return None
        shown = event if hosted.config.conversation_access else withheld(event)
        hosted.calls += 1
        try:
            future = hosted.threads.call(getattr(hosted.plugin, hook), shown)
            async with asyncio.timeout(deadline_ms / 1000):
                outcome = await asyncio.wrap_future(future)
        except TimeoutError:
            self._failed(hosted, hook, f"took longer than {deadline_ms} ms", event)
            return None
        except PluginBusyError as error:
            self._failed(hosted, hook, str(error), event)
            return None
        finally:
            self._collect(hosted)
        if isinstance(outcome, Raised):
            self._failed(hosted, hook, outcome.error.told(private=hosted.config.conversation_access), event)
            return None
        hosted.standing = Standing()
        return outcome.value

    def _failed(self, hosted: _Hosted, hook: str, error: str, event: PluginEvent | None) -> None:
        """Report a failure; it costs nobody but the plugin anything."""
        now_s = self._clock.monotonic_s()
        hosted.failures += 1
        hosted.last_failure = f"{hook}: {error}"
        hosted.standing = after_failure(hosted.standing, now_s)
        paused_s = round(hosted.standing.paused_s(now_s), 1)
        log.warning(
            "a plugin failed", action="plugin_failed", plugin=hosted.name, hook=hook, cause=error, paused_s=paused_s
        )
        if event is not None:
            data = {"plugin": hosted.name, "hook": hook, "error": error, "paused_s": paused_s}
            turn_id = getattr(event, "turn_id", None)
            self._write([AddedEvent(event.session_id, FAILED, data, turn_id)])

    def _collect(self, hosted: _Hosted) -> None:
        """Take over what a plugin added to streams and what it reported of its own tasks."""
        self._write(hosted.context.take_events())
        for error in hosted.context.take_failures():
            self._failed(hosted, "a task of its own", error.told(private=hosted.config.conversation_access), None)

    # -- background ----------------------------------------------------------------------------------------------

    def _tell(self, hook: str, event: PluginEvent) -> None:
        for hosted in self._hosted:
            if hook in hosted.hooks:
                hosted.waiting.add(hook, event if hosted.config.conversation_access else withheld(event))
                hosted.bell.set()

    async def _serve(self, hosted: _Hosted) -> None:
        """Tell a plugin what waits for it, one by one."""
        while True:
            while (waiting := hosted.waiting.take()) is not None:
                hosted.busy = True
                try:
                    await self._call(hosted, waiting[0], waiting[1], hosted.config.background_deadline_ms)
                finally:
                    hosted.busy = False
            self._collect(hosted)
            await _heard(hosted.bell)

    def _write(self, events: list[AddedEvent]) -> None:
        if events:
            self._to_write.extend(events)
            self._write_bell.set()

    async def _write_events(self) -> None:
        while True:
            while self._to_write:
                events = [self._to_write.popleft() for _ in range(min(EVENTS_A_WRITE, len(self._to_write)))]
                self._writing = True
                try:
                    for key in dict.fromkeys(await self._log.add(events, self._clock.now_ms())):
                        self._recorded(key)
                except StorageError as error:
                    log.warning("events of plugins were lost", action="plugin_events_lost", cause=str(error))
                finally:
                    self._writing = False
            await _heard(self._write_bell)

    # -- start and stop ------------------------------------------------------------------------------------------

    async def load(
        self, chosen: list[OfferedPlugin], configs: Mapping[str, PluginConfig], transcripts: Transcripts | None
    ) -> None:
        """Load plugins, side by side, each within `LOAD_S_MAX` seconds; one that cannot be is reported and not used."""
        for offered in chosen:
            config = configs[offered.name]
            granted = GrantedTranscripts(transcripts) if transcripts and config.conversation_access else None
            context = PluginContext(offered.name, deepcopy(config.settings), granted)
            threads = await asyncio.to_thread(PluginThreads, offered.name)
            self._hosted.append(_Hosted(offered, config, context, threads))
        await asyncio.gather(*(self._make(hosted) for hosted in self._hosted))

    async def _make(self, hosted: _Hosted) -> None:
        try:
            async with asyncio.timeout(LOAD_S_MAX):
                future = hosted.threads.call(make_plugin, hosted.offered, hosted.context)
                outcome = await asyncio.wrap_future(future)
        except TimeoutError:
            hosted.problem = f"took longer than {LOAD_S_MAX:g} s to load"
        else:
            if isinstance(outcome, Raised):
                hosted.problem = outcome.error.told(private=False)
            else:
                plugin: Any = outcome.value
                hosted.plugin, hosted.hooks = plugin, hooks_of(plugin)
        if hosted.problem:
            log.error("a plugin is not used", action="plugin_broken", plugin=hosted.name, cause=hosted.problem)
        else:
            log.info("a plugin is used", action="plugin_loaded", plugin=hosted.name, hooks=sorted(hosted.hooks))

    def start(self, tasks: OwnedTasks) -> None:
        """Start telling plugins what happens; it ends with `tasks`."""
        if not self._hosted:
            return
        tasks.start(self._write_events(), name="plugin events")
        for hosted in self._hosted:
            if hosted.plugin is not None:
                tasks.start(self._serve(hosted), name=f"plugin {hosted.name}")

    async def drain(self) -> None:
        """Tell what still waits and let the plugins finish, for a bounded time."""
        try:
            async with asyncio.timeout(DRAIN_S_MAX):
                await self.settle()
        except TimeoutError:
            log.warning("events still waited for plugins", action="plugin_events_lost", cause="Reverie stops")
        await asyncio.gather(*(self._close(hosted) for hosted in self._hosted))
        try:
            async with asyncio.timeout(DRAIN_S_MAX):
                await self.settle()
        except TimeoutError:
            return

    async def _close(self, hosted: _Hosted) -> None:
        if hosted.plugin is None or type(hosted.plugin).close is Plugin.close:
            return
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                outcome = await asyncio.wrap_future(hosted.threads.call(hosted.plugin.close))
        except (TimeoutError, PluginBusyError):
            self._failed(hosted, "close", f"took longer than {CLOSE_S_MAX:g} s", None)
            return
        self._collect(hosted)
        if isinstance(outcome, Raised):
            self._failed(hosted, "close", outcome.error.told(private=hosted.config.conversation_access), None)

    async def aclose(self) -> None:
        """End the plugins' threads. One that a hook still holds ends with the process."""
        ended = await asyncio.gather(
            *(asyncio.to_thread(hosted.threads.close, 1.0) for hosted in self._hosted)
        )  # fmt: skip
        for hosted, all_ended in zip(self._hosted, ended, strict=True):
            if not all_ended:
                log.warning("a plugin holds a thread", action="plugin_thread_held", plugin=hosted.name)


async def _heard(bell: asyncio.Event) -> None:
    """Sleep until the bell rings, at most `POLL_S` seconds."""
    try:
        async with asyncio.timeout(POLL_S):
            await bell.wait()
    except TimeoutError:
        return
    finally:
        bell.clear()


@asynccontextmanager
async def open_plugins(
    configs: Mapping[str, PluginConfig],
    event_log: PluginEventLog,
    clock: Clock,
    transcripts: Transcripts | None = None,
    *,
    recorded: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[Plugins]:
    """The plugins that the configuration names, until the block is left; then they are told the rest and closed.

    Raises:
        ConfigError: no installed package offers one of them.
    """
    plugins = Plugins(event_log, clock, recorded)
    chosen = await asyncio.to_thread(chosen_plugins, configs)
    async with OwnedTasks() as tasks:
        try:
            await plugins.load(chosen, configs, transcripts)
            plugins.start(tasks)
            yield plugins
        finally:
            await plugins.drain()
            await plugins.aclose()
