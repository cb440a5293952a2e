"""Taking over a MemOS plugin's database: table by table, page by page, each page one commit with how far it got.

An import that was interrupted goes on after its last page. A source that has changed since is read again from its
beginning, which adds what is new and nothing twice, because every row keeps its id. What one agent has of it is not
given to a second one.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from reverie.importers.conversations import session_key
from reverie.importers.memos import rows as convert
from reverie.importers.memos.forgotten import admitted
from reverie.importers.memos.report import TableReport, Tally
from reverie.importers.memos.source import TABLES, MemosDatabase
from reverie.importers.memos.transcripts import FORGOTTEN, take_traces
from reverie.learning.ids import content_id
from reverie.learning.skills.document import NAME_CHARS_MAX
from reverie.sessions.forgetting import forgotten_among
from reverie.sessions.transcript import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from reverie.importers.memos.rows import Terms
    from reverie.importers.memos.source import SourceTable, TableName
    from reverie.storage import Database, Transaction
    from reverie.types import JsonObject, SessionKey

    Converted = tuple[JsonObject, Any]
    """A row as it stands in the source, and its columns or the reason why there are none."""

HISTORY = "memos"
"""What imported sessions are one history under: it can be forgotten as a whole."""
BREATH_S = 0.005
"""Between two pages, so that a running server gets at the database."""
NAMESAKES_MAX = 100
ENDING_CHARS_MAX = 4
"""`-100`."""
NO_SESSION = "its session was not taken over"
NAME_TAKEN = "too many skills of that name"
NOT_THERE = "what it links is not there"


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a table was read of a source in one state: the key of the last row, and whether it was the last."""

    source: str
    after: list[str | int | float]
    done: bool
    tally: Tally


def survey(path: Path) -> list[TableReport]:
    """What a database holds, without taking anything over. Blocks.

    Raises:
        ImportFileError: it is none, or cannot be read.
    """
    with MemosDatabase(path) as source:
        return [TableReport(table.name, source.count(table), Tally()) for table in TABLES]


async def move(
    path: Path, state: Database, terms: Terms, *, progress: Callable[[int], None] | None = None
) -> list[TableReport]:
    """Take over a database; `progress` is told of the rows of each page.

    The reports count what came of it since this state of the source was first read; nothing, where all was read before.

    Raises:
        ImportFileError: it is none, or cannot be read. What was taken over before stays, and the import goes on there.
        StorageError: something could not be written; the same holds.
    """
    source = await asyncio.to_thread(MemosDatabase, path)
    try:
        fingerprint = await asyncio.to_thread(source.fingerprint)
        reports = [await _move_table(source, table, state, terms, fingerprint, progress) for table in TABLES]
    finally:
        await asyncio.to_thread(source.close)
    if all(report.was_finished for report in reports):
        return [replace(report, tally=Tally()) for report in reports]
    return reports


async def _move_table(
    source: MemosDatabase,
    table: SourceTable,
    state: Database,
    terms: Terms,
    fingerprint: str,
    progress: Callable[[int], None] | None,
) -> TableReport:
    count = await asyncio.to_thread(source.count, table)
    name = f"import:{HISTORY}:{terms.agent}:{table.name}"
    mark = await state.read(lambda tx: _read_mark(tx, name, fingerprint))
    was_finished = mark.done
    if not mark.done and not mark.after:
        mark.tally.skip(convert.NO_ID, await asyncio.to_thread(source.count_without_key, table))
    while not mark.done:
        page, after = await asyncio.to_thread(_next_page, source, table, mark.after, terms)
        mark = await state.write(_taking(table, page, mark, after, terms, name))
        if progress is not None:
            progress(len(page))
        await asyncio.sleep(BREATH_S)
    return TableReport(table.name, count, mark.tally, was_finished)


def _next_page(
    source: MemosDatabase, table: SourceTable, after: Sequence[str | int | float], terms: Terms
) -> tuple[list[Converted], list[str | int | float]]:
    page = source.page(table, after)
    return [(row, _converted(table, row, terms)) for row in page.rows], page.after


def _converted(table: SourceTable, row: JsonObject, terms: Terms) -> Any:
    if any(row[name] is None for name in table.keys):
        return convert.NO_ID
    converter = _CONVERTERS.get(table.name)
    return row if converter is None else converter(row, terms)


def _taking(
    table: SourceTable, page: list[Converted], mark: Mark, after: list[str | int | float], terms: Terms, name: str
) -> Callable[[Transaction], Mark]:
    """Write a page, and in the same commit how far that is."""

    def take(tx: Transaction) -> Mark:
        tally = Tally(**asdict(mark.tally))
        usable = [(row, columns) for row, columns in page if not isinstance(columns, str)]
        for _, reason in page:
            if isinstance(reason, str):
                tally.skip(reason)
        usable = admitted(tx, table.name, usable, terms, HISTORY, tally)
        if usable:
            _take_page(tx, table.name, usable, terms, tally)
        moved = Mark(mark.source, after, not page, tally)
        tx.execute("set_learning_mark", name=name, value=json.dumps(asdict(moved)), now=terms.now_ms)
        return moved

    return take


def _take_page(tx: Transaction, name: TableName, page: list[Converted], terms: Terms, tally: Tally) -> None:
    if name == "traces":
        take_traces(tx, page, terms, tally)
        return
    for row, columns in page:
        match name:
            case "sessions":
                _take_session(tx, row, terms, tally)
            case "episodes":
                _take_episode(tx, row, columns, terms, tally)
            case "trace_policy_links":
                _take_link(tx, row, columns, terms, tally)
            case "l2_candidate_pool":
                _take_candidate(tx, row, columns, terms, tally)
            case "skills":
                _take_skill(tx, row, columns, tally)
            case _:
                added = tx.execute(_INSERTS[name], id=row["id"], **columns)
                _count(tx, name, row, columns, tally, added=added)


def _count(tx: Transaction, name: TableName, row: JsonObject, columns: JsonObject, tally: Tally, *, added: int) -> None:
    if added:
        tally.add(columns, row, *(("vec",) if "vec" in columns else ()))
    else:
        tally.there(tx.value("memos_owner", table=name, id=row["id"]), columns["agent"])


def _read_mark(tx: Transaction, name: str, fingerprint: str) -> Mark:
    """How far a table was read; from its beginning when the source is in another state."""
    value = tx.value("learning_mark", name=name)
    held: JsonObject = json.loads(value) if value else {}
    if held.get("source") != fingerprint:
        return Mark(fingerprint, [], done=False, tally=Tally())
    return Mark(fingerprint, held["after"], held["done"], Tally(**held["tally"]))


# -- tables --------------------------------------------------------------------------------------------------------


def _key(terms: Terms, session_id: str) -> SessionKey:
    return session_key(terms.agent, HISTORY, session_id)


def _take_session(tx: Transaction, row: JsonObject, terms: Terms, tally: Tally) -> None:
    """A session, empty until its traces come. One that a person had forgotten stays so."""
    key = _key(terms, row["id"])
    if forgotten_among(tx, terms.agent, "session", [key.value]):
        tally.skip(FORGOTTEN)
    elif tx.row("find_current_session", key=key.value) is not None:
        tally.present += 1
    elif (owner := _session_owner(tx, row)) is not None:
        tally.there(owner, terms.agent)
    else:
        open_session(tx, key, "import", convert.instant(row["started_at"], terms.now_ms), f"{HISTORY}: {row['id']}")
        tally.added += 1


def _session_owner(tx: Transaction, row: JsonObject) -> str | None:
    """Which agent a session was imported for: one of the same id that began at the same time."""
    for (name,) in tx.tuples("memos_imports"):
        agent = name.removeprefix(f"import:{HISTORY}:").removesuffix(":sessions")
        session = tx.row("find_current_session", key=session_key(agent, HISTORY, row["id"]).value)
        if session is not None and session["started_at"] == convert.in_century(row["started_at"]):
            return agent
    return None


def _take_episode(tx: Transaction, row: JsonObject, columns: JsonObject, terms: Terms, tally: Tally) -> None:
    owner = tx.value("memos_owner", table="episodes", id=row["id"])
    if owner is not None:
        tally.there(owner, terms.agent)
        return
    key = _key(terms, str(row["session_id"]))
    session = tx.row("find_current_session", key=key.value)
    if session is None:
        tally.skip(NO_SESSION)
        return
    task_id = content_id("ta", row["id"])
    where = {"task_id": task_id, "agent": terms.agent, "session_id": session["id"], "session_key": key.value}
    task = {name: columns[name] for name in ("state", "started_at", "ended_at", "r_human", "reward")}
    tx.execute("memos_task", **where, **task, provenance=terms.learned)
    shown = {name: columns[name] for name in ("started_at", "ended_at", "closed_for", "intent", "title")}
    tx.execute("memos_episode", id=row["id"], **where, **shown)
    tally.added += 1


def _take_link(tx: Transaction, row: JsonObject, columns: JsonObject, terms: Terms, tally: Tally) -> None:
    pair = {"trace_id": row["trace_id"], "policy_id": row["policy_id"]}
    if tx.execute("memos_link", **pair, **columns, agent=terms.agent):
        tally.added += 1
    elif owner := tx.value("memos_known_link", **pair):
        tally.there(owner, terms.agent)
    else:
        tally.skip(NOT_THERE)


def _take_candidate(tx: Transaction, row: JsonObject, columns: JsonObject, terms: Terms, tally: Tally) -> None:
    if tx.execute("memos_candidate", id=row["id"], **columns):
        tally.added += 1
    elif owner := tx.value("memos_known_candidate", id=row["id"]):
        tally.there(owner, terms.agent)
    else:
        tally.skip(NOT_THERE)


def _take_skill(tx: Transaction, row: JsonObject, columns: JsonObject, tally: Tally) -> None:
    """A skill; where its name is another's, it gets a number behind it."""
    name: str = columns["name"]
    for number in range(1, NAMESAKES_MAX + 1):
        tried = name if number == 1 else f"{name[: NAME_CHARS_MAX - ENDING_CHARS_MAX]}-{number}"
        if tx.value("memos_name_taken", agent=columns["agent"], name=tried, id=row["id"]) is None:
            added = tx.execute("memos_skill", **{**columns, "name": tried}, id=row["id"])
            _count(tx, "skills", row, columns, tally, added=added)
            return
    tally.skip(NAME_TAKEN)


def _episode(row: JsonObject, _: Terms) -> JsonObject | str:
    return convert.episode(row)


_CONVERTERS: dict[TableName, Callable[[JsonObject, Terms], JsonObject | str]] = {
    "episodes": _episode,
    "traces": convert.trace,
    "policies": convert.policy,
    "trace_policy_links": convert.link,
    "l2_candidate_pool": convert.candidate,
    "world_model": convert.world_model,
    "skills": convert.skill,
    "feedback": convert.feedback,
    "decision_repairs": convert.decision_repair,
}
_INSERTS: dict[TableName, str] = {
    "policies": "memos_policy",
    "world_model": "memos_world_model",
    "feedback": "memos_feedback",
    "decision_repairs": "memos_decision_repair",
}
