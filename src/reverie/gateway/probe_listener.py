"""`/livez` on a port of its own, answered by a thread of its own: for watchdogs that restart what hangs.

The thread answers while the event loop is busy, whatever with, and tells how long ago the loop last went round. It
fails only when that is longer ago than `stall_s_max`: a process that works hard lives, one that is stuck for good does
not. It touches no store, asks for no token, and reveals the age of the heartbeat to this machine only.

One caller at a time is served, each for at most `CALLER_S_MAX` of silence.
"""

from __future__ import annotations

import ipaddress
import json
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator

    from reverie.clock import Clock
    from reverie.gateway.loop_lag import Heartbeat

CALLER_S_MAX = 1.0
POLL_S = 0.1
PATHS = frozenset({"/livez", "/healthz", "/health"})


def is_stalled(age_s: float, stall_s_max: float) -> bool:
    """True when the event loop has not moved for so long that it will not move again."""
    return age_s > stall_s_max


@contextmanager
def probes_answered(port: socket.socket, heartbeat: Heartbeat, clock: Clock, stall_s_max: float) -> Generator[None]:
    """Answer probes on a bound socket until the block is left."""

    class Probe(_Probe):
        def age_s(self) -> float:
            return clock.monotonic_s() - heartbeat.at_s

        def stalled(self) -> bool:
            return is_stalled(self.age_s(), stall_s_max)

    server = HTTPServer(port.getsockname()[:2], Probe, bind_and_activate=False)
    server.socket.close()
    server.socket = port
    server.server_activate()
    heartbeat.at_s = clock.monotonic_s()
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), name="probes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Probe(BaseHTTPRequestHandler):
    """One request."""

    timeout = CALLER_S_MAX

    def version_string(self) -> str:
        """What the header `Server` says."""
        return "reverie"

    def age_s(self) -> float:
        """How long ago the loop last went round."""
        raise NotImplementedError

    def stalled(self) -> bool:
        """Whether that is too long."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Live or not, with the age of the heartbeat for this machine."""
        if self.path not in PATHS:
            self._answer(404, {"ok": False, "status": "unknown path"})
            return
        stalled = self.stalled()
        detail: dict[str, object] = {"ok": not stalled, "status": "stalled" if stalled else "live"}
        if self.path == "/livez" and ipaddress.ip_address(self.client_address[0]).is_loopback:
            detail["heartbeatAgeMs"] = round(max(0.0, self.age_s()) * 1000)
        self._answer(503 if stalled else 200, detail)

    do_HEAD = do_GET  # noqa: N815 (the base class looks for this name)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 (the base class passes it)
        """What is no request, and what is one of another method, which the base class calls not implemented."""
        self.close_connection = True
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._answer(405, {"ok": False, "status": "method not allowed"}, allow="GET, HEAD")
        else:
            self._answer(code, {"ok": False, "status": message or "refused"})

    def _answer(self, status: int, detail: dict[str, object], *, allow: str = "") -> None:
        body = json.dumps(detail, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if allow:
            self.send_header("Allow", allow)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it so)
        """Probes are not logged."""
