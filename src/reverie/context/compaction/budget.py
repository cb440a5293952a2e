"""When a conversation is to be compacted, as arithmetic over the model's window. All figures are tokens.

    |<------------------------------ window ------------------------------>|
    |<------------- threshold ------------->|<---------- reserve --------->|
                           |<--  soft  ---->|
                           preflight

A turn whose prompt came above `preflight` has a compaction prepared behind it, so that it is there before it is
needed. In a small window the reserve gives way: it is at most a quarter of it. OpenClaw's takes all but 8,000 tokens
there, so that a window of 32,768 is compacted at a third; from 80,000 tokens on the figures are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.context.budget import MIN_PROMPT_TOKENS

if TYPE_CHECKING:
    from reverie.config import CompactionConfig

RESERVE_SHARE = 4
"""The reserve is at most this part of the window."""
SOFT_TOKENS = 4_000
SOFT_SHARE = 8
"""The soft margin is at most this part of the threshold: in a small window 4,000 tokens would be most of it."""
KEEP_SHARE = 2
"""The verbatim tail is at most this part of the threshold, else a compaction would free nothing."""
SPAN_SHARE = 4
"""A stretch smaller than this part of the tail is not worth a summary."""
MESSAGES_SHARE = 0.9
"""A view this full of its number of messages is compacted, however short they are."""

Cause = Literal["threshold", "preflight", "bytes", "overflow", "manual"]


@dataclass(frozen=True, slots=True)
class CompactionBudget:
    """What of a window is whose. `keep` is the tail that stays as it is, `span_min` the least worth summarising."""

    window: int
    reserve: int
    threshold: int
    preflight: int
    keep: int
    span_min: int


@dataclass(frozen=True, slots=True)
class Load:
    """How full a session is: its next prompt in tokens as far as known, its transcript, the messages in view."""

    prompt_tokens: int
    transcript_bytes: int
    messages_in_view: int


def least_prompt(window: int) -> int:
    """The part of a window that is the prompt's in any case."""
    return min(MIN_PROMPT_TOKENS, max(1, window // 2))


def compaction_budget(window: int, config: CompactionConfig) -> CompactionBudget:
    """The figures for a window."""
    room = max(0, min(window - least_prompt(window), window // RESERVE_SHARE))
    reserve = min(max(config.reserve_tokens, min(config.reserve_tokens_floor, room)), room)
    threshold = window - reserve
    soft = min(SOFT_TOKENS, threshold // SOFT_SHARE)
    floor = min(config.reserve_tokens_floor, room)
    keep = min(config.keep_recent_tokens, threshold // KEEP_SHARE)
    return CompactionBudget(
        window=window,
        reserve=reserve,
        threshold=threshold,
        preflight=min(threshold, window - floor - soft),
        keep=keep,
        span_min=keep // SPAN_SHARE,
    )


def due(load: Load, budget: CompactionBudget, *, bytes_max: int, messages_max: int) -> Cause | None:
    """Why a session is to be compacted now; None while it is not. `bytes_max` 0: size alone never is a reason."""
    if load.prompt_tokens > budget.threshold or load.messages_in_view > messages_max * MESSAGES_SHARE:
        return "threshold"
    if load.prompt_tokens >= budget.preflight:
        return "preflight"
    if bytes_max and load.transcript_bytes >= bytes_max:
        return "bytes"
    return None
