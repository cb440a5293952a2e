"""The borders of the gateway: callers who leave, answers given early, defects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reverie.gateway.metrics import Metrics
from reverie.gateway.middleware import Edge
from reverie.gateway.server import create_gateway
from reverie.testing import FakeClock
from tests.unit.gateway.scripted_app import ScriptedApp, config, no_gauges

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio

SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), microphone=(self), geolocation=()"),
]


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    """A piece of a request's body."""
    return {"type": "http.request", "body": body, "more_body": more}


class Connection:
    """An HTTP server's side of one request: what it passes in, and in which order it sees things."""

    def __init__(self, *incoming: dict[str, Any], headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": headers or [],
            "client": ("127.0.0.1", 1),
        }
        self.incoming = list(incoming)
        self.seen: list[object] = []

    async def receive(self) -> dict[str, Any]:
        """The next piece; it is an error to ask for more than there is."""
        message = self.incoming.pop(0)
        self.seen.append(("received", len(message.get("body", b""))))
        return message

    async def send(self, message: Any) -> None:
        """Note what was sent."""
        self.seen.append(message.get("status", (message.get("body"), message.get("more_body"))))


async def test_a_caller_who_hangs_up_while_sending_is_not_answered() -> None:
    """No turn is made, nothing is sent, and it is counted as gone."""
    app = ScriptedApp()
    connection = Connection(part(b"{", more=True), {"type": "http.disconnect"})
    gateway = create_gateway(app)
    await gateway(connection.scope, connection.receive, connection.send)
    assert (connection.seen, app.requests) == ([("received", 1), ("received", 0)], [])


async def test_a_body_that_is_too_large_is_answered_first_and_then_thrown_away() -> None:
    """A caller that still sends reads the refusal instead of a reset connection."""
    gateway = create_gateway(ScriptedApp(config=config(gateway={"body_bytes_max": 1024})))
    connection = Connection(
        part(b"x" * 500, more=True), part(b"y" * 1499, more=False), headers=[(b"content-length", b"1999")]
    )
    await gateway(connection.scope, connection.receive, connection.send)
    refusal = b'{"error":{"message":"Payload too large","type":"invalid_request_error","param":null,"code":null}}'
    assert connection.seen == [413, (refusal, True), ("received", 500), ("received", 1499), (b"", False)]


async def test_an_answer_that_breaks_after_it_began_is_cut_off() -> None:
    """It must not look complete: the error goes on to the server, which closes the connection."""

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("secret")

    edge = Edge(breaks, Metrics(FakeClock(), no_gauges), frozenset())
    connection = Connection()
    with pytest.raises(RuntimeError):
        await edge(connection.scope, connection.receive, connection.send)
    assert connection.seen == [200]


async def test_every_answer_has_the_security_headers() -> None:
    """Also the one for a defect."""

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    connection = Connection()
    await Edge(breaks, Metrics(FakeClock(), no_gauges), frozenset())(connection.scope, connection.receive, send)
    assert (sent[0]["status"], sent[0]["headers"][-3:]) == (500, SECURITY)
    assert sent[1]["body"] == b'{"error":{"message":"internal error","type":"api_error"}}'
