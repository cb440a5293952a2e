"""The figures of an index that are wanted without asking the disk: how many of what, and who speaks.

Read once when the index is opened, and kept in step with every committed change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reverie.memory.store import log_position, read_tally
from reverie.memory.text import words_of_name
from reverie.memory.transcripts import GENERIC_SPEAKERS
from reverie.types import MemorySource

if TYPE_CHECKING:
    from collections.abc import Collection

    from reverie.memory.store import Change
    from reverie.storage.database import Transaction

SPEAKERS_MAX = 10_000
"""Names beyond these are not looked for in questions."""


@dataclass(slots=True)
class IndexFigures:
    """Counts, agents and speakers. `speakers` maps lower-case names to the words of the name."""

    documents: dict[MemorySource, int] = field(default_factory=dict[MemorySource, int])
    chunks: int = 0
    position: int = 0
    _agents: dict[str, int] = field(default_factory=dict[str, int])
    _speakers: dict[int, dict[str, frozenset[str]]] = field(default_factory=dict[int, dict[str, frozenset[str]]])
    _speaker_count: int = 0

    def read(self, tx: Transaction) -> None:
        """Take the figures of the index as it stands."""
        self.position = log_position(tx)
        self.documents = {row["source"]: row["n"] for row in tx.rows("count_documents")}
        self.chunks = read_tally(tx).chunks
        for agent_id, name in tx.tuples("list_agents"):
            self.add_agent(name, agent_id)
        for agent_id, name in tx.tuples("list_speakers", limit=SPEAKERS_MAX):
            self.add_speaker(agent_id, name)

    def agent_id(self, name: str) -> int | None:
        """An agent's number; None for one of which nothing is indexed."""
        return self._agents.get(name)

    def add_agent(self, name: str, agent_id: int) -> None:
        """An agent was given its number."""
        self._agents[name] = agent_id

    def add_speaker(self, agent_id: int, name: str) -> None:
        """Someone spoke for the first time."""
        folded = name.casefold()
        held = self._speakers.setdefault(agent_id, {})
        if self._speaker_count < SPEAKERS_MAX and folded not in GENERIC_SPEAKERS and folded not in held:
            held[folded] = words_of_name(name)
            self._speaker_count += 1

    def speakers(self, agent_id: int) -> dict[str, frozenset[str]]:
        """Who speaks in an agent's transcripts."""
        return self._speakers.get(agent_id, {})

    def is_everything(self, sources: Collection[MemorySource]) -> bool:
        """Whether an agent's given sources are all there is, so that nothing need be filtered."""
        return len(self._agents) <= 1 and all(source in sources for source, n in self.documents.items() if n)

    def follow(self, change: Change, source: MemorySource) -> None:
        """Keep in step with a committed change."""
        for name, agent_id in change.agents:
            self.add_agent(name, agent_id)
        self.chunks += change.added - len(change.removed_ids)
        self.documents[source] = self.documents.get(source, 0) + change.documents
        for agent_id, name in change.speakers:
            self.add_speaker(agent_id, name)
        for agent_id, name in change.silent:
            if self._speakers.get(agent_id, {}).pop(name.casefold(), None) is not None:
                self._speaker_count -= 1
