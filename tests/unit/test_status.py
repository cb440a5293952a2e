"""What a running Reverie does, as figures."""

from __future__ import annotations

from dataclasses import dataclass

from reverie.llm.circuit import UpstreamCircuit
from reverie.sessions.figures import InboxFigures, SessionQueue
from reverie.status import AppStatus, CodexFigures
from reverie.testing import FakeClock


@dataclass(frozen=True)
class Load:
    running: int
    waiting: int
    oldest_wait_s: float


def test_the_figures_of_a_status() -> None:
    """States, sessions, lanes and plugins are labels; one state of the circuit holds."""
    inbox = InboxFigures({"queued": 2, "answered": 7}, {"ready": 1}, (SessionQueue("agent:main:main", 2, 0, 2_500),))
    status = AppStatus(inbox, UpstreamCircuit(FakeClock()).statistics(), {"foreground": Load(1, 2, 0.5)}, {"export": 4})

    assert [(gauge.name, gauge.value, dict(gauge.labels)) for gauge in status.gauges()] == [
        ("inbox_turns", 2, {"state": "queued"}),
        ("inbox_turns", 7, {"state": "answered"}),
        ("compactions", 1, {"state": "ready"}),
        ("session_waiting_turns", 2, {"session": "agent:main:main"}),
        ("session_oldest_wait_seconds", 2.5, {"session": "agent:main:main"}),
        ("model_calls_running", 1, {"lane": "foreground"}),
        ("model_calls_waiting", 2, {"lane": "foreground"}),
        ("model_calls_oldest_wait_seconds", 0.5, {"lane": "foreground"}),
        ("prompt_tokens", 0, {}),
        ("prompt_tokens_cached", 0, {}),
        ("upstream_circuit", 1, {"state": "unknown"}),
        ("upstream_circuit", 0, {"state": "closed"}),
        ("upstream_circuit", 0, {"state": "open"}),
        ("upstream_circuit", 0, {"state": "half_open"}),
        ("upstream_failures", 0, {}),
        ("upstream_circuit_opened", 0, {}),
        ("plugin_failures", 4, {"plugin": "export"}),
    ]


def test_an_app_server_has_its_figures() -> None:
    """By the agent that answers through it."""
    codex = {"main": CodexFigures(17, 3, 2, 5), "other": CodexFigures()}
    status = AppStatus(None, UpstreamCircuit(FakeClock()).statistics(), codex=codex)

    assert status.as_json()["codex"]["main"] == {"pid": 17, "starts": 3, "deaths": 2, "unread": 5}
    gauges = [(each.name, each.value, dict(each.labels)) for each in status.gauges() if "codex" in each.name]
    assert gauges == [
        ("codex_running", 1, {"agent": "main"}),
        ("codex_starts", 3, {"agent": "main"}),
        ("codex_deaths", 2, {"agent": "main"}),
        ("codex_running", 0, {"agent": "other"}),
        ("codex_starts", 0, {"agent": "other"}),
        ("codex_deaths", 0, {"agent": "other"}),
    ]


def test_a_database_that_cannot_be_read_hides_nothing_else() -> None:
    """The inbox is left out; the rest is told."""
    status = AppStatus(None, UpstreamCircuit(FakeClock()).statistics())

    assert status.as_json()["inbox"] is None
    assert [gauge.name for gauge in status.gauges()][-2:] == ["upstream_failures", "upstream_circuit_opened"]
