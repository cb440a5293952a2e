"""`reverie config`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from reverie.cli.commands.config import Setting, find_setting, list_settings
from reverie.cli.main import app
from reverie.config import AgentConfig, CodexConfig, Config, Home, PluginConfig, ThreadsOverride

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a few settings."""
    home = Home(tmp_path)
    tables = '[gateway]\nport = 9000\n[agents.work]\nworkspace = "/srv/work"\n[plugins.diary.settings]\na = 1\n'
    home.config_file.write_text(tables, encoding="utf-8")
    return home


def run(home: Home, *words: str) -> Result:
    """Run the command on a home."""
    return CliRunner().invoke(app, ["config", *words, "--home", str(home.path)])


def test_every_setting_is_listed_and_explained(home: Home) -> None:
    """All settings of all tables are there, each with its purpose; those of named agents too."""
    settings = list_settings(home)

    sections = {
        name: info.annotation for name, info in Config.model_fields.items() if name not in {"agents", "plugins"}
    }
    fields: list[str] = []
    for section, model in sections.items():
        inner: Any = getattr(model, "model_fields", {})
        tables = {name: info.annotation for name, info in inner.items() if hasattr(info.annotation, "model_fields")}
        fields += [f"{section}.{name}" for name in inner if name not in tables]
        fields += [f"{section}.{table}.{name}" for table, below in tables.items() for name in below.model_fields]
    plugin = [f"plugins.diary.{name}" for name in PluginConfig.model_fields]
    below = {"codex": CodexConfig, "threads": ThreadsOverride}
    agent = [f"agents.work.{name}" for name in AgentConfig.model_fields if name not in below]
    agent += [f"agents.work.{table}.{name}" for table, inner in below.items() for name in inner.model_fields]
    assert [setting.key for setting in settings] == [*fields, *agent, *plugin]
    assert all(setting.purpose for setting in settings)


def test_where_values_come_from(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting names its source: the environment wins over the file, and the file over the default."""
    monkeypatch.setenv("REVERIE_GATEWAY__DRAIN_S", "3")
    monkeypatch.setenv("REVERIE_MEMORY", '{"tools": false}')

    found = {setting.key: (setting.value, setting.origin) for setting in list_settings(home)}

    assert found["gateway.port"] == (9000, "config.toml")
    assert found["gateway.drain_s"] == (3.0, "environment")
    assert found["memory.tools"] == (False, "environment")
    assert found["gateway.host"] == ("127.0.0.1", "default")


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("gateway.port", "0 ≤ value ≤ 65535"),
        ("gateway.body_read_s", "0 < value ≤ 600"),
        ("memory.embedder", "bundled | openai | none"),
        ("memory.tools", "true | false"),
        ("sessions.main_key", "matching ^[a-z0-9][a-z0-9_-]{0,63}$"),
        ("gateway.host", ""),
        ("plugins.diary.deadline_ms", "1 ≤ value ≤ 10000"),
    ],
)
def test_what_is_allowed(home: Home, key: str, allowed: str) -> None:
    """A setting says what its value may be."""
    assert find_setting(home, key).allowed == allowed


def test_one_setting(home: Home) -> None:
    """One setting is two lines."""
    result = run(home, "gateway.port")

    assert result.stdout == (
        "gateway.port  9000  [config.toml; 0 ≤ value ≤ 65535]\n    TCP port; 0 picks a free one.\n"
    )


def test_json(home: Home) -> None:
    """With --json the settings are objects."""
    result = run(home, "gateway.port", "--json")

    setting = Setting("gateway.port", 9000, "config.toml", "0 ≤ value ≤ 65535", "TCP port; 0 picks a free one.")
    expected = {name: getattr(setting, name) for name in setting.__slots__}
    assert json.loads(result.stdout) == {"home": str(home.path), "settings": [expected]}


def test_set_and_unset(home: Home) -> None:
    """A setting is changed, and removed again."""
    assert run(home, "set", "gateway.port", "9001").exit_code == 0
    assert find_setting(home, "gateway.port").value == 9001

    assert run(home, "unset", "gateway.port").exit_code == 0
    assert find_setting(home, "gateway.port") == Setting(
        "gateway.port", 8377, "default", "0 ≤ value ≤ 65535", "TCP port; 0 picks a free one."
    )


def test_set_while_the_environment_wins(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes the file although the environment wins is told so."""
    monkeypatch.setenv("REVERIE_GATEWAY__PORT", "7000")

    result = run(home, "set", "gateway.port", "9001")

    assert "The environment sets it too, and wins: 7000" in result.stdout


def test_check(home: Home) -> None:
    """A valid configuration is said to be valid; a broken one ends with code 2 and names the setting."""
    assert run(home, "--check").exit_code == 0
    home.config_file.write_text("[gateway]\nport = 70000\n", encoding="utf-8")

    result = run(home, "--check")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: gateway.port = 70000 is not valid")


@pytest.mark.parametrize("words", [("set", "a.b"), ("unset",), ("gateway.port", "9000"), ("set", "a", "b", "c")])
def test_wrong_words(home: Home, words: tuple[str, ...]) -> None:
    """What is neither a question nor a change says how it is written."""
    result = run(home, *words)

    assert result.exit_code == 2
    assert "KEY, or set KEY VALUE, or unset KEY" in result.stderr


def test_unknown_setting(home: Home) -> None:
    """A key that does not exist is refused."""
    result = run(home, "gateway.prot")

    assert result.exit_code == 2
    assert "there is no such setting" in result.stderr
