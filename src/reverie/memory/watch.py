"""Notice files changed by hand, within a fraction of a second, and what the system did not tell of within minutes.

Watched are each workspace folder itself (without what lies below) and its `memory/` folder with everything below, so
the number of handles does not depend on what else a person keeps there. What changes is collected while earlier
changes are synced, and is bounded. Now and then everything is compared anyway: a system that forgot to tell of a
change is asked for a new watch then. When it has no handles left, comparing is all that is done, more often, and the
system is asked again after a while. The loop ends only when told.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog
import watchfiles

from reverie.memory.documents import MEMORY_FOLDER, ROOT_FILES, is_generated, is_ignored_folder
from reverie.memory.pending import PendingPaths

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from watchfiles.main import FileChange

    from reverie.memory.sync import SyncReport

RESTART_WAIT_S_MIN = 1.0
RESTART_WAIT_S_MAX = 60.0
BURST_DEBOUNCES_MAX = 4
HEARTBEAT_MS = 500
ROOTS_LOOKED_AT_S = 2.0
RECONCILE_S = 300.0
FAILURES_BEFORE_POLLING = 3
POLL_S_MIN = 1.0
POLL_REST = 20
"""While polling, a comparison that took a second is followed by twenty seconds of rest."""

POLL_S_MAX = 600.0
"""After so long the system is asked for handles again."""

SETTLE_S = 2.0
"""A change this close to a comparison may still be on its way to us."""

_NO_HANDLES = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE})
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
_COMES_OR_GOES = (watchfiles.Change.added, watchfiles.Change.deleted)
_log = structlog.get_logger(__name__)


class SyncsWorkspaces(Protocol):
    """The part of the memory index that a watcher needs."""

    async def sync_workspace(self, agent: str, paths: Collection[str] | None = None) -> SyncReport:
        """Bring the index in step with the given paths, or with everything."""
        ...


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How patient to be.

    A change is synced once nothing has changed for `debounce_ms`, and at the latest after `BURST_DEBOUNCES_MAX` times
    that. Every `reconcile_s` seconds everything is compared; 0: only at the start and after a failure. With `polling`
    the system is not asked to watch for `POLL_S_MAX`. `told` is called with `system`, or `polling` and why, when that
    changes.
    """

    debounce_ms: int
    reconcile_s: float = RECONCILE_S
    polling: bool = False
    told: Callable[[str, str], Awaitable[None]] | None = None


async def watch_workspaces(
    index: SyncsWorkspaces,
    workspaces: Mapping[str, Path],
    settings: WatchSettings,
    stop: asyncio.Event | None = None,
    *,
    on_change: Callable[[], None] | None = None,
) -> None:
    """Keep the index in step with the workspaces (by agent) until `stop` is set, or the task is cancelled.

    Everything is compared once the watch stands. `on_change` is called after each sync.
    """
    stop = stop or asyncio.Event()
    watched = _Watched(index, workspaces, settings, stop, on_change)
    cause = "asked for" if settings.polling else ""
    wait_s = RESTART_WAIT_S_MIN
    while not stop.is_set():
        try:
            if cause:
                await watched.tell("polling", cause)
                cause = ""
                await _poll(watched)
            else:
                await _watch(watched)
            wait_s = RESTART_WAIT_S_MIN
        except Exception as error:  # noqa: BLE001 (a named border: this background loop; it logs and starts again)
            watched.failures += 1
            cause = str(error) if _is_out_of_handles(error) or watched.failures >= FAILURES_BEFORE_POLLING else ""
            _log.warning(
                "watching the workspaces failed",
                action="watch_failed",
                cause=str(error),
                polling=bool(cause),
                wait_s=0 if cause else wait_s,
            )
            if not cause:
                await _waited(stop, wait_s)
                wait_s = min(wait_s * 2, RESTART_WAIT_S_MAX)


@dataclass(slots=True)
class _Watched:
    """What is kept in step with what, and what waits for it.

    `last_told_s` is when the system last told of a change, `failures` how often in a row no watch came about.
    """

    index: SyncsWorkspaces
    workspaces: Mapping[str, Path]
    settings: WatchSettings
    stop: asyncio.Event
    on_change: Callable[[], None] | None
    pending: PendingPaths = field(default_factory=PendingPaths)
    last_told_s: float = float("-inf")
    mode: str = ""
    failures: int = 0

    async def sync(self, agent: str, paths: Collection[str] | None) -> SyncReport:
        report = await self.index.sync_workspace(agent, paths)
        if self.on_change is not None:
            self.on_change()
        return report

    async def note(self, changes: set[FileChange]) -> None:
        """Changes that the system told of. There may be tens of thousands, so they are sifted on a worker thread."""
        if not changes:
            return
        self.last_told_s = time.monotonic()
        for agent, workspace in self.workspaces.items():
            if relevant := await asyncio.to_thread(relevant_paths, workspace, changes):
                self.pending.add(agent, relevant)

    async def tell(self, mode: str, cause: str) -> None:
        """Say how changes are noticed from now on."""
        if mode != self.mode and self.settings.told is not None:
            await self.settings.told(mode, cause)
        self.mode = mode


async def _poll(watched: _Watched) -> None:
    """Compare everything again and again, for `POLL_S_MAX`; a large workspace at longer intervals."""
    ends_s = time.monotonic() + POLL_S_MAX
    while not watched.stop.is_set() and time.monotonic() < ends_s:
        started_s = time.monotonic()
        for agent in watched.workspaces:
            await watched.sync(agent, None)
        await _waited(watched.stop, max(POLL_S_MIN, POLL_REST * (time.monotonic() - started_s)))


async def _watch(watched: _Watched) -> None:
    """Watch until `stop` is set, a folder appears or goes, something fails, or the system missed a change."""
    ended = threading.Event()
    pool = ThreadPoolExecutor(2, thread_name_prefix="watch")
    identities = await asyncio.to_thread(_identities, watched.workspaces)
    folders = await asyncio.to_thread(_folders, watched.workspaces)
    top, deep = ([str(path) for path in paths] for paths in folders)
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(watched.stop.wait()),
        asyncio.create_task(
            _collect(watched, _changes(pool, top, ended, watched.settings, recursive=False), ROOT_FILES)
        ),
        asyncio.create_task(_collect(watched, _changes(pool, deep, ended, watched.settings, recursive=True), None)),
        asyncio.create_task(_replaced(watched.workspaces, identities)),
        asyncio.create_task(_work_off(watched)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        ended.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pool.shutdown(wait=False)


async def _changes(
    pool: ThreadPoolExecutor,
    folders: Sequence[str],
    ended: threading.Event,
    settings: WatchSettings,
    *,
    recursive: bool,
) -> AsyncIterator[set[FileChange]]:
    """Sets of changes; an empty one now and then, the first as soon as the watch stands."""
    found = watchfiles.watch(
        *folders,
        watch_filter=None,
        debounce=settings.debounce_ms * BURST_DEBOUNCES_MAX,
        step=settings.debounce_ms,
        stop_event=ended,
        rust_timeout=HEARTBEAT_MS,
        yield_on_timeout=True,
        recursive=recursive,
        ignore_permission_denied=True,
    )
    loop = asyncio.get_running_loop()
    while (changes := await loop.run_in_executor(pool, next, found, None)) is not None:
        yield changes


async def _collect(watched: _Watched, found: AsyncIterator[set[FileChange]], compare: Collection[str] | None) -> None:
    """Once the watch stands, have `compare` (None: everything) synced, then what changes.

    Ends when a memory folder appears or goes, because then other folders are to be watched.
    """
    stands = False
    folders = {str(workspace / MEMORY_FOLDER) for workspace in watched.workspaces.values()}
    async for changes in found:
        if not stands:
            stands, watched.failures = True, 0
            await watched.tell("system", "")
            for agent in watched.workspaces:
                if compare is None:
                    watched.pending.add_whole(agent)
                else:
                    watched.pending.add(agent, compare)
        await watched.note(changes)
        if any((change, folder) in changes for folder in folders for change in _COMES_OR_GOES):
            return


async def _work_off(watched: _Watched) -> None:
    """Sync what waits, and everything when it is time. Ends when a comparison found what nobody had told of."""
    due_s = watched.settings.reconcile_s
    compared_s = time.monotonic()
    while True:
        left_s = max(0.0, compared_s + due_s - time.monotonic()) if due_s else None
        if await watched.pending.noted(left_s):
            taken = watched.pending.take()
            if None in taken.values():
                compared_s = time.monotonic()
            for agent, paths in taken.items():
                await watched.sync(agent, paths)
            continue
        started_s = compared_s = time.monotonic()
        reports = {agent: await watched.sync(agent, None) for agent in watched.workspaces}
        missed = [agent for agent, report in reports.items() if report.found_changes]
        if missed and not await _told_around(watched, started_s):
            _log.warning(
                "a comparison found changes that the system had not told of: the watch is renewed",
                action="watch_renewed",
                agents=missed,
            )
            return


async def _told_around(watched: _Watched, started_s: float) -> bool:
    """Whether the system told of any change about when a comparison ran: then what that found was no surprise."""
    await asyncio.sleep(SETTLE_S)
    return watched.last_told_s >= started_s - SETTLE_S


async def _replaced(workspaces: Mapping[str, Path], before: list[tuple[int, int] | None]) -> None:
    """Returns when a watched folder appeared, went, or is another one of the same name: a watch is of one folder."""
    while await asyncio.to_thread(_identities, workspaces) == before:  # noqa: ASYNC110 (a folder that was replaced tells nobody)
        await asyncio.sleep(ROOTS_LOOKED_AT_S)


def _identities(workspaces: Mapping[str, Path]) -> list[tuple[int, int] | None]:
    """Device and number of each folder that is watched when it is there."""
    return [_identity(folder) for path in workspaces.values() for folder in (path, path / MEMORY_FOLDER)]


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        info = folder.stat()
    except OSError:
        return None
    return (info.st_dev, info.st_ino)


async def _waited(stop: asyncio.Event, wait_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), wait_s)


def relevant_paths(workspace: Path, changes: Collection[FileChange]) -> list[str]:
    """The workspace-relative paths among the changes that can matter to the index, sorted.

    A folder counts: when it is moved or deleted, its files are not named one by one.
    """
    below = f"{workspace}{os.sep}"
    relative = {path.removeprefix(below).replace(os.sep, "/") for _, path in changes if path.startswith(below)}
    return sorted(path for path in relative if _is_relevant(path))


def _is_relevant(path: str) -> bool:
    first, *rest = path.split("/")
    if not rest:
        return path in ROOT_FILES
    return first == MEMORY_FOLDER and not is_generated(path) and not any(map(is_ignored_folder, rest))


def _folders(workspaces: Mapping[str, Path]) -> tuple[list[Path], list[Path]]:
    """The workspace folders and the memory folders that are there; a memory folder that is a link is not watched."""
    top = [path for path in workspaces.values() if path.is_dir()]
    return top, [path / MEMORY_FOLDER for path in top if _is_folder(path / MEMORY_FOLDER)]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_out_of_handles(error: Exception) -> bool:
    """Whether the system has no handles left: watchfiles says so by an errno, or only in its message."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (told := _SYSTEM_ERROR.search(str(error))):
        number = int(told[1])
    return number in _NO_HANDLES or "limit reached" in str(error).lower()
