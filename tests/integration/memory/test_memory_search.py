"""Search: words and meaning together, filters, deadlines, failures, languages, and the same answer after a restart."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.errors import EmbedderError
from reverie.testing import FakeEmbedder
from reverie.testing.fake_transcripts import FakeTranscripts

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("我们讨论了支付系统的问题", "支付"),
        ("我们讨论了支付系统的问题", "支付系统"),
        ("小黑是一只猫", "猫"),
        ("京都の寺に行きました", "寺"),
        ("新しいキーボードを買った", "キーボード"),
        ("신용카드를 잃어버렸다", "카드"),
        ("Zu\u0308rich ist scho\u0308n", "Zürich"),
        ("Zürich ist schön", "zurich"),
        ("ＡＰＩキー", "API"),
        ("peanut allergies", "allergy peanuts"),
        ('he said "hello (world)"', 'AND "hello (world'),
        ("a path /etc/hosts:80", "/etc/hosts:80"),
        ("max_retry_count = 3", "max_retry_count"),
        ("walk with 🐶 today", "🐶"),
        ("C'est la façade", "facade"),
    ],
)
async def test_words_are_found_in_any_script(open_index: OpenIndex, text: str, question: str) -> None:
    """One- and two-character words, accents in either form, full-width letters, symbols: found as written."""
    async with open_index() as memory:
        memory.write("MEMORY.md", text + "\n")
        await memory.index.sync_workspace("main")
        assert await memory.cited(question) == ["MEMORY.md#L1"]


@pytest.mark.parametrize(
    "question", ["", "   ", "?!", '"', "*", "NEAR(", "a" * 100_000, "word " * 20_000, "\ud800", "😀😀"]
)
async def test_any_question_is_answered(open_index: OpenIndex, question: str) -> None:
    """Syntax, length and broken characters never make a search fail."""
    async with open_index(embedder=FakeEmbedder()) as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        assert (await memory.search(question)).reasons == ()


async def test_meaning_finds_what_words_do_not(open_index: OpenIndex) -> None:
    """Without a common word the vectors answer, and the hit says so."""
    embedder = FakeEmbedder()
    async with open_index(embedder=embedder) as memory:
        for number in range(20):
            memory.write(f"memory/{number}.md", f"filler number{number} {'x' * number}\n")
        memory.write("MEMORY.md", "tigers sleep\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        result = await memory.search("tigers")
        assert result.hits[0].citation == "MEMORY.md#L1"
        assert set(result.hits[0].parts) >= {"lexical", "semantic", "similarity", "context", "fused"}
        assert "words tigers" in result.hits[0].reason
        assert "meaning" in result.hits[0].reason
        assert result.weights["lexical"] == 1.0
        assert result.weights_reason.startswith("one clear match of words")


async def test_an_embedder_that_fails_leaves_full_text(open_index: OpenIndex) -> None:
    """The answer is partial, says why, and the failure shows in the statistics until it is over."""
    embedder = FakeEmbedder()
    async with open_index(embedder=embedder) as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        embedder.error = EmbedderError("no connection")
        result = await memory.search("Luna")
        assert [hit.citation for hit in result.hits] == ["MEMORY.md#L1"]
        assert (result.partial, result.reasons) == (True, ("semantic: embedder failed: no connection",))
        assert memory.index.statistics().embedder_failure == "no connection"
        assert memory.index.statistics().embedder_pause_s == 1.0
        embedder.error = None
        memory.clock.advance(seconds=1)
        assert "asked again now, beside this" in (await memory.search("Luna")).reasons[0]
        while memory.index.statistics().embedder_failure:
            await anyio.sleep(0.001)
        assert (await memory.search("Luna")).reasons == ()


async def test_an_embedder_that_is_slow_is_not_waited_for(open_index: OpenIndex) -> None:
    """At the deadline the words are answered alone."""
    embedder = FakeEmbedder()
    async with open_index(embedder=embedder) as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        embedder.hold = anyio.Event()
        result = await memory.search("Luna", deadline_ms=100)
        assert [hit.citation for hit in result.hits] == ["MEMORY.md#L1"]
        assert (result.partial, result.reasons) == (True, ("semantic: not ready within 100 ms",))


async def test_semantic_can_be_left_out(open_index: OpenIndex) -> None:
    """A search by words alone asks the embedder nothing, and is not partial."""
    embedder = FakeEmbedder()
    async with open_index(embedder=embedder) as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        result = await memory.search("Luna", semantic=False)
        assert (len(result.hits), result.partial, embedder.queries) == (1, False, 0)


async def test_filters_hold(open_index: OpenIndex) -> None:
    """Source, path and the part of a conversation the asker sees: nothing outside them comes back."""
    embedder = FakeEmbedder()
    log = FakeTranscripts()
    async with open_index(embedder=embedder, transcripts=log) as memory:
        memory.write("MEMORY.md", "walrus note\n")
        memory.write("memory/sea/a.md", "walrus in the sea\n")
        for text in ("walrus one", "walrus two", "walrus three", "walrus four"):
            log.say(text)
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        assert {h.source for h in (await memory.search("walrus", sources=("memory",))).hits} == {"memory"}
        assert {h.source for h in (await memory.search("walrus", sources=("sessions",))).hits} == {"sessions"}
        assert await memory.cited("walrus", sources=()) == []
        assert await memory.cited("walrus", path_prefix="memory/sea/") == ["memory/sea/a.md#L1"]
        assert await memory.cited("walrus", path_prefix="memory/none") == []
        seen = set(await memory.cited("walrus", sources=("sessions",), exclude_session=("s1", 3)))
        assert seen == {"sessions/s1#L1", "sessions/s1#L2"}
        assert len(await memory.cited("walrus", limit=3)) == 3


async def test_scores_are_sorted_and_bounded(open_index: OpenIndex) -> None:
    """Scores lie between 0 and 1, descend, and a minimum cuts off the tail."""
    async with open_index(embedder=FakeEmbedder()) as memory:
        for number in range(12):
            memory.write(f"memory/{number:02}.md", f"cat {'and dog ' * (number % 3)} number{number}\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        hits = (await memory.search("cat dog")).hits
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score <= 1 for score in scores)
        limit = scores[3]
        assert [h.score for h in (await memory.search("cat dog", min_score=limit)).hits] == [
            s for s in scores if s >= limit
        ]


async def test_a_question_about_nothing_known_scores_low(open_index: OpenIndex) -> None:
    """The best hit of a question that memory cannot answer is published with little confidence."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n\nThe trip to Kyoto was in May.\n")
        await memory.index.sync_workspace("main")
        known = (await memory.search("When was the trip to Kyoto?")).hits[0].score
        unknown = (await memory.search("Which quantum chromodynamics seminar trip impressed professors?")).hits[0].score
        assert known > 0.9
        assert unknown < 0.3


async def test_equal_texts_come_back_once(open_index: OpenIndex) -> None:
    """The same sentence in many places is one hit."""
    async with open_index() as memory:
        for number in range(5):
            memory.write(f"memory/{number}.md", "the walrus sings\n")
        await memory.index.sync_workspace("main")
        assert await memory.cited("walrus") == ["memory/0.md#L1"]


async def test_neighbours_of_the_words_are_hits_too(open_index: OpenIndex) -> None:
    """The answer after the question is found through the question's words."""
    log = FakeTranscripts()
    async with open_index(transcripts=log) as memory:
        for number in range(30):
            log.say(f"small talk number{number}", session_id="other")
        log.say("What is the name of your walrus?")
        log.say("He is called Bob.", role="assistant")
        await memory.index.follow_transcripts()
        hits = (await memory.search("walrus name")).hits
        assert [hit.citation for hit in hits] == ["sessions/s1#L1", "sessions/s1#L2"]
        assert hits[1].parts["lexical"] == 0
        assert hits[1].reason.startswith("neighbours")


async def test_the_answer_stands_before_the_question(open_index: OpenIndex) -> None:
    """A short message that asks passes its words to the next one and counts less itself; both say why."""
    log = FakeTranscripts()
    async with open_index(transcripts=log) as memory:
        log.say("What is the name of your walrus?", speaker="Ann")
        log.say("He is called Bob.", speaker="Ben")
        log.say("\u305d\u306e\u732b\u306e\u540d\u524d\u306f\uff1f", session_id="s2")
        await memory.index.follow_transcripts()
        hits = (await memory.search("walrus name")).hits
        assert [hit.citation for hit in hits] == ["sessions/s1#L2", "sessions/s1#L1"]
        assert hits[0].reason == "neighbours with name, walrus 1.00"
        assert hits[1].reason == "words walrus, name (1.00) + a question × 0.80"
        assert (await memory.search("\u732b\u306e\u540d\u524d")).hits[0].parts["question_factor"] == 0.8


async def test_memories_fade_if_they_are_told_to(open_index: OpenIndex) -> None:
    """With a half-life an old daily note gives way to a new one; a file without a date never does."""
    for half_life_days, first in ((0, "memory/2020-01-01.md#L1"), (30, "memory/2026-01-01.md#L1")):
        async with open_index(decay_half_life_days=half_life_days) as memory:
            memory.write("memory/2020-01-01.md", "the walrus sings, the walrus dances\n")
            memory.write("memory/2026-01-01.md", "one day the walrus will dance again, as it once did by the sea\n")
            memory.write("memory/pets.md", "a walrus\n")
            await memory.index.sync_workspace("main")
            hits = {hit.citation: hit for hit in (await memory.search("walrus sings")).hits}
            dated = [citation for citation in hits if "pets" not in citation]
            assert dated[0] == first
            assert hits["memory/pets.md#L1"].parts["fresh"] == 1
            assert ("its age" in hits[dated[-1]].reason) == (half_life_days > 0)


async def test_near_copies_give_way_if_they_are_told_to(open_index: OpenIndex) -> None:
    """Where few hits are wanted, maximal marginal relevance prefers another thing to the same thing again."""
    for mmr_lambda, found in ((1.0, "memory/1.md#L1"), (0.5, "memory/2.md#L1")):
        async with open_index(mmr_lambda=mmr_lambda) as memory:
            memory.write("memory/0.md", "the walrus sings in the morning\n")
            memory.write("memory/1.md", "the walrus sings in the morning!\n")
            memory.write(
                "memory/2.md", "Petra heard how a walrus sings while she was greasing the drum of the roaster\n"
            )
            memory.write("memory/3.md", "a walrus\n")
            await memory.index.sync_workspace("main")
            assert await memory.cited("walrus sings", limit=2) == ["memory/0.md#L1", found]


async def test_a_search_says_how_certain_it_is(open_index: OpenIndex) -> None:
    """What memory hardly knows is marked, and left out where a minimum is asked for."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n\nThe trip to Kyoto was in May.\n")
        await memory.index.sync_workspace("main")
        known = await memory.search("When was the trip to Kyoto?")
        assert known.certainty == known.hits[0].score == 1
        assert "uncertain" not in known.hits[0].reason
        question = "Which quantum chromodynamics seminar trip impressed professors?"
        unknown = await memory.search(question)
        assert 0 < unknown.certainty < 0.3
        assert unknown.hits[0].reason.endswith(", uncertain")
        assert (await memory.search(question, min_score=0.3)).hits == ()
        assert (await memory.search("xylophone")).certainty == 0


async def test_a_restart_gives_identical_results(open_index: OpenIndex) -> None:
    """The same question gives the same hits and scores from a fresh process."""
    log = FakeTranscripts()
    questions = ["number3 cats", "dog", "item", "what did we say about number17?"]
    results: list[Any] = []
    for _ in range(2):
        async with open_index(embedder=FakeEmbedder(), transcripts=log) as memory:
            if not log.messages:
                for number in range(150):
                    log.say(f"message number{number} about {'cats' if number % 2 else 'dogs'} item{number % 7}")
            memory.write("MEMORY.md", "# Items\n\nitem one\n\n# Cats\n\ncats everywhere\n")
            await memory.index.sync_workspace("main")
            await memory.index.settle()
            results.append([(await memory.search(question)).hits for question in questions])
    assert results[0] == results[1]


async def test_stored_vectors_load_in_the_background(open_index: OpenIndex) -> None:
    """After a restart vectors are read from disk, not embedded again."""
    for expected in (3, 0):
        embedder = FakeEmbedder()
        async with open_index(embedder=embedder) as memory:
            memory.write("MEMORY.md", "# A\n\napple\n\n# B\n\nbanana\n\n# C\n\ncherry\n")
            await memory.index.sync_workspace("main")
            await memory.index.settle()
            assert embedder.passages == expected
            statistics = memory.index.statistics()
            assert (statistics.vectors, statistics.vectors_state) == (3, "ready")


async def test_another_embedder_pauses_the_vectors(open_index: OpenIndex) -> None:
    """Vectors of two embedders never mix, nothing is embedded again unasked, and a rebuild is the way out."""
    async with open_index(embedder=FakeEmbedder(64)) as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
    other = FakeEmbedder(32)
    async with open_index(embedder=other) as memory:
        await memory.index.settle()
        statistics = memory.index.statistics()
        assert (statistics.vectors_state, other.passages) == ("paused", 0)
        result = await memory.search("Luna")
        assert len(result.hits) == 1
        assert result.reasons == (f"semantic: {statistics.vectors_reason}",)
        assert "reverie index --rebuild" in statistics.vectors_reason
        await memory.index.rebuild()
        await memory.index.settle()
        assert (memory.index.statistics().vectors_state, other.passages) == ("ready", 1)
        assert (await memory.search("Luna")).reasons == ()


async def test_no_query_reads_a_whole_table(open_index: OpenIndex) -> None:
    """Every statement of a search names a list or a limit: none is a scan of chunks or vectors."""
    statements: list[str] = []

    def trace(sql: str, _bindings: object) -> None:
        statements.append(sql)

    async with open_index(embedder=FakeEmbedder(), tracer=trace) as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        statements.clear()
        await memory.search("Luna cat")
        selects = [sql for sql in statements if sql.startswith("SELECT")]
        assert selects
        assert all("LIMIT" in sql or "json_each" in sql for sql in selects)


async def test_a_search_does_not_wait_for_loading_vectors(open_index: OpenIndex) -> None:
    """While stored vectors are still read after a start, words answer and the result says what is missing."""
    go_on = threading.Event()

    def hold_loading(sql: str, _bindings: object) -> None:
        if "FROM vectors v JOIN" in sql:
            go_on.wait(20)

    async with open_index(embedder=FakeEmbedder()) as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
    async with open_index(embedder=FakeEmbedder(), tracer=hold_loading) as memory:
        result = await memory.search("Luna")
        assert [hit.citation for hit in result.hits] == ["MEMORY.md#L1"]
        assert (result.partial, result.reasons) == (True, ("semantic: vectors still loading",))
        assert memory.index.statistics().vectors_state == "loading"
        go_on.set()
        await memory.index.settle()
        assert memory.index.statistics().vectors_state == "ready"
        assert (await memory.search("Luna")).reasons == ()
