"""The vectors of what was learned, in memory: one contiguous 8-bit matrix for each kind of an agent.

Every row that counts is scored, so that what is nearest is found whatever else there is. Nobody tells this module of a
change: the database numbers the newest change of each thing (`learned_changes`), and before a scan the changes since
the last one are read, in slices. A thing that changed is written after all others; where it stood is marked dead.

Bounded: of each kind the `THINGS_MAX` newest things of an agent, and `VECTORS_MAX` vectors in all (a step has two),
each of its dimensions and 30 bytes, and about 250 bytes a thing for its ids: some 180 MB for 262,144 vectors of 512
dimensions, and up to twice that, because tables grow by doubling. What agents asked for longest ago gives way and is
read again when it is asked for. What is not held is still found by its words.

Invariants: a scan runs on a worker thread, over the rows of the moment it began; neither loading nor scanning ever
holds more than one slice of rows beside the matrix; the database is the truth.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog

from reverie.errors import StorageError
from reverie.memory.scope import SOURCE_NUMBERS, Scope, VectorRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.memory.vector_table import VectorTable
    from reverie.storage import Database, Transaction
    from reverie.types import MemorySource

log = structlog.get_logger(__name__)

LearnedKind = Literal["trace", "policy", "world", "skill"]
KINDS: Final[tuple[LearnedKind, ...]] = ("trace", "policy", "world", "skill")
THINGS_MAX: Final = 131_072
VECTORS_MAX: Final = 262_144
SLICE_ROWS: Final = 500
OVERFULL: Final = 8
"""A kind that is fuller than it may be by an eighth is cut back: cutting with every new row would cost more."""
_CHANGES: Final[Mapping[LearnedKind, str]] = {
    "trace": "changed_traces",
    "policy": "changed_policies",
    "world": "changed_world_models",
    "skill": "changed_skills",
}
_ONE_KIND: Final[MemorySource] = "sessions"
"""A table holds one kind of one agent, so the columns for whose a row is and of which kind say nothing here."""
_EVERYTHING: Final = frozenset(SOURCE_NUMBERS)


@dataclass(frozen=True, slots=True)
class Eligible:
    """What may be recalled at all: the least certainty of a world model, the least success rate of a skill."""

    confidence_min: float = 0.2
    eta_min: float = 0.1
    low_value: bool = False

    def parameters(self) -> dict[str, Any]:
        """As the queries of recall name it."""
        return {"low": self.low_value, "confidence_min": self.confidence_min, "eta_min": self.eta_min}


@dataclass(frozen=True, slots=True)
class InView:
    """What of a session stands in the prompt anyway: everything from a message number on."""

    session_id: str
    from_seq: int


@dataclass(frozen=True, slots=True)
class Near:
    """The nearest things of one kind by one of their vectors, best first: ids with similarities, -1 to 1."""

    kind: LearnedKind
    action: bool
    best: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class LearnedVectorStatistics:
    """What is held in memory."""

    agents: int
    vectors: int
    matrix_bytes: int


class _Shelf:
    """The things of one kind of one agent: a table for each of their vectors, and at which change each thing stands."""

    def __init__(self, kind: LearnedKind, dims: int, things_max: int) -> None:
        self.kind: LearnedKind = kind
        self.cursor = 0
        self._dims = dims
        self._things_max = things_max
        self._lock = threading.Lock()
        self._tables: list[VectorTable | None] = [None, None]  # by the one vector, or the summary's; the action's
        self._changes: dict[str, int] = {}
        self._refs: dict[int, str] = {}
        self._sessions: dict[str, int] = {}

    @property
    def vectors(self) -> int:
        """How many vectors are held."""
        return sum(table.rows - table.dead for table in self._tables if table is not None)

    @property
    def matrix_bytes(self) -> int:
        """What the matrices take."""
        return sum(table.matrix.nbytes for table in self._tables if table is not None)

    # -- on worker threads ---------------------------------------------------------------------------------------

    def take(self, tx: Transaction, agent: str, eligible: Eligible) -> bool:
        """Take over the next slice of changes; False when there was none."""
        if not self.cursor:
            oldest = tx.value("oldest_change_held", agent=agent, kind=self.kind, held=self._things_max)
            self.cursor = oldest or 0
        query, asked = _CHANGES[self.kind], eligible.parameters()
        found = list(tx.tuples(query, agent=agent, after=self.cursor, limit=SLICE_ROWS, **asked))
        if not found:
            return False
        with self._lock:
            self._drop([ref for _, ref, *_ in found])
            self._hold(found)
            self._cut_back()
            self.cursor = found[-1][0]
        return len(found) == SLICE_ROWS

    def nearest(self, query: NDArray[np.float32], count: int, hidden: InView | None) -> list[Near]:
        """The nearest things by each of their vectors."""
        with self._lock:
            views = [(table.view() if table is not None else None) for table in self._tables]
            session = None if hidden is None else self._sessions.get(hidden.session_id)
        out = None if hidden is None or session is None else (session, hidden.from_seq)
        scope = Scope(0, _EVERYTHING, hidden=out)
        found: list[Near] = []
        for number, view in enumerate(views):
            if view is not None and count:
                best = view.scan(query, scope, count).best
                named = [(self._refs.get(change, ""), score) for change, score in best]
                found.append(Near(self.kind, bool(number), tuple((ref, score) for ref, score in named if ref)))
        return found

    def _drop(self, refs: Iterable[str]) -> None:
        gone = [self._changes.pop(ref) for ref in refs if ref in self._changes]
        if gone:
            self._tables = [None if table is None else table.without(gone) for table in self._tables]
            for change in gone:
                self._refs.pop(change, None)

    def _hold(self, found: Sequence[tuple[Any, ...]]) -> None:
        """Append the vectors of a slice; what has none of the right size is not held."""
        from reverie.memory import kernel
        from reverie.memory.vector_table import VectorTable

        size = 4 * self._dims
        for number, table in enumerate(self._tables):
            rows = [row for row in found if row[4 + number] is not None and len(row[4 + number]) == size]
            if not rows:
                continue
            held = [VectorRow(row[0], 0, _ONE_KIND, self._session(row[2]), row[3]) for row in rows]
            vectors = kernel.from_blobs([row[4 + number] for row in rows], self._dims)
            self._tables[number] = (table or VectorTable(self._dims)).with_rows(held, vectors)
            for change, ref, *_ in rows:
                self._changes[ref], self._refs[change] = change, ref

    def _session(self, session_id: str) -> int:
        return self._sessions.setdefault(session_id, len(self._sessions))

    def _cut_back(self) -> None:
        """Let the things that changed longest ago go, when there are too many."""
        surplus = len(self._changes) - self._things_max
        if surplus > self._things_max // OVERFULL:
            self._drop(sorted(self._changes, key=self._changes.__getitem__)[:surplus])


class _Agent:
    """All shelves of one agent, for queries of one size."""

    def __init__(self, dims: int, things_max: int) -> None:
        self.dims = dims
        self.shelves = tuple(_Shelf(kind, dims, things_max) for kind in KINDS)
        self.following: asyncio.Task[None] | None = None

    @property
    def vectors(self) -> int:
        return sum(shelf.vectors for shelf in self.shelves)


class LearnedVectors:
    """The vectors of traces, policies, world models and skills, of whichever agents were asked about last."""

    def __init__(
        self,
        database: Database,
        eligible: Eligible,
        *,
        things_max: int = THINGS_MAX,
        vectors_max: int = VECTORS_MAX,
    ) -> None:
        self._database = database
        self._eligible = eligible
        self._things_max = things_max
        self._vectors_max = vectors_max
        self._agents: dict[str, _Agent] = {}

    async def nearest(
        self,
        agent: str,
        query: NDArray[np.float32],
        counts: Mapping[LearnedKind, int],
        *,
        hidden: InView | None = None,
        wait_s: float | None = None,
    ) -> tuple[Near, ...]:
        """The nearest things of an agent, of each kind as many as asked for.

        What has changed is taken over first, for at most `wait_s`; what is not there by then is not found yet, and
        loading goes on.

        Raises:
            StorageError: the changes could not be read.
        """
        held = self._of(agent, len(query))
        following = self._follow(agent, held)
        done, _ = await asyncio.wait({following}, timeout=wait_s)
        if done and not following.cancelled():
            following.result()
        else:
            log.info("what was learned is still loading", action="learned_loading", agent=agent, vectors=held.vectors)
        return await asyncio.to_thread(_scan, held, query, dict(counts), hidden)

    async def load(self, agent: str, dims: int) -> None:
        """Take over everything that is stored of an agent, so that its first question need not wait.

        Raises:
            StorageError: it could not be read.
        """
        await asyncio.shield(self._follow(agent, self._of(agent, dims)))

    def statistics(self) -> LearnedVectorStatistics:
        """A snapshot, without waiting for anything."""
        shelves = [shelf for held in self._agents.values() for shelf in held.shelves]
        return LearnedVectorStatistics(
            len(self._agents), sum(shelf.vectors for shelf in shelves), sum(shelf.matrix_bytes for shelf in shelves)
        )

    async def aclose(self) -> None:
        """Stop loading."""
        tasks = [held.following for held in self._agents.values() if held.following is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._agents = {}

    def _of(self, agent: str, dims: int) -> _Agent:
        """An agent's shelves, as the one asked last; those of another size of vectors are of no use any more."""
        held = self._agents.pop(agent, None)
        if held is None or held.dims != dims:
            if held is not None and held.following is not None:
                held.following.cancel()
            held = _Agent(dims, self._things_max)
        self._agents[agent] = held
        return held

    def _follow(self, agent: str, held: _Agent) -> asyncio.Task[None]:
        """The reading of changes that is under way, or a new one."""
        if held.following is None or held.following.done():
            held.following = asyncio.create_task(self._read_changes(agent, held), name="follow what was learned")
            held.following.add_done_callback(_told)
        return held.following

    async def _read_changes(self, agent: str, held: _Agent) -> None:
        for shelf in held.shelves:
            while await self._database.read(lambda tx, shelf=shelf: shelf.take(tx, agent, self._eligible)):
                self._make_room(agent)
        self._make_room(agent)

    def _make_room(self, agent: str) -> None:
        """Let go of what other agents hold, those asked about longest ago first."""
        for name in list(self._agents):
            if name == agent or sum(held.vectors for held in self._agents.values()) <= self._vectors_max:
                return
            gone = self._agents.pop(name)
            if gone.following is not None:
                gone.following.cancel()
            log.info("vectors of an agent gave way", action="learned_dropped", agent=name, vectors=gone.vectors)


def _told(task: asyncio.Task[None]) -> None:
    """Say that loading failed: whoever began it may have gone on without."""
    if not task.cancelled() and isinstance(error := task.exception(), StorageError):
        log.warning("what was learned could not be loaded", action="learned_not_loaded", cause=str(error))


def _scan(
    held: _Agent, query: NDArray[np.float32], counts: Mapping[LearnedKind, int], hidden: InView | None
) -> tuple[Near, ...]:
    found: list[Near] = []
    for shelf in held.shelves:
        found += shelf.nearest(query, counts.get(shelf.kind, 0), hidden if shelf.kind == "trace" else None)
    return tuple(found)
