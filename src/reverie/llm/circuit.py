"""Whether the model's server seems to work, judged by the calls that were made of it anyway.

Failures in a row open the circuit, for a time that grows with each further one; an answer closes it. Nothing is
refused because of it: somebody who waits for an answer is always tried for. It tells operators, and background work
that can wait, what to expect.

    closed      the last call was answered, or fewer than `FAILURES_TO_OPEN` have failed since
    open        calls fail; background work had better wait for `retry_in_s`
    half_open   that time is over, and nobody has called since: the next call decides
    unknown     nobody has called yet
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.errors import UpstreamError, UpstreamRefusedError

if TYPE_CHECKING:
    from collections.abc import Generator

    from reverie.clock import Clock

FAILURES_TO_OPEN = 3
OPEN_S_FIRST = 5.0
OPEN_S_MAX = 300.0
CAUSE_CHARACTERS_MAX = 300
_DOUBLINGS_MAX = 10
_OF_THE_REQUEST = frozenset({400, 404, 413, 415, 422})
"""Statuses that say something about one request, and that the server works."""

CircuitState = Literal["unknown", "closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class CircuitStatistics:
    """How the model's server does. `since_ms` is when it last opened or closed; `cause` is that of the last failure.

    `retry_in_s` counts down while open. `opened` is how often it has opened since the start.
    """

    state: CircuitState
    since_ms: int
    failures: int
    retry_in_s: float
    opened: int
    cause: str


def open_s(failures: int) -> float:
    """How long the circuit stays open after so many failures in a row; 0 while there are too few."""
    if failures < FAILURES_TO_OPEN:
        return 0.0
    return min(OPEN_S_MAX, OPEN_S_FIRST * 2.0 ** min(failures - FAILURES_TO_OPEN, _DOUBLINGS_MAX))


def is_of_server(error: UpstreamError) -> bool:
    """True when a failure says something about the server, and not about what it was asked."""
    return not (isinstance(error, UpstreamRefusedError) and error.upstream_status in _OF_THE_REQUEST)


class UpstreamCircuit:
    """Follows the calls of one server. Belongs to one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._called = False
        self._failures = 0
        self._opened = 0
        self._until_s = 0.0
        self._since_ms = clock.now_ms()
        self._cause = ""
        self.answered_ms: int | None = None
        """When the server answered last; None for not yet."""

    @contextmanager
    def judging(self) -> Generator[None]:
        """A call that raises an `UpstreamError` within the block counts as failed. `worked` is said by the caller."""
        try:
            yield
        except UpstreamError as error:
            if is_of_server(error):
                self.failed(error)
            else:
                self.worked()
            raise

    def worked(self) -> None:
        """The server answered."""
        if self._failures >= FAILURES_TO_OPEN or not self._called:
            self._since_ms = self._clock.now_ms()
        self._called, self._failures, self._until_s = True, 0, 0.0
        self.answered_ms = self._clock.now_ms()

    def failed(self, error: UpstreamError) -> None:
        """The server failed. Calls that were under way when the circuit opened do not keep it open for longer."""
        self._cause = str(error)[:CAUSE_CHARACTERS_MAX]
        first, self._called = not self._called, True
        now_s = self._clock.monotonic_s()
        if now_s < self._until_s:
            return
        self._failures += 1
        if first or self._failures == FAILURES_TO_OPEN:
            self._since_ms = self._clock.now_ms()
        if self._failures == FAILURES_TO_OPEN:
            self._opened += 1
        self._until_s = now_s + open_s(self._failures)

    def statistics(self) -> CircuitStatistics:
        """How the server does now."""
        left_s = max(0.0, self._until_s - self._clock.monotonic_s())
        return CircuitStatistics(self._state(left_s), self._since_ms, self._failures, left_s, self._opened, self._cause)

    def _state(self, left_s: float) -> CircuitState:
        if not self._called:
            return "unknown"
        if self._failures < FAILURES_TO_OPEN:
            return "closed"
        return "open" if left_s else "half_open"
