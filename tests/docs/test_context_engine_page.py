"""The context engine of the how-to is installed as the page says, and shows what the page shows."""

from __future__ import annotations

import asyncio
import tomllib
from typing import TYPE_CHECKING, get_args

import pytest

from reverie.app import open_app
from reverie.config import Home, load_config
from reverie.context.contract import OPTIONAL_OPERATIONS, REQUIRED_OPERATIONS, Capability
from reverie.testing import FakeEmbedder, ScriptedModel, reply
from reverie.types import Message, SessionKey, TurnRequest
from tests.docs.pages import blocks, read
from tests.plugin_package import install, on_path

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

PAGE = read("docs/howto/context-engine.md")
SAID = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "six": "sechs"}


async def test_the_engine_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five turns the sixth shows what the page lists, and the model is told what it does not see."""
    (code,) = blocks(PAGE, "python")
    entry, listed = blocks(PAGE, "text")
    (settings,) = blocks(PAGE, "toml")
    (offered,) = tomllib.loads(entry)["project"]["entry-points"]["reverie.context_engines"].items()
    on_path(monkeypatch, tmp_path / "site")
    kinds = {offered[0]: offered[1].split(":")[1]}
    await asyncio.to_thread(install, tmp_path / "site", code, kinds, group="reverie.context_engines")
    home = Home(tmp_path / "home")
    config = await asyncio.to_thread(load_config, home, tomllib.loads(settings))
    with ScriptedModel(*(reply(answer) for answer in SAID.values())) as model:
        async with open_app(home, config, model=model, embedder=FakeEmbedder()) as app:
            for question in SAID:
                key = SessionKey("main", "agent:main:main")
                feed = await app.submit(TurnRequest(question, key, (Message("user", question),)))
                assert [event async for event in feed.follow()]
            (served,) = app.engines.statistics()

    shown = [line.split() for line in listed.splitlines()]
    sixth = model.requests[-1].messages
    assert (offered[0], served.quarantined) == ("chapters", "")
    assert [(message.role, message.text) for message in sixth[1:]] == [(role, text) for _, role, text in shown]
    assert sixth[0].text.endswith("Turns 2 to 2 of this conversation are not shown.")


def test_operations_and_capabilities_are_on_the_page() -> None:
    """Each has its line."""
    operations = (*REQUIRED_OPERATIONS, *OPTIONAL_OPERATIONS)

    assert [name for name in operations if f"| `{name}`" not in PAGE] == []
    assert [name for name in get_args(Capability) if f"`{name}`" not in PAGE] == []
