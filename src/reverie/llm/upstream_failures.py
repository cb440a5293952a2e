"""What a model server's refusal means: for the caller, for the operator, and for trying again.

Pure functions from a status and a body to one of the `Upstream*` errors, and from an error to the decision whether
another try can help. The rules:

    upstream            answered to the caller             another try
    ─────────────────── ────────────────────────────────── ─────────────────────────────
    400 413 422         400 invalid_request_error          no
    "no tools" in 4xx   400, code tools_unsupported        no: the turn goes on without tools
    401 403             502 authentication_error           no: the operator's key is wrong
    402, no quota left  429 insufficient_quota             no
    404                 502 naming the model               no
    408 504             504 api_error                      yes (408), yes (504)
    429                 429 rate_limit_error               yes
    500 502 503 529     502 api_error                      yes
    anything else       502 api_error                      no

The server's own words are quoted, cut to `QUOTE_CHARS_MAX`, and the key is removed from them should it be echoed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from reverie.errors import UpstreamRefusedError, UpstreamUnreachableError

if TYPE_CHECKING:
    from reverie.errors import UpstreamError
    from reverie.types import JsonObject

QUOTE_CHARS_MAX = 500
SECRET_CHARS_MIN = 8
"""Shorter keys are placeholders such as `ollama`: taking those words out would only garble the message."""

TOOLS_UNSUPPORTED = "tools_unsupported"

_RETRIED = frozenset({408, 429, 500, 502, 503, 504, 529})
_BAD_REQUEST = frozenset({400, 413, 422})
_LASTING = frozenset({400, 404, 422, 500, 501})  # older llama.cpp refuses a parameter with 500
_TOO_MANY = 429
_OF_QUOTA = frozenset({400, 403, 429})
NO_QUOTA = "insufficient_quota"
_NO_QUOTA_CODES = frozenset({NO_QUOTA, "billing_hard_limit_reached", "billing_not_active"})

# Wordings met in the field: "… does not support tools", "Unsupported param: tools", "tools param requires --jinja",
# '"auto" tool choice requires --enable-auto-tool-choice', "No endpoints found that support tool use".
_TOOLS_UNSUPPORTED = re.compile(
    r"""(?:not|n't|no\b.{0,40})\ support(?:ed|s)?\b.{0,40}\b(?:tool|function)
      | \b(?:tool|function)s?\b[\w\s"'`:-]{0,40}\b(?:not\ (?:\w+\ )?supported|unsupported|not\ enabled)
      | \bunsupported\b.{0,40}\b(?:tool|function)
      | \btool[\w\s"'-]{0,20}\brequires\ --""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class CalledServer:
    """Who was asked, in words for an error message. `secret` is what must never appear in one."""

    what: str
    url: str
    key_source: str
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with an error status, as received: `body` is the start of its text.

    `within_answer` marks an error object inside an answer that began with status 200; its status is then our reading.
    """

    status: int
    body: str
    retry_after: str | None = None
    location: str | None = None
    within_answer: bool = False


def refused(server: CalledServer, refusal: Refusal, *, model: str, with_tools: bool) -> UpstreamRefusedError:
    """The error that tells the caller, or the operator, what to do about a refusal."""
    said, code = _said(refusal.body)
    if with_tools and refusal.status in _LASTING and _TOOLS_UNSUPPORTED.search(refusal.body):
        meaning = _Meaning(400, "invalid_request_error", TOOLS_UNSUPPORTED)
    else:
        meaning = _meaning(refusal.status, code)
    quote = _quote(said, server.secret)
    did = "reported an error in its answer" if refusal.within_answer else f"answered HTTP {refusal.status}"
    told = f"{server.what} at {server.url} {did}" + (f": {quote}" if quote else "")
    return UpstreamRefusedError(
        told + _advice(server, refusal, model),
        upstream_status=refusal.status,
        status=meaning.answer,
        kind=meaning.kind,
        code=meaning.code,
        retry_after=refusal.retry_after,
    )


def reported(server: CalledServer, report: Any, *, model: str, with_tools: bool) -> UpstreamRefusedError:
    """The error for an `error` object inside an answer that began with status 200.

    A numeric code that is an HTTP status is taken as one; otherwise the type decides between 429, 400 and 502.
    """
    body = json.dumps({"error": report}, ensure_ascii=False)
    facts = cast("JsonObject", report) if isinstance(report, dict) else {}
    kind = f"{facts.get('type')} {facts.get('code')}"
    number = str(facts.get("code") or facts.get("status") or "")
    if number.isdigit() and 400 <= int(number) < 600:  # noqa: PLR2004 (the range of HTTP error statuses)
        status = int(number)
    elif "rate_limit" in kind or NO_QUOTA in kind:
        status = _TOO_MANY
    elif "invalid_request" in kind or "context_length" in kind:
        status = 400
    else:
        status = 502
    return refused(server, Refusal(status, body, within_answer=True), model=model, with_tools=with_tools)


def retry_wait(error: Exception, now_ms: int, wait_s_max: float) -> float | bool:
    """Whether another try can help: False, True (after the usual backoff), or the seconds the server asked for.

    A wait longer than `wait_s_max` is not worth holding the caller: no retry, and the error carries the header.
    """
    if isinstance(error, UpstreamUnreachableError):
        return True
    if not isinstance(error, UpstreamRefusedError) or error.upstream_status not in _RETRIED:
        return False
    if error.code in {NO_QUOTA, TOOLS_UNSUPPORTED}:
        return False
    asked = retry_after_s(error.retry_after, now_ms)
    if asked is None:
        return True
    return asked if asked <= wait_s_max else False


def retry_after_s(header: str | None, now_ms: int) -> float | None:
    """The seconds a Retry-After header asks for, given as a number or as an HTTP date; None when it says nothing."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            until = parsedate_to_datetime(header)
        except (ValueError, TypeError, OverflowError):
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = (until - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds()
    return max(0.0, seconds) if seconds == seconds else None  # noqa: PLR0124 (NaN is the one number unlike itself)


def may_be_about_request_form(error: UpstreamError) -> bool:
    """True for any refusal of the request's form: servers word this one in too many ways to look for words."""
    return (
        isinstance(error, UpstreamRefusedError)
        and error.upstream_status in _BAD_REQUEST
        and error.code != TOOLS_UNSUPPORTED
    )


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What the caller is told: an HTTP status, OpenAI's error type and code."""

    answer: int
    kind: str
    code: str | None


def _meaning(status: int, code: str | None) -> _Meaning:
    """The table at the head of this module."""
    if status == 402 or (status in _OF_QUOTA and code == NO_QUOTA):  # noqa: PLR2004 (an HTTP status)
        return _Meaning(429, NO_QUOTA, NO_QUOTA)
    if status in _BAD_REQUEST:
        return _Meaning(400, "invalid_request_error", code)
    known = {
        401: _Meaning(502, "authentication_error", "upstream_auth"),
        403: _Meaning(502, "authentication_error", "upstream_auth"),
        404: _Meaning(502, "api_error", "upstream_not_found"),
        408: _Meaning(504, "api_error", "upstream_timeout"),
        429: _Meaning(429, "rate_limit_error", code or "rate_limit_exceeded"),
        504: _Meaning(504, "api_error", "upstream_timeout"),
    }
    return known.get(status, _Meaning(502, "api_error", "upstream_error"))


def _advice(server: CalledServer, refusal: Refusal, model: str) -> str:
    """What to do about it, for the refusals that the operator can mend."""
    if refusal.status in {401, 403}:
        if server.secret is None:
            return f"; no API key is set: put one into {server.key_source}"
        return f"; check the API key in {server.key_source}"
    if refusal.status == 404:  # noqa: PLR2004 (an HTTP status)
        return f"; check that it serves the model {model!r} and that the URL is its API's (usually …/v1)"
    return f"; it points to {refusal.location}: set that as the URL" if refusal.location else ""


def _said(body: str) -> tuple[str, str | None]:
    """The message and the machine-readable code of an error body, in any of the shapes that servers use."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return body, None
    if isinstance(parsed, list) and parsed:
        parsed = cast("list[Any]", parsed)[0]
    if not isinstance(parsed, dict):
        return body, None
    outer = cast("JsonObject", parsed)
    inner = outer.get("error", outer)
    if not isinstance(inner, dict):
        return str(inner), None
    facts = cast("JsonObject", inner)
    message = facts.get("message") or facts.get("detail") or outer.get("message") or outer.get("detail") or body
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    code = facts.get("code") or facts.get("type")
    if any(facts.get(name) in _NO_QUOTA_CODES for name in ("code", "type") if isinstance(facts.get(name), str)):
        code = NO_QUOTA
    return text, code if isinstance(code, str) and not code.isdigit() else None


def _quote(text: str, secret: str | None) -> str:
    if secret and len(secret) >= SECRET_CHARS_MIN:
        text = text.replace(secret, "***")
    line = " ".join(text.split())
    return line if len(line) <= QUOTE_CHARS_MAX else line[: QUOTE_CHARS_MAX - 1] + "…"
