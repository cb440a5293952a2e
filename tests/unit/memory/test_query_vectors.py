"""A question's vector is computed once for all who want it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from reverie.errors import EmbedderError
from reverie.memory.query_vectors import KEPT_MAX, QueryVectors

pytestmark = pytest.mark.anyio


class Embedding:
    """Counts what it is asked, and answers when told to."""

    def __init__(self, *, held: bool = False) -> None:
        self.asked: list[str] = []
        self.cancelled = 0
        self.error: EmbedderError | None = None
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def __call__(self, text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        self.asked.append(text)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return np.ones(2, np.float32)


async def test_two_who_ask_at_the_same_time_share_one_computation() -> None:
    """And a third a moment later."""
    embed = Embedding(held=True)
    vectors = QueryVectors(embed)
    asking = [asyncio.create_task(vectors.vector("kiln")) for _ in range(2)]
    await asyncio.sleep(0)
    embed.go.set()
    await asyncio.gather(*asking)
    await vectors.vector("kiln")

    assert embed.asked == ["kiln"]


async def test_one_who_gives_up_takes_nothing_from_the_other() -> None:
    """The last one to give up ends the computation."""
    embed = Embedding(held=True)
    vectors = QueryVectors(embed)
    one, other = (asyncio.create_task(vectors.vector("kiln")) for _ in range(2))
    await asyncio.sleep(0.01)
    one.cancel()
    await asyncio.sleep(0.01)
    assert (embed.cancelled, other.done()) == (0, False)
    other.cancel()
    await asyncio.sleep(0.01)

    assert embed.cancelled == 1
    embed.go.set()
    assert (await vectors.vector("kiln")).tolist() == [1.0, 1.0]


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    """The next one asks again."""
    embed = Embedding(held=True)
    embed.error = EmbedderError("gone")
    vectors = QueryVectors(embed)
    asking = [asyncio.create_task(vectors.vector("kiln")) for _ in range(2)]
    await asyncio.sleep(0)
    embed.go.set()
    failed = await asyncio.gather(*asking, return_exceptions=True)
    embed.error = None

    assert [str(error) for error in failed] == ["gone", "gone"]
    assert (await vectors.vector("kiln")).tolist() == [1.0, 1.0]
    assert embed.asked == ["kiln", "kiln"]


async def test_only_the_newest_questions_are_kept() -> None:
    """The oldest gives way."""
    embed = Embedding()
    vectors = QueryVectors(embed)
    for number in range(KEPT_MAX + 1):
        await vectors.vector(str(number))
    await vectors.vector(str(KEPT_MAX))
    await vectors.vector("0")

    assert embed.asked == [*map(str, range(KEPT_MAX + 1)), "0"]


async def test_what_was_computed_can_be_forgotten() -> None:
    """An embedder that failed is asked again, also for a text that it knew."""
    embed = Embedding()
    vectors = QueryVectors(embed)
    await vectors.vector("kiln")
    vectors.forget()
    await vectors.vector("kiln")

    assert embed.asked == ["kiln", "kiln"]


async def test_closing_ends_what_is_under_way() -> None:
    """Nobody waits for it any more."""
    embed = Embedding(held=True)
    vectors = QueryVectors(embed)
    asking = asyncio.create_task(vectors.vector("kiln"))
    await asyncio.sleep(0.01)
    await vectors.aclose()

    assert embed.cancelled == 1
    assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], asyncio.CancelledError)
