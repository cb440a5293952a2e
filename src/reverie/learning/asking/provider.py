"""What a model's server asked of us, known to all processes: a pause (429), or that it refuses the key or the bill.

    429                               a pause, for as long as `Retry-After` says; then everybody may ask again. One
                                      that follows upon another is at least twice as long
    401, 402, 403, no quota, billing  the circuit opens for `pause_s`; then one call finds out, and others wait for it
    5xx, 408, no answer in time       the circuit opens for 10 s, and twice as long each time that finding out fails, up
                                      to a quarter of an hour. The first such failure counts against the job that had
                                      it; while the server answers nobody, none does
    no connection, too many calls     a short pause for the job alone: nobody's answer

An answer clears what the server had said before it was asked, and nothing newer. The name of a server is its URL and
its model; a key is never part of it. A pause that begins in the future was written by a clock that was ahead: it is
none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.errors import (
    JobDeferredError,
    ModelBusyError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from reverie.llm.upstream_failures import NO_QUOTA, retry_after_s
from reverie.llm.upstream_server import public_url

if TYPE_CHECKING:
    from reverie.clock import Clock
    from reverie.errors import UpstreamError
    from reverie.llm.circuit import UpstreamCircuit
    from reverie.storage.database import Database, Transaction

RATE_LIMIT_S = 60.0
"""The pause after a 429 that does not say for how long."""
RATE_LIMIT_S_MAX = 86_400.0
RATE_LIMIT_S_LEAST = 1.0
GROWN_S_MAX = 900.0
"""What pauses grow to that nobody asked for in that length."""
TROUBLE_S = 10.0
LOOK_AGAIN_S = 15.0
"""While one call finds out, the others wait so long before they look again."""
AFTER_OTHERS = 0.25
"""A job whose own call failed comes back after the others, by this share of the pause: another one finds out."""
CLOCK_S = 60.0
"""Clocks of processes differ by no more."""
UNREACHABLE_S = 30.0
REASON_CHARS_MAX = 300
_TOO_MANY = 429
_SERVER_ERRORS = range(500, 600)
_REQUEST_TIMEOUT = 408
_OF_KEY_OR_BILL = frozenset({401, 402, 403})
_BILLING = re.compile(
    r"\b(?:billing|insufficient[_ ](?:quota|funds|credits?|balance)|exceeded your current quota|payment required|"
    r"credit balance)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Pause:
    """What a failure says about the server: nobody is to ask it for so long, and why.

    `trouble`: it may as well be the one call, until another one fails too.
    """

    kind: Literal["rate_limit", "circuit"]
    for_s: float
    trouble: bool = False


@dataclass(frozen=True, slots=True)
class PauseRecord:
    """A pause as all processes know it. `probes` counts the calls that found out whether it is over.

    It began with the last failure, at `since_ms`.
    """

    provider: str
    kind: Literal["rate_limit", "circuit"]
    until_ms: int
    reason: str
    probes: int
    since_ms: int


def provider_name(base_url: str, model: str) -> str:
    """The name of a server and its model, without anything secret that a URL may hold."""
    return f"{public_url(base_url)} {model}"


def pause_for(error: UpstreamError, now_ms: int, pause_s: float) -> Pause | None:
    """What a failure says about the server; None if it says something about the one call only."""
    if not isinstance(error, UpstreamRefusedError):
        return Pause("circuit", TROUBLE_S, trouble=True) if is_trouble(error) else None
    asked = retry_after_s(error.retry_after, now_ms)
    billing = error.code == NO_QUOTA or _BILLING.search(str(error)) is not None
    if error.upstream_status in _OF_KEY_OR_BILL or billing:
        return Pause("circuit", pause_s)
    if error.upstream_status == _TOO_MANY:
        for_s = RATE_LIMIT_S if asked is None else max(RATE_LIMIT_S_LEAST, asked)
        return Pause("rate_limit", min(for_s, RATE_LIMIT_S_MAX))
    if is_trouble(error):
        return Pause("circuit", min(max(TROUBLE_S, asked or 0.0), RATE_LIMIT_S_MAX), trouble=True)
    return None


def is_trouble(error: UpstreamError) -> bool:
    """True for the failure of a server that took the call: it answered an error of its own, or nothing in time."""
    return isinstance(error, UpstreamTimeoutError) or (
        isinstance(error, UpstreamRefusedError)
        and (error.upstream_status in _SERVER_ERRORS or error.upstream_status == _REQUEST_TIMEOUT)
    )


def lengthened(pause: Pause, before: PauseRecord | None, asked_at_ms: int) -> float:
    """For how many seconds a pause is, after the one that stood when the call was made; None for no such one."""
    if before is None or before.kind != pause.kind or before.since_ms >= asked_at_ms:
        return pause.for_s
    if pause.trouble:
        return max(pause.for_s, min(TROUBLE_S * 2.0 ** min(before.probes, 10), GROWN_S_MAX))
    if pause.kind == "rate_limit":
        return max(pause.for_s, min(2.0 * (before.until_ms - before.since_ms) / 1_000, GROWN_S_MAX))
    return pause.for_s


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
        known = await self._database.read(self._known)
        return None if known is None or known.until_ms <= self._clock.now_ms() else known

    async def admit(self) -> None:
        """Return if the server may be asked now. After a circuit was open, that is true for one caller at a time.

        Raises:
            JobDeferredError: it may not, and until when.
        """
        self._heed_circuit()
        known = await self._database.read(self._known)
        if known is None:
            return
        now_ms = self._clock.now_ms()
        if known.until_ms > now_ms:
            raise JobDeferredError(known.until_ms, known.reason, all_until_ms=known.until_ms)
        if known.kind == "circuit":
            await self._probe(known, now_ms)

    async def answered(self, asked_at_ms: int) -> None:
        """The server answered a call that was made at that instant."""
        if await self._database.read(self._known) is not None:
            await self._database.write(lambda tx: tx.execute("end_pause", provider=self.name, asked_at=asked_at_ms))

    async def failed(self, error: UpstreamError, asked_at_ms: int) -> None:
        """Take note of what a failure says about the server.

        Raises:
            JobDeferredError: it is not the call's fault, and until when nothing is to be asked.
        """
        now_ms = self._clock.now_ms()
        pause = pause_for(error, now_ms, self._pause_s)
        if pause is not None:
            deferred = await self._paused_by(error, pause, asked_at_ms, now_ms)
            if deferred is not None:
                raise deferred
            return
        await self.abandoned(asked_at_ms)
        if isinstance(error, UpstreamUnreachableError | ModelBusyError):
            until_ms = now_ms + round(UNREACHABLE_S * 1_000)
            raise JobDeferredError(until_ms, _cut(str(error)), all_until_ms=until_ms) from error

    async def abandoned(self, asked_at_ms: int) -> None:
        """A call ended without saying anything about the server: if it was to find out, another one may."""
        now_ms = self._clock.now_ms()
        if await self._database.read(self._known) is not None:
            await self._database.write(
                lambda tx: tx.execute("end_probe", provider=self.name, now=now_ms, asked_at=asked_at_ms)
            )

    async def _paused_by(
        self, error: UpstreamError, pause: Pause, asked_at_ms: int, now_ms: int
    ) -> JobDeferredError | None:
        """Note a pause. None: the failure counts against the call, because the server answered somebody before it."""
        reason = _cut(str(error))

        def work(tx: Transaction) -> tuple[PauseRecord | None, int]:
            before = self._known(tx)
            if before is None:
                tx.execute("drop_pause", provider=self.name)
            until_ms = now_ms + round(1_000 * lengthened(pause, before, asked_at_ms))
            tx.execute("end_probe", provider=self.name, now=now_ms, asked_at=asked_at_ms)
            tx.execute(
                "pause_provider", provider=self.name, until=until_ms, kind=pause.kind, reason=reason, now=now_ms
            )  # fmt: skip
            return before, until_ms

        before, until_ms = await self._database.write(work)
        if pause.trouble and not self._fails_for_all(before, asked_at_ms):
            return None
        after_ms = round(AFTER_OTHERS * (until_ms - now_ms)) if pause.trouble else 0
        return JobDeferredError(until_ms + after_ms, reason, all_until_ms=until_ms)

    def _fails_for_all(self, before: PauseRecord | None, asked_at_ms: int) -> bool:
        """Whether the server had failed before a call was made, and has answered nobody since."""
        if before is None or before.kind != "circuit" or before.since_ms >= asked_at_ms:
            return False
        answered_ms = None if self._circuit is None else self._circuit.answered_ms
        return answered_ms is None or answered_ms <= before.since_ms

    async def _probe(self, known: PauseRecord, now_ms: int) -> None:
        """Be the one who finds out.

        Raises:
            JobDeferredError: somebody else is.
        """
        until_ms = now_ms + round(self._probe_s * 1_000)
        mine = await self._database.write(
            lambda tx: tx.execute("begin_probe", provider=self.name, probes=known.probes, until=until_ms, now=now_ms)
        )
        if not mine:
            again_ms = now_ms + round(min(self._probe_s, LOOK_AGAIN_S) * 1_000)
            raise JobDeferredError(again_ms, known.reason, all_until_ms=again_ms)

    def _heed_circuit(self) -> None:
        """This process's calls, those of turns too, fail one after the other: what can wait had better wait."""
        if self._circuit is None:
            return
        known = self._circuit.statistics()
        if known.state == "open":
            until_ms = self._clock.now_ms() + round(known.retry_in_s * 1_000)
            raise JobDeferredError(until_ms, _cut(known.cause), all_until_ms=until_ms)

    def _known(self, tx: Transaction) -> PauseRecord | None:
        row = tx.row("find_pause", provider=self.name)
        if row is None or row["since"] > self._clock.now_ms() + round(CLOCK_S * 1_000):
            return None
        return PauseRecord(row["provider"], row["kind"], row["until"], row["reason"], row["probes"], row["since"])


def _cut(text: str) -> str:
    return text[:REASON_CHARS_MAX]
