"""What a model's server is told so that it finds the beginning of a prompt again, and what it says it had kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from reverie.app import open_app
from reverie.config import Home, load_config
from reverie.sessions.events import TurnFinished
from reverie.testing import FakeEmbedder, ScriptedModel, reply
from reverie.types import Message, SessionKey, ToolCall, TurnRequest, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.app import App

pytestmark = pytest.mark.anyio

SEARCH = ToolCall("c1", "memory_search", '{"query":"kiln"}')


async def turn(app: App, text: str) -> TurnFinished:
    """Run a turn to its end."""
    feed = await app.submit(TurnRequest(text, SessionKey("main", "agent:main:main"), (Message("user", text),)))
    ended = [event async for event in feed.follow()][-1]
    assert isinstance(ended, TurnFinished)
    return ended


async def test_the_ends_of_what_comes_again_are_named(tmp_path: Path) -> None:
    """The system message, the history, and within a turn what was said so far; the session by its random id."""
    model = ScriptedModel(reply("eins"), reply("Let me look.", calls=[SEARCH]), reply("zwei"))
    config = await asyncio.to_thread(load_config, Home(tmp_path))
    async with open_app(Home(tmp_path), config, model=model, embedder=FakeEmbedder()) as app:
        await turn(app, "one")
        await turn(app, "two")
        (session,) = {message.session_id for message in await app.open.sessions.messages_after(0, 100)}

    first, second, third = model.requests
    assert {request.cache_key for request in model.requests} == {f"reverie-{session}"}
    assert (len(first.messages), first.cache_breakpoints) == (2, (0,))
    assert (len(second.messages), second.cache_breakpoints) == (4, (0, 2))
    assert (len(third.messages), third.cache_breakpoints) == (6, (0, 2, 5))
    assert third.messages[:4] == second.messages
    assert second.messages[0] == first.messages[0]


async def test_what_the_server_had_kept_is_told(tmp_path: Path) -> None:
    """In the usage of the answer, and summed up in status and metrics."""
    kept = Usage(prompt_tokens=900, completion_tokens=5, total_tokens=905, cached_tokens=800)
    model = ScriptedModel(reply("eins", usage=kept), reply("zwei", usage=kept))
    config = await asyncio.to_thread(load_config, Home(tmp_path))
    async with open_app(Home(tmp_path), config, model=model, embedder=FakeEmbedder()) as app:
        await turn(app, "one")
        ended = await turn(app, "two")
        status = (await app.status()).as_json()
        gauges = {gauge.name: gauge.value for gauge in await app.gauges()}

    assert ended.usage.cached_tokens == 800
    assert status["promptCache"] == {"calls": 2, "promptTokens": 1_800, "cachedTokens": 1_600}
    assert (gauges["prompt_tokens"], gauges["prompt_tokens_cached"]) == (1_800, 1_600)
