"""What of all that was learned a message asks for."""

from __future__ import annotations

import pytest

from reverie.learning.gating import is_personal, tiers_of

ALL = ("skills", "traces", "worlds")


@pytest.mark.parametrize(
    ("text", "tiers"),
    [
        ("", ()),
        ("Thanks, great!", ()),
        ("你好", ()),
        ("/memory status", ()),
        ("Deploy the shop to staging.", ALL),
        ("Why is the sky dark at night?", ALL),
        ("What did we decide about the roaster last time?", ("skills", "traces")),
        ("上次我们怎么部署的？", ("skills", "traces")),
        ("Do you remember my birthday?", ("traces",)),
        ("你还记得我的生日吗？", ("traces",)),
        ("Do you remember how to change my address there?", ("skills", "traces")),
    ],
)
def test_what_is_asked_follows_from_the_kind_of_message(text: str, tiers: tuple[str, ...]) -> None:
    """Small talk and commands ask for nothing, questions about the past for what was done, tasks for everything."""
    assert tiers_of(text) == tiers


def test_a_fact_about_a_person_is_no_question_of_how() -> None:
    """First person and an attribute make a personal fact, unless something is to be done."""
    assert is_personal("What is my favourite tea?")
    assert is_personal("我喜欢什么茶？")
    assert not is_personal("How do I change my email address?")
    assert not is_personal("What is the capital of Peru?")
