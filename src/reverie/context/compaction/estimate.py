"""How large a prompt is before anybody counted it, and what to do about one that is too large.

The estimate errs on the high side: 4 characters a token for text, 3 for JSON arguments, 2 for tool results, and
overheads, all of it times 1.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reverie.types import Message

TEXT_CHARS, ARGUMENTS_CHARS, RESULT_CHARS = 4, 3, 2
MESSAGE_TOKENS, BLOCK_TOKENS, IMAGE_TOKENS = 12, 6, 2_000
SAFETY = 1.2
RESULT_CHARS_KEPT = 600
"""What a shortened tool result keeps: its beginning and its end, together."""
REDUCIBLE_MARGIN_CHARS = 2_048
REDUCIBLE_FACTOR = 1.5

Route = Literal["fits", "compact_only", "truncate_tool_results_only", "compact_then_truncate"]


@dataclass(frozen=True, slots=True)
class Sized:
    """A prompt's estimate in tokens, and how many characters shortening tool results would take off it."""

    tokens: int
    reducible_chars: int


def sized(messages: Iterable[Message]) -> Sized:
    """The estimate for the messages of a prompt."""
    tokens, reducible = 0.0, 0
    for message in messages:
        text = len(message.text)
        if message.role == "tool":
            tokens += text / RESULT_CHARS
            reducible += max(0, text - RESULT_CHARS_KEPT)
        else:
            tokens += text / TEXT_CHARS
        blocks = bool(text) + len(message.tool_calls) + len(message.images)
        tokens += MESSAGE_TOKENS + BLOCK_TOKENS * blocks + IMAGE_TOKENS * len(message.images)
        tokens += sum(len(call.arguments) / ARGUMENTS_CHARS for call in message.tool_calls)
    return Sized(math.ceil(tokens * SAFETY), reducible)


def choose_route(size: Sized, budget_tokens: int) -> Route:
    """What makes a prompt fit into `budget_tokens`."""
    overflow = max(0, size.tokens - budget_tokens)
    if not overflow:
        return "fits"
    if not size.reducible_chars:
        return "compact_only"
    chars = overflow * TEXT_CHARS
    if size.reducible_chars >= max(chars + REDUCIBLE_MARGIN_CHARS, math.ceil(REDUCIBLE_FACTOR * chars)):
        return "truncate_tool_results_only"
    return "compact_then_truncate"


def shortened(text: str, chars_max: int = RESULT_CHARS_KEPT) -> str:
    """A tool result's beginning and end, with a note of what is left out between them; a short one as it is."""
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"


def with_short_results(messages: Iterable[Message], chars_max: int) -> tuple[Message, ...]:
    """The messages of a prompt with every tool result cut to `chars_max` characters; the others as they are."""
    return tuple(
        replace(message, text=shortened(message.text, chars_max)) if message.role == "tool" else message
        for message in messages
    )
