"""OpenClaw databases for tests, small, in either layout, with vectors that are known."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CACHE = """CREATE TABLE NAME (provider TEXT NOT NULL, model TEXT NOT NULL, provider_key TEXT NOT NULL,
  hash TEXT NOT NULL, embedding KIND NOT NULL, dims INTEGER, updated_at INTEGER NOT NULL,
  PRIMARY KEY (provider, model, provider_key, hash));
CREATE INDEX by_time ON NAME (updated_at)"""
CHUNKS = """CREATE TABLE NAME (id TEXT PRIMARY KEY, path TEXT NOT NULL, start_line INTEGER NOT NULL,
  hash TEXT NOT NULL, model TEXT NOT NULL, text TEXT NOT NULL, embedding KIND NOT NULL, updated_at INTEGER NOT NULL)"""
META = "CREATE TABLE NAME (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
PUT_META = "INSERT INTO NAME VALUES ('memory_index_meta_v1', ?)"
PUT_CACHED = "INSERT INTO NAME VALUES ('openai', ?, 'k', ?, ?, ?, ?)"
PUT_CHUNK = "INSERT INTO NAME VALUES (?, 'MEMORY.md', 1, ?, ?, 'text', ?, 5)"
TEXT_TABLES = {"chunks": "chunks", "cache": "embedding_cache", "meta": "meta"}
BLOB_TABLES = {"chunks": "memory_index_chunks", "cache": "memory_embedding_cache", "meta": "memory_index_meta"}
DIMS = 4


def text_of(number: int) -> str:
    """The text of a row."""
    return f"text {number}"


def hash_of(text: str) -> str:
    """What a text is keyed by."""
    return hashlib.sha256(text.encode()).hexdigest()


def numbers_of(number: int, dims: int = DIMS) -> list[float]:
    """A row's vector, which is not of length 1."""
    return [number + 1.0, 2.0, -3.0, 0.5, *[0.25] * (dims - DIMS)]


def kept_of(number: int, dims: int = DIMS) -> list[float]:
    """A row's vector as it is kept here."""
    vector = np.array(numbers_of(number, dims), np.float32)
    return (vector / np.float32(np.linalg.norm(vector.astype(np.float64)))).tolist()


def written(number: int, dims: int, *, blobs: bool) -> str | bytes:
    """A row's vector as it is written there."""
    numbers = numbers_of(number, dims)
    return np.array(numbers, "<f8").tobytes() if blobs else json.dumps(numbers)


def write_source(
    path: Path,
    cached: range,
    chunks: range = range(0),
    *,
    blobs: bool = False,
    bad: Sequence[Any] = (),
    dims: int = DIMS,
    model: str = "small",
    texts: Sequence[str] | None = None,
) -> Path:
    """A database in either layout; `bad` are embeddings that come last, `texts` what the numbered rows are of."""
    path.unlink(missing_ok=True)
    names = BLOB_TABLES if blobs else TEXT_TABLES
    meta = json.dumps({"provider": "openai", "model": model, "chunkTokens": 400, "chunkOverlap": 80})

    def sql(statement: str, table: str) -> str:
        return statement.replace("NAME", names[table]).replace("KIND", "BLOB" if blobs else "TEXT")

    def key(number: int) -> str:
        return hash_of(text_of(number) if texts is None else texts[number])

    with closing(apsw.Connection(str(path))) as made, made:
        for statement, table in ((CHUNKS, "chunks"), (CACHE, "cache"), (META, "meta")):
            made.execute(sql(statement, table))
        made.execute(sql(PUT_META, "meta"), (meta,))
        rows = [(model, key(n), written(n, dims, blobs=blobs), dims, 1_000 + n) for n in cached]
        others = [(model, hash_of(f"bad {n}"), each, dims, 1) for n, each in enumerate(bad)]
        made.executemany(sql(PUT_CACHED, "cache"), [*rows, *others])
        made.executemany(
            sql(PUT_CHUNK, "chunks"), [(str(n), key(n), model, written(n, dims, blobs=blobs)) for n in chunks]
        )
    return path
