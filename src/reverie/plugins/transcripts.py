"""Whole transcripts for plugins that may read them, without what else can be done to sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reverie.plugins.contract import Transcripts


class GrantedTranscripts:
    """The reading half of what knows all sessions.

    It is used on a plugin's own loop, not on the one that serves: a read of the database belongs to no loop.
    """

    def __init__(self, transcripts: Transcripts) -> None:
        self._export = transcripts.export

    async def export(
        self,
        session_id: str,
        form: Literal["jsonl", "markdown"],
        write: Callable[[bytes], Awaitable[object] | object],
    ) -> None:
        """Hand a session's transcript to `write`, piece by piece; what `write` returns is awaited if it can be.

        Raises:
            ReverieError: there is no such session, or it could not be read.
        """
        await self._export(session_id, form, write)
