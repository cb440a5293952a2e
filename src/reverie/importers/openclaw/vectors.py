"""Rows of an OpenClaw database become vectors of ours: decisions and arithmetic, no I/O.

A row says which text (SHA-256), which model, and its numbers, as JSON text or as a blob. Ours is keyed by the first 16
bytes of the same hash, and holds little-endian float32 of length 1. A row that cannot be used becomes a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import simdjson

from reverie.importers.openclaw.source import EMBEDDING_BYTES_MAX
from reverie.llm.embeddings import EmbedderIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from reverie.importers.openclaw.source import IndexMeta, VectorRow

DIMS_MAX = 65_536
BATCH_BYTES_MAX = 8 * 1024 * 1024
"""What the vectors of one batch may take; it is held about four times over while it is scaled and written."""

KEY_BYTES = 16
OUR_PROVIDER = "openai"
NO_VECTOR = "no vector"
_NO_MODEL = frozenset({"", "fts-only"})
_COMPATIBLE = frozenset({
    "openai", "openai-compatible", "ollama", "lmstudio", "lm-studio", "vllm", "llama-cpp", "llamacpp", "mistral",
    "voyage", "openrouter", "litellm", "azure-openai", "together", "deepinfra", "jina", "nvidia",
})  # fmt: skip
"""Providers whose vectors come from a `/v1/embeddings`, which `memory.embedder = "openai"` asks too."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Space:
    """Where a vector belongs: the source's provider and model, and the size."""

    provider: str
    model: str
    dims: int

    @property
    def identity(self) -> EmbedderIdentity:
        """The embedder that gives such vectors here."""
        provider = OUR_PROVIDER if self.is_ours else self.provider
        return EmbedderIdentity(provider=provider, model=self.model, version="1", dims=self.dims)

    @property
    def is_ours(self) -> bool:
        """Whether an embedder of Reverie can be set to ask the same model."""
        return is_ours(self.provider)


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was left out: where it stands and why; never what it holds."""

    table: str
    rowid: int
    reason: str


@dataclass(slots=True)
class Vectors:
    """Vectors of one space, ready to be kept: equal lengths, each key once."""

    rows: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    used_at_ms: list[int] = field(default_factory=list[int])


@dataclass(slots=True)
class Batch:
    """What a range of rows gave. `last_rowid` is where the next one begins; None: there were no rows."""

    last_rowid: int | None = None
    read: int = 0
    repeated: int = 0
    spaces: dict[Space, Vectors] = field(default_factory=dict[Space, Vectors])
    skipped: list[SkippedRow] = field(default_factory=list[SkippedRow])


@dataclass(slots=True)
class _Raw:
    """Rows of one space before they are scaled. A key that stood before is not taken again."""

    places: dict[bytes, int] = field(default_factory=dict[bytes, int])
    rowids: list[int] = field(default_factory=list[int])
    used_at_ms: list[int] = field(default_factory=list[int])
    numbers: list[NDArray[np.float32]] = field(default_factory=list["NDArray[np.float32]"])


def is_ours(provider: str) -> bool:
    """Whether a provider's vectors can be used by an embedder of Reverie."""
    return provider.lower() in _COMPATIBLE


def read_batch(
    rows: Iterable[VectorRow],
    table: str,
    meta: IndexMeta,
    *,
    skip_foreign: bool = False,
    bytes_max: int = BATCH_BYTES_MAX,
) -> Batch:
    """The vectors of a range of rows; ends early when they have become `bytes_max`."""
    batch = Batch()
    raw: dict[Space, _Raw] = {}
    parser = simdjson.Parser()
    held_bytes = 0
    for row in rows:
        batch.last_rowid = row.rowid
        batch.read += 1
        found = read_row(row, meta, parser, skip_foreign=skip_foreign)
        if isinstance(found, str):
            batch.skipped.append(SkippedRow(table, row.rowid, found))
            continue
        space, key, numbers = found
        of_space = raw.setdefault(space, _Raw())
        if key in of_space.places:
            batch.repeated += 1
            continue
        of_space.places[key] = len(of_space.places)
        of_space.rowids.append(row.rowid)
        of_space.used_at_ms.append(_instant(row.updated_at))
        of_space.numbers.append(numbers)
        held_bytes += numbers.nbytes
        if held_bytes >= bytes_max:
            break
    for space, of_space in raw.items():
        vectors, refused = _scaled(of_space)
        batch.skipped += [SkippedRow(table, rowid, reason) for rowid, reason in refused]
        if vectors.rows:
            batch.spaces[space] = vectors
    return batch


def read_row(
    row: VectorRow, meta: IndexMeta, parser: simdjson.Parser, *, skip_foreign: bool = False
) -> tuple[Space, bytes, NDArray[np.float32]] | str:
    """A row's space, key and numbers, or the reason why it is left out."""
    named = _named(row, meta)
    if isinstance(named, str):
        return named
    provider, model = named
    if skip_foreign and not is_ours(provider):
        return f"of provider {provider}, which no embedder of Reverie asks (--skip-foreign)"
    if not isinstance(row.hash, str) or _SHA256.fullmatch(row.hash) is None:
        return "its hash is not a SHA-256"
    numbers = _sized(_numbers(row, parser), row.dims)
    if isinstance(numbers, str):
        return numbers
    return Space(provider, model, len(numbers)), bytes.fromhex(row.hash)[:KEY_BYTES], numbers


def _sized(numbers: NDArray[np.float32] | str, dims: Any) -> NDArray[np.float32] | str:
    """The numbers, if there are as many as can be and as their row says; else the reason."""
    if isinstance(numbers, str):
        return numbers
    if not len(numbers):
        return NO_VECTOR
    if len(numbers) > DIMS_MAX:
        return f"more than {DIMS_MAX:,} numbers"
    return numbers if dims is None or dims == len(numbers) else "another size than its row says"


def _named(row: VectorRow, meta: IndexMeta) -> tuple[str, str] | str:
    """Provider and model of a row; a chunk has its provider from the index, if that is of the same model."""
    model = row.model.strip() if isinstance(row.model, str) else ""
    if model in _NO_MODEL:
        return NO_VECTOR
    provider = row.provider if row.provider is not None else (meta.provider if meta.model == model else "")
    if not isinstance(provider, str) or not provider.strip() or "/" in provider:
        return "its provider is not known"
    provider = provider.strip().lower()
    return provider, model.removeprefix("openai/") if provider == OUR_PROVIDER else model


def _numbers(row: VectorRow, parser: simdjson.Parser) -> NDArray[np.float32] | str:
    if row.embedding is None:
        return NO_VECTOR if row.embedding_bytes is None else f"larger than {EMBEDDING_BYTES_MAX:,} bytes"
    if isinstance(row.embedding, bytes):
        return _from_blob(row.embedding, row.dims)
    try:
        found = _from_json(row.embedding, parser)
    except (ValueError, TypeError, RuntimeError):
        return "not a list of numbers"
    return "not a list of numbers" if found is None else found


def _from_json(text: str, parser: simdjson.Parser) -> NDArray[np.float32] | None:
    array: Any = parser.parse(text.encode("utf-8", "replace"))
    if not isinstance(array, simdjson.Array) or text.count("[") > 1:  # its buffer would flatten nested lists
        return None
    return _as_float32(np.frombuffer(array.as_buffer(of_type="d"), np.float64))


def _from_blob(blob: bytes, dims: Any) -> NDArray[np.float32] | str:
    """Eight bytes a number; four when the row's own size says so."""
    if isinstance(dims, int) and dims > 0 and len(blob) == 4 * dims:
        return np.frombuffer(blob, "<f4").astype(np.float32)
    if len(blob) % 8:
        return "a blob of another size than whole numbers have"
    return _as_float32(np.frombuffer(blob, "<f8"))


def _as_float32(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinite, and is refused below
        return numbers.astype(np.float32)


def _scaled(raw: _Raw) -> tuple[Vectors, list[tuple[int, str]]]:
    """All rows of a space scaled to length 1 at once; those that cannot be are refused."""
    matrix = np.stack(raw.numbers)
    raw.numbers.clear()
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    finite = np.isfinite(lengths)
    usable = finite & (lengths > 0)
    matrix /= np.where(usable, lengths, 1).astype(np.float32)[:, None]
    data = memoryview(matrix.astype("<f4", copy=False)).cast("B")
    size = 4 * matrix.shape[1]
    vectors = Vectors()
    refused: list[tuple[int, str]] = []
    for key, number in raw.places.items():
        if usable[number]:
            vectors.rows.append((key, bytes(data[number * size : (number + 1) * size])))
            vectors.used_at_ms.append(raw.used_at_ms[number])
        else:
            refused.append((raw.rowids[number], "all zero" if finite[number] else "not finite"))
    return vectors, refused


def _instant(value: Any) -> int:
    """When a row was last written, in milliseconds since 1970; 0 when it does not say."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0
