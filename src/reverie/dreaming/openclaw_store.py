"""OpenClaw's files of recalls where they lie in a workspace: looked at, put right, and relieved of what is forgotten.

Reverie keeps its own in rows and reads these only when it imports; they are another program's, and stay as they are
except where they are wrong. A file that is as its program would write it is not written. One that holds no JSON is put
aside under another name, and an empty one takes its place. Both programs' locks are held while something is written.

The functions that are not `async` block; callers run them on a worker thread.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from reverie.clock import iso_instant
from reverie.dreaming.contamination import contaminated
from reverie.dreaming.entry import DAYS_MAX, HITS_MAX, RecallEntry
from reverie.dreaming.openclaw_files import (
    FILE_BYTES_MAX,
    VERSION,
    InvalidEntryError,
    count_of,
    entry_fields,
    instant_of,
    parse_entry,
    written,
)
from reverie.dreaming.openclaw_lock import FOLDER, LOCK, look, promotion_lock
from reverie.dreaming.recording import day_of, no_tags
from reverie.dreaming.store_audit import Counted, Issue, StoreAudit, invalid_issue
from reverie.memory.documents import crosses_link
from reverie.memory.text import collapse
from reverie.memory.workspace import write_atomic, write_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import tzinfo
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.types import JsonObject

STORE = f"{FOLDER}/short-term-recall.json"
PHASES = f"{FOLDER}/phase-signals.json"
ENTRIES_MAX = 512
"""How many entries OpenClaw keeps."""
ASIDE = "unreadable"


@dataclass(frozen=True, slots=True)
class Reading:
    """How entries are read: `now_ms` stands for times that are missing, `tags` names the concepts of those without."""

    now_ms: int
    tags: Callable[[str, str], tuple[str, ...]] = no_tags
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class FilesRepair:
    """What was put right. `aside` are the files that held no JSON, under the names that they have now."""

    removed_invalid: Mapping[str, int] = field(default_factory=dict[str, int])
    removed_overflow: int = 0
    rewrote_store: bool = False
    rewrote_phases: bool = False
    removed_stale_lock: bool = False
    aside: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was."""
        return self.rewrote_store or self.rewrote_phases or self.removed_stale_lock

    def as_json(self) -> JsonObject:
        """For programs, with the names that OpenClaw's repair has."""
        return {
            "changed": self.changed,
            "removedInvalidEntries": sum(self.removed_invalid.values()),
            "removedOverflowEntries": self.removed_overflow,
            "rewroteStore": self.rewrote_store,
            "rewrotePhaseSignals": self.rewrote_phases,
            "removedStaleLock": self.removed_stale_lock,
            "putAside": list(self.aside),
        }


class _Kept(NamedTuple):
    """An entry that is of use, and its fields as they are to stand in the file."""

    entry: RecallEntry
    fields: dict[str, Any]


@dataclass(slots=True)
class _File:
    """One of the files as it was read. `data` None: there is none. `problem` says why its JSON is no store.

    `readable` False: the file itself cannot be read, so that nothing can be put right. `entries` are those to keep, as
    the file is to hold them.
    """

    path: Path
    data: bytes | None = None
    problem: str = ""
    readable: bool = True
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    entries: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_empty(self) -> bool:
        """Whether it is there and holds nothing."""
        return self.data is not None and not self.data.strip()

    @property
    def is_right(self) -> bool:
        """Whether there is nothing to put right, or nothing that could be."""
        if self.data is None or not self.readable:
            return True
        return not self.problem and _text({**self.fields, "version": VERSION}, self.entries) == self.data


@dataclass(slots=True)
class _Store:
    """The recall store as it was read: what is kept of it, what is not, and why."""

    file: _File
    kept: list[_Kept] = field(default_factory=list[_Kept])
    invalid: Counter[str] = field(default_factory=Counter[str])
    overflow: int = 0


def exists(workspace: Path) -> bool:
    """Whether a workspace holds files of OpenClaw's recalls; what a link leads to is not looked at."""
    if crosses_link(workspace, STORE) or not (workspace / FOLDER).is_dir():
        return False
    return any((workspace / name).exists() for name in (STORE, PHASES, LOCK))


def audit_files(workspace: Path, reading: Reading) -> StoreAudit:
    """How the files are."""
    store = _read_store(workspace, reading)
    phases, unknown = _read_phases(workspace, _known(store))
    counted = Counted()
    counted.add(each.entry for each in store.kept)
    return StoreAudit(
        store_path=str(store.file.path),
        lock_path=str(workspace / LOCK),
        updated_at=str(store.file.fields.get("updatedAt", "")),
        exists=store.file.data is not None or not store.file.readable,
        entries=counted.entries,
        promoted=counted.promoted,
        spaced=counted.spaced,
        tagged=counted.tagged,
        scripts=counted.scripts,
        invalid=dict(store.invalid),
        issues=(
            *_store_issues(store),
            *_phase_issues(phases, unknown),
            *_lock_issues(workspace, reading.now_ms),
        ),
    )


async def repair_files(
    workspace: Path,
    clock: Clock,
    reading: Reading,
    *,
    dry_run: bool = False,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> FilesRepair:
    """Put the files right, or only say what that would come to.

    Where nothing is wrong, nothing is written, and no lock is taken.

    Raises:
        StorageError: another program holds the lock for too long.
        HomeReadOnlyError, StorageFullError: they cannot be written; those before it are right.
    """
    planned = await asyncio.to_thread(_repair, workspace, reading, write=False)
    stale = (await asyncio.to_thread(look, workspace, reading.now_ms)).state == "stale"
    if dry_run or not (planned.changed or stale):
        return replace(planned, removed_stale_lock=stale)
    async with promotion_lock(workspace, clock, sleep=sleep) as removed:
        done = await asyncio.to_thread(_repair, workspace, reading, write=True)
    return replace(done, removed_stale_lock=removed)


async def forget_in_files(
    workspace: Path,
    clock: Clock,
    reading: Reading,
    is_meant: Callable[[RecallEntry], bool],
    *,
    write: bool,
) -> int:
    """Take entries out of the files, with their reinforcements, or only count them.

    Raises what `repair_files` raises.
    """
    count = await asyncio.to_thread(_forget, workspace, reading, is_meant, write=False)
    if not write or not count:
        return count
    async with promotion_lock(workspace, clock):
        return await asyncio.to_thread(_forget, workspace, reading, is_meant, write=True)


# -- reading -----------------------------------------------------------------------------------------------------


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return _File(path)
    except OSError as error:
        return _File(path, problem=f"it cannot be read ({error.strerror or error})", readable=False)
    return _parsed(_File(path, data))


def _parsed(file: _File) -> _File:
    data = file.data or b""
    if len(data) > FILE_BYTES_MAX:
        return replace(file, problem="it is larger than 64 MiB")
    if file.is_empty:
        return file
    try:
        found: object = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return replace(file, problem=f"it is no JSON ({error})")
    fields = cast("dict[str, Any]", found) if isinstance(found, dict) else {"entries": None}
    if not isinstance(fields.get("entries", {}), dict):
        return replace(file, problem="it is no store of OpenClaw")
    if fields.get("version", VERSION) != VERSION:
        version = str(fields["version"])[:20]
        return replace(file, problem=f"it is of version {version}, which only its program knows", readable=False)
    return replace(file, fields=fields)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _entries_of(file: _File) -> dict[str, Any]:
    return cast("dict[str, Any]", file.fields.get("entries", {}))


def _read_store(workspace: Path, reading: Reading) -> _Store:
    store = _Store(_read(workspace / STORE))
    found: dict[str, _Kept] = {}
    for value in _entries_of(store.file).values():
        try:
            entry = parse_entry(value, reading.now_ms, reading.tags)
        except InvalidEntryError as error:
            store.invalid[str(error)] += 1
            continue
        given = cast("dict[str, Any]", value)
        snippet = given.get("snippet")
        reason = contaminated(collapse(snippet) if isinstance(snippet, str) else "")
        if reason is not None:
            store.invalid[reason] += 1
            continue
        entry = _with_day(entry, reading)
        found[entry.key] = _Kept(entry, entry_fields(entry, given))
    kept = list(found.items())
    if len(kept) > ENTRIES_MAX:
        best = {id(each) for each in sorted((each for _, each in kept), key=_rank)[:ENTRIES_MAX]}
        store.overflow = len(kept) - ENTRIES_MAX
        kept = [(name, each) for name, each in kept if id(each) in best]
    store.kept = [each for _, each in kept]
    store.file.entries = {name: each.fields for name, each in kept}
    return store


def _rank(kept: _Kept) -> tuple[Any, ...]:
    """Which entries stay when there are too many: those recalled last; a time that nobody can read is the oldest."""
    entry = kept.entry
    last = instant_of(kept.fields.get("lastRecalledAt")) or 0
    return (-last, -entry.signals, -entry.total_score, -entry.max_score, -(entry.promoted_at_ms or 0), entry.key)


def _with_day(entry: RecallEntry, reading: Reading) -> RecallEntry:
    """An entry with the day on which it was recalled last, unless it has it in its own time zone or in UTC."""
    day = day_of(entry.last_recalled_at_ms, reading.zone)
    if not {day, day_of(entry.last_recalled_at_ms, UTC)}.isdisjoint(entry.days):
        return entry
    return replace(entry, days=tuple(sorted({*entry.days, day}))[-DAYS_MAX:])


def _known(store: _Store) -> frozenset[str] | None:
    """The keys of the entries that are there; None when nobody can tell."""
    if store.file.problem or not store.file.readable:
        return None
    return frozenset(store.file.entries)


def _read_phases(workspace: Path, known: frozenset[str] | None) -> tuple[_File, int]:
    """The reinforcements, and how many are of no use: of no entry that is known, or without a hit."""
    file = _read(workspace / PHASES)
    unknown = 0
    for name, value in _entries_of(file).items():
        given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        hits = {kind: min(count_of(given.get(kind)), HITS_MAX) for kind in ("lightHits", "remHits")}
        key = given["key"] if isinstance(given.get("key"), str) else name
        if not any(hits.values()) or (known is not None and key not in known):
            unknown += 1
            continue
        file.entries[key] = {"key": key} | given | hits | {"key": key}
    return file, unknown


# -- issues ------------------------------------------------------------------------------------------------------


def _store_issues(store: _Store) -> tuple[Issue, ...]:
    file = store.file
    if file.problem:
        message = f"{file.path}: {file.problem}."
        return (Issue("recall-store-unreadable", "error", message, fixable=file.readable),)
    if file.is_empty:
        return (Issue("recall-store-empty", "warn", f"{file.path} is empty.", fixable=True),)
    found = invalid_issue(store.invalid)
    if store.overflow:
        message = f"{file.path} holds {store.overflow:,} entries more than the {ENTRIES_MAX} that are kept."
        found += (Issue("recall-store-over-limit", "warn", message, fixable=True, count=store.overflow),)
    return found


def _phase_issues(file: _File, unknown: int) -> tuple[Issue, ...]:
    if file.problem:
        message = f"{file.path}: {file.problem}."
        return (Issue("phase-signals-unreadable", "warn", message, fixable=file.readable),)
    if not unknown:
        return ()
    message = f"{unknown:,} reinforcements in {file.path} are of no entry that is there."
    return (Issue("phase-signals-unknown", "warn", message, fixable=True, count=unknown),)


def _lock_issues(workspace: Path, now_ms: int) -> tuple[Issue, ...]:
    state = look(workspace, now_ms)
    path = workspace / LOCK
    if state.state == "unreadable":
        message = f"Whether {path} is held cannot be told ({state.cause})."
        return (Issue("recall-lock-unreadable", "warn", message, fixable=False),)
    if state.state == "stale":
        message = f"{path} was left behind by {state.holder}, {state.age_ms // 1000:,} s ago."
        return (Issue("recall-lock-stale", "warn", message, fixable=True),)
    return ()


# -- writing -----------------------------------------------------------------------------------------------------


def _repair(workspace: Path, reading: Reading, *, write: bool) -> FilesRepair:
    store = _read_store(workspace, reading)
    rewrote, aside = _put_right(store.file, reading, write=write)
    known = frozenset[str]() if store.file.problem and store.file.readable else _known(store)
    phases, _ = _read_phases(workspace, known)
    rewrote_phases, phases_aside = _put_right(phases, reading, write=write)
    return FilesRepair(
        removed_invalid=dict(store.invalid),
        removed_overflow=store.overflow,
        rewrote_store=rewrote,
        rewrote_phases=rewrote_phases,
        aside=(*aside, *phases_aside),
    )


def _put_right(file: _File, reading: Reading, *, write: bool) -> tuple[bool, tuple[str, ...]]:
    """Write a file as it should be, unless it is; whether that was so, and where what held no JSON is now."""
    if file.is_right:
        return False, ()
    aside = file.path.with_name(f"{file.path.name}.{ASIDE}-{reading.now_ms}") if file.problem else None
    if write and aside is not None:
        try:
            file.path.rename(aside)
        except OSError as error:
            raise write_error(error, file.path) from error
    if write:
        _write(file, reading)
    return True, () if aside is None else (str(aside),)


def _write(file: _File, reading: Reading) -> None:
    now: dict[str, Any] = {"version": VERSION, "updatedAt": iso_instant(reading.now_ms)}
    write_atomic(file.path, _text({**now, **file.fields, **now}, file.entries))


def _text(fields: Mapping[str, Any], entries: Mapping[str, Any]) -> bytes:
    """A file as OpenClaw writes it."""
    return (written({**fields, "entries": entries}) + "\n").encode("utf-8", "surrogatepass")


def _forget(workspace: Path, reading: Reading, is_meant: Callable[[RecallEntry], bool], *, write: bool) -> int:
    """Take out of both files what is meant; what is wrong with them otherwise stays for a repair."""
    file = _read(workspace / STORE)
    going: set[str] = set()
    keys: set[str] = set()
    for name, value in _entries_of(file).items():
        try:
            entry = parse_entry(value, reading.now_ms, no_tags)
        except InvalidEntryError:
            continue
        if is_meant(entry):
            going.add(name)
            keys |= {name, entry.key}
    if not write or not going:
        return len(going)
    phases = _read(workspace / PHASES)
    for each, out in ((phases, keys), (file, going)):
        entries = _entries_of(each)
        each.entries = {name: value for name, value in entries.items() if name not in out}
        if len(each.entries) < len(entries):
            _write(each, reading)
    return len(going)
