"""Transcripts become memory: followed by position, once, in order, with their places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import EmbedderError, MemoryPathError
from reverie.memory import store
from reverie.testing import FakeEmbedder
from reverie.testing.fake_transcripts import FakeTranscripts

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio


async def test_a_message_is_found_as_a_line_of_its_session(open_index: OpenIndex) -> None:
    """A message is cited by session and number, with who said it and when."""
    log = FakeTranscripts()
    async with open_index(transcripts=log) as memory:
        log.say("hello there")
        log.say("I adopted a walrus", speaker="Caroline", said_on="8 May, 2023", created_at_ms=1_683_500_000_000)
        log.say("How lovely, a walrus!", role="assistant", created_at_ms=1_683_500_060_000)
        assert await memory.index.follow_transcripts() == 3
        hits = {hit.citation: hit for hit in (await memory.search("walrus")).hits}
        said = hits["sessions/s1#L2"]
        assert (said.speaker, said.when, said.provenance, said.session_id) == ("Caroline", "8 May, 2023", "owner", "s1")
        answered = hits["sessions/s1#L3"]
        assert (answered.speaker, answered.when, answered.provenance) == ("assistant", "2023-05-07 22:54", "agent")


async def test_following_twice_indexes_once(open_index: OpenIndex) -> None:
    """The position is remembered with the messages, also over a restart."""
    log = FakeTranscripts()
    for number in range(450):
        log.say(f"message number{number}")
    async with open_index(transcripts=log) as memory:
        assert await memory.index.follow_transcripts() == 450
        assert await memory.index.follow_transcripts() == 0
    log.say("one more walrus")
    async with open_index(transcripts=log) as memory:
        assert await memory.index.follow_transcripts() == 1
        assert await memory.count("read_tally") == 451
        assert await memory.cited("walrus", limit=1) == ["sessions/s1#L451"]
        assert memory.index.statistics().log_position == 451


async def test_a_batch_enters_whole_or_not_at_all(open_index: OpenIndex) -> None:
    """A failure between the chunks and the position undoes both, and the next run repeats the batch."""
    log = FakeTranscripts()
    async with open_index(transcripts=log) as memory:
        log.say("walrus")

        def work(tx: Any) -> None:
            batch = [store.TranscriptPassages("main", "s1", ())]
            store.write_transcripts(tx, batch, start=0, end=1, now_ms=0)
            raise RuntimeError("killed here")

        with pytest.raises(RuntimeError, match="killed here"):
            await memory.index_db.write(work)
        assert await memory.index.follow_transcripts() == 1
        assert await memory.cited("walrus") == ["sessions/s1#L1"]


async def test_another_run_that_was_faster_is_respected(open_index: OpenIndex) -> None:
    """When the position has moved meanwhile, nothing is indexed a second time."""
    log = FakeTranscripts()
    async with open_index(transcripts=log) as first, open_index(transcripts=log) as second:
        log.say("walrus one")
        assert await first.index.follow_transcripts() == 1
        log.say("walrus two")
        assert await second.index.follow_transcripts() == 1
        assert await second.count("read_tally") == 2
        assert await second.cited("walrus two", limit=1) == ["sessions/s1#L2"]


async def test_tool_results_and_blank_messages_are_not_indexed(open_index: OpenIndex) -> None:
    """They keep their numbers, but are nobody's memory."""
    log = FakeTranscripts()
    async with open_index(transcripts=log) as memory:
        log.say("walrus question")
        log.say("walrus tool output", role="tool")
        log.say("  ", role="assistant")
        log.say("an answer", role="assistant")
        assert await memory.index.follow_transcripts() == 4
        assert await memory.count("read_tally") == 2
        assert await memory.cited("walrus") == ["sessions/s1#L1", "sessions/s1#L4"]


async def test_a_long_message_is_one_hit(open_index: OpenIndex) -> None:
    """Its parts are searched one by one and shown as one place, with the part that matches."""
    log = FakeTranscripts()
    async with open_index(transcripts=log, embedder=FakeEmbedder()) as memory:
        log.say("filler sentence here. " * 300 + "the walrus is called Bob. " + "more filler words. " * 300)
        log.say("something else")
        await memory.index.settle()
        hits = [hit for hit in (await memory.search("walrus called Bob")).hits if hit.start_line == 1]
        assert [hit.citation for hit in hits] == ["sessions/s1#L1"]
        assert "walrus is called Bob" in hits[0].text
        assert len(hits[0].text) <= 1_600


async def test_enormous_messages_are_taken_a_few_at_a_time(open_index: OpenIndex) -> None:
    """A batch is bounded by its text, too, and nothing is left out by that."""
    log = FakeTranscripts()
    async with open_index(transcripts=log) as memory:
        for number in range(5):
            log.say(f"walrus{number} " + "word " * 250_000)
        log.say("short zebra")
        writes = memory.index_db.statistics().writes
        assert await memory.index.follow_transcripts() == 6
        assert memory.index_db.statistics().writes - writes == 5
        assert set(await memory.cited("walrus4 zebra", limit=2)) == {"sessions/s1#L5", "sessions/s1#L6"}


async def test_vectors_follow_the_words(open_index: OpenIndex) -> None:
    """Words are found at once; the backlog then embeds each distinct text once, and reports what it did."""
    log = FakeTranscripts()
    embedder = FakeEmbedder()
    async with open_index(transcripts=log, embedder=embedder) as memory:
        for number in range(10):
            log.say("thanks!" if number % 2 else f"message {number}")
        await memory.index.follow_transcripts()
        assert memory.index.statistics().vectors == 0
        assert await memory.index.embed_backlog(4) == 4
        assert await memory.index.embed_backlog() == 6
        assert await memory.index.embed_backlog() == 0
        assert embedder.passages == 6
        assert memory.index.statistics().vectors == 10


async def test_a_failing_embedder_loses_nothing(open_index: OpenIndex) -> None:
    """Chunks go on waiting, and are embedded when the embedder is back."""
    log = FakeTranscripts()
    embedder = FakeEmbedder(error=EmbedderError("quota"))
    async with open_index(transcripts=log, embedder=embedder) as memory:
        log.say("walrus")
        await memory.index.follow_transcripts()
        with pytest.raises(EmbedderError, match="quota"):
            await memory.index.embed_backlog()
        assert memory.index.statistics().embedder_failure == "quota"
        embedder.error = None
        memory.clock.advance(seconds=1)
        assert await memory.index.embed_backlog() == 1


async def test_vectors_of_another_process_are_taken_over(open_index: OpenIndex) -> None:
    """What a second process embeds in the same index is searched by meaning here, too."""
    log = FakeTranscripts()
    async with (
        open_index(transcripts=log, embedder=FakeEmbedder()) as server,
        open_index(transcripts=log, embedder=FakeEmbedder()) as importer,
    ):
        await server.index.settle()
        log.say("walrus")
        await importer.index.settle()
        assert await server.index.embed_backlog() == 0
        assert server.index.statistics().vectors == 1


async def test_a_transcript_is_read_by_its_lines(open_index: OpenIndex) -> None:
    """Messages stand one per line with their speaker; tool results are left out, other agents' sessions are empty."""
    log = FakeTranscripts()
    async with open_index(transcripts=log, agents=("main", "work")) as memory:
        log.say("line one\nline two")
        log.say("secret output", role="tool")
        log.say("an\n answer", role="assistant")
        log.say("Caroline: hi", speaker="Caroline")
        excerpt = await memory.index.get("main", "sessions/s1")
        assert excerpt.text == (
            "User: line one line two\nTool: (result of 13 characters left out)\nAssistant: an answer\nCaroline: hi"
        )
        assert (excerpt.start_line, excerpt.end_line, excerpt.cut) == (1, 4, False)
        part = await memory.index.get("main", "sessions/s1", 3, 1)
        assert (part.start_line, part.end_line, part.text) == (3, 3, "Assistant: an answer")
        assert (await memory.index.get("work", "sessions/s1")).text == ""
        assert (await memory.index.get("main", "sessions/none")).text == ""


async def test_a_file_is_read_by_its_lines(open_index: OpenIndex) -> None:
    """Lines are counted as in citations; what is missing is empty; what is too much is cut and says so."""
    async with open_index(file_bytes_max=200_000) as memory:
        memory.write("memory/a.md", "one\r\ntwo\r\nthree\r\n")
        whole = await memory.index.get("main", "memory/a.md")
        assert (whole.text, whole.start_line, whole.end_line, whole.cut) == ("one\ntwo\nthree", 1, 3, False)
        assert (await memory.index.get("main", "memory/a.md", 2, 1)).text == "two"
        assert (await memory.index.get("main", "memory/a.md", 0, 0)).text == "one"
        assert (await memory.index.get("main", "memory/a.md", 9)).text == ""
        assert (await memory.index.get("main", "memory/none.md")).text == ""
        memory.write("memory/long.md", "x\n" * 1_000)
        cut = await memory.index.get("main", "memory/long.md", 11)
        assert (cut.start_line, cut.end_line, cut.cut) == (11, 410, True)
        memory.write("memory/wide.md", "é" * 60_000)
        wide = await memory.index.get("main", "memory/wide.md")
        assert (len(wide.text.encode()), wide.cut) == (65_534, True)
        memory.write("memory/huge.md", "x" * 300_000)
        for path in ("../x.md", "/etc/passwd", "SOUL.md", "memory/huge.md"):
            with pytest.raises(MemoryPathError):
                await memory.index.get("main", path)
