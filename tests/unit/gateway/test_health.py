"""The probes."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.gateway.auth import Guard
from reverie.gateway.health import Health
from reverie.gateway.loop_lag import Heartbeat, LoopLag, LoopLagStatistics
from reverie.gateway.metrics import Metrics
from reverie.sessions.figures import InboxFigures, SessionQueue
from reverie.testing import FakeClock
from tests.unit.gateway.scripted_app import ScriptedApp, client_of, config, no_gauges

pytestmark = pytest.mark.anyio

NOT_MEASURED = {
    "type": "EventLoopHealthy",
    "status": "Unknown",
    "requirement": "advisory",
    "reason": "not_measured",
    "message": "nothing was measured yet",
}


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
        (
            b'{"ready":true,"failing":[],"uptimeMs":2500,"conditions":[{"type":"EventLoopHealthy","status":"Unknown",'
            b'"requirement":"advisory","reason":"not_measured","message":"nothing was measured yet"}]}'
        ),
        "no-store",
    )


@pytest.mark.parametrize(
    ("reasons", "failing"),
    [
        ({"starting"}, ["startup-sidecars"]),
        ({"draining"}, ["gateway-draining"]),
        ({"workspace_not_writable", "storage_not_writable"}, ["storage_not_writable", "workspace_not_writable"]),
    ],
)
async def test_not_ready(reasons: set[str], failing: list[str]) -> None:
    """The reasons are words for machines; starting and draining have the names OpenClaw gave them."""
    app = ScriptedApp()
    app.readiness.reasons = reasons
    async with client_of(app) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (
        503,
        {
            "ready": False,
            "failing": failing,
            "uptimeMs": 0,
            "conditions": [
                *(
                    {
                        "type": "Scripted",
                        "status": "False",
                        "requirement": "required",
                        "reason": reason,
                        "message": "why",
                    }
                    for reason in failing
                ),
                NOT_MEASURED,
            ],
        },
    )


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
    detail = {"ready": True, "failing": [], "uptimeMs": 0, "conditions": [NOT_MEASURED]}
    assert response.json() == (detail if detailed else {"ready": True})


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
    assert (response.status_code, response.json()) == (
        503,
        {"ready": False, "failing": ["internal"], "uptimeMs": 0, "conditions": [NOT_MEASURED]},
    )


@pytest.mark.parametrize("path", ["/health", "/healthz", "/ready", "/readyz"])
async def test_methods_of_a_probe(path: str) -> None:
    """GET and HEAD; HEAD has no body."""
    async with client_of(ScriptedApp()) as client:
        head, post = await client.head(path), await client.post(path)
    assert (head.status_code, head.content) == (200, b"")
    assert (post.status_code, post.text, post.headers["allow"]) == (405, "Method Not Allowed", "GET, HEAD")


def measured(*lags_s: float, every_s: float = 0.1, loop_cpu: float = 0.0, cpu: float = 0.0) -> LoopLag:
    """A loop that was measured so often, with these shares of a core computed by its thread and by the process."""
    clock = FakeClock()
    lag = LoopLag(clock, Metrics(clock, no_gauges))
    for number, lag_s in enumerate(lags_s, start=1):
        clock.advance(seconds=every_s)
        lag.note(lag_s, number * every_s * loop_cpu, number * every_s * cpu)
    return lag


def reasons(lag: LoopLag) -> tuple[str, ...]:
    """Why a measured loop counts as degraded."""
    statistics = lag.statistics()
    assert statistics is not None
    return statistics.reasons


async def test_lateness_of_the_loop() -> None:
    """The last minute's lateness is shown, is not lost by reading it, and never makes the server unready."""
    lag = measured(*[-0.001] * 50, 1.5, *[-0.001] * 49, loop_cpu=0.125, cpu=0.25)
    found = lag.statistics()
    assert found == LoopLagStatistics(
        pytest.approx(9_900),  # pyright: ignore[reportArgumentType] (a number within its error)
        1_500,
        1_500,
        pytest.approx((98 * 0.0125 + 1.5) / 9.9),  # pyright: ignore[reportArgumentType] (as above)
        pytest.approx(0.25),  # pyright: ignore[reportArgumentType] (as above)
    )
    assert found == lag.statistics()
    app = ScriptedApp()
    request: Any = type("Request", (), {"scope": {"client": ("127.0.0.1", 1), "headers": []}})
    answer = await Health(app, Guard(None, app.clock), lag).ready(request)
    assert answer.status_code == 200
    assert bytes(answer.body) == (
        b'{"ready":true,"failing":[],"uptimeMs":0,"conditions":[{"type":"EventLoopHealthy","status":"False",'
        b'"requirement":"advisory","reason":"event_loop_delay",'
        b'"message":"at worst 1500 ms late within the last 10 s"}],'
        b'"eventLoop":{"degraded":true,"reasons":["event_loop_delay"],"intervalMs":9900,"delayP99Ms":1500.0,'
        b'"delayMaxMs":1500.0,"utilization":0.275,"cpuCoreRatio":0.25}}'
    )


@pytest.mark.parametrize(("lag_s", "expected"), [(0.999, ()), (1.0, ("event_loop_delay",))])
async def test_how_late_is_too_late(lag_s: float, expected: tuple[str, ...]) -> None:
    """From a second on."""
    assert reasons(measured(*[0.0] * 20, lag_s)) == expected


@pytest.mark.parametrize(
    ("lag_s", "loop_cpu", "cpu", "expected"),
    [
        (0.025, 0.96, 0.96, ("event_loop_utilization",)),
        (0.024, 0.96, 0.96, ()),
        (0.025, 0.94, 0.96, ()),
        (0.025, 0.96, 0.89, ()),
        (1.0, 0.96, 0.96, ("event_loop_delay", "event_loop_utilization")),
    ],
)
async def test_how_busy_is_too_busy(lag_s: float, loop_cpu: float, cpu: float, expected: tuple[str, ...]) -> None:
    """95 % of the loop and 90 % of a core, and only if something was 25 ms late as well."""
    assert reasons(measured(*[0.0] * 2_000, lag_s, loop_cpu=loop_cpu, cpu=cpu)) == expected


async def test_a_summary_stands_for_a_second() -> None:
    """Nothing is said before a second was measured; then who asks within a second gets the same summary."""
    clock = FakeClock()
    lag = LoopLag(clock, Metrics(clock, no_gauges), beat := Heartbeat(0.0))
    summaries: list[LoopLagStatistics | None] = []
    for _ in range(25):
        clock.advance(ms=125)
        lag.note(0.0, 0.0, 0.0)
        summaries.append(lag.statistics())
    assert summaries[:8] == [None] * 8
    assert [found.interval_ms for found in summaries[8:] if found] == [1_000] * 8 + [2_000] * 8 + [3_000]
    assert beat.at_s == clock.monotonic_s()


async def test_the_status() -> None:
    """What runs and waits, and how the model's server does, for whoever may ask."""
    inbox = InboxFigures({"queued": 2, "running": 1}, {"adopted": 3}, (SessionQueue("agent:main:main", 2, 1, 1_500),))
    app = ScriptedApp(config=config(gateway={"auth": "token"}), inbox_figures=inbox)
    async with client_of(app, token="t") as client:
        refused = await client.get("/v1/status")
        response = await client.get("/v1/status", headers={"authorization": "Bearer t"})
    assert refused.status_code == 401
    assert response.json() == {
        "ready": True,
        "uptimeMs": 0,
        "conditions": [NOT_MEASURED],
        "inbox": {
            "turns": {"queued": 2, "running": 1},
            "compactions": {"adopted": 3},
            "running": 1,
            "waiting": 2,
            "oldestWaitMs": 1_500,
            "sessions": [{"key": "agent:main:main", "waiting": 2, "running": 1, "oldestWaitMs": 1_500}],
        },
        "modelCalls": {},
        "upstream": {
            "state": "unknown", "sinceMs": app.clock.now_ms(), "failuresInARow": 0, "retryInMs": 0, "cause": "",
        },
        "pluginFailures": {},
        "dreaming": None,
        "promptCache": {"calls": 0, "promptTokens": 0, "cachedTokens": 0},
        "contextEngines": {},
        "codex": {},
        "eventLoop": None,
    }  # fmt: skip
