"""`POST /mcp`: the Model Context Protocol, loaded with the first request for it.

The protocol's package costs more at import than everything else here, so nothing of it is imported before somebody
asks. What is mounted is given to `create_gateway`; the gateway checks who may call, for which agent and from where, and
hands the request over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import unquote

from reverie.errors import RequestError
from reverie.gateway.memory_api import agent_of
from reverie.gateway.routing import KEY_CHARACTERS_MAX, routing_headers
from reverie.memory.tool_contracts import Asker

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup, TaskStatus
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from reverie.gateway.ports import GatewayApp, MemoryToolset

    OpenMcp = Callable[[MemoryToolset, Callable[[Request], Asker]], AbstractAsyncContextManager[ASGIApp]]

AGENT = "reverie.agent"
"""Key in the ASGI scope of the agent whose memory a request over MCP means."""
SESSION = "x-reverie-session-key"


def asker_of(request: Request) -> Asker:
    """For whom a call over MCP runs: the agent that was found when the request came in, and the session it names."""
    key = unquote(request.headers.get(SESSION, ""))
    return Asker(request.scope[AGENT], session_key=key if 0 < len(key) <= KEY_CHARACTERS_MAX else None)


class McpMount:
    """What answers at `/mcp`. `opens` None: nothing does."""

    def __init__(self, app: GatewayApp, opens: OpenMcp | None) -> None:
        self._app = app
        self._opens = opens
        self._tasks: TaskGroup | None = None
        self._opening = asyncio.Lock()
        self._mounted: ASGIApp | None = None

    def belongs_to(self, tasks: TaskGroup) -> None:
        """From now on what is mounted lives as long as these tasks."""
        self._tasks = tasks

    async def answer(self, request: Request) -> ASGIApp:
        """What answers one request.

        Raises:
            RequestError: there is no MCP here, or no such agent.
        """
        request.scope[AGENT] = agent_of(routing_headers(request.scope["headers"]), self._app.agents())
        if self._mounted is None:
            async with self._opening:
                if self._mounted is None:
                    self._mounted = await self._open()
        return self._mounted

    async def _open(self) -> ASGIApp:
        if self._opens is None or self._tasks is None:
            raise RequestError("This server was started without MCP.", code="mcp_disabled", status=404)
        opens, tools = self._opens, self._app.tools

        async def live(*, task_status: TaskStatus[ASGIApp]) -> None:
            async with opens(tools, asker_of) as mounted:
                task_status.started(mounted)
                await asyncio.Event().wait()  # until the server ends

        return await self._tasks.start(live)
