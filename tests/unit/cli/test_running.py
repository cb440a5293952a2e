"""Finding the server that runs on a home."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from reverie.cli.running import RunningServer, announced, find_server
from reverie.config import Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Alive(BaseHTTPRequestHandler):
    """Answers `/healthz` and nothing else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it so)
        """Nothing is logged."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server that is alive."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Alive) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_found_while_announced(tmp_path: Path, url: str) -> None:
    """A server is found as long as it is announced, and no longer."""
    home = Home(tmp_path)

    with announced(home, url):
        assert find_server(home) == RunningServer(os.getpid(), url)
    assert find_server(home) is None
    assert list(tmp_path.iterdir()) == []


def test_left_behind_by_a_crash(tmp_path: Path) -> None:
    """An announcement that nobody answers to counts for nothing."""
    (tmp_path / "server.json").write_text('{"pid": 1, "url": "http://127.0.0.1:1"}', encoding="utf-8")

    assert find_server(Home(tmp_path)) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"pid": "x", "url": "y"}', '{"pid": 1}', '{"pid": 1, "url": "x:y"}']
)
def test_damaged_announcement(tmp_path: Path, text: str) -> None:
    """A damaged announcement counts for nothing."""
    (tmp_path / "server.json").write_text(text, encoding="utf-8")

    assert find_server(Home(tmp_path)) is None
