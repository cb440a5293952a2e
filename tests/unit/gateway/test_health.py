"""The probes."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.gateway.auth import Guard
from reverie.gateway.health import Health
from reverie.gateway.loop_lag import LoopLag, LoopLagStatistics
from reverie.gateway.metrics import Metrics
from reverie.testing import FakeClock
from tests.unit.gateway.scripted_app import ScriptedApp, client_of, config

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/health", "/healthz"])
async def test_live(path: str) -> None:
    """The process answers, whatever else is wrong."""
    app = ScriptedApp()
    app.readiness.reasons.add("storage-not-writable")
    async with client_of(app) as client:
        response = await client.get(path)
    assert (response.status_code, response.content, response.headers["cache-control"]) == (
        200,
        b'{"ok":true,"status":"live"}',
        "no-store",
    )


@pytest.mark.parametrize("path", ["/ready", "/readyz"])
async def test_ready(path: str) -> None:
    """A caller on this machine sees for how long."""
    app = ScriptedApp()
    async with client_of(app) as client:
        app.clock.advance(seconds=2.5)
        response = await client.get(path)
    assert (response.status_code, response.content, response.headers["cache-control"]) == (
        200,
        b'{"ready":true,"failing":[],"uptimeMs":2500}',
        "no-store",
    )


@pytest.mark.parametrize(
    ("reasons", "failing"),
    [
        ({"starting"}, ["startup-sidecars"]),
        ({"draining"}, ["gateway-draining"]),
        ({"storage-not-writable", "disk-full"}, ["disk-full", "storage-not-writable"]),
    ],
)
async def test_not_ready(reasons: set[str], failing: list[str]) -> None:
    """The reasons are words for machines; starting and draining have the names OpenClaw gave them."""
    app = ScriptedApp()
    app.readiness.reasons = reasons
    async with client_of(app) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"ready": False, "failing": failing, "uptimeMs": 0})


async def test_a_change_shows_at_once() -> None:
    """Nothing is kept between two probes."""
    app = ScriptedApp()
    async with client_of(app) as client:
        before = await client.get("/readyz")
        app.readiness.reasons.add("draining")
        after = await client.get("/readyz")
    assert (before.status_code, after.status_code) == (200, 503)


@pytest.mark.parametrize(
    ("address", "headers", "detailed"),
    [
        ("127.0.0.1", {}, True),
        ("10.0.0.9", {}, False),
        ("10.0.0.9", {"authorization": "Bearer t"}, True),
        ("10.0.0.9", {"authorization": "Bearer wrong"}, False),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.9"}, False),
    ],
)
async def test_details_are_not_for_strangers(address: str, headers: dict[str, str], *, detailed: bool) -> None:
    """They are for this machine and for whoever has the token."""
    app = ScriptedApp(config=config(gateway={"auth": "token"}))
    async with client_of(app, token="t", address=address) as client:
        response = await client.get("/readyz", headers=headers)
    assert response.json() == ({"ready": True, "failing": [], "uptimeMs": 0} if detailed else {"ready": True})


async def test_a_check_that_breaks() -> None:
    """A probe is always answered."""

    class Broken:
        @property
        def reasons(self) -> Any:
            raise RuntimeError("secret")

    app: Any = ScriptedApp()
    app.readiness = Broken()
    async with client_of(app) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"ready": False, "failing": ["internal"], "uptimeMs": 0})


@pytest.mark.parametrize("path", ["/health", "/healthz", "/ready", "/readyz"])
async def test_methods_of_a_probe(path: str) -> None:
    """GET and HEAD; HEAD has no body."""
    async with client_of(ScriptedApp()) as client:
        head, post = await client.head(path), await client.post(path)
    assert (head.status_code, head.content) == (200, b"")
    assert (post.status_code, post.text, post.headers["allow"]) == (405, "Method Not Allowed", "GET, HEAD")


async def test_lateness_of_the_loop() -> None:
    """The last minute's lateness is shown, is not lost by reading it, and never makes the server unready."""
    clock = FakeClock()
    lag = LoopLag(clock, Metrics(clock, dict[str, float]))
    assert lag.statistics() is None
    for number in range(100):
        clock.advance(ms=100)
        lag.note(1.5 if number == 50 else -0.001)
    found = lag.statistics()
    assert found is not None
    assert found == LoopLagStatistics(pytest.approx(9_900), 1_500, 1_500, found.cpu_core_ratio)  # pyright: ignore[reportArgumentType] (a number within its error)
    assert found == lag.statistics()
    assert found.reasons == ("event_loop_delay",)
    app = ScriptedApp(clock=clock)
    request: Any = type("Request", (), {"scope": {"client": ("127.0.0.1", 1), "headers": []}})
    answer = await Health(app, Guard(None, clock), lag).ready(request)
    assert answer.status_code == 200
    assert bytes(answer.body).startswith(
        b'{"ready":true,"failing":[],"uptimeMs":0,"eventLoop":{"degraded":true,"reasons":["event_loop_delay"],'
        b'"intervalMs":9900,"delayP99Ms":1500.0,"delayMaxMs":1500.0,"cpuCoreRatio":'
    )
