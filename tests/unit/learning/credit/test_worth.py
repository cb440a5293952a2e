"""Whether a task is worth a reward."""

from __future__ import annotations

import pytest

from reverie.config import RewardConfig
from reverie.learning.credit.task_steps import TaskStep
from reverie.learning.credit.worth import skip_reason


def said(turn: int, user_text: str, agent_text: str = "", tool: str = "") -> TaskStep:
    return TaskStep(f"tr_{turn}", "d", "s1", turn, user_text, agent_text, len(user_text), len(agent_text), tool, "")


LONG = "Please explain how the roaster is cleaned after a long day."
CALLS = [said(1, "do it now, all of it, and then the rest", tool="bash"), *(said(1, "", "", "bash") for _ in range(3))]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], "too_few_exchanges"),
        ([said(1, LONG)], "too_few_exchanges"),
        ([said(1, "", LONG)], "no_user_message"),
        ([said(1, "how old is it", "It is four years old.")], "too_short"),
        ([said(1, LONG, "x" * 21)], None),
        ([said(1, LONG, "x" * 20)], "too_short"),
        ([said(1, "烘豆机有多旧", "它已经用了四年了,还能再用很久,请放心使用,有问题再说吧,好的。")], "too_short"),
        ([said(1, "烘豆机到底有多旧?", "它已经用了四年了,还能再用很久,请放心使用,有问题再说吧,好的。")], None),
        ([said(1, "hi", "Hello, what can I do for you? " * 4), said(2, "谢谢!", "Bye.")], "trivial"),
        ([said(1, "hi", "Hello, what can I do for you? " * 4), said(2, LONG, "So.")], None),
        ([*CALLS, said(1, "", "x" * 79)], "tools_only"),
        ([*CALLS, said(1, "", "x" * 80)], None),
        ([said(turn, LONG, "As I said.") for turn in (1, 2, 3)], "repetitive"),
        ([said(1, LONG, "As I said."), said(2, LONG.upper(), "As I said.")], None),
    ],
)
def test_what_is_not_worth_a_reward(steps: list[TaskStep], reason: str | None) -> None:
    """Each has a code of its own; plain ASCII needs twice the characters."""
    assert skip_reason(steps, RewardConfig()) == reason


def test_the_bounds_are_settings() -> None:
    """Fewer exchanges, less text, other shares of tools."""
    assert skip_reason([said(1, LONG, LONG)], RewardConfig(min_exchanges=2)) == "too_few_exchanges"
    assert skip_reason([said(1, "how old", "four")], RewardConfig(min_content_chars=0)) is None
    assert skip_reason([*CALLS, said(1, "", "x" * 79)], RewardConfig(tool_heavy_ratio=1.0)) is None
