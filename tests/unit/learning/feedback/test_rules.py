"""What a message says of the reply before it, by rules."""

from __future__ import annotations

import pytest

from reverie.learning.feedback.rules import TEXT_CHARS_MAX, UNKNOWN, FeedbackGuess, classify
from tests.unit.learning.hostile import PIECES, grows_evenly

REPLY = "I wrote the tests with unittest."


@pytest.mark.parametrize(
    ("text", "shape", "confidence", "polarity"),
    [
        ("I prefer short answers.", "preference", 0.8, "neutral"),
        ("I'd prefer a table", "preference", 0.8, "neutral"),
        ("我更喜欢简短的回答", "preference", 0.8, "neutral"),
        ("I'd rather see it as a list", "preference", 0.55, "neutral"),
        ("It would be better if you showed the numbers.", "preference", 0.55, "neutral"),
        ("最好能给出来源", "preference", 0.55, "neutral"),
        ("No, the port is 8377.", "correction", 0.75, "negative"),
        ("That's not what I asked", "correction", 0.75, "negative"),
        ("That’s wrong.", "correction", 0.75, "negative"),
        ("You got the date wrong", "correction", 0.75, "negative"),
        ("不对，端口是 8377", "correction", 0.75, "negative"),
        ("你理解错了", "correction", 0.75, "negative"),
        ("Actually the meeting is on Tuesday", "correction", 0.5, "negative"),
        ("You forgot the second table", "correction", 0.5, "negative"),
        ("我的意思是周二", "correction", 0.5, "negative"),
        ("Never commit to main.", "constraint", 0.7, "neutral"),
        ("You must not delete old notes", "constraint", 0.7, "neutral"),
        ("千万不要删除旧文件", "constraint", 0.7, "neutral"),
        ("必须先运行测试", "constraint", 0.7, "neutral"),
        ("This is useless", "negative", 0.75, "negative"),
        ("It still doesn't work", "negative", 0.75, "negative"),
        ("Didn't help.", "negative", 0.75, "negative"),
        ("I tried that, but it doesn't compile", "negative", 0.75, "negative"),
        ("It's still not working on my phone, can you find out why?", "negative", 0.75, "negative"),
        ("That's wrong, isn't it?", "correction", 0.75, "negative"),
        ("No, can you use the other table?", "correction", 0.75, "negative"),
        ("No, keep it short", "correction", 0.75, "negative"),
        ("太差了", "negative", 0.75, "negative"),
        ("还是不行", "negative", 0.75, "negative"),
        ("Perfect, thanks!", "positive", 0.75, "positive"),
        ("Thank you", "positive", 0.75, "positive"),
        ("That works", "positive", 0.75, "positive"),
        ("太好了，谢谢", "positive", 0.75, "positive"),
        ("解决了", "positive", 0.75, "positive"),
        ("I don't understand the second step", "confusion", 0.7, "negative"),
        ("What do you mean?", "confusion", 0.7, "negative"),
        ("看不懂", "confusion", 0.7, "negative"),
        ("From now on put the summary first", "instruction", 0.55, "neutral"),
        ("以后把总结放在前面", "instruction", 0.55, "neutral"),
        ("What is the capital of France?", "unknown", 0.3, "neutral"),
        ("写一个脚本", "unknown", 0.3, "neutral"),
        ("", "unknown", 0.3, "neutral"),
    ],
)
def test_each_shape_has_its_confidence(text: str, shape: str, confidence: float, polarity: str) -> None:
    """Eight shapes in two languages, hard and soft, each with its own confidence."""
    guess = classify(text, REPLY)
    assert (guess.shape, guess.confidence, guess.polarity) == (shape, confidence, polarity)


@pytest.mark.parametrize(
    ("text", "prefer", "avoid"),
    [
        ("Use pytest instead of unittest.", "pytest", "unittest"),
        ("use pyproject.toml rather than setup.py", "pyproject.toml", "setup.py"),
        ("Please don't use tabs, use four spaces", "four spaces", "tabs"),
        ("use spaces, not tabs", "spaces", "tabs"),
        ("Can you use spaces instead of tabs?", "spaces", "tabs"),
        ('Use "spaces" instead of "tabs"', "spaces", "tabs"),
        ("I prefer ruff over flake8 and black", "ruff", "flake8 and black"),
        ("Instead of a loop, use a comprehension!", "a comprehension", "a loop"),
        ("No. Use `uv` instead of `pip`", "`uv`", "`pip`"),
        ("用 pytest 代替 unittest", "pytest", "unittest"),
        ("请用表格而不是列表。", "表格", "列表"),
        ("不要用 tab，改用空格", "空格", "tab"),
        ("与其用循环，不如用推导式", "推导式", "循环"),
    ],
)
def test_a_pair_is_taken_apart(text: str, prefer: str, avoid: str) -> None:
    """What is preferred and what is to be avoided come out of one sentence, as a sure preference."""
    guess = classify(text, "nothing of it was done")
    assert (guess.shape, guess.confidence, guess.prefer, guess.avoid) == ("preference", 0.8, prefer, avoid)


def test_a_preference_goes_before_a_correction() -> None:
    """A message that corrects and prefers is a preference that blames the reply."""
    pair = classify("That's wrong, use pytest instead of unittest", "done")
    assert pair == FeedbackGuess("preference", "negative", 0.65, 0.8, "preference_pair", "pytest", "unittest")
    soft = classify("No, I'd rather have a table.", "done")
    assert soft == FeedbackGuess("preference", "negative", 0.5, 0.75, "preference_soft")


def test_a_pair_blames_a_reply_that_did_what_is_to_be_avoided() -> None:
    """Whether a preference is blame depends on what the reply did."""
    assert classify("use pytest instead of unittest", REPLY).polarity == "negative"
    assert classify("use pytest instead of nose", REPLY).polarity == "neutral"


@pytest.mark.parametrize("text", ["Great!", "That's wrong", "不对", "I don't understand"])
def test_nothing_is_judged_where_nothing_was_said(text: str) -> None:
    """Praise and blame at the beginning of a conversation are of no reply."""
    assert classify(text, "") == UNKNOWN
    assert classify(text).shape != "unknown"


@pytest.mark.parametrize(
    "text",
    [
        "```\nThat's wrong\n```\nplease explain this output",
        "> That's wrong\nWho said so?",
        "x" * TEXT_CHARS_MAX + "\nThat's wrong",
        "No problem, go on with the next file",
        "No thanks",
        "Good morning, please summarise the notes",
        "Great Britain has how many counties?",
        "Write an essay on why it works like this",
        "Never mind.",
        "Always a pleasure!",
        "No, that's fine, keep it.",
        "No, keep it as it is",
        "Actually, can you also add the price?",
        "You should have seen the queue today!",
        "My bank's card reader: that doesn't work on Sundays. Put a line about it below the label.",
        "The app doesn't work on my phone, can you find out why?",
        "How do I fix 'that is incorrect'?",
        'She said "That is wrong. Useless." to me',
        "Put “use the back door instead of the front” on the sign",
        "Please write an email: this is wrong on so many levels",
        "Translate into German:\nThis is useless",
        "Do you think that is right?",
        "Is it true that one should never use tabs?",
        "Why do you use tabs instead of spaces?",
        "What do I prefer for breakfast?",
        "帮我写一封投诉信：这个咖啡太差了",
        "答案是错的吗？",
        "这个不行的话换一个",
        "我说的不是很清楚",
    ],
)
def test_what_is_no_feedback_is_left_alone(text: str) -> None:
    """Code, quotations, questions, what is to be written, and words that only look like praise or blame say nothing."""
    assert classify(text, REPLY) == UNKNOWN


def test_a_no_answers_a_question() -> None:
    """It corrects a reply that told something, and not one that asked."""
    assert classify("No, leave it out", "Shall I add the price?") == UNKNOWN
    assert classify("No, leave it out", "I added the price.").shape == "correction"
    assert classify("No, that was wrong", "Shall I go on?").shape == "correction"


@pytest.mark.parametrize("piece", PIECES)
def test_no_text_takes_long(piece: str) -> None:
    """Rules take twice as long for twice as much text, whatever it is, and do not look beyond its beginning."""
    assert grows_evenly(classify, piece, TEXT_CHARS_MAX)
    assert grows_evenly(classify, piece, 100 * TEXT_CHARS_MAX)


def test_spaces_count_once() -> None:
    """Words far apart are told as words side by side."""
    assert classify("Use   pytest \t instead  of\u00a0 unittest", REPLY).prefer == "pytest"
    assert classify("\n\n  No,  \n\n that was   wrong", REPLY).shape == "correction"
