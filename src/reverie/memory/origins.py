"""Whose words stand in notes: what programs wrote is known piece by piece, everything else is its owner's.

A note is Markdown that anybody may edit, so nothing in the file says who wrote a paragraph. What a program writes is
named here before it is written: each paragraph, and of it each line and sentence that is long enough to be known again.
So it stays what it is when it is moved, wrapped anew, joined with other lines or copied into another file.

Invariants: of two who wrote the same, the less trusted counts; what is known is never dropped to make room, because
that would make it its owner's. When there is no room left, programs write no more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from reverie.errors import OriginsFullError
from reverie.memory.documents import split_lines
from reverie.memory.plain import addresses, plain_words, weight
from reverie.memory.text import collapse
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from reverie.clock import Clock
    from reverie.storage.database import Database, Transaction
    from reverie.types import Provenance

PIECES_MAX = 1_000_000
"""For each agent; a note has as many as it has paragraphs and longer lines. A million take about 100 MB."""

DIGESTS_AT_ONCE = 1_000
PIECE_WEIGHT_MIN = 8
"""A line or a sentence is known by itself from four words on, or eight characters of a script without spaces."""

_DIGEST_BYTES = 16
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\s+[-*+•]\s+")


class Paragraph(NamedTuple):
    """Lines between blank ones: the first and the last, from 1 on, and the digests it may be known by."""

    first: int
    last: int
    digests: frozenset[bytes]


class NoteOrigins:
    """What programs wrote into notes, in `state.db`. `sharing` names for each agent all that have its workspace."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        sharing: Mapping[str, Sequence[str]] | None = None,
        pieces_max: int = PIECES_MAX,
    ) -> None:
        self._database = database
        self._clock = clock
        self._sharing = sharing or {}
        self._pieces_max = pieces_max

    async def register(self, agent: str, text: str, provenance: Provenance, session_id: str | None = None) -> None:
        """Say whose words a note is. To be called before it is written, so that it is never taken for its owner's.

        `session_id` is the conversation it came from. To say it again changes nothing; what was said to be less trusted
        stays so.

        Raises:
            OriginsFullError: nothing more can be known of this agent's notes; the note must not be written.
            StorageError: it could not be kept; neither must it then.
        """
        digests = await asyncio.to_thread(_digests, text)
        values = {"provenance": provenance, "session_id": session_id, "at": self._clock.now_ms()}

        def work(tx: Transaction) -> None:
            for reader in self._sharing.get(agent, (agent,)):
                held: int = tx.value("count_note_origins", agent=reader)
                if held + len(digests) > self._pieces_max and _knows_less(tx, reader, digests):
                    raise OriginsFullError(reader, self._pieces_max)
                for part in _parts(digests):
                    tx.execute("put_note_origins", agent=reader, **values, digests=part)

        await self._database.write(work)

    async def of_lines(self, agent: str, text: str) -> tuple[Provenance, ...]:
        """Whose words each line of a note is; `text` is the whole file, or whole paragraphs of it.

        A paragraph in which something stands that a program wrote is that program's.

        Raises:
            StorageError: it could not be read.
        """
        if not await self._database.read(lambda tx: tx.value("count_note_origins", agent=agent)):
            return ("owner",) * len(await asyncio.to_thread(split_lines, text))
        paragraphs, lines = await asyncio.to_thread(_read, text)
        digests = sorted({digest for paragraph in paragraphs for digest in paragraph.digests})
        known: dict[bytes, Provenance] = {}
        for part in _parts(digests):
            known.update(
                await self._database.read(
                    lambda tx, part=part: list(tx.tuples("origins_of", agent=agent, digests=part))
                )
            )
        return await asyncio.to_thread(_by_line, paragraphs, lines, known)


def noted_by(tx: Transaction, agent: str, text: str) -> Provenance:
    """Whose words a piece of a note is, within a transaction: its owner's, if no program is known for it."""
    if not tx.value("count_note_origins", agent=agent):
        return "owner"
    return least_trusted(whose for part in _parts(_digests(text)) for whose in _known(tx, agent, part).values())


def paragraphs_of(text: str) -> Iterator[Paragraph]:
    """The paragraphs of a note, each with what it may be known by."""
    numbered = enumerate(split_lines(text), 1)
    for blank, group in groupby(numbered, key=lambda line: not line[1].strip()):
        if not blank:
            lines = list(group)
            yield Paragraph(lines[0][0], lines[-1][0], frozenset(_pieces([line for _, line in lines])))


def _pieces(lines: list[str]) -> Iterator[bytes]:
    whole = collapse("\n".join(lines))
    yield _digest(plain_words(whole), whole)
    parts = [*lines, *_SENTENCE_END.split(whole)] if len(lines) > 1 else _SENTENCE_END.split(whole)
    for part in parts:
        words = plain_words(part)
        if weight(words) >= PIECE_WEIGHT_MIN or (words and addresses(part)):
            yield _digest(words, part)


def _digest(words: list[str], text: str) -> bytes:
    """Of the words; a piece without any is known by its signs."""
    data = (" ".join(words) or text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _digests(text: str) -> list[bytes]:
    return sorted({digest for paragraph in paragraphs_of(text) for digest in paragraph.digests})


def _knows_less(tx: Transaction, agent: str, digests: list[bytes]) -> bool:
    return sum(len(_known(tx, agent, part)) for part in _parts(digests)) < len(digests)


def _known(tx: Transaction, agent: str, digests: str) -> dict[bytes, Provenance]:
    return dict(tx.tuples("origins_of", agent=agent, digests=digests))


def _read(text: str) -> tuple[list[Paragraph], int]:
    return list(paragraphs_of(text)), len(split_lines(text))


def _by_line(paragraphs: Iterable[Paragraph], lines: int, known: dict[bytes, Provenance]) -> tuple[Provenance, ...]:
    found: list[Provenance] = ["owner"] * lines
    for paragraph in paragraphs:
        whose = least_trusted(known[digest] for digest in paragraph.digests if digest in known)
        for line in range(paragraph.first, paragraph.last + 1):
            found[line - 1] = whose
    return tuple(found)


def _parts(digests: list[bytes]) -> Iterator[str]:
    for start in range(0, len(digests), DIGESTS_AT_ONCE):
        yield json.dumps([digest.hex() for digest in digests[start : start + DIGESTS_AT_ONCE]])
