"""What went wrong in a plugin is seen by whoever looks at the home: `reverie status` and `reverie doctor`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from reverie.app import open_app
from reverie.cli.main import app
from reverie.clock import SystemClock
from reverie.config import Home, load_config
from reverie.doctor import examine, open_patient
from reverie.storage.schema import load_queries
from reverie.testing import ScriptedModel, reply
from reverie.types import Message, SessionKey, TurnRequest
from tests.plugin_package import install, on_path

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
class Its(Plugin):
    def before_turn(self, event): raise OSError("no such street")
"""
SETTINGS = """
[memory]
watch = false
embedder = "none"
[plugins.weather]
[plugins.gone]
enabled = false
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home in which a plugin failed in the only turn."""
    load_queries("doctor")
    on_path(monkeypatch, tmp_path / "site")
    install(tmp_path / "site", CODE, {"weather": "Its"}, "forecasts")
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.config_file.write_text(SETTINGS, encoding="utf-8")
    asyncio.run(one_turn(home))
    return home


async def one_turn(home: Home) -> None:
    """Ask something, and wait for the answer."""
    config = await asyncio.to_thread(load_config, home)
    with ScriptedModel(reply("Hello.")) as model:
        async with open_app(home, config, model=model) as running:
            key = SessionKey("main", "agent:main:main")
            feed = await running.submit(TurnRequest("t1", key, (Message("user", "Hi."),)))
            assert [event async for event in feed.follow()]


def test_status_tells_of_plugins(home: Home) -> None:
    """Package, grant and the last failure, for people and for programs."""
    shown = CliRunner().invoke(app, ["status", "--home", str(home.path)]).stdout
    told = json.loads(CliRunner().invoke(app, ["status", "--json", "--home", str(home.path)]).stdout)

    lines = [line.partition(" ")[2].strip() for line in shown.splitlines() if line.startswith("plugin")]
    failed = "before_turn: OSError: no such street"
    assert lines == [
        f"weather (forecasts 1.2), sees no conversations; failed 1 time within a day, last in {failed}",
        "gone, switched off",
    ]
    assert [(each["name"], each["failures"], each["last_failure"]) for each in told["plugins"]] == [
        ("weather", 1, failed),
        ("gone", 0, ""),
    ]


def test_the_doctor_tells_of_plugins(home: Home) -> None:
    """One that fails is a warning; one that nobody offers any more is an error."""

    async def findings() -> dict[str, Any]:
        config = await asyncio.to_thread(load_config, home)
        patient = await asyncio.to_thread(open_patient, home, config, clock=SystemClock())
        return {each.check: each for each in (await examine(patient)).findings if each.group == "plugins"}

    found = asyncio.run(findings())
    assert list(found) == ["plugins.failing"]
    text = home.config_file.read_text(encoding="utf-8").replace("enabled = false", "")
    home.config_file.write_text(text, encoding="utf-8")
    assert sorted(asyncio.run(findings())) == ["plugins.failing", "plugins.missing"]
