"""Probes on a thread of their own."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from reverie.gateway.loop_lag import Heartbeat
from reverie.gateway.probe_listener import is_stalled, probes_answered
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def listening(heartbeat: Heartbeat, clock: FakeClock) -> Generator[str]:
    """A listener that bears ten seconds; its URL."""
    with closing(socket.create_server(("127.0.0.1", 0))) as port:
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
        with probes_answered(port, heartbeat, clock, stall_s_max=10):
            yield url


def asked(url: str, method: str = "GET") -> tuple[int, bytes, Any]:
    """Status, body and headers of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


@pytest.fixture
def blockbuster() -> None:
    """The test itself blocks: that is what the thread is for."""


def test_when_a_loop_counts_as_stuck() -> None:
    """Beyond the bound, not at it."""
    assert [is_stalled(age_s, 10) for age_s in (0, 10, 10.001)] == [False, False, True]


def test_the_age_of_the_heartbeat() -> None:
    """It is told, and fails the probe only when it is too old; then the loop moves again."""
    clock, heartbeat = FakeClock(), Heartbeat(0.0)
    with listening(heartbeat, clock) as url:
        clock.advance(seconds=9.5)
        busy = asked(f"{url}/livez")
        clock.advance(seconds=1)
        stuck, plain = asked(f"{url}/livez"), asked(f"{url}/healthz")
        heartbeat.at_s = clock.monotonic_s()
        again = asked(f"{url}/healthz")

    assert busy[:2] == (200, b'{"ok":true,"status":"live","heartbeatAgeMs":9500}')
    assert stuck[:2] == (503, b'{"ok":false,"status":"stalled","heartbeatAgeMs":10500}')
    assert plain[:2] == (503, b'{"ok":false,"status":"stalled"}')
    assert again[:2] == (200, b'{"ok":true,"status":"live"}')
    assert (busy[2]["Cache-Control"], busy[2]["Server"]) == ("no-store", "reverie")


def test_methods_and_paths() -> None:
    """GET and HEAD of three paths, and nothing else."""
    with listening(Heartbeat(0.0), FakeClock()) as url:
        assert asked(f"{url}/livez", "HEAD")[:2] == (200, b"")
        assert asked(f"{url}/metrics")[:2] == (404, b'{"ok":false,"status":"unknown path"}')
        status, _, headers = asked(f"{url}/healthz", "POST")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_a_caller_who_says_nothing_is_left() -> None:
    """The next one waits for it a second at most."""
    with listening(Heartbeat(0.0), FakeClock()) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))):
            started = time.monotonic()
            assert asked(f"{url}/healthz")[0] == 200
            assert time.monotonic() - started < 3


def test_it_answers_while_the_loop_is_blocked() -> None:
    """The event loop of this process does nothing else for half a second, and the probe is answered meanwhile."""
    answers: list[int] = []

    async def blocked(url: str) -> None:
        asking = asyncio.get_running_loop().run_in_executor(None, lambda: answers.append(asked(f"{url}/livez")[0]))
        time.sleep(0.5)  # noqa: ASYNC251 (the loop is blocked on purpose)
        assert answers == [200]
        await asking

    with listening(Heartbeat(0.0), FakeClock()) as url:
        asyncio.run(blocked(url))
