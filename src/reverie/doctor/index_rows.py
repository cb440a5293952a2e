"""The rows of the index that must belong together: chunks, their words, their vectors, their documents, the tally.

Looking goes through the tables in ranges of ids; repairing in batches, each one transaction, with the home alone.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reverie.doctor.finding import Finding, counted
from reverie.doctor.reading import opened
from reverie.memory.passages import make_passage, scope_word
from reverie.storage import Transaction
from reverie.storage.database import translated_errors
from reverie.storage.schema import load_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import apsw

    from reverie.doctor.reading import LookedAt
    from reverie.storage import Row

RANGE_IDS = 50_000
BATCH_ROWS = 500
REBUILD = "`reverie index --rebuild` builds the index anew beside this one"


@dataclass(frozen=True, slots=True)
class Kind:
    """A way in which rows can fail to belong together. `fixable` False: only a rebuild helps."""

    what: str
    cause: str
    remedy: str
    severity: str = "error"
    fixable: bool = True


_INTERRUPTED = "another program wrote to the file, or a defect of Reverie: an interrupted write leaves no such row"
KINDS: dict[str, Kind] = {
    "words_missing": Kind(
        "cannot be found by their words", _INTERRUPTED, "--fix writes their words anew from their texts"
    ),
    "words_orphaned": Kind(
        "of the full text belong to no passage", _INTERRUPTED, "--fix removes them", severity="warning"
    ),
    "document_missing": Kind(
        "belong to no document, so that no search can show them",
        _INTERRUPTED,
        "--fix removes them and reads the files again",
    ),
    "vector_missing": Kind(
        "are said to have a vector and have none, so that they are not found by meaning",
        _INTERRUPTED,
        "--fix lets them wait for a vector again",
    ),
    "vector_unmarked": Kind("have a vector and are said to have none", _INTERRUPTED, "--fix marks them as having one"),
    "vector_orphaned": Kind("belong to no passage", _INTERRUPTED, "--fix removes them", severity="warning"),
    "vector_misfit": Kind(
        "are not of the size of the others",
        "vectors of two embedders were mixed, or a write was damaged",
        "--fix removes them; their passages wait for a vector again",
    ),
    "agent_missing": Kind("belong to no agent", _INTERRUPTED, REBUILD, fixable=False),
    "implausible": Kind("have lines or numbers that cannot be", _INTERRUPTED, REBUILD, fixable=False),
    "refused": Kind(
        "have no vector because the embedder does not take their text",
        "the text is too long or not allowed there",
        "they are found by their words; shorten the note, then rebuild",
        severity="note",
        fixable=False,
    ),
}
NOUNS = {"words_orphaned": "row", "vector_orphaned": "vector", "vector_misfit": "vector", "agent_missing": "document"}

REPAIRED = (*(name for name, kind in KINDS.items() if kind.fixable), "tally")


async def check_rows(file: LookedAt, advance: Callable[[int], None]) -> list[Finding]:
    """What does not belong together; `advance` is told of the share done, in thousandths.

    Raises:
        StorageError: the file cannot be read.
    """
    last = await file.read(lambda tx: max(int(tx.value("last_chunk_id")), int(tx.value("last_document_id"))))
    usual = await file.read(lambda tx: tx.row("vector_size"))
    size_bytes = 0 if usual is None else int(usual["size_bytes"])
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}
    for after in range(0, last, RANGE_IDS):
        found = await file.read(lambda tx, after=after: _look(tx, after, after + RANGE_IDS, size_bytes))
        counts.update({name: found[name] for name in KINDS})
        for name in KINDS:
            if found[name]:
                first.setdefault(name, found[f"{name}_id"])
        advance(1000 * min(RANGE_IDS, last - after) // last)
    findings = [row_finding(name, counts[name], first[name]) for name in KINDS if counts[name]]
    findings += await file.snapshot(_check_tally)
    return findings or [Finding("ok", "index.rows", "passages, words, vectors and documents belong together")]


def row_finding(name: str, count: int, example: int) -> Finding:
    """A kind of damage, with how many rows have it and one of them."""
    kind = KINDS[name]
    severity: Any = kind.severity
    what = f"{counted(count, NOUNS.get(name, 'passage'))} {kind.what} (the first: {example})"
    return Finding(severity, f"index.{name}", what, kind.cause, kind.remedy, fixable=kind.fixable)


def _look(tx: Transaction, after: int, upto: int, size_bytes: int) -> Row:
    found: Row = {}
    for query in ("check_chunks", "check_words", "check_documents"):
        found |= tx.row(query, after=after, upto=upto) or {}
    return found | (tx.row("check_vectors", after=after, upto=upto, size_bytes=size_bytes) or {})


def _check_tally(tx: Transaction) -> list[Finding]:
    kept, counted_now = tx.row("kept_tally"), tx.row("count_tally")
    if kept == counted_now:
        return []
    said = "nothing" if kept is None else f"{kept['chunks']:,} passages and {kept['vectors']:,} vectors"
    real = counted_now or {"chunks": 0, "vectors": 0}
    what = f"the tally says {said}, there are {real['chunks']:,} and {real['vectors']:,}, or they add up differently"
    return [
        Finding(
            "error",
            "index.tally",
            what,
            "another program wrote to the file",
            "--fix counts again" if kept is not None else REBUILD,
            fixable=kept is not None,
        )
    ]


# -- repairs, on a worker thread, with the home alone ------------------------------------------------------------------


def repair_rows(file: LookedAt) -> dict[str, int]:
    """Make the rows belong together again; returns how many of each kind were repaired.

    Raises:
        StorageError: the file cannot be written; the batches before it stay.
    """
    with translated_errors(file.path, file.schema), opened(file.path, writing=True) as connection:
        tx = Transaction(connection, load_queries("doctor"))
        usual = tx.row("vector_size")
        size_bytes = 0 if usual is None else int(usual["size_bytes"])
        repaired = {
            name: sum(_repair_batch(connection, tx, name, rows) for rows in _batches(tx, name, size_bytes))
            for name in _ORDER
        }
        if tx.row("kept_tally") != tx.row("count_tally"):
            with connection:
                repaired["tally"] = tx.execute("rewrite_tally")
        return repaired


_ORDER = (
    "document_missing",
    "words_orphaned",
    "words_missing",
    "vector_orphaned",
    "vector_misfit",
    "vector_missing",
    "vector_unmarked",
)
"""Each leaves nothing behind for those before it; what one leaves for those after it, they repair."""


def _batches(tx: Transaction, name: str, size_bytes: int) -> Iterator[list[Row]]:
    """The rows of a kind, a batch at a time; each batch is read after the one before was repaired."""
    bounds = {"size_bytes": size_bytes} if name == "vector_misfit" else {}
    after = 0
    while rows := tx.rows(f"list_{name}", after=after, limit=BATCH_ROWS, **bounds):
        yield rows
        after = rows[-1]["id"]


def _repair_batch(connection: apsw.Connection, tx: Transaction, name: str, rows: Sequence[Row]) -> int:
    ids = json.dumps([row["id"] for row in rows])
    with connection:  # one transaction
        match name:
            case "document_missing":
                tx.execute("delete_words", ids=ids)
                tx.execute("delete_chunks", ids=ids)
            case "words_orphaned":
                tx.execute("delete_words", ids=ids)
            case "words_missing":
                tx.execute_many("add_words", [words_of(row) for row in rows])
            case "vector_orphaned":
                tx.execute("delete_vectors", ids=ids)
            case "vector_misfit":
                tx.execute("delete_vectors", ids=ids)
                tx.execute("mark_vectors", ids=ids, embedded=0)
            case "vector_missing":
                tx.execute("mark_vectors", ids=ids, embedded=0)
            case "vector_unmarked":
                tx.execute("mark_vectors", ids=ids, embedded=1)
            case _:
                raise AssertionError(name)
    return len(rows)


def words_of(row: Row) -> Row:
    """What the full text holds of a chunk, made from the chunk as it was when it was written."""
    passage = make_passage(
        start_line=row["start_line"],
        end_line=row["end_line"],
        unit=row["unit"],
        part=row["part"],
        text=row["text"],
        heading=row["heading"],
        speaker=row["speaker"],
        said_by=row["said_by"],
        said_on=row["said_on"],
        created_at_ms=row["created_at"],
    )
    scope = scope_word(row["agent_id"], row["source"])
    return {"id": row["id"], "body": passage.body, "header": passage.header, "scope": scope}
