"""How the model's window is divided, as pure decisions over token counts.

The reply's share is kept free; tools, the stable prefix and the new message are fixed; recall takes what it needs up
to its own limit; history gets the rest. When history no longer fits, it is cut once to a share of its room, so that
the prefix then stays the same for many turns instead of moving with each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from reverie.errors import ContextTooLongError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.types import Role

HISTORY_KEPT_SHARE = 0.6
MIN_PROMPT_TOKENS = 8_000
"""A window's smaller half, at most this much, is always the prompt's: a large `output_tokens` cannot starve it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of a window: for the whole prompt, and for the history within it."""

    prompt: int
    history: int


def prompt_budget(window: int, output: int) -> int:
    """What the prompt may take: the window less the reply's share, but never less than half a small window."""
    least = min(MIN_PROMPT_TOKENS, max(1, window // 2))
    return window - min(output, window - least)


def divide(*, window: int, output: int, fixed: int, recall: int) -> Budget:
    """The room that is left for history.

    Raises:
        ContextTooLongError: prefix, tools and the new message alone exceed the window.
    """
    prompt = prompt_budget(window, output)
    if fixed > prompt:
        message = (
            f"This message and its instructions take about {fixed} tokens; the model's window leaves {prompt} "
            "for the prompt. Shorten them, or raise upstream.context_tokens if the model's window is larger."
        )
        raise ContextTooLongError(message, param="messages", code="context_length_exceeded")
    return Budget(prompt, max(0, prompt - fixed - recall))


class HistoryEntryCost(NamedTuple):
    """What the choice needs of a history entry. One is made for each message of a history, with every turn."""

    seq: int
    role: Role
    tokens: int


@dataclass(frozen=True, slots=True)
class HistoryStart:
    """The first message number kept in view, and why it moved (empty: it did not)."""

    seq: int
    reason: str


def choose_history_start(entries: Sequence[HistoryEntryCost], start: int, room: int) -> HistoryStart:
    """Where the history in view begins.

    It stays where it is while everything from `start` fits into `room` tokens; otherwise it moves forward until the
    rest fits into a share of the room. It always begins at a user message, so that no tool result stands without
    its call.
    """
    total = sum(entry.tokens for entry in entries)
    if total <= room:
        return HistoryStart(start, "")
    target = int(room * HISTORY_KEPT_SHARE)
    kept = 0
    chosen = entries[-1].seq + 1 if entries else start
    for entry in reversed(entries):
        kept += entry.tokens
        if kept > target:
            break
        if entry.role == "user":
            chosen = entry.seq
    return HistoryStart(chosen, f"history of about {total} tokens exceeded its room of {room}")


def choose_fewer_messages(entries: Sequence[tuple[int, Role]], start: int, messages_max: int) -> HistoryStart:
    """Where the history begins when `messages_max` messages are not enough for it: once, at a share of them.

    `entries` are numbers and roles. It begins at a user message.
    """
    chosen = entries[-1][0] + 1 if entries else start
    for number, (seq, role) in enumerate(reversed(entries), start=1):
        if number > messages_max * HISTORY_KEPT_SHARE:
            break
        if role == "user":
            chosen = seq
    return HistoryStart(chosen, f"history of more than the {messages_max} messages that are read")
