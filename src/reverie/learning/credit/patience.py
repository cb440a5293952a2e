"""Waiting for other work without failing, and not for ever."""

from __future__ import annotations

from dataclasses import dataclass

from reverie.errors import JobDeferredError


@dataclass(frozen=True, slots=True)
class Patience:
    """How a job waits for another one: so long at a time, and so often."""

    wait_ms: int
    waits_max: int

    def wait(self, put_backs: int, now_ms: int, reason: str) -> None:
        """Wait, unless the job has done so too often already: then it goes on with what is there.

        Raises:
            JobDeferredError: it is to be run again later.
        """
        if put_backs < self.waits_max:
            raise JobDeferredError(now_ms + self.wait_ms, reason)
