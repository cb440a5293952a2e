"""The app-server: requests, events, overload, death and restart, on a double of the child."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest
import stamina

from reverie.agent.codex import app_server, process
from reverie.agent.codex.app_server import AppServer, ThreadOptions, TurnOptions
from reverie.agent.codex.protocol import NativeThread, TextPiece, TurnEnded
from reverie.errors import (
    CodexDiedError,
    CodexError,
    CodexOverloadedError,
    CodexRefusedError,
    CodexUnavailableError,
)
from reverie.testing import FakeClock
from reverie.testing.fake_app_server import (
    Death,
    FakeAppServer,
    Garbage,
    Refuse,
    Result,
    Silence,
    ended_params,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from reverie.agent.codex.protocol import Event

pytestmark = pytest.mark.anyio

OPTIONS = ThreadOptions(cwd="/ws", approval_policy="never", sandbox="read-only")
IDS = {"threadId": "t", "turnId": "u"}


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    """Tries follow one another at once."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def fake() -> FakeAppServer:
    """A child that answers as told."""
    return FakeAppServer()


@pytest.fixture
def clock() -> FakeClock:
    """The time."""
    return FakeClock()


@pytest.fixture
async def server(fake: FakeAppServer, clock: FakeClock) -> AsyncGenerator[AppServer]:
    """An app-server on it."""
    serving = AppServer(fake, clock, hide=lambda text: text.replace("s3cret", "***"))
    yield serving
    await serving.aclose()


# -- what is sent --------------------------------------------------------------------------------------------------


async def test_a_connection_begins_with_a_greeting(server: AppServer, fake: FakeAppServer) -> None:
    """`initialize`, its answer, `initialized`; only then is anything else asked, and the stable protocol is enough."""
    await server.start_thread(OPTIONS)
    assert [method for method, _ in fake.calls] == ["initialize", "initialized", "thread/start"]
    greeting = fake.called("initialize")[0]
    assert greeting["clientInfo"]["name"] == "reverie"
    assert greeting["capabilities"]["experimentalApi"] is False
    assert "warning" in greeting["capabilities"]["optOutNotificationMethods"]


async def test_threads_and_turns_are_asked_for_in_the_protocols_words(server: AppServer, fake: FakeAppServer) -> None:
    """Method by method, with what is not set left out."""
    options = ThreadOptions("/ws", "never", "read-only", "m", "Be brief.", {"web_search": "disabled"})
    await server.start_thread(options)
    await server.resume_thread("t", OPTIONS)
    await server.fork_thread("t", OPTIONS)
    await server.read_thread("t")
    await server.start_turn("t", [{"type": "text", "text": "Hi"}], "c1", TurnOptions("m2", "low", {"type": "object"}))
    await server.steer("t", "turn-1", [{"type": "text", "text": "Wait"}], "c2")
    await server.interrupt("t", "turn-1")
    await server.compact("t")
    await server.unsubscribe("t")
    place = {"cwd": "/ws", "approvalPolicy": "never", "sandbox": "read-only"}
    assert fake.calls[2:] == [
        ("thread/start", {**place, "model": "m", "developerInstructions": "Be brief.",
                          "config": {"web_search": "disabled"}}),
        ("thread/resume", {"threadId": "t", **place, "excludeTurns": True}),
        ("thread/fork", {"threadId": "t", **place, "excludeTurns": True, "ephemeral": True}),
        ("thread/read", {"threadId": "t"}),
        ("turn/start", {"threadId": "t", "input": [{"type": "text", "text": "Hi"}], "clientUserMessageId": "c1",
                        "model": "m2", "effort": "low", "outputSchema": {"type": "object"}}),
        ("turn/steer", {"threadId": "t", "expectedTurnId": "turn-1", "input": [{"type": "text", "text": "Wait"}],
                        "clientUserMessageId": "c2"}),
        ("turn/interrupt", {"threadId": "t", "turnId": "turn-1"}),
        ("thread/compact/start", {"threadId": "t"}),
        ("thread/unsubscribe", {"threadId": "t"}),
    ]  # fmt: skip


async def test_answers_find_their_askers(server: AppServer, fake: FakeAppServer) -> None:
    """Several requests wait at once, and each gets its own answer."""
    threads = await asyncio.gather(*(server.resume_thread(f"t{n}", OPTIONS) for n in range(20)))
    assert [thread.id for thread in threads] == [f"t{n}" for n in range(20)]
    assert len(fake.children) == 1


async def test_a_refusal_is_raised_with_its_code(server: AppServer, fake: FakeAppServer) -> None:
    """What the app-server says is in the message."""
    fake.then("thread/resume", Refuse("no rollout found for thread id t"))
    with pytest.raises(CodexRefusedError, match="no rollout found for thread id t") as refused:
        await server.resume_thread("t", OPTIONS)
    assert refused.value.rpc_code == -32600


async def test_an_answer_without_what_was_asked_for_is_an_error(server: AppServer, fake: FakeAppServer) -> None:
    """A thread without an id is no thread, a turn without one no turn."""
    fake.then("thread/start", Result({"thread": {}}))
    fake.then("turn/start", Result({"turn": None}))
    with pytest.raises(CodexError, match="answered thread/start without a thread"):
        await server.start_thread(OPTIONS)
    with pytest.raises(CodexError, match="answered turn/start without an id"):
        await server.start_turn("t", [], "c")


async def test_an_overloaded_server_is_asked_again(server: AppServer, fake: FakeAppServer) -> None:
    """Error -32001 means later: the same request is made again, within bounds."""
    fake.then("thread/start", *[Refuse("Server overloaded; retry later.", -32001)] * 3)
    assert await server.start_thread(OPTIONS) == NativeThread("thread-1", "fake-model")
    assert len(fake.called("thread/start")) == 4


async def test_a_server_that_stays_overloaded_is_an_error(server: AppServer, fake: FakeAppServer) -> None:
    """After the last try the caller is told that nothing was done."""
    fake.then("thread/start", *[Refuse("Server overloaded; retry later.", -32001)] * 200)
    with pytest.raises(CodexOverloadedError, match="overloaded"):
        await server.start_thread(OPTIONS)


async def test_a_request_waits_only_so_long(
    server: AppServer, fake: FakeAppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer is an error that names what was asked."""
    monkeypatch.setattr(app_server, "THREAD_S", 0.05)
    fake.then("thread/start", Silence())
    with pytest.raises(CodexError, match=r"did not answer thread/start within 0\.05 s"):
        await server.start_thread(OPTIONS)


# -- what comes in -------------------------------------------------------------------------------------------------


async def read(count: int, server: AppServer, fake: FakeAppServer, *said: tuple[str, dict[str, object]]) -> list[Event]:
    """The first events of thread `t`, once these things were said."""
    await server.start_thread(OPTIONS)
    with server.subscribed("t") as events:
        for method, params in said:
            fake.child.say(method, params)
        return [await events.next() for _ in range(count)]


async def test_a_subscriber_hears_its_own_thread(server: AppServer, fake: FakeAppServer) -> None:
    """Events of other threads, and what nobody reads, do not reach it; the latter is counted."""
    heard = await read(
        2,
        server,
        fake,
        ("item/agentMessage/delta", {**IDS, "threadId": "other", "itemId": "i", "delta": "no"}),
        ("thread/goal/updated", {"threadId": "t"}),
        ("item/agentMessage/delta", {**IDS, "itemId": "i", "delta": "yes"}),
        ("turn/completed", ended_params("t", "u")),
    )
    assert heard == [TextPiece("t", "u", "i", "yes"), TurnEnded("t", "u", "completed", None)]
    assert server.statistics().unread == 1
    assert server.statistics().subscriptions == 0


async def test_events_that_nobody_reads_are_bounded(
    server: AppServer, fake: FakeAppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that overflows ends with an error rather than with a gap, and another thread does not notice."""
    monkeypatch.setattr(app_server, "EVENTS_MAX", 3)
    await server.start_thread(OPTIONS)
    with server.subscribed("t") as slow, server.subscribed("other") as quick:
        for _ in range(5):
            fake.child.say("item/agentMessage/delta", {**IDS, "itemId": "i", "delta": "x"})
        fake.child.say("thread/status/changed", {"threadId": "other", "status": {"type": "idle"}})
        await quick.next()
        with pytest.raises(CodexError, match="cannot be followed"):
            await slow.next()
        with pytest.raises(CodexError, match="cannot be followed"):
            await slow.next()


async def test_questions_are_answered_at_once(server: AppServer, fake: FakeAppServer) -> None:
    """A permission is denied; what is not known gets the protocol's own error."""
    await server.start_thread(OPTIONS)
    fake.child.ask("item/commandExecution/requestApproval", {"threadId": "t"}, 7)
    fake.child.ask("attestation/generate", {}, 8)
    await server.read_thread("t")
    assert fake.child.answers == [
        {"id": 7, "result": {"decision": "decline"}},
        {"id": 8, "error": {"code": -32601, "message": "attestation/generate is not answered here"}},
    ]


# -- the child -----------------------------------------------------------------------------------------------------


async def test_a_child_that_dies_is_noticed_at_once(server: AppServer, fake: FakeAppServer) -> None:
    """Whoever waits for an answer or for events is told, with its exit code and its last words."""
    await server.start_thread(OPTIONS)
    fake.then("thread/read", Silence())
    with server.subscribed("t") as events:
        asking = asyncio.ensure_future(server.read_thread("t"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        fake.child.complain("\x1b[31mERROR\x1b[0m core: out of memory, key s3cret")
        fake.child.die(137)
        with (
            anyio.fail_after(2),
            pytest.raises(CodexDiedError, match=r"ended with code 137; it said: ERROR core: out of"),
        ):
            await asking
        with pytest.raises(CodexDiedError, match=r"key \*\*\*"):
            await events.next()


async def test_the_next_request_starts_another_child(server: AppServer, fake: FakeAppServer) -> None:
    """A death costs those who waited for it, and nobody else."""
    await server.start_thread(OPTIONS)
    fake.child.die(9)
    await server.resume_thread("t", OPTIONS)
    assert [child.alive for child in fake.children] == [False, True]
    assert server.statistics().process == process.ProcessStatistics(1_001, 2, 1)


async def test_sessions_share_one_child(server: AppServer, fake: FakeAppServer) -> None:
    """Requests that come while it starts wait for it, and start no other."""
    await asyncio.gather(*(server.start_thread(OPTIONS) for _ in range(5)))
    assert len(fake.children) == 1
    assert len(fake.called("initialize")) == 1


async def test_a_child_that_keeps_dying_is_left_alone(
    server: AppServer, fake: FakeAppServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many deaths within a while the caller is told when it is tried again; then it is."""
    monkeypatch.setattr(process, "WAIT_S_FIRST", 0.0)
    fake.then("thread/start", *[Death(1)] * process.DEATHS_MAX)
    for _ in range(process.DEATHS_MAX):
        with pytest.raises(CodexDiedError):
            await server.start_thread(OPTIONS)
        clock.advance(seconds=1)
    with pytest.raises(CodexUnavailableError, match=r"ended 5 times within 5 minutes; it is started again in 295 s"):
        await server.start_thread(OPTIONS)
    clock.advance(seconds=296)
    assert (await server.start_thread(OPTIONS)).id == "thread-1"


@pytest.mark.parametrize(
    ("deaths", "wait_s"), [(0, 0.0), (1, 0.0), (2, 0.2), (3, 0.4), (4, 0.8), (20, process.WAIT_S_MAX)]
)
def test_each_death_makes_the_next_start_wait_longer(deaths: int, wait_s: float) -> None:
    """The first restart is free, and no wait is longer than half a minute."""
    assert process.restart_wait_s(deaths) == wait_s


async def test_a_child_that_does_not_answer_the_greeting_is_none(
    server: AppServer, fake: FakeAppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended, and the cause is told."""
    monkeypatch.setattr(process, "START_S_MAX", 0.05)
    fake.then("initialize", Silence(), Refuse("Already initialized"))
    with pytest.raises(CodexUnavailableError, match=r"does not start: it did not answer within 0\.05 s"):
        await server.start_thread(OPTIONS)
    with pytest.raises(CodexUnavailableError, match="does not start: .*Already initialized"):
        await server.start_thread(OPTIONS)
    assert [child.alive for child in fake.children] == [False, False]


@pytest.mark.parametrize("line", [b"not json\n", b"[1, 2]\n", b"\xff\xfe{}\n"])
async def test_a_line_that_is_no_message_ends_the_connection(
    server: AppServer, fake: FakeAppServer, line: bytes
) -> None:
    """What follows it cannot be trusted either; the child is ended, and the next request starts another."""
    fake.then("thread/start", Garbage(line))
    with pytest.raises(CodexDiedError):
        await server.start_thread(OPTIONS)
    assert (await server.start_thread(OPTIONS)).id == "thread-1"
    assert not fake.children[0].alive


async def test_empty_lines_mean_nothing(server: AppServer, fake: FakeAppServer) -> None:
    """They are passed over."""
    await server.start_thread(OPTIONS)
    fake.child.write_out(b"\n  \n")
    assert (await server.read_thread("t")).id == "t"


async def test_a_child_can_be_ended_because_it_hangs(server: AppServer, fake: FakeAppServer) -> None:
    """Whoever waits for it is told why, and the next request starts another."""
    await server.start_thread(OPTIONS)
    with server.subscribed("t") as events:
        await server.kill("a turn did not stop")
        with pytest.raises(CodexDiedError, match="is gone: a turn did not stop"):
            await events.next()
    await server.start_thread(OPTIONS)
    assert len(fake.children) == 2


async def test_nothing_is_started_when_it_is_not_there(clock: FakeClock) -> None:
    """The cause is the caller's to see."""
    server = AppServer(FakeAppServer(broken=True), clock)
    with pytest.raises(CodexUnavailableError, match="it is not there"):
        await server.start_thread(OPTIONS)


async def test_nothing_is_started_after_the_end(server: AppServer, fake: FakeAppServer) -> None:
    """The child ends because its stdin closes, and no other is started."""
    await server.start_thread(OPTIONS)
    await server.aclose()
    assert (fake.child.alive, fake.child.terminated) == (False, False)
    with pytest.raises(CodexUnavailableError, match="stopping"):
        await server.start_thread(OPTIONS)
