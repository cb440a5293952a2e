"""What the index writes for a piece of text: a chunk row, its full-text words, its hash, and what is embedded of it.

One place decides this for files and transcripts alike, so that both are found the same way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.memory.text import clean, words_and_parts_for_index, words_for_index

if TYPE_CHECKING:
    from reverie.types import MemorySource, Provenance

HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk ready to be written; `body` and `header` are its full-text words.

    The header counts half: what stands over the text, and the parts of the names in it.

    `unit` is its running number: within the document for a file, within the batch for messages.
    """

    start_line: int
    end_line: int
    unit: int
    part: int
    unit_chars: int
    content_hash: bytes
    text: str
    heading: str
    speaker: str
    said_by: str
    said_on: str
    provenance: Provenance
    created_at_ms: int
    body: str
    header: str


def make_passage(
    *,
    start_line: int,
    end_line: int,
    unit: int,
    part: int,
    text: str,
    unit_chars: int | None = None,
    heading: str = "",
    speaker: str = "",
    said_by: str = "",
    said_on: str = "",
    provenance: Provenance = "owner",
    created_at_ms: int,
) -> Passage:
    """A passage with its words and its hash; CPU work, for a worker thread.

    `unit_chars` is the length of the whole unit, None when the text is all of it.
    """
    named = speaker if speaker and not text.startswith(speaker) else ""
    body, parts = words_and_parts_for_index(text)
    header = words_for_index(" ".join(filter(None, (heading, named, parts))))
    return Passage(
        start_line=start_line,
        end_line=end_line,
        unit=unit,
        part=part,
        unit_chars=len(text) if unit_chars is None else unit_chars,
        content_hash=content_hash(f"{heading}\x00{text}"),
        text=text,
        heading=heading,
        speaker=speaker,
        said_by=said_by,
        said_on=said_on,
        provenance=provenance,
        created_at_ms=created_at_ms,
        body=body,
        header=header,
    )


def embedded_text(heading: str, text: str) -> str:
    """What the embedder reads: the text, under its headings."""
    return f"{heading}\n{text}" if heading else text


def embedding_key(text: str) -> bytes:
    """The key under which the vector of exactly this embedded text is kept: the first 16 bytes of its SHA-256.

    Public knowledge, so that vectors computed elsewhere can be taken over.
    """
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()[:HASH_BYTES]


def content_hash(text: str | bytes) -> bytes:
    """What tells equal pieces of text when a document is read again."""
    data = text.encode("utf-8") if isinstance(text, str) else text
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def message_hash(text: str) -> bytes:
    """The content hash of a message of one part."""
    return content_hash(f"\x00{clean(text)}")


def scope_word(agent_id: int, source: MemorySource) -> str:
    """The full-text word that names agent and source of a chunk."""
    return f"scope{agent_id}{source}"
