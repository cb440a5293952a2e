"""The protocol over stdin and stdout, for programs that start their servers themselves."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from reverie.mcp_server.protocol import build_server
from reverie.memory.tool_contracts import Asker

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

    from reverie.mcp_server.protocol import Tools


async def serve_stdio(tools: Tools, agent: str) -> None:
    """Answer what comes on stdin until it ends. Only the protocol is written to stdout."""
    server = await asyncio.to_thread(_load, tools, agent)
    from mcp.server.stdio import stdio_server  # imported on the thread above

    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def _load(tools: Tools, agent: str) -> Server[Any]:
    importlib.import_module("mcp.server.stdio")  # loaded here, off the event loop
    return build_server(tools, lambda _request: Asker(agent))
