"""Model servers that run on this machine: who answers on the ports that local servers usually take.

Only the loopback address is asked, only for its list of models, and never for longer than `PROBE_MS_MAX`.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import httpx2

from reverie.llm.openai_compatible import model_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.types import JsonObject

PROBE_MS_MAX = 300
LISTING_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A program that serves models on this machine, and where it does so by default."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class LocalUpstream:
    """A server that answered. `models` is empty when none is loaded yet."""

    name: str
    base_url: str
    models: tuple[str, ...]


LOCAL_SERVERS = (LocalServer("Ollama", 11434), LocalServer("llama.cpp", 8080), LocalServer("LM Studio", 1234))


async def detect_local_upstreams(
    servers: Sequence[LocalServer] = LOCAL_SERVERS, probe_ms_max: int = PROBE_MS_MAX
) -> list[LocalUpstream]:
    """The servers that answer now, in the order asked. Takes at most `probe_ms_max`; never raises."""
    found: dict[LocalServer, LocalUpstream] = {}

    async def probe(server: LocalServer) -> None:
        with anyio.move_on_after(probe_ms_max / 1000):
            upstream = await _ask(client, server)
            if upstream is not None:
                found[server] = upstream

    async with (
        await anyio.to_thread.run_sync(_client, probe_ms_max / 1000) as client,
        anyio.create_task_group() as probes,
    ):
        for server in servers:
            probes.start_soon(probe, server)
    return [found[server] for server in servers if server in found]


def _client(limit_s: float) -> httpx2.AsyncClient:
    """A client for plain HTTP. Made in a thread, because it reads files; trusting nobody, it loads no certificates."""
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.AsyncClient(trust_env=False, verify=nobody, timeout=limit_s)


async def _ask(client: httpx2.AsyncClient, server: LocalServer) -> LocalUpstream | None:
    """The server, if what answers on its port lists models the way OpenAI does."""
    base_url = f"http://127.0.0.1:{server.port}/v1"
    body = bytearray()
    try:
        async with client.stream("GET", f"{base_url}/models") as response:
            if not response.is_success:
                return None
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > LISTING_BYTES_MAX:
                    return None
        listing: Any = json.loads(body)
    except (httpx2.HTTPError, OSError, ValueError, RecursionError):
        return None
    if not isinstance(listing, dict) or "data" not in listing:
        return None
    return LocalUpstream(server.name, base_url, tuple(model_ids(cast("JsonObject", listing))))
