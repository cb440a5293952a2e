"""Context engines of others in a running Reverie: somebody's package decides what a prompt shows."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from reverie.app import App, open_app
from reverie.config import Home, load_config
from reverie.engines import (
    Assembled,
    AssembleRequest,
    Compacted,
    CompactRequest,
    EngineInfo,
    EngineMessage,
    HostRequirement,
    Projection,
)
from reverie.errors import ConfigError, EngineQuarantinedError, EngineUnsupportedError, NothingToCompactError
from reverie.sessions.events import ContextAssembled, TurnFailed, TurnFinished
from reverie.testing import FakeEmbedder, ScriptedEngine, ScriptedModel, reply
from reverie.types import Message, PromptContext, SessionKey, TurnRequest, Usage
from tests.plugin_package import install, on_path

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.errors import ReverieError

pytestmark = pytest.mark.anyio

KEY = "agent:main:main"
CODE = """
from reverie.testing import ScriptedEngine

HANDED = []
CONTEXTS = []

def make(context):
    CONTEXTS.append(context)
    return HANDED[0]
"""
INSTALLED: dict[Path, str] = {}
"""The module of the package that is installed for a test."""
OWNS = EngineInfo("scripted", "Scripted", "1", owns_compaction=True)


@dataclass
class World:
    """An app, its model, and what its engine was made with."""

    app: App
    model: ScriptedModel
    contexts: list[Any]


@asynccontextmanager
async def running(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: object,
    *,
    model: ScriptedModel | None = None,
    **sections: Any,
) -> AsyncGenerator[World]:
    """An app whose agents have this engine; `sections` are further settings."""
    site, home = tmp_path / "site", Home(tmp_path / "home")
    if tmp_path not in INSTALLED:
        on_path(monkeypatch, site)
        module = await asyncio.to_thread(install, site, CODE, {"theirs": "make"}, group="reverie.context_engines")
        __import__(module)
        INSTALLED[tmp_path] = module
    names = vars(sys.modules[INSTALLED[tmp_path]])
    names["HANDED"][:] = [engine]
    settings = {"context": {"engine": "theirs", **sections.pop("context", {})}, **sections}
    config = await asyncio.to_thread(load_config, home, settings)
    used = model or ScriptedModel(otherwise=lambda request: reply(f"Re: {request.messages[-1].text}"))
    async with open_app(home, config, model=used, embedder=FakeEmbedder()) as app:
        yield World(app, used, names["CONTEXTS"])


@dataclass
class Ran:
    """What became of a turn."""

    contexts: list[PromptContext]
    text: str
    error: ReverieError | None = None


def all_of_it(request: AssembleRequest) -> Assembled:
    """Everything that is offered."""
    return Assembled(request.messages)


async def turn(app: App, text: str, *, agent: str = "main") -> Ran:
    """Run one turn to its end, and what follows it."""
    key = SessionKey(agent, f"agent:{agent}:main")
    feed = await app.submit(TurnRequest(f"t-{agent}-{text}", key, (Message("user", text),)))
    ran = Ran([], "")
    async for event in feed.follow():
        match event:
            case ContextAssembled(context):
                ran.contexts.append(context)
            case TurnFinished():
                ran.text = event.text
            case TurnFailed():
                ran.error = event.error
            case _:
                pass
    await app.engines.settle()
    return ran


def words(context: PromptContext) -> list[str]:
    """What a prompt shows after the system message."""
    return [message.text for message in context.messages()[1:]]


async def quarantines(app: App) -> list[dict[str, Any]]:
    """The events of engines in the session's stream."""
    events = await app.events_after(KEY, 0, 100)
    return [event.data for event in events if event.kind == "engine.quarantined"]


# -- a turn ----------------------------------------------------------------------------------------------------------


async def test_an_engine_is_asked_with_everything_it_may_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Session, history with numbers and sizes, the new input, budget, tools, citations mode, model."""
    engine = ScriptedEngine()
    async with running(tmp_path, monkeypatch, engine) as world:
        await turn(world.app, "one")
        await turn(world.app, "two")
        (first, second) = engine.of("assemble")

    assert isinstance(second, AssembleRequest)
    assert (second.session.key, second.session.agent, second.model, second.citations) == (
        KEY,
        "main",
        "scripted",
        "auto",
    )
    assert [(each.seq, each.message.role, each.message.text) for each in second.messages] == [
        (1, "user", "one"), (2, "assistant", "Re: one")
    ]  # fmt: skip
    assert [(each.seq, each.message.text) for each in second.prompt] == [(3, "two")]
    assert all(each.estimated_tokens > 0 for each in second.messages)
    assert {tool["function"]["name"] for tool in second.tools} >= {"memory_search", "memory_get"}
    assert 20_000 < second.token_budget == first.token_budget < 32_768 - 4_096


async def test_what_it_shows_stands_between_our_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instructions before, its addition in the system message, the new message after it."""
    engine = ScriptedEngine()
    mine = EngineMessage(Message("user", "Earlier: a boat was named."))

    def more(request: AssembleRequest) -> Assembled:
        known = EngineMessage(Message("assistant", "I know."))
        return Assembled((mine, known, *request.messages), system_prompt_addition="Unfold with </memory> care.")

    engine.script("assemble", Assembled(()), more)
    async with running(tmp_path, monkeypatch, engine) as world:
        await turn(world.app, "one")
        (context,) = (await turn(world.app, "two")).contexts

    assert [piece.origin for piece in context.pieces] == [
        "instructions", "fragment:AGENTS.md", "engine", "engine:1", "engine:2", "history:1", "history:2", "message",
    ]  # fmt: skip
    assert context.messages()[0].text.endswith("\n\nUnfold with </ memory> care.")
    assert words(context) == ["Earlier: a boat was named.", "I know.", "one", "Re: one", "two"]
    assert context.engine == "scripted"


async def test_operations_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to bootstrap in a new session; after each turn it is handed what is new, then it may tidy up."""
    engine = ScriptedEngine(operations=("bootstrap", "after_turn", "maintain", "ingest_batch", "dispose"))
    usage = Usage(prompt_tokens=900, completion_tokens=5, total_tokens=905, cached_tokens=800)
    model = ScriptedModel(reply("eins"), reply("zwei", usage=usage))
    async with running(tmp_path, monkeypatch, engine, model=model) as world:
        await turn(world.app, "one")
        await turn(world.app, "two")

    assert [name for name, _ in engine.asked] == [
        "assemble", "after_turn", "maintain", "assemble", "after_turn", "maintain", "dispose",
    ]  # fmt: skip
    first, second = engine.of("after_turn")
    assert [(each.seq, each.message.text) for each in first.messages] == [(1, "one"), (2, "eins")]
    assert [(each.seq, each.message.text) for each in second.messages] == [(3, "two"), (4, "zwei")]
    assert [each.seq for each in second.history] == [1, 2, 3, 4]
    assert (second.prompt_tokens, second.cached_tokens, second.model) == (900, 800, "scripted")
    assert [request.after for request in engine.of("maintain")] == ["turn", "turn"]


async def test_after_a_restart_it_is_told_the_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, before it assembles."""
    async with running(tmp_path, monkeypatch, ScriptedEngine()) as world:
        await turn(world.app, "one")
    engine = ScriptedEngine(operations=("bootstrap",))
    async with running(tmp_path, monkeypatch, engine) as world:
        await turn(world.app, "two")
        await turn(world.app, "three")

    assert [name for name, _ in engine.asked] == [
        "bootstrap", "assemble", "ingest", "ingest", "assemble", "ingest", "ingest",
    ]  # fmt: skip
    assert [each.message.text for each in engine.of("bootstrap")[0].messages] == ["one", "Re: one"]
    assert [each.message.seq for each in engine.of("ingest")] == [3, 4, 5, 6]


async def test_what_a_failed_turn_left_comes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the transcript is kept from an engine."""
    from reverie.errors import UpstreamTimeoutError

    engine = ScriptedEngine(operations=("ingest_batch",))
    model = ScriptedModel(UpstreamTimeoutError("slow"), reply("There."))
    async with running(tmp_path, monkeypatch, engine, model=model) as world:
        await turn(world.app, "lost")
        await turn(world.app, "found")

    (batch,) = engine.of("ingest_batch")
    assert [each.message.text for each in batch.messages] == ["lost", "found", "There."]


async def test_maintenance_in_the_background_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next turn runs while the engine still tidies up after the last one."""
    engine = ScriptedEngine(EngineInfo("scripted", "S", turn_maintenance="background"), operations=("maintain",))
    held = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(_: object) -> None:
        asyncio.run_coroutine_threadsafe(held.wait(), loop).result(30)

    engine.script("maintain", wait)
    async with running(tmp_path, monkeypatch, engine) as world:
        key = SessionKey("main", KEY)
        for text in ("one", "two"):
            feed = await world.app.submit(TurnRequest(text, key, (Message("user", text),)))
            ended = [event async for event in feed.follow()][-1]
            assert isinstance(ended, TurnFinished)
        held.set()
        await world.app.engines.settle()

    assert [name for name, _ in engine.asked].index("maintain") < len(engine.asked) - 1
    assert len(engine.of("assemble")) == 2


async def test_an_epoch_of_the_engine_is_an_epoch_of_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins when the engine says so, and is told as its doing."""
    engine = ScriptedEngine()
    told = [Projection("thread_bootstrap", epoch) for epoch in ("e1", "e1", "e2")]
    for projection in told:
        engine.script("assemble", Assembled((), projection=projection))
    async with running(tmp_path, monkeypatch, engine) as world:
        contexts = [(await turn(world.app, text)).contexts[0] for text in ("one", "two", "three")]

    assert [(context.epoch, context.epoch_reason) for context in contexts] == [
        (1, "the session is new"), (1, "the session is new"), (2, "context engine changed"),
    ]  # fmt: skip
    assert [context.projection for context in contexts] == told


async def test_what_it_lets_go_of_is_not_offered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's history begins there, for a reason that is recorded."""
    engine = ScriptedEngine()
    engine.script("assemble", Assembled(()), Assembled((), history_start=3, reason="it is in my store"))
    async with running(tmp_path, monkeypatch, engine) as world:
        await turn(world.app, "one")
        (second,) = (await turn(world.app, "two")).contexts
        await turn(world.app, "three")

    assert (second.epoch, second.epoch_reason) == (2, "it is in my store")
    assert [each.seq for each in engine.of("assemble")[2].messages] == [3, 4]


async def test_each_agent_has_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One says otherwise, and has the built-in one under its other name."""
    engine = ScriptedEngine()
    async with running(tmp_path, monkeypatch, engine, agents={"other": {"engine": "legacy"}}) as world:
        mine = await turn(world.app, "one")
        other = await turn(world.app, "one", agent="other")

    assert [ran.contexts[0].engine for ran in (mine, other)] == ["scripted", "builtin"]
    assert len(engine.of("assemble")) == 1


async def test_an_engine_may_ask_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its own loop, at the pace of background work; it has the settings that stand under its name."""

    class Asks(ScriptedEngine):
        async def ingest(self, request: Any) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] (either is allowed)
            if request.message.message.role == "user":
                self.asked.append(("told", await contexts[0].complete([Message("user", "Sum up.")], max_tokens=9)))
            return True

    engine = Asks()
    model = ScriptedModel(reply("Hello."), reply("A greeting."))
    settings = {"settings": {"theirs": {"depth": 3}}}
    async with running(tmp_path, monkeypatch, engine, model=model, context=settings) as world:
        contexts = world.contexts
        await turn(world.app, "one")

    assert engine.of("told") == ["A greeting."]
    assert (model.requests[1].lane, model.requests[1].sampling) == ("background", {"max_tokens": 9})
    assert (contexts[0].name, contexts[0].settings) == ("theirs", {"depth": 3})


# -- failures --------------------------------------------------------------------------------------------------------

LATE = {"deadline_ms": 50}


def sleeps(_: object) -> None:
    """Longer than any deadline here."""
    import time

    time.sleep(0.3)


@pytest.mark.parametrize(
    ("operation", "step", "context", "error"),
    [
        ("assemble", RuntimeError("secret words"), {}, "RuntimeError in scripted_engine.py"),
        ("assemble", sleeps, LATE, "took longer than 50 ms"),
        ("assemble", "nonsense", {}, "`assemble` answered str, not Assembled"),
        ("assemble", SystemExit(), {}, "SystemExit in scripted_engine.py"),
        ("bootstrap", ValueError("secret words"), {}, "ValueError in scripted_engine.py"),
    ],
)
async def test_an_engine_that_fails_is_not_asked_again_and_the_turn_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, step: object, context: dict[str, Any], error: str
) -> None:
    """The prompt is the built-in engine's; events, status and metrics say so, without a word of the conversation."""
    async with running(tmp_path, monkeypatch, ScriptedEngine()) as world:
        await turn(world.app, "before")
    engine = ScriptedEngine(operations=("bootstrap",))
    engine.script(operation, step)
    async with running(tmp_path, monkeypatch, engine, context=context) as world:
        first = await turn(world.app, "one")
        asked = len(engine.asked)
        second = await turn(world.app, "two")
        (told,) = await quarantines(world.app)
        status = (await world.app.status()).as_json()["contextEngines"]
        gauges = {
            gauge.name: gauge.value for gauge in await world.app.gauges() if gauge.labels == (("engine", "theirs"),)
        }

    assert (first.text, second.text) == ("Re: one", "Re: two")
    assert words(first.contexts[0]) == ["before", "Re: before", "one"]
    assert words(second.contexts[0]) == ["before", "Re: before", "one", "Re: one", "two"]
    assert len(engine.asked) == asked
    assert (told["engine"], told["operation"]) == ("theirs", operation)
    assert told["error"].startswith(error)
    assert "secret" not in str(told)
    assert status["theirs"]["state"] == "quarantined"
    assert gauges["engine_quarantined"] == 1


async def test_a_failure_behind_a_turn_counts_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn is answered already; the next one has the built-in engine."""
    engine = ScriptedEngine(operations=("after_turn",))
    engine.script("after_turn", KeyError("x"))
    async with running(tmp_path, monkeypatch, engine) as world:
        first = await turn(world.app, "one")
        second = await turn(world.app, "two")
        told = await quarantines(world.app)

    assert [ran.contexts[0].engine for ran in (first, second)] == ["scripted", "builtin"]
    assert [each["operation"] for each in told] == ["after_turn"]


async def test_a_turn_that_is_given_up_says_nothing_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling while it assembles cancels it; the next turn asks it again."""
    began, cancelled = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Slow(ScriptedEngine):
        async def assemble(self, request: Any) -> Assembled:  # pyright: ignore[reportIncompatibleMethodOverride] (either is allowed)
            if not self.asked:
                self.asked.append(("assemble", request))
                loop.call_soon_threadsafe(began.set)
                try:
                    await asyncio.sleep(30)
                finally:
                    loop.call_soon_threadsafe(cancelled.set)
            return Assembled(())

    async with running(tmp_path, monkeypatch, Slow()) as world:
        key = SessionKey("main", KEY)
        feed = await world.app.submit(TurnRequest("t1", key, (Message("user", "one"),)))
        await asyncio.wait_for(began.wait(), 10)
        await world.app.cancel("t1", "enough")
        assert isinstance([event async for event in feed.follow()][-1], TurnFailed)
        await asyncio.wait_for(cancelled.wait(), 10)
        second = await turn(world.app, "two")
        told = await quarantines(world.app)

    assert second.contexts[0].engine == "scripted"
    assert told == []


async def test_an_engine_that_gives_up_by_itself_costs_it_one_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it was cancelled is no failure of its own."""
    engine = ScriptedEngine()
    engine.script("assemble", asyncio.CancelledError())
    async with running(tmp_path, monkeypatch, engine) as world:
        first, second = await turn(world.app, "one"), await turn(world.app, "two")
        told = await quarantines(world.app)

    assert [ran.contexts[0].engine for ran in (first, second)] == ["builtin", "scripted"]
    assert told == []


class Half:
    """An engine without its operations."""

    info = EngineInfo("half", "Half")


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        (object(), "has no `info`"),
        (ScriptedEngine(EngineInfo("builtin", "Not ours")), "an engine has an id of its own"),
        (Half(), "no operation `ingest`"),
        (ScriptedEngine(EngineInfo("x", "X", turn_maintenance="never")), "not as EngineInfo says"),  # pyright: ignore[reportArgumentType] (it is wrong on purpose)
        (ScriptedEngine(EngineInfo("x", "X", host_requirements={"agent-run": "all"})), "must name a HostRequirement"),  # pyright: ignore[reportArgumentType] (as above)
    ],
)
async def test_what_is_no_engine_is_said_and_everything_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: object, error: str
) -> None:
    """The first session that would have had it is told, once."""
    async with running(tmp_path, monkeypatch, engine) as world:
        first, second = await turn(world.app, "one"), await turn(world.app, "two")
        (told,) = await quarantines(world.app)

    assert [ran.contexts[0].engine for ran in (first, second)] == ["builtin", "builtin"]
    assert (told["operation"], error in told["error"]) == ("load", True)


async def test_a_missing_engine_is_said_and_everything_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that was removed must not keep a service from starting."""
    async with running(tmp_path, monkeypatch, ScriptedEngine(), context={"engine": "gone"}) as world:
        ran = await turn(world.app, "one")
        (told,) = await quarantines(world.app)

    assert ran.contexts[0].engine == "builtin"
    assert "no installed package offers a context engine 'gone'" in told["error"]


# -- requirements ----------------------------------------------------------------------------------------------------


async def test_an_engine_whose_needs_are_not_met_keeps_everything_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words say why, and the setting is named."""
    needs = HostRequirement(frozenset({"thread-bootstrap-projection"}), "I need native threads.")
    engine = ScriptedEngine(EngineInfo("scripted", "S", host_requirements={"agent-run": needs}))

    with pytest.raises(ConfigError, match=r"context\.engine = 'theirs'.*I need native threads\..*needs thread-boot"):
        async with running(tmp_path, monkeypatch, engine):
            raise AssertionError("it must not start")


async def test_a_compaction_on_request_may_need_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns run; whoever asks for the compaction is told in the engine's words."""
    needs = HostRequirement(frozenset({"thread-bootstrap-projection"}), "Not by hand.")
    engine = ScriptedEngine(
        EngineInfo("scripted", "S", owns_compaction=True, host_requirements={"manual-compact": needs})
    )
    async with running(tmp_path, monkeypatch, engine) as world:
        assert (await turn(world.app, "one")).text == "Re: one"
        with pytest.raises(EngineUnsupportedError, match=r"Not by hand\."):
            await world.app.request_compaction(KEY)


# -- compaction ------------------------------------------------------------------------------------------------------

SMALL = {"context_tokens": 4_096, "output_tokens": 512}
LONG = "word " * 600


async def test_an_engine_that_owns_compaction_is_asked_at_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the turn, and nothing of ours is prepared."""
    engine = ScriptedEngine(OWNS, operations=("maintain",))
    async with running(tmp_path, monkeypatch, engine, upstream=SMALL) as world:
        for number in range(4):
            await turn(world.app, f"{number} {LONG}")
        listed = await world.app.compactions_of(KEY)

    asked = engine.of("compact")
    assert {(each.cause, each.target) for each in asked} >= {("threshold", "threshold")}
    assert listed == []


async def test_an_engine_that_does_not_own_it_leaves_compaction_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary stands in the prompt's prefix, whatever the engine shows of the rest."""
    engine = ScriptedEngine()
    full = Usage(prompt_tokens=3_500, completion_tokens=5, total_tokens=3_505)
    model = ScriptedModel(otherwise=lambda _: reply("Yes.", usage=full))
    async with running(tmp_path, monkeypatch, engine, model=model, upstream=SMALL) as world:
        for number in range(8):
            await turn(world.app, f"{number} {LONG}")
        while not any(each.state in {"ready", "adopted"} for each in await world.app.compactions_of(KEY)):
            await asyncio.sleep(0.02)
        (context,) = (await turn(world.app, "and now?")).contexts
        listed = await world.app.compactions_of(KEY)

    assert "adopted" in [each.state for each in listed]
    assert "summary" in [piece.origin for piece in context.pieces]


async def test_a_summary_of_the_engine_is_recorded_as_one_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it stands for is written into memory first; it can be listed and expanded."""
    engine = ScriptedEngine(OWNS)
    engine.script("compact", Compacted(ok=True, compacted=True, summary="They spoke of boats.", first_kept=3))
    async with running(tmp_path, monkeypatch, engine) as world:
        await turn(world.app, "We decided to sail on the 5th of May.")
        await turn(world.app, "two")
        done = await world.app.request_compaction(KEY, "boats")
        (context,) = (await turn(world.app, "three")).contexts
        expanded = await world.app.expand_compaction(done, 0)

    assert (done.state, done.cause, done.summary, done.audit) == (
        "ready", "manual", "They spoke of boats.", {"by": "scripted"},
    )  # fmt: skip
    assert (done.first_seq, done.last_seq, done.focus) == (1, 2, "boats")
    assert done.flushed_to is not None
    assert len(expanded.messages) == 2
    assert words(context) == ["two", "Re: two", "three"]
    assert "They spoke of boats." in context.messages()[0].text
    assert engine.of("compact")[0].instructions == "boats"


async def test_what_an_engine_compacts_by_itself_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to list or to expand: whoever asked hears that the engine keeps it."""
    engine = ScriptedEngine(OWNS)
    engine.script("compact", Compacted(ok=True, compacted=True, tokens_before=900, tokens_after=90))
    async with running(tmp_path, monkeypatch, engine) as world:
        await turn(world.app, "one")
        done = await world.app.request_compaction(KEY)
        listed = await world.app.compactions_of(KEY)

    assert (done.state, done.tokens_after, done.audit) == ("adopted", 90, {"by": "scripted", "kept_by_engine": True})
    assert listed == []


async def test_a_summary_that_a_turn_waits_for_is_gone_on_with_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt did not fit; it holds the engine's summary in place of what left, and the engine shows the rest."""
    engine = ScriptedEngine(OWNS)
    for _ in range(4):
        engine.script("assemble", all_of_it)
    summary = Compacted(ok=True, compacted=True, summary="They counted.", first_kept=3)

    def when_it_must(request: CompactRequest) -> Compacted:
        return summary if request.cause == "preflight" else Compacted(ok=True, compacted=False)

    engine.script("compact", *[when_it_must] * 4)
    window = {"context_tokens": 4_800, "output_tokens": 512}
    model = ScriptedModel(otherwise=lambda request: reply(request.messages[-1].text, usage=None))
    async with running(tmp_path, monkeypatch, engine, model=model, upstream=window) as world:
        for text in ("one", "two"):
            await turn(world.app, f"{text} {LONG}")
        (context,) = (await turn(world.app, f"three {LONG}")).contexts
        (listed,) = await world.app.compactions_of(KEY)

    assert (listed.state, listed.cause, listed.summary) == ("adopted", "preflight", "They counted.")
    assert "They counted." in context.messages()[0].text
    assert [text[:5] for text in words(context)] == ["two w", "two w", "three"]


async def test_a_compaction_that_fails_reaches_whoever_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the engine is out of service; one that sees no need says so."""
    engine = ScriptedEngine(OWNS)
    engine.script("compact", Compacted(ok=True, compacted=False, reason="it is short"), RuntimeError("broken"))
    async with running(tmp_path, monkeypatch, engine) as world:
        await turn(world.app, "one")
        with pytest.raises(NothingToCompactError, match="it is short"):
            await world.app.request_compaction(KEY)
        with pytest.raises(EngineQuarantinedError, match="compact: RuntimeError"):
            await world.app.request_compaction(KEY)
        second = await turn(world.app, "two")
        (told,) = await quarantines(world.app)

    assert told["operation"] == "compact"
    assert second.contexts[0].engine == "builtin"


async def test_a_view_that_is_too_large_is_compacted_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it stays so, the turn goes on with ours, while the engine stays in service."""
    engine = ScriptedEngine(OWNS)

    def too_much(request: AssembleRequest) -> Assembled:
        return Assembled((EngineMessage(Message("user", "word " * 5_000)), *request.messages))

    small = Assembled((EngineMessage(Message("user", "In short.")), EngineMessage(Message("assistant", "Yes."))))
    engine.script("assemble", Assembled(()), too_much, small, too_much, too_much)
    engine.script("compact", *[Compacted(ok=True, compacted=True)] * 2)
    async with running(tmp_path, monkeypatch, engine, upstream=SMALL) as world:
        await turn(world.app, "one")
        second = await turn(world.app, "two")
        third = await turn(world.app, "three")
        fourth = await turn(world.app, "four")
        told = await quarantines(world.app)

    assert words(second.contexts[0]) == ["In short.", "Yes.", "two"]
    assert words(third.contexts[0]) == ["one", "Re: one", "two", "Re: two", "three"]
    assert [ran.contexts[0].engine for ran in (second, third, fourth)] == ["scripted", "builtin", "scripted"]
    assert [each.cause for each in engine.of("compact")] == ["preflight", "preflight"]
    assert told == []


async def test_the_whole_history_may_be_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine may say that what it shows is not all that the model will see of it."""
    engine = ScriptedEngine(OWNS)
    for _ in range(8):
        engine.script("assemble", Assembled((), prompt_authority="preassembly_may_overflow"))
    async with running(tmp_path, monkeypatch, engine, upstream=SMALL) as world:
        for number in range(5):
            assert (await turn(world.app, f"{number} {LONG}")).error is None

    assert "preflight" in [each.cause for each in engine.of("compact")]


async def test_a_prompt_that_the_server_refuses_is_made_smaller_by_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked to compact, then to show less than before."""
    from reverie.errors import UpstreamRefusedError

    refusal = UpstreamRefusedError(
        "maximum context length is 2000 tokens", upstream_status=400, status=400, kind="invalid_request_error",
        code="context_length_exceeded", retry_after=None,
    )  # fmt: skip
    engine = ScriptedEngine(OWNS)
    model = ScriptedModel(reply("eins"), reply("zwei"), refusal, reply("drei"))
    async with running(tmp_path, monkeypatch, engine, model=model) as world:
        await turn(world.app, f"one {LONG}")
        await turn(world.app, f"two {LONG}")
        third = await turn(world.app, "three")

    requests = engine.of("assemble")
    assert (third.text, third.error) == ("drei", None)
    assert engine.of("compact")[0].cause == "overflow"
    assert requests[-1].token_budget < requests[-2].token_budget
    assert len(model.requests[3].messages) < len(model.requests[2].messages)


async def test_an_engine_that_cannot_show_less_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For this turn: the built-in engine makes the prompt smaller."""
    from reverie.errors import UpstreamRefusedError

    refusal = UpstreamRefusedError(
        "maximum context length is 2000 tokens", upstream_status=400, status=400, kind="invalid_request_error",
        code="context_length_exceeded", retry_after=None,
    )  # fmt: skip
    engine = ScriptedEngine(OWNS)
    for _ in range(4):
        engine.script("assemble", all_of_it)
    model = ScriptedModel(reply("eins"), reply("zwei"), refusal, reply("drei"))
    async with running(tmp_path, monkeypatch, engine, model=model) as world:
        await turn(world.app, f"one {LONG}")
        await turn(world.app, f"two {LONG}")
        third = await turn(world.app, "three")
        told = await quarantines(world.app)

    assert (third.text, third.error) == ("drei", None)
    assert [message.text for message in model.requests[3].messages[1:]] == ["three"]
    assert told == []
