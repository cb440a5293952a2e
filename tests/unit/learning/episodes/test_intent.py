"""Rules about what kind of message a user's is."""

from __future__ import annotations

import pytest

from reverie.learning.episodes.intent import UNKNOWN, Intent, classify, refined


@pytest.mark.parametrize(
    ("text", "kind", "confidence", "reason"),
    [
        ("", "chitchat", 0.9, "empty"),
        ("  \n", "chitchat", 0.9, "empty"),
        ("/memory", "meta", 0.98, "command"),
        ("/memos status", "meta", 0.98, "command"),
        ("/memo thanks", "meta", 0.98, "command"),
        ("Hello!", "chitchat", 0.9, "greeting"),
        ("thank you so much", "chitchat", 0.9, "greeting"),
        ("你好", "chitchat", 0.9, "greeting"),
        ("谢谢你!", "chitchat", 0.9, "greeting"),
        ("Do you remember the price?", "memory_probe", 0.88, "past"),
        ("What did we decide last time?", "memory_probe", 0.88, "past"),
        ("上次说的价格是多少", "memory_probe", 0.88, "past"),
        ("你还记得吗", "memory_probe", 0.88, "past"),
        ("Fix the build", "task", 0.75, "imperative"),
        ("please write a test", "task", 0.75, "imperative"),
        ("hi, fix the build", "unknown", 0.4, "no_signal"),
        ("帮我写一个测试", "task", 0.75, "imperative"),
        ("word " * 40, "task", 0.6, "long"),
        ("word " * 39, "unknown", 0.4, "no_signal"),
        ("Paris or Rome?", "unknown", 0.4, "no_signal"),
        ("/usr/bin is missing", "unknown", 0.4, "no_signal"),
    ],
)
def test_the_first_rule_that_holds_counts(text: str, kind: str, confidence: float, reason: str) -> None:
    """Each rule has its kind and confidence, in both languages; a command comes before a greeting."""
    found = classify(text)

    assert (found.kind, found.confidence, found.reason) == (kind, confidence, reason)


def test_a_long_greeting_is_none() -> None:
    """Beyond 48 characters nobody only greets."""
    assert classify("thanks " * 8).reason == "no_signal"


def test_a_model_is_heard_where_rules_are_not_certain() -> None:
    """A rule below 0.85 gives way to a model, a certain one does not, and without an answer the rule stands."""
    said = Intent("meta", 0.7, "classified", "llm")

    assert refined(classify("Fix the build"), said) == said
    assert refined(UNKNOWN, said) == said
    assert refined(classify("hello"), said) == classify("hello")
    assert refined(UNKNOWN, None) == UNKNOWN
