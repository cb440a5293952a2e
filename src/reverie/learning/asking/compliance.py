"""Whether a model answers a kind of question in the form that is asked for. One that never does is not asked for ever.

After `USELESS_MAX` refused answers in a row to one operation it rests, longer each time; then one question finds out.
What is known here is forgotten when the process ends: another start may have another model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reverie.errors import JobDeferredError

if TYPE_CHECKING:
    from reverie.clock import Clock

USELESS_MAX: Final = 5
REST_S_MAX: Final = 3_600.0
DOUBLINGS_MAX: Final = 10


@dataclass(slots=True)
class _Record:
    """How an operation has gone: refused answers in a row, rests so far, and until when it rests now."""

    useless: int = 0
    rests: int = 0
    until_ms: int = 0
    wrong: str = ""


class Compliance:
    """What is known of each operation, a prompt's id without its version. `pause_s` is the first rest."""

    def __init__(self, clock: Clock, pause_s: float) -> None:
        self._clock = clock
        self._pause_s = pause_s
        self._records: dict[str, _Record] = {}

    def rests(self, op: str) -> bool:
        """Whether an operation is not asked now."""
        record = self._records.get(op)
        return record is not None and self._clock.now_ms() < record.until_ms

    def admit(self, op: str) -> None:
        """Return if an operation may be asked.

        Raises:
            JobDeferredError: it rests, and until when.
        """
        if self.rests(op):
            record = self._records[op]
            told = f"the model's answers to {op} were of no use {record.useless} times in a row ({record.wrong})"
            raise JobDeferredError(record.until_ms, told)

    def complied(self, op: str) -> None:
        """An answer could be used."""
        self._records.pop(op, None)

    def refused(self, op: str, wrong: str) -> None:
        """Twice an answer could not be used."""
        record = self._records.setdefault(op, _Record())
        record.useless, record.wrong = record.useless + 1, wrong
        if record.useless >= USELESS_MAX:
            rest_s = min(self._pause_s * 2.0 ** min(record.rests, DOUBLINGS_MAX), REST_S_MAX)
            record.until_ms = self._clock.now_ms() + round(rest_s * 1_000)
            record.rests += 1


def operation_of(prompt_id: str) -> str:
    """The operation of a prompt's id: `reward.r_human` of `reward.r_human@1`."""
    return prompt_id.partition("@")[0]
