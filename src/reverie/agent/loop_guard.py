"""A guard against a model that lost its place: after a compaction it asks the same thing again and again.

Armed for a few tool calls after each compaction. A model that repeats itself at any other time is bounded by
`memory.tool_rounds_max`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from reverie.errors import ToolLoopError

if TYPE_CHECKING:
    from reverie.types import ToolCall

CALLS_WATCHED = 3
CALLS_IDENTICAL_MAX = 3


class LoopGuard:
    """Watches the tool calls after a compaction. Made armed where a turn began with one."""

    def __init__(self, *, armed: bool) -> None:
        self._left = CALLS_WATCHED if armed else 0
        self._seen: list[bytes] = []

    def arm(self) -> None:
        """A compaction happened just now."""
        self._left = CALLS_WATCHED
        self._seen = []

    def saw(self, call: ToolCall, result: str) -> None:
        """A tool answered.

        Raises:
            ToolLoopError: it was the third time in a row that the same call had the same result.
        """
        if not self._left:
            return
        self._left -= 1
        said = f"{call.name}\x00{call.arguments}\x00{result}".encode("utf-8", "surrogatepass")
        self._seen.append(hashlib.sha256(said).digest())
        if len(self._seen) >= CALLS_IDENTICAL_MAX and len(set(self._seen[-CALLS_IDENTICAL_MAX:])) == 1:
            message = (
                f"After the conversation was compacted, the model called {call.name} {CALLS_IDENTICAL_MAX} times with "
                "the same arguments and got the same result: the turn was ended. Say what you want again, in one "
                "message."
            )
            raise ToolLoopError(message)
