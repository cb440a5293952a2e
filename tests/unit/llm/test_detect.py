"""Finding a model's server on this machine."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from reverie.llm.detect import LOCAL_SERVERS, LocalServer, LocalUpstream, detect_local_upstreams
from reverie.testing.fake_upstream import FakeUpstream, Plan, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


def port_of(address: str) -> int:
    """The port of an address."""
    port = urlsplit(address).port
    assert port is not None
    return port


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else can take meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def answer_with(status: int, body: bytes) -> Any:
    """A server that gives one answer to everything."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


def test_the_usual_ports() -> None:
    """Ollama, llama.cpp and LM Studio are looked for where they are by default."""
    usual = {server.name: server.port for server in LOCAL_SERVERS}
    assert usual == {"Ollama": 11434, "llama.cpp": 8080, "LM Studio": 1234}


async def test_servers_that_answer_are_found_in_order(closed_port: int, silent_port: int) -> None:
    """Whoever lists models is found, in the order asked; a closed and a silent port cost nothing but their limit."""
    async with (
        serve(FakeUpstream(Plan(models=("a", "b"))).app) as first,
        serve(FakeUpstream(Plan(models=())).app) as second,
    ):
        found = await detect_local_upstreams(
            [
                LocalServer("silent", silent_port),
                LocalServer("one", port_of(first)),
                LocalServer("closed", closed_port),
                LocalServer("two", port_of(second)),
            ],
            probe_ms_max=2_000,
        )
    assert found == [LocalUpstream("one", f"{first}/v1", ("a", "b")), LocalUpstream("two", f"{second}/v1", ())]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"hello": 1}'),
        (404, b'{"data": []}'),
        (200, b"x" * 2_000_000),
        (200, b"[" * 100_000),
    ],
)
async def test_other_programs_on_those_ports_are_not_taken_for_models(status: int, body: bytes) -> None:
    """A web server that is no model's server is left alone, whatever it says."""
    async with serve(answer_with(status, body)) as address:
        assert await detect_local_upstreams([LocalServer("web", port_of(address))], probe_ms_max=5_000) == []
