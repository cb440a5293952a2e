"""Rows of an OpenClaw database as vectors of ours, or the reason why not."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from reverie.importers.openclaw.moving import settings_for
from reverie.importers.openclaw.source import IndexMeta, VectorRow
from reverie.importers.openclaw.vector_import import EXAMPLES_MAX, FULL, OTHER_REASONS, REASONS_MAX, VectorTally
from reverie.importers.openclaw.vectors import SkippedRow, Space, read_batch

HASH = hashlib.sha256(b"a text").hexdigest()
NUMBERS = [3.0, -4.0, 0.0]
UNIT = np.array([0.6, -0.8, 0.0], "<f4").tobytes()
SPACE = Space("openai", "text-embedding-3-small", 3)


def row(embedding: Any, **fields: Any) -> VectorRow:
    """A row of the cache with a vector."""
    size = len(embedding) if embedding is not None else None
    whole = VectorRow(7, "openai", "text-embedding-3-small", HASH, 3, 1_770_000_000_000, size, embedding)
    return whole._replace(**fields)


def reasons(*rows: VectorRow) -> list[str]:
    """Why rows were left out."""
    return [skipped.reason for skipped in read_batch(rows, "embedding_cache", IndexMeta()).skipped]


@pytest.mark.parametrize(
    "embedding",
    [
        json.dumps(NUMBERS),
        "[3, -4, 0]",
        " [ 3e0 , -4.0 , 0 ]",
        np.array(NUMBERS, "<f8").tobytes(),
        np.array(NUMBERS, "<f4").tobytes(),
    ],
    ids=["json", "integers", "spaces", "float64", "float32"],
)
def test_every_form_becomes_the_same_vector(embedding: str | bytes) -> None:
    """JSON text and blobs of either width give float32 of length 1, under half of the text's SHA-256."""
    batch = read_batch([row(embedding)], "embedding_cache", IndexMeta())

    assert batch.spaces.keys() == {SPACE}
    assert batch.spaces[SPACE].rows == [(hashlib.sha256(b"a text").digest()[:16], UNIT)]
    assert batch.spaces[SPACE].used_at_ms == [1_770_000_000_000]
    assert (batch.last_rowid, batch.read, batch.skipped) == (7, 1, [])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"embedding": "[3, 4"}, "not a list of numbers"),
        ({"embedding": "[3, null, 1]"}, "not a list of numbers"),
        ({"embedding": "[3, NaN, 1]"}, "not a list of numbers"),
        ({"embedding": "[[3, 4, 1]]"}, "not a list of numbers"),
        ({"embedding": '{"a": 1}'}, "not a list of numbers"),
        ({"embedding": ""}, "not a list of numbers"),
        ({"embedding": "\ud800"}, "not a list of numbers"),
        ({"embedding": "[]"}, "no vector"),
        ({"embedding": b"", "dims": 0}, "no vector"),
        ({"embedding": None, "embedding_bytes": None}, "no vector"),
        ({"embedding": None, "embedding_bytes": 2_000_000}, "larger than 1,048,576 bytes"),
        ({"model": "fts-only"}, "no vector"),
        ({"model": None}, "no vector"),
        ({"embedding": b"1234567"}, "a blob of another size than whole numbers have"),
        ({"embedding": "[1, 2]"}, "another size than its row says"),
        ({"embedding": "[0, 0, 0]"}, "all zero"),
        ({"embedding": np.array([1, np.nan, 1]).tobytes()}, "not finite"),
        ({"embedding": "[1e300, 1, 1]"}, "not finite"),
        ({"hash": "abc"}, "its hash is not a SHA-256"),
        ({"hash": None}, "its hash is not a SHA-256"),
        ({"provider": None}, "its provider is not known"),
        ({"provider": "a/b"}, "its provider is not known"),
    ],
)
def test_a_row_that_cannot_be_used_becomes_a_reason(fields: dict[str, Any], reason: str) -> None:
    """Nothing is raised for what a row can be, and its good neighbours are taken."""
    bad = row(json.dumps(NUMBERS), rowid=8, hash="0" * 64)._replace(**fields)
    batch = read_batch([row("[1, 0, 0]"), bad], "embedding_cache", IndexMeta())

    assert batch.skipped == [SkippedRow("embedding_cache", 8, reason)]
    assert len(batch.spaces[SPACE].rows) == 1
    assert batch.last_rowid == 8


def test_of_equal_texts_the_first_counts() -> None:
    """Several provider keys of one model are one vector space here."""
    batch = read_batch([row("[3, -4, 0]"), row("[1, 1, 1]", rowid=9)], "embedding_cache", IndexMeta())

    assert (batch.repeated, [vector for _, vector in batch.spaces[SPACE].rows]) == (1, [UNIT])


def test_sizes_and_models_are_spaces_of_their_own() -> None:
    """Vectors that cannot be compared never meet."""
    rows = [row("[3, -4, 0]"), row("[1, 1]", dims=None), row("[3, -4, 0]", provider="gemini", model="m")]
    spaces = read_batch(rows, "embedding_cache", IndexMeta()).spaces

    assert [space.identity.key for space in spaces] == [
        "openai/text-embedding-3-small/1/3/unit",
        "openai/text-embedding-3-small/1/2/unit",
        "gemini/m/1/3/unit",
    ]


@pytest.mark.parametrize(
    ("provider", "model", "identity"),
    [
        ("openai", "openai/text-embedding-3-small", "openai/text-embedding-3-small/1/3/unit"),
        ("OpenAI", "text-embedding-3-small", "openai/text-embedding-3-small/1/3/unit"),
        ("ollama", "nomic-embed-text", "openai/nomic-embed-text/1/3/unit"),
        ("gemini", "gemini-embedding-001", "gemini/gemini-embedding-001/1/3/unit"),
        ("local", "hf:a/b", "local/hf:a/b/1/3/unit"),
    ],
)
def test_providers_with_an_openai_address_become_ours(provider: str, model: str, identity: str) -> None:
    """What `memory.embedder = "openai"` can ask is named as it would be; others keep their name."""
    (space,) = read_batch([row("[3, -4, 0]", provider=provider, model=model)], "t", IndexMeta()).spaces

    assert space.identity.key == identity


def test_foreign_vectors_may_be_left_out() -> None:
    """With the flag they are a reason, and only they."""
    batch = read_batch([row("[1, 0, 0]"), row("[1, 0, 0]", provider="gemini")], "t", IndexMeta(), skip_foreign=True)

    assert [skipped.reason for skipped in batch.skipped] == [
        "of provider gemini, which no embedder of Reverie asks (--skip-foreign)"
    ]
    assert len(batch.spaces) == 1


def test_a_chunk_has_its_provider_from_the_index() -> None:
    """The index says which provider its model is of; a chunk of another model has none."""
    meta = IndexMeta("openai", "text-embedding-3-small")
    known = read_batch([row("[3, -4, 0]", provider=None, dims=None)], "chunks", meta)
    other = read_batch([row("[3, -4, 0]", provider=None, model="older")], "chunks", meta)

    assert known.spaces.keys() == {SPACE}
    assert [skipped.reason for skipped in other.skipped] == ["its provider is not known"]


def test_a_batch_ends_at_its_bound() -> None:
    """When the vectors have become as many bytes as are held at once, the next range begins there."""
    rows = [row("[1, 0, 0]", rowid=n, hash=hashlib.sha256(bytes(n)).hexdigest()) for n in range(1, 9)]
    batch = read_batch(iter(rows), "embedding_cache", IndexMeta(), bytes_max=24)

    assert (batch.last_rowid, batch.read) == (2, 2)


def test_lists_of_a_tally_are_bounded() -> None:
    """However many reasons and rows there are, some are named and all are counted."""
    tally = VectorTally()
    for number in range(REASONS_MAX + 50):
        tally.show(SkippedRow("t", number, f"reason {number}"))

    assert (len(tally.skipped), tally.skipped[OTHER_REASONS], len(tally.examples)) == (
        REASONS_MAX + 1,
        50,
        EXAMPLES_MAX,
    )


def test_the_settings_under_which_vectors_serve() -> None:
    """The most common model that Reverie can ask, its address where it is known, and the chunker."""
    spaces = {"openai/hf/model:x/1/384/unit": 5, "openai/small/1/3/unit": 2, "gemini/g/1/3/unit": 9}
    tally = VectorTally(spaces=spaces, foreign={"gemini/g/1/3/unit": 9}, skipped={FULL: 34_000})
    settings, notes = settings_for(tally, [IndexMeta("ollama", "hf/model:x", 512, 64)])

    assert settings == [
        ("memory.embedder", "openai"),
        ("memory.embedder_base_url", "http://127.0.0.1:11434/v1"),
        ("memory.embedder_model", "hf/model:x"),
        ("memory.chunker", "lines"),
    ]
    cut_otherwise, foreign, full = notes
    assert cut_otherwise.startswith(
        "an index was cut into chunks of 512 tokens with 64 of overlap, and `lines` cuts 400"
    )
    assert foreign == "kept, used by no embedder of Reverie yet: gemini/g/1/3/unit (--skip-foreign leaves them out)"
    assert full.startswith("34,000 vectors found no room, the least recently updated ones: raise memory.cache_entries")
    assert (
        "(to 40000 for all of them) and memory.cache_bytes_max (to 61440000)" in full
    )  # 34,000 and the 16 that are kept, in steps of 10,000
    assert settings_for(VectorTally(), []) == ([], [])
