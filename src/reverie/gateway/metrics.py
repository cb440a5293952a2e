"""What the gateway counts and times, for `/metrics`.

Each gateway has a registry of its own, so that two in one process (tests, a library) do not collide. Figures that
others own, such as how many turns wait, are asked for at the scrape.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from reverie.sessions.events import ContextAssembled, ReplyDelta, TurnFailed, TurnFinished, TurnStarted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric
    from starlette.requests import Request

    from reverie.clock import Clock
    from reverie.sessions.events import TurnEvent
    from reverie.types import Gauge

_TURN_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_ADDED_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class Metrics:
    """The gateway's own figures, and the way to read them."""

    def __init__(self, clock: Clock, gauges: Callable[[], Awaitable[Sequence[Gauge]]]) -> None:
        self._clock = clock
        self._gauges = gauges
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "reverie_requests", "Answered requests.", ("endpoint", "status"), registry=registry
        )  # fmt: skip
        self._turn = Histogram(
            "reverie_turn_seconds", "From arrival to the end of the reply.", ("outcome",),
            buckets=_TURN_S, registry=registry,
        )  # fmt: skip
        self._added = Histogram(
            "reverie_turn_added_seconds", "Reverie's own work before the model is called, without waiting in line.",
            buckets=_ADDED_S, registry=registry,
        )  # fmt: skip
        self._wait = Histogram(
            "reverie_turn_wait_seconds", "From acceptance to the start of the turn.", buckets=_TURN_S, registry=registry
        )
        self._lag = Histogram(
            "reverie_loop_lag_seconds", "How late the event loop was.", buckets=_LAG_S, registry=registry
        )

    def count_request(self, endpoint: str, status: int) -> None:
        """One more answered request."""
        self._requests.labels(endpoint, str(status)).inc()

    def observe_lag(self, lag_s: float) -> None:
        """How late the event loop was once."""
        self._lag.observe(lag_s)

    def turn_arrives(self) -> TurnTimer:
        """Start timing a turn."""
        return TurnTimer(self._clock, self._turn, self._added, self._wait)

    async def scrape(self, request: Request) -> Response:  # noqa: ARG002 (an endpoint's signature)
        """`GET /metrics` in Prometheus' text format."""
        current = CollectorRegistry()
        current.register(_Gauges(await self._gauges()))
        text = generate_latest(self._registry) + generate_latest(current)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


class TurnTimer:
    """Times one turn by its events."""

    def __init__(self, clock: Clock, turn: Histogram, added: Histogram, wait: Histogram) -> None:
        self._clock = clock
        self._turn = turn
        self._added = added
        self._wait = wait
        self._arrived_s = self._accepted_s = self._started_s = clock.monotonic_s()

    def accepted(self) -> None:
        """The turn is durable."""
        self._accepted_s = self._started_s = self._clock.monotonic_s()

    def saw(self, event: TurnEvent) -> None:
        """An event of the turn passed by."""
        match event:
            case ReplyDelta():
                pass
            case TurnStarted():
                self._started_s = self._clock.monotonic_s()
                self._wait.observe(max(0.0, self._started_s - self._accepted_s))
            case ContextAssembled():
                accepting_s = self._accepted_s - self._arrived_s
                self._added.observe(accepting_s + self._clock.monotonic_s() - self._started_s)
            case TurnFinished():
                self._end("answered")
            case TurnFailed():
                self._end("failed")
            case _:
                pass

    def left(self) -> None:
        """The caller left before the end."""
        self._end("left")

    def queued(self) -> None:
        """The caller was told that its message waits."""
        self._end("queued")

    def _end(self, outcome: str) -> None:
        self._turn.labels(outcome).observe(self._clock.monotonic_s() - self._arrived_s)


class _Gauges(Collector):
    """The application's own figures at one moment."""

    def __init__(self, gauges: Sequence[Gauge]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """Each name as one family of gauges."""
        for name, named in groupby(sorted(self._gauges, key=_name), key=_name):
            values = list(named)
            labels = [label for label, _ in values[0].labels]
            family = GaugeMetricFamily(f"reverie_{name}", values[0].help, labels=labels)
            for gauge in values:
                family.add_metric([value for _, value in gauge.labels], gauge.value)
            yield family


def _name(gauge: Gauge) -> str:
    return gauge.name
