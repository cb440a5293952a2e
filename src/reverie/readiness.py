"""Whether turns can be served, and what is in the way: facts kept in memory, so that a probe looks nothing up.

The application says when it starts and when it drains. Whether its files can be written is tried out every few
seconds in the background: a transaction in `state.db`, a file in each workspace. A try that has not ended within
`TRY_S_MAX` counts as failed, and no second one is begun beside it; when it ends well after all, the reason goes away
by itself, and so it does when there is space on the disk again.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import structlog

from reverie.errors import ReverieError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from pathlib import Path

    from reverie.storage import Database

log = structlog.get_logger(__name__)

STARTING, DRAINING = "starting", "draining"
STORAGE, WORKSPACE = "storage_not_writable", "workspace_not_writable"

TRY_S_MAX = 10.0
"""As long as a commit may wait for a slow disk, or for another process that holds the database."""
PROBE_BYTES = 4_096
PROBE_PREFIX = ".reverie-probe-"

Status = Literal["True", "False", "Unknown"]
Requirement = Literal["required", "advisory"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that readiness rests on. A required one that is `False` makes the server unready, advisory never."""

    type: str
    status: Status
    requirement: Requirement
    reason: str
    message: str


@dataclass(slots=True)
class Readiness:
    """What is in the way of serving turns: a word for machines, and a message for people, for each reason.

    `advisory` are looked at for whoever asks for details, and are never in the way.
    """

    messages: dict[str, str] = field(default_factory=lambda: {STARTING: "the stores and loops are being opened"})
    advisory: tuple[Callable[[], Condition], ...] = ()

    @property
    def reasons(self) -> Collection[str]:
        """The words; empty when nothing is in the way."""
        return self.messages.keys()

    @property
    def ready(self) -> bool:
        """True when nothing is in the way."""
        return not self.messages

    def add(self, reason: str, message: str) -> None:
        """Something is in the way from now on."""
        if reason not in self.messages and reason not in {STARTING, DRAINING}:
            log.warning("not ready", action="not_ready", reason=reason, cause=message)
        self.messages[reason] = message

    def discard(self, reason: str) -> None:
        """It is no longer."""
        if self.messages.pop(reason, None) is not None and reason not in {STARTING, DRAINING}:
            log.info("ready again", action="ready_again", reason=reason)

    def conditions(self) -> tuple[Condition, ...]:
        """The required conditions, each with its reason where it does not hold, and the advisory ones."""
        required = (
            self._condition("GatewayStartupComplete", STARTING, "started"),
            self._condition("GatewayAcceptingWork", DRAINING, "accepting"),
            self._condition("StorageWritable", STORAGE, "writable"),
            self._condition("WorkspaceWritable", WORKSPACE, "writable"),
        )
        return (*required, *(look() for look in self.advisory))

    def _condition(self, kind: str, reason: str, otherwise: str) -> Condition:
        message = self.messages.get(reason)
        if message is None:
            return Condition(kind, "True", "required", otherwise, "")
        return Condition(kind, "False", "required", reason, message)


class WritabilityProbe:
    """Tries out whether the files of a home can be written, and tells `readiness`."""

    def __init__(
        self, readiness: Readiness, state: Database, workspaces: Collection[Path], *, try_s_max: float = TRY_S_MAX
    ) -> None:
        self._readiness = readiness
        self._state = state
        self._workspaces = tuple(workspaces)
        self._try_s_max = try_s_max
        self._seen_writes = 0
        self._tries: dict[str, asyncio.Task[str]] = {}

    async def run(self, every_s: float) -> None:
        """Try every `every_s` seconds until cancelled."""
        try:
            while True:
                await asyncio.sleep(every_s)
                await self.check()
        finally:
            for pending in self._tries.values():
                pending.cancel()

    async def check(self) -> None:
        """Try both once, side by side; takes at most `try_s_max` seconds."""
        await asyncio.gather(self._tried(STORAGE, self._write_state), self._tried(WORKSPACE, self._write_workspaces))

    async def _tried(self, reason: str, attempt: Callable[[], Awaitable[str]]) -> None:
        """Begin a try, or go on waiting for the one under way; what came of it within the time is told."""
        pending = self._tries.get(reason)
        if pending is None:
            pending = self._tries[reason] = asyncio.ensure_future(_outcome(attempt))
        done, _ = await asyncio.wait({pending}, timeout=self._try_s_max)
        if not done:
            self._readiness.add(reason, f"a write has not ended within {self._try_s_max:g} s")
            return
        del self._tries[reason]
        if problem := pending.result():
            self._readiness.add(reason, problem)
        else:
            self._readiness.discard(reason)

    async def _write_state(self) -> str:
        """A real commit. Left out where others have succeeded since the last one: a busy server pays nothing."""
        writes = self._state.statistics().writes
        if writes == self._seen_writes or STORAGE in self._readiness.reasons:
            await self._state.write(lambda tx: tx.execute("note_probe"))
            writes = self._state.statistics().writes
        self._seen_writes = writes
        return ""

    async def _write_workspaces(self) -> str:
        return await asyncio.to_thread(_first_problem, self._workspaces)


async def _outcome(attempt: Callable[[], Awaitable[str]]) -> str:
    try:
        return await attempt()
    except ReverieError as error:
        return str(error)


def _first_problem(folders: Collection[Path]) -> str:
    """Why a file cannot be written in one of the folders; empty when it can in all."""
    for folder in folders:
        try:
            write_probe(folder)
        except OSError as error:
            return f"{folder} cannot be written ({error.strerror or error}): check its permissions and the free space."
    return ""


def write_probe(folder: Path) -> None:
    """Write a small file to the disk. Where the system can, it never has a name, so that nothing is left of it.

    Raises:
        OSError: it could not be written.
    """
    with tempfile.TemporaryFile(dir=folder, prefix=PROBE_PREFIX, buffering=0) as file:
        file.write(b"\0" * PROBE_BYTES)
        os.fsync(file.fileno())
