"""Whole transcripts for plugins that may read them, without the store behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reverie.storage import Database

Write = Callable[[bytes], Awaitable[object] | object]
ExportFunction = Callable[["Database", str, Write], Awaitable[object]]
"""Writes the transcript of a session, by its id, piece by piece; what `write` returns is awaited if it can be."""


class StoredTranscripts:
    """`Transcripts` on `state.db`.

    It is used on a plugin's own loop, not on the one that serves: a read of the database belongs to no loop.
    """

    def __init__(self, database: Database, forms: Mapping[Literal["jsonl", "markdown"], ExportFunction]) -> None:
        self._database = database
        self._forms = forms

    async def export(self, session_id: str, form: Literal["jsonl", "markdown"], write: Write) -> None:
        """Hand a session's transcript to `write`, piece by piece.

        Raises:
            ReverieError: there is no such session, or it could not be read.
        """
        await self._forms[form](self._database, session_id, write)
