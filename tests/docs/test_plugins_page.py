"""The plugin of the how-to is installed as the page says, and does what the page shows."""

from __future__ import annotations

import asyncio
import tomllib
from typing import TYPE_CHECKING

import pytest

from reverie.app import open_app
from reverie.config import Home, load_config
from reverie.testing import FakeEmbedder, ScriptedModel, reply
from reverie.types import Message, SessionKey, TurnRequest
from tests.docs.pages import blocks, read
from tests.plugin_package import install, on_path

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

PAGE = read("docs/howto/plugins.md")


async def test_the_plugin_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note reaches the model as shown, and the list has a line for the turn."""
    (code,) = blocks(PAGE, "python")
    entry, prompt = blocks(PAGE, "text")
    (offered,) = tomllib.loads(entry)["project"]["entry-points"]["reverie.plugins"].items()
    costs = tmp_path / "costs.txt"
    (_, settings) = (
        tomllib.loads(each.replace("/var/log/house-costs.txt", str(costs))) for each in blocks(PAGE, "toml")
    )
    on_path(monkeypatch, tmp_path / "site")
    await asyncio.to_thread(install, tmp_path / "site", code, {offered[0]: offered[1].split(":")[1]})
    home = Home(tmp_path / "home")
    config = await asyncio.to_thread(load_config, home, settings)
    question = Message("user", "How warm is the oven?")
    with ScriptedModel(reply("Hot.")) as model:
        async with open_app(home, config, model=model, embedder=FakeEmbedder()) as app:
            feed = await app.submit(TurnRequest("t1", SessionKey("main", "agent:main:main"), (question,)))
            assert [event async for event in feed.follow()]
            await app.plugins.settle()

    assert offered == ("house_notes", "house_notes:HouseNotes")
    assert model.requests[0].messages[-1].text == prompt.rstrip("\n")
    assert await asyncio.to_thread(costs.read_text) == "t1 answered 15\n"


def test_the_plugins_that_come_with_reverie_are_on_the_page() -> None:
    """Each of our entry points, under its name."""
    ours = tomllib.loads(read("pyproject.toml"))["project"]["entry-points"]["reverie.plugins"]

    assert [name for name in ours if f"| `{name}` |" not in PAGE] == []
