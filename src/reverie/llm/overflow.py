"""Whether a model's refusal says that the prompt is too large, and what it says of sizes.

Servers word it in many ways; a limit on tokens a minute is another matter and is never taken for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.errors import UpstreamRefusedError

if TYPE_CHECKING:
    from reverie.errors import ReverieError

TOO_MANY_REQUESTS = 429

_CODES = frozenset({
    "context_length_exceeded", "context_window_exceeded", "exceed_context_size_error", "request_too_large",
    "string_above_max_length", "prompt_too_long",
})  # fmt: skip
_SIGNS = re.compile(
    r"""request_too_large | context[ _](?:length|window|size)\b.{0,60}\b(?:exceed|too|small|limit|is|of)
      | exceed\w*\b.{0,60}\bcontext | maximum\ context | model_max_context
      | input\ exceeds\ the\ maximum\ number\ of\ tokens | input\ token\ count\b.{0,80}\bexceeds
      | input\ is\ too\ long | prompt\ is\ too\ long | prompt\ too\ (?:long|large)
      | too\ many\ (?:input\ )?tokens | max_model_len | reduce\ the\ length\ of\ the\ (?:messages|prompt|input)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_RATE = re.compile(r"per[ -]?min|per[ -]?day|\brate[ _]limit|\bTP[MD]\b", re.IGNORECASE)
_NUMBER = r"(\d[\d,_ ]{2,12}\d|\d{3,})"
_OBSERVED = (
    re.compile(rf"(?:resulted\ in|requested|contains?|has|have|count\s?\(?|you\ sent|got|is)\s+(?:at\ least\ |about\ )?"
               rf"{_NUMBER}(?:\s+(?:input\ )?tokens?)?", re.IGNORECASE | re.VERBOSE),
    re.compile(rf"{_NUMBER}\s*(?:input\s+)?tokens?\s*(?:>|exceed|in\ the\ (?:messages|prompt))",
               re.IGNORECASE | re.VERBOSE),
    re.compile(rf"\(\s*{_NUMBER}\s*(?:tokens?)?\s*\)\s*(?:exceeds|>)", re.IGNORECASE | re.VERBOSE),
    re.compile(rf"\bn_prompt_tokens\W{{1,4}}{_NUMBER}", re.IGNORECASE),
)  # fmt: skip
_LIMIT = (
    re.compile(rf"(?:maximum\s+context\s+(?:length|size|window)|context\s+(?:length|size|window)|maximum\s+number\s+of"
               rf"\s+(?:input\s+)?tokens(?:\s+allowed)?|max_model_len|token\s+limit)\s*"
               rf"(?:is|of|:|=|\()?\s*(?:only\s+)?\(?{_NUMBER}", re.IGNORECASE),
    re.compile(rf">\s*{_NUMBER}\s*(?:maximum|tokens)", re.IGNORECASE),
    re.compile(rf"\b(?:limit|maximum)\s+(?:is|of)\s+{_NUMBER}", re.IGNORECASE),
    re.compile(rf"\bn_ctx\W{{1,4}}{_NUMBER}", re.IGNORECASE),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Overflow:
    """A prompt that was too large. What the server counted and what it takes, in tokens, where it said so."""

    counted_tokens: int | None
    limit_tokens: int | None


def overflow(error: ReverieError) -> Overflow | None:
    """What a refusal says of a prompt's size; None when it is about something else."""
    if not isinstance(error, UpstreamRefusedError) or error.upstream_status == TOO_MANY_REQUESTS:
        return None
    text = str(error)
    if error.code not in _CODES and (not _SIGNS.search(text) or _RATE.search(text)):
        return None
    limit = _first(_LIMIT, text, None)
    return Overflow(_first(_OBSERVED, text, limit), limit)


def _first(patterns: tuple[re.Pattern[str], ...], text: str, other_than: int | None) -> int | None:
    """The first number that one of the patterns finds; a limit is not taken for a count."""
    for pattern in patterns:
        for match in pattern.finditer(text):
            number = int(re.sub(r"\D", "", match[1]))
            if number != other_than:
                return number
    return None
