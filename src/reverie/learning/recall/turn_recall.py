"""What was learned, as a turn asks for it, and what is written down of what a turn was shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reverie.clock import Clock
    from reverie.learning.recall.recall import LearnedRecall
    from reverie.storage import Database, Transaction
    from reverie.types import SearchHit, Turn

SKILL_PATH: Final = ("skills/", "/SKILL.md")


NoteExposures: TypeAlias = "Callable[[Transaction, str, Sequence[str], str, str, int], object]"
"""Writes down that skills were shown: of which agent, which, in which turn and session, and when (ms)."""


class TurnRecall:
    """Recall of what was learned, for turns; `note_exposures` writes down which skills they were shown."""

    def __init__(self, recall: LearnedRecall, database: Database, clock: Clock, note_exposures: NoteExposures) -> None:
        self._recall = recall
        self._database = database
        self._clock = clock
        self._note_exposures = note_exposures

    async def recall(self, turn: Turn, text: str) -> tuple[SearchHit, ...]:
        """What was learned that bears on a turn's message.

        Raises:
            StorageError: it could not be read.
        """
        return await self._recall.recall(turn.request.session.agent, text, turn.session_id)

    async def shown(self, turn: Turn, hits: Sequence[SearchHit]) -> None:
        """Remember which skills stood in a turn's prompt; nothing is written when none did.

        Raises:
            StorageError: it could not be written.
        """
        names = [name_of(hit) for hit in hits if hit.source == "skills"]
        if names:
            await self._database.write(lambda tx: self._note(tx, turn, names))

    def _note(self, tx: Transaction, turn: Turn, names: Sequence[str]) -> None:
        agent = turn.request.session.agent
        ids = [row[0] for row in tx.tuples("skills_named", agent=agent, names=json.dumps(names))]
        self._note_exposures(tx, agent, ids, turn.id, turn.session_id, self._clock.now_ms())


def name_of(hit: SearchHit) -> str:
    """The name of a skill that was found."""
    before, after = SKILL_PATH
    return hit.path.removeprefix(before).removesuffix(after)
