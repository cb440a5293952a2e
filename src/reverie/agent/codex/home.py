"""What Codex is set to: a home of its own for each agent, and a `config.toml` in it that is written at every start.

It asks nobody for updates, sends no telemetry, and loads nothing from the network: no plugins, no apps, no connectors.
What Reverie does, it does not do a second time: the workspace's AGENTS.md is told as a fragment, memory is ours, goals
that run by themselves are off. A message that enters a turn waits for the end of what the model is saying, so that
nothing is lost of it. A first turn waits for our tools: they stand before everything else in a prompt, so a thread that
got them later would have no prefix in any cache.

Secrets stand in none of its files: a key is named by the variable that holds it.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from reverie.agent.codex.process import Command
from reverie.config import PRIVATE
from reverie.errors import CodexUnavailableError, HomeReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reverie.config import CodexConfig
    from reverie.types import JsonObject

PROVIDER = "reverie"
MEMORY_SERVER = "reverie"
KEY_VARIABLE = "REVERIE_CODEX_PROVIDER_KEY"
TOKEN_VARIABLE = "REVERIE_MCP_TOKEN"  # noqa: S105 (the name of a variable)
HEAD = (
    "# Written by Reverie at each start. Settings of your own belong in [agents.NAME.codex.settings] of its config.\n"
)
PACKAGE = "codex_cli_bin"
MISSING = "Codex is not installed: `pip install 'reverie[codex]'`, or name its program in agents.NAME.codex.binary."
TOOL_S = 60
TOOLS_START_S = 10
DOOR_LOOK_S = 0.05

QUIET: JsonObject = {
    "check_for_update_on_startup": False,
    "analytics": {"enabled": False},
    "feedback": {"enabled": False},
    "history": {"persistence": "none"},
    "web_search": "disabled",
    "project_doc_max_bytes": 0,
    "include_apps_instructions": False,
    "mcp_optional_startup_grace_ms": 1_000 * TOOLS_START_S,
    "skills": {"include_instructions": False, "bundled": {"enabled": False}},
    "shell_environment_policy": {"inherit": "core"},
    "features": {
        "apps": False,
        "goals": False,
        "hooks": False,
        "image_generation": False,
        "instant_interrupt": False,
        "multi_agent": False,
        "plugins": False,
        "remote_plugin": False,
        "shell_snapshot": False,
        "skill_mcp_dependency_install": False,
        "skill_search": False,
        "tool_suggest": False,
    },
}
"""What is off unless an agent's `codex.settings` turn it on."""


@dataclass(frozen=True, slots=True)
class MemoryDoor:
    """Where Codex finds our memory tools: the MCP endpoint of the gateway, and the token that it wants to be shown."""

    url: str
    token: str | None = None


async def opened(door: MemoryDoor, within_s: float) -> bool:
    """Whether something listens at the door, or does within so many seconds."""
    parts = urlsplit(door.url)
    try:
        async with asyncio.timeout(within_s):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
                    writer.close()
                    return True
                await asyncio.sleep(DOOR_LOOK_S)
    except TimeoutError:
        return False


def session_headers(agent: str, session_key: str) -> dict[str, str]:
    """For whom a thread's calls of our tools run, as headers."""
    key = session_key if session_key.isascii() else quote(session_key, safe="/:@!$&'()*+,;=?#[]{}|<> ")
    return {"x-reverie-agent-id": agent, "x-reverie-session-key": key}


def codex_settings(config: CodexConfig, *, with_key: bool, door: MemoryDoor | None, agent: str) -> JsonObject:
    """All settings of an agent's Codex: what is off, the provider, our memory, and what was configured over that."""
    settings: JsonObject = {
        **QUIET,
        "approval_policy": approval_policy(config),
        "sandbox_mode": config.sandbox,
    }
    for name, value in (
        ("model", config.model),
        ("model_reasoning_effort", config.effort),
        ("model_context_window", config.context_tokens),
    ):
        if value is not None:
            settings[name] = value
    if config.base_url is not None:
        provider: JsonObject = {
            "name": PROVIDER,
            "base_url": config.base_url,
            "wire_api": "responses",
            "requires_openai_auth": False,
        }
        if with_key:
            provider["env_key"] = KEY_VARIABLE
        settings |= {"model_provider": PROVIDER, "model_providers": {PROVIDER: provider}}
    if door is not None:
        settings["mcp_servers"] = {MEMORY_SERVER: memory_server(door, agent)}
    return merged(settings, config.settings)


def memory_server(door: MemoryDoor, agent: str) -> JsonObject:
    """Our memory as an MCP server of Codex's. Its tools need no leave: what they may do is for the memory to decide."""
    server: JsonObject = {
        "url": f"{door.url}/mcp",
        "http_headers": {"x-reverie-agent-id": agent},
        "startup_timeout_sec": TOOLS_START_S,
        "tool_timeout_sec": TOOL_S,
        "default_tools_approval_mode": "approve",
    }
    if door.token is not None:
        server["bearer_token_env_var"] = TOKEN_VARIABLE
    return server


def approval_policy(config: CodexConfig) -> str:
    """When Codex asks for leave: never, where it would be denied in any case."""
    return "on-request" if config.approvals == "allow" else "never"


def merged(ours: JsonObject, theirs: Mapping[str, Any]) -> JsonObject:
    """Settings with others over them, table by table."""
    together = dict(ours)
    for name, value in theirs.items():
        before = together.get(name)
        both = isinstance(before, dict) and isinstance(value, dict)
        together[name] = merged(before, value) if both else value  # pyright: ignore[reportArgumentType, reportUnknownArgumentType]
    return together


def as_toml(settings: JsonObject) -> str:
    """Settings as TOML: one line for each value, under its dotted name. What is null is left out."""
    return HEAD + "".join(f"{name} = {_toml(value)}\n" for name, value in _lines("", settings))


def _lines(prefix: str, table: JsonObject) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        dotted = f"{prefix}{_string(name)}"
        if isinstance(value, dict) and value:
            yield from _lines(f"{dotted}.", value)  # pyright: ignore[reportUnknownArgumentType]
        elif value is not None:
            yield dotted, value


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inline(each) for each in value)}]"  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, float):
        return repr(value)
    return _string(value) if isinstance(value, str) else json.dumps(value)


def _string(text: str) -> str:
    """A string of JSON is one of TOML, but for escaped pairs of surrogates and a bare DEL, which TOML refuses."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: Any) -> str:
    if not isinstance(value, dict):
        return _toml(value)
    table = cast("JsonObject", value)
    return f"{{{', '.join(f'{_string(name)} = {_inline(each)}' for name, each in table.items())}}}"


def codex_binary(config: CodexConfig) -> Path:
    """The program.

    Raises:
        CodexUnavailableError: it is not installed.
    """
    if config.binary is not None:
        return config.binary
    if find_spec(PACKAGE) is None:
        raise CodexUnavailableError(MISSING)
    from codex_cli_bin import bundled_codex_path  # pyright: ignore[reportMissingTypeStubs]

    try:
        return bundled_codex_path()
    except FileNotFoundError as error:
        raise CodexUnavailableError(f"{MISSING} ({error})") from error


def prepare(home: Path, agent: str, config: CodexConfig, *, key: str | None, door: MemoryDoor | None) -> Command:
    """Make an agent's Codex home what it must be; how its app-server is started. Files are written: on a thread.

    Raises:
        CodexUnavailableError: Codex is not installed.
        HomeReadOnlyError: its home cannot be written.
    """
    binary = codex_binary(config)
    try:
        home.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        _replace(
            home / "config.toml", as_toml(codex_settings(config, with_key=key is not None, door=door, agent=agent))
        )
    except OSError as error:
        raise HomeReadOnlyError(f"{home} cannot be written ({error.strerror or error})") from error
    environment = {"CODEX_HOME": str(home), "RUST_LOG": "warn"}
    if key is not None:
        environment[KEY_VARIABLE] = key
    if door is not None and door.token is not None:
        environment[TOKEN_VARIABLE] = door.token
    return Command(binary, ("app-server",), home, environment)


def _replace(path: Path, text: str) -> None:
    """Write a file that is wholly the new one or the old one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
