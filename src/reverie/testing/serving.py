"""Serving a double over HTTP: one exchange on the bare ASGI interface, and a server in a thread.

The doubles of model servers stand on this. An exchange costs less than request and response objects, and can wait,
break the connection, and notice that its client has left.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from starlette.types import ASGIApp, Receive, Scope, Send

START_S_MAX = 20.0


class ConnectionCutError(Exception):
    """Raised inside a server to make it drop the connection."""


class ClientLeftError(Exception):
    """The client closed its connection before its request was there."""


def compact_json(value: Any) -> bytes:
    """A value as JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def in_pieces(text: str, count: int) -> list[str]:
    """A text cut into at most `count` pieces of equal length."""
    size = max(1, -(-len(text) // max(1, count)))
    return [text[start : start + size] for start in range(0, len(text), size)]


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send

    @property
    def path(self) -> str:
        """The request's path."""
        return self._scope["path"]

    def headers(self) -> dict[str, str]:
        """Its headers, with names in lower case."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._scope["headers"]}

    async def body(self) -> bytes:
        """Its whole body.

        Raises:
            ClientLeftError: it does not come.
        """
        pieces: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(pieces)

    async def waited(self, delay_s: float) -> bool:
        """Let a delay pass; False if the client left meanwhile."""
        try:
            async with asyncio.timeout(delay_s):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return True
        return False

    async def start(self, status: int, kind: bytes, *more: tuple[bytes, bytes]) -> None:
        """Begin the answer."""
        headers = [(b"content-type", kind), *more]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, data: bytes) -> None:
        """Send a part of its body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last part."""
        await self._send({"type": "http.response.body", "body": data})

    async def answer(self, status: int, data: bytes, retry_after: str | None = None) -> None:
        """Send an answer of one part, which is JSON."""
        more = [(b"content-length", str(len(data)).encode())]
        if retry_after is not None:
            more.append((b"retry-after", retry_after.encode()))
        await self.start(status, b"application/json", *more)
        await self.end(data)


class Endpoint:
    """An ASGI application out of a function of an exchange."""

    def __init__(self, handle: Callable[[Exchange], Awaitable[None]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with suppress(ClientLeftError):
            await self._handle(Exchange(scope, receive, send))


class _QuietServer(uvicorn.Server):
    """A server that tells when it is ready and leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextmanager
def serve_in_thread(app: ASGIApp, port: int = 0) -> Generator[str]:
    """Serve an application on a port of this machine, 0 for a free one; gives its address, `http://127.0.0.1:PORT`.

    The server has a thread and an event loop of its own, so synchronous clients and other processes can use it.
    Leaving the block drops the connections that are still open.
    """
    listening = listening_socket(port)
    config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False, timeout_graceful_shutdown=0)
    server = _QuietServer(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True, name="fake-upstream")
    thread.start()
    try:
        if not server.ready.wait(START_S_MAX):
            raise RuntimeError(f"the fake upstream did not start within {START_S_MAX:.0f} s")
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_S_MAX)
        listening.close()


@asynccontextmanager
async def serve(app: ASGIApp, port: int = 0) -> AsyncGenerator[str]:
    """As `serve_in_thread`, for `async with`: the caller's event loop is not blocked while it starts and stops."""
    running = serve_in_thread(app, port)
    address = await asyncio.to_thread(running.__enter__)
    try:
        yield address
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


def listening_socket(port: int) -> socket.socket:
    """A socket of this machine that is bound to a port, 0 for a free one."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    return listening
