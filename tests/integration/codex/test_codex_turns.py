"""Turns of an agent that runs on Codex: what its threads are told, and what becomes of them, on a double of Codex."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.agent.codex import steering
from reverie.app import open_app
from reverie.config import Home, load_config
from reverie.context.projection import HEADER, REQUEST
from reverie.errors import CodexDiedError, ContextTooLongError, RecordedFailureError, RequestError
from reverie.sessions.bindings import BindingStore
from reverie.sessions.events import ReplyDelta, ToolFinished, ToolStarted, TurnFailed, TurnFinished
from reverie.status import CodexFigures
from reverie.testing.fake_app_server import (
    Death,
    FakeAppServer,
    Played,
    Refuse,
    Result,
    ended_params,
    thread_result,
)
from reverie.types import Arrival, ImagePart, Message, SessionKey, ToolCall, TurnRequest, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.app import App
    from reverie.sessions.feed import TurnFeed
    from reverie.sessions.thread_log import ThreadEvent
    from reverie.types import ThreadBinding

pytestmark = pytest.mark.anyio

KEY = SessionKey("main", "agent:main:main")
OVERFLOW = {
    "message": "Codex ran out of room in the model's context window.",
    "codexErrorInfo": "contextWindowExceeded",
}
BAD_IMAGE = {"message": "Invalid image in your last message. Please remove it and try again."}
PNG = "data:image/png;base64,iVBORw0KGgo="


@dataclass
class World:
    """An app whose agent runs on a double of Codex."""

    app: App
    fake: FakeAppServer
    workspace: Path

    async def ask(self, text: str = "", **fields: Any) -> TurnFeed:
        """Say something."""
        messages = fields.pop("messages", (Message("user", text),))
        request = TurnRequest(f"turn_{uuid.uuid4().hex}", KEY, messages, **fields)
        return await self.app.submit(request)

    async def say(self, text: str = "", **fields: Any) -> TurnFinished:
        """Say something, and wait for the answer."""
        return await (await self.ask(text, **fields)).result()

    def last(self, method: str = "turn/start") -> dict[str, Any]:
        """What the last call of a method was made with."""
        return self.fake.called(method)[-1]

    def told(self) -> str:
        """The text of the last turn."""
        return self.last()["input"][0]["text"]

    def methods(self, since: int = 0) -> list[str]:
        """What was asked of Codex, in order."""
        return [method for method, _ in self.fake.calls[since:]]

    async def binding(self) -> ThreadBinding | None:
        """The thread that the session is bound to."""
        page = await self.app.open.bindings.page()
        return page.sessions[0].binding if page.sessions else None

    async def decisions(self) -> list[ThreadEvent]:
        """What was decided, oldest first."""
        return (await self.app.open.thread_log.events(KEY.value))[::-1]

    async def transcript(self) -> list[tuple[str, str]]:
        """What the session's transcript holds."""
        rows = await self.app.open.state.read(
            lambda tx: tx.rows("newest_messages", session_id=self.session_id, from_seq=1, limit=100)
        )
        return [(row["role"], row["text"]) for row in rows][::-1]

    @property
    def session_id(self) -> str:
        return self._session_id

    @session_id.setter
    def session_id(self, value: str) -> None:
        self._session_id = value


@asynccontextmanager
async def opened(folder: Path, fake: FakeAppServer, **codex: Any) -> AsyncGenerator[World]:
    """The app, with an agent on this double."""
    settings = {
        "agents": {"main": {"runtime": "codex", "codex": {"steer_quiet_ms": 0, **codex}}},
        "memory": {"embedder": "none", "recall_hits": 0, "watch": False},
        "queue": {"debounce_ms": 0},
    }
    home = Home(folder)
    config = await asyncio.to_thread(load_config, home, settings)
    async with open_app(home, config, codex=fake) as app:
        yield World(app, fake, home.workspace(config, "main"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is asked often."""
    monkeypatch.setattr(steering, "LOOK_S", 0.002)


@pytest.fixture
def fake() -> FakeAppServer:
    """A double whose turns are played."""
    double = FakeAppServer()
    double.play()
    return double


@pytest.fixture
async def world(tmp_path: Path, fake: FakeAppServer) -> AsyncGenerator[World]:
    """An app on it."""
    async with opened(tmp_path / "home", fake) as ready:
        yield ready


async def until(condition: Any) -> None:
    """Wait until something is true."""
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.002)


# -- warm and cold -------------------------------------------------------------------------------------------------


async def test_a_thread_is_told_everything_once_and_then_the_bare_prompt(world: World) -> None:
    """The first turn starts a thread; each later one is exactly `thread/resume` and `turn/start` with the prompt."""
    await world.say("one")
    assert world.methods() == ["initialize", "initialized", "thread/start", "turn/start"]
    started = world.last("thread/start")
    assert (started["approvalPolicy"], started["sandbox"]) == ("never", "read-only")
    assert started["cwd"] == str(world.workspace)
    assert '<workspace_file name="AGENTS.md">' in started["developerInstructions"]
    assert world.told() == "one"
    for text in ("two", "three"):
        before = len(world.fake.calls)
        await world.say(text)
        assert world.methods(before) == ["thread/resume", "turn/start"]
        assert world.last()["input"] == [{"type": "text", "text": text}]
    assert [(each.action, each.project, each.warm) for each in await world.decisions()] == [
        ("start", "full", False),
        ("resume", "none", True),
        ("resume", "none", True),
    ]


async def test_an_answer_is_like_any_other(world: World) -> None:
    """Deltas, text, usage, model; and the transcript holds what was said."""
    world.fake.play(Played("Good morning."))
    feed = await world.ask("Hi")
    events = [event async for event in feed.follow()]
    assert [event.text for event in events if isinstance(event, ReplyDelta)] == ["Good morning."]
    finished = events[-1]
    assert isinstance(finished, TurnFinished)
    assert (finished.text, finished.model, finished.finish_reason) == ("Good morning.", "fake-model", "stop")
    assert finished.usage == Usage(90, 10, 100, 5, 0)
    world.session_id = feed.session_id
    assert await world.transcript() == [("user", "Hi"), ("assistant", "Good morning.")]


async def test_a_thread_goes_on_after_a_restart(tmp_path: Path, fake: FakeAppServer) -> None:
    """The binding is on disk: the next process resumes, with the instructions that a compaction would need."""
    async with opened(tmp_path / "home", fake) as first:
        await first.say("one")
    async with opened(tmp_path / "home", fake) as second:
        await second.say("two")
        assert (second.told(), second.last("thread/resume")["threadId"]) == ("two", "thread-1")
        assert "AGENTS.md" in second.last("thread/resume")["developerInstructions"]


async def test_a_conversation_that_began_elsewhere_is_told_at_the_beginning(world: World) -> None:
    """A thread that begins gets the whole conversation, quoted, and then the message."""
    history = (Message("user", "My name is Ada."), Message("assistant", "Noted."), Message("user", "Who am I?"))
    await world.say(messages=history)
    told = world.told()
    assert told.startswith(HEADER)
    assert "[user]\nMy name is Ada." in told
    assert told.endswith(f"{REQUEST}\nWho am I?")


async def test_a_file_that_changed_is_told_and_nothing_else(world: World) -> None:
    """The warm thread gets the new text of the file; the thread stays."""
    await world.say("one")
    await asyncio.to_thread((world.workspace / "MEMORY.md").write_text, "The roaster is in Bremen.")
    await world.say("two")
    assert "The roaster is in Bremen." in world.told()
    assert "AGENTS.md" not in world.told()
    assert world.told().endswith("\ntwo")
    await world.say("three")
    assert world.told() == "three"
    assert len(world.fake.called("thread/start")) == 1


async def test_another_model_is_the_same_thread(world: World) -> None:
    """It is sent with the turn; nothing rotates."""
    await world.say("one")
    await world.say("two", model_override="large")
    assert world.last()["model"] == "large"
    assert world.last("thread/resume")["model"] == "large"
    assert len(world.fake.called("thread/start")) == 1


async def test_a_person_may_want_another_thread(world: World) -> None:
    """Then the next turn starts one, with everything that was said."""
    await world.say("one")
    binding = await world.binding()
    assert binding is not None
    await world.app.open.bindings.ask_for_rotation(binding.session_id)
    await world.say("two")
    assert "[user]\none" in world.told()
    assert (await world.decisions())[-1].reason == "manual"


# -- what goes wrong -----------------------------------------------------------------------------------------------


async def test_a_thread_that_cannot_be_resumed_gives_way_within_the_turn(world: World) -> None:
    """A rollout that was deleted: a fresh thread is told everything, and the caller notices nothing."""
    await world.say("one")
    world.fake.then("thread/resume", Refuse("no rollout found for thread id thread-1"))
    assert (await world.say("two")).text == "Hello from Codex."
    assert world.told().startswith(HEADER)
    assert "[user]\none\n\n[assistant]\nHello from Codex." in world.told()
    binding = await world.binding()
    assert binding is not None
    assert (binding.thread_id, binding.state) == ("thread-2", "active")
    assert (await world.decisions())[-1].reason == "resume-failed"


async def test_a_connection_that_closes_says_nothing_about_the_thread(world: World) -> None:
    """The turn fails with its cause; the binding stands, and the next turn goes on in the thread."""
    await world.say("one")
    world.fake.then("thread/resume", Death(9))
    with pytest.raises(CodexDiedError, match="ended with code 9"):
        await world.say("two")
    await world.say("three")
    assert world.last("thread/resume")["threadId"] == "thread-1"
    assert "[user]\ntwo" in world.told()  # the thread has not seen it, so it is told
    assert len(world.fake.called("thread/start")) == 1


async def test_a_child_that_dies_within_a_turn(world: World) -> None:
    """The turn fails at once; its message was part of the thread, and the next turn is the bare prompt."""
    await world.say("one")
    world.fake.play(Played(dies_with=137))
    with pytest.raises(CodexDiedError, match="ended with code 137"):
        await world.say("two")
    await world.say("three")
    assert (world.told(), world.last("thread/resume")["threadId"]) == ("three", "thread-1")
    assert len(world.fake.children) == 2


async def test_the_status_tells_how_codex_fares(world: World) -> None:
    """Its process, and what its prompts took: also those of a turn that failed."""
    assert (await world.app.status()).codex == {"main": CodexFigures()}
    await world.say("one")
    running = (await world.app.status()).codex["main"]
    assert (running.pid, running.starts, running.deaths) == (world.fake.child.pid, 1, 0)
    world.fake.play(Played(dies_with=9))
    with pytest.raises(CodexDiedError):
        await world.say("two")
    status = await world.app.status()
    assert status.codex == {"main": CodexFigures(None, 1, 1, 0)}
    assert (status.prompts.calls, status.prompts.prompt_tokens, status.prompts.cached_tokens) == (1, 90, 5)


async def test_a_thread_whose_first_message_was_never_an_item_is_not_gone_on_with(world: World) -> None:
    """It was begun, and nobody knows what it was told: the next turn starts another and tells everything."""
    world.fake.play(Played(accepted=False, dies_with=9))
    with pytest.raises(CodexDiedError):
        await world.say("one")
    binding = await world.binding()
    assert binding is not None
    assert binding.state == "pending"
    await world.say("two")
    assert "[user]\none" in world.told()
    assert world.fake.called("thread/resume") == []
    assert (await world.decisions())[-1].reason == "never-accepted"


async def test_a_window_that_overflows_is_answered_by_a_fresh_thread(world: World) -> None:
    """Once, within the turn, with everything told anew; the caller gets the answer."""
    await world.say("one")
    world.fake.play(Played(error=OVERFLOW), Played("Made it."))
    assert (await world.say("two")).text == "Made it."
    assert world.told().startswith(HEADER)
    binding = await world.binding()
    assert binding is not None
    assert binding.thread_id == "thread-2"
    assert [each.reason for each in await world.decisions()][1:] == [
        "matching-thread-bootstrap-binding",
        "window-overflow",
    ]


async def test_a_window_that_overflows_in_a_fresh_thread_is_an_error(world: World) -> None:
    """There is no second retry."""
    await world.say("one")
    world.fake.play(Played(error=OVERFLOW), Played(error=OVERFLOW))
    with pytest.raises(ContextTooLongError, match="also in a fresh thread"):
        await world.say("two")
    world.fake.play(Played("Well."))
    assert (await world.say("three")).text == "Well."


async def test_a_thread_with_an_image_that_cannot_be_read_is_given_up(world: World) -> None:
    """It would fail in each later turn; the next one starts a thread without it."""
    await world.say("one")
    world.fake.play(Played(error=BAD_IMAGE))
    message = Message("user", "look", images=(ImagePart(PNG),))
    with pytest.raises(RequestError, match="Invalid image") as refused:
        await world.say(messages=(message,))
    assert refused.value.code == "invalid_image"
    assert world.last()["input"][1] == {"type": "image", "url": PNG}
    await world.say("two")
    assert world.last()["threadId"] == "thread-2"
    assert "[image omitted]" in world.told()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"message": "Quota exceeded.", "codexErrorInfo": "usageLimitExceeded"}, 429, "insufficient_quota"),
        (
            {
                "message": "exceeded retry limit",
                "codexErrorInfo": {"responseTooManyFailedAttempts": {"httpStatusCode": 429}},
            },
            429,
            "rate_limit_exceeded",
        ),
        ({"message": "401", "codexErrorInfo": {"httpConnectionFailed": {"httpStatusCode": 401}}}, 502, "upstream_auth"),
        ({"message": "at capacity", "codexErrorInfo": "serverOverloaded"}, 503, "codex_turn_failed"),
        ({"message": "who knows", "codexErrorInfo": "other"}, 502, "codex_turn_failed"),
    ],
)
async def test_a_failed_turn_says_why(world: World, error: Any, status: int, code: str) -> None:
    """With the status and code that a client of an OpenAI-compatible server knows."""
    world.fake.play(Played(error=error))
    feed = await world.ask("one")
    ended = [event async for event in feed.follow()][-1]
    assert isinstance(ended, TurnFailed)
    assert (getattr(ended.error, "status", None), getattr(ended.error, "code", None)) == (status, code)
    assert error["message"] in str(ended.error)


async def test_what_codex_cannot_do_is_refused_before_it_begins(world: World) -> None:
    """A forced tool of the client's, and an image that would have to be fetched."""
    with pytest.raises(RequestError, match="uses its own tools"):
        await world.say("one", tool_choice="required")
    remote = Message("user", "look", images=(ImagePart("https://example.com/x.png"),))
    with pytest.raises(RequestError, match="`data:` URLs only"):
        await world.say(messages=(remote,))
    assert world.fake.calls == []


async def test_a_thread_that_another_process_has_open_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn runs in a thread of its own for once; the binding stays."""
    monkeypatch.setattr("reverie.agent.codex.threaded_turn.ELSEWHERE_S", 0.001)
    await world.say("one")
    world.fake.then("thread/resume", *[Refuse("thread thread-1 already has an active writer")] * 20)
    assert (await world.say("two")).text == "Hello from Codex."
    assert world.told().startswith(HEADER)
    binding = await world.binding()
    assert binding is not None
    assert binding.thread_id == "thread-1"
    assert [(each.action, each.reason) for each in await world.decisions()][-1] == ("transient", "in-use-elsewhere")


async def test_a_binding_that_another_gateway_holds_is_not_touched(world: World) -> None:
    """Its lease says that it is at work on the thread: this turn has one of its own."""
    await world.say("one")
    binding = await world.binding()
    assert binding is not None
    other = BindingStore(world.app.open.state, world.app.clock, holder="another gateway")
    held = await other.acquire(binding.session_id)
    await world.say("two")
    assert world.last()["threadId"] == "thread-2"
    assert await world.binding() == replace(binding, fence=binding.fence + 1)
    await other.release(held)
    await world.say("three")
    assert world.last()["threadId"] == "thread-1"
    assert "[user]\ntwo" in world.told()


async def test_a_thread_that_is_busy_with_nobodys_turn(world: World) -> None:
    """Its app-server is ended, so that the turn is not taken for a message into the other one."""
    await world.say("one")
    world.fake.then("thread/resume", Result(thread_result("thread-1", status="active")))
    assert (await world.say("two")).text == "Hello from Codex."
    assert [child.alive for child in world.fake.children] == [False, True]


# -- tools, forms, compaction --------------------------------------------------------------------------------------


async def test_tools_are_shown_and_recorded(world: World) -> None:
    """Uses of our memory and commands are events, and stand in the transcript as rounds of tools do."""
    answered = {"content": [{"type": "text", "text": '{"results": []}'}]}
    memory = {"type": "mcpToolCall", "id": "c1", "server": "reverie", "tool": "memory_search", "status": "completed",
              "arguments": {"query": "roaster"}, "result": answered}  # fmt: skip
    command = {"type": "commandExecution", "id": "c2", "command": "ls", "status": "completed", "exitCode": 0,
               "aggregatedOutput": "x" * 9_000}  # fmt: skip
    world.fake.play(Played("Done.", items=(memory, command)))
    feed = await world.ask("look")
    events = [event async for event in feed.follow()]
    search = ToolCall("c1", "memory_search", json.dumps({"query": "roaster"}))
    shell = ToolCall("c2", "exec_command", json.dumps({"cmd": "ls"}))
    assert [event.call for event in events if isinstance(event, ToolStarted)] == [search, shell]
    assert [event.call for event in events if isinstance(event, ToolFinished)] == [search, shell]
    world.session_id = feed.session_id
    told = await world.transcript()
    assert [role for role, _ in told] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert told[2] == ("tool", '{"results": []}')
    assert told[4][1].endswith("[1000 characters of the output omitted]")


async def test_effort_and_form_of_the_answer_are_passed_on(world: World) -> None:
    """As the app-server takes them with a turn."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    await world.say("one", sampling={"reasoning_effort": "high", "response_format": form})
    assert (world.last()["effort"], world.last()["outputSchema"]) == ("high", schema)
    await world.say("two", sampling={"response_format": {"type": "json_object"}})
    assert "outputSchema" not in world.last()


async def test_a_compaction_by_codex_is_a_boundary(world: World) -> None:
    """What was said is written into memory, those who follow the session hear of it, and the thread stays."""
    await world.say("The roaster in Bremen is called Gretel, remember that it must cool down to 60 °C.")
    world.fake.play(Played("Noted.", items=({"type": "contextCompaction", "id": "k"},)))
    await world.say("two")

    async def kinds() -> list[str]:
        return [event.kind for event in await world.app.events_after(KEY.value, 0, 100)]

    with anyio.fail_after(5):
        while "thread.compacted" not in await kinds():
            await anyio.sleep(0.01)
    notes = await asyncio.to_thread(lambda: [p.read_text() for p in (world.workspace / "memory").glob("*.md")])
    assert any("Gretel" in note for note in notes)
    await world.say("three")
    assert (world.told(), len(world.fake.called("thread/start"))) == ("three", 1)


async def test_what_a_compaction_took_is_told_again(world: World) -> None:
    """Codex puts the instructions back with which it loaded the thread: a file that changed since is told anew."""
    await world.say("one")
    await asyncio.to_thread((world.workspace / "MEMORY.md").write_text, "Gretel is in Bremen.")
    await world.say("two")
    world.fake.play(Played("Noted.", items=({"type": "contextCompaction", "id": "k"},)))
    await world.say("three")
    await world.say("four")
    assert "Gretel is in Bremen." in world.told()
    await world.say("five")
    assert world.told() == "five"


async def test_a_person_may_have_a_thread_compacted(world: World) -> None:
    """Before the next turn, in its place in the line; then the turn is the bare prompt."""
    await world.say("one")
    await world.say("two")
    await world.app.request_compaction(KEY.value)

    def compacts(params: dict[str, Any]) -> Result:
        place = {"threadId": params["threadId"], "turnId": "turn-k"}
        world.fake.child.say("turn/started", {"threadId": params["threadId"], "turn": {"id": "turn-k"}})
        world.fake.child.say("item/completed", {**place, "item": {"type": "contextCompaction", "id": "k"}})
        world.fake.child.say("turn/completed", ended_params(params["threadId"], "turn-k"))
        return Result()

    world.fake.then("thread/compact/start", compacts)
    before = len(world.fake.calls)
    await world.say("three")
    assert world.methods(before) == ["thread/resume", "thread/compact/start", "turn/start"]
    before = len(world.fake.calls)
    await world.say("four")
    assert world.methods(before) == ["thread/resume", "turn/start"]


async def test_a_compaction_that_does_not_work_costs_no_turn(world: World) -> None:
    """What Codex refuses is logged, and the message is answered."""
    await world.say("one")
    await world.say("two")
    await world.app.request_compaction(KEY.value)
    world.fake.then("thread/compact/start", Refuse("not now"))
    assert (await world.say("three")).text == "Hello from Codex."


async def test_threads_that_nobody_uses_are_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app-server may unload them: those used longest ago first, and one that was replaced."""
    monkeypatch.setattr("reverie.agent.runtimes.codex.LOADED_MAX", 1)
    for name in ("a", "b", "c"):
        key = SessionKey("main", f"agent:main:{name}")
        feed = await world.app.submit(TurnRequest(f"turn_{uuid.uuid4().hex}", key, (Message("user", "Hi"),)))
        await feed.result()
    assert [call["threadId"] for call in world.fake.called("thread/unsubscribe")] == ["thread-1", "thread-2"]


async def test_tokens_are_kept_for_the_guard(tmp_path: Path, fake: FakeAppServer) -> None:
    """A thread that is too full for its window gives way to one that is told everything."""
    async with opened(tmp_path / "home", fake) as world:
        world.fake.play(Played("Long.", tokens=241_198))
        await world.say("one")
        binding = await world.binding()
        assert binding is not None
        assert binding.tokens is not None
        assert (binding.tokens.tokens, binding.tokens.window) == (241_198, 258_400)
        await world.say("two")
        assert (await world.decisions())[-1].reason == "token-guard"
        assert "[user]\none" in world.told()


# -- steering and stopping -----------------------------------------------------------------------------------------


async def test_a_message_enters_the_running_turn(world: World) -> None:
    """It is answered by that turn, and stands in the transcript where the model read it."""
    held = asyncio.Event()
    world.fake.play(Played("Both.", held_by=held))
    first = await world.ask("one")
    await until(lambda: world.fake.called("turn/start"))
    second = await world.ask("and two", arrival=Arrival(delivery="steer"))
    await until(lambda: world.fake.called("turn/steer"))
    held.set()
    assert (await first.result()).text == (await second.result()).text == "Both."
    steered = world.last("turn/steer")
    assert (steered["input"][0]["text"], steered["expectedTurnId"]) == ("and two", "turn-1")
    assert steered["clientUserMessageId"].endswith(":steer:1")
    world.session_id = first.session_id
    assert [text for role, text in await world.transcript() if role == "user"] == ["one", "and two"]
    await world.say("three")
    assert world.told() == "three"


async def test_a_message_that_was_not_read_is_answered_by_itself(world: World) -> None:
    """Accepted is not consumed: at the end of the turn it goes back to the queue, and nothing is lost or doubled."""
    held = asyncio.Event()
    world.fake.play(Played("First.", held_by=held, consumed=False), Played("Second."))
    first = await world.ask("one")
    await until(lambda: world.fake.called("turn/start"))
    second = await world.ask("and two", arrival=Arrival(delivery="steer"))
    await until(lambda: world.fake.called("turn/steer"))
    held.set()
    assert ((await first.result()).text, (await second.result()).text) == ("First.", "Second.")
    assert world.told() == "and two"
    world.session_id = first.session_id
    assert await world.transcript() == [
        ("user", "one"),
        ("assistant", "First."),
        ("user", "and two"),
        ("assistant", "Second."),
    ]


async def test_a_cancelled_turn_is_interrupted(world: World) -> None:
    """The caller hears why, what was said stays, and the thread goes on."""
    world.fake.play(Played("Half an ans", held_by=asyncio.Event()))
    feed = await world.ask("one")
    async for event in feed.follow():
        if isinstance(event, ReplyDelta):
            break
    await world.app.cancel(feed.turn_id, "enough")
    assert len(world.fake.called("turn/interrupt")) == 1
    with pytest.raises(Exception, match="enough"):
        await feed.result()
    world.session_id = feed.session_id
    assert await world.transcript() == [("user", "one"), ("assistant", "Half an ans")]
    await world.say("two")
    assert "Half an ans" in world.told()  # which the thread itself does not hold


async def test_a_failure_is_on_record(world: World) -> None:
    """Whoever asks for the turn later is told the same."""
    world.fake.play(Played(dies_with=9))
    feed = await world.ask("one")
    with pytest.raises(CodexDiedError):
        await feed.result()
    again = await world.app.attach(feed.turn_id)
    assert again is not None
    with pytest.raises(RecordedFailureError, match="ended with code 9"):
        await again.result()
