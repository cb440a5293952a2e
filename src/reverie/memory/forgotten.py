"""Notes that a person had forgotten: what stood in them stays out of memory, though it may stand in a file.

A note is forgotten by its path and paragraph by paragraph. So a file that stays on disk is not found any more, one that
is brought back by an import is the same again, and what is written into it afterwards is memory like anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.memory.append import paragraphs
from reverie.memory.documents import split_lines

if TYPE_CHECKING:
    from collections.abc import Collection

    from reverie.storage.database import Database, Transaction

PAGE_NAMES = 1_000
BETWEEN = "#"
"""Between a path and the digest of a paragraph."""
_LAST = "\U0010ffff"


class ForgottenNotes:
    """What was forgotten of notes, in `state.db`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def paths(self, agent: str) -> frozenset[str]:
        """The notes of an agent of which something was forgotten."""
        return frozenset(await self._names(agent, "note", "", _LAST))

    async def paragraphs(self, agent: str, path: str) -> frozenset[bytes]:
        """The digests of the paragraphs of a note that were forgotten."""
        low, high = f"{path}{BETWEEN}", f"{path}{chr(ord(BETWEEN) + 1)}"
        digests = [name.removeprefix(low) for name in await self._names(agent, "paragraph", low, high)]
        return frozenset(bytes.fromhex(digest) for digest in digests if _is_digest(digest))

    async def visible(self, agent: str, path: str, text: str) -> str:
        """A note's text without what was forgotten of it; every line keeps its number."""
        if path not in await self.paths(agent):
            return text
        return without_forgotten(text, await self.paragraphs(agent, path))

    async def _names(self, agent: str, kind: str, after: str, high: str) -> list[str]:
        names: list[str] = []
        while True:
            page = await self._database.read(
                lambda tx, after=after: [
                    name
                    for (name,) in tx.tuples(
                        "forgotten_names", agent=agent, kind=kind, after=after, high=high, limit=PAGE_NAMES
                    )
                ]
            )
            names += page
            if len(page) < PAGE_NAMES:
                return names
            after = page[-1]


def forgotten_notes(tx: Transaction, agent: str) -> list[str]:
    """The first notes of which something was forgotten, at most `PAGE_NAMES`."""
    return [
        name
        for (name,) in tx.tuples("forgotten_names", agent=agent, kind="note", after="", high=_LAST, limit=PAGE_NAMES)
    ]


def paragraph_names(path: str, text: str) -> list[str]:
    """The names by which the paragraphs of a note are forgotten."""
    return list(dict.fromkeys(f"{path}{BETWEEN}{digest.hex()}" for _, _, digest in paragraphs(text)))


def without_forgotten(text: str, digests: Collection[bytes]) -> str:
    """The text with empty lines in the place of the paragraphs that were forgotten."""
    if not digests:
        return text
    lines = split_lines(text)
    for first, last, digest in paragraphs(text):
        if digest in digests:
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(lines)


def _is_digest(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True
