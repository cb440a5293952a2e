"""Which tiers a message asks for."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.learning.recall.gate import is_about_the_person, tiers_for

ALL = ("skills", "traces", "worlds")


@pytest.mark.parametrize(
    ("kind", "confidence", "text", "tiers"),
    [
        ("chitchat", 0.9, "thanks", ()),
        ("chitchat", 0.6, "thanks", ()),
        ("chitchat", 0.59, "nice weather", ALL),
        ("meta", 0.98, "/memory list", ()),
        ("memory_probe", 0.88, "what did we decide about the kiln", ("skills", "traces")),
        ("memory_probe", 0.88, "do you remember my birthday?", ("traces",)),
        ("memory_probe", 0.88, "你还记得我的生日吗", ("traces",)),
        ("unknown", 0.4, "my car does not start", ALL),
        ("unknown", 0.4, "the kiln is cold", ALL),
        ("task", 0.75, "write my address on the letter", ALL),
    ],
)
def test_a_message_asks_for_what_its_kind_may_need(
    kind: Any, confidence: float, text: str, tiers: tuple[str, ...]
) -> None:
    """Nothing for small talk; what was done for questions about the past; all for a task."""
    assert tiers_for(kind, confidence, text) == tiers


@pytest.mark.parametrize("text", ["how do I change my phone number", "what is your name", "我的邮箱怎么设置"])
def test_how_something_is_done_is_no_fact_about_the_person(text: str) -> None:
    """Nor is what concerns somebody else."""
    assert not is_about_the_person(text)
