"""The lock of OpenClaw's files of recalls: `memory/.dreams/short-term-promotion.lock`, which two programs respect.

Two locks are taken. Among processes of Reverie an operating-system lock counts: it ends with its holder, and two never
hold it. Then OpenClaw's own lock file is made, if nobody has it: `<process>:<milliseconds>`. A file that was left
behind is removed: one that is older than a minute and whose process is gone, or the one that a killed Reverie made,
which said so before (`.reverie-promotion.claim`). A file that somebody replaced in between is put back.

The functions that touch files block; `promotion_lock` calls them on a worker thread.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import filelock

from reverie.errors import StorageError
from reverie.memory.workspace import write_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from reverie.clock import Clock

FOLDER = "memory/.dreams"
LOCK = f"{FOLDER}/short-term-promotion.lock"
SYSTEM_LOCK = f"{FOLDER}/.reverie-promotion.lock"
CLAIM = f"{FOLDER}/.reverie-promotion.claim"
POLL_MS = 40
WAIT_MS_MAX = 10_000
STALE_MS = 60_000
LOCK_BYTES_MAX = 200
_HOLDER = re.compile(r"\s*(?P<pid>\d{1,10}):")


@dataclass(frozen=True, slots=True)
class LockState:
    """How OpenClaw's lock file is. `pid` is whom it names, None for nobody; `cause` says why it cannot be read."""

    state: Literal["free", "held", "stale", "unreadable"]
    pid: int | None = None
    age_ms: int = 0
    content: bytes = b""
    cause: str = ""

    @property
    def holder(self) -> str:
        """Who has it, in words."""
        return "somebody" if self.pid is None else f"process {self.pid}"


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine; whatever is not known for certain counts as running."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def look(workspace: Path, now_ms: int) -> LockState:
    """How the lock file is now."""
    path = workspace / LOCK
    try:
        age_ms = now_ms - path.stat().st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return LockState("free")
    except OSError as error:
        return LockState("unreadable", cause=error.strerror or str(error))
    content = _content(path)
    named = _HOLDER.match(content.decode("utf-8", "replace"))
    pid = int(named["pid"]) if named else None
    gone = pid is None or not is_alive(pid)
    return LockState("stale" if gone and age_ms > STALE_MS else "held", pid, max(0, age_ms), content)


@asynccontextmanager
async def promotion_lock(
    workspace: Path,
    clock: Clock,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    wait_ms_max: int = WAIT_MS_MAX,
) -> AsyncGenerator[bool]:
    """Hold both locks; gives whether a lock that was left behind was removed. Who waits looks every 40 ms.

    Raises:
        StorageError: somebody else holds it for too long; it names the holder.
        HomeReadOnlyError, StorageFullError: the lock cannot be written.
    """
    until_s = clock.monotonic_s() + wait_ms_max / 1000
    system = filelock.FileLock(workspace / SYSTEM_LOCK, thread_local=False)
    removed = False
    found = await _begun(workspace, system, clock)
    while not found.content:
        removed = removed or found.removed
        if clock.monotonic_s() >= until_s:
            raise StorageError(
                f"timed out waiting for the promotion lock at {workspace / LOCK}; {found.holder} has it: try again"
            )
        await sleep(POLL_MS / 1000)
        found = await _begun(workspace, system, clock)
    try:
        yield removed or found.removed
    finally:
        await asyncio.shield(asyncio.to_thread(_release, workspace, system, found.content))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What came of one attempt: what OpenClaw's lock says now that both are held, or nothing, and who has one."""

    content: bytes = b""
    removed: bool = False
    holder: str = ""


async def _begun(workspace: Path, system: filelock.BaseFileLock, clock: Clock) -> _Attempt:
    """One attempt on a worker thread. When this is cancelled meanwhile, nothing stays held."""
    attempt = asyncio.ensure_future(asyncio.to_thread(_attempt, workspace, system, clock.now_ms()))
    try:
        return await asyncio.shield(attempt)
    except asyncio.CancelledError:
        await asyncio.wait({attempt})
        if not attempt.cancelled() and attempt.exception() is None and attempt.result().content:
            await asyncio.to_thread(_release, workspace, system, attempt.result().content)
        raise


def _attempt(workspace: Path, system: filelock.BaseFileLock, now_ms: int) -> _Attempt:
    """Take both locks or neither. A lock that was left behind is removed on the way."""
    try:
        system.acquire(timeout=0)
    except filelock.Timeout:
        return _Attempt(holder="another Reverie")
    except OSError as error:
        raise write_error(error, workspace / SYSTEM_LOCK) from error
    found = _Attempt()
    try:
        found = _take_file(workspace, now_ms)
    except OSError as error:
        raise write_error(error, workspace / LOCK) from error
    finally:
        if not found.content:
            system.release()
    return found


def _take_file(workspace: Path, now_ms: int) -> _Attempt:
    """Make OpenClaw's lock file, with the system's lock held."""
    path, claim = workspace / LOCK, workspace / CLAIM
    state = look(workspace, now_ms)
    removed = False
    if state.state != "free":
        ours = bool(state.content) and state.content == _content(claim)
        removed = (state.state == "stale" or ours) and _remove(path, state.content)
        if not removed:
            return _Attempt(holder=state.holder)
    content = f"{os.getpid()}:{now_ms}\n".encode()
    claim.write_bytes(content)
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        claim.unlink()
        return _Attempt(removed=removed, holder=look(workspace, now_ms).holder)
    return _Attempt(content, removed)


def _remove(path: Path, content: bytes) -> bool:
    """Remove a lock file if it still says this; one that another program made in between is put back."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    is_it = _content(aside) == content
    if not is_it:
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()
    return is_it


def _release(workspace: Path, system: filelock.BaseFileLock, content: bytes) -> None:
    try:
        _remove(workspace / LOCK, content)
        (workspace / CLAIM).unlink(missing_ok=True)
    except OSError as error:
        raise write_error(error, workspace / LOCK) from error
    finally:
        system.release()


def _content(path: Path) -> bytes:
    """What a lock file says; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LOCK_BYTES_MAX)
    except OSError:
        return b""
