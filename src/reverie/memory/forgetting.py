"""Taking passages out of the index for good: rows, words, vectors, and the vectors that are kept of their texts.

A text may stand in several places. Its cached vector goes only when no place is left in which it stands, which is found
by going through the index once, in slices, for all passages that are to go together.

Everything here is idempotent. Vectors of the cache go before the passages: once those are gone nobody knows any more
what they were.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from reverie.memory.passages import embedded_text, embedding_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.memory.store import Change
    from reverie.storage.database import Transaction

PAGE_PASSAGES = 500
SLICE_IDS = 20_000
"""Passages of the whole index that are looked at in one read, by id."""
MERGED_PAGES = 500
"""Pages of the full text that are written anew in one transaction: some ten milliseconds."""


class Place(NamedTuple):
    """A document of an agent, or some lines of it; None: all."""

    path: str
    lines: frozenset[int] | None = None

    def holds(self, start_line: int, end_line: int) -> bool:
        """Whether a passage on these lines stands there, with any of them."""
        if self.lines is None:
            return True
        if end_line - start_line < len(self.lines):
            return any(line in self.lines for line in range(start_line, end_line + 1))
        return any(start_line <= line <= end_line for line in self.lines)


@dataclass(slots=True)
class DoomedPassages:
    """Passages that are to go: their ids, the keys of their vectors by content hash, and who spoke in them."""

    ids: set[int] = field(default_factory=set[int])
    keys: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    speakers: set[str] = field(default_factory=set[str])

    def add(self, page: Sequence[FoundPassage]) -> None:
        """Take a page in. Hashes their texts: CPU work, for a worker thread."""
        for found in page:
            self.ids.add(found.id)
            if found.content_hash not in self.keys:
                self.keys[found.content_hash] = embedding_key(embedded_text(found.heading, found.text))
            if found.speaker:
                self.speakers.add(found.speaker)


class FoundPassage(NamedTuple):
    """A passage with what its vector is keyed by."""

    id: int
    unit: int
    part: int
    start_line: int
    end_line: int
    content_hash: bytes
    speaker: str
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class ForgottenPassages:
    """How many passages left the index, and how many cached vectors went with them."""

    passages: int = 0
    vectors: int = 0


def passages_after(
    tx: Transaction, document_id: int, place: Place, after: tuple[int, int, int]
) -> tuple[list[FoundPassage], tuple[int, int, int] | None]:
    """A page of the passages of a place, and where the next one begins; None when these were the last."""
    unit, part, chunk_id = after
    rows = [
        FoundPassage(*row)
        for row in tx.tuples(
            "passages_after", document_id=document_id, unit=unit, part=part, id=chunk_id, limit=PAGE_PASSAGES
        )
    ]
    found = [row for row in rows if place.holds(row.start_line, row.end_line)]
    end = (rows[-1].unit, rows[-1].part, rows[-1].id) if len(rows) == PAGE_PASSAGES else None
    return found, end


def still_used(
    tx: Transaction, agent_id: int, doomed: DoomedPassages, after: int
) -> tuple[set[bytes], set[str], int | None]:
    """Which texts and names stand in other passages too, within a slice of the index, and where the next one begins."""
    upto = after + SLICE_IDS
    hashes = json.dumps([content_hash.hex() for content_hash in doomed.keys])
    used = {
        content_hash
        for chunk_id, content_hash in tx.tuples("texts_in_slice", after=after, upto=upto, hashes=hashes)
        if chunk_id not in doomed.ids
    }
    names = json.dumps(sorted(doomed.speakers))
    speakers = {
        speaker
        for chunk_id, speaker in tx.tuples("speakers_in_slice", agent_id=agent_id, after=after, upto=upto, names=names)
        if chunk_id not in doomed.ids
    }
    return used, speakers, upto if upto < tx.value("last_chunk") else None


def forget_speakers(tx: Transaction, agent_id: int, names: Sequence[str], change: Change) -> None:
    """Names that nobody bears any more are not looked for in questions."""
    if tx.execute("forget_speakers", agent_id=agent_id, names=json.dumps(list(names))):
        change.silent.extend((agent_id, name) for name in names)


def merge_words(tx: Transaction, *, first: bool) -> bool:
    """Write a piece of the full text anew, without what was deleted from it; False when nothing is left to do.

    A deleted row's words stay in the segments of the full text until those are merged. The `first` piece says that all
    of them are to be.
    """
    before = tx.changes_in_all
    tx.execute("merge_words", pages=-MERGED_PAGES if first else MERGED_PAGES)
    return tx.changes_in_all - before >= 2  # noqa: PLR2004 (SQLite's own sign that it did something)
