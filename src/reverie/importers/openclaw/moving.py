"""The story of a move: vectors first, then notes, then conversations.

Vectors come first because whoever indexes the notes afterwards, a running server perhaps within a second, must find
them paid for. What it all came to is one value, with the settings under which the imported vectors serve.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reverie.importers.openclaw.files import FilesReport, copy_files, count_files
from reverie.importers.openclaw.source import IndexMeta, SourceDatabase
from reverie.importers.openclaw.transcripts import SessionsReport, import_transcripts, list_sessions
from reverie.importers.openclaw.vector_import import FULL, VectorTally, import_vectors
from reverie.importers.openclaw.vectors import OUR_PROVIDER, is_ours
from reverie.memory.chunking import LINES_OVERLAP_TOKENS, LINES_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.importers.openclaw.discovery import Found, Place
    from reverie.importers.openclaw.seeding import VectorStore
    from reverie.importers.openclaw.vector_import import TableReport
    from reverie.memory.forgotten import ForgottenNotes
    from reverie.sessions.store import SessionStore
    from reverie.storage.database import Database

_ADDRESSES = {OUR_PROVIDER: "https://api.openai.com/v1", "ollama": "http://127.0.0.1:11434/v1"}
_ENTRIES_STEP = 10_000
_USUAL_DIMS = 1_536


@dataclass(frozen=True, slots=True)
class Target:
    """Where it goes. `workspaces` has the folder of every agent that something is for.

    `forgotten` knows the notes that a person had forgotten.
    """

    store: VectorStore
    embeddings_db: Database
    sessions: SessionStore
    workspaces: Mapping[str, Path]
    clock: Clock
    file_bytes_max: int
    forgotten: ForgottenNotes


@dataclass(frozen=True, slots=True)
class Steps:
    """Whom to tell of rows, files and messages as they are done."""

    rows: Callable[[int], None]
    files: Callable[[int], None]
    messages: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class PlaceSize:
    """A place with how much stands in it: rows, files or conversations. `provider` and `model` are an index's own."""

    path: str
    agent: str
    count: int
    provider: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is to import, without importing it."""

    databases: tuple[PlaceSize, ...]
    workspaces: tuple[PlaceSize, ...]
    sessions: tuple[PlaceSize, ...]


@dataclass(slots=True)
class MoveReport:
    """What a move did. `settings` are those under which the imported vectors serve, as `(key, value)`."""

    vectors: VectorTally = field(default_factory=VectorTally)
    tables: list[TableReport] = field(default_factory=list["TableReport"])
    files: FilesReport = field(default_factory=FilesReport)
    sessions: SessionsReport = field(default_factory=SessionsReport)
    settings: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    notes: list[str] = field(default_factory=list[str])


async def move(
    found: Found, target: Target, *, agent: str | None, skip_foreign: bool, steps: Steps, mine: bool = False
) -> MoveReport:
    """Import what was found; what is not for `agent`, if one is given, goes to it all the same.

    `mine`: the owner vouches for the conversations.

    Raises:
        ImportFileError: a source cannot be read, or changed meanwhile; what was imported stays, and importing goes on.
        HomeReadOnlyError, StorageFullError, StorageError: the home cannot be written.
    """
    report = MoveReport(notes=list(found.notes))
    metas: list[IndexMeta] = []
    for place in found.databases:
        metas.append(await asyncio.to_thread(_meta, place.path))
        report.tables += await import_vectors(
            place.path,
            target.store,
            target.embeddings_db,
            target.clock,
            skip_foreign=skip_foreign,
            progress=steps.rows,
        )
    for table in report.tables:
        report.vectors.add(table.tally)
    for place in found.workspaces:
        before = report.files.copied + report.files.present
        workspace = target.workspaces[agent or place.agent]
        await asyncio.to_thread(
            copy_files,
            place.path,
            workspace,
            file_bytes_max=target.file_bytes_max,
            report=report.files,
            forgotten=await target.forgotten.paths(agent or place.agent),
        )
        steps.files(report.files.copied + report.files.present - before)
    for place in found.sessions:
        await import_transcripts(
            place.path,
            target.sessions,
            agent=agent or place.agent,
            report=report.sessions,
            mine=mine,
            progress=steps.messages,
        )
    report.settings, notes = settings_for(report.vectors, metas)
    report.notes += notes
    return report


def survey(found: Found) -> Survey:
    """How much there is of everything. Blocks.

    Raises:
        ImportFileError: a source cannot be read.
    """
    return Survey(
        tuple(_database_size(place) for place in found.databases),
        tuple(PlaceSize(str(place.path), place.agent, count_files(place.path)) for place in found.workspaces),
        tuple(
            PlaceSize(str(place.path), place.agent, len(list_sessions(place.path, SessionsReport())))
            for place in found.sessions
        ),
    )


def _database_size(place: Place) -> PlaceSize:
    with SourceDatabase(place.path) as source:
        meta = source.meta()
        rows = sum(table.rows for table in source.tables())
    return PlaceSize(str(place.path), place.agent, rows, meta.provider, meta.model)


def _meta(path: Path) -> IndexMeta:
    with SourceDatabase(path) as source:
        return source.meta()


# -- under which settings the vectors serve --------------------------------------------------------------------------


def settings_for(tally: VectorTally, metas: Sequence[IndexMeta]) -> tuple[list[tuple[str, str]], list[str]]:
    """The settings by which the most common imported vectors are used, and what else is to be said about them."""
    settings: list[tuple[str, str]] = []
    notes: list[str] = []
    usable = {identity: count for identity, count in tally.spaces.items() if identity not in tally.foreign}
    if usable:
        model = _model(max(usable, key=lambda identity: usable[identity]))
        provider = next(
            (meta.provider for meta in metas if meta.model == model and is_ours(meta.provider)), OUR_PROVIDER
        )
        settings = [
            ("memory.embedder", "openai"),
            ("memory.embedder_base_url", _ADDRESSES.get(provider, f"the /v1 address of {provider}")),
            ("memory.embedder_model", model),
            ("memory.chunker", "lines"),
        ]
        notes += _chunking_notes(metas)
    if tally.foreign:
        names = ", ".join(sorted(tally.foreign))
        notes.append(f"kept, used by no embedder of Reverie yet: {names} (--skip-foreign leaves them out)")
    if tally.skipped.get(FULL):
        notes.append(_room_note(tally))
    return settings, notes


def _room_note(tally: VectorTally) -> str:
    """Which settings to raise, and to what, so that all vectors find room."""
    full = tally.skipped[FULL]
    wanted = -(-(full + sum(tally.spaces.values())) // _ENTRIES_STEP) * _ENTRIES_STEP
    dims = max((int(identity.split("/")[-2]) for identity in tally.spaces), default=_USUAL_DIMS)
    return (
        f"{full:,} vectors found no room, the least recently updated ones: raise memory.cache_entries_max (to "
        f"{wanted} for all of them) and memory.cache_bytes_max (to {wanted * dims * 4}) and run the import again"
    )


def _model(identity: str) -> str:
    """The model of an identity `provider/model/version/dims/form`; a model's name may hold slashes itself."""
    return "/".join(identity.split("/")[1:-3])


def _chunking_notes(metas: Sequence[IndexMeta]) -> list[str]:
    ours = (LINES_TOKENS, LINES_OVERLAP_TOKENS)
    others = {(m.chunk_tokens or ours[0], ours[1] if m.chunk_overlap is None else m.chunk_overlap) for m in metas}
    return [
        f"an index was cut into chunks of {tokens} tokens with {overlap} of overlap, and `lines` cuts {ours[0]} with "
        f"{ours[1]}: its vectors serve only texts that are cut alike"
        for tokens, overlap in sorted(others - {ours})
    ]
