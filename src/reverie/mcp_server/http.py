"""The protocol over HTTP, for the gateway to mount: stateless, one JSON answer for each request.

Nothing is kept between requests, so a client goes on where it was when the server has been restarted. Who may call,
and from where, is the gateway's to check.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reverie.mcp_server.protocol import build_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from reverie.mcp_server.protocol import Tools
    from reverie.memory.tool_contracts import Asker

BODY_BYTES_MAX = 2 * 1024 * 1024


@asynccontextmanager
async def open_streamable_http(tools: Tools, asker_of: Callable[[Request], Asker]) -> AsyncGenerator[ASGIApp]:
    """An ASGI application that answers the protocol's POST requests, until the block is left.

    `asker_of` says for whom a request's calls run.
    """
    manager = await asyncio.to_thread(_session_manager, tools, asker_of)
    async with manager.run():
        yield manager.handle_request


def _session_manager(tools: Tools, asker_of: Callable[[Request], Asker]) -> StreamableHTTPSessionManager:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    return StreamableHTTPSessionManager(
        build_server(tools, asker_of), json_response=True, stateless=True, max_request_body_size=BODY_BYTES_MAX
    )
