"""Secrets in text that others wrote: what looks like a key or a token keeps its beginning and its end, and no more.

Known forms only. It is a net below, not a promise: a password that looks like a word stays one.
"""

from __future__ import annotations

import re

KEPT_START = 6
KEPT_END = 4
KEPT_FROM_CHARS = 18
"""A secret shorter than this is hidden wholly: what would be kept of it would be most of it."""

HIDDEN = "***"

_WHOLE = re.compile(
    r"(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----.{0,16384}?-----END [A-Z ]*PRIVATE KEY-----)"
    r"|(?<![A-Za-z0-9_-])(?P<token>"
    r"sk-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic, OpenRouter
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}"  # Slack
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,}|ya29\.[0-9A-Za-z_-]{20,}"  # AWS, Google
    r"|gsk_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{20,}|pypi-[A-Za-z0-9_-]{20,}|pplx-[A-Za-z0-9]{20,}"
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{16,}"  # Stripe
    r"|[0-9]{8,10}:[A-Za-z0-9_-]{35}"  # Telegram
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"  # JSON web token
    r")(?![A-Za-z0-9_-])",
    re.DOTALL,
)
_NAMED = re.compile(
    r"(?P<name>(?:[A-Za-z0-9]{1,64}[_-]){0,8}(?:api[_-]?key|secret|token|password|passwd|access[_-]?key|private[_-]?key)"
    r"[\"']?\s{0,4}[=:]\s{0,4}[\"']?)(?P<secret>[^\s\"',;}]{8,4096})",
    re.IGNORECASE,
)
_BEARER = re.compile(
    r"(?P<name>\b(?:bearer|authorization:\s{0,4}(?:basic|token))\s{1,4})(?P<secret>[A-Za-z0-9._~+/=-]{12,4096})",
    re.IGNORECASE,
)
_IN_URL = re.compile(
    r"(?P<name>\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,256}:)(?P<secret>[^\s/@]{3,256})(?=@)", re.IGNORECASE
)


def redacted(text: str) -> str:
    """The text with its secrets hidden, for example `OPENAI_API_KEY=sk-pro…cdef`. Doing it twice changes nothing."""
    text = _WHOLE.sub(lambda match: HIDDEN if match["pem"] else masked(match["token"]), text)
    for pattern in (_NAMED, _BEARER, _IN_URL):
        text = pattern.sub(lambda match: match["name"] + masked(match["secret"]), text)
    return text


def masked(secret: str) -> str:
    """A secret by which it can be told from others and nothing be opened."""
    if "…" in secret or secret == HIDDEN:
        return secret
    return f"{secret[:KEPT_START]}…{secret[-KEPT_END:]}" if len(secret) >= KEPT_FROM_CHARS else HIDDEN
