"""What follows a failed call for embeddings: another try, two smaller calls, or an error, and which.

Pure functions. A question has little patience, because somebody waits for it; passages have more, and most when the
server asks for a slower pace:

    call                           further tries   first wait   longest wait   all waits   one try
    ────────────────────────────── ─────────────── ──────────── ────────────── ─────────── ──────────────
    a question                     3               0.5 s        8 s            8 s         60 s in all
    passages                       3               0.5 s        8 s            24 s        120 s
    passages, after a 429          4               5 s          60 s           240 s       120 s

Each wait is double the one before, and up to a fifth longer by chance; Retry-After is taken as given, up to the
longest wait. A call is halved only where a smaller one can help: the request or its headers are too large, there are
too many inputs, or the connection was reset. Nothing is halved for a refused connection, an unreachable host, a limit
of pace or a timeout.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reverie.errors import (
    EmbedderError,
    TextRefusedError,
    UpstreamClosedError,
    UpstreamError,
    UpstreamMalformedError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
)
from reverie.llm.upstream_failures import NO_QUOTA, retry_after_s, retry_wait

JITTER_SHARE = 0.2
_TOO_MANY_CALLS = 429
_TOO_LARGE = frozenset({413, 431})
_ABOUT_THE_TEXT = frozenset({400, 413, 422, 431})
_ABOUT_THE_KEY = frozenset({401, 403})
_SERVER_FAILED = 500

# "max 16 inputs", "batch size is invalid, it should not be larger than 10", "Too many inputs. The max is 100",
# "input array must have at most 2048 items", "request too large", "header fields too large"
_TOO_MANY_INPUTS = re.compile(
    r"""\b(?:max(?:imum)?|at\ most|too\ many|larger\ than|more\ than|limit|exceed\w*)\b.{0,40}
        \b(?:inputs?|texts?|items|instances|requests\ in\ one\ batch)\b
      | \bbatch\ (?:size|length)\b.{0,60}\b(?:max\w*|larger|exceed\w*|too|invalid|limit|at\ most)\b
      | \b(?:inputs?|texts?|items|batch(?:\ size)?|array)\b.{0,40}\b(?:at\ most|too\ (?:many|large|long)|larger\ than)\b
      | \b(?:payload|request(?:\ entity)?|headers?(?:\ fields?)?)\b.{0,20}\btoo\ large\b""",
    re.IGNORECASE | re.VERBOSE,
)
_TOO_MANY_TOKENS = re.compile(r"\btokens?\b|\bcontext\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a call is tried again, and how long is waited; `try_s` is the most that one try may take."""

    retries: int
    wait_s_first: float
    wait_s_max: float
    waits_s_max: float
    try_s: float


QUESTION = Patience(retries=3, wait_s_first=0.5, wait_s_max=8, waits_s_max=8, try_s=60)
PASSAGES = Patience(retries=3, wait_s_first=0.5, wait_s_max=8, waits_s_max=24, try_s=120)
PASSAGES_SLOWED = Patience(retries=4, wait_s_first=5, wait_s_max=60, waits_s_max=240, try_s=120)


def patience_after(error: Exception, patience: Patience) -> Patience:
    """The patience that holds after an error: passages wait longer for a server that asks for a slower pace."""
    slowed = isinstance(error, UpstreamRefusedError) and error.upstream_status == _TOO_MANY_CALLS
    return PASSAGES_SLOWED if slowed and patience is PASSAGES else patience


def wait_before_retry(
    error: Exception, patience: Patience, *, failures: int, waited_s: float, chance: float, now_ms: int
) -> float | None:
    """The seconds to wait before another try; None when there is none.

    `failures` counts the tries so far, `waited_s` what was waited between them; `chance` is from 0 to 1.
    """
    asked = retry_wait(error, now_ms, patience.wait_s_max)
    if asked is False or failures > patience.retries:
        return None
    wait_s = backoff_s(patience, failures, chance) if asked is True else float(asked)
    return wait_s if waited_s + wait_s <= patience.waits_s_max else None


def backoff_s(patience: Patience, failures: int, chance: float) -> float:
    """The wait after so many failures: doubling, up to a fifth longer by chance, never beyond the longest."""
    plain = patience.wait_s_first * 2 ** (failures - 1)
    return min(patience.wait_s_max, plain * (1 + JITTER_SHARE * chance))


def may_halve(error: Exception) -> bool:
    """Whether two calls with half of the texts each can succeed where this one failed."""
    if isinstance(error, UpstreamClosedError):
        return True
    return is_too_many(error) or (isinstance(error, UpstreamRefusedError) and error.upstream_status in _TOO_LARGE)


def is_too_many(error: Exception) -> bool:
    """Whether the server said that a call holds more texts than it takes; one text that is too long is not that."""
    if not isinstance(error, UpstreamRefusedError) or error.upstream_status not in _ABOUT_THE_TEXT:
        return False
    said = str(error)
    return bool(_TOO_MANY_INPUTS.search(said)) and not _TOO_MANY_TOKENS.search(said)


def embedder_error(error: UpstreamError, now_ms: int) -> EmbedderError:
    """What a failed call means for whoever wanted vectors."""
    told = str(error)
    if not isinstance(error, UpstreamRefusedError):
        broke_off = isinstance(error, UpstreamClosedError | UpstreamTimeoutError | UpstreamMalformedError)
        return EmbedderError(told, over_text=broke_off)
    if error.code == NO_QUOTA or error.upstream_status in _ABOUT_THE_KEY:
        return EmbedderError(told, lasting=True)
    if error.upstream_status in _ABOUT_THE_TEXT:
        return TextRefusedError(told)
    wait_s = retry_after_s(error.retry_after, now_ms)
    return EmbedderError(told, retry_after_s=wait_s, over_text=error.upstream_status >= _SERVER_FAILED)
