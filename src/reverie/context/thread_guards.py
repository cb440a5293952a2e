"""When a native thread is too full to go on with: a fuse, and never what decides whose thread it is.

tokens   the model's window, less a reserve, less what this turn is going to add. Where no window is known, a thread
         that was bootstrapped by an engine is given 300,000 tokens, and one without a projection the old 70,000.
bytes    the file in which the runtime keeps the thread, if a limit is set. It yields to a compatible bootstrap of an
         active engine: such a thread is what was paid for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.context.budget import prompt_budget

if TYPE_CHECKING:
    from reverie.config import ThreadsConfig
    from reverie.types import ThreadBinding, ThreadTokens, TokenSource

LEGACY_TOKENS_MAX = 70_000
"""Of a thread without a projection, where no window is known."""
UNKNOWN_WINDOW_TOKENS = 300_000
RESERVE_TOKENS = 20_000
CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Guards:
    """How large a thread may be. `tokens` is a limit of one's own, never above what the model's window leaves."""

    tokens: int | Literal["auto", "off"] = "auto"
    bytes_max: int | None = None
    reserve_tokens: int = RESERVE_TOKENS

    @property
    def looks_at_bytes(self) -> bool:
        """Whether anybody needs to know how large a thread's file is. Where not, it is not looked for."""
        return self.bytes_max is not None


def guards_of(config: ThreadsConfig) -> Guards:
    """The guards of a configuration."""
    return Guards(config.guard_tokens, config.guard_bytes, config.reserve_tokens)


@dataclass(frozen=True, slots=True)
class Fullness:
    """How full a thread is against its limits. `limit` None: there is none. `window` None: it is not known.

    `counted` says of what the tokens are.
    """

    tokens: int | None = None
    limit: int | None = None
    window: int | None = None
    counted: TokenSource | None = None
    bytes: int | None = None
    bytes_max: int | None = None

    @property
    def over_tokens(self) -> bool:
        """Too full for this turn."""
        return self.tokens is not None and self.limit is not None and self.tokens >= self.limit

    @property
    def over_bytes(self) -> bool:
        """Its file has reached what is allowed."""
        return self.bytes is not None and self.bytes_max is not None and self.bytes >= self.bytes_max


def projected_turn_tokens(prompt_chars: int, instruction_chars: int = 0) -> int:
    """What a turn adds to a thread, at least 1: its prompt and the instructions that go with it."""
    return max(1, -(-(prompt_chars + instruction_chars) // CHARS_PER_TOKEN))


def token_limit(window: int, reserve: int, turn_tokens: int) -> int:
    """What a thread may hold before this turn, at least 1. In a small window the reserve gives way, half of it stays.

    A window of 258,400 with a reserve of 20,000 leaves 238,400, less the turn.
    """
    return max(1, prompt_budget(window, reserve) - turn_tokens)


def fullness(
    binding: ThreadBinding, guards: Guards, *, model: str | None, window: int | None, turn_tokens: int, size: int | None
) -> Fullness:
    """How full a bound thread is before a turn of so many tokens. `window` is what is configured, if anything is."""
    known = known_window(binding.tokens, model, window)
    return Fullness(
        tokens=None if binding.tokens is None else binding.tokens.tokens,
        limit=_limit(binding, guards, known, turn_tokens),
        window=known,
        counted=None if binding.tokens is None else binding.tokens.source,
        bytes=size,
        bytes_max=guards.bytes_max,
    )


def known_window(tokens: ThreadTokens | None, model: str | None, configured: int | None) -> int | None:
    """The window that counts: what was reported for this model, unless less is configured; else what is known.

    What was reported for another model counts only where nothing is configured.
    """
    reported = None if tokens is None else tokens.window
    if reported is None or configured is None:
        return reported or configured
    same = tokens is None or tokens.model is None or model is None or tokens.model == model
    return min(reported, configured) if same else configured


def _limit(binding: ThreadBinding, guards: Guards, window: int | None, turn_tokens: int) -> int | None:
    if guards.tokens == "off":
        return None
    if window is not None:
        own = token_limit(window, guards.reserve_tokens, turn_tokens)
    elif binding.engine is None or binding.engine.projection is None:
        own = LEGACY_TOKENS_MAX
    else:
        own = token_limit(UNKNOWN_WINDOW_TOKENS, guards.reserve_tokens, turn_tokens)
    return own if guards.tokens == "auto" else min(guards.tokens, own if window is not None else guards.tokens)
