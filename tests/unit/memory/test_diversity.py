"""Diversity: hits that say the same give way."""

from __future__ import annotations

import pytest

from reverie.memory.diversity import diverse, likeness, words_of

SAME = "the roaster squeaks in the third batch"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello World_1", {"hello", "world_1"}),
        ("今天讨论", {"今", "天", "讨", "论", "今天", "天讨", "讨论"}),
        ("我a好", {"我", "a", "好"}),
        ("Кофе, кофе", {"кофе"}),
        ("", set[str]()),
    ],
)
def test_texts_are_compared_by_words(text: str, words: set[str]) -> None:
    """Words, CJK characters, and pairs of characters that stand side by side."""
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("", "", 1.0), ("a", "", 0.0), ("", "a", 0.0), ("a b", "b c", 1 / 3), ("a b", "b a", 1.0)],
)
def test_likeness_is_the_share_of_common_words(one: str, other: str, alike: float) -> None:
    """Two empty texts are alike; an empty one is like no other."""
    assert likeness(words_of(one), words_of(other)) == pytest.approx(alike)


def test_a_copy_gives_way_to_something_else() -> None:
    """Of two equal texts and a weaker other one, the other one comes second; relevance alone keeps the copy."""
    scores, texts = [1.0, 0.9, 0.6, 0.1], [SAME, SAME, "Petra greased the bearing", "unrelated"]
    assert diverse(scores, texts, 0.7, 2) == [0, 2]
    assert diverse(scores, texts, 1.0, 2) == [0, 1]


def test_only_variety_still_begins_with_the_best() -> None:
    """At 0 relevance counts only to break ties; shares beyond 0 and 1 are held to them."""
    scores, texts = [0.2, 1.0, 0.9], ["a", "b", "b"]
    assert diverse(scores, texts, 0.0, 3) == diverse(scores, texts, -3.0, 3) == [1, 0, 2]
    assert diverse(scores, texts, 7.0, 3) == [1, 2, 0]


def test_any_scores_will_do() -> None:
    """Negative scores and equal ones are spread the same way; nothing given is changed."""
    scores, texts = [-2.0, -1.0, -1.5], ["a", "b", "c"]
    assert diverse(scores, texts, 0.7, 3) == [1, 2, 0]
    assert diverse([1.0, 1.0], ["a", "a"], 0.7, 5) == [0, 1]
    assert diverse([], [], 0.7, 5) == []
    assert (scores, texts) == ([-2.0, -1.0, -1.5], ["a", "b", "c"])
