"""How `reverie mcp` gets at a home, each time a tool is called.

    a server runs on the home         the call is forwarded to its `/v1/memory/…`
    nobody has the home               it is opened, with its index kept in step, until nothing was asked for a while
    another process has it            it is opened beside that one for this call: it reads, and appends

A program that speaks the protocol may keep `reverie mcp` running for days. It must not hold the home all that time,
or `reverie serve` could never be started; and it must notice when the server is stopped and started again.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from reverie.app import CATCH_UP_S_MAX, open_memory
from reverie.background import Background
from reverie.errors import EmbedderError, HomeInUseError, ReverieError
from reverie.memory.tool_contracts import refused_answer
from reverie.tasks import OwnedTasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from reverie.config import Config, Home
    from reverie.mcp_server.protocol import Tools
    from reverie.memory.tool_contracts import Asker
    from reverie.memory.tools import MemoryTools
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

IDLE_S = 20.0
"""How long a home that nobody else wants is kept open after a call: the next one then costs no start."""
WARM_S_MAX = 5.0
"""How long the first call waits for the embedder, so that it is answered by meaning too."""


class HomeTools:
    """The memory tools of a home, whoever has it. `find_server` gives what a running server offers, if one runs.

    Leave it with `aclose`.
    """

    def __init__(
        self,
        home: Home,
        config: Config,
        offered: tuple[JsonObject, ...],
        find_server: Callable[[], Awaitable[Tools | None]],
        *,
        idle_s: float = IDLE_S,
    ) -> None:
        self._home = home
        self._config = config
        self._offered = offered
        self._find_server = find_server
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._tools: MemoryTools | None = None
        self._calls = 0
        self._idle = asyncio.Event()

    def definitions(self) -> tuple[JsonObject, ...]:
        """The tools as functions in OpenAI's format."""
        return self._offered

    async def answer(self, name: str, arguments: JsonObject, asker: Asker) -> JsonObject:
        """Run a tool by its name, wherever that can be done now; what goes wrong is in the answer."""
        try:
            server = await self._find_server()
            if server is not None:
                return await server.answer(name, arguments, asker)
            return await self._answer_here(name, arguments, asker)
        except ReverieError as error:
            return refused_answer(name, arguments, error)

    async def aclose(self) -> None:
        """Let go of the home."""
        async with self._turn:
            await self._let_go()

    async def _answer_here(self, name: str, arguments: JsonObject, asker: Asker) -> JsonObject:
        try:
            tools = await self._taken()
        except HomeInUseError:
            async with open_memory(self._home, self._config, exclusive=False) as opened:
                return await opened.tools.answer(name, arguments, asker)
        try:
            return await tools.answer(name, arguments, asker)
        finally:
            self._calls -= 1
            self._idle.set()

    async def _taken(self) -> MemoryTools:
        """The tools of the home, which is opened if it is not; the caller counts as one who uses it."""
        async with self._turn:
            if self._tools is None or self._keeper is None or self._keeper.done():
                self._tools = await self._open()
            self._calls += 1
            return self._tools

    async def _open(self) -> MemoryTools:
        """Take the home, once an earlier opening of it has ended."""
        if self._keeper is not None:
            await asyncio.wait([self._keeper])
        opened: asyncio.Future[MemoryTools] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(opened), name="home")
        try:
            return await opened
        except BaseException:
            await self._let_go()
            raise

    async def _let_go(self) -> None:
        keeper, self._keeper, self._tools = self._keeper, None, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _keep(self, opened: asyncio.Future[MemoryTools]) -> None:
        """Have the home until nobody has used it for a while."""
        try:
            async with open_alone(self._home, self._config) as tools:
                if not opened.done():  # else nobody waits any more
                    opened.set_result(tools)
                    while not await self._unused():
                        pass
        except Exception as error:  # a named border: whoever waits for the home gets it
            if opened.done():
                log.exception("the home could not be kept open", action="home_lost")
            else:
                opened.set_exception(error)

    async def _unused(self) -> bool:
        """True after a while without a call, from when on no new one may use what is open."""
        self._idle.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._idle_s):
                await self._idle.wait()
                return False
        async with self._turn:
            if self._calls:
                return False
            self._tools = None
            return True


@asynccontextmanager
async def open_alone(home: Home, config: Config) -> AsyncGenerator[MemoryTools]:
    """Take a home and keep its index in step with files and transcripts until the block is left.

    Raises:
        HomeInUseError: another process has it.
        ReverieError: it cannot be opened.
    """
    async with open_memory(home, config) as opened, OwnedTasks() as tasks:
        background = Background(
            memory=opened.memory,
            workspaces=opened.workspaces,
            clock=opened.clock,
            watch=config.memory.watch,
            watch_debounce_ms=config.memory.watch_debounce_ms,
            reconcile_s=config.memory.reconcile_s,
            foreground_busy=lambda: False,
        )
        background.start(tasks)
        await background.caught_up(CATCH_UP_S_MAX)
        with suppress(TimeoutError, EmbedderError):
            async with asyncio.timeout(WARM_S_MAX):
                await opened.memory.warm_up()
        yield opened.tools
