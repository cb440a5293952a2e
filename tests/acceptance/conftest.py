"""Acceptance tests start the real process, talk to it with real clients, kill it and start it again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from reverie.testing.fake_upstream import FakeUpstream, Plan, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

START_S_MAX = 30.0


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Answer:
    """An HTTP answer of any status."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Server:
    """A home and the process that serves it. Not started until `start` is called."""

    home: Path
    port: int = field(default_factory=free_port)
    arguments: list[str] = field(default_factory=list[str])
    environment: dict[str, str] = field(default_factory=dict[str, str])
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return (self.home.parent / f"{self.home.name}.log").read_text(errors="replace")

    def command(self) -> list[str]:
        """How it is started."""
        flags = ["--home", str(self.home), "--port", str(self.port)]
        return [sys.executable, "-m", "reverie", "serve", *flags, *self.arguments]

    def start(self) -> Server:
        """Start it and wait until it is ready."""
        environment = {**os.environ, "REVERIE_UPSTREAM__DETECT": "false", **self.environment}
        with (self.home.parent / f"{self.home.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server ended at once:\n{self.log}"
            try:
                if self.get("/readyz").status == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the server was not ready within {START_S_MAX} s:\n{self.log}")

    def stop(self, *, with_signal: int = signal.SIGTERM, wait_s: float = 20) -> int:
        """End it; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(with_signal)
        code = self.process.wait(wait_s)
        self.process = None
        return code

    def kill(self) -> None:
        """Kill -9."""
        self.stop(with_signal=signal.SIGKILL)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """GET a path."""
        return self._send(urllib.request.Request(f"{self.url}{path}", headers=headers or {}))

    def post(self, path: str, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
        """POST bytes, or a value as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._send(
            urllib.request.Request(
                f"{self.url}{path}", data=data, headers={"Content-Type": "application/json", **(headers or {})}
            )
        )

    def chat(self, text: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        """One turn in the main session unless `user` says otherwise."""
        body = {"model": "reverie", "user": "main", "messages": [{"role": "user", "content": text}], **fields}
        return self.post("/v1/chat/completions", body, headers)

    def _send(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


@pytest.fixture
def blockbuster() -> None:
    """These tests run the server in a process of its own; the test itself may block."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that answers offline, on an empty home, not started yet."""
    made = Server(tmp_path / "home")
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()


@dataclass
class WithUpstream:
    """A server and the fake upstream behind it."""

    server: Server
    upstream: FakeUpstream


@contextmanager
def upstream_for(server: Server, plan: Plan) -> Generator[WithUpstream]:
    """Put a fake upstream behind a server that is not started yet."""
    upstream = FakeUpstream(plan)
    with serve_in_thread(upstream.app) as address:
        server.arguments += ["--upstream", f"{address}/v1", "--model", "fake-model"]
        yield WithUpstream(server, upstream)


@pytest.fixture
def connected(server: Server) -> Iterator[WithUpstream]:
    """A running server with a fake upstream behind it that echoes."""
    with upstream_for(server, Plan(echo=True)) as both:
        server.start()
        yield both


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an acceptance test."""
    for item in items:
        if "acceptance" in item.path.parts:
            item.add_marker(pytest.mark.acceptance)
