"""`reverie mcp`: the memory tools over the Model Context Protocol, on stdin and stdout."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reverie.cli.opening import new_or_old_home
from reverie.cli.running import find_server
from reverie.config import read_secret
from reverie.errors import ConfigError
from reverie.mcp_server.home import HomeTools
from reverie.mcp_server.remote import RemoteTools
from reverie.mcp_server.stdio import serve_stdio
from reverie.memory.tools import offered_tools

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.config import Config, Home


async def serve_mcp(given: Path | None, *, agent: str) -> None:
    """Answer the protocol on stdin and stdout until stdin ends.

    Raises:
        ConfigError: a setting is wrong, or there is no such agent.
    """
    home, config = await asyncio.to_thread(_found, given, agent)
    offered = offered_tools(config.memory)

    async def running() -> RemoteTools | None:
        server = await asyncio.to_thread(find_server, home)
        if server is None:
            return None
        token = await asyncio.to_thread(_token, config)
        return RemoteTools(server.url, token, offered)

    tools = HomeTools(home, config, offered, running)
    try:
        await serve_stdio(tools, agent)
    finally:
        await tools.aclose()


def _found(given: Path | None, agent: str) -> tuple[Home, Config]:
    """The home and its settings, once it is clear that the agent is one of it."""
    home, config = new_or_old_home(given)
    if agent not in config.agent_names() and not home.workspace(config, agent).is_dir():
        raise ConfigError("--agent", agent, f"one of this home's agents ({', '.join(config.agent_names())}, …)")
    return home, config


def _token(config: Config) -> str | None:
    gateway = config.gateway
    return read_secret(gateway.token_env, gateway.token_file) if gateway.auth == "token" else None
