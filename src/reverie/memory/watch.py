"""Notice files changed by hand, within a fraction of a second.

Watched are each workspace folder itself (without what lies below) and its `memory/` folder with everything below, so
the number of handles does not depend on what else a person keeps there. When the system has no handles left, the same
is done by polling. The loop ends only when told: after a failure it starts again following a pause, with a full
comparison, so that nothing that happened meanwhile is missed.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
import watchfiles

from reverie.memory.documents import MEMORY_FOLDER, ROOT_FILES, is_generated, is_ignored_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from watchfiles.main import FileChange

    from reverie.memory.sync import SyncReport

RESTART_WAIT_S_MIN = 1.0
RESTART_WAIT_S_MAX = 60.0
BURST_DEBOUNCES_MAX = 4
HEARTBEAT_MS = 500
POLL_DELAY_MS = 300
_NO_HANDLES = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE})
_log = structlog.get_logger(__name__)


class SyncsWorkspaces(Protocol):
    """The part of the memory index that a watcher needs."""

    async def sync_workspace(self, agent: str, paths: Collection[str] | None = None) -> SyncReport:
        """Bring the index in step with the given paths, or with everything."""
        ...


async def watch_workspaces(
    index: SyncsWorkspaces,
    workspaces: Mapping[str, Path],
    debounce_ms: int,
    stop: asyncio.Event | None = None,
    *,
    on_change: Callable[[], None] | None = None,
    polling: bool = False,
) -> None:
    """Keep the index in step with the workspaces (by agent) until `stop` is set, or the task is cancelled.

    A change is synced once nothing has changed for `debounce_ms`, and at the latest after a few times that.
    `on_change` is called after each sync.
    """
    stop = stop or asyncio.Event()
    watched = _Watched(index, workspaces, on_change)
    wait_s = RESTART_WAIT_S_MIN
    while not stop.is_set():
        try:
            await _watch(watched, debounce_ms, stop, polling=polling)
            wait_s = RESTART_WAIT_S_MIN
        except Exception as error:  # noqa: BLE001 (a named border: this background loop; it logs and starts again)
            polling = polling or _is_out_of_handles(error)
            _log.warning(
                "watching the workspaces failed",
                action="watch_failed",
                cause=str(error),
                polling=polling,
                wait_s=wait_s,
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)
            wait_s = min(wait_s * 2, RESTART_WAIT_S_MAX)


@dataclass(frozen=True, slots=True)
class _Watched:
    """What is kept in step with what."""

    index: SyncsWorkspaces
    workspaces: Mapping[str, Path]
    on_change: Callable[[], None] | None

    async def sync(self, agent: str, paths: Collection[str] | None) -> None:
        await self.index.sync_workspace(agent, paths)
        if self.on_change is not None:
            self.on_change()


async def _watch(watched: _Watched, debounce_ms: int, stop: asyncio.Event, *, polling: bool) -> None:
    """Watch until `stop` is set, a memory folder appears, or something fails."""
    ended = threading.Event()
    pool = ThreadPoolExecutor(2, thread_name_prefix="watch")
    top = [str(path) for path in watched.workspaces.values()]
    deep = await asyncio.to_thread(_memory_folders, watched.workspaces)
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
    for folders, recursive in ((top, False), (deep, True)):
        changes = _changes(pool, folders, ended, debounce_ms, recursive=recursive, polling=polling)
        compare = None if recursive else ROOT_FILES
        tasks.append(asyncio.create_task(_follow(watched, changes, compare)))
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
    debounce_ms: int,
    *,
    recursive: bool,
    polling: bool,
) -> AsyncIterator[set[FileChange]]:
    """Sets of changes; an empty one now and then, the first as soon as the watch stands."""
    found = watchfiles.watch(
        *folders,
        watch_filter=None,
        debounce=debounce_ms * BURST_DEBOUNCES_MAX,
        step=debounce_ms,
        stop_event=ended,
        rust_timeout=HEARTBEAT_MS,
        yield_on_timeout=True,
        force_polling=polling or None,
        poll_delay_ms=POLL_DELAY_MS,
        recursive=recursive,
        ignore_permission_denied=True,
    )
    loop = asyncio.get_running_loop()
    while (changes := await loop.run_in_executor(pool, next, found, None)) is not None:
        yield changes


async def _follow(watched: _Watched, found: AsyncIterator[set[FileChange]], compare: Collection[str] | None) -> None:
    """Once the watch stands, sync `compare` (None: everything), then what changes.

    Ends when a memory folder appears or disappears, because then other folders are to be watched.
    """
    compared = False
    folders = {str(workspace / MEMORY_FOLDER) for workspace in watched.workspaces.values()}
    async for changes in found:
        if not compared:
            for agent in watched.workspaces:
                await watched.sync(agent, compare)
            compared = True
        paths = {path for _, path in changes}
        for agent, workspace in watched.workspaces.items():
            relevant = relevant_paths(workspace, paths)
            if relevant:
                await watched.sync(agent, relevant)
        if any(path in folders and change != watchfiles.Change.modified for change, path in changes):
            return


def relevant_paths(workspace: Path, paths: Collection[str]) -> list[str]:
    """The workspace-relative paths among the changed ones that can matter to the index, sorted.

    A folder counts: when it is moved or deleted, its files are not named one by one.
    """
    relative: list[str] = []
    for path in paths:
        with suppress(ValueError):
            relative.append(Path(path).relative_to(workspace).as_posix())
    return sorted(path for path in relative if _is_relevant(path))


def _is_relevant(path: str) -> bool:
    first, *rest = path.split("/")
    if not rest:
        return path in ROOT_FILES
    return first == MEMORY_FOLDER and not is_generated(path) and not any(map(is_ignored_folder, rest))


def _memory_folders(workspaces: Mapping[str, Path]) -> list[str]:
    folders = [path / MEMORY_FOLDER for path in workspaces.values()]
    return [str(folder) for folder in folders if folder.is_dir() and not folder.is_symlink()]


def _is_out_of_handles(error: Exception) -> bool:
    return (isinstance(error, OSError) and error.errno in _NO_HANDLES) or "limit reached" in str(error).lower()
