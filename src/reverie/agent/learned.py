"""What was learned, as a turn sees it: something that is asked beside memory, and told what stood in the prompt.

The two share one budget. What was learned takes its share of it at most, and what it leaves is memory's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, get_args

from reverie.context.fence import fenced_memory
from reverie.types import LearnedSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.llm.tokens import TokenEstimator
    from reverie.types import SearchHit, Turn

LEARNED_SOURCES = frozenset[str](get_args(LearnedSource))


class Learned(Protocol):
    """Recalls what was learned."""

    async def recall(self, turn: Turn, text: str) -> tuple[SearchHit, ...]:
        """What was learned that bears on a turn's message: skills first, then the rest, best first.

        A turn waits for it no longer than for memory. Whatever it raises costs the turn this recall only.
        """
        ...

    async def shown(self, turn: Turn, hits: Sequence[SearchHit]) -> None:
        """These stood in the prompt of a turn that is now answered.

        Raises:
            ReverieError: it could not be written down, which costs nothing else.
        """
        ...


def within_share(hits: Iterable[SearchHit], tokens_max: int, estimator: TokenEstimator) -> tuple[SearchHit, ...]:
    """The best hits that fit into so many tokens, as they stand in a prompt; a smaller one may follow one too large."""
    chosen: list[SearchHit] = []
    left = tokens_max
    for hit in hits:
        cost = estimator.text(fenced_memory(hit))
        if cost <= left:
            chosen.append(hit)
            left -= cost
    return tuple(chosen)


def is_told_by(hit: SearchHit, learned: Iterable[SearchHit]) -> bool:
    """Whether a message that memory found is among those that a step was made of which is quoted anyway."""
    return hit.session_id is not None and any(
        step.session_id == hit.session_id and step.start_line <= hit.start_line <= hit.end_line <= step.end_line
        for step in learned
        if step.source == "traces"
    )


def learned_among(hits: Iterable[SearchHit]) -> tuple[SearchHit, ...]:
    """The hits that are not memory's."""
    return tuple(hit for hit in hits if hit.source in LEARNED_SOURCES)
