"""The clock that stands still and the embedder that costs nothing."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from reverie.errors import EmbedderError
from reverie.testing import FakeClock, FakeEmbedder


class TestFakeClock:
    def test_time_passes_only_when_told(self) -> None:
        """Both times move together."""
        clock = FakeClock(1_000)
        clock.advance(ms=1, seconds=2, days=1)
        assert (clock.now_ms(), clock.monotonic_s()) == (1_000 + 1 + 2_000 + 86_400_000, 86_402.001)

    def test_the_time_of_day_can_be_set_back(self) -> None:
        """The monotonic time does not follow, and refuses to go back."""
        clock = FakeClock(1_000)
        clock.set(10)
        assert (clock.now_ms(), clock.monotonic_s()) == (10, 0.0)
        with pytest.raises(ValueError, match="does not go back"):
            clock.advance(ms=-1)


@pytest.mark.anyio
class TestFakeEmbedder:
    async def test_shared_words_make_vectors_similar(self) -> None:
        """Vectors have length 1, are the same every time, and closer the more words are shared."""
        embedder = FakeEmbedder()
        vectors = await embedder.embed_passages(["green tea in the morning", "a train to Lisbon", "緑茶を飲む"])
        query = await embedder.embed_query("Green TEA?")
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
        assert int(np.argmax(vectors @ query)) == 0
        assert int(np.argmax(vectors @ await embedder.embed_query("緑茶"))) == 2
        assert (query == await FakeEmbedder().embed_query("green tea")).all()
        assert (embedder.queries, embedder.passages, vectors.dtype) == (2, 3, np.float32)

    async def test_nothing_is_similar_to_nothing(self) -> None:
        """An empty text is the zero vector; no texts are no rows."""
        embedder = FakeEmbedder(dims=8)
        assert not (await embedder.embed_query(" ")).any()
        assert (await embedder.embed_passages([])).shape == (0, 8)

    async def test_it_fails_and_waits_as_told(self) -> None:
        """A test decides when calls fail, and when they go on."""
        embedder = FakeEmbedder(hold=anyio.Event())
        with anyio.move_on_after(0) as gave_up:
            await embedder.warm()
        assert gave_up.cancelled_caught
        assert embedder.hold is not None
        embedder.hold.set()
        await embedder.warm()
        embedder.error = EmbedderError("no")
        with pytest.raises(EmbedderError, match="no"):
            await embedder.embed_query("a")
        await embedder.aclose()
        assert embedder.closed
