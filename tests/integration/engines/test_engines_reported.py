"""What became of a context engine is seen by whoever looks at the home: `reverie status` and `reverie doctor`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from reverie.app import open_app
from reverie.cli.main import app
from reverie.clock import SystemClock
from reverie.config import Home, load_config
from reverie.context.contract import EngineInfo, HostRequirement
from reverie.doctor import Finding, examine, open_patient
from reverie.doctor.engines import engine_finding
from reverie.engines.report import NamedEngine
from reverie.storage.schema import load_queries
from reverie.testing import ScriptedModel, reply
from reverie.types import Message, SessionKey, TurnRequest
from tests.plugin_package import install, on_path

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
from reverie.engines import *

class Its:
    info = EngineInfo("weather", "Weather")
    def __init__(self, context): pass
    def ingest(self, request): return True
    def assemble(self, request): raise OSError("no such street")
    def compact(self, request): return Compacted(ok=True, compacted=False)
"""
SETTINGS = """
[memory]
watch = false
embedder = "none"
[context]
engine = "weather"
[agents.other]
engine = "gone"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home in which an engine failed in the only turn."""
    load_queries("doctor")
    on_path(monkeypatch, tmp_path / "site")
    install(tmp_path / "site", CODE, {"weather": "Its"}, "forecasts", group="reverie.context_engines")
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


def test_status_tells_of_engines(home: Home) -> None:
    """Package, agents and what ended its service, for people and for programs."""
    shown = CliRunner().invoke(app, ["status", "--home", str(home.path)]).stdout
    told = json.loads(CliRunner().invoke(app, ["status", "--json", "--home", str(home.path)]).stdout)

    lines = [line.partition(" ")[2].strip() for line in shown.splitlines() if line.startswith("engine")]
    assert lines == [
        "weather (forecasts 1.2) for main; out of service 1 time within a day, last by "
        "assemble: OSError in " + told["engines"][0]["last"].partition("OSError in ")[2],
        "gone for other, NOT usable: offered by no installed package; the built-in engine serves",
    ]
    assert [(each["name"], each["agents"], each["quarantines"]) for each in told["engines"]] == [
        ("weather", ["main"], 1),
        ("gone", ["other"], 0),
    ]


def test_the_doctor_tells_of_engines(home: Home) -> None:
    """One that fails is a warning; one that nobody offers is an error."""

    async def findings() -> dict[str, Finding]:
        config = await asyncio.to_thread(load_config, home)
        patient = await asyncio.to_thread(open_patient, home, config, clock=SystemClock())
        return {each.check: each for each in (await examine(patient)).findings if each.group == "engines"}

    found = asyncio.run(findings())
    assert sorted(found) == ["engines.missing", "engines.quarantined"]
    assert found["engines.quarantined"].severity == "warning"
    assert "gone is offered by no installed package" in found["engines.missing"].what


NEEDS = HostRequirement(frozenset({"thread-bootstrap-projection"}), "I need native threads.")


@pytest.mark.parametrize(
    ("packages", "loaded", "check"),
    [
        (("a 1",), EngineInfo("x", "X"), "engines.installed"),
        (("a 1",), None, "engines.installed"),
        (("a 1", "b 1"), None, "engines.ambiguous"),
        (("a 1",), "ImportError: no module named y", "engines.broken"),
        (("a 1",), EngineInfo("x", "X", host_requirements={"agent-run": NEEDS}), "engines.unsupported"),
    ],
)
def test_what_an_engine_needs_is_told_before_the_server_refuses_to_start(
    packages: tuple[str, ...], loaded: EngineInfo | str | None, check: str
) -> None:
    """In the engine's own words; so is code that cannot be loaded."""
    finding = engine_finding(NamedEngine("x", ("main",), packages, 0, ""), loaded, frozenset({"compact"}))

    assert finding.check == check
    if check == "engines.unsupported":
        assert "I need native threads." in finding.what
