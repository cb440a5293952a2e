"""Traces in the index and the embedding cache: passages of conversations. Those of notes go with the notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.dreaming.traces import Traces
from reverie.memory.forgetting import Place

if TYPE_CHECKING:
    from reverie.dreaming.traces import Portion
    from reverie.memory.index import MemoryIndex


class Passages:
    """The passages of the index, and the vectors kept of texts that stand nowhere else."""

    def __init__(self, memory: MemoryIndex) -> None:
        self._memory = memory

    async def look(self, portion: Portion) -> Traces:
        """Count them: those of notes too."""
        found = Traces()
        counted = await self._memory.count_passages(portion.agent, portion.places)
        found.counts.update(passages=counted.passages, vectors=counted.vectors)
        return found

    async def remove(self, portion: Portion) -> Traces:
        """Take them out, and let a conversation that goes whole be unknown to the index."""
        gone = Traces()
        places = [Place(doom.session.path, None if doom.whole else frozenset(doom.seqs)) for doom in portion.dooms]
        done = await self._memory.forget_passages(portion.agent, places)
        gone.counts.update(passages=done.passages, vectors=done.vectors)
        for doom in portion.whole_sessions:
            await self._memory.forget_session(portion.agent, doom.session.id)
        return gone
