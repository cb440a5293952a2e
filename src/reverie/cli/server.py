"""Running the server: from an address that is taken to a last answer that is sent.

    open the home → listen → announce → wait for a signal
    refuse new turns and let running ones finish → stop listening → close the home → exit

The first SIGTERM or Ctrl-C stops in this order, within `gateway.drain_s` and a second for the last bytes; meanwhile the
probes say that it drains. A second signal ends the process at once with exit code 1. Both are safe: what was accepted
is in the database.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from reverie.agent.codex.home import MemoryDoor
from reverie.app import open_app
from reverie.cli.running import announced
from reverie.gateway.loop_lag import Heartbeat
from reverie.gateway.probe_listener import probes_answered
from reverie.gateway.server import create_gateway
from reverie.mcp_server.http import open_streamable_http

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from starlette.applications import Starlette

    from reverie.app import App
    from reverie.config import Config, Home

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 75
LAST_BYTES_S = 1
"""How long an answer that is complete may take to reach a slow client while the server stops."""

AT_ONCE = 1
GC_ALLOCATIONS, GC_YOUNG, GC_OLD = 10_000, 10, 10


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """What is served, where, and with which token. `probe_port`: where a thread of its own answers probes."""

    home: Home
    config: Config
    token: str | None
    url: str
    port: socket.socket
    probe_port: socket.socket | None = None


async def serve_until_stopped(plan: ServerPlan, listening: Callable[[App], Awaitable[None]]) -> None:
    """Serve a home until a signal; `listening` is awaited once requests are answered.

    Raises:
        HomeInUseError, HomeReadOnlyError, StorageError: the home cannot be opened.
    """
    stop = asyncio.Event()
    heartbeat = Heartbeat(time.monotonic())
    with stopped_by_signals(stop), ExitStack() as probes:
        door = MemoryDoor(plan.url, plan.token)
        async with open_app(plan.home, plan.config, memory_door=door) as app:
            gateway = create_gateway(app, token=plan.token, opens_mcp=open_streamable_http, heartbeat=heartbeat)
            server = _Server(_settings(gateway))
            serving = asyncio.create_task(server.serve([plan.port]), name="http")
            app.edge.push_async_callback(server.stopped, serving)
            await _either(server.listening.wait(), serving)
            if plan.probe_port is not None:
                stall_s_max = plan.config.gateway.stall_s_max
                probes.enter_context(probes_answered(plan.probe_port, heartbeat, app.clock, stall_s_max))
            spare_the_collector()
            with announced(plan.home, plan.url):
                await listening(app)
                await _either(stop.wait(), serving)
            log.info("stopping: running turns may finish", action="server_stopping")
            server.stop_by_s = time.monotonic() + plan.config.gateway.drain_s
    log.info("stopped", action="server_stopped")


def spare_the_collector() -> None:
    """What was loaded at the start stays for good: the garbage collector need not look through it with every turn."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, GC_YOUNG, GC_OLD)


@contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Generator[None]:
    """Within the block the first SIGTERM or SIGINT sets `stop`, the second ends the process."""
    loop = asyncio.get_running_loop()

    def on_signal(*_: Any) -> None:
        if stop.is_set():
            os._exit(AT_ONCE)
        loop.call_soon_threadsafe(stop.set)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """uvicorn, with our signals instead of its own, and an event for the moment it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.stop_by_s = 0.0

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals are handled by `stopped_by_signals`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell."""
        await super().startup(sockets=sockets)
        self.listening.set()

    async def stopped(self, serving: asyncio.Task[None]) -> None:
        """Let nobody new in, and let answers under way end by `stop_by_s`."""
        left_s = max(0.0, self.stop_by_s - time.monotonic())
        self.config.timeout_graceful_shutdown = math.ceil(left_s) + LAST_BYTES_S
        self.should_exit = True
        if not serving.done():
            await serving


def _settings(gateway: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        gateway,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


async def _either(event: Coroutine[Any, Any, Any], serving: asyncio.Task[None]) -> None:
    """Wait for an event, or for the server to end before it, which raises its cause."""
    waiting = asyncio.create_task(event)
    try:
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if serving.done():
        await serving


def run_on_fast_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it exists, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)
