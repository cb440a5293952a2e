"""`/metrics`, and what holds for every path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from reverie.errors import UpstreamUnreachableError
from reverie.gateway.server import create_gateway
from reverie.types import Gauge
from tests.unit.gateway.scripted_app import STARTED, ScriptedApp, client_of, failed

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

HI = {"messages": [{"role": "user", "content": "hi"}]}


async def figures_of(client: httpx2.AsyncClient) -> dict[str, float]:
    """Each sample that is not zero, without the buckets."""
    text = (await client.get("/metrics")).text
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#") and "_bucket" not in line)
    return {name: float(value) for name, value in samples if not name.endswith("_created") and "_created{" not in name}


async def test_requests_and_turns_are_counted() -> None:
    """By path and status, and turns by how they ended."""
    app = ScriptedApp()
    async with client_of(app) as client:
        await client.post("/v1/chat/completions", json=HI)
        await client.post("/v1/chat/completions", json={**HI, "stream": True})
        app.steps = [STARTED, failed(UpstreamUnreachableError("no"))]
        await client.post("/v1/chat/completions", json=HI)
        await client.post("/v1/chat/completions", json={})
        await client.get("/v1/models/reverie")
        await client.get("/wp-login.php")
        figures = await figures_of(client)
    counts = {
        name: value for name, value in figures.items() if name.endswith(("_total", "_count")) or "_total{" in name
    }
    turns = {name: value for name, value in figures.items() if name.startswith("reverie_turn_seconds_count")}
    assert counts == {
        'reverie_requests_total{endpoint="/v1/chat/completions",status="200"}': 2,
        'reverie_requests_total{endpoint="/v1/chat/completions",status="502"}': 1,
        'reverie_requests_total{endpoint="/v1/chat/completions",status="400"}': 1,
        'reverie_requests_total{endpoint="/v1/models/{id}",status="200"}': 1,
        'reverie_requests_total{endpoint="other",status="404"}': 1,
        "reverie_turn_added_seconds_count": 2,
        "reverie_turn_wait_seconds_count": 3,
        "reverie_loop_lag_seconds_count": 0,
    }
    assert turns == {
        'reverie_turn_seconds_count{outcome="answered"}': 2,
        'reverie_turn_seconds_count{outcome="failed"}': 1,
    }


async def test_figures_of_the_application() -> None:
    """They are read at each scrape; those of one name stand together, one line for each label."""
    waiting = Gauge("waiting_turns", "Turns that wait.", 3)
    lanes = [Gauge("lane", "Calls.", number, (("lane", name),)) for number, name in enumerate(("a", 'b"\n'))]
    app = ScriptedApp(figures=[lanes[0], waiting, lanes[1]])
    async with client_of(app) as client:
        text = (await client.get("/metrics")).text
        app.figures = []
        after = await figures_of(client)
    assert text.endswith(
        "# HELP reverie_lane Calls.\n"
        "# TYPE reverie_lane gauge\n"
        'reverie_lane{lane="a"} 0.0\n'
        'reverie_lane{lane="b\\"\\n"} 1.0\n'
        "# HELP reverie_waiting_turns Turns that wait.\n"
        "# TYPE reverie_waiting_turns gauge\n"
        "reverie_waiting_turns 3.0\n"
    )
    assert "reverie_waiting_turns" not in after


async def test_the_loop_is_measured_while_the_server_runs() -> None:
    """From start to stop of the lifespan."""
    app = ScriptedApp()
    gateway = create_gateway(app)
    async with gateway.router.lifespan_context(gateway):
        async with client_of(app) as client:
            assert (await client.get("/healthz")).status_code == 200
        await anyio.lowlevel.checkpoint()


async def test_unknown_paths() -> None:
    """They are a 404 in OpenAI's form, with the headers of every answer."""
    async with client_of(ScriptedApp()) as client:
        response = await client.post("/v1/chat/completions/")
    assert (response.status_code, response.content) == (
        404,
        (
            b'{"error":{"message":"Invalid URL (POST /v1/chat/completions/)","type":"invalid_request_error",'
            b'"param":null,"code":"unknown_url"}}'
        ),
    )
    assert response.headers["x-content-type-options"] == "nosniff"
