"""What a judge is shown of a task."""

from __future__ import annotations

from reverie.learning.credit.summary import WHO, last_reply, task_summary
from reverie.learning.credit.task_steps import Exchange, TaskStep, exchanges_of


def test_each_request_stands_with_its_tools_and_its_reply() -> None:
    """Several topics, in their order; the last reply is shown apart."""
    exchanges = (
        Exchange("Clean the roaster", "Done.", "bash ×3 (1 failed: EXIT_1), read", has_agent=True),
        Exchange("Order beans", "Ordered.", "", has_agent=True),
    )
    assert task_summary(exchanges, "It was about coffee", 2_000) == (
        f"{WHO}\nBefore: It was about coffee\n1. User: Clean the roaster\n   Tools: bash ×3 (1 failed: EXIT_1), read\n"
        "   Agent: Done.\n2. User: Order beans\n   Agent: (shown apart)"
    )


def test_of_many_exchanges_each_is_shown_with_less() -> None:
    """All topics stay; only what does not fit even then is left out in the middle."""
    some = tuple(Exchange(f"topic {number} " + "q" * 400, "r" * 500, "", has_agent=True) for number in range(8))
    text = task_summary(some, "", 2_000)
    assert len(text) <= 2_000
    assert all(f"topic {number} " in text for number in range(8))

    many = task_summary(some * 100, "", 2_000)
    assert len(many) == 2_000
    assert many.startswith(f"{WHO}\n1. User: topic 0")
    assert many.endswith("(shown apart)")


def test_a_long_last_reply_keeps_its_beginning_and_its_end() -> None:
    """2,000 and 3,000 characters."""
    assert last_reply("a" * 5_000) == "a" * 5_000
    assert last_reply("a" * 4_000 + "b" * 4_000) == "a" * 2_000 + "\n[…]\n" + "b" * 3_000


def test_steps_make_exchanges() -> None:
    """Calls are counted by tool, with the codes of those that failed."""

    def step(user_text: str, agent_text: str, tool: str, code: str) -> TaskStep:
        return TaskStep("tr", "d", "s1", 1, user_text, agent_text, 1, 1, tool, code)

    steps = [step("q", "", "bash", "EXIT_1"), step("", "", "bash", ""), step("", "", "read", ""), step("", "a", "", "")]
    assert exchanges_of(steps) == (Exchange("q", "a", "bash ×2 (1 failed: EXIT_1), read", has_agent=True),)
