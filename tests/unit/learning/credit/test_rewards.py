"""How a task is scored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from reverie.learning.credit.rewards import (
    Voice,
    counted,
    finite_or_zero,
    heuristic,
    judged,
    number_of,
    revised,
)
from reverie.learning.records import Task

if TYPE_CHECKING:
    from reverie.types import JsonObject


def task(r_human: float, reward: JsonObject) -> Task:
    return Task("ta_1", "main", "s1", "k", "scored", 0, 1, 1, r_human, reward, "set", "owner")


UP, DOWN = Voice("fb_1", "positive", 1.0), Voice("fb_2", "negative", 0.5)


def test_the_axes_are_weighed() -> None:
    """0.45 of the goal, 0.30 of the way, 0.25 of the user's mood, each from -1 to 1."""
    axes = {"goal_achievement": 0.8, "process_quality": -0.5, "user_satisfaction": 0.4}
    assert judged(axes) == pytest.approx(0.31, abs=1e-12)
    assert judged({"goal_achievement": 7.0, "process_quality": 1.0, "user_satisfaction": 1.0}) == pytest.approx(1.0)


def test_without_a_judge_people_decide() -> None:
    """The mean of the signs by their magnitudes, (1 - 0.5) / 1.5; nobody judged: 0."""
    assert heuristic([UP, DOWN]) == pytest.approx(1 / 3)
    assert heuristic([]) == 0.0
    assert heuristic([Voice("fb_4", "negative", 0.0)]) == 0.0


def test_words_without_a_judgement_carry_no_weight() -> None:
    """They say what to do, and not how it was; a mixed judgement is one."""
    words, mixed = Voice("fb_3", "neutral", 1.0), Voice("fb_4", "mixed", 1.0)
    assert (heuristic([UP, words]), heuristic([words]), heuristic([UP, mixed])) == (1.0, 0.0, 0.5)
    for source in ("llm", "heuristic"):
        scored = task(0.8, {"source": source, "judged": 0.8, "heard": []})
        assert revised(scored, [UP, words]) == revised(scored, [UP])
    assert revised(task(0.8, {"source": "llm", "judged": 0.8, "heard": []}), [words]) == 0.8


def test_faint_words_in_messages_do_not_count() -> None:
    """From the threshold on they do; a button always does."""
    faint, clear = Voice("fb_5", "negative", 0.19, implicit=True), Voice("fb_6", "negative", 0.2, implicit=True)
    button = Voice("fb_7", "positive", 0.1)
    assert counted([faint, clear, button], 0.2) == (clear, button)


def test_a_judge_is_one_voice_beside_those_that_come_later() -> None:
    """(0.8 + 1 - 0.5) / 2.5; what the judge heard, and what was found in messages, does not count again."""
    found = Voice("fb_8", "negative", 1.0, implicit=True)
    reward = {"source": "llm", "judged": 0.8, "heard": ["fb_9"]}
    assert revised(task(0.8, reward), [UP, DOWN, found, Voice("fb_9", "negative", 1.0)]) == pytest.approx(0.52)
    assert revised(task(0.8, reward), []) == 0.8
    assert revised(task(0.8, {"source": "heuristic", "judged": 0.8, "heard": []}), [DOWN]) == -1.0
    assert revised(task(0.5, {}), [UP]) == 0.75


def test_numbers_of_a_model() -> None:
    """Also written as a text; what is none is none, and what cannot be reckoned with is 0."""
    written: tuple[object, ...] = (1, 0.5, "0.25", "high", None, True, {})
    assert [number_of(value) for value in written] == [1.0, 0.5, 0.25, None, None, None, None]
    assert number_of(10**400) is None
    assert [finite_or_zero(value) for value in (0.5, math.inf, math.nan, None)] == [0.5, 0.0, 0.0, 0.0]
