"""Rules about what a message has to do with what was said before it."""

from __future__ import annotations

import pytest

from reverie.learning.episodes import intent
from reverie.learning.episodes.relation import DEFAULT, LOOKED_AT_CHARS, Asked, Verdict, classify, folded, topic_words
from tests.unit.learning.hostile import PIECES, grows_evenly

HOUR_MS = 3_600_000
BEFORE = "Compile the quarterly report about coffee"
REPLY = (
    "The quarterly coffee report lists twelve roasters, their prices per kilo, and which of them delivered late "
    "last winter."
)


def said(text: str, gap_ms: int | None = 0, before: str = BEFORE, reply: str = REPLY) -> Verdict:
    return classify(Asked(text, before, reply, gap_ms))


@pytest.mark.parametrize(
    ("text", "relation", "confidence", "signal"),
    [
        # r1, corrections
        ("Wrong, the prices are in euros", "revision", 0.85, "r1"),
        ("Incorrect. The coffee is from Peru.", "revision", 0.85, "r1"),
        ("Not quite, the report needs totals", "revision", 0.85, "r1"),
        ("No, that's wrong", "revision", 0.85, "r1"),
        ("No, that\u2019s wrong", "revision", 0.85, "r1"),
        ("That isn't right: use kilos", "revision", 0.85, "r1"),
        ("redo the coffee table", "revision", 0.85, "r1"),
        ("ok, try again with the prices", "revision", 0.85, "r1"),
        ("不对,价格是欧元", "revision", 0.85, "r1"),
        ("错了", "revision", 0.85, "r1"),
        ("重新做一份报告", "revision", 0.85, "r1"),
        ("换成欧元", "revision", 0.85, "r1"),
        # r2, a quotation
        (
            "You say the quarterly coffee report lists twelve roasters, their prices per kilo: which currency?",
            "revision", 0.75, "r2",
        ),
        # r3, a pronoun at the start
        ("那价格呢", "follow_up", 0.85, "r3"),
        ("这个报告再短一点", "follow_up", 0.85, "r3"),
        ("它有多少页", "follow_up", 0.85, "r3"),
        ("还有别的吗", "follow_up", 0.85, "r3"),
        ("哪一家最便宜", "follow_up", 0.85, "r3"),
        ("It needs a title", "follow_up", 0.85, "r3_en"),
        ("That's great, thanks", "follow_up", 0.85, "r3_en"),
        ("These look odd", "follow_up", 0.85, "r3_en"),
        ("What about the winter?", "follow_up", 0.85, "r3_en"),
        ("Which one is the cheapest?", "follow_up", 0.85, "r3_en"),
        ("And the total?", "follow_up", 0.85, "r3_en"),
        # r4, words of going on
        ("Please also give the coffee totals", "follow_up", 0.80, "r4"),
        ("Show another similar report", "follow_up", 0.80, "r4"),
        ("Give me more of that coffee data", "follow_up", 0.80, "r4"),
        ("再帮我算一下总价", "follow_up", 0.80, "r4"),
        ("下一个是什么", "follow_up", 0.80, "r4"),
        # r5, a new task in so many words
        ("New task: water the plants", "new_task", 0.85, "r5"),
        ("This is a new topic. Who wrote Faust?", "new_task", 0.85, "r5"),
        ("Forget that. Who wrote Faust?", "new_task", 0.85, "r5"),
        ("Let's change the topic", "new_task", 0.85, "r5"),
        ("Moving on, who wrote Faust?", "new_task", 0.85, "r5"),
        ("Next task: the plants", "new_task", 0.85, "r5"),
        ("换个话题", "new_task", 0.85, "r5"),
        ("先放下,帮我查天气", "new_task", 0.85, "r5"),
        # r7, nothing in common
        ("Who wrote Faust?", "new_task", 0.55, "r7"),
        ("帮我查一下北京天气", "new_task", 0.55, "r7"),
    ],
)  # fmt: skip
def test_a_rule_tells(text: str, relation: str, confidence: float, signal: str) -> None:
    """Each rule has its relation and confidence, in both languages."""
    found = said(text)

    assert (found.relation, found.confidence, found.classified_by, found.signal) == (
        relation, confidence, "rule", signal,
    )  # fmt: skip
    assert found.decides == (confidence >= 0.85)


@pytest.mark.parametrize(
    "text",
    [
        "The coffee from Peru is not wrong in this report",
        "报告里的咖啡价格不对",
        "Put the word redo into the coffee report",
    ],
)
def test_a_correction_within_a_sentence_is_not_strong(text: str) -> None:
    """Only a correction at the start is one."""
    assert said(text).signal != "r1"


def test_a_long_message_that_begins_with_a_pronoun_is_not_a_follow_up_for_that() -> None:
    """Beyond sixty characters the opener says nothing."""
    assert (
        said("It is well known that coffee is traded by the bag, and that a bag is sixty kilos of it.").signal
        == "no_signal"
    )
    assert said("这" + "咖" * 60).signal != "r3"


def test_a_new_task_in_so_many_words_beats_everything_as_sure() -> None:
    """Of equally sure rules the explicit new task comes first, then the correction, then the opener."""
    assert said("This is a new task: count the bags").signal == "r5"
    assert said("那换个话题吧").signal == "r5"
    assert said("No, that's wrong, it is euros").signal == "r1"


def test_pauses_tell() -> None:
    """Beyond two hours it is a new task for sure; beyond half an hour it leans to one."""
    assert said("Give me the coffee totals", 2 * HOUR_MS) == Verdict("new_task", 0.6, "rule", "r6")
    assert said("It needs a title", 2 * HOUR_MS + 1) == Verdict("new_task", 0.9, "rule", "hard_gap")
    assert said("It needs a title", 2 * HOUR_MS + 1).decides
    assert said("Give me the coffee totals", HOUR_MS // 2) == DEFAULT
    assert said("It needs a title", HOUR_MS).signal == "r3_en"


def test_a_correction_is_one_after_any_pause() -> None:
    """A sure correction is looked for before the pause; what only may be one, or a follow-up, is not."""
    assert said("No, that's wrong", 9 * HOUR_MS) == Verdict("revision", 0.85, "rule", "r1")
    assert said("No, that's wrong. New task: the plants", 9 * HOUR_MS).signal == "hard_gap"
    assert said(f"You say: {REPLY}", 9 * HOUR_MS).signal == "hard_gap"


@pytest.mark.parametrize("hard_gap_ms", [24 * HOUR_MS, None])
def test_where_messages_are_merged_over_longer_pauses_a_pause_tells_less(hard_gap_ms: int | None) -> None:
    """Within the pause over which messages are merged the other rules tell; a pause of half an hour still leans."""

    def after_three_hours(text: str) -> str:
        return classify(Asked(text, BEFORE, REPLY, 3 * HOUR_MS), hard_gap_ms).signal

    assert after_three_hours("And what about the table?") == "r3_en"
    assert after_three_hours("Give me the coffee totals") == "r6"


def test_the_first_message_and_an_empty_one() -> None:
    """Without anything before it is a new task; without words nothing can be said. Neither asks a model."""
    assert said("hello", before="") == Verdict("new_task", 0.75, "rule", "no_previous")
    assert said("  ") == Verdict("unknown", 0.5, "rule", "empty")
    assert said("hello", before="").decides
    assert said("  ").decides


def test_nothing_to_go_by_is_a_follow_up_without_confidence() -> None:
    """Where no rule holds the default is a follow-up that decides nothing."""
    assert said("The coffee report deserves a table") == DEFAULT == Verdict("follow_up", 0.5, "default", "no_signal")
    assert not DEFAULT.decides
    assert said("ok").signal == "no_signal"


def test_a_short_quotation_is_none() -> None:
    """Fewer than eight words of the reply in a row are no quotation."""
    assert said("coffee report lists twelve roasters their prices in what currency per bag").signal == "no_signal"


def test_topic_words() -> None:
    """Small words are left out; of Chinese each two characters count."""
    assert topic_words("Please show the coffee prices of 2024") == {"coffee", "prices"}
    assert topic_words("咖啡价格") == {"咖啡", "啡价", "价格"}


@pytest.mark.parametrize("piece", PIECES)
def test_no_text_takes_long(piece: str) -> None:
    """Rules take twice as long for twice as much text, whatever it is: they run while others wait to write."""
    assert grows_evenly(said, piece, LOOKED_AT_CHARS)
    assert grows_evenly(intent.classify, piece, LOOKED_AT_CHARS)


def test_spaces_are_looked_at_once() -> None:
    """However wide a gap is, and however many lines are empty, the words around it are told the same."""
    assert folded(" No,\u00a0 \tthat \r\n\n  is\u2019t \u2028 it ") == "no, that\nis't it"
    assert said("ok.   Thanks!\n\n\n\nLet's   change  the topic").signal == "r5"
    assert said("Well, ok,  no,   that is  wrong").signal == "r1"
