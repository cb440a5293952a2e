"""What a running Reverie does at the moment, as one value: for `/v1/status`, `reverie status` and `/metrics`.

Reading it costs two bounded queries; everything else is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from reverie.readiness import Condition
from reverie.types import Gauge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reverie.dreaming.status import DreamingStatus
    from reverie.llm.circuit import CircuitStatistics
    from reverie.sessions.figures import InboxFigures
    from reverie.types import JsonObject

CIRCUIT_STATES = ("unknown", "closed", "open", "half_open")


class LaneLoad(Protocol):
    """How busy one lane of model calls is."""

    @property
    def running(self) -> int:
        """Calls under way."""
        ...

    @property
    def waiting(self) -> int:
        """Calls in line."""
        ...

    @property
    def oldest_wait_s(self) -> float:
        """How long the first in line has waited; 0 when nobody does."""
        ...


def _no_lanes() -> Mapping[str, LaneLoad]:
    return {}


@dataclass(frozen=True, slots=True)
class PromptCache:
    """Calls of the model since the start: the tokens of their prompts, and how many its server had kept."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class CodexFigures:
    """The app-server of an agent: its process, how often one was started and ended by itself, what it said in vain."""

    pid: int | None = None
    starts: int = 0
    deaths: int = 0
    unread: int = 0


@dataclass(frozen=True, slots=True)
class AppStatus:
    """The inbox, the model calls by lane, the model's server, how often each plugin failed, and how dreaming does.

    `inbox` and `dreaming` are None when the database could not be read. `engines` are the context engines of others: of
    each why it is not asked any more; empty while it is. `codex` has the agents that answer through Codex.
    """

    inbox: InboxFigures | None
    circuit: CircuitStatistics
    lanes: Mapping[str, LaneLoad] = field(default_factory=_no_lanes)
    plugin_failures: Mapping[str, int] = field(default_factory=dict[str, int])
    dreaming: DreamingStatus | None = None
    engines: Mapping[str, str] = field(default_factory=dict[str, str])
    prompts: PromptCache = field(default_factory=PromptCache)
    codex: Mapping[str, CodexFigures] = field(default_factory=dict[str, CodexFigures])

    def as_json(self) -> JsonObject:
        """The status for programs. Durations are in milliseconds."""
        return {
            "inbox": _inbox_json(self.inbox),
            "modelCalls": {
                lane: {
                    "running": load.running, "waiting": load.waiting, "oldestWaitMs": round(load.oldest_wait_s * 1000)
                }
                for lane, load in self.lanes.items()
            },
            "upstream": {
                "state": self.circuit.state,
                "sinceMs": self.circuit.since_ms,
                "failuresInARow": self.circuit.failures,
                "retryInMs": round(self.circuit.retry_in_s * 1000),
                "cause": self.circuit.cause,
            },
            "pluginFailures": dict(self.plugin_failures),
            "dreaming": None if self.dreaming is None else self.dreaming.as_json(),
            "promptCache": {
                "calls": self.prompts.calls,
                "promptTokens": self.prompts.prompt_tokens,
                "cachedTokens": self.prompts.cached_tokens,
            },
            "contextEngines": {
                name: {"state": "quarantined" if why else "serving", "cause": why} for name, why in self.engines.items()
            },
            "codex": {
                agent: {"pid": each.pid, "starts": each.starts, "deaths": each.deaths, "unread": each.unread}
                for agent, each in self.codex.items()
            },
        }  # fmt: skip

    def gauges(self) -> Iterator[Gauge]:
        """The status for `/metrics`."""
        if self.inbox is not None:
            yield from _inbox_gauges(self.inbox)
        for lane, load in self.lanes.items():
            label = (("lane", lane),)
            yield Gauge("model_calls_running", "Model calls under way.", load.running, label)
            yield Gauge("model_calls_waiting", "Model calls in line.", load.waiting, label)
            yield Gauge("model_calls_oldest_wait_seconds", "Wait of the first in line.", load.oldest_wait_s, label)
        yield Gauge("prompt_tokens", "Tokens of prompts, as the model's server counted.", self.prompts.prompt_tokens)
        yield Gauge("prompt_tokens_cached", "Of these, what it had kept.", self.prompts.cached_tokens)
        for state in CIRCUIT_STATES:
            held = float(self.circuit.state == state)
            yield Gauge("upstream_circuit", "1 for how the model's server seems to do.", held, (("state", state),))
        yield Gauge("upstream_failures", "Failures of the model's server in a row.", self.circuit.failures)
        yield Gauge("upstream_circuit_opened", "Times the circuit has opened since the start.", self.circuit.opened)
        for plugin, failures in self.plugin_failures.items():
            yield Gauge("plugin_failures", "Failures of a plugin since the start.", failures, (("plugin", plugin),))
        if self.dreaming is not None:
            yield from self.dreaming.gauges()
        for agent, codex in self.codex.items():
            label = (("agent", agent),)
            yield Gauge("codex_running", "1 while the agent's app-server runs.", float(codex.pid is not None), label)
            yield Gauge("codex_starts", "Starts of the agent's app-server.", codex.starts, label)
            yield Gauge("codex_deaths", "Times that it ended by itself.", codex.deaths, label)


def upstream_condition(circuit: CircuitStatistics) -> Condition:
    """How the model's server does, as a condition that readiness shows and does not rest on."""
    match circuit.state:
        case "unknown":
            return Condition("UpstreamAnswering", "Unknown", "advisory", "not_called", "no model was called yet")
        case "closed":
            return Condition("UpstreamAnswering", "True", "advisory", "answering", "")
        case state:
            message = f"{circuit.failures} failures in a row; the last: {circuit.cause}"
            return Condition("UpstreamAnswering", "False", "advisory", f"upstream_circuit_{state}", message)


def _inbox_json(inbox: InboxFigures | None) -> JsonObject | None:
    if inbox is None:
        return None
    return {
        "turns": inbox.turns,
        "compactions": inbox.compactions,
        "running": inbox.running,
        "waiting": inbox.waiting,
        "oldestWaitMs": inbox.oldest_wait_ms,
        "sessions": [
            {
                "key": queue.session_key, "waiting": queue.waiting, "running": queue.running,
                "oldestWaitMs": queue.oldest_wait_ms,
            }
            for queue in inbox.queues
        ],
    }  # fmt: skip


def _inbox_gauges(inbox: InboxFigures) -> Iterator[Gauge]:
    for state, count in inbox.turns.items():
        yield Gauge("inbox_turns", "Turns in the inbox by state.", count, (("state", state),))
    for state, count in inbox.compactions.items():
        yield Gauge("compactions", "Compactions by state.", count, (("state", state),))
    for queue in inbox.queues:
        label = (("session", queue.session_key),)
        yield Gauge("session_waiting_turns", "Turns that wait in a session.", queue.waiting, label)
        yield Gauge("session_oldest_wait_seconds", "Longest wait in a session now.", queue.oldest_wait_ms / 1000, label)
