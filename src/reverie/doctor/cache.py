"""The embedding cache: what it holds of whom, whether it helps, and whether a rebuild would have to pay again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reverie.doctor.finding import Finding, counted, examples, size_words, spread
from reverie.doctor.reading import opened
from reverie.memory.passages import embedded_text, embedding_key
from reverie.storage import Transaction
from reverie.storage.database import translated_errors
from reverie.storage.schema import load_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.doctor.patient import Patient
    from reverie.doctor.reading import LookedAt
    from reverie.llm.embeddings import EmbedderIdentity
    from reverie.storage import Row

SAMPLE = 400
BATCH_ROWS = 500
COVERED_MIN = 0.9


async def check_cache(patient: Patient, identity: EmbedderIdentity | None) -> list[Finding]:
    """What the cache holds, and whether all of it can be used. `identity` None: this home embeds nothing.

    Raises:
        StorageError: the file cannot be read.
    """
    spaces = await patient.cache.read(lambda tx: tx.rows("spaces"))
    assert patient.config is not None
    memory, around = patient.config.memory, patient.surroundings
    findings = [
        held_finding(spaces, memory.cache_entries_max, memory.cache_bytes_max),
        hit_rate_finding(around.metrics, served=bool(around.server_url)),
        *unused_spaces(spaces, identity),
    ]
    misfits, looked_at = await patient.cache.read(_misfits)
    if misfits:
        findings.append(
            Finding(
                "warning",
                "cache.misfit",
                f"{misfits:,} of {looked_at:,} sampled vectors are not of their embedder's size",
                "a write was damaged, or another program wrote the file",
                "--fix removes them; they are embedded again",
                fixable=True,
            )
        )
    return findings


async def check_coverage(patient: Patient) -> list[Finding]:
    """How much of the live index a rebuild would find in the cache, by a sample.

    Raises:
        StorageError: a database cannot be read.
    """
    memory = None if patient.config is None else patient.config.memory
    if memory is None or not memory.cache_entries_max or not memory.cache_bytes_max:  # it keeps nothing on purpose
        return []
    embedder, texts = await patient.index.read(_sample)
    if not texts:
        return []
    hashes = json.dumps([embedding_key(text).hex() for text in texts])
    found = int(await patient.cache.read(lambda tx: tx.value("count_cached", identity=embedder, hashes=hashes)))
    return [coverage_finding(found, len(set(texts)))]


def coverage_finding(found: int, asked: int) -> Finding:
    """What a sample of passages comes to: how many of their vectors are in the cache."""
    share = min(1.0, found / asked)
    what = f"{share:.0%} of {asked} sampled passages have their vector in the cache"
    if share >= COVERED_MIN:
        return Finding("ok", "cache.coverage", what)
    return Finding(
        "note",
        "cache.coverage",
        what,
        "the cache was emptied, or is smaller than the index",
        "a rebuild embeds the others again, which may cost money: raise memory.cache_entries_max and cache_bytes_max",
    )


def unused_spaces(spaces: list[Row], identity: EmbedderIdentity | None) -> list[Finding]:
    """Vectors of embedders that this home does not use."""
    unused = [space for space in spaces if space["entries"] and not _is_of(space["identity"], identity)]
    if not unused:
        return []
    size = sum(space["entries"] * space["dims"] * 4 for space in unused)
    return [
        Finding(
            "note",
            "cache.unused",
            f"{size_words(size)} of vectors belong to embedders that are not used here: "
            + examples([space["identity"] for space in unused], len(unused)),
            "the embedder was changed",
            "they serve when you go back to it; otherwise they give way to newer ones",
        )
    ]


def repair_cache(file: LookedAt) -> int:
    """Remove every vector that is not of its embedder's size; returns how many. On a worker thread, home alone.

    Raises:
        StorageError: the file cannot be written; the batches before it stay.
    """
    removed = after = 0
    with translated_errors(file.path, file.schema), opened(file.path, writing=True) as connection:
        tx = Transaction(connection, load_queries("doctor"))
        while rows := tx.rows("list_misfits", after=after, limit=BATCH_ROWS):
            after = rows[-1]["id"]
            with connection:
                removed += tx.execute("delete_cached", ids=json.dumps([row["id"] for row in rows]))
    return removed


def held_finding(spaces: list[Row], entries_max: int, bytes_max: int) -> Finding:
    """Entries and bytes by embedder, against the bounds."""
    entries = sum(space["entries"] for space in spaces)
    size = sum(space["entries"] * space["dims"] * 4 for space in spaces)
    by_space = [
        f"{space['identity']} {counted(space['entries'], 'vector')} ({_size(space)})"
        for space in spaces
        if space["entries"]
    ]
    bounds = f"at most {counted(entries_max, 'vector')} and {size_words(bytes_max)}"
    what = f"{counted(entries, 'vector')}, {size_words(size)} of {bounds}"
    if by_space:
        what += f": {examples(by_space, len(by_space))}"
    if entries <= entries_max and size <= bytes_max:
        return Finding("ok", "cache.entries", what)
    return Finding(
        "note",
        "cache.over_bounds",
        what,
        "a bound was lowered",
        "nothing to do: the vectors not used for longest give way with the next ones that are kept",
    )


def _size(space: Row) -> str:
    return size_words(space["entries"] * space["dims"] * 4)


def hit_rate_finding(metrics: Mapping[str, float], *, served: bool) -> Finding:
    """How often the running server found a vector in the cache, from what it counts."""
    hits, misses = metrics.get("embedding_cache_hits"), metrics.get("embedding_cache_misses")
    if not served:
        return Finding("ok", "cache.hit_rate", "the hit rate is counted since a server's start: no server runs")
    if hits is None or misses is None:
        return Finding("ok", "cache.hit_rate", "the running server does not tell its hit rate")
    asked = hits + misses
    if not asked:
        return Finding("ok", "cache.hit_rate", "nothing was asked of the cache since the server's start")
    return Finding(
        "ok", "cache.hit_rate", f"{hits / asked:.0%} of {asked:,.0f} texts were there since the server's start"
    )


def _is_of(kept: str, identity: EmbedderIdentity | None) -> bool:
    """Whether kept vectors are the embedder's; one that has not told its size yet is known by the rest of its name."""
    if identity is None:
        return False
    if identity.dims:
        return kept == identity.key
    return kept.startswith(f"{identity.provider}/{identity.model}/{identity.version}/")


def _misfits(tx: Transaction) -> tuple[int, int]:
    ids = json.dumps(spread(int(tx.value("last_cached_id")), SAMPLE))
    row = tx.row("sample_misfits", ids=ids)
    return (0, 0) if row is None else (row["misfits"], row["looked_at"])


def _sample(tx: Transaction) -> tuple[str, list[str]]:
    """The embedder of the index's vectors, and what was embedded of some of its passages."""
    ids = json.dumps(spread(int(tx.value("last_chunk_id")), SAMPLE))
    texts = [embedded_text(row["heading"], row["text"]) for row in tx.iterate("sample_passages", ids=ids)]
    return str(tx.value("meta", key="embedder") or ""), list(dict.fromkeys(texts))
