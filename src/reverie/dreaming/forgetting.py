"""START of forgetting: what is to go, found first and removed when that is asked for.

    selection ──► portions ──► survey ──► look                          (a dry run: counts, diffs)
                                   └────► begin ──► remove … remove     (names on record, then every kind of place)
                                                                └────► purge

Everything an agent remembers is gone through in bounded portions. Each begins with the names of what is to go, so that
no import, replay or pass takes it in again; the conversations themselves go last, because by them everything else is
found. So whatever interrupts it, doing the same again finishes it, and doing it a third time changes nothing.

`Forgets` (`traces.py`) are the kinds of places where something is kept. Whatever keeps something new joins them.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

from reverie.dreaming.forgotten_archives import ArchivedSession, archived, delete
from reverie.dreaming.forgotten_files import Notes, Reports
from reverie.dreaming.forgotten_learning import Learned, SkillFolders
from reverie.dreaming.forgotten_openclaw import OpenClawFiles
from reverie.dreaming.forgotten_passages import Passages
from reverie.dreaming.forgotten_promotions import Promotions
from reverie.dreaming.forgotten_rows import Evidence, Quotes, Transcripts, entries_of
from reverie.dreaming.recording import is_conversation
from reverie.dreaming.traces import Portion, Trace, Traces
from reverie.errors import MemoryPathError, RequestError, UnknownSessionError
from reverie.memory.documents import MEMORY_FOLDER, SeenFile, resolve_readable, walk_memory
from reverie.memory.sync import dated_path
from reverie.sessions.bindings import forget_threads
from reverie.sessions.forgetting import (
    MeantSession,
    Wanted,
    doomed_of,
    forgotten_among,
    history_prefix,
    note_names,
)
from reverie.storage.database import REWRITTEN_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import tzinfo
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.dreaming.memory_file import MemoryFile
    from reverie.dreaming.traces import Forgets
    from reverie.memory.index import MemoryIndex
    from reverie.memory.recall import RecallEvidence
    from reverie.sessions.forgetting import Doomed
    from reverie.storage.database import Database
    from reverie.types import JsonObject

MESSAGES_AT_ONCE = 20_000
SESSIONS_AT_ONCE = 200
SESSIONS_PAGE = 500
NOTES_AT_ONCE = 100
TRACES: tuple[Trace, ...] = get_args(Trace)
REMAINS = (
    "{name} is larger than {size} MiB and was not written anew: a piece of a row that was moved within it may be left. "
    "Do the same again with no server running, which writes it anew."
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be forgotten. At least one is given.

    `session` is a session's id, or a key: then every session it ever led to. `source` is a note's path, or the name of
    a history that was imported, or of the file of such. `participant` is who said it. Instants are milliseconds; what
    was said at `until_ms` stays.
    """

    session: str = ""
    source: str = ""
    participant: str = ""
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def wanted(self) -> Wanted:
        """Which messages of the conversations are meant."""
        return Wanted(self.participant or None, self.since_ms, self.until_ms)

    @property
    def is_note(self) -> bool:
        """Whether the source is a note."""
        return self.source.endswith(".md")

    @property
    def is_history(self) -> bool:
        """Whether the source is an imported history that goes whole."""
        return bool(self.source) and not self.is_note and self.wanted.everything

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            RequestError: nothing is selected, or what is selected cannot be combined.
        """
        wanted = self.wanted
        if not self.session and not self.source and wanted.everything:
            raise RequestError("Say what to forget: a session, a source, a participant, or a time.", param="session")
        if self.session and self.source:
            raise RequestError("Give a session or a source, not both.", param="source")
        if self.is_note and not wanted.everything:
            raise RequestError("A note is forgotten whole: give neither participant nor time with it.", param="source")
        if self.since_ms is not None and self.until_ms is not None and self.since_ms >= self.until_ms:
            raise RequestError("`until` must be later than `since`.", param="until")


@dataclass(frozen=True, slots=True)
class Options:
    """What else is done: `delete_files` of notes that go, `delete_archives` that hold some of it."""

    delete_files: bool = False
    delete_archives: bool = False


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What was found, or with `applied` what was removed."""

    agent: str
    selection: Selection
    applied: bool
    traces: Traces

    @property
    def counts(self) -> dict[Trace, int]:
        """How much of what, in the order of the kinds; what there is none of is left out."""
        return {trace: count for trace in TRACES if (count := self.traces.counts[trace])}

    def as_json(self) -> JsonObject:
        """For programs."""
        selection = {name: value for name, value in asdict(self.selection).items() if value not in {"", None}}
        return {
            "applied": self.applied,
            "agent": self.agent,
            "selection": selection,
            "counts": self.counts,
            "changes": [{"path": edit.path, "diff": edit.diff} for edit in self.traces.edits],
            "archives": self.traces.archives,
            "remarks": self.traces.remarks,
        }


@dataclass(frozen=True, slots=True)
class _Keys:
    """A range of session keys, and a pattern that those meant match; None: all."""

    low: str
    high: str
    pattern: re.Pattern[str] | None = None

    def holds(self, key: str) -> bool:
        return self.low <= key < self.high and (self.pattern is None or self.pattern.match(key) is not None)


@dataclass(frozen=True, slots=True)
class _Meant:
    """A selection, looked up: one session, sessions by their keys, notes, or with none of them all sessions."""

    session_id: str = ""
    keys: tuple[_Keys, ...] = ()
    notes: tuple[str, ...] = ()
    everywhere: bool = False

    def means(self, session: MeantSession) -> bool:
        """Whether a session is meant, by its id or its key."""
        named = session.id == self.session_id or any(keys.holds(session.key) for keys in self.keys)
        return self.everywhere or named


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What forgetting must not meet in the middle of its work, and whom it tells.

    `pauses` are entered before anything is changed: work that might bring back what is removed waits meanwhile. `gone`
    is told of each session of which something was. `alone`: no server runs, so that files may be written anew. What
    else may keep copies is said in `remarks`.
    """

    pauses: Sequence[Callable[[], AbstractAsyncContextManager[object]]] = ()
    gone: Callable[[str], None] = lambda _: None
    alone: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(slots=True)
class Forgetter:
    """Finds and removes what a person wants forgotten, of one agent at a time. `zone` decides which day is when."""

    state: Database
    embeddings_db: Database
    memory: MemoryIndex
    recalls: RecallEvidence
    workspaces: Mapping[str, Path]
    skills: SkillFolders
    archive: Path
    lasting: MemoryFile
    clock: Clock
    zone: tzinfo
    file_bytes_max: int
    around: Surroundings = field(default_factory=Surroundings)
    also: Sequence[Forgets] = ()
    _working: asyncio.Lock = field(default_factory=asyncio.Lock)
    _notes: Notes = field(init=False)
    _transcripts: Transcripts = field(init=False)
    _evidence: Evidence = field(init=False)
    _learned: Learned = field(init=False)
    _forgets: tuple[Forgets, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._notes = Notes(self.state, self.memory, self.workspaces, file_bytes_max=self.file_bytes_max)
        self._transcripts = Transcripts(self.state, self.around.gone)
        self._evidence = Evidence(self.state)
        self._learned = Learned(self.state, self.skills)
        self._forgets = (
            Quotes(self.state),
            Promotions(self.state, self.memory, self.lasting),
            Reports(self.workspaces),
            OpenClawFiles(self.workspaces, self.clock),
            self._learned,
            *self.also,
            self._evidence,
            self._notes,
            Passages(self.memory),
            self._transcripts,
        )

    async def plan(self, agent: str, selection: Selection, options: Options | None = None) -> Forgetting:
        """What would be removed. Nothing is changed.

        Raises:
            RequestError: the selection makes no sense, there is no such session, or one of it is busy.
            StorageError: something could not be read.
        """
        options = options or Options()
        meant = await self._meant(agent, selection)
        found = Traces()
        async for portion in self._portions(agent, selection, meant, options):
            surveyed = await self._surveyed(portion)
            for each in self._forgets:
                found.add(await each.look(surveyed))
        for file in await self._archived(agent, selection, meant):
            _note_archive(found, file)
        found.remarks += self.around.remarks
        return Forgetting(agent, selection, applied=False, traces=found)

    async def apply(
        self,
        agent: str,
        selection: Selection,
        options: Options | None = None,
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Forgetting:
        """Remove it, portion by portion; `progress` is told of entries of transcripts as they are done.

        Raises:
            RequestError: as for `plan`; with a busy session, what was done before stays done. Or the index is rebuilt.
            StorageError, HomeReadOnlyError: something could not be written; do the same again.
        """
        options = options or Options()
        meant = await self._meant(agent, selection)
        gone = Traces()
        async with self._working, self.memory.without_rebuild(), AsyncExitStack() as stack:
            for pause in self.around.pauses:
                await stack.enter_async_context(pause())
            await self._note_histories(agent, selection, meant)
            async for portion in self._portions(agent, selection, meant, options):
                surveyed = await self._surveyed(portion)
                await self._notes.begin(surveyed)
                gone.add(await self._transcripts.begin(surveyed))
                self.recalls.leave_out([place for place in surveyed.places if is_conversation(place.path)])
                await self.recalls.settle()
                for each in self._forgets:
                    gone.add(await each.remove(surveyed))
                await self.recalls.settle()
                gone.add(await self._evidence.remove(surveyed))  # of searches that were under way
                progress(sum(len(doom.seqs) for doom in portion.dooms))
            await self._forget_archives(agent, selection, meant, options, gone)
            await self._leave_threads(agent)
            gone.remarks += await self._purge()
        gone.remarks += self.around.remarks
        return Forgetting(agent, selection, applied=True, traces=gone)

    async def _leave_threads(self, agent: str) -> None:
        """No native thread of the agent is gone on with: each may have been told what is forgotten."""
        now_ms = self.clock.now_ms()
        await self.state.write(lambda tx: forget_threads(tx, agent, now_ms))

    # -- what is meant -------------------------------------------------------------------------------------------

    async def _meant(self, agent: str, selection: Selection) -> _Meant:
        selection.check()
        if agent not in self.workspaces:
            raise RequestError(f"There is no agent {agent[:100]!r} here.", param="agent", status=404)
        if selection.session:
            return await self._meant_session(agent, selection.session)
        if selection.is_note:
            return _Meant(notes=(_note_path(selection.source),))
        if selection.source:
            return _Meant(keys=_history_keys(agent, selection.source))
        notes: tuple[str, ...] = ()
        if not selection.participant:
            notes = await asyncio.to_thread(self._notes_within, agent, selection)
        return _Meant(notes=notes, everywhere=True)

    async def _meant_session(self, agent: str, name: str) -> _Meant:
        """A session by its id, or all that a key led to.

        Raises:
            UnknownSessionError: there is none, none in the archive either, and none was forgotten.
        """
        row = await self.state.read(lambda tx: tx.row("find_session", id=name))
        if row is not None and row["agent"] == agent:
            return _Meant(session_id=name)
        keys = (name, f"agent:{agent}:{name.lower()}")
        meant = _Meant(session_id=name, keys=tuple(_Keys(key, f"{key}\0") for key in keys))
        known = await self.state.read(lambda tx: forgotten_among(tx, agent, "session", [name, *keys]))
        if known:
            return meant
        async for _ in self._sessions(agent, meant):
            return meant
        if await self._archived(agent, Selection(session=name), meant):
            return meant
        raise UnknownSessionError(
            f"The agent {agent} has no session {name[:200]!r}; `reverie sessions list` shows those there are."
        )

    def _notes_within(self, agent: str, selection: Selection) -> tuple[str, ...]:
        """The daily notes whose days lie wholly within a time."""
        found = walk_memory(self.workspaces[agent], MEMORY_FOLDER)
        return tuple(
            file.path
            for file in found
            if isinstance(file, SeenFile)
            and (day := dated_path(file.path)) is not None
            and _is_within(day, selection, self.zone)
        )

    async def _sessions(self, agent: str, meant: _Meant) -> AsyncIterator[MeantSession]:
        """The sessions that are meant, page by page; sessions that are deleted meanwhile disturb nothing."""
        if meant.everywhere:
            after = ""
            while rows := await self.state.read(
                lambda tx, after=after: tx.rows("sessions_of_agent", agent=agent, after=after, limit=SESSIONS_PAGE)
            ):
                after = rows[-1]["id"]
                for row in rows:
                    yield MeantSession.of(row)
            return
        if meant.session_id:
            row = await self.state.read(lambda tx: tx.row("find_session", id=meant.session_id))
            if row is not None and row["agent"] == agent:
                yield MeantSession.of(row)
        for keys in meant.keys:
            async for session in self._sessions_of(agent, keys):
                yield session

    async def _sessions_of(self, agent: str, keys: _Keys) -> AsyncIterator[MeantSession]:
        at: dict[str, Any] = {"key": "", "started_at": -1, "id": ""}
        while rows := await self.state.read(
            lambda tx, at=at: tx.rows(
                "sessions_of_keys", agent=agent, low=keys.low, high=keys.high, limit=SESSIONS_PAGE, **at
            )
        ):
            at = {name: rows[-1][name] for name in at}
            for row in rows:
                if keys.holds(row["key"]):
                    yield MeantSession.of(row)

    # -- portions ------------------------------------------------------------------------------------------------

    async def _portions(
        self, agent: str, selection: Selection, meant: _Meant, options: Options
    ) -> AsyncIterator[Portion]:
        """What is to go, in bounded parts: notes first, then conversations."""
        empty = Portion(agent, selection.wanted, self.clock.now_ms(), delete_files=options.delete_files)
        for start in range(0, len(meant.notes), NOTES_AT_ONCE):
            yield replace(empty, notes=meant.notes[start : start + NOTES_AT_ONCE])
        dooms: list[Doomed] = []
        async for session in self._sessions(agent, meant) if not (meant.notes and not meant.everywhere) else _none():
            if not selection.wanted.reaches(session):
                continue
            doom = await doomed_of(self.state, session, selection.wanted)
            if doom.whole or doom.seqs:
                dooms.append(doom)
            if len(dooms) >= SESSIONS_AT_ONCE or sum(len(each.seqs) for each in dooms) >= MESSAGES_AT_ONCE:
                yield replace(empty, dooms=tuple(dooms))
                dooms = []
        if dooms:
            yield replace(empty, dooms=tuple(dooms))
        if selection.is_history:
            yield replace(empty, history=selection.source)

    async def _surveyed(self, portion: Portion) -> Portion:
        """A portion with what can only be learned of it before anything is removed."""
        portion = replace(portion, cuts=await self._notes.cuts(portion))
        entries = await entries_of(self.state, portion)
        learned = await self._learned.cited(portion)
        return replace(portion, passages=tuple(entry.snippet for entry in entries), learned=learned)

    # -- what is not of a portion --------------------------------------------------------------------------------

    async def _note_histories(self, agent: str, selection: Selection, meant: _Meant) -> None:
        """Of a history that goes whole nothing is taken in again, neither what was nor what was never imported."""
        if not selection.is_history:
            return
        names = {history_prefix(agent, selection.source)}
        async for session in self._sessions(agent, meant):
            names.add(f"{session.key.rpartition(':')[0]}:")
        now_ms = self.clock.now_ms()
        await self.state.write(lambda tx: note_names(tx, agent, "history", sorted(names), now_ms))

    async def _archived(self, agent: str, selection: Selection, meant: _Meant) -> list[ArchivedSession]:
        if meant.notes and not meant.everywhere:
            return []

        def is_meant(session: MeantSession) -> bool:
            return session.agent == agent and meant.means(session)

        return await asyncio.to_thread(lambda: list(archived(self.archive, is_meant, selection.wanted)))

    async def _forget_archives(
        self, agent: str, selection: Selection, meant: _Meant, options: Options, gone: Traces
    ) -> None:
        """What files of the archive hold of it is not taken in again; they are deleted if that was asked for."""
        now_ms = self.clock.now_ms()
        for file in await self._archived(agent, selection, meant):
            kind = "message" if file.names else "session"
            names = file.names or (file.session.id,)
            await self.state.write(lambda tx, kind=kind, names=names: note_names(tx, agent, kind, names, now_ms))
            _note_archive(gone, file)
            if options.delete_archives:
                await asyncio.to_thread(delete, file)
            else:
                gone.remarks.append(
                    f"{file.file} holds some of it and stays (--archives deletes it); it is not imported."
                )

    async def _purge(self) -> list[str]:
        """Leave no trace of it in the databases' files; what may be left, in words."""
        limit = None if self.around.alone else REWRITTEN_BYTES_MAX
        mib = REWRITTEN_BYTES_MAX // 1024 // 1024
        certain = {
            self.state.path.name: await self.state.purge(rewritten_bytes_max=limit),
            self.memory.database.path.name: await self.memory.purge(rewritten_bytes_max=limit),
        }
        await self.embeddings_db.purge(rewritten_bytes_max=0)
        return [REMAINS.format(name=name, size=mib) for name, sure in certain.items() if not sure]


def _note_archive(found: Traces, file: ArchivedSession) -> None:
    found.counts["archives"] += 1
    found.archives.append(str(file.file))


def _note_path(source: str) -> str:
    """The path of a note that may be forgotten.

    Raises:
        RequestError: it is none below `memory/`.
    """
    try:
        path = resolve_readable(source)
    except MemoryPathError as error:
        raise RequestError(str(error), param="source") from None
    if not path.startswith(f"{MEMORY_FOLDER}/"):
        raise RequestError(f"{path} is yours to edit: only notes below memory/ can be forgotten.", param="source")
    return path


def _history_keys(agent: str, source: str) -> tuple[_Keys, ...]:
    """The keys of a history of that name, and of the nameless ones of a file of that name: `<file>-<line>`."""
    named = history_prefix(agent, source)
    of_file = f"agent:{agent}:import:{source}-"
    nameless = re.compile(rf"{re.escape(of_file)}\d+:")
    return _Keys(named, _after(named)), _Keys(of_file, _after(of_file), nameless)


def _after(prefix: str) -> str:
    """The first text behind all those that begin with a prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _is_within(day: str, selection: Selection, zone: tzinfo) -> bool:
    """Whether a day lies wholly within the time of a selection."""
    start = datetime.fromisoformat(day).replace(tzinfo=zone)
    first_ms = start.timestamp() * 1000
    end_ms = (start + timedelta(days=1)).timestamp() * 1000
    begins = selection.since_ms is None or selection.since_ms <= first_ms
    return begins and (selection.until_ms is None or end_ms <= selection.until_ms)


async def _none() -> AsyncIterator[MeantSession]:
    """No sessions."""
    for session in tuple[MeantSession, ...]():
        yield session
