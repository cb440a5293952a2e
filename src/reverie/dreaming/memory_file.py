"""MEMORY.md as dreaming changes it: one way for promotions, undoing and forgetting, whichever process does it.

    planned   the row stands, with the file as it was; then the file is replaced in one step
    applied   the file was replaced: recorded together with what that means for the recalled passages
    abandoned it was not
    undone    it was, and was taken back

It holds the workspace's lock, under which notes are appended too. A person needs no lock: who saves the file between
our reading and our writing is noticed at the last moment, and the file is read again. Who is killed leaves a planned
row; the next edit looks at the file and knows.

Invariants: the file is whole at every moment; nothing is replaced that was not read; every change but that of a
person can be taken back while it is kept. At most `changes_kept` are, with at most `BEFORE_BYTES_MAX` of what stood
there before.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from difflib import unified_diff
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from reverie.dreaming.evidence import promoted
from reverie.dreaming.sections import markers
from reverie.errors import MemoryPathError, StorageError
from reverie.memory.append import LOCK_S_MAX, only_writer
from reverie.memory.documents import SkippedFile, read_file
from reverie.memory.workspace import write_atomic, write_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Mapping
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.storage.database import Database, Row, Transaction
    from reverie.types import JsonObject

T = TypeVar("T")
ChangeKind = Literal["promotion", "consolidation", "undo", "forgetting"]
ChangeState = Literal["planned", "applied", "abandoned", "undone"]

MEMORY_FILE = "MEMORY.md"
FILE_BYTES_MAX = 4 * 1024 * 1024
"""A larger file is not touched: no prompt shows a fiftieth of it."""

BEFORE_BYTES_MAX = 64 * 1024 * 1024
TRIES_MAX = 5
PLANNED_MAX = 100
LISTED_MAX = 1_000
DIFF_LINES_MAX = 2_000
DIFF_CONTEXT = 2
NO_FILE = b""
"""The digest of a file that is not there."""


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """A change of MEMORY.md. Instants are milliseconds since 1970; `ended_at_ms` is None while it is planned."""

    id: str
    agent: str
    path: str
    kind: ChangeKind
    state: ChangeState
    planned_at_ms: int
    ended_at_ms: int | None
    details: JsonObject = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Held:
    """A change with what it replaced and the digests of that and of what it made.

    `before` is None if there was no file, whose digest is `NO_FILE`, and if it is kept no longer.
    """

    change: MemoryChange
    before: bytes | None
    before_digest: bytes
    after_digest: bytes


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to become of the file: its new bytes, or None for no file.

    `details` is kept with the change: under `added` what the file then says, each with its `keys`, the first of which
    is marked as promoted; under `undoes` the change that it takes back.
    """

    kind: ChangeKind
    data: bytes | None
    details: JsonObject


@dataclass(frozen=True, slots=True)
class Edited:
    """What an edit came to. `change_id` is None if nothing was to be changed, or nothing was written on purpose."""

    before: bytes | None
    after: bytes | None
    change_id: str | None

    def diff(self) -> str:
        """The difference as a unified diff, to read; empty if there is none. CPU work, for a worker thread."""
        return diff(decoded(self.before), decoded(self.after))


class MemoryFile:
    """Changes MEMORY.md of every agent. `written(agent, path)` is awaited after each change, for whoever indexes it."""

    def __init__(
        self,
        database: Database,
        workspaces: Mapping[str, Path],
        clock: Clock,
        *,
        changes_kept: int,
        written: Callable[[str, str], Awaitable[None]] | None = None,
        lock_s_max: float = LOCK_S_MAX,
    ) -> None:
        self._database = database
        self._workspaces = workspaces
        self._clock = clock
        self._changes_kept = changes_kept
        self._written = written
        self._lock_s_max = lock_s_max

    def path(self, agent: str) -> Path:
        """Where an agent's file is, or would be.

        Raises:
            MemoryPathError: there is no such agent.
        """
        if agent not in self._workspaces:
            raise MemoryPathError(f"there is no agent {agent!r}")
        return self._workspaces[agent] / MEMORY_FILE

    async def read(self, agent: str) -> bytes | None:
        """The file as it is; None if there is none.

        Raises:
            MemoryPathError: it is a link, too large, or cannot be read.
        """
        return await asyncio.to_thread(_read, self.path(agent).parent)

    async def edit(
        self, agent: str, decide: Callable[[str], Awaitable[Edit | None]], *, dry_run: bool = False
    ) -> Edited:
        """Change the file as `decide` says of its text (`surrogateescape` for what is not UTF-8); None changes nothing.

        It may be asked again when a person saves the file meanwhile. `dry_run` only says what would come of it. What
        has begun is finished even if the caller is cancelled.

        Raises:
            StorageError: the file keeps changing, another process holds the lock, or the change cannot be recorded.
            HomeReadOnlyError, StorageFullError: it cannot be written; the old file stands.
            MemoryPathError: there is no such agent, or its file cannot be changed: it is a link, or too large.
        """
        workspace = self.path(agent).parent
        if dry_run:
            before = await self.read(agent)
            wanted = await decide(decoded(before))
            return Edited(before, before if wanted is None else wanted.data, None)
        async with _alone(workspace, self.path(agent), self._lock_s_max):
            edited = await _to_the_end(self._edit(agent, workspace, decide))
        if edited.change_id is not None and self._written is not None:
            await self._written(agent, MEMORY_FILE)
        return edited

    async def find(self, agent: str, change_id: str) -> Held | None:
        """A change by its id; None if it is not known, or not any more."""
        return await self._database.read(lambda tx: _held(tx.row("find_memory_change", agent=agent, id=change_id)))

    async def newest(self, agent: str) -> Held | None:
        """The last promotion that was made and not taken back."""
        found = await self._database.read(lambda tx: tx.value("newest_memory_change", agent=agent))
        return None if found is None else await self.find(agent, found)

    async def changes(self, agent: str, limit: int = 100) -> list[MemoryChange]:
        """An agent's changes, the newest first, at most 1,000."""
        limit = max(1, min(limit, LISTED_MAX))

        def work(tx: Transaction) -> list[MemoryChange]:
            return [_change(row) for row in tx.rows("list_memory_changes", agent=agent, limit=limit)]

        return await self._database.read(work)

    async def settle(self, agent: str) -> None:
        """Find out what became of changes whose writer was killed. Every edit does so first.

        Raises:
            As `edit`.
        """
        workspace = self.path(agent).parent
        async with _alone(workspace, self.path(agent), self._lock_s_max):
            await _to_the_end(self._settle(agent, workspace))

    async def mark_undone(self, change_id: str) -> None:
        """Note that a change is undone of which nothing stands in the file any more.

        Raises:
            StorageError: it could not be written.
        """
        await self._database.write(lambda tx: tx.execute("undo_memory_change", id=change_id))

    async def forget_before(self, agent: str, keys: Collection[str]) -> int:
        """Keep no longer what stood in the file before changes that name one of these keys; returns of how many.

        Such a change can still be undone, but only its own entries are then taken out.

        Raises:
            StorageError: it could not be written.
        """
        wanted, done = frozenset(keys), 0
        for change in await self.changes(agent, LISTED_MAX):
            held = await self.find(agent, change.id)
            if held is not None and await asyncio.to_thread(_names, held, wanted):
                details = json.dumps(_without_words(change.details, wanted), ensure_ascii=False)
                values = {"agent": agent, "id": change.id, "details": details}
                done += await self._database.write(lambda tx, v=values: tx.execute("forget_memory_before", **v))
        return done

    # -- under the lock ------------------------------------------------------------------------------------------

    async def _edit(self, agent: str, workspace: Path, decide: Callable[[str], Awaitable[Edit | None]]) -> Edited:
        await self._settle(agent, workspace)
        for _ in range(TRIES_MAX):
            before = await asyncio.to_thread(_read, workspace)
            wanted = await decide(decoded(before))
            if wanted is None or wanted.data == before:
                return Edited(before, before, None)
            change_id = await self._plan(agent, before, wanted)
            if await asyncio.to_thread(_replace, workspace, before, wanted.data):
                await self._database.write(lambda tx, c=change_id, w=wanted: self._applied(tx, agent, c, w.details))
                return Edited(before, wanted.data, change_id)
            await self._database.write(lambda tx, c=change_id: self._ended(tx, c, "abandoned"))
        raise StorageError(f"{workspace / MEMORY_FILE} keeps changing: nothing was written, try again")

    async def _plan(self, agent: str, before: bytes | None, wanted: Edit) -> str:
        now = self._clock.now_ms()
        change_id = f"mem_{now:012x}{secrets.token_hex(4)}"
        old, new = await asyncio.to_thread(lambda: (digest(before), digest(wanted.data)))
        row: JsonObject = {
            "id": change_id, "agent": agent, "path": MEMORY_FILE, "kind": wanted.kind, "before": before,
            "before_digest": old, "after_digest": new, "details": json.dumps(wanted.details, ensure_ascii=False),
            "at": now,
        }  # fmt: skip

        def work(tx: Transaction) -> None:
            tx.execute("plan_memory_change", **row)
            tx.execute("prune_memory_changes", agent=agent, kept=self._changes_kept, bytes_max=BEFORE_BYTES_MAX)

        await self._database.write(work)
        return change_id

    async def _settle(self, agent: str, workspace: Path) -> None:
        """Ends what killed writers left: a change that the file shows was made, any other was not."""
        planned = await self._database.read(
            lambda tx: tx.rows("planned_memory_changes", agent=agent, limit=PLANNED_MAX)
        )
        if not planned:
            return
        held, known = await asyncio.to_thread(_seen, workspace)

        def work(tx: Transaction) -> None:
            for row in planned:
                details: JsonObject = json.loads(row["details"])
                added = _added_keys(details)
                if row["after_digest"] == held or (added and added <= known):
                    self._applied(tx, agent, row["id"], details)
                else:
                    self._ended(tx, row["id"], "abandoned")

        await self._database.write(work)

    def _applied(self, tx: Transaction, agent: str, change_id: str, details: JsonObject) -> None:
        """A change was made: what it says is promoted, and what it undoes is undone."""
        self._ended(tx, change_id, "applied")
        now = self._clock.now_ms()
        for added in details.get("added", ()):
            promoted(tx, agent, added["keys"][0], added.get("at", now), tuple(added["lines"]), added.get("words", ""))
        if "undoes" in details:
            tx.execute("undo_memory_change", id=details["undoes"])

    def _ended(self, tx: Transaction, change_id: str, state: ChangeState) -> None:
        tx.execute("end_memory_change", id=change_id, state=state, at=self._clock.now_ms())


# -- values ----------------------------------------------------------------------------------------------------------


def decoded(data: bytes | None) -> str:
    """The text of a file, damaged bytes and all: `encoded` gives the same bytes again."""
    return (data or b"").decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """What `decoded` undid."""
    return text.encode("utf-8", "surrogateescape")


def digest(data: bytes | None) -> bytes:
    """What tells one state of the file from another."""
    return NO_FILE if data is None else hashlib.sha256(data).digest()


def diff(before: str, after: str) -> str:
    """The difference of two texts as a unified diff, `DIFF_LINES_MAX` lines at most; CPU work, for a worker thread."""
    if before == after:
        return ""
    old, new = (text.encode("utf-8", "replace").decode("utf-8").split("\n") for text in (before, after))
    lines = unified_diff(old, new, f"a/{MEMORY_FILE}", f"b/{MEMORY_FILE}", n=DIFF_CONTEXT, lineterm="")
    shown = [line.rstrip("\r") for _, line in zip(range(DIFF_LINES_MAX), lines, strict=False)]
    return "\n".join(shown) + "\n"


def _change(row: Row) -> MemoryChange:
    return MemoryChange(
        row["id"], row["agent"], row["path"], row["kind"], row["state"], row["planned_at"], row["ended_at"],
        json.loads(row["details"]),
    )  # fmt: skip


def _held(row: Row | None) -> Held | None:
    return None if row is None else Held(_change(row), row["before"], row["before_digest"], row["after_digest"])


def _added_keys(details: JsonObject) -> frozenset[str]:
    return frozenset(key for added in details.get("added", ()) for key in added["markers"])


def _keys_in(details: JsonObject) -> frozenset[str]:
    """All keys that a change's details name."""
    parts = (*details.get("added", ()), *details.get("gave_way", ()))
    return frozenset(key for part in parts for key in (*part["keys"], *part.get("markers", ())))


def _without_words(details: JsonObject, keys: frozenset[str]) -> JsonObject:
    """The details without what they say of these keys."""
    kept = dict(details)
    for name in ("added", "gave_way"):
        parts = cast("list[JsonObject]", details.get(name, []))
        kept[name] = [part for part in parts if keys.isdisjoint({*part["keys"], *part.get("markers", ())})]
    return kept


def _names(held: Held, keys: frozenset[str]) -> bool:
    """Whether a change names one of these keys, or stands on a file that did."""
    return not keys.isdisjoint(markers(decoded(held.before)) | _keys_in(held.change.details))


# -- the file --------------------------------------------------------------------------------------------------------


def _read(workspace: Path) -> bytes | None:
    held = read_file(workspace, MEMORY_FILE, FILE_BYTES_MAX)
    if isinstance(held, SkippedFile):
        most = f"dreaming leaves files above {FILE_BYTES_MAX // 1024 // 1024} MiB alone"
        raise MemoryPathError(f"{workspace / MEMORY_FILE} cannot be changed ({most}): {held.reason}")
    return None if held is None else held.data


def _seen(workspace: Path) -> tuple[bytes, frozenset[str]]:
    """What tells the file's state now, and the promotions that it names."""
    data = _read(workspace)
    return digest(data), markers(decoded(data))


def _replace(workspace: Path, before: bytes | None, after: bytes | None) -> bool:
    """Put the new file in the old one's place if that is still as it was read."""
    path = workspace / MEMORY_FILE

    def still() -> bool:
        return _read(workspace) == before

    if after is not None:
        return write_atomic(path, after, still=still)
    if not still():
        return False
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(error, path) from error
    return True


@asynccontextmanager
async def _alone(workspace: Path, file: Path, lock_s_max: float) -> AsyncGenerator[None]:
    """Hold the workspace's lock; waiting for it and giving it back happen on worker threads."""
    stack = ExitStack()
    entering = asyncio.ensure_future(asyncio.to_thread(stack.enter_context, only_writer(workspace, file, lock_s_max)))
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        loop = asyncio.get_running_loop()
        entering.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else _give_back(loop, stack)
        )
        raise
    try:
        yield
    finally:
        await asyncio.shield(asyncio.to_thread(stack.close))


def _give_back(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    loop.run_in_executor(None, stack.close)


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do a short piece of work to its end: who is cancelled meanwhile hears of it afterwards."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        raise
