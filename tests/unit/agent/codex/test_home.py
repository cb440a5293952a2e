"""What Codex is set to, and how it is started."""

from __future__ import annotations

import asyncio
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.agent.codex.home import (
    KEY_VARIABLE,
    TOKEN_VARIABLE,
    MemoryDoor,
    as_toml,
    codex_binary,
    codex_settings,
    merged,
    opened,
    prepare,
    session_headers,
)
from reverie.agent.codex.process import PASSED_ON
from reverie.config import CodexConfig
from reverie.errors import CodexUnavailableError, HomeReadOnlyError

if TYPE_CHECKING:
    from pathlib import Path

DOOR = MemoryDoor("http://127.0.0.1:8377", "t0ken")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def settings(door: MemoryDoor | None = None, *, with_key: bool = False, **given: Any) -> dict[str, Any]:
    """The settings of an agent `main`."""
    return codex_settings(CodexConfig.model_validate(given), with_key=with_key, door=door, agent="main")


def test_nothing_goes_out_and_nothing_is_done_twice() -> None:
    """No updates, telemetry, plugins or apps; AGENTS.md is ours to tell, and goals do not run by themselves."""
    made = settings()
    assert (made["check_for_update_on_startup"], made["analytics"], made["web_search"]) == (
        False,
        {"enabled": False},
        "disabled",
    )
    assert made["project_doc_max_bytes"] == 0
    off = {"plugins", "remote_plugin", "apps", "goals", "hooks", "multi_agent", "instant_interrupt"}
    assert {name for name in off if made["features"][name]} == set()
    assert (made["approval_policy"], made["sandbox_mode"]) == ("never", "read-only")
    assert made["shell_environment_policy"] == {"inherit": "core"}


def test_a_server_of_ones_own_is_a_provider_without_a_login() -> None:
    """Its key is named by the variable that holds it."""
    made = settings(base_url="http://127.0.0.1:9/v1/", model="m", context_tokens=100_000, effort="low", with_key=True)
    assert made["model_provider"] == "reverie"
    assert made["model_providers"]["reverie"] == {
        "name": "reverie",
        "base_url": "http://127.0.0.1:9/v1",
        "wire_api": "responses",
        "requires_openai_auth": False,
        "env_key": KEY_VARIABLE,
    }
    assert (made["model"], made["model_context_window"], made["model_reasoning_effort"]) == ("m", 100_000, "low")
    assert "model_provider" not in settings()


def test_our_memory_is_a_tool_server() -> None:
    """At the gateway, with its token from a variable; a first turn waits for it."""
    made = settings(DOOR)
    assert made["mcp_servers"]["reverie"] == {
        "url": "http://127.0.0.1:8377/mcp",
        "http_headers": {"x-reverie-agent-id": "main"},
        "startup_timeout_sec": 10,
        "tool_timeout_sec": 60,
        "default_tools_approval_mode": "approve",
        "bearer_token_env_var": TOKEN_VARIABLE,
    }
    assert made["mcp_optional_startup_grace_ms"] == 10_000
    assert "mcp_servers" not in settings()


def test_approvals_are_asked_for_only_where_they_are_allowed() -> None:
    """What would be denied in any case need not be asked."""
    assert settings(approvals="allow")["approval_policy"] == "on-request"


def test_what_a_person_sets_wins_value_by_value() -> None:
    """The other settings of the same table stay."""
    made = settings(settings={"features": {"plugins": True}, "web_search": "live"})
    assert (made["features"]["plugins"], made["features"]["apps"], made["web_search"]) == (True, False, "live")
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}, "d": {"e": 1}}) == {
        "a": {"b": 9, "c": 2},
        "d": {"e": 1},
    }


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_settings_are_toml(made: dict[str, Any]) -> None:
    """Whatever is configured can be read back as it was."""
    assert tomllib.loads(as_toml(made)) == made


def test_what_is_null_is_left_out() -> None:
    """TOML has no word for it. So one of our settings can be left to Codex."""
    made = settings(settings={"web_search": None, "a": {"b": None, "c": float("inf")}})
    assert tomllib.loads(as_toml(made))["a"] == {"c": float("inf")}
    assert "web_search" not in tomllib.loads(as_toml(made))


def test_a_home_is_prepared(tmp_path: Path) -> None:
    """A folder of its own that nobody else reads, its settings, and no secret in either; secrets are variables."""
    binary = tmp_path / "codex"
    config = CodexConfig(binary=binary, base_url="http://127.0.0.1:9/v1")
    command = prepare(tmp_path / "home", "main", config, key="sk-secret", door=DOOR)
    assert (command.binary, command.arguments, command.folder) == (binary, ("app-server",), tmp_path / "home")
    assert command.environment == {
        "CODEX_HOME": str(tmp_path / "home"),
        "RUST_LOG": "warn",
        KEY_VARIABLE: "sk-secret",
        TOKEN_VARIABLE: "t0ken",
    }
    text = (tmp_path / "home" / "config.toml").read_text()
    assert "sk-secret" not in text
    assert "t0ken" not in text
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert [file.name for file in (tmp_path / "home").iterdir()] == ["config.toml"]


def test_none_of_our_secrets_is_passed_on() -> None:
    """A child is given a list of harmless variables, and what it must have."""
    assert [name for name in PASSED_ON if "TOKEN" in name or "KEY" in name or name.startswith("REVERIE")] == []


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeReadOnlyError, match="cannot be written"):
        prepare(tmp_path / "file" / "home", "main", CodexConfig(binary=tmp_path), key=None, door=None)


def test_codex_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, or which setting names a program."""
    monkeypatch.setattr("reverie.agent.codex.home.PACKAGE", "no_such_package")
    with pytest.raises(CodexUnavailableError, match=r"pip install 'reverie\[codex\]'"):
        codex_binary(CodexConfig())


def test_whose_tools_are_called_is_in_the_headers() -> None:
    """A session key that is not ASCII is percent-encoded, as headers are everywhere here."""
    assert session_headers("main", "agent:main:main") == {
        "x-reverie-agent-id": "main",
        "x-reverie-session-key": "agent:main:main",
    }
    assert session_headers("main", "agent:main:Müller")["x-reverie-session-key"] == "agent:main:M%C3%BCller"


@pytest.mark.anyio
async def test_the_door_is_waited_for() -> None:
    """Turns may run before the gateway listens; what never listens is waited for only so long."""
    assert not await opened(MemoryDoor("http://127.0.0.1:9"), 0.1)
    listening = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        assert await opened(MemoryDoor(f"http://127.0.0.1:{port}"), 1.0)
