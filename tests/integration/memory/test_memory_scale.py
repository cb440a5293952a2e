"""Search over tens of thousands of messages: what is looked through is bounded, and filters hold before scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reverie.memory.candidates import RANKED_ROWS_MAX
from reverie.testing import FakeEmbedder
from reverie.testing.fake_transcripts import FakeTranscripts
from reverie.types import LoggedMessage

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio

MESSAGES = 26_000
PER_SESSION = 1_000


def many(agents: tuple[str, ...] = ("main",)) -> FakeTranscripts:
    """Messages that all hold one word, every thirteenth another, and each one of its own."""
    log = FakeTranscripts()
    for number in range(MESSAGES):
        text = f"walrus tusk{number}" + (" harbour" if number % 13 == 0 else "")
        session, line = divmod(number, PER_SESSION)
        agent = agents[session % len(agents)]
        log.messages.append(
            LoggedMessage(
                number + 1, f"s{session}", agent, line + 1, "user", text, "", "", number * 60_000, "import", "untrusted"
            )
        )
    return log


async def test_words_that_stand_everywhere(open_index: OpenIndex) -> None:
    """The newest places are looked through, and the answer says so; with a rarer word there is nothing to say."""
    async with open_index(embedder=None, transcripts=many()) as memory:
        await memory.index.follow_transcripts()
        common = await memory.search("walrus", limit=50)
        assert common.partial
        assert common.reasons == (
            f"words: every one stands in too many places; looked through the newest {RANKED_ROWS_MAX:,} of them",
        )
        oldest = MESSAGES - RANKED_ROWS_MAX
        assert all(int(hit.text.split("tusk")[1].split()[0]) >= oldest for hit in common.hits)
        rare = await memory.search("walrus tusk7", limit=3)
        assert (rare.hits[0].citation, rare.partial) == ("sessions/s0#L8", False)


async def test_filters_hold_before_scores(open_index: OpenIndex) -> None:
    """Another agent's messages, other paths and what is in view are never among the hits, however well they match."""
    async with open_index(embedder=None, transcripts=many(("main", "cook")), agents=("main", "cook")) as memory:
        await memory.index.follow_transcripts()
        own = await memory.search("harbour", limit=100)
        assert len(own.hits) == 100
        assert {int(hit.path.removeprefix("sessions/s")) % 2 for hit in own.hits} == {0}
        below = await memory.search("harbour", limit=100, path_prefix="sessions/s24")
        assert {hit.path for hit in below.hits} == {"sessions/s24"}
        unseen = await memory.search("harbour", limit=100, path_prefix="sessions/s24", exclude_session=("s24", 500))
        assert len(unseen.hits) > 50
        assert max(hit.start_line for hit in unseen.hits) < 500


async def test_the_same_answer_after_a_restart(open_index: OpenIndex) -> None:
    """Vectors that were added one batch at a time and vectors that were loaded at once rank the same."""
    log = many()
    questions = [f"walrus harbour tusk{number}" for number in range(0, MESSAGES, 2_600)]

    async def answers(memory: Any) -> list[list[tuple[str, float]]]:
        return [[(hit.citation, hit.score) for hit in (await memory.search(text)).hits] for text in questions]

    async with open_index(embedder=FakeEmbedder(16), transcripts=log, cache_entries_max=0) as memory:
        await memory.index.settle()
        before = await answers(memory)
        assert memory.index.statistics().vectors == MESSAGES
    async with open_index(embedder=FakeEmbedder(16), transcripts=log, cache_entries_max=0) as memory:
        await memory.index.settle()
        assert await answers(memory) == before
