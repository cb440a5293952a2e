"""Whether a task is worth a reward at all. One that is not is skipped for good."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from reverie.learning.credit.task_steps import exchanges_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.config import RewardConfig
    from reverie.learning.credit.task_steps import TaskStep

SkipReason = Literal["too_few_exchanges", "no_user_message", "too_short", "trivial", "tools_only", "repetitive"]

ASCII_FACTOR = 2
"""A text of ASCII alone says as much with twice the characters."""
TRIVIAL_SHARE = 0.7
SUBSTANTIAL_CHARS = 30
"""A message of so many characters that is not trivial makes up for all that are."""
REPETITIVE_MESSAGES = 3
UNIQUE_SHARE = 0.4

_TRIVIAL = re.compile(
    r"(?:hi|hello|hey|yo|thanks?(?: you)?|thx|ok(?:ay)?|yes|no|yep|nope|sure|cool|nice|great|"
    r"good (?:morning|evening|night)|bye|test(?:ing)?|ping|\d*|你好|您好|谢谢|多谢|好的?|嗯+|是的?|不是?|"
    r"测试|在吗|再见|早上好|晚安)[\s!.?,~\uff01\u3002\uff1f\uff0c\uff5e]*",
    re.IGNORECASE,
)


def skip_reason(steps: Sequence[TaskStep], config: RewardConfig) -> SkipReason | None:
    """Why a task of these steps is not worth a reward; None when it is."""
    messages = [step.user_text.strip() for step in steps if step.user_chars]
    if sum(each.has_agent for each in exchanges_of(steps)) < config.min_exchanges:
        return "too_few_exchanges"
    if not messages:
        return "no_user_message"
    return _too_little(steps, messages, config)


def _too_little(steps: Sequence[TaskStep], messages: Sequence[str], config: RewardConfig) -> SkipReason | None:
    agent_chars = sum(step.agent_chars for step in steps)
    plain = all(step.user_text.isascii() and step.agent_text.isascii() for step in steps)
    needed = config.min_content_chars * (ASCII_FACTOR if plain else 1)
    if sum(step.user_chars for step in steps) + agent_chars < needed:
        return "too_short"
    if _is_trivial(messages):
        return "trivial"
    tool_share = sum(bool(step.tool) for step in steps) / len(steps)
    if (
        tool_share >= config.tool_heavy_ratio
        and len(messages) <= 1
        and agent_chars < config.min_assistant_chars_for_tool_heavy
    ):
        return "tools_only"
    unique = len({message.casefold() for message in messages}) / len(messages)
    return "repetitive" if len(messages) >= REPETITIVE_MESSAGES and unique < UNIQUE_SHARE else None


def _is_trivial(messages: Sequence[str]) -> bool:
    trivial = [_TRIVIAL.fullmatch(message) is not None for message in messages]
    substantial = any(
        len(message) >= SUBSTANTIAL_CHARS and not empty for message, empty in zip(messages, trivial, strict=True)
    )
    return not substantial and sum(trivial) > TRIVIAL_SHARE * len(messages)
