"""One HTTP server of models: its connections, and when a call is tried again.

A call is retried only while no answer with status 2xx has arrived. Each try holds a place in the lanes
(`llm/lanes.py`), which bound the calls at once; between tries it is free for others. What a response holds is read by
the caller, in pieces or through `read_body`, which is bounded.

The clients are made on first use: for https that loads certificates, which takes tens of milliseconds, so it happens
in a thread. A server on this machine is reached without the proxy of the environment.

Each connection is kept in a pool of its own, because the HTTP library looks at every idle connection of a pool at the
beginning and the end of each call, and each look lets other threads in and waits for them.
"""

from __future__ import annotations

import math
import ssl
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2
import stamina
from stamina.instrumentation import get_on_retry_hooks

from reverie.clock import SystemClock
from reverie.errors import (
    ConfigError,
    UpstreamClosedError,
    UpstreamError,
    UpstreamMalformedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from reverie.llm.lanes import ModelLanes
from reverie.llm.upstream_failures import CalledServer, Refusal, refused, retry_wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from reverie.clock import Clock
    from reverie.errors import UpstreamRefusedError
    from reverie.llm.client import Lane

REPLY_BYTES_MAX = 16 * 1024 * 1024
REFUSAL_BYTES_MAX = 64 * 1024
RETRY_WAIT_S_FIRST = 0.25
RETRY_JITTER_S_MAX = 0.25
KEEP_IDLE_S_MAX = 30.0
POOL_CONNECTIONS = 1
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where a server is and how patient to be with it. `what` names it in messages, `key_source` where its key is."""

    what: str
    base_url: str
    api_key: str | None
    key_source: str
    connect_s: float
    read_s: float
    retries_max: int
    retry_wait_s_max: float
    calls_max: int

    def called(self) -> CalledServer:
        """The server in words; never its key, nor anything secret in its URL.

        Raises:
            ConfigError: the URL or the key cannot be used. The message shows neither.
        """
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError(self.key_source, "…", "an API key of printable ASCII characters")
        try:
            url = public_url(self.base_url)
        except ValueError as error:
            raise ConfigError(f"the URL of {self.what}", "…", f"such as http://127.0.0.1:8080/v1 ({error})") from error
        return CalledServer(self.what, url, self.key_source, self.api_key)


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a call is for: the model asked and whether tools were offered explain a refusal, the lane its place."""

    model: str = ""
    with_tools: bool = False
    lane: Lane = "foreground"


@dataclass(slots=True)
class _Pool:
    """A connection or a few, and how many calls use them."""

    client: httpx2.AsyncClient
    busy: int = 0


class UpstreamServer:
    """Calls one server, a bounded number of times at once, and tries again where that can help.

    `lanes` are the places that it shares with others; without them it has `calls_max` of its own.
    """

    def __init__(
        self,
        settings: ServerSettings,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        lanes: ModelLanes | None = None,
    ) -> None:
        self.called = settings.called()
        self._settings = settings
        self._transport = transport
        self._clock = clock or SystemClock()
        self._lanes = lanes or ModelLanes(settings.calls_max, clock=self._clock)
        self._opening = anyio.Lock()
        self._pools: list[_Pool] = []

    @asynccontextmanager
    async def call(
        self, method: str, path: str, body: bytes | None = None, purpose: Purpose | None = None
    ) -> AsyncGenerator[httpx2.Response]:
        """A response with status 2xx whose body is still to be read. Leaving the block closes the connection.

        A body that was read to its end leaves the connection open for the next call.

        Raises:
            UpstreamUnreachableError: no connection, or one that was closed, after the configured tries.
            UpstreamTimeoutError: connected, but no answer in time; not tried again.
            UpstreamRefusedError: an answer with another status, after the configured tries where they can help.
            ModelBusyError: too many calls wait for a place already.
        """
        response, held = await self._answered(method, path, body, purpose or Purpose())
        async with held:
            yield response

    async def aclose(self) -> None:
        """Close idle connections; calls still running break off."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.client.aclose()

    # -- tries ---------------------------------------------------------------------------------------------------

    async def _answered(
        self, method: str, path: str, body: bytes | None, purpose: Purpose
    ) -> tuple[httpx2.Response, AsyncExitStack]:
        settings = self._settings
        try:
            return await self._try(method, path, body, purpose)
        except UpstreamError as error:
            first = error
        # The retry machinery costs a tenth of a whole call, so only a call that has failed once pays for it.
        tries = stamina.retry_context(
            on=lambda error: retry_wait(error, self._clock.now_ms(), settings.retry_wait_s_max),
            attempts=settings.retries_max + 1,
            timeout=None,
            wait_initial=min(RETRY_WAIT_S_FIRST, settings.retry_wait_s_max),
            wait_jitter=min(RETRY_JITTER_S_MAX, settings.retry_wait_s_max),
            wait_max=settings.retry_wait_s_max,
        )
        async for attempt in tries:
            with attempt:
                if attempt.num == 1:
                    raise first
                return await self._try(method, path, body, purpose)
        raise AssertionError("the last try returns or raises")

    async def _try(
        self, method: str, path: str, body: bytes | None, purpose: Purpose
    ) -> tuple[httpx2.Response, AsyncExitStack]:
        """One request. The stack returned holds the response and the call's place; closing it gives both back."""
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._lanes.hold(purpose.lane))
            pool = await self._free_pool()
            pool.busy += 1
            held.callback(_leave, pool)
            client = pool.client
            request = client.build_request(method, self._settings.base_url + path, content=body)
            with failures_translated(self.called, answered=False):
                response = await client.send(request, stream=True)
            held.push_async_callback(response.aclose)
            if not response.is_success:
                raise await self._refusal(response, purpose)
            return response, held.pop_all()
        raise AssertionError("the block above returns or raises")

    async def _refusal(self, response: httpx2.Response, purpose: Purpose) -> UpstreamRefusedError:
        """The error of an answer whose status is not 2xx; whatever of its text can be had is quoted."""
        start = bytearray()
        try:
            async for piece in response.aiter_bytes():
                start += piece
                if len(start) >= REFUSAL_BYTES_MAX:
                    break
        except httpx2.HTTPError:
            pass  # the status is known, and says more than how its text broke off
        refusal = Refusal(
            status=response.status_code,
            body=start[:REFUSAL_BYTES_MAX].decode("utf-8", "replace"),
            retry_after=response.headers.get("retry-after"),
            location=response.headers.get("location") if response.is_redirect else None,
        )
        return refused(self.called, refusal, model=purpose.model, with_tools=purpose.with_tools)

    # -- the client ----------------------------------------------------------------------------------------------

    async def _free_pool(self) -> _Pool:
        """The first pool with a connection to spare, so that few callers share few warm connections."""
        if not self._pools:
            async with self._opening:
                self._pools = self._pools or await anyio.to_thread.run_sync(self._make_pools)
        return next((pool for pool in self._pools if pool.busy < POOL_CONNECTIONS), self._pools[-1])

    def _make_pools(self) -> list[_Pool]:
        get_on_retry_hooks()  # loads what counts and logs retries here, not on the event loop at the first one
        parts = urlsplit(self._settings.base_url)
        local = parts.hostname in _LOOPBACK
        # Certificates are loaded only where they can be needed; this context trusts none.
        plain = local and parts.scheme == "http"
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else httpx2.create_ssl_context()
        count = 1 if self._transport is not None else math.ceil(self._settings.calls_max / POOL_CONNECTIONS)
        return [_Pool(self._make_client(trust, local=local)) for _ in range(count)]

    def _make_client(self, trust: ssl.SSLContext, *, local: bool) -> httpx2.AsyncClient:
        settings = self._settings
        headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "reverie"}
        if settings.api_key:
            headers["authorization"] = f"Bearer {settings.api_key}"
        connections = POOL_CONNECTIONS if self._transport is None else settings.calls_max
        return httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(settings.read_s, connect=settings.connect_s),
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_IDLE_S_MAX
            ),
            transport=self._transport,
            trust_env=not local,
            verify=trust,
        )


def _leave(pool: _Pool) -> None:
    pool.busy -= 1


@contextmanager
def failures_translated(server: CalledServer, *, answered: bool) -> Generator[None]:
    """Turns what the HTTP client raises into our errors.

    Before an answer has begun, a broken connection is one that could not be made: it may be tried again. Afterwards
    the reply ended early.
    """
    where = f"{server.what} at {server.url}"
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        advice = "check that it runs and that the URL is right"
        raise UpstreamUnreachableError(f"cannot connect to {where} ({_cause(error)}): {advice}") from error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise UpstreamMalformedError(f"{where} cannot be called ({_cause(error)}): check the URL") from error
    except httpx2.TimeoutException as error:
        raise UpstreamTimeoutError(f"{where} gave no answer in time ({_cause(error)})") from error
    except httpx2.HTTPError as error:
        if answered:
            raise UpstreamMalformedError(f"the reply of {where} ended early ({_cause(error)})") from error
        message = f"{where} closed the connection before it answered ({_cause(error)})"
        raise UpstreamClosedError(message) from error


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__


async def read_body(response: httpx2.Response, server: CalledServer, bytes_max: int = REPLY_BYTES_MAX) -> bytes:
    """The whole body of a response.

    Raises:
        UpstreamMalformedError: it is larger than `bytes_max`, or ended early.
        UpstreamTimeoutError: it stopped coming.
    """
    body = bytearray()
    with failures_translated(server, answered=True):
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > bytes_max:
                raise UpstreamMalformedError(too_long(server, bytes_max))
    return bytes(body)


def too_long(server: CalledServer, bytes_max: int) -> str:
    """What is said of a reply, or a line of one, beyond its bound."""
    return f"the reply of {server.what} at {server.url} is longer than {bytes_max} bytes"


def public_url(url: str) -> str:
    """A URL as it may be shown: without user, password and query, any of which can hold a secret.

    Raises:
        ValueError: it is not a URL of a server.
    """
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    if not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError("a URL names a host, without spaces")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}"
