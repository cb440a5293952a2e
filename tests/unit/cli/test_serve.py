"""`reverie serve` up to the moment when it would listen."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from reverie.cli.commands.serve import ServeFlags, describe_upstream, model_words
from reverie.cli.main import app
from reverie.config import Home, load_config
from reverie.llm.detect import LocalUpstream

if TYPE_CHECKING:
    from pathlib import Path

EVERYWHERE = "0.0.0.0"  # noqa: S104 (what is tested is that it is handled)


def test_flags_are_settings() -> None:
    """Flags that were given take the shape of config.toml; the others leave it alone."""
    given = ServeFlags(None, "::1", 0, None, "small", sample=False, log_level="info", as_json=False)
    none = ServeFlags(None, None, None, None, None, sample=False, log_level="info", as_json=False)

    assert given.as_settings() == {"gateway": {"host": "::1", "port": 0}, "upstream": {"model": "small"}}
    assert none.as_settings() == {}


def test_port_in_use(tmp_path: Path) -> None:
    """A port in use ends it with code 1 and one line, before the home is touched."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", "--home", str(tmp_path / "home"), "--port", port])

    assert result.exit_code == 1
    assert result.stderr == (
        f"error: port {port} on 127.0.0.1 is in use by another program: stop it, or choose another with --port.\n"
    )
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("host", [EVERYWHERE, "192.0.2.1"])
def test_strangers_without_a_token(tmp_path: Path, host: str) -> None:
    """An address that others can reach is refused without a token, as wrong configuration."""
    result = CliRunner().invoke(app, ["serve", "--home", str(tmp_path), "--host", host, "--json"])

    assert result.exit_code == 2
    error = json.loads(result.stderr)["error"]
    assert error["type"] == "ConfigError"
    assert error["message"].startswith(f"gateway.host = '{host}' is not valid: an address of this machine only")


def test_url_that_is_none(tmp_path: Path) -> None:
    """An upstream that is no URL is refused, naming the setting."""
    result = CliRunner().invoke(app, ["serve", "--home", str(tmp_path), "--upstream", "localhost:11434"])

    assert result.exit_code == 2
    assert result.stderr.startswith("error: upstream.base_url = 'localhost:11434' is not valid")


def test_model_words(tmp_path: Path) -> None:
    """The banner says which model answers, and never shows a password."""
    home = Home(tmp_path)
    connected = load_config(home, {"upstream": {"base_url": "http://me:secret@localhost:1/v1", "model": "small"}})

    assert model_words(load_config(home)).startswith("none connected")
    assert model_words(connected) == "small at http://localhost:1/v1"


def test_found_servers_in_words() -> None:
    """A server that was found is described with at most five models."""
    models = tuple(f"model-{n}" for n in range(7))

    assert describe_upstream(LocalUpstream("Ollama", "http://127.0.0.1:11434/v1", models)) == (
        "Ollama (http://127.0.0.1:11434/v1; model-0, model-1, model-2, model-3, model-4, …)"
    )
    assert describe_upstream(LocalUpstream("llama.cpp", "http://127.0.0.1:8080/v1", ())) == (
        "llama.cpp (http://127.0.0.1:8080/v1; no model loaded)"
    )
