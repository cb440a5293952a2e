"""What a model's server asked of us, known to all processes: a pause (429), or that it refuses the key or the bill.

    429                               a pause, for as long as `Retry-After` says; then everybody may ask again
    401, 402, 403, no quota, billing  the circuit opens for `pause_s`; then one call finds out, and others wait for it
    no connection, too many calls     a short pause for the job alone: nobody's answer

An answer clears what the server had said before it was asked, and nothing newer. The name of a server is its URL and
its model; a key is never part of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.errors import JobDeferredError, ModelBusyError, UpstreamRefusedError, UpstreamUnreachableError
from reverie.llm.upstream_failures import NO_QUOTA, retry_after_s
from reverie.llm.upstream_server import public_url

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.errors import UpstreamError
    from reverie.llm.circuit import UpstreamCircuit
    from reverie.storage.database import Database, Row, Transaction

RATE_LIMIT_S = 60.0
"""The pause after a 429 that does not say for how long."""
RATE_LIMIT_S_MAX = 86_400.0
UNREACHABLE_S = 30.0
REASON_CHARS_MAX = 300
_TOO_MANY = 429
_OF_KEY_OR_BILL = frozenset({401, 402, 403})
_BILLING = re.compile(
    r"\b(?:billing|insufficient[_ ](?:quota|funds|credits?|balance)|exceeded your current quota|payment required|"
    r"credit balance)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Pause:
    """What a failure says about the server: nobody is to ask it for so long, and why."""

    kind: Literal["rate_limit", "circuit"]
    for_s: float


@dataclass(frozen=True, slots=True)
class PauseRecord:
    """A pause as all processes know it. `probes` counts the calls that found out whether it is over."""

    provider: str
    kind: Literal["rate_limit", "circuit"]
    until_ms: int
    reason: str
    probes: int


def provider_name(base_url: str, model: str) -> str:
    """The name of a server and its model, without anything secret that a URL may hold."""
    return f"{public_url(base_url)} {model}"


def pause_for(error: UpstreamError, now_ms: int, pause_s: float) -> Pause | None:
    """What a failure says about the server; None if it says something about the one call only."""
    if not isinstance(error, UpstreamRefusedError):
        return None
    billing = error.code == NO_QUOTA or _BILLING.search(str(error)) is not None
    if error.upstream_status in _OF_KEY_OR_BILL or billing:
        return Pause("circuit", pause_s)
    if error.upstream_status == _TOO_MANY:
        asked = retry_after_s(error.retry_after, now_ms)
        return Pause("rate_limit", min(RATE_LIMIT_S if asked is None else asked, RATE_LIMIT_S_MAX))
    return None


class Provider:
    """One server and model, as all processes of a home see it.

    `circuit` is what this process knows of the server from all its calls; `probe_s` how long one call may take.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        name: str,
        *,
        pause_s: float,
        probe_s: float,
        circuit: UpstreamCircuit | None = None,
    ) -> None:
        self.name = name
        self._database = database
        self._clock = clock
        self._pause_s = pause_s
        self._probe_s = probe_s
        self._circuit = circuit

    async def paused(self) -> PauseRecord | None:
        """The pause that stands now; None if there is none, or it is over."""
        row = await self._database.read(self._row)
        return None if row is None or row["until"] <= self._clock.now_ms() else _record(row)

    async def admit(self) -> None:
        """Return if the server may be asked now. After a circuit was open, that is true for one caller at a time.

        Raises:
            JobDeferredError: it may not, and until when.
        """
        self._heed_circuit()
        row = await self._database.read(self._row)
        if row is None:
            return
        now_ms = self._clock.now_ms()
        if row["until"] > now_ms:
            raise JobDeferredError(row["until"], row["reason"])
        if row["kind"] == "circuit":
            await self._probe(row, now_ms)

    async def answered(self, asked_at_ms: int) -> None:
        """The server answered a call that was made at that instant."""
        if await self._database.read(self._row) is not None:
            await self._database.write(lambda tx: tx.execute("end_pause", provider=self.name, asked_at=asked_at_ms))

    async def failed(self, error: UpstreamError, asked_at_ms: int) -> None:
        """Take note of what a failure says about the server.

        Raises:
            JobDeferredError: it is not the call's fault, and until when nothing is to be asked.
        """
        now_ms = self._clock.now_ms()
        pause = pause_for(error, now_ms, self._pause_s)
        if pause is not None:
            raise await self._paused_by(error, pause, now_ms)
        await self.abandoned(asked_at_ms)
        if isinstance(error, UpstreamUnreachableError | ModelBusyError):
            raise JobDeferredError(now_ms + round(UNREACHABLE_S * 1_000), _cut(str(error))) from error

    async def abandoned(self, asked_at_ms: int) -> None:
        """A call ended without saying anything about the server: if it was to find out, another one may."""
        now_ms = self._clock.now_ms()
        if await self._database.read(self._row) is not None:
            await self._database.write(
                lambda tx: tx.execute("end_probe", provider=self.name, now=now_ms, asked_at=asked_at_ms)
            )

    async def _paused_by(self, error: UpstreamError, pause: Pause, now_ms: int) -> JobDeferredError:
        until_ms = now_ms + round(pause.for_s * 1_000)
        reason = _cut(str(error))
        await self._database.write(
            lambda tx: tx.execute("pause_provider", provider=self.name, until=until_ms, kind=pause.kind, reason=reason,
                                  now=now_ms)
        )  # fmt: skip
        return JobDeferredError(until_ms, reason)

    async def _probe(self, row: Row, now_ms: int) -> None:
        """Be the one who finds out.

        Raises:
            JobDeferredError: somebody else is.
        """
        until_ms = now_ms + round(self._probe_s * 1_000)
        mine = await self._database.write(
            lambda tx: tx.execute("begin_probe", provider=self.name, probes=row["probes"], until=until_ms, now=now_ms)
        )
        if not mine:
            raise JobDeferredError(until_ms, row["reason"])

    def _heed_circuit(self) -> None:
        """This process's calls, those of turns too, fail one after the other: what can wait had better wait."""
        if self._circuit is None:
            return
        known = self._circuit.statistics()
        if known.state == "open":
            until_ms = self._clock.now_ms() + round(known.retry_in_s * 1_000)
            raise JobDeferredError(until_ms, _cut(known.cause))

    def _row(self, tx: Transaction) -> Row | None:
        return tx.row("find_pause", provider=self.name)


def _record(row: Row) -> PauseRecord:
    return PauseRecord(row["provider"], row["kind"], row["until"], row["reason"], row["probes"])


def _cut(text: str) -> str:
    return text[:REASON_CHARS_MAX]
