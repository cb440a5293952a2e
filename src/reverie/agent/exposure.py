"""How far what an agent writes may be trusted: no further than what it had read.

Whoever plants an instruction where an agent reads it wants the agent to say it in words of its own, and to have them
kept. So what an agent writes is its own only where nothing of a stranger's can be behind it. Two rules, both pure:

1. *Exposure.* What entered a turn decides about all that the turn writes: the new messages, the memories quoted with
   them, what plugins add, the results of tools. The turn's words count as those of the least trusted part. Paraphrase
   is what models are for, so nothing that the turn writes is excepted.
2. *Repetition.* What entered earlier turns stays in view. If it exposed every turn after it, one page would put an end
   to all that an agent learns in a conversation. So of later turns only what repeats a stranger's text is his: five
   words in a row, an address, or most of a sentence (`context/repetition.py`).

What a person pastes is his own: he chose to. The workspace's files that stand in every prompt are their owner's; what
is not his never gets into MEMORY.md.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.context.repetition import repeats
from reverie.types import TRUSTED, least_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.memory.tool_contracts import ToolAnswer
    from reverie.sessions.transcript import HistoryEntry, RecordedMessage
    from reverie.types import Provenance, SearchHit, ToolCall

OWN = "nothing of a stranger's had been read"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whose words something is, and why; the reason quotes nothing of them, so it may be logged."""

    provenance: Provenance
    reason: str = OWN

    @property
    def trusted(self) -> bool:
        """Whether it may become lasting memory."""
        return self.provenance in TRUSTED


def exposed(before: Judgement, provenance: Provenance, cause: str) -> Judgement:
    """What a turn's words count as after one more text entered it; the first cause that decides stays."""
    after = least_trusted((before.provenance, provenance), default="agent")
    return before if after == before.provenance else Judgement(after, cause)


def judged(text: str, exposure: Judgement, strange: Iterable[str]) -> Judgement:
    """Whose words a text is that a turn wrote. `strange` are the strangers' texts in view from turns before."""
    if not exposure.trusted or not text.strip():
        return exposure
    return Judgement("untrusted", "it repeats a stranger's text") if repeats(text, strange) else exposure


def strange_texts(history: Iterable[HistoryEntry], before_seq: int, unsigned: Iterable[str]) -> list[str]:
    """The texts in view from turns before that are not the owner's or the agent's, the newest first.

    `unsigned` are texts made of whatever the conversation held, such as a summary: nobody knows whose they are.
    """
    said = [entry.message.text for entry in history if entry.seq < before_seq and entry.provenance not in TRUSTED]
    return [text for text in (*said[::-1], *unsigned) if text]


class TurnExposure:
    """What entered one turn so far. Told of everything before it enters, asked whenever something is to be kept."""

    def __init__(self, strange: Sequence[str]) -> None:
        self._strange = tuple(strange)
        self.now = Judgement("agent")

    def entered(self, provenance: Provenance, cause: str) -> None:
        """A text is in the model's view from now on."""
        self.now = exposed(self.now, provenance, cause)

    def heard(self, history: Iterable[HistoryEntry], from_seq: int) -> None:
        """The new messages, from a number of the transcript on."""
        for entry in history:
            if entry.seq >= from_seq:
                self.entered(entry.provenance, f"message {entry.seq} ({entry.message.role})")

    def steered(self, records: Iterable[RecordedMessage]) -> None:
        """Messages that were sent into the turn while it ran."""
        for record in records:
            self.entered(record.provenance, "a message that was sent into the turn")

    def prompted(self, recalled: Iterable[SearchHit], notes: Iterable[tuple[str, str]]) -> None:
        """What stands around the new messages: memories, and what plugins add, of which nobody knows whose it is."""
        for hit in recalled:
            self.entered(hit.provenance, f"a memory: {hit.citation}")
        for plugin, _ in notes:
            self.entered("untrusted", f"a note of the plugin {plugin}")

    def used(self, call: ToolCall, answer: ToolAnswer) -> None:
        """The answer of a tool of ours."""
        self.entered(answer.provenance, f"what {call.name} showed")

    def answered(self, records: Iterable[RecordedMessage]) -> None:
        """The turn's messages, once it is over: a runtime may have tools of its own, which nobody told of."""
        for record in records:
            if record.message.role == "tool":
                self.entered(record.provenance, f"what {record.message.name or 'a tool'} showed")

    async def judge(self, text: str) -> Judgement:
        """Whose words a text is that the turn writes now. Comparing is CPU work, and is done on a thread."""
        exposure = self.now
        if not exposure.trusted or not self._strange:
            return exposure
        return await asyncio.to_thread(judged, text, exposure, self._strange)
