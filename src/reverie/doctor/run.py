"""An examination from beginning to end, and a repair with the second look that proves it.

    examine   databases as files → index rows → files and transcripts → vectors → cache → leftovers → state → home
    repair    take the home → what is done on closed files → open the memory: sync, embed, or rebuild → examine again

A database that is not sound is not looked into, and a group that cannot be examined says so and stops no other.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import filelock

from reverie.app import open_memory
from reverie.doctor.cache import check_cache, check_coverage, repair_cache
from reverie.doctor.databases import check_database
from reverie.doctor.dream_runs import check_dreaming
from reverie.doctor.engines import check_engines
from reverie.doctor.finding import Examination, Finding, examples, merged
from reverie.doctor.home import check_home, forget_server, make_private
from reverie.doctor.index_rows import REPAIRED, check_rows, repair_rows
from reverie.doctor.learning import check_learning
from reverie.doctor.leftovers import ASIDE, check_leftovers, set_aside, sweep
from reverie.doctor.on_disk import check_files, check_transcripts
from reverie.doctor.patient import noted_process
from reverie.doctor.plugins import check_plugins
from reverie.doctor.recalls import PREFIX, check_recalls
from reverie.doctor.state_rows import check_state
from reverie.doctor.threads import check_threads
from reverie.doctor.vectors import check_vectors, probe
from reverie.errors import HomeInUseError, HomeReadOnlyError, ReverieError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from reverie.config import Config
    from reverie.doctor.databases import DatabaseHealth
    from reverie.doctor.patient import Patient

ROUNDS_MAX = 2
"""What a repair brings to light, for example sessions whose damaged rows it removed, is repaired in a second round."""

EMBEDDED_AT_ONCE = 64
INDEX_ASIDE, EMBEDDINGS_ASIDE = ASIDE
ROWS = tuple(f"index.{name}" for name in REPAIRED)
FOLLOWED = (
    "database.index_damaged",
    "database.index_missing",
    "database.embeddings_damaged",
    "database.embeddings_missing",
    "files.missing",
    "files.changed",
    "files.vanished",
    "transcripts.behind",
    "transcripts.log_shrank",
    "vectors.waiting",
    "index.document_missing",
    "index.vector_missing",
    "index.vector_misfit",
)
"""Repaired by opening the memory: it reads what is missing and embeds what waits."""


class Steps(Protocol):
    """Shows that something is under way: `with steps("name", total) as advance: … advance(1)`."""

    def __call__(self, name: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """One step, with how much there is to do if that is known."""
        ...


def silent(name: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:  # noqa: ARG001 (the protocol's)
    """Shows nothing."""
    return nullcontext(_ignored)


def _ignored(count: int) -> None:
    """Progress that nobody watches."""


async def examine(patient: Patient, steps: Steps = silent) -> Examination:
    """Look at everything. Nothing is changed; a group that cannot be examined becomes a finding."""
    with steps("databases"):
        state, index, cache = [
            await check_database(patient, file) for file in (patient.state, patient.index, patient.cache)
        ]
    findings = [finding for health in (state, index, cache) for finding in health.findings]
    with steps("home"):
        findings += await check_home(patient)
    if index.sound:
        with steps("index rows", 1000) as advance:
            findings += await _guarded(patient, "index", lambda: check_rows(patient.index, advance))
    if patient.config is not None:
        findings += await _with_settings(patient, steps, state, index, cache)
    with steps("leftovers"):
        findings += await _guarded(patient, "leftovers", lambda: check_leftovers(patient))
    if state.sound:
        with steps("conversations"):
            findings += await _guarded(patient, "state", lambda: check_state(patient))
            findings += await _guarded(patient, "dreaming", lambda: check_dreaming(patient))
            findings += await _guarded(patient, "dreaming", lambda: check_recalls(patient))
            findings += await _guarded(patient, "plugins", lambda: check_plugins(patient))
            findings += await _guarded(patient, "engines", lambda: check_engines(patient))
            findings += await _guarded(patient, "threads", lambda: check_threads(patient))
            findings += await _guarded(patient, "learning", lambda: check_learning(patient))
    return Examination(tuple(findings), (*state.tables, *index.tables, *cache.tables))


async def _with_settings(
    patient: Patient, steps: Steps, state: DatabaseHealth, index: DatabaseHealth, cache: DatabaseHealth
) -> list[Finding]:
    """What can be examined only when the settings are known."""
    findings: list[Finding] = []
    with steps("embedder"):
        identity, probed = await probe(patient)
        findings += probed
    if index.sound:
        with steps("notes"):
            findings += await _guarded(patient, "files", lambda: check_files(patient))
        findings += await _guarded(patient, "vectors", lambda: check_vectors(patient, identity))
    if index.sound and state.sound:
        with steps("transcripts"):
            findings += await _guarded(patient, "transcripts", lambda: check_transcripts(patient))
    if cache.sound:
        with steps("embedding cache"):
            findings += await _guarded(patient, "cache", lambda: check_cache(patient, identity))
            if index.sound:
                findings += await _guarded(patient, "cache", lambda: check_coverage(patient))
    return findings


async def _guarded(patient: Patient, group: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """A group's findings, or that it could not be examined and why."""
    try:
        return await check()
    except (ReverieError, OSError) as error:
        if await asyncio.to_thread(patient.files.live) != patient.live:
            what = "a rebuild published another index meanwhile"
            return [Finding("note", f"{group}.changed", what, "a rebuild ran", "examine the home again")]
        return [
            Finding(
                "error",
                f"{group}.unreadable",
                "this could not be examined",
                str(error),
                "see the other findings; examine again once they are repaired",
            )
        ]


# -- repairs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one round tried to repair, and what stood in its way."""

    findings: tuple[Finding, ...]
    hindrance: Finding | None


async def repair(patient: Patient, before: Examination, steps: Steps = silent) -> Examination:
    """Repair what can be repaired without guessing, then look again.

    What the second look does not find any more is marked as fixed. When another process has the home nothing is done,
    and the result says which process, and what would have been done.
    """
    attempted: list[Finding] = []
    after, hindrance = before, None
    for number in range(ROUNDS_MAX):
        tried = {each.check for each in attempted}
        todo = [each for each in after.to_fix() if each.check not in tried and not (number and _just_put_aside(each))]
        if not todo:
            break
        round_ = await _repair_once(patient, Examination(tuple(todo), ()), steps)
        attempted += round_.findings
        hindrance = round_.hindrance
        if hindrance is not None and hindrance.check == "repair.in_use":
            return replace(before, findings=(*before.findings, hindrance))
        patient = replace(patient, live=await asyncio.to_thread(patient.files.live), held_by=None)
        after = await examine(patient, steps)
        if hindrance is not None:
            break
    result = merged(tuple(attempted), after)
    return result if hindrance is None else replace(result, findings=(*result.findings, hindrance))


def _just_put_aside(finding: Finding) -> bool:
    """What the first round put aside is not deleted by the second: somebody may want to look at it."""
    return finding.check == "leftovers.damaged"


async def _repair_once(patient: Patient, todo: Examination, steps: Steps) -> _Attempt:
    try:
        with steps("repair"):
            await asyncio.to_thread(_repair_closed, patient, todo)
        if patient.config is not None and (todo.has(*FOLLOWED) or todo.has("transcripts.left_out")):
            refused = await _state_problem(patient)
            if refused is not None:
                return _Attempt(todo.findings, refused)
            await _repair_open(patient, todo, steps)
        if patient.config is not None and any(each.check.startswith(PREFIX) for each in todo.to_fix()):
            await _repair_recalls(patient, patient.config, steps)
    except HomeInUseError as error:
        return _Attempt((), in_use(str(error), todo))
    except (ReverieError, OSError) as error:
        failed = Finding(
            "error",
            "repair.failed",
            "the repair did not come to its end",
            str(error),
            "remove the cause, then run it again: what was repaired so far stays",
        )
        return _Attempt(todo.findings, failed)
    return _Attempt(todo.findings, None)


def in_use(cause: str, todo: Examination) -> Finding:
    """Nothing was repaired because the home is not ours, and what would have been."""
    checks = list(dict.fromkeys(each.check for each in todo.findings))
    return Finding(
        "error",
        "repair.in_use",
        f"nothing was repaired; --fix would see to {examples(checks, len(checks))}",
        cause,
        "stop that process, then run `reverie doctor --fix` again",
    )


async def _state_problem(patient: Patient) -> Finding | None:
    """Why the index must not follow `state.db` now: an index made from a broken record would be broken too."""
    state = await check_database(patient, patient.state)
    if not any(each.severity == "error" for each in state.findings):
        return None
    return Finding(
        "error",
        "repair.refused",
        "the index was not brought up to date",
        "state.db is missing or damaged",
        "restore state.db first: an index that follows an empty one would forget every conversation",
    )


def _repair_closed(patient: Patient, todo: Examination) -> None:
    """What is done on closed files, with the home taken; on a worker thread.

    Raises:
        HomeInUseError: another process has the home; nothing was done.
        StorageError: a file cannot be written.
    """
    with taken(patient):
        if todo.has("home.permissions"):
            make_private(patient)
        if todo.has("home.server"):
            forget_server(patient)
        if todo.has("leftovers.stale", "leftovers.damaged", "leftovers.temporary"):
            sweep(patient)
        if todo.has("database.index_damaged"):
            set_aside(patient.live, INDEX_ASIDE)
        elif todo.has(*ROWS):
            repair_rows(patient.index)
        if todo.has("database.embeddings_damaged"):
            set_aside(patient.home.embeddings_db, EMBEDDINGS_ASIDE)
        elif todo.has("cache.misfit"):
            repair_cache(patient.cache)


@contextmanager
def taken(patient: Patient) -> Generator[None]:
    """The home for this process while the block runs. Blocks.

    Raises:
        HomeInUseError: another process has it.
        HomeReadOnlyError: it cannot be written.
    """
    lock = filelock.FileLock(patient.home.lock_file, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        pid = noted_process(patient.home)
        raise HomeInUseError(f"{patient.home.path} is in use by process {pid or 'of unknown number'}") from error
    except OSError as error:
        raise HomeReadOnlyError(f"{patient.home.path} cannot be written ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()


async def _repair_recalls(patient: Patient, config: Config, steps: Steps) -> None:
    """Put recall entries right, and OpenClaw's files of them."""
    with steps("recall entries"):
        async with open_memory(patient.home, config, embedder=None, clock=patient.clock) as opened:
            for agent in opened.workspaces:
                await opened.repairer.repair(agent)


async def _repair_open(patient: Patient, todo: Examination, steps: Steps) -> None:
    """Let the memory follow its files and transcripts again, and embed what may be embedded."""
    assert patient.config is not None
    embedder = await asyncio.to_thread(patient.make_embedder) if patient.embedding_is_free else None
    async with open_memory(patient.home, patient.config, embedder=embedder, clock=patient.clock) as opened:
        memory = opened.memory
        if todo.has("transcripts.left_out"):
            with steps("rebuild"):
                await memory.rebuild()
            return
        with steps("notes and conversations"):
            for agent in opened.workspaces:
                await memory.sync_workspace(agent)
            await memory.follow_transcripts()
        with steps("vectors") as advance:
            while done := await memory.embed_backlog(EMBEDDED_AT_ONCE):
                advance(done)
            await memory.settle()
