"""Token estimates: without a vocabulary, then corrected by what servers count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.llm.tokens import TokenEstimator, raw_message_tokens, raw_tokens
from reverie.types import ImagePart, Message, ToolCall


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("four", 1),
        ("fives", 2),
        ("x" * 400, 100),
        ("日本語", 3),
        ("ひらがなカタカナ", 8),
        ("한국어", 3),
        ("𠮷野家", 3),
        ("tea 茶", 2),
        ("чай", 2),
        ("é", 1),
        ("a\ud83d", 1),
    ],
)
def test_texts(text: str, tokens: int) -> None:
    """Four bytes a token, but one token for each character of Chinese, Japanese and Korean."""
    assert raw_tokens(text) == tokens


def test_messages() -> None:
    """A message costs its overhead, its text, its calls and its images."""
    assert raw_message_tokens(Message("user", "four")) == 5
    assert raw_message_tokens(Message("user", "", images=(ImagePart("x"), ImagePart("y")))) == 4_004
    assert (
        raw_message_tokens(Message("assistant", "", tool_calls=(ToolCall("1", "find", '{"a":1}x'),))) == 4 + 8 + 1 + 2
    )


def test_an_estimator_starts_with_the_raw_estimate() -> None:
    """Before the first call nothing is corrected."""
    estimator = TokenEstimator()
    message = Message("user", "x" * 40)
    assert (estimator.text("x" * 40), estimator.message(message), estimator.messages([message] * 3)) == (10, 14, 42)


def test_calibration_follows_the_server() -> None:
    """The ratio moves a fifth of the way to what the server counted, and settles there."""
    estimator = TokenEstimator()
    estimator.calibrate(1000, 1500)
    assert estimator.ratio == pytest.approx(1.1)
    for _ in range(60):
        estimator.calibrate(estimator.text("x" * 4000), 1500)
    assert estimator.text("x" * 4000) == pytest.approx(1500, rel=0.01)


@pytest.mark.parametrize(("estimated", "actual"), [(1000, 0), (0, 1000), (150, 400), (5000, 199), (-5, -5)])
def test_small_or_missing_counts_teach_nothing(estimated: int, actual: int) -> None:
    """A server without usage, and prompts too small to tell, leave the ratio alone."""
    estimator = TokenEstimator()
    estimator.calibrate(estimated, actual)
    assert estimator.ratio == 1.0


@given(st.lists(st.tuples(st.integers(-10, 10**9), st.integers(-10, 10**9)), max_size=30))
def test_the_ratio_stays_within_its_bounds(calls: list[tuple[int, int]]) -> None:
    """However wrong the counts, an estimate is never off by more than a factor of two."""
    estimator = TokenEstimator()
    for estimated, actual in calls:
        estimator.calibrate(estimated, actual)
    assert 0.5 <= estimator.ratio <= 2.0


def test_a_stored_ratio_is_taken_up_within_the_bounds() -> None:
    """An estimator can start where another ended."""
    assert [TokenEstimator(ratio).ratio for ratio in (0.1, 1.3, 9.0)] == [0.5, 1.3, 2.0]
