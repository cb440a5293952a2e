"""Plugins of an installed package: what they get, and that nothing they do reaches a turn."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from contextlib import asynccontextmanager
from types import FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from reverie.config import Config
from reverie.errors import (
    ConfigError,
    TurnCancelledError,
    TurnExpiredError,
    UpstreamTimeoutError,
)
from reverie.plugins import CompactionStep, CompactionText, ResetText, SessionReset, TurnEnded
from reverie.plugins.event_log import PluginEventLog
from reverie.plugins.events import TurnResult, turn_ended
from reverie.plugins.runtime import open_plugins
from reverie.plugins.threads import CALLS_MAX, FUNCTION_THREADS_MAX
from reverie.sessions.events import TurnFailed
from reverie.sessions.turns import TurnStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import Message, SessionKey, TurnRequest
from tests.plugin_package import install, on_path

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from reverie.errors import ReverieError
    from reverie.plugins.runtime import Plugins
    from reverie.types import Turn

pytestmark = pytest.mark.anyio

SECRET = "the cellar key hangs behind the clock"
KEY = "agent:main:telegram:direct:+49151"


class World:
    """A state database with one session, and packages on the path."""

    def __init__(self, site: Path, database: Database, clock: FakeClock, turn: Turn) -> None:
        self.site = site
        self.clock = clock
        self.turn = turn
        self.database = database
        self.log = PluginEventLog(database)
        self.told: list[str] = []
        self.module: Any = None

    @asynccontextmanager
    async def plugins(self, code: str, **configs: dict[str, Any]) -> AsyncGenerator[Plugins]:
        """A package with one plugin `Its` under each configured name; `self.module` is its module."""
        name = await asyncio.to_thread(install, self.site, code, dict.fromkeys(configs, "Its"))
        config = Config.model_validate({"plugins": configs})
        async with open_plugins(config.plugins, self.log, self.clock, recorded=self.told.append) as plugins:
            self.module = sys.modules.get(name)
            yield plugins

    async def before(self, plugins: Plugins) -> tuple[tuple[str, str], ...]:
        return await plugins.turn_starts(self.turn, history_messages=4)

    def ended(self) -> TurnEnded:
        return turn_ended(self.turn, TurnResult("answered", f"Yes: {SECRET}"), self.clock.now_ms())

    async def events(self) -> list[tuple[Any, ...]]:
        rows = await asyncio.to_thread(self._rows)
        return [row for row in rows if not row[0].startswith("turn.")]

    def _rows(self) -> list[tuple[Any, ...]]:
        import apsw

        connection = apsw.Connection(str(self.database.path))
        try:
            return list(connection.execute("SELECT kind, session_key, turn_id, data FROM session_events ORDER BY id"))
        finally:
            connection.close()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[World]:
    """An accepted turn whose text is a secret."""
    site = tmp_path / "site"
    await asyncio.to_thread(site.mkdir)
    on_path(monkeypatch, site)
    clock = FakeClock()
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=clock.now_ms())
    request = TurnRequest("t1", SessionKey("main", KEY), (Message("user", SECRET),))
    turn = (await TurnStore(database, clock).accept(request, waits=False)).turn
    yield World(site, database, clock, turn)
    await database.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def step(session_id: str, state: Any = "started") -> CompactionStep:
    words = CompactionText(KEY, "", SECRET)
    return CompactionStep("c1", session_id, "main", 1, state, "threshold", 1, 8, 900, None, 1000, words)


def reset(session_id: str, reason: str = "manual") -> SessionReset:
    return SessionReset(session_id, "s2", "main", 1, reason, 8, ResetText(KEY, SECRET))


RECORDER = """
class Its(Plugin):
    def before_turn(self, event): SEEN.append(("before_turn", event))
    async def after_turn(self, event): SEEN.append(("after_turn", event))
    def on_compaction(self, event): SEEN.append(("on_compaction", event))
    async def on_reset(self, event): SEEN.append(("on_reset", event))
    def close(self): SEEN.append(("close", None))
"""


async def test_each_hook_is_called_with_what_was_granted(world: World) -> None:
    """With the grant a plugin sees what was said, from the input to the summary."""
    async with world.plugins(RECORDER, diary={"conversation_access": True}) as plugins:
        await world.before(plugins)
        plugins.after_turn(world.ended())
        plugins.on_compaction(step(world.turn.session_id))
        plugins.on_reset(reset(world.turn.session_id))
        await plugins.settle()
        (figures,) = plugins.statistics()

    seen = world.module.SEEN
    assert [hook for hook, _ in seen] == ["before_turn", "after_turn", "on_compaction", "on_reset", "close"]
    assert [SECRET in repr(event.conversation) for _, event in seen[:4]] == [True] * 4
    assert seen[1][1] == world.ended()
    assert (figures.name, figures.version, figures.calls, figures.failures) == ("diary", "1.2", 4, 0)
    assert figures.hooks == ("after_turn", "before_turn", "on_compaction", "on_reset")


@pytest.mark.parametrize("granted", [False, True])
async def test_without_the_grant_nothing_leads_to_the_conversation(world: World, *, granted: bool) -> None:
    """From the plugin and everything it was given no text of the conversation and no key can be reached."""
    made = "class Its(Plugin):\n    def __init__(self, context): SEEN.append(self); super().__init__(context)"
    async with world.plugins(
        RECORDER.replace("class Its(Plugin):", made), diary={"conversation_access": granted}
    ) as plugins:
        await world.before(plugins)
        plugins.after_turn(world.ended())
        plugins.on_compaction(step(world.turn.session_id))
        plugins.on_reset(reset(world.turn.session_id))
        await plugins.settle()
        seen = world.module.SEEN
        texts = reachable_texts(seen)

    assert len(seen) == 6
    assert {"t1", world.turn.session_id} <= texts
    assert {text for text in texts if SECRET in text or KEY in text} == (
        {SECRET, f"Yes: {SECRET}", KEY} if granted else set()
    )


def reachable_texts(root: object) -> set[str]:
    """Every string that can be reached from an object through what it holds."""
    found: set[str] = set()
    known: set[int] = set()
    waiting: list[object] = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in known or isinstance(one, type | ModuleType | FrameType | FunctionType):
            continue
        known.add(id(one))
        if isinstance(one, str):
            found.add(one)
        waiting.extend(gc.get_referents(one))
    return found


async def test_a_note_reaches_the_prompt_with_the_grant_alone(world: World) -> None:
    """A granted plugin's note is taken, at most 2,000 characters of it; another's is a failure."""
    code = "class Its(Plugin):\n    async def before_turn(self, event): return TurnNote('  sunny ' + 'x' * 9000)"
    async with world.plugins(code, weather={"conversation_access": True}, other={}) as plugins:
        notes = await world.before(plugins)
        _, other = plugins.statistics()

    assert notes == (("weather", "sunny " + "x" * 1994),)
    assert other.last_failure == "before_turn: a note needs the grant conversation_access"


async def test_a_hook_that_raises_is_reported_and_nothing_else(world: World) -> None:
    """The turn gets no note, the stream tells of it, and another plugin is not touched."""
    code = """
    class Its(Plugin):
        def before_turn(self, event):
            if self.context.name == "bad":
                raise ValueError("no such street")
            SEEN.append(event)
    """
    async with world.plugins(code, bad={}, good={}) as plugins:
        assert await world.before(plugins) == ()
        await plugins.settle()
        bad, good = plugins.statistics()

    assert (bad.failures, bad.last_failure) == (1, "before_turn: ValueError: no such street")
    assert (good.calls, good.failures, len(world.module.SEEN)) == (1, 0, 1)
    data = '{"plugin":"bad","hook":"before_turn","error":"ValueError: no such street","paused_s":0.0}'
    assert await world.events() == [("plugin.failed", KEY, "t1", data)]
    assert world.told == [KEY]


async def test_an_error_of_a_plugin_that_sees_the_conversation_is_not_quoted(world: World) -> None:
    """It may hold what was said: type and place are told."""
    code = "class Its(Plugin):\n    def before_turn(self, event): raise ValueError(event.conversation.messages[0].text)"
    async with world.plugins(code, bad={"conversation_access": True}) as plugins:
        await world.before(plugins)
        await plugins.settle()
        (bad,) = plugins.statistics()

    assert bad.last_failure.startswith("before_turn: ValueError in somebodys_plugins_")
    assert bad.last_failure.endswith(".py, line 7")
    assert SECRET not in repr(await world.events())


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_a_slow_hook_costs_a_turn_its_deadline_and_no_more(world: World, kind: str) -> None:
    """Whether it sleeps politely or blocks its thread; the event loop goes on meanwhile."""
    sleep = "await asyncio.sleep(30)" if kind == "async def" else "STOP.wait(30)"
    code = f"STOP = threading.Event()\nclass Its(Plugin):\n    {kind} before_turn(self, event): {sleep}"
    async with world.plugins(code, slow={"deadline_ms": 50}) as plugins:
        started_s = time.monotonic()
        beats: list[float] = []
        beating = asyncio.create_task(heartbeats(beats))
        assert await world.before(plugins) == ()
        took_s = time.monotonic() - started_s
        beating.cancel()
        (slow,) = plugins.statistics()
        world.module.STOP.set()

    assert 0.045 <= took_s < 1
    assert len(beats) > 10
    assert slow.last_failure == "before_turn: took longer than 50 ms"


async def heartbeats(beats: list[float]) -> None:
    """A beat each millisecond, as long as the loop is free."""
    while True:
        beats.append(time.monotonic())
        await asyncio.sleep(0.001)


async def test_a_coroutine_that_blocks_does_not_block_the_loop(world: World) -> None:
    """Even an `async def` that never yields runs on threads of the plugin's own."""
    code = "STOP = threading.Event()\nclass Its(Plugin):\n    async def before_turn(self, event): STOP.wait(30)"
    async with world.plugins(code, rude={"deadline_ms": 50}) as plugins:
        threads = threading.active_count()
        for _ in range(3):
            await world.before(plugins)
        (rude,) = plugins.statistics()
        assert threading.active_count() == threads
        world.module.STOP.set()

    assert (rude.failures, rude.paused_s) == (3, 10.0)


async def test_hooks_that_never_end_hold_a_bounded_number_of_threads(world: World) -> None:
    """However often it is called, a blocking plugin has four threads, and at some point is not called any more."""
    code = "STOP = threading.Event()\nclass Its(Plugin):\n    def before_turn(self, event): STOP.wait(30)"
    async with world.plugins(code, stuck={"deadline_ms": 1}) as plugins:
        before = threading.active_count()
        for _ in range(CALLS_MAX + 6):
            world.clock.advance(seconds=700)
            await world.before(plugins)
        held = threading.active_count() - before
        (stuck,) = plugins.statistics()
        world.module.STOP.set()

    assert held <= FUNCTION_THREADS_MAX
    assert stuck.failures == CALLS_MAX + 6


async def test_a_plugin_that_keeps_failing_is_left_alone_for_a_while(world: World) -> None:
    """After three failures it is not called; after the pause it is, and a success ends the matter."""
    code = """
    class Its(Plugin):
        def before_turn(self, event):
            SEEN.append(1)
            if len(SEEN) < 5:
                raise OSError("down")
    """
    async with world.plugins(code, flaky={}) as plugins:
        for _ in range(5):
            await world.before(plugins)
        assert len(world.module.SEEN) == 3
        assert {gauge.name: gauge.value for gauge in plugins.gauges()}["plugins_paused"] == 1
        world.clock.advance(seconds=10)
        await world.before(plugins)
        (flaky,) = plugins.statistics()
        assert (len(world.module.SEEN), flaky.paused_s, flaky.skipped) == (4, 20.0, 2)
        world.clock.advance(seconds=20)
        await world.before(plugins)
        (flaky,) = plugins.statistics()

    assert (len(world.module.SEEN), flaky.paused_s, flaky.failures) == (5, 0.0, 4)


async def test_nobody_waits_for_what_follows_a_turn(world: World) -> None:
    """Events wait in line while a hook is busy; the oldest give way; other plugins are not held up."""
    code = """
    GO = threading.Event()
    class Its(Plugin):
        def on_reset(self, event):
            if self.context.name == "slow":
                GO.wait(30)
            SEEN.append((self.context.name, event.reason))
    """
    async with world.plugins(code, slow={}, quick={}) as plugins:
        for number in range(300):
            plugins.on_reset(reset(world.turn.session_id, str(number)))
            if number % 100 == 0:
                await asyncio.sleep(0)
        await until(lambda: len([name for name, _ in world.module.SEEN if name == "quick"]) >= 256)
        assert [name for name, _ in world.module.SEEN if name == "slow"] == []
        world.module.GO.set()
        await plugins.settle()
        slow, _ = plugins.statistics()

    reasons = [int(reason) for name, reason in world.module.SEEN if name == "slow"]
    assert (len(reasons) + slow.dropped, slow.failures) == (300, 0)
    assert reasons[-256:] == list(range(44, 300))


async def test_events_of_a_plugin_stand_in_its_sessions_stream(world: World) -> None:
    """They are recorded under the session's key, which the plugin need not know; an unknown session is passed over."""
    code = """
    class Its(Plugin):
        def after_turn(self, event):
            self.context.add_event(event.session_id, "export.done", {"bytes": 12}, turn_id=event.turn_id)
            self.context.add_event("no-such-session", "export.done", {})
            self.context.add_event(event.session_id, "turn.answered", {})
    """
    async with world.plugins(code, exporter={}) as plugins:
        plugins.after_turn(world.ended())
        await plugins.settle()
        (figures,) = plugins.statistics()

    kinds = [row[:3] for row in await world.events()]
    assert kinds == [("export.done", KEY, "t1"), ("plugin.failed", KEY, "t1")]
    assert "cannot be of the kind 'turn.answered'" in figures.last_failure
    assert (await world.log.newest_failures(5))[0].plugin == "exporter"


async def test_what_happens_in_a_plugins_own_tasks_is_collected(world: World) -> None:
    """A failure that it reports counts, and events that it adds later are written."""
    code = """
    class Its(Plugin):
        async def after_turn(self, event):
            self.task = asyncio.create_task(self.later(event))
        async def later(self, event):
            await asyncio.sleep(0.01)
            self.context.add_event(event.session_id, "export.late", {})
            self.context.report(OSError("disk"))
    """
    async with world.plugins(code, exporter={}) as plugins:
        plugins.after_turn(world.ended())
        await until(lambda: plugins.statistics()[0].failures == 1)
        await plugins.settle()
        (figures,) = plugins.statistics()

    assert figures.last_failure == "a task of its own: OSError: disk"
    assert [row[0] for row in await world.events()] == ["export.late"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UpstreamTimeoutError("too slow"), "failed"),
        (TurnCancelledError("stop"), "cancelled"),
        (TurnExpiredError("late"), "expired"),
    ],
)
async def test_a_turn_without_an_answer_is_told_too(world: World, error: ReverieError, state: str) -> None:
    """With its state and, for a plugin that may see it, why and what had been said."""
    async with world.plugins(RECORDER, diary={"conversation_access": True}) as plugins:
        plugins.turn_unanswered(world.turn, TurnFailed("t1", error, "So far"))
        await plugins.settle()

    (_, told), _ = world.module.SEEN
    assert (told.state, told.error_code, told.model) == (state, getattr(error, "code", None), None)
    assert (told.conversation.reply, told.conversation.error) == ("So far", str(error))


async def test_the_systems_own_words_are_told(world: World) -> None:
    """A full disk is named even for a plugin that sees the conversation."""
    code = (
        "class Its(Plugin):\n    def before_turn(self, event): raise OSError(28, event.conversation.messages[0].text)"
    )
    async with world.plugins(code, bad={"conversation_access": True}) as plugins:
        await world.before(plugins)
        (bad,) = plugins.statistics()

    assert bad.last_failure.endswith(".py, line 7 (No space left on device)")


async def test_a_plugin_that_exits_ends_nothing_of_ours(world: World) -> None:
    """`sys.exit()` in a hook is a failure like any other."""
    code = """
    class Its(Plugin):
        async def before_turn(self, event): raise SystemExit(3)
        def after_turn(self, event): raise SystemExit(4)
    """
    async with world.plugins(code, quitter={}) as plugins:
        await world.before(plugins)
        plugins.after_turn(world.ended())
        await plugins.settle()
        (figures,) = plugins.statistics()

    assert (figures.failures, figures.last_failure) == (2, "after_turn: SystemExit: 4")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise ImportError('no libfoo')", "ImportError: no libfoo"),
        ("class Its: pass", " is not a class derived from reverie.plugins.Plugin"),
        ("class Its(Plugin):\n    def __init__(self, context): raise KeyError('folder')", "KeyError: 'folder'"),
    ],
)
async def test_a_plugin_that_cannot_be_loaded_is_reported(world: World, code: str, problem: str) -> None:
    """The start goes on without it."""
    async with world.plugins(code, broken={}) as plugins:
        assert await world.before(plugins) == ()
        plugins.after_turn(world.ended())
        await plugins.settle()
        (figures,) = plugins.statistics()

    assert figures.problem.endswith(problem)
    assert (figures.calls, figures.hooks) == (0, ())


async def test_a_plugin_that_nobody_offers_is_an_error_of_the_configuration(world: World) -> None:
    """A misspelt name must not be silently ignored; one that is switched off is not looked for."""
    with pytest.raises(ConfigError, match=r"^plugins = 'dairy' is not valid: the name of an installed plugin"):
        async with open_plugins(Config.model_validate({"plugins": {"dairy": {}}}).plugins, world.log, world.clock):
            pass
    off = Config.model_validate({"plugins": {"dairy": {"enabled": False}}}).plugins
    async with open_plugins(off, world.log, world.clock) as plugins:
        assert plugins.statistics() == ()


async def test_two_packages_with_one_name(world: World) -> None:
    """Nobody can tell which is meant, so neither is loaded."""
    for package in ("one", "two"):
        await asyncio.to_thread(install, world.site, RECORDER, {"diary": "Its"}, package)
    with pytest.raises(ConfigError, match=r"not by several \(one, two\)"):
        async with open_plugins(Config.model_validate({"plugins": {"diary": {}}}).plugins, world.log, world.clock):
            pass


async def test_settings_reach_the_plugin(world: World) -> None:
    """As they stand in the configuration, in a copy of its own."""
    code = (
        "class Its(Plugin):\n    def __init__(self, context): SEEN.append(context.settings); context.settings['a'] = 2"
    )
    async with world.plugins(code, one={"settings": {"a": 1}}) as plugins:
        assert plugins.statistics()[0].problem == ""

    assert world.module.SEEN == [{"a": 2}]
