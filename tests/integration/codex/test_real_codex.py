"""The real Codex app-server against a fake Responses server: what is said to it, and what it sends to the model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.app import open_app
from reverie.config import Home, load_config
from reverie.context.projection import HEADER
from reverie.errors import CodexDiedError, RequestError, TurnCancelledError, UpstreamRefusedError
from reverie.sessions.events import ReplyDelta
from reverie.testing.fake_responses import (
    Answer,
    FakeResponses,
    FunctionCall,
    Refusal,
    context_too_long,
    invalid_image,
    serve,
)
from reverie.types import Arrival, ImagePart, Message, SessionKey, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.app import App
    from reverie.sessions.events import TurnFinished
    from reverie.sessions.feed import TurnFeed
    from reverie.types import ThreadBinding

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(find_spec("codex_cli_bin") is None, reason="the extra `codex` is not installed"),
]

KEY = SessionKey("main", "agent:main:main")
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


@dataclass
class World:
    """An app whose agent runs on the real Codex, and the model's server behind it."""

    app: App
    responses: FakeResponses
    lines: Path

    async def ask(self, text: str = "", **fields: Any) -> TurnFeed:
        """Say something."""
        messages = fields.pop("messages", (Message("user", text),))
        key = fields.pop("session", KEY)
        return await self.app.submit(TurnRequest(f"turn_{uuid.uuid4().hex}", key, messages, **fields))

    async def say(self, text: str = "", **fields: Any) -> TurnFinished:
        """Say something, and wait for the answer."""
        return await (await self.ask(text, **fields)).result()

    def sent(self) -> list[dict[str, Any]]:
        """Every line that was written to the app-server."""
        return [json.loads(line) for line in self.lines.read_text().splitlines()]

    def methods(self) -> list[str]:
        """What it was asked, in order."""
        return [line["method"] for line in self.sent() if "method" in line]

    async def binding(self) -> ThreadBinding:
        """The thread that the session is bound to."""
        bound = (await self.app.open.bindings.page()).sessions[0].binding
        assert bound is not None
        return bound

    async def reasons(self) -> list[str]:
        """Why each decision was made, oldest first."""
        return [event.reason for event in (await self.app.open.thread_log.events(KEY.value))[::-1]]

    async def codex_pid(self) -> int:
        """The app-server's process."""
        async with asyncio.timeout(5):
            while True:
                for pid in await asyncio.to_thread(_children_of, os.getpid()):
                    if "app-server" in await asyncio.to_thread(_command_of, pid):
                        return pid
                await asyncio.sleep(0.01)


def _children_of(pid: int) -> list[int]:
    from pathlib import Path

    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in listed for child in file.read_text().split()]


def _command_of(pid: int) -> str:
    from pathlib import Path

    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@asynccontextmanager
async def opened(folder: Path, responses: FakeResponses, **codex: Any) -> AsyncGenerator[World]:
    """The app on the real Codex, whose lines are copied on their way."""
    from codex_cli_bin import bundled_codex_path  # pyright: ignore[reportMissingTypeStubs]

    lines, tap = folder / "lines.jsonl", folder / "codex"
    if codex.pop("tapped", True):
        script = f'#!/bin/sh\ntee -a "{lines}" | "{bundled_codex_path()}" "$@"\n'
        await asyncio.to_thread(tap.write_text, script)
        await asyncio.to_thread(tap.chmod, 0o755)
        codex["binary"] = str(tap)
    async with serve(responses.app) as address:
        own: dict[str, Any] = {"base_url": f"{address}/v1", "model": "fake-model", "steer_quiet_ms": 0, **codex}
        quick: dict[str, Any] = {
            "model_providers": {"reverie": {"request_max_retries": 0, "stream_max_retries": 0}},
            **own.pop("settings", {}),
        }
        settings: dict[str, Any] = {
            "agents": {"main": {"runtime": "codex", "codex": {**own, "settings": quick}}},
            "memory": {"embedder": "none", "recall_hits": 0, "watch": False},
            "queue": {"debounce_ms": 0},
        }
        home = Home(folder / "home")
        config = await asyncio.to_thread(load_config, home, settings)
        async with open_app(home, config) as app:
            yield World(app, responses, lines)


async def heard(feed: TurnFeed) -> None:
    """Wait until something of the answer is heard."""
    with anyio.fail_after(10):
        async for event in feed.follow():
            if isinstance(event, ReplyDelta):
                return


async def test_a_thread_is_bootstrapped_once_and_stays_warm(tmp_path: Path) -> None:
    """The second turn is `thread/resume` and `turn/start` with the bare prompt.

    The model's server sees a beginning that is identical to the last byte, also after a restart.
    """
    responses = FakeResponses(otherwise=lambda request: Answer(f"answer {request.number}"))
    async with opened(tmp_path, responses) as world:
        history = (Message("user", "I am Ada. " * 200), Message("assistant", "Noted."), Message("user", "Who am I?"))
        assert (await world.say(messages=history)).text == "answer 1"
        assert (await world.say("And now?")).text == "answer 2"
        assert world.methods() == [
            "initialize", "initialized", "thread/start", "turn/start", "thread/resume", "turn/start",
        ]  # fmt: skip
        first, second = (line["params"] for line in world.sent() if line.get("method") == "turn/start")
        assert first["input"][0]["text"].startswith(HEADER)
        assert second["input"] == [{"type": "text", "text": "And now?"}]
    async with opened(tmp_path, responses) as world:
        assert (await world.say("Still?")).text == "answer 3"
        assert (await world.reasons())[1:] == ["matching-thread-bootstrap-binding"] * 2
    one, two, three = responses.requests
    assert [request.repeated.changed_bytes for request in (one, two, three)] == [0, 0, 0]
    assert two.repeated.identical_bytes == one.repeated.prompt_bytes
    assert three.repeated.identical_bytes == two.repeated.prompt_bytes
    assert len({request.thread for request in (one, two, three)}) == 1
    assert three.repeated.new_bytes < 1_000
    assert [text for text in three.texts() if not text.startswith("<environment")][1:] == ["And now?", "Still?"]


async def test_usage_is_that_of_the_turn(tmp_path: Path) -> None:
    """Tokens as the model's server counted them, with what it had cached; the window is kept with the binding."""
    responses = FakeResponses(otherwise=Answer("Good morning, Ada."))
    async with opened(tmp_path, responses) as world:
        await world.say("one")
        finished = await world.say("two")
        request = responses.requests[-1]
        assert (finished.usage.prompt_tokens, finished.usage.cached_tokens) == (
            request.prompt_tokens,
            request.cached_tokens,
        )
        assert finished.usage.cached_tokens > 1_000
        tokens = (await world.binding()).tokens
        assert tokens is not None
        assert (tokens.tokens, tokens.source, tokens.model) == (finished.usage.total_tokens, "last", "fake-model")
        assert tokens.window is not None


async def test_a_message_enters_a_running_turn_and_nothing_said_is_lost(tmp_path: Path) -> None:
    """It waits for the end of what the model is saying, is read then, and one answer is for both."""
    held = threading.Event()
    responses = FakeResponses(Answer("First part.", held_by=held), Answer("Second part."))
    async with opened(tmp_path, responses) as world:
        first = await world.ask("one")
        await heard(first)
        second = await world.ask("and two", arrival=Arrival(delivery="steer"))
        with anyio.fail_after(10):
            while "turn/steer" not in world.methods():
                await anyio.sleep(0.01)
        held.set()
        assert (await first.result()).text == (await second.result()).text == "First part.\n\nSecond part."
        assert responses.requests[1].texts()[-1] == "and two"
        assert responses.requests[1].texts("assistant") == ["First part."]
        assert responses.requests[1].repeated.changed_bytes == 0


async def test_a_cancelled_turn_stops_the_model(tmp_path: Path) -> None:
    """Codex lets go of the stream, the caller hears why, and the thread goes on."""
    responses = FakeResponses(Answer("Never ending.", held_by=threading.Event()), Answer("Fine."))
    async with opened(tmp_path, responses) as world:
        feed = await world.ask("one")
        await heard(feed)
        await world.app.cancel(feed.turn_id, "enough")
        with pytest.raises(TurnCancelledError, match="enough"):
            await feed.result()
        assert "turn/interrupt" in world.methods()
        assert responses.disconnects == 1
        assert (await world.say("two")).text == "Fine."
        assert len(responses.of_thread(responses.requests[0].thread)) == 2


async def test_codex_is_denied_what_it_asks_for(tmp_path: Path) -> None:
    """Its commands run in a sandbox that cannot write, and nobody lets them out of it. Our secrets are not theirs."""
    target = tmp_path / "escaped"
    write = FunctionCall("exec_command", json.dumps({"cmd": f"echo no > {target}; env"}))
    escape = {"cmd": f"echo no > {target}", "sandbox_permissions": "require_escalated", "justification": "because"}
    responses = FakeResponses(
        Answer("", calls=(write,)),
        Answer("", calls=(FunctionCall("exec_command", json.dumps(escape)),)),
        Answer("Done."),
    )
    os.environ["REVERIE_SECRET_OF_TEST"] = "s3cret-value"
    try:
        async with opened(tmp_path, responses) as world:
            assert (await world.say("one")).text == "Done."
    finally:
        del os.environ["REVERIE_SECRET_OF_TEST"]
    assert not target.exists()
    outputs = [item["output"] for item in responses.requests[-1].input if item["type"] == "function_call_output"]
    assert len(outputs) == 2
    assert "s3cret-value" not in outputs[0]
    assert "approval policy is Never" in outputs[1]


async def test_codex_is_allowed_what_is_configured(tmp_path: Path) -> None:
    """With `approvals = "allow"` it asks, and is answered at once."""
    target = tmp_path / "written"
    escape = {"cmd": f"echo yes > {target}", "sandbox_permissions": "require_escalated", "justification": "because"}
    responses = FakeResponses(Answer("", calls=(FunctionCall("exec_command", json.dumps(escape)),)), Answer("Done."))
    async with opened(tmp_path, responses, approvals="allow") as world:
        assert (await world.say("one")).text == "Done."
        assert any(line.get("result") == {"decision": "accept"} for line in world.sent())
    assert target.read_text() == "yes\n"


async def test_codex_compacts_its_thread(tmp_path: Path) -> None:
    """By itself, when the window is nearly full: the thread stays, the place is marked, what was said is in memory.

    What the thread may have lost, a file that changed since it was loaded, is told again.
    """

    def answer(request: Any) -> Answer:
        said = request.texts()[-1]
        if "CHECKPOINT" in said:
            return Answer("A summary of it all.")
        return Answer("ok", output_tokens=10_000 if "Alba" in said else None)

    responses = FakeResponses(otherwise=answer)
    limit = {"model_auto_compact_token_limit": 12_000}
    async with opened(tmp_path, responses, settings=limit) as world:
        workspace = tmp_path / "home" / "agents" / "main" / "workspace"
        await world.say("one")
        await asyncio.to_thread((workspace / "MEMORY.md").write_text, "Gretel is in Bremen.")
        await world.say("The boat is called Alba, remember that.")
        assert "Gretel is in Bremen." in responses.requests[-1].texts()[-1]
        await world.say("three")
        assert any("CHECKPOINT" in request.texts()[-1] for request in responses.requests)
        with anyio.fail_after(10):
            while "thread.compacted" not in [each.kind for each in await world.app.events_after(KEY.value, 0, 200)]:
                await anyio.sleep(0.02)
        notes = await asyncio.to_thread(lambda: [file.read_text() for file in (workspace / "memory").glob("*.md")])
        assert any("Alba" in note for note in notes)
        await world.say("four")
        assert "Gretel is in Bremen." in responses.requests[-1].texts()[-1]
        await world.say("five")
        assert responses.requests[-1].texts()[-1] == "five"
        assert world.methods().count("thread/start") == 1


async def test_a_person_may_have_a_thread_compacted(tmp_path: Path) -> None:
    """Codex does it before the next turn, which runs in the same thread behind a summary."""
    responses = FakeResponses(otherwise=Answer("ok"))
    async with opened(tmp_path, responses) as world:
        await world.say("one")
        await world.say("two")
        await world.app.request_compaction(KEY.value)
        assert (await world.say("three")).text == "ok"
        assert "CHECKPOINT" in responses.requests[2].texts()[-1]
        assert responses.requests[3].texts()[-1] == "three"
        assert len({request.thread for request in responses.requests}) == 1
        assert world.methods()[-3:] == ["thread/resume", "thread/compact/start", "turn/start"]


async def test_a_window_that_overflows_is_answered_by_a_fresh_thread(tmp_path: Path) -> None:
    """Within the same turn, with everything told anew: the model reads the conversation, and the caller its answer."""
    responses = FakeResponses(Answer("One."), context_too_long(), Answer("Two."))
    async with opened(tmp_path, responses) as world:
        await world.say("My name is Ada.")
        assert (await world.say("Who am I?")).text == "Two."
        assert await world.reasons() == [
            "missing-thread-binding",
            "matching-thread-bootstrap-binding",
            "window-overflow",
        ]
        assert responses.requests[2].thread != responses.requests[1].thread
        assert "[user]\nMy name is Ada." in responses.requests[2].texts()[-1]


async def test_an_image_that_cannot_be_read_costs_the_thread(tmp_path: Path) -> None:
    """The caller is told, and the next turn begins a thread without the image."""
    responses = FakeResponses(Answer("One."), invalid_image(), Answer("Three."))
    async with opened(tmp_path, responses) as world:
        await world.say("one")
        with pytest.raises(RequestError, match="Invalid image"):
            await world.say(messages=(Message("user", "look", images=(ImagePart(PNG),)),))
        assert (await world.say("three")).text == "Three."
        assert "input_image" not in json.dumps(responses.requests[-1].input)
        assert responses.requests[-1].thread != responses.requests[0].thread


async def test_what_the_model_refuses_is_told_as_it_is(tmp_path: Path) -> None:
    """A limit of the account is a 429 of ours, and the next turn goes on in the same thread."""
    responses = FakeResponses(Answer("One."), Refusal(429, "no", "insufficient_quota"), Answer("Three."))
    async with opened(tmp_path, responses) as world:
        await world.say("one")
        with pytest.raises(UpstreamRefusedError, match="Quota exceeded") as refused:
            await world.say("two")
        assert (refused.value.status, refused.value.code) == (429, "insufficient_quota")
        await world.say("three")
        assert len({request.thread for request in responses.requests}) == 1


async def test_killed_within_a_turn(tmp_path: Path) -> None:
    """The turn fails with its cause at once; the next one resumes the thread in another child, with a bare prompt."""
    responses = FakeResponses(Answer("One."), Answer("Half", held_by=threading.Event()), Answer("Three."))
    async with opened(tmp_path, responses, tapped=False) as world:
        await world.say("one")
        feed = await world.ask("two")
        await heard(feed)
        os.kill(await world.codex_pid(), signal.SIGKILL)
        with anyio.fail_after(3), pytest.raises(CodexDiedError, match="ended with code -9"):
            await feed.result()
        assert (await world.say("three")).text == "Three."
        assert (await world.reasons())[-1] == "appended-context"  # half of an answer is all that it has not seen
        assert len({request.thread for request in responses.requests}) == 1
        assert responses.requests[-1].repeated.changed_bytes == 0


async def test_a_rollout_that_is_gone(tmp_path: Path) -> None:
    """The thread cannot be resumed: another is told everything, within the same turn."""
    responses = FakeResponses(otherwise=Answer("ok"))
    async with opened(tmp_path, responses) as world:
        await world.say("My name is Ada.")
    for file in (tmp_path / "home" / "codex" / "main" / "sessions").rglob("*.jsonl"):
        file.unlink()
    async with opened(tmp_path, responses) as world:
        assert (await world.say("Who am I?")).text == "ok"
        assert (await world.reasons())[-1] == "resume-failed"
        assert "[user]\nMy name is Ada." in responses.requests[-1].texts()[-1]


async def test_another_model_does_not_rotate(tmp_path: Path) -> None:
    """The thread goes on with it."""
    responses = FakeResponses(otherwise=Answer("ok"))
    async with opened(tmp_path, responses) as world:
        await world.say("one")
        finished = await world.say("two", model_override="other-model")
        assert finished.model == "other-model"
        assert [request.body["model"] for request in responses.requests] == ["fake-model", "other-model"]
        assert len({request.thread for request in responses.requests}) == 1


async def test_sessions_share_a_child_and_nothing_else(tmp_path: Path) -> None:
    """Two conversations at once are two threads of one app-server."""
    responses = FakeResponses(otherwise=lambda request: Answer(request.texts()[-1].upper()))
    async with opened(tmp_path, responses) as world:
        other = SessionKey("main", "agent:main:other")
        first, second = await asyncio.gather(world.say("one"), world.say("two", session=other))
        assert (first.text, second.text) == ("ONE", "TWO")
        assert world.methods().count("initialize") == 1
        assert len({request.thread for request in responses.requests}) == 2


async def test_nothing_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key reaches the model's server by way of the child's environment, and stands in no file of the home."""
    monkeypatch.setenv("REVERIE_CODEX_API_KEY", "sk-never-written-0123456789")
    responses = FakeResponses(otherwise=Answer("ok"))
    async with opened(tmp_path, responses) as world:
        await world.say("one")
    assert responses.requests[0].headers["authorization"] == "Bearer sk-never-written-0123456789"
    held = [file for file in (tmp_path / "home").rglob("*") if file.is_file() and b"never-written" in file.read_bytes()]
    assert held == []
