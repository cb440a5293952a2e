"""The answer when no model is connected: what memory holds, quoted and cited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.llm.client import Completed, ModelEvent, ModelRequest, TextDelta
from reverie.llm.offline import NO_MODEL, NOTHING_FOUND, OfflineModel, snippet
from reverie.types import Message, SearchHit, Usage

NOTE = SearchHit(
    source="memory",
    path="MEMORY.md",
    start_line=3,
    end_line=7,
    text="## Tea\n\n- Anna drinks **green tea** in the morning.\n- Never coffee.",
    score=0.9,
)
SAID = SearchHit(
    source="sessions",
    path="sessions/s1",
    start_line=12,
    end_line=12,
    text="I moved to Lisbon in May.",
    score=0.8,
    when="2025-05-03",
    speaker="Anna",
)


async def answer(question: str, *recalled: SearchHit) -> list[ModelEvent]:
    """The events of an answer to a question for which these memories were recalled."""
    request = ModelRequest((Message("system", "Be kind."), Message("user", question)), found=recalled)
    return [event async for event in OfflineModel().respond(request)]


@pytest.mark.anyio
async def test_it_quotes_what_was_recalled() -> None:
    """It says that no model is connected and how to connect one, then quotes with citation, speaker and date."""
    events = await answer("What does Anna drink?", NOTE, SAID)
    assert events == [
        TextDelta(
            "No model is connected, so I can only quote what I remember. "
            "Connect one with `reverie serve --upstream URL --model NAME`.\n\nFrom memory:\n"
        ),
        TextDelta("\n- “Anna drinks green tea in the morning. Never coffee.” [MEMORY.md#L3-L7]"),
        TextDelta("\n- “I moved to Lisbon in May.” [sessions/s1#L12] (Anna, 2025-05-03)"),
        Completed("stop", (), Usage(), "offline", only_quotes=True),
    ]


@pytest.mark.anyio
async def test_nothing_in_memory() -> None:
    """Without memories it says so."""
    assert await answer("Hello?") == [
        TextDelta(f"{NO_MODEL}\n\n"),
        TextDelta(NOTHING_FOUND),
        Completed("stop", (), Usage(), "offline", only_quotes=True),
    ]


@pytest.mark.anyio
async def test_five_memories_at_most() -> None:
    """Of many memories the five best are quoted."""
    assert len(await answer("Tea?", *[NOTE] * 9)) == 1 + 5 + 1


@pytest.mark.anyio
async def test_the_question_is_what_follows_the_quoted_memories() -> None:
    """A prompt's last message brings the memories before the user's own words; only those choose the sentence."""
    long = SearchHit("memory", "a.md", 1, 9, "Lisbon is warm. " + "Filler here. " * 40 + "Tea is green.", 1.0)
    events = await answer("<recalled_memory>\nLisbon Lisbon\n</recalled_memory>\n\nWhat about tea?", long)
    assert isinstance(events[1], TextDelta)
    assert "Tea is green." in events[1].text
    assert "Lisbon" not in events[1].text


@pytest.mark.anyio
async def test_it_needs_no_user_message() -> None:
    """A prompt without a user's message is answered, too."""
    events = [event async for event in OfflineModel().respond(ModelRequest((), found=(SAID,)))]
    assert len(events) == 3


def test_a_snippet_is_made_of_whole_sentences_around_the_match() -> None:
    """Of a long text the sentences that share most words with the question are taken, with what follows."""
    text = "One fish. " * 30 + "The cat sat on the mat.\nIt purred. " + "Two fish. " * 30
    found = snippet(text, "Where does the cat sit? On which mat?", 60)
    assert found == "… The cat sat on the mat. It purred. Two fish. Two fish. …"


def test_a_long_sentence_is_cut_between_words() -> None:
    """A sentence beyond the bound is cut around the word asked for, and says so."""
    text = "alpha " * 60 + "needle " + "omega " * 60
    found = snippet(text, "needle?", 60)
    assert found.startswith("… alpha")
    assert found.endswith("omega …")
    assert "needle" in found


def test_snippets_of_other_scripts() -> None:
    """Text without spaces is matched, too."""
    text = "今日は雨です。" * 30 + "アンナは緑茶を飲みます。" + "明日は晴れです。" * 30
    assert "緑茶" in snippet(text, "緑茶は誰が飲む？", 60)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ""),
        ("  \n", ""),
        ("## Tea", "Tea"),
        ("## Tea\n\n- green\n- **black**\n", "green black"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "| a | b | | 1 | 2 |"),
    ],
)
def test_marks_of_markdown_are_left_out(text: str, found: str) -> None:
    """A quotation is plain text; a heading is quoted only when nothing stands under it."""
    assert snippet(text, "what?") == found


@given(st.text(max_size=2_000), st.text(max_size=200))
def test_any_snippet_is_one_bounded_line(text: str, question: str) -> None:
    """Whatever is remembered, a quotation stays on one line and near its bound."""
    found = snippet(text, question)
    assert len(found) <= 300 + len("…  …")
    assert "\n" not in found
