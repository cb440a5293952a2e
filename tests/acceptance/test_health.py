"""What probes and operators see of the real process: while it works, while it drains, and when it is told twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from reverie.testing.fake_upstream import Plan
from tests.acceptance.servers import WITHOUT_MEMORY, Server, until, upstream_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.servers import WithUpstream


@pytest.fixture
def talking(server: Server) -> Iterator[WithUpstream]:
    """A running server without memory, and a fake upstream behind it that echoes."""
    server.environment |= WITHOUT_MEMORY
    with upstream_for(server, Plan(echo=True)) as both:
        server.start()
        yield both


def condition(server: Server, kind: str) -> dict[str, Any]:
    """One of the conditions that `/readyz` names."""
    return next(each for each in server.get("/readyz").json["conditions"] if each["type"] == kind)


def test_while_it_drains_it_says_so(talking: WithUpstream) -> None:
    """A running turn ends well; meanwhile probes are answered, readiness says why not, and a new turn is refused."""
    server = talking.server
    talking.upstream.plan = Plan(text="done", delay_s=1.5)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.chat, "first", stream=True)
        until(lambda: server.turn_states() == ["running"], "the turn runs")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.get("/readyz").status == 503, "it is not ready")
        ready, live = server.get("/readyz").json, server.get("/healthz")
        accepting = condition(server, "GatewayAcceptingWork")
        refused = server.chat("second", user="other")
        code = server.process.wait(10)
    server.process = None

    assert (ready["ready"], ready["failing"]) == (False, ["gateway-draining"])
    assert accepting == {
        "type": "GatewayAcceptingWork", "status": "False", "requirement": "required", "reason": "gateway-draining",
        "message": "running turns may finish; new ones are refused",
    }  # fmt: skip
    assert (live.status, live.body) == (200, b'{"ok":true,"status":"live"}')
    assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (429, "queue_full", "5")
    assert running.result().body.endswith(b"data: [DONE]\n\n")
    assert b'"error"' not in running.result().body
    assert code == 0
    assert server.turn_states() == ["answered"]
    assert server.turn_states("agent:main:openai-user:other") == []


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_told_twice_it_ends_at_once_and_loses_nothing(talking: WithUpstream, second: signal.Signals) -> None:
    """Exit code 1, without waiting for the model; what waited is answered after the restart, what ran is failed."""
    server = talking.server
    talking.upstream.plan = Plan(delay_s=30)
    with ThreadPoolExecutor(2) as pool:
        for number, text in enumerate(("runs", "waits"), start=1):
            pool.submit(server.chat, text)
            until(lambda number=number: len(server.turn_states()) == number, f"{text} is accepted")
        until(lambda: server.turn_states()[0] == "running", "the first one runs")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.get("/readyz").status == 503, "it drains")
        started = time.monotonic()
        code = server.stop(with_signal=second)
        took_s = time.monotonic() - started
    talking.upstream.plan = Plan(echo=True)
    server.start()
    until(lambda: server.turn_states()[-1] == "answered", "what waited is answered")

    assert (code, took_s < 1) == (1, True)
    assert server.turn_states() == ["failed", "answered"]
    assert [text for role, text in server.transcript() if role == "user"] == ["runs", "waits"]


def test_a_model_that_fails_is_shown_and_refuses_nobody(talking: WithUpstream) -> None:
    """Three failures open the circuit: advisory, ready all the same; the next question is asked, and closes it."""
    server = talking.server
    server.stop()
    server.environment["REVERIE_UPSTREAM__RETRIES_MAX"] = "0"
    server.start()
    talking.upstream.plan = Plan(fail_first=3, echo=True)
    failed = [server.chat("?").status for _ in range(3)]
    ready = server.get("/readyz")
    opened = condition(server, "UpstreamAnswering")
    figures = server.get("/metrics").body.decode()
    answered = server.chat("Are you there?")

    assert failed == [502, 502, 502]
    assert (ready.status, ready.json["ready"], opened["requirement"]) == (200, True, "advisory")
    assert (opened["status"], opened["reason"]) == ("False", "upstream_circuit_open")
    assert 'reverie_upstream_circuit{state="open"} 1.0' in figures
    assert answered.text.endswith("Are you there?")
    assert condition(server, "UpstreamAnswering")["status"] == "True"


def test_a_workspace_that_is_gone_makes_it_unready(talking: WithUpstream) -> None:
    """Within seconds, with the folder's name; and ready again by itself."""
    server = talking.server
    aside = server.workspace.with_name("aside")
    server.workspace.rename(aside)
    until(lambda: server.get("/readyz").status == 503, "it is not ready")
    failing = server.get("/readyz").json["failing"]
    told = condition(server, "WorkspaceWritable")["message"]
    aside.rename(server.workspace)
    until(lambda: server.get("/readyz").status == 200, "it is ready again")

    assert failing == ["workspace_not_writable"]
    assert str(server.workspace) in told


def test_what_waits_is_in_the_status(talking: WithUpstream) -> None:
    """`/v1/status`, `/metrics` and `reverie status` tell of the turn that runs and of the one that waits."""
    server = talking.server
    talking.upstream.plan = Plan(delay_s=40)
    with ThreadPoolExecutor(2) as pool:
        for number, text in enumerate(("runs", "waits"), start=1):
            pool.submit(server.chat, text)
            until(lambda number=number: len(server.turn_states()) == number, f"{text} is accepted")
        until(lambda: server.turn_states()[0] == "running", "the first one runs")
        status = server.get("/v1/status").json
        waiting = server.figure('session_waiting_turns{session="agent:main:main"}')
        shown = json.loads(server.run("status", "--json").stdout)
        words = server.run("status").stdout
        server.kill()

    (session,) = status["inbox"]["sessions"]
    assert (session["key"], session["waiting"], session["running"]) == ("agent:main:main", 1, 1)
    assert (status["inbox"]["running"], status["inbox"]["waiting"], status["ready"]) == (1, 1, True)
    assert status["upstream"]["state"] in {"unknown", "closed"}
    assert waiting == 1
    assert shown["live"]["inbox"]["waiting"] == 1
    assert shown["inbox"]["queues"][0]["session_key"] == "agent:main:main"
    assert "1 running, 1 waiting, the oldest for" in words
    assert "agent:main:main: 1 waiting" in words


def test_a_port_for_watchdogs(server: Server) -> None:
    """`gateway.probe_port` answers `/livez` beside the gateway."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server.environment |= {**WITHOUT_MEMORY, "REVERIE_GATEWAY__PROBE_PORT": str(port)}
    server.start()
    own = server.url
    server.url = f"http://127.0.0.1:{port}"
    live = server.get("/livez")
    server.url = own

    assert (live.status, live.json["ok"], live.json["status"]) == (200, True, "live")
    assert live.json["heartbeatAgeMs"] < 5_000
    assert server.stop() == 0


ROWS = int(os.environ.get("REVERIE_PROBE_ROWS", "30000"))
"""500,000 rows once stopped a gateway's probes for two minutes; here they take half a minute and 3 GiB of disk."""


@pytest.mark.timeout(300)
def test_probes_are_answered_while_rows_are_copied(server: Server, tmp_path: Path) -> None:
    """Rows are copied within the very process that serves; every probe is answered 200 meanwhile, and soon."""
    command = [sys.executable, "-m", "benchmarks.probes", "--rows", str(ROWS), "--folder", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=server.variables(), timeout=290)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]

    assert figures["rows"] == ROWS
    for probe in ("healthz", "readyz", "livez"):
        assert figures[f"{probe}_answers"] > 10
        assert figures[f"{probe}_ms_p99"] < 500


def test_streams_of_events_end_with_the_server(talking: WithUpstream) -> None:
    """Somebody who follows a session's events does not hold up the end, and the stream ends as it should."""
    server = talking.server
    server.chat("hello")
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(server.get, "/v1/sessions/agent%3Amain%3Amain/events", {"Accept": "text/event-stream"})
        time.sleep(0.5)
        started = time.monotonic()
        code = server.stop()
        took_s = time.monotonic() - started
        followed = following.result()

    assert (code, took_s < 4) == (0, True)
    assert (followed.status, followed.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert b"turn.answered" in followed.body
