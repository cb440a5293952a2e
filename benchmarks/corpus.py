"""Made-up conversations of any size whose words are spread as in a natural language, and an embedder to go with them.

A vocabulary of 120,000 words by Zipf's law, its first places taken by English function words, gives messages of 8 to
80 words. A topic lasts for ten messages and decides a fifth of their words. The embedder adds up a random direction for
each word, so texts that share words are near one another. The same seed gives the same corpus.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from reverie.llm.embeddings import EmbedderIdentity
from reverie.types import LoggedMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from reverie.llm.embeddings import Embedder
    from reverie.types import Provenance

VOCABULARY = 120_000
TOPICS = 2_000
TOPIC_WORDS = 60
MESSAGES_PER_SESSION = 250
FIRST_MS = 1_700_000_000_000
BLOCK = 2_000
DIMS = 512

_WRITTEN = """
the of and to a in is it you that he was for on are with as i his they be at one have this from or had by but what
some we can out other were all there when up use your how said an each she which do their time if will way about
many then them would like so these her long make thing see him two has look more day could go come did my no most
who over know than call first people may down been now find any new work part take get place made where after back
little only round man year came show every good me give our under name very through just form much great think say
help low line before turn cause same mean differ move right boy old too does tell sentence set three want
"""
_FUNCTION_WORDS = frozenset(_WRITTEN.split())
_SYLLABLES = [c + v for c in "bcdfghjklmnprstvwz" for v in ("a", "e", "i", "o", "u", "ai", "or", "en")]


class Corpus:
    """Messages 1 to `size`; also a transcript log, as the memory index follows one."""

    def __init__(self, size: int, seed: int = 7) -> None:
        self.size = size
        self._seed = seed
        self._words: NDArray[np.str_] = np.array(_vocabulary())
        weights = 1 / (np.arange(1, VOCABULARY + 1) + 2.7) ** 1.05
        self._cumulative = np.cumsum(weights / weights.sum())
        self._topics = np.random.default_rng(seed).integers(200, VOCABULARY, (TOPICS, TOPIC_WORDS))
        self._held: tuple[int, list[str]] = (0, [])

    async def messages_after(self, position: int, limit: int) -> list[LoggedMessage]:
        """The next messages, made on a worker thread."""
        return await asyncio.to_thread(lambda: list(self._messages(position + 1, min(position + limit, self.size))))

    async def read_lines(self, session_id: str, start: int, count: int) -> list[LoggedMessage]:
        """Messages of one session."""
        first = int(session_id.removeprefix("session-")) * MESSAGES_PER_SESSION + start
        return list(self._messages(first, min(first + count - 1, self.size)))

    async def whose_words(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Provenance]:
        """A stranger's, all of them."""
        return dict.fromkeys(places, "untrusted")

    async def last_position(self) -> int:
        """The newest message."""
        return self.size

    def question(self, number: int) -> tuple[str, str]:
        """Five to twelve words of one message, in order; and that message's path and line as a citation."""
        rng = np.random.default_rng((self._seed, number, 2))
        position = int(rng.integers(1, self.size + 1))
        words = self._text(position).split()
        kept: list[int] = sorted(rng.permutation(len(words))[: int(rng.integers(5, 13))].tolist())
        session, line = divmod(position - 1, MESSAGES_PER_SESSION)
        asked = [words[i] for i in kept]
        return f"what about {' '.join(asked)}?", f"sessions/session-{session:06d}#L{line + 1}"

    def _messages(self, first: int, last: int) -> Iterator[LoggedMessage]:
        for position in range(first, last + 1):
            session, number = divmod(position - 1, MESSAGES_PER_SESSION)
            yield LoggedMessage(
                position=position,
                session_id=f"session-{session:06d}",
                agent="main",
                seq=number + 1,
                role="user" if position % 2 else "assistant",
                text=self._text(position),
                speaker="",
                said_on="",
                created_at_ms=FIRST_MS + position * 60_000,
                origin="import",
                provenance="untrusted",
            )

    def _text(self, position: int) -> str:
        block, offset = divmod(position - 1, BLOCK)
        if self._held[0] != block + 1:
            self._held = (block + 1, self._texts(block))
        return self._held[1][offset]

    def _texts(self, block: int) -> list[str]:
        rng = np.random.default_rng((self._seed, block))
        lengths = rng.integers(8, 81, BLOCK)
        common = np.searchsorted(self._cumulative, rng.random(int(lengths.sum())))
        topics = np.repeat(np.repeat(rng.integers(0, TOPICS, BLOCK // 10), 10), lengths)
        topical = self._topics[topics, rng.integers(0, TOPIC_WORDS, len(topics))]
        chosen = self._words[np.where(rng.random(len(topics)) < 0.2, topical, common)]
        ends = np.cumsum(lengths)
        return [" ".join(chosen[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


class SignEmbedder:
    """Every word a random direction of +1 and -1; a text is their sum, without function words.

    With `beside`, a real embedder embeds each question too, for the time that takes; its vector is dropped.
    """

    identity = EmbedderIdentity(provider="benchmark", model="signs", version="1", dims=DIMS)

    def __init__(self, beside: Embedder | None = None) -> None:
        self._beside = beside

    async def warm(self) -> None:
        """Load the real embedder, if there is one."""
        if self._beside is not None:
            await self._beside.warm()

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question."""
        if self._beside is not None:
            await self._beside.embed_query(text)
        return _signs(text)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts."""
        return await asyncio.to_thread(lambda: np.stack([_signs(text) for text in texts]))

    async def aclose(self) -> None:
        """Close the real embedder."""
        if self._beside is not None:
            await self._beside.aclose()


def _signs(text: str) -> NDArray[np.float32]:
    bits = b"".join(_word_bits(word) for word in text.rstrip("?").split() if word not in _FUNCTION_WORDS)
    total = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(-1, DIMS).astype(np.float32).sum(axis=0)
    vector = 2 * total - len(bits) * 8 / DIMS
    length = np.linalg.norm(vector)
    return vector / length if length else vector


@lru_cache(maxsize=20_000)
def _word_bits(word: str) -> bytes:
    return hashlib.blake2b(word.encode(), digest_size=DIMS // 8).digest()


def _vocabulary() -> list[str]:
    rng = np.random.default_rng(1)
    words: dict[str, None] = dict.fromkeys(_WRITTEN.split())
    while len(words) < VOCABULARY:
        for row in rng.integers(0, len(_SYLLABLES), (VOCABULARY, 4)):
            parts: list[int] = row.tolist()
            words["".join(_SYLLABLES[part] for part in parts[: 2 + parts[0] % 3])] = None
    return list(words)[:VOCABULARY]
