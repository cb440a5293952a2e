"""Workspace files in the prompts of a session: read once, condensed once, the same in every turn."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from reverie.app import App, open_app
from reverie.config import Home, load_config
from reverie.errors import UpstreamTimeoutError
from reverie.sessions.events import ContextAssembled
from reverie.testing import FakeEmbedder, ScriptedModel, reply
from reverie.types import Message, PromptContext, SessionKey, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.llm.client import ModelRequest
    from reverie.testing import ScriptedReply

pytestmark = pytest.mark.anyio

LONG = "# Memory\n\n" + "\n".join(f"- fact {number}: the boat has {number} ropes" for number in range(4_000))
SHORT = "# Memory\n\nThe boat has many ropes."


@asynccontextmanager
async def running(tmp_path: Path, model: ScriptedModel, **sections: Any) -> AsyncGenerator[App]:
    """An app whose MEMORY.md is far too long for the prompt."""
    home = Home(tmp_path)
    config = await asyncio.to_thread(load_config, home, {"memory": {"watch": False}, **sections})
    memory = home.workspace(config, "main") / "MEMORY.md"
    if not memory.exists():
        await asyncio.to_thread(memory.parent.mkdir, parents=True)
        await asyncio.to_thread(memory.write_text, LONG)
    async with open_app(home, config, model=model, embedder=FakeEmbedder()) as app:
        yield app


async def turn(app: App, text: str, session: str = "main") -> PromptContext:
    key = SessionKey("main", f"agent:main:{session}")
    return await assembled(app, TurnRequest(f"{session}-{text}", key, (Message("user", text),)))


async def assembled(app: App, request: TurnRequest) -> PromptContext:
    """The prompt of a turn that has run to its end."""
    feed = await app.submit(request)
    contexts = [event.context async for event in feed.follow() if isinstance(event, ContextAssembled)]
    return contexts[0]


def shown(context: PromptContext) -> str:
    """MEMORY.md as it stands in a prompt."""
    (piece,) = [piece for piece in context.pieces if piece.origin == "fragment:MEMORY.md"]
    return piece.message.text


def answers(request: ModelRequest) -> ScriptedReply | str:
    return SHORT if request.lane == "background" else "Yes."


async def test_a_long_file_is_condensed_once_and_no_file_is_opened_again(tmp_path: Path) -> None:
    """Turn after turn the prefix is the same; an edit costs one reading and one condensing."""
    async with running(tmp_path, ScriptedModel(otherwise=answers)) as app:
        first = await turn(app, "one")
        opened, condensed = app.fragments.opened, app.background.condensed
        assert condensed is not None
        later = [await turn(app, f"turn {number}") for number in range(5)]
        assert (app.fragments.opened, condensed.condensings) == (opened, 1)
        memory = app.open.workspaces["main"] / "MEMORY.md"
        await asyncio.to_thread(memory.write_text, f"{LONG}\n- fact: it was sold")
        edited = await turn(app, "edited")

        assert {shown(context) for context in later} == {shown(first)}
        assert [context.epoch for context in later] == [first.epoch] * 5
        assert (app.fragments.opened, condensed.condensings) == (opened + 1, 2)
        assert (edited.epoch, edited.epoch_reason) == (first.epoch + 1, "MEMORY.md changed")
        assert "it was sold" in shown(edited)


async def test_the_prompt_says_how_the_file_is_read_whole(tmp_path: Path) -> None:
    """And it can be: so can AGENTS.md, which is no memory."""
    async with running(tmp_path, ScriptedModel(otherwise=answers)) as app:
        context = await turn(app, "one")
        excerpt = await app.open.memory.get("main", "MEMORY.md", 2_000, 1)
        agents = await app.open.memory.get("main", "AGENTS.md")

    assert "the rest of MEMORY.md is not shown: memory_get reads the file itself" in shown(context)
    assert excerpt.text == "- fact 1997: the boat has 1997 ropes"
    assert agents.path == "AGENTS.md"


async def condensed_by_model(app: App) -> None:
    """Wait until the background has condensed the file."""
    condensed = app.background.condensed
    assert condensed is not None
    async with asyncio.timeout(10):
        while not condensed.condensed_by_model:
            await asyncio.sleep(0.02)


async def test_what_a_model_condensed_is_taken_up_where_the_prefix_changes_anyway(tmp_path: Path) -> None:
    """A session that has seen the text by rule keeps it; a new one, and one that is told otherwise, have the better."""
    named = {"compaction": {"model": "small"}}
    model = ScriptedModel(otherwise=answers)
    async with running(tmp_path, model, **named) as app:
        first = await turn(app, "one")
        await condensed_by_model(app)
        second = await turn(app, "two")
        other = await turn(app, "one", session="other")
        key = SessionKey("main", "agent:main:main")
        third = await assembled(app, TurnRequest("t9", key, (Message("user", "three"),), instructions="Rhyme."))
    async with running(tmp_path, ScriptedModel(otherwise=answers), **named) as app:
        restarted = await turn(app, "two", session="other")

    assert shown(second) == shown(first)
    assert second.epoch == first.epoch
    assert SHORT in shown(other)
    assert SHORT in shown(third)
    assert third.epoch_reason == "client instructions added; MEMORY.md changed"
    assert (shown(restarted), restarted.epoch) == (shown(other), other.epoch)
    (asked,) = [request for request in model.requests if request.lane == "background"]
    assert asked.model_override == "small"


@pytest.mark.parametrize("answer", [UpstreamTimeoutError("slow"), "word " * 20_000, " "])
async def test_a_model_that_does_not_condense_costs_nothing_but_tries(tmp_path: Path, answer: Any) -> None:
    """The text by rule stays; a text that is too long or empty is not asked for again, an error three times."""

    def answers_badly(request: ModelRequest) -> ScriptedReply | str:
        return reply(answer) if request.lane == "background" else "Yes."

    model = ScriptedModel(otherwise=answers_badly)
    async with running(tmp_path, model, compaction={"model": "small"}) as app:
        texts: set[str] = set()
        for number in range(6):
            texts.add(shown(await turn(app, f"turn {number}")))
            await asyncio.sleep(0.05)

    asked = sum(request.lane == "background" for request in model.requests)
    assert len(texts) == 1
    assert asked == (3 if isinstance(answer, Exception) else 1)
