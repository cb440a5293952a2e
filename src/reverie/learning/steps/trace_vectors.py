"""Vectors of steps: of what one was about, and of what was done in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.errors import TextRefusedError
from reverie.learning.steps.normalise import shortened
from reverie.learning.vectors import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.learning.records import Trace
    from reverie.llm.embeddings import Embedder
    from reverie.storage import Transaction

ACTION_CHARS_MAX = 1_500


@dataclass(frozen=True, slots=True)
class TraceVectors:
    """The vectors of one step; None for a text that is empty or that the embedder refuses."""

    trace_id: str
    summary: NDArray[np.float32] | None
    action: NDArray[np.float32] | None


def action_text(trace: Trace) -> str:
    """What was done in a step: what was said, and the calls that were made."""
    calls = (f"{tool.text_before}\n{tool.name} {tool.input}".strip() for tool in trace.tool_calls)
    return shortened("\n".join((*calls, trace.agent_text)).strip(), ACTION_CHARS_MAX)


async def embed(embedder: Embedder, traces: Sequence[Trace], *, actions: bool = True) -> tuple[TraceVectors, ...]:
    """The vectors of those steps that have none yet, by one call of the embedder.

    When it refuses one of the texts, each is tried alone, and the refused ones have no vector.

    Raises:
        EmbedderError: they could not be computed now.
    """
    lacking = [trace for trace in traces if trace.vec_summary is None]
    pairs = [(trace.summary, action_text(trace) if actions else "") for trace in lacking]
    texts = list(dict.fromkeys(text for pair in pairs for text in pair if text))
    known = await _vectors(embedder, texts)
    return tuple(
        TraceVectors(trace.id, known.get(summary), known.get(action))
        for trace, (summary, action) in zip(lacking, pairs, strict=True)
    )


def write(tx: Transaction, vectors: Sequence[TraceVectors]) -> None:
    """Keep vectors with their steps."""
    for each in vectors:
        tx.execute(
            "set_trace_vectors",
            id=each.trace_id,
            vec_summary=None if each.summary is None else pack(each.summary),
            vec_action=None if each.action is None else pack(each.action),
        )


async def _vectors(embedder: Embedder, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    if not texts:
        return {}
    try:
        return dict(zip(texts, await embedder.embed_passages(texts), strict=True))
    except TextRefusedError:
        return {text: vector for text in texts if (vector := await _alone(embedder, text)) is not None}


async def _alone(embedder: Embedder, text: str) -> NDArray[np.float32] | None:
    try:
        return (await embedder.embed_passages([text]))[0]
    except TextRefusedError:
        return None
