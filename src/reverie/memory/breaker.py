"""Whether an embedder that failed is asked again, so that nobody waits for one that is known to be down.

A failure opens the breaker: for a pause nobody asks. After it one probe does, and a success closes the breaker. Each
further failure doubles the pause; what only a person can end, such as an empty account, makes it ten minutes at least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.errors import EmbedderPausedError

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.errors import EmbedderError

PAUSE_S_FIRST = 1.0
PAUSE_S_MAX = 60.0
LASTING_PAUSE_S_FIRST = 600.0
LASTING_PAUSE_S_MAX = 3_600.0
_DOUBLINGS_MAX = 10


def pause_s(failures: int, error: EmbedderError) -> float:
    """How long nobody asks after so many failures in a row; at least what the server asked for, up to an hour."""
    first, longest = (LASTING_PAUSE_S_FIRST, LASTING_PAUSE_S_MAX) if error.lasting else (PAUSE_S_FIRST, PAUSE_S_MAX)
    grown = min(longest, first * 2 ** min(failures - 1, _DOUBLINGS_MAX))
    return min(LASTING_PAUSE_S_MAX, max(grown, error.retry_after_s or 0.0))


class Breaker:
    """Closed while the embedder works. `reason` is why it is not, empty when closed."""

    def __init__(self, clock: Clock) -> None:
        self.reason = ""
        self._clock = clock
        self._failures = 0
        self._until_s = 0.0
        self._lasting = False

    @property
    def closed(self) -> bool:
        """True when the embedder may be asked."""
        return not self._failures

    @property
    def pause_s(self) -> float:
        """Seconds until it is asked again; 0 when it may be, or when a probe is due."""
        return 0.0 if self.closed else max(0.0, self._until_s - self._clock.monotonic_s())

    @property
    def probe_due(self) -> bool:
        """True when the pause is over and somebody should try."""
        return not self.closed and not self.pause_s

    def check(self) -> None:
        """Nothing, when the embedder may be asked.

        Raises:
            EmbedderPausedError: it failed and was not found to work since.
        """
        if not self.closed:
            again = f"in {self.pause_s:.0f} s" if self.pause_s else "now, beside this"
            raise EmbedderPausedError(f"{self.reason} (asked again {again})", lasting=self._lasting)

    def failed(self, error: EmbedderError) -> None:
        """The embedder failed. Calls that were under way when it opened do not make the pause longer."""
        self.reason = str(error)
        if self.pause_s and not (error.lasting and not self._lasting):
            return
        self._failures = self._failures + 1 if error.lasting == self._lasting else 1
        self._lasting = error.lasting
        self._until_s = self._clock.monotonic_s() + pause_s(self._failures, error)

    def worked(self) -> None:
        """The embedder answered."""
        self.reason, self._failures, self._lasting = "", 0, False
